"""docs/pytorch.md: its examples run, one after another, and do what the text says."""

from __future__ import annotations

import re
from pathlib import Path

import caffe
import numpy as np
import pytest

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv2" bottom: "label" top: "loss" }
"""


def test_examples(tmp_path, monkeypatch, capsys):
    for package in ("onnx", "safetensors"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")
    Path("net.prototxt").write_text(NET)
    caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    text = (Path(__file__).parent.parent / "docs" / "pytorch.md").read_text()
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(example, names)
    printed = capsys.readouterr().out
    assert re.search(r"copied +1 blobs: conv1.weight\n +left +3 blobs: conv1.bias, conv2.weight, conv2.bias", printed)
    shape = re.search(r"# (\{'data'.*\})", text).group(1)
    assert printed.splitlines()[-1] == shape
    tuned = caffe.Net("net.prototxt", "finetuned.caffemodel", caffe.TEST)
    start = caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
    assert all((tuned.params[n][0].data != start.params[n][0].data).any() for n in tuned.params)
    np.testing.assert_array_equal(tuned.params["conv2"][0].data, names["net"].params["conv2"][0].data)
