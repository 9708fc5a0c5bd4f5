"""The forks' layers at work: nets in the manner of the published ones, trained, saved, loaded and tested."""

from __future__ import annotations

from pathlib import Path

import caffe
import extras_nets as nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from extras_reference import detection_output

from torchcaffe import __main__ as command
from torchcaffe import files, forks, upgrade, wire
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture(autouse=True)
def switched_on(tmp_path, monkeypatch):
    """The extras, for one test, in a folder of its own."""
    monkeypatch.setattr(forks, "_enabled", True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")
    caffe.set_random_seed(1)


def net(text: str, phase: int = caffe.TEST, weights: str = "") -> caffe.Net:
    Path("net.prototxt").write_text(text)
    return caffe.Net("net.prototxt", phase, **({"weights": weights} if weights else {}))


def trained(text: str, steps: int, rate: float = 0.1) -> tuple[caffe.SGDSolver, list[float]]:
    """A solver after some steps, and the loss of each."""
    Path("train.prototxt").write_text(text)
    Path("solver.prototxt").write_text('net: "train.prototxt" base_lr: %g lr_policy: "fixed" momentum: 0.9 '
                                       'weight_decay: 0.0005 snapshot_prefix: "net"' % rate)
    solver, losses = caffe.SGDSolver("solver.prototxt"), []
    for _ in range(steps):
        solver.step(1)
        losses.append(sum(float(solver.net.blobs[name].data) for name in solver.net.outputs if "loss" in name))
    return solver, losses


def test_segnet_trains_and_its_folded_inference_net_says_the_same():
    data = nets.drawn(3, *nets.SEGNET_SHAPES.values())
    solver, losses = trained(nets.segnet(data, end=nets.LOSS), 12)
    assert losses[-1] < 0.2 * losses[0]
    solver.snapshot()
    x = np.random.RandomState(3).randn(*nets.SEGNET_SHAPES["data"])
    shape = {"data": nets.SEGNET_SHAPES["data"]}
    # As SegNet's compute_bn_statistics.py: what BN learned and the statistics of its input become scale and shift.
    learned = net(nets.segnet(nets.inputs(**shape)), caffe.TEST, "net_iter_12.caffemodel")
    learned.blobs["data"].data[...] = x
    folded = net(nets.segnet(nets.inputs(**shape), inference=True), caffe.TEST, "net_iter_12.caffemodel")
    for name in ("conv1", "conv2", "conv_decode2", "conv_decode1"):
        learned.forward(end=name)
        values = learned.blobs[name].data.astype(np.float64)
        mean, deviation = values.mean((0, 2, 3)), np.sqrt(values.var((0, 2, 3)) + 1e-9)
        scale, shift = (blob.data.ravel() for blob in learned.params[name + "_bn"])
        for blob, value in zip(folded.params[name + "_bn"], (scale / deviation, shift - scale * mean / deviation)):
            assert blob.data.shape == (1, len(value), 1, 1)
            blob.data[...] = value.reshape(blob.data.shape)
    learned.forward()
    folded.blobs["data"].data[...] = x
    folded.forward()
    assert folded.blobs["score"].data.shape == (2, 3, 7, 9)
    # eight layers of float32, normalized in another order
    np.testing.assert_allclose(folded.blobs["score"].data, learned.blobs["score"].data, rtol=1e-3, atol=1e-4)


def test_segnet_by_the_command(capsys):
    data = nets.drawn(3, *nets.SEGNET_SHAPES.values())
    Path("net.prototxt").write_text(nets.segnet(data, end=nets.LOSS))
    Path("solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3 display: 1 '
                                       'snapshot_prefix: "segnet" random_seed: 1')
    assert command.main(["train", "-solver", "solver.prototxt", "-extras"]) == 0
    assert command.main(["test", "-model", "net.prototxt", "-weights", "segnet_iter_3.caffemodel", "-iterations", "2",
                         "-extras"]) == 0
    assert Path("segnet_iter_3.solverstate").exists()


def test_pspnet_trains_and_frozen_says_what_it_says_in_test():
    data = nets.drawn(3, *nets.PSPNET_SHAPES.values())
    solver, losses = trained(nets.pspnet(data, end=nets.LOSS), 12, 0.02)
    assert losses[-1] < 0.5 * losses[0]
    slope, bias, mean, variance = (blob.data.copy() for blob in solver.net.params["conv5_3/bn"])
    assert slope.shape == (1, 6) and (mean != 0).all() and (variance != 1).all() and (slope != 1).all()
    solver.snapshot()
    shape = {"data": nets.PSPNET_SHAPES["data"]}
    x = np.random.RandomState(3).randn(*shape["data"])
    scores = []
    for phase, frozen in ((caffe.TEST, False), (caffe.TRAIN, True)):
        n = net(nets.pspnet(nets.inputs(**shape), frozen), phase, "net_iter_12.caffemodel")
        n.blobs["data"].data[...] = x
        n.forward()
        scores.append(n.blobs["score"].data.copy())
    assert scores[0].shape == (2, 3, 15, 15)
    np.testing.assert_array_equal(*scores)
    # and frozen in training stays as it is, while what is around it learns
    solver = trained(nets.pspnet(data, True, nets.LOSS), 0)[0]
    solver.net.copy_from("net_iter_12.caffemodel")
    before = solver.net.params["conv5_3"][0].data.copy()
    solver.step(2)
    for blob, held in zip(solver.net.params["conv5_3/bn"], (slope, bias, mean, variance)):
        np.testing.assert_array_equal(blob.data, held)
    assert (solver.net.params["conv5_3"][0].data != before).any()


def test_bn_is_bvlcs_batch_norm_and_scale():
    """Whose numbers are BVLC's own (test_layers.py): the same formula, up to rounding and the variance that is kept."""
    shape, random = {"x": (3, 4, 5, 2)}, np.random.RandomState(0)
    x, slope, bias = random.randn(3, 4, 5, 2), random.randn(4), random.randn(4)
    ours = net("force_backward: true\n" + nets.inputs(**shape) + nets.layer("bn", "BN", "x", "y", (
        "bn_param { slope_filler {} momentum: 0.9 }")), caffe.TRAIN)
    bvlc = net("force_backward: true\n" + nets.inputs(**shape) + nets.layer("bn", "BatchNorm", "x", "n", (
        "batch_norm_param { moving_average_fraction: 0.9 }")) + nets.layer("scale", "Scale", "n", "y", (
            "scale_param { bias_term: true }")), caffe.TRAIN)
    for n, blobs in ((ours, ours.params["bn"]), (bvlc, bvlc.params["scale"])):
        blobs[0].data[...], blobs[1].data[...] = slope, bias
        n.blobs["x"].data[...] = x
        n.forward()
        n.blobs["y"].diff[...] = np.cos(np.arange(120)).reshape(3, 4, 5, 2)
        n.backward()
    for name, half in (("y", "data"), ("x", "diff")):
        a, b = (getattr(n.blobs[name], half) for n in (ours, bvlc))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    for i in (0, 1):
        a, b = ours.params["bn"][i].diff.ravel(), bvlc.params["scale"][i].diff
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    np.testing.assert_allclose(ours.params["bn"][2].data.ravel(), 0.1 * bvlc.params["bn"][0].data, rtol=1e-5)
    biased = bvlc.params["bn"][1].data * 29 / 30  # BatchNorm keeps m / (m - 1) times the variance
    np.testing.assert_allclose(ours.params["bn"][3].data.ravel(), 0.9 + 0.1 * biased, rtol=1e-5)


def ssd_model(path: str) -> np.ndarray:
    """SSD's caffemodel, as a fork writes it; its input."""
    data, params = nets.ssd_arrays()
    model = caffe_pb2.NetParameter()
    for name, arrays in params.items():
        layer = model.layer.add(name=name)
        for array in arrays:
            layer.blobs.add(data=array.ravel()).shape.dim.extend(array.shape)
    Path(path).write_bytes(model.SerializeToString())
    return data


def test_ssd_finds_what_opencv_and_plain_loops_find(capsys):
    data = ssd_model("ssd.caffemodel")
    n = net(nets.ssd(), caffe.TEST, "ssd.caffemodel")
    n.blobs["data"].data[...] = data
    out = n.forward()["detection_out"]
    assert out.shape[:2] == (1, 1) and out.shape[3] == 7 and 10 < out.shape[2] <= 40
    wanted = detection_output(n.layers[-1].layer_param, *(n.blobs[b].data.astype(np.float64) for b in (
        "mbox_loc", "mbox_conf_flatten", "mbox_priorbox")), caffe.TEST)[0]
    np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-5)
    with np.load(GOLDENS / "extras_opencv.npz") as file:
        # sums of 54 float32 products, in another order, through exp
        np.testing.assert_allclose(out, file["SSD net/detections"], rtol=0, atol=2e-5)
    assert command.main(["test", "-model", "net.prototxt", "-weights", "ssd.caffemodel", "-iterations", "1", "-extras"]) == 0


def test_ssd_of_another_size():
    n = net(nets.ssd(), caffe.TEST)
    n.blobs["data"].reshape(1, 3, 64, 48)
    n.reshape()
    assert n.forward()["detection_out"].shape[0] == 1
    assert n.blobs["mbox_priorbox"].shape == (1, 2, (8 * 6 * 4 + 4 * 3 * 6) * 4)


def test_blocks_of_senet_shufflenet_and_mobilenet_train():
    _, losses = trained(nets.blocks(nets.drawn(3, *nets.BLOCKS_SHAPES.values()), nets.LOSS), 12, 0.02)
    assert losses[-1] < 0.5 * losses[0]


def test_depthwise_is_convolution_with_groups():
    texts = ['type: "%s"' % kind for kind in ("ConvolutionDepthwise", "DepthwiseConvolution", "Convolution")]
    found = []
    for i, text in enumerate(texts):
        caffe.set_random_seed(4)
        n = net(nets.inputs(x=(2, 4, 5, 6)) + 'layer { name: "y" bottom: "x" top: "y" %s convolution_param { num_output: 4 '
                "kernel_size: 3 stride: 2 dilation: 2 pad: 2 %s %s } }" % (text, nets.XAVIER, "group: 4" if i else ""))
        n.blobs["x"].data[...] = np.sin(np.arange(240)).reshape(2, 4, 5, 6)
        found.append(n.forward()["y"].copy())
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[2])


def test_relu6_is_bvlcs_clip():
    x = 10 * np.random.RandomState(0).randn(2, 30)
    found = []
    for text in ('type: "ReLU6"', 'type: "Clip" clip_param { min: 0 max: 6 }'):
        n = net("force_backward: true\n" + nets.inputs(x=(2, 30)) + 'layer { name: "y" bottom: "x" top: "y" %s }' % text)
        n.blobs["x"].data[...] = x
        n.forward()
        n.blobs["y"].diff[...] = x
        n.backward()
        found.append((n.blobs["y"].data.copy(), n.blobs["x"].diff.copy()))
    np.testing.assert_array_equal(found[0], found[1])


def test_upsample_is_pytorchs_unpooling():
    for size in (8, 10), (7, 9):
        n = net("force_backward: true\n" + nets.inputs(x=(2, 3, *size))
                + nets.layer("p", "Pooling", "x", "p m", "pooling_param { kernel_size: 2 stride: 2 }")
                + nets.layer("u", "Upsample", "p m", "u", "upsample_param { upsample_h: %d upsample_w: %d }" % size))
        x = torch.from_numpy(np.random.RandomState(0).randn(2, 3, *size).astype(np.float32)).requires_grad_()
        up = F.max_unpool2d(*F.max_pool2d(x, 2, ceil_mode=True, return_indices=True), 2, output_size=size)
        up.backward(torch.ones_like(up))
        n.blobs["x"].data[...] = x.detach()
        np.testing.assert_array_equal(n.forward()["u"], up.detach())
        n.blobs["u"].diff[...] = 1
        n.backward()
        np.testing.assert_array_equal(n.blobs["x"].diff, x.grad)


@pytest.mark.parametrize("sigma", [1, 3])
def test_smooth_l1_loss_is_pytorchs(sigma: int):
    n = net("force_backward: true\n" + nets.inputs(x=(4, 6), t=(4, 6)) + nets.layer(
        "loss", "SmoothL1Loss", "x t", "loss", "loss_weight: 1 smooth_l1_loss_param { sigma: %d }" % sigma))
    x, t = torch.from_numpy(np.random.RandomState(0).randn(2, 4, 6).astype(np.float32))
    x.requires_grad_()
    loss = F.smooth_l1_loss(x, t, reduction="sum", beta=1 / sigma**2) / 4
    loss.backward()
    n.blobs["x"].data[...], n.blobs["t"].data[...] = x.detach(), t
    np.testing.assert_allclose(n.forward()["loss"], loss.item(), rtol=1e-6)
    n.backward()
    np.testing.assert_allclose(n.blobs["x"].diff, x.grad, rtol=1e-5)
    np.testing.assert_allclose(n.blobs["t"].diff, -x.grad, rtol=1e-5)


def test_rcnn_trains_on_regions():
    Path("train.prototxt").write_text(nets.rcnn())
    solver, _ = trained(nets.rcnn(), 0, 0.05)
    random, blobs = np.random.RandomState(0), solver.net.blobs
    blobs["data"].data[...] = random.randn(2, 3, 24, 32)
    blobs["rois"].data[...] = [(0, 0, 0, 15, 15), (0, 8, 4, 31, 23), (1, 3, 3, 9, 20), (1, 16, 0, 30, 11), (1, 5, 5, 5, 5)]
    blobs["labels"].data[...] = [0, 1, 2, 1, 0]
    blobs["bbox_targets"].data[...] = random.randn(5, 12)
    for name in ("bbox_inside_weights", "bbox_outside_weights"):
        blobs[name].data[...] = random.rand(5, 12) > 0.3
    losses = []
    for _ in range(30):
        solver.step(1)
        losses.append([float(blobs[name].data) for name in ("loss_cls", "loss_bbox")])
    assert losses[-1][0] < 0.95 * losses[0][0] and losses[-1][1] < 0.5 * losses[0][1], (losses[0], losses[-1])


def test_what_a_layer_leaves_as_it_is_is_still_a_copy():
    shape = {"x": (1, 2, 3, 3)}
    n = net(nets.inputs(**shape) + nets.layer("p", "Permute", "x", "p", "permute_param { order: 0 }")
            + nets.layer("r", "ReLU", "p", "p"))
    n.blobs["x"].data[...] = -1
    assert (n.forward()["p"] == 0).all() and (n.blobs["x"].data == -1).all()
    # in place, with somebody looking: the scale's gradient needs the input that is overwritten
    n = net("force_backward: true\n" + nets.inputs(**shape) + nets.layer(
        "bn", "BN", "x", "x", "bn_param { bn_mode: INFERENCE scale_filler { value: 2 } }"))
    view = n.blobs["x"].data
    view[...] = 3
    n.forward()
    assert (view == 6).all()
    n.blobs["x"].diff[...] = 1
    n.backward()
    assert n.params["bn"][0].diff.ravel().tolist() == [27, 27]


# -- files the forks wrote -----------------------------------------------------------------------------------------------
def fork_made(*fields: tuple[int, bytes]) -> bytes:
    """A caffemodel of one BN layer with 4 parameters as PSPNet's, and fields of the forks' own numbers in it."""
    layer = caffe_pb2.LayerParameter(name="bn", type="BN")
    for k in range(4):
        layer.blobs.add(data=[k + 1.0, k + 2.0]).shape.dim.extend([1, 2, 1, 1])
    body = layer.SerializeToString() + b"".join(wire.bytes_head(number, len(value)) + value for number, value in fields)
    return wire.bytes_head(100, len(body)) + body


# In a fork's file these numbers, BVLC's and the engine's own among them, are other messages: embed_param, clip_param (which
# has required fields), swish_param, input_param, none, none, interp_param.
FILLER = caffe_pb2.BNParameter(scale_filler=caffe_pb2.FillerParameter(type="constant", value=1)).SerializeToString()
COLLISIONS = [(137, FILLER), (148, b"\x08\x01"), (147, b"\x08\x01\x10\x02"), (143, b"\x0d\x00\x00\x80\x3f"),
              (202, b"\x08\x00\x08\x02"), (149, b"\x0a\x01\xff"), (20003, b"\x0a\x02\x08\x01")]


@pytest.mark.parametrize("fields", [[], *[[c] for c in COLLISIONS], COLLISIONS], ids=lambda f: str([n for n, _ in f]))
def test_weights_of_a_forks_caffemodel_load_whatever_else_it_says(fields, capsys):
    Path("fork.caffemodel").write_bytes(fork_made(*fields))
    n = net(nets.inputs(x=(1, 2, 3, 3)) + nets.layer("bn", "BN", "x", "y", "bn_param { frozen: true }"), caffe.TEST,
            "fork.caffemodel")
    assert [blob.data.shape for blob in n.params["bn"]] == [(1, 2)] * 4
    assert [blob.data.ravel().tolist() for blob in n.params["bn"]] == [[k + 1, k + 2] for k in range(4)]
    assert files.read_net_binary("fork.caffemodel").layer[0].name == "bn"


def test_one_bns_weights_do_not_fit_another_number_of_channels():
    Path("fork.caffemodel").write_bytes(fork_made())
    with pytest.raises(CaffeError, match="Layer 'bn'.*Source param shape is .1, 2, 1, 1.; target param shape is .1, 3."):
        net(nets.inputs(x=(1, 3, 3, 3)) + nets.layer("bn", "BN", "x", "y"), caffe.TEST, "fork.caffemodel")


def test_what_the_engine_writes_with_extras_it_reads():
    Path("net.prototxt").write_text(nets.segnet(nets.inputs(**nets.SEGNET_SHAPES), end=nets.LOSS))
    n = caffe.Net("net.prototxt", caffe.TRAIN)
    n.save("segnet.caffemodel")
    held = files.read_net_binary("segnet.caffemodel")
    upgrade.upgrade_net(held, "segnet.caffemodel")
    assert held.layer[-1].type == "SoftmaxWithLoss"
    by_name = {layer.name: layer for layer in held.layer}
    assert by_name["conv1_bn"].bn_param.scale_filler.value == 1 and by_name["upsample2"].upsample_param.upsample_w == 5
    again = caffe.Net("net.prototxt", caffe.TRAIN, weights="segnet.caffemodel")
    for name, blobs in n.params.items():
        for a, b in zip(blobs, again.params[name]):
            np.testing.assert_array_equal(a.data, b.data)
