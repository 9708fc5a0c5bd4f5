"""Each experiment from its solve.py to its score, narrow, on a few images in the exact formats of its data set."""

import json
import math
import re
import shutil
from pathlib import Path

import caffemodel
import numpy as np
import pytest
from segfiles_for_tests import write_context, write_nyud, write_sbd, write_siftflow, write_voc
from solving import repository, solve
from test_recipe import rows

EXPERIMENTS = ["voc-fcn32s", "voc-fcn16s", "voc-fcn8s", "voc-fcn8s-atonce", "voc-fcn-alexnet", "voc-fcn-googlenet",
               "siftflow-fcn32s", "siftflow-fcn16s", "siftflow-fcn8s", "nyud-fcn32s",
               "pascalcontext-fcn32s", "pascalcontext-fcn16s", "pascalcontext-fcn8s"]  # fmt: skip
SIZE = (20, 14)
PIXELS = 20 * 14
ONCE = dict(steps=1, rounds=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data root with every data set, four images to train on and two to be scored with."""
    root = tmp_path_factory.mktemp("data")
    train, val = [f"t{i}" for i in range(4)], ["v0", "v1"]
    write_sbd(root / "sbdd/dataset", train, size=SIZE)
    write_voc(root / "pascal/VOC2011", val, "seg11valid", size=SIZE)
    write_context(root, train, "train", size=SIZE)
    write_context(root, val, "val", size=SIZE, seed=1)
    for write, name in ((write_siftflow, "sift-flow"), (write_nyud, "nyud")):
        write(root / name, train, "trainval", size=SIZE)
        write(root / name, val, "test", size=SIZE, seed=1)
    return root


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Path:
    return repository(tmp_path_factory.mktemp("repo") / "repo", EXPERIMENTS, committed=True)


def short(repo: Path, data: Path, name: str, *more, steps=2, rounds=2, **how) -> tuple[int, str]:
    return solve(repo / name / "solve.py", "--steps", steps, "--rounds", rounds, *more, env={"FCN_DATA": str(data)}, **how)


def first_loss(said: str) -> tuple[float, list[tuple[int, int]], float]:
    """(exact first loss, [(valid pixels, classes) of each task], what these give), as the recipe says."""
    found = re.search(r"first loss = (\S+) = ((?:\d+ valid pixels x ln \d+(?: \+ )?)+) = (\S+); Caffe printed", said)
    assert found, said
    terms = [(int(p), int(c)) for p, c in re.findall(r"(\d+) valid pixels x ln (\d+)", found[2])]
    return float(found[1]), terms, float(found[3])


def summed(terms: list[tuple[int, int]]) -> float:
    return float("%.6g" % sum(pixels * math.log(classes) for pixels, classes in terms))


# -- every experiment -------------------------------------------------------------------------------------------------
def test_siftflow_learns_two_tasks_in_three_stages(repo, data):
    done, said = short(repo, data, "siftflow-fcn32s", "--weights", "random", **ONCE)
    assert done == 0, said
    exact, terms, wanted = first_loss(said)
    assert [classes for _, classes in terms] == [33, 3] and all(0 < pixels < PIXELS for pixels, _ in terms)
    assert exact == wanted == summed(terms)
    for name, base, how in (("siftflow-fcn16s", "siftflow-fcn32s", ONCE), ("siftflow-fcn8s", "siftflow-fcn16s", {})):
        done, said = short(repo, data, name, **how)
        assert done == 0, said
        assert f"{base}/run/siftflow/best.caffemodel (the best that" in said and "left     6 layers" in said
    run = repo / "siftflow-fcn8s/run/siftflow"
    assert [row["iteration"] for row in rows(run)] == [2, 4]
    for row in rows(run):
        assert len(row["iu"]) == 33 and len(row["geo"]["iu"]) == 3
        assert row["loss"] != row["geo"]["loss"]  # each task its own, not the semantic one twice
        assert row["mean_iu_present"] >= row["mean_iu"]
    held = json.loads((run / "confusion.json").read_text())
    assert [(task["name"], len(task["hist"])) for task in held["tasks"]] == [("sem", 33), ("geo", 3)]
    text = (run / "score.txt").read_text()
    assert "task sem" in text and "task geo" in text and text.count("mean IU over the classes present") == 2
    assert "siftflow-fcn8s" in (run / "report.html").read_text()


def test_nyud_color_and_hha_are_fused_late(repo, data):
    for variant in ("color", "hha"):
        more = () if variant == "color" else ("--variant", "hha")  # color is the default
        done, said = short(repo, data, "nyud-fcn32s", "--weights", "random", *more, **ONCE)
        assert done == 0, said
        assert first_loss(said)[0] == summed(first_loss(said)[1]) and first_loss(said)[1][0][1] == 40
    start = repo / "start.caffemodel"
    done, said = short(repo, data, "nyud-fcn32s", "--variant", "color-hha", "--run", "s", "--start", start)
    assert done == 0, said
    fused = weights(start)
    for suffix in ("color", "hha"):
        assert f"nyud-{suffix}/best.caffemodel, to layers *{suffix}: " in said
        held = weights(repo / f"nyud-fcn32s/run/nyud-{suffix}/best.caffemodel")
        for name in ("conv1_1", "fc7", "score_fr"):
            assert np.array_equal(fused[name + suffix][0], held[name][0])
    # 15 of the trunk and the scores; the sources' upscore has no place
    assert said.count("copied  16 layers") == 2 and said.count("dropped  1 layers: upscore") == 2 and "left  " not in said
    done, said = short(repo, data, "nyud-fcn32s", "--variant", "color-hha", **ONCE)
    assert done == 0, said
    record = json.loads((repo / "nyud-fcn32s/run/nyud-color-hha/run.json").read_text())
    assert [entry["suffix"] for entry in record["weights"]] == ["color", "hha"] and record["variant"] == "color-hha"
    done, said = short(repo, data, "nyud-fcn32s", "--variant", "color-hha-16s", "--start", start)
    assert done == 0, said
    assert "run/nyud-color-hha/best.caffemodel (the best that" in said and "left     4 layers: upscore2" in said


def test_late_fusion_without_its_two_nets_says_where_it_looked_before_it_builds_anything(tmp_path, data):
    repo = repository(tmp_path / "repo", ["nyud-fcn32s"], committed=True)
    done, said = short(repo, data, "nyud-fcn32s", "--variant", "color-hha")
    assert done == 1 and "run/nyud-color/best.caffemodel" in said
    assert "nyud-fcn32s-color-heavy.caffemodel (as released: http" in said
    assert "Initializing solver" not in (repo / "nyud-fcn32s/run/nyud-color-hha/train.log").read_text()


def weights(path: Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.blobs for layer in caffemodel.read(str(path))}


def vgg(repo: Path, source: Path) -> Path:
    """ilsvrc-nets/vgg16-fcn.caffemodel, of the weights of a narrow net; returned."""
    path = repo / "ilsvrc-nets/vgg16-fcn.caffemodel"
    path.parent.mkdir(exist_ok=True)
    caffemodel.write(str(path), [layer for layer in caffemodel.read(str(source))
                                 if not layer.name.startswith(("score", "up"))])  # fmt: skip
    return path


def test_early_fusion_starts_with_the_mean_of_the_colours_for_depth(tmp_path, data):
    repo = repository(tmp_path / "repo", ["voc-fcn32s", "nyud-fcn32s"], committed=True)
    assert short(repo, data, "voc-fcn32s", "--weights", "random", **ONCE)[0] == 0
    held = weights(vgg(repo, repo / "voc-fcn32s/run/voc/best.caffemodel"))["conv1_1"]
    done, said = short(repo, data, "nyud-fcn32s", "--variant", "color-d", "--start", repo / "start.caffemodel")
    assert done == 0, said
    assert "dropped  1 layers: conv1_1" in said and "first 3 of 4 inputs" in said
    new = weights(repo / "start.caffemodel")["conv1_1_bgrd"]
    assert np.array_equal(new[0][:, :3], held[0]) and np.array_equal(new[1], held[1])
    assert np.allclose(new[0][:, 3], held[0].mean(1), rtol=1e-6)  # a sum of three in another order
    assert not (repo / "nyud-fcn32s/run/nyud-color-d/metrics.jsonl").exists()  # --start ends there
    done, said = short(repo, data, "nyud-fcn32s", "--variant", "color-d", **ONCE)
    assert done == 0 and first_loss(said)[1][0][1] == 40, said


def test_context_is_scored_with_and_without_background(repo, data):
    done, said = short(repo, data, "pascalcontext-fcn32s", "--weights", "random", **ONCE)
    assert done == 0, said
    exact, terms, wanted = first_loss(said)
    assert terms == [(PIXELS, 60)] and exact == wanted == summed(terms)  # nothing is ignored
    run = repo / "pascalcontext-fcn32s/run/pascalcontext"
    row = rows(run)[-1]
    assert len(row["iu"]) == 60 and 0 <= row["foreground"]["mean_iu_present"] <= 1
    assert row["foreground"]["mean_iu_present"] != row["mean_iu_present"]
    assert "without class 0, best: mean IU" in (run / "score.txt").read_text()
    done, said = short(repo, data, "pascalcontext-fcn16s", **ONCE)
    assert done == 0, said
    done, said = short(repo, data, "pascalcontext-fcn8s", "--start", repo / "start.caffemodel")
    assert done == 0 and "pascalcontext-fcn16s/run/pascalcontext/best.caffemodel (the best" in said


@pytest.mark.parametrize("name", ["voc-fcn8s-atonce", "voc-fcn-alexnet", "voc-fcn-googlenet"])
def test_the_other_nets_of_voc(repo, data, name):
    done, said = short(repo, data, name, "--weights", "random", steps=1, rounds=1)
    assert done == 0, said
    if name == "voc-fcn8s-atonce":
        assert first_loss(said)[1] == [(PIXELS, 21)] and first_loss(said)[0] == summed([(PIXELS, 21)])  # SBD: no border
        scales = weights(repo / name / "run/voc/best.caffemodel")
        assert np.unique(scales["scale_pool4"][0]) == np.float32(0.01)
        assert np.unique(scales["scale_pool3"][0]) == np.float32(0.0001)
    else:
        assert "learning (accumulation): 20 images a step, momentum 0.9 (0.9947 an image)" in said
        assert "which is the mean over pixels" in said
        # of the last of the 20 images of the first step, for which all scores are zero, too
        assert "first loss = 3.04452 = the mean of ln 21 = 3.04452; Caffe printed 3.0445" in said


# -- killed -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "variant"), [("siftflow-fcn32s", None), ("nyud-fcn32s", "color-hha")])
def test_killed_it_ends_where_it_would_have_ended(tmp_path, data, name, variant):
    """A net of two tasks, and one of two inputs, killed once it has taken its first snapshot."""
    more = ("--weights", "random", *(("--variant", variant) if variant else ()))
    ends = []
    for killed in (False, True):
        repo = repository(tmp_path / str(killed), [name], committed=True)
        run = repo / name / "run" / ("nyud-color-hha" if variant else "siftflow")
        if killed:
            done, said = short(repo, data, name, *more, kill_when=run / "snapshot/train_iter_2.solverstate")
            assert done == -9, said
        done, said = short(repo, data, name, *more)
        assert done == 0 and ("goes on from" in said) == killed, said
        ends.append(((run / "snapshot/train_iter_4.solverstate").read_bytes(), [
            (row["loss"], row["mean_iu"], row.get("geo", {}).get("mean_iu")) for row in rows(run)]))
        resumed = json.loads((run / "run.json").read_text())["resumed"]
        assert [entry["iteration"] for entry in resumed] == ([2] if killed else [])
    assert ends[0] == ends[1] and len(ends[0][1]) == 2


# -- ways to learn, and variants --------------------------------------------------------------------------------------
def test_learning_changes_the_solver_alone(repo, data):
    """As many images a round; another folder; base_lr by the ratio of the paper's rates, whatever the loss is."""
    done, said = solve(repo / "voc-fcn32s/solve.py", "--weights", "random", "--rounds", 1, "--learning", "accumulation",
                       "--steps", 1, env={"FCN_DATA": str(data)})
    assert done == 0, said
    assert "learning (accumulation): 20 images a step" in said and "base_lr 5.333e-06" in said
    run = repo / "voc-fcn32s/run/voc-accumulation"
    solver = (run / "solver.prototxt").read_text()
    assert "iter_size: 20" in solver and "momentum: 0.9\n" in solver
    assert json.loads((run / "run.json").read_text())["learning"] == "accumulation"
    done, said = short(repo, data, "voc-fcn32s", "--weights", "random", "--learning", "online", "--run", "voc-accumulation")
    assert done == 1 and "was begun with learning accumulation, now it is online" in said and "--learning as before" in said
    done, said = short(repo, data, "voc-fcn-alexnet", "--weights", "random", "--learning", "heavy", "--start",
                       repo / "a.caffemodel")
    assert done == 0 and "learning (heavy): 1 image a step, momentum 0.99, base_lr 1.875e-05" in said, said


def test_variants_are_emitted_for_the_released_data_and_for_ones_own(repo, data):
    done, said = short(repo, data, "voc-fcn32s", "--weights", "random", "--variant", "fixed", "--steps", 1, "--rounds", 1)
    assert done == 0, said
    run = repo / "voc-fcn32s/run/voc-fixed"
    assert "variant fixed" in (run / "train.prototxt").read_text()
    assert "seg11valid" in (run / "val.prototxt").read_text()
    assert json.loads((run / "run.json").read_text())["variant"] == "fixed"
    done, said = short(repo, data, "voc-fcn32s", "--weights", "random", "--variant", "cvpr", "--steps", 1, "--rounds", 1)
    assert done == 0 and "learning (accumulation)" in said and "base_lr 0.0001" in said and "the mean over pixels" in said
    for name, variant in (("voc-fcn16s", "pool4"), ("voc-fcn8s", "pool3")):  # a solver and base weights of their own
        done, said = short(repo, data, name, "--variant", variant, "--run", "none")
        assert done == 1 and "vgg16-fcn.caffemodel" in said and "voc-fcn32s.caffemodel" not in said, said
        done, said = short(repo, data, name, "--weights", "random", "--variant", variant, "--start", repo / "x.caffemodel")
        text = (repo / name / f"run/voc-{variant}/solver.prototxt").read_text()
        assert done == 0 and text.startswith("# made from") and f"{variant}-solver.prototxt" in text.split("\n")[0], said
    done, said = short(repo, data, "siftflow-fcn32s", "--data", data / "pascal/VOC2011")
    assert done == 1  # it is no data set with a train list, which is said first


def test_two_labels_cannot_come_from_voc_layout(repo, data, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(data / "pascal/VOC2011", own)
    lists = own / "ImageSets/Segmentation"
    shutil.copy(lists / "seg11valid.txt", lists / "train.txt")
    done, said = short(repo, data, "siftflow-fcn32s", "--data", own, "--weights", "random")
    assert done == 1 and "this net reads data, sem, geo" in said and "one label a pixel" in said
