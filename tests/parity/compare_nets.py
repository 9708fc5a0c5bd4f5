"""Compare what run_nets.py wrote under two Caffes: losses, score maps, arg-max, every learned parameter's update.

    python tests/parity/compare_nets.py A B C

A: the real Caffe's folder, the reference. B: the engine's. C: the real Caffe's again, run with another BLAS kernel: how far
BVLC is from itself where only the order of additions differs.

Tolerances: losses 1e-5, and the first of each, under both, within 3e-3 of (valid pixels) x ln (classes), or of
ln (classes) if it is averaged, since both add hundreds of thousands of pixels up in single precision; score maps 1e-4 of
the largest score; arg-max equal wherever the best score leads by more than twice that; each parameter's update 1e-4 in L2,
or three times the worst that BVLC differs from itself in that step if that is more. It is more once gradients reach the
trunk: rounding of 1e-6 turns about one ReLU in a million around, and a gradient made of millions of them moves by the root
of that, 1e-3, on any two machines. Prints the worst of each quantity and the headroom (1 minus the largest share of a
tolerance used); exit status 1 past a tolerance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

LOSS, FIRST_LOSS, SCORE, UPDATE, OWN_NOISE = 1e-5, 3e-3, 1e-4, 1e-4, 3


def compare_losses(a: Path, b: Path) -> float:
    """The share of the tolerances the losses use."""
    x, y = (json.loads((d / "losses.json").read_text()) for d in (a, b))
    shares = []
    for name, values in x["losses"].items():
        worst = max(abs(p - q) / abs(p) for p, q in zip(values, y["losses"][name], strict=True))
        wanted = x["first"][name]
        first = max(abs(record["losses"][name][0] - wanted) / wanted for record in (x, y))
        print(f"{name} {' '.join('%.6g' % v for v in values)}: worst relative difference {worst:.1e}; the first is to be "
              f"{wanted:.6g}, off by {first:.1e}")
        shares += [worst / LOSS, first / FIRST_LOSS]
    return max(shares)


def compare_scores(a: Path, b: Path) -> float:
    """The share of the tolerance the score maps use; more than 1 if an arg-max with a margin differs."""
    worst, differing, compared = 0.0, 0, 0
    for path in sorted(a.glob("score_*.npy")):
        x, y = np.load(path)[0], np.load(b / path.name)[0]
        top = np.abs(x).max()
        if top == 0:  # the first step, from zero scores
            if np.any(y):
                return np.inf
            continue
        worst = max(worst, np.abs(x - y).max() / top)
        best = np.sort(x, axis=0)[-2:]
        clear = best[1] - best[0] > 2 * SCORE * top
        differing += int((x.argmax(0) != y.argmax(0))[clear].sum())
        compared += int(clear.sum())
    if not compared:
        raise SystemExit(f"{a}: no pixel has a margin; the comparison would show nothing")
    print(f"score maps: worst difference {worst:.1e} of the largest; arg-max differs at {differing} of {compared} pixels "
          "with a margin")
    return max(worst / SCORE, 2.0 if differing else 0.0)


def worst_update(a: Path, b: Path, step: int) -> tuple[float, str]:
    """The worst L2-relative difference of one step's updates, and whose it is."""
    names = sorted(p.name for p in a.glob(f"update_{step}_*.npy"))
    if not names or names != sorted(p.name for p in b.glob(f"update_{step}_*.npy")):
        raise SystemExit(f"{a} and {b} do not hold the same updates; run run_nets.py under both again")
    found = []
    for name in names:
        x, y = np.load(a / name, mmap_mode="r"), np.load(b / name, mmap_mode="r")
        norm = np.linalg.norm(x)
        # No bias of the trunk moves in the first step: scores are zero, and biases do not decay.
        found.append((float(np.linalg.norm(x - y) / norm) if norm else float(np.any(y)), name))
    return max(found)


def compare_updates(a: Path, b: Path, c: Path) -> float:
    """The share of the tolerance the updates use."""
    shares = []
    for step in range(len(json.loads((a / "losses.json").read_text())["losses"]["loss"])):
        (worst, name), (noise, _) = worst_update(a, b, step), worst_update(a, c, step)
        print(f"updates of step {step + 1}: worst L2-relative difference {worst:.1e} ({name[9:-4]}); BVLC from itself "
              f"{noise:.1e}")
        shares.append(worst / max(UPDATE, OWN_NOISE * noise))
    return max(shares)


if __name__ == "__main__":
    reference, engine, again = map(Path, sys.argv[1:4])
    used = max(compare_losses(reference, engine), compare_scores(reference, engine),
               compare_updates(reference, engine, again))
    print(f"headroom {1 - used:.2f}")
    sys.exit(used > 1)
