"""The nets beside VOC's staircase: what their prototxts, solvers and addresses say is what facts about the released say.

Freshness of the prototxts and the staircase itself are in test_nets.py, receptive fields and counts in test_explain.py.
"""

import ast

import parts
import pytest
import vgg16
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from nets_for_tests import ROOT, committed, cut, files, fuse, is_layer, layer_of, load, loss, score, up
from prototxt import read

TRUNK_OF = committed("voc-fcn32s", "train").layer[1:38]  # conv1_1 to drop7, which test_nets.py looks at
assert [TRUNK_OF[i].name for i in (0, -1)] == ["conv1_1", "drop7"]
SPLITS = {"voc": ("train", "val"), "siftflow": ("trainval", "test"), "nyud": ("trainval", "test"),
          "pascalcontext": ("train", "val")}  # fmt: skip


def renamed(layers, rename):
    """Copies of layers with all their names, bottoms and tops (but data) put through `rename`."""
    for layer in layers:
        copy = caffe_pb2.LayerParameter()
        copy.CopyFrom(layer)
        copy.name = rename(layer.name)
        copy.bottom[:], copy.top[:] = map(rename, layer.bottom), map(rename, layer.top)
        yield copy


def head(stride, classes, end=""):
    """Names and texts of the layers from score_fr to score, in order; their names end in `end`, e.g. _sem."""
    def named(name):
        return name + end

    fr, last = named("score_fr"), {32: "upscore", 16: "upscore16", 8: "upscore8"}[stride]
    layers = {fr: score("fc7", fr, classes)}
    if stride < 32:
        layers[named("upscore2")] = up(fr, named("upscore2"), 4, 2, classes)
        layers[named("score_pool4")] = score("pool4", named("score_pool4"), classes)
        layers[f"score_pool4{end}c"] = cut(named("score_pool4"), named("upscore2"), f"score_pool4{end}c", 5)
        layers[named("fuse_pool4")] = fuse(named("upscore2"), f"score_pool4{end}c", named("fuse_pool4"))
    if stride == 8:
        layers[named("upscore_pool4")] = up(named("fuse_pool4"), named("upscore_pool4"), 4, 2, classes)
        layers[named("score_pool3")] = score("pool3", named("score_pool3"), classes)
        layers[f"score_pool3{end}c"] = cut(named("score_pool3"), named("upscore_pool4"), f"score_pool3{end}c", 9)
        layers[named("fuse_pool3")] = fuse(named("upscore_pool4"), f"score_pool3{end}c", named("fuse_pool3"))
    below, kernel, offset = {32: ("score_fr", 64, 19), 16: ("fuse_pool4", 32, 27), 8: ("fuse_pool3", 16, 31)}[stride]
    layers[named(last)] = up(named(below), named(last), kernel, stride, classes)
    layers[named("score")] = cut(named(last), "data", named("score"), offset)
    return layers


def holds(net, layers):
    """Whether the net ends in these layers, in this order; {name: text}."""
    assert [layer.name for layer in net.layer[-len(layers):]] == list(layers)
    return all(is_layer(net, name, text) for name, text in layers.items())


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("name", ["trainval", "test"])
def test_siftflow_has_two_heads_on_one_trunk(stride, name):
    net = committed(f"siftflow-fcn{stride}s", name)
    assert list(net.layer[1:38]) == list(TRUNK_OF)
    assert holds(net, {**head(stride, 33, "_sem"), "loss": loss("score_sem", "sem"),
                       **head(stride, 3, "_geo"), "loss_geo": loss("score_geo", "geo", "loss_geo")})  # fmt: skip
    assert not net.name and not any(layer.loss_weight for layer in net.layer)


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("name", ["train", "val"])
def test_pascalcontext_is_vocs_with_60_classes(stride, name):
    net = committed(f"pascalcontext-fcn{stride}s", name)
    assert list(net.layer[1:38]) == list(TRUNK_OF)
    wanted = {**head(stride, 60), "loss": loss("score", "label")}
    assert holds(net, wanted) and len(net.layer) == 38 + len(wanted)


@pytest.mark.parametrize("split", ["trainval", "test"])
@pytest.mark.parametrize("modality", ["color", "hha"])
def test_nyud_of_one_modality(modality, split):
    net = committed("nyud-fcn32s", f"{modality}-{split}")
    assert list(net.layer[0].top) == ["data", "label"] and list(net.layer[1:38]) == list(TRUNK_OF)
    assert holds(net, {**head(32, 40), "loss": loss("score", "label")}) and len(net.layer) == 42


@pytest.mark.parametrize("split", ["trainval", "test"])
def test_nyud_early_fusion(split):
    net = committed("nyud-fcn32s", f"color-d-{split}")
    assert list(net.layer[0].top) == ["color", "depth", "label"]
    assert is_layer(net, "data", 'type: "Concat" bottom: "color" bottom: "depth" top: "data"')
    first = {"conv1_1": "conv1_1_bgrd"}
    assert list(net.layer[2:39]) == list(renamed(TRUNK_OF, lambda name: first.get(name, name)))
    assert holds(net, {**head(32, 40), "loss": loss("score", "label")}) and len(net.layer) == 43


def mean(a, b, name):
    return fuse(a, b, name).replace("SUM", "SUM coeff: 0.5 coeff: 0.5")


@pytest.mark.parametrize("split", ["trainval", "test"])
@pytest.mark.parametrize("variant", ["color-hha", "color-hha-16s"])
def test_nyud_late_fusion(variant, split):
    net = committed("nyud-fcn32s", f"{variant}-{split}")
    assert list(net.layer[0].top) == ["color", "hha", "label"]
    for modality, first in (("color", 1), ("hha", 39)):  # two trunks, each with its score layer
        trunk = renamed(TRUNK_OF, lambda name: modality if name == "data" else name + modality)  # noqa: B023
        assert list(net.layer[first:first + 37]) == list(trunk)
        assert is_layer(net, f"score_fr{modality}", score(f"fc7{modality}", f"score_fr{modality}", 40))
    fused = {"score_fused": mean("score_frcolor", "score_frhha", "score_fused")}
    if variant == "color-hha":
        end = {"upscore": up("score_fused", "upscore", 64, 32, 40), "score": cut("upscore", "color", "score", 19)}
    else:
        end = {"upscore2": up("score_fused", "upscore2", 4, 2, 40),
               **{f"score_pool4{m}": score(f"pool4{m}", f"score_pool4{m}", 40) for m in ("color", "hha")},
               "score_pool4": mean("score_pool4color", "score_pool4hha", "score_pool4"),
               "score_pool4c": cut("score_pool4", "upscore2", "score_pool4c", 5),
               "fuse_pool4": fuse("upscore2", "score_pool4c", "fuse_pool4"),
               "upscore16": up("fuse_pool4", "upscore16", 32, 16, 40),
               "score": cut("upscore16", "color", "score", 27)}  # fmt: skip
    assert holds(net, {**fused, **end, "loss": loss("score", "label")})
    assert len(net.layer) == 1 + 2 * 38 + 1 + len(end) + 1


def test_atonce_is_fcn8s_with_two_fixed_scales():
    net, staged = committed("voc-fcn8s-atonce", "train"), committed("voc-fcn8s", "train")
    for pool, value in (("pool4", 0.01), ("pool3", 0.0001)):
        assert is_layer(net, f"scale_{pool}", f"""type: "Scale" bottom: "{pool}" top: "scale_{pool}" param {{ lr_mult: 0 }}
            scale_param {{ filler {{ type: "constant" value: {value} }} }}""")  # fmt: skip
        scored = layer_of(net, f"score_{pool}")
        assert list(scored.bottom) == [f"scale_{pool}"]
        scored.bottom[:] = [pool]
        names = [layer.name for layer in net.layer]
        assert names.index(f"scale_{pool}") + 1 == names.index(f"score_{pool}")
    assert [layer for layer in net.layer if layer.type != "Scale"] == list(staged.layer)


ALEXNET = {
    "conv1": 'bottom: "data" convolution_param { num_output: 96 kernel_size: 11 stride: 4 pad: 100 group: 1 }',
    "conv2": 'bottom: "norm1" convolution_param { num_output: 256 kernel_size: 5 stride: 1 pad: 2 group: 2 }',
    "conv3": 'bottom: "norm2" convolution_param { num_output: 384 kernel_size: 3 stride: 1 pad: 1 group: 1 }',
    "conv4": 'bottom: "conv3" convolution_param { num_output: 384 kernel_size: 3 stride: 1 pad: 1 group: 2 }',
    "conv5": 'bottom: "conv4" convolution_param { num_output: 256 kernel_size: 3 stride: 1 pad: 1 group: 2 }',
    "fc6": 'bottom: "pool5" convolution_param { num_output: 4096 kernel_size: 6 stride: 1 pad: 0 group: 1 }',
    "fc7": 'bottom: "fc6" convolution_param { num_output: 4096 kernel_size: 1 stride: 1 pad: 0 group: 1 }',
}


@pytest.mark.parametrize("name", ["train", "val"])
def test_alexnet(name):
    net = committed("voc-fcn-alexnet", name)
    assert [layer.name for layer in net.layer] == """data conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2 conv3 relu3
        conv4 relu4 conv5 relu5 pool5 fc6 relu6 drop6 fc7 relu7 drop7 score_fr upscore score loss""".split()
    for layer, text in ALEXNET.items():
        assert is_layer(net, layer, f'type: "Convolution" top: "{layer}" {text}')  # and no param: biases learn like weights
    for i, below in ((1, "conv1"), (2, "conv2"), (5, "conv5")):
        assert is_layer(net, f"pool{i}", f"""type: "Pooling" bottom: "{below}" top: "pool{i}"
            pooling_param {{ pool: MAX kernel_size: 3 stride: 2 }}""")
    for i in (1, 2):
        assert is_layer(net, f"norm{i}", f"""type: "LRN" bottom: "pool{i}" top: "norm{i}"
            lrn_param {{ local_size: 5 alpha: 0.0001 beta: 0.75 }}""")
    assert is_layer(net, "drop6", 'type: "Dropout" bottom: "fc6" top: "fc6" dropout_param { dropout_ratio: 0.5 }')
    assert holds(net, {"score_fr": score("fc7", "score_fr"), "upscore": up("score_fr", "upscore", 63, 32),
                       "score": cut("upscore", "data", "score", 18), "loss": loss("score", "label", normalize="true")})


def test_googlenet():
    net = committed("voc-fcn-googlenet", "train")
    names = [layer.name for layer in net.layer if layer.type == "Convolution"]
    # the names in BVLC's model, by which its weights are loaded; nine modules of six convolutions
    assert names[:10] == ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3"] + [
        f"inception_3a/{name}" for name in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")] + [
        "inception_3b/1x1"]  # fmt: skip
    assert len(names) == 3 + 9 * 6 + 1 and names[-1] == "score_fr"
    assert is_layer(net, "inception_4e/5x5", """type: "Convolution" bottom: "inception_4e/5x5_reduce" top: "inception_4e/5x5"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 128 kernel_size: 5 stride: 1 pad: 2 }""")  # fmt: skip
    assert is_layer(net, "inception_4e/output", """type: "Concat" bottom: "inception_4e/1x1" bottom: "inception_4e/3x3"
        bottom: "inception_4e/5x5" bottom: "inception_4e/pool_proj" top: "inception_4e/output" """)  # fmt: skip
    drop = 'type: "Dropout" bottom: "inception_5b/output" top: "inception_5b/output" dropout_param { dropout_ratio: 0.4 }'
    assert holds(net, {"drop5": drop, "score_fr": score("inception_5b/output", "score_fr"),
                       "upscore": up("score_fr", "upscore", 63, 32), "score": cut("upscore", "data", "score", 98),
                       "loss": loss("score", "label", normalize="true")})  # fmt: skip
    averaged = committed("voc-fcn-googlenet", "average-deploy")
    assert is_layer(averaged, "pool5/7x7_s1", """type: "Pooling" bottom: "inception_5b/output" top: "pool5/7x7_s1"
        pooling_param { pool: AVE kernel_size: 7 stride: 1 }""")  # fmt: skip
    assert list(layer_of(averaged, "score_fr").bottom) == ["pool5/7x7_s1"]


# -- what belongs to a net ---------------------------------------------------------------------------------------------

TOPS = {"color": ["color", "label"], "hha": ["hha", "label"], "color-d": ["color", "depth", "label"],
        "color-hha": ["color", "hha", "label"], "color-hha-16s": ["color", "hha", "label"]}  # fmt: skip
STAIRCASE = [32, 16, 8]
# experiment, prefix of its files, layer, param_str with its split as %s: the order of keys is that of a Python 2.7 dict
DATA = [
    *((f"siftflow-fcn{s}s", "", "SIFTFlowSegDataLayer", "{'siftflow_dir': '../data/sift-flow', 'seed': 1337, 'split': '%s'}")
      for s in STAIRCASE),
    *((f"pascalcontext-fcn{s}s", "", "PASCALContextSegDataLayer", "{'context_dir': '../../data/pascal-context', "
       "'seed': 1337, 'split': '%s', 'voc_dir': '../../data/pascal'}") for s in STAIRCASE),
    *(("nyud-fcn32s", f"{variant}-", "NYUDSegDataLayer", f"{{'tops': {tops}, 'seed': 1337, 'nyud_dir': '../data/nyud', "
       "'split': '%s'}") for variant, tops in TOPS.items()),
]  # fmt: skip


@pytest.mark.parametrize("experiment, prefix, kind, text", DATA)
def test_data_layers(experiment, prefix, kind, text):
    for split in SPLITS[experiment.split("-")[0]]:
        net = committed(experiment, prefix + split)
        param = net.layer[0].python_param
        assert (net.layer[0].type, net.layer[0].name) == ("Python", net.layer[0].top[0])
        assert (param.module, param.layer) == (experiment.split("-")[0] + "_layers", kind)
        assert param.param_str == text % split and ast.literal_eval(param.param_str)["seed"] == 1337


@pytest.mark.parametrize("experiment", ["voc-fcn8s-atonce", "voc-fcn-alexnet", "voc-fcn-googlenet"])
def test_data_layers_of_the_others_on_voc(experiment):
    for split in ("train", "val"):
        assert committed(experiment, split).layer[0] == committed("voc-fcn32s", split).layer[0]


INPUTS = {"voc": [(1, 3, 500, 500)], "pascalcontext": [(1, 3, 500, 500)], "siftflow": [(1, 3, 256, 256)],
          "color": [(1, 3, 425, 560)], "hha": [(1, 3, 425, 560)], "color-d": [(1, 3, 425, 560), (1, 1, 425, 560)],
          "color-hha": [(1, 3, 425, 560)] * 2, "color-hha-16s": [(1, 3, 425, 560)] * 2}  # fmt: skip


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in files("*deploy.prototxt")])
def test_deploy_nets(path):
    experiment, _, name = path.removesuffix(".prototxt").partition("/")
    prefix, family = name.removesuffix("deploy"), experiment.split("-")[0]
    net = committed(experiment, name)
    assert (net.layer[0].name, net.layer[0].type) == ("input", "Input")
    shapes = [tuple(shape.dim) for shape in net.layer[0].input_param.shape]
    assert shapes == INPUTS[prefix[:-1] if family == "nyud" else family]
    if prefix == "average-":
        return
    scored = committed(experiment, prefix + SPLITS[family][1])
    assert list(net.layer[0].top) == [top for top in scored.layer[0].top if top not in ("label", "sem", "geo")]
    dropped = {layer.top[0]: layer.bottom[0] for layer in scored.layer if layer.type == "Dropout"}
    assert all(top == bottom for top, bottom in dropped.items())  # all in place, so that no bottom changes its name
    assert list(net.layer[1:]) == [layer for layer in scored.layer[1:] if layer.type not in ("Dropout", "SoftmaxWithLoss")]


# -- solvers and addresses ---------------------------------------------------------------------------------------------

# experiment, prefix: splits, test_iter, base_lr, max_iter, snapshot
SOLVERS = {
    ("voc-fcn8s-atonce", ""): ("voc", 736, 1e-10, 300000, 4000),
    **{("nyud-fcn32s", v + "-"): ("nyud", 654, lr, 300000, 2000) for v, lr in
       dict(zip(TOPS, (1e-10, 1e-10, 1e-10, 1e-12, 1e-14))).items()},
    # the released ones have no snapshot, and lose all they have learned
    **{(f"siftflow-fcn{s}s", ""): ("siftflow", 200, lr, 300000, 2000) for s, lr in zip(STAIRCASE, (1e-10, 1e-12, 1e-12))},
    **{(f"pascalcontext-fcn{s}s", ""): ("pascalcontext", 5105, lr, 300000, 4000)
       for s, lr in zip(STAIRCASE, (1e-10, 1e-12, 1e-14))},
}  # fmt: skip


def solver(experiment, prefix=""):
    return read(str(ROOT / experiment / f"{prefix}solver.prototxt"), caffe_pb2.SolverParameter())


@pytest.mark.parametrize("experiment, prefix", SOLVERS)
def test_heavy_solvers(experiment, prefix):
    family, images, base_lr, most, snapshot = SOLVERS[experiment, prefix]
    train, test = SPLITS[family]
    assert solver(experiment, prefix) == caffe_pb2.SolverParameter(
        train_net=f"{prefix}{train}.prototxt", test_net=[f"{prefix}{test}.prototxt"], test_iter=[images],
        test_interval=999999999, test_initialization=False, display=20, average_loss=20, lr_policy="fixed", base_lr=base_lr,
        momentum=0.99, iter_size=1, max_iter=most, weight_decay=0.0005, snapshot=snapshot, snapshot_prefix="snapshot/train",
    )  # fmt: skip


@pytest.mark.parametrize(
    "experiment, prefix, base_lr, decay",
    [("voc-fcn-alexnet", "", 1e-4, 5e-4), ("voc-fcn-alexnet", "cvpr-", 1e-3, 5e-4), ("voc-fcn32s", "cvpr-", 1e-4, 5e-4),
     ("voc-fcn-googlenet", "", 5e-5, 2e-4)],
)  # fmt: skip
def test_solvers_that_average(experiment, prefix, base_lr, decay):
    assert solver(experiment, prefix) == caffe_pb2.SolverParameter(
        train_net="train.prototxt", test_net=["val.prototxt"], test_iter=[736], test_interval=999999999,
        test_initialization=False, display=20, average_loss=20, lr_policy="fixed", base_lr=base_lr, momentum=0.9,
        iter_size=20, max_iter=100000, weight_decay=decay, snapshot=4000, snapshot_prefix="snapshot/train",
    )  # fmt: skip


def test_where_the_released_weights_are():
    heavy = [f"{family}-fcn{s}s" for family in ("siftflow", "pascalcontext") for s in STAIRCASE]
    wanted = {"voc-fcn8s-atonce/": "fcn8s-atonce-pascal", "voc-fcn-alexnet/": "fcn-alexnet-pascal",
              **{f"{name}/": f"{name}-heavy" for name in heavy},
              **{f"nyud-fcn32s/{variant}-": f"nyud-fcn32s-{variant}-heavy" for variant in ("color", "hha", "color-hha")},
              **{f"voc-fcn{s}s/": f"fcn{s}s-heavy-pascal" for s in STAIRCASE}}  # fmt: skip
    found = {str(path.relative_to(ROOT)): path.read_text() for path in files("*caffemodel-url")}
    url = "http://dl.caffe.berkeleyvision.org/%s.caffemodel\n"
    assert found == {f"{place}caffemodel-url": url % name for place, name in wanted.items()}


# -- variants ----------------------------------------------------------------------------------------------------------


def variant(experiment, name):
    module = load(experiment)
    return module.fcn(parts.voc_data("train"), **module.VARIANTS[name])


def changed(experiment, name):
    """The names of the layers in which a variant differs from the experiment's own net; and of those it lacks."""
    net, own = variant(experiment, name), committed(experiment, "train")
    names = [layer.name for layer in net.layer[1:]]  # but the data
    assert names == [layer.name for layer in own.layer[1:] if layer.name in names]  # in the same order
    lacking = [layer.name for layer in own.layer[1:] if layer.name not in names]
    return [name for name in names if layer_of(net, name) != layer_of(own, name)], lacking


def test_fixed_learns_the_scores_alone():
    differing, lacking = changed("voc-fcn32s", "fixed")
    assert differing == [layer.name for layer in TRUNK_OF if layer.type == "Convolution"] and not lacking
    net = variant("voc-fcn32s", "fixed")
    assert all([p.lr_mult for p in layer_of(net, name).param] == [0, 0] for name in differing)


@pytest.mark.parametrize("experiment, between", [("voc-fcn16s", ["upscore2"]), ("voc-fcn8s", ["upscore2", "upscore_pool4"])])
def test_learned_interpolation_is_that_between_the_streams(experiment, between):
    assert changed(experiment, "learned-interp") == (between, [])
    for name in between:
        (param,) = layer_of(variant(experiment, "learned-interp"), name).param
        assert (param.lr_mult, param.decay_mult) == (1, 1)


@pytest.mark.parametrize(
    "experiment, pool, differing, offset",
    [("voc-fcn32s", "pool5", ["score_fr", "score"], 115),
     ("voc-fcn16s", "pool4", ["score_pool4", "upscore16", "score"], 107),
     ("voc-fcn8s", "pool3", ["score_pool3", "upscore8", "score"], 103)],
)  # fmt: skip
def test_single_streams(experiment, pool, differing, offset):
    net = variant(experiment, pool)
    got, lacking = changed(experiment, pool)
    assert got == differing and "fc7" in lacking and layer_of(net, "score").crop_param.offset == [offset]
    names = [layer.name for layer in net.layer]
    assert names[names.index(pool) + 1:][0] in ("score_fr", f"score_{pool}")  # nothing of the trunk after it
    if "score_fr" not in names:
        assert list(layer_of(net, differing[1]).bottom) == [f"score_{pool}"]
        # the score layer learns as in the staged net, the trunk as in FCN-32s; its solver is the experiment's but for that
        own, staged = solver(experiment, f"{pool}-"), solver(experiment)
        rates = [own.base_lr * p.lr_mult for p in layer_of(net, f"score_{pool}").param]
        assert rates == pytest.approx([staged.base_lr, 2 * staged.base_lr])
        assert own.base_lr == solver("voc-fcn32s").base_lr
        own.base_lr = staged.base_lr
        assert own == staged


def test_as_tuned_in_the_cvpr_paper():
    assert changed("voc-fcn32s", "cvpr") == (["loss"], [])
    assert layer_of(variant("voc-fcn32s", "cvpr"), "loss").loss_param.normalize
    assert changed("voc-fcn-alexnet", "cvpr") == (list(ALEXNET), [])
    net = variant("voc-fcn-alexnet", "cvpr")
    assert all([(p.lr_mult, p.decay_mult) for p in layer_of(net, name).param] == [(1, 1), (2, 0)] for name in ALEXNET)


# -- the tools they are made of ----------------------------------------------------------------------------------------


def test_read_by_losses():
    net = text_format.Parse("""
        layer { name: "d" type: "Input" top: "d" top: "l" }
        layer { name: "a" type: "ReLU" bottom: "d" top: "a" }
        layer { name: "in place" type: "ReLU" bottom: "a" top: "a" }
        layer { name: "not read" type: "ReLU" bottom: "a" top: "b" }
        layer { name: "nor this" type: "ReLU" bottom: "b" top: "c" }
        layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "l" top: "loss" }""", caffe_pb2.NetParameter())
    assert [layer.name for layer in parts.read_by_losses(net).layer] == ["d", "a", "in place", "loss"]


def test_two_trunks_in_one_net():
    import caffe
    n = caffe.NetSpec()
    n.left, n.right = caffe.layers.Input(ntop=2, shape=[dict(dim=[1, 3, 8, 8])] * 2)
    for side in ("left", "right"):
        assert vgg16.trunk(parts.Suffixed(n, side, data=n[side])) is n["drop7" + side]
    names = [layer.name for layer in n.to_proto().layer]
    assert len(names) == 1 + 2 * 37 and {"conv1_1left", "fc7right"} < set(names)
