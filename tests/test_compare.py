"""tools/compare.py and netdiff.py: a run against itself, other seeds, old formats, definitions that differ; what is told."""

import json
import os

import caffe
import caffemodel
import compare
import netdiff
import numpy as np
import prototxt
import published
import pytest
import scored_for_tests as made
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from segfiles_for_tests import shared


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An experiment on five images of five classes, and weights of two seeds."""
    experiment = made.voc(tmp_path_factory.mktemp("compare"))
    for name, seed in (("a", 1), ("b", 8)):     # seeds whose predictions agree at some pixels
        made.weights(experiment / "val.prototxt", experiment / f"{name}.caffemodel", seed)
    return experiment


def run(experiment, out, *arguments, ours="a.caffemodel", theirs="b.caffemodel"):
    """The command line in this process: (exit status, compare.json or None). It changes the working directory back."""
    before = os.getcwd()
    try:
        weights = [str(experiment / name) for name in (ours, theirs)]
        status = compare.main([str(experiment), *weights, "--out", str(out), *arguments])
    finally:
        os.chdir(before)
    path = out / "compare.json"
    return status, json.loads(path.read_text()) if path.exists() else None


def v1(path, target):
    """A caffemodel written as of 2014: V1 layers, types by number, four-axis shapes."""
    held, old = caffe_pb2.NetParameter(), caffe_pb2.NetParameter()
    held.ParseFromString(path.read_bytes())
    numbers = {name: number for number, name in caffemodel.V1_TYPES.items()}
    for layer in held.layer:
        if layer.type not in numbers:   # Python and Crop came later: that is said of the definition
            continue
        new = old.layers.add(name=layer.name, type=numbers[layer.type], bottom=layer.bottom, top=layer.top)
        for param in layer.param:
            new.blobs_lr.append(param.lr_mult)
            new.weight_decay.append(param.decay_mult)
        for blob in layer.blobs:
            four = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
            new.blobs.add(num=four[0], channels=four[1], height=four[2], width=four[3], data=blob.data)
        for field in ("convolution_param", "pooling_param", "dropout_param", "loss_param"):
            if layer.HasField(field):
                getattr(new, field).CopyFrom(getattr(layer, field))
    target.write_bytes(old.SerializeToString())
    return target


# -- the whole ---------------------------------------------------------------------------------------------------------
def test_against_itself_everything_is_zero_and_agreement_one(world, tmp_path):
    status, found = run(world, tmp_path, theirs="a.caffemodel")
    assert status == 0 and len(found["parameters"]) == 33
    assert all(b["identical"] and b["distance"] == 0 and b["cosine"] == 1 for b in found["parameters"])
    task, = found["tasks"]
    assert task["agreement"] == 1 and task["max_difference"] == task["mean_difference"] == 0 and task["max_score"] > 0
    between = np.array(task["between"])
    assert between.sum() == np.trace(between) == 5 * 72 * 48
    assert task["hists"][0] == task["hists"][1] and task["pictures"] == []
    assert [d for side in found["definitions"] for d in side] == []
    assert [tone for tone, _ in found["verdict"]] == ["good"] * 4 + [""]     # the last says that 5 images are not the list
    assert "identical, bit for bit" in (tmp_path / "compare.txt").read_text()


def test_two_seeds(world, tmp_path, capsys):
    """Parameters, scores and predictions against numpy's own arithmetic on the same blobs."""
    status, found = run(world, tmp_path)
    assert status == 0
    nets = [caffe.Net(str(world / "val.prototxt"), str(world / f"{name}.caffemodel"), caffe.TEST) for name in "ab"]
    by_blob = {(b["layer"], b["blob"]): b for b in found["parameters"]}
    for name in nets[0].params:
        for i, (one, other) in enumerate(zip(nets[0].params[name], nets[1].params[name])):
            a, b, told = one.data.ravel().astype(float), other.data.ravel().astype(float), by_blob[name, i]
            assert told["norm"] == pytest.approx(np.linalg.norm(a), rel=1e-12)
            assert told["distance"] == pytest.approx(np.linalg.norm(a - b), rel=1e-12, abs=0)
            assert told["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-9)
            assert told["identical"] == (name == "upscore")     # bilinear in both
    agree, largest = [], 0
    for _ in range(5):
        a, b = (net.forward() and net.blobs["score"].data[0].copy() for net in nets)
        agree.append((a.argmax(0) == b.argmax(0)).mean())
        largest = max(largest, abs(a - b).max())
    task, = found["tasks"]
    assert 0 < task["agreement"] < 1 and task["agreement"] == pytest.approx(np.mean(agree), rel=1e-12)
    assert [share for _, share in task["images"]] == agree and task["max_difference"] == pytest.approx(largest, rel=1e-6)
    assert np.array(task["hists"][0]).sum() == np.array(task["hists"][1]).sum() == 5 * 72 * 47  # a row is 255
    shown = [entry["agreement"] for entry in task["pictures"]]
    assert shown == sorted(shown) and len(shown) == 5
    assert [which for which, _ in task["pictures"][0]["files"]] == ["image", "truth", "ours", "theirs", "differ"]
    page = (tmp_path / "compare.html").read_text()
    assert page.count("data:image/jpeg") == 25 and "&lt;class 3&gt;" in page and "<class" not in page
    said = capsys.readouterr().out
    assert "32 of 33 parameter blobs differ" in said and "Mean IU: ours" in said


def test_against_the_format_of_2014_and_hdf5(world, tmp_path):
    v1(world / "a.caffemodel", world / "old.caffemodel")
    status, found = run(world, tmp_path / "old", theirs="old.caffemodel")
    assert status == 0 and all(b["identical"] for b in found["parameters"]) and found["tasks"][0]["agreement"] == 1
    layers, data = found["definitions"]
    # what V1 has no type for is not in the file; all else is read as the same, learning rates and fillers too
    assert {(d["layer"], d["kind"]) for d in layers} == {("score", "only ours")} and data[0]["kind"] == "only ours"
    net = caffe.Net(str(world / "val.prototxt"), str(world / "a.caffemodel"), caffe.TEST)
    net.save_hdf5(str(world / "a.caffemodel.h5"))
    status, found = run(world, tmp_path / "h5", theirs="a.caffemodel.h5")
    assert status == 0 and all(b["identical"] for b in found["parameters"]) and found["tasks"][0]["agreement"] == 1
    assert found["definitions"] is None and "carries no definition" in found["verdict"][0][1]


def test_a_real_file_of_2014(tmp_path, capsys):
    """LeNet as a Caffe of 2014 wrote it, against itself in today's format."""
    folder = shared("lenet-mnist")
    old = folder / "v1_lenet_iter_10000.caffemodel"
    (tmp_path / "lenet").mkdir()
    new = tmp_path / "lenet/new.caffemodel"
    caffemodel.write(str(new), [layer._replace(blobs=[b.reshape(-1) if layer.name and b.shape[:3] == (1, 1, 1) else b
                                                      for b in layer.blobs]) for layer in caffemodel.read(str(old))])
    net = netdiff.definition_of(str(old))
    assert len(net.layers) == 9 and not any(layer.blobs for layer in net.layers) and net.ByteSize() < 1000
    (tmp_path / "lenet/deploy.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 28 dim: 28 } } }')
    assert compare.main([str(tmp_path / "lenet/deploy.prototxt"), str(new), str(old), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out/compare.json").read_text())
    assert len(found["parameters"]) == 8 and all(b["identical"] and b["cosine"] == 1 for b in found["parameters"])
    assert found["parameters"][1]["shape"] == [20] and found["parameters"][1]["their_shape"] == [1, 1, 1, 20]
    assert "reads no images of its own: name some with --photos" in found["not_compared"]


def test_photographs_without_labels(world, tmp_path):
    photos = world.parent / "data/set/JPEGImages"
    status, found = run(world, tmp_path, "--photos", str(photos))
    task, = found["tasks"]
    assert status == 0 and task["figures"] is None and found["of"] is None
    assert [name for name, _ in task["images"]] == [f"{name}.jpg" for name in made.IDS]
    assert [which for which, _ in task["pictures"][0]["files"]] == ["image", "ours", "theirs", "differ"]
    listed = run(world, tmp_path)[1]["tasks"][0]    # the same photographs, fed as the scored net reads them
    assert task["max_difference"] == listed["max_difference"] and task["agreement"] == listed["agreement"]


def test_some_images_are_evenly_spread_and_two_tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "data"))
    experiment = made.siftflow(tmp_path)
    for name, seed in (("a", 1), ("b", 2)):
        made.weights(experiment / "test.prototxt", experiment / f"{name}.caffemodel", seed)
    status, found = run(experiment, tmp_path / "out", "--images", "3")
    assert status == 0 and found["of"] == 5
    assert [[name for name, _ in task["images"]] for task in found["tasks"]] == [["a", "c", "e"]] * 2
    assert [task["task"] for task in found["tasks"]] == ["sem", "geo"]
    assert len(found["tasks"][1]["between"]) == 3
    text = (tmp_path / "out/compare.txt").read_text()
    assert "over 3 images of the 5 of the list" in text and "IU of geo" in text
    assert "The published figures are over 200 labelled images, this is over 3; so" in text


def test_the_published_figures_and_the_released_file(world, tmp_path, monkeypatch):
    """Over all images: ours is held to what trainings differ by, the released file to rounding."""
    (world / "caffemodel-url").write_text("http://example.com/b.caffemodel\n")
    entry = published.find("voc-fcn32s")[0]._replace(images=5, figures={"mean_iu": 50.})
    monkeypatch.setitem(published.TABLE, ("voc-fcn32s", None), [entry])
    found = run(world, tmp_path, "--images", "0")[1]
    (ours,), (theirs,) = found["published"]
    assert (ours["tolerance"], theirs["tolerance"]) == (0.6, 0.1) and ours["verdict"] == theirs["verdict"] == "below"
    assert found["verdict"][-1][0] == "bad" and "theirs, mean IU" in found["verdict"][-1][1]
    # what a record beside the weights says: of another way to learn nothing is published
    (world / "run.json").write_text('{"data": null, "learning": "online"}')
    found = run(world, tmp_path, "--images", "0")[1]
    assert found["published"] == [[], []] and "published" not in " ".join(sentence for _, sentence in found["verdict"])
    (world / "run.json").write_text("[")
    assert run(world, tmp_path, "--images", "0")[0] == 1
    (world / "run.json").unlink()


def test_weights_of_another_net(world, tmp_path, capsys):
    """They are compared as far as that goes, and what is not compared is said."""
    layers = caffemodel.read(str(world / "a.caffemodel"))
    other = [layer._replace(blobs=[np.zeros((7, 16, 1, 1)), np.zeros(7)]) if layer.name == "score_fr" else layer
             for layer in layers if layer.name != "fc7"]
    caffemodel.write(str(world / "other.caffemodel"), other)
    status, found = run(world, tmp_path, theirs="other.caffemodel")
    assert status == 0 and found["tasks"] == []
    by_blob = {(b["layer"], b["blob"]): b for b in found["parameters"]}
    assert by_blob["score_fr", 0]["distance"] is None and by_blob["score_fr", 0]["their_norm"] == 0
    assert by_blob["fc7", 1]["their_shape"] is None and by_blob["fc6", 0]["identical"]
    assert "layer 'score_fr'" in found["not_compared"] and "(7, 16, 1, 1)" in found["not_compared"]
    assert any("4 blobs are in one file only, or of another size" in sentence for _, sentence in found["verdict"])


@pytest.mark.parametrize("arguments, words", [
    (["nowhere", "a"], "nowhere: no such folder"), ([".", "a.caffemodel"], "say which weights"),
    ([".", "a.caffemodel", "none.caffemodel"], "none.caffemodel: no such file"),
    ([".", "a.caffemodel", "b.caffemodel", "a.caffemodel"], "3 weights; wanted ours and theirs"),
    ([".", "a.caffemodel", "val.prototxt"], "val.prototxt: "),
    ([".", "a.caffemodel", "b.caffemodel", "--images", "-1"], "--images is -1"),
    ([".", "a.caffemodel", "b.caffemodel", "--photos", "none.jpg", "--out", "out"], "none.jpg: no such image")])
def test_what_cannot_be_compared(world, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(world)
    assert compare.main(arguments) == 1
    assert words in capsys.readouterr().err


def test_without_the_data_set_the_parameters_are_compared(world, tmp_path, monkeypatch):
    images = world.parent / "data"
    images.rename(world.parent / "away")
    try:
        status, found = run(world, tmp_path)
    finally:
        (world.parent / "away").rename(images)
    assert status == 0 and len(found["parameters"]) == 33 and "val.txt: no such list" in found["not_compared"]


def test_two_files_of_one_name_are_told_apart():
    import comparison
    assert comparison.told_apart(["/x/one/fcn8s/best", "/x/two/fcn8s/best"]) == ["one/fcn8s/best", "two/fcn8s/best"]
    assert comparison.told_apart(["/x/a/best", "/y/b/other"]) == ["a/best", "b/other"]
    assert comparison.told_apart(["/x/a/best", "/x/a/best"]) == ["a/best", "a/best"]


# -- definitions -------------------------------------------------------------------------------------------------------
def parsed(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


CONV = ('layer { name: "c" type: "Convolution" bottom: "x" top: "c" %s convolution_param { num_output: 2 kernel_size: 3 '
        '%s } }')


@pytest.mark.parametrize("theirs", [
    CONV % ("phase: TEST", "stride: 1 pad: 0"), CONV % ("", "bias_term: true group: 1"),
    CONV % ("param { lr_mult: 1 } param { decay_mult: 1 }", ""),
    'layer { name: "x_split" type: "Split" bottom: "x" top: "x_0" top: "x_1" }' + CONV.replace('"x"', '"x_0"') % ("", ""),
    'layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }'])
def test_definitions_that_mean_the_same(theirs):
    assert netdiff.definitions(parsed(CONV % ("", "")), parsed(theirs)) == []


@pytest.mark.parametrize("theirs, found", [
    (CONV % ("", "stride: 2"), ("differs", "convolution_param.stride", "1", "2")),
    (CONV % ("", "bias_term: false"), ("differs", "convolution_param.bias_term", True, False)),
    (CONV % ("param { lr_mult: 0 }", ""), ("differs", "param[0].lr_mult", 1, 0)),
    (CONV.replace('"x"', '"y"') % ("", ""), ("differs", "bottom", "x", "y")),
    (CONV.replace("Convolution", "Deconvolution") % ("", ""), ("differs", "type", "Convolution", "Deconvolution"))])
def test_definitions_that_differ(theirs, found):
    difference, = netdiff.definitions(parsed(CONV % ("", "")), parsed(theirs))
    assert difference == ("c", *found)


def test_a_layer_of_one_side_only():
    ours, theirs = parsed(CONV % ("", "")), parsed((CONV % ("", "")).replace('name: "c"', 'name: "d"'))
    assert [(d.layer, d.kind) for d in netdiff.definitions(ours, theirs)] == [("c", "only ours"), ("d", "only theirs")]


def test_the_definition_in_a_file_is_the_net_without_its_blobs(world):
    held = netdiff.definition_of(str(world / "a.caffemodel"))
    whole = caffe_pb2.NetParameter()
    whole.ParseFromString((world / "a.caffemodel").read_bytes())
    for layer in whole.layer:
        layer.ClearField("blobs")
    assert held == whole
    ours = prototxt.read(str(world / "val.prototxt"), caffe_pb2.NetParameter())
    assert netdiff.definitions(ours, held) == []
    with pytest.raises(caffemodel.CaffemodelError, match="Wanted a caffemodel"):
        netdiff.definition_of(str(world / "val.prototxt"))
