"""Records what BVLC's pycaffe offers and answers, in pycaffe_names.json and pycaffe.json. Run it under BVLC's Caffe:

    FCN_CAFFE=bvlc python tests/goldens/make_pycaffe.py

Names: what `dir` finds in each module and class, but for names with two underscores and imported modules. Answers: the
numbers of blobs, what Classifier and Detector make of small images (only enlarged ones: see make_io.py), and the graphs
that draw makes, told by a stand-in for pydot, so that pydot is not needed.
"""

import importlib
import json
import os
import sys
import tempfile
import types

import numpy as np
from google.protobuf import text_format
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "..", "tools"))
from which_caffe import WHICH, caffe  # noqa: E402  isort: skip

MODULES = ("caffe", "caffe._caffe", "caffe.classifier", "caffe.coord_map", "caffe.detector", "caffe.draw", "caffe.io",
           "caffe.net_spec", "caffe.pycaffe")
CLASSES = ("caffe.AdamSolver", "caffe.Classifier", "caffe.Detector", "caffe.Layer", "caffe.Net", "caffe.NetSpec",
           "caffe.SGDSolver", "caffe.Timer", "caffe._caffe.Blob", "caffe._caffe.BlobVec", "caffe._caffe.Solver",
           "caffe._caffe.SolverParameter", "caffe.io.Transformer", "caffe.net_spec.Function", "caffe.net_spec.Top")


def find(path):
    """The object of a dotted name."""
    parts = path.split(".")
    if path in MODULES:
        return importlib.import_module(path)
    return getattr(find(".".join(parts[:-1])), parts[-1])


def names():
    """{dotted name: the public names and those with one underscore}."""
    found = {}
    sys.modules["pydot"] = FakePydot
    try:
        for path in MODULES + CLASSES:
            held = find(path)
            found[path] = sorted(n for n in dir(held) if not n.startswith("__") and not _foreign(getattr(held, n)))
        return found
    finally:
        del sys.modules["pydot"]


def _foreign(value):
    """Whether a value is a module that is not one of caffe's parts."""
    return isinstance(value, types.ModuleType) and not value.__name__.startswith("caffe.")


# -- Classifier and Detector --------------------------------------------------------------------------------------------
NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 9 dim: %d } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def model(folder, width):
    """(prototxt, caffemodel) of a net for images of height 9 and this width."""
    prototxt, weights = (os.path.join(folder, "%d.%s" % (width, kind)) for kind in ("prototxt", "caffemodel"))
    with open(prototxt, "w") as f:
        f.write(NET % width)
    net = caffe.Net(prototxt, caffe.TEST)
    weight = net.params["ip"][0].data
    weight[...] = np.random.RandomState(0).randn(*weight.shape) / 10
    net.save(weights)
    return prototxt, weights


def classify(folder):
    """Predictions with and without ten crops, with each of the transformations."""
    random = np.random.RandomState(1)
    images = [random.rand(7, 6, 3).astype(np.float32) for _ in range(3)]
    settings = dict(mean=np.array([0.1, 0.2, 0.3]), input_scale=0.5, raw_scale=3.0, channel_swap=(2, 1, 0))
    answer = {}
    for name, kwargs in (("plain", {}), ("resized", dict(image_dims=(12, 13))),
                         ("all", dict(image_dims=[11, 12], **settings)),
                         ("mean image", dict(mean=random.rand(3, 5, 6), image_dims=(10, 11)))):
        classifier = caffe.Classifier(*model(folder, 10), **kwargs)
        answer[name] = {"ten crops": classifier.predict(images), "centre": classifier.predict(images, oversample=False)}
    return answer


def detect(folder):
    """Crops and predictions of windows: without context, with it, over the borders of the image."""
    random = np.random.RandomState(2)
    files = [os.path.join(folder, "%d.png" % i) for i in range(2)]
    for i, name in enumerate(files):
        Image.fromarray((random.rand(30, 20 + i, 3) * 255).astype(np.uint8)).save(name)
    windows = [(files[0], np.array([[2, 3, 6, 8], [0, 0, 5, 4], [0, 5, 2, 9], [25, 15, 30, 20]])),
               (files[1], np.array([[10, 3, 14, 7]]))]
    answer = {}
    for name, kwargs in (("plain", {}), ("context", dict(context_pad=1)),
                         ("all", dict(context_pad=2, mean=np.array([0.1, 0.2, 0.3]), raw_scale=2.0, input_scale=0.5,
                                      channel_swap=(1, 2, 0))),
                         ("mean image", dict(context_pad=2, mean=random.rand(3, 9, 9), channel_swap=(2, 1, 0)))):
        detector = caffe.Detector(*model(folder, 9), **kwargs)
        crops = [detector.crop(caffe.io.load_image(files[0]), window) for window in windows[0][1]]
        found = detector.detect_windows(windows)
        answer[name] = {"crops": crops, "predictions": np.array([d["prediction"] for d in found]),
                        "windows": [d["window"] for d in found], "keys": list(found[0]),
                        "files": [os.path.basename(d["filename"]) for d in found]}
    return answer


class Whole(np.ndarray):
    """An array that takes floats as bounds of slices, as numpy did when detector.py was written."""

    def __getitem__(self, key):
        return super().__getitem__(_whole(key))

    def __setitem__(self, key, value):
        super().__setitem__(_whole(key), value)


def _whole(key):
    if isinstance(key, slice):
        return slice(*(None if b is None else int(b) for b in (key.start, key.stop, key.step)))
    return tuple(map(_whole, key)) if isinstance(key, tuple) else key


def patch_bvlc():
    """Let BVLC's Detector run with today's numpy and scikit-image, which dropped float slices and `as_grey`."""
    import skimage.io

    imread, load_image, configure = skimage.io.imread, caffe.io.load_image, caffe.Detector.configure_crop

    def configure_crop(self, context_pad):
        configure(self, context_pad)
        if context_pad:
            self.crop_mean = self.crop_mean.view(Whole)

    skimage.io.imread = lambda name, as_grey=False: imread(name, as_gray=as_grey)
    caffe.io.load_image = lambda name, color=True: load_image(name, color).view(Whole)
    caffe.Detector.configure_crop = configure_crop


# -- draw ---------------------------------------------------------------------------------------------------------------
class Node:
    def __init__(self, name, **style):
        self.name, self.style = name, style


class Edge:
    def __init__(self, source, target, label):
        self.source, self.target, self.label = source, target, label


class Dot:
    """A graph that tells what was put into it."""

    def __init__(self, name, **attributes):
        self.told = [["graph", name, attributes]]

    def add_node(self, node):
        self.told.append(["node", node.name, node.style])

    def add_edge(self, edge):
        self.told.append(["edge", edge.source.name, edge.target.name, edge.label])

    def create(self, format):
        return format.encode()


FakePydot = types.ModuleType("pydot")
FakePydot.Dot, FakePydot.Node, FakePydot.Edge = Dot, Node, Edge

DRAWN = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 7 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } data_param { batch_size: 8 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 3 } param { lr_mult: 0.5 }
        convolution_param { num_output: 5 kernel_size: 3 kernel_size: 4 stride: 2 pad: 1 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 6 kernel_h: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" include { stage: "a" } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" param { lr_mult: 0 }
        convolution_param { num_output: 9 kernel_size: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "up" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" include { phase: TRAIN }
        include { phase: TEST min_level: 2 } }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "label" top: "acc" exclude { phase: TRAIN } }
layer { name: "end" type: "Silence" bottom: "acc" }
layer { name: "scaled" type: "Power" bottom: "up" top: "up" }
"""
DRAWINGS = {"all": ("LR",), "down": ("TB", True, None, True), "up, no labels": ("BT", False),
            "train": ("RL", True, caffe.TRAIN), "test": ("LR", True, caffe.TEST, True)}


def draw():
    """What get_pydot_graph tells pydot, for each direction, phase and option."""
    net = caffe.proto.caffe_pb2.NetParameter()
    text_format.Merge(DRAWN, net)
    sys.modules["pydot"] = FakePydot
    try:
        graph = find("caffe.draw").get_pydot_graph
        told = {name: graph(net, *args).told for name, args in DRAWINGS.items()}
        net.name = "named"
        told["name"] = graph(net, "LR").told[0]
        return told
    finally:
        del sys.modules["pydot"]


# -- Net ----------------------------------------------------------------------------------------------------------------
NUMBERED = """
layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "y" top: "loss" loss_weight: 2 }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "x" top: "sum" }
"""


def numbers(folder):
    """Blobs by number, and names, of a net with splits and a layer in place."""
    prototxt = os.path.join(folder, "numbered.prototxt")
    with open(prototxt, "w") as f:
        f.write(NUMBERED)
    net = caffe.Net(prototxt, caffe.TRAIN)
    layers = range(len(net.layers))
    return {"_inputs": list(net._inputs), "_outputs": list(net._outputs), "_blob_names": list(net._blob_names),
            "_layer_names": list(net._layer_names), "_blob_loss_weights": list(net._blob_loss_weights),
            "_bottom_ids": [list(net._bottom_ids(i)) for i in layers], "_top_ids": [list(net._top_ids(i)) for i in layers],
            "_blobs": [blob.count for blob in net._blobs], "layers": [layer.type for layer in net.layers],
            "layer_dict": [[n, layer.type] for n, layer in net.layer_dict.items()], "inputs": net.inputs,
            "outputs": net.outputs, "params": [[n, [b.count for b in v]] for n, v in net.params.items()],
            "bottom_names": list(net.bottom_names.items()), "top_names": list(net.top_names.items()),
            "blob_loss_weights": list(net.blob_loss_weights.items())}


def plain(value):
    """Arrays as nested lists, tuples as lists, keys as strings: what JSON gives back."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.astype(np.float64).round(7).tolist())
    return value


def answers():
    """Everything but the names, as JSON would give it back."""
    with tempfile.TemporaryDirectory() as folder:
        return plain({"classify": classify(folder), "detect": detect(folder), "draw": draw(), "numbers": numbers(folder)})


if __name__ == "__main__":
    provenance = "%s Caffe %s: python tests/goldens/make_pycaffe.py" % (WHICH, caffe.__version__)
    with open(os.path.join(HERE, "pycaffe_names.json"), "w") as file:
        json.dump({"provenance": provenance, "names": names()}, file, indent=1, sort_keys=True)
    if WHICH == "bvlc":
        patch_bvlc()
    with open(os.path.join(HERE, "pycaffe.json"), "w") as file:
        json.dump({"provenance": provenance, "answers": answers()}, file, sort_keys=True)
