"""Compare what two Caffes recorded with run_solvers.py, the reference first. Exit status 1 if anything is out of tolerance.

    compare_solvers.py bvlc.npz torch.npz      trajectories: every array of every case
    compare_solvers.py bvlc.npz resumed.npz    what was resumed from snapshots: it ends where the whole trajectory ends
    compare_solvers.py bvlc.log torch.log      logs: the same lines in the same order, their numbers compared

Tolerances: 1e-5 of each array's largest value for trajectories (one Caffe differs from itself under another BLAS by up to
2e-6), and 1e-4 for the six digits of a log, which can also differ in the last by rounding. Printed: the largest share used.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

import numpy as np

ARRAY_TOLERANCE = 1e-5
LOG_TOLERANCE = 1e-4

LINE = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ ((?:sgd_)?solver|caffe|net)\.cpp:\d+\] (.*)$")
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)(?![\w.])")
SPEED = re.compile(r"\S+ iter/s, \S+s/|\S+(?= ms\.)")


def array_shares(wanted: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> dict[str, float]:
    """For each recorded array, the share of the tolerance its largest difference uses; inf if it cannot be compared.

    Parameters are compared one by one, so that a small one is not hidden by the largest of its array.
    """
    shares = {}
    for name in wanted:
        if name == "provenance" or name.startswith("file/") or name.endswith("_sizes"):
            continue
        a = np.asarray(wanted[name], np.float64)
        b = np.asarray(got[name], np.float64) if name in got else np.zeros(0)
        if a.shape != b.shape or not np.isfinite(b).all():
            shares[name] = float("inf")
            continue
        cuts = np.cumsum(wanted[name + "_sizes"])[:-1] if name + "_sizes" in wanted else []
        pieces = zip(np.split(a, cuts), np.split(b, cuts))
        shares[name] = max(float(np.abs(x - y).max() / (np.abs(x).max() * ARRAY_TOLERANCE + 1e-30))
                           for x, y in pieces)
    return shares


def ends(whole: Mapping[str, np.ndarray], resumed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What whole trajectories say of the names in `resumed`, 'case FORMAT/kind': of losses and rates, the last."""
    wanted = {}
    for name in resumed:
        if " " in name:
            array = whole[name.split(" ")[0] + "/" + name.split("/")[1]]
            wanted[name] = array[-len(resumed[name]) :] if name.endswith(("/loss", "/rate")) else array
    return wanted


def log_lines(text: str) -> list[str]:
    """What the solver and the command logged, without time stamps and speeds."""
    found = [m.group(2) for m in map(LINE.match, text.splitlines()) if m]
    return [SPEED.sub("", line) for line in found]


def log_share(wanted: str, got: str) -> tuple[float, str]:
    """The largest share of the tolerance a number uses (inf if the lines differ otherwise), and where."""
    a, b = log_lines(wanted), log_lines(got)
    for x, y in zip(a, b):
        if NUMBER.sub("#", x) != NUMBER.sub("#", y):
            return float("inf"), "wanted %r, got %r" % (x, y)
    if len(a) != len(b):
        return float("inf"), "wanted %d lines, got %d" % (len(a), len(b))
    worst = 0.0, "equal"
    for x, y in zip(a, b):
        for u, v in zip(map(float, NUMBER.findall(x)), map(float, NUMBER.findall(y))):
            share = abs(u - v) / (abs(u) * LOG_TOLERANCE + 1e-6)  # 1e-6: means that cancel
            if not share <= worst[0]:
                worst = share, "wanted %r, got %r" % (x, y)
    return worst


def main(argv: list[str]) -> int:
    """The command line described above."""
    if len(argv) != 2:
        sys.exit(__doc__)
    if argv[0].endswith(".log"):
        with open(argv[0]) as a, open(argv[1]) as b:
            share, where = log_share(a.read(), b.read())
        print("solver log: headroom %.3f (%s)" % (1 - share, where))
        return int(not share <= 1)
    with np.load(argv[0]) as a, np.load(argv[1]) as b:
        shares = array_shares(ends(a, b) or a, b)
        print("%s; %s" % (a["provenance"], b["provenance"]))
    for kind in sorted({name.split("/")[1] for name in shares}):
        name = max((n for n in shares if n.endswith("/" + kind)), key=shares.__getitem__)
        print("%-8s worst %-28s headroom %.3f" % (kind, name, 1 - shares[name]))
    failed = sorted(n for n in shares if not shares[n] <= 1)
    print("%d of %d arrays out of tolerance %s" % (len(failed), len(shares), " ".join(failed)))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
