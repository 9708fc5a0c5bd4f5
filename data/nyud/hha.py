"""HHA: a depth image as three channels, disparity, height above ground, angle to gravity. Numpy and scipy only.

    python data/nyud/hha.py DEPTH.png OUT.png [--raw RAW.png] [--unit 1000] [--camera FX FY CX CY]
    python data/nyud/hha.py DEPTH_FOLDER OUT_FOLDER [--raw RAW_FOLDER] [--processes 4]

DEPTH: filled depth, 16-bit PNG of which --unit are a metre (1000: millimetres). --raw: the depth before it was filled;
where it is 0, no normal is taken from the filled one. A folder is encoded file by file, under the same names; what is
there already is kept.

The encoding is that of Gupta, Girshick, Arbelaez, Malik (ECCV 2014), the direction of gravity that of Gupta, Arbelaez,
Malik (CVPR 2013); on the sample at hand it equals their MATLAB code's output in every pixel.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import correlate1d

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tools")]
from fetch import Progress  # noqa: E402
from segfiles import read_depth  # noqa: E402
from vis import save_atomic  # noqa: E402

RESULT, COARSE = 3, 10      # half the window of a normal: of the angle that is encoded, of those that gravity is found by
ROUNDS = ((45, 5), (15, 5))  # degrees a floor or wall may lean when gravity is looked for, and how often
GROUND = -130.              # cm: the floor lies so far below the camera if nothing lower than 90 cm is seen
FRAME = (480, 640)          # rows, columns of the Kinect's colour frame
WINDOW = (45, 40, 425, 560)  # of it, what the prepared NYUD images show: first row, first column, rows, columns


class Camera(NamedTuple):
    """Focal lengths and principal point in pixels; the first pixel is (1, 1), as MATLAB counts."""

    fx: float
    fy: float
    cx: float
    cy: float

    def window(self, row: int, column: int) -> Camera:
        """The camera of an image of which `row` rows at the top and `column` columns at the left are cut away."""
        return self._replace(cx=self.cx - column, cy=self.cy - row)


NYUD_CAMERA = Camera(518.857901175, 519.469611213, 325.582449411, 253.736166335)


def camera_of(shape: tuple[int, int]) -> Camera:
    """NYUDv2's colour camera for an image of shape (rows, columns): a whole frame, or the window. ValueError if neither."""
    if shape == FRAME:
        return NYUD_CAMERA
    if shape == WINDOW[2:]:
        return NYUD_CAMERA.window(*WINDOW[:2])
    raise ValueError(f"a depth image of {shape[1]} x {shape[0]} (width x height); NYUD's camera is known for 640 x 480 "
                     "and 560 x 425: say the camera with --camera FX FY CX CY, in pixels of your images")


def points(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth in metres [H, W] -> points in centimetres [H, W, 3]: x to the right, y down, z forward."""
    height, width = depth.shape
    z = depth * 100.
    x = (np.arange(1, width + 1)[None, :] - camera.cx) * z / camera.fx
    y = (np.arange(1, height + 1)[:, None] - camera.cy) * z / camera.fy
    return np.stack([x, y, z], axis=-1)


def normals(cloud: np.ndarray, missing: np.ndarray, half: int) -> np.ndarray:
    """Unit normals [H, W, 3] of the planes that fit best in windows of 2 * half + 1 pixels a side; nan where none fits.

    cloud: points [H, W, 3]. missing: bool [H, W], points to leave out. A plane n . p = 1 divided by z is linear in n with
    the image coordinates x/z, y/z, so that near and far points count alike; its normal equations are solved by the
    adjugate, whose length is lost in normalising. Normals point away from the camera.
    """
    x, y, z = np.moveaxis(cloud, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v, w = x / z, y / z, 1 / z
    taps = np.ones(2 * half + 1)

    def total(values: np.ndarray) -> np.ndarray:
        values = np.where(missing | ~np.isfinite(values), 0, values)
        return correlate1d(correlate1d(values, taps, 0, mode="constant"), taps, 1, mode="constant")
    xx, xy, x1, yy, y1, one = (total(values) for values in (u * u, u * v, u, v * v, v, np.ones_like(z)))
    right = np.stack([total(u * w), total(v * w), total(w)], axis=-1)
    adjugate = np.stack([yy * one - y1 * y1, x1 * y1 - xy * one, xy * y1 - x1 * yy,
                         x1 * y1 - xy * one, xx * one - x1 * x1, xy * x1 - xx * y1,
                         xy * y1 - x1 * yy, xy * x1 - xx * y1, xx * yy - xy * xy], axis=-1)
    n = (adjugate.reshape(*z.shape, 3, 3) @ right[..., None])[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        n /= np.sqrt((n * n).sum(-1, keepdims=True))
    n *= np.where(n[..., 2:] < 0, -1, 1)
    return n * np.where((n * cloud).sum(-1, keepdims=True) < 0, -1, 1)


def gravity(n: np.ndarray) -> np.ndarray:
    """The direction things fall in, a unit vector [3], by normals [H, W, 3] of which nan ones are left out.

    Starts straight down the image. Surfaces nearly level are taken for floor, nearly upright ones for wall; gravity is
    along the former and across the latter as well as least squares can make it.
    """
    n = n.reshape(-1, 3)
    n = n[~np.isnan(n).any(axis=1)]
    down = np.array([0., 1., 0.])
    for degrees, rounds in ROUNDS:
        for _ in range(rounds):
            along = np.abs(n @ down)
            floor, wall = n[along > np.cos(np.radians(degrees))], n[along < np.sin(np.radians(degrees))]
            found = np.linalg.eigh(wall.T @ wall - floor.T @ floor)[1][:, 0]    # of the smallest eigenvalue
            down = found if found @ down >= 0 else -found
    return down


def heights(cloud: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Centimetres above the ground [H, W]: the lowest point seen, or GROUND if all lies higher than 90 cm below."""
    h = -(cloud @ down)     # the second coordinate once gravity is rotated to (0, 1, 0)
    lowest = h.min()
    return h - (GROUND if lowest > -90 else lowest)


def encode(depth: np.ndarray, camera: Camera, raw: np.ndarray | None = None) -> np.ndarray:
    """The HHA image uint8 [H, W, 3] of a filled depth image in metres [H, W].

    raw: the depth before it was filled, same shape; where it is 0 nothing was measured, and normals do without. Channels,
    each rounded and clipped to 0..255: 31000 / cm (nearer than 1 m counts as 1 m); cm above ground; degrees between
    normal and gravity + 38, 218 where there is no normal. ValueError if shapes differ or the depth is nowhere above 0.
    """
    if depth.ndim != 2 or (raw is not None and raw.shape != depth.shape):
        raise ValueError(f"depth is {depth.shape}, raw depth {None if raw is None else raw.shape}; wanted one shape "
                         "(rows, columns)")
    if not (np.isfinite(depth).all() and depth.min() >= 0 and depth.max() > 0):
        raise ValueError(f"depth goes from {depth.min():g} to {depth.max():g} m; wanted numbers from 0, some above it")
    cloud = points(depth.astype(np.float64), camera)
    missing = np.zeros(depth.shape, dtype=bool) if raw is None else raw == 0
    down = gravity(normals(cloud, missing, COARSE))
    angle = np.degrees(np.arccos(np.clip(normals(cloud, missing, RESULT) @ down, -1, 1)))
    angle[np.isnan(angle)] = 180
    channels = [31000 / np.maximum(cloud[..., 2], 100), heights(cloud, down), angle + 128 - 90]
    return np.clip(np.floor(np.stack(channels, axis=-1) + .5), 0, 255).astype(np.uint8)


def convert(depth: Path, out: Path, raw: Path | None, unit: float, camera: Camera | None) -> None:
    """Write the HHA of a depth PNG. camera: None for NYUD's, by the size of the image. IOError, ValueError: who and why."""
    metres, raw_metres = (path and read_depth(str(path)).astype(np.float64) / unit for path in (depth, raw))
    try:
        hha = encode(metres, camera or camera_of(metres.shape), raw_metres)
    except ValueError as error:
        raise ValueError(f"{depth}: {error}") from error
    save_atomic(Image.fromarray(hha), str(out))


def convert_all(jobs: list[tuple], processes: int) -> Iterator[None]:
    """convert() of each job, the arguments of one; yields after each. The first error stops it."""
    if processes == 1:
        for job in jobs:
            yield convert(*job)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(convert, *zip(*jobs))
        finally:
            pool.shutdown(cancel_futures=True)


def convert_folder(depth: Path, out: Path, raw: Path | None, unit: float = 1000, camera: Camera | None = None,
                   processes: int = 1) -> tuple[int, int]:
    """HHA of every PNG of a folder, under its name in folder `out`; returns how many were made and how many there were.

    IOError if there is none, or a raw depth is missing.
    """
    names = sorted(path.name for path in depth.glob("*.png"))
    if not names:
        raise OSError(f"{depth}: no *.png in it; wanted depth images")
    jobs = [(depth / name, out / name, raw and raw / name, unit, camera) for name in names if not (out / name).exists()]
    if jobs:
        progress = Progress(f"HHA in {out}", len(jobs), unit=1, name="images")
        for done, _ in enumerate(convert_all(jobs, processes), 1):
            progress.show(done)
    return len(jobs), len(names)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("depth", type=Path, metavar="DEPTH", help="a 16-bit PNG, or a folder of them")
    parser.add_argument("out", type=Path, metavar="OUT", help="the PNG, or the folder, to write")
    parser.add_argument("--raw", type=Path, metavar="PATH", help="depth before it was filled: as DEPTH, 0 = not measured")
    parser.add_argument("--unit", type=float, default=1000, help="values a metre (1000: millimetres)")
    parser.add_argument("--camera", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"),
                        help="focal lengths and principal point in pixels, the first pixel being 1, 1 (NYUDv2's colour "
                             "camera, for images of 640 x 480 and of the prepared 560 x 425)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="for a folder (all cores)")
    args = parser.parse_args(argv)
    if args.unit <= 0 or args.processes < 1 or (args.camera and min(args.camera[:2]) <= 0):
        parser.error("--unit, --processes, FX and FY are above 0")
    camera = Camera(*args.camera) if args.camera else None
    try:
        if args.depth.is_dir():
            made, count = convert_folder(args.depth, args.out, args.raw, args.unit, camera, args.processes)
            print(f"{args.out}: {made} HHA images made, {count - made} were there")
        else:
            convert(args.depth, args.out, args.raw, args.unit, camera)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
