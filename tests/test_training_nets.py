"""Every net that an experiment trains, each variant included, takes two narrow steps on the engine.

tests/parity/run_nets.py compares the same steps with a real Caffe's; tests/parity/nightly.py takes them at full width.
"""

import sys
from pathlib import Path

import caffe
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "parity"))
import nets_data  # noqa: E402
import run_nets  # noqa: E402
import surgery  # noqa: E402
from nets_for_tests import committed, files  # noqa: E402

NETS = {name: net for folder in nets_data.FOLDERS for name, net in nets_data.training_nets(folder).items()}


def solver_of(net, folder, base_lr):
    """A solver of the net, narrow and on two small images, its trunk random and its upsampling bilinear."""
    # GoogLeNet has layers of 16 channels: with one left, a ReLU that is closed everywhere would stop all learning below it
    by = 8 if net.layer[1].name == "conv1/7x7_s2" else 16
    nets_data.on_generated(nets_data.narrow(net, by), [(40, 53), (35, 61)])
    (folder / "train.prototxt").write_text(str(net))
    (folder / "solver.prototxt").write_text(nets_data.solver_text(folder / "train.prototxt", folder / "x", base_lr))
    solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
    run_nets.fill(solver.net)
    surgery.interp(solver.net, [name for name in solver.net.params if "up" in name])
    return solver


def test_all_experiments_are_here():
    folders = {path.parent.name for path in files("net.py")}
    assert folders == set(nets_data.FOLDERS)
    assert len(NETS) == 26 and {"voc-fcn32s", "voc-fcn32s-fixed", "nyud-fcn32s-color-hha-16s"} < set(NETS)


@pytest.mark.parametrize("name", NETS)
def test_two_steps(name, tmp_path):
    net = NETS[name]
    averaged = nets_data.losses(net)[0][-1]
    # where score layers learn at a fraction of the solver's rate, that is raised for them to learn as elsewhere: the trunk's
    # gradient is in proportion to their weights, and would otherwise drown in the rounding of its own
    slowed = min([p.lr_mult for layer in net.layer if layer.name.startswith("score") for p in layer.param] or [1])
    solver = solver_of(net, tmp_path, (1e-3 if averaged else 1e-7) / slowed)
    params = solver.net.params
    before = {key: [blob.data.copy() for blob in blobs] for key, blobs in params.items()}
    solver.step(1)
    # scores are zero: a loss is (valid pixels) x ln (classes), or ln (classes) where it is averaged; added up in float32
    wanted = nets_data.first_loss(net, solver.net)
    assert {loss: float(solver.net.blobs[loss].data) for loss in wanted} == pytest.approx(wanted, rel=2e-4)
    assert len(wanted) == (2 if name.startswith("siftflow") else 1)

    solver.step(1)
    for layer in net.layer:
        for i, blob in enumerate(params[layer.name] if layer.name in params else []):
            moved = not np.array_equal(blob.data, before[layer.name][i])
            learned = not layer.param or layer.param[i].lr_mult > 0
            assert moved == learned and np.isfinite(blob.data).all(), (layer.name, i)


def test_late_fusion_is_the_mean_of_two_nets(tmp_path):
    """With the weights of color and hha under their suffixed names, score_fused is the mean of the scores of the two."""
    nets = {}
    for variant in ("color", "hha", "color-hha"):
        net = nets_data.narrow(committed("nyud-fcn32s", f"{variant}-deploy"), 16)
        for shape in net.layer[0].input_param.shape:
            shape.dim[2:] = [40, 53]
        (tmp_path / variant).write_text(str(net))
        nets[variant] = caffe.Net(str(tmp_path / variant), caffe.TEST)
    both = nets["color-hha"]
    random = np.random.RandomState(3)
    mean = 0
    for modality in ("color", "hha"):
        net = nets[modality]
        run_nets.fill(net, seed=len(modality))
        net.params["score_fr"][0].data[...] = random.standard_normal(net.params["score_fr"][0].data.shape)
        surgery.transplant(both, net, modality)
        both.blobs[modality].data[...] = net.blobs["data"].data[...] = random.uniform(-100, 100, (1, 3, 40, 53))
        net.forward()
        mean = mean + net.blobs["score_fr"].data / 2
    both.forward()
    # float32, added up in the same order but for the last step
    assert np.abs(mean).max() > 0 and np.allclose(both.blobs["score_fused"].data, mean, atol=1e-6 * np.abs(mean).max())
