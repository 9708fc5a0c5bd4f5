"""tools/report.py, page.py and published.py: the pages of trainings and evaluations, and the published figures in them."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import page
import published
import pytest
import report
import score
from nets_for_tests import load
from PIL import Image
from segfiles_for_tests import ROOT

VOID = {"meta", "img"}


class Checker(HTMLParser):
    """Collects the text of a page; fails for a tag that is not closed, a script, or anything fetched from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name, value in attrs:
            assert not name.startswith("on") and name != "href", (tag, name)
            assert name not in ("src", "xlink:href") or value.startswith("data:image/"), value
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def shown(path) -> str:
    """The text of a page, which must be sound and complete in itself."""
    html = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    assert checker.open == [] and "@import" not in html and "url(" not in html
    return " ".join(" ".join(checker.text).split())


def row(iteration, hist, **more):
    return dict(score.metrics(hist), iteration=iteration, loss=10. / iteration, seconds=3.2, sha256="f" * 64, caffe="torch",
                weights=f"train_iter_{iteration}.caffemodel", device="CPU", version="1.0.0", **more)


HIST = np.array([[60, 5, 0], [10, 20, 0], [0, 4, 0]])
NASTY = "<script>alert('x')</script> & \"more\" ä"
LOG = "".join(f"I1120 17:00:31.199579 25748 solver.cpp:239] Iteration {i} (1 iter/s, 0s/2 iters), loss = {loss}\n"
              for i, loss in enumerate([5e5, "nan", 3e5, "inf"] + [1e5 / (i + 1) for i in range(900)]))


@pytest.fixture
def run(tmp_path):
    """The folder of a training of two tasks."""
    folder = tmp_path / "siftflow-fcn16s/run/sift"
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("ours\n" + LOG)
    rows = [row(n, HIST, images=200, geo=dict(score.metrics(HIST[:2, :2] * n), loss=n)) for n in (2, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "run.json").write_text(json.dumps({"experiment": "siftflow-fcn16s", "variant": None, "data": None,
                                                 "weights": [{"file": NASTY, "sha256": "abc"}]}))
    (folder / "confusion.json").write_text(json.dumps({"iteration": 4, "tasks": [
        {"name": "sem", "classes": ["sky", NASTY], "hist": HIST.tolist()},
        {"name": "geo", "classes": ["up", "down"], "hist": HIST[:2, :2].tolist()}]}))
    (folder / "solver.prototxt").write_text("base_lr: 1e-12  # <odd>\n")
    return folder


# -- trainings ---------------------------------------------------------------------------------------------------------
def test_a_training_of_two_tasks(run):
    path = report.write(str(run))
    text = shown(run / "report.html")
    assert path == str(run / "report.html") and "Not scored yet" not in text
    assert NASTY in text and "base_lr: 1e-12 # <odd>" in text     # shown as text, and only as text
    for words in ("siftflow-fcn16s: training sift", "Scored 2 times up to iteration 4", "Classes of sem, best weights",
                  "Confusion of geo, last scoring", "published mean IU", "mean IU, classes present", "class 2", "f" * 12):
        assert words in text, words
    assert "mean IU, classes present (sem) 43.76 39.5 +4.26 above (by more than 0.6)" in text
    assert text.count("published pixel accuracy") == 1 and "94.3" in text     # that of geo
    assert "Training loss (log scale)" in text


def test_a_scoring_of_other_images_is_not_compared(run):
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().replace('"images": 200', '"images": 3'))
    report.write(str(run))
    text = shown(run / "report.html")
    assert "above" not in text and "Not compared: pixel accuracy 85.2" in text and "over 200 images, ours over 3" in text


def test_a_training_of_own_data_has_nothing_published(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "data": "/data/own"}))
    report.write(str(run))
    assert "published" not in shown(run / "report.html")


def test_nothing_is_published_of_another_way_to_learn(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "learning": "online"}))
    report.write(str(run))
    assert "published" not in shown(run / "report.html")


def test_a_training_that_has_only_begun_and_one_of_a_classifier(tmp_path):
    (tmp_path / "train.log").write_text("ours\n")
    report.write(str(tmp_path))
    assert "Not scored yet" in shown(tmp_path / "report.html")
    held = {"iteration": 2, "accuracy": .75, "loss": .5, "weights": "w", "sha256": "a" * 64, "seconds": 1.}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(held) + "\n")
    report.write(str(tmp_path))
    assert "75.0 % accuracy" in shown(tmp_path / "report.html")


def test_the_foreground_figures_are_shown(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["mean_iu"] = .99
    rows[-1]["foreground"] = score.foreground(HIST)
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    report.write(str(run))
    ours = 100 * rows[-1]["foreground"]["mean_iu_present"]
    assert f"{ours:.1f} % mean IU without background" in shown(run / "report.html")


def test_folders_that_are_neither_and_files_that_are_damaged(run, tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 1
    assert "neither train.log nor evaluation.json" in capsys.readouterr().err
    whole = (run / "confusion.json").read_text()
    (run / "confusion.json").write_text("{")
    assert report.main([str(run)]) == 1
    assert "confusion.json: not JSON" in capsys.readouterr().err
    (run / "confusion.json").write_text(whole)
    for name, text in (("confusion.json", '{"tasks": [3]}'), ("confusion.json", "3"), ("run.json", '"x"'),
                       ("metrics.jsonl", '{"iteration": 1, "mean_iu": 0.5}\n'), ("metrics.jsonl", b'{"iteration": 1}\xff')):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        assert report.main([str(run)]) == 1
        said = capsys.readouterr().err
        assert str(run) in said and name in said, said
        (run / name).write_bytes(kept)


def test_whose_run_it_is():
    assert report.experiment_of("/x/run/voc-fcn8s/run/voc") == "voc-fcn8s"
    assert report.experiment_of("/x/shapes/run/shapes/fcn8s") == "shapes"
    assert report.experiment_of("/x/other") == "other"


# -- pages -------------------------------------------------------------------------------------------------------------
def test_everything_is_escaped_once():
    assert page.tag("p", NASTY + page.tag("b", "<i>"), title=NASTY).count("<script>") == 0
    assert page.tag("p", page.tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert page.tag("td", None) == "<td>–</td>" and page.text(b"\xff<") == "\ufffd&lt;"
    assert page.join(["<", page.tag("b")], ", ") == "&lt;, <b></b>"


def test_long_curves_are_drawn_as_means_with_a_band():
    xs = list(range(10000))
    drawn = page.chart("t", [("noisy", xs, [100 + (x % 2) * 10 for x in xs])])
    line = re.search(r'class="line".*?points="([^"]*)"', drawn).group(1).split()
    assert 200 < len(line) <= page.BINS and len({point.split(",")[1] for point in line}) <= 2 and "band" in drawn
    assert "band" not in page.chart("t", [("few", [0, 1], [1, 2])])
    for odd in ([], [float("nan")], [float("inf")], [0.], [-3.]):
        assert "<svg" in page.chart("t", [("odd", list(range(len(odd))), odd)], log=bool(odd) and not odd[0] < 0)


def test_the_confusion_matrix_shades_by_share_of_the_truth():
    drawn = page.confusion(HIST, ["a", "b"])
    assert drawn.count("<title>") == 5 and "a → a: 92.3 %" in drawn and "class 2 → b: 100.0 %" in drawn
    assert ">92</text>" in drawn and ">92</text>" not in page.confusion(np.kron(np.eye(30, dtype=int), HIST), [])
    assert page.mistakes(HIST, ["a", "b"]) == [("b", "a", 10 / 30, 10), ("a", "b", 5 / 65, 5), ("class 2", "b", 1., 4)]


def test_pictures_are_held_in_the_page(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "x.jpg", "JPEG")
    assert 'src="data:image/jpeg;base64,/9j/' in page.picture(str(tmp_path / "x.jpg"), "x")
    assert 'src="data:image/png;base64,iVBOR' in page.picture(Image.new("P", (3, 2)), '"')


# -- published ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("experiment, mean_iu", [("voc-fcn32s", 63.6), ("voc-fcn16s", 65.0), ("voc-fcn8s", 65.5),
                                                 ("voc-fcn8s-atonce", 65.4), ("voc-fcn-alexnet", 48.0)])
def test_the_readmes_figures(experiment, mean_iu):
    first = published.find(experiment)[0]
    assert first.figures == {"mean_iu": mean_iu} and first.images == 736 and "README" in first.source


def test_every_figure_says_where_it_stands():
    for (experiment, variant), entries in published.TABLE.items():
        assert (ROOT / experiment).is_dir(), experiment
        for entry in entries:
            assert entry.source == published.README or "1411.4038v2" in entry.source     # nothing else was checked
            assert entry.over in ("all", "present", "foreground")
            assert set(entry.figures) <= {key for key, _ in published.KEYS}
            assert all(10 < value < 100 for value in entry.figures.values())
        assert variant is None or variant in load(experiment).VARIANTS


def test_verdicts():
    """A histogram whose mean IU is 50 %: within, above, below; classes that are not in the truth; without class 0."""
    hist = np.array([[2, 1, 0], [1, 2, 0], [0, 0, 0]])
    entry = published.Published("source", {"mean_iu": 50.5, "overall_acc": 66.7}, "label", 9, "all", "")

    def figures(entries):
        return published.figures_of({"label": hist}, entries)

    def judged(entry, same=False, images=9):
        verdicts = published.verdicts([entry], figures([entry]), images, same)
        return [(v.key, v.verdict, round(v.difference, 2)) for v in verdicts]
    assert judged(entry) == [("overall_acc", "", -.03), ("mean_iu", "agrees", -.5)]
    assert judged(entry, same=True) == [("overall_acc", "agrees", -.03), ("mean_iu", "below", -.5)]
    assert judged(entry._replace(figures={"mean_iu": 49.3})) == [("mean_iu", "above", .7)]
    assert judged(entry, images=8) == [] and judged(entry._replace(task="geo")) == []
    hist[0, 2] = 3      # predicted though it is not in the truth: counts as 0 in the released figure
    entries = [entry._replace(over=over) for over in ("all", "present", "foreground")]
    ours = {of.over: published.verdicts([of], figures(entries), 9)[-1] for of in entries}
    assert ours["all"].ours == pytest.approx(100 * (2 / 7 + 1 / 2) / 3) and ours["all"].name == "mean IU"
    assert ours["present"].ours == pytest.approx(100 * (2 / 7 + 1 / 2) / 2)
    assert ours["foreground"].ours == pytest.approx(100 * 2 / 3) and "without background" in ours["foreground"].name
    said = published.sentence(ours["all"])
    assert said.startswith("mean IU 26.19, published 50.5: -24.31, below it by more than the 0.6")
    assert "no tolerance known" in published.sentence(published.verdicts([entry], figures([entry]), 9)[0])


def test_the_released_file_is_known_by_its_name(tmp_path):
    (tmp_path / "caffemodel-url").write_text("http://dl.example.org/fcn8s-heavy-pascal.caffemodel\n")
    assert published.is_released("/x/fcn8s-heavy-pascal.caffemodel", str(tmp_path))
    assert not published.is_released("/x/best.caffemodel", str(tmp_path))
    assert not published.is_released("/x/best.caffemodel", "/nowhere")
