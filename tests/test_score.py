"""tools/score.py: the histogram, the figures, the printed lines, and that predictions belong to their ids."""

import importlib.util
import json
import re
import sys
import tarfile

import numpy as np
import pytest
import score
import voc_layers
from PIL import Image
from segfiles_for_tests import ROOT, shared, write_voc

MEAN = (104.00699, 116.66877, 122.67892)


def _stand_in():
    """The stand-in pycaffe of the Python 2.7 run, under a name of its own."""
    folder = ROOT / "tests/py27/caffe"
    spec = importlib.util.spec_from_file_location("stand_in_caffe", folder / "__init__.py",
                                                  submodule_search_locations=[str(folder)])
    module = sys.modules["stand_in_caffe"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stand_in = _stand_in()


class Scores:
    """A layer whose scores [1, C, H, W] come from a function of the label [H, W]; its loss counts forwards."""

    def __init__(self, function, classes):
        self.function, self.classes, self.forwards, self.blobs = function, classes, 0, []

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(1, self.classes, *bottom[0].data.shape[2:])
        top[1].reshape()

    def forward(self, bottom, top):
        top[0].data[...] = self.function(bottom[0].data[0, 0])
        self.forwards += 1
        top[1].data[...] = 10 * self.forwards


def net_on(folder, function, classes=21, split="val", **params):
    """A stand-in net: VOC data layer, scores, loss."""
    data = voc_layers.VOCSegDataLayer.__new__(voc_layers.VOCSegDataLayer)
    data.param_str, data.blobs = repr(dict(params, voc_dir=str(folder), split=split, mean=MEAN)), []
    return stand_in.Net([("data", data, [], ["data", "label"]),
                         ("score", Scores(function, classes), ["label"], ["score", "loss"])])


def right(label):
    """One-hot scores of the truth; 255 becomes class 1."""
    return np.eye(21, dtype=np.float32)[np.where(label == 255, 1, label).astype(int)].transpose(2, 0, 1)


@pytest.fixture
def data(tmp_path):
    write_voc(tmp_path / "voc", ["a", "b", "c"])
    return tmp_path


def test_histogram_by_hand():
    truth = np.array([0, 0, 1, 2, 2, 255, 3, -1])
    prediction = np.array([0, 1, 1, 0, 2, 2, 0, 0])
    assert score.fast_hist(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match=r"predictions go from 0 to 3; wanted class indices 0\.\.2"):
        score.fast_hist(np.array([0, 1]), np.array([3, 0]), 3)


def test_figures_by_hand():
    # class 2 is absent from the truth and predicted (counts as 0), class 3 is neither (skipped)
    hist = np.array([[6, 2, 0, 0], [1, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    m = score.metrics(hist)
    assert m["overall_acc"] == 8 / 12
    assert m["mean_acc"] == (6 / 8 + 2 / 4) / 2
    assert m["iu"] == [6 / 9, 2 / 6, 0.0, None] and m["acc"] == [6 / 8, 2 / 4, None, None]
    assert m["mean_iu"] == pytest.approx((6 / 9 + 2 / 6 + 0) / 3, rel=1e-15)
    assert m["mean_iu_present"] == pytest.approx((6 / 9 + 2 / 6) / 2, rel=1e-15)
    assert m["fwavacc"] == pytest.approx(8 / 12 * 6 / 9 + 4 / 12 * 2 / 6, rel=1e-15)
    json.dumps(m, allow_nan=False)
    with pytest.raises(ValueError, match="counts no pixel"):
        score.metrics(np.zeros((3, 3)))


def test_perfect_prediction_and_saved_files(data):
    net = net_on(data / "voc", right)
    result = score.do_seg_tests(net, 40, str(data / "out/{}/seg"), ["a", "b", "c"])
    assert [result[k] for k in ("overall_acc", "mean_acc", "mean_iu", "fwavacc", "mean_iu_present")] == [1] * 5
    assert result["loss"] == 20 and result["iter"] == 40
    assert result["hist"].sum() == 3 * 8 * 13  # 9 rows, one of them 255
    for name in "abc":
        saved = Image.open(data / f"out/40/seg/{name}.png")
        label = np.array(Image.open(data / f"voc/SegmentationClass/{name}.png"))
        assert saved.mode == "P" and saved.getpalette()[3:6] == [128, 0, 0]
        assert np.array_equal(np.array(saved), np.where(label == 255, 1, label))
    assert sorted(p.name for p in (data / "out/40/seg").iterdir()) == ["a.png", "b.png", "c.png"]


def test_printed_lines(data, capsys):
    net = net_on(data / "voc", lambda label: np.zeros((21, *label.shape)))
    result = score.seg_tests(stand_in.Solver(net, net), False, ["a", "b", "c"])
    lines = capsys.readouterr().out.splitlines()
    stamp = r">>> \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? "
    assert re.fullmatch(stamp + "Begin seg tests", lines[0])
    figures = {"loss": "loss", "overall accuracy": "overall_acc", "mean accuracy": "mean_acc", "mean IU": "mean_iu",
               "fwavacc": "fwavacc", "IU over present classes": "mean_iu_present"}
    for line, (text, key) in zip(lines[1:], figures.items(), strict=True):
        match = re.fullmatch(stamp + "Iteration 0 " + text + r" (\S+)", line)
        assert match and float(match.group(1)) == result[key]
    assert result["hist"][:, 0].sum() == result["hist"].sum()  # a tie goes to the lowest class


def test_solver_shares_weights_and_needs_a_test_net(data):
    net, test_net = net_on(data / "voc", right), net_on(data / "voc", right)
    shared_with = []
    test_net.share_with = shared_with.append
    score.seg_tests(stand_in.Solver(net, test_net), None, ["a", "b", "c"])
    assert shared_with == [net]
    solver = stand_in.Solver(net, net)
    solver.test_nets = []
    with pytest.raises(ValueError, match="test_net"):
        score.seg_tests(solver, None, ["a"])


def test_each_scoring_starts_at_the_first_image(data):
    net = net_on(data / "voc", right)
    net.forward()
    score.do_seg_tests(net, 0, str(data / "out"), ["a", "b", "c"])
    label = np.array(Image.open(data / "voc/SegmentationClass/a.png"))
    assert np.array_equal(np.array(Image.open(data / "out/a.png")), np.where(label == 255, 1, label))


@pytest.mark.parametrize("ids, words", [
    (["a", "b"], "3 images of split 'val', asked to score 2: at position 2 it shows c, the list says the end"),
    (["a", "b", "c", "d"], "asked to score 4: at position 3 it shows the end, the list says d"),
    (["a", "c", "b"], "at position 1 it shows b, the list says c"), ([], "no ids")])
def test_ids_that_are_not_the_layers_own(data, ids, words):
    with pytest.raises(ValueError, match=words):
        score.compute_hist(net_on(data / "voc", right), None, ids)


def test_random_order_cannot_be_scored(data):
    write_voc(data / "voc", ["a"], split="train")
    with pytest.raises(ValueError, match="random order.*'randomize': False"):
        score.compute_hist(net_on(data / "voc", right, split="train"), None, ["a"])
    score.compute_hist(net_on(data / "voc", right, split="train", randomize=False), None, ["a"])


def test_class_count_mismatch_names_image_value_and_range(data):
    net = net_on(data / "voc", lambda label: np.zeros((11, *label.shape)), classes=11)
    with pytest.raises(ValueError, match=r"a: label value \d+ \(\d+ pixels out of range\); wanted 0\.\.10.*11 classes"):
        score.compute_hist(net, None, ["a", "b", "c"])


def test_missing_blobs_and_batches(data):
    net = net_on(data / "voc", right)
    with pytest.raises(ValueError, match="no blob 'score_sem'.*data, label, score, loss"):
        score.compute_hist(net, None, ["a", "b", "c"], layer="score_sem")
    net = net_on(data / "voc", right)
    net.layers[1].reshape = lambda bottom, top: top[0].reshape(1, 21, 9, 12)
    net.layers[1].forward = lambda bottom, top: None
    with pytest.raises(ValueError, match=r"a: scores 'score' are \(1, 21, 9, 12\), labels 'label' \(1, 1, 9, 13\)"):
        score.compute_hist(net, None, ["a", "b", "c"])


def test_scores_that_are_not_finite_are_reported(data, capsys):
    def nan_once(label, seen=[]):  # noqa: B006  counts the forwards
        seen.append(label)
        return right(label) * (np.nan if len(seen) == 2 else 1)
    score.compute_hist(net_on(data / "voc", nan_once), None, ["a", "b", "c"])
    assert "scores of 1 of 3 images are not finite, the first b" in capsys.readouterr().out


def test_class_table():
    text = score.class_table(score.metrics(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])), ["background", "cat"])
    assert text.splitlines()[1:] == ["    0 background        0.750000  0.750000",
                                     "    1 cat               1.000000  0.800000",
                                     "    2                          -         -"]


@pytest.mark.parametrize("split", ["seg11valid", "voc12_val"])
def test_all_background_over_real_labels(split):
    """Every label of a real list against a prediction of zeros: the figures recorded in goldens.json, to 12 digits.

    For voc12_val these are what the released scoring printed on a real Caffe (see its `source`).
    """
    folder = shared("voc-labels")
    golden = json.loads((folder / "goldens.json").read_text())["lists"][split]
    ids = set((folder / f"lists/{split}.txt").read_text().split())
    hist, ignored = np.zeros((21, 21), np.int64), 0
    with tarfile.open(folder / "SegmentationClassAug.tar.gz") as tar:
        for member in tar:
            name = member.name.rpartition("/")[2].removesuffix(".png")
            if name in ids:
                ids.remove(name)
                label = np.array(Image.open(tar.extractfile(member))).ravel()
                hist += score.fast_hist(label, np.zeros_like(label), 21)
                ignored += (label == 255).sum()
    assert not ids
    assert hist.sum(1).tolist() == golden["pixels_per_class"] and ignored == golden["ignore_255"]
    m = score.metrics(hist)
    for key, value in golden["all_background"].items():
        assert "%.12g" % m[key] == "%.12g" % value
    if split == "voc12_val":
        assert ["%.12g" % m[key] for key in ("overall_acc", "mean_acc", "mean_iu", "fwavacc")] == [
            "0.733180213097", "0.047619047619", "0.0349133434808", "0.537553224877"]


def test_importing_score_needs_no_caffe():
    import subprocess
    code = "import sys; sys.path.insert(0, 'tools'); import score; assert 'caffe' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# -- several tasks -----------------------------------------------------------------------------------------------------
def test_tasks_follow_from_the_net():
    from nets_for_tests import load
    sift, voc = load("siftflow-fcn32s"), load("voc-fcn8s")
    tasks = score.find_tasks(sift.nets()["test"])
    assert tasks == [("sem", "score_sem", "sem", "loss"), ("geo", "score_geo", "geo", "loss_geo")]
    assert score.find_tasks(voc.nets()["val"]) == [("label", "score", "label", "loss")]
    with pytest.raises(ValueError, match=r"no SoftmaxWithLoss layer.*not a deploy net"):
        score.find_tasks(voc.nets()["deploy"])


def test_side_losses_on_one_label_do_not_count_and_a_loss_needs_a_top():
    from caffe.proto import caffe_pb2
    net = caffe_pb2.NetParameter()
    for name in ("side", "main"):
        net.layer.add(name=name, type="SoftmaxWithLoss", bottom=["score_" + name, "label"], top=["loss_" + name])
    assert score.find_tasks(net) == [("label", "score_main", "label", "loss_main")]
    del net.layer[1].top[:]
    with pytest.raises(ValueError, match="layer 'main'.*and a top to read the loss from"):
        score.find_tasks(net)


def two_tasks(folder):
    """A stand-in net whose second task has 2 classes: is the label odd? It says yes everywhere."""
    net = net_on(folder, right)

    class Odd(Scores):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].data.shape)
            super().reshape(bottom, top[1:])

        def forward(self, bottom, top):
            label = bottom[0].data
            top[0].data[...] = np.where(label == 255, 255, label % 2)
            super().forward(bottom, top[1:])
            top[2].data[...] = 7
    odd = Odd(lambda label: np.stack([np.zeros(label.shape), np.ones(label.shape)]), 2)
    return stand_in.Net([*net.rows, ("odd", odd, ["label"], ["odd", "score_odd", "loss_odd"])])


TASKS = [score.Task("label", "score", "label", "loss"), score.Task("odd", "score_odd", "odd", "loss_odd")]


def test_two_tasks_in_one_pass_each_with_its_own_loss(data, capsys):
    net = two_tasks(data / "voc")
    result = score.do_seg_tests(net, 4, str(data / "out"), ["a", "b", "c"], tasks=TASKS)
    assert net.layers[1].forwards == 3                          # one forward an image, not one a task
    assert result["loss"] == 20 and result["odd"]["loss"] == 7
    assert result["mean_iu"] == 1 and result["odd"]["acc"] == [0, 1] and result["odd"]["hist"].shape == (2, 2)
    assert result["odd"]["hist"].sum() == result["hist"].sum()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines if "task" in line] == [["task", "label"], ["task", "odd"]]
    assert sum("mean IU" in line for line in lines) == 2
    for folder, top in (("label", 20), ("odd", 1)):
        assert np.array(Image.open(data / "out" / folder / "b.png")).max() == top
    row = score.row(result)
    assert json.loads(json.dumps(row)) == row and "hist" not in row["odd"] and row["odd"]["images"] == 3
    held = score.confusion(4, score.hists(result, TASKS), {"odd": ["even", "odd"]})
    assert held["tasks"][1] == {"name": "odd", "classes": ["even", "odd"], "hist": result["odd"]["hist"].tolist()}
    assert held["tasks"][0]["classes"] == [] and json.dumps(held)


def test_figures_of_each_image(data):
    net = net_on(data / "voc", lambda label: np.zeros((21, *label.shape)))
    tally, = score.compute_hists(net, None, ["a", "b", "c"], TASKS[:1])
    assert [name for name, _ in tally.images] == ["a", "b", "c"]
    for k, (name, figures) in enumerate(tally.images):
        label = np.array(Image.open(data / f"voc/SegmentationClass/{name}.png"))
        label = label[label != 255]
        assert figures["pixels"] == label.size and figures["loss"] == 10 * (k + 1)
        assert figures["overall_acc"] == pytest.approx((label == 0).mean())
        # all is predicted class 0, whose union is every pixel; the other classes in the truth have an IU of 0
        assert figures["mean_iu"] == pytest.approx((label == 0).mean() / len(set(label.tolist()) | {0}))
    assert score.image_figures(np.zeros((2, 2)), 3.) == {"pixels": 0, "loss": 3., "overall_acc": None, "mean_iu": None}


def test_some_of_the_images(data):
    net = net_on(data / "voc", right)
    assert [idx for idx, _ in score.each_image(net, ["a", "b", "c"], TASKS[:1], [2, 0, 1])] == ["c", "a", "b"]
    saved = dict((idx, results[0].prediction) for idx, results in score.each_image(net, ["a", "b", "c"], TASKS[:1], [1]))
    label = np.array(Image.open(data / "voc/SegmentationClass/b.png"))
    assert np.array_equal(saved["b"], np.where(label == 255, 1, label))
    del net.layers[0].indices
    with pytest.raises(ValueError, match="no data layer with a list of ids"):
        list(score.each_image(net, ["a", "b", "c"], TASKS[:1], [0]))


def test_without_class_0():
    hist = np.array([[50, 3, 0], [4, 6, 0], [0, 0, 5]])
    m = score.foreground(hist)
    assert m["overall_acc"] == 11 / 15 and m["mean_iu_present"] == pytest.approx((6 / 10 + 1) / 2)
    assert hist[0, 0] == 50     # the caller's stays as it is
