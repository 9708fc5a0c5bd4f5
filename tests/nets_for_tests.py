"""What several tests need of nets: the net.py of an experiment as a module, its prototxts, and released layers as text."""

import importlib.util
from pathlib import Path
from types import ModuleType

import prototxt
from caffe.proto import caffe_pb2
from google.protobuf import text_format

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("voc", "siftflow", "nyud", "pascalcontext")  # the papers' data sets; an experiment's folder begins with one


def files(pattern: str) -> list[Path]:
    """The files of this pattern in the folders of the papers' experiments, not in those that people have added."""
    return sorted(path for family in FAMILIES for path in ROOT.glob(f"{family}-fcn*/{pattern}"))


def load(experiment: str) -> ModuleType:
    """The module <experiment>/net.py; folders have dashes in their names, so they cannot be imported."""
    spec = importlib.util.spec_from_file_location(experiment.replace("-", "_"), ROOT / experiment / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(experiment: str, name: str):
    """The NetParameter in <experiment>/<name>.prototxt."""
    return prototxt.read(str(ROOT / experiment / f"{name}.prototxt"), caffe_pb2.NetParameter())


def layer_of(net, name: str):
    """The one layer of this name."""
    (layer,) = [layer for layer in net.layer if layer.name == name]
    return layer


def is_layer(net, name: str, text: str) -> bool:
    """Whether the net's layer of this name is that of the text, which leaves out the name."""
    return layer_of(net, name) == text_format.Parse(f'name: "{name}" {text}', caffe_pb2.LayerParameter())


# Texts of layers, in the words of facts about the released files: parameters, tops, in-place or not.


def score(bottom, name, classes=21):
    return f"""type: "Convolution" bottom: "{bottom}" top: "{name}" param {{ lr_mult: 1 decay_mult: 1 }}
        param {{ lr_mult: 2 decay_mult: 0 }} convolution_param {{ num_output: {classes} pad: 0 kernel_size: 1 }}"""


def up(bottom, name, kernel_size, stride, classes=21):
    return f"""type: "Deconvolution" bottom: "{bottom}" top: "{name}" param {{ lr_mult: 0 }} convolution_param {{
        num_output: {classes} bias_term: false kernel_size: {kernel_size} stride: {stride} }}"""


def cut(bottom, reference, name, offset):
    return f"""type: "Crop" bottom: "{bottom}" bottom: "{reference}" top: "{name}"
        crop_param {{ axis: 2 offset: {offset} }}"""


def fuse(a, b, name):
    return f'type: "Eltwise" bottom: "{a}" bottom: "{b}" top: "{name}" eltwise_param {{ operation: SUM }}'


def loss(score, label, name="loss", normalize="false"):
    return f"""type: "SoftmaxWithLoss" bottom: "{score}" bottom: "{label}" top: "{name}"
        loss_param {{ ignore_label: 255 normalize: {normalize} }}"""
