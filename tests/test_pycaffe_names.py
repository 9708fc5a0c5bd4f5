"""Every name that BVLC's pycaffe has: recorded from it, looked up here; and which of them do without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import caffe
import pytest
from goldens import make_pycaffe

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "goldens" / "pycaffe_names.json").read_text())

VECTOR = "a std::vector made known to Python; a list here"
BOLTED = "a function that BVLC's module puts into Net afterwards; a method of Net here"
IMPORTED = "not Caffe's: a name the file imports"
ABSENT = {
    **dict.fromkeys(["caffe._caffe." + n + "Vec" for n in ("Bool", "Dtype", "Int", "Layer", "Net", "RawBlob", "String")],
                    VECTOR),
    **dict.fromkeys(["caffe.pycaffe._Net_" + n for n in (
        "backward", "batch", "blob_loss_weights", "blobs", "forward", "forward_all", "forward_backward_all",
        "get_id_name", "inputs", "layer_dict", "outputs", "params", "set_input_arrays")], BOLTED),
    **dict.fromkeys(["caffe.coord_map.division", "caffe.io.resize", "caffe.io.zoom", "caffe.pycaffe.izip_longest"],
                    IMPORTED),
    "caffe.io.Transformer._Transformer__check_input": "private to the class, two underscores; one here",
}


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """What classes are looked at by, because their attributes are set by __init__."""
    folder = tmp_path_factory.mktemp("names")
    model = make_pycaffe.model(str(folder), 9)
    (folder / "solver.prototxt").write_text('net: "%s" base_lr: 1 lr_policy: "fixed"' % model[0])
    sgd, adam = (kind(str(folder / "solver.prototxt")) for kind in (caffe.SGDSolver, caffe.AdamSolver))
    net = caffe.Net(model[0], caffe.TEST)
    return {"caffe.Net": net, "caffe.Classifier": caffe.Classifier(*model), "caffe.Detector": caffe.Detector(*model),
            "caffe.Layer": net.layers[1], "caffe.SGDSolver": sgd, "caffe.AdamSolver": adam, "caffe._caffe.Solver": sgd,
            "caffe._caffe.SolverParameter": sgd.param}


@pytest.mark.parametrize("path", GOLDEN["names"])
def test_every_name_is_there(path, instances):
    held = instances.get(path, make_pycaffe.find(path))
    missing = {"%s.%s" % (path, name) for name in GOLDEN["names"][path] if not hasattr(held, name)}
    assert missing == {name for name in ABSENT if name.rpartition(".")[0] == path}


def test_every_exception_is_about_a_recorded_name():
    recorded = {"%s.%s" % (path, name) for path, names in GOLDEN["names"].items() for name in names}
    assert set(ABSENT) <= recorded


def run(code: str) -> str:
    """What a fresh Python prints that has only the façade's folder on its path."""
    return subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(HERE.parent / "torchcaffe" / "pycaffe")},
                          capture_output=True, text=True, check=True).stdout.strip()


def test_emitting_nets_needs_no_pytorch():
    """It would make `python net.py` take 2 seconds instead of 0.1."""
    assert run("import sys; from caffe import layers as L, params, NetSpec, to_proto, TRAIN; import caffe; dir(caffe);"
               "from caffe.coord_map import crop; caffe.__version__; to_proto(L.ReLU(L.Input()));"
               "print([m for m in ('torch', 'h5py', 'scipy') if m in sys.modules])") == "[]"


def test_every_way_to_a_name_leads_to_it():
    assert run("import caffe; seen = 'Detector' in dir(caffe); from caffe import Net, SGDSolver as S; from caffe import *;"
               "print(caffe.Net is Net is caffe.pycaffe.Net is caffe._caffe.Net, S is caffe.SGDSolver, io is caffe.io,"
               "Classifier is caffe.Classifier, TEST, seen)") == "True True True True 1 True"
    with pytest.raises(AttributeError, match="module 'caffe' has no attribute 'Nett'"):
        caffe.Nett  # noqa: B018
    with pytest.raises(ImportError, match="Nett"):
        from caffe import Nett  # noqa: F401
