"""Weights in protobuf's wire format, read and written without protobuf: an index of a file, and its numbers when wanted.

A caffemodel is half a gigabyte of floats and a few kilobytes of structure. Protobuf parses and copies all of it (1 s and
twice the memory for VGG16, minutes in pure Python); this walks the structure and leaves the floats in the file, from which
they are read straight to where they belong. tools/caffemodel.py is its twin for Python 2.7 and numpy alone, which does not
know torchcaffe; tests/test_caffemodel.py holds the two together. Answers to src/caffe/proto/caffe.proto and blob.cpp
FromProto. The fields it knows:

    NetParameter      layer 100 (LayerParameter), layers 2 (V1LayerParameter)
    LayerParameter    name 1, type 2, blobs 7
    V1LayerParameter  layer 1 (V0LayerParameter), name 4, type 5, blobs 6
    V0LayerParameter  name 1, type 2, blobs 50
    BlobProto         num 1, channels 2, height 3, width 4, data 5, diff 6, shape 7 (BlobShape: dim 1), double_data 8
    SolverState       iter 1, learned_net 2, history 3, current_step 4

Every length is checked against the bytes that are there, so a damaged file is an error and never a large allocation.
"""

from __future__ import annotations

import math
import os
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from torchcaffe.errors import CaffeError
from torchcaffe.upgrade import V0_TYPES, V1_TYPES

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_AXES = 32  # kMaxBlobAxes
INT_MAX = 2**31 - 1  # Caffe counts with int
MAX_FIELDS = 1 << 20  # in one message; a net has a few thousand, and noise that parses should not take minutes

UNPACKED = (5, 6, 8, 9)  # of BlobProto: data, diff and their doubles, where a writer did not pack them
LAYER_BLOBS, STATE_HISTORY = 7, 3

Field = tuple[int, int, int, int]  # number, wire type, then the value twice (varint) or where it begins and ends


PIECE = 1 << 16  # bytes of structure read at once, and numbers converted at once


class _File:
    """A file's bytes: structure by index, in pieces of 64 kB; what is large straight to where it belongs.

    Not mapped into memory: that would crash us if someone truncated the file.
    """

    def __init__(self, path: str):
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for ever
                raise CaffeError("%s: got something that is no file, wanted a file of weights" % path)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as e:  # a name with a zero byte is a ValueError
            raise CaffeError("%s: cannot be read: %s" % (path, getattr(e, "strerror", None) or e)) from e
        weakref.finalize(self, os.close, self._descriptor)
        self.path = path
        self._size = os.fstat(self._descriptor).st_size
        self._at, self._piece = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, i: int) -> int:
        """The byte at i, which is below len()."""
        k = i - self._at
        if not 0 <= k < len(self._piece):
            self._at, self._piece, k = i, self.part(i, min(i + PIECE, self._size)), 0
        return self._piece[k]

    def part(self, a: int, b: int) -> bytes:
        """The bytes from a to b."""
        try:
            content = os.pread(self._descriptor, b - a, a)
        except OSError as e:
            raise CaffeError("%s: cannot be read: %s" % (self.path, e.strerror or e)) from e
        if len(content) == b - a:
            return content
        rest = bytearray(b - a - len(content))  # the system reads 2 GB at once at most
        self.read_into(a + len(content), memoryview(rest))
        return content + rest

    def read_into(self, a: int, rest: memoryview) -> None:
        """Fill `rest` with the bytes from a on."""
        while len(rest):
            try:
                n = os.preadv(self._descriptor, [rest], a)
            except OSError as e:
                raise CaffeError("%s: cannot be read: %s" % (self.path, e.strerror or e)) from e
            if not n:
                raise CaffeError("%s: it became shorter while it was read" % self.path)
            a, rest = a + n, rest[n:]


class Values(NamedTuple):
    """One array of a file: float32 `values` of shape `shape`, which is the file's (four axes in old files)."""

    shape: tuple[int, ...]
    values: np.ndarray

    def copy_to(self, array: np.ndarray) -> None:
        """Write the values into a C-contiguous float32 array of as many elements."""
        array[...] = self.values.reshape(array.shape)


class _Run(NamedTuple):
    """Numbers that lie in a row: `count` of them from byte `begin` on, each `stride` bytes behind the one before."""

    begin: int
    count: int
    dtype: str
    stride: int


class Stored:
    """One array of a file, of shape `shape`, whose numbers are still there: what Values has, read each time it is asked."""

    def __init__(self, shape: tuple[int, ...], file: _File, runs: list[_Run]):
        self.shape, self._file, self._runs = shape, file, runs

    @property
    def values(self) -> np.ndarray:
        """The numbers, as a float32 array of its own. CaffeError if the file cannot be read any more."""
        array = np.empty(self.shape, np.float32)
        self.copy_to(array)
        return array

    def copy_to(self, array: np.ndarray) -> None:
        """Read the numbers into a C-contiguous float32 array of as many elements. CaffeError as in `values`."""
        flat, at = array.reshape(-1), 0
        for begin, count, dtype, stride in self._runs:
            if dtype == "<f4" and stride == 4 and sys.byteorder == "little":
                self._file.read_into(begin, memoryview(flat[at : at + count]).cast("B"))
                at += count
                continue
            record = np.dtype({"names": ["value"], "formats": [dtype], "offsets": [stride - np.dtype(dtype).itemsize],
                               "itemsize": stride})
            for first in range(0, count, PIECE):
                n = min(PIECE, count - first)
                raw = self._file.part(begin + first * stride, begin + (first + n) * stride)
                with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes inf, as in Caffe
                    flat[at : at + n] = np.frombuffer(raw, record)["value"]
                at += n


class LayerWeights(NamedTuple):
    """One layer of a weights file; `type` is the name of today, '' in HDF5 files, which do not say it."""

    name: str
    type: str
    blobs: list[Values | Stored | None]  # None where an HDF5 file leaves out a parameter that another layer owns


class SolverState(NamedTuple):
    """What a solverstate says: where training was, the caffemodel that goes with it, and the solver's history blobs."""

    iter: int
    learned_net: str
    current_step: int
    history: list[Values | Stored]


class _Malformed(Exception):
    """What is wrong with the bytes; becomes a CaffeError that names the file."""


def load(path: str) -> bytes:
    """All of a file's bytes. Raises CaffeError."""
    file = _File(path)
    return file.part(0, len(file))


def read_weights(path: str) -> list[LayerWeights]:
    """The layers of a binary caffemodel in file order; their numbers are read when they are asked for.

    Reads today's format, V1 and V0 (whose `padding` layers hold nothing and are left out). Raises CaffeError.
    """
    file = _File(path)
    try:
        return list(_layers(file))
    except _Malformed as e:
        raise _damaged(file, "caffemodel", e) from e


def read_solver_state(path: str) -> SolverState:
    """A binary solverstate; the history's numbers are read when they are asked for. Raises CaffeError."""
    buffer = _File(path)
    iteration = step = 0
    learned_net = ""
    history: list[Values | Stored] = []
    try:
        if not len(buffer):
            raise _Malformed("it is empty")
        for number, kind, a, b in _fields(buffer, 0, len(buffer)):
            if (number, kind) == (1, VARINT):
                iteration = _int32(a)
            elif (number, kind) == (2, BYTES):
                learned_net = _text(buffer, a, b)
            elif (number, kind) == (3, BYTES):
                history.append(_blob(buffer, a, b, "history %d" % len(history)))
            elif (number, kind) == (4, VARINT):
                step = _int32(a)
            elif number <= 4:
                raise _Malformed("field %d of the state has wire type %d" % (number, kind))
    except _Malformed as e:
        raise _damaged(buffer, "solverstate", e) from e
    return SolverState(iteration, learned_net, step, history)


def read_blob(path: str) -> Values:
    """A file that holds one BlobProto: a mean image, an infogain matrix. Raises CaffeError."""
    file = _File(path)
    try:
        blob = _blob(file, 0, len(file), "the blob")
    except _Malformed as e:
        raise _damaged(file, "binaryproto", e) from e
    return Values(blob.shape, blob.values)


def _damaged(file: _File, kind: str, e: _Malformed) -> CaffeError:
    return CaffeError("%s: %s. Wanted a %s; got %d bytes that begin with %r. If it is one, it is damaged: copy or "
                      "fetch it again" % (file.path, e, kind, len(file), file.part(0, min(16, len(file)))))


# -- reading -----------------------------------------------------------------------------------------------------------
def _varint(buffer: _File, i: int, end: int) -> tuple[int, int]:
    begin, value, shift = i, 0, 0
    while True:
        if i >= end:
            raise _Malformed("it ends inside a number at byte %d" % begin)
        if shift > 63:
            raise _Malformed("the number at byte %d does not end" % begin)
        byte = buffer[i]
        i += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, i
        shift += 7


def _fields(buffer: _File, i: int, end: int) -> Iterator[Field]:
    """The fields of the message between i and end. A run of unpacked numbers comes as one field, keys included."""
    count = 0
    while i < end:
        begin, count = i, count + 1
        if count > MAX_FIELDS:
            raise _Malformed("one message has more than %d fields" % MAX_FIELDS)
        key, i = _varint(buffer, i, end)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise _Malformed("there is no field %d (byte %d)" % (number, begin))
        if kind == VARINT:
            value, i = _varint(buffer, i, end)
            yield number, kind, value, value
        elif kind == BYTES:
            length, i = _varint(buffer, i, end)
            if length > end - i:
                raise _Malformed("field %d at byte %d should have %d bytes, but only %d are left"
                                 % (number, begin, length, end - i))
            yield number, kind, i, i + length
            i += length
        elif kind in (FIXED32, FIXED64):
            width = 4 if kind == FIXED32 else 8
            if width > end - i:
                raise _Malformed("field %d at byte %d is cut off" % (number, begin))
            if number in UNPACKED:
                if i - begin != 1:
                    raise _Malformed("field %d at byte %d is spelt in %d bytes" % (number, begin, i - begin))
                i = _run(buffer, begin, end, key, width + 1)
                yield number, kind, begin, i
            else:
                yield number, kind, i, i + width
                i += width
        else:
            raise _Malformed("wire type %d at byte %d is none that Caffe writes" % (kind, begin))


def _run(buffer: _File, begin: int, end: int, key: int, stride: int) -> int:
    """Where the records of `stride` bytes that all begin with the byte `key` end; looks ahead in growing steps."""
    stop, step = begin, 16
    while True:
        n = min(step, (end - stop) // stride)
        keys = np.frombuffer(buffer.part(stop, stop + n * stride), np.uint8)[::stride]
        other = np.flatnonzero(keys != key)
        if other.size:
            return stop + int(other[0]) * stride
        stop += n * stride
        if n < step:
            return stop
        step = min(2 * step, PIECE)


def _numbers(kind: int, a: int, b: int, dtype: str) -> _Run:
    """The floats of one field; those that are not packed have a byte of key each."""
    size = np.dtype(dtype).itemsize
    if kind != BYTES:
        return _Run(a, (b - a) // (size + 1), dtype, size + 1)
    if (b - a) % size:
        raise _Malformed("a field of numbers of %d bytes each has %d bytes at byte %d" % (size, b - a, a))
    return _Run(a, (b - a) // size, dtype, size)


def _int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(buffer: _File, a: int, b: int) -> str:
    try:
        return buffer.part(a, b).decode("utf-8")
    except UnicodeDecodeError:
        raise _Malformed("the name at byte %d is no text: %r" % (a, buffer.part(a, min(b, a + 16)))) from None


def _dims(buffer: _File, a: int, b: int, dims: list[int]) -> None:
    """Append a BlobShape's dimensions."""
    for number, kind, c, d in _fields(buffer, a, b):
        if number != 1:
            continue
        if kind == VARINT:
            dims.append(_int64(c))
        while kind == BYTES and c < d and len(dims) <= MAX_AXES:
            value, c = _varint(buffer, c, d)
            dims.append(_int64(value))
        if len(dims) > MAX_AXES:
            raise _Malformed("a blob has more than %d axes (byte %d)" % (MAX_AXES, a))


_FLOATS = {5: ("<f4", FIXED32), 8: ("<f8", FIXED64)}


def _blob(buffer: _File, a: int, b: int, who: str) -> Stored:
    """A BlobProto; legacy num, channels, height, width give a shape of four axes."""
    dims: list[int] = []
    legacy: dict[int, int] = {}
    parts: dict[int, list[_Run]] = {5: [], 8: []}
    for number, kind, c, d in _fields(buffer, a, b):
        if number <= 4 and kind == VARINT:
            legacy[number] = _int32(c)
        elif number in _FLOATS and kind in (BYTES, _FLOATS[number][1]):
            parts[number].append(_numbers(kind, c, d, _FLOATS[number][0]))
        elif number == 7 and kind == BYTES:
            _dims(buffer, c, d, dims)
        elif number in (1, 2, 3, 4, 5, 7, 8):
            raise _Malformed("%s: field %d has wire type %d" % (who, number, kind))
    shape = tuple(legacy.get(k, 0) for k in (1, 2, 3, 4)) if legacy else tuple(dims)
    chosen = [run for run in parts[8] if run.count] or parts[5]
    held = sum(run.count for run in chosen)
    # numpy has no arrays of shape (0, 2**62, 4) either
    if any(d < 0 for d in shape) or math.prod(d or 1 for d in shape) > INT_MAX or math.prod(shape) != held:
        raise _Malformed("%s says its shape is %s but holds %d values" % (who, shape, held))
    return Stored(shape, buffer, chosen)


def _layers(buffer: _File) -> Iterator[LayerWeights]:
    if not len(buffer):
        raise _Malformed("it is empty")
    seen = set()
    for number, kind, a, b in _fields(buffer, 0, len(buffer)):
        if number not in (2, 100):
            continue
        if kind != BYTES:
            raise _Malformed("field %d of the net has wire type %d" % (number, kind))
        seen.add(number)
        layer = _layer(buffer, a, b, 1, 2, BYTES, LAYER_BLOBS) if number == 100 else _old_layer(buffer, a, b)
        if layer is not None:
            yield layer
    if len(seen) != 1:
        raise _Malformed("it holds no layer" if not seen else "it holds both `layer` and `layers` (V1) fields")


def _layer(buffer: _File, a: int, b: int, name_number: int, type_number: int, type_kind: int,
           blobs_number: int) -> LayerWeights:
    """A layer message given the numbers of the three fields wanted of it; a type is a text or, in V1, a number."""
    name, kind_of, fields = "", "", []
    for number, kind, c, d in _fields(buffer, a, b):
        if number in (name_number, blobs_number) and kind != BYTES:
            raise _Malformed("field %d of a layer has wire type %d (byte %d)" % (number, kind, a))
        if number == name_number:
            name = _text(buffer, c, d)
        elif (number, kind) == (type_number, type_kind):
            kind_of = _text(buffer, c, d) if kind == BYTES else V1_TYPES.get(c, "")
        elif number == blobs_number:
            fields.append((c, d))
    blobs = [_blob(buffer, c, d, "layer '%s' blob %d" % (name, i)) for i, (c, d) in enumerate(fields)]
    return LayerWeights(name, kind_of, blobs)


def _old_layer(buffer: _File, a: int, b: int) -> LayerWeights | None:
    """A layer of format V1, or of V0 inside it; None for V0's padding layers."""
    nested = [(c, d) for number, kind, c, d in _fields(buffer, a, b) if number == 1 and kind == BYTES]
    if not nested:
        return _layer(buffer, a, b, 4, 5, VARINT, 6)
    if len(nested) > 1:
        raise _Malformed("a layer of format V0 at byte %d is in pieces" % a)
    layer = _layer(buffer, *nested[0], 1, 2, BYTES, 50)
    return None if layer.type == "padding" else layer._replace(type=V1_TYPES.get(V0_TYPES.get(layer.type, 0), ""))


# -- writing -----------------------------------------------------------------------------------------------------------
def varint_bytes(value: int) -> bytes:
    """A number as protobuf writes it; negative ones take ten bytes."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_head(number: int, length: int) -> bytes:
    """What stands before `length` bytes of field `number`."""
    return varint_bytes(number << 3 | BYTES) + varint_bytes(length)


def blob_chunks(number: int, data: np.ndarray, diff: np.ndarray | None = None) -> list[bytes | memoryview]:
    """A BlobProto as field `number` of the message around it: packed data, diff if given, shape. Nothing is copied."""
    dims = b"".join(varint_bytes(d) for d in data.shape)
    body: list[bytes | memoryview] = []
    for field, array in ((5, data), (6, diff)):
        if array is not None and array.size:
            flat = np.ascontiguousarray(array, "<f4").reshape(-1)
            body += [bytes_head(field, flat.nbytes), memoryview(flat).cast("B")]
    if dims:  # Caffe leaves the shape of a 0-axis blob out
        shape = bytes_head(1, len(dims)) + dims
        body.append(bytes_head(7, len(shape)) + shape)
    return [bytes_head(number, sum(map(len, body))), *body]


def layer_chunks(before: bytes, blobs: Iterable[list[bytes | memoryview]], after: bytes) -> list[bytes | memoryview]:
    """A LayerParameter as field `layer` of the net: its serialised fields below 7, its blobs, and those above 7."""
    middle = [chunk for blob in blobs for chunk in blob]
    return [bytes_head(100, len(before) + sum(map(len, middle)) + len(after)), before, *middle, after]
