"""Caffe's small tools: what they write and log, against what BVLC's wrote and logged (goldens/tools.json, upgrade.json)."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from goldens import make_pycaffe, make_tools

from torchcaffe import __main__ as command
from torchcaffe import files, images
from torchcaffe.lmdb import Lmdb
from torchcaffe.lmdb_writer import LmdbWriter
from torchcaffe.proto import caffe_pb2

GOLDENS = Path(__file__).parent / "goldens"
GOLDEN = json.loads((GOLDENS / "tools.json").read_text())
UPGRADES = json.loads((GOLDENS / "upgrade.json").read_text())["cases"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The inputs of the recorded runs, in the working directory."""
    make_tools.write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_as_bvlcs_tools(folder, capsys):
    """Bytes but for the features, which are sums of 75 float32 products: 1e-5."""
    capsys.readouterr()

    def run(tool, *args):
        code = command.main([tool, *args])
        return code, make_tools.of_tool(tool, capsys.readouterr().err.splitlines())

    ours, golden = make_tools.answers(folder, run), {k: v for k, v in GOLDEN.items() if k != "provenance"}
    for entry, wanted in zip(ours["features"]["conv"], golden["features"]["conv"], strict=True):
        np.testing.assert_allclose(entry[-1], wanted[-1], rtol=0, atol=1e-5)
        entry[-1] = wanted[-1]
    missing = "E Could not open or find file files/missing.png"  # in BVLC io.cpp says it
    for conversion in ours["conversions"].values():
        assert conversion["lines"].pop(1).startswith(missing)
    assert ours == golden


@pytest.mark.parametrize("case", UPGRADES, ids=lambda c: c["name"])
def test_net_definitions_are_upgraded_as_by_bvlc(case, tmp_path, capsys):
    """The same text, byte for byte; the exit code 1 where parameters were dropped, 134 where the tool aborts."""
    source, target = tmp_path / "in.prototxt", tmp_path / "out.prototxt"
    source.write_text(case["input"])
    code = command.main(["upgrade_net_proto_text", str(source), str(target)])
    assert code == (134 if "fatal" in case else 1 if case["name"] == "v0 with stray parameters" else 0)
    assert target.exists() == ("output" in case)
    if "output" in case:
        assert target.read_text() == case["output"]
        capsys.readouterr()
        assert command.main(["upgrade_net_proto_text", str(target), str(source)]) == 0
        assert source.read_text() == case["output"]
        assert "File already in latest proto format" in capsys.readouterr().err


def test_caffemodels_are_upgraded_with_their_weights(tmp_path, capsys):
    old = caffe_pb2.NetParameter(name="old", input=["x"], input_dim=[1, 2, 3, 4])
    old.layers.add(name="ip", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT, bottom=["x"], top=["y"], blobs=[
        caffe_pb2.BlobProto(num=1, channels=1, height=1, width=2, data=[1.5, -2])])
    source, target, again = (str(tmp_path / n) for n in ("old", "new", "again"))
    Path(source).write_bytes(old.SerializeToString())
    assert command.main(["upgrade_net_proto_binary", source, target]) == 0
    new = caffe_pb2.NetParameter.FromString(Path(target).read_bytes())
    assert [(layer.name, layer.type) for layer in new.layer] == [("input", "Input"), ("ip", "InnerProduct")]
    assert list(new.layer[1].blobs[0].data) == [1.5, -2] and not new.layers
    capsys.readouterr()
    assert command.main(["upgrade_net_proto_binary", target, again]) == 0
    assert "File already in latest proto format: " + target in capsys.readouterr().err
    assert Path(again).read_bytes() == Path(target).read_bytes()


def test_solver_definitions_are_upgraded(tmp_path, capsys):
    """The texts are what BVLC's upgrade_solver_proto_text (99bd997) wrote."""
    source, target = tmp_path / "in.prototxt", tmp_path / "out.prototxt"
    for text, wanted, said in (
            ('net: "x"\nbase_lr: 0.01\nsolver_type: ADAM\n', 'base_lr: 0.01\nnet: "x"\ntype: "Adam"\n', "Wrote upgraded"),
            ('net: "x" base_lr: 1 type: "SGD"', 'base_lr: 1\nnet: "x"\ntype: "SGD"\n', "File already in latest")):
        source.write_text(text)
        capsys.readouterr()
        assert command.main(["upgrade_solver_proto_text", str(source), str(target)]) == 0
        assert target.read_text() == wanted and said in capsys.readouterr().err
    source.write_text('solver_type: ADAM type: "SGD"')
    assert command.main(["upgrade_solver_proto_text", str(source), str(target)]) == 134


def test_a_mean_file_is_read_back(folder):
    assert command.main(["compute_image_mean", "images", "mean.binaryproto"]) == 0
    mean = files.read_blob("mean.binaryproto")
    assert mean.shape == (1, 3, 6, 7) and mean.values.mean() == pytest.approx(126.867, abs=1e-3)


def test_encoded_images_are_the_files_or_of_the_same_pixels(folder):
    def entries(name):
        return {key: caffe_pb2.Datum.FromString(value).data for key, value in Lmdb(name)}

    assert command.main(["convert_imageset", "-encoded", "files/", "list.txt", "raw"]) == 0
    assert entries("raw")[b"00000000_0.png"] == Path("files/0.png").read_bytes()
    flags = ["-resize_height", "5", "-resize_width", "4"]
    for kind, gray in (("png", False), ("png", True), ("JPEG", False)):
        name = "%s%d" % (kind, gray)
        assert command.main(["convert_imageset", "-encode_type", kind, "-gray=%d" % gray, *flags, "files/", "list.txt",
                             name]) == 0
        for key, data in entries(name).items():
            wanted = images.read("files/" + key.decode()[9:], 5, 4, not gray).astype(int)
            found = images.decode(data, None).astype(int)
            assert found.shape == wanted.shape
            assert (found == wanted).all() if kind == "png" else abs(found - wanted).mean() < 30  # noise, as JPEG keeps it


def test_shuffled_images_are_all_there(folder):
    assert command.main(["convert_imageset", "-shuffle", "files/", "list.txt", "shuffled"]) == 0
    names = [key[9:] for key, *_ in make_tools.database(folder / "shuffled")]
    assert sorted(names) == ["0.png", "1.png", "clear.png", "sub/a b.png"]


@pytest.mark.parametrize("words, message", [
    ("convert_imageset -check_size files/ list.txt db", "Incorrect data field size 216 of files/1.png.*-resize_height"),
    ("convert_imageset files list.txt db", "none of its 5 files could be read; .*'files'.* slash"),
    ("convert_imageset files/ bad.txt db", "bad.txt:2: got 'b.png x', wanted a path, a space and an integer label"),
    ("convert_imageset files/ none.txt db", "none.txt: cannot be read"),
    ("convert_imageset files/ list.txt images", "mkdir images failed: it exists"),
    ("convert_imageset files/ list.txt none/db", "mkdir none/db failed: No such file"),
    ("convert_imageset -backend leveldb files/ list.txt db", "leveldb.*say lmdb"),
    ("convert_imageset -encode_type xyz files/ list.txt db", "files/0.png: cannot be encoded as 'xyz'"),
    ("compute_image_mean none", "none: cannot open this LMDB"),
    ("compute_image_mean mixed", "Incorrect data field size 40 .*one size"),
    ("compute_image_mean -backend foo images", "Unknown database backend 'foo'"),
    ("extract_features net.caffemodel net.prototxt conv,label f 2 lmdb", "must be equal: got 2 and 1"),
    ("extract_features net.caffemodel net.prototxt none f 2 lmdb", "Unknown feature blob name none .*conv"),
    ("extract_features net.caffemodel net.prototxt conv f x lmdb", "num_mini_batches is 'x'"),
    ("extract_features net.caffemodel net.prototxt conv f 2 leveldb", "leveldb"),
    ("upgrade_net_proto_text none.prototxt out", "none.prototxt: cannot be read"),
    ("draw_net net.prototxt out.png --phase FOO", "--phase FOO: wanted TRAIN, TEST or ALL"),
    ("device_query -gpu x", "-gpu 'x': wanted a device id, or all"),
    ("device_query -gpu 7", "-gpu 7: PyTorch sees"),
])
def test_what_is_refused_leaves_nothing_behind(folder, capsys, words, message):
    Path("bad.txt").write_text("0.png 3\nb.png x\n")
    Path("mixed").mkdir()
    Path("mixed/data.mdb").write_bytes(gzip.decompress((GOLDENS / "mixed.mdb.gz").read_bytes()))
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert command.main(words.split()) == 134
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("F") and re.search(message, last), last
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("words, said", [
    ("convert_imageset a b", "convert_imageset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME"), ("compute_image_mean", "INPUT_DB"),
    ("extract_features a", "save_feature_dataset_name1"), ("upgrade_net_proto_text a", "net_proto_file_out"),
    ("upgrade_net_proto_binary a", "net_proto_file_out"), ("upgrade_solver_proto_text a", "solver_proto_file_out"),
    ("draw_net a", "input_net_proto_file"), ("convert_imageset -foo a b c", "unknown command line flag 'foo'"),
    ("convert_imageset -gray=maybe a b c", "illegal value 'maybe' specified for bool flag 'gray'"),
    ("convert_imageset a b -resize_height", "flag 'resize_height' is missing its argument"),
    ("convert_imageset a b c -resize_height x", "illegal value 'x' specified for int32 flag 'resize_height'")])
def test_usage_is_said_with_exit_code_1(words, said, capsys):
    assert command.main(words.split()) == 1
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_draw_net(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pydot", make_pycaffe.FakePydot)
    assert command.main(["draw_net", "net.prototxt", "net.svg", "--rankdir", "TB", "--phase=TEST", "--display_lrm"]) == 0
    assert Path("net.svg").read_bytes() == b"svg" and "Drawing net to net.svg" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "pydot", None)
    assert command.main(["draw_net", "net.prototxt", "other.svg"]) == 134
    assert "pip install pydot" in capsys.readouterr().err and not Path("other.svg").exists()
    assert command.main(["draw_net", "net.prototxt", "net.png"]) == 0 and Path("net.png").stat().st_size > 500


def test_device_query_without_a_gpu_asked_for(capsys):
    assert command.main(["device_query"]) == 0
    assert "Querying GPUs" in capsys.readouterr().err


def test_the_mean_of_many_is_added_up_in_float32(tmp_path, monkeypatch):
    """In the order of keys and one by one, as in Caffe, with its rounding."""
    monkeypatch.chdir(tmp_path)
    values = (np.random.RandomState(0).rand(300) * 1e6).astype(np.float32)
    with LmdbWriter("db") as database:
        for i, value in enumerate(values):
            datum = caffe_pb2.Datum(channels=1, height=1, width=1, float_data=[value])
            database.put(b"%03d" % i, datum.SerializeToString())
    assert command.main(["compute_image_mean", "db", "mean"]) == 0
    total = np.float32(0)
    for value in values:
        total += value
    assert files.read_blob("mean").values.item() == total / np.float32(300) != np.float32(values.astype(float).mean())
