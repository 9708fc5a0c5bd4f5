"""caffe.draw: the graphs it makes, against those BVLC's made, as told by a stand-in for pydot (goldens/make_pycaffe.py)."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import caffe.draw
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from goldens import make_pycaffe
from google.protobuf import text_format
from PIL import Image

from torchcaffe import graph_picture

ROOT = Path(__file__).parent.parent
GOLDEN = json.loads((Path(__file__).parent / "goldens" / "pycaffe.json").read_text())["answers"]["draw"]


@pytest.fixture
def pydot(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", make_pycaffe.FakePydot)


@pytest.mark.parametrize("drawing", GOLDEN)
def test_as_bvlc(drawing):
    assert make_pycaffe.plain(make_pycaffe.draw())[drawing] == GOLDEN[drawing]


@pytest.mark.parametrize("path", sorted(p for p in ROOT.glob("voc-*/*.prototxt") if "solver" not in p.name),
                         ids=lambda p: "/".join(p.parts[-2:]))
def test_every_net_here_can_be_drawn(path, pydot, tmp_path):
    net = text_format.Parse(path.read_text(), caffe_pb2.NetParameter())
    caffe.draw.draw_net_to_file(net, str(tmp_path / "net.svg"), "LR", caffe.TEST)
    assert (tmp_path / "net.svg").read_bytes() == b"svg"


def test_learning_rate_multipliers():
    layer = caffe_pb2.LayerParameter(name="ip", type="InnerProduct", param=[caffe_pb2.ParamSpec(lr_mult=0.5)])
    assert caffe.draw.get_layer_lr_mult(layer) == (0.5, 1.0)
    with pytest.raises(ValueError, match="ReLU layers do not have a learning rate multiplier"):
        caffe.draw.get_layer_lr_mult(caffe_pb2.LayerParameter(type="ReLU"))


def test_what_is_missing_is_said(monkeypatch, pydot, tmp_path):
    net = caffe_pb2.NetParameter()
    with pytest.raises(ValueError, match="'net' has no extension"):
        caffe.draw.draw_net_to_file(net, "net")

    def no_dot(self, format):
        raise FileNotFoundError(2, '"dot" not found in path.')

    monkeypatch.setattr(make_pycaffe.Dot, "create", no_dot)
    with pytest.raises(RuntimeError, match=r"as .svg needs pydot and Graphviz .*without them: .bmp, "):
        caffe.draw.draw_net(net, "LR", "svg")
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(RuntimeError, match="as .svg needs pydot and Graphviz"):
        caffe.draw.draw_net(net, "LR", "svg")
    with pytest.raises(ImportError, match="pip install pydot"):
        caffe.draw.get_pydot_graph(net, "LR")


NET = """
layer { name: "in" type: "Input" top: "x" } layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 4 kernel_size: 3 } }
"""


@pytest.mark.parametrize("rankdir", ["LR", "RL", "TB", "BT"])
def test_drawn_without_pydot_and_graphviz(rankdir, monkeypatch):
    """Every box there, in its colour; the two that read x are further along than the one that makes it."""
    monkeypatch.setitem(sys.modules, "pydot", None)
    net = text_format.Parse(NET, caffe_pb2.NetParameter())
    with Image.open(io.BytesIO(caffe.draw.draw_net(net, rankdir))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    places = []
    for colour in ((0x64, 0x95, 0xED), (0x90, 0xEE, 0x90), (0xFF, 0x50, 0x50)):  # other layer, in place, convolution
        rows, columns = np.nonzero((pixels == colour).all(2))
        assert len(rows) > 200
        places.append((columns if rankdir in ("LR", "RL") else rows).mean())
    forward = -1 if rankdir in ("RL", "BT") else 1
    assert min((place - places[0]) * forward for place in places[1:]) > 50
    assert caffe.draw.draw_net(net, rankdir, "pdf").startswith(b"%PDF")
    assert caffe.draw.draw_net(caffe_pb2.NetParameter(), rankdir)


def test_a_net_too_large_for_a_picture(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    monkeypatch.setattr(graph_picture, "MOST", 1000)
    with pytest.raises(ValueError, match="a net of 5 layers and blobs would be a picture of"):
        caffe.draw.draw_net(text_format.Parse(NET, caffe_pb2.NetParameter()), "LR")
