"""Prepare NYU Depth v2 with 40 classes for the experiment nyud-fcn32s.

    python data/nyud/prepare.py [--nyud ARCHIVE_OR_FOLDER] [--lists FOLDER] [--root DIR]
    python data/nyud/prepare.py --labeled nyu_depth_v2_labeled.mat --mapping classMapping40.mat --splits splits.mat

From the archive the authors prepared (fetched if it is not given), or from the data set as it was published, which is cut,
mapped to 40 classes and encoded as HHA here. Takes what is there, checks every label and depth. Run it again at any time:
it goes on where it was stopped, and does nothing when all is done. README.md tells more.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent),
                str(Path(__file__).resolve().parents[2] / "tools")]
from hha import NYUD_CAMERA, WINDOW, convert_folder  # noqa: E402
from labeled import FIRST, MAPPING, Labeled, Window, convert, find_window, read_mapping, read_test  # noqa: E402
from lint_labels import NYUD, ids_in, path_of  # noqa: E402
from segfiles import image_size, read_depth  # noqa: E402
from sources import (  # noqa: E402
    FetchError,
    Part,
    Progress,
    Source,
    Split,
    clear,
    file_of,
    find,
    find_list,
    gather,
    given_lists,
    hashes,
    link_entries,
    lint,
    need_files,
    place,
    run,
    write,
    write_list,
)

KINDS = ("images", "depth", "rawdepth", "hha")
DEPTH, HHA = "data/depth/img_{id}.png", "data/hha/img_{id}.png"
NEEDED = ("data/images", "data/depth", "segmentation")
SOURCE = Source("NYUD", "--nyud", "http://dl.caffe.berkeleyvision.org/nyud.tar.gz", None,
                rf"(?:[^/]+/){{0,2}}(data/(?:{'|'.join(KINDS)})/img_\d+\.png|segmentation/img_\d+\.mat|[^/]+\.txt)")
ORIGINAL = Source("NYUD", "--labeled", "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat", None)
RELEASED = "the folder data/nyud of github.com/shelhamer/fcn.berkeleyvision.org"


@dataclass(frozen=True)
class Expected:
    """What must come out: the released lists. frames: of all splits together, ids from labeled.FIRST on."""

    train: Split = Split("train", 381, "2aa7e4beb40682604d7457b636d20b9210ce55460f24c4f20cb3765bee35f794",
                         "8db94b4a9b33494c20319c6e79073aa7b842a683e6d263c3873d6ee95cebf759")
    val: Split = Split("val", 414, "cd278b1232fe5c2347994a9a3c13cd916aa2e72def51b9698993a2e8936797f5",
                       "cd278b1232fe5c2347994a9a3c13cd916aa2e72def51b9698993a2e8936797f5")
    test: Split = Split("test", 654, "3cabba2c952d83ca4e44e4070771c666a28e41e129d7b3033839c4f9a808b426",
                        "f717536bdff71424f6f7cd0674cf6ac4381b2cffaaf942230b962a9f40671e7a")
    frames: int = 1449


@dataclass(frozen=True)
class Original:
    """The data set as published, to make the prepared one of.

    labeled: its file, None to fetch it. mapping: see labeled.MAPPING. like: an image of the prepared archive to cut like.
    """

    labeled: Path | None = None
    mapping: Path | None = None
    like: Path | None = None


def window_of(labeled: Labeled, like: Path | None) -> Window:
    """The window an image of the prepared archive shows of its frame; without one, the documented window."""
    if like is None:
        return WINDOW
    number = like.stem.rpartition("_")[2]
    if not number.isdigit() or not FIRST <= int(number) < FIRST + labeled.frames:
        raise FetchError(f"{like}: its name says no frame; wanted one of the prepared archive's, such as img_5001.png")
    return find_window(labeled.read("images", int(number) - FIRST), like)


def provide_original(root: Path, target: Path, original: Original, given: Path | None, source: Source) -> dict:
    """Make `target`, in the layout of the prepared archive, from the published file. Returns its record."""
    if original.mapping is None:
        raise FetchError(f"no mapping to 40 classes is named; wanted {MAPPING.format(894)}")
    partial = target.with_name(f"{target.name}.partial")
    file, record = file_of(given, source, root)
    with Labeled(file) as labeled:
        mapping, window = read_mapping(original.mapping, labeled.classes), window_of(labeled, original.like)
        progress = Progress(f"converting {file.name}", labeled.frames, unit=1, name="frames")
        for done in convert(labeled, mapping, partial, window):
            progress.show(done)
    os.replace(clear(partial), target)
    return {**record, "mapping": {"from": str(original.mapping), **hashes(original.mapping)}, "window": list(window)}


def derive_splits(published: Path, folder: Path, splits: Path | None, expected: Expected) -> dict[str, list[str]]:
    """The lists that come with the data: test, and trainval, of train and val if those are there.

    splits: the data set's splits.mat, for test. folder: where a test list may be from an earlier run. FetchError if none
    of them names the released test frames.
    """
    texts = sorted([*published.glob("*.txt"), *folder.glob("test.txt")])
    found = {split.name: find_list(texts, split) for split in (expected.train, expected.val, expected.test)}
    if splits:
        found["test"] = read_test(splits)
        expected.test.check(found["test"], str(splits))
    if found["test"] is None:
        raise FetchError(f"{published}: none of its text files ({', '.join(path.name for path in texts) or 'none there'}) "
                         f"lists the {expected.test.count} test frames; name the data set's splits.mat: --splits FILE, or a "
                         f"folder with train.txt, val.txt, test.txt, such as {RELEASED}: --lists FOLDER")
    if found["train"] and found["val"]:
        return joined(found)
    rest = [name for name in ids_in(str(published), NYUD.labels) if name not in set(found["test"])]
    return {"trainval": rest, "test": found["test"]}


def joined(lists: dict[str, list[str]]) -> dict[str, list[str]]:
    """train, val and test with trainval, which no one released: train, then val."""
    return {"trainval": lists["train"] + lists["val"], **lists}


def encode(folder: Path, camera_window: Window, processes: int) -> None:
    """Make folder/data/hha of its depth images, without their filled parts if the raw ones are there."""
    partial, raw = folder / "data" / "hha.partial", folder / "data" / "rawdepth"
    camera = NYUD_CAMERA.window(*camera_window[:2])
    convert_folder(folder / "data" / "depth", partial, raw if raw.exists() else None, 1000, camera, processes)
    os.replace(clear(partial), folder / "data" / "hha")


def check_depth(folder: Path, ids: list[str]) -> None:
    """FetchError if a depth or HHA image is not of its photograph's size, or a depth is 0: its logarithm is no number."""
    progress = Progress(f"checking {folder / 'data'}", len(ids), unit=1, name="depth images")
    for done, name in enumerate(ids, 1):
        image, depth, hha = (Path(path_of(str(folder), template, name)) for template in (NYUD.images, DEPTH, HHA))
        for path in (depth, hha):
            if image_size(str(path)) != image_size(str(image)):
                raise FetchError(f"{path}: of another size than {image}; remove both, and run again")
        holes = np.count_nonzero(read_depth(str(depth)) == 0)
        if holes:
            raise FetchError(f"{depth}: {holes} pixels are 0; wanted filled depth, in millimetres; is it raw depth?")
        progress.show(done)


def prepare(root: Path, nyud: Path | None = None, original: Original | None = None, splits: Path | None = None,
            lists: Path | None = None, processes: int = 1, source: Source | None = None,
            expected: Expected | None = None) -> dict:
    """Make root/nyud; returns the record, which root/nyud/prepared.json keeps.

    nyud: an archive or a folder of the prepared data to take instead of fetching. original: what to make them of instead.
    splits: see derive_splits. lists: a folder with train.txt, val.txt, test.txt, of which to take the splits, and their
    order. FetchError, IOError or ValueError says what is missing or wrong; what is done stays done.
    """
    expected = expected or Expected()
    folder = root / "nyud"
    record_file, published = folder / "prepared.json", folder / "published"
    source = source or (ORIGINAL if original else SOURCE)
    given, provide = (original.labeled, functools.partial(provide_original, root, published, original)) if original else (
        nyud, functools.partial(place, root, published))
    record = gather(root, record_file, [Part("nyud", source, given, (published,), provide)])
    inside = find(published, NEEDED, source.name)
    kinds = [kind for kind in KINDS if (inside / "data" / kind).exists()]
    link_entries(inside.relative_to(folder), folder, ["segmentation"])
    link_entries(Path("..") / inside.relative_to(folder) / "data", folder / "data", kinds)
    held = given_lists(lists, folder, (expected.train, expected.val, expected.test))
    ids = (joined({split.name: names for split, names in held.items()}) if held else
           derive_splits(inside, folder, splits, expected))
    every = ids["trainval"] + ids["test"]
    if sorted(every) != [str(FIRST + i) for i in range(expected.frames)]:
        raise FetchError(f"{published}: {len(set(every))} frames in trainval and test; wanted {expected.frames}, {FIRST} to "
                         f"{FIRST + expected.frames - 1}; remove {published} and run again")
    if not (folder / "data" / "hha").exists():
        encode(folder, record["nyud"].get("window", WINDOW), processes)
        record["labels"] = None
    hha = inside if "hha" in kinds else folder
    need_files([Path(path_of(str(home), template, name)) for name in every for home, template in (
        (inside, NYUD.labels), (inside, NYUD.images), (inside, DEPTH), (hha, HHA))], (published, folder / "data" / "hha"))
    for name, names in ids.items():
        write_list(folder / f"{name}.txt", names)
    if record.get("labels") is None:
        check_depth(folder, every)
        record["labels"], record["pixels"] = lint(folder, 40, ids=every)
    record.update({name: len(names) for name, names in ids.items()}, order=expected.test.order_of(ids["test"]))
    write(record_file, json.dumps(record, indent=1) + "\n")
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nyud", type=Path, metavar="PATH", help="the prepared data: nyud.tar.gz, or a folder")
    parser.add_argument("--labeled", type=Path, metavar="FILE", help="the published data: nyu_depth_v2_labeled.mat")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="make the prepared data of the published, with these "
                        "40 classes: classMapping40.mat or labels40.mat")
    parser.add_argument("--like", type=Path, metavar="FILE", help="for that, an image of the prepared archive to cut like, "
                        "such as img_5001.png (rows 46 to 470, columns 41 to 600)")
    parser.add_argument("--splits", type=Path, metavar="FILE", help="the test frames, if no list comes along: splits.mat")
    parser.add_argument("--lists", type=Path, metavar="FOLDER",
                        help=f"take train.txt, val.txt, test.txt, and their order, from here: {RELEASED}")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="for the HHA encoding (all cores)")

    def work(args: argparse.Namespace, root: Path) -> str:
        original = Original(args.labeled, args.mapping, args.like) if args.labeled or args.mapping else None
        if original and args.nyud:
            raise ValueError("--nyud is prepared data, --labeled and --mapping make such: wanted one or the other")
        record = prepare(root, args.nyud, original, args.splits, args.lists, args.processes)
        train = f" ({record['train']} train, then {record['val']} val)" if "train" in record else ", ascending"
        return (f"{root / 'nyud'}: {record['trainval']} training frames{train}, {record['test']} test frames, set hashes "
                f"verified, test in order {record['order']} (source: {record['nyud']['from']})\n"
                f"{record['labels']} labels and depth images checked, labels within 0..39 and 255")
    return run(parser, argv, "nyud/", work)


if __name__ == "__main__":
    sys.exit(main())
