"""Compare what run_nets.py wrote under two Caffes: losses, score maps, arg-max, every parameter's update.

    python tests/parity/compare_nets.py A B [--narrow]     (A: the real Caffe's folder, the reference)

The tolerances are those of facts measured between two BLAS builds of one Caffe: whole FCN nets differ by up to 2.2e-5 of
the largest value (sums that cancel), typically 2e-6 to 1e-5. Hence 1e-4 for score maps (of the largest score) and updates
(in L2), 1e-5 for losses, and equal arg-max wherever the best score leads by more than twice the score tolerance.
Narrow nets get 1e-3 for updates: where rounding turns one ReLU or one maximum around, an eighth of the units in each layer
feel it eight times as much.
Prints the worst of each and the headroom (1 minus the largest share of a tolerance used); exit status 1 past a tolerance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

LOSS, SCORE, UPDATE = 1e-5, 1e-4, 1e-4


def compare(reference: Path, other: Path) -> float:
    """The largest share of a tolerance used by one net; prints a line for each quantity."""
    shares = []
    a, b = (json.loads((d / "losses.json").read_text()) for d in (reference, other))
    worst = max(abs(x - y) / abs(x) for x, y in zip(a, b, strict=True))
    shares.append(worst / LOSS)
    print(f"{reference.name}: losses {a[0]:.6g} .. {a[-1]:.6g}; worst relative difference {worst:.1e}")
    differing = compared = 0
    worst = 0.0
    scores = sorted(reference.glob("score_*.npy"))
    updates = sorted(reference.glob("update_*.npy"))
    if not scores or not updates or len(updates) != len(list(other.glob("update_*.npy"))):
        raise SystemExit(f"{reference} and {other} do not hold the same results; run run_nets.py under both again")
    for path in scores:
        a, b = np.load(path), np.load(other / path.name)
        top = np.abs(a).max()
        worst = max(worst, np.abs(a - b).max() / top)
        best = np.sort(a[0], axis=0)[-2:]
        clear = best[1] - best[0] > 2 * SCORE * top
        differing += int((a[0].argmax(0) != b[0].argmax(0))[clear].sum())
        compared += int(clear.sum())
    shares += [worst / SCORE, 2.0 if differing else 0.0]
    print(f"  score maps: worst difference {worst:.1e} of the largest; "
          f"arg-max differs at {differing} of {compared} pixels with a margin")
    worst, name = 0.0, ""
    for path in updates:
        a, b = np.load(path, mmap_mode="r"), np.load(other / path.name, mmap_mode="r")
        norm = np.linalg.norm(a)
        if norm == 0:
            raise SystemExit(f"{path}: the update is zero; the comparison would show nothing")
        share = float(np.linalg.norm(a - b) / norm)
        if share > worst:
            worst, name = share, path.stem
    shares.append(worst / UPDATE)
    print(f"  {len(updates)} parameter updates: worst L2-relative difference {worst:.1e} ({name})")
    return max(shares)


if __name__ == "__main__":
    if "--narrow" in sys.argv:
        UPDATE = 1e-3
    nets = sorted(d.name for d in Path(sys.argv[1]).iterdir() if d.is_dir())
    used = max(compare(Path(sys.argv[1]) / n, Path(sys.argv[2]) / n) for n in nets)
    print(f"headroom {1 - used:.2f}")
    sys.exit(used > 1)
