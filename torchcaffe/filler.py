"""Fillers: the values a parameter starts with (include/caffe/filler.hpp), from Caffe's random stream, bit for bit.

`fan in` is count / dimension 0 and `fan out` count / dimension 1, whatever the axes mean to the layer. A parameter
without a filler is filled by the default one, constant 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from torchcaffe import rng
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

Shape = tuple[int, ...]


def fill(filler_param: caffe_pb2.FillerParameter, shape: Sequence[int]) -> np.ndarray:
    """Float32 values of this shape, to be copied; draws from rng's stream exactly what Caffe would draw.

    Raises CaffeError for an unknown type, an empty blob, and what the type cannot fill.
    """
    shape = tuple(int(d) for d in shape)
    name = filler_param.type
    if name not in _FILLERS:
        raise CaffeError("Unknown filler name: '%s' (known: %s)" % (name, ", ".join(_FILLERS)))
    if not int(np.prod(shape, dtype=np.int64)):
        raise CaffeError("filler '%s': got a blob of shape %s, wanted at least one value" % (name, shape))
    if name != "gaussian" and filler_param.sparse != -1:
        raise CaffeError("filler '%s': got sparse: %d. Sparsity not supported by this Filler; only gaussian has it"
                         % (name, filler_param.sparse))
    return _FILLERS[name](filler_param, shape).reshape(shape)


def _count(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _constant(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    return np.broadcast_to(np.float32(p.value), shape)  # takes no memory: VGG16's fc6 is 411 MB


def _uniform(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    return rng.uniform(_count(shape), p.min, p.max)


def _gaussian(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    if p.sparse < -1:
        raise CaffeError("filler 'gaussian': got sparse: %d, wanted the mean number of non-zero weights an output, or "
                         "-1 for all" % p.sparse)
    if p.sparse > shape[0]:
        raise CaffeError("filler 'gaussian': got sparse: %d for a blob of shape %s, wanted at most its first dimension"
                         % (p.sparse, shape))
    values = rng.gaussian(_count(shape), p.mean, p.std)
    if p.sparse >= 0:
        values *= rng.bernoulli(values.size, np.float32(p.sparse) / np.float32(shape[0])).astype(np.float32)
    return values


def _positive_unitball(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    rows = rng.uniform(_count(shape), 0, 1).reshape(shape[0], -1)
    # Summed one after the other in float32, as Caffe's loop does: accumulate does, sum() would pair the terms.
    rows /= np.add.accumulate(rows, axis=1)[:, -1:]
    return rows


def _fan(p: caffe_pb2.FillerParameter, shape: Shape) -> np.float32:
    count = _count(shape)
    fan_in, fan_out = count // shape[0], count // shape[1] if len(shape) > 1 else count
    if p.variance_norm == p.AVERAGE:
        return np.float32(fan_in + fan_out) / np.float32(2)
    return np.float32(fan_out if p.variance_norm == p.FAN_OUT else fan_in)


def _xavier(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    scale = np.sqrt(np.float32(3) / _fan(p, shape))
    return rng.uniform(_count(shape), -scale, scale)


def _msra(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    return rng.gaussian(_count(shape), 0, np.sqrt(np.float32(2) / _fan(p, shape)))


def _bilinear(p: caffe_pb2.FillerParameter, shape: Shape) -> np.ndarray:
    """The kernel of bilinear upsampling in every (output, input) pair, so it upsamples only with group = channels."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise CaffeError("filler 'bilinear': got a blob of shape %s. Blob must be 4 dim. and Filter must be square"
                         % (shape,))
    factor = (shape[3] + 1) // 2
    centre = np.float32((shape[3] - 1) / (2.0 * factor))
    tap = np.float32(1) - np.abs(np.arange(shape[3], dtype=np.float32) / np.float32(factor) - centre)
    return np.broadcast_to(np.outer(tap, tap), shape).copy()


_FILLERS: dict[str, Callable[[caffe_pb2.FillerParameter, Shape], np.ndarray]] = {
    "constant": _constant, "gaussian": _gaussian, "positive_unitball": _positive_unitball, "uniform": _uniform,
    "xavier": _xavier, "msra": _msra, "bilinear": _bilinear,
}
