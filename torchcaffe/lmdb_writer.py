"""Writing LMDB databases without a library (util/db_lmdb.cpp; the format: see lmdb.py, which reads them).

Entries come in the order of their keys, as Caffe's tools number them, so the tree is built from its leaves up: a leaf page
is written when it is full, the branch pages over them at the end.

A value in overflow pages may be the value of several keys (`repeat`), which LMDB itself never writes: each reader, LMDB's
included, finds the pages by their number and cannot tell. Such a database is for reading; `mdb_copy -c` makes it an ordinary
one, with a copy a key.
"""

from __future__ import annotations

import os
import shutil
import struct

from torchcaffe import log
from torchcaffe.errors import CaffeError
from torchcaffe.lmdb import BIG, BRANCH, HEADER, LEAF, MAGIC, NO_PAGE, VERSION

PAGE = 4096
ROOM = PAGE - HEADER
OVERFLOW, META = 0x04, 0x08  # page flags
INTEGER_KEYS = 0x08  # flag of the database of free pages, which is empty here
MAX_KEY = 511
MAX_NODE = (ROOM // 2 & -2) - 2  # the value of a larger node goes to overflow pages: a page must hold two nodes

Child = tuple[bytes, int]  # the least key under a page, and the page's number
Value = tuple[int, int, bytes]  # of an entry: its size, the flags of its node, and what the node holds of it


class LmdbWriter:
    """A new database in folder `path`, which appears, complete, at the end of a `with` block that raised nothing.

        with LmdbWriter("db") as database:
            database.put(b"00000000", value)

    CaffeError if the folder is there already or cannot be written.
    """

    def __init__(self, path: str):
        self.path, self._temporary = path, path + ".tmp"
        if os.path.exists(path):
            raise CaffeError("mkdir %s failed: it exists; remove it or choose another name" % path)
        try:
            shutil.rmtree(self._temporary, ignore_errors=True)  # what a killed process left
            os.mkdir(self._temporary)
            self._file = open(os.path.join(self._temporary, "data.mdb"), "wb")
            self._file.write(bytes(2 * PAGE))  # the metas, written last
        except OSError as e:
            raise CaffeError("mkdir %s failed: %s" % (path, e.strerror or e)) from e
        log.info("Opened lmdb %s" % path)
        self._pages = 2
        self._counts = {BRANCH: 0, LEAF: 0, OVERFLOW: 0}
        self._entries, self._last = 0, b""
        self._first, self._nodes, self._room = b"", [], ROOM  # of the leaf page being filled
        self._leaves: list[Child] = []

    def __enter__(self) -> LmdbWriter:
        return self

    def put(self, key: bytes, value: bytes) -> Value:
        """Append an entry. CaffeError unless its key has 1 to 511 bytes and comes after the one before.

        What is returned is for `repeat`.
        """
        self._check(key)
        if 8 + len(key) + len(value) <= MAX_NODE:
            stored = len(value), 0, value
        else:
            stored = len(value), BIG, struct.pack("<Q", self._write_overflow(value))
        self._add(key, stored)
        return stored

    def repeat(self, key: bytes, value: Value) -> None:
        """Append an entry with the value of an earlier one, as `put` returned it; large values take no more room."""
        self._check(key)
        self._add(key, value)

    def _check(self, key: bytes) -> None:
        if not 0 < len(key) <= MAX_KEY:
            raise CaffeError("%s: LMDB keys have 1 to %d bytes, got %d: %r" % (self.path, MAX_KEY, len(key), key))
        if key <= self._last:
            raise CaffeError("%s: entries must come in the order of keys, got %r after %r" % (self.path, key, self._last))

    def _add(self, key: bytes, value: Value) -> None:
        size, flags, body = value
        node = _node(size & 0xFFFF, size >> 16, flags, key, body)
        if 2 + len(node) > self._room:
            self._write_leaf()
        if not self._nodes:
            self._first = key
        self._nodes.append(node)
        self._room -= 2 + len(node)
        self._last = key
        self._entries += 1

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            try:
                if kind is None:
                    self._finish()
            finally:
                self._file.close()
            if kind is None:
                os.rename(self._temporary, self.path)
        except OSError as e:
            raise self._unwritable(e) from e
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _unwritable(self, error: OSError) -> CaffeError:
        return CaffeError("%s: cannot be written: %s; free some disk space or choose another place"
                          % (self.path, error.strerror or error))

    def _append(self, content: bytes, pages: int, kind: int) -> int:
        """Write pages of a kind; returns the number of the first."""
        try:
            self._file.write(content)
        except OSError as e:
            raise self._unwritable(e) from e
        self._counts[kind] += pages
        self._pages += pages
        return self._pages - pages

    def _finish(self) -> None:
        """Write what is left of the tree, and the two metas, of which the second counts: it is of transaction 1."""
        depth, root = 0, NO_PAGE
        if self._entries:
            self._write_leaf()
            level, depth = self._leaves, 1
            while len(level) > 1:
                level, depth = self._write_branches(level), depth + 1
            root = level[0][1]
        counts = [self._counts[kind] for kind in (BRANCH, LEAF, OVERFLOW)]
        self._file.seek(0)
        for number, (last, main) in enumerate(((1, [0, 0, 0, 0, 0, NO_PAGE]),
                                               (self._pages - 1, [depth, *counts, self._entries, root]))):
            page = struct.pack("<QHHHH", number, 0, META, 0, 0) + struct.pack("<IIQQ", MAGIC, VERSION, 0, self._pages * PAGE)
            page += struct.pack("<IHHQQQQQ", PAGE, INTEGER_KEYS, 0, 0, 0, 0, 0, NO_PAGE)
            page += struct.pack("<IHHQQQQQ", 0, 0, *main) + struct.pack("<QQ", last, number)
            self._file.write(page.ljust(PAGE, b"\0"))

    def _write_leaf(self) -> None:
        self._leaves.append((self._first, self._write(LEAF, self._nodes)))
        self._nodes, self._room = [], ROOM

    def _write_branches(self, level: list[Child]) -> list[Child]:
        """The branch pages over a level of pages."""
        groups: list[list[Child]] = [[]]
        room = ROOM
        for child in level:
            size = 2 + len(_node(0, 0, 0, child[0]))
            if size > room:
                groups.append([])
                room = ROOM
            groups[-1].append(child)
            room -= size
        if len(groups[-1]) == 1:  # LMDB wants two children at least; the page before has seven or more
            groups[-1].insert(0, groups[-2].pop())
        above = []
        for group in groups:
            keys = [b"", *(key for key, _ in group[1:])]  # the first key is left out: nothing is smaller
            nodes = [_node(n & 0xFFFF, n >> 16 & 0xFFFF, n >> 32, key) for key, (_, n) in zip(keys, group)]
            above.append((group[0][0], self._write(BRANCH, nodes)))
        return above

    def _write(self, kind: int, nodes: list[bytes]) -> int:
        """Write a branch or leaf page, offsets from its front and nodes from its end; returns its number."""
        offsets, upper = [], PAGE
        for node in nodes:
            upper -= len(node)
            offsets.append(upper)
        page = struct.pack("<QHHHH", self._pages, 0, kind, HEADER + 2 * len(nodes), upper)
        page += struct.pack("<%dH" % len(offsets), *offsets)
        return self._append(page.ljust(upper, b"\0") + b"".join(reversed(nodes)), 1, kind)

    def _write_overflow(self, value: bytes) -> int:
        """Write a value into pages of its own; returns the number of the first."""
        count = -(-(HEADER + len(value)) // PAGE)
        page = struct.pack("<QHHI", self._pages, 0, OVERFLOW, count) + value
        return self._append(page.ljust(count * PAGE, b"\0"), count, OVERFLOW)


def _node(low: int, high: int, flags: int, key: bytes, body: bytes = b"") -> bytes:
    """A node: its head, key and value, an even number of bytes."""
    node = struct.pack("<HHHH", low, high, flags, len(key)) + key + body
    return node + bytes(len(node) % 2)
