"""Draw the data set of the demo: photograph-like scenes of textured shapes, and pictures of single shapes to classify.

    python data/shapes/prepare.py [--root DIR] [--train 500] [--val 60] [--crops 3000] [--seed 1337]

A class is a shape with a texture and a leaning to a colour, none of which tells it alone. Writes under data/shapes:

    sbdd/   the training scenes in SBD's layout: img/*.jpg, cls/*.mat, train.txt; labels without a border, as SBD's
    voc/    all scenes in VOC's layout: JPEGImages, SegmentationClass, lists train and val; a border of 255, as VOC's
    crops/  single shapes for the classifier, 112 x 112: JPEGImages, and lists train and val of `file label` lines

The same numbers make the same pictures on every machine (numpy's RandomState never changes its stream). Run again, it
does nothing; with other numbers it draws anew.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from segfiles import data_path  # noqa: E402
from vis import make_palette  # noqa: E402

CLASSES = ("background", "striped disc", "checked square", "dotted triangle", "speckled star", "plain ring", "wavy cross")
WIDTH, HEIGHT = 256, 192  # of a scene; not square, so that a swapped axis shows
CROP = 112  # side of a classifier's picture: five poolings make 4 x 4 of it
Random = np.random.RandomState


# -- one shape -----------------------------------------------------------------------------------------------------------
def turned(rng: Random, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates turned by a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, -s * x + c * y


def outline(c: int, u: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    """Which pixels belong to the shape of class c, of radius r around (0, 0): bool [H, W]."""
    distance = np.hypot(u, v)
    if c == 1:  # disc
        return distance <= 0.9 * r
    if c == 2:  # square
        return np.maximum(abs(u), abs(v)) <= 0.78 * r
    if c == 3:  # triangle: the inside of three lines
        return np.maximum(v, 0.866 * abs(u) - 0.5 * v) <= 0.58 * r
    if c == 4:  # star: five points, each the inside of a line on both of its sides
        sector = 2 * np.pi / 5
        angle = abs((np.arctan2(v, u) + sector / 2) % sector - sector / 2)
        return distance * (np.cos(angle) + 1.3 * np.sin(angle)) <= 1.05 * r
    if c == 5:  # ring
        return (distance <= 0.95 * r) & (distance >= 0.4 * r)
    return (np.minimum(abs(u), abs(v)) <= 0.3 * r) & (np.maximum(abs(u), abs(v)) <= 0.95 * r)  # cross


def texture(rng: Random, c: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which pixels get the first of the two colours of class c: bool [H, W]."""
    period = rng.uniform(6, 10)
    x, y = u / period % 1, v / period % 1
    if c == 1:  # striped
        return x < 0.5
    if c == 2:  # checked
        return (x < 0.5) ^ (y < 0.5)
    if c == 3:  # dotted
        return np.hypot(x - 0.5, y - 0.5) < 0.33
    if c == 4:  # speckled: random blocks of 3 x 3 pixels
        h, w = u.shape
        return (rng.uniform(size=(h // 3 + 1, w // 3 + 1)) < 0.5).repeat(3, 0).repeat(3, 1)[:h, :w]
    if c == 5:  # plain
        return np.ones(u.shape, bool)
    return (u / period + 0.3 * np.sin(2 * np.pi * v / (1.5 * period))) % 1 < 0.5  # wavy


def paints(rng: Random, c: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright and a dark colour for class c. Hues lean to the class by a spread of half the distance to the next."""
    hue = c / (len(CLASSES) - 1) + rng.normal(0, 0.08)
    bright = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.5, 1), rng.uniform(0.6, 1))
    dark = colorsys.hsv_to_rgb((hue + rng.normal(0, 0.1)) % 1, rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.35))
    return 255 * np.array(bright), 255 * np.array(dark)


def place(rng: Random, image: np.ndarray, c: int, cy: int, cx: int, r: float) -> tuple[slice, slice, np.ndarray]:
    """Paint a shape of class c into float64 [H, W, 3]. Returns the window it lies in and which pixels of it it covers."""
    reach = int(r) + 1
    rows, columns = slice(max(cy - reach, 0), cy + reach), slice(max(cx - reach, 0), cx + reach)
    y, x = np.mgrid[rows, columns][:, : image.shape[0] - rows.start, : image.shape[1] - columns.start]
    y, x = y - cy, x - cx
    inside = outline(c, *turned(rng, y, x), r)
    first = texture(rng, c, *turned(rng, y, x))
    bright, dark = paints(rng, c)
    image[rows, columns][inside] = np.where(first[..., None], bright, dark)[inside]
    return rows, columns, inside


# -- pictures -----------------------------------------------------------------------------------------------------------
def clouds(rng: Random, h: int, w: int, cell: int) -> np.ndarray:
    """Smooth noise of 0..1 that varies over `cell` pixels: float32 [h, w, 1]."""
    rough = Image.fromarray(rng.uniform(size=(h // cell + 3, w // cell + 3)).astype(np.float32))
    smooth = np.asarray(rough.resize((rough.width * cell, rough.height * cell), Image.BICUBIC))
    top, left = rng.randint(cell), rng.randint(cell)
    return smooth[top : top + h, left : left + w, None]


def background(rng: Random, h: int, w: int) -> np.ndarray:
    """Two colours blended by noise of three sizes: float64 [h, w, 3]."""
    a, b = rng.randint(30, 226, (2, 3))
    share = 0.5 * clouds(rng, h, w, 32) + 0.3 * clouds(rng, h, w, 12) + 0.2 * clouds(rng, h, w, 5)
    share = np.clip(2 * share - 0.5, 0, 1)
    return a * share + b * (1 - share)


def photograph(rng: Random, image: np.ndarray) -> Image.Image:
    """Uneven light and grain, as a camera's."""
    h, w = image.shape[:2]
    grain = np.frombuffer(rng.bytes(image.size), np.int8).reshape(image.shape)
    lit = image * (0.75 + 0.5 * clouds(rng, h, w, 64)) + 0.11 * grain
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def scene(rng: Random) -> tuple[Image.Image, np.ndarray]:
    """A picture of 4 to 8 shapes, each over those before it, and its label, uint8 [HEIGHT, WIDTH], without border."""
    image, label = background(rng, HEIGHT, WIDTH), np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(rng.randint(4, 9)):
        c = rng.randint(1, len(CLASSES))
        rows, columns, inside = place(rng, image, c, rng.randint(HEIGHT), rng.randint(WIDTH), rng.uniform(22, 52))
        label[rows, columns][inside] = c
    return photograph(rng, image), label


def crop(rng: Random) -> tuple[Image.Image, int]:
    """A picture of one shape, CROP x CROP, and its label; the classifier knows no background, so label 0 is class 1."""
    image, c, middle = background(rng, CROP, CROP), rng.randint(1, len(CLASSES)), CROP // 2
    place(rng, image, c, middle + rng.randint(-16, 17), middle + rng.randint(-16, 17), rng.uniform(22, 52))
    return photograph(rng, image), c - 1


def bordered(label: np.ndarray, width: int = 1) -> np.ndarray:
    """The label with 255 on every pixel that has another class within `width` pixels; VOC draws some 5 pixels wide."""
    around = np.pad(label, width, mode="edge")
    h, w = label.shape
    near = [around[dy : dy + h, dx : dx + w] != label for dy in range(2 * width + 1) for dx in range(2 * width + 1)]
    return np.where(np.any(near, axis=0), 255, label).astype(np.uint8)


# -- files ---------------------------------------------------------------------------------------------------------------
def save_jpeg(path: Path, image: Image.Image) -> None:
    image.save(path, quality=92)


def write_scenes(folder: Path, rng: Random, counts: dict[str, int]) -> None:
    """voc/ and sbdd/ under `folder`, for {list: number of scenes}."""
    palette = make_palette(256).ravel().tolist()
    for sub in ("voc/JPEGImages", "voc/SegmentationClass", "voc/ImageSets/Segmentation", "sbdd/img", "sbdd/cls"):
        (folder / sub).mkdir(parents=True)
    for split, count in counts.items():
        names = [f"{split}_{i:04d}" for i in range(count)]
        for name in names:
            image, label = scene(rng)
            save_jpeg(folder / "voc/JPEGImages" / f"{name}.jpg", image)
            indexed = Image.fromarray(bordered(label))
            indexed.putpalette(palette)
            indexed.save(folder / "voc/SegmentationClass" / f"{name}.png")
            if split == "train":
                shutil.copy(folder / "voc/JPEGImages" / f"{name}.jpg", folder / "sbdd/img" / f"{name}.jpg")
                present = np.unique(label[label > 0])[:, None]
                fields = {"Segmentation": label, "CategoriesPresent": present, "Boundaries": np.zeros((20, 1), object)}
                scipy.io.savemat(folder / "sbdd/cls" / f"{name}.mat", {"GTcls": fields}, do_compression=True)
        (folder / "voc/ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{n}\n" for n in names))
    shutil.copy(folder / "voc/ImageSets/Segmentation/train.txt", folder / "sbdd/train.txt")
    (folder / "voc/classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))


def write_crops(folder: Path, rng: Random, counts: dict[str, int]) -> None:
    """crops/ under `folder`, for {list: number of pictures}."""
    (folder / "crops/JPEGImages").mkdir(parents=True)
    for split, count in counts.items():
        lines = []
        for i in range(count):
            image, label = crop(rng)
            save_jpeg(folder / "crops/JPEGImages" / f"{split}_{i:04d}.jpg", image)
            lines.append(f"{split}_{i:04d}.jpg {label}\n")
        (folder / "crops" / f"{split}.txt").write_text("".join(lines))
    (folder / "crops/classes.txt").write_text("".join(f"{name}\n" for name in CLASSES[1:]))


def prepare(root: Path, train: int, val: int, crops: int, seed: int, say: Callable[[str], None] = print) -> None:
    """Make root/{sbdd,voc,crops}, complete or not at all. Does nothing if they are there with the same numbers."""
    wanted = {"train": train, "val": val, "crops": crops, "seed": seed, "size": [WIDTH, HEIGHT], "version": 1}
    done = root / "prepared.json"
    if done.is_file() and json.loads(done.read_text()) == wanted:
        say(f"{root}: {train} + {val} scenes and {crops} crops are there")
        return
    partial = root / "new.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write_scenes(partial, Random(seed), {"train": train, "val": val})
        write_crops(partial, Random(seed + 1), {"train": crops, "val": max(crops // 10, 1)})
        done.unlink(missing_ok=True)
        for name in ("sbdd", "voc", "crops"):
            shutil.rmtree(root / name, ignore_errors=True)
            (partial / name).rename(root / name)
        (partial / "prepared.json").write_text(json.dumps(wanted) + "\n")
        (partial / "prepared.json").rename(done)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{root}: drew {train} scenes to train on, {val} to score, {crops} crops to classify")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(data_path("../data/shapes")), help="where (default %(default)s)")
    for name, count in (("train", 500), ("val", 60), ("crops", 3000)):
        parser.add_argument(f"--{name}", type=int, default=count, help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1337)
    options = parser.parse_args(arguments)
    for name in ("train", "val", "crops"):
        if not 0 < getattr(options, name) < 10000:
            parser.error(f"--{name} is {getattr(options, name)}; wanted 1..9999")
    try:
        prepare(options.root, options.train, options.val, options.crops, options.seed)
    except OSError as error:
        print(f"{options.root}: cannot write the data set: {error}; free some disk space (it takes 60 MB), or name "
              "another place: --root DIR, and FCN_DATA set to the folder above it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
