"""Prepare PASCAL-Context and VOC2010's photographs for the pascalcontext-* experiments.

    python data/pascal-context/prepare.py [--context ARCHIVE_OR_FOLDER] [--voc ARCHIVE_OR_FOLDER] [--root DIR]

Takes what is there, fetches what is not, unpacks, verifies the lists, checks every label. Run it again at any time: it
goes on where it was stopped, and does nothing when all is done. README.md tells more.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tools")]
from context_classes import RAW  # noqa: E402
from lint_labels import CONTEXT, ids_in, path_of  # noqa: E402
from sources import (  # noqa: E402
    FetchError,
    Part,
    Source,
    Split,
    file_of,
    find,
    gather,
    link,
    link_entries,
    lint,
    need_files,
    read_list,
    run,
    unpack,
    write,
    write_list,
)

LISTS = Path("ImageSets/Main")
SOURCES = {
    "voc": Source("VOC2010", "--voc", "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
                  "da459979d0c395079b5c75ee67908abb",
                  r"(?:.*/)?(VOC20\d\d/(?:ImageSets/Main/(?:train|val|trainval)\.txt|JPEGImages/[^/]+\.jpg))"),
    "context": Source("PASCAL-Context", "--context", "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz", None,
                      r"(?:.*/)?(trainval/[^/]+\.mat)"),
}
# what the 59 are called in the data set's list of all 459, where that differs
ALIASES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


@dataclass(frozen=True)
class Expected:
    """What must come out: VOC2010's own lists, which the released nets were trained and scored on."""

    train: Split = Split("train", 4998, "b5a02b12bee56b778f11e946fee00d5cca77c2f87bc286133bfdda3fbbff8890")
    val: Split = Split("val", 5105, "f75bb12b33519c7fc435dd52153a9a6e08d3aab457c61a9ebe03291381eaf427")


def provide_voc(root: Path, given: Path | None, source: Source) -> dict:
    """Make root/pascal/VOC2010, which is not there. Returns its record."""
    target, record = root / "pascal" / "VOC2010", {"from": str(given)}
    target.parent.mkdir(parents=True, exist_ok=True)
    if given and given.is_dir():
        folder = find(given, (str(LISTS / "val.txt"), "JPEGImages"), source.name)
    else:
        archive, record = file_of(given, source, root)
        folder = unpack(archive, source, root / "pascal")[0]
    if folder != target:
        link(folder, target, str(LISTS), ("JPEGImages",))
    return record


def provide_context(root: Path, given: Path | None, source: Source) -> dict:
    """Make root/pascal-context/trainval, which is not there. Returns its record."""
    folder = root / "pascal-context"
    folder.mkdir(parents=True, exist_ok=True)
    if given and given.is_dir():
        inside = find(given, ("trainval",), source.name)
        check_names(inside)
        link_entries(inside.resolve(), folder, ("trainval",))
        return {"from": str(given)}
    archive, record = file_of(given, source, root)
    unpack(archive, source, folder)
    return record


def check_names(folder: Path) -> None:
    """FetchError if the data set's own lists of classes, where they are there, say other than tools/context_classes.py."""
    paths = [folder / name for name in ("labels.txt", "59_labels.txt")]
    if not all(path.exists() for path in paths):
        return
    raw, names = ([line.replace(" ", "").split(":") for line in read_list(str(path))] for path in paths)
    numbers = {line[-1]: line[0] for line in raw}
    found = [(line[-1], numbers.get(ALIASES.get(line[-1], line[-1]))) for line in names]
    if found != [(name, str(number)) for name, number in RAW]:
        strange = [pair for pair in found if pair not in [(name, str(number)) for name, number in RAW]]
        raise FetchError(f"{paths[1]}: {len(found)} classes, {strange[:5]} among them; wanted the 59 of "
                         f"tools/context_classes.py with their numbers in {paths[0].name}: not the published lists")


def check(root: Path, expected: Expected) -> dict[Split, list[str]]:
    """The ids of train and val; every file they need is there. FetchError, IOError if not.

    Of a later VOC, whose lists are longer, the ids that have labels.
    """
    voc, context = root / "pascal" / "VOC2010", root / "pascal-context"
    labelled, splits = set(ids_in(str(context), CONTEXT.labels)), {}
    for split in (expected.train, expected.val):
        path = voc / LISTS / f"{split.name}.txt"
        ids = read_list(str(path), f"remove {voc} and run again")
        splits[split] = [name for name in ids if name in labelled] if len(ids) > split.count else ids
        split.check(splits[split], str(path))
        write_list(path, splits[split])
    need_files([Path(path_of(str(context), template, name)) for ids in splits.values() for name in ids
                for template in (CONTEXT.labels, CONTEXT.images)], (voc, context / "trainval"))
    return splits


def prepare(root: Path, voc: Path | None = None, context: Path | None = None, sources: dict[str, Source] = SOURCES,
            expected: Expected | None = None) -> dict:
    """Make root/pascal/VOC2010 and root/pascal-context; returns the record, which root/pascal-context/prepared.json keeps.

    voc, context: an archive or a folder to take instead of fetching. FetchError, IOError or ValueError says what is missing
    or wrong; what is done stays done.
    """
    expected = expected or Expected()
    folder = root / "pascal-context"
    record_file = folder / "prepared.json"
    record = gather(root, record_file, [
        Part("voc", sources["voc"], voc, (root / "pascal" / "VOC2010",), functools.partial(provide_voc, root)),
        Part("context", sources["context"], context, (folder / "trainval",), functools.partial(provide_context, root))])
    splits = check(root, expected)
    if record.get("labels") is None:
        record["labels"], record["pixels"] = lint(folder, 60, ids=[name for ids in splits.values() for name in ids])
        record.update((split.name, len(ids)) for split, ids in splits.items())
        write(record_file, json.dumps(record, indent=1) + "\n")
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, metavar="PATH", help="VOC2010, or a later VOC: a tar archive or a folder")
    parser.add_argument("--context", type=Path, metavar="PATH", help="trainval.tar.gz of PASCAL-Context, or a folder")

    def work(args: argparse.Namespace, root: Path) -> str:
        record = prepare(root, args.voc, args.context)
        return (f"{root / 'pascal/VOC2010'}: {record['train']} training, {record['val']} validation images, set hashes "
                f"verified (source: {record['voc']['from']})\n"
                f"{root / 'pascal-context/trainval'}: {record['labels']} labels checked, all within 0..459 "
                f"(source: {record['context']['from']})")
    return run(parser, argv, "pascal/ and pascal-context/", work)


if __name__ == "__main__":
    sys.exit(main())
