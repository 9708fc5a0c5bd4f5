"""tools/prototxt.py: canonical text, its float and string forms, errors with a place, complete or no files."""

import contextlib
import os
import struct

import prototxt
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

CANONICAL = r"""# made by hand
# for this test
name: "a\"b\'c\\d\n\t\r\001\303\244"
force_backward: true
layer {
  name: "x"
  type: "Pooling"
  bottom: "b0"
  bottom: "b1"
  loss_weight: 1
  loss_weight: 0.5
  loss_weight: 104.00699
  param {
    lr_mult: 1
    decay_mult: 0
  }
  blobs {
    data: 1e-10
    shape {
      dim: -1
    }
    double_data: 0.1
    double_data: -3
  }
  pooling_param {
    pool: AVE
    kernel_size: 3
  }
  relu_param {
  }
}
"""


def example():
    net = caffe_pb2.NetParameter(name="a\"b'c\\d\n\t\r\x01\xe4", force_backward=True)
    layer = net.layer.add(name="x", type="Pooling", bottom=["b0", "b1"], loss_weight=[1, 0.5, 104.00699])
    layer.pooling_param.kernel_size = 3
    layer.pooling_param.pool = caffe_pb2.PoolingParameter.AVE
    layer.relu_param.SetInParent()
    layer.param.add(lr_mult=1, decay_mult=0)
    blob = layer.blobs.add(data=[1e-10], double_data=[0.1, -3])
    blob.shape.dim.append(-1)
    return net


def test_canonical_text():
    assert prototxt.text(example(), header="made by hand\nfor this test") == CANONICAL


def test_canonical_text_is_read_back_as_the_same_message():
    assert text_format.Parse(CANONICAL, caffe_pb2.NetParameter()) == example()


@pytest.mark.parametrize("header", ["made in /home/jürgen", "made in /home/jürgen".encode(), "made in /home/\udce4"])
def test_a_header_may_name_any_path(tmp_path, header):
    """A checkout may lie anywhere, and what solve.py writes names its folder; bytes is what Python 2 gives."""
    path = tmp_path / "x.prototxt"
    prototxt.write(str(path), example(), header=header)
    assert prototxt.read(str(path), caffe_pb2.NetParameter()) == example()
    assert path.read_text(encoding="utf-8").startswith("# made in /home/")


def test_bytes_are_escaped_too():
    datum = caffe_pb2.Datum(data=b"\x00\xff'x")
    assert prototxt.text(datum) == "data: \"\\000\\377\\'x\"\n"
    assert text_format.Parse(prototxt.text(datum), caffe_pb2.Datum()) == datum


@pytest.mark.parametrize(
    "value, shown",
    [(1, "1"), (0, "0"), (-2.5, "-2.5"), (1e-10, "1e-10"), (0.1, "0.1"), (0.0005, "0.0005"), (116.66877, "116.66877"),
     (1 / 3, "0.33333334"), (13.148581504821777, "13.1485815"), (100000, "100000"), (16777217, "16777216"),
     (float("inf"), "inf")],
)  # fmt: skip
def test_floats_as_the_released_files_write_them(value, shown):
    assert prototxt.text(caffe_pb2.ParamSpec(lr_mult=value)) == f"lr_mult: {shown}\n"


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_subnormal=False))  # those below 1e-38 hold fewer than six digits
def test_every_float_survives_in_as_few_digits_as_possible(value):
    shown = prototxt.text(caffe_pb2.ParamSpec(lr_mult=value)).split()[1]
    assert struct.pack("f", float(shown)) == struct.pack("f", value)
    digits = len(shown.split("e")[0].replace("-", "").replace(".", "").strip("0"))
    if digits > 1 and abs(value) != float("inf"):
        with contextlib.suppress(OverflowError):  # rounded up past the largest float32
            assert struct.pack("f", float("%.*g" % (digits - 1, value))) != struct.pack("f", value)


def test_a_typo_is_shown_with_its_place_and_the_nearest_name(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('layer {\n  name: "conv1"\n  botom: "data"\n}\n')
    with pytest.raises(prototxt.PrototxtError) as error:
        prototxt.read(str(path), caffe_pb2.NetParameter())
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path}:3:3: ") and '"botom"' in lines[0]
    assert lines[1].strip() == 'botom: "data"'
    assert lines[2].strip().startswith("Did you mean bottom? Known here: name, type, bottom,")


@pytest.mark.parametrize(
    "text, place, word",
    [
        ("layer { pooling_param {\n pool: MXA } }", "2:8", "Did you mean MAX? Known here: MAX, AVE, STOCHASTIC"),
        ("layer {\n pooling_param { kernal_size: 2 } }", "2:18", "Did you mean kernel_size?"),
        ('name: "a"\nname: "b"', "2:7", "multiple"),
        ("layer { convolution_param { num_output: 1.5 } }", "1:41", "1.5"),
        ("layer { name: conv1 }", "1:15", "conv1"),
        ("layer {", "1:", "}"),
    ],
)
def test_mistakes_are_shown_with_their_place(tmp_path, text, place, word):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(prototxt.PrototxtError) as error:
        prototxt.read(str(path), caffe_pb2.NetParameter())
    assert str(error.value).startswith(f"{path}:{place}") and word in str(error.value)


def test_a_binary_file_is_no_prototxt(tmp_path):
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(b"\x0a\x01\xff\xff")
    with pytest.raises(prototxt.PrototxtError, match="weights.caffemodel is no prototxt: byte 2 .*caffemodel"):
        prototxt.read(str(path), caffe_pb2.NetParameter())


def test_a_missing_file_is_named():
    with pytest.raises(OSError, match="/no-such.prototxt: no such file; wanted a prototxt"):
        prototxt.read("no-such.prototxt", caffe_pb2.NetParameter())


def test_read_ignores_comments_and_gives_the_message(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(CANONICAL)
    assert prototxt.read(str(path), caffe_pb2.NetParameter()) == example()


def test_write_leaves_a_file_alone_that_is_the_same(tmp_path):
    path = tmp_path / "net.prototxt"
    assert prototxt.write(str(path), example(), header="x") is True
    os.utime(path, (1, 1))
    assert prototxt.write(str(path), example(), header="x") is False
    assert path.stat().st_mtime == 1
    assert prototxt.write(str(path), example()) is True
    assert path.read_text() == prototxt.text(example()) and os.listdir(tmp_path) == ["net.prototxt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "net.prototxt"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        prototxt.write(str(path), example())
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["net.prototxt"]
