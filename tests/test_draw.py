"""caffe.draw: the graphs it makes, against those BVLC's made, as told by a stand-in for pydot (goldens/make_pycaffe.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import caffe.draw
import pytest
from caffe.proto import caffe_pb2
from goldens import make_pycaffe
from google.protobuf import text_format

ROOT = Path(__file__).parent.parent
GOLDEN = json.loads((Path(__file__).parent / "goldens" / "pycaffe.json").read_text())["answers"]["draw"]


@pytest.fixture
def pydot(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", make_pycaffe.FakePydot)


@pytest.mark.parametrize("drawing", GOLDEN)
def test_as_bvlc(drawing):
    assert make_pycaffe.plain(make_pycaffe.draw())[drawing] == GOLDEN[drawing]


@pytest.mark.parametrize("path", sorted(p for p in ROOT.glob("voc-*/*.prototxt") if p.name != "solver.prototxt"),
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
    with pytest.raises(RuntimeError, match="apt-get install graphviz"):
        caffe.draw.draw_net(net, "LR")
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ImportError, match="pip install pydot"):
        caffe.draw.draw_net(net, "LR")
