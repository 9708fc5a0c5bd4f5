"""Blob: an N-d float32 array with a data half and a diff half (src/caffe/blob.cpp, syncedmem.cpp).

Two faces. To Python users `.data` and `.diff` are writable numpy views on host memory. To layers `.value` and `.grad` are
the same halves as torch tensors on the device that computes now (common.device()).
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Sequence
from math import prod

import numpy as np
import torch

from torchcaffe import common
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

MAX_AXES = 32
MAX_COUNT = 2**31 - 1  # Caffe counts with int
HOST = torch.device("cpu")


class Memory:
    """Flat float32 memory on the host and, once used there, on a GPU; the newest copy is copied over when asked for.

    Follows syncedmem.cpp: `.data` from Python counts as a write on the host, so the device copy is refreshed from it.
    Unlike Caffe, a computed tensor is adopted instead of copied in, unless a numpy view of this memory is alive: whoever
    holds a view sees every later result in it, as in Caffe, and nobody else pays for the copy.

    It can be lent to a torch tensor, a parameter of a module: the copy on that tensor's device then *is* the tensor's
    memory for as long as the tensor lives, results are copied into it, and what torch writes there counts.
    """

    __slots__ = ("size", "host", "device", "newest", "_view", "_lent", "_version")

    def __init__(self, size: int):
        self.size = size
        self.host: torch.Tensor | None = None
        self.device: torch.Tensor | None = None
        self.newest: str = ""  # "" (nothing yet: zeros), "host", "device" or "both"
        self._view: weakref.ref | None = None
        self._lent: weakref.ref | None = None
        self._version = 0  # of the tensor lent to, when the host copy became the newest

    def lent(self) -> torch.Tensor | None:
        """The tensor this memory is lent to, if there is one and it still lives."""
        return None if self._lent is None else self._lent()

    def lend(self, tensor: torch.Tensor) -> None:
        """Take the content of `tensor`, contiguous float32, and share its memory from now on.

        Where a numpy view of the host copy is alive, the tensor moves into that copy instead.
        """
        flat = tensor.detach().reshape(-1)
        if tensor.device != HOST:
            self.device, self.newest = flat, "device"
        elif self._view is not None and self._view() is not None and self.host.data_ptr() != flat.data_ptr():
            self.host[: flat.numel()].copy_(flat)
            tensor.data, self.newest = self.host[: flat.numel()].view(tensor.shape), "host"
        else:
            self.host, self.newest = flat, "host"
        self.size, self._lent = flat.numel(), weakref.ref(tensor)

    def _copied(self) -> None:
        """Both copies are equal now; only the one that is lent stays so, torch may change it at any time."""
        lent = self.lent()
        self.newest = "both" if lent is None else "host" if lent.device == HOST else "device"

    def _notice(self) -> None:
        """Whether torch wrote into the device copy since the host copy was handed out."""
        lent = self.lent()
        if self.newest == "host" and lent is not None and lent.device != HOST and lent._version != self._version:
            self.newest = "device"

    def is_lent_to(self, tensor: torch.Tensor) -> bool:
        """Whether this is the tensor it is lent to, and still consists of this memory."""
        copy = self.host if tensor.device == HOST else self.device
        return self.lent() is tensor and copy is not None and copy.data_ptr() == tensor.data_ptr()

    def on_host(self) -> torch.Tensor:
        """The host copy, up to date."""
        if self.host is None:
            self.host = torch.zeros(self.size) if not self.newest else torch.empty(self.size)
        self._notice()
        if self.newest == "device":
            self.host[: self.device.numel()].copy_(self.device)
            self._copied()
        self.newest = self.newest or "host"
        return self.host

    def read(self, where: torch.device) -> torch.Tensor:
        """The copy on `where`, up to date, for reading."""
        if where == HOST:
            return self.on_host()
        self._notice()
        if not self.newest:
            self.device, self.newest = torch.zeros(self.size, device=where), "device"
        elif self.newest == "host" or self.device.device != where:
            lent = self.lent()
            if lent is not None and lent.device == where:
                self.device.copy_(self.on_host()[: self.device.numel()])
            else:
                self.device = self.on_host().to(where)
            self._copied()
        return self.device

    def write(self, where: torch.device) -> torch.Tensor:
        """The copy on `where`, up to date, to be changed in place: it becomes the newest."""
        tensor = self.read(where)
        self.newest = "host" if where == HOST else "device"
        lent = self.lent()
        self._version = 0 if lent is None else lent._version
        return tensor

    def adopt(self, tensor: torch.Tensor) -> None:
        """Make a computed tensor this memory's newest content: no copy unless somebody looks at the host copy."""
        flat, lent = tensor.detach().reshape(-1), self.lent()
        if tensor.device != HOST and lent is not None and lent.device == tensor.device:
            self.device[: flat.numel()].copy_(flat)
            self.newest = "device"
        elif tensor.device != HOST:
            self.device, self.size, self.newest = flat, flat.numel(), "device"
        elif (self._view is not None and self._view() is not None) or (lent is not None and lent.device == HOST):
            self.host[: flat.numel()].copy_(flat)
            self.newest = "host"
        else:
            self.host, self.size, self.newest = flat, flat.numel(), "host"

    def numpy(self, shape: tuple[int, ...]) -> np.ndarray:
        """A writable view of the host copy. It stays valid, and is written into, for as long as anyone holds it."""
        base = self._view() if self._view is not None else None
        host = self.write(HOST)
        if base is None:
            base = host.numpy()
            self._view = weakref.ref(base)
        return base[: int(np.prod(shape, dtype=np.int64))].reshape(shape)


class Blob:
    """An array of any shape, 0 axes included, holding data and diff.

    `Blob(2, 3, 4)` has shape (2, 3, 4); both halves start as zeros. A reshape to a count that a half has memory for keeps
    that memory and its beginning, otherwise the half gets new zeros (blob.cpp Reshape, where both halves are one size).
    """

    def __init__(self, *shape: int):
        self._shape: tuple[int, ...] = ()
        self._count = 1
        self._data = self._diff = Memory(0)
        self.reshape(*shape)

    # -- shape -------------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions, outermost first."""
        return self._shape

    @property
    def count(self) -> int:
        """Number of elements; 1 for a 0-axis blob."""
        return self._count

    def reshape(self, *shape: int) -> None:
        """Change the shape; accepts dimensions or one sequence.

        Raises CaffeError for a negative or too large shape, TypeError for numbers that are not whole.
        """
        if len(shape) == 1 and isinstance(shape[0], Sequence):
            shape = tuple(shape[0])
        try:
            shape = tuple(operator.index(d) for d in shape)
        except TypeError as e:
            raise TypeError("blob: got shape %s, wanted whole numbers; divide with // where a size is divided"
                            % (shape,)) from e
        if shape == self._shape and self._count <= self._data.size and self._count <= self._diff.size:
            return
        if len(shape) > MAX_AXES:
            raise CaffeError("blob: got %d axes, at most %d are possible" % (len(shape), MAX_AXES))
        count = 1
        for d in shape:
            if d < 0:
                raise CaffeError("blob: got shape %s, wanted no negative dimension" % (shape,))
            count *= d
        if count > MAX_COUNT:
            raise CaffeError("blob: shape %s has %d elements, Caffe's limit is %d" % (shape, count, MAX_COUNT))
        self._shape, self._count = shape, count
        # Each half by itself: adopted memory, one's own or a sharer's, is just large enough, and the other half may hold
        # what must stay, such as the loss weight in a top's diff.
        if count > self._data.size:
            self._data = Memory(count)
        if count > self._diff.size:
            self._diff = Memory(count)

    def _legacy(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise CaffeError("num/channels/height/width exist up to 4 axes; this blob's shape is %s" % (self._shape,))
        return self._shape[axis] if axis < len(self._shape) else 1

    num = property(lambda self: self._legacy(0), doc="Dimension 0, or 1.")
    channels = property(lambda self: self._legacy(1), doc="Dimension 1, or 1.")
    height = property(lambda self: self._legacy(2), doc="Dimension 2, or 1.")
    width = property(lambda self: self._legacy(3), doc="Dimension 3, or 1.")

    # -- the face to Python users --------------------------------------------------------------------------------------
    @property
    def data(self) -> np.ndarray:
        """Writable numpy view of the data; reading it makes the host copy the newest (mutable_cpu_data)."""
        return self._data.numpy(self._shape)

    @property
    def diff(self) -> np.ndarray:
        """Writable numpy view of the diff, like data."""
        return self._diff.numpy(self._shape)

    # -- the face to layers ----------------------------------------------------------------------------------------------
    @property
    def value(self) -> torch.Tensor:
        """The data as a tensor on the computing device, for reading; set it to hand over a result of this shape."""
        return self._tensor(self._data)

    @value.setter
    def value(self, tensor: torch.Tensor) -> None:
        self._adopt(self._data, tensor)

    @property
    def grad(self) -> torch.Tensor:
        """The diff as a tensor on the computing device, for reading; set it to hand over a result of this shape."""
        return self._tensor(self._diff)

    @grad.setter
    def grad(self, tensor: torch.Tensor) -> None:
        self._adopt(self._diff, tensor)

    def add_grad(self, tensor: torch.Tensor) -> None:
        """Accumulate into the diff, as gradients of parameters are (backward overwrites only those of bottoms)."""
        self.mutable_grad().add_(tensor.reshape(self._shape))

    def mutable_value(self) -> torch.Tensor:
        """The data on the computing device, to be changed in place."""
        return self._data.write(common.device())[: self._count].view(self._shape)

    def mutable_grad(self) -> torch.Tensor:
        """The diff on the computing device, to be changed in place."""
        return self._diff.write(common.device())[: self._count].view(self._shape)

    def _tensor(self, memory: Memory) -> torch.Tensor:
        return memory.read(common.device())[: self._count].view(self._shape)

    def _adopt(self, memory: Memory, tensor: torch.Tensor) -> None:
        if tensor.numel() != self._count:
            raise CaffeError("blob of shape %s was handed a result of shape %s" % (self._shape, tuple(tensor.shape)))
        memory.adopt(tensor.to(common.device(), torch.float32).contiguous())

    # -- sharing -------------------------------------------------------------------------------------------------------
    @property
    def memory(self) -> Memory:
        """Where the data is; blobs that share it have the same."""
        return self._data

    @property
    def parts(self) -> tuple[tuple[int, ...], Memory, Memory]:
        """Shape, data and diff; setting it puts back what was there, as NetModule does between its passes."""
        return self._shape, self._data, self._diff

    @parts.setter
    def parts(self, parts: tuple[tuple[int, ...], Memory, Memory]) -> None:
        self._shape, self._data, self._diff = parts
        self._count = prod(self._shape)

    def share_data(self, other: Blob) -> None:
        """Use other's data memory: both see one array from now on (ShareData). Counts must be equal."""
        self._check_share(other)
        self._data = other._data

    def share_diff(self, other: Blob) -> None:
        """Use other's diff memory (ShareDiff). Counts must be equal."""
        self._check_share(other)
        self._diff = other._diff

    def _check_share(self, other: Blob) -> None:
        if self._count != other._count:
            raise CaffeError("cannot share memory between blobs of shapes %s and %s" % (self._shape, other._shape))

    # -- files ---------------------------------------------------------------------------------------------------------
    def from_proto(self, proto: caffe_pb2.BlobProto, reshape: bool = True) -> None:
        """Take shape (if `reshape`), data and diff from a BlobProto; float or double, new or 4-axis legacy shape.

        Without `reshape`, CaffeError unless the shapes are equal, legacy shapes being padded with leading 1s
        (blob.cpp ShapeEquals). CaffeError as well if the number of values is not the shape's.
        """
        shape = proto_shape(proto)
        if reshape:
            self.reshape(*shape)
        elif not same_shape(self._shape, shape, legacy=not proto.HasField("shape")):
            raise CaffeError("got a blob of shape %s, wanted %s" % (shape, self._shape))
        for values, memory in ((proto.double_data or proto.data, self._data), (proto.double_diff or proto.diff, self._diff)):
            if memory is self._diff and not values:
                continue
            if len(values) != self._count:
                raise CaffeError("a blob of shape %s came with %d values, wanted %d" % (shape, len(values), self._count))
            memory.numpy(self._shape)[...] = np.array(values, np.float32).reshape(self._shape)

    def to_proto(self, write_diff: bool = False) -> caffe_pb2.BlobProto:
        """This blob as a BlobProto with shape and packed floats."""
        proto = caffe_pb2.BlobProto()
        proto.shape.dim.extend(self._shape)
        proto.data.extend(self._data.on_host()[: self._count].numpy())
        if write_diff:
            proto.diff.extend(self._diff.on_host()[: self._count].numpy())
        return proto


def proto_shape(proto: caffe_pb2.BlobProto) -> tuple[int, ...]:
    """The shape of a BlobProto: its `shape`, or the legacy (num, channels, height, width)."""
    if proto.HasField("num") or proto.HasField("channels") or proto.HasField("height") or proto.HasField("width"):
        return (proto.num, proto.channels, proto.height, proto.width)
    return tuple(proto.shape.dim)


def same_shape(shape: tuple[int, ...], other: tuple[int, ...], legacy: bool) -> bool:
    """Whether a file's blob of shape `other` fits `shape`; a legacy 4-axis shape may have extra leading 1s."""
    if not legacy:
        return shape == other
    return len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == other
