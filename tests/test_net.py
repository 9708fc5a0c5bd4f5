"""Net: what is built from a prototxt, how it runs, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import caffe
import numpy as np
import pytest
from parity import run_graph

from torchcaffe.errors import CaffeError

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "graph.json").read_text())


@pytest.fixture(scope="module")
def graph():
    return run_graph.cases()


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_built_and_pruned_as_by_bvlc(graph, case):
    """Filtering, splits, sharing, outputs' order, losses and which gradients are computed, as recorded from BVLC."""
    ours, golden = graph[case], GOLDEN["cases"][case]
    for numbers in ("results", "gradients", "input_diff"):
        a, b = (np.hstack([x[numbers][k] for k in sorted(x[numbers])]) if isinstance(x[numbers], dict) else x[numbers]
                for x in (ours, golden))
        # sums of up to 150 float32 products: 1e-5 is the bar for layers, noise between BLAS builds is 2e-6
        np.testing.assert_allclose(a, b, rtol=1e-5)
    exact = [k for k in golden if k not in ("results", "gradients", "input_diff")]
    assert {k: ours[k] for k in exact} == {k: golden[k] for k in exact}


def net_of(tmp_path, text, phase=caffe.TEST, **kwargs):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), phase, **kwargs)


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: %d } }\n'
RELU = 'layer { name: "relu" type: "ReLU" bottom: "y" top: "%s" }\n'


@pytest.mark.parametrize("text, parts", [
    (INPUT + 'layer { name: "a" type: "ReLu" bottom: "x" top: "y" }', ["'a'", "ReLu", "ReLU"]),
    (INPUT + 'layer { name: "a" type: "ReLU" bottom: "z" top: "y" }', ["'a' (ReLU)", "'z'"]),
    (INPUT + IP % 2 + 'layer { name: "b" type: "ReLU" bottom: "x" top: "y" }', ["'b' (ReLU)", "'y'", "rename"]),
    (INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" bottom: "x" top: "y" }', ["'a' (ReLU)", "2 bottom", "1"]),
    (INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" param { lr_mult: 1 } }', ["'a'", "1 param", "0"]),
    (INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" propagate_down: true propagate_down: true }',
     ["'a'", "2 propagate_down", "1"]),
    (INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" include { phase: TEST } exclude { stage: "s" } }',
     ["'a'", "include", "exclude"]),
    (INPUT + IP % 2000000000, ["'ip' (InnerProduct)", "(2000000000, 3)", "limit"]),
    (INPUT + 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 '
             'weight_filler { type: "normal" } } }', ["'ip' (InnerProduct)", "'normal'", "gaussian"]),
    ('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: -1 } } }', ["'in' (Input)", "(-1,)"]),
    (INPUT + 'layer { name: "a" typ: "ReLU" }', ["net.prototxt", ":2:", "typ", "type"]),
])
def test_errors_name_layer_and_remedy(tmp_path, text, parts):
    with pytest.raises(CaffeError) as error:
        net_of(tmp_path, text)
    assert all(p in str(error.value) for p in parts), str(error.value)


def test_what_goes_wrong_while_a_net_runs_names_the_layer(tmp_path):
    net = net_of(tmp_path, 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 } } }' + (
        'layer { name: "wide" type: "Tile" bottom: "x" top: "y" tile_param { tiles: 65536 axis: 0 } }'))
    for run in (net.forward, net.reshape):
        net.blobs["x"].reshape(1, 65536)
        with pytest.raises(CaffeError, match=r"^Layer 'wide' \(Tile\): blob: shape \(65536, 65536\) has 4294967296 el"):
            run()


def test_no_memory_names_the_layer(tmp_path, monkeypatch):
    net = net_of(tmp_path, INPUT + IP % 2)

    def allocate(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")  # what PyTorch says

    monkeypatch.setattr(net.layers[1], "forward", allocate)
    with pytest.raises(CaffeError, match=r"^Layer 'ip' \(InnerProduct\): .*can't allocate memory"):
        net.forward()


def test_missing_files_are_runtime_errors_as_in_pycaffe(tmp_path):
    with pytest.raises(RuntimeError, match="Could not open file .*nowhere.prototxt"):
        caffe.Net(str(tmp_path / "nowhere.prototxt"), caffe.TEST)
    with pytest.raises(RuntimeError, match="Could not open file .*nowhere.caffemodel"):
        net_of(tmp_path, INPUT, weights=str(tmp_path / "nowhere.caffemodel"))


def test_copy_from_checks_everything_before_it_changes_anything(tmp_path):
    """The second layer does not fit, so the first keeps its values too."""
    two = INPUT + IP % 4 + IP.replace('"ip"', '"ip2"').replace('bottom: "x" top: "y"', 'bottom: "y" top: "z"')
    source = net_of(tmp_path, two % 5)
    source.params["ip"][0].data[...] = 7
    source.save(str(tmp_path / "source.caffemodel"))
    target = net_of(tmp_path, two % 6)
    with pytest.raises(CaffeError) as error:
        target.copy_from(str(tmp_path / "source.caffemodel"))
    for part in ("'ip2' (InnerProduct)", "source.caffemodel", "(5, 4)", "(6, 4)", "rename the layer"):
        assert part in str(error.value)
    assert not target.params["ip"][0].data.any()


def test_save_and_load_and_share(tmp_path):
    text = INPUT + IP % 4 + RELU % "y"
    a, b = net_of(tmp_path, text), net_of(tmp_path, text)
    a.params["ip"][0].data[...] = np.arange(12).reshape(4, 3)
    for suffix in (".caffemodel", ".caffemodel.h5"):
        a.save(str(tmp_path / ("m" + suffix))) if suffix == ".caffemodel" else a.save_hdf5(str(tmp_path / ("m" + suffix)))
        c = net_of(tmp_path, text, weights=str(tmp_path / ("m" + suffix)))
        np.testing.assert_array_equal(c.params["ip"][0].data, a.params["ip"][0].data)
    b.share_with(a)
    a.params["ip"][1].data[...] = 5
    assert (b.params["ip"][1].data == 5).all()
    b.params["ip"][1].diff[...] = 3
    assert not a.params["ip"][1].diff.any()  # data is shared, diffs are not


def test_views_see_later_results(tmp_path):
    """A numpy view taken once sees what later passes compute, also after the net and the blob are gone."""
    net = net_of(tmp_path, INPUT + IP % 4 + RELU % "r")
    view, part = net.blobs["r"].data, net.blobs["y"].data[1]
    net.params["ip"][1].data[...] = [1, -2, 3, 4]
    net.forward()
    np.testing.assert_array_equal(view, [[1, 0, 3, 4]] * 2)
    np.testing.assert_array_equal(part, [1, -2, 3, 4])
    net.params["ip"][1].data[...] = 9
    net.forward()
    assert (view == 9).all() and (part == 9).all()
    del net
    assert (view == 9).all()


def test_forward_and_backward_of_parts(tmp_path):
    net = net_of(tmp_path, "force_backward: true\n" + INPUT + IP % 4 + RELU % "r")
    net.params["ip"][0].data[...] = 1
    out = net.forward(x=np.ones((2, 3)), end="ip", blobs=["x"])
    assert sorted(out) == ["x", "y"] and (out["y"] == 3).all() and not net.blobs["r"].data.any()
    assert (net.forward(start="relu")["r"] == 3).all()
    assert (net.backward(r=np.ones((2, 4)))["x"] == 4).all()
    np.testing.assert_array_equal(net.params["ip"][1].diff, [2] * 4)
    net.backward()
    np.testing.assert_array_equal(net.params["ip"][1].diff, [4] * 4)  # parameter diffs accumulate
    with pytest.raises(CaffeError, match="do not match net inputs.*'w'.*'x'"):
        net.forward(w=np.ones((2, 3)))


def test_parts_that_are_not_there(tmp_path):
    """net.cpp checks both ends (CHECK_GE, CHECK_LT); an empty part is one that runs nothing."""
    net = net_of(tmp_path, INPUT + IP % 4)
    for first, last in ((0, 2), (-1, 1)):
        for run, start, end in ((net.forward_from_to, first, last), (net.backward_from_to, last, first)):
            with pytest.raises(CaffeError, match=f"layers {first} to {last}.*0 to 1"):
                run(start, end)
    assert net.forward_from_to(1, 0) == 0


@pytest.mark.parametrize("name", ["same", ""])
def test_layers_of_one_name(tmp_path, name):
    """Caffe does not mind: each layer's own blobs decide what runs backward, and weights go to the first of the name.

    BVLC 1.0 gives the same: the first layer, under the loss, gets its gradient; copy_from and share_with fill the first.
    """
    ip = IP % 4
    text = INPUT + ip.replace('"ip"', f'"{name}"') + ip.replace('"ip"', f'"{name}"').replace('"y"', '"z"')
    text += 'layer { type: "Silence" bottom: "z" } layer { type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }'
    net, source = net_of(tmp_path, text), net_of(tmp_path, INPUT + ip.replace('"ip"', f'"{name}"'))
    first, second = (layer.blobs for layer in net.layers if layer.type == "InnerProduct")
    net.forward(x=np.ones((2, 3)))
    net.backward()
    assert (first[0].diff == 2).all() and not second[0].diff.any()
    source.params[name][0].data[...] = 7
    source.save(str(tmp_path / "w.caffemodel"))
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert (first[0].data == 7).all() and not second[0].data.any()
    net.share_with(source)
    source.params[name][0].data[...] = 8
    assert (first[0].data == 8).all() and not second[0].data.any()


def test_reshape_on_the_fly_and_batches(tmp_path):
    net = net_of(tmp_path, INPUT + RELU.replace('"y"', '"x"') % "r")
    net.blobs["x"].reshape(5, 3)
    net.reshape()
    assert net.blobs["r"].data.shape == (5, 3)
    x = np.arange(21, dtype=np.float32).reshape(7, 3) - 5
    np.testing.assert_array_equal(net.forward_all(x=x)["r"], np.maximum(x, 0))


def test_callbacks_run_around_each_layer(tmp_path):
    net = net_of(tmp_path, "force_backward: true\n" + INPUT + IP % 4)
    seen = []
    net.before_forward(lambda i: seen.append(("before", i)))
    net.after_backward(lambda i: seen.append(("after", i)))
    net.forward()
    net.backward()
    assert seen == [("before", 0), ("before", 1), ("after", 1), ("after", 0)]


def test_loss_adds_up_as_bvlc_does(tmp_path):
    """BVLC's CPU code prints 509014.6875 here (run on 99bd997); the exact sum is 167500 ln 21 = 509957.5."""
    net = net_of(tmp_path, """
        layer { name: "in" type: "Input" top: "x" top: "l" input_param {
                shape { dim: 1 dim: 21 dim: 375 dim: 500 } shape { dim: 1 dim: 1 dim: 375 dim: 500 } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "l" top: "loss"
                loss_param { normalize: false ignore_label: 255 } }""")
    net.blobs["l"].data[:, :, :40] = 255
    assert float(net.forward()["loss"]) == 509014.6875


def test_backward_before_forward_is_an_error_where_forward_keeps_something(tmp_path):
    net = net_of(tmp_path, INPUT + IP % 3 + 'layer { name: "l" type: "SigmoidCrossEntropyLoss" bottom: "y" bottom: "x" }')
    with pytest.raises(CaffeError, match=r"'l' \(SigmoidCrossEntropyLoss\): cannot run backward before it ran forward"):
        net.backward()
    net.forward()
    net.backward()


def test_a_top_named_twice_is_an_error(tmp_path):
    with pytest.raises(CaffeError, match="'s' .Slice.: top blob 'y' is already produced"):
        net_of(tmp_path, INPUT + 'layer { name: "s" type: "Slice" bottom: "x" top: "y" top: "y" }')


@pytest.mark.parametrize("phase", [7, -1])
def test_a_phase_that_is_none(tmp_path, phase):
    with pytest.raises(ValueError, match=r"got phase %d, wanted caffe.TRAIN \(0\)" % phase):
        net_of(tmp_path, INPUT, phase)


def test_paths_of_other_kinds(tmp_path):
    """pathlib's and bytes, wherever a file is named."""
    net, model = net_of(tmp_path, INPUT + IP % 2, np.int64(1)), tmp_path / "x.caffemodel"
    net.save(model)
    net.save_hdf5(tmp_path / "x.h5")
    other = caffe.Net(tmp_path / "net.prototxt", model, caffe.TEST)
    other.copy_from(bytes(model))
    other.load_hdf5(tmp_path / "x.h5")
    (tmp_path / "solver.prototxt").write_text('net: "%s" base_lr: 1 lr_policy: "fixed"' % (tmp_path / "net.prototxt"))
    for make in (caffe.get_solver, caffe.SGDSolver):
        assert make(tmp_path / "solver.prototxt").iter == 0


@pytest.mark.parametrize("module", ["", ".layers", "a..b", "a\\000b"])
def test_module_names_that_are_none(tmp_path, module):
    with pytest.raises(CaffeError, match=r"'p' \(Python\): got module .*wanted the name of a Python module"):
        net_of(tmp_path, INPUT + 'layer { name: "p" type: "Python" bottom: "x" top: "y" python_param { module: "%s" '
               'layer: "L" } }' % module)


def test_attributes_of_python_layers_are_theirs(tmp_path, monkeypatch):
    """Names that users choose, loss_weights among them, do not meet the engine's."""
    (tmp_path / "mine.py").write_text(
        "import caffe\nclass L(caffe.Layer):\n    def setup(self, bottom, top):\n"
        "        self.loss_weights = self.tops = self.bottoms = self.shape = self.weights = 'mine'\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(1)\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = 3\n"
        "    def backward(self, top, propagate_down, bottom):\n        bottom[0].diff[...] = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    net = net_of(tmp_path, INPUT + 'force_backward: true layer { name: "p" type: "Python" bottom: "x" top: "y" '
                 'python_param { module: "mine" layer: "L" } loss_weight: 2 }')
    assert net._forward(0, 1) == 6
    net.backward()
    assert net.layers[1].loss_weights == "mine" and (net.blobs["x"].diff == 7).all()


def test_memory_of_its_own(tmp_path):
    """What is written into one blob changes no other, also where a layer changes nothing."""
    net = net_of(tmp_path, 'force_backward: true ' + INPUT + 'layer { name: "t" type: "Tile" bottom: "x" top: "y" '
                 'tile_param { tiles: 1 } }')
    net.blobs["y"].diff[...] = 1
    net.forward()
    net.backward()
    for half in ("data", "diff"):
        getattr(net.blobs["y"], half)[...] = 5
        assert (getattr(net.blobs["x"], half) != 5).all()


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's count of a process's peak memory")
@pytest.mark.parametrize("name", ["w.caffemodel", "w.h5"])
def test_weights_are_loaded_without_a_second_copy(tmp_path, name):
    """64 MB of weights take less than 8 MB beside the net's own; bench/load.py measures the same at full size."""
    text = INPUT + IP.replace("num_output: %d", "num_output: 5000000") + 'layer { name: "s" type: "Silence" bottom: "y" }'
    net = net_of(tmp_path, text)
    net.params["ip"][0].data[...] = np.arange(3)
    (net.save_hdf5 if name.endswith("h5") else net.save)(tmp_path / name)
    net.params["ip"][0].data[...] = 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before = peak()
    net.copy_from(tmp_path / name)
    assert peak() - before < 8e6
    assert net.params["ip"][0].data[-1].tolist() == [0, 1, 2]


def peak():
    """The most memory this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_a_net_of_no_layers_does_not_run(tmp_path):
    net = net_of(tmp_path, 'layer { name: "in" type: "Input" top: "x" include { stage: "never" } }')
    with pytest.raises(CaffeError, match="has no layers to run"):
        net.forward()
