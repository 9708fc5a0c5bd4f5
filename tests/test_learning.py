"""tools/learning.py: three ways to learn, and what a learning rate is worth under another reduction."""

import learning
import prototxt
import pytest
from nets_for_tests import ROOT

from torchcaffe.proto import caffe_pb2


def solver(path: str) -> caffe_pb2.SolverParameter:
    return prototxt.read(str(ROOT / path), caffe_pb2.SolverParameter())


@pytest.mark.parametrize(("path", "way"), [
    ("voc-fcn32s/solver.prototxt", "heavy"), ("voc-fcn8s/solver.prototxt", "heavy"),
    ("voc-fcn-alexnet/solver.prototxt", "accumulation"), ("voc-fcn-googlenet/solver.prototxt", "accumulation")])
def test_the_released_solvers_are_of_known_ways(path, way):
    assert learning.way_of(solver(path)) == way


def test_from_any_way_to_any_other_and_back():
    for way in learning.WAYS:
        param = solver("voc-fcn16s/solver.prototxt")
        learning.change(param, way)
        assert learning.way_of(param) == way
        assert (param.iter_size, round(param.momentum, 6)) == learning.WAYS[way]
        learning.change(param, "heavy")
        assert param.base_lr == pytest.approx(1e-12, rel=1e-6)  # float32
        assert param.weight_decay == solver("voc-fcn16s/solver.prototxt").weight_decay


def test_the_papers_rates_belong_together():
    """1e-10 of the sum, 1e-4 of the mean, for VGG16: a sum over 500 x 375 pixels has gradients 187500 times the mean's."""
    heavy = solver("voc-fcn32s/solver.prototxt")
    learning.change(heavy, "accumulation")
    assert heavy.base_lr * 500 * 375 == pytest.approx(1e-4, rel=1e-6)
    assert learning.steps_ratio(solver("voc-fcn32s/solver.prototxt"), "accumulation") == 1 / 20
    assert learning.steps_ratio(solver("voc-fcn-alexnet/solver.prototxt"), "online") == 20
    # heavy remembers gradients for about as many images as accumulation: p^(1/k)
    assert 0.9 ** (1 / 20) == pytest.approx(0.99474, abs=1e-5)
    assert "(0.9947 an image)" in learning.told(heavy, False)


def test_what_is_told_of_a_rate():
    param = solver("voc-fcn32s/solver.prototxt")
    said = learning.told(param, False)
    assert said == ("learning (heavy): 1 image a step, momentum 0.99, base_lr 1e-10 of the loss, which is the sum over "
                    "pixels (1.9e-05 of the mean, for images of 500 x 375)")
    assert "base_lr 0.0001 of the loss, which is the mean over pixels (5.3e-10 of the sum" in learning.told(
        solver("voc-fcn-alexnet/solver.prototxt"), True)


def test_a_solver_of_another_kind_is_refused():
    param = solver("voc-fcn32s/solver.prototxt")
    param.momentum = 0.5
    with pytest.raises(learning.LearningError, match=r"iter_size 1 and momentum 0\.5.*heavy: 1 and 0\.99"):
        learning.change(param, "online")


@pytest.mark.parametrize(("loss_param", "mean"), [
    ("", True), ("loss_param { normalize: true }", True), ("loss_param { normalize: false }", False),
    ("loss_param { normalization: NONE }", False), ("loss_param { normalization: BATCH_SIZE }", False),
    ("loss_param { normalization: VALID normalize: false }", True), ("loss_param { ignore_label: 255 }", True)])
def test_reduction(tmp_path, loss_param, mean):
    """Caffe's own rule, src/caffe/layers/softmax_loss_layer.cpp: normalization, if set, wins over the older normalize."""
    path = tmp_path / "net.prototxt"
    path.write_text('layer { type: "SoftmaxWithLoss" %s }' % loss_param)
    assert learning.is_mean(prototxt.read(str(path), caffe_pb2.NetParameter())) is mean
