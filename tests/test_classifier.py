"""caffe.Classifier and caffe.Detector: what they make of images, against what BVLC's made of the same."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

import caffe
import numpy as np
import pytest
from goldens import make_pycaffe

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "pycaffe.json").read_text())["answers"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def classified(folder):
    return make_pycaffe.classify(folder)


@pytest.fixture(scope="module")
def detected(folder):
    return make_pycaffe.detect(folder)


@pytest.mark.parametrize("setting", GOLDEN["classify"])
@pytest.mark.parametrize("crops", ["ten crops", "centre"])
def test_classifies_as_bvlc(classified, setting, crops):
    """Probabilities from images resized by another library, in float32: measured 3e-7, as the golden's digits."""
    np.testing.assert_allclose(classified[setting][crops], GOLDEN["classify"][setting][crops], rtol=0, atol=5e-6)


@pytest.mark.parametrize("setting", GOLDEN["detect"])
def test_detects_as_bvlc(detected, setting):
    """Crops of values up to 1, measured 7e-7; windows, files and the order of keys exactly."""
    ours, golden = detected[setting], GOLDEN["detect"][setting]
    for name in ("crops", "predictions"):
        for a, b in zip(ours[name], golden[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)
    assert make_pycaffe.plain({k: ours[k] for k in ("windows", "files", "keys")}) == {
        k: golden[k] for k in ("windows", "files", "keys")}


def test_a_window_beside_the_image_is_an_error(folder):
    detector = caffe.Detector(*make_pycaffe.model(folder, 9), context_pad=1)
    with pytest.raises(ValueError, match=r"window \(40, 1, 44, 5\).* height 30 and width 20"):
        detector.crop(np.zeros((30, 20, 3), np.float32), np.array([40, 1, 44, 5]))


def test_selective_search_is_the_users_own(folder, monkeypatch):
    """As in BVLC a module of that name, if there is one, proposes the windows."""
    detector, image = caffe.Detector(*make_pycaffe.model(folder, 9)), os.path.join(folder, "0.png")
    with pytest.raises(ImportError, match="selective_search_ijcv_with_python"):
        detector.detect_selective_search([image])
    proposer = types.ModuleType("selective_search_ijcv_with_python")
    proposer.get_windows = lambda names, cmd: [np.array([[0, 0, 9, 9]]) for _ in names]
    monkeypatch.setitem(sys.modules, proposer.__name__, proposer)
    (found,) = detector.detect_selective_search([image])
    assert found["window"].tolist() == [0, 0, 9, 9] and found["prediction"].shape == (5,)


def test_missing_weights_are_named(folder):
    with pytest.raises(RuntimeError, match="Could not open file .*none.caffemodel"):
        caffe.Classifier(make_pycaffe.model(folder, 9)[0], os.path.join(folder, "none.caffemodel"))
