"""Prepare PASCAL VOC 2011 (or 2012) and SBD for the voc-* experiments.

    python data/pascal/prepare.py [--voc ARCHIVE_OR_FOLDER] [--sbd ARCHIVE_OR_FOLDER] [--year 2011|2012] [--root DIR]

Takes what is there, fetches what is not, unpacks, derives seg11valid from the data sets' own lists, checks every label.
Run it again at any time: it goes on where it was stopped, and does nothing when all is done. README.md tells more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tools")]
import lint_labels  # noqa: E402
from fetch import FetchError, Progress, download, extract, hashes, subtree  # noqa: E402
from segfiles import data_root, read_list  # noqa: E402

VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
SBD = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. md5: the published one, None where none is known. wanted: see fetch.subtree."""

    name: str
    option: str
    url: str
    md5: str | None
    wanted: str

    @property
    def archive(self) -> str:
        return self.url.rpartition("/")[2]


VOC_FILES = r"(?:.*/)?(VOC201[12]/(?:ImageSets/.+\.txt|JPEGImages/[^/]+\.jpg|SegmentationClass/[^/]+\.png))"
SBD_FILES = r"(?:.*/)?(dataset/(?:(?:train|val)\.txt|img/[^/]+\.jpg|cls/[^/]+\.mat))"
SOURCES = {
    "2011": Source("VOC2011", "--voc", f"{VOC}/voc2011/VOCtrainval_25-May-2011.tar", None, VOC_FILES),
    "2012": Source("VOC2012", "--voc", f"{VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                   "6cd6e144f989b92b3379bac3b3de84fd", VOC_FILES),
    "sbd": Source("SBD", "--sbd", f"{SBD}/benchmark.tgz", "82b4d87ceb2ed10f6038a1cba92111cb", SBD_FILES),
}


@dataclass(frozen=True)
class Expected:
    """What must come out. Hashes are of sets: sha256 of the ids, sorted, one a line.

    train, seg11valid: how many images the released nets were trained on and scored with. seg11valid_hash: the set of
    the released list. voc2012_hash: VOC2012's val minus SBD's train, 904 images; new_in_2012 tells which of them
    (bit i = the i-th from the end, sorted) VOC first labelled in 2012, 168: nothing within VOC2012 tells them apart.
    """

    train: int = 8498
    seg11valid: int = 736
    seg11valid_hash: str = "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc"
    voc2012_hash: str = "f2abdc556804cc8b3384ac41de758fc7d88d86998214cd7bc8b07fdcdfbb9366"
    new_in_2012: int = int(
        "40024084888888428195fd081a188aa1bdb51dd26fc0042040b010001165880000203214208e0643704044a134"
        "40f046041019201510290a4780da0018220559412000224808036592", 16)


def set_hash(ids: Iterable[str]) -> str:
    """sha256 of the ids, sorted, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(set(ids))).encode()).hexdigest()


def derive_seg11valid(val: Iterable[str], train: Iterable[str], expected: Expected) -> list[str]:
    """seg11valid, sorted: VOC2011's (or 2012's) val minus SBD's train, and minus what VOC first labelled in 2012.

    FetchError if that is not the set the released nets were scored with.
    """
    ids = sorted(set(val) - set(train))
    if set_hash(ids) == expected.voc2012_hash:
        ids = [name for i, name in enumerate(reversed(ids)) if not expected.new_in_2012 >> i & 1][::-1]
    if set_hash(ids) != expected.seg11valid_hash:
        raise FetchError(f"seg11valid: VOC's val minus SBD's train gives {len(ids)} ids, set hash {set_hash(ids)}; "
                         f"wanted {expected.seg11valid}, {expected.seg11valid_hash}: val.txt or train.txt is not the "
                         "published one; prepare from the published archives")
    return ids


def find(folder: Path, names: tuple[str, ...], wanted: str) -> Path:
    """The folder that holds the entries `names`: `folder` or one up to three below it, best one called `wanted`.

    FetchError if there is none.
    """
    places = [folder]
    for _ in range(4):
        fitting = [place for place in places if all((place / name).exists() for name in names)]
        if fitting:
            return min(fitting, key=lambda place: (place.name != wanted, place))
        places = [entry for place in places for entry in place.iterdir() if entry.is_dir()]
    raise FetchError(f"{folder}: no {wanted} in it; wanted a folder with {', '.join(names)}")


def link(source: Path, target: Path, lists: str, folders: tuple[str, ...]) -> None:
    """Make `target`: a folder with copies of the lists of `source`, and with links to its folders."""
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    (partial / lists).mkdir(parents=True)
    for name in ("train.txt", "val.txt", "trainval.txt"):
        if (source / lists / name).exists():
            shutil.copyfile(source / lists / name, partial / lists / name)
    for name in folders:
        inside = source.parent == target.parent  # relative: the data root may be mounted elsewhere
        (partial / name).symlink_to(Path("..") / source.name / name if inside else source.resolve() / name)
    os.replace(partial, target)


def fetch(source: Source, root: Path) -> tuple[Path, dict]:
    """The archive of a source under root/download, fetched if it is not there, and its record."""
    path = root / "download" / source.archive
    if path.exists():
        found = hashes(path)
        if source.md5 and found["md5"] != source.md5:
            raise FetchError(f"{path}: md5 {found['md5']}, wanted {source.md5}, the published one; remove it to fetch "
                             f"it anew, or name it with {source.option} if it is meant to differ")
    else:
        found = download(source.url, path, source.md5)
    print(f"{path}: md5 {found['md5']} " + ("is the published one" if source.md5 else
                                            "(none is published to compare with; it is recorded)"))
    return path, {"from": source.url, **found}


def unpack(archive: Path, source: Source, folder: Path) -> Path:
    """Unpack what is wanted of an archive into `folder`; returns the data set's folder, which appears when whole."""
    partial = folder / f".{archive.name}.partial"
    count = extract(archive, subtree(source.wanted), partial)
    if not count:
        raise FetchError(f"{archive}: holds no {source.name}: none of its files matches {source.wanted}")
    unpacked = sorted(partial.iterdir())
    print(f"{archive}: {count} files unpacked")
    for place in unpacked:
        if (folder / place.name).exists():  # whole, as it has its name; a run was stopped after making it
            shutil.rmtree(place)
        else:
            os.replace(place, folder / place.name)
    partial.rmdir()
    return folder / unpacked[0].name


def provide_voc(given: Path | None, root: Path, source: Source) -> dict:
    """Make root/pascal/VOC2011, which is not there. Returns its record."""
    target = root / "pascal" / "VOC2011"
    record = {"from": str(given)}
    folder = root / "pascal" / source.name
    if given and given.is_dir():
        folder = find(given, ("ImageSets/Segmentation/val.txt", "JPEGImages", "SegmentationClass"), source.name)
    elif not folder.exists():
        archive, record = (given, {**record, **hashes(given)}) if given else fetch(source, root)
        folder = unpack(archive, source, root / "pascal")
    if folder != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        link(folder, target, "ImageSets/Segmentation", ("JPEGImages", "SegmentationClass"))
    return record


def provide_sbd(given: Path | None, root: Path, source: Source) -> dict:
    """Make root/sbdd/dataset, which is not there. Returns its record."""
    target = root / "sbdd" / "dataset"
    if given and given.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        link(find(given, ("train.txt", "img", "cls"), source.name), target, ".", ("img", "cls"))
        return {"from": str(given)}
    archive, record = (given, {"from": str(given), **hashes(given)}) if given else fetch(source, root)
    unpack(archive, source, root / "sbdd")
    return record


def check(root: Path, expected: Expected) -> list[str]:
    """Check the lists and that every file they need is there; returns seg11valid. FetchError, IOError if not."""
    voc, sbd = root / "pascal" / "VOC2011", root / "sbdd" / "dataset"
    train = read_list(str(sbd / "train.txt"), f"remove {sbd} and run again")
    if len(train) != expected.train:
        raise FetchError(f"{sbd / 'train.txt'}: {len(train)} ids, wanted {expected.train}; prepare from the published "
                         "archive")
    val = read_list(str(voc / "ImageSets/Segmentation/val.txt"), f"remove {voc} and run again")
    valid = derive_seg11valid(val, train, expected)
    needed = [sbd / kind / f"{name}.{end}" for name in train for kind, end in (("img", "jpg"), ("cls", "mat"))]
    needed += [voc / kind / f"{name}.{end}" for name in valid
               for kind, end in (("JPEGImages", "jpg"), ("SegmentationClass", "png"))]
    lacking = [path for path in needed if not path.is_file()]
    if lacking:
        places = sorted({str(path.parent.parent) for path in lacking})
        raise FetchError(f"{len(lacking)} of {len(needed)} files are missing, the first {lacking[0]}; remove "
                         f"{' and '.join(places)}, and the archive it came from if that is cut short, and run again")
    return valid


def lint(folder: Path) -> int:
    """Check every label of a data set; returns how many. FetchError if one has a problem."""
    bars: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress(f"checking {folder}", total, unit=1, name="labels"))
        bars[0].show(done)
    _, count, problems = lint_labels.lint(str(folder), 21, show)
    if problems:
        raise FetchError("\n".join([f"{folder}: {len(problems)} problems in {count} labels", *problems[:20]]))
    return count


def prepare(root: Path, voc: Path | None = None, sbd: Path | None = None, year: str = "2011",
            sources: dict[str, Source] = SOURCES, expected: Expected | None = None) -> dict:
    """Make root/pascal/VOC2011 and root/sbdd/dataset; returns the record, which root/pascal/prepared.json keeps.

    voc, sbd: an archive or a folder to take instead of fetching. FetchError or IOError says what is missing or wrong;
    what is done stays done.
    """
    expected = expected or Expected()
    record_file = root / "pascal" / "prepared.json"
    record = json.loads(record_file.read_text()) if record_file.exists() else {}
    missing = []
    for part, provide, target, given, source in (
            ("voc", provide_voc, root / "pascal" / "VOC2011", voc, sources[year]),
            ("sbd", provide_sbd, root / "sbdd" / "dataset", sbd, sources["sbd"])):
        if target.exists():
            record.setdefault(part, {"from": "found in place"})
            continue
        try:
            if given and not given.exists():
                raise FetchError(f"{given}: no such archive or folder")
            record = {**record, part: provide(given, root, source), "labels": None}
            write(record_file, json.dumps(record, indent=1) + "\n")
        except FetchError as error:
            missing.append(f"{source.name} is not at {target}: {error}\n"
                           f"  It comes from {source.url}\n"
                           f"  Put that archive at {root / 'download' / source.archive}, or name an archive or a "
                           f"folder of yours: {source.option} PATH")
    if missing:
        raise FetchError("\n".join(missing))
    valid = check(root, expected)
    list_file, text = root / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt", "\n".join([*valid, ""])
    if not list_file.exists() or list_file.read_text() != text:
        write(list_file, text)
    if record.get("labels") is None:
        record["labels"] = lint(root / "pascal" / "VOC2011") + lint(root / "sbdd" / "dataset")
        record.update(train=expected.train, seg11valid=len(valid))
        write(record_file, json.dumps(record, indent=1) + "\n")
    return record


def write(path: Path, text: str) -> None:
    """Write a text file through a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, metavar="PATH", help="VOC2011 or VOC2012: a tar archive or a folder")
    parser.add_argument("--sbd", type=Path, metavar="PATH", help="SBD (benchmark.tgz): a tar archive or a folder")
    parser.add_argument("--year", choices=("2011", "2012"), default="2011", help="which VOC to fetch (2011)")
    parser.add_argument("--root", type=Path, default=Path(data_root()), metavar="DIR",
                        help="where pascal/ and sbdd/ go: $FCN_DATA, or data/ of this repository")
    args = parser.parse_args(argv)
    root = args.root.resolve()
    try:
        record = prepare(root, args.voc, args.sbd, args.year)
    except (FetchError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{root / 'sbdd/dataset'}: {record['train']} training images (source: {record['sbd']['from']})\n"
          f"{root / 'pascal/VOC2011'}: {record['seg11valid']} validation images, seg11valid, set hash verified "
          f"(source: {record['voc']['from']})\n"
          f"{record['labels']} labels checked, all within 0..20 and 255")
    if str(root) != data_root():
        print(f"set FCN_DATA={root} for the experiments to find it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
