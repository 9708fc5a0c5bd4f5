"""tools/vis.py and tools/lint_labels.py: palette, pictures, and what the linter finds."""

import os
import subprocess
import sys

import lint_labels
import numpy as np
import pytest
import vis
from PIL import Image
from segfiles_for_tests import ROOT, pictures, save_label, save_mat, shared, write_sbd, write_voc

# the VOC development kit's colours of background, the twenty classes, and the border
VOC_COLOURS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
               (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
               (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)]


def test_palette_is_vocs():
    palette = vis.make_palette(256)
    assert [tuple(c) for c in palette[:21].tolist()] == VOC_COLOURS and palette[255].tolist() == [224, 224, 192]
    assert len({tuple(c) for c in palette.tolist()}) == 256 and palette.dtype == np.uint8
    assert np.array_equal(vis.make_palette(7), palette[:7])


def test_palette_of_a_real_label():
    label = Image.open(shared("voc-mini") / "SegmentationClass/2007_000129.png")
    assert label.getpalette()[:63] == vis.make_palette(21).ravel().tolist()


def test_colours_and_back():
    palette = vis.make_palette(256)
    seg = np.random.RandomState(0).randint(0, 256, (7, 5))
    colours = vis.color_seg(seg, palette)
    assert colours.shape == (7, 5, 3) and tuple(colours[2, 3]) == tuple(palette[seg[2, 3]])
    assert np.array_equal(vis.index_seg(colours, palette), seg)
    with pytest.raises(ValueError, match="from 0 to 255, the palette has 21 colours"):
        vis.color_seg(np.array([[0, 255]]), palette[:21])
    colours[0, 0] = (1, 2, 3)
    with pytest.raises(ValueError, match=r"1 pixels have a colour of no class, the first \(1, 2, 3\)"):
        vis.index_seg(colours, palette)


def test_overlay():
    image, seg = np.full((2, 2, 3), 100, np.uint8), np.array([[0, 1], [2, 0]])
    out = vis.vis_seg(image, seg, vis.make_palette(21), alpha=0.25)
    assert out.dtype == np.uint8
    assert out.tolist() == [[[100] * 3, [107, 75, 75]], [[75, 107, 75], [100] * 3]]  # 75 + 128 / 4 = 107
    assert (image == 100).all()
    with pytest.raises(ValueError, match="one size"):
        vis.vis_seg(image, seg[:1], vis.make_palette(21))


def test_saving_indices(tmp_path):
    seg = np.arange(256).reshape(16, 16)
    vis.save_indexed(str(tmp_path / "a/b/c.png"), seg)
    saved = Image.open(tmp_path / "a/b/c.png")
    assert saved.mode == "P" and np.array_equal(np.array(saved), seg)
    assert saved.getpalette() == vis.make_palette(256).ravel().tolist()
    for bad in (seg + 1, seg - 1, seg[None]):
        with pytest.raises(ValueError, match="wanted .H, W. of 0..255"):
            vis.save_indexed(str(tmp_path / "bad.png"), bad)
    assert os.listdir(tmp_path) == ["a"]


def test_a_failed_save_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    vis.save_indexed(str(path), np.zeros((2, 2)))
    before = path.read_bytes()

    def fails(self, name):
        with open(name, "wb") as f:
            f.write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(OSError, match="No space left"):
        vis.save_indexed(str(path), np.ones((2, 2)))
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before


def test_legend_shows_the_colours_in_order():
    palette = vis.make_palette(256)
    image = np.array(vis.legend([0, 15, 30, 255], ["background"] * 16, palette))
    assert [tuple(image[2 + 16 * row + 8, 10]) for row in range(4)] == [tuple(palette[c]) for c in (0, 15, 30, 255)]
    assert image.shape[0] == 4 * 16 + 4 and (image[:, 20:] < 128).any()  # some text
    assert np.array(vis.legend([], [], palette)).min() == 255


def test_grid():
    red, blue = np.zeros((10, 20, 3), np.uint8), Image.new("RGB", (30, 5), (0, 0, 255))
    red[..., 0] = 255
    page = np.array(vis.grid([[red, blue], [None, red]], ["red", "b"]))
    assert page.shape == (4 + 16 + 10 + 4 + 10 + 4, 4 + 21 + 4 + 30 + 4, 3)  # 'red' takes 21 pixels, more than 20
    assert (page[20:30, 4:24] == [255, 0, 0]).all() and (page[20:25, 29:59] == [0, 0, 255]).all()
    assert (page[34:44, 29:49] == [255, 0, 0]).all() and (page[34:44, 4:24] == 255).all()
    assert (page[:20] < 128).any() and (np.array(vis.grid([[red]]))[:4] == 255).all()
    for rows, titles in (([], ()), ([[red]], ("a", "b"))):
        with pytest.raises(ValueError, match="wanted at least one picture, and a title a column"):
            vis.grid(rows, titles)


# -- the linter --------------------------------------------------------------------------------------------------------

@pytest.fixture
def data(tmp_path):
    write_voc(tmp_path / "voc", ["a", "b", "c"])
    write_sbd(tmp_path / "sbd", ["x", "y"])
    return tmp_path


def test_clean_data_sets(data, capsys):
    histogram, count, problems = lint_labels.lint(str(data / "voc"), 21)
    labels = [label for _, label in pictures(3)]
    assert np.array_equal(histogram, np.bincount(np.stack(labels).ravel(), minlength=256)) and count == 3
    assert problems == []
    assert lint_labels.main([str(data / "sbd")]) == 0
    out = capsys.readouterr().out
    assert "2 labels, 0 problems" in out and "PROBLEM" not in out


def run(folder, capsys, classes=21):
    """Exit status and output of the linter."""
    status = lint_labels.main([str(folder), "--classes", str(classes)])
    return status, capsys.readouterr()


@pytest.mark.parametrize("damage, words", [
    (lambda d: save_label(d / "voc/SegmentationClass/b.png", np.full((9, 13), 40, np.uint8)),
     ["b.png: label value 40 (117 pixels); wanted 0..20", "OUT OF RANGE"]),
    (lambda d: Image.fromarray(next(iter(pictures(1)))[0]).save(d / "voc/SegmentationClass/b.png"),
     ["b.png: a label of mode RGB", "--indices OUT"]),
    (lambda d: save_label(d / "voc/SegmentationClass/b.png", np.zeros((13, 9), np.uint8)),
     ["b.png: 9 x 13 (width x height), its image", "b.jpg is 13 x 9"]),
    (lambda d: (d / "voc/JPEGImages/c.jpg").unlink(), ["c.png: has no image; wanted", "c.jpg"]),
    (lambda d: (d / "voc/SegmentationClass/c.png").unlink(), ["val.txt: 1 of its ids have no label, the first c"]),
    (lambda d: (d / "voc/SegmentationClass/c.png").write_bytes(b"no"), ["c.png: not a readable image"]),
    (lambda d: (d / "voc/JPEGImages/c.jpg").write_bytes(b"no"), ["c.jpg: not a readable image"]),
    (lambda d: (d / "voc/ImageSets/Segmentation/val.txt").write_text(""), ["val.txt: the list is empty"]),
    (lambda d: (d / "voc/ImageSets").rename(d / "voc/Sets"), ["ImageSets/Segmentation: no such folder"]),
])
def test_problems_are_found(data, capsys, damage, words):
    damage(data)
    status, (out, _) = run(data / "voc", capsys)
    assert status == 1
    assert [word for word in words if word not in out] == []


def test_sbd_problems(data, capsys):
    save_mat(data / "sbd/cls/x.mat", np.full((9, 13), 21, np.uint8))
    (data / "sbd/img/y.jpg").unlink()
    status, (out, _) = run(data / "sbd", capsys)
    assert status == 1 and "2 problems" in out
    assert "x.mat: label value 21" in out and "y.mat: has no image" in out


def test_binary_masks_written_with_255(tmp_path, capsys):
    mask = np.where(np.arange(12).reshape(3, 4) % 2, 255, 0).astype(np.uint8)
    save_label(tmp_path / "a.png", mask)
    status, (out, _) = run(tmp_path, capsys, 2)
    assert status == 1 and "written as 0 and 1" in out
    save_label(tmp_path / "a.png", mask // 255)
    assert run(tmp_path, capsys, 2)[0] == 0


def test_nothing_to_check(tmp_path, capsys):
    status, (_, err) = run(tmp_path, capsys)
    assert status == 2 and "no labels there; wanted SegmentationClass/" in err
    with pytest.raises(SystemExit):
        lint_labels.main([str(tmp_path), "--classes", "256"])


def test_colours_become_indices(data, capsys):
    folder = data / "voc/SegmentationClass"
    labels = {}
    for path in folder.iterdir():
        labels[path.name] = np.array(Image.open(path))
        Image.open(path).convert("L").save(path)
        Image.fromarray(vis.color_seg(labels[path.name], vis.make_palette(256))).save(path)
    assert lint_labels.main([str(data / "voc"), "--indices", str(data / "out")]) == 0
    assert "3 labels rewritten" in capsys.readouterr().out
    for name, label in labels.items():
        assert np.array_equal(np.array(Image.open(data / "out" / name)), label)
    Image.new("RGB", (13, 9), (5, 5, 5)).save(folder / "a.png")
    assert lint_labels.main([str(data / "voc"), "--indices", str(data / "out")]) == 2
    assert "a.png: 117 pixels have a colour of no class" in capsys.readouterr().err
    assert lint_labels.main([str(data / "out"), "--indices", str(data / "again")]) == 2
    assert "none of the labels holds colours" in capsys.readouterr().err and not (data / "again").exists()


def test_linter_as_a_command(data):
    done = subprocess.run([sys.executable, str(ROOT / "tools/lint_labels.py"), str(data / "voc"), "--classes", "5"],
                          capture_output=True, text=True, cwd="/")
    assert done.returncode == 1 and "wanted 0..4" in done.stdout and "caffe" not in done.stderr


def test_two_processes_may_make_the_folder_of_a_picture(tmp_path, monkeypatch):
    def another_was_faster(path):
        os.mkdir(path)
        raise FileExistsError(path)

    monkeypatch.setattr(vis.os, "makedirs", another_was_faster)
    vis.save_atomic(Image.new("L", (2, 2)), str(tmp_path / "new/a.png"))
    assert (tmp_path / "new/a.png").exists()
