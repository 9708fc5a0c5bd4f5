"""The LMDB writer: what it writes is read back, and is built as LMDB builds it.

LMDB itself (py-lmdb 3.0.0 and BVLC's tools) has read and changed such databases when this was written: sizes 0 to 60000,
trees of up to four levels, values in overflow pages.
"""

from __future__ import annotations

import random
import resource
import struct
from pathlib import Path

import pytest

from torchcaffe.errors import CaffeError
from torchcaffe.lmdb import BIG, BRANCH, HEADER, LEAF, Lmdb
from torchcaffe.lmdb_writer import LmdbWriter

PAGE = 4096


def entries(count: int, key: int, value: tuple[int, int]) -> list[tuple[bytes, bytes]]:
    """Entries with keys of this many bytes and values whose sizes lie in a range."""
    source = random.Random(count)
    return [(b"%06d" % i + source.randbytes(key - 6), source.randbytes(source.randint(*value))) for i in range(count)]


def write(path: Path, items: list[tuple[bytes, bytes]]) -> bytes:
    with LmdbWriter(str(path)) as database:
        for key, value in items:
            database.put(key, value)
    return (path / "data.mdb").read_bytes()


def check_page(data: bytes, number: int, least: bytes, depth: int, seen: list[int]) -> None:
    """What LMDB takes for granted of a page and those below it: number, offsets, two children, keys in order."""
    page = data[number * PAGE : (number + 1) * PAGE]
    own, _, flags, lower, upper = struct.unpack_from("<QHHHH", page)
    offsets = struct.unpack_from("<%dH" % ((lower - HEADER) // 2), page, HEADER)
    assert own == number and flags == (LEAF if depth == 1 else BRANCH) and lower <= upper <= PAGE
    assert upper == min(offsets) and len(set(offsets)) == len(offsets) and not any(o % 2 for o in offsets)
    seen.append(number)
    keys = []
    for i, offset in enumerate(offsets):
        low, high, kind, size = struct.unpack_from("<HHHH", page, offset)
        key = page[offset + 8 : offset + 8 + size]
        keys.append(key if i or depth == 1 else least)
        if depth > 1:
            assert size == 0 if i == 0 else size > 0
            check_page(data, low | high << 16 | kind << 32, keys[-1], depth - 1, seen)
        elif kind & BIG:
            first = struct.unpack_from("<Q", page, offset + 8 + size)[0]
            own, _, flags, pages = struct.unpack_from("<QHHI", data, first * PAGE)
            assert (own, flags, pages) == (first, 4, -(-((low | high << 16) + HEADER) // PAGE))
            seen.extend(range(first, first + pages))
    assert keys == sorted(set(keys)) and keys[0] >= least and (depth == 1 or len(keys) > 1)


@pytest.mark.parametrize("count, key, value", [
    (0, 8, (0, 0)), (1, 8, (0, 0)), (1, 8, (9000, 9000)), (3, 511, (1400, 1600)), (400, 8, (0, 5000)), (2000, 300, (0, 20)),
    (5000, 8, (0, 20))] + [(n, 500, (10, 10)) for n in range(26, 62)])
def test_round_trip(tmp_path, count, key, value):
    items = entries(count, key, value)
    data = write(tmp_path / "db", items)
    assert list(Lmdb(str(tmp_path / "db"))) == items and len(Lmdb(str(tmp_path / "db"))) == count
    assert len(data) % PAGE == 0
    for meta in (0, 1):  # magic, version, size of the free list's pages, its root: none
        assert struct.unpack_from("<QHHHHII", data, meta * PAGE) == (meta, 0, 8, 0, 0, 0xBEEFC0DE, 1)
        assert struct.unpack_from("<I", data, meta * PAGE + 40)[0] == PAGE
        assert struct.unpack_from("<Q", data, meta * PAGE + 80)[0] == 2**64 - 1
    depth, *counts, number, root, last, transaction = struct.unpack_from("<HQQQQQQQ", data, PAGE + 94)
    assert (number, last, transaction) == (count, len(data) // PAGE - 1, 1)
    seen: list[int] = []
    if count:
        check_page(data, root, b"", depth, seen)
    assert sorted(seen) == list(range(2, len(data) // PAGE)) and sum(counts) == len(seen)


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(CaffeError, match="in the order of keys, got b'a' after b'b'"):
        write(tmp_path / "db", [(b"b", b""), (b"a", b"")])
    with pytest.raises(CaffeError, match="1 to 511 bytes, got 0"):
        write(tmp_path / "db", [(b"", b"")])
    with pytest.raises(CaffeError, match="1 to 511 bytes, got 512"):
        write(tmp_path / "db", [(b"x" * 512, b"")])
    with pytest.raises(ZeroDivisionError), LmdbWriter(str(tmp_path / "db")) as database:
        database.put(b"a", b"")
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    write(tmp_path / "db", [(b"a", b"1")])
    with pytest.raises(CaffeError, match="it exists"):
        write(tmp_path / "db", [(b"a", b"2")])
    assert list(Lmdb(str(tmp_path / "db"))) == [(b"a", b"1")] and len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_does_not_matter(tmp_path):
    (tmp_path / "db.tmp").mkdir()
    (tmp_path / "db.tmp" / "data.mdb").write_bytes(b"half")
    write(tmp_path / "db", [(b"a", b"1")])
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


@pytest.mark.parametrize("size", [1, 300000])
def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path, size):
    """Whether it is noticed while entries are written or, as they wait in a buffer, at the end."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, limits[1]))
    try:
        with pytest.raises(CaffeError, match="db: cannot be written: File too large"):
            write(tmp_path / "db", [(b"a", bytes(size)), (b"b", bytes(size))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_value_of_several_keys_is_stored_once(tmp_path):
    """py-lmdb 3.0.0 and BVLC's Data layer read such a database when this was written."""
    small, large = b"small" * 10, bytes(range(256)) * 100
    with LmdbWriter(str(tmp_path / "db")) as database:
        stored = [database.put(b"0", small), database.put(b"1", large)]
        for i in range(2, 2000):
            database.repeat(b"1%06d" % i, stored[i % 2])
        with pytest.raises(CaffeError, match="in the order of keys"):
            database.repeat(b"0", stored[0])
    items = list(Lmdb(str(tmp_path / "db")))
    assert len(items) == 2000 and [value for _, value in items] == [small, large] * 1000
    assert (tmp_path / "db/data.mdb").stat().st_size < 1000 * (len(small) + 60) + 20 * len(large)
