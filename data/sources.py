"""From an archive or a folder to a data set in its place, recorded and checked: what all data/<name>/prepare.py do."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
import lint_labels  # noqa: E402
from fetch import FetchError, Progress, download, extract, hashes, subtree  # noqa: E402
from segfiles import data_root, read_list  # noqa: E402


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. md5: the published one, None where none is known. wanted: see fetch.subtree.

    file: its name under download/, the last part of the address if that is one.
    """

    name: str
    option: str
    url: str
    md5: str | None
    wanted: str = ""
    file: str = ""

    @property
    def archive(self) -> str:
        return self.file or self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Part:
    """A part of a data set. provide(given, source) makes `targets`, which are not there, and returns its record.

    key: its name in the record. given: an archive or a folder to take, None to fetch the source.
    """

    key: str
    source: Source
    given: Path | None
    targets: tuple[Path, ...]
    provide: Callable[[Path | None, Source], dict]


def gather(root: Path, record_file: Path, parts: list[Part]) -> dict:
    """Make the parts that are not there; returns the record, kept in `record_file`. FetchError says all that lacks.

    Whatever is made anew takes the record of the check, `labels`, away.
    """
    record = json.loads(record_file.read_text()) if record_file.exists() else {}
    missing = []
    for part in parts:
        if all(target.exists() for target in part.targets):
            record.setdefault(part.key, {"from": "found in place"})
            continue
        try:
            if part.given and not part.given.exists():
                raise FetchError(f"{part.given}: no such archive or folder")
            record = {**record, part.key: part.provide(part.given, part.source), "labels": None}
            write(record_file, json.dumps(record, indent=1) + "\n")
        except FetchError as error:
            missing.append(f"{part.source.name} is not at {part.targets[0]}: {error}\n"
                           f"  It comes from {part.source.url}\n"
                           f"  Put that file at {root / 'download' / part.source.archive}, or name one, or a folder, "
                           f"of yours: {part.source.option} PATH")
    if missing:
        raise FetchError("\n".join(missing))
    return record


def fetch(source: Source, root: Path) -> tuple[Path, dict]:
    """The file of a source under root/download, fetched if it is not there, and its record.

    Its hashes must be the published ones, or where none are, those it had when it was first seen.
    """
    path, known_file = root / "download" / source.archive, root / "download" / "hashes.json"
    known = json.loads(known_file.read_text()) if known_file.exists() else {}
    if path.exists():
        found, before = hashes(path), known.get(source.archive)
        if source.md5 and found["md5"] != source.md5:
            raise FetchError(f"{path}: md5 {found['md5']}, wanted {source.md5}, the published one; remove it to fetch "
                             f"it anew, or name it with {source.option} if it is meant to differ")
        if before and found != before:
            raise FetchError(f"{path}: sha256 {found['sha256']}, wanted {before['sha256']}, which it had when it came: it "
                             f"is damaged, or another; remove it to fetch it anew, or name it with {source.option}")
    else:
        found = download(source.url, path, source.md5)
    if known.get(source.archive) != found:
        write(known_file, json.dumps({**known, source.archive: found}, indent=1) + "\n")
    print(f"{path}: md5 {found['md5']} " + ("is the published one" if source.md5 else
                                            "(none is published to compare with; it is recorded)"))
    return path, {"from": source.url, **found}


def file_of(given: Path | None, source: Source, root: Path) -> tuple[Path, dict]:
    """The file to take, given or fetched, and its record."""
    return (given, {"from": str(given), **hashes(given)}) if given else fetch(source, root)


def unpack(archive: Path, source: Source, folder: Path) -> list[Path]:
    """Unpack what is wanted of an archive into `folder`; returns what is in it then, each of which appears when whole."""
    return settle(extracted(archive, source, folder / f".{archive.name}.partial"), folder)


def extracted(archive: Path, source: Source, folder: Path) -> Path:
    """The folder, with what is wanted of an archive in it. FetchError if that is nothing."""
    count = extract(archive, subtree(source.wanted), folder)
    if not count:
        raise FetchError(f"{archive}: holds no {source.name}: none of its files matches {source.wanted}")
    print(f"{archive}: {count} files unpacked")
    return folder


def place(root: Path, target: Path, given: Path | None, source: Source) -> dict:
    """Make `target`: a link to the folder given, or what is wanted of an archive, given or fetched. Returns its record."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if given and given.is_dir():
        target.symlink_to(given.resolve())
        return {"from": str(given)}
    archive, record = file_of(given, source, root)
    partial = target.with_name(f".{target.name}.partial")
    os.replace(extracted(archive, source, partial), target)
    return record


def clear(partial: Path) -> Path:
    """Remove the temporary files that a killed run left; returns the folder."""
    for path in partial.rglob(".*"):
        path.unlink()
    return partial


def settle(partial: Path, folder: Path) -> list[Path]:
    """Move all that is in `partial`, which is whole, into `folder`, and remove it; returns where things are then."""
    clear(partial)
    entries = sorted(partial.iterdir())
    for entry in entries:
        target = folder / entry.name
        if target.is_dir() and not target.is_symlink():  # whole, as it has its name; a run was stopped after making it
            shutil.rmtree(entry)
        else:
            os.replace(entry, target)
    partial.rmdir()
    return [folder / entry.name for entry in entries]


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
    inside = source.parent == target.parent  # relative: the data root may be mounted elsewhere
    link_entries(Path("..") / source.name if inside else source.resolve(), partial, folders)
    os.replace(partial, target)


def link_entries(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Links in `folder`, which is made, to entries of `source`; a link that is there already is left."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(source / name)


def set_hash(ids: Iterable[str]) -> str:
    """sha256 of the ids, sorted, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(set(ids))).encode()).hexdigest()


@dataclass(frozen=True)
class Split:
    """A split as the released lists have it: how many ids, the hash of their set, and of their order where it is known.

    order: sha256 of the released file, which may lack the last newline.
    """

    name: str
    count: int
    set: str
    order: str | None = None

    def fits(self, ids: Iterable[str]) -> bool:
        """Whether these are the ids, in whatever order."""
        ids = list(ids)
        return len(ids) == self.count and set_hash(ids) == self.set

    def check(self, ids: list[str], whence: str) -> None:
        """FetchError if these are not the ids."""
        if not self.fits(ids):
            raise FetchError(f"{whence}: the split {self.name} has {len(ids)} ids, set hash {set_hash(ids)}; wanted "
                             f"{self.count}, {self.set}: this is not the published list; prepare from the published files")

    def order_of(self, ids: list[str]) -> str:
        """Whether the order is the released list's too, in words."""
        text = "\n".join(ids)
        released = self.order in [hashlib.sha256(t.encode()).hexdigest() for t in (text, f"{text}\n")]
        return "as released" if released else "not as released"


def find_list(paths: Iterable[Path], split: Split) -> list[str] | None:
    """The ids of the first text file that is the list of a split, whatever its name; None if there is none.

    A line may be a path of either kind of slashes and with an ending, of which the id is the name.
    """
    for path in sorted(paths):
        try:
            ids = [line.replace("\\", "/").rpartition("/")[2].partition(".")[0] for line in read_list(str(path))]
        except ValueError:  # not a text, or empty
            continue
        if split.fits(ids):
            return ids
    return None


def given_lists(given: Path | None, folder: Path, splits: Iterable[Split]) -> dict[Split, list[str]] | None:
    """The lists of `splits` in the folder given, or those that are in `folder` already if they are right; None if neither.

    FetchError if the given ones are not right.
    """
    ids = {split: read_list(str(place / f"{split.name}.txt")) for place in [given or folder] for split in splits
           if given or (place / f"{split.name}.txt").exists()}
    if given:
        for split in ids:
            split.check(ids[split], str(given))
    return ids if list(ids) == list(splits) and all(split.fits(ids[split]) for split in ids) else None


def write_list(path: Path, ids: Iterable[str]) -> None:
    """Write a list, one id a line, unless it is there."""
    text = "".join(f"{name}\n" for name in ids)
    if not path.exists() or path.read_text() != text:
        write(path, text)


def need_files(paths: Iterable[Path], targets: Iterable[Path]) -> None:
    """FetchError if some of these files are not there. targets: the folders of parts, to remove so that they come anew."""
    paths = list(paths)
    lacking = [path for path in paths if not path.is_file()]
    if lacking:
        places = [str(target) for target in targets if any(path.is_relative_to(target) for path in lacking)]
        raise FetchError(f"{len(lacking)} of {len(paths)} files are missing, the first {lacking[0]}; remove "
                         f"{' and '.join(places)}, and the archive it came from if that is cut short, and run again")


def lint(folder: Path, classes: int, **options) -> tuple[int, list[int]]:
    """Check the labels of a data set with lint_labels, whose options these are. FetchError if one has a problem.

    Returns how many labels there are, and how many pixels of each class and, last, of 255.
    """
    bars: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress(f"checking {folder}", total, unit=1, name="labels"))
        bars[0].show(done)
    histogram, count, problems = lint_labels.lint(str(folder), classes, show, **options)
    if problems:
        raise FetchError("\n".join([f"{folder}: {len(problems)} problems in {count} labels", *problems[:20]]))
    return count, [*map(int, histogram[:classes]), int(histogram[255])]


def write(path: Path, content: str | bytes) -> None:
    """Write a file through a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def run(parser: argparse.ArgumentParser, argv: list[str] | None, folders: str,
        work: Callable[[argparse.Namespace, Path], str]) -> int:
    """The command line of a prepare.py: adds --root, prints what `work(args, root)` says of the result, or the error.

    folders: where in the data root things go, for the help. Returns the exit status.
    """
    parser.add_argument("--root", type=Path, default=Path(data_root()), metavar="DIR",
                        help=f"where {folders} go: $FCN_DATA, or data/ of this repository")
    args = parser.parse_args(argv)
    root = args.root.resolve()
    try:
        print(work(args, root))
    except (FetchError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if str(root) != data_root():
        print(f"set FCN_DATA={root} for the experiments to find it")
    return 0
