"""Prepare PASCAL VOC 2011 (or 2012) and SBD for the voc-* experiments.

    python data/pascal/prepare.py [--voc ARCHIVE_OR_FOLDER] [--sbd ARCHIVE_OR_FOLDER] [--year 2011|2012] [--root DIR]

Takes what is there, fetches what is not, unpacks, derives seg11valid from the data sets' own lists, checks every label.
Run it again at any time: it goes on where it was stopped, and does nothing when all is done. README.md tells more.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sources import (  # noqa: E402
    FetchError,
    Part,
    Source,
    file_of,
    find,
    gather,
    link,
    lint,
    need_files,
    read_list,
    run,
    set_hash,
    unpack,
    write,
    write_list,
)

VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
SBD = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours"


VOC_FILES = r"(?:.*/)?(VOC201[12]/(?:ImageSets/.+\.txt|JPEGImages/[^/]+\.jpg|SegmentationClass/[^/]+\.png))"
SBD_FILES = r"(?:.*/)?(dataset/(?:(?:train|val)\.txt|img/[^/]+\.jpg|cls/[^/]+\.mat))"
SOURCES = {
    "2011": Source("VOC2011", "--voc", f"{VOC}/voc2011/VOCtrainval_25-May-2011.tar",
                   "6c3384ef61512963050cb5d687e5bf1e", VOC_FILES),
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


def provide_voc(root: Path, given: Path | None, source: Source) -> dict:
    """Make root/pascal/VOC2011, which is not there. Returns its record."""
    target = root / "pascal" / "VOC2011"
    record = {"from": str(given)}
    folder = root / "pascal" / source.name
    if given and given.is_dir():
        folder = find(given, ("ImageSets/Segmentation/val.txt", "JPEGImages", "SegmentationClass"), source.name)
    elif not folder.exists():
        archive, record = file_of(given, source, root)
        folder = unpack(archive, source, root / "pascal")[0]
    if folder != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        link(folder, target, "ImageSets/Segmentation", ("JPEGImages", "SegmentationClass"))
    return record


def provide_sbd(root: Path, given: Path | None, source: Source) -> dict:
    """Make root/sbdd/dataset, which is not there. Returns its record."""
    target = root / "sbdd" / "dataset"
    if given and given.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        link(find(given, ("train.txt", "img", "cls"), source.name), target, ".", ("img", "cls"))
        return {"from": str(given)}
    archive, record = file_of(given, source, root)
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
    need_files(needed, (voc, sbd))
    return valid


def prepare(root: Path, voc: Path | None = None, sbd: Path | None = None, year: str = "2011",
            sources: dict[str, Source] = SOURCES, expected: Expected | None = None) -> dict:
    """Make root/pascal/VOC2011 and root/sbdd/dataset; returns the record, which root/pascal/prepared.json keeps.

    voc, sbd: an archive or a folder to take instead of fetching. FetchError or IOError says what is missing or wrong;
    what is done stays done.
    """
    expected = expected or Expected()
    record_file = root / "pascal" / "prepared.json"
    record = gather(root, record_file, [
        Part("voc", sources[year], voc, (root / "pascal" / "VOC2011",), functools.partial(provide_voc, root)),
        Part("sbd", sources["sbd"], sbd, (root / "sbdd" / "dataset",), functools.partial(provide_sbd, root))])
    valid = check(root, expected)
    write_list(root / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt", valid)
    if record.get("labels") is None:
        (voc_labels, voc_pixels), (sbd_labels, sbd_pixels) = (
            lint(folder, 21) for folder in (root / "pascal" / "VOC2011", root / "sbdd" / "dataset"))
        record.update(labels=voc_labels + sbd_labels, train=expected.train, seg11valid=len(valid),
                      pixels={"voc": voc_pixels, "sbd": sbd_pixels})
        write(record_file, json.dumps(record, indent=1) + "\n")
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, metavar="PATH", help="VOC2011 or VOC2012: a tar archive or a folder")
    parser.add_argument("--sbd", type=Path, metavar="PATH", help="SBD (benchmark.tgz): a tar archive or a folder")
    parser.add_argument("--year", choices=("2011", "2012"), default="2011", help="which VOC to fetch (2011)")

    def work(args: argparse.Namespace, root: Path) -> str:
        record = prepare(root, args.voc, args.sbd, args.year)
        return (f"{root / 'sbdd/dataset'}: {record['train']} training images (source: {record['sbd']['from']})\n"
                f"{root / 'pascal/VOC2011'}: {record['seg11valid']} validation images, seg11valid, set hash verified "
                f"(source: {record['voc']['from']})\n"
                f"{record['labels']} labels checked, all within 0..20 and 255")
    return run(parser, argv, "pascal/ and sbdd/", work)


if __name__ == "__main__":
    sys.exit(main())
