"""tools/surgery.py on nets of the engine and on files: what moves where, what is refused, what is said."""

import baseweights
import caffe
import caffemodel
import numpy as np
import pytest
import surgery
from surgery import SurgeryError

from torchcaffe.proto import caffe_pb2

FULL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { value: 1 } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc6" type: "InnerProduct" bottom: "pool1" top: "fc6"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } bias_filler { value: 2 } } }
layer { name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8"
  inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
"""
CONV = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc6" type: "Convolution" bottom: "pool1" top: "fc6" convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "fc7" type: "Convolution" bottom: "fc6" top: "fc7" convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "score_fr" type: "Convolution" bottom: "fc7" top: "score_fr"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "upscore" type: "Deconvolution" bottom: "score_fr" top: "upscore"
  convolution_param { num_output: 2 bias_term: false kernel_size: 4 stride: 2 } }
"""


def net_of(tmp_path, text):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TEST)


@pytest.fixture
def full(tmp_path):
    caffe.set_random_seed(1)
    return net_of(tmp_path, FULL)


@pytest.fixture
def conv(tmp_path):
    return net_of(tmp_path, CONV)


def parameters(net):
    return {(name, i): blob.data.copy() for name in net.params for i, blob in enumerate(net.params[name])}


def unchanged(net, before):
    after = parameters(net)
    return before.keys() == after.keys() and all(np.array_equal(before[k], after[k]) for k in before)


# -- between nets ------------------------------------------------------------------------------------------------------
def test_transplant_makes_convolutions_of_fully_connected_layers(full, conv):
    report = surgery.transplant(conv, full)
    assert np.array_equal(conv.params["fc6"][0].data, full.params["fc6"][0].data.reshape(5, 4, 3, 3))
    assert np.array_equal(conv.params["conv1"][1].data, [1] * 4)
    assert [report.count(kind) for kind in ("copied", "coerced", "dropped", "left")] == [
        112 + 5 + 5, 180 + 25, 35 + 7, 10 + 2 + 64]
    assert report.dropped == [("fc8[0]", 35), ("fc8[1]", 7)]
    assert [what for what, _ in report.left] == ["score_fr[0]", "score_fr[1]", "upscore[0]"]
    text = str(report)
    assert text.startswith("transplant: values copied 122, coerced 205, dropped 42, left 76\n")
    assert "fc6[0] (5, 36) -> (5, 4, 3, 3)" in text and len(text.splitlines()) == 5
    # the same function of the image: both compute the classifier's fc7
    image = np.random.RandomState(0).randn(1, 3, 6, 6)
    full.blobs["data"].data[...] = conv.blobs["data"].data[...] = image
    full.forward(), conv.forward()
    wanted = full.blobs["fc7"].data.ravel()
    # the same float32 products, summed by another routine: 36 terms, so a few units in the last place
    assert np.allclose(conv.blobs["fc7"].data.ravel(), wanted, rtol=0, atol=1e-6 * abs(wanted).max())


def test_transplant_with_suffix(tmp_path, full):
    new = net_of(tmp_path, CONV.replace('name: "conv1"', 'name: "conv1color"'))
    report = surgery.transplant(new, full, "color")
    assert np.array_equal(new.params["conv1color"][0].data, full.params["conv1"][0].data)
    assert report.count("copied") == 112 and "fc6[0]" in dict(report.dropped)


def test_transplant_refuses_other_sizes_and_changes_nothing(tmp_path, full):
    new = net_of(tmp_path, CONV.replace("num_output: 5 kernel_size: 3", "num_output: 5 kernel_size: 2"))
    before = parameters(new)
    with pytest.raises(SurgeryError, match=r"fc6\[0\] has shape \(5, 36\), 180 values; its target fc6\[0\] has shape "
                                           r"\(5, 4, 2, 2\), 80 values. .*rename the layer"):
        surgery.transplant(new, full)
    assert unchanged(new, before)


def test_transplant_drops_and_leaves_blobs(tmp_path, full):
    """A layer without bias drops the source's; a source without bias leaves the target's."""
    bare = net_of(tmp_path, CONV.replace("num_output: 4", "bias_term: false num_output: 4"))
    assert ("conv1[1]", 4) in surgery.transplant(bare, full).dropped
    assert ("conv1[1]", 4) in surgery.transplant(full, bare).left
    assert np.array_equal(full.params["conv1"][1].data, [1] * 4)


@pytest.mark.parametrize("size, taps", [(3, [0.5, 1, 0.5]), (4, [0.25, 0.75, 0.75, 0.25])])
def test_upsample_filt(size, taps):
    assert np.array_equal(surgery.upsample_filt(size), np.outer(taps, taps))


@pytest.mark.parametrize("size, stride", [(4, 2), (16, 8), (32, 16), (64, 32), (63, 32)])
def test_upsample_filt_keeps_a_constant(size, stride):
    """The kernels of the FCN nets: summed over the taps that meet at one pixel, 1 each way (exact in binary)."""
    kernel = surgery.upsample_filt(size)
    padded = np.zeros((2 * stride, 2 * stride))
    padded[:size, :size] = kernel
    folded = padded.reshape(2, stride, 2, stride).sum((0, 2))
    assert np.array_equal(folded, np.ones((stride, stride)))


def test_interp_upsamples_each_class_by_itself(conv):
    conv.params["upscore"][0].data[...] = 9
    surgery.interp(conv, ["upscore"])
    weights = conv.params["upscore"][0].data
    assert np.array_equal(weights[0, 0], surgery.upsample_filt(4)) and np.array_equal(weights[0, 0], weights[1, 1])
    assert not weights[0, 1].any() and not weights[1, 0].any()


def test_interp_of_grouped_layers(tmp_path):
    net = net_of(tmp_path, CONV.replace("bias_term: false", "bias_term: false group: 2"))
    surgery.interp(net, ["upscore"])
    assert net.params["upscore"][0].data.shape == (2, 1, 4, 4)
    assert all(np.array_equal(kernel[0], surgery.upsample_filt(4)) for kernel in net.params["upscore"][0].data)


@pytest.mark.parametrize("old, new, message", [
    ("num_output: 2 bias_term", "num_output: 3 bias_term", "2 channels to 3|3 channels to 2|wanted as many to as from"),
    ("kernel_size: 4", "kernel_h: 4 kernel_w: 3", "4 x 3; wanted a square one"),
    ('"upscore" type', '"up" type', "no layer 'upscore' with parameters; it has conv1, fc6"),
])
def test_interp_refuses(tmp_path, old, new, message):
    net = net_of(tmp_path, CONV.replace(old, new))
    before = parameters(net)
    with pytest.raises(SurgeryError, match=message):
        surgery.interp(net, ["upscore"])
    assert unchanged(net, before)


def test_expand_score(tmp_path, conv):
    conv.params["score_fr"][0].data[...] = np.arange(10).reshape(2, 5, 1, 1)
    conv.params["score_fr"][1].data[...] = [3, 4]
    new = net_of(tmp_path, CONV.replace("num_output: 2 kernel_size: 1", "num_output: 4 kernel_size: 1"))
    report = surgery.expand_score(new, "score_fr", conv, "score_fr")
    assert np.array_equal(new.params["score_fr"][0].data.reshape(4, 5)[:2], np.arange(10).reshape(2, 5))
    assert np.array_equal(new.params["score_fr"][1].data, [3, 4, 0, 0])
    assert (report.count("copied"), report.count("left")) == (12, 12)
    with pytest.raises(SurgeryError, match="the classes, of which there may be more"):
        surgery.expand_score(conv, "score_fr", new, "score_fr")
    with pytest.raises(SurgeryError, match="fc7 has shapes .*conv1 has"):
        surgery.expand_score(conv, "conv1", conv, "fc7")


def test_extend_inputs(tmp_path, full):
    wide = net_of(tmp_path, CONV.replace("dim: 3 dim: 6", "dim: 5 dim: 6").replace('"conv1"', '"conv1_d"'))
    report = surgery.extend_inputs(wide, "conv1_d", full, "conv1")
    old, new = full.params["conv1"], wide.params["conv1_d"]
    assert np.array_equal(new[0].data[:, :3], old[0].data) and np.array_equal(new[1].data, old[1].data)
    for channel in (3, 4):
        np.testing.assert_allclose(new[0].data[:, channel], old[0].data.mean(1), rtol=1e-6)  # a float32 sum of three
    assert (report.count("copied"), report.count("coerced")) == (4 * 3 * 9 + 4, 4 * 2 * 9)
    assert "first 3 of 5 inputs" in str(report)
    for target, source, named in ((full, wide, "conv1_d"), (wide, full, "fc6"), (wide, full, "none")):
        before = parameters(target)
        with pytest.raises(SurgeryError, match=rf"extend_inputs: '{named}' has shapes .*the second dimension alone"):
            surgery.extend_inputs(target, "conv1" if target is full else "conv1_d", source, named)
        assert unchanged(target, before)


def test_a_file_stands_for_a_net(tmp_path, full, conv):
    full.save(str(tmp_path / "full.caffemodel"))
    weights = surgery.Weights(str(tmp_path / "full.caffemodel"))
    assert list(weights.params) == ["conv1", "fc6", "fc7", "fc8"]
    assert str(surgery.transplant(conv, weights)) == str(surgery.transplant(conv, full))
    assert np.array_equal(conv.params["fc6"][0].data.ravel(), full.params["fc6"][0].data.ravel())


def test_refuse_zeros(full, conv):
    """Trunk and deconvolutions must hold something; score layers, which start at zero, need not."""
    with pytest.raises(SurgeryError, match="zero in conv1, fc6, fc7: load base weights.*and in upscore: call surgery"):
        surgery.refuse_zeros(conv)
    surgery.transplant(conv, full)
    with pytest.raises(SurgeryError, match=r"zero in upscore: call surgery.interp\(net, \['upscore'\]\)"):
        surgery.refuse_zeros(conv)
    surgery.interp(conv, ["upscore"])
    assert not conv.params["score_fr"][0].data.any()
    surgery.refuse_zeros(conv)


# -- from a file into a net ----------------------------------------------------------------------------------------------
def test_load_says_what_went_where(tmp_path, full, conv):
    surgery.transplant(conv, full)
    path = str(tmp_path / "base.caffemodel")
    layers = [(name, "Convolution", [blob.data for blob in conv.params[name]]) for name in ("conv1", "fc6")]
    caffemodel.write(path, [*layers, ("fc8", "Convolution", [np.ones((7, 5, 1, 1))]), ("relu9", "ReLU", [])])
    new = net_of(tmp_path, CONV)
    report = surgery.load(new, path)
    assert np.array_equal(new.params["fc6"][0].data, conv.params["fc6"][0].data)
    assert report.copied == [("conv1", 112), ("fc6", 185)]
    assert report.dropped == [("fc8", 35)]
    assert report.left == [("fc7", 30), ("score_fr", 12), ("upscore", 64)]


def write_old(path, layers):
    """A V1 file with legacy four-axis shapes, as the released classifiers are."""
    net = caffe_pb2.NetParameter()
    for name, kind, arrays in layers:
        layer = net.layers.add(name=name, type=kind)
        for array in arrays:
            shape = (1,) * (4 - array.ndim) + array.shape
            layer.blobs.add(num=shape[0], channels=shape[1], height=shape[2], width=shape[3], data=array.ravel().tolist())
    path.write_bytes(net.SerializeToString())


def old_classifier(path, net):
    v1 = caffe_pb2.V1LayerParameter
    layers = [(name, v1.CONVOLUTION if name == "conv1" else v1.INNER_PRODUCT, [b.data for b in net.params[name]])
              for name in net.params]
    write_old(path, [("data", v1.DATA, []), *layers, ("prob", v1.SOFTMAX, [])])


def test_load_lets_old_shapes_pass(tmp_path, full):
    old_classifier(tmp_path / "old.caffemodel", full)
    caffe.set_random_seed(2)
    new = net_of(tmp_path, FULL)
    surgery.load(new, str(tmp_path / "old.caffemodel"))
    assert unchanged(new, parameters(full))


def test_load_refuses_other_shapes_before_caffe_aborts(tmp_path, full, conv):
    path = str(tmp_path / "classifier.caffemodel")
    old_classifier(tmp_path / "classifier.caffemodel", full)
    before = parameters(conv)
    with pytest.raises(SurgeryError, match=r"classifier.caffemodel: layer 'fc6' \(InnerProduct\) has parameters of shapes "
                                           r"\[\(1, 1, 5, 36\), .*the net's has \[\(5, 4, 3, 3\).*py convolutionalize"):
        surgery.load(conv, path)
    caffemodel.write(path, [("score_fr", "Convolution", [np.zeros((21, 5, 1, 1)), np.zeros(21)])])
    with pytest.raises(SurgeryError, match=r"\(21, 5, 1, 1\).*\(2, 5, 1, 1\).*rename the layer"):
        surgery.load(conv, path)
    # a blob more or less, and a modern shape with ones in front, are fatal in Caffe too
    for blobs in ([np.zeros((2, 5, 1, 1))], [np.zeros((2, 5, 1, 1)), np.zeros((1, 1, 1, 2))]):
        caffemodel.write(path, [("score_fr", "Convolution", blobs)])
        with pytest.raises(SurgeryError, match="score_fr"):
            surgery.load(conv, path)
    assert unchanged(conv, before)


# -- from file to file ---------------------------------------------------------------------------------------------------
def test_convolutionalize(tmp_path, full, conv, capsys):
    source, target = tmp_path / "classifier.caffemodel", tmp_path / "fcn.caffemodel"
    old_classifier(source, full)
    assert surgery.main(["convolutionalize", str(source), str(target)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in said] == [
        "conv1 Convolution 4x3x3x3", "fc6 Convolution 5x4x3x3 from InnerProduct 5x36",
        "fc7 Convolution 5x5x1x1 from InnerProduct 5x5", "fc8 Convolution 7x5x1x1 from InnerProduct 7x5",
        "wrote %s" % target]
    layers = caffemodel.read(str(target))
    assert [(layer.name, layer.type) for layer in layers] == [(n, "Convolution") for n in ("conv1", "fc6", "fc7", "fc8")]
    for layer in layers:
        weight, bias = full.params[layer.name]
        assert np.array_equal(layer.blobs[0].ravel(), weight.data.ravel()) and np.array_equal(layer.blobs[1], bias.data)
    surgery.load(conv, str(target))
    other = net_of(tmp_path, CONV)
    surgery.transplant(other, full)
    assert unchanged(conv, parameters(other))


def test_convolutionalize_infers_vggs_and_alexnets_kernels():
    """25088 / 512 = 7 x 7; 9216 / 256 = 6 x 6."""
    assert surgery._kernel("vgg", "fc6", 25088, 512) == (7, 7)
    assert surgery._kernel("alexnet", "fc6", 9216, 256) == (6, 6)


def test_convolutionalize_bvlcs_googlenet(tmp_path):
    """Its last classifier sees an average pooling, 1x1, of four joined streams: no square map of the layer before it."""
    source, target = str(tmp_path / "bvlc_googlenet.caffemodel"), str(tmp_path / "googlenet-fcn.caffemodel")
    conv, full = "Convolution", "InnerProduct"
    caffemodel.write(source, [("loss1/conv", conv, [np.zeros((128, 8, 1, 1))]), ("loss1/fc", full, [np.zeros((16, 2048))]),
                              ("inception_5b/pool_proj", conv, [np.zeros((128, 8, 1, 1)), np.zeros(128)]),
                              ("loss3/classifier", full, [np.zeros((10, 1024)), np.zeros(10)])])  # fmt: skip
    with pytest.raises(SurgeryError, match=r"--kernel loss3/classifier=HEIGHTxWIDTH"):
        surgery.convolutionalize(source, target)
    path, how = baseweights.find(target, [])
    assert path == target and how.startswith(f"made from {source}: BVLC's GoogLeNet")
    shapes = {layer.name: layer.blobs[0].shape for layer in caffemodel.read(target)}
    assert shapes["loss3/classifier"] == (10, 1024, 1, 1) and shapes["loss1/fc"] == (16, 128, 4, 4)


def write_layers(path, *inputs):
    caffemodel.write(str(path), [("conv5", "Convolution", [np.zeros((2, 1, 3, 3)), np.zeros(2)])] + [
        ("fc%d" % (6 + i), "InnerProduct", [np.zeros((3, n))]) for i, n in enumerate(inputs)])


def test_convolutionalize_of_a_map_that_is_not_square(tmp_path, capsys):
    source, target = tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"
    write_layers(source, 2 * 3 * 4)
    assert surgery.main(["convolutionalize", str(source), str(target)]) == 1
    assert "layer 'fc6' has 24 inputs, which are no square map of the 2 channels" in capsys.readouterr().err
    assert not target.exists()
    assert surgery.main(["convolutionalize", str(source), str(target), "--kernel", "fc6=3x4"]) == 0
    assert caffemodel.read(str(target))[1].blobs[0].shape == (3, 2, 3, 4)
    with pytest.raises(SurgeryError, match="fc6' has 24 inputs, which are no channels of 5 x 5"):
        surgery.convolutionalize(str(source), str(target), {"fc6": (5, 5)})
    with pytest.raises(SurgeryError, match="kernels are given for fc9, which are no fully connected layers"):
        surgery.convolutionalize(str(source), str(target), {"fc6": (3, 4), "fc9": (1, 1)})
    with pytest.raises(SystemExit):
        surgery.main(["convolutionalize", str(source), str(target), "--kernel", "fc6=3"])
    assert "fc6=7x7" in capsys.readouterr().err


def test_convolutionalize_needs_a_classifier(tmp_path, capsys):
    source, target = tmp_path / "a.caffemodel", tmp_path / "b.caffemodel"
    write_layers(source)
    with pytest.raises(SurgeryError, match="no fully connected layers .*it has Convolution conv5.; it may be one already"):
        surgery.convolutionalize(str(source), str(target))
    caffemodel.write(str(source), [("fc1", "InnerProduct", [np.zeros((3, 4))])])
    with pytest.raises(SurgeryError, match="no square map of the None channels"):
        surgery.convolutionalize(str(source), str(target))
    source.write_bytes(source.read_bytes()[:-5])
    assert surgery.main(["convolutionalize", str(source), str(target)]) == 1
    assert "surgery.py: %s: field" % source in capsys.readouterr().err
    assert surgery.main(["convolutionalize", str(tmp_path / "absent"), str(target)]) == 1
    assert not target.exists()
