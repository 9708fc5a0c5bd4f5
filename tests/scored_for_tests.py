"""Experiments with data and weights, small enough for tests of what scores them: real nets, narrow, on random pictures."""

from pathlib import Path

import caffe
import numpy as np
import prototxt
import surgery
from nets_for_tests import load
from segfiles_for_tests import write_context, write_siftflow, write_voc

WIDTHS = (8, 8, 8, 8, 8, 16)
IDS = ["a", "b", "c", "d", "e"]
SIZE = (72, 48)     # so large that the scores are not the same everywhere


def voc(folder: Path, classes: int = 5) -> Path:
    """An experiment voc-fcn32s in a folder, with 5 images of its own under data/set; returns it."""
    write_voc(folder / "data/set", IDS, size=SIZE, classes=classes)
    (folder / "data/set/classes.txt").write_text("".join(f"<class {i}>\n" for i in range(classes)))
    data = load("voc-fcn32s")
    layer = data.voc_data("val")
    layer[0].fn.params["param_str"] = repr(dict(voc_dir=str(folder / "data/set"), split="val", mean=(104., 117., 123.),
                                                classes=classes))
    return experiment(folder, "voc-fcn32s", {"val": data.fcn(layer, classes, widths=WIDTHS)})


def siftflow(folder: Path) -> Path:
    """An experiment siftflow-fcn16s, of two tasks; its data is read from $FCN_DATA, folder/data."""
    write_siftflow(folder / "data/sift-flow", IDS, size=SIZE)
    net = load("siftflow-fcn16s")
    return experiment(folder, "siftflow-fcn16s", {"test": net.fcn(net.siftflow_data("test"), widths=WIDTHS)})


def context(folder: Path) -> Path:
    """An experiment pascalcontext-fcn32s, of 60 classes; its data is read from $FCN_DATA, folder/data."""
    write_context(folder / "data", IDS, size=SIZE)
    net = load("pascalcontext-fcn32s")
    return experiment(folder, "pascalcontext-fcn32s", {"val": net.fcn(net.pascalcontext_data("val"), widths=WIDTHS)})


def experiment(folder: Path, name: str, nets) -> Path:
    """The folder of an experiment with these nets."""
    made = folder / name
    made.mkdir()
    for split, net in nets.items():
        prototxt.write(str(made / f"{split}.prototxt"), net)
    return made


def weights(net: Path, path: Path, seed: int) -> Path:
    """Random weights of a net, in a file."""
    held, rng = caffe.Net(str(net), caffe.TEST), np.random.RandomState(seed)
    for blobs in held.params.values():
        for blob in blobs:
            # as large as keeps signals at their size, with photographs of -128..127 coming in
            blob.data[...] = rng.normal(0, np.sqrt(2 / max(blob.data[0].size, 1)), blob.data.shape)
    surgery.interp(held, [name for name in held.params if "up" in name])
    held.save(str(path))
    return path
