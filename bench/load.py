"""How long an FCN-8s takes to load its weights (538 MB), and in how much memory: beside reading the file, which is the bar.

    make bench                      (or: python bench/load.py [--rounds 3])

The bars: loading takes at most twice the time of reading the file into memory, and no more memory than twice its size, the
net included. Each measurement has a fresh process; the file, of random numbers, has just been written, so no disk is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NET = str(ROOT / "voc-fcn8s" / "deploy.prototxt")


def write(path: str) -> dict[str, float]:
    """A caffemodel (or .h5) of random numbers."""
    import caffe
    import numpy as np

    net = caffe.Net(NET, caffe.TEST)
    random = np.random.RandomState(0)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.standard_normal(blob.data.shape[-1:])
    (net.save_hdf5 if path.endswith(".h5") else net.save)(path)
    return {}


def read(path: str) -> dict[str, float]:
    """Seconds for reading the file into memory."""
    start = time.perf_counter()
    with open(path, "rb") as f:
        f.read()
    return {"seconds": time.perf_counter() - start}


def load(path: str) -> dict[str, float]:
    """Seconds of copy_from, and the peak of memory, in bytes, over that of a Python that has imported caffe."""
    import caffe

    caffe.Net  # noqa: B018  imported on demand
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    net = caffe.Net(NET, caffe.TEST)
    start = time.perf_counter()
    net.copy_from(path)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def main() -> None:
    """Write the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)  # what this script asks of itself, in fresh processes
    args = parser.parse_args()
    if args.task:
        print(json.dumps(TASKS[args.task[0]](args.task[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        print("\nFCN-8s loads its weights; median of %d" % args.rounds)
        for name in ("weights.caffemodel", "weights.h5"):
            path = os.path.join(folder, name)
            ask("write", path)
            size = os.path.getsize(path)
            rounds = [(ask("read", path)["seconds"], ask("load", path)) for _ in range(args.rounds)]
            reading = statistics.median(seconds for seconds, _ in rounds)
            loading = statistics.median(answer["seconds"] for _, answer in rounds)
            peak = max(answer["bytes"] for _, answer in rounds)
            print("  %-20s %4.0f MB read in %.3f s; loaded in %.3f s (%.2f x); peak %4.0f MB, net included (%.2f x)"
                  % (name, size / 1e6, reading, loading, loading / reading, peak / 1e6, peak / size))
            os.remove(path)


def ask(task: str, path: str) -> dict[str, float]:
    """What one task answers in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "torchcaffe" / "pycaffe"), "GLOG_minloglevel": "2"}
    done = subprocess.run([sys.executable, __file__, "--task", task, path], env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


TASKS = {"write": write, "read": read, "load": load}

if __name__ == "__main__":
    main()
