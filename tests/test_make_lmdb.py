"""data/make_lmdb.py and tools/lmdb_nets.py: the databases hold what data layers in Python show, in their order."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import caffe
import lmdb_nets
import numpy as np
import parts
import prototxt
import pytest
from caffe.proto import caffe_pb2
from segfiles_for_tests import ROOT, save_matrix, write_context, write_nyud, write_sbd, write_siftflow, write_voc

from torchcaffe.lmdb import Lmdb

_spec = importlib.util.spec_from_file_location("make_lmdb", ROOT / "data/make_lmdb.py")
make_lmdb = importlib.util.module_from_spec(_spec)
sys.modules["make_lmdb"] = make_lmdb
_spec.loader.exec_module(make_lmdb)

MAX_ITER = 7
SOLVER = f"""# why
train_net: "train.prototxt"
test_net: "val.prototxt"
test_iter: 3  # "train.prototxt" is not meant here
max_iter: {MAX_ITER}
base_lr: 0
test_interval: 999999999
test_initialization: false
lr_policy: "fixed"
snapshot_prefix: "snapshot/train"
"""
DATA = {
    "voc": lambda split: parts.voc_data({"train": "train", "val": "seg11valid"}[split]),
    "siftflow": lambda split: parts.siftflow_data({"train": "trainval", "val": "test"}[split]),
    "nyud": lambda split: parts.nyud_data({"train": "trainval", "val": "test"}[split], ["color", "depth", "hha", "label"]),
    "context": lambda split: parts.pascalcontext_data(split),
}


def net_of(tops) -> caffe_pb2.NetParameter:
    """A net of a data layer alone; its tops have names of its own."""
    n = caffe.NetSpec()
    for i, top in enumerate(tops):
        n[f"blob{i}"] = top
    return n.to_proto()


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A data root with all data sets, four images to train on and three to score."""
    root = tmp_path / "data"
    monkeypatch.setenv("FCN_DATA", str(root))
    train, val = ["d", "b", "c", "a"], ["z", "y", "x"]
    write_sbd(root / "sbdd/dataset", train)
    write_voc(root / "pascal/VOC2011", val, "seg11valid", size=(11, 8))
    for split, ids in (("trainval", train), ("test", val)):
        write_siftflow(root / "sift-flow", ids, split, seed=len(ids))
        write_nyud(root / "nyud", ids, split, seed=len(ids))
    for split, ids in (("train", train), ("val", val)):
        write_context(root, ids, split, seed=len(ids))
    return root


@pytest.fixture
def experiment(tmp_path, request) -> Path:
    """The folder of an experiment on the data set that is asked for, voc if none is."""
    return write_experiment(tmp_path / "experiment", getattr(request, "param", "voc"))


def write_experiment(folder: Path, name: str) -> Path:
    folder.mkdir()
    for split in ("train", "val"):
        prototxt.write(str(folder / f"{split}.prototxt"), net_of(DATA[name](split)))
    (folder / "solver.prototxt").write_text(SOLVER)
    return folder


def convert(folder: Path) -> None:
    """What `net.py --data lmdb` does."""
    nets = {split: prototxt.read(str(folder / f"{split}.prototxt"), caffe_pb2.NetParameter()) for split in ("train", "val")}
    lmdb_nets.write(str(folder / "net.py"), nets)


@pytest.mark.parametrize("experiment", DATA, indirect=True)
def test_databases_show_what_the_data_layer_shows(data, experiment, capsys):
    """Every kind of data set: as many Data layers as tops, the same images in the same order, with the same labels.

    Pixels may differ in the last bit: Caffe subtracts a float32 mean, the layer a float64 one. Depth, which is stored as
    finished floats, and labels may not.
    """
    assert make_lmdb.main([str(experiment)]) == 0, capsys.readouterr().err
    convert(experiment)
    for split, forwards in (("train", MAX_ITER), ("val", 7)):
        python = caffe.Net(str(experiment / f"{split}.prototxt"), caffe.TRAIN)
        native = caffe.Net(str(experiment / f"{split}_lmdb.prototxt"), caffe.TRAIN)
        layer = python.layers[0]
        assert [x.type for x in native.layers] == ["Data"] * len(layer.tops)
        for _ in range(forwards):
            python.forward(), native.forward()
            for top, (name, blob) in zip(layer.tops, python.blobs.items()):
                ours, theirs = native.blobs[name].data, blob.data
                assert ours.shape == theirs.shape
                # 1.6e-5 is the spacing of float32 at 128 to 256, the largest these values are before the mean goes off
                assert abs(ours - theirs).max() <= (1.6e-5 if top in make_lmdb.MEANS else 0), (top, layer.current)
        if split == "val":
            assert layer.current == "z"  # from the start again after three


def test_the_order_is_the_released_one_and_an_image_is_stored_once(data, experiment, capsys):
    write_sbd(data / "sbdd/dataset", [f"i{i}" for i in range(6)], size=(60, 50))
    assert make_lmdb.main([str(experiment), "--draws", "500"]) == 0
    keys = [key.decode() for key, _ in Lmdb(str(data / "lmdb/sbdd-dataset/train-data"))]
    layer = caffe.Net(str(experiment / "train.prototxt"), caffe.TRAIN).layers[0]
    wanted = []
    for i in range(500):
        wanted.append(f"{i:08d}_{layer.indices[layer.idx]}")
        layer.skip(1)
    assert keys == wanted and len({key[9:] for key in keys}) == 6
    size = (data / "lmdb/sbdd-dataset/train-data/data.mdb").stat().st_size
    # six images in whole pages, and 500 keys: not 500 images
    assert 6 * 60 * 50 * 3 < size < 6 * (60 * 50 * 3 + 2 * 4096) + 500 * 60
    # a list that is not drawn from is in its own order, each image once
    assert [key for key, _ in Lmdb(str(data / "lmdb/pascal-VOC2011/seg11valid-label"))] == [
        b"00000000_z", b"00000001_y", b"00000002_x"]


def test_values_are_the_pixels_of_the_files(data, experiment):
    make_lmdb.main([str(experiment)])
    from PIL import Image

    for key, value in Lmdb(str(data / "lmdb/sbdd-dataset/train-data")):
        datum = caffe_pb2.Datum.FromString(value)
        array = np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width)
        with Image.open(data / "sbdd/dataset/img" / f"{key[9:].decode()}.jpg") as image:
            assert np.array_equal(array.transpose(1, 2, 0)[:, :, ::-1], np.asarray(image))


def test_experiments_share_databases(data, experiment, capsys, tmp_path):
    assert make_lmdb.main([str(experiment)]) == 0
    before = {path: path.stat().st_mtime_ns for path in data.rglob("data.mdb")}
    assert len(before) == 4
    assert make_lmdb.main([str(experiment), "--draws", "3"]) == 0  # fewer than there are
    assert capsys.readouterr().out.count("there already") == 4
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob("data.mdb")}
    assert make_lmdb.main([str(experiment), "--draws", "9"]) == 0  # more
    assert "has 7 entries, 9 are wanted: it is made anew" in capsys.readouterr().out
    assert len(Lmdb(str(data / "lmdb/sbdd-dataset/train-label"))) == 9


def test_a_database_cut_short_is_made_anew(data, experiment):
    make_lmdb.main([str(experiment)])
    folder = data / "lmdb/sbdd-dataset/train-data"
    (folder / "made.json").unlink()  # which is written last
    (folder / "data.mdb").write_bytes(b"half")
    assert make_lmdb.main([str(experiment)]) == 0
    assert len(Lmdb(str(folder))) == MAX_ITER


def test_the_solver_keeps_its_comments_and_snapshots_have_a_folder(data, experiment):
    make_lmdb.main([str(experiment)])
    convert(experiment)
    text = (experiment / "solver_lmdb.prototxt").read_text()
    assert text == SOLVER.replace('train_net: "train.', 'train_net: "train_lmdb.').replace('"val.', '"val_lmdb.')
    assert (experiment / "snapshot").is_dir()
    net = (experiment / "train_lmdb.prototxt").read_text()
    assert "Python" not in net and net.count("mean_value") == 3


def test_solver_trains_without_python_layers(data, experiment, monkeypatch):
    make_lmdb.main([str(experiment)])
    convert(experiment)
    monkeypatch.chdir(experiment)
    solver = caffe.get_solver("solver_lmdb.prototxt")
    solver.step(2)
    assert solver.iter == 2 and solver.test_nets[0].blobs["blob0"].data.shape == (1, 3, 8, 11)


def test_databases_in_the_repository_are_named_relative_to_the_net(data, experiment, monkeypatch):
    monkeypatch.setattr("segfiles.ROOT", str(data.parent))
    make_lmdb.main([str(experiment)])
    convert(experiment)
    assert '"../data/lmdb/sbdd-dataset/train-data"' in (experiment / "train_lmdb.prototxt").read_text()


# -- refusals ----------------------------------------------------------------------------------------------------------
def test_nets_without_databases_say_how_to_make_them(data, experiment):
    with pytest.raises(lmdb_nets.LmdbError, match=r"train-data: no such database; make it with `python data/make_lmdb\.py "):
        convert(experiment)


def test_a_database_made_with_other_settings_is_refused(data, experiment, capsys):
    make_lmdb.main([str(experiment)])
    path = data / "lmdb/sbdd-dataset/train-data/made.json"
    made = json.loads(path.read_text())
    made["settings"]["mean"][0] = 103.939
    path.write_text(json.dumps(made))
    with pytest.raises(lmdb_nets.LmdbError, match=r"was made for .*103\.939.*the net says .*104\.00699.*remove it"):
        convert(experiment)
    assert make_lmdb.main([str(experiment)]) == 1
    assert re.search(r"train-data was made from another list or with other settings .*remove it", capsys.readouterr().err)


def test_a_list_that_has_changed_is_refused(data, experiment, capsys):
    make_lmdb.main([str(experiment)])
    (data / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt").write_text("x\ny\n")
    assert make_lmdb.main([str(experiment)]) == 1
    assert "another list" in capsys.readouterr().err


def test_a_training_list_needs_a_number_of_draws(data, experiment, capsys):
    (experiment / "solver.prototxt").unlink()
    assert make_lmdb.main([str(experiment)]) == 1
    assert "say it with --draws" in capsys.readouterr().err


def test_damaged_data_leaves_no_database(data, experiment, capsys):
    save_matrix(data / "sbdd/dataset/cls/b.mat", "other", np.zeros((2, 2)))
    assert make_lmdb.main([str(experiment)]) == 1
    assert "cls/b.mat: not an SBD label" in capsys.readouterr().err
    assert not list(data.rglob("train-*"))


def test_folders_without_such_nets_are_refused(tmp_path, capsys):
    assert make_lmdb.main([str(tmp_path)]) == 1
    assert "no net with a data layer that reads images and labels" in capsys.readouterr().err


def test_other_data_layers_are_left_as_they_are(data, capsys):
    sources = make_lmdb.find_sources(ROOT / "shapes")
    assert {source.split for source, _ in sources} == {"train", "val"}
    net = prototxt.read(str(ROOT / "shapes/classifier_train.prototxt"), caffe_pb2.NetParameter())
    assert lmdb_nets.sources(net) == []


def test_net_py_takes_data_lmdb(data, experiment, monkeypatch, capsys):
    """The command of the documentation, through parts.write_nets."""
    make_lmdb.main([str(experiment)])
    script = experiment / "net.py"
    script.write_text("")
    nets = {name: prototxt.read(str(experiment / f"{name}.prototxt"), caffe_pb2.NetParameter()) for name in ("train", "val")}
    monkeypatch.setattr(sys, "argv", [str(script), "--data", "lmdb"])
    before = (experiment / "train.prototxt").read_bytes()
    parts.write_nets(str(script), nets)
    assert (experiment / "val_lmdb.prototxt").exists() and (experiment / "train.prototxt").read_bytes() == before
    shutil.rmtree(experiment / "snapshot")
