"""tools/new_experiment.py and what it stands on: folders of photographs and masks as people have them, and every refusal."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import caffe
import caffemodel
import experiment_files
import lint_labels
import new_experiment
import numpy as np
import own_data
import own_masks
import prototxt
import pytest
import segfiles
from caffe.proto import caffe_pb2
from PIL import Image
from segfiles_for_tests import ROOT, write_voc
from solving import solve

NAMES = ["sky", "road", "tree"]
COLORS = [(128, 128, 128), (128, 64, 128), (128, 128, 0)]
SIZE = (30, 20)


def pictures(count: int, size=SIZE, classes: int = 3):
    """`count` photographs [H, W, 3] and masks [H, W] of class indices."""
    rng = np.random.RandomState(count)
    for _ in range(count):
        yield rng.randint(0, 256, (*size[::-1], 3)).astype(np.uint8), rng.randint(0, classes, size[::-1]).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def colored(mask: np.ndarray, colors=COLORS) -> np.ndarray:
    return np.array(colors, np.uint8)[mask]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten photographs with masks of indices, and classes.txt."""
    for i, (image, mask) in enumerate(pictures(10)):
        save(tmp_path / f"in/images/p{i}.jpg", image)
        save(tmp_path / f"in/masks/p{i}.png", mask)
    (tmp_path / "in/classes.txt").write_text("\n".join(NAMES))
    return tmp_path / "in"


def read(folder: Path | None = None, said: list | None = None, **options) -> own_data.OwnData:
    return own_data.read(None if folder is None else str(folder), say=(said if said is not None else []).append,
                         **{key: str(value) if isinstance(value, Path) else value for key, value in options.items()})


def label(out: Path, name: str = "p0") -> np.ndarray:
    return np.array(Image.open(out / "SegmentationClass" / f"{name}.png"))


def written(folder: Path, tmp_path: Path, side: int = 0, **options) -> Path:
    """The data set in VOC layout that a folder becomes; it must be fit to learn from."""
    data = read(folder, **options)
    own_data.write(data, str(tmp_path / "out"), side, say=lambda line: None)
    assert lint_labels.lint(str(tmp_path / "out"), len(data.classes.names))[2] == []
    return tmp_path / "out"


# -- what is understood ------------------------------------------------------------------------------------------------
def mask_of(folder: Path) -> np.ndarray:
    return list(pictures(10))[0][1]


def palette_png(folder):
    for i, (_, mask) in enumerate(pictures(10)):
        image = Image.fromarray(mask)
        image.putpalette(list(range(256)) * 3)
        image.save(folder / f"masks/p{i}.png")


def gray_as_rgb(folder):
    for i, (_, mask) in enumerate(pictures(10)):
        save(folder / f"masks/p{i}.png", np.stack([mask] * 3, axis=2))


def colors(folder):
    for i, (_, mask) in enumerate(pictures(10)):
        save(folder / f"masks/p{i}.png", colored(mask))
    (folder / "classes.txt").write_text("".join("%d %d %d\t%s\n" % (*c, n) for c, n in zip(COLORS, NAMES)))


def colors_after_names(folder):
    colors(folder)
    (folder / "classes.txt").write_text("# ours\n" + "".join("%s: %d, %d, %d\n" % (n, *c) for c, n in zip(COLORS, NAMES)))


def masks_with_a_suffix(folder):
    colors(folder)
    for path in list((folder / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_L.png"))
    (folder / "classes.txt").rename(folder / "label_colors.txt")


def camvid_names(folder):
    (folder / "images").rename(folder / "701_StillsRaw_full")
    (folder / "masks").rename(folder / "LabeledApproved_full")


@pytest.mark.parametrize("change", [lambda folder: None, palette_png, gray_as_rgb, colors, colors_after_names,
                                    masks_with_a_suffix, camvid_names])
def test_masks_that_mean_the_same(folder, tmp_path, change):
    change(folder)
    out = written(folder, tmp_path)
    assert np.array_equal(label(out), mask_of(folder))
    assert (out / "classes.txt").read_text().split() == NAMES
    lists = [(out / "ImageSets/Segmentation" / f"{split}.txt").read_text().split() for split in ("train", "val")]
    assert [len(ids) for ids in lists] == [8, 2] and sorted(sum(lists, [])) == [f"p{i}" for i in range(10)]
    assert (out / "JPEGImages/p0.jpg").read_bytes() == next(folder.glob("*/p0.jpg")).read_bytes()


def test_classes_that_do_not_count(folder, tmp_path):
    """Index masks: void is index 0, and the others move up; 255 stays."""
    (folder / "classes.txt").write_text("Void\nroad\ntree\n")
    mask = mask_of(folder)
    mask[0] = 255
    save(folder / "masks/p0.png", mask)
    out = written(folder, tmp_path)
    assert np.array_equal(label(out), np.select([mask == 1, mask == 2], [0, 1], 255))
    assert (out / "classes.txt").read_text().split() == ["road", "tree"]


def test_void_has_a_colour(folder, tmp_path):
    colors(folder)
    with (folder / "classes.txt").open("a") as f:
        f.write("0 0 0 Void\n")
    save(folder / "masks/p0.png", np.zeros((20, 30, 3), np.uint8))
    assert set(np.unique(label(written(folder, tmp_path)))) == {255}


def test_0_and_255_of_two_classes(folder, tmp_path):
    (folder / "classes.txt").write_text("background\ncat\n")
    for i, (_, mask) in enumerate(pictures(10)):
        save(folder / f"masks/p{i}.png", np.where(mask > 0, 255, 0).astype(np.uint8))
    said: list[str] = []
    read(folder, said)
    assert "the masks hold 0 and 255: 0 is background, 255 is cat" in said
    assert np.array_equal(label(written(folder, tmp_path)), mask_of(folder) > 0)


def test_large_photographs_are_scaled_down_and_turned_upright(tmp_path):
    image, mask = np.zeros((100, 200, 3), np.uint8), np.zeros((100, 200), np.uint8)
    image[:, :101], mask[:, :101] = (255, 0, 0), 2  # the left half is red, and class 2; nothing is class 1, the mean of both
    for orientation, turns in ((1, 0), (3, 2), (6, 1), (8, 3)):
        exif = Image.Exif()
        exif[own_data.ORIENTATION] = orientation
        (tmp_path / "in/images").mkdir(parents=True, exist_ok=True)
        stored = np.rot90(image, turns).copy()  # as it lay in the camera
        Image.fromarray(stored).save(tmp_path / f"in/images/o{orientation}.jpg", quality=95, exif=exif)
        save(tmp_path / f"in/masks/o{orientation}.png", mask)
    save(tmp_path / "in/images/small.png", image[:30, :40])
    save(tmp_path / "in/masks/small.png", mask[:30, :40])
    (tmp_path / "in/classes.txt").write_text("a\nb\nc")
    out = written(tmp_path / "in", tmp_path, side=50, val=0.2)
    for orientation in (1, 3, 6, 8):
        with Image.open(out / f"JPEGImages/o{orientation}.jpg") as photo:
            assert photo.size == (50, 25) and photo.getpixel((5, 12))[0] > 200 > 50 > photo.getpixel((45, 12))[0]
        assert np.array_equal(label(out, f"o{orientation}"), np.repeat([[2] * 25 + [0] * 25], 25, 0))
    assert label(out, "small").shape == (30, 40)


def test_a_mask_drawn_on_the_stored_photograph_is_taken_so(tmp_path, folder):
    exif = Image.Exif()
    exif[own_data.ORIENTATION] = 6
    image, mask = list(pictures(10))[0]
    Image.fromarray(image).save(folder / "images/p0.jpg", exif=exif)
    assert np.array_equal(label(written(folder, tmp_path)), mask)


def test_lists(folder, tmp_path):
    wanted = (["p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"], ["p0", "p1"])
    (folder / "val.txt").write_text("images/p1.jpg masks/p1.png\np0\n")
    data = read(folder)
    assert (data.train, data.val) == wanted
    (folder / "val.txt").rename(folder / "other.txt")
    data = read(folder, val=folder / "other.txt")
    assert (data.train, data.val) == wanted
    said: list[str] = []
    for split, ids in (("train", "p2 p3"), ("val", "p4")):
        (folder / f"{split}.txt").write_text("\n".join(ids.split()))
    data = read(folder, said)
    assert (data.train, data.val) == (["p2", "p3"], ["p4"]) and "7 images are on neither list and are left out" in said
    assert len(read(folder, val=0.5).val) == 5 and read(folder, val=0.5).val == read(folder, val=0.5).val
    assert read(folder, val=0.5).val != read(folder, val=0.5, seed=1).val


def test_folders_divided_into_train_and_val(folder, tmp_path):
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        for split, numbers in (("train", range(7)), ("val", range(7, 10))):
            (folder / kind / split).mkdir()
            for i in numbers:
                (folder / kind / f"p{i}.{ending}").rename(folder / kind / split / f"p{i}.{ending}")
    assert read(folder).val == ["p7", "p8", "p9"]
    for split in ("train", "val"):
        (folder / "images" / split).rename(folder / split)
        (folder / "masks" / split).rename(folder / f"{split}annot")
    shutil.rmtree(folder / "images")
    assert read(folder).val == ["p7", "p8", "p9"]


def test_a_folder_in_voc_layout(tmp_path):
    for split, ids in (("train", ["a", "b"]), ("val", ["c"])):
        write_voc(tmp_path / "in", ids, split, classes=3)
    (tmp_path / "in/classes.txt").write_text("\n".join(NAMES))
    data = read(tmp_path / "in")
    assert (data.train, data.val) == (["a", "b"], ["c"])


def test_images_without_a_mask_may_be_left_out(folder):
    (folder / "masks/p0.png").unlink()
    said: list[str] = []
    data = read(folder, said, labelled_only=True)
    assert len(data.pairs) == 9 and "1 images without a mask are left out: p0" in said


# -- refusals: each names the file, what was found, and what to do -----------------------------------------------------
def missing_mask(folder):
    (folder / "masks/p3.png").unlink()
    return ["in/images: 1 of 10 images have no mask in", "in/masks: p3", "--labelled-only"]


def other_names(folder):
    for path in (folder / "masks").iterdir():
        path.rename(path.with_name("x" + path.stem[::-1] + ".png"))
    return ["10 of 10 images have no mask", "the masks are called x0p"]


def mask_of_another_size(folder):
    save(folder / "masks/p3.png", np.zeros((20, 31), np.uint8))
    return ["masks/p3.png: 31 x 20 (width x height), its image", "images/p3.jpg is 30 x 20"]


def no_classes(folder):
    (folder / "classes.txt").unlink()
    return ["no list of classes: wanted classes.txt in the folder, or --classes FILE", "hold the values 0, 1, 2"]


def no_classes_for_colors(folder):
    colors(folder)
    (folder / "classes.txt").unlink()
    return ["`red green blue name`", "hold the colours 128 64 128, 128 128 0, 128 128 128"]


def unknown_color(folder):
    colors(folder)
    mask = colored(mask_of(folder))
    mask[3, 4:6] = (1, 2, 3)
    save(folder / "masks/p3.png", mask)
    return ["1 colours that", "1 2 3 (2 pixels, first in", "masks/p3.png)", "`1 2 3 void`"]


def colors_without_colors(folder):
    save(folder / "masks/p3.png", colored(mask_of(folder)))
    return ["masks/p3.png: a coloured mask (", "no colours are given", "`red green blue name`"]


def too_many_values(folder):
    save(folder / "masks/p3.png", mask_of(folder) + 2)
    return ["pixels of the masks have the value 3, first in", "masks/p3.png", "lists 3 classes, 0 to 2"]


def jpeg_mask(folder):
    save(folder / "masks/p3.png", mask_of(folder), format="JPEG")
    return ["masks/p3.png: a mask that is JPEG", "PNG"]


def broken_image(folder):
    (folder / "images/p3.jpg").write_bytes((folder / "images/p3.jpg").read_bytes()[:300])
    return ["images/p3.jpg: not a readable image"]


def deep_image(folder):
    save(folder / "images/p3.jpg", np.full((20, 30), 40000, np.uint16), format="PNG")
    return ["images/p3.jpg: more than 8 bits a channel"]


def one_name_twice(folder):
    save(folder / "images/p3.png", mask_of(folder))
    return ["p3.jpg and p3.png have the same name"]


def one_class(folder):
    (folder / "classes.txt").write_text("void\nroad\n")
    return ["classes.txt: 1 classes that count (road); wanted 2 to 255"]


def some_colors(folder):
    (folder / "classes.txt").write_text("sky\nroad 1 2 3\n")
    return ["classes.txt: 1 of 2 classes have a colour"]


def bad_color(folder):
    (folder / "classes.txt").write_text("sky 1 2 300\nroad 1 2 3\n")
    return ["classes.txt: line 'sky 1 2 300'", "0..255"]


def a_class_twice(folder):
    (folder / "classes.txt").write_text("sky\nroad\nsky\n")
    return ["classes.txt: sky is there twice"]


def list_of_strangers(folder):
    (folder / "val.txt").write_text("p1\nq1\n")
    return ["val.txt: 1 of 2 lines name no image that is there: q1"]


def lists_that_overlap(folder):
    (folder / "val.txt").write_text("p1\np2\n")
    (folder / "train.txt").write_text("p2\np3\n")
    return ["1 are both: p2"]


def no_such_folders(folder):
    (folder / "masks").rename(folder / "gt")
    return ["no folders of images and masks recognized (there are gt, images)", "--images and --masks"]


def empty_folder(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()
    return ["in/masks: no images there"]


def wide_values(folder):
    save(folder / "masks/p3.png", np.full((20, 30), 300, np.uint16))
    return ["masks/p3.png: values from 300 to 300; wanted class indices of 0..255"]


REFUSED = [missing_mask, other_names, mask_of_another_size, no_classes, no_classes_for_colors, unknown_color,
           colors_without_colors, too_many_values, jpeg_mask, broken_image, deep_image, one_name_twice, one_class,
           some_colors, bad_color, a_class_twice, list_of_strangers, lists_that_overlap, no_such_folders,
           empty_folder, wide_values]


@pytest.mark.parametrize("change", REFUSED)
def test_refused(folder, change):
    words = change(folder)
    with pytest.raises((own_masks.OwnDataError, ValueError)) as error:
        read(folder)
    assert [word for word in words if word not in str(error.value)] == []


def test_all_that_is_wrong_is_said_at_once(folder):
    mask_of_another_size(folder), jpeg_mask(folder)
    save(folder / "masks/p4.png", np.zeros((1, 1), np.uint8))
    save(folder / "masks/p5.png", mask_of(folder) + 7)
    with pytest.raises(own_masks.OwnDataError) as error:
        read(folder)
    assert all(word in str(error.value) for word in ("p3.png: a mask that is JPEG", "p4.png: 1 x 1", "p5.png"))


# -- the files of an experiment ----------------------------------------------------------------------------------------
def module(path: Path):
    spec = importlib.util.spec_from_file_location(f"net_{path.parent.name}".replace("-", "_"), path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", experiment_files.BASES)
def test_the_net_is_the_one_it_starts_from(folder, tmp_path, name):
    """Layer by layer, but for the data, the number of classes, and how fast the scores of the skips learn."""
    base = experiment_files.BASES[name]
    texts = experiment_files.texts("mine", base, read(folder), 600.0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/net.py").write_text(texts["net.py"])
    own, template = module(tmp_path / "mine/net.py"), module(ROOT / base.template / "net.py")
    data = own.own_data("train")
    nets = own.nets()
    wanted = template.fcn(8, data, 3) if base.template == "shapes" else template.fcn(data, classes=3)
    rates = {"score_pool4": 0.01, "score_pool3": 0.0001} if base.template in ("voc-fcn16s", "voc-fcn8s") else {}
    for layer in wanted.layer:
        for param in layer.param if layer.name in rates else ():
            param.lr_mult *= rates[layer.name]
    assert prototxt.text(nets["train"]) == prototxt.text(wanted)
    assert repr(tuple(base.mean)) in nets["val"].layer[0].python_param.param_str
    assert sorted(nets) == ["deploy", "train", "val"] and nets["deploy"].layer[0].type == "Input"
    for text in texts.values():
        assert "21" not in text and max(len(line) for line in text.splitlines()) <= 125
    solver = tmp_path / "solver.prototxt"
    solver.write_text(texts["solver.prototxt"])
    param = prototxt.read(str(solver), caffe_pb2.SolverParameter())
    assert param.base_lr == pytest.approx(base.rate * (base.pixels / 600 if base.pixels else 1), rel=0.05)  # two digits
    assert (param.test_iter[0], param.max_iter) == (2, 500)
    assert len(segfiles.read_list(str(ROOT / "tools" / base.classes))) > 1  # from a folder in the repository


def test_classes_of_the_demo_are_those_it_draws():
    spec = importlib.util.spec_from_file_location("prepare_shapes", ROOT / "data/shapes/prepare.py")
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    assert segfiles.read_list(str(ROOT / "data/shapes/classes.txt")) == list(prepare.CLASSES)


def repository(folder: Path) -> Path:
    """A checkout with links to what a new experiment needs."""
    folder.mkdir()
    for name in ("tools", "torchcaffe", "data"):
        if name != "data":
            (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    (folder / "data/shapes").symlink_to(ROOT / "data/shapes")
    (folder / "data/pascal").symlink_to(ROOT / "data/pascal")
    for name in ("shapes", "voc-fcn8s"):
        (folder / name).mkdir()
        for file in (ROOT / name).glob("*.p*"):
            shutil.copy(file, folder / name)
    return folder


@pytest.fixture
def repo(tmp_path, monkeypatch) -> Path:
    repo = repository(tmp_path / "repo")
    monkeypatch.setattr(segfiles, "ROOT", str(repo))
    monkeypatch.setenv("FCN_DATA", str(repo / "data"))
    monkeypatch.chdir(tmp_path)  # and back, as main changes it
    return repo


def test_two_commands(repo, folder, tmp_path, capfd):
    """From a folder to a trained net, its score and its pictures; then again with the weights that came of it."""
    colors(folder)
    base = caffe.Net(str(ROOT / "shapes/fcn8s_deploy.prototxt"), caffe.TEST)
    random = np.random.RandomState(0)
    for blobs in base.params.values():
        for blob in blobs:
            blob.data[...] = random.normal(0, 0.1, blob.data.shape)
    (repo / "shapes/run/shapes/fcn8s").mkdir(parents=True)
    base.save(str(repo / "shapes/run/shapes/fcn8s/best.caffemodel"))
    assert new_experiment.main(["mine", str(folder), "--from", "shapes"]) == 0
    said = capfd.readouterr().out
    for word in ("8 images to train on, 2 to score; 3 classes", "0 sky", "mine/train.prototxt: written",
                 "of the 3 classes shapes knows none: all start at zero", "shapes/run/shapes/fcn8s/best.caffemodel",
                 "now: python mine/solve.py"):
        assert word in said
    assert sorted(path.name for path in (repo / "mine").iterdir()) == [
        "classes.txt", "deploy.prototxt", "net.py", "solve.py", "solver.prototxt", "train.prototxt", "val.prototxt"]
    env = {"FCN_DATA": str(repo / "data")}
    done, said = solve(repo / "mine/solve.py", "--steps", 2, "--rounds", 2, cwd=tmp_path, env=env)
    assert done == 0, said
    assert "x ln 3" in said and re.search(r"left +6 layers: score_fr", said)
    run = repo / "mine/run/mine"
    assert [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [2, 4]
    assert "2 tree" in (run / "score.txt").read_text()
    val = (repo / "data/mine/ImageSets/Segmentation/val.txt").read_text().split()
    for name in val:
        with Image.open(run / f"pictures/{name}.png") as seg:
            assert seg.size == SIZE and seg.mode == "P" and np.array(seg).max() < 3
        assert (run / f"pictures/{name}_overlay.png").exists()
    with Image.open(run / "pictures.png") as page:
        assert page.width > 3 * SIZE[0] and page.height > 2 * SIZE[1]
    # what is drawn is what the best weights say, and it is drawn again by a run that is done
    layers = caffemodel.read(str(run / "best.caffemodel"))
    next(layer for layer in layers if layer.name == "score_fr").blobs[1][2] = 1e6
    caffemodel.write(str(run / "best.caffemodel"), layers)
    done, said = solve(repo / "mine/solve.py", "--steps", 2, "--rounds", 2, cwd=tmp_path, env=env)
    assert done == 0 and "done already" in said, said
    with Image.open(run / f"pictures/{val[0]}.png") as seg:
        assert set(np.array(seg).flat) == {2}


def nothing_to_learn(folder):
    (folder / "classes.txt").write_text("a\nb\nvoid")
    for i, (_, mask) in enumerate(pictures(10)):
        save(folder / f"masks/p{i}.png", mask // 2 * 2)
    return ["nothing is left to learn but class 0"]


@pytest.mark.parametrize("change", [unknown_color, nothing_to_learn])  # before and after the data are written
def test_what_is_refused_leaves_nothing(repo, folder, capfd, change):
    words = change(folder)
    assert new_experiment.main(["mine", str(folder)]) == 1
    said = capfd.readouterr().err
    assert all(word in said for word in words)
    assert not list(repo.glob("mine*")) and not list((repo / "data").glob("mine*"))


@pytest.mark.parametrize("name, words", [("voc-fcn8s", "is there already"), ("a/b", "wanted a plain name"),
                                         ("1", "begins with a letter")])
def test_names_that_are_refused(repo, folder, name, words, capfd):
    assert new_experiment.main([name, str(folder)]) == 1
    assert words in capfd.readouterr().err


def test_weights_that_are_not_there_yet(repo, folder, capfd):
    """The experiment is made all the same; it says what to put where."""
    assert new_experiment.main(["mine", str(folder), "--from", "shapes"]) == 0
    said = capfd.readouterr().out
    assert "no base weights. Looked for" in said and "make demo" in said


def test_arguments(repo, folder, capfd):
    for arguments in (["mine"], ["mine", str(folder), "--images", "x"], ["mine", "--images", "x"],
                      ["mine", str(folder), "--side", "-1"]):
        with pytest.raises(SystemExit):
            new_experiment.main(arguments)
    assert "wanted FOLDER, or --images and --masks" in capfd.readouterr().err
    assert new_experiment.main(["mine", "--images", str(folder / "images"), "--masks", str(folder / "masks"), "--classes",
                                str(folder / "classes.txt"), "--from", "shapes", "--val", "0.3"]) == 0
    assert len((repo / "data/mine/ImageSets/Segmentation/val.txt").read_text().split()) == 3
    sys.stdout.flush()
