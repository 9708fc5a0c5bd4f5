"""caffe.NetSpec: names, bottoms, parameters and messages, against messages written out by hand."""

import copy
import subprocess
import sys
from pathlib import Path

import caffe
import prototxt
import pytest
from caffe import layers as L
from caffe import net_spec
from caffe import params as P
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from torchcaffe import forks

ROOT = Path(__file__).resolve().parent.parent


def parsed(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_a_net_with_all_kinds_of_parameters():
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        ntop=2, batch_size=64, backend=P.Data.LMDB, source="mnist", transform_param=dict(scale=0.00390625),
        include=dict(phase=caffe.TRAIN),
    )  # fmt: skip
    n.conv1 = L.Convolution(
        n.data, num_output=20, kernel_size=[5, 3], bias_term=False, weight_filler=dict(type="xavier"),
        param=[dict(lr_mult=1, decay_mult=1, name="w")],
    )  # fmt: skip
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool="MAX", kernel_size=2, stride=2)
    n.loss, n.probability = L.SoftmaxWithLoss(
        n.pool1, n.label, ntop=2, loss_param=dict(ignore_label=255), loss_weight=[1, 0]
    )
    n["end/silence"] = L.Silence(n.pool1, ntop=0)
    assert n.to_proto() == parsed("""
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
                transform_param { scale: 0.00390625 } data_param { source: "mnist" batch_size: 64 backend: LMDB } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                param { name: "w" lr_mult: 1 decay_mult: 1 }
                convolution_param { num_output: 20 bias_term: false kernel_size: 5 kernel_size: 3
                                    weight_filler { type: "xavier" } } }
        layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool1" bottom: "label" top: "loss"
                top: "probability" loss_weight: 1 loss_weight: 0 loss_param { ignore_label: 255 } }
        layer { name: "end/silence" type: "Silence" bottom: "pool1" }
        """)


def test_names_are_those_of_the_first_top_or_counted_by_type():
    n = caffe.NetSpec()
    hidden = L.Input(shape=dict(dim=[1, 2]))
    n.b = L.InnerProduct(L.ReLU(hidden, in_place=True), num_output=3)
    n.c = n.b  # named again: the last name counts
    _, n.second = L.Slice(n.c, ntop=2)
    n.d = L.InnerProduct(hidden, name="given")
    net = n.to_proto()
    assert [(layer.name, list(layer.bottom), list(layer.top)) for layer in net.layer] == [
        ("Input1", [], ["Input1"]),
        ("ReLU1", ["Input1"], ["Input1"]),
        ("c", ["Input1"], ["c"]),
        ("Slice1", ["c"], ["Slice1", "second"]),
        ("given", ["Input1"], ["d"]),
    ]


def test_to_proto_of_tops_emits_what_they_need_once_and_first():
    data = L.Input()
    a = L.ReLU(data)
    unused = L.ReLU(data)
    net = caffe.to_proto(L.Eltwise(a, L.Sigmoid(a)), a)
    assert [layer.name for layer in net.layer] == ["Input1", "ReLU1", "Sigmoid1", "Eltwise1"]
    assert unused.to_proto() == caffe.to_proto(a)  # names are counted anew in each net


def test_a_layer_with_many_ways_to_it_is_walked_once():
    top = L.Input()
    for _ in range(60):
        top = L.Eltwise(top, top)
    assert len(top.to_proto().layer) == 61  # walking every way to the input would take 2^60 steps


def test_one_value_or_dict_fills_a_repeated_field():
    layer = caffe_pb2.LayerParameter()
    net_spec.assign_proto(layer, "bottom", "x")
    net_spec.assign_proto(layer, "param", [dict(lr_mult=0), dict()])
    net_spec.assign_proto(layer, "include", dict(stage=["a", "b"]))
    net_spec.assign_proto(layer, "loss_weight", [])
    assert prototxt.text(layer).split() == (
        'bottom: "x" param { lr_mult: 0 } param { } include { stage: "a" stage: "b" }'.split()
    )


def test_a_parameter_of_the_type_goes_before_one_of_the_layer():
    # `layer` and `phase`: PythonParameter has the first, LayerParameter the second
    (layer,) = L.Python(module="m", layer="k", phase=caffe.TEST).to_proto().layer
    assert layer.python_param.layer == "k" and layer.phase == caffe.TEST


def test_param_name_dict_covers_every_parameter_message_of_a_layer():
    names = net_spec.param_name_dict()
    fields = [f.name for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields
              if f.name.endswith("_param") and forks.visible(f)]
    assert sorted(names.values()) == sorted(f[: -len("_param")] for f in fields)
    assert (names["HDF5Data"], names["ELU"], names["Transformation"]) == ("hdf5_data", "elu", "transform")


def test_params_are_the_enums():
    assert (P.Pooling.AVE, P.Eltwise.SUM, P.Data.LMDB, P.LRN.WITHIN_CHANNEL) == (1, 1, 1, 1)
    with pytest.raises(AttributeError, match="did you mean P.Pooling"):
        P.Poolin  # noqa: B018


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (lambda d: L.Convolution(d, kernel_sze=3), AttributeError,
         ["'Convolution1'", "type Convolution", "'kernel_sze'", "did you mean 'kernel_size'", "num_output, bias_term"]),
        (lambda d: L.Convolution(d, weight_filler=dict(typ="xavier")), AttributeError,
         ["'weight_filler'", "FillerParameter has no field 'typ'", "did you mean 'type'"]),
        (lambda d: L.Deconvolution(d, num_output=3), AttributeError, ["type Deconvolution", "convolution_param=dict("]),
        (lambda d: L.Pooling(d, kernel_size=[2, 2]), AttributeError, ["'kernel_size'", "takes one value", "[2, 2]"]),
        (lambda d: L.Pooling(d, kernel_size=1.5), TypeError, ["'Pooling1'", "'kernel_size' = 1.5"]),
        (lambda d: L.Pooling(d, pool="MXA"), ValueError, ["'Pooling1'", "'pool' = 'MXA'"]),
        (lambda d: L.ReLU(d, engine=9), ValueError, ["'ReLU1'", "'engine' = 9"]),
        (lambda d: L.Foo(d, bar=1), AttributeError, ["type Foo", "'bar' is unknown", "LayerParameter has: name, type"]),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named_with_its_layer(make, kind, words):
    with pytest.raises(kind) as error:
        make(L.Input()).to_proto()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("bottom", ["data", None, (1, 2), 3])
def test_a_bottom_that_is_no_top_is_a_type_error(bottom):
    with pytest.raises(TypeError, match="ReLU input 1 is not a Top"):
        L.ReLU(L.Input(), bottom)


def test_tops_that_were_not_unpacked_are_reported_with_their_name():
    n = caffe.NetSpec()
    n.data = L.Input(ntop=2)
    with pytest.raises(TypeError, match="'data' of the NetSpec is not a Top"):
        n.to_proto()


def test_unknown_tops():
    n = caffe.NetSpec()
    with pytest.raises(KeyError, match="no top 'conv1' so far"):  # BVLC's exception type
        n.conv1  # noqa: B018
    with pytest.raises(KeyError):
        n["conv1"]
    assert not hasattr(n, "conv1")
    n.conv1 = L.Input()
    assert n["conv1"] is n.conv1
    assert copy.copy(n).conv1 is n.conv1


def test_net_spec_and_coord_map_load_no_engine():
    code = (
        "import sys, types; caffe = types.ModuleType('caffe'); caffe.__path__ = [sys.argv[1]]; "
        "sys.modules['caffe'] = caffe; import caffe.coord_map; "
        "sys.exit('torch' in sys.modules or 'caffe.net_spec' not in sys.modules)"
    )
    run = [sys.executable, "-c", code, str(ROOT / "torchcaffe/pycaffe/caffe")]
    assert subprocess.run(run, cwd=ROOT).returncode == 0
