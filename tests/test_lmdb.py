"""The LMDB reader against what LMDB itself wrote (tests/goldens/write_lmdb.py), whole and damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from torchcaffe.errors import CaffeError
from torchcaffe.lmdb import Lmdb
from torchcaffe.proto import caffe_pb2

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def database(tmp_path) -> Path:
    """A folder with a database of a branch page, leaf pages and 40 entries."""
    (tmp_path / "data.mdb").write_bytes(gzip.decompress((GOLDENS / "images.mdb.gz").read_bytes()))
    return tmp_path


def test_entries_come_in_order_of_keys(database):
    entries = list(Lmdb(str(database)))
    assert [key for key, _ in entries] == [b"%08d_name" % i for i in range(40)]
    assert [caffe_pb2.Datum.FromString(value).label for _, value in entries] == [i % 7 for i in range(40)]
    assert len(Lmdb(str(database / "data.mdb"))) == 40


def test_a_value_in_overflow_pages_is_whole(tmp_path):
    (tmp_path / "data.mdb").write_bytes(gzip.decompress((GOLDENS / "mixed.mdb.gz").read_bytes()))
    first = caffe_pb2.Datum.FromString(next(iter(Lmdb(str(tmp_path))))[1])
    assert len(first.data) == 6000 and len(set(first.data)) == 256


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(CaffeError, match="nowhere: cannot open this LMDB: No such file.*data.mdb"):
        Lmdb(str(tmp_path / "nowhere"))
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(CaffeError, match="data.mdb: not an LMDB file"):
        Lmdb(str(tmp_path))
    (tmp_path / "data.mdb").write_bytes(b"")
    with pytest.raises(CaffeError, match="cannot open"):
        Lmdb(str(tmp_path))


def test_a_truncated_file_is_an_error_at_the_latest_where_it_ends(database):
    whole = (database / "data.mdb").read_bytes()
    for size in range(100, len(whole) - 4096, 1000):
        (database / "data.mdb").write_bytes(whole[:size])
        with pytest.raises(CaffeError, match="damaged LMDB|not an LMDB"):
            list(Lmdb(str(database)))


def test_damage_is_an_error_or_harmless_but_never_a_crash(database):
    whole = (database / "data.mdb").read_bytes()
    random = np.random.RandomState(2)
    errors = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.randint(0, len(whole), 40):
            damaged[place] = random.randint(256)
        (database / "data.mdb").write_bytes(damaged)
        try:
            list(Lmdb(str(database)))
        except CaffeError:
            errors += 1
    assert errors > 20


def test_a_branch_that_leads_back_to_itself_ends(database):
    whole = bytearray((database / "data.mdb").read_bytes())
    branch = next(page for page in range(0, len(whole), 4096) if struct.unpack_from("<H", whole, page + 10)[0] == 1)
    for offset in struct.unpack_from("<2H", whole, branch + 16):
        struct.pack_into("<H", whole, branch + offset, branch // 4096)
    (database / "data.mdb").write_bytes(whole)
    with pytest.raises(CaffeError, match="damaged LMDB"):
        list(Lmdb(str(database)))
