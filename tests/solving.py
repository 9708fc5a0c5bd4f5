"""Experiments small enough for tests, and running their solve.py: the real script, a narrow net, a tiny data set."""

import atexit
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import prototxt
from segfiles_for_tests import ROOT, write_voc

NARROW = """import importlib.util, os, sys
spec = importlib.util.spec_from_file_location('real_net', {real!r})
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)

VARIANTS = getattr(real, 'VARIANTS', {{}})
wide = real.fcn


def fcn(data, *classes, **options):
    return wide(data, *classes, widths={widths!r}, **options)


real.fcn = fcn      # so that nets() makes narrow ones, too
nets = real.nets
"""
WIDTHS = {"vgg16": (4, 4, 4, 4, 4, 8), "alexnet": (4, 4, 4, 4, 4, 8),
          "googlenet": ((4, 4, 4), *[(2, 2, 2, 2, 2, 2)] * 9)}
_servers: dict[str, subprocess.Popen] = {}


def data_set(folder: Path, classes: int = 5, train: int = 7, val: int = 2) -> Path:
    """A data set in VOC layout, images of 20 x 14 pixels."""
    write_voc(folder, [f"t{i}" for i in range(train)], "train", size=(20, 14), classes=classes)
    write_voc(folder, [f"v{i}" for i in range(val)], "val", size=(20, 14), classes=classes, seed=1)
    (folder / "classes.txt").write_text("".join(f"class {i}\n" for i in range(classes)))
    return folder


def trunk_of(name: str) -> str:
    """The trunk of an experiment: a key of WIDTHS."""
    return next((trunk for trunk in WIDTHS if trunk in name), "vgg16")


def repository(folder: Path, names=("voc-fcn32s", "voc-fcn16s", "voc-fcn8s"), committed: bool = False) -> Path:
    """A checkout whose experiments are the real ones but narrow, and learn fast enough for a few steps to show.

    committed: with the prototxts of their nets, for the released data; otherwise they can be trained with --data alone.
    """
    for name in ("tools", "torchcaffe", "data"):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    for name in names:
        (folder / name).mkdir()
        for file in [ROOT / name / "solve.py", *(ROOT / name).glob("*caffemodel-url")]:
            shutil.copy(file, folder / name / file.name)
        for file in (ROOT / name).glob("*solver.prototxt"):
            text = re.sub(r"(?m)^base_lr: 1e-1\d$", "base_lr: 1e-6", file.read_text())
            (folder / name / file.name).write_text(text)
        net = folder / name / "net.py"
        net.write_text(NARROW.format(real=str(ROOT / name / "net.py"), widths=WIDTHS[trunk_of(name)]))
        if committed:
            spec = importlib.util.spec_from_file_location("narrow_net", net)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            for split, param in module.nets().items():
                prototxt.write(str(folder / name / f"{split}.prototxt"), param)
    return folder


def solve(script: Path, *arguments, kill_after: float | None = None, kill_when: Path | None = None,
          cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a solve.py on the embedded Caffe: (exit status, or minus the signal that ended it; what it printed).

    kill_after: seconds. kill_when: a file; it is killed once that is there.
    """
    server = _servers.get("torch")
    if server is None:
        tools = [str(ROOT / "tools"), str(ROOT / "torchcaffe" / "pycaffe"), str(ROOT / "tests")]
        its_env = {**os.environ, "FCN_CAFFE": "torch", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(tools)}
        server = subprocess.Popen([sys.executable, str(ROOT / "tests/solve_server.py")], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, env=its_env)
        _servers["torch"] = server
        atexit.register(server.kill)
    output = script.parent / "console.txt"
    job = {"script": str(script), "arguments": [str(a) for a in arguments], "cwd": str(cwd or script.parent.parent),
           "output": str(output), "kill_after": kill_after, "env": env or {},
           "kill_when": str(kill_when) if kill_when else None}
    server.stdin.write(json.dumps(job) + "\n")
    server.stdin.flush()
    return os.waitstatus_to_exitcode(int(server.stdout.readline())), output.read_text()


def state_bytes(iteration: int, model: str, history: list[np.ndarray]) -> bytes:
    """A solverstate, written by hand: iter 1, learned_net 2, history 3 (BlobProto: data 5, shape 7)."""

    def number(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    def field(n: int, payload: bytes) -> bytes:
        return number(n << 3 | 2) + number(len(payload)) + payload

    out = number(1 << 3) + number(iteration) + field(2, model.encode())
    for array in history:
        dims = b"".join(number(d) for d in array.shape)
        out += field(3, field(5, array.astype("<f4").tobytes()) + field(7, field(1, dims)))
    return out
