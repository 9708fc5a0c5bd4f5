"""Write the little databases that the cases of Data layers read: python tests/goldens/write_lmdb.py (needs package lmdb).

`images` has a branch page and 40 uint8 images 3x6x7 in leaf pages; `mixed` holds values in overflow pages, float_data and
a PNG, colour and grey. They are kept beside this file as `<name>.mdb.gz`.
"""

import gzip
import io
import tempfile
from pathlib import Path

import caffe
import lmdb
import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
random = np.random.RandomState(5)


def write(name: str, entries: list[tuple[str, bytes]]) -> None:
    """One database; entries are put in random order, to be read in the order of keys."""
    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder, map_size=1 << 20) as database, database.begin(write=True) as transaction:
            for i in random.permutation(len(entries)):
                transaction.put(entries[i][0].encode(), entries[i][1])
        data = (Path(folder) / "data.mdb").read_bytes()
    (HERE / (name + ".mdb.gz")).write_bytes(gzip.compress(data, mtime=0))


def datum(label: int, **fields) -> bytes:
    """A serialized Datum."""
    return caffe.proto.caffe_pb2.Datum(label=label, **fields).SerializeToString()


def png(*shape: int) -> bytes:
    """A PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(random.randint(0, 256, shape).astype(np.uint8)).save(file, "png")
    return file.getvalue()


write("images", [("%08d_name" % i, datum(i % 7, channels=3, height=6, width=7, data=random.bytes(126))) for i in range(40)])
write("mixed", [
    ("a large", datum(3, channels=3, height=40, width=50, data=random.bytes(6000))),
    ("b float", datum(-2, channels=2, height=5, width=4, float_data=random.randn(40))),
    ("c colour", datum(1, encoded=True, data=png(12, 11, 3))),
    ("d grey", datum(1 << 20, encoded=True, data=png(9, 8)))])
