"""tools/segfiles.py, segdata.py, voc_layers.py: the order of images, the bits of the blobs, and every refusal."""

import json
import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import scipy.io
import segdata
import segfiles
import voc_layers
from PIL import Image
from segfiles_for_tests import ROOT, pictures, save_label, save_mat, shared, write_sbd, write_voc

MEAN = (104.00699, 116.66877, 122.67892)


class Top:
    """What a data layer needs of a blob, without an engine."""

    def __init__(self):
        self.data = np.zeros((), np.float32)

    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)


def make(cls, tops=2, bottoms=0, **params):
    """A data layer after setup, and its tops."""
    layer = cls.__new__(cls)
    layer.param_str = repr(params)
    top = [Top() for _ in range(tops)]
    layer.setup([Top() for _ in range(bottoms)], top)
    return layer, top


def voc(folder, split="val", mean=MEAN, **params):
    return make(voc_layers.VOCSegDataLayer, voc_dir=str(folder), split=split, mean=mean, **params)


def sbdd(folder, split="train", mean=MEAN, **params):
    return make(voc_layers.SBDDSegDataLayer, sbdd_dir=str(folder), split=split, mean=mean, **params)


def step(layer, top):
    """One forward as Caffe does it; the id that was shown."""
    layer.reshape([], top)
    layer.forward([], top)
    return layer.current


@pytest.fixture
def data(tmp_path):
    write_voc(tmp_path / "voc", ["a", "b", "c"])
    write_sbd(tmp_path / "sbd", ["x", "y", "z", "w"])
    return tmp_path


# first images with seed 1337, as the released code draws them under Python 2.7.18, for the lists of four data sets
ORDER = {8498: [5249, 4531, 3108, 4978, 1408, 7005, 3260, 6710], 795: [491, 423, 290, 465, 131, 655, 305, 627],
         2486: [1535, 1325, 909, 1456, 411, 2049, 953, 1962], 4998: [3087, 2665, 1828, 2927, 828, 4120, 1917, 3946]}


@pytest.mark.parametrize("n", ORDER)
def test_random_order_is_the_released_one(data, n):
    (data / "sbd/train.txt").write_text("".join(f"{i}\n" for i in range(n)))
    layer, top = sbdd(data / "sbd", seed=1337)
    (validation, validation_top) = voc(data / "voc")
    layer.load = lambda name: [np.zeros((3, 1, 1)), np.zeros((1, 1, 1))]
    shown = []
    for _ in range(8):
        shown.append(int(step(layer, top)))
        step(validation, validation_top)  # a second layer in the process must not disturb the stream
        sbdd(data / "sbd", seed=7)
    assert shown == ORDER[n]


def test_other_splits_go_in_order_and_wrap_around(data):
    for layer, top in (voc(data / "voc"), voc(data / "voc", seed=1337, randomize=True)):
        assert [step(layer, top) for _ in range(5)] == ["a", "b", "c", "a", "b"]
    layer, top = sbdd(data / "sbd", randomize=False)
    assert [step(layer, top) for _ in range(5)] == ["x", "y", "z", "w", "x"]


def test_any_split_with_train_in_its_name_is_random(data):
    (data / "sbd/trainval.txt").write_text((data / "sbd/train.txt").read_text())
    assert sbdd(data / "sbd", split="trainval", seed=1337)[0].idx == 2  # int(0.6177 * 4)
    assert sbdd(data / "sbd", split="trainval", seed=1337)[0].random


def test_tops_hold_bgr_minus_mean_and_indices(data):
    image, label = next(iter(pictures(1)))
    layer, top = voc(data / "voc")
    assert step(layer, top) == "a"
    # float32 pixel minus float64 mean, rounded to float32 once
    wanted = (image[:, :, ::-1].astype(np.float64) - np.array(MEAN)).astype(np.float32).transpose(2, 0, 1)
    assert top[0].data.shape == (1, 3, 9, 13) and top[1].data.shape == (1, 1, 9, 13)
    assert np.array_equal(top[0].data[0], wanted)
    assert np.array_equal(top[1].data[0, 0], label)
    rounded_twice = image[:, :, ::-1].astype(np.float32) - np.array(MEAN, np.float32)
    assert not np.array_equal(top[0].data[0], rounded_twice.transpose(2, 0, 1))  # so the comparison above can fail
    image, label = layer.load("a")
    assert image.dtype == np.float32 and label.dtype == np.uint8 and label.shape == (1, 9, 13)


def test_sbd_labels(data):
    label = next(iter(pictures(1)))[1]
    layer, top = sbdd(data / "sbd", randomize=False)
    step(layer, top)
    assert np.array_equal(top[1].data[0, 0], np.where(label == 255, 0, label))


def test_one_decode_a_forward(data):
    layer, top = voc(data / "voc")
    loaded = []
    load = layer.load
    layer.load = lambda name: loaded.append(name) or load(name)
    layer.reshape([], top)  # a net reshapes when it is built, and when somebody calls net.reshape()
    for _ in range(4):
        layer.reshape([], top)
        step(layer, top)
    assert loaded[:4] == ["a", "b", "c", "a"] and len(loaded) <= 5  # the one after may be loading already


def test_setting_idx_rewinds(data):
    layer, top = voc(data / "voc")
    step(layer, top)
    layer.reshape([], top)
    layer.idx = 0
    assert step(layer, top) == "a"
    assert np.array_equal(top[1].data[0, 0], next(iter(pictures(1)))[1])


@pytest.mark.parametrize("make_layer", [lambda data: voc(data / "voc"), lambda data: sbdd(data / "sbd", seed=1337)])
def test_loading_ahead_changes_nothing(data, make_layer):
    """Same images, same bits as without, also after a rewind, a resumed order and an image that is shown twice."""
    shown = []
    for ahead in (True, False):
        layer, top = make_layer(data)
        if not ahead:
            layer._ahead.begin = lambda name: None
        shown.append([])
        for i in range(12):
            if i == 5:
                layer.idx = 0
            if i == 8:
                layer.skip(3)
            shown[-1].append((step(layer, top), top[0].data.tobytes(), top[1].data.tobytes()))
    assert shown[0] == shown[1] and len(set(shown[0])) > 2


def test_the_next_image_loads_while_the_net_computes(data):
    layer, top = voc(data / "voc")
    started, go_on, load = threading.Event(), threading.Event(), layer.load

    def slow(name):
        if name == "b":
            started.set()
            assert go_on.wait(10)
        return load(name)

    layer.load = slow
    assert step(layer, top) == "a"
    assert started.wait(10)  # in the background: this forward is over
    go_on.set()
    assert step(layer, top) == "b"
    assert np.array_equal(top[1].data[0, 0], list(pictures(2))[1][1])


def test_an_error_ahead_is_raised_when_its_image_is_due(data):
    (data / "voc/SegmentationClass/b.png").unlink()
    layer, top = voc(data / "voc")
    assert step(layer, top) == "a"
    layer._ahead._job.join()
    with pytest.raises(OSError, match=r"SegmentationClass/b\.png: no such label"):
        step(layer, top)
    with pytest.raises(OSError, match=r"SegmentationClass/b\.png: no such label"):  # and it stays wrong
        step(layer, top)
    layer.idx = 2
    assert step(layer, top) == "c"


def test_a_process_ends_while_an_image_loads():
    """Neither hung nor killed: it waits for the thread of the image, and no longer."""
    script = """
import sys, time; sys.path.insert(0, sys.argv[1])
import prefetch
prefetch.Prefetch(lambda name: time.sleep(0.2) or print(name, flush=True)).begin("image")
print("ends", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script, str(ROOT / "tools")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\nimage\n", "")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
def test_other_image_modes_become_rgb(data, mode):
    original = Image.fromarray(next(iter(pictures(1)))[0])
    original.convert(mode).save(data / "voc/JPEGImages/a.jpg", "TIFF")
    layer, top = voc(data / "voc")
    step(layer, top)
    wanted = np.asarray(original.convert(mode).convert("RGB"), np.float64)[:, :, ::-1]
    # a difference of one rounding of float32 at 128: the mode matters here, not the bits
    np.testing.assert_allclose(top[0].data[0].transpose(1, 2, 0), wanted - np.array(MEAN), atol=2e-5)


def test_lists_with_blank_lines_and_carriage_returns(data):
    (data / "voc/ImageSets/Segmentation/val.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\n  b \nc")
    assert list(voc(data / "voc")[0].indices) == ["a", "b", "c"]


def test_json_parameters(data):
    layer = voc_layers.VOCSegDataLayer.__new__(voc_layers.VOCSegDataLayer)
    layer.param_str = json.dumps({"voc_dir": str(data / "voc"), "split": "val", "mean": MEAN, "randomize": True})
    layer.setup([], [Top(), Top()])
    assert list(layer.indices) == ["a", "b", "c"]


# -- refusals: who, what was found, what was wanted, what to do --------------------------------------------------------

@pytest.mark.parametrize("change, words", [
    ({"sead": 1}, ["VOCSegDataLayer", "unknown key sead", "voc_dir, split, mean, [randomize], [seed], [classes]"]),
    ({"mean": None}, ["VOCSegDataLayer", "mean is None", "three numbers"]),
    ({"mean": (1, 2)}, ["mean is (1, 2)", "three numbers"]),
    ({"mean": (1, "2", 3)}, ["'2'", "three numbers"]),
    ({"split": 3}, ["split is 3", "a text"]),
    ({"classes": 0}, ["classes is 0", "1..255"]),
    ({"classes": True}, ["classes is True", "1..255"]),
    ({"tops": 1}, ["1 tops", "wanted 2: data, label"]),
    ({"bottoms": 1}, ["1 bottoms", "wanted none"]),
])
def test_wrong_parameters(data, change, words):
    with pytest.raises(ValueError) as error:
        voc(data / "voc", **change)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("text", ["", "[]", "__import__('os').getcwd()", "{'a': open('x')}", "{[]: 1}",
                                  "{'split': 'val'}"])
def test_param_str_is_literals_only(text):
    layer = voc_layers.VOCSegDataLayer.__new__(voc_layers.VOCSegDataLayer)
    layer.param_str = text
    with pytest.raises(ValueError, match="VOCSegDataLayer.*voc_dir, split, mean"):
        layer.setup([], [Top(), Top()])


def damage_label_value(data):
    label = next(iter(pictures(1)))[1]
    label[3, 4] = 33
    save_label(data / "voc/SegmentationClass/a.png", label)
    return ValueError, ["SegmentationClass/a.png", "33 (1 pixels)", "0..20", "255", "classes"]


def damage_label_colours(data):
    Image.fromarray(next(iter(pictures(1)))[0]).save(data / "voc/SegmentationClass/a.png")
    return ValueError, ["SegmentationClass/a.png", "mode RGB", "mode P or L", "lint_labels.py FOLDER --indices OUT"]


def damage_label_size(data):
    save_label(data / "voc/SegmentationClass/a.png", next(iter(pictures(1, size=(9, 13))))[1])
    return ValueError, ["13 x 9", "9 x 13", "JPEGImages/a.jpg", "SegmentationClass/a.png", "must agree"]


def damage_label_missing(data):
    (data / "voc/SegmentationClass/a.png").unlink()
    return OSError, ["SegmentationClass/a.png", "no such label", "data/pascal/prepare.py"]


def damage_image_text(data):
    (data / "voc/JPEGImages/a.jpg").write_text("I am no image")
    return ValueError, ["JPEGImages/a.jpg", "not a readable image", "13 bytes"]


def damage_image_cut(data):
    path = data / "voc/JPEGImages/a.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return ValueError, ["JPEGImages/a.jpg", "not a readable image", "200 bytes"]


def damage_image_deep(data):
    Image.fromarray(np.full((9, 13), 40000, np.uint16)).save(data / "voc/JPEGImages/a.jpg", "PNG")
    return ValueError, ["JPEGImages/a.jpg", "more than 8 bits"]


def damage_image_missing(data):
    (data / "voc/JPEGImages/a.jpg").unlink()
    return OSError, ["JPEGImages/a.jpg", "no such image", "data/pascal/prepare.py", "FCN_DATA"]


def damage_list_missing(data):
    (data / "voc/ImageSets/Segmentation/val.txt").rename(data / "voc/ImageSets/Segmentation/walk.txt")
    return OSError, ["Segmentation/val.txt", "no such list", "there are walk.txt", "data/pascal/prepare.py", "FCN_DATA"]


def damage_list_empty(data):
    (data / "voc/ImageSets/Segmentation/val.txt").write_text("\n\r\n")
    return ValueError, ["Segmentation/val.txt", "empty"]


def damage_list_binary(data):
    (data / "voc/ImageSets/Segmentation/val.txt").write_bytes(bytes(range(256)))
    return ValueError, ["Segmentation/val.txt", "not a text file"]


@pytest.mark.parametrize("damage", [f for name, f in list(globals().items()) if name.startswith("damage_")])
def test_damaged_data(data, damage, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(data))
    kind, words = damage(data)
    with pytest.raises(kind) as error:
        step(*voc(data / "voc"))
    assert [word for word in words if word not in str(error.value)] == []


def test_what_is_missing_from_data_of_ones_own_is_not_to_be_fetched(data, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(data / "elsewhere"))
    (data / "voc/JPEGImages/a.jpg").unlink()
    with pytest.raises(OSError, match=r"a\.jpg: no such image; put the file there, or take it off the list"):
        step(*voc(data / "voc"))


@pytest.mark.parametrize("content", [
    b"no mat file", {"other": 1}, {"GTcls": {"Boundaries": 1}}, {"GTcls": {"Segmentation": np.full((9, 13), 300)}},
    {"GTcls": {"Segmentation": np.full((9, 13), .5)}}, {"GTcls": {"Segmentation": np.zeros((2, 9, 13), np.uint8)}}])
def test_damaged_sbd_labels(data, content):
    path = data / "sbd/cls/x.mat"
    path.write_bytes(content) if isinstance(content, bytes) else scipy.io.savemat(str(path), content)
    with pytest.raises(ValueError, match=r"cls/x\.mat: not an SBD label: .*wanted a \.mat file with a struct GTcls"):
        step(*sbdd(data / "sbd", randomize=False))


def test_sbd_labels_cut_short_or_out_of_range(data):
    path = data / "sbd/cls/x.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"cls/x\.mat: not an SBD label"):
        step(*sbdd(data / "sbd", randomize=False))
    save_mat(path, np.full((9, 13), 21, np.uint8))
    with pytest.raises(ValueError, match=r"cls/x\.mat: label value 21 \(117 pixels\); wanted 0\.\.20"):
        step(*sbdd(data / "sbd", randomize=False))


def test_fewer_classes_can_be_asked_for(data):
    with pytest.raises(ValueError, match=r"wanted 0\.\.10"):
        step(*voc(data / "voc", classes=11))
    write_voc(data / "eleven", ["a"], classes=11)
    step(*voc(data / "eleven", classes=11))


# -- where data lie ----------------------------------------------------------------------------------------------------

def test_data_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FCN_DATA", raising=False)
    home = os.path.join(segfiles.ROOT, "data")
    assert segdata.data_path("../data/pascal/VOC2011") == os.path.join(home, "pascal", "VOC2011")
    assert segdata.data_path("../../data/sbdd/dataset") == os.path.join(home, "sbdd", "dataset")
    assert segdata.data_path("/else/data/x") == "/else/data/x"
    assert segdata.data_path("here/../data/x") == str(tmp_path / "data/x")
    assert segdata.data_path("../../../data/x") == os.path.abspath("../../../data/x")
    monkeypatch.setenv("FCN_DATA", "big/disk")
    assert segdata.data_path("../../data/sbdd/dataset") == str(tmp_path / "big/disk/sbdd/dataset")


def test_released_path_finds_data_from_anywhere(data, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(data))
    monkeypatch.chdir("/")
    assert voc("../data/voc")[0].indices == voc("../../data/voc")[0].indices == ["a", "b", "c"]
    with pytest.raises(OSError) as error:
        voc("../data/nowhere")
    assert str(data / "nowhere/ImageSets/Segmentation/val.txt") in str(error.value)
    assert "(now %s)" % data in str(error.value)


# -- real files, where there are any -----------------------------------------------------------------------------------

def test_real_photographs_of_voc():
    layer, top = voc(shared("voc-mini"), split="all")
    assert sorted(step(layer, top) for _ in range(10)) == sorted(layer.indices)
    assert -123 < top[0].data.min() < 0 < top[0].data.max() < 152


def test_real_sbd_labels_are_those_of_the_png_archive():
    folder = shared("sbd-like-mat")
    with tarfile.open(shared("voc-labels") / "SegmentationClassAug.tar.gz") as tar:
        wanted = {f"SegmentationClassAug/{path.stem}.png": path for path in folder.glob("*.mat")}
        assert len(wanted) == 4
        for member in tar:
            path = wanted.pop(member.name, None)
            if path:
                png = np.array(Image.open(tar.extractfile(member)))
                mat = segfiles.read_sbd_label(str(path))
                assert np.array_equal(mat, np.where(png == 255, mat, png)), path
            if not wanted:
                break
    assert not wanted
