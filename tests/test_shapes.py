"""The demo: its scenes, its nets, its classifier's pictures, and the whole staircase with a handful of steps."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import caffe
import caffemodel
import crop_layers
import dataset
import explain
import numpy as np
import prototxt
import pytest
import scipy.io
import segfiles
from caffe.proto import caffe_pb2
from nets_for_tests import load
from PIL import Image
from segfiles_for_tests import ROOT
from solving import data_set, solve

SOLVERS = ["classifier", "fcn32s", "fcn16s", "fcn8s"]


def module(path: Path):
    spec = importlib.util.spec_from_file_location(path.parent.name + "_" + path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


prepare = module(ROOT / "data/shapes/prepare.py")
crops = module(ROOT / "shapes/crops.py")


def load_solve():
    sys.path.insert(0, str(ROOT / "shapes"))
    try:
        return module(ROOT / "shapes/solve.py")
    finally:
        sys.path.remove(str(ROOT / "shapes"))
        for name in ("net", "crops", "summary"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A data root with a small shapes/."""
    root = tmp_path_factory.mktemp("data")
    prepare.prepare(root / "shapes", train=6, val=3, crops=40, seed=1, say=lambda _: None)
    return root


def label_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


# -- scenes ------------------------------------------------------------------------------------------------------------
def test_scenes_are_in_both_layouts_with_a_border_in_one(drawn):
    shapes, seen = drawn / "shapes", set()
    assert (shapes / "voc/classes.txt").read_text().splitlines()[0] == "background"
    train = (shapes / "sbdd/train.txt").read_text().split()
    assert len(train) == 6 and len((shapes / "voc/ImageSets/Segmentation/val.txt").read_text().split()) == 3
    for name in train:
        voc = label_of(shapes / "voc/SegmentationClass" / f"{name}.png")
        sbd = scipy.io.loadmat(str(shapes / "sbdd/cls" / f"{name}.mat"))["GTcls"][0]["Segmentation"][0]
        assert voc.shape == sbd.shape == (192, 256) and sbd.dtype == np.uint8 and sbd.max() <= 6
        border = voc == 255
        assert 0.001 < border.mean() < 0.2
        np.testing.assert_array_equal(voc[~border], sbd[~border])
        edge = sbd[:, 1:] != sbd[:, :-1]    # wherever two neighbours differ, both are border
        assert border[:, 1:][edge].all() and border[:, :-1][edge].all()
        assert (shapes / "sbdd/img" / f"{name}.jpg").read_bytes() == (shapes / "voc/JPEGImages" / f"{name}.jpg").read_bytes()
        seen |= set(np.unique(sbd))
    assert seen == set(range(7))
    lines = [line.split() for line in (shapes / "crops/train.txt").read_text().splitlines()]
    assert len(lines) == 40 and {int(c) for _, c in lines} == set(range(6))


def test_the_same_numbers_draw_the_same_and_others_do_not(drawn, tmp_path):
    said = []
    prepare.prepare(tmp_path, train=6, val=3, crops=40, seed=1, say=said.append)
    for sub in ("voc/SegmentationClass/train_0005.png", "voc/JPEGImages/val_0002.jpg", "crops/JPEGImages/train_0039.jpg"):
        assert (tmp_path / sub).read_bytes() == (drawn / "shapes" / sub).read_bytes()
    stamp = (tmp_path / "voc/classes.txt").stat().st_mtime_ns
    prepare.prepare(tmp_path, train=6, val=3, crops=40, seed=1, say=said.append)
    assert "are there" in said[-1] and (tmp_path / "voc/classes.txt").stat().st_mtime_ns == stamp
    prepare.prepare(tmp_path, train=2, val=1, crops=10, seed=2, say=said.append)
    sub = "voc/JPEGImages/train_0000.jpg"
    assert (tmp_path / sub).read_bytes() != (drawn / "shapes" / sub).read_bytes()
    assert len((tmp_path / "voc/ImageSets/Segmentation/train.txt").read_text().split()) == 2


def test_a_drawing_that_fails_leaves_nothing_half_done(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare, "write_crops", full)
    assert prepare.main(["--root", str(tmp_path / "shapes"), "--train", "1", "--val", "1", "--crops", "1"]) == 1
    assert "No space left on device; free some disk space" in capsys.readouterr().err
    assert list((tmp_path / "shapes").iterdir()) == []
    with pytest.raises(SystemExit):
        prepare.main(["--train", "0"])


# -- nets --------------------------------------------------------------------------------------------------------------
def test_committed_prototxts_are_what_net_py_emits():
    nets = load("shapes").nets()
    assert sorted([f"{name}.prototxt" for name in nets] + [f"{name}_solver.prototxt" for name in SOLVERS]) == sorted(
        path.name for path in (ROOT / "shapes").glob("*.prototxt"))  # fmt: skip
    for name, net in nets.items():
        text = (ROOT / "shapes" / f"{name}.prototxt").read_text()
        assert text == prototxt.text(net, header="generated by shapes/net.py"), "run: make nets"


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_name_nets_that_are_there(name):
    solver = prototxt.read(str(ROOT / "shapes" / f"{name}_solver.prototxt"), caffe_pb2.SolverParameter())
    assert (ROOT / "shapes" / solver.train_net).exists() and (ROOT / "shapes" / solver.test_net[0]).exists()
    steps = {stage: steps * rounds for stage, _, _, steps, rounds in load_solve().STAIRCASE}
    assert solver.max_iter == steps.get(name, 700)
    if name != "classifier":
        assert solver.momentum == pytest.approx(0.99) and solver.iter_size == 1 and solver.lr_policy == "fixed"


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_crops_fit_whatever_the_size(stride):
    """All heights that differ modulo 32, the largest stride, and more; widths beside them."""
    real = load("shapes")
    net = real.fcn(stride, real.scenes("val"))
    for height in range(1, 70):
        rows = explain.explain(net, (height, height + 37))
        assert all(min(row.slack) >= 0 for row in rows if row.crop)


def test_the_fixed_net_learns_its_score_layer_alone():
    net = load("shapes").nets()["fcn32s-fixed_train"]
    learning = [layer.name for layer in net.layer if any(param.lr_mult for param in layer.param)]
    assert learning == ["score_fr"]


# -- the classifier's pictures -------------------------------------------------------------------------------------------
def crop_layer(drawn, monkeypatch, **params):
    monkeypatch.setenv("FCN_DATA", str(drawn))
    layer = crop_layers.CropDataLayer.__new__(crop_layers.CropDataLayer)
    values = dict(crop_dir="../data/shapes/crops", split="train", mean=(1.0, 2.0, 3.0), batch_size=4, classes=6, seed=7)
    values.update(params)
    layer.param_str = str(values)
    tops = [Top(), Top()]
    layer.setup([], tops)
    layer.reshape([], tops)
    return layer, tops


class Top:
    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)


def test_pictures_and_classes_of_a_batch(drawn, monkeypatch):
    layer, (data, label) = crop_layer(drawn, monkeypatch, split="val")
    layer.forward([], [data, label])
    lines = (drawn / "shapes/crops/val.txt").read_text().split("\n")
    assert data.data.shape == (4, 3, 112, 112) and label.data.shape == (4,)
    for i in range(4):
        name, c = lines[i].split()
        assert label.data[i] == int(c)
        with Image.open(drawn / "shapes/crops/JPEGImages" / name) as image:
            bgr = np.asarray(image, np.float32)[:, :, ::-1] - np.array((1.0, 2.0, 3.0))
        np.testing.assert_allclose(data.data[i], bgr.transpose(2, 0, 1))


def test_skipping_is_going_on(drawn, monkeypatch):
    layer, tops = crop_layer(drawn, monkeypatch)
    batches = []
    for _ in range(5):
        layer.forward([], tops)
        batches.append(tops[0].data.copy())
    other, tops = crop_layer(drawn, monkeypatch)
    other.skip(3)
    other.forward([], tops)
    np.testing.assert_array_equal(tops[0].data, batches[3])
    assert not np.array_equal(batches[3], batches[4])


def test_a_bad_list_of_pictures(drawn, monkeypatch, tmp_path):
    shutil.copytree(drawn / "shapes", tmp_path / "shapes")
    listed = tmp_path / "shapes/crops/train.txt"
    for line, message in (("train_0000.jpg 6\n", "classes 0..5"), ("train_0000.jpg\n", "wanted `file class`"),
                          ("gone.jpg 1\n", "gone.jpg: no such image; get the data with `python data/shapes/prepare.py`")):
        listed.write_text(line)
        with pytest.raises((ValueError, OSError), match=re.escape(message)):
            crop_layer(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="batch_size is 0"):
        crop_layer(drawn, monkeypatch, batch_size=0)


def test_windows_are_cut_around_pixels_of_their_class(tmp_path, monkeypatch):
    """The images are their labels, in gray: what is in the middle of a window must be its class."""
    data = data_set(tmp_path / "set", classes=4, train=3)
    (data / "classes.txt").write_text("a\nb\nc\nd\nnever seen\n")
    for path in (data / "SegmentationClass").glob("t*.png"):
        label = np.kron(label_of(path)[:7, :5], np.ones((8, 8), np.uint8))  # blocks, so that JPEG keeps the middle
        Image.fromarray(label).save(path)
        Image.fromarray(label * 60).convert("RGB").save(data / "JPEGImages" / f"{path.stem}.jpg", "PNG")
    crops.cut(dataset.DataSet(str(data)), str(tmp_path / "crops"), size=32, per_class=20)
    counts = {}
    for split in ("train", "val"):
        for line in (tmp_path / "crops" / f"{split}.txt").read_text().splitlines():
            name, c = line.split()
            with Image.open(tmp_path / "crops/JPEGImages" / name) as picture:
                assert picture.size == (32, 32)
                assert abs(int(np.asarray(picture)[16, 16, 0]) - 60 * int(c)) < 25, line
            counts[split, int(c)] = counts.get((split, int(c)), 0) + 1
    assert counts == {("val", c): 2 for c in range(4)} | {("train", c): 18 for c in range(4)}


# -- the whole demo ------------------------------------------------------------------------------------------------------
@pytest.fixture
def demo(tmp_path) -> Path:
    """A copy of shapes/ in a checkout of its own, so that its runs go there."""
    for name in ("tools", "torchcaffe", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "shapes", tmp_path / "shapes", ignore=shutil.ignore_patterns("run", "__pycache__"))
    return tmp_path / "shapes"


STAGES = ["fcn32s-fixed", "fcn32s", "fcn16s", "fcn8s"]


def test_the_demo_from_end_to_end(drawn, demo, tmp_path):
    how = dict(env={"FCN_DATA": str(drawn)}, cwd=tmp_path)
    done, said = solve(demo / "solve.py", "--effort", 0.004, **how)
    assert done == 0, said
    run = demo / "run/shapes"
    assert {p.name for p in run.iterdir()} == {"classifier", *STAGES, "table.txt", "grid.png", "grid.log", "curves.png"}
    table = (run / "table.txt").read_text()
    assert table in said
    for line, stage in zip(table.splitlines()[1:], STAGES):
        rows = [json.loads(row) for row in (run / stage / "metrics.jsonl").read_text().splitlines()]
        best = max(rows, key=lambda row: row["mean_iu"])
        assert line.split() == ["FCN-" + stage[3:]] + ["%.1f" % (100 * best[k]) for k in (
            "overall_acc", "mean_acc", "mean_iu", "fwavacc")]  # fmt: skip
    assert len(re.findall(r"first loss = (\S+) = \d+ valid pixels x ln 7 = \1; Caffe", said)) == 2  # those from zero
    assert "base weights: " + str(run / "fcn16s/best.caffemodel") in said
    with Image.open(run / "grid.png") as grid, Image.open(run / "curves.png") as page:
        assert grid.width > 5 * 256 and grid.height > 3 * 192 and page.width > 2 * page.height
    # the trunk of the fixed net is the classifier's, bit for bit
    fixed = {layer.name: layer.blobs for layer in caffemodel.read(str(run / "fcn32s-fixed/best.caffemodel"))}
    trunk = [layer for layer in caffemodel.read(str(run / "classifier/trunk.caffemodel")) if layer.name != "fc8"]
    assert len(trunk) == 8  # the Scale, five convolutions, fc6, fc7
    for layer in trunk:
        for mine, its in zip(fixed[layer.name], layer.blobs):
            np.testing.assert_array_equal(mine, its)
    done, again = solve(demo / "solve.py", "--effort", 0.004, **how)
    assert done == 0 and again.count("done already") == 5 and table in again


def test_the_demo_on_data_of_ones_own(demo, tmp_path):
    data = data_set(tmp_path / "my photos", classes=3, train=4)
    done, said = solve(demo / "solve.py", "--data", data, "--effort", 0.004, cwd=tmp_path)
    assert done == 0, said
    run = demo / "run/my_photos"
    assert (run / "table.txt").exists() and "valid pixels x ln 3 = " in said
    solver = prototxt.read(str(run / "fcn8s/solver.prototxt"), caffe_pb2.SolverParameter())
    ours = prototxt.read(str(ROOT / "shapes/fcn8s_solver.prototxt"), caffe_pb2.SolverParameter())
    assert solver.base_lr == pytest.approx(ours.base_lr * 192 * 256 / (20 * 14), rel=1e-6)  # the loss sums over fewer pixels
    assert caffe.Net(str(run / "fcn8s/deploy.prototxt"), caffe.TEST).blobs["score"].data.shape[1] == 3
    assert segfiles.read_list(str(data / "classes.txt"))[2] in (run / "fcn8s/score.txt").read_text()


def test_without_a_python_to_draw_scenes_it_says_so(demo, tmp_path):
    (tmp_path / "data").unlink()
    (tmp_path / "data/shapes").mkdir(parents=True)
    (tmp_path / "data/shapes/prepare.py").write_text("no python\n")
    done, said = solve(demo / "solve.py", env={"FCN_DATA": str(tmp_path / "nothing")})
    assert done == 1 and "could not draw them" in said
