"""Prepare SIFT Flow (LabelMe outdoor scenes) for the siftflow-* experiments.

    python data/sift-flow/prepare.py [--siftflow ARCHIVE_OR_FOLDER] [--lists FOLDER] [--root DIR]

Takes what is there, fetches what is not, unpacks, derives the splits from the data set's own list of test images, checks
every label of both kinds. Run it again at any time: it goes on where it was stopped, and does nothing when all is done.
README.md tells more.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tools")]
from lint_labels import SCENES, SIFTFLOW, SIFTFLOW_GEO, ids_in, path_of  # noqa: E402
from sources import (  # noqa: E402
    FetchError,
    Part,
    Source,
    Split,
    find,
    find_list,
    gather,
    given_lists,
    link_entries,
    lint,
    need_files,
    place,
    run,
    write,
    write_list,
)

FOLDERS = ("Images", "SemanticLabels", "GeoLabels")
SOURCE = Source("SIFT Flow", "--siftflow", "http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip", None,
                rf"(?:[^/]+/){{0,2}}((?:{'|'.join(FOLDERS)})/{SCENES.partition('/')[0]}/[^/]+\.(?:jpg|mat)|[^/]+\.txt)")
RELEASED = "the folder data/sift-flow of github.com/shelhamer/fcn.berkeleyvision.org"


@dataclass(frozen=True)
class Expected:
    """What must come out: the released lists. absent: ids that are in neither."""

    trainval: Split = Split("trainval", 2486, "587d2b5f510e869c83c048f491db37aa63118f116594ce5b45addfc93b66524b",
                            "4321de2b164556875661a66c64e6b5ebe1493a6e3dfa51d93700e3d17dbedfe7")
    test: Split = Split("test", 200, "05cef92d019f81ce4b80a227bd68421248bf507b305e4ccb16432bf7bbab362e",
                        "d9d024d06b1ed2139b0e1bdbc78ede9897c3389cd588cd5c37268a931c1d36ae")
    absent: tuple[str, ...] = ("highway_bost181", "street_urb506")


def derive_splits(published: Path, expected: Expected) -> dict[Split, list[str]]:
    """trainval and test: the list of test images that comes with the data set, and all others. FetchError if it lacks."""
    texts = sorted(published.glob("*.txt"))
    test = find_list(texts, expected.test)
    if test is None:
        raise FetchError(f"{published}: none of its text files ({', '.join(path.name for path in texts) or 'it has none'}) "
                         f"lists the {expected.test.count} test images; name a folder with trainval.txt and test.txt, such "
                         f"as {RELEASED}: --lists FOLDER")
    trainval = find_list(texts, expected.trainval) or [
        name for name in ids_in(str(published), SIFTFLOW.labels) if name not in {*test, *expected.absent}]
    expected.trainval.check(trainval, str(published))
    return {expected.trainval: trainval, expected.test: test}


def prepare(root: Path, siftflow: Path | None = None, lists: Path | None = None, source: Source = SOURCE,
            expected: Expected | None = None) -> dict:
    """Make root/sift-flow; returns the record, which root/sift-flow/prepared.json keeps.

    siftflow: an archive or a folder to take instead of fetching. lists: see derive_splits. FetchError, IOError or
    ValueError says what is missing or wrong; what is done stays done.
    """
    expected = expected or Expected()
    folder = root / "sift-flow"
    record_file, published = folder / "prepared.json", folder / "SiftFlowDataset"
    record = gather(root, record_file, [
        Part("siftflow", source, siftflow, (published,), functools.partial(place, root, published))])
    inside = find(published, FOLDERS, source.name)
    link_entries(inside.relative_to(folder), folder, FOLDERS)
    splits = given_lists(lists, folder, (expected.trainval, expected.test)) or derive_splits(inside, expected)
    need_files([Path(path_of(str(inside), template, name)) for ids in splits.values() for name in ids
                for template in (SIFTFLOW.images, SIFTFLOW.labels, SIFTFLOW_GEO.labels)], [published])
    for split, ids in splits.items():
        write_list(folder / f"{split.name}.txt", ids)
    if record.get("labels") is None:
        ids = [name for ids in splits.values() for name in ids]
        count, sem = lint(folder, 33, ids=ids)
        geo = lint(folder, 3, layout=SIFTFLOW_GEO, ids=ids)[1]
        record.update(labels=2 * count, pixels={"sem": sem, "geo": geo})
    for split, ids in splits.items():
        record[split.name] = {"images": len(ids), "order": split.order_of(ids)}
    write(record_file, json.dumps(record, indent=1) + "\n")
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--siftflow", type=Path, metavar="PATH", help="SiftFlowDataset: a zip archive or a folder")
    parser.add_argument("--lists", type=Path, metavar="FOLDER",
                        help=f"take trainval.txt and test.txt, and their order, from here: {RELEASED}")

    def work(args: argparse.Namespace, root: Path) -> str:
        record = prepare(root, args.siftflow, args.lists)
        trainval, test = record["trainval"], record["test"]
        return (f"{root / 'sift-flow'}: {trainval['images']} training images (order {trainval['order']}), {test['images']} "
                f"test images (order {test['order']}), set hashes verified (source: {record['siftflow']['from']})\n"
                f"{record['labels']} labels checked, all within 0..32, or 0..2, and 255")
    return run(parser, argv, "sift-flow/", work)


if __name__ == "__main__":
    sys.exit(main())
