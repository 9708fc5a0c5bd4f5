"""tools/infer.py: photographs of any size in, palette PNGs and overlays with a legend out; what is wrong is said."""

import subprocess
import sys
from pathlib import Path

import baseweights
import caffe
import caffemodel
import infer
import inputs
import numpy as np
import parts
import prototxt
import pytest
import segfiles
import surgery
from nets_for_tests import ROOT, files, load
from PIL import Image

WIDTHS = (4, 4, 4, 4, 4, 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(deploy prototxt, caffemodel) of a narrow FCN-8s of 21 classes whose scores are not all zero; it stands alone."""
    real = load("voc-fcn8s").fcn(parts.voc_data("seg11valid"), widths=WIDTHS)
    return trained(tmp_path_factory.mktemp("model"), real)


def trained(folder, real, *shapes, prefix=""):
    """(deploy prototxt, caffemodel) of a net that was scored as `real`, made in a folder; every score varies."""
    net_file, weights = str(folder / f"{prefix}deploy.prototxt"), str(folder / f"{prefix}net.caffemodel")
    prototxt.write(net_file, parts.deploy(real, *shapes))
    net = caffe.Net(net_file, caffe.TEST)
    if "conv1_1" in net.params:
        baseweights.random_trunk(net, 0)
    for seed, name in enumerate(net.params):
        blob = net.params[name][0].data
        if name.startswith("score") or "conv1_1" not in net.params:
            blob[...] = np.random.RandomState(seed).normal(size=blob.shape)
    surgery.interp(net, [name for name in net.params if "up" in name])
    net.save(weights)
    return net_file, weights


@pytest.fixture(scope="module")
def siftflow(tmp_path_factory):
    """The same of a narrow FCN-8s of SIFT Flow, in a folder of the experiment's name beside its test.prototxt."""
    folder = tmp_path_factory.mktemp("experiments") / "siftflow-fcn8s"
    folder.mkdir()
    real = load("siftflow-fcn8s").fcn(parts.siftflow_data("test"), widths=WIDTHS)
    prototxt.write(str(folder / "test.prototxt"), real)
    return trained(folder, real)


@pytest.fixture(scope="module")
def nyud(tmp_path_factory):
    """A function of a variant of nyud-fcn32s that gives the same for it, narrow."""
    folder, module, made = tmp_path_factory.mktemp("experiments") / "nyud-fcn32s", load("nyud-fcn32s"), {}
    folder.mkdir()

    def make(name):
        if name not in made:
            options = module.VARIANTS[name]
            real = module.fcn(parts.nyud_data("test", (*options["inputs"], "label")), widths=WIDTHS, **options)
            prototxt.write(str(folder / f"{name}-test.prototxt"), real)
            shapes = [(1, module.CHANNELS[top], 20, 30) for top in options["inputs"]]
            made[name] = trained(folder, real, *shapes, prefix=f"{name}-")
        return made[name]

    return make


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
    named_so = photograph(tmp_path / "b/a_overlay.png")
    for second in (other, named_so):
        status, said = run(capsys, model, photo, second, "--out", tmp_path / "out")
        assert status == 1 and "would both be written to" in said and not (tmp_path / "out").exists()


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


# -- nets that are fed something else, or answer more than one question --------------------------------------------------
def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def photo_blob(path, mean):
    """float32 [3, H, W]: blue, green, red minus their means."""
    return (pixels(path)[:, :, ::-1] - mean).astype(np.float32).transpose(2, 0, 1)


def answers(model, **arrays):
    """{score blob: arg max} of a net fed arrays, by the plain interface of Caffe."""
    net = caffe.Net(*model, caffe.TEST)
    for blob, array in arrays.items():
        net.blobs[blob].reshape(1, *array.shape)
        net.blobs[blob].data[...] = array
    net.forward()
    return {name: net.blobs[name].data[0].argmax(0) for name in ("score", "score_sem", "score_geo") if name in net.blobs}


SIFT, NYUD, HHA = (114.578, 115.294, 108.353), (116.190, 97.203, 92.318), (132.431, 94.076, 118.477)


def test_two_tasks_are_two_answers_by_the_mean_of_the_data_set(tmp_path, capsys, siftflow):
    photo = photograph(tmp_path / "a.png")
    status, said = run(capsys, siftflow, photo, "--out", tmp_path / "out")
    assert status == 0, said
    assert "data: photographs: blue, green, red minus 114.578, 115.294, 108.353 (siftflow-fcn8s/test.prototxt)" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"a_{task}{end}.png" for task in ("geo", "sem") for end in ("", "_overlay")]
    wanted = answers(siftflow, data=photo_blob(photo, SIFT))
    assert len(np.unique(wanted["score_sem"])) > 1
    names = {"sem": inputs.plan(siftflow[0]).names["sem"], "geo": ["sky", "horizontal", "vertical"]}
    assert names["sem"][:2] == ["awning", "balcony"]
    for task in ("sem", "geo"):
        seg, truth = np.asarray(Image.open(tmp_path / f"out/a_{task}.png")), wanted[f"score_{task}"]
        np.testing.assert_array_equal(seg, truth)
        (line,) = [line for line in said.splitlines() if line.startswith(str(photo))]
        first = np.bincount(truth.ravel()).argmax()
        assert f"{task}: {names[task][first]} {100 * (truth == first).mean():.1f}%" in line


@pytest.mark.parametrize("variant", ["color", "hha", "color-d", "color-hha"])
def test_nyud_nets_are_fed_as_their_data_layer_feeds_them(tmp_path, capsys, nyud, variant):
    """Photographs turned to BGR minus the mean as released (in the order of RGB); HHA as it lies in the file; log depth."""
    photo, hha, depth = photograph(tmp_path / "a.png"), photograph(tmp_path / "h.png"), tmp_path / "d.png"
    hha.write_bytes(photograph(tmp_path / "other.png", 31).read_bytes())
    with Image.open(hha) as image:
        image.crop((0, 0, 30, 20)).save(hha)
    millimetres = np.random.RandomState(3).randint(500, 9000, (20, 30)).astype(np.uint16)
    Image.fromarray(millimetres).save(depth)
    as_hha = (pixels(hha) - HHA).astype(np.float32).transpose(2, 0, 1)
    as_depth = (np.log(millimetres.astype(np.float32)) - np.float32(7.844))[None]
    given, fed, told = {
        "color": ([photo], dict(data=photo_blob(photo, NYUD)), ["data: photographs: blue, green, red minus 116.19, 97.203"]),
        "hha": (["--hha", hha], dict(data=as_hha), ["data: HHA: disparity, height, angle, in the order of the file, minus"]),
        "color-d": ([photo, "--depth", depth], dict(color=photo_blob(photo, NYUD), depth=as_depth),
                    ["color: photographs: blue", "depth: depth: logarithm of millimetres minus 7.844"]),
        "color-hha": ([photo, "--hha", hha], dict(color=photo_blob(photo, NYUD), hha=as_hha),
                      ["color: photographs: blue", "hha: HHA: disparity", "minus 132.431, 94.076, 118.477"]),
    }[variant]
    status, said = run(capsys, nyud(variant), *given, "--out", tmp_path / "out")
    assert status == 0, said
    assert all(line in said for line in told), said
    plan, paths = inputs.plan(nyud(variant)[0]), [path for path in given if isinstance(path, Path)]
    arrays = infer.read(infer.load(*nyud(variant)), plan.feeds, list(map(str, paths)))
    assert list(arrays) == list(fed)
    for blob in fed:
        np.testing.assert_array_equal(arrays[blob], fed[blob], strict=True)
    wanted = answers(nyud(variant), **fed)["score"]
    name = "h" if variant == "hha" else "a"
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"out/{name}.png")), wanted)
    names = segfiles.read_list(f"{segfiles.ROOT}/data/nyud/classes.txt")
    assert f"{names[np.bincount(wanted.ravel()).argmax()]} " in said


def test_what_a_net_does_not_see_is_refused(tmp_path, capsys, nyud, siftflow):
    photo, hha = photograph(tmp_path / "a.png"), photograph(tmp_path / "h.png")
    for model, given, wanted in [
            (nyud("hha"), [photo], "the net sees HHA, not photographs; wanted --hha FILE|FOLDER"),
            (nyud("hha"), [photo, "--hha", hha], "the net sees HHA, not photographs; wanted --hha"),
            (nyud("hha"), [], "the net sees HHA, and no HHA are named"),
            (nyud("color"), ["--hha", hha], "the net sees photographs, and no photographs are named; wanted IMAGE"),
            (nyud("color-hha"), [photo], "the net sees photographs and HHA, and no HHA are named; wanted IMAGE and --hha"),
            (nyud("color-hha"), [photo, "--hha", photo], "is named as an image and as HHA"),
            (nyud("color-d"), [photo, "--hha", hha], "the net sees photographs and depth, not HHA"),
            (siftflow, [], "the net sees photographs, and no photographs are named; wanted IMAGE"),
            (siftflow, [photo, "--depth", hha], "not depth"),
            (siftflow, [photo, "--classes", hha], "--classes is there 1 times; wanted it once for each of score_sem, sco"),
            (siftflow, [photo, "--mean", "1,2,3"], "test.prototxt says what this net was trained with: blue, green, red")]:
        status, said = run(capsys, model, *given, "--out", tmp_path / "out")
        assert status == 1 and wanted in said and "Traceback" not in said, (given, said)
    wide = photograph(tmp_path / "w.png", 31)
    status, said = run(capsys, nyud("color-hha"), photo, "--hha", wide, "--out", tmp_path / "out")
    assert status == 1 and "w.png is 31 x 20 (width x height)" in said and "a.png 30 x 20" in said
    status, said = run(capsys, nyud("color-d"), photo, "--depth", hha, "--out", tmp_path / "out")
    assert status == 1 and "a depth image of mode RGB" in said
    status, said = run(capsys, nyud("color-d"), photo, "--depth", tmp_path / "none.png", "--out", tmp_path / "out")
    assert status == 1 and "none.png: no such depth image; name a file that is there" in said
    photograph(tmp_path / "a_sem.png")
    status, said = run(capsys, siftflow, photo, tmp_path / "a_sem.png", "--out", tmp_path)
    assert status == 1 and "a_sem.png would be written over" in said
    status, said = run(capsys, nyud("color-hha"), photo, "--hha", photograph(tmp_path / "a_overlay.png"), "--out", tmp_path)
    assert status == 1 and "would be written over" in said
    assert not (tmp_path / "out").exists()


def test_second_images_are_found_by_name(tmp_path):
    a, b, other = ["photos/a.jpg", "photos/b.jpg"], ["hha/b.png", "hha/c.png", "hha/a.png"], ["more/a.png"]
    assert inputs.pair(a, b, "HHA") == {"photos/a.jpg": "hha/a.png", "photos/b.jpg": "hha/b.png"}
    assert inputs.pair(a[:1], ["hha/x.png"], "HHA") == {"photos/a.jpg": "hha/x.png"}  # one and one need no name
    with pytest.raises(ValueError, match="1 of 2 images do not have one file of HHA: photos/b.jpg has none"):
        inputs.pair(a, other, "HHA")
    with pytest.raises(ValueError, match="photos/a.jpg has hha/a.png, more/a.png"):
        inputs.pair(a, b + other, "HHA")


def test_a_net_that_stands_alone_has_the_mean_that_is_named(tmp_path, capsys, model):
    photo = photograph(tmp_path / "a.png")
    status, said = run(capsys, model, photo, "--out", tmp_path / "voc")
    assert status == 0 and "minus 104.00699, 116.66877, 122.67892 (PASCAL VOC's: no net beside this one says" in said
    status, said = run(capsys, model, photo, "--out", tmp_path / "own", "--mean", "90,10.5,200")
    assert status == 0 and "minus 90, 10.5, 200 (--mean)" in said
    wanted = answers(model, data=photo_blob(photo, (90, 10.5, 200)))["score"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "own/a.png")), wanted)
    assert (np.asarray(Image.open(tmp_path / "voc/a.png")) != wanted).any()
    for text in ("1,2", "a,b,c", "1,2,nan"):
        with pytest.raises(SystemExit):
            run(capsys, model, photo, "--mean", text)
        assert "wanted three numbers, blue, green, red" in capsys.readouterr().err


def test_an_experiment_of_ones_own_has_its_mean_and_its_classes(tmp_path, capsys):
    """As tools/new_experiment.py makes it: val.prototxt beside deploy.prototxt, classes.txt in the data set."""
    data, folder, photo = tmp_path / "data/mine", tmp_path / "mine", photograph(tmp_path / "a.png")
    for path in (data, folder):
        path.mkdir(parents=True)
    (data / "classes.txt").write_text("nothing\nleaf\nstem\n")
    layer = parts.python_data("voc_layers", "VOCSegDataLayer", [
        ("voc_dir", str(data)), ("split", "val"), ("mean", (10, 20, 30)), ("classes", 3)])
    real = load("voc-fcn32s").fcn(layer, classes=3, widths=WIDTHS)
    prototxt.write(str(folder / "val.prototxt"), real)
    made = trained(folder, real)
    status, said = run(capsys, made, photo, "--out", tmp_path / "out")
    assert status == 0 and "minus 10, 20, 30 (mine/val.prototxt)" in said and ("leaf " in said or "stem " in said), said
    wanted = answers(made, data=photo_blob(photo, (10, 20, 30)))["score"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), wanted)


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in files("*deploy.prototxt")])
def test_every_committed_net_is_known(path):
    plan = inputs.plan(str(ROOT / path))
    family, said = path.split("-")[0], [feed.said.split(" (")[0] for feed in plan.feeds]
    colour = {"voc": "104.00699, 116.66877, 122.67892", "siftflow": "114.578, 115.294, 108.353",
              "nyud": "116.19, 97.203, 92.318", "pascalcontext": "104.007, 116.669, 122.679"}[family]
    kinds = {"hha-deploy.prototxt": ["HHA"], "color-d-deploy.prototxt": ["photographs", "depth"]}.get(
        Path(path).name, ["photographs", "HHA"] if "color-hha" in path else ["photographs"])
    assert [feed.kind for feed in plan.feeds] == kinds
    assert said == [{"photographs": f"blue, green, red minus {colour}", "depth": "logarithm of millimetres minus 7.844",
                     "HHA": "disparity, height, angle, in the order of the file, minus 132.431, 94.076, 118.477"}[kind]
                    for kind in kinds]
    assert "no net beside" not in plan.feeds[0].said
    counts = {"voc": {"label": 21}, "siftflow": {"sem": 33, "geo": 3}, "nyud": {"label": 40}, "pascalcontext": {"label": 60}}
    assert {task: len(names) for task, names in plan.names.items()} == counts[family]
    assert [task.name for task in plan.tasks] == list(counts[family])


def test_a_net_with_two_inputs_that_stands_alone(tmp_path, capsys, nyud):
    alone = tmp_path / "deploy.prototxt"
    alone.write_text(Path(nyud("color-hha")[0]).read_text())
    status, said = run(capsys, (str(alone), nyud("color-hha")[1]), photograph(tmp_path / "a.png"))
    assert status == 1 and "the net has the inputs color, hha" in said and "test.prototxt beside it" in said


def test_a_folder_without_images(tmp_path, capsys, model):
    status, said = run(capsys, model, tmp_path)
    assert status == 1 and "no images in this folder" in said


def test_it_is_a_program(model, tmp_path):
    photo = photograph(tmp_path / "a.png")
    command = [sys.executable, segfiles.ROOT + "/tools/infer.py", "--net", model[0], "--weights", model[1], photo]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "segmented/a.png").exists() and done.stdout.startswith("Caffe: torch") and not done.stderr
