"""Upgrading old definitions: against what BVLC's own tool made of them (goldens/upgrade.json), and the solver's rules."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format

from torchcaffe import log, upgrade
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

GOLDEN = Path(__file__).parent / "goldens" / "upgrade.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


def upgraded(text):
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    upgrade.upgrade_net(net, "old.prototxt")
    return net


@pytest.fixture
def lines(monkeypatch):
    """What is logged, as (severity, message)."""
    said = []
    for severity in ("info", "warning", "error"):
        monkeypatch.setattr(log, severity, lambda message, severity=severity: said.append((severity, message)))
    return said


@pytest.mark.parametrize("case", [c for c in CASES if "output" in c], ids=lambda c: c["name"])
def test_same_as_bvlcs_tool(case, lines):
    wanted = text_format.Parse(case["output"], caffe_pb2.NetParameter())
    assert text_format.MessageToString(upgraded(case["input"])) == text_format.MessageToString(wanted)


@pytest.mark.parametrize("case", [c for c in CASES if "fatal" in c], ids=lambda c: c["name"])
def test_fatal_where_bvlcs_tool_is(case, lines):
    with pytest.raises(CaffeError, match="old.prototxt") as caught:
        upgraded(case["input"])
    words = case["fatal"].split(") ")[-1].split(";")[0]  # what follows a CHECK's condition, up to the first pause
    assert words in str(caught.value)


def test_old_type_tables_are_complete():
    numbers = {v.number for v in caffe_pb2.V1LayerParameter.DESCRIPTOR.enum_types_by_name["LayerType"].values}
    assert set(upgrade.V1_TYPES) == numbers - {caffe_pb2.V1LayerParameter.NONE}
    assert set(upgrade.V0_TYPES.values()) < numbers


def test_weights_come_along(lines):
    net = upgraded('layers { name: "c" type: CONVOLUTION blobs { num: 1 channels: 1 height: 1 width: 2 data: 1 data: 2 } }')
    assert list(net.layer[0].blobs[0].data) == [1, 2] and net.layer[0].blobs[0].width == 2
    net = upgraded('input: "d" layers { layer { name: "c" type: "conv" blobs { data: 3 } } bottom: "d" top: "c" }')
    assert (net.layer[0].name, list(net.layer[0].blobs[0].data)) == ("c", [3])


def test_what_happens_is_logged_in_caffes_words(lines):
    upgraded('layers { name: "r" type: RELU bottom: "x" top: "y" }')
    assert lines == [
        ("info", "Attempting to upgrade input file specified using deprecated V1LayerParameter: old.prototxt"),
        ("info", "Successfully upgraded file specified using deprecated V1LayerParameter")]
    lines.clear()
    upgraded('layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    assert lines == []


def test_dropped_parameters_are_named(lines):
    upgraded(next(c for c in CASES if c["name"] == "v0 with stray parameters")["input"])
    errors = [message for severity, message in lines if severity == "error"]
    assert "Unknown parameter kernelsize for layer type relu" in errors
    assert errors[-1].startswith("Warning: had one or more problems upgrading V0NetParameter")


@pytest.mark.parametrize("text", ['input: "a" input: "b" input_shape { dim: 1 }', 'input: "a" input_dim: 1 input_dim: 2'])
def test_inputs_without_enough_shapes(text, lines):
    """Here BVLC reads past the end of its array."""
    with pytest.raises(CaffeError, match="wanted one input_shape, or four input_dim, for each"):
        upgraded(text)


@pytest.mark.parametrize("old, new", [("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"),
                                      ("RMSPROP", "RMSProp"), ("ADADELTA", "AdaDelta"), ("ADAM", "Adam")])
def test_solver_type(old, new, lines):
    solver = text_format.Parse("solver_type: " + old, caffe_pb2.SolverParameter())
    upgrade.upgrade_solver(solver, "s.prototxt")
    assert solver.type == new and not solver.HasField("solver_type")


def test_two_solver_types(lines):
    solver = text_format.Parse('solver_type: ADAM type: "SGD"', caffe_pb2.SolverParameter())
    with pytest.raises(CaffeError, match="s.prototxt.*cannot be both specified"):
        upgrade.upgrade_solver(solver, "s.prototxt")


def test_snapshot_prefix(tmp_path, lines):
    """The four cases as a real Caffe names its snapshots."""
    for given, wanted in ((None, "sub/solver"), (str(tmp_path), str(tmp_path / "solver")),
                          (str(tmp_path) + "/", str(tmp_path / "solver")), ("snapshot/train", "snapshot/train")):
        solver = caffe_pb2.SolverParameter(snapshot_prefix=given)
        upgrade.set_snapshot_prefix(solver, "sub/solver.prototxt")
        assert solver.snapshot_prefix == wanted
