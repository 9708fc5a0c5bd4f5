"""Getting archives: download with resume and hash, safe extraction. What every data/<name>/prepare.py shares."""

from __future__ import annotations

import functools
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

CHUNK = 1 << 20
TRIES = 5  # a connection that breaks this many times without one new byte is given up


class FetchError(Exception):
    """Something that cannot be fetched or extracted; the text names it, what was found, what was wanted, what to do."""


class Progress:
    """Prints how far a long task is: one line rewritten twice a second on a terminal, else a line at each tenth.

    total: None if it is not known; a log then has a line every 1000 units (`name`) of `unit`.
    """

    def __init__(self, what: str, total: int | None, first: int = 0, unit: float = 1e6, name: str = "MB"):
        self.what, self.total, self.first, self.unit, self.name = what, total, first, unit, name
        self.begin, self.shown = time.monotonic(), 0
        self.terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Say that `done` of the total is done."""
        seconds = max(time.monotonic() - self.begin, 1e-9)
        step = int(2 * seconds) if self.terminal else 10 * done // (self.total or 10000 * self.unit)
        if step == self.shown and done != self.total:
            return
        self.shown = step
        rate = (done - self.first) / seconds
        text = f"{self.what}: {done / self.unit:.0f}"
        if self.total:
            text += f" of {self.total / self.unit:.0f} {self.name}, {100 * done / self.total:.0f} %"
            text += f", {(self.total - done) / rate:.0f} s left" if rate else ""
        text += f" ({rate / self.unit:.1f} {self.name}/s)"
        end = "\r" if self.terminal and done != self.total else "\n"
        print(f"{text:<78}" if self.terminal else text, end=end, file=sys.stderr, flush=True)


def hashes(path: Path) -> dict[str, str]:
    """The md5 and sha256 of a file, read once."""
    found = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    with open(path, "rb") as f:
        while block := f.read(CHUNK):
            for h in found.values():
                h.update(block)
    return {name: h.hexdigest() for name, h in found.items()}


def need_space(folder: Path, size: int, what: str) -> None:
    """FetchError if the disk of an existing folder has less than `size` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise FetchError(f"{what} needs {size / 1e6:.0f} MB in {folder}, {free / 1e6:.0f} MB are free; make room, or "
                         "choose another place with --root")


def download(url: str, path: Path, md5: str | None = None, pause: float = 2.0) -> dict[str, str]:
    """Fetch `url` to `path` and return its hashes. Bytes already in `path`.part are kept and asked for no more.

    md5: the published hash, where one is known; another one is an error, and the file is removed, so that the next
    run starts afresh. pause: seconds before a broken connection is tried again, doubled each time.
    Raises FetchError; what has arrived stays in `path`.part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = _size(part)
        try:
            if _receive(url, part):
                break
            cause = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise FetchError(f"{url}: the server answers {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            cause = str(getattr(error, "reason", error))
        have = _size(part)
        failures = failures + 1 if have == before else 0
        if failures == TRIES or not have:  # not one byte: there is no such server, or no network
            kept = f" ({have / 1e6:.1f} MB have arrived; the next run goes on from there)" if have else ""
            raise FetchError(f"{url}: {cause}{kept}")
        time.sleep(pause * 2 ** failures)
    found = hashes(part)
    if md5 and found["md5"] != md5:
        part.unlink()
        raise FetchError(f"{url}: md5 {found['md5']}, wanted {md5}: not the published file, or damaged on its way. It "
                         "was removed; run again, or fetch it from elsewhere")
    os.replace(part, path)
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path) -> bool:
    """Add to `part` what is missing of `url`; True if it is whole."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing lies beyond what is here
            raise
        size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if size != str(have):
            part.unlink()  # longer than the whole, so no part of it: from the start
            return _receive(url, part)
        return True
    with response:
        if response.headers.get_content_type() == "text/html":
            raise FetchError(f"{url}: the server sends a web page, wanted an archive; is there a login or a proxy "
                             "between?")
        if have and not (response.status == 206
                         and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            have = 0  # the server sends the whole again
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None:
            need_space(part.parent, total - have, url)
        progress = Progress(part.name.removesuffix(".part"), total, have)
        with open(part, "r+b" if have else "wb", buffering=0) as f:
            f.seek(have)
            while block := response.read(CHUNK):
                try:
                    f.write(block)
                except OSError as error:
                    raise FetchError(f"{part}: {error}") from error  # the disk, not the network: no second try
                have += len(block)
                progress.show(have)
    return total is None or have == total


def extract(archive: Path, wanted: Callable[[str], str | None], folder: Path, most: int = 16 << 30) -> int:
    """Write the wanted regular files of a tar (compressed or not) or zip archive into `folder`; returns how many it has.

    wanted: name in the archive -> name in the folder, or None for a member that is not needed. Files that are there
    with the right size are kept, so a run that was killed goes on. most: bytes in all, against archives that swell.
    FetchError for a damaged archive, a name that leads out of the folder, and a wanted member that is no regular file.
    """
    kind = "tar"
    try:
        with open(archive, "rb") as f:
            kind = "zip" if f.read(4) == b"PK\3\4" else kind  # its end is a zip's in some tars too
        if kind == "zip":
            with zipfile.ZipFile(archive) as opened:
                return _extract(_zip_members(opened), archive, wanted, folder, most)
        with tarfile.open(archive) as opened:
            return _extract(_tar_members(opened), archive, wanted, folder, most)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile,
            RuntimeError) as error:  # RuntimeError: encrypted, or packed in a way that zipfile does not know
        raise FetchError(f"{archive}: not a whole {kind} archive ({archive.stat().st_size} bytes): {error}; remove it "
                         "and fetch it anew") from error
    except OSError as error:
        raise FetchError(f"{archive} -> {folder}: {error}") from error


class _Member(NamedTuple):
    """A member of an archive that is no folder. open: its content, for a regular file."""

    name: str
    regular: bool
    size: int
    open: Callable[[], BinaryIO]


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for member in tar:
        if not member.isdir():
            yield _Member(member.name, member.isreg(), member.size, functools.partial(tar.extractfile, member))
    # tarfile takes the end of the file for the end of the archive; a whole one ends in a block of zeros
    if tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("unexpected end")


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was made on a system without such modes
        if not info.is_dir():
            yield _Member(info.filename.replace("\\", "/"), kind in (0, stat.S_IFREG), info.file_size,
                          functools.partial(archive.open, info))


def _extract(members: Iterator[_Member], archive: Path, wanted: Callable[[str], str | None], folder: Path,
             most: int) -> int:
    count = size = 0
    progress = Progress(f"unpacking {archive.name}", None, unit=1, name="files")
    for member in members:
        if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
            raise FetchError(f"{archive}: its member {member.name!r} leads out of the folder it is unpacked in; this "
                             "is not the published archive: fetch it again")
        name = wanted(member.name)
        if name is None:
            continue
        if not member.regular:
            raise FetchError(f"{archive}: its member {member.name!r} is a link or a device, wanted a regular file; "
                             "this is not the published archive: fetch it again")
        count, size = count + 1, size + member.size
        if size > most:
            raise FetchError(f"{archive}: unpacks to more than {most / 1e9:.1f} GB; this is not the published archive")
        _write(member, folder / name)
        progress.show(count)
    progress.total = count
    progress.show(count)
    return count


def _write(member: _Member, path: Path) -> None:
    """Write a member to `path` through a temporary name, unless it is there with its size already."""
    if path.is_file() and path.stat().st_size == member.size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with member.open() as content, open(temporary, "wb") as f:
            shutil.copyfileobj(content, f, CHUNK)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def subtree(pattern: str) -> Callable[[str], str | None]:
    """A `wanted` for extract: members whose name matches `pattern` to the end, under the name of its first group."""
    compiled = re.compile(pattern)

    def wanted(name: str) -> str | None:
        match = compiled.fullmatch(name)
        return match.group(1) if match else None
    return wanted
