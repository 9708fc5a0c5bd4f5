"""tools/caffemodel.py: agrees with the engine's reader and with protobuf on all formats; damage is a clear error."""

import os

import caffemodel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_files import COMMON, claimed, disk_of, field, net_bytes

from torchcaffe import upgrade, wire
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2


def test_type_tables_are_the_engines():
    assert {number: name for number, name in caffemodel.V1_TYPES.items() if name} == upgrade.V1_TYPES
    assert caffemodel.V0_TYPES == {name: upgrade.V1_TYPES[number] for name, number in upgrade.V0_TYPES.items()}


def same(path):
    """Both readers give the same layers, or both refuse."""
    try:
        wanted = wire.read_weights(path)
    except CaffeError:
        with pytest.raises(caffemodel.CaffemodelError, match=os.path.basename(path)):
            caffemodel.read(path)
        return
    got = caffemodel.read(path)
    assert [layer[:2] for layer in got] == [layer[:2] for layer in wanted]
    for mine, theirs in zip(got, wanted):
        for array, values in zip(mine.blobs, theirs.blobs, strict=True):
            assert array.dtype == np.float32 and array.shape == values.shape
            assert array.tobytes() == values.values.tobytes()


@settings(max_examples=60, **COMMON)
@given(net_bytes())
def test_two_readers_agree(tmp_path, content):
    path = tmp_path / "any.caffemodel"
    path.write_bytes(content)
    same(str(path))


@settings(max_examples=200, **COMMON)
@given(st.data())
def test_two_readers_refuse_alike(tmp_path, data):
    path = tmp_path / "damaged.caffemodel"
    content = bytearray(data.draw(st.one_of(net_bytes(), st.binary(max_size=100))))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    same(str(path))


def test_written_file_is_protobufs(tmp_path):
    """Bit for bit what protobuf writes for the same message, 0 axes, 0 values and long numbers included."""
    path = str(tmp_path / "net.caffemodel")
    arrays = [np.arange(600, dtype=np.float32).reshape(300, 2), np.float32(3), np.zeros((0, 3), np.float32)]
    caffemodel.write(path, [("conv1", "Convolution", arrays), ("relu1", "ReLU", [])], name="net")
    net = caffe_pb2.NetParameter(name="net")
    layer = net.layer.add(name="conv1", type="Convolution")
    for array in arrays:
        blob = layer.blobs.add(data=np.ravel(array).tolist())
        if np.ndim(array):
            blob.shape.dim.extend(np.shape(array))
    net.layer.add(name="relu1", type="ReLU")
    with open(path, "rb") as f:
        assert f.read() == net.SerializeToString()
    back = caffemodel.read(path)
    assert [layer.name for layer in back] == ["conv1", "relu1"] and not back[0].legacy
    assert all(np.array_equal(a, b) and a.shape == np.shape(b) for a, b in zip(back[0].blobs, arrays))


def test_arrays_of_other_kinds_are_written_as_float32(tmp_path):
    path = str(tmp_path / "net.caffemodel")
    array = np.arange(12, dtype=np.float64).reshape(3, 4)[:, ::2]
    caffemodel.write(path, [("ip", "InnerProduct", [array])])
    assert np.array_equal(caffemodel.read(path)[0].blobs[0], array)


def test_legacy_shapes_are_marked(tmp_path):
    path = tmp_path / "old.caffemodel"
    layer = caffe_pb2.V1LayerParameter(name="ip", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    path.write_bytes(caffe_pb2.NetParameter(layers=[layer]).SerializeToString())
    (read,) = caffemodel.read(str(path))
    assert (read.name, read.type, read.blobs[0].shape, read.legacy) == ("ip", "InnerProduct", (1, 1, 2, 3), True)


@pytest.mark.parametrize("content, message", [
    (b"", "it is empty"),
    (b"<!DOCTYPE html><html>", "begin with .*DOCTYPE"),
    (b"\x89HDF\r\n\x1a\n1234", "it is HDF5; save the weights as binary"),
    (field(100, field(1, b"conv1"))[:-2], "should have 7 bytes, but only 5 are left"),
    (claimed([1 << 40, 1 << 20]), "holds 2 values"),
    (claimed([-1, -2]), "holds 2 values"),
])
def test_what_is_wrong_is_said(tmp_path, content, message):
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    with pytest.raises(caffemodel.CaffemodelError, match="bad.caffemodel: .*" + message):
        caffemodel.read(str(path))


def test_missing_file(tmp_path):
    with pytest.raises(IOError, match="absent: no such file"):
        caffemodel.read(str(tmp_path / "absent"))


def test_full_disk_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "model.caffemodel"
    path.write_bytes(b"old")
    with disk_of(100), pytest.raises(IOError, match="model.caffemodel: cannot be written: .*disk space"):
        caffemodel.write(str(path), [("ip", "InnerProduct", [np.zeros(1000)])])
    assert os.listdir(tmp_path) == ["model.caffemodel"] and path.read_bytes() == b"old"


def test_an_error_in_a_layer_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        caffemodel.write(str(tmp_path / "model.caffemodel"), [("ip", "InnerProduct", [["no", "numbers"]])])
    assert os.listdir(tmp_path) == []
