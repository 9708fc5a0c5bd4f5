"""tools/finetune.py: weights of a net for other classes, score by score."""

import caffe
import finetune
import numpy as np
import pytest
import surgery

OLD = ["background", "aero plane", "Bicycle", "sky"]


def score_net(classes: int, layer: str = "score_fr", inputs: int = 4) -> caffe.Net:
    """A trunk of one layer, a score layer and its upsampling, all with random weights."""
    n = caffe.NetSpec()
    n.data = caffe.layers.Input(shape=dict(dim=[1, 3, 5, 5]))
    n.conv = caffe.layers.Convolution(n.data, num_output=inputs, kernel_size=1, weight_filler=dict(type="gaussian"))
    score = caffe.layers.Convolution(n.conv, num_output=classes, kernel_size=1, weight_filler=dict(type="gaussian"),
                                     bias_filler=dict(type="gaussian"))
    setattr(n, layer, score)
    n.upscore = caffe.layers.Deconvolution(score, convolution_param=dict(num_output=classes, kernel_size=2, bias_term=False))
    return caffe.Net(n.to_proto())


@pytest.fixture
def old(tmp_path) -> tuple[caffe.Net, str]:
    net = score_net(len(OLD))
    net.save(str(tmp_path / "old.caffemodel"))
    return net, str(tmp_path / "old.caffemodel")


def test_scores_go_by_name(old):
    net, path = old
    new = score_net(3)
    report = finetune.load(new, path, ["sky", "tree", "bicycle"], OLD)
    weights, biases = (blob.data for blob in net.params["score_fr"])
    for blob, source in zip(new.params["score_fr"], (weights, biases)):
        mean = source.mean(0)
        np.testing.assert_allclose(blob.data[0], source[3] - mean, atol=1e-6)  # one rounding of float32 at 1
        assert not blob.data[1].any()  # a tree starts as an average class
        np.testing.assert_allclose(blob.data[2], source[2] - mean, atol=1e-6)
    assert np.array_equal(new.params["conv"][0].data, net.params["conv"][0].data)
    assert "score_fr, 2 of 3 classes" in str(report) and "upscore" in str(report)
    assert finetune.told(["sky", "tree", "bicycle"], OLD, "x") == (
        "scores: of the 3 classes x knows sky, bicycle, whose scores are kept; the others start at zero")


def test_scores_of_known_classes_alone_are_the_old_ones(old):
    net, path = old
    new = score_net(2)
    finetune.load(new, path, ["sky", "Aeroplane"], OLD)
    for blob, source in zip(new.params["score_fr"], net.params["score_fr"]):
        assert np.array_equal(blob.data, source.data[[3, 1]])


def test_as_many_classes_are_not_taken_for_the_same(old):
    _, path = old
    new = score_net(4)
    finetune.load(new, path, ["a", "b", "c", "d"], OLD)
    assert not any(blob.data.any() for blob in new.params["score_fr"])
    assert finetune.told(["a", "b", "c", "d"], OLD, "x") == "scores: of the 4 classes x knows none: all start at zero"


def test_heads_of_another_name(old, tmp_path):
    net = score_net(4, "score_fr_sem")
    net.save(str(tmp_path / "sem.caffemodel"))
    new = score_net(4)
    finetune.load(new, str(tmp_path / "sem.caffemodel"), OLD, OLD, heads="_sem")
    assert np.array_equal(new.params["score_fr"][0].data, net.params["score_fr_sem"][0].data)


def test_weights_trained_for_these_classes_are_taken_as_they_are(tmp_path):
    net, new = score_net(3), score_net(3)
    net.save(str(tmp_path / "own.caffemodel"))
    finetune.load(new, str(tmp_path / "own.caffemodel"), ["sky", "road", "tree"], OLD)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(new.params["score_fr"], net.params["score_fr"]))


def test_weights_of_other_nets_are_refused(old, tmp_path):
    with pytest.raises(surgery.SurgeryError, match="has 4 scores; wanted 3, for the classes a, b, c"):
        finetune.load(score_net(2), old[1], ["x", "y"], ["a", "b", "c"])
    with pytest.raises(surgery.SurgeryError, match=r"'score_fr' has weights for \(4, 1, 1\), the net's for \(5"):
        finetune.load(score_net(2, inputs=5), old[1], ["x", "y"], OLD)
