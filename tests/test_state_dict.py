"""Parameters by name: state dicts of others into a net, safetensors both ways, and the tools of the command line for it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
import torch

from torchcaffe import state_dict
from torchcaffe.__main__ import main
from torchcaffe.errors import CaffeError
from torchcaffe.module import NetModule

NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 4 kernel_size: 3 pad: 1
        bias_term: false weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc2" type: "Convolution" bottom: "conv1" top: "fc2" convolution_param { num_output: 5 kernel_size: 8 } }
layer { name: "prelu" type: "PReLU" bottom: "fc2" top: "fc2" }
"""
NAMES = ["conv1.weight", "bn1.mean_sum", "bn1.variance_sum", "bn1.sum_weight", "scale1.weight", "scale1.bias", "fc2.weight",
         "fc2.bias", "prelu.weight"]
MAPPING = {"features.0": "conv1", "features.1": "bn1", "features.1.weight": "scale1.weight",
           "features.1.bias": "scale1.bias", "classifier": "fc2"}

pytest.importorskip("safetensors")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Nets write their files into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")
    Path("net.prototxt").write_text(NET)


def build() -> caffe.Net:
    """The net."""
    return caffe.Net("net.prototxt", caffe.TEST)


def theirs() -> torch.nn.Sequential:
    """The same net but for the PReLU, as people write it in PyTorch, with statistics of its own."""
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4),
                                         torch.nn.ReLU(), torch.nn.Flatten())
    model.classifier = torch.nn.Linear(4 * 8 * 8, 5)
    model.train()(torch.randn(16, 3, 8, 8) * 3 + 1)
    torch.nn.init.normal_(model.features[1].weight)
    return model.eval()


def test_a_model_of_pytorch_computes_the_same_in_caffe():
    model, net = theirs(), build()
    report = state_dict.load_state_dict(net, model.state_dict(), MAPPING)
    assert report.copied == [("conv1.weight", 108), ("scale1.weight", 4), ("scale1.bias", 4), ("bn1.mean_sum", 4),
                             ("bn1.variance_sum", 4), ("fc2.bias", 5), ("bn1.sum_weight", 1)]
    assert report.coerced == [("classifier.weight (5, 256) -> (5, 4, 8, 8)", 1280)]
    assert report.dropped == [("features.1.num_batches_tracked", 1)] and report.left == [("prelu.weight", 5)]
    assert str(report).splitlines()[0] == "load_state_dict: values copied 130, coerced 1,280, dropped 1, left 5"
    net.params["prelu"][0].data[...] = 1
    x = torch.randn(1, 3, 8, 8)
    net.blobs["data"].data[...] = x
    np.testing.assert_allclose(net.forward()["fc2"].ravel(), model(x).detach().ravel(), rtol=1e-4, atol=1e-5)


def test_names_and_copies():
    net = build()
    state = state_dict.state_dict(net)
    assert list(state) == NAMES == [*state_dict.entries(net)]
    state["fc2.bias"] += 1
    assert not net.params["fc2"][1].data.any()  # a copy
    assert {n: e.learned for n, e in state_dict.entries(net).items()} == {n: not n.startswith("bn1") for n in NAMES}
    assert sorted(NetModule(net).state_dict()) == sorted(NAMES)


@pytest.mark.parametrize("state, mapping, message", [
    ({"conv1.weight": np.zeros(3), "fc2.bias": np.ones(5)}, None,
     r"numbers of values differ: conv1.weight \(3,\) for conv1.weight \(4, 3, 3, 3\). Nothing was changed"),
    ({"a.weight": np.zeros(3)}, None, "none of the 1 names fits, such as a.weight; the net has conv1.weight, bn1.mean_sum"),
    ({"a.weight": np.zeros(108), "conv1.weight": np.zeros(108)}, {"a": "conv1"},
     "'a.weight' and 'conv1.weight' are both to become 'conv1.weight'"),
    ({"fc2.bias": np.ones(5)}, {"a": "conv1"}, "the mapping names 'a', which no array fits; the source has fc2.bias"),
    ({"fc2.bias": np.ones(5)}, {"fc2": "fc3"}, "the mapping leads to 'fc3', which the net does not have"),
    ({"state_dict": {"fc2.bias": np.ones(5)}}, None, "'state_dict' is a dict, wanted a tensor or array"),
])
def test_refused_with_nothing_changed(state, mapping, message):
    net = build()
    before = state_dict.state_dict(net)
    with pytest.raises(CaffeError, match=message):
        state_dict.load_state_dict(net, state, mapping)
    assert all(torch.equal(before[n], t) for n, t in state_dict.state_dict(net).items())


def test_dropping_and_other_types_of_numbers():
    net = build()
    report = state_dict.load_state_dict(net, {"fc2.bias": torch.arange(5, dtype=torch.bfloat16), "fc2.weight": np.zeros(7)},
                                        {"fc2.weight": None})
    assert net.params["fc2"][1].data.tolist() == [0, 1, 2, 3, 4] and report.dropped == [("fc2.weight", 7)]


def test_two_layers_of_one_name():
    Path("net.prototxt").write_text(NET.replace('"fc2" type', '"conv1" type'))
    with pytest.raises(CaffeError, match=r"Layer 'conv1' \(Convolution\): another layer of the net has this name"):
        state_dict.entries(build())


def test_safetensors_there_and_back():
    net, other = build(), build()
    state_dict.load_state_dict(net, theirs().state_dict(), MAPPING)
    state_dict.write_safetensors("net.safetensors", net, {"note": "mine"})
    tensors, metadata = state_dict.read_safetensors("net.safetensors")
    assert metadata == {"format": "pt", "producer": "torchcaffe", "net": "small", "note": "mine"}
    assert state_dict.load_state_dict(other, tensors).count("copied") == 1415
    ours, others = state_dict.state_dict(net), state_dict.state_dict(other)
    assert all(torch.equal(ours[name], others[name]) for name in NAMES)
    NetModule(other).load_state_dict(tensors)
    assert sorted(p.name for p in Path(".").glob("net.safetensors*")) == ["net.safetensors"]
    with pytest.raises(CaffeError, match="absent/net.safetensors: cannot be written.*make the folder"):
        state_dict.write_safetensors("absent/net.safetensors", net)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}",
                                     b"\x02" + b"\x00" * 7 + b"[]", None])
def test_damaged_safetensors(content):
    if content is not None:
        Path("bad.safetensors").write_bytes(content)
    with pytest.raises(CaffeError, match="bad.safetensors: cannot be read as safetensors"):
        state_dict.read_safetensors("bad.safetensors")


def test_packages_that_are_not_there(monkeypatch):
    from torchcaffe.onnx_export import export_onnx

    for name in ("onnx", "safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)  # import then raises ModuleNotFoundError
    with pytest.raises(CaffeError, match="writing net.onnx needs the package onnx, which is not.*pip install onnx"):
        export_onnx(build(), "net.onnx")
    with pytest.raises(CaffeError, match="needs the package safetensors"):
        state_dict.write_safetensors("net.safetensors", build())


# -- the command line --------------------------------------------------------------------------------------------------
def test_tools_there_and_back(monkeypatch, capsys):
    monkeypatch.setenv("GLOG_minloglevel", "0")
    build().save("a.caffemodel")
    assert main(["export_safetensors", "net.prototxt", "a.caffemodel", "a.safetensors"]) == 0
    metadata = state_dict.read_safetensors("a.safetensors")[1]
    assert metadata["definition"] == "net.prototxt" and metadata["weights"] == "a.caffemodel"
    assert metadata["weights.sha256"] == hashlib.sha256(Path("a.caffemodel").read_bytes()).hexdigest()
    assert main(["import_safetensors", "net.prototxt", "a.safetensors", "b.caffemodel"]) == 0
    assert "values copied 1,415, coerced 0, dropped 0, left 0" in capsys.readouterr().err
    assert Path("a.caffemodel").read_bytes() == Path("b.caffemodel").read_bytes()


def test_importing_with_a_file_of_names(monkeypatch, capsys):
    from safetensors.torch import save_file

    monkeypatch.setenv("GLOG_minloglevel", "0")
    save_file(theirs().state_dict(), "theirs.safetensors")
    lines = ["%s %s" % pair for pair in MAPPING.items()] + ["", "features.1.num_batches_tracked -  # a count"]
    Path("names.txt").write_text("\n".join(lines))
    arguments = ["import_safetensors", "net.prototxt", "theirs.safetensors", "ours.caffemodel"]
    assert main([*arguments, "-map", "names.txt"]) == 0
    assert "coerced  1 blobs: classifier.weight (5, 256) -> (5, 4, 8, 8)" in capsys.readouterr().err
    net = caffe.Net("net.prototxt", "ours.caffemodel", caffe.TEST)
    assert torch.equal(torch.from_numpy(net.params["conv1"][0].data), theirs().features[0].weight)
    assert main(arguments) == 134 and "none of the" in capsys.readouterr().err
    for text in ("a b c", "a b\na c"):
        Path("names.txt").write_text(text)
        assert main([*arguments, "-map", "names.txt"]) == 134
        assert "names.txt:%d: got" % len(text.splitlines()) in capsys.readouterr().err
    assert main([*arguments, "-map", "absent.txt"]) == 134 and "absent.txt: cannot be read" in capsys.readouterr().err


def test_export_onnx(monkeypatch, capsys):
    onnx = pytest.importorskip("onnx")
    monkeypatch.setenv("GLOG_minloglevel", "0")
    build().save("a.caffemodel")
    assert main(["export_onnx", "net.prototxt", "a.caffemodel", "a.onnx", "-outputs", "conv1,fc2"]) == 0
    assert "Input data: N x 3 x H x W" in capsys.readouterr().err
    model = onnx.load("a.onnx")
    assert [o.name for o in model.graph.output] == ["conv1", "fc2"] and model.producer_name == "torchcaffe"
    assert {p.key: p.value for p in model.metadata_props}["net"] == "small"
    assert main(["export_onnx", "net.prototxt", "a.caffemodel", "a.onnx", "-nodynamic"]) == 0
    assert "Input data: 1 x 3 x 8 x 8" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export_onnx", "export_safetensors", "import_safetensors"])
def test_wrong_arguments(command, monkeypatch, capsys):
    monkeypatch.setenv("GLOG_minloglevel", "0")
    assert main([command, "net.prototxt"]) == 1 and "Usage: " + command in capsys.readouterr().err
    assert main([command, "net.prototxt", "absent", "out"]) == 134 and "absent" in capsys.readouterr().err
    assert main([command, "net.prototxt", "a", "b", "-phase", "LATER"]) == 134
    assert "-phase LATER: wanted TEST or TRAIN" in capsys.readouterr().err
    assert not Path("out").exists()
