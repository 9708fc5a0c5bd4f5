"""Fillers: what goldens cannot hold (tests/test_rng.py replays those): rules and errors."""

import numpy as np
import pytest
from google.protobuf import text_format

from torchcaffe import rng
from torchcaffe.errors import CaffeError
from torchcaffe.filler import fill
from torchcaffe.proto import caffe_pb2


def param(text):
    return text_format.Parse(text, caffe_pb2.FillerParameter())


def test_default_is_zero():
    """The released FCN nets rely on it: score layers without a filler start at zero."""
    values = fill(caffe_pb2.FillerParameter(), (2, 3))
    assert values.shape == (2, 3) and values.dtype == np.float32 and not values.any()


def test_constant_draws_nothing():
    rng.set_random_seed(1)
    fill(param("value: 2"), (100,))
    assert rng.rand() == rng.Generator(1).rand()


def test_weight_then_bias_is_one_stream():
    rng.set_random_seed(1)
    first, second = fill(param("type: 'xavier'"), (4, 3)), fill(param("type: 'uniform'"), (4,))
    g = rng.Generator(1)
    scale = np.sqrt(np.float32(3) / np.float32(3))
    assert np.array_equal(first.ravel(), g.uniform(12, -scale, scale))
    assert np.array_equal(second, g.uniform(4, 0, 1))


@pytest.mark.parametrize("k, taps", [(4, [0.25, 0.75, 0.75, 0.25]), (3, [0.5, 1, 0.5])])
def test_bilinear_is_the_papers_kernel(k, taps):
    values = fill(param("type: 'bilinear'"), (2, 1, k, k))
    assert np.array_equal(values[1, 0], np.outer(taps, taps))
    assert fill(param("type: 'bilinear'"), (1, 1, 64, 64))[0, 0, 0, 0] == 0.015625**2


@pytest.mark.parametrize("text, shape, message", [
    ("type: 'orthogonal'", (2, 2), "Unknown filler name: 'orthogonal' .known: constant, gaussian"),
    ("type: 'bilinear'", (3, 3), "Blob must be 4 dim"),
    ("type: 'bilinear'", (1, 1, 3, 4), "Filter must be square"),
    ("type: 'xavier' sparse: 2", (3, 3), "Sparsity not supported"),
    ("type: 'gaussian' sparse: 4", (3, 3), "sparse: 4 .*at most its first dimension"),
    ("type: 'gaussian' sparse: -2", (3, 3), "sparse: -2"),
    ("type: 'gaussian' std: 0", (3, 3), "wanted n >= 0 and std > 0"),
    ("type: 'uniform' min: 2 max: 1", (3, 3), "a <= b"),
    ("type: 'constant'", (3, 0), "at least one value"),
])
def test_errors_say_what_was_wanted(text, shape, message):
    with pytest.raises(CaffeError, match=message):
        fill(param(text), shape)
