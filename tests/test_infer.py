"""tools/infer.py: photographs of any size in, palette PNGs and overlays with a legend out; what is wrong is said."""

import subprocess
import sys
from pathlib import Path

import baseweights
import caffe
import caffemodel
import infer
import numpy as np
import parts
import prototxt
import pytest
import segfiles
import surgery
from nets_for_tests import load
from PIL import Image

WIDTHS = (4, 4, 4, 4, 4, 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(deploy prototxt, caffemodel) of a narrow FCN-8s of 21 classes whose scores are not all zero."""
    folder = tmp_path_factory.mktemp("model")
    net_file, weights = str(folder / "deploy.prototxt"), str(folder / "net.caffemodel")
    real = load("voc-fcn8s")
    prototxt.write(net_file, parts.deploy(real.fcn(parts.voc_data("seg11valid"), widths=WIDTHS)))
    net = caffe.Net(net_file, caffe.TEST)
    baseweights.random_trunk(net, 0)
    surgery.interp(net, [name for name in net.params if "up" in name])
    for name in net.params:
        if name.startswith("score"):
            net.params[name][0].data[...] = np.random.RandomState(1).normal(size=net.params[name][0].data.shape)
    net.save(weights)
    return net_file, weights


def photograph(path, width=30, height=20, mode="RGB"):
    pixels = np.random.RandomState(width).randint(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def run(capsys, model, *arguments):
    """infer.main with the model: (exit status, what it printed on both streams)."""
    status = infer.main(["--net", model[0], "--weights", model[1], *[str(a) for a in arguments]])
    shown = capsys.readouterr()
    return status, shown.out + shown.err


def test_photographs_of_several_sizes_and_kinds(tmp_path, capsys, model):
    photos = tmp_path / "photos"
    photos.mkdir()
    photograph(photos / "a.jpg", 30, 20)
    photograph(photos / "b.png", 17, 41, mode="L")
    photograph(photos / "c.png", 1, 1)
    (photos / "notes.txt").write_text("no image")
    out = tmp_path / "out" / "deep"
    status, said = run(capsys, model, photos, "--out", out)
    assert status == 0, said
    assert "3 of 3 images segmented" in said and "a.jpg 30x20" in said
    assert sorted(p.name for p in out.iterdir()) == [f"{n}{end}.png" for n in "abc" for end in ("", "_overlay")]
    for name, size in (("a", (30, 20)), ("b", (17, 41)), ("c", (1, 1))):
        with Image.open(out / f"{name}.png") as seg:
            assert seg.mode == "P" and seg.size == size and np.asarray(seg).max() <= 20
            assert seg.getpalette()[3:6] == [128, 0, 0]
        with Image.open(out / f"{name}_overlay.png") as overlay:
            assert overlay.width > size[0] and overlay.height >= size[1]


def test_the_prediction_is_the_arg_max_of_the_scores_for_the_training_mean(tmp_path, capsys, model):
    path = photograph(tmp_path / "x.png")
    status, said = run(capsys, model, path, "--out", tmp_path / "out")
    assert status == 0, said
    net = caffe.Net(model[0], model[1], caffe.TEST)
    pixels = np.asarray(Image.open(path), np.float32)[:, :, ::-1] - np.array((104.00699, 116.66877, 122.67892))
    net.blobs["data"].reshape(1, 3, 20, 30)
    net.blobs["data"].data[...] = pixels.transpose(2, 0, 1)
    net.forward()
    wanted = net.blobs["score"].data[0].argmax(0)
    assert len(np.unique(wanted)) > 1  # or the test would pass for a constant
    seg = np.asarray(Image.open(tmp_path / "out/x.png"))
    np.testing.assert_array_equal(seg, wanted)
    names = segfiles.read_list(str(segfiles.ROOT) + "/data/pascal/classes.txt")
    for c, share in zip(*np.unique(wanted, return_counts=True)):
        assert f"{names[c]} {100 * share / 600:.1f}%" in said


def test_an_image_that_cannot_be_read_is_left_out_and_named(tmp_path, capsys, model):
    good = photograph(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no jpeg")
    status, said = run(capsys, model, tmp_path / "bad.jpg", good, tmp_path / "none.jpg", "--out", tmp_path / "out")
    assert status == 1
    assert "bad.jpg: not a readable image" in said and "none.jpg: no such image" in said
    assert "1 of 3 images segmented" in said and "left out:" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.png", "good_overlay.png"]
    status, said = run(capsys, model, tmp_path / "bad.jpg", "--out", tmp_path / "none")
    assert status == 1 and "0 of 1 images segmented; nothing was written" in said and not (tmp_path / "none").exists()


def test_nothing_is_written_over(tmp_path, capsys, model):
    photo = photograph(tmp_path / "a.png")
    before = photo.read_bytes()
    status, said = run(capsys, model, photo, "--out", tmp_path)
    assert status == 1 and "would be written over" in said and photo.read_bytes() == before
    (tmp_path / "b").mkdir()
    other = photograph(tmp_path / "b/a.jpg")
    status, said = run(capsys, model, photo, other, "--out", tmp_path / "out")
    assert status == 1 and "would both be written to" in said


def test_classes_are_named_as_told(tmp_path, capsys, model):
    photo, names = photograph(tmp_path / "a.png"), tmp_path / "classes.txt"
    names.write_text("".join(f"kind {i}\n" for i in range(21)))
    status, said = run(capsys, model, photo, "--classes", names, "--out", tmp_path / "out")
    assert status == 0 and "kind " in said
    names.write_text("one\ntwo\n")
    status, said = run(capsys, model, photo, "--classes", names, "--out", tmp_path / "out")
    assert status == 1 and "has 2 names, the net 21 classes" in said


def test_nets_and_weights_that_do_not_do(tmp_path, capsys, model):
    photo, real = photograph(tmp_path / "a.png"), load("voc-fcn8s")
    data_net = tmp_path / "val.prototxt"
    prototxt.write(str(data_net), real.fcn(parts.voc_data("seg11valid"), widths=WIDTHS))
    status, said = run(capsys, (str(data_net), model[1]), photo)
    assert status == 1 and "no Input layer" in said and "deploy.prototxt" in said
    typo = tmp_path / "typo.prototxt"
    typo.write_text(Path(model[0]).read_text().replace("num_output: 4", "num_ouptut: 4", 1))
    status, said = run(capsys, (str(typo), model[1]), photo)
    assert status == 1 and "typo.prototxt" in said and "Did you mean num_output?" in said
    other = tmp_path / "other.prototxt"
    prototxt.write(str(other), parts.deploy(real.fcn(parts.voc_data("seg11valid"), classes=11, widths=WIDTHS)))
    status, said = run(capsys, (str(other), model[1]), photo)
    assert status == 1 and "'score_fr'" in said and "(21, 8, 1, 1)" in said and "(11, 8, 1, 1)" in said
    damaged = tmp_path / "damaged.caffemodel"
    damaged.write_bytes(Path(model[1]).read_bytes()[:5000])
    status, said = run(capsys, (model[0], str(damaged)), photo)
    assert status == 1 and "it is damaged" in said
    smaller = tmp_path / "smaller.caffemodel"
    caffemodel.write(str(smaller), [layer for layer in caffemodel.read(model[1]) if layer.name != "fc7"])
    status, said = run(capsys, (model[0], str(smaller)), photo)
    assert status == 1 and "has no weights for fc7" in said
    status, said = run(capsys, (model[0], str(tmp_path / "no.caffemodel")), photo)
    assert status == 1 and "no.caffemodel: no such file" in said


def test_a_folder_without_images(tmp_path, capsys, model):
    status, said = run(capsys, model, tmp_path)
    assert status == 1 and "no images in this folder" in said


def test_it_is_a_program(model, tmp_path):
    photo = photograph(tmp_path / "a.png")
    command = [sys.executable, segfiles.ROOT + "/tools/infer.py", "--net", model[0], "--weights", model[1], photo]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "segmented/a.png").exists() and done.stdout.startswith("Caffe: torch") and not done.stderr
