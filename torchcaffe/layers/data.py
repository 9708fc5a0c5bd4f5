"""Data layers: where blobs come from."""

from __future__ import annotations

import torch

from torchcaffe import filler
from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, register
from torchcaffe.proto import caffe_pb2


@register
class Input(Layer):
    """Blobs that the user fills: input_param { shape ... } once a top, once for all, or not at all.

    Follows src/caffe/layers/input_layer.cpp.
    """

    bottoms, tops = (0, 0), (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = list(self.layer_param.input_param.shape)
        self.check(len(shapes) in (0, 1, len(top)), "Must specify 'shape' once, once per top blob, or not at all: got %d "
                   "shapes for %d tops" % (len(shapes), len(top)))
        if len(shapes) == 1:
            shapes *= len(top)
        for blob, shape in zip(top, shapes):
            blob.reshape(*shape.dim)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the user reshapes the tops."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the user fills the tops."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: there is no bottom."""


@register
class DummyData(Layer):
    """Blobs made by fillers, constant ones once, others anew in each forward; without a filler they are zero.

    data_filler and shape (or num, channels, height, width) are given once for all tops or once a top.
    Follows src/caffe/layers/dummy_data_layer.cpp.
    """

    bottoms, tops = (0, 0), (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, n = self.layer_param.dummy_data_param, len(top)
        self.check(len(p.data_filler) in (0, 1, n), "Number of data fillers must be 0, 1 or equal to the number of tops: "
                   "%d; you specified %d data fillers" % (n, len(p.data_filler)))
        legacy = [list(v) for v in (p.num, p.channels, p.height, p.width)]
        if p.shape:
            self.check(not any(legacy), "give either shape or num, channels, height and width, not both")
            shapes = [tuple(s.dim) for s in p.shape]
            self.check(len(shapes) in (1, n), "Must specify 'shape' once, or once per top blob (%d tops); specified %d"
                       % (n, len(shapes)))
        else:
            self.check(all(len(v) in (1, n) for v in legacy), "num, channels, height and width must be given once or once "
                       "per top blob (%d tops), got %s of each; or use shape" % (n, [len(v) for v in legacy]))
            shapes = list(zip(*(v * n if len(v) == 1 else v for v in legacy)))
        fillers = list(p.data_filler) or [caffe_pb2.FillerParameter()]
        self.fillers = fillers * n if len(fillers) == 1 else fillers
        for blob, shape in zip(top, shapes * n if len(shapes) == 1 else shapes):
            blob.reshape(*shape)
        self.fill(top, constant=True)

    def fill(self, top: list[Blob], constant: bool) -> None:
        """Fill the tops that have a constant filler, or the others."""
        for blob, param in zip(top, self.fillers):
            if (param.type == "constant") == constant:
                blob.value = torch.from_numpy(filler.fill(param, blob.shape))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the tops got their shapes in setup."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.fill(top, constant=False)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: there is no bottom."""
