"""What scripts rely on in pycaffe: nets and solvers, from outside, by `import caffe` alone. Layers: test_python_layer.py.

Everything here holds for BVLC's pycaffe too: these tests pass under it as they stand (python -m pytest --noconftest with
tests/ on PYTHONPATH).
"""

from __future__ import annotations

import gc
import itertools
import json
import os
from collections import OrderedDict
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe import params as P
from goldens import make_pycaffe

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "pycaffe.json").read_text())["answers"]

SIMPLE = """name: "simple" force_backward: true
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
        shape { dim: 5 dim: 2 dim: 3 dim: 4 } shape { dim: 5 }
        data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { name: "w" } param { name: "b" }
        convolution_param { num_output: 11 kernel_size: 2 pad: 3 weight_filler { type: "gaussian" std: 1 }
                            bias_filler { type: "constant" value: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "score"
        inner_product_param { num_output: 13 weight_filler { type: "gaussian" std: 2 }
                              bias_filler { type: "constant" value: -3 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""


def net_of(folder: Path, text: str, *args: object, **kwargs: object) -> caffe.Net:
    """A net of this prototxt text."""
    path = folder / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), *(args or [caffe.TRAIN]), **kwargs)


@pytest.fixture
def net(tmp_path) -> caffe.Net:
    """The simple net with valid labels: 0 to 12."""
    made = net_of(tmp_path, SIMPLE)
    made.blobs["label"].data[...] = np.arange(5) * 3
    return made


# -- Net ---------------------------------------------------------------------------------------------------------------
def test_memory_outlives_the_net(net):
    net.forward()
    net.backward()
    blobs = list(net.blobs.values()) + [blob for vector in net.params.values() for blob in vector]
    views = [(blob.data, blob.diff) for blob in blobs]
    before = [(data.sum(), diff.sum()) for data, diff in views]
    del net
    gc.collect()
    assert [(data.sum(), diff.sum()) for data, diff in views] == before
    assert [(blob.data.sum(), blob.diff.sum()) for blob in blobs] == before


def test_a_loss_without_a_top(tmp_path):
    """Its top is made, and is no output: what reads outputs, or prints them, does not see it."""
    net = net_of(tmp_path, SIMPLE.replace(' top: "loss" }', " }") + 'layer { name: "p" type: "Softmax" bottom: "score" '
                 'top: "p" }')
    assert list(net.blobs)[-2:] == ["(automatic)", "p"] and net.top_names["loss"] == ["(automatic)"]
    assert list(net.outputs) == ["p"] and list(net.forward()) == ["p"]
    assert net.blobs["(automatic)"].data.shape == () and net._forward(0, len(net.layers) - 1) > 0
    assert net.blob_loss_weights["(automatic)"] == 1
    assert [list(net._top_ids(i)) for i in (4, 5)] == [[list(net.blobs).index(name)] for name in ("(automatic)", "p")]


def test_what_is_asked_for_twice_is_the_same(net):
    """Scripts put entries of their own into these, or take one out while they walk over it."""
    for name in ("params", "blobs", "layer_dict", "inputs", "outputs", "top_names", "bottom_names"):
        assert getattr(net, name) is getattr(net, name)
    net.params["mine"] = 3
    assert net.params["mine"] == 3


def test_backward_before_forward_of_what_keeps_nothing(tmp_path):
    text = SIMPLE.replace("SoftmaxWithLoss", "EuclideanLoss").replace("shape { dim: 5 }", "shape { dim: 5 dim: 13 }")
    net = net_of(tmp_path, text)
    net.backward()
    assert net.blobs["conv"].diff.shape == (5, 11, 8, 9)


def test_phase_is_wanted(tmp_path):
    (tmp_path / "net.prototxt").write_text(SIMPLE)
    for wrong in ((), (None,), (0.0,)):
        with pytest.raises(TypeError):
            caffe.Net(str(tmp_path / "net.prototxt"), *wrong)
    assert len(caffe.Net(str(tmp_path / "net.prototxt"), True).layers) == 4  # a bool is an int


def test_views_of_one_blob_are_one_memory(net):
    first, second = net.blobs["score"].data, net.blobs["score"].data
    first[2, 3] = 77
    assert second[2, 3] == 77
    weight = net.params["fc"][0].data
    net.params["fc"][0].data[...] = 0.5
    assert (weight == 0.5).all()
    net.forward()
    assert np.array_equal(first, net.blobs["score"].data) and first[2, 3] != 77


def test_blobs_and_layers_by_number_and_name(tmp_path):
    assert make_pycaffe.plain(make_pycaffe.numbers(str(tmp_path))) == GOLDEN["numbers"]


def test_dictionaries_are_ordered(net):
    assert net.top_names == OrderedDict([("data", ["data", "label"]), ("conv", ["conv"]), ("fc", ["score"]),
                                         ("loss", ["loss"])])
    assert net.bottom_names == OrderedDict([("data", []), ("conv", ["data"]), ("fc", ["conv"]),
                                            ("loss", ["score", "label"])])
    assert list(net.layer_dict) == list(net._layer_names) == ["data", "conv", "fc", "loss"]
    assert [net.layer_dict[n].type for n in net._layer_names] == [layer.type for layer in net.layers]
    assert list(net.blobs) == ["data", "label", "conv", "score", "loss"] and list(net.params) == ["conv", "fc"]
    assert (net.inputs, net.outputs) == ([], ["loss"])
    assert dict(net.blob_loss_weights) == {"data": 0, "label": 0, "conv": 0, "score": 0, "loss": 1}


def test_a_loss_has_no_axes(net):
    loss = net.forward()["loss"]
    assert loss.shape == () and net.blobs["loss"].data.shape == () and net.blobs["loss"].diff[()] == 1
    assert list(net.blobs["loss"].shape) == [] and net.blobs["loss"].count == 1
    assert net._forward(0, 3) == pytest.approx(float(net.blobs["loss"].data), rel=1e-6)


def test_parts_of_the_net(net):
    random = np.random.RandomState(0)
    conv, score = net.blobs["conv"], net.blobs["score"]
    conv.data[...] = random.rand(*conv.data.shape)
    weight, bias = (blob.data for blob in net.params["fc"])
    out = net.forward(start="fc", end="fc")
    assert list(out) == ["score"]
    wanted = conv.data.reshape(5, -1).dot(weight.T) + bias
    np.testing.assert_allclose(out["score"], wanted, rtol=1e-4, atol=1e-4)  # sums of 792 products of up to 8, in float32
    score.diff[...] = random.rand(*score.diff.shape)
    assert list(net.backward(start="fc", end="fc")) == ["conv"]
    np.testing.assert_allclose(conv.diff.reshape(5, -1), score.diff.dot(weight), rtol=1e-4, atol=1e-4)
    assert not net.params["conv"][0].diff.any()
    with pytest.raises(ValueError, match="nowhere"):
        net.forward(end="nowhere")


def test_diffs_of_parameters_add_up_until_cleared(net):
    net.forward()
    net.backward()
    diff = net.params["conv"][0].diff
    once = diff.copy()
    assert np.abs(once).max() > 0
    net.backward()
    np.testing.assert_allclose(diff, 2 * once, rtol=1e-5, atol=1e-6)
    net.clear_param_diffs()
    assert not diff.any() and not net.params["fc"][1].diff.any()


def test_save_and_load(net, tmp_path):
    model, hdf5, path = str(tmp_path / "a.caffemodel"), str(tmp_path / "a.h5"), str(tmp_path / "net.prototxt")
    net.save(model)
    net.save_hdf5(hdf5)
    others = [caffe.Net(path, model, caffe.TRAIN), caffe.Net(path, caffe.TRAIN, weights=model), caffe.Net(path, caffe.TEST),
              caffe.Net(path, caffe.TEST)]
    assert not np.array_equal(others[2].params["fc"][0].data, net.params["fc"][0].data)
    others[2].copy_from(model)
    others[3].load_hdf5(hdf5)
    for other in others:
        assert list(other.params) == list(net.params)
        for name, i in itertools.product(net.params, range(2)):
            assert np.array_equal(other.params[name][i].data, net.params[name][i].data)


def test_shared_weights_are_one_memory(net, tmp_path):
    other = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    other.share_with(net)
    net.params["fc"][1].data[...] = 42
    assert (other.params["fc"][1].data == 42).all()
    del net
    gc.collect()
    assert (other.params["fc"][1].data == 42).all()


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
AFFINE = INPUT + 'force_backward: true layer { name: "half" type: "Power" bottom: "x" top: "y" power_param { scale: 0.5 } }'


def test_inputs_by_keyword(tmp_path):
    net = net_of(tmp_path, AFFINE)
    assert (net.inputs, net.outputs) == (["x"], ["y"])
    out = net.forward(x=np.ones((2, 3)), blobs=["x"])
    assert list(out) == ["y", "x"] and (out["y"] == 0.5).all()
    out["y"][...] = 9  # outputs are the blobs' memory, not copies of it
    assert (net.blobs["y"].data == 9).all()
    assert (net.backward(y=np.full((2, 3), 4.0))["x"] == 2).all()
    with pytest.raises(Exception, match="do not match net inputs"):
        net.forward(z=np.ones((2, 3)))
    with pytest.raises(Exception, match=r"not batch sized: blob 'x' has shape \(2, 3\), got \(3, 3\)"):
        net.forward(x=np.ones((3, 3)))
    with pytest.raises(Exception, match=r"not batch sized: blob 'x' has shape \(2, 3\), got \(\)"):
        net.forward(x=1)


def test_a_loss_takes_its_diff_by_keyword(tmp_path):
    net = net_of(tmp_path, AFFINE + 'layer { name: "sum" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }')
    net.forward(x=np.ones((2, 3)))
    assert (net.backward(loss=4)["x"] == 2).all()
    assert (net.backward(loss=np.full(1, 6.0))["x"] == 3).all()


def test_any_number_of_inputs_in_batches(tmp_path):
    net = net_of(tmp_path, AFFINE)
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    assert np.array_equal(net.forward_all(x=x, blobs=["x"])["y"], x / 2)
    outs, diffs = net.forward_backward_all(x=x, y=8 * x, blobs=["x"], diffs=["y"])
    assert np.array_equal(outs["y"], x / 2) and np.array_equal(outs["x"], x)
    assert np.array_equal(diffs["x"], 4 * x) and np.array_equal(diffs["y"], 8 * x)
    outs, diffs = net.forward_backward_all(x=x, y=8 * x[:2])  # the batches after the first keep the diff they find
    assert np.array_equal(diffs["x"], 4 * x[[0, 1, 0, 1, 0]])
    batches = list(net._batch({"x": x}))
    assert [b["x"].shape for b in batches] == [(2, 3)] * 3 and not batches[2]["x"][1].any()


def test_reshape_goes_through_the_net(tmp_path):
    net = net_of(tmp_path, AFFINE)
    net.blobs["x"].reshape(4, 1, 7)
    net.reshape()
    assert net.blobs["y"].data.shape == (4, 1, 7) and list(net.blobs["y"].shape) == [4, 1, 7]
    assert [getattr(net.blobs["y"], n) for n in ("num", "channels", "height", "width", "count")] == [4, 1, 7, 1, 28]


def test_arrays_in_memory(tmp_path):
    """They are read, not copied, by MemoryData, from their start again at their end; labels have four axes."""
    net = net_of(tmp_path, """layer { name: "in" type: "MemoryData" top: "data" top: "label"
                               memory_data_param { batch_size: 2 channels: 3 height: 1 width: 5 } }
                              layer { name: "neg" type: "Power" bottom: "data" top: "neg" power_param { scale: -1 } }""")
    data, labels = np.arange(60, dtype=np.float32).reshape(4, 3, 1, 5), np.arange(4, dtype=np.float32)
    net.set_input_arrays(data, labels)
    for wanted in (slice(0, 2), slice(2, 4), slice(0, 2)):
        net.forward()
        assert np.array_equal(net.blobs["neg"].data, -data[wanted])
        assert net.blobs["label"].data.shape == (2, 1, 1, 1)
        assert np.array_equal(net.blobs["label"].data.ravel(), labels[wanted])
    data[...] = 7
    assert (net.forward()["neg"] == -7).all()
    net.set_input_arrays(data, labels.reshape(4, 1, 1, 1))
    for wrong, message in (((data[:3], labels[:3]), "multiple of batch size"), ((data[:, :2].copy(), labels), "channels"),
                           ((data.astype(float), labels), "data array must be float32"), ((data[:2], labels), "dimension"),
                           ((data, labels.astype(int)), "labels array must be float32"), ((data[0], labels), "must be 4-d"),
                           ((data[::-1], labels), "data array must be C contiguous")):
        with pytest.raises(RuntimeError, match=message):
            net.set_input_arrays(*wrong)
    with pytest.raises(RuntimeError, match="MemoryData"):
        net_of(tmp_path, INPUT).set_input_arrays(data, labels)


RULES = INPUT + "".join(
    'layer { name: "%s" type: "ReLU" bottom: "x" top: "%s" %s }' % (name, name, rule) for name, rule in (
        ("all", ""), ("high", "include { min_level: 2 }"), ("low", "include { max_level: 1 }"),
        ("a", 'include { stage: "A" }'), ("b", 'include { stage: "B" }'), ("not_a", 'include { not_stage: "A" }'),
        ("both", 'include { stage: "A" stage: "B" }'), ("train", "include { phase: TRAIN }"),
        ("test_b", 'include { phase: TEST stage: "B" }'), ("either", 'exclude { phase: TEST stage: "A" }')))


@pytest.mark.parametrize("phase, kwargs, layers", [
    (caffe.TEST, {}, "all low not_a either"),
    (caffe.TEST, dict(level=1), "all low not_a either"),
    (caffe.TEST, dict(level=2), "all high not_a either"),
    (caffe.TEST, dict(stages=["A"]), "all low a"),
    (caffe.TEST, dict(stages=["B"]), "all low b not_a test_b either"),
    (caffe.TEST, dict(stages=["A", "B"], level=5), "all high a b both test_b"),
    (caffe.TRAIN, dict(stages=["A"]), "all low a train either"),
])
def test_phase_level_and_stages_choose_layers(tmp_path, phase, kwargs, layers):
    built = net_of(tmp_path, RULES, phase, **kwargs)
    assert [n for n in built._layer_names if "split" not in n] == ["in", *layers.split()]
    assert sorted(built.outputs) == sorted(layers.split())


def test_missing_files(tmp_path):
    with pytest.raises(RuntimeError, match="Could not open file"):
        caffe.Net(str(tmp_path / "none.prototxt"), caffe.TEST)
    with pytest.raises(RuntimeError, match="Could not open file"):
        net_of(tmp_path, INPUT, caffe.TEST, weights=str(tmp_path / "none.caffemodel"))


def test_calls_around_layers(tmp_path):
    net, calls = net_of(tmp_path, AFFINE), []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, when)(lambda i, when=when: calls.append((when, i)))
    net.forward(start="half")
    net.backward(end="half")
    assert calls == [(when, 1) for when in ("before_forward", "after_forward", "before_backward", "after_backward")]


# -- net specs ---------------------------------------------------------------------------------------------------------
def lenet():
    """Every top named by its layer's type; loss at the end."""
    data, label = L.DummyData(shape=[dict(dim=[2, 1, 28, 28]), dict(dim=[2, 1, 1, 1])], ntop=2,
                              transform_param=dict(scale=1.0 / 255))
    conv1 = L.Convolution(data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    pool1 = L.Pooling(conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    ip1 = L.InnerProduct(pool1, num_output=10, weight_filler=dict(type="xavier"))
    return L.SoftmaxWithLoss(L.ReLU(ip1, in_place=True), label)


def test_a_net_spec_becomes_a_net(tmp_path):
    proto = lenet().to_proto()
    assert [layer.name for layer in proto.layer] == ["DummyData1", "Convolution1", "Pooling1", "InnerProduct1", "ReLU1",
                                                     "SoftmaxWithLoss1"]
    assert proto.layer[4].bottom == proto.layer[4].top == ["InnerProduct1"]
    net = net_of(tmp_path, str(proto))
    assert net.outputs == ["SoftmaxWithLoss1"] and net.blobs["Pooling1"].data.shape == (2, 20, 12, 12)
    assert float(net.forward()["SoftmaxWithLoss1"]) == pytest.approx(np.log(10), rel=1e-6)


def test_layers_without_tops(tmp_path):
    n = caffe.NetSpec()
    n.data, n.data2 = L.DummyData(shape=dict(dim=[3]), ntop=2)
    n.silence, n.silence2 = L.Silence(n.data, ntop=0), L.Silence(n.data2, ntop=0)
    net = net_of(tmp_path, str(n.to_proto()))
    assert [layer.type for layer in net.layers] == ["DummyData", "Silence", "Silence"] and net.outputs == []


def test_a_tuple_is_no_top():
    tops = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(tops, ntop=0)


def test_layer_types():
    assert {"Convolution", "Data", "InnerProduct", "Python", "SoftmaxWithLoss"} <= set(caffe.layer_type_list())


# -- solvers -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def solver(tmp_path, monkeypatch) -> caffe.SGDSolver:
    """A solver of the simple net in an empty working directory, with a test net and valid labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(SIMPLE)
    (tmp_path / "solver.prototxt").write_text("""
        net: "net.prototxt" test_iter: 2 test_interval: 10 base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv"
        gamma: 0.0001 power: 0.75 display: 10 max_iter: 20 snapshot_after_train: false snapshot_prefix: "model"
        solver_mode: CPU""")
    made = caffe.get_solver("solver.prototxt")
    for net in (made.net, made.test_nets[0]):
        net.blobs["label"].data[...] = np.arange(5)
    return made


def test_solve(solver):
    assert (solver.iter, len(solver.test_nets)) == (0, 1)
    weight = solver.net.params["fc"][0].data.copy()
    solver.solve()
    assert solver.iter == 20 and not np.array_equal(solver.net.params["fc"][0].data, weight)
    solver.step(3)
    assert solver.iter == 23
    assert (solver.param.max_iter, solver.param.display) == (20, 10) and solver.param.base_lr == np.float32(0.01)


def test_apply_update(solver):
    fc = solver.net.layers[2]
    assert solver.lr == np.float32(0.01)
    fc.blobs[0].data[...] = 0
    fc.blobs[0].diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(fc.blobs[0].data, -0.01, atol=1e-7)
    assert solver.iter == 1 and fc.blobs[0].diff[0, 0] == np.float32(0.01)  # the diff is the update now


def test_nets_outlive_the_solver(solver):
    nets = [solver.net, *solver.test_nets]
    solver.step(1)
    del solver
    gc.collect()
    for net in nets:
        assert np.isfinite([blob.data.sum() + blob.diff.sum() for blob in net.blobs.values()]).all()
        assert np.isfinite([blob.data.sum() for vector in net.params.values() for blob in vector]).all()


def test_snapshot_and_restore(solver):
    solver.step(2)
    solver.snapshot()
    assert os.path.isfile("model_iter_2.caffemodel") and os.path.isfile("model_iter_2.solverstate")
    other = caffe.SGDSolver("solver.prototxt")
    other.restore("model_iter_2.solverstate")
    assert other.iter == 2
    assert np.array_equal(other.net.params["conv"][0].data, solver.net.params["conv"][0].data)


def test_callbacks_and_shared_weights(solver):
    calls, weights = [], caffe.Net("net.prototxt", caffe.TRAIN)
    solver.share_weights(weights)
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append(bool(solver.net.params["fc"][0].diff.any())))
    solver.step(2)
    assert calls == ["start", True] * 2
    assert np.array_equal(weights.params["fc"][0].data, solver.net.params["fc"][0].data)


@pytest.mark.parametrize("kind", ["AdaDelta", "AdaGrad", "Adam", "Nesterov", "RMSProp", "SGD"])
def test_each_solver_by_name_and_by_class(solver, kind):
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    Path("other.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" type: "%s" %s' % (kind, momentum))
    made = [caffe.get_solver("other.prototxt"), getattr(caffe, kind + "Solver")("other.prototxt")]
    for one in made:
        one.step(1)
        assert one.iter == 1 and isinstance(one, caffe.SGDSolver) and type(one).__name__ == kind + "Solver"
