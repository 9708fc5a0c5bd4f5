"""Every layer against what the real Caffe answered to the cases (tests/goldens/layers.npz), and what layers refuse.

The golden file is recorded by `make goldens`; it says inside which Caffe wrote it. Tolerance: parity/compare_cases.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import caffe
import numpy as np
import pytest
from cases import CASES
from layer_case import Case
from parity.compare_cases import TOLERANCE, arrays_of, compare_case
from parity.run_cases import run_case
from refused import REFUSED, Refused

import torchcaffe.layers  # noqa: F401  fills CATALOGUE
from torchcaffe.errors import CaffeError
from torchcaffe.layer import CATALOGUE

GOLDENS = Path(__file__).parent / "goldens" / "layers.npz"
REMEDY = "record the goldens again with a real Caffe: make goldens"


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Cases write their files into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")


@pytest.fixture(scope="module")
def goldens() -> dict[str, dict[str, np.ndarray]]:
    """case name -> array name -> array, as the real Caffe computed them."""
    with np.load(GOLDENS) as file:
        assert str(file["provenance"]).startswith("Caffe: bvlc 1.0.0"), file["provenance"]
        return arrays_of(file)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_as_the_real_caffe(case: Case, goldens):
    assert case.name in goldens, "no golden for this case; " + REMEDY
    error, array = compare_case(goldens[case.name], run_case(caffe, case))
    assert error <= (0 if case.exact else TOLERANCE), "%s is off by %.1e of its largest value" % (array, error)


def test_goldens_and_cases_are_the_same_list(goldens):
    assert sorted(goldens) == sorted(c.name for c in CASES), REMEDY
    assert len({c.name for c in CASES}) == len(CASES)


def test_every_layer_type_has_a_case():
    cased = {re.match(r'type: "(\w+)"', c.layer).group(1) for c in CASES}
    assert cased == set(CATALOGUE)


def test_every_layer_says_whom_it_follows():
    for name, cls in CATALOGUE.items():
        assert re.search(r"Follows (src/caffe/layers|include/caffe/layers)/\w+\.[ch]pp", cls.__doc__ or ""), name


@pytest.mark.parametrize("refused", REFUSED, ids=lambda r: r.case.name)
def test_refused(refused: Refused):
    with pytest.raises(CaffeError, match=refused.message) as caught:
        run_case(caffe, refused.case)
    assert "Layer 'layer'" in str(caught.value)


RESHAPED = """force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 2 } } }
layer { name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "square" type: "Power" bottom: "r" top: "e" power_param { power: 2 } }
layer { name: "f" type: "Flatten" bottom: "e" top: "f" flatten_param { axis: 0 } }
layer { name: "c" type: "Concat" bottom: "f" top: "c" concat_param { axis: 0 } }
layer { name: "s" type: "Slice" bottom: "c" top: "s" slice_param { axis: 0 } }
layer { name: "p" type: "Power" bottom: "s" top: "p" power_param { scale: 3 } }
layer { name: "q" type: "Power" bottom: "s" top: "q" power_param { scale: 5 } }
layer { name: "y" type: "Eltwise" bottom: "p" bottom: "q" top: "y" }
"""


@pytest.mark.parametrize("held", [False, True], ids=["", "numpy views held"])
def test_shared_memory_survives_every_change_of_size(held: bool):
    Path("net.prototxt").write_text(RESHAPED)
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    random = np.random.RandomState(0)
    for items in (4, 2, 8, 4, 1, 7, 8, 9, 2, 9):
        net.blobs["x"].reshape(items, 3, 2)
        x = random.randn(items, 3, 2).astype(np.float32)
        net.blobs["x"].data[...] = x
        views = [(b.data, b.diff) for b in net.blobs.values()] if held else []
        net.forward()
        np.testing.assert_allclose(net.blobs["y"].data, 8 * x.ravel() ** 2, rtol=1e-6)
        net.blobs["y"].diff[...] = 1
        net.backward()
        np.testing.assert_allclose(net.blobs["x"].diff, 16 * x, rtol=1e-6)
        del views


@pytest.mark.parametrize("kind, labels", [("SoftmaxWithLoss", ""), ("SigmoidCrossEntropyLoss", "dim: 3")])
def test_a_batch_of_nothing_costs_nothing(kind: str, labels: str):
    Path("net.prototxt").write_text("""force_backward: true
        layer { name: "x" type: "Input" top: "x" top: "y" input_param { shape { dim: 0 dim: 3 } shape { dim: 0 %s } } }
        layer { name: "loss" type: "%s" bottom: "x" bottom: "y" top: "loss" }""" % (labels, kind))
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    assert net.forward()["loss"] == 0
    net.backward()
    assert net.blobs["x"].diff.shape == (0, 3)


def test_filter_keeps_all_items_until_the_first_forward():
    Path("net.prototxt").write_text("""
        layer { name: "x" type: "Input" top: "x" top: "s" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
        layer { name: "f" type: "Filter" bottom: "x" bottom: "s" top: "y" }""")
    net = caffe.Net("net.prototxt", caffe.TEST)
    assert net.blobs["y"].shape == (4, 3)
    net.blobs["s"].data[...] = [0, 1, 0, 0]
    net.forward()
    assert net.blobs["y"].shape == (1, 3)


def pool(layer: str, x: np.ndarray, phase: int, seed: int = 1, passes: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top, a drawn top diff, and the bottom's diff of one layer that pools."""
    Path("net.prototxt").write_text("""force_backward: true
        layer { name: "x" type: "Input" top: "x" input_param { shape { %s } } }
        layer { name: "y" bottom: "x" top: "y" %s }""" % (" ".join("dim: %d" % d for d in x.shape), layer))
    caffe.set_random_seed(seed)
    net = caffe.Net("net.prototxt", phase)
    net.blobs["x"].data[...] = x
    for _ in range(passes):
        net.forward()
    diff = net.blobs["y"].diff
    diff[...] = np.random.RandomState(2).randn(*diff.shape)
    net.backward()
    return net.blobs["y"].data.copy(), diff.copy(), net.blobs["x"].diff.copy()


# Caffe's STOCHASTIC pooling is GPU code only, so no golden can be recorded on a CPU: these follow pooling_layer.cu.
STOCHASTIC = 'type: "Pooling" pooling_param { pool: STOCHASTIC %s }'


def test_stochastic_pooling_in_test_is_a_weighted_mean():
    x = np.random.RandomState(0).rand(2, 3, 6, 8).astype(np.float32)
    x[0, 0, :3, :3] = 0
    top = pool(STOCHASTIC % "kernel_size: 3 stride: 2", x, caffe.TEST)[0]
    assert top.shape == (2, 3, 3, 4)
    for h in range(3):
        for w in range(4):
            window = x[:, :, 2 * h : 2 * h + 3, 2 * w : 2 * w + 3].astype(np.float64)  # cut off at the ends
            total = window.sum((2, 3))
            mean = (window**2).sum((2, 3)) / np.where(total > 0, total, 1)
            np.testing.assert_allclose(top[:, :, h, w], mean, rtol=1e-5)
    assert top[0, 0, 0, 0] == 0


def test_stochastic_pooling_draws_in_proportion_to_the_values():
    windows = 20000
    x = np.tile(np.array([[1, 0], [2, 5]], np.float32), (1, 1, 1, windows))
    top, _, _ = pool(STOCHASTIC % "kernel_size: 2 stride: 2", x, caffe.TRAIN)
    for value, share in ((0, 0), (1, 1 / 8), (2, 2 / 8), (5, 5 / 8)):
        # four standard deviations of a share among so many draws: off by chance once in 16000 seeds, and the seed is fixed
        assert abs((top == value).mean() - share) <= 4 * (share * (1 - share) / windows) ** 0.5, value
    np.testing.assert_array_equal(top, pool(STOCHASTIC % "kernel_size: 2 stride: 2", x, caffe.TRAIN)[0])
    for other in ({"seed": 2}, {"passes": 2}):
        assert (top != pool(STOCHASTIC % "kernel_size: 2 stride: 2", x, caffe.TRAIN, **other)[0]).any()


@pytest.mark.parametrize("layer", [STOCHASTIC % "kernel_size: 3 stride: 2", STOCHASTIC % "global_pooling: true",
                                   'type: "SPP" spp_param { pool: STOCHASTIC pyramid_height: 2 }'])
def test_gradient_of_stochastic_pooling_goes_to_the_value_drawn(layer: str):
    x = np.random.RandomState(3).permutation(96).reshape(1, 2, 6, 8).astype(np.float32) + 1  # each value once
    top, top_diff, diff = pool(layer, x, caffe.TRAIN)
    wanted = np.zeros_like(x)
    for value, gradient in zip(top.ravel(), top_diff.ravel()):
        wanted[x == value] += gradient
    np.testing.assert_allclose(diff, wanted, rtol=1e-6)
    assert (diff != 0).sum() > 1


def run_loss(layer: str, scores: np.ndarray, labels: np.ndarray) -> caffe.Net:
    """A net of one loss with two bottoms, run forward and backward."""
    inputs = "".join('layer { name: "%s" type: "Input" top: "%s" input_param { shape { %s } } }\n' % (
        n, n, " ".join("dim: %d" % d for d in a.shape)) for n, a in (("x", scores), ("label", labels)))
    Path("net.prototxt").write_text("force_backward: true\n" + inputs + layer)
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    net.blobs["x"].data[...], net.blobs["label"].data[...] = scores, labels
    net.forward()
    net.backward()
    return net


def test_second_top_of_softmax_loss_is_the_probabilities():
    # Caffe's header promises it; its last version refuses two tops whatever the loss weights, so there is no golden.
    x = np.random.RandomState(1).randn(2, 3, 4).astype(np.float32)
    net = run_loss('layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" top: "p" '
                   "loss_weight: 1 loss_weight: 0 }", x, np.zeros((2, 4)))
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(net.blobs["p"].data, e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(net.blobs["loss"].data, -np.log(net.blobs["p"].data[:, 0]).mean(), rtol=1e-6)


def test_loss_of_a_large_map_adds_up_as_in_caffe():
    # 761513.5 is BVLC's figure on the CPU, pixels added one by one in float32; the exact sum is 250000 ln 21 = 761130.6.
    net = run_loss('layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" '
                   "loss_param { normalize: false } }", np.zeros((1, 21, 500, 500)), np.zeros((1, 1, 500, 500)))
    assert float(net.blobs["loss"].data) == 761513.5
