"""tools/events.py: TensorBoard's files, byte for byte, and what a training puts into them."""

import struct

import caffe
import events
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

# What tensorboard 2.21.0 (tensorboard.summary.writer.record_writer.RecordWriter, with protobuf 7.36.2) wrote for
# event_pb2.Event messages with wall_time=1.5e9: file_version='brain.Event:2'; step=300, session_log.status=START;
# step=4000 with four Summary.Values; step=0 with one. Recorded on Linux x86-64 with Python 3.11.
VERSION = "1800000000000000a37f4b2209000000c00b5ad6411a0d627261696e2e4576656e743a324ca9a464"
START = "100000000000000095fbfe1809000000c00b5ad64110ac023a02080186d26f32"
SCALARS = ("4d000000000000003d63d4a609000000c00b5ad64110a01f2a3f0a110a0a747261696e2f6c6f737315d70ceb470a120a0b76616c2f6d65"
           "616e5f697515b37b223f0a0b0a047a65726f15000000000a090a02c3a4150000c07f7d2f69bb")
FIRST = "1c00000000000000c8c1951d09000000c00b5ad6412a110a0f0a08747261696e2f6c7215ffe6db2ec361c53c"
TIME = 1.5e9


def read(folder) -> list[tuple[int, dict[str, float], bytes]]:
    """(step, scalars, the rest) of every event in the files of a folder, oldest first; every checksum is checked."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            length, crc = struct.unpack("<QI", data[:12])
            body, tail = data[12:12 + length], data[12 + length:16 + length]
            assert crc == events.masked_crc(data[:8]) and struct.unpack("<I", tail)[0] == events.masked_crc(body)
            data = data[16 + length:]
            step, scalars, rest = 0, {}, b""
            for number, value in fields(body):
                if number == 2:
                    step = value
                elif number == 5:
                    for _, entry in fields(value):
                        tag, number = (part for _, part in fields(entry))
                        scalars[tag.decode()] = struct.unpack("<f", number)[0]
                elif number != 1:
                    rest += value
            found.append((step, scalars, rest))
    return found


def fields(data: bytes):
    """(number, value) of each field of a protobuf message."""
    def varint():
        nonlocal data
        value = shift = 0
        while True:
            byte, data = data[0], data[1:]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while data:
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            value, data = data[:size], data[size:]
            yield key >> 3, value


def test_bytes_are_tensorboards_own():
    scalars = [("train/loss", 120345.678), ("val/mean_iu", 0.6347), ("zero", 0.0), ("ä", float("nan"))]
    assert events.record(events.event(TIME, 4000, events.summary(scalars))).hex() == SCALARS
    assert events.record(events.event(TIME, 0, events.summary([("train/lr", 1e-10)]))).hex() == FIRST


def test_a_file_and_one_that_goes_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(events.time, "time", lambda: TIME)
    first = events.Writer(str(tmp_path))
    path, = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.1500000000.") and path.read_bytes().hex() == VERSION
    first.scalars(300, [("x", 1.)])     # is in the file at once: nobody closes it when a run is killed
    assert path.read_bytes().hex().startswith(VERSION) and read(tmp_path)[1] == (300, {"x": 1.}, b"")
    first.close()
    (tmp_path / "later").mkdir()
    events.Writer(str(tmp_path / "later"), 299).close()      # what is said of iteration 299 stays
    path, = (tmp_path / "later").iterdir()
    assert path.read_bytes().hex() == VERSION + START


def solver_param(text):
    return text_format.Parse(text, caffe_pb2.SolverParameter())


def test_what_a_training_tells(tmp_path):
    told = events.Training(str(tmp_path), solver_param('base_lr: 0.5 lr_policy: "step" gamma: 0.5 stepsize: 3 display: 2'))
    for iteration in range(5):
        told.iteration(iteration, [("sem", 10. * iteration), ("geo", 1.)])
    told.scored({"iteration": 5, "mean_iu": .25, "loss": 3., "iu": [1, None], "weights": "x", "geo": {"mean_iu": .5}})
    told.close()
    assert read(tmp_path)[1:] == [
        (2, {"train/loss": 6., "train/lr": .5, "train/loss_sem": 5., "train/loss_geo": 1.}, b""),
        (4, {"train/loss": 26., "train/lr": .25, "train/loss_sem": 25., "train/loss_geo": 1.}, b""),
        (5, {"val/mean_iu": .25, "val/loss": 3., "val/geo_mean_iu": .5}, b"")]


@pytest.mark.parametrize("policy", ["fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"])
def test_the_rate_is_the_solvers(policy, tmp_path):
    """Of the engine's solver, whose rates are held to a real Caffe's by tests/test_solver.py."""
    text = (f'base_lr: 0.3 lr_policy: "{policy}" gamma: 0.7 power: 0.75 stepsize: 3 stepvalue: 2 stepvalue: 5 max_iter: 12 '
            'net_param { layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 1 } } } }')
    path = tmp_path / "solver.prototxt"
    path.write_text(text)
    solver, param = caffe.get_solver(str(path)), solver_param(text)
    for iteration in (0, 1, 2, 3, 5, 11):
        solver.iter = iteration
        # the engine computes in single precision, as Caffe does
        assert events.learning_rate(param, iteration) == pytest.approx(float(solver._learning_rate()), rel=1e-6)


def test_a_policy_there_is_not():
    with pytest.raises(ValueError, match="lr_policy is 'cosine'; wanted fixed"):
        events.learning_rate(solver_param('lr_policy: "cosine"'), 0)
