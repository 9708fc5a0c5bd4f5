"""tools/explain.py: figures of the papers' nets, rules against hand-made cases, and nets it must refuse."""

import math

import caffe
import explain
import prototxt
import pytest
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from nets_for_tests import ROOT, files

VOC = ["voc-fcn32s", "voc-fcn16s", "voc-fcn8s"]


def net_of(experiment, name="deploy"):
    return prototxt.read(str(ROOT / experiment / f"{name}.prototxt"), caffe_pb2.NetParameter())


def rows_of(net, size=None, **options):
    return {row.name: row for row in explain.explain(net, size, **options)}


def shape(row):
    return row.tops[0][1].shape


def axis(row):
    return row.tops[0][1].grid[0]


def chain(*makers, size=(1, 3, 10, 10)):
    """The rows of an input and layers one after another, each made by a function of the top before it."""
    top = L.Input(shape=[dict(dim=list(size))])
    for make in makers:
        top = make(top)
    return explain.explain(top.to_proto())


# -- the nets of the papers; figures are those of Table 1 and of the released nets ----------------------------------------


def heads(stride, *classes):
    """(learned, frozen) parameters of heads for so many classes: scores of fc7, pool4, pool3; kernels of the upsampling."""
    inputs, kernels = {32: ([4096], [64]), 16: ([4096, 512], [4, 32]), 8: ([4096, 512, 256], [4, 4, 16])}[stride]
    return (sum(c * (width + 1) for c in classes for width in inputs), sum((c * k) ** 2 for c in classes for k in kernels))


VGG16 = 134260544
# learned parameters as counted from the released nets; the rest, of the upsampling, is frozen
PARAMETERS = {
    ("voc-fcn32s", ""): (134346581, heads(32, 21)), ("voc-fcn16s", ""): (134357354, heads(16, 21)),
    ("voc-fcn8s", ""): (134362751, heads(8, 21)),
    ("siftflow-fcn32s", ""): (134408036, heads(32, 33, 3)), ("siftflow-fcn16s", ""): (134426504, heads(16, 33, 3)),
    ("siftflow-fcn8s", ""): (134435756, heads(8, 33, 3)),
    ("pascalcontext-fcn32s", ""): (134506364, heads(32, 60)), ("pascalcontext-fcn16s", ""): (134537144, heads(16, 60)),
    ("pascalcontext-fcn8s", ""): (134552564, heads(8, 60)),
    ("nyud-fcn32s", "color-"): (134424424, heads(32, 40)), ("nyud-fcn32s", "hha-"): (134424424, heads(32, 40)),
}  # fmt: skip
OTHERS = {
    ("voc-fcn8s-atonce", ""): (134362751, heads(8, 21)[1] + 512 + 256),  # and the two fixed Scale layers
    ("voc-fcn-alexnet", ""): (56954261, (21 * 63) ** 2),  # Table 1: 57 M
    ("voc-fcn-googlenet", ""): (5973552 + 21 * 1025, (21 * 63) ** 2),  # Table 1: 6 M
    ("nyud-fcn32s", "color-d-"): (134425000, heads(32, 40)[1]),  # 64 x 9 more, for the fourth channel
    ("nyud-fcn32s", "color-hha-"): (268848848, heads(32, 40)[1]),  # two nets
    ("nyud-fcn32s", "color-hha-16s-"): (268848848 + 2 * 40 * 513, heads(16, 40)[1]),
}
TRAINED = dict(siftflow="trainval", nyud="trainval")


@pytest.mark.parametrize("experiment, prefix", [*PARAMETERS, *OTHERS])
def test_parameters(experiment, prefix):
    if (experiment, prefix) in PARAMETERS:
        learned, (in_heads, frozen) = PARAMETERS[experiment, prefix]
        assert learned == VGG16 + in_heads
    else:
        learned, frozen = OTHERS[experiment, prefix]
    for name in ("deploy", TRAINED.get(experiment.split("-")[0], "train")):
        rows = explain.explain(net_of(experiment, prefix + name))
        assert (sum(row.learned for row in rows), sum(row.frozen for row in rows)) == (learned, frozen)


def test_receptive_fields_and_strides():
    rows = rows_of(net_of("voc-fcn8s"))
    assert [axis(rows[name]).field for name in ("pool3", "pool4", "fc7")] == [44, 100, 404]
    assert [axis(rows[name]).step for name in ("pool3", "pool4", "fc7", "upscore2", "upscore8")] == [8, 16, 32, 16, 1]


ALL = [str(path.relative_to(ROOT))[:-9] for path in files("*deploy.prototxt")]


@pytest.mark.parametrize("path", ALL)
def test_scores_lie_on_the_pixels_they_are_for(path):
    rows = rows_of(net_of(*path.split("/")))
    scores = [row for name, row in rows.items() if name in ("score", "score_sem", "score_geo")]
    assert scores and all(axis(row).centre == 0 and axis(row).step == 1 for row in scores)
    for row in rows.values():  # and what is summed lies on the same spot
        if row.name.startswith("fuse"):
            _, pool, task = (row.name + "_").split("_")[:3]
            skip = f"score_{pool}_{task}c" if task else f"score_{pool}c"
            assert axis(rows[skip]).centre == axis(row).centre


FEATURES = {  # side of the input -> pool3, pool4, pool5, fc7, upscore (32s), upscore2, upscore16, upscore_pool4, upscore8
    256: (57, 29, 15, 9, 320, 20, 336, 42, 344),
    425: (78, 39, 20, 14, 480, 30, 496, 62, 504),
    500: (88, 44, 22, 16, 544, 34, 560, 70, 568),
    560: (95, 48, 24, 18, 608, 38, 624, 78, 632),
}


@pytest.mark.parametrize("height, width", [(256, 425), (500, 560), (500, 500)])
def test_feature_sizes(height, width):
    rows = {}
    for experiment in VOC:
        rows.update(rows_of(net_of(experiment, "train"), (height, width)))
    names = "pool3 pool4 pool5 fc7 upscore upscore2 upscore16 upscore_pool4 upscore8".split()
    for name, h, w in zip(names, FEATURES[height], FEATURES[width]):
        assert shape(rows[name])[2:] == (h, w), name
    assert shape(rows["score"]) == (1, 21, height, width) and shape(rows["loss"]) == ()


@pytest.mark.parametrize(
    "experiment, low, high",
    [*((e, low, low + 31) for e, low in zip(VOC, (19, 27, 31))), ("voc-fcn-alexnet", 15, 46),
     ("voc-fcn-googlenet", 97, 128)],
)  # fmt: skip
def test_crops_have_slack_for_every_size(experiment, low, high):
    net = net_of(experiment)
    slacks = set()
    for side in range(1, 600, 7):  # 7 is prime to the stride of 32: every remainder is met, on both axes
        for row in explain.explain(net, (side, 1200 - side)):
            if row.name == "score":
                slacks.update(row.slack)
            elif row.slack is not None:
                assert min(row.slack) >= 0
    assert (min(slacks), max(slacks)) == (low, high)


# Table 1 of the CVPR paper: convolutions, receptive field, stride. GoogLeNet's 907 are with its average pooling.
@pytest.mark.parametrize(
    "path, layers, field",
    [("voc-fcn-alexnet/deploy", 8, 355), ("voc-fcn32s/deploy", 16, 404), ("voc-fcn-googlenet/average-deploy", 22, 907),
     ("voc-fcn-googlenet/deploy", 22, 715), ("nyud-fcn32s/color-hha-16s-deploy", 16, 404)],
)  # fmt: skip
def test_table_1(path, layers, field):
    net = net_of(*path.split("/"))
    (line,) = explain.coarsest(explain.explain(net), net.layer)
    assert line.endswith(f": field {field}, step 32, after {layers} convolutions")


def test_alexnet_and_googlenet():
    rows = rows_of(net_of("voc-fcn-alexnet"))
    assert (axis(rows["fc7"]).field, axis(rows["fc7"]).step) == (355, 32)
    assert (shape(rows["fc7"])[2], shape(rows["upscore"])[2], rows["score"].crop) == (16, 543, [18, 18])
    rows = rows_of(net_of("voc-fcn-googlenet"))
    last = rows["inception_5b/output"]
    assert (shape(last), axis(last).field) == ((1, 1024, 21, 21), 715) and rows["score"].crop == [98, 98]


def test_several_trunks_and_heads():
    rows = rows_of(net_of("nyud-fcn32s", "color-hha-test"), (425, 560))
    assert axis(rows["score_fused"]) == axis(rows["score_frcolor"]) == axis(rows["score_frhha"])
    assert shape(rows["upscore"]) == (1, 40, 480, 608) and shape(rows["score"]) == (1, 40, 425, 560)
    rows = rows_of(net_of("siftflow-fcn8s", "trainval"), (256, 256))
    assert shape(rows["score_sem"]) == (1, 33, 256, 256) and shape(rows["score_geo"]) == (1, 3, 256, 256)
    assert shape(rows["loss_geo"]) == () and [top[1].shape[1] for top in rows["data"].tops] == [3, 1, 1]
    rows = rows_of(net_of("nyud-fcn32s", "color-d-deploy"), (100, 90))
    assert [top[1].shape for top in rows["input"].tops] == [(1, 3, 100, 90), (1, 1, 100, 90)]
    with pytest.raises(explain.ExplainError, match="2 tops, whose channels --size cannot say"):
        explain.explain(net_of("nyud-fcn32s", "color-d-deploy"), (3, 100, 90))


def test_crop_offset_is_that_of_coord_map():
    for experiment, blob, offset in (("voc-fcn32s", "upscore", 19), ("voc-fcn8s", "upscore8", 31)):
        assert explain.crop_offset(net_of(experiment), blob) == offset
    with pytest.raises(explain.ExplainError, match="fc7 cannot be cropped .* 32 pixels apart, the first on 12.5"):
        explain.crop_offset(net_of("voc-fcn32s"), "fc7")


# -- rules, by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, size, wanted",
    [
        (lambda b: L.Pooling(b, kernel_size=2, stride=2), (7, 8), (4, 4)),  # rounds up
        (lambda b: L.Pooling(b, kernel_size=2, stride=2, round_mode=P.Pooling.FLOOR), (7, 8), (3, 4)),
        (lambda b: L.Pooling(b, kernel_size=2, stride=3, pad=1), (5, 6), (2, 3)),  # 3rd window of 5 would begin at pad
        (lambda b: L.Pooling(b, kernel_h=3, kernel_w=1, stride_h=2, stride_w=1), (7, 7), (3, 7)),
        (lambda b: L.Pooling(b, global_pooling=True), (7, 9), (1, 1)),
        (lambda b: L.Convolution(b, num_output=3, kernel_size=3, stride=2), (8, 9), (3, 4)),  # rounds down
        (lambda b: L.Convolution(b, num_output=3, kernel_size=[3, 5], dilation=2, pad=[2, 0]), (9, 9), (9, 1)),
        (lambda b: L.Convolution(b, num_output=3, kernel_h=1, kernel_w=2, pad_h=1, pad_w=0), (5, 5), (7, 4)),
        (lambda b: L.Deconvolution(b, convolution_param=dict(num_output=3, kernel_size=4, stride=3, pad=1)),
         (2, 5), (5, 14)),
    ],
)  # fmt: skip
def test_sizes_of_windows(layer, size, wanted):
    assert shape(chain(layer, size=(1, 3, *size))[-1]) == (1, 3, *wanted)


def test_costs_of_single_layers():
    group = dict(num_output=6, kernel_size=3, group=2, bias_term=False)
    conv, deconv = chain(
        lambda b: L.Convolution(b, num_output=4, kernel_size=3, pad=1),
        lambda b: L.Deconvolution(b, convolution_param=group),
        size=(2, 3, 5, 7),
    )[1:]
    assert (conv.learned, conv.multiply_adds) == (4 * 3 * 9 + 4, 2 * 5 * 7 * 4 * 3 * 9)
    assert (deconv.learned, deconv.multiply_adds) == (4 * 3 * 9, 2 * 5 * 7 * 4 * 3 * 9)  # 4 in, 3 out in each group
    ip = chain(lambda b: L.InnerProduct(b, num_output=11), size=(2, 3, 5, 7))[-1]
    assert (shape(ip), ip.learned, ip.multiply_adds) == ((2, 11), 105 * 11 + 11, 2 * 105 * 11)
    by_pixel = chain(lambda b: L.InnerProduct(b, num_output=2, axis=3, bias_term=False), size=(2, 3, 5, 7))[-1]
    assert (shape(by_pixel), by_pixel.learned, by_pixel.multiply_adds) == ((2, 3, 5, 2), 14, 2 * 3 * 5 * 14)


def test_an_inner_product_sees_everything():
    rows = chain(
        lambda b: L.Pooling(b, kernel_size=2, stride=2),
        lambda b: L.InnerProduct(b, num_output=1),
        lambda b: L.InnerProduct(L.ReLU(b), num_output=1),
    )
    for row in (rows[2], rows[-1]):
        assert (axis(row).field, axis(row).step, axis(row).centre) == (10, None, 4.5)


def test_where_bottoms_see_different_things_the_fields_are_joined():
    d = L.Input(shape=[dict(dim=[1, 1, 9, 9])])
    wide = L.Convolution(d, num_output=1, kernel_size=5, pad=1)
    left = L.Convolution(d, num_output=1, kernel_size=3)  # centred on 1, sees 0 to 2; the other on 1, sees -1 to 3
    row = explain.explain(L.Eltwise(wide, L.Crop(left, wide)).to_proto())[-1]
    assert axis(row) == (5, 1, 1)
    finer = L.Deconvolution(left, convolution_param=dict(num_output=1, kernel_size=2, stride=2))
    row = explain.explain(L.Eltwise(wide, L.Crop(finer, wide)).to_proto())[-1]
    assert row.tops[0][1].grid == []  # of different steps: on no grid of the input at all


@pytest.mark.parametrize(
    "layer, wanted, learned, frozen",
    [
        (lambda b: L.Scale(b, bias_term=True), (2, 4, 6, 5), 8, 0),
        (lambda b: L.Scale(b, param=[dict(lr_mult=0)]), (2, 4, 6, 5), 0, 4),
        (lambda b: L.Bias(b, axis=2, num_axes=2), (2, 4, 6, 5), 30, 0),
        (lambda b: L.PReLU(b), (2, 4, 6, 5), 4, 0),
        (lambda b: L.PReLU(b, channel_shared=True), (2, 4, 6, 5), 1, 0),
        (lambda b: L.BatchNorm(b), (2, 4, 6, 5), 0, 9),
        (lambda b: L.LRN(b), (2, 4, 6, 5), 0, 0),
        (lambda b: L.Concat(b, b, b), (2, 12, 6, 5), 0, 0),
        (lambda b: L.Concat(b, b, concat_dim=0), (4, 4, 6, 5), 0, 0),
        (lambda b: L.Slice(b, ntop=2)[0], (2, 2, 6, 5), 0, 0),
        (lambda b: L.ReLU(L.Slice(b, ntop=2, axis=2, slice_point=[1])[1]), (2, 4, 5, 5), 0, 0),
        (lambda b: L.Flatten(b), (2, 120), 0, 0),
        (lambda b: L.Flatten(b, axis=2, end_axis=3), (2, 4, 30), 0, 0),
        (lambda b: L.Reshape(b, shape=dict(dim=[0, -1, 10])), (2, 12, 10), 0, 0),
        (lambda b: L.Reshape(b, shape=dict(dim=[1, -1]), axis=1, num_axes=2), (2, 1, 24, 5), 0, 0),
        (lambda b: L.Softmax(L.Dropout(L.Sigmoid(b))), (2, 4, 6, 5), 0, 0),
    ],
)
def test_layers_without_windows(layer, wanted, learned, frozen):
    row = chain(layer, size=(2, 4, 6, 5))[-1]
    assert (shape(row), row.learned, row.frozen) == (wanted, learned, frozen)


def test_shared_parameters_count_once():
    rows = chain(*[lambda b: L.Convolution(b, num_output=3, kernel_size=1, param=[dict(name="w"), dict(lr_mult=0)])] * 2)
    assert [(row.learned, row.frozen) for row in rows[1:]] == [(9, 3), (0, 3)]


LENET = """
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { scale: 0.00390625 } data_param { source: "train" batch_size: 64 backend: LMDB } }
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "test" batch_size: 100 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 20 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param { num_output: 50 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param { num_output: 500 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 10 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""


def lenet():
    return text_format.Parse(LENET, caffe_pb2.NetParameter())


def test_the_label_of_a_classifier_is_one_number_an_image():
    for name in ("classifier_train", "classifier_val"):
        rows = rows_of(net_of("shapes", name), (64, 64))
        assert [blob.shape for _, blob in rows["data"].tops] == [(1, 3, 64, 64), (1,)] and shape(rows["fc8"])[0] == 1


def test_phases_and_lenet():
    train = rows_of(lenet(), (1, 28, 28))
    assert shape(train["mnist"]) == (64, 1, 28, 28) and "accuracy" not in train
    assert shape(train["pool2"]) == (64, 50, 4, 4) and train["ip1"].learned == 50 * 16 * 500 + 500
    test = rows_of(lenet(), (1, 28, 28), phase=caffe.TEST)
    assert shape(test["mnist"])[0] == 100 and shape(test["accuracy"]) == ()
    assert sum(row.learned for row in test.values()) == 431080  # the well-known count of this net


def test_sizes_of_data():
    data = L.Data(ntop=2, batch_size=5, transform_param=dict(crop_size=227))[0]
    assert [blob.shape for _, blob in explain.explain(data.to_proto())[0].tops] == [(5, 3, 227, 227), (5,)]
    assert shape(rows_of(net_of("voc-fcn8s"), (1, 2))["input"]) == (1, 3, 1, 2)  # --size wins over a placeholder
    n = caffe.NetSpec()
    n.color, n.depth, n.label = L.Python(module="nyud_layers", layer="x", ntop=3)
    n.score = L.Convolution(n.color, num_output=2, kernel_size=1)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    tops = explain.explain(n.to_proto(), (4, 5))[0].tops
    assert [blob.shape for _, blob in tops] == [(1, 3, 4, 5), (1, 1, 4, 5), (1, 1, 4, 5)]


def test_inputs_of_the_old_kind():
    text = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9 layer { name: "r" type: "ReLU" %s }'
    net = text_format.Parse(text % 'bottom: "data" top: "r"', caffe_pb2.NetParameter())
    assert shape(rows_of(net)["r"]) == (1, 3, 8, 9) and shape(rows_of(net, (5, 6))["r"]) == (1, 3, 5, 6)


def test_memory_of_activations():
    n = caffe.NetSpec()
    n.data = L.Input(shape=[dict(dim=[1, 1, 10, 10])])
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=1)
    n.relu = L.ReLU(n.conv, in_place=True)  # no memory of its own
    n.a = L.Sigmoid(n.relu)
    n.b = L.Eltwise(n.a, n.relu)  # conv is read twice: two diffs and their sum
    net = n.to_proto()
    assert explain.activations(explain.explain(net), net.layer) == (4 * (100 + 3 * 200), 4 * (3 * 200 + 200 + 200))


# -- nets it must refuse ------------------------------------------------------------------------------------------------


def python_in_the_middle(b):
    return L.Python(b, module="m", layer="l")


@pytest.mark.parametrize(
    "layer, words",
    [
        (python_in_the_middle, r"layer Python1 \(type Python\): its shapes are not known. Known types: AbsVal, Accuracy, "),
        (lambda b: L.Convolution(b, num_output=1, kernel_size=11), r"layer Convolution1 .* output would be 1x1x0x0"),
        (lambda b: L.Convolution(b, num_output=1), "no kernel_size"),
        (lambda b: L.Convolution(b, num_output=4, kernel_size=1, group=2), "3 channels and num_output 4 .* group 2"),
        (lambda b: L.Convolution(b, num_output=1, kernel_size=[1, 1, 1]), "kernel_size has 3 numbers for 2 spatial axes"),
        (lambda b: L.Pooling(b), "no kernel_size"),
        (lambda b: L.Pooling(L.Flatten(b), kernel_size=1), "wants a bottom of 4 axes, not 1x300"),
        (lambda b: L.Eltwise(b, L.Pooling(b, kernel_size=2)), "differ in shape: Input1 1x3x10x10, Pooling1 1x3x9x9"),
        (lambda b: L.Concat(b, L.Pooling(b, kernel_size=2)), "differ beside axis 1: Input1 .*1x3x9x9"),
        (lambda b: L.Crop(b, b, offset=4), "cannot crop 1x3x10x10 .* at offset 4x4: too short by 4"),
        (lambda b: L.Crop(b, b, offset=[1, 2, 3]), "3 offsets cannot crop the last 2 axes"),
        (lambda b: L.Slice(b, ntop=2)[0], "cannot slice axis 1 of 1x3x10x10 into 2 tops"),
        (lambda b: L.Reshape(b, shape=dict(dim=[7, -1])), "cannot reshape 1x3x10x10"),
        (lambda b: L.SoftmaxWithLoss(b, L.Pooling(b, kernel_size=2)), "one label for each unit .*Pooling1 is 1x3x9x9"),
        (lambda b: L.Eltwise(b, L.HDF5Data()), r"layer HDF5Data1 .* no bottoms and a type whose tops are not known"),
        (lambda b: L.Eltwise(b, L.Data(ntop=2)[0]), "give it: --size"),
    ],
)
def test_nets_that_do_not_fit(layer, words):
    with pytest.raises(explain.ExplainError, match=words):
        chain(layer)


def test_a_blob_nobody_makes_and_the_old_format():
    net = text_format.Parse('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }', caffe_pb2.NetParameter())
    with pytest.raises(explain.ExplainError, match=r"layer r .*reads blob x, which no layer before it makes"):
        explain.explain(net)
    with pytest.raises(explain.ExplainError, match="old format .*upgrade_net_proto_text"):
        explain.explain(text_format.Parse('layers { name: "c" type: CONVOLUTION }', caffe_pb2.NetParameter()))


# -- the command --------------------------------------------------------------------------------------------------------


def test_the_command(capsys):
    explain.main([str(ROOT / "voc-fcn8s/train.prototxt"), "--size", "375x500"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(explain.HEADINGS)
    cells = {line.split()[0]: line.split() for line in lines if line}
    cost, memory = f"{573 * 698 * 64 * 27:,}", f"{4 * 573 * 698 * 64 / 2**20:.1f}"
    assert cells["conv1_1"][2:] == ["1x64x573x698", "3", "1", "3", "1", "-99", "1,792", cost, memory]
    assert cells["relu1_1"][2:] == ["1x64x573x698", "3", "1", "-99"]  # in place: no memory
    assert cells["score_pool4c"][2:7] == ["1x21x26x34", "100", "16", "-11.5", "5"]
    assert cells["score"][2:9] == ["1x21x375x500", "460", "1", "0", "31", "34x37", f"{4 * 21 * 375 * 500 / 2**20:.1f}"]
    assert lines[-4] == "coarsest       score_fr: field 404, step 32, after 16 convolutions"
    assert lines[-3].startswith("parameters     134,362,751 learned + 127,008 frozen: 513.0 MiB")
    assert lines[-2].startswith("multiply-adds  ") and lines[-1].startswith("activations    ")


@pytest.mark.parametrize(
    "text, words",
    [
        ('layer { nam: "x" }', ["1:9", "Did you mean name?"]),
        ('layer { name: "x" type: "Nope" bottom: "y" }', ["net.prototxt: layer x (type Nope)", "reads blob y"]),
        ("", ["net.prototxt: no layer is in it; wanted a net"]),
        ('layer { name: "x" type: "Input" include { phase: TEST } }', ["no layer of 1 runs in phase TRAIN"]),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, text, words):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        explain.main([str(path)])
    assert str(stop.value).startswith("explain: ") and all(word in str(stop.value) for word in words)


def test_the_command_without_a_file_and_with_a_bad_size(capsys):
    with pytest.raises(SystemExit, match="explain: .*no-such"):
        explain.main(["no-such.prototxt"])
    for size in ("500", "0x5", "axb", "1x2x3x4"):
        with pytest.raises(SystemExit) as stop:
            explain.main(["x.prototxt", "--size", size])
        assert stop.value.code == 2 and "wanted HxW or CxHxW" in capsys.readouterr().err


def test_bilinear_upsampling_reads_two_units_a_side():
    row = chain(lambda b: L.Deconvolution(b, convolution_param=dict(num_output=1, kernel_size=63, stride=32)))[-1]
    assert axis(row).field == 2 and math.isclose(axis(row).step, 1 / 32) and axis(row).centre == -31 / 32
