"""Layers in Python (`caffe.Layer`), from outside, by `import caffe` alone.

Passes under BVLC's pycaffe too, as test_pycaffe.py does.
"""

from __future__ import annotations

import caffe
import numpy as np
import pytest
from test_pycaffe import INPUT, net_of


class Times10(caffe.Layer):
    """Ten times the bottom; works in place too."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 10 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 10 * top[0].diff


class TimesParam(Times10):
    """Ten times what param_str says."""

    def setup(self, bottom, top):
        self.value = float(self.param_str)

    def forward(self, bottom, top):
        top[0].data[...] = self.value * bottom[0].data


class Failing(Times10):
    """Raises where param_str says."""

    def setup(self, bottom, top):
        self.calls = 0
        if self.param_str == "setup":
            raise RuntimeError("setup fails")

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.calls += 1
        if self.param_str == "reshape" and self.calls > 1:
            raise ValueError("reshape fails")

    def forward(self, bottom, top):
        raise ZeroDivisionError("forward fails")

    def backward(self, top, propagate_down, bottom):
        raise KeyError("backward fails")


class Weighted(Times10):
    """Has a parameter, 0 at first, whose gradient is always 1."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 0

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += 1


class Phase(caffe.Layer):
    """Its phase, as a blob without axes."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class Growing(caffe.Layer):
    """A top that has one row more at each forward."""

    def setup(self, bottom, top):
        self.rows = 0

    def reshape(self, bottom, top):
        self.rows += 1
        top[0].reshape(self.rows, 2)

    def forward(self, bottom, top):
        top[0].data[...] = np.arange(2 * self.rows).reshape(self.rows, 2)

    def backward(self, top, propagate_down, bottom):
        pass


def python_layer(name: str, kind: str, bottom: str = "", top: str = "", param_str: str = "", more: str = "") -> str:
    bottom = 'bottom: "%s"' % bottom if bottom else ""
    python = 'module: "%s" layer: "%s" param_str: "%s"' % (__name__, kind, param_str)
    return 'layer { name: "%s" type: "Python" %s top: "%s" %s python_param { %s } }\n' % (
        name, bottom, top or name, more, python)


THREE = ('name: "three" force_backward: true input: "data" input_shape { dim: 10 dim: 9 dim: 8 }\n'
         + python_layer("one", "Times10", "data") + python_layer("two", "Times10", "one")
         + python_layer("three", "Times10", "two"))


def test_python_layers_forward_and_backward(tmp_path):
    net = net_of(tmp_path, THREE)
    assert net.inputs == ["data"] and net.blobs["data"].data.shape == (10, 9, 8)
    net.blobs["data"].data[...] = 8
    net.forward()
    assert (net.blobs["three"].data == 8000).all()
    net.blobs["three"].diff[...] = 7
    net.backward()
    assert (net.blobs["data"].diff == 7000).all()


def test_python_layers_follow_a_reshape(tmp_path):
    net = net_of(tmp_path, THREE)
    net.blobs["data"].reshape(4, 4, 4, 4)
    net.forward()
    assert {blob.data.shape for blob in net.blobs.values()} == {(4, 4, 4, 4)}


def test_python_layers_in_place(tmp_path):
    net = net_of(tmp_path, INPUT + python_layer("a", "Times10", "x", "x") + python_layer("b", "Times10", "x", "x"))
    assert list(net.blobs) == ["x"]
    assert (net.forward(x=np.full((2, 3), 3.0))["x"] == 300).all()


def test_param_str(tmp_path):
    net = net_of(tmp_path, INPUT + python_layer("a", "TimesParam", "x", param_str="2.5")
                 + python_layer("b", "TimesParam", "a", param_str="4"))
    out = net.forward(x=np.ones((2, 3)), blobs=["a"])
    assert (out["a"] == 2.5).all() and (out["b"] == 10).all()
    assert net.layers[1].param_str == "2.5" and net.layers[1].value == 2.5 and type(net.layers[1]).__name__ == "TimesParam"


@pytest.mark.parametrize("where, kind", [("setup", RuntimeError), ("reshape", ValueError), ("forward", ZeroDivisionError),
                                         ("backward", KeyError)])
def test_exceptions_come_through(tmp_path, where, kind):
    with pytest.raises(kind, match=where + " fails"):
        net = net_of(tmp_path, "force_backward: true\n" + INPUT + python_layer("a", "Failing", "x", param_str=where))
        if where == "reshape":
            net.reshape()
        elif where == "forward":
            net.forward()
        else:
            net.backward()


def test_a_python_layers_parameter(tmp_path):
    """It is saved, loaded, shared and updated as any other."""
    text = "force_backward: true\n" + INPUT + python_layer("layer", "Weighted", "x")
    net, model = net_of(tmp_path, text), str(tmp_path / "a.caffemodel")
    for wanted in (1, 2):
        net.forward()
        net.backward()
        layer = net.layers[list(net._layer_names).index("layer")]
        assert (layer.blobs[0].data[0], layer.blobs[0].diff[0]) == (0, wanted)
    layer.blobs[0].data[0] += layer.blobs[0].diff[0]
    net.save(model)
    layer.blobs[0].data[0] = -1
    assert net.params["layer"][0].data[0] == -1
    net.copy_from(model)
    assert layer.blobs[0].data[0] == 2
    other = net_of(tmp_path, text)
    other.share_with(net)
    layer.blobs[0].data[0] = 5
    assert other.params["layer"][0].data[0] == 5
    (tmp_path / "solver.prototxt").write_text('net: "%s" base_lr: 0.5 lr_policy: "fixed"' % (tmp_path / "net.prototxt"))
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.step(2)
    assert solver.net.params["layer"][0].data[0] == -1


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_python_layer_knows_its_phase(tmp_path, phase):
    out = net_of(tmp_path, python_layer("phase", "Phase"), phase).forward()
    assert out["phase"].shape == () and out["phase"] == phase


def test_tops_may_change_their_shape(tmp_path):
    net = net_of(tmp_path, python_layer("rows", "Growing")
                 + 'layer { name: "sum" type: "Reduction" bottom: "rows" top: "sum" reduction_param { axis: 0 } }')
    sizes = []
    for _ in range(3):
        total = float(net.forward()["sum"])
        sizes.append(net.blobs["rows"].data.shape[0])
        assert total == np.arange(2 * sizes[-1]).sum()
    assert sizes == [sizes[0], sizes[0] + 1, sizes[0] + 2]


def test_python_losses(tmp_path):
    """A Python layer is a loss by its loss_weight, and what it leaves in its bottom's diff is what is learnt from."""
    net = net_of(tmp_path, INPUT + """
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 } }
        """ + python_layer("loss", "Times10", "y", more="loss_weight: 2"))
    net.blobs["x"].data[...] = 1
    net.params["ip"][1].data[...] = 1
    assert net._forward(0, 2) == 2 * 10 * 6 and dict(net.blob_loss_weights)["loss"] == 2
    net.backward()
    assert net.params["ip"][1].diff.tolist() == [2 * 10 * 2] * 3
