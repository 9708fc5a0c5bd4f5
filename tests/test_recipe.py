"""solve.py from end to end on narrow nets: base weights, first loss, resume after kills, what is said and left behind."""

import errno
import fcntl
import json
import math
import random
import re
import shutil
import time
from pathlib import Path

import baseweights
import caffemodel
import infer
import numpy as np
import pytest
import recipe
from segfiles_for_tests import ROOT, save_label
from solving import data_set, repository, solve

STABLE = ("iteration", "loss", "overall_acc", "mean_acc", "mean_iu", "fwavacc", "mean_iu_present", "acc", "iu", "sha256",
          "weights", "caffe", "version", "device")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def repo(tmp_path) -> Path:
    return repository(tmp_path / "repo")


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def short(repo, data, *more, name="voc-fcn32s", steps=2, rounds=2, **how):
    """A training of a few steps from a random trunk, or from what `more` says."""
    start = () if "--weights" in more or name != "voc-fcn32s" else ("--weights", "random")
    return solve(repo / name / "solve.py", "--data", data, "--steps", steps, "--rounds", rounds, *start, *more, **how)


# -- a whole training -------------------------------------------------------------------------------------------------
def test_the_staircase_from_any_folder(repo, data, tmp_path):
    """32s from a random trunk, 16s from it, 8s from that; each finds the one before, counts what it took, scores."""
    done, said = short(repo, data, cwd=tmp_path)
    assert done == 0, said
    assert "is RANDOM" in said
    first = re.search(r"first loss = (\S+) = (\d+) valid pixels x ln 5 = (\S+); Caffe printed ([\d.]+)", said)
    pixels = 20 * 13  # the first of 14 rows is border
    assert int(first[2]) == pixels and first[1] == first[3] == "%.6g" % (pixels * math.log(5))
    assert float(first[4]) == pytest.approx(pixels * math.log(5), rel=1e-4)  # Caffe adds in single precision
    for name, base, kept, left in (("voc-fcn16s", "voc-fcn32s", 16, "upscore2, score_pool4, upscore16"),
                                   ("voc-fcn8s", "voc-fcn16s", 18, "upscore_pool4, score_pool3, upscore8")):
        done, said = short(repo, data, name=name, cwd=tmp_path)
        assert done == 0, said
        assert f"{base}/run/set/best.caffemodel (the best that python" in said
        assert re.search(rf"copied +{kept} layers", said) and f"left     3 layers: {left}" in said
        assert re.search(r"first loss = \S+ is not 260 valid pixels x ln 5 = 418.454: the weights bring score layers", said)
    run = repo / "voc-fcn8s/run/set"
    assert [row["iteration"] for row in rows(run)] == [2, 4]
    assert all(set(STABLE) <= set(row) for row in rows(run))
    assert "class 4" in (run / "score.txt").read_text() and "mean IU" in said
    log = (run / "train.log").read_text()
    assert re.search(r"^I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ solver\.cpp:\d+\] Iteration 0 .*, loss = ", log, re.M)
    assert re.search(r"^I\d{4} \S+ +\d+ \S+\] Solving run/set$", log, re.M)
    assert "first loss" in log and "Iteration 0" not in said  # Caffe's own lines are in the log alone
    assert sorted(p.name.split(".out.")[0] for p in run.iterdir()) == [
        ".lock", "best.caffemodel", "confusion.json", "deploy.prototxt", "events", "metrics.jsonl", "report.html",
        "run.json", "score.txt", "snapshot", "solver.prototxt", "train.log", "train.prototxt", "val.prototxt"]


def test_best_is_the_snapshot_of_the_best_row_and_old_ones_go(repo, data):
    done, said = short(repo, data, "--keep", 1, steps=1, rounds=4)
    assert done == 0, said
    run = repo / "voc-fcn32s/run/set"
    best = max(rows(run), key=lambda row: (row["mean_iu"], -row["iteration"]))
    assert baseweights.sha256(str(run / "best.caffemodel")) == best["sha256"]
    assert sorted(p.name for p in (run / "snapshot").iterdir()) == ["train_iter_4.caffemodel", "train_iter_4.solverstate"]
    done, said = short(repo, data, "--keep", 0, "--run", "all", steps=1, rounds=3)
    assert done == 0 and len(list((repo / "voc-fcn32s/run/all/snapshot").iterdir())) == 6


def test_done_already_and_more_rounds_and_fresh(repo, data):
    assert short(repo, data)[0] == 0
    done, said = short(repo, data)
    assert done == 0 and "done already: 4 iterations" in said
    done, said = short(repo, data, rounds=3)
    assert done == 0 and "iteration 4 of 6" in said
    assert [row["iteration"] for row in rows(repo / "voc-fcn32s/run/set")] == [2, 4, 6]
    done, said = short(repo, data, "--fresh", rounds=1)
    assert done == 0 and "the earlier run is" in said
    assert [row["iteration"] for row in rows(repo / "voc-fcn32s/run/set")] == [2]
    assert [row["iteration"] for row in rows(repo / "voc-fcn32s/run/set.1")] == [2, 4, 6]


# -- killed -----------------------------------------------------------------------------------------------------------
def same_end(one: Path, other: Path) -> None:
    """Both runs ended with the same bits: last snapshot, best weights, figures."""
    for name in ("best.caffemodel", "snapshot/train_iter_12.caffemodel", "snapshot/train_iter_12.solverstate"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert [[row[key] for key in STABLE] for row in rows(one)] == [[row[key] for key in STABLE] for row in rows(other)]


def test_killed_at_ten_random_moments_it_ends_where_it_would_have_ended(repo, data, tmp_path):
    """Dropout is on and the order of images random: both are wound on to where the snapshot was taken."""
    how = dict(steps=2, rounds=6)
    begun = time.monotonic()
    assert short(repo, data, **how)[0] == 0
    took = time.monotonic() - begun
    whole = repo / "voc-fcn32s/run/set"
    other = repository(tmp_path / "other", ["voc-fcn32s"])
    run = other / "voc-fcn32s/run/set"
    rng, kills, resumed = random.Random(0), 0, 0
    while kills < 10:
        done, said = short(other, data, kill_after=rng.uniform(0.05, took), **how)
        resumed += "goes on from" in said
        if done == 0:   # it came to its end before it was to be killed: begin another
            same_end(whole, run)
            shutil.rmtree(run)
        else:
            assert done == -9, said
            kills += 1
    done, said = short(other, data, **how)
    assert done == 0, said
    assert resumed > 0
    same_end(whole, run)
    assert not list(run.glob("**/*.partial*")) and not list(run.glob("**/*.tmp*"))


def test_a_scoring_that_was_lost_is_done_again_and_a_damaged_snapshot_passed_over(repo, data):
    how = dict(steps=2, rounds=6)
    assert short(repo, data, "--keep", 0, **how)[0] == 0
    run, whole = repo / "voc-fcn32s/run/set", repo / "voc-fcn32s/run/whole"
    shutil.copytree(run, whole)
    for i in (8, 10):  # as after a kill in the scoring at 6
        for end in ("caffemodel", "solverstate"):
            (run / f"snapshot/train_iter_{i}.{end}").unlink()
    broken = run / "snapshot/train_iter_12.caffemodel"
    broken.write_bytes(broken.read_bytes()[:-100])
    (run / "metrics.jsonl").write_text("".join((run / "metrics.jsonl").read_text().splitlines(True)[:2]))
    done, said = short(repo, data, "--keep", 0, **how)
    assert done == 0, said
    assert "snapshot of iteration 12 is incomplete and is removed" in said
    assert "goes on from run/set/snapshot/train_iter_6" in said
    same_end(whole, run)


def test_what_a_kill_left_half_written_goes_and_an_old_file_that_is_damaged_ends_no_training(repo, data):
    assert short(repo, data, steps=1, rounds=1)[0] == 0
    run = repo / "voc-fcn32s/run/set"
    for name in ("report.html.123.partial", "train.prototxt.abc.partial"):
        (run / name).touch()
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"seconds"', '"secnods"'))
    done, said = short(repo, data, steps=1, rounds=2)
    assert done == 0, said
    assert "WARNING: no report" in said and "metrics.jsonl" in said
    assert not list(run.glob("*.partial"))


def test_two_at_once_are_refused(repo, data):
    run = repo / "voc-fcn32s/run/set"
    run.mkdir(parents=True)
    with open(run / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done, said = short(repo, data)
    assert done == 1 and "another process trains here" in said and "--run" in said


# -- names and records -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", "", "/tmp/x"])
def test_a_run_has_a_plain_name(repo, data, name):
    """--run .. --fresh would move the experiment's folder."""
    done, said = short(repo, data, "--run", name, "--fresh")
    assert done == 2 and "is no plain name for a folder" in said
    assert sorted(p.name for p in (repo / "voc-fcn32s").iterdir()) == [
        "caffemodel-url", "console.txt", "cvpr-solver.prototxt", "net.py", "solve.py", "solver.prototxt"]


@pytest.mark.parametrize(("text", "said_of_it"), [
    ("", "Expecting value"), ("[]", "wanted a dictionary"), ('{"weights": []}', "it lacks data, variant, learning"),
    ('{"weights": "x", "data": null}', "a list of weights"), ("{", "Expecting property name")])  # fmt: skip
def test_a_damaged_record_is_named(repo, data, text, said_of_it):
    run = repo / "voc-fcn32s/run/set"
    run.mkdir(parents=True)
    (run / "run.json").write_text(text)
    done, said = short(repo, data)
    assert done == 1 and f"{run}/run.json: not the record of a run" in said and said_of_it in said
    assert "--fresh" in said and "Traceback" not in said


def test_damaged_metrics_are_named(repo, data):
    assert short(repo, data, steps=1, rounds=1)[0] == 0
    metrics = repo / "voc-fcn32s/run/set/metrics.jsonl"
    for line, words in (('{"iteration": 1}', "no number mean_iu"), ('{"iter', "not a line of metrics"),
                        ('{"iteration": 1, "mean_iu": 0.5}', "no number overall_acc")):
        metrics.write_text(line + "\n")
        done, said = short(repo, data, steps=1, rounds=2)
        assert done == 1 and f"{metrics}:1: " in said and words in said and "remove it" in said


def test_the_record_says_what_it_was_begun_with(repo, data):
    assert short(repo, data, steps=1, rounds=1)[0] == 0
    run = repo / "voc-fcn32s/run/set"
    record = json.loads((run / "run.json").read_text())
    assert (record["experiment"], record["run"], record["data"]) == ("voc-fcn32s", "set", str(data))
    assert record["weights"] == [{"file": "random", "sha256": None, "suffix": ""}]
    assert record["nets"] == {name: baseweights.sha256(str(run / f"{name}.prototxt")) for name in ("train", "val")}
    assert record["versions"]["numpy"] == np.__version__ and record["versions"]["torch"] and record["caffe"] == "torch"
    assert record["resumed"] == []
    net = repo / "voc-fcn32s/net.py"
    net.write_text(net.read_text() + "\n\ndef fcn(data, classes, **options):\n"
                   "    net = wide(data, classes, widths=(4, 4, 4, 4, 4, 8))\n"
                   "    net.layer[-1].name = 'other'\n    return net\n")
    done, said = short(repo, data, steps=1, rounds=2)
    assert done == 0 and "run/set/train.prototxt" in said and "the net is another than this run was begun with" in said
    assert [entry["iteration"] for entry in json.loads((run / "run.json").read_text())["resumed"]] == [1]


def test_errors_of_files_name_the_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = recipe.message(PermissionError(errno.EACCES, "Permission denied", "run/voc/train.log"))
    assert said.startswith(f"{tmp_path}/run/voc/train.log: Permission denied; make it writable")
    said = recipe.message(OSError(errno.ENOSPC, "No space left on device", "x"))
    assert said == f"{tmp_path}/x: No space left on device; the disk is full: free some space, then run again"
    assert recipe.message(OSError("a.jpg: no such image; put it there")) == "a.jpg: no such image; put it there"


# -- base weights -----------------------------------------------------------------------------------------------------
def test_without_base_weights_it_says_where_it_looked(repo, data):
    done, said = solve(repo / "voc-fcn16s/solve.py", "--data", data)
    assert done == 1
    for place in ("voc-fcn32s/run/set/best.caffemodel", "voc-fcn32s/voc-fcn32s.caffemodel",
                  "voc-fcn32s/fcn32s-heavy-pascal.caffemodel (as released: http", "--weights random"):
        assert place in said, said
    # it looks before it builds nets, which takes minutes at full width
    assert not (repo / "voc-fcn16s/run/set/solver.prototxt").exists()
    done, said = solve(repo / "voc-fcn32s/solve.py", "--data", data)
    assert done == 1 and "ilsvrc-nets/vgg16-fcn.caffemodel" in said and "VGG_ILSVRC_16_layers.caffemodel" in said
    assert "Traceback" not in said


def test_a_net_of_ones_own_data_segments_photographs(repo, data, tmp_path, capsys):
    assert short(repo, data)[0] == 0
    run = repo / "voc-fcn32s/run/set"
    photo = sorted((data / "JPEGImages").glob("*.jpg"))[0]
    assert infer.main(["--net", str(run / "deploy.prototxt"), "--weights", str(run / "best.caffemodel"),
                       str(photo), "--out", str(tmp_path / "out")]) == 0
    assert "(set/val.prototxt)" in capsys.readouterr().out and (tmp_path / f"out/{photo.stem}.png").exists()


def test_released_names_and_the_newest_snapshot_are_found(repo, data):
    assert short(repo, data)[0] == 0
    run = repo / "voc-fcn32s/run/set"
    (run / "best.caffemodel").rename(repo / "voc-fcn32s/fcn32s-heavy-pascal.caffemodel")
    done, said = short(repo, data, name="voc-fcn16s", rounds=1)
    assert done == 0 and "snapshot/train_iter_4.caffemodel (its newest snapshot)" in said
    shutil.rmtree(run)
    done, said = short(repo, data, "--run", "b", name="voc-fcn16s", rounds=1)
    assert done == 0 and "fcn32s-heavy-pascal.caffemodel (as released: http" in said


def test_a_stock_classifier_is_made_convolutional(repo, data):
    assert short(repo, data)[0] == 0
    layers = caffemodel.read(str(repo / "voc-fcn32s/run/set/best.caffemodel"))
    stock = [(name, "InnerProduct", [blobs[0].reshape(len(blobs[0]), -1), *blobs[1:]]) if name.startswith("fc")
             else (name, kind, blobs) for name, kind, blobs, _ in layers if not name.startswith(("score", "up"))]
    (repo / "ilsvrc-nets").mkdir()
    caffemodel.write(str(repo / "ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel"), stock)
    done, said = solve(repo / "voc-fcn32s/solve.py", "--data", data, "--steps", 1, "--rounds", 1, "--run", "c")
    assert done == 0, said
    assert "made from" in said and re.search(r"copied +15 layers", said) and "left     2 layers: score_fr, upscore" in said
    assert "valid pixels x ln 5" in said and "is not" not in said.split("first loss")[1].splitlines()[0]


def test_weights_of_another_number_of_classes(repo, data, tmp_path):
    """For data of one's own the head begins anew, which is said; a net that is not made for the data refuses."""
    assert short(repo, data)[0] == 0
    three = data_set(tmp_path / "three", classes=3)
    base = repo / "voc-fcn32s/run/set/best.caffemodel"
    done, said = short(repo, three, "--weights", base)
    assert done == 0, said
    assert "dropped  2 layers: score_fr, upscore" in said and "left     2 layers: score_fr, upscore" in said
    net = repo / "voc-fcn32s/run/three"
    for name in ("train", "val"):
        shutil.copy(net / f"{name}.prototxt", repo / "voc-fcn32s")
    done, said = solve(repo / "voc-fcn32s/solve.py", "--weights", base, "--steps", 1, "--rounds", 1)
    assert done == 1
    assert "layer 'score_fr'" in said and "(5, 8, 1, 1)" in said and "(3, 8, 1, 1)" in said and "rename the layer" in said


def test_a_run_belongs_to_its_data_and_weights(repo, data, tmp_path):
    assert short(repo, data)[0] == 0
    other = data_set(tmp_path / "elsewhere" / "set")
    done, said = short(repo, other)
    assert done == 1 and str(other) in said and str(data) in said and "--fresh" in said
    (repo / "x.caffemodel").touch()
    done, said = short(repo, data, "--weights", repo / "x.caffemodel")
    assert done == 1 and "was begun with weights random" in said


# -- what is wrong is said --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("damage", "message"), [
    (lambda f: f.write_bytes(f.read_bytes()[:-1000]), "it is damaged: copy or fetch it again"),
    (lambda f: f.unlink(), "no such file; wanted a caffemodel"),
    (lambda f: f.write_bytes(b""), "it is empty")])  # fmt: skip
def test_damaged_base_weights(repo, data, damage, message):
    assert short(repo, data)[0] == 0
    base = repo / "base.caffemodel"
    shutil.copy(repo / "voc-fcn32s/run/set/best.caffemodel", base)
    damage(base)
    done, said = short(repo, data, "--weights", base, "--run", "other")
    assert done == 1 and message in said and str(base) in said and "Traceback" not in said
    assert not list((repo / "voc-fcn32s/run/other").glob("snapshot/*"))


def test_no_data_set(repo, tmp_path):
    done, said = short(repo, tmp_path / "nothing")
    assert done == 1 and str(tmp_path / "nothing") in said and "JPEGImages/" in said and "there is no such folder" in said
    lists = tmp_path / "half/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\n")
    done, said = short(repo, tmp_path / "half")
    assert done == 1 and "train.txt (there are trainval.txt)" in said


def test_the_committed_nets_without_their_data_say_where_it_comes_from(repo, data, monkeypatch, tmp_path):
    for name in ("train", "val"):
        shutil.copy(ROOT / "voc-fcn32s" / f"{name}.prototxt", repo / "voc-fcn32s")
    if (ROOT / "data/sbdd").exists():
        pytest.skip("the data set is on this machine")
    done, said = solve(repo / "voc-fcn32s/solve.py", "--weights", "random")
    assert done == 1 and "data/sbdd/dataset/train.txt" in said and "python data/pascal/prepare.py" in said


def test_a_label_out_of_range_and_an_image_that_is_none(repo, tmp_path):
    bad = data_set(tmp_path / "bad", train=1)
    label = np.zeros((14, 20), np.uint8)
    label[3, 4] = 77
    save_label(bad / "SegmentationClass/t0.png", label)
    done, said = short(repo, bad)
    assert done == 1 and "t0.png: label value 77 (1 pixels); wanted 0..4, or 255" in said
    (bad / "JPEGImages/t0.jpg").write_text("no image")
    done, said = short(repo, bad)
    assert done == 1 and "t0.jpg: not a readable image" in said
    assert not list((repo / "voc-fcn32s/run/bad/snapshot").iterdir())


@pytest.mark.parametrize(("typo", "message"), [
    (("num_output: 4", "num_outputs: 4"), "Did you mean num_output?"),
    (('type: "Crop"', 'type: "Corp"'), "layer 'score' has the type 'Corp', which this Caffe does not have; did you mean"),
    (("top: ", "topp: "), "Did you mean top?")])  # fmt: skip
def test_a_prototxt_with_a_typo(repo, data, typo, message):
    assert short(repo, data, rounds=1)[0] == 0
    for name in ("train", "val"):
        text = (repo / "voc-fcn32s/run/set" / f"{name}.prototxt").read_text()
        (repo / "voc-fcn32s" / f"{name}.prototxt").write_text(text.replace(*typo))
    done, said = solve(repo / "voc-fcn32s/solve.py", "--weights", "random")
    assert done == 1 and "train.prototxt" in said and message in said and "Traceback" not in said


def test_a_loss_that_is_not_finite_ends_it(repo, data):
    solver = repo / "voc-fcn32s/solver.prototxt"
    solver.write_text(solver.read_text().replace("base_lr: 1e-6", "base_lr: 1e+4"))
    done, said = short(repo, data, steps=8)
    assert done == 1 and re.search(r"the loss is (nan|inf) at iteration \d", said) and "lower base_lr" in said


def test_surgery_that_was_forgotten_is_refused(repo, data):
    script = repo / "voc-fcn32s/solve.py"
    script.write_text(script.read_text().replace("surgery.interp(", "(lambda *_: None)("))
    done, said = short(repo, data)
    assert done == 1 and "all weights are zero" in said and "upscore" in said


def test_no_room_on_the_disk(repo, data):
    script = repo / "voc-fcn32s/solve.py"
    script.write_text(script.read_text().replace("def solve():", (
        "import os, snapshots\n"
        "class Full(object):\n"
        "    f_bavail, f_frsize = 10, 4096\n"
        "os.statvfs = lambda folder: Full\n\n\ndef solve():")))  # fmt: skip
    done, said = short(repo, data)
    assert done == 1 and "0.0 MB free on this disk, a snapshot needs 1." in said and "--keep" in said
    assert not list((repo / "voc-fcn32s/run/set/snapshot").iterdir())


def test_arguments_out_of_range(repo, data):
    for option in ("--steps", "--rounds"):
        done, said = solve(repo / "voc-fcn32s/solve.py", "--data", data, option, 0)
        assert done == 1 and f"{option} is 0; wanted 1 or more" in said


def test_solve_py_is_as_short_as_the_original():
    for name in ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s"):
        code = [line for line in (ROOT / name / "solve.py").read_text().splitlines() if line.strip()]
        assert len(code) <= 30, name
