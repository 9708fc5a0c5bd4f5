"""The files that the cases of data layers read, written into the current folder: databases, lists, images, HDF5.

All are the same in every run. Needs numpy, Pillow and h5py, Python 3.9 (Debian's Caffe) or newer.
"""

from __future__ import annotations

import gzip
import os
import re

import h5py
import numpy as np
from layer_case import Case, numbers
from PIL import Image

GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "goldens")

# name, height, width, Pillow's mode
IMAGES = [("%d.png" % i, 6, 7, "RGB") for i in range(5)] + [
    ("grey.png", 6, 7, "L"), ("palette.png", 6, 7, "P"), ("alpha.png", 6, 7, "RGBA"), ("bits.png", 6, 7, "1"),
    ("folder/wide one.png", 5, 31, "RGB"), ("tall.png", 40, 9, "L"), ("double.bmp", 12, 14, "RGB"), ("dot.png", 1, 1, "RGB")]
LISTS = {
    "same.txt": "0.png 3\n1.png 1\n2.png 4\n3.png 1\n4.png 5\n",
    "kinds.txt": "0.png 0\ngrey.png 1\npalette.png 2\nalpha.png 3\nbits.png 4\n",
    "sizes.txt": "0.png 0\nfolder/wide one.png 1\ntall.png 2\ndouble.bmp 3\ndot.png 4",
    "labels.txt": "0.png -7\n1.png +12abc\n2.png x\n3.png\nfolder/wide one.png 9\n4.png 1.9\n",
    "list.txt": "same.txt 1\n",
    "folder.txt": "wide one.png 2\n",
    "hdf5.txt": "a.h5 b.h5\nc.h5\n",
    "hdf5_one.txt": "b.h5\n",
    "hdf5_rows.txt": "rows.h5\n",
    "hdf5_words.txt": "words.h5\n",
    "hdf5_narrow.txt": "a.h5\nnarrow.h5\n",
    "hdf5_none.txt": "a.h5\nnowhere.h5\n",
    "empty.txt": "",
    # image 0 is 40 x 9, its windows (x1 y1 x2 y2) reach its edges; those of image 1 are inside
    "windows.txt": """# 0
tall.png
3 40 9
4
1 0.9 0 0 8 39
2 0.5 2 30 6 39
3 0.49 5 5 7 30
4 0.3 8 0 8 3
# 1
folder/wide.png
3 5 31 3
7 1 3 1 20 3
0 0 10 0 30 4
5 0.6 29 4 29 4
""",
    "windows_none.txt": "# 0 0.png 3 6 7 1 1 0.9 0 0 3 3",
    "windows_off.txt": "# 0 0.png 3 6 7 2 1 0.9 3 3 7 5 0 0.1 3 3 7 5",
    "windows_back.txt": "# 0 0.png 3 6 7 2 1 0.9 5 3 2 5 0 0.1 5 3 2 5",
    "windows_far.txt": "# 0 0.png 3 6 7 2 1 0.9 90 30 95 35 0 0.1 2000000000 3 2000000009 5",
    "windows_large.txt": "# 0 0.png 3 6 7 1 1 0.9 5 3 9999999999 5",
    "windows_cut.txt": "# 0 0.png 3 6 7 3 1 0.9 0 0 3 3 0 0.1 0 0 3 3",
    "windows_grey.txt": "# 0 0.png 1 6 7 2 1 0.9 0 0 3 3 0 0.1 0 0 3 3",
    "windows_order.txt": "# 0 0.png 3 6 7 1 1 0.9 0 0 3 3 # 0 1.png 3 6 7 1 0 0.1 0 0 3 3",
    "windows_absent.txt": "# 0 nowhere.png 3 6 7 2 1 0.9 0 0 3 3 0 0.1 0 0 3 3",
    "windows_text.txt": "# 0 same.txt 3 6 7 2 1 0.9 0 0 3 3 0 0.1 0 0 3 3",
    "windows_class.txt": "# 0 0.png 3 6 7 1 0 0.9 0 0 3 3",
}


def write_files(caffe, case: Case, random: np.random.RandomState) -> None:
    """The files a case names: databases from tests/goldens, matrix and mean as drawn from `random`, and the rest."""
    for name, shape in (("infogain", (1, 1, 3, 3)), ("mean", (1, 3, 6, 7))):
        if name + ".binaryproto" in case.layer:
            with open(name + ".binaryproto", "wb") as f:
                f.write(caffe.io.array_to_blobproto(numbers(random, shape, "uniform")).SerializeToString())
    for name in re.findall('source: "([a-z]+)"', case.layer):
        os.makedirs(name, exist_ok=True)
        with gzip.open(os.path.join(GOLDENS, name + ".mdb.gz")) as packed, open(name + "/data.mdb", "wb") as f:
            f.write(packed.read())
    for name in re.findall(r'source: "(\w+\.txt)"', case.layer):
        for listed in LISTS if name in LISTS else ():
            with open(listed, "w") as f:
                f.write(LISTS[listed])
        (_write_hdf5 if "HDF5" in case.layer else _write_images)()


def _write_hdf5() -> None:
    """data (rows, 2, 3) float, label (rows,) integer, in files of 3, 4 and 1 rows; and some that must be refused."""
    random = np.random.RandomState(1)
    for name, rows, columns in (("a", 3, 3), ("b", 4, 3), ("c", 1, 3), ("narrow", 3, 2), ("rows", 3, 3), ("words", 3, 3)):
        with h5py.File(name + ".h5", "w") as f:
            f["data"] = random.randn(rows, 2, columns).astype(np.float64 if name == "b" else np.float32)
            f["label"] = random.randint(-9, 9, rows + (name == "rows")) if name != "words" else np.array([b"x"] * rows)


def _write_images() -> None:
    """Coarse squares with noise over them, so that a wrong resize or a wrong channel shows."""
    random = np.random.RandomState(2)
    os.makedirs("folder", exist_ok=True)
    for name, height, width, mode in IMAGES:
        channels = {"RGB": (3,), "RGBA": (4,), "P": (3,)}.get(mode, ())
        pixels = np.kron(random.randint(0, 256, (-(-height // 3), -(-width // 3)) + channels),
                         np.ones((3, 3) + (1,) * len(channels), np.int64))[:height, :width]
        pixels = np.clip(pixels + random.randint(-40, 40, pixels.shape), 0, 255).astype(np.uint8)
        if mode == "P":  # an explicit palette: Pillow's own choice of one changed over time
            image = Image.fromarray(pixels[..., 0] % 8)
            image.putpalette([int(v) for v in random.randint(0, 256, 24)] + [0] * 744)
        elif mode == "1":
            image = Image.fromarray((pixels > 127).astype(np.uint8) * 255).convert("1")
        else:
            image = Image.fromarray(pixels)
        image.save(name)
    Image.open("folder/wide one.png").save("folder/wide.png")
