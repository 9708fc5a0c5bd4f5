"""tools/evaluate.py: the figures of one pass, in one process or several, resumed, with weights of every format."""

import json
import os

import caffe
import evaluate
import numpy as np
import pytest
import score
import scored_for_tests as made
import subject
import torch
from PIL import Image
from scored_for_tests import IDS
from segfiles_for_tests import SCENES, save_matrix


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data root, an experiment of two tasks and its weights."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FCN_DATA", str(folder / "data"))
        patch.setenv("OMP_NUM_THREADS", "1")    # of the processes; and of this one, so that sums are rounded alike
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        experiment = made.siftflow(folder)
        for name, seed in (("a", 1), ("b", 2)):
            made.weights(experiment / "test.prototxt", experiment / f"{name}.caffemodel", seed)
        yield experiment
        torch.set_num_threads(threads)


def run(experiment, *arguments, weights="a.caffemodel"):
    """The command line in this process; the exit status. It changes the working directory back."""
    before = os.getcwd()
    try:
        return evaluate.main([str(experiment), str(experiment / weights), *arguments])
    finally:
        os.chdir(before)


def figures(folder):
    return json.loads((folder / "evaluation.json").read_text())


def confusion(folder):
    return json.loads((folder / "confusion.json").read_text())["tasks"]


def test_the_figures_are_those_of_a_scoring_as_released(world, tmp_path):
    """One pass for both tasks, against the released code's two; histograms equal, losses too, each task's own."""
    assert run(world, "--out", str(tmp_path / "out"), "--save") == 0
    net = subject.load(str(world / "test.prototxt"), str(world / "a.caffemodel"))
    hist, loss = score.compute_hist(net, None, IDS, layer="score_sem", gt="sem")
    geo, _ = score.compute_hist(net, None, IDS, layer="score_geo", gt="geo")
    held, (first, second) = figures(tmp_path / "out"), confusion(tmp_path / "out")
    assert [first["name"], second["name"]] == ["sem", "geo"]
    assert first["hist"] == hist.tolist() and second["hist"] == geo.tolist()
    sem, geo_figures = held["tasks"]
    assert sem["loss"] == loss and geo_figures["loss"] != loss and geo_figures["loss"] > 0
    assert sem["mean_iu"] == score.metrics(hist)["mean_iu"]
    assert [name for name, _ in sem["images"]] == IDS
    assert sum(of["pixels"] for _, of in sem["images"]) == hist.sum()
    assert held["sha256"] and held["version"] and held["net_sha256"] and held["images"] == 5
    saved = Image.open(tmp_path / "out/predictions/geo/c.png")
    assert saved.mode == "P" and saved.size == (72, 48) and np.array(saved).max() <= 2
    assert not any(name.startswith(("rows-", "worker-", "job")) for name in os.listdir(tmp_path / "out"))


def test_two_processes_give_what_one_gives_and_one_that_fails_is_said(world, tmp_path, capsys):
    assert run(world, "--out", str(tmp_path / "one")) == 0
    label = world.parent / "data/sift-flow/SemanticLabels" / SCENES / "e.mat"
    kept = label.read_bytes()
    save_matrix(label, "S", np.full((48, 72), 40.))
    try:
        assert run(world, "--processes", "2", "--out", str(tmp_path / "two")) == 1
        said = capsys.readouterr().err
        assert "process 2 of 2 ended with status 1. Its last words" in said and "e.mat" in said and "40" in said
    finally:
        label.write_bytes(kept)
    assert run(world, "--processes", "2", "--out", str(tmp_path / "two")) == 0      # goes on
    assert "of 5 images are scored already" in capsys.readouterr().out
    for name in ("images.jsonl", "confusion.json", "score.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert sorted(os.listdir(tmp_path / "two")) == [".lock", "confusion.json", "evaluation.json", "images.jsonl", "pictures",
                                                    "report.html", "score.txt", "settings.json"]


def test_what_a_kill_left_is_used_and_a_line_cut_off_is_not(world, tmp_path, monkeypatch):
    assert run(world, "--out", str(tmp_path / "whole"), "--save") == 0
    job = {"net": str(world / "test.prototxt"), "weights": str(world / "a.caffemodel"), "folder": str(tmp_path / "cut"),
           "shards": [[0, 1, 2], [3, 4]]}
    (tmp_path / "cut").mkdir()
    evaluate.work(job, 0, each=lambda: None)
    rows = tmp_path / "cut/rows-0.jsonl"
    rows.write_text(rows.read_text()[:-40])     # killed while it wrote the third
    shown = []
    real = score.each_image
    monkeypatch.setattr(score, "each_image", lambda net, ids, tasks, places: shown.extend(places) or real(
        net, ids, tasks, places))
    assert run(world, "--out", str(tmp_path / "cut"), "--save") == 0
    assert shown == [2, 3, 4]
    for name in ("images.jsonl", "confusion.json", "score.txt"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert run(world, "--out", str(tmp_path / "cut"), "--save") == 0 and shown == [2, 3, 4]     # done already


def test_damaged_rows_are_scored_again_and_damaged_settings_are_named(world, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(world, "--out", str(out), "--save") == 0
    whole = (out / "images.jsonl").read_bytes()
    lines = whole.splitlines(True)
    spoiled = [b"[1]\n", lines[1].replace(b'"cells": [[', b'"cells": [["'),
               lines[2].replace(b'"classes": 33', b'"classes": 3'),
               lines[3].replace(b'"id": "d"', b'"id": "\xff"'), lines[4].replace(b'"place"', b'"plaze"')]
    assert not set(spoiled) & set(lines)
    (out / "images.jsonl").write_bytes(b"".join(spoiled))
    (out / "evaluation.json").unlink()
    assert run(world, "--out", str(out), "--save") == 0
    assert (out / "images.jsonl").read_bytes() == whole
    for text in ("{", "[1]"):
        (out / "settings.json").write_text(text)
        assert run(world, "--out", str(out)) == 1
        assert f"{out}/settings.json: not what an evaluation was begun with" in capsys.readouterr().err


def test_an_evaluation_belongs_to_its_weights(world, tmp_path, capsys):
    assert run(world, "--out", str(tmp_path / "out")) == 0
    assert run(world, "--out", str(tmp_path / "out"), weights="b.caffemodel") == 1
    assert "holds an evaluation whose sha256 is" in capsys.readouterr().err
    assert run(world, "--out", str(tmp_path / "out"), "--fresh", weights="b.caffemodel") == 0
    assert (tmp_path / "out.1/evaluation.json").exists()
    assert confusion(tmp_path / "out") != confusion(tmp_path / "out.1")


def test_weights_as_hdf5_and_the_default_folder(world, tmp_path, capsys):
    net = caffe.Net(str(world / "test.prototxt"), str(world / "a.caffemodel"), caffe.TEST)
    net.save_hdf5(str(world / "a.caffemodel.h5"))
    assert run(world, weights="a.caffemodel.h5") == 0
    assert run(world) == 0
    assert confusion(world / "run/evaluation-a.caffemodel") == confusion(world / "run/evaluation-a")
    (world / "a_h5").write_bytes((world / "a.caffemodel.h5").read_bytes())
    assert run(world, "--out", str(tmp_path / "out"), weights="a_h5") == 1
    assert "rename it to end in .h5" in capsys.readouterr().err


def test_the_published_figures_are_beside_ours(world, tmp_path, monkeypatch):
    import published
    entry = published.find("siftflow-fcn16s")[0]
    monkeypatch.setitem(published.TABLE, ("siftflow-fcn16s", None), [entry._replace(images=5, figures={"mean_iu": 99.9})])
    assert run(world, "--out", str(tmp_path / "out")) == 0
    verdict, = figures(tmp_path / "out")["verdicts"]
    assert verdict["verdict"] == "below" and verdict["published"] == 99.9 and verdict["tolerance"] == 0.6
    assert "published 99.9" in (tmp_path / "out/score.txt").read_text()


def test_a_run_is_evaluated_with_its_net_and_its_best_weights(tmp_path):
    experiment = made.voc(tmp_path)
    folder = experiment / "run/set"
    (folder / "snapshot").mkdir(parents=True)
    (folder / "solver.prototxt").write_text('train_net: "train.prototxt"\ntest_net: "val.prototxt"\n')
    (folder / "run.json").write_text('{"variant": "fixed"}')
    made.weights(experiment / "val.prototxt", folder / "best.caffemodel", 1)
    what = subject.find(str(folder))
    assert what.net == str(experiment / "val.prototxt") and what.experiment == "voc-fcn32s" and what.variant == "fixed"
    before = os.getcwd()
    try:
        assert evaluate.main([str(folder)]) == 0
    finally:
        os.chdir(before)
    held = figures(folder / "evaluation")
    assert held["tasks"][0]["classes"] == [f"<class {i}>" for i in range(5)]
    assert sorted({entry["kind"] for entry in held["pictures"]}) == ["best", "worst"]
    assert (folder / "evaluation/pictures/label-worst0-truth.jpg").exists()
    page = (folder / "evaluation/report.html").read_text()
    assert "&lt;class 3&gt;" in page and "<class 3>" not in page and page.count("data:image/jpeg") == 15


@pytest.mark.parametrize("names, variant, found", [
    (["val.prototxt", "train.prototxt"], None, "val.prototxt"), (["val.prototxt"], "fixed", "val.prototxt"),
    (["color-test.prototxt", "color-hha-test.prototxt"], "color-hha", "color-hha-test.prototxt"),
    (["fcn8s_val.prototxt", "fcn16s_val.prototxt"], "fcn8s", "fcn8s_val.prototxt")])
def test_which_net_of_an_experiment(tmp_path, names, variant, found):
    for name in [*names, "weights.caffemodel"]:
        (tmp_path / name).write_text("")
    assert subject.find(str(tmp_path), str(tmp_path / "weights.caffemodel"), variant).net == str(tmp_path / found)


@pytest.mark.parametrize("names, arguments, words", [
    ([], ["nowhere", "w"], "nowhere: no such folder or file"),
    (["x.caffemodel"], [".", "x.caffemodel"], "no val.prototxt or test.prototxt; name the folder of an experiment"),
    (["hha-test.prototxt", "x"], [".", "x"], "the variants hha; name one with --variant"),
    (["val.prototxt"], ["."], "say which weights"), (["val.prototxt"], [".", "none.caffemodel"], "none.caffemodel: no such"),
    (["val.prototxt", "x"], [".", "x"], "no SoftmaxWithLoss layer"),
    (["val.prototxt", "x"], [".", "x", "--processes", "0"], "--processes is 0")])
def test_what_cannot_be_evaluated(tmp_path, monkeypatch, capsys, names, arguments, words):
    for name in names:
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    assert evaluate.main(arguments) == 1
    assert words in capsys.readouterr().err


def test_weights_that_lack_a_layer(world, tmp_path, capsys):
    import caffemodel
    layers = [layer for layer in caffemodel.read(str(world / "a.caffemodel")) if layer.name != "score_fr_geo"]
    caffemodel.write(str(world / "less.caffemodel"), layers)
    assert run(world, "--out", str(tmp_path / "out"), weights="less.caffemodel") == 1
    assert "has no weights for score_fr_geo" in capsys.readouterr().err
    assert run(world, "--out", str(tmp_path / "out")) == 0      # nothing had been scored, so it does not stand in the way


def test_shares_are_runs_of_neighbours():
    assert evaluate.shared_out([0, 1, 2, 5, 6, 7, 8], 3) == [[0, 1], [2, 5], [6, 7, 8]]
