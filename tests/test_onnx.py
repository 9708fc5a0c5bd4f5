"""ONNX export: every layer case in onnxruntime against the engine, at the sizes it was exported for and at others."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import caffe
import extras_cases
import numpy as np
import pytest
from caffe import layers as L
from cases import CASES
from layer_case import Case, numbers
from layer_files import write_files
from nets_for_tests import load
from parity.compare_cases import TOLERANCE, difference
from parity.run_cases import prototxt

from torchcaffe import forks
from torchcaffe.errors import CaffeError
from torchcaffe.layer import CATALOGUE
from torchcaffe.onnx_export import export_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Nets write their files into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")


def build(text: str, phase: int = caffe.TEST) -> caffe.Net:
    """A net of this prototxt."""
    Path("net.prototxt").write_text(text)
    return caffe.Net("net.prototxt", phase)


def session(path: str = "net.onnx"):
    """The file in onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def build_case(case: Case) -> caffe.Net:
    """The net of a case in TEST, with the case's numbers in its parameters."""
    random = case.random()
    write_files(caffe, case, random)
    if case.seed is not None:
        caffe.set_random_seed(case.seed)
        ctypes.CDLL(None).srand(case.seed)
    net = build(prototxt(case))
    if case.params != ("filler",):
        for i, blob in enumerate(net.params.get("layer", [])):
            blob.data[...] = numbers(random, blob.data.shape, case.params[i] if case.params else "normal")
    return net


def feed(case: Case, inputs: dict[str, list], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Numbers of the case's kinds for these inputs, open sizes as given."""
    random = case.random()
    kinds = {"x%d" % i: bottom.values for i, bottom in enumerate(case.bottoms)}
    arrays = {}
    for name, dims in inputs.items():
        kind, shape = kinds.get(name, "normal"), tuple(sizes[d] if isinstance(d, str) else d for d in dims)
        if kind.startswith("list"):  # which say themselves how many they are
            values = [float(v) for v in kind[5:].split(",")]
            arrays[name] = np.resize(np.asarray(values, np.float32), shape)
        else:
            arrays[name] = numbers(random, shape, kind)
    return arrays


def compare(net: caffe.Net, run, arrays: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> None:
    """The engine's outputs and onnxruntime's for the same inputs."""
    for name, array in arrays.items():
        net.blobs[name].reshape(*array.shape)
        net.blobs[name].data[...] = array
    for blobs in (getattr(layer, "carried", []) for layer in net.layers):
        for blob in blobs:
            blob.data[...] = 0  # each run of the exported net begins with this state
    net.forward()
    names = [o.name for o in run.get_outputs()]
    for name, got in zip(names, run.run(names, arrays)):
        wanted = net.blobs[name.partition("/")[0]].data
        error = difference(wanted, got)
        assert error <= tolerance, "%s is off by %.1e of its largest value" % (name, error)


# What has no ONNX form, by layer type, and the cases of other types that have none. In TEST dropout is the identity.
REFUSED = {**dict.fromkeys(["Accuracy", *(n for n in CATALOGUE if n.endswith("Loss"))], "compares with labels"),
           "HDF5Output": "there are no outputs", "Silence": "there are no outputs", "Python": "its code is Python",
           "BatchNorm batch in TEST": "the batch's statistics", "DummyData refilled": "draws random numbers",
           "DummyData two tops": "draws random numbers", "DummyData one filler for two": "draws random numbers"}
LOOSER = {"Reduction SUM": 5e-5}  # a sum of 180 numbers of either sign is small beside them, and so beside its rounding
# What has one, and keeps it. A new layer type need not.
WITH_FORM = """AbsVal ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat Convolution Crop Deconvolution Dropout DummyData
    ELU Eltwise Embed Exp Filter Flatten Im2col InnerProduct Input LRN LSTM LSTMUnit Log MVN PReLU Parameter Pooling Power
    RNN ReLU Reduction Reshape SPP Scale Sigmoid Slice Softmax Split Swish TanH Threshold Tile""".split()
FORKS_WITH_FORM = """Axpy BN ConvolutionDepthwise DepthwiseConvolution Interp Normalize Permute ReLU6 ShuffleChannel
    Upsample""".split()
SOURCES = ("Data", "ImageData", "WindowData", "HDF5Data", "MemoryData")  # inputs, as Input is


def kind(case: Case) -> str:
    """The layer type of a case."""
    return re.match(r'type: "(\w+)"', case.layer).group(1)


@pytest.mark.parametrize("case", [c for c in CASES if kind(c) not in SOURCES], ids=lambda c: c.name)
def test_as_the_engine(case: Case):
    net = build_case(case)
    why = REFUSED.get(case.name, REFUSED.get(kind(case), None if kind(case) in WITH_FORM else "no form is known"))
    if why:
        with pytest.raises(CaffeError, match=why):
            export_onnx(net, "net.onnx")
        return
    inputs = export_onnx(net, "net.onnx")
    run, tolerance = session(), 0 if case.exact else LOOSER.get(case.name, TOLERANCE)
    base = {d: n for name, dims in inputs.items() for d, n in zip(dims, net.blobs[name].shape) if isinstance(d, str)}
    compare(net, run, feed(case, inputs, base), tolerance)
    if case.then:
        compare(net, run, feed(case, dict(zip(inputs, case.then)), {}), tolerance)
    for other in ({d: n + (1 if d == "N" else 3) for d, n in base.items()}, {d: 2 * n for d, n in base.items()}):
        arrays = feed(case, inputs, other)
        try:
            for name, array in arrays.items():
                net.blobs[name].reshape(*array.shape)
            net.reshape()
        except CaffeError:
            continue  # not every size is possible, as with a crop that must lie inside
        compare(net, run, arrays, tolerance)


@pytest.mark.parametrize("case", [c for c in extras_cases.CASES if "Loss" not in c.name], ids=lambda c: c.name)
def test_extras_as_the_engine(case: Case, monkeypatch):
    monkeypatch.setattr(forks, "_enabled", True)
    net = build_case(case)
    if kind(case) not in FORKS_WITH_FORM:
        with pytest.raises(CaffeError, match="no form is known for its type"):
            export_onnx(net, "net.onnx")
        return
    inputs = export_onnx(net, "net.onnx")
    base = {d: n for name, dims in inputs.items() for d, n in zip(dims, net.blobs[name].shape) if isinstance(d, str)}
    for sizes in (base, *({d: 2 * n for d, n in base.items()} for _ in range(kind(case) != "Upsample"))):
        compare(net, session(), feed(case, inputs, sizes), 0 if case.exact else TOLERANCE)


def fcn8s() -> caffe.Net:
    """FCN-8s with few channels, its loss included, and with numbers that are not zero."""
    data = L.Input(ntop=2, shape=[dict(dim=[1, 3, 33, 40]), dict(dim=[1, 1, 33, 40])])
    net = build(str(load("voc-fcn8s").fcn(data, classes=3, widths=(2, 3, 4, 5, 6, 7))))
    random = np.random.RandomState(0)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.shape) / np.sqrt(blob.data[0].size)
    return net


def test_fcn8s_at_any_size():
    net = fcn8s()
    with pytest.raises(CaffeError, match="Layer 'loss' .*: cannot be exported to ONNX: it compares with lab"):
        export_onnx(net, "net.onnx")
    assert not list(Path(".").glob("net.onnx*"))
    assert export_onnx(net, "net.onnx", ["score"]) == {"data": ["N", 3, "H", "W"]}
    model, run = onnx.load("net.onnx"), session()
    assert [o.shape for o in run.get_outputs()] == [["N", 3, "H", "W"]]  # the crop brings back the image's size
    random = np.random.RandomState(1)
    for shape in ((1, 3, 33, 40), (2, 3, 1, 7), (1, 3, 64, 31), (1, 3, 50, 97)):
        net.blobs["label"].reshape(shape[0], 1, *shape[2:])
        net.blobs["label"].data[...] = 0
        compare(net, run, {"data": random.randn(*shape).astype(np.float32)})
    names = {name for node in model.graph.node for name in node.output}
    assert {"conv1_1", "conv1_1/conv1_1", "pool3", "fuse_pool4", "score"} <= names  # before ReLU in place: blob/layer
    assert {i.name for i in model.graph.initializer} >= {"conv1_1.weight", "conv1_1.bias", "upscore8.weight"}
    assert not any(node.op_type in ("Pad", "Identity") for node in model.graph.node)  # VGG's pools need no help


def test_sizes_stay_open_as_far_as_the_layers_allow():
    classifier = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
        layer { name: "pool" type: "%s" bottom: "data" top: "pool" %s }
        layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 2
                weight_filler { type: "xavier" } } }"""
    pooled = build(classifier % ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }"))
    assert export_onnx(pooled, "net.onnx") == {"data": ["N", 3, 8, 8]}
    assert export_onnx(pooled, "net.onnx", dynamic=False) == {"data": [1, 3, 8, 8]}
    spp = build(classifier % ("SPP", "spp_param { pyramid_height: 2 }"))  # takes any size in Caffe; its windows follow
    assert export_onnx(spp, "net.onnx") == {"data": ["N", 3, 8, 8]}
    compare(spp, session(), {"data": np.random.RandomState(0).randn(4, 3, 8, 8).astype(np.float32)})
    average = build(classifier % ("Pooling", "pooling_param { pool: AVE global_pooling: true }"))
    assert export_onnx(average, "net.onnx") == {"data": ["N", 3, "H", "W"]}


def test_data_layers_become_inputs():
    net = build("""layer { name: "data" type: "MemoryData" top: "data" top: "label"
                           memory_data_param { batch_size: 2 channels: 1 height: 4 width: 4 } }
                   layer { name: "silence" type: "Silence" bottom: "label" }
                   layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }""")
    assert export_onnx(net, "net.onnx", ["data"]) == {"data": ["N", "C", "H", "W"]}
    x = np.random.RandomState(0).randn(3, 1, 2, 5).astype(np.float32)
    run = session()
    assert [o.name for o in run.get_outputs()] == ["data/relu"]  # the name data is the input's
    np.testing.assert_array_equal(run.run(None, {"data": x})[0], np.maximum(x, 0))


def test_what_is_written_in_place_shows_in_blobs_that_share_its_memory():
    net = build("""layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 2 } } }
                   layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { shift: -0.5 } }
                   layer { name: "f" type: "Flatten" bottom: "a" top: "f" }
                   layer { name: "r" type: "ReLU" bottom: "f" top: "f" }
                   layer { name: "b" type: "Power" bottom: "a" top: "b" power_param { scale: 2 } }""")
    export_onnx(net, "net.onnx")
    compare(net, session(), {"x": np.random.RandomState(0).randn(2, 3, 2).astype(np.float32)}, 0)


@pytest.mark.parametrize("window", ["kernel_size: 3 stride: 2", "kernel_size: 2", "global_pooling: true",
                                    "kernel_size: 1 stride: 3"])
def test_stochastic_pooling(window: str):
    """No golden has it (its Caffe code is for GPUs only), so it is in no case."""
    text = ('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 8 } } }'
            'layer { name: "y" type: "Pooling" bottom: "x" top: "y" pooling_param { pool: STOCHASTIC %s } }' % window)
    with pytest.raises(CaffeError, match="in TRAIN, STOCHASTIC pooling draws random numbers; build the net for TEST"):
        export_onnx(build(text, caffe.TRAIN), "net.onnx")
    net = build(text)
    export_onnx(net, "net.onnx")
    run, random = session(), np.random.RandomState(0)
    for shape in ((1, 2, 6, 8), (2, 2, 9, 5)):
        compare(net, run, {"x": np.maximum(random.randn(*shape), 0).astype(np.float32)})


def test_of_equal_values_argmax_takes_the_last():
    net = build('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 2 } } }'
                 'layer { name: "y" type: "ArgMax" bottom: "x" top: "y" argmax_param { axis: 1 } }')
    export_onnx(net, "net.onnx")
    compare(net, session(), {"x": np.zeros((2, 3, 2), np.float32)}, 0)
    assert (net.blobs["y"].data == 2).all()


def test_export_leaves_no_trace_in_the_net():
    net = build("""layer { name: "x" type: "Input" top: "x" top: "cont"
                           input_param { shape { dim: 2 dim: 3 dim: 2 } shape { dim: 2 dim: 3 } } }
                   layer { name: "y" type: "LSTM" bottom: "x" bottom: "cont" top: "y" recurrent_param { num_output: 2
                           weight_filler { type: "uniform" min: -1 } } }
                   layer { name: "p" type: "Crop" bottom: "y" bottom: "x" top: "p" }""")
    net.blobs["x"].data[...] = 1
    net.blobs["cont"].data[...] = 1
    before = [net.forward()["p"].copy() for _ in range(2)]
    assert (before[0] != before[1]).any()
    export_onnx(net, "net.onnx")
    other = build(Path("net.prototxt").read_text())
    other.share_with(net)
    for name in ("x", "cont"):
        other.blobs[name].data[...] = 1
    for _ in range(2):
        other.forward()
    np.testing.assert_array_equal(net.forward()["p"], other.forward()["p"])  # the state goes on where it was


@pytest.mark.parametrize("layer, message", [
    ('type: "Dropout"', r"Layer 'y' \(Dropout\): cannot be exported.*in TRAIN it draws random numbers; build the net for T"),
    ('type: "BatchNorm"', "batch's statistics; build the net for TEST"),
    ('type: "Python" python_param { module: "parity.twice_layer" layer: "TwiceLayer" param_str: "{\'factor\': 3}" }',
     r"Layer 'y' \(Python\): cannot be exported to ONNX: its code is Python"),
])
def test_refused(layer: str, message: str):
    net = build('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
                'layer { name: "y" bottom: "x" top: "y" %s }' % layer, caffe.TRAIN)
    with pytest.raises(CaffeError, match=message):
        export_onnx(net, "net.onnx")
    with pytest.raises(CaffeError, match="there is no blob 'z'; the net has x, y"):
        export_onnx(net, "net.onnx", ["z"])
    assert not list(Path(".").glob("net.onnx*"))


def test_items_that_filter_lets_through():
    text = """layer { name: "x" type: "Input" top: "x" top: "s" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
        layer { name: "f" type: "Filter" bottom: "x" bottom: "s" top: "f" }
        layer { name: "y" type: "Reshape" bottom: "f" top: "y" reshape_param { shape { %s dim: 1 dim: 3 } } }"""
    net = build(text % "dim: 0")
    kept = net.layer_dict["f"].kept
    export_onnx(net, "net.onnx")
    assert net.layer_dict["f"].kept is kept  # trying other sizes left no trace
    x = np.random.RandomState(0).randn(5, 3).astype(np.float32)
    compare(net, session(), {"x": x, "s": np.array([1, 0, 0, 2, 1], np.float32)}, 0)
    with pytest.raises(CaffeError, match="follows Filter does not take another number of items"):
        export_onnx(build(text % "dim: 4"), "net.onnx")
