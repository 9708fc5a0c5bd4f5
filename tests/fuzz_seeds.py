"""Whole, small files of every kind that readers know: what fuzz.py damages. All are made here, none is kept."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
from google.protobuf import text_format
from PIL import Image

from torchcaffe import files
from torchcaffe.lmdb_writer import LmdbWriter
from torchcaffe.net import Net
from torchcaffe.proto import caffe_pb2
from torchcaffe.sgd_solver import get_solver

KINDS = ("net text", "solver text", "caffemodel", "solverstate", "mean", "model.h5", "state.h5", "data.h5", "lmdb", "datum",
         "image")
NET = """name: "n" state { phase: TEST level: 1 stage: "s" }
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y" param { lr_mult: 1 decay_mult: 0 } include { phase: TRAIN }
        convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "z" inner_product_param { num_output: 3 } }
layer { name: "py" type: "Python" python_param { module: "antigravity" layer: "L" param_str: '{"a": 1}' } }
"""
SMALL = NET.split("include")[0] + NET.split("include { phase: TRAIN }")[1].split('layer { name: "py"')[0]
V1 = """name: "v1" input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 4
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
         convolution_param { num_output: 2 kernel_size: 3 } %s }
layers { name: "r" type: RELU bottom: "c" top: "c" }
"""
V0 = """layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "p" }
layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 %s } bottom: "p" top: "c" }
"""
SOLVER = """net: "net.prototxt" test_iter: 2 test_interval: 10 base_lr: 0.1 lr_policy: "multistep" stepvalue: 5 stepvalue: 9
momentum: 0.9 solver_type: NESTEROV solver_mode: GPU snapshot_prefix: "a/b" train_state { stage: "s" } # a comment
"""
SCHEMA_WORDS = sorted({f.name for name in ("NetParameter", "LayerParameter", "SolverParameter", "V1LayerParameter",
                                           "ConvolutionParameter", "FillerParameter", "BlobProto", "NetState")
                       for f in caffe_pb2.DESCRIPTOR.message_types_by_name[name].fields})


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """The contents of some files of each kind; in the folder a solver.prototxt and what it names."""
    (folder / "net.prototxt").write_text(SMALL)
    (folder / "solver.prototxt").write_text('net: "%s" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 snapshot_prefix: "%s"'
                                            % (folder / "net.prototxt", folder / "s"))
    solver = get_solver(str(folder / "solver.prototxt"))
    solver.snapshot()
    solver.param.snapshot_format = caffe_pb2.SolverParameter.HDF5
    solver.param.snapshot_diff = True
    solver.snapshot()
    found = {"net text": [NET.encode(), (V1 % "").encode(), (V0 % "").encode()], "solver text": [SOLVER.encode()],
             "caffemodel": [read(folder / "s_iter_0.caffemodel"), *old_models(solver.net)],
             "solverstate": [read(folder / "s_iter_0.solverstate")],
             "mean": [caffe_pb2.BlobProto(num=1, channels=3, height=2, width=2, data=range(12)).SerializeToString()],
             "model.h5": [read(folder / "s_iter_0.caffemodel.h5")], "state.h5": [read(folder / "s_iter_0.solverstate.h5")],
             "data.h5": [datasets(folder, **how) for how in ({}, {"compression": "gzip", "shuffle": True})],
             "image": [picture(kind) for kind in ("png", "jpeg", "bmp", "gif", "ppm", "tiff", "webp")]}
    found["datum"] = [m.SerializeToString() for m in data(found["image"])]
    found["lmdb"] = [database(folder, found["datum"], count) for count in (1, 7, 300)]
    return found


def read(path: Path) -> bytes:
    """A file's content."""
    return path.read_bytes()


def old_models(net: Net) -> list[bytes]:
    """Weights in the formats V1 and V0, with blobs as old writers had them."""
    blob = ("blobs { num: 1 channels: 1 height: 1 width: 2 data: 1 data: 2 diff: 3 } "
            "blobs { double_data: 0.5 shape { dim: 1 } }")
    models = [text_format.Parse(text % blob, caffe_pb2.NetParameter()).SerializeToString() for text in (V1, V0)]
    unpacked = b"".join(b"\x2d\0\0\x80\x3f" for _ in range(6)) + b"\x3a\x04\x0a\x02\x02\x03"  # six 1s of shape (2, 3)
    return [*models, b"\xa2\x06" + bytes([len(unpacked) + 6]) + b"\x0a\x02ip" + b"\x3a" + bytes([len(unpacked)]) + unpacked]


def datasets(folder: Path, **how: object) -> bytes:
    """HDF5 training data."""
    with h5py.File(folder / "data.h5", "w") as f:
        f.create_dataset("data", data=np.arange(120, dtype=np.float32).reshape(5, 2, 3, 4), **how)
        f.create_dataset("label", data=np.arange(5, dtype=np.uint8), **how)
    return read(folder / "data.h5")


def picture(kind: str) -> bytes:
    """An image file of 9 x 7 pixels."""
    file = io.BytesIO()
    pixels = np.random.RandomState(0).randint(0, 256, (7, 9, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def data(pictures: list[bytes]) -> list[caffe_pb2.Datum]:
    """Images as a database holds them: bytes, numbers, encoded."""
    return [caffe_pb2.Datum(channels=3, height=2, width=2, data=bytes(range(12)), label=3),
            caffe_pb2.Datum(channels=1, height=2, width=2, float_data=[1, 2, 3, 4], label=-1),
            *(caffe_pb2.Datum(encoded=True, data=p, label=1) for p in pictures[:2])]


def database(folder: Path, values: list[bytes], count: int) -> bytes:
    """An LMDB of several levels, some values in pages of their own."""
    name = folder / ("db%d" % count)
    with LmdbWriter(str(name)) as writer:
        for i in range(count):
            writer.put(b"%08d" % i, values[i % len(values)] * (1 if i % 50 else 20))
    return files.wire.load(str(name / "data.mdb"))
