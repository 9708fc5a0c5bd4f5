"""Caffe's files: what is written comes back, protobuf agrees with the quick reader, and damage is a clear error."""

import os
import resource
import struct
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchcaffe import files, hdf5, wire
from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

# the same examples every time, so that the suite's answer depends on the code alone
COMMON = dict(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" param { name: "w" } inner_product_param { num_output: 3 }
  include { phase: TEST } propagate_down: false phase: TEST }
layer { name: "ip2" type: "InnerProduct" bottom: "data" top: "ip2" param { name: "w" } }
layer { name: "scale" type: "Scale" bottom: "ip" top: "scale" }
"""


class FakeNet:
    """What files.write_net needs: ip2 shares ip's weights, and scale has a 0-axis parameter."""

    def __init__(self):
        rows = [[], [(3, 2), (3,)], [(3, 2), (3,)], [()]]
        self.blobs = [[Blob(*shape) for shape in row] for row in rows]
        values = np.random.RandomState(0)
        for blob in (b for row in self.blobs for b in row):
            blob.data[...] = values.randn(*blob.shape)
            blob.diff[...] = values.randn(*blob.shape)
        self.blobs[2][0].share_data(self.blobs[1][0])
        self.blobs[2][0].share_diff(self.blobs[1][0])
        self.learnable_params = [b for row in self.blobs for b in row if b is not self.blobs[2][0]]

    def definition(self):
        return text_format.Parse(NET, caffe_pb2.NetParameter())

    def param_blobs(self):
        return self.blobs


def same_weights(layers, net, shared_left_out=False):
    for layer, definition, blobs in zip(layers, net.definition().layer, net.blobs):
        assert layer.name == definition.name and layer.type in (definition.type, "")
        assert len(layer.blobs) == len(blobs)
        for k, (array, blob) in enumerate(zip(layer.blobs, blobs)):
            if shared_left_out and (layer.name, k) == ("ip2", 0):
                assert array is None
                continue
            assert array.shape == blob.shape == array.values.shape and array.values.dtype == np.float32
            assert array.values.tobytes() == blob.data.tobytes()


# -- what is written comes back ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("write_diff", [False, True])
def test_caffemodel_is_what_protobuf_would_write(tmp_path, write_diff):
    net, path = FakeNet(), str(tmp_path / "small.caffemodel")
    files.write_net(path, net, write_diff)
    wanted = net.definition()
    for layer, blobs in zip(wanted.layer, net.blobs):
        layer.blobs.extend(blob.to_proto(write_diff) for blob in blobs)
    wanted.layer[3].blobs[0].ClearField("shape")  # BVLC writes no shape for 0 axes
    with open(path, "rb") as f:
        assert f.read() == wanted.SerializeToString()
    same_weights(files.read_weights(path), net)
    assert os.listdir(tmp_path) == ["small.caffemodel"]


def test_message_is_written_as_it_is(tmp_path):
    path, net = str(tmp_path / "net.caffemodel"), text_format.Parse(NET, caffe_pb2.NetParameter())
    files.write_net(path, net)
    assert files.read_net_binary(path) == net


@pytest.mark.parametrize("write_diff", [False, True])
def test_hdf5_model(tmp_path, write_diff):
    net, path = FakeNet(), str(tmp_path / "small.caffemodel.h5")
    files.write_net_hdf5(path, net, write_diff)
    with h5py.File(path) as f:
        names = []
        f.visit(names.append)
        assert sorted(f) == (["data", "diff"] if write_diff else ["data"])
    wanted = {"data", "data/data", "data/ip", "data/ip/0", "data/ip/1", "data/ip2", "data/ip2/1", "data/scale",
              "data/scale/0"}
    assert {n for n in names if n.startswith("data")} == wanted
    if write_diff:  # as in BVLC, a shared parameter's diff is under its sharers too
        assert {n for n in names if n.startswith("diff")} == {"diff" + n[4:] for n in wanted} | {"diff/ip2/0"}
    same_weights(files.read_weights(path), net, shared_left_out=True)


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_solver_state(tmp_path, suffix):
    path = str(tmp_path / ("s_iter_7.solverstate" + suffix))
    history = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([1.5]), np.array(2.5, np.float32)]
    files.write_solver_state(path, 7, 2, "snapshot/s_iter_7.caffemodel" + suffix, history)
    state = files.read_solver_state(path)
    assert state[:3] == (7, "snapshot/s_iter_7.caffemodel" + suffix, 2)
    assert [a.shape for a in state.history] == [(2, 3), (1,), ()]
    assert all(np.array_equal(a.values, b) for a, b in zip(state.history, history))
    if not suffix:
        with open(path, "rb") as f:
            message = caffe_pb2.SolverState.FromString(f.read())
        assert (message.iter, message.current_step) == (7, 2)
        assert list(message.history[0].data) == list(range(6)) and list(message.history[0].shape.dim) == [2, 3]


def test_mean_file(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(caffe_pb2.BlobProto(num=1, channels=3, height=1, width=2, data=range(6)).SerializeToString())
    mean = files.read_blob(str(path))
    assert mean.shape == (1, 3, 1, 2) and mean.values.ravel().tolist() == list(range(6))


def test_slash_in_a_name_has_no_place_in_hdf5(tmp_path):
    net = FakeNet()
    definition = net.definition()
    definition.layer[1].name = "inception_3a/1x1"
    net.definition = lambda: definition
    with pytest.raises(CaffeError, match="inception_3a/1x1.*save as binary"):
        files.write_net_hdf5(str(tmp_path / "net.h5"), net)
    assert os.listdir(tmp_path) == []


# -- protobuf agrees with the quick reader -----------------------------------------------------------------------------
def field(number, payload):
    return wire.bytes_head(number, len(payload)) + payload


@st.composite
def blob_bytes(draw):
    """A BlobProto in one of the ways writers had: shape or legacy, packed or not, in pieces, float or double."""
    dims = draw(st.lists(st.integers(0, 4), min_size=0, max_size=4))
    values = draw(st.lists(st.floats(width=32, allow_nan=False), min_size=int(np.prod(dims)), max_size=int(np.prod(dims))))
    blob = caffe_pb2.BlobProto()
    if len(dims) == 4 and draw(st.booleans()):
        blob.num, blob.channels, blob.height, blob.width = dims
    else:
        blob.shape.dim.extend(dims)
    if draw(st.booleans()):
        blob.diff.extend(values)
    number, code, size = draw(st.sampled_from([(5, "f", 4), (8, "d", 8)]))
    key = {4: wire.FIXED32, 8: wire.FIXED64}[size]
    out = blob.SerializeToString()
    while values:
        n = draw(st.integers(1, len(values)))
        piece, values = values[:n], values[n:]
        if draw(st.booleans()):
            out += field(number, struct.pack("<%d%s" % (n, code), *piece))
        else:
            out += b"".join(bytes([number << 3 | key]) + struct.pack("<" + code, v) for v in piece)
    return out


@st.composite
def net_bytes(draw):
    """A net of format V2, V1 or V0 and the number of its format."""
    version = draw(st.sampled_from([2, 1, 0]))
    out = caffe_pb2.NetParameter(name=draw(st.text(max_size=5))).SerializeToString()
    for _ in range(draw(st.integers(1, 4))):
        name, blobs = draw(st.text(max_size=8)), draw(st.lists(blob_bytes(), max_size=3))
        if version == 2:
            layer = caffe_pb2.LayerParameter(name=name, type=draw(st.sampled_from(["Convolution", "X"])), loss_weight=[1, 2])
            layer.param.add().lr_mult = 3
            out += field(100, layer.SerializeToString() + b"".join(field(7, b) for b in blobs))
        elif version == 1:
            layer = caffe_pb2.V1LayerParameter(name=name, blobs_lr=[1, 2], type=draw(st.integers(0, 39)))
            layer.convolution_param.num_output = 2
            out += field(2, layer.SerializeToString() + b"".join(field(6, b) for b in blobs))
        else:
            layer = caffe_pb2.V0LayerParameter(name=name, type=draw(st.sampled_from(["conv", "pool", "padding", "relu"])))
            out += field(2, field(1, layer.SerializeToString() + b"".join(field(50, b) for b in blobs)))
    return out


@settings(max_examples=80, **COMMON)
@given(net_bytes())
def test_quick_reader_agrees_with_protobuf(tmp_path, monkeypatch, content):
    monkeypatch.setenv("GLOG_minloglevel", "9")
    path = tmp_path / "any.caffemodel"
    path.write_bytes(content)
    wanted = files.read_net_binary(str(path)).layer
    got = files.read_weights(str(path))
    assert [(layer.name, layer.type) for layer in got] == [(layer.name, layer.type) for layer in wanted]
    for mine, theirs in zip(got, wanted):
        for array, blob in zip(mine.blobs, theirs.blobs, strict=True):
            legacy = blob.HasField("num")
            shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
            assert array.shape == array.values.shape == shape
            values = np.array(list(blob.double_data) or list(blob.data), np.float32)
            assert array.values.dtype == np.float32 and np.array_equal(array.values.ravel(), values)


@settings(max_examples=200, **COMMON)
@given(st.data())
def test_damage_is_an_error_that_names_the_file(tmp_path, data):
    """Cut, changed and foreign bytes: the readers return or raise CaffeError, nothing else."""
    path = tmp_path / "damaged.caffemodel"
    content = bytearray(data.draw(st.one_of(net_bytes(), st.binary(max_size=200))))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for read in (files.read_weights, files.read_solver_state, files.read_blob):
        try:
            read(str(path))
        except CaffeError as e:
            assert str(path) in str(e)


def claimed(dims):
    return field(100, field(7, caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=dims), data=[1, 2]).SerializeToString()))


@pytest.mark.parametrize("content, message", [
    (b"", "it is empty"),
    (b"<!DOCTYPE html><html>", "wire type 4 at byte 0.*begin with b'<!DOCTYPE html>"),
    (field(1, b"a net"), "it holds no layer"),
    (field(100, field(1, b"conv1"))[:-2], "field 100 at byte 0 should have 7 bytes, but only 5 are left"),
    (b"\xa2\x06\xff\xff\xff\xff\x7f", "should have 34359738367 bytes, but only 0 are left"),
    (claimed([1 << 40, 1 << 20]), "says its shape is .* but holds 2 values"),
    (claimed([-1, -2]), r"says its shape is \(-1, -2\) but holds 2 values"),
    (claimed([1] * 33), "more than 32 axes"),
    (field(100, b"") + field(2, b""), "both `layer` and `layers`"),
    (field(100, field(1, b"\xff\xfe")), "is no text"),
    (field(100, field(7, field(5, b"12345"))), "has 5 bytes"),
    (b"\x08\x01" * (wire.MAX_FIELDS + 1), "more than 1048576 fields"),
])
def test_what_is_wrong_is_said(tmp_path, content, message):
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    with pytest.raises(CaffeError, match="bad.caffemodel: .*" + message):
        files.read_weights(str(path))


def test_folders_and_missing_files(tmp_path):
    for path in (str(tmp_path), str(tmp_path / "absent")):
        for read in (files.read_weights, files.read_net_text, files.read_net_binary, files.read_solver_text):
            with pytest.raises(CaffeError, match=path):
                read(path)


@pytest.mark.parametrize("broken, message", [
    (lambda f: f.create_group("other"), "has a group /data; it has other"),
    (lambda f: f.create_dataset("data", data=[1]), "has a group /data; it has data"),
    (lambda f: f.create_dataset("data/ip/x", data=[1.0]), "arrays named 0, 1"),
    (lambda f: f.create_dataset("data/ip/0", data="text"), "no array of numbers"),
    (lambda f: f.create_dataset("data/ip/0", shape=(1 << 40,), dtype="f4", chunks=(1024,)), "cannot hold"),
])
def test_hdf5_of_another_make(tmp_path, broken, message):
    path = str(tmp_path / "bad.h5")
    with h5py.File(path, "w") as f:
        broken(f)
    with pytest.raises(CaffeError, match="bad.h5: .*" + message):
        files.read_weights(path)


def test_cut_hdf5(tmp_path):
    path = tmp_path / "cut.h5"
    files.write_net_hdf5(str(path), FakeNet())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CaffeError, match="cut.h5: wanted an HDF5 model"):
        files.read_weights(str(path))
    with pytest.raises(CaffeError, match="absent.h5"):
        hdf5.read_weights(str(tmp_path / "absent.h5"))


# -- text --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text, message", [
    ('name: "n"\nlayer { bottm: "a" }', r'net.prototxt:2:9: Message type "caffe.LayerParameter" has no field named '
     r'"bottm". Did you mean \'bottom\'\?'),
    ("layer { convolution_param { kernelsize: 3 } }", "Did you mean 'kernel_size'"),
    ("layers { type: CONVOLUTON }", r"1:16: Enum type .*no value named CONVOLUTON. Did you mean 'CONVOLUTION'\?"),
    ("layer { include { phase: QQ } }", "Known: TEST, TRAIN."),
    ('layer { name: "a"', "1:15: Expected"),
    ("layer { loss_weight: big }", "1:22: Couldn't parse float: big"),
    ('layer { name: "a" name: "b" }', 'should not have multiple "name" fields'),
])
def test_typo_is_shown_with_its_place(tmp_path, text, message):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(CaffeError, match=message):
        files.read_net_text(str(path))


def test_solver_text(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text('net: "n.prototxt" solver_type: ADAM # caf\u00e9\n')
    solver = files.read_solver_text(str(path))
    assert (solver.type, solver.snapshot_prefix) == ("Adam", str(tmp_path / "solver"))
    path.write_text('nett: "n.prototxt"')
    with pytest.raises(CaffeError, match="solver.prototxt:1:1: .*nett.*Did you mean 'net'"):
        files.read_solver_text(str(path))


# -- nothing half-written ----------------------------------------------------------------------------------------------
@contextmanager
def disk_of(size):
    """As if the disk were full after `size` bytes of a file (Python turns the signal into an OSError)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["model.caffemodel", "model.caffemodel.h5"])
def test_full_disk_leaves_the_old_file_alone(tmp_path, name):
    path = tmp_path / name
    net = FakeNet()
    write = files.write_net_hdf5 if name.endswith(".h5") else files.write_net
    path.write_bytes(b"old")
    with disk_of(100), pytest.raises(CaffeError, match=name + ": cannot be written: .*disk space"):
        write(str(path), net)
    assert os.listdir(tmp_path) == [name] and path.read_bytes() == b"old"


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(CaffeError, match="make the folder .*absent"):
        files.write_net(str(tmp_path / "absent" / "a.caffemodel"), FakeNet())


def test_interrupted_write_leaves_nothing(tmp_path):
    def chunks():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_file(str(tmp_path / "a.caffemodel"), chunks())
    assert os.listdir(tmp_path) == []


def test_a_file_that_becomes_shorter(tmp_path):
    """Its numbers are read late; a clear error then, not a crash, as a mapped file would give."""
    net, path = FakeNet(), tmp_path / "small.caffemodel"
    files.write_net(str(path), net)
    layers = files.read_weights(str(path))
    os.truncate(path, 30)
    with pytest.raises(CaffeError, match="small.caffemodel: it became shorter while it was read"):
        for layer in layers:
            for blob in layer.blobs:
                blob.values  # noqa: B018
