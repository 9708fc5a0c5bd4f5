"""FCN-8s side by side: seconds and memory of the engine, of plain PyTorch and, where there is one, of BVLC's Caffe.

    make bench                      (or: python bench/run.py [--size 500] [--rounds 3] [--narrow])

One worker process an engine and task; the workers take turns, a warm-up and then one timed call each a round, so that slow
phases of the machine hit all of them alike. Prints medians, ratios and peak memory. Compare only numbers of one table.
At the end load.py: how long the weights take to load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINES = {"torchcaffe": ("pycaffe_worker.py", "torch"), "plain PyTorch": ("plain_worker.py", "torch")}


class Worker:
    """A process that builds FCN-8s once and then answers each line it gets with one timed call."""

    def __init__(self, python: str, script: str, which: str, task: str, args: argparse.Namespace):
        command = [python, str(HERE / script), task, str(args.size), "narrow" if args.narrow else "full"]
        env = {**os.environ, "FCN_CAFFE": which, "GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": str(os.cpu_count())}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self) -> dict[str, float]:
        """Run once: {"seconds": ..., "peak_gb": ...}. SystemExit if the worker died."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with status {self.process.wait()}: {' '.join(self.process.args)}")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Measure the two tasks and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=500, help="side of the square input (default 500)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--narrow", action="store_true", help="an eighth of the widths: a quick look")
    args = parser.parse_args()
    engines = {name: (sys.executable, *how) for name, how in ENGINES.items()}
    if os.environ.get("BVLC_PYTHON"):
        engines = {"BVLC Caffe": (os.environ["BVLC_PYTHON"], "pycaffe_worker.py", "bvlc"), **engines}
    else:
        print("no BVLC_PYTHON: measuring without the original Caffe")
    for task, title in (("forward", "inference"), ("train", "training step (forward, backward, SGD update)")):
        workers = {name: Worker(*how, task, args) for name, how in engines.items()}
        for worker in workers.values():
            worker.ask()  # warm-up
        answers = [{name: worker.ask() for name, worker in workers.items()} for _ in range(args.rounds)]
        for worker in workers.values():
            worker.close()
        print(f"\nFCN-8s{' narrow' if args.narrow else ''}, {args.size} x {args.size}, {title}; median of {args.rounds}")
        first = statistics.median(a[next(iter(engines))]["seconds"] for a in answers)
        for name in engines:
            seconds = statistics.median(a[name]["seconds"] for a in answers)
            peak = max(a[name]["peak_gb"] for a in answers)
            print(f"  {name:14} {seconds:7.3f} s   {first / seconds:5.2f} x   peak {peak:.2f} GB")
    if not args.narrow:
        subprocess.run([sys.executable, str(HERE / "load.py"), "--rounds", str(args.rounds)], check=True)


if __name__ == "__main__":
    main()
