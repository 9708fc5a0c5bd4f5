"""Small data sets in VOC and SBD layout for tests, and where real ones lie on a machine that has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def shared(name: str) -> Path:
    """A folder of the development data ($FCN_SHARED, or ../shared/data beside the checkout); skips where it is not."""
    path = Path(os.environ.get("FCN_SHARED") or ROOT.parent / "shared" / "data") / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def pictures(count: int, size=(13, 9), classes: int = 21, seed: int = 0):
    """`count` pairs of an image uint8 [H, W, 3] and a label uint8 [H, W] with classes and a border of 255."""
    rng = np.random.RandomState(seed)
    width, height = size
    for _ in range(count):
        label = rng.randint(0, classes, (height, width)).astype(np.uint8)
        label[0] = 255
        yield rng.randint(0, 256, (height, width, 3)).astype(np.uint8), label


def save_label(path: Path, label: np.ndarray) -> None:
    """A label PNG of mode P, as VOC's."""
    image = Image.fromarray(label)
    image.putpalette(list(range(256)) * 3)
    image.save(path, "PNG")


def save_mat(path: Path, label: np.ndarray) -> None:
    """A label in SBD's layout: struct GTcls with Boundaries, Segmentation, CategoriesPresent."""
    fields = {"Boundaries": np.zeros((20, 1), dtype=object), "Segmentation": label,
              "CategoriesPresent": np.unique(label[(label > 0) & (label < 255)])}
    scipy.io.savemat(str(path), {"GTcls": fields}, do_compression=True)


def write_voc(folder: Path, ids, split: str = "val", **kwargs) -> None:
    """A folder in VOC layout. Images are PNG data under the name .jpg: lossless, so that their pixels are known."""
    for sub in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))
    for name, (image, label) in zip(ids, pictures(len(ids), **kwargs)):
        Image.fromarray(image).save(folder / "JPEGImages" / f"{name}.jpg", "PNG")
        save_label(folder / "SegmentationClass" / f"{name}.png", label)


def write_sbd(folder: Path, ids, split: str = "train", **kwargs) -> None:
    """A folder in SBD layout; its labels have no border, as SBD's."""
    for sub in ("img", "cls"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))
    for name, (image, label) in zip(ids, pictures(len(ids), **kwargs)):
        Image.fromarray(image).save(folder / "img" / f"{name}.jpg", "PNG")
        label[label == 255] = 0
        save_mat(folder / "cls" / f"{name}.mat", label)
