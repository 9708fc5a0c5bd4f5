"""Small data sets in the layout of each data set for tests, and where real ones lie on a machine that has them."""

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


SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


def write_list(path: Path, ids) -> None:
    """A list of ids, one a line; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in ids))


def save_matrix(path: Path, key: str, matrix: np.ndarray) -> None:
    """A .mat file of version 5 with one matrix, compressed as MATLAB does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(str(path), {key: matrix}, do_compression=True)


def save_picture(path: Path, image: np.ndarray) -> None:
    """PNG data under any name: lossless, so that the pixels are known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, "PNG")


def write_siftflow(folder: Path, ids, split: str = "test", size=(13, 9), seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    """A folder in SIFT Flow's layout; the (image, semantic, geometric) arrays of its files. Labels are doubles in MATLAB."""
    write_list(folder / f"{split}.txt", ids)
    rng, held = np.random.RandomState(seed), []
    for name in ids:
        shape = size[::-1]
        image = rng.randint(0, 256, (*shape, 3)).astype(np.uint8)
        sem, geo = rng.randint(0, 34, shape).astype(float), rng.choice([-1, 1, 2, 3], shape).astype(float)
        save_picture(folder / "Images" / SCENES / f"{name}.jpg", image)
        save_matrix(folder / "SemanticLabels" / SCENES / f"{name}.mat", "S", sem)
        save_matrix(folder / "GeoLabels" / SCENES / f"{name}.mat", "S", geo)
        held.append((image, sem, geo))
    return held


def write_nyud(folder: Path, ids, split: str = "test", size=(13, 9), seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    """A folder in the layout of the prepared NYUD; the (color, depth, hha, label) arrays of its files."""
    write_list(folder / f"{split}.txt", ids)
    rng, held = np.random.RandomState(seed), []
    for name in ids:
        shape = size[::-1]
        color, hha = (rng.randint(0, 256, (*shape, 3)).astype(np.uint8) for _ in range(2))
        depth, label = rng.randint(700, 10000, shape).astype(np.uint16), rng.randint(0, 41, shape).astype(np.uint8)
        for kind, image in (("images", color), ("hha", hha), ("depth", depth)):
            save_picture(folder / "data" / kind / f"img_{name}.png", image)
        save_matrix(folder / "segmentation" / f"img_{name}.mat", "segmentation", label)
        held.append((color, depth, hha, label))
    return held


def write_context(folder: Path, ids, split: str = "val", size=(13, 9), seed: int = 0) -> list[tuple[np.ndarray, ...]]:
    """pascal/ and pascal-context/ of PASCAL-Context's layout in a folder; the (image, label) arrays of its files."""
    write_list(folder / "pascal/VOC2010/ImageSets/Main" / f"{split}.txt", ids)
    rng, held = np.random.RandomState(seed), []
    for name in ids:
        shape = size[::-1]
        image, label = rng.randint(0, 256, (*shape, 3)).astype(np.uint8), rng.randint(1, 460, shape).astype(np.uint16)
        save_picture(folder / "pascal/VOC2010/JPEGImages" / f"{name}.jpg", image)
        save_matrix(folder / "pascal-context/trainval" / f"{name}.mat", "LabelMap", label)
        held.append((image, label))
    return held
