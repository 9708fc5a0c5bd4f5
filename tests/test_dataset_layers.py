"""tools/siftflow_layers.py, nyud_layers.py, pascalcontext_layers.py: the bits of their tops, and what they refuse.

The files are generated, in the exact formats: .mat version 5, 16-bit PNG, the data sets' folders.
"""

import shutil

import numpy as np
import pascalcontext_layers
import pytest
from nyud_layers import NYUDSegDataLayer
from pascalcontext_layers import PASCALContextSegDataLayer
from segfiles_for_tests import (
    SCENES,
    save_matrix,
    save_picture,
    shared,
    write_context,
    write_list,
    write_nyud,
    write_siftflow,
)
from siftflow_layers import SIFTFlowSegDataLayer
from test_segdata import ORDER, Top, step

BGR_OF_SIFT = (114.578, 115.294, 108.353)


def make(cls, ntop, **params):
    """A data layer after setup, and its tops."""
    layer = cls.__new__(cls)
    layer.param_str = repr(params)
    top = [Top() for _ in range(ntop)]
    layer.setup([], top)
    return layer, top


def siftflow(folder, split="test", tops=3, **params):
    return make(SIFTFlowSegDataLayer, tops, siftflow_dir=str(folder), split=split, **params)


def nyud(folder, *names, split="test", **params):
    return make(NYUDSegDataLayer, len(names), nyud_dir=str(folder), split=split, tops=list(names), **params)


def context(folder, split="val", **params):
    return make(PASCALContextSegDataLayer, 2, voc_dir=str(folder / "pascal"), split=split,
                context_dir=str(folder / "pascal-context"), **params)


def bgr(image, mean):
    """float32 pixel minus float64 mean, rounded to float32 once; blue, green, red."""
    return (image[:, :, ::-1].astype(np.float64) - np.array(mean)).astype(np.float32).transpose(2, 0, 1)


# -- SIFT Flow ---------------------------------------------------------------------------------------------------------
def test_siftflow_has_two_labels_that_count_from_1(tmp_path):
    held = write_siftflow(tmp_path, ["coast_a", "street_b"])
    layer, top = siftflow(tmp_path, seed=1337)
    for name, (image, sem, geo) in zip(["coast_a", "street_b"], held):
        assert step(layer, top) == name
        assert np.array_equal(top[0].data[0], bgr(image, BGR_OF_SIFT))
        assert np.array_equal(top[1].data[0, 0], np.where(sem == 0, 255, sem - 1))
        assert np.array_equal(top[2].data[0, 0], np.where(geo == -1, 255, geo - 1))
    assert [array.dtype for array in layer.load("coast_a")] == [np.float32, np.uint8, np.uint8]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, np.int8])
def test_labels_of_any_numeric_type(tmp_path, dtype):
    write_siftflow(tmp_path, ["a"], size=(3, 1))
    save_matrix(tmp_path / "SemanticLabels" / SCENES / "a.mat", "S", np.array([[0, 33, 1]], dtype))
    save_matrix(tmp_path / "GeoLabels" / SCENES / "a.mat", "S", np.array([[0, 3, 1]], dtype))
    _, sem, geo = siftflow(tmp_path)[0].load("a")
    assert sem.tolist() == [[[255, 32, 0]]] and geo.tolist() == [[[255, 2, 0]]]  # a 0 in GeoLabels ends up ignored, too


# -- NYUD --------------------------------------------------------------------------------------------------------------
def test_nyud_gives_the_tops_that_are_named_in_their_order(tmp_path):
    (color, depth, hha, label), = write_nyud(tmp_path, ["5001"])
    layer, (c, d, h, y) = nyud(tmp_path, "color", "depth", "hha", "label")
    assert step(layer, [c, d, h, y]) == "5001"
    # (116.190, 97.203, 92.318) is subtracted as it stands in the released code, from blue, green, red
    assert np.array_equal(c.data[0], bgr(color, (116.190, 97.203, 92.318)))
    assert d.data.shape == (1, 1, 9, 13)
    # float32 log: half a unit in the last place of 9.2, and one of the difference, which is below 1.5
    np.testing.assert_allclose(d.data[0, 0], np.log(depth.astype(float)) - 7.844, atol=1e-6)
    assert np.array_equal(h.data[0], bgr(hha[:, :, ::-1], (132.431, 94.076, 118.477)))  # the file's order, not flipped
    assert np.array_equal(y.data[0, 0], np.where(label == 0, 255, label.astype(int) - 1))
    layer, top = nyud(tmp_path, "label", "hha")
    step(layer, top)
    assert np.array_equal(top[0].data, y.data) and np.array_equal(top[1].data, h.data)


def test_nyud_colour_mean_can_be_put_in_its_likely_order(tmp_path):
    (color, _, _, _), = write_nyud(tmp_path, ["5001"])
    layer, top = nyud(tmp_path, "color", "label", color_mean=(92.318, 97.203, 116.190))
    step(layer, top)
    assert np.array_equal(top[0].data[0], bgr(color, (92.318, 97.203, 116.190)))


@pytest.mark.parametrize("tops", [[], "color", ["color", "labels"], ["color", "color"], 3, [["color"]]])
def test_nyud_tops_that_are_none(tmp_path, tops):
    write_nyud(tmp_path, ["5001"])
    with pytest.raises(ValueError, match=r"NYUDSegDataLayer: param_str key tops is .*some of color, depth, hha, label"):
        make(NYUDSegDataLayer, 2, nyud_dir=str(tmp_path), split="test", tops=tops)
    with pytest.raises(ValueError, match="3 tops; wanted 2: color, label"):
        make(NYUDSegDataLayer, 3, nyud_dir=str(tmp_path), split="test", tops=["color", "label"])


def test_real_depth_is_near_its_mean(tmp_path):
    folder = tmp_path / "nyud/data/depth"
    folder.mkdir(parents=True)
    shutil.copy(shared("nyud-samples") / "sg_depth.png", folder / "img_1.png")
    write_list(tmp_path / "nyud/test.txt", ["1"])
    depth, = nyud(tmp_path / "nyud", "depth")[0].load("1")
    assert depth.shape == (1, 425, 560) and abs(depth).max() < 2  # rooms: 0.35 to 18 metres


# -- PASCAL-Context ----------------------------------------------------------------------------------------------------
def test_context_maps_459_classes_to_59_and_the_rest(tmp_path):
    (image, label), = write_context(tmp_path, ["2008_000002"])
    layer, top = context(tmp_path)
    assert step(layer, top) == "2008_000002"
    assert np.array_equal(top[0].data[0], bgr(image, (104.007, 116.669, 122.679)))
    assert top[1].data.max() < 60 and (top[1].data == 0).mean() > 0.7  # 400 of 459 classes are the rest
    pairs = dict((raw, index) for index, (_, raw) in enumerate(pascalcontext_layers.RAW, 1))
    assert np.array_equal(top[1].data[0, 0], np.vectorize(lambda raw: pairs.get(raw, 0))(label))


def test_context_classes_are_59_of_459():
    names, raws = zip(*pascalcontext_layers.RAW)
    assert len(set(names)) == len(set(raws)) == 59 and min(raws) == 2 and max(raws) == 458
    indices = pascalcontext_layers.class_indices(np.arange(460))
    assert indices.dtype == np.uint8 and sorted(indices[indices > 0]) == list(range(1, 60))
    # three names differ between the data set's two lists; the raw ids are those of table, bedclothes and cloth
    assert (indices[397], indices[19], indices[80]) == (11, 52, 28)
    assert [names[i - 1] for i in (11, 52, 28)] == ["diningtable", "bedcloth", "clothes"]


# -- all of them -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "n"), [("nyud", 795), ("siftflow", 2486), ("context", 4998)])
def test_the_order_is_the_released_one(tmp_path, kind, n):
    ids = [str(i) for i in range(n)]
    if kind == "nyud":
        write_list(tmp_path / "trainval.txt", ids)
        layer, top = nyud(tmp_path, "color", "hha", "label", split="trainval", seed=1337)
    elif kind == "siftflow":
        write_list(tmp_path / "trainval.txt", ids)
        layer, top = siftflow(tmp_path, split="trainval", seed=1337)
    else:
        write_list(tmp_path / "pascal/VOC2010/ImageSets/Main/train.txt", ids)
        layer, top = context(tmp_path, split="train", seed=1337)
    layer.load = lambda name: [np.zeros((1, 1, 1))] * len(top)
    assert [int(step(layer, top)) for _ in range(8)] == ORDER[n]


def zero_depth(folder):
    depth = np.full((9, 13), 2000, np.uint16)
    depth[2, 3:5] = 0
    save_picture(folder / "data/depth/img_5001.png", depth)
    return ["img_5001.png", "the depth of 2 pixels is 0", "holes filled", "python data/nyud/prepare.py"]


def depth_of_8_bits(folder):
    save_picture(folder / "data/depth/img_5001.png", np.full((9, 13), 200, np.uint8))
    return ["img_5001.png", "mode L", "16 bits", "millimetres"]


def depth_missing(folder):
    (folder / "data/depth/img_5001.png").unlink()
    return ["img_5001.png: no such depth image", "python data/nyud/prepare.py"]


def label_too_high(folder):
    save_matrix(folder / "segmentation/img_5001.mat", "segmentation", np.full((9, 13), 41))
    return ["img_5001.mat", "values go from 41 to 41", "whole numbers 0..40", "replace the file"]


def label_of_fractions(folder):
    save_matrix(folder / "segmentation/img_5001.mat", "segmentation", np.full((9, 13), 0.5))
    return ["img_5001.mat", "float64", "whole numbers"]


def label_of_another_name(folder):
    save_matrix(folder / "segmentation/img_5001.mat", "segmentations", np.full((9, 13), 1))
    return ["img_5001.mat", "it holds segmentations", "a matrix segmentation"]


def label_cut(folder):
    path = folder / "segmentation/img_5001.mat"
    path.write_bytes(path.read_bytes()[:100])
    return ["img_5001.mat: not a label of this data set"]


def label_missing(folder):
    (folder / "segmentation/img_5001.mat").unlink()
    return ["img_5001.mat: no such label", "python data/nyud/prepare.py"]


def hha_of_another_size(folder):
    save_picture(folder / "data/hha/img_5001.png", np.zeros((9, 12, 3), np.uint8))
    return ["color of '5001' is 13 x 9", "hha 12 x 9", "data/images/img_5001.png", "data/hha/img_5001.png"]


@pytest.mark.parametrize("damage", [zero_depth, depth_of_8_bits, depth_missing, label_too_high, label_of_fractions,
                                    label_of_another_name, label_cut, label_missing, hha_of_another_size])
def test_damaged_files(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("FCN_DATA", str(tmp_path))
    write_nyud(tmp_path / "nyud", ["5001"])
    layer, top = nyud("../data/nyud", "color", "depth", "hha", "label")
    step(layer, top)
    layer._loaded = None
    words = damage(tmp_path / "nyud")
    with pytest.raises((ValueError, OSError)) as error:
        step(layer, top)
    assert [word for word in words if word not in str(error.value)] == []


def test_where_missing_data_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(tmp_path))
    for cls, tops, params in ((SIFTFlowSegDataLayer, 3, dict(siftflow_dir="../data/sift-flow")),
                              (NYUDSegDataLayer, 2, dict(nyud_dir="../data/nyud", tops=["hha", "label"])),
                              (PASCALContextSegDataLayer, 2, dict(voc_dir="../../data/pascal",
                                                                  context_dir="../../data/pascal-context"))):
        with pytest.raises(OSError, match="no such list; get the data with `python data/.*/prepare.py`"):
            make(cls, tops, split="test", **params)


def test_context_blames_the_data_set_whose_images_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("FCN_DATA", str(tmp_path))
    with pytest.raises(OSError, match=r"pascal/VOC2010/ImageSets/Main/val\.txt.*python data/pascal-context/prepare\.py"):
        make(PASCALContextSegDataLayer, 2, voc_dir="../data/pascal", context_dir="../data/pascal-context", split="val")
