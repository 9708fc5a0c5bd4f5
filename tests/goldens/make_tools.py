"""Records what BVLC's own tools make of small images: tests/goldens/tools.json.

    python tests/goldens/make_tools.py DIR

DIR is a folder with Debian's Caffe packages unpacked under DIR/root, whose convert_imageset, compute_image_mean and
extract_features are run. The model that features are extracted by is written by this repository's Caffe.
"""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "torchcaffe" / "pycaffe")]

LIST = "0.png 3\n1.png -2\nsub/a b.png 7\nmissing.png 1\nclear.png 70000\n"
CONVERSIONS = {"plain": ["--nocheck_size"], "resized": ["-resize_height=5", "--resize_width", "4"], "gray": ["-gray"],
               "one size given": ["-resize_height=5"], "encoded": ["-encoded", "--nogray"]}
NET = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.01 }
        data_param { source: "images" backend: LMDB batch_size: 7 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 5 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" include { phase: TRAIN } }
"""


def write_inputs(folder: Path) -> None:
    """Images of several sizes and kinds, a list of them, a database, a net and its model."""
    import caffe

    random = np.random.RandomState(0)
    (folder / "files" / "sub").mkdir(parents=True)
    for name, shape in (("0.png", (7, 9, 3)), ("1.png", (8, 9, 3)), ("sub/a b.png", (7, 9)), ("clear.png", (6, 5, 4))):
        Image.fromarray(random.randint(0, 256, shape).astype(np.uint8)).save(folder / "files" / name, compress_level=1)
    (folder / "list.txt").write_text(LIST)
    (folder / "images").mkdir()
    (folder / "images" / "data.mdb").write_bytes(gzip.decompress((HERE / "images.mdb.gz").read_bytes()))
    (folder / "net.prototxt").write_text(NET)
    here = os.getcwd()
    os.chdir(folder)
    try:
        caffe.set_random_seed(5)
        caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    finally:
        os.chdir(here)


def database(path: Path) -> list:
    """[key, channels, height, width, label, encoded, md5 of the data or the rounded float_data] of each entry."""
    from torchcaffe.lmdb import Lmdb
    from torchcaffe.proto import caffe_pb2

    entries = []
    for key, value in Lmdb(str(path)):
        d = caffe_pb2.Datum.FromString(value)
        data = hashlib.md5(d.data).hexdigest() if d.data else [round(x, 6) for x in d.float_data]
        if d.encoded:
            data = ""  # the file's bytes, which are Pillow's and not the same everywhere
        entries.append([key.decode(), d.channels, d.height, d.width, d.label, d.encoded, data])
    return entries


def answers(folder: Path, run) -> dict:
    """The same for the tools of either Caffe; `run` runs one in the folder and returns (exit code, lines it logged)."""
    found = {"conversions": {}}
    for i, (name, flags) in enumerate(CONVERSIONS.items()):
        code, lines = run("convert_imageset", *flags, "files/", "list.txt", "converted%d" % i)
        found["conversions"][name] = {"code": code, "entries": database(folder / ("converted%d" % i)),
                                      "lines": [re.sub(r"converted\d", "DB", line) for line in lines]}
    code, lines = run("compute_image_mean", "images", "mean.binaryproto")
    found["mean"] = {"code": code, "md5": hashlib.md5((folder / "mean.binaryproto").read_bytes()).hexdigest(),
                     "lines": lines}
    code, lines = run("extract_features", "net.caffemodel", "net.prototxt", "conv,label", "f1,f2", "2", "lmdb", "CPU")
    found["features"] = {"code": code, "conv": database(folder / "f1"), "label": database(folder / "f2"), "lines": lines}
    return json.loads(json.dumps(found))


def of_tool(tool: str, lines: list) -> list:
    """Of glog's lines those a tool wrote itself: severity and message."""
    matches = (re.match(r"([IWEF])[\d. :]+ +\d+ %s\.cpp:\d+\] (.*)" % tool, line) for line in lines)
    return [m.group(1) + " " + m.group(2) for m in matches if m]


def main() -> None:
    """Run the tools and write the file."""
    root = Path(sys.argv[1]) / "root"
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    environment = dict(os.environ, GLOG_logtostderr="1", OPENBLAS_NUM_THREADS="1", LD_LIBRARY_PATH=":".join(
        map(str, (libraries / "openblas-pthread", libraries, root / "lib" / "x86_64-linux-gnu", root / "usr" / "lib"))))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_inputs(folder)

        def run(tool: str, *args: str) -> tuple:
            done = subprocess.run([str(root / "usr" / "bin" / tool), *args], env=environment, cwd=folder,
                                  capture_output=True, text=True, check=False)
            return done.returncode, of_tool(tool, done.stderr.splitlines())

        golden = {"provenance": "tools of Debian's caffe 1.0.0+git20180821.99bd997 (BVLC 99bd997); "
                                "python tests/goldens/make_tools.py DIR", **answers(folder, run)}
    (HERE / "tools.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
