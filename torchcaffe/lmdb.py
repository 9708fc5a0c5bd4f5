"""Reading LMDB databases, the files behind Data layers, without a library (util/db_lmdb.cpp; format: LMDB's mdb.c, 0.9).

`data.mdb` is an array of pages. Pages 0 and 1 are metas, of which the one with the higher transaction counts; it names the
root of a B+ tree. Branch pages list child pages, leaf pages keys with their values, and a value that does not fit a page
lies in overflow pages of its own. Nothing is locked: don't write to a database while it is read.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

from torchcaffe.errors import CaffeError

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER = 16  # bytes of a page before its node offsets
BRANCH, LEAF, BIG = 0x01, 0x02, 0x01  # page flags; node flag of a value in overflow pages
NO_PAGE = 2**64 - 1
MAX_DEPTH = 32  # LMDB's cursor stack


class Lmdb:
    """A database: iterate over it for (key, value) in the order of keys, len() for the number of entries."""

    def __init__(self, source: str):
        """Open folder `source` (or a data.mdb itself). CaffeError if there is no such database or it is damaged."""
        self.path = os.path.join(source, "data.mdb") if os.path.isdir(source) else source
        try:
            with open(self.path, "rb") as f:
                self._bytes = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as e:
            raise CaffeError("%s: cannot open this LMDB: %s; wanted a folder with a data.mdb, as convert_imageset writes"
                             % (source, getattr(e, "strerror", None) or e)) from e
        metas = [m for m in (self._meta(0), self._meta(self._page_size())) if m]
        if not metas:
            raise CaffeError("%s: not an LMDB file: no valid meta page" % self.path)
        _, self._size, self._entries, self._root = max(metas)
        if self._entries * 10 > len(self._bytes):  # an entry takes 10 bytes at least: its offset and its node's header
            raise CaffeError("%s: damaged LMDB: %d entries cannot lie in %d bytes" % (
                self.path, self._entries, len(self._bytes)))

    def _page_size(self) -> int:
        """The first meta page tells the page size; the second one lies that far behind it."""
        meta = self._meta(0)
        return meta[1] if meta else 4096

    def _meta(self, start: int) -> tuple[int, int, int, int] | None:
        """(transaction, page size, entries, root page) of a meta page, None if it is none."""
        magic, version, _, _, size = self._unpack("<IIQQI", start + HEADER)
        if magic != MAGIC or version != VERSION or not 256 <= size <= 65536:
            return None
        # The second of two database records, 48 bytes each, is the main one; its last two fields are entries and root.
        entries, root, _, transaction = self._unpack("<QQQQ", start + HEADER + 24 + 48 + 32)
        return transaction, size, entries, root

    def _unpack(self, layout: str, start: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(layout, self._bytes, start)
        except (struct.error, OverflowError) as e:
            raise CaffeError("%s: damaged LMDB: the file ends at byte %d, something at byte %d is wanted" % (
                self.path, len(self._bytes), start)) from e

    def __len__(self) -> int:
        return self._entries

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(()) if self._root == NO_PAGE else self._walk(self._root, 0)

    def _walk(self, page: int, depth: int) -> Iterator[tuple[bytes, bytes]]:
        """The entries under a page."""
        start = page * self._size
        _, _, flags, lower, _ = self._unpack("<QHHHH", start)
        if depth > MAX_DEPTH or not flags & (BRANCH | LEAF) or not HEADER <= lower <= self._size:
            raise CaffeError("%s: damaged LMDB: page %d is neither branch nor leaf" % (self.path, page))
        for offset in self._unpack("<%dH" % ((lower - HEADER) // 2), start + HEADER):
            low, high, kind, key_size = self._unpack("<HHHH", start + offset)
            if flags & BRANCH:
                yield from self._walk(low | high << 16 | kind << 32, depth + 1)
                continue
            key, size, begin = start + offset + 8, low | high << 16, start + offset + 8 + key_size
            if kind & BIG:
                begin = self._unpack("<Q", begin)[0] * self._size + HEADER
            value = self._bytes[begin : begin + size]
            if len(value) != size:
                raise CaffeError("%s: damaged LMDB: a value of %d bytes lies beyond the end of the file" % (self.path, size))
            yield self._bytes[key : key + key_size], value
