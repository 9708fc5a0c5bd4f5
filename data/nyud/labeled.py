"""NYU Depth v2 as published: nyu_depth_v2_labeled.mat, and what it takes to make the 40-class data set of it.

MATLAB stores columns first: what it calls images, 480 x 640 x 3 x 1449, is 1449 x 3 x 640 x 480 in the HDF5 file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import scipy.io
from fetch import FetchError
from hha import FRAME, WINDOW
from PIL import Image
from segfiles import open_image
from sources import write
from vis import save_atomic

FIRST = 5001    # id of the first frame in the released lists
CLASSES = 40
MAPPING = ("the mapping of the data set's {} classes to the 40 of Gupta, Arbelaez, Malik (CVPR 2013), which came with "
           "their code: classMapping40.mat (variable mapClass, a number 1..40 for each class) or labels40.mat (variable "
           "labels40, a label for each frame): --mapping FILE")
Window = tuple[int, int, int, int]  # first row, first column, rows, columns


def signature(path: Path) -> str:
    """'7.3' for a .mat file of that version, which is HDF5, '5' for one of an older, '' for any other file."""
    with open(path, "rb") as f:
        head = f.read(128)
    return "7.3" if h5py.is_hdf5(path) else "5" if head.startswith(b"MATLAB") else ""


def variables(path: Path, names: tuple[str, ...], wanted: str) -> dict[str, np.ndarray]:
    """Those of the numeric variables `names` that a .mat file of either version holds, with MATLAB's axes.

    wanted: what the file is to be, for the message. FetchError if it is no .mat file, or holds none of them.
    """
    if not path.is_file():
        raise FetchError(f"{path}: no such file; wanted {wanted}")
    kind, found = signature(path), {}
    try:
        if kind == "7.3":
            with h5py.File(path) as f:
                found = {name: f[name][()].T for name in names if isinstance(f.get(name), h5py.Dataset)}
        elif kind == "5":
            found = {name: held for name, held in scipy.io.loadmat(str(path), variable_names=names).items() if name in names}
    except Exception as error:  # by damage: TypeError, KeyError, zlib.error, OSError and more
        raise FetchError(f"{path}: damaged: {type(error).__name__}: {error}; wanted {wanted}") from error
    if not any(held.dtype.kind in "iufb" for held in found.values()):
        lacking = f"a .mat file without {' or '.join(names)}" if kind else "no .mat file"
        raise FetchError(f"{path}: {lacking}; wanted {wanted}")
    return found


class Labels40(Protocol):
    """What turns the label of a frame, uint16 [H, W], into the 40 classes, uint8 [H, W]: 1..40, 0 for none."""

    def __call__(self, index: int, label: np.ndarray) -> np.ndarray: ...


def read_mapping(path: Path, count: int) -> Labels40:
    """The mapping to 40 classes, of a file such as MAPPING says; `count`: of how many classes of the data set's own.

    FetchError if it is not such.
    """
    wanted = MAPPING.format(count)
    found = variables(path, ("mapClass", "labels40"), wanted)
    held = next(iter(found.values()))
    if "mapClass" in found:
        table = np.concatenate([[0], held.ravel()])
        if len(table) != count + 1 or table.min() < 0 or table.max() > CLASSES:
            raise FetchError(f"{path}: mapClass has {held.size} numbers, {held.min()}..{held.max()}; wanted {wanted}")
        return lambda index, label: table[label].astype(np.uint8)
    if held.ndim != 3 or held.shape[:2] != FRAME or held.min() < 0 or held.max() > CLASSES:
        raise FetchError(f"{path}: labels40 is of shape {held.shape}, {held.min()}..{held.max()}; wanted {wanted}")
    return lambda index, label: held[..., index].astype(np.uint8)


def read_test(path: Path) -> list[str]:
    """The ids of the test frames, by the data set's splits.mat (variables trainNdxs, testNdxs, counted from 1)."""
    held = variables(path, ("testNdxs",), "the data set's splits.mat, with testNdxs: --splits FILE")
    return [str(FIRST - 1 + int(index)) for index in held["testNdxs"].ravel()]


class Labeled:
    """The published file, opened. FetchError if it is not that. A context manager."""

    SHAPES = {"images": (3, *FRAME[::-1]), "depths": FRAME[::-1], "rawDepths": FRAME[::-1], "labels": FRAME[::-1]}

    def __init__(self, path: Path):
        if signature(path) != "7.3":
            raise FetchError(f"{path}: no .mat file of version 7.3; wanted nyu_depth_v2_labeled.mat, which is one")
        try:
            self.file = h5py.File(path)
        except OSError as error:
            raise FetchError(f"{path}: damaged, or cut short: {error}; fetch it anew") from error
        self.path = path
        shapes = {name: getattr(self.file.get(name), "shape", None) for name in (*self.SHAPES, "names")}
        self.frames = (shapes["labels"] or (0,))[0]
        if shapes != {**{name: (self.frames, *shape) for name, shape in self.SHAPES.items()}, "names": shapes["names"]} or (
                len(shapes["names"] or ()) != 2):
            raise FetchError(f"{path}: holds {shapes} (frames and columns first); wanted images, depths, rawDepths and "
                             f"labels of {FRAME[1]} x {FRAME[0]} for as many frames, and names: is it "
                             "nyu_depth_v2_labeled.mat?")
        self.classes = max(shapes["names"])

    def __enter__(self) -> Labeled:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def read(self, name: str, index: int) -> np.ndarray:
        """A frame of `images` uint8 [H, W, 3], `depths` or `rawDepths` float [H, W] in metres, or `labels` [H, W].

        FetchError if it cannot be read, or is not such.
        """
        try:
            held = self.file[name][index].T
        except (OSError, RuntimeError) as error:
            raise FetchError(f"{self.path}: {name} of frame {index + 1}: {error}; fetch it anew") from error
        top = {"images": 255, "depths": 65.535, "rawDepths": 65.535, "labels": self.classes}[name]
        if not (held.min() >= 0 and held.max() <= top):
            raise FetchError(f"{self.path}: {name} of frame {index + 1} goes from {held.min()} to {held.max()}; wanted "
                             f"0..{top}: it is damaged, or another file; fetch it anew")
        return held


def find_window(frame: np.ndarray, part: Path) -> Window:
    """Where in a frame, uint8 [H, W, 3], an image lies that was cut from it. FetchError if it does not, pixel by pixel."""
    cut = np.array(open_image(str(part)).convert("RGB"))
    rows, columns = cut.shape[:2]
    for row in range(frame.shape[0] - rows + 1):
        for column in range(frame.shape[1] - columns + 1):
            if (frame[row, column:column + columns] == cut[0]).all() and (
                    frame[row:row + rows, column:column + columns] == cut).all():
                return row, column, rows, columns
    raise FetchError(f"{part}: {columns} x {rows} (width x height), nowhere in its frame of {frame.shape[1]} x "
                     f"{frame.shape[0]}; wanted an image of the prepared archive, named as there: img_5001.png")


def convert(labeled: Labeled, mapping: Labels40, folder: Path, window: Window = WINDOW) -> Iterator[int]:
    """Write the frames, cut to `window`, in the layout of the prepared archive; yields how many are done, after each.

    data/images, data/depth and data/rawdepth (millimetres), segmentation, which is written last: frames of which it is
    there are kept.
    """
    row, column, rows, columns = window

    def cut(held: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(held[row:row + rows, column:column + columns])
    for index in range(labeled.frames):
        name = f"img_{FIRST + index}"
        target = folder / "segmentation" / f"{name}.mat"
        if not target.exists():
            label = cut(mapping(index, labeled.read("labels", index)))
            save_atomic(Image.fromarray(cut(labeled.read("images", index))), str(folder / "data/images" / f"{name}.png"))
            for kind, source in (("depth", "depths"), ("rawdepth", "rawDepths")):
                depth = np.round(cut(labeled.read(source, index)) * 1000.).astype(np.uint16)
                save_atomic(Image.fromarray(depth), str(folder / "data" / kind / f"{name}.png"))
            file = io.BytesIO()
            scipy.io.savemat(file, {"segmentation": label}, do_compression=True)
            write(target, file.getvalue())
        yield index + 1
