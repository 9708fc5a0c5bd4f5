"""caffe.io: what it makes of images and arrays, against what BVLC's made of the same."""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np
import pytest
from goldens import make_io
from PIL import Image

GOLDEN = np.load(Path(__file__).parent / "goldens" / "io.npz")


@pytest.fixture(scope="module")
def answers():
    return make_io.answers()


@pytest.mark.parametrize("name", [n for n in GOLDEN.files if n != "provenance"])
def test_as_bvlc(answers, name):
    """Values up to 4.3, of float32 sums in another order: 1e-5."""
    assert answers[name].shape == GOLDEN[name].shape
    np.testing.assert_allclose(answers[name], GOLDEN[name], rtol=0, atol=1e-5)


def test_the_transformer_knows_its_inputs():
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 4)})
    for call in (lambda: transformer.set_raw_scale("date", 1), lambda: transformer.preprocess("date", np.zeros((4, 4, 3)))):
        with pytest.raises(Exception, match="date is not one of the net inputs: .*data"):
            call()
    with pytest.raises(ValueError, match="channels incompatible"):
        transformer.set_mean("data", np.zeros(4))


def test_load_image(tmp_path):
    Image.fromarray(np.full((2, 3, 3), (255, 0, 51), np.uint8)).save(tmp_path / "a.png")
    image = caffe.io.load_image(str(tmp_path / "a.png"))
    assert image.shape == (2, 3, 3) and image.dtype == np.float32 and image[0, 0].tolist() == pytest.approx([1, 0, 0.2])
    grey = caffe.io.load_image(str(tmp_path / "a.png"), color=False)
    assert grey.shape == (2, 3, 1) and grey[0, 0, 0] == pytest.approx(0.22692)  # scikit-image 0.18.1, imread(as_gray=True)


def test_load_image_of_more_than_8_bits(tmp_path):
    """As scikit-image 0.18.1 reads them: 16 bits over 65535, floats as they are. Pillow would clip both to white."""
    values = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray((values / 65535).astype(np.float32)).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        for color in (True, False):
            image = caffe.io.load_image(str(tmp_path / name), color)
            assert image.shape == (3, 4, 3 if color else 1) and image.dtype == np.float32
            np.testing.assert_allclose(image[..., -1], values / 65535, atol=1e-7)


def test_a_blobproto_is_read_in_double():
    blob = caffe.io.array_to_blobproto(np.float32([0.1, 0.2]))
    assert caffe.io.blobproto_to_array(blob).dtype == np.float64  # a mean over a mean file is taken in it


def test_blobproto_vector():
    arrays = [np.arange(6.0).reshape(2, 3), np.arange(4.0)]
    back = caffe.io.blobprotovector_str_to_arraylist(caffe.io.arraylist_to_blobprotovector_str(arrays))
    assert [a.tolist() for a in back] == [a.tolist() for a in arrays]
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        caffe.io.array_to_datum(arrays[0])
