"""The engine against a real Caffe, live: `make parity`; and the recording of goldens: `make goldens`.

    BVLC_PYTHON=/path/to/python-with-caffe python tests/parity/run.py [--record] [--narrow] [--only cases|solvers|nets]

Each part runs one script under both Caffes and compares what they wrote; the scripts say what they do and why their
tolerances are what they are. `--narrow` leaves out the nets at full width. Exit status 1 if any part fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
GOLDENS = HERE.parent / "goldens"
ROOT = HERE.parent.parent


class Parity:
    """Runs scripts under both Caffes and remembers which comparisons failed."""

    def __init__(self, bvlc_python: str, folder: Path):
        self.pythons = {"bvlc": bvlc_python, "torch": sys.executable}
        self.caffe = Path(bvlc_python).with_name("caffe")  # the command; bin/install-real-caffe puts it beside python
        self.folder = folder
        self.failed: list[str] = []

    def run(self, which: str, script: str, *args: object, **more_env: str) -> None:
        """One script under one Caffe; SystemExit with the end of its output if it fails."""
        env = {**os.environ, "FCN_CAFFE": which, "PYTHONPATH": "", **more_env}
        env.setdefault("OPENBLAS_NUM_THREADS", "1")  # then BVLC's numbers are the same bits in every run
        command = [self.pythons[which], str(HERE.parent / script), *map(str, args)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} (FCN_CAFFE={which}) ended with status {done.returncode}:\n"
                             f"{done.stdout[-2000:]}{done.stderr[-4000:]}")

    def compare(self, what: str, script: str, *args: object) -> None:
        """Compare two results; prints the comparison's summary, and all of it if it fails."""
        done = subprocess.run([sys.executable, str(HERE / script), *map(str, args)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        lines = done.stdout.rstrip().splitlines()
        print(f"== {what}: {'differs' if done.returncode else 'equal within tolerance'}")
        print("\n".join("   " + line for line in (lines if done.returncode else lines[-8:])), flush=True)
        if done.returncode:
            self.failed.append(what)

    def cases(self) -> None:
        """Every layer case, forward and backward; and that both refuse what must be refused."""
        for which in self.pythons:
            self.run(which, "parity/run_cases.py", "--refused")
        a, b = self.folder / "cases_bvlc.npz", self.folder / "cases_torch.npz"
        self.run("bvlc", "parity/run_cases.py", a)
        self.run("torch", "parity/run_cases.py", b)
        self.compare("layers", "compare_cases.py", a, b)

    def solvers(self) -> None:
        """Every update rule and rate policy; snapshots of each restored by the other; the log."""
        for which in self.pythons:
            self.run(which, "parity/run_solvers.py", "record", self.folder / f"solvers_{which}.npz")
            self.run(which, "parity/run_solvers.py", "snapshot", self.folder / f"snapshots_{which}")
        a, b = (self.folder / f"solvers_{which}.npz" for which in self.pythons)
        self.compare("solver trajectories", "compare_solvers.py", a, b)
        for writer, reader in (("bvlc", "torch"), ("torch", "bvlc")):
            resumed = self.folder / f"resumed_{writer}_{reader}.npz"
            self.run(reader, "parity/run_solvers.py", "resume", self.folder / f"snapshots_{writer}", resumed)
            self.compare(f"snapshots written by {writer}, resumed by {reader}", "compare_solvers.py", a, resumed)
        logs = [self.folder / f"{which}.log" for which in self.pythons]
        self.run("bvlc", "parity/run_solvers.py", "log", logs[0], self.caffe)
        self.run("torch", "parity/run_solvers.py", "log", logs[1], sys.executable, "-m", "torchcaffe")
        self.compare("log of train, test and time", "compare_solvers.py", *logs)

    def nets(self, narrow: bool) -> None:
        """Three steps, dropout on: the VOC staircase at full width on photographs; every net and variant, narrow."""
        data = voc_data(self.folder / "data")
        for net in () if narrow else ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s"):  # one at a time: 5 GB of results each
            self.steps(net, data, net)
        self.steps("", "--narrow")

    def steps(self, what: str, *options: object) -> None:
        """Run run_nets.py under both Caffes, and under BVLC again with another BLAS kernel; compare each net's results."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            outs = [Path(folder) / which for which in ("bvlc", "torch", "again")]
            self.run("bvlc", "parity/run_nets.py", outs[0], *options)
            self.run("torch", "parity/run_nets.py", outs[1], *options)
            self.run("bvlc", "parity/run_nets.py", outs[2], *options, OPENBLAS_CORETYPE="Sandybridge")
            for net in sorted(path.name for path in outs[0].iterdir()):
                self.compare(what or f"{net} (narrow)", "compare_nets.py", *(out / net for out in outs))

    def record(self) -> None:
        """Write all goldens anew from the real Caffe."""
        self.run("bvlc", "parity/run_cases.py", GOLDENS / "layers.npz")
        self.run("bvlc", "parity/run_solvers.py", "record", GOLDENS / "solvers.npz")
        self.run("bvlc", "parity/run_solvers.py", "log", GOLDENS / "solver.log", self.caffe)
        self.run("bvlc", "parity/run_graph.py", GOLDENS / "graph.json")
        for script in ("make_rng.py", "make_io.py", "make_pycaffe.py"):
            self.run("bvlc", f"goldens/{script}")
        print(f"recorded in {GOLDENS}; upgrade.json and tools.json are recorded by make_upgrade.py and make_tools.py there, "
              "which need Caffe's tools")


def voc_data(folder: Path) -> Path:
    """Real VOC photographs where the development data is present, else noise of their sizes; VOC layout."""
    shared = Path(os.environ.get("FCN_SHARED") or ROOT.parent / "shared" / "data") / "voc-mini"
    if shared.exists():
        return shared
    print(f"{shared} is not here: the nets run on noise")
    random = np.random.RandomState(0)
    for sub in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / sub).mkdir(parents=True)
    for i, (height, width) in enumerate([(375, 500), (500, 333), (366, 500)]):
        coarse = Image.fromarray(random.randint(0, 256, (12, 16, 3), np.uint8))
        coarse.resize((width, height), Image.BICUBIC).save(folder / f"JPEGImages/{i}.jpg", quality=95)
        label = Image.fromarray(random.randint(0, 21, (9, 12), np.uint8), "P").resize((width, height), Image.NEAREST)
        label.putpalette([0] * 768)
        label.save(folder / f"SegmentationClass/{i}.png")
    (folder / "ImageSets/Segmentation/train.txt").write_text("0\n1\n2\n")
    return folder


def main() -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--only", choices=("cases", "solvers", "nets"))
    args = parser.parse_args()
    if not os.environ.get("BVLC_PYTHON"):
        parser.error("set BVLC_PYTHON to a Python that imports BVLC's Caffe (docs/real-caffe.md)")
    with tempfile.TemporaryDirectory() as folder:
        parity = Parity(os.environ["BVLC_PYTHON"], Path(folder))
        if args.record:
            parity.record()
            return 0
        parts = {"cases": parity.cases, "solvers": parity.solvers, "nets": lambda: parity.nets(args.narrow)}
        for name, part in parts.items():
            if args.only in (None, name):
                part()
    print("parity: " + ("DIFFERS in " + ", ".join(parity.failed) if parity.failed else "all equal within tolerance"))
    return bool(parity.failed)


if __name__ == "__main__":
    sys.exit(main())
