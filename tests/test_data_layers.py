"""Data layers beyond the cases: several solvers, broken files, what is kept and what is written.

What they compute is held to BVLC's answers by tests/test_layers.py.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import caffe
import h5py
import layer_files
import numpy as np
import pytest
from layer_case import Case
from PIL import Image

from torchcaffe import common, images
from torchcaffe.errors import CaffeError


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Layers read and write files in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")


def net_of(layer: str, phase: int = caffe.TRAIN) -> caffe.Net:
    """A net of one layer, its files written."""
    layer_files.write_files(caffe, Case("", layer), np.random.RandomState(0))
    Path("net.prototxt").write_text('layer { name: "layer" %s }' % layer)
    return caffe.Net("net.prototxt", phase)


HDF5 = 'type: "HDF5Data" top: "data" hdf5_data_param { source: "hdf5_one.txt" batch_size: 3 }'


def test_two_solvers_take_turns_in_training(monkeypatch):
    # BVLC 1.0.0 with set_solver_count(2), set_solver_rank(1): rows 1, 3, 1 of the four, then 3, 1, 3.
    rows = net_of(HDF5.replace("batch_size: 3", "batch_size: 4"), caffe.TEST).forward()["data"]
    monkeypatch.setattr(common._state, "solver_count", 2)
    monkeypatch.setattr(common._state, "solver_rank", 1)
    net = net_of(HDF5)
    np.testing.assert_array_equal(net.forward()["data"], rows[[1, 3, 1]])
    np.testing.assert_array_equal(net.forward()["data"], rows[[3, 1, 3]])
    np.testing.assert_array_equal(net_of(HDF5, caffe.TEST).forward()["data"], rows[:3])


def test_hdf5_that_compresses_well_is_read():
    with h5py.File("zeros.h5", "w") as f:
        f.create_dataset("data", (4, 1000, 1000), np.uint8, compression="gzip", data=np.zeros((4, 1000, 1000), np.uint8))
    assert 4e6 > 100 * Path("zeros.h5").stat().st_size
    Path("mine.txt").write_text("zeros.h5")
    assert not net_of(HDF5.replace("hdf5_one", "mine")).forward()["data"].any()


def test_hdf5_that_claims_more_than_it_can_hold_is_refused():
    with h5py.File("large.h5", "w") as f:
        f.create_dataset("data", (1 << 20, 1 << 20), np.float32, chunks=(1, 1 << 10))
    Path("mine.txt").write_text("large.h5")
    with pytest.raises(CaffeError, match="large.h5: /data says its shape is .1048576, 1048576., which a file of"):
        net_of(HDF5.replace("hdf5_one", "mine"))


def test_hdf5_output_replaces_an_old_file_at_once_and_leaves_no_other():
    Path("out.h5").write_text("old")
    Path("net.prototxt").write_text("""
        layer { name: "x" type: "Input" top: "x" top: "y" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "out" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param { file_name: "out.h5" } }""")
    net = caffe.Net("net.prototxt", caffe.TEST)
    with h5py.File("out.h5") as f:
        assert list(f) == []
    net.blobs["x"].data[...] = 5
    net.forward()
    with h5py.File("out.h5") as f:
        assert f["data"].shape == (2, 3, 1, 1) and (f["data"][()] == 5).all() and not f["label"][()].any()
    assert sorted(p.name for p in Path(".").iterdir()) == ["net.prototxt", "out.h5"]


def test_memory_data_reads_its_arrays_when_asked():
    net = net_of('type: "MemoryData" top: "data" top: "label" '
                 "memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 }")
    data, labels = np.zeros((2, 1, 1, 1), np.float32), np.arange(2, dtype=np.float32)
    net.set_input_arrays(data, labels)
    data[:, 0, 0, 0] = 3, 4
    assert [float(net.forward()["data"].item()) for _ in range(3)] == [3, 4, 3]
    net.blobs["data"].data[...] = 9
    assert data[0] == 3  # unlike Caffe, whose blob is the user's array itself


def test_a_window_file_cut_anywhere_is_refused_or_read():
    Path("net.prototxt").write_text("""
        layer { name: "layer" type: "WindowData" top: "a" top: "b" transform_param { crop_size: 5 }
                window_data_param { source: "w.txt" batch_size: 1 } }""")
    words, outcomes = layer_files.LISTS["windows.txt"].split(), []
    for end in range(len(words) + 1):
        Path("w.txt").write_text(" ".join(words[:end]))
        try:
            caffe.Net("net.prototxt", caffe.TRAIN)
            outcomes.append("read")
        except CaffeError as e:
            outcomes.append("w.txt" in str(e))
    assert outcomes == [True] * 31 + ["read"] + [True] * (len(words) - 32) + ["read"]  # 31: all of image 0, nothing of 1


def test_labels_of_memory_data_need_not_lie_side_by_side():
    net = net_of('type: "MemoryData" top: "data" top: "label" '
                 "memory_data_param { batch_size: 2 channels: 1 height: 1 width: 1 }")
    net.set_input_arrays(np.zeros((2, 1, 1, 1), np.float32), np.arange(4, dtype=np.float32)[::2])
    assert net.forward()["label"].ravel().tolist() == [0, 2]


def test_cached_images_are_read_at_setup():
    layer = ('type: "WindowData" top: "a" top: "b" transform_param { crop_size: 5 } '
             'window_data_param { source: "windows.txt" batch_size: 4 %s}')
    nets = [net_of(layer % parameter) for parameter in ("cache_images: true ", "")]
    Path("tall.png").unlink()
    Path("folder/wide.png").unlink()
    assert nets[0].forward()["a"].any()
    with pytest.raises(CaffeError, match="Could not open or find file"):
        nets[1].forward()


def test_grey_of_a_jpeg_is_its_own_brightness():
    # As libjpeg's greyscale output, which OpenCV takes, is; grey made of the decoded colours differs.
    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(4).randint(0, 256, (16, 16, 3)).astype(np.uint8)).save(file, "JPEG")
    with Image.open(file) as image:
        made = np.asarray(image.convert("L"))
    with Image.open(file) as image:
        image.draft("YCbCr", image.size)
        assert image.mode == "YCbCr"
        own = np.asarray(image)[..., 0]
    assert (made != own).any()
    np.testing.assert_array_equal(images.decode(file.getvalue(), False)[0], own)


def test_an_image_that_claims_more_than_it_can_hold_is_refused():
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = (8000).to_bytes(4, "big") * 2  # width and height in IHDR
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(CaffeError, match="not an image: it says it has 8000 x 8000 pixels"):
        images.decode(bytes(data), None)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
@pytest.mark.parametrize("color", [None, False, True])
def test_a_cut_or_damaged_image_is_an_image_or_refused(kind, color):
    random = np.random.RandomState(0)
    file = io.BytesIO()
    Image.fromarray(random.randint(0, 256, (9, 8, 3)).astype(np.uint8)).save(file, kind)
    data = file.getvalue()
    assert images.decode(data, color).shape == (1 if color is False else 3, 9, 8)
    damaged = [data[: int(end)] for end in np.linspace(0, len(data) - 1, 30)]
    for place in random.randint(0, len(data), 60):
        damaged.append(data[:place] + bytes([random.randint(256)]) + data[place + 1 :])
    refused = 0
    for broken in damaged:
        try:
            assert images.decode(broken, color).dtype == np.uint8
        except CaffeError as e:
            assert str(e).startswith("not an image: ")
            refused += 1
    assert refused > 10
