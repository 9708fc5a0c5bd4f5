"""Caffe's files, read and written: prototxt, caffemodel, solverstate, mean (util/io.cpp, net.cpp, sgd_solver.cpp).

Definitions go through protobuf and are upgraded as they are read; weights go through wire.py or hdf5.py. Every file is
written under a temporary name beside the wanted one and renamed when complete. What is wrong with a file is a
CaffeError that names it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from torchcaffe import forks, hdf5, upgrade, wire
from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2
from torchcaffe.wire import LayerWeights, SolverState, Values


class Saveable(Protocol):
    """What write_net needs of a net."""

    learnable_params: list[Blob]

    def definition(self) -> caffe_pb2.NetParameter:
        """The net without parameter values."""

    def param_blobs(self) -> list[list[Blob]]:
        """Each layer's parameter blobs, parallel to definition().layer."""


# -- definitions -------------------------------------------------------------------------------------------------------
def read_net_text(path: str) -> caffe_pb2.NetParameter:
    """A net's prototxt, upgraded to today's form (ReadNetParamsFromTextFileOrDie). Raises CaffeError."""
    net = read_text(path, caffe_pb2.NetParameter())
    upgrade.upgrade_net(net, path)
    return net


def read_net_binary(path: str) -> caffe_pb2.NetParameter:
    """A caffemodel with all it says, upgraded; for its weights alone read_weights is quicker. Raises CaffeError."""
    net = read_binary(path, caffe_pb2.NetParameter())
    upgrade.upgrade_net(net, path)
    return net


def read_binary(path: str, message: Message) -> Any:
    """Fill `message` from a binary file and return it. Raises CaffeError."""
    buffer = wire.load(path)
    try:
        message.ParseFromString(buffer)
    except DecodeError as e:
        raise CaffeError("%s: wanted a binary %s%s; got %d bytes that begin with %r and do not parse: %s" % (
            path, message.DESCRIPTOR.name, " (caffemodel)" if isinstance(message, caffe_pb2.NetParameter) else "",
            len(buffer), buffer[:16], e)) from e
    bad = next(_no_texts(message), None)
    if bad is not None:
        raise CaffeError("%s: %r is no text (UTF-8); the file is damaged, or its names are in other letters: rename them"
                         % (path, bad[:40]))
    return message


def _no_texts(message: Message) -> Iterator[bytes]:
    """The texts that are none, which protobuf hands out as bytes."""
    for field, value in message.ListFields():
        for inner in value if field.is_repeated else [value]:
            if field.type == field.TYPE_MESSAGE:
                yield from _no_texts(inner)
            elif field.type != field.TYPE_STRING:
                break
            elif isinstance(inner, bytes):
                yield inner


def read_solver_text(path: str) -> caffe_pb2.SolverParameter:
    """A solver's prototxt, upgraded and with its snapshot_prefix set (ReadSolverParamsFromTextFileOrDie)."""
    solver = read_text(path, caffe_pb2.SolverParameter())
    upgrade.upgrade_solver(solver, path)
    upgrade.set_snapshot_prefix(solver, path)
    return solver


def read_text(path: str, message: Message) -> Any:
    """Fill `message` from a text file and return it.

    A CaffeError says file, line, column and what is wrong; for an unknown field or enum value the nearest known one too.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            text = f.read()
    except OSError as e:
        raise CaffeError("%s: cannot be read: %s" % (path, e.strerror or e)) from e
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as e:
        place = "" if e.GetLine() is None else ":%d:%d" % (e.GetLine(), e.GetColumn())
        what = re.sub(r"^\d+:\d+ : ", "", str(e)).strip()
        what = re.sub(r"^'.*?': (?=[A-Z])", "", what, flags=re.DOTALL)
        raise CaffeError("%s%s: %s%s" % (path, place, what, _nearest(what))) from e
    except (SystemError, UnicodeError) as e:  # protobuf's, of a name with bytes that are not UTF-8
        line = next((i for i, line in enumerate(text.split("\n"), 1) if re.search("[\ud800-\udfff]", line)), 1)
        raise CaffeError("%s:%d: it has bytes that are no UTF-8 text; save it as UTF-8" % (path, line)) from e
    for layer in message.layer if isinstance(message, caffe_pb2.NetParameter) else ():
        if refusal := forks.refusal(layer):
            raise CaffeError("%s: layer '%s': %s" % (path, layer.name, refusal))
    return message


def _nearest(what: str) -> str:
    """For protobuf's message about an unknown name: the known one that looks most like it."""
    found = re.search(r'(Message|Enum) type "caffe\.([\w.]+)" has no (?:field|value) named "?([\w.]+?)"?\.', what + ".")
    if found is None:
        return ""
    kind, type_name, name = found.groups()
    pool = caffe_pb2.DESCRIPTOR.pool
    if kind == "Message":
        known = sorted(f.name for f in pool.FindMessageTypeByName("caffe." + type_name).fields if forks.visible(f))
    else:
        known = sorted(pool.FindEnumTypeByName("caffe." + type_name).values_by_name)
    close = difflib.get_close_matches(name, known, 1)
    return " Did you mean '%s'?" % close[0] if close else " Known: %s." % ", ".join(known)


# -- weights -----------------------------------------------------------------------------------------------------------
def read_weights(path: str) -> list[LayerWeights]:
    """The layers of a caffemodel, in file order; HDF5 (known by its first bytes, as in Caffe) in order of names.

    The numbers of a binary file stay in it until they are asked for: copy_to reads them to where they shall be.
    """
    return hdf5.read_weights(path) if hdf5.is_hdf5(path) else wire.read_weights(path)


def read_blob(path: str) -> Values:
    """A .binaryproto file holding one BlobProto: a mean image or an infogain matrix. Raises CaffeError."""
    return wire.read_blob(path)


def write_net(path: str, net: Saveable | caffe_pb2.NetParameter, write_diff: bool = False) -> None:
    """Write a net's definition and parameters as a binary caffemodel (Net::ToProto); of a message, what it holds.

    Raises CaffeError, and leaves no part of a file, if it cannot.
    """
    chunks = [net.SerializeToString()] if isinstance(net, caffe_pb2.NetParameter) else _net_chunks(net, write_diff)
    write_file(path, chunks)


def write_net_hdf5(path: str, net: Saveable, write_diff: bool = False) -> None:
    """Write a net's parameters as HDF5; data of a shared one under its owner only, as in Caffe. Raises CaffeError."""
    owners = {id(blob) for blob in net.learnable_params}
    layers = []
    for layer, blobs in zip(net.definition().layer, net.param_blobs()):
        data = [_data(b) if id(b) in owners else None for b in blobs]
        layers.append((layer.name, data, [_diff(b) for b in blobs] if write_diff else None))
    write_by_name(path, lambda temporary: hdf5.write_weights(temporary, layers))


def write_hdf5(path: str, datasets: Mapping[str, np.ndarray]) -> None:
    """Write arrays as the datasets of an HDF5 file, as HDF5Output does. Raises CaffeError."""
    write_by_name(path, lambda temporary: hdf5.write_datasets(temporary, datasets))


def _net_chunks(net: Saveable, write_diff: bool) -> Iterable[bytes | memoryview]:
    """The bytes of a caffemodel, in the order of protobuf's own: the net's fields, then its layers."""
    definition = net.definition()
    head = caffe_pb2.NetParameter()
    head.CopyFrom(definition)
    head.ClearField("layer")
    yield head.SerializeToString()
    for layer, blobs in zip(definition.layer, net.param_blobs()):
        before, after = caffe_pb2.LayerParameter(), caffe_pb2.LayerParameter()
        before.CopyFrom(layer)
        after.CopyFrom(layer)
        for field, _ in layer.ListFields():
            (before if field.number > wire.LAYER_BLOBS else after).ClearField(field.name)
        yield from wire.layer_chunks(
            before.SerializeToString(),
            [wire.blob_chunks(wire.LAYER_BLOBS, _data(b), _diff(b) if write_diff else None) for b in blobs],
            after.SerializeToString())


def _data(blob: Blob | np.ndarray) -> np.ndarray:
    """A blob's data without marking its host copy as the newest; arrays pass through."""
    return blob if isinstance(blob, np.ndarray) else blob.value.detach().cpu().numpy()


def _diff(blob: Blob) -> np.ndarray:
    return blob.grad.detach().cpu().numpy()


# -- solver states -----------------------------------------------------------------------------------------------------
def read_solver_state(path: str) -> SolverState:
    """A solverstate; HDF5 if `path` ends in .h5, as in Caffe. Raises CaffeError."""
    return hdf5.read_solver_state(path) if path.endswith(".h5") else wire.read_solver_state(path)


def write_solver_state(path: str, iteration: int, current_step: int, learned_net: str,
                       history: Sequence[Blob | np.ndarray]) -> None:
    """Write a solverstate; HDF5 if `path` ends in .h5. `learned_net` is the path of the caffemodel that goes with it.

    Raises CaffeError, and leaves no part of a file, if it cannot.
    """
    arrays = [_data(h) for h in history]
    if path.endswith(".h5"):
        state = SolverState(iteration, learned_net, current_step, [Values(a.shape, a) for a in arrays])
        write_by_name(path, lambda temporary: hdf5.write_solver_state(temporary, state))
        return
    before = caffe_pb2.SolverState(iter=iteration, learned_net=learned_net)
    after = caffe_pb2.SolverState(current_step=current_step)
    chunks = [chunk for a in arrays for chunk in wire.blob_chunks(wire.STATE_HISTORY, a)]
    write_file(path, [before.SerializeToString(), *chunks, after.SerializeToString()])


# -- complete or not at all --------------------------------------------------------------------------------------------
def write_file(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    """Write the chunks to `path` by way of a temporary file beside it; CaffeError, and nothing left, if that fails."""

    def write(temporary: str) -> None:
        with open(temporary, "wb") as f:
            _write_all(f, chunks)

    write_by_name(path, write)


def _write_all(f: BinaryIO, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        f.write(chunk)


def write_by_name(path: str, write: Callable[[str], None]) -> None:
    """Call write(temporary path), then give the file its name.

    The temporary name is always `path`.tmp: what a killed process left is overwritten by the next try.
    """
    temporary = path + ".tmp"
    try:
        try:
            write(temporary)
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.remove(temporary)
            raise
    except OSError as e:
        folder = os.path.dirname(os.path.abspath(path))
        remedy = "free some disk space" if os.path.isdir(folder) else "make the folder %s" % folder
        raise CaffeError("%s: cannot be written: %s. Nothing of it was left behind; %s or choose another place"
                         % (path, e.strerror or e, remedy)) from e
