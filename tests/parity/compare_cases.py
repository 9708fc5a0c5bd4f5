"""Compare what two Caffes answered to the cases: python tests/parity/compare_cases.py bvlc.npz torch.npz [-v]

For each array the worst difference relative to its largest value, max|a - b| / max|a|; infinities and NaNs must be at
the same places. Prints the worst array of each case and what share of the tolerance it uses; exits 1 if a case is
missing on one side or exceeds its tolerance.
"""

from __future__ import annotations

import os
import sys

import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cases import CASES  # noqa: E402

# One Caffe against itself under other BLAS kernels and thread counts differs by up to 2e-6 of an array's largest value:
# sums are added in another order. Five times that leaves room for other libraries and none for another formula.
TOLERANCE = 1e-5


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max|a|; infinite if shapes, infinities or NaNs differ, or if only b is not all zero."""
    if a.shape != b.shape:
        return np.inf
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
        return np.inf
    worst = np.abs(a[finite].astype(np.float64) - b[finite]).max(initial=0.0)
    largest = np.abs(a[finite]).max(initial=0.0)
    return float(worst / largest) if largest else (np.inf if worst else 0.0)


def compare_case(wanted: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> tuple[float, str]:
    """The worst difference of a case's arrays and the array's name; infinite for an array that is on one side only."""
    if set(wanted) != set(got) or not wanted:
        return np.inf, "arrays %s against %s" % (sorted(wanted), sorted(got))
    return max((difference(wanted[k], got[k]), k) for k in wanted)


def arrays_of(file: np.lib.npyio.NpzFile) -> dict[str, dict[str, np.ndarray]]:
    """case name -> array name -> array."""
    cases: dict[str, dict[str, np.ndarray]] = {}
    for key in file.files:
        name, slash, array = key.rpartition("/")
        if slash:
            cases.setdefault(name, {})[array] = file[key]
    return cases


def main() -> int:
    """Compare two files; the number of cases that fail."""
    paths = [a for a in sys.argv[1:] if a != "-v"]
    if len(paths) != 2:
        sys.exit(__doc__)
    files = [np.load(p) for p in paths]
    wanted, got = (arrays_of(f) for f in files)
    for path, file in zip(paths, files):
        print("%s: %s" % (path, file["provenance"]))
    rows = []
    for name in sorted(set(wanted) | set(got)):
        error, array = compare_case(wanted.get(name, {}), got.get(name, {}))
        tolerance = 0.0 if any(c.name == name and c.exact for c in CASES) else TOLERANCE
        rows.append((error, tolerance, name, array, error > tolerance))
    rows.sort(key=lambda row: -row[0])
    failed = [r for r in rows if r[4]]
    for error, tolerance, name, array, _ in rows if "-v" in sys.argv else failed or rows[:5]:
        print("%-50s %-14s %8.1e of %g%s" % (name, array, error, tolerance, "  FAILED" if error > tolerance else ""))
    share = max(r[0] for r in rows) / TOLERANCE if rows else np.inf
    print("%d cases (%d of them bit for bit), %d failed; headroom %.0f %% of a tolerance of %g" % (
        len(rows), sum(r[1] == 0 for r in rows), len(failed), 100 * max(0.0, 1 - share), TOLERANCE))
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
