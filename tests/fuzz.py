"""Damaged and invented files for every reader: `make fuzz MINUTES=10`, or python tests/fuzz.py --minutes 10 [--seed 1].

A reader may give what a file says or raise its error, which names the file. Anything else is a failure: another exception,
the end of the process, more than 10 seconds of a core, more than 256 MB (images may have 16 M pixels, however small their
file), a module imported because of what a file says. Each failure is written to fuzz-failures/ as the file and the reason;
tests/test_fuzz.py keeps those that were found, and runs every reader over a few hundred inputs in `make test`.

One process reads, with its memory limited; another watches it and starts it again when it dies.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent, HERE.parent / "tools", HERE.parent / "torchcaffe" / "pycaffe"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import caffemodel  # noqa: E402
from fuzz_seeds import KINDS, SCHEMA_WORDS, seeds  # noqa: E402
from PIL import Image  # noqa: E402

from torchcaffe import files, hdf5, images, lmdb, sgd_solver  # noqa: E402
from torchcaffe.errors import CaffeError  # noqa: E402

SECONDS, MEMORY = 10, 256 << 20
FAILURES = Path("fuzz-failures")


# -- readers -----------------------------------------------------------------------------------------------------------
def all_values(layers: list) -> None:
    """Read every number that a weights file holds."""
    for layer in layers:
        for blob in layer.blobs:
            blob is None or blob.values  # noqa: B018


def each_datum(path: str) -> None:
    """A database, entry by entry, as Data layers read it."""
    database = lmdb.Lmdb(path)
    len(database)
    for i, (_, value) in enumerate(database):
        with contextlib.suppress(CaffeError):  # which names the key; the layer that reads adds the database
            images.of_datum(value, None)
        if i > 10000:
            return


def datum(path: str, color: bool | None) -> None:
    """A Datum of its own, which has no file's name to tell."""
    with contextlib.suppress(CaffeError):
        images.of_datum(Path(path).read_bytes(), color)


class Readers:
    """What reads files of each kind; some into a net and a solver, which are made once."""

    def __init__(self, folder: Path):
        self.solver = sgd_solver.get_solver(str(folder / "solver.prototxt"))
        self.by_kind: dict[str, list[Callable[[str], object]]] = {
            "net text": [files.read_net_text],
            "solver text": [files.read_solver_text],
            "caffemodel": [lambda p: all_values(files.read_weights(p)), files.read_net_binary, caffemodel.read,
                           self.solver.net.copy_trained_layers_from],
            "solverstate": [lambda p: [h.values for h in files.read_solver_state(p).history], caffemodel.read_state,
                            self.solver.restore],
            "mean": [files.read_blob],
            "model.h5": [lambda p: all_values(files.read_weights(p)), self.solver.net.copy_trained_layers_from],
            "state.h5": [lambda p: [h.values for h in files.read_solver_state(p).history], self.solver.restore],
            "data.h5": [lambda p: hdf5.read_datasets(p, ["data", "label"])],
            "lmdb": [each_datum],
            "datum": [lambda p: datum(p, None), lambda p: datum(p, True), lambda p: datum(p, False)],
            "image": [lambda p: images.read(p, 0, 0, True), lambda p: images.read(p, 5, 4, False)],
        }

    def read(self, kind: str, path: str) -> None:
        """Let all readers of a kind have the file; whatever but their own error gets through."""
        for reader in self.by_kind[kind]:
            try:
                reader(path)
            except (CaffeError, caffemodel.CaffemodelError) as e:
                if path not in str(e):
                    raise AssertionError("the message does not name the file: %s" % e) from e


class Hang(BaseException):
    """Raised by the alarm clock."""


@contextlib.contextmanager
def watched(name: str, limit: int) -> Iterator[None]:
    """Time, memory and imported modules of what runs inside."""

    def alarm(number: int, frame: object) -> None:
        raise Hang("more than %d seconds" % SECONDS)

    known = set(sys.modules)
    signal.signal(signal.SIGPROF, alarm)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * SECONDS)  # ends the process, if no line of Python comes to raise Hang
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    new = {m for m in set(sys.modules) - known if not m.startswith(("PIL.", "encodings."))}
    assert not new, "%s made these modules be imported: %s" % (name, new)
    most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert most < limit, "%s took %d MB more than allowed" % (name, (most - limit) >> 20)


def memory_limit() -> int:
    """What this process may have at most, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + MEMORY


# -- inputs ------------------------------------------------------------------------------------------------------------
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def damaged(chance: random.Random, content: bytes, others: list[bytes], text: bool) -> bytes:
    """The content after one to six changes of any sort."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at, end = chance.randrange(len(data) + 1), 0
        end = min(len(data), at + int(chance.expovariate(1 / 20)) + 1)
        what = chance.randrange(10 if text else 8)
        if what == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif what == 1:
            data[at:end] = chance.randbytes(end - at)
        elif what == 2:
            del data[at:end]
        elif what == 3:
            data[at:at] = data[at:end] * chance.choice((1, 1, 2, 50))
        elif what == 4:
            del data[at:]
        elif what == 5:
            other = chance.choice(others)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        elif what == 6:
            layout = chance.choice(("<B", "<H", "<I", "<Q", ">H", ">I", ">Q"))
            number = chance.choice(NUMBERS) % (1 << 8 * struct.calcsize(layout))
            data[at : at + struct.calcsize(layout)] = struct.pack(layout, number)
        elif what == 7:
            data[at:at] = message(chance, 3) if not text else chance.randbytes(3)
        elif what == 8:
            data[at:at] = word(chance).encode()
        else:
            tokens = bytes(data).split()
            if tokens:
                data = bytearray(bytes(data).replace(chance.choice(tokens), word(chance).encode(), 1))
    return bytes(data)


def word(chance: random.Random) -> str:
    """A piece of a prototxt."""
    return " %s " % chance.choice((
        chance.choice(SCHEMA_WORDS) + chance.choice(("", " {", ":")), "{", "}", "<", ">", "[", "]", ":", ",", ";", '"', "'",
        '"\\x', "#", "-", str(chance.choice(NUMBERS)), "9" * chance.choice((30, 400, 5000)), "1e999", "nan", "-inf", "true",
        "0x" + "f" * 20, "[a.b/c.d]", "layer { " * 200, "{ " * 3000, "\0", "\xe9", "\r\n", '"' + "a" * 5000 + '"'))


def message(chance: random.Random, depth: int) -> bytes:
    """A random message of protobuf's wire format, with field numbers that Caffe uses."""
    out = b""
    for _ in range(chance.randrange(1, 5)):
        number = chance.choice((1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 100, 100, 117, 20001, chance.randrange(1 << 29)))
        kind = chance.choice((0, 2, 2, 2, 5, 1, 3, 4))
        out += varint(number << 3 | kind)
        if kind == 0:
            out += varint(chance.choice(NUMBERS))
        elif kind == 2:
            inner = message(chance, depth - 1) if depth and chance.random() < 0.7 else chance.randbytes(chance.randrange(24))
            out += varint(len(inner) if chance.random() < 0.9 else chance.choice(NUMBERS)) + inner
        elif kind in (1, 5):
            out += chance.randbytes(8 if kind == 1 else 4) * chance.choice((1, 1, 5))
    return out


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def invent(chance: random.Random, kind: str, corpus: dict[str, list[bytes]]) -> bytes:
    """An input for readers of a kind."""
    if kind in ("caffemodel", "solverstate", "mean", "datum") and chance.random() < 0.2:
        return message(chance, 4)
    return damaged(chance, chance.choice(corpus[kind]), corpus[kind], kind.endswith("text"))


# -- running -----------------------------------------------------------------------------------------------------------
def suffix(kind: str) -> str:
    """How names of files of a kind end; the reader of a solverstate goes by it."""
    return ".h5" if kind.endswith(".h5") else ""


def work(seed: int, until: float, folder: Path) -> None:
    """Read inputs until a time; failures that are exceptions are written, others end this process."""
    os.environ["GLOG_minloglevel"] = "9"
    warnings.simplefilter("ignore")  # Pillow says what it thinks of damaged files
    Image.init()
    corpus = seeds(folder)
    readers, chance, count = Readers(folder), random.Random(seed), 0
    for kind in KINDS:  # everything that is imported on demand is there from here on
        for content in corpus[kind]:
            (folder / ("warm" + suffix(kind))).write_bytes(content)
            readers.read(kind, str(folder / ("warm" + suffix(kind))))
    address = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address + 4 * MEMORY, resource.RLIM_INFINITY))
    while time.time() < until:
        kind = chance.choice(KINDS)
        content = invent(chance, kind, corpus)
        path = folder / ("input" + suffix(kind))
        path.write_bytes(content)
        (folder / "kind").write_text(kind)
        count += 1
        try:
            with watched(kind, memory_limit()):
                readers.read(kind, str(path))
        except (Exception, Hang) as e:
            keep(kind, content, "".join(traceback.format_exception(e)))
    print("%d inputs" % count, flush=True)


def keep(kind: str, content: bytes, why: str) -> None:
    """Write a failure down."""
    FAILURES.mkdir(exist_ok=True)
    name = "%s-%s" % (kind.replace(" ", "-"), hashlib.sha256(content).hexdigest()[:12])
    (FAILURES / name).write_bytes(content)
    (FAILURES / (name + ".txt")).write_text(why)
    print("FAILURE %s: %s" % (FAILURES / name, why.strip().splitlines()[-1][:200]), flush=True)


def watch(minutes: float, seed: int) -> int:
    """Keep a reading process going; the number of times it died."""
    until, deaths = time.time() + 60 * minutes, 0
    while time.time() < until:
        with tempfile.TemporaryDirectory() as name:
            # a new process now and then, so that memory that libraries keep does not add up
            end = min(until, time.time() + 900)
            process = subprocess.Popen([sys.executable, __file__, "--work", str(seed), str(end), name])
            try:
                status = process.wait(end - time.time() + 600)  # a busy machine may take its time
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            if status:
                deaths += 1
                kind = Path(name, "kind").read_text() if Path(name, "kind").exists() else ""
                content = Path(name, "input" + suffix(kind)).read_bytes() if kind else b""
                keep(kind or "start", content, "the process ended with status %d" % status)
        seed += 1
    return deaths


def main() -> None:
    """Parse the command line and run; exit status 1 if there is any failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", nargs=3, metavar=("SEED", "UNTIL", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(int(args.work[0]), float(args.work[1]), Path(args.work[2]))
        return
    watch(args.minutes, args.seed)
    sys.exit(any(FAILURES.glob("*.txt")))


if __name__ == "__main__":
    main()
