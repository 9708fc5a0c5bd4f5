"""The fuzzer's finds, each of which was a failure once, and a short run of it; `make fuzz MINUTES=10` runs it longer."""

from __future__ import annotations

import random
import struct
import warnings
from pathlib import Path

import fuzz
import h5py
import pytest
from fuzz_seeds import KINDS, SCHEMA_WORDS, picture, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from torchcaffe import files, images, wire
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def corpus(folder):
    return seeds(folder)


@pytest.fixture(scope="module")
def readers(folder, corpus):
    return fuzz.Readers(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_short_run(kind, readers, corpus, folder, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "9")
    chance, path = random.Random(kind), folder / ("input" + fuzz.suffix(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says what it thinks of damaged files
        for content in corpus[kind]:
            path.write_bytes(content)
            readers.read(kind, str(path))  # whole files are read
        for _ in range(40):
            path.write_bytes(fuzz.invent(chance, kind, corpus))
            with fuzz.watched(kind, fuzz.memory_limit()):
                readers.read(kind, str(path))


PIECES = st.one_of(st.sampled_from([*'{}:[,#"', "\n", "1e999", "-1", "9" * 5000, "\0", *SCHEMA_WORDS]), st.text(max_size=8),
                   st.integers().map(str))


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(PIECES, max_size=30))
def test_any_text(readers, folder, pieces):
    """hypothesis' idea of a prototxt; damaged whole ones are in the short run."""
    path = folder / "any.prototxt"
    path.write_text(" ".join(pieces), encoding="utf-8", errors="surrogatepass")
    for kind in ("net text", "solver text"):
        readers.read(kind, str(path))


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300), kind=st.sampled_from([k for k in KINDS if "text" not in k]))
def test_any_bytes(readers, folder, content, kind):
    path = folder / ("any" + fuzz.suffix(kind))
    path.write_bytes(content)
    readers.read(kind, str(path))


def test_the_fuzzer_notices(folder):
    """What it is there to find."""
    for failure in (lambda: __import__("sched"), lambda: bytearray(400 << 20)):
        with pytest.raises(AssertionError, match="made these modules be imported|more than allowed"):
            with fuzz.watched("x", fuzz.memory_limit()):
                kept = failure()  # noqa: F841


def state(learned_net: bytes) -> bytes:
    return b"\x08\x01" + wire.bytes_head(2, len(learned_net)) + learned_net


def database(root: int, pages: int = 3) -> bytes:
    """An LMDB whose root page has this number."""
    page = bytearray(4096)
    struct.pack_into("<IIQQI", page, 16, 0xBEEFC0DE, 1, 0, 0, 4096)
    struct.pack_into("<QQQQ", page, 16 + 24 + 48 + 32, 1, root, 0, 1)
    return bytes(page) * pages


def odd_name(path: str) -> None:
    """A model in HDF5 with a layer whose array's name is no text."""
    with h5py.File(path, "w") as f:
        group = f.create_group("data/ip")
        h5py.h5d.create(group.id, b"\xff", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((1,)))


def circle(path: str) -> None:
    """A model in HDF5, the names of whose groups have free places that lead to themselves."""
    with h5py.File(path, "w") as f:
        f.create_dataset("data/ip/0", data=[1.0])
    content = bytearray(Path(path).read_bytes())
    heap = content.rindex(b"HEAP\0\0\0\0")
    _, free, begin = struct.unpack_from("<QQQ", content, heap + 8)
    struct.pack_into("<QQ", content, begin + free, free, 16)
    Path(path).write_bytes(content)


V1_BOTTOM = wire.bytes_head(2, 10) + wire.bytes_head(3, 8) + b"\xe0\x80ip\xff\xfe\xe0?"
# A TIFF whose strip lies at a fraction.
TIFF = bytes.fromhex(
    "49492a00080000000a0000010400010000000900000001010400010000000700000002010300030000008600000003010300010000000100"
    "000006010300010000000200000011010500010000008c000000150103000100000003000000160104000100000007000000170104000100"
    "0000bd0000001c010300010000000100000000000000080008000800ac2f75c043fbc367") + bytes(181)
FOUND = [
    ("image", TIFF, "not an image"),
    ("solver text", b'net: "a"\n# caf\xc3\xa9\tand\nsnapshot_format: \xe9', ":3: it has bytes that are no UTF-8"),
    ("solver text", b'net: "a\xe9"', ":1:6: .*surrogates not allowed"),
    ("caffemodel", V1_BOTTOM, "is no text"),
    ("mean", caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[0, 1 << 31, 1 << 31, 4])).SerializeToString(),
     "says its shape is .* but holds 0 values"),
    ("caffemodel", wire.bytes_head(100, 16) + wire.bytes_head(7, 14) + wire.bytes_head(7, 12) + wire.bytes_head(1, 10)
     + b"\0" + b"\x80" * 8 + b"\x01", "says its shape is .* but holds 0 values"),
    ("solverstate", state(b"a\0b"), "Incorrect length of history"),
    ("lmdb", database(1 << 63), "damaged LMDB"),
    ("lmdb", database((1 << 64) - 2), "damaged LMDB"),
]


@pytest.mark.parametrize("kind, content, message", FOUND, ids=["%s %d" % (f[0], i) for i, f in enumerate(FOUND)])
def test_found(kind, content, message, readers, folder):
    path = folder / "found"
    path.write_bytes(content)
    readers.read(kind, str(path))  # nothing but its own errors
    with pytest.raises(CaffeError, match="found.*" + message):
        for reader in readers.by_kind[kind]:
            reader(str(path))


def test_free_places_that_lead_in_a_circle(folder):
    """HDF5 followed them until memory ended."""
    path = str(folder / "circle.h5")
    circle(path)
    with pytest.raises(CaffeError, match="circle.h5: .*a list of free places that does not end"):
        files.read_weights(path)


def test_a_large_image_in_a_small_file_becomes_grey(folder):
    """15 M pixels, once 660 MB."""
    content = bytearray(picture("gif"))
    struct.pack_into("<HH", content, 6, 1699, 8973)
    path = folder / "large.gif"
    path.write_bytes(content)
    limit = fuzz.memory_limit()
    with fuzz.watched("image", limit):
        assert images.read(str(path), 5, 4, False).shape == (1, 5, 4)


def test_array_whose_name_is_no_text(folder):
    path = str(folder / "odd.h5")
    odd_name(path)
    with pytest.raises(CaffeError, match="odd.h5: wanted in /data/ip a group of arrays named 0, 1"):
        files.read_weights(path)


@pytest.mark.parametrize("learned_net", ["absent.caffemodel", "a\0b"])
def test_a_solverstate_that_names_what_is_not_there(learned_net, readers, folder):
    """The message names both files."""
    solver = readers.solver
    path = folder / "lost.solverstate"
    history = b"".join(b"".join(wire.blob_chunks(wire.STATE_HISTORY, h.data)) for h in solver.history)
    path.write_bytes(caffe_pb2.SolverState(iter=1, learned_net=learned_net).SerializeToString() + history)
    with pytest.raises(CaffeError, match="lost.solverstate: the weights it names: .*cannot be read"):
        solver.restore(str(path))
