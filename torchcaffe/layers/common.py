"""Common layers: fully connected ones and dropout."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from torchcaffe import rng
from torchcaffe.blob import HOST, Blob
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.layers.helpers import axis_of, read_labels
from torchcaffe.proto import caffe_pb2


@register
class InnerProduct(Layer):
    """Fully connected: everything from `axis` (default 1) on is one vector of K values; (..., K) -> (..., num_output).

    Params: weights (num_output, K), or (K, num_output) with `transpose`; bias (num_output).
    Follows src/caffe/layers/inner_product_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.inner_product_param
        self.check(p.num_output > 0, "got num_output 0, wanted at least one output; set num_output")
        self.inputs = prod(bottom[0].shape[axis_of(self, p.axis, bottom[0].shape) :])
        self.add_param((self.inputs, p.num_output) if p.transpose else (p.num_output, self.inputs), p.weight_filler)
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)

    def shape(self, bottom: Shape) -> list[Shape]:
        p = self.layer_param.inner_product_param
        axis = axis_of(self, p.axis, bottom)
        self.check(prod(bottom[axis:]) == self.inputs, lambda: (
            "Input size incompatible with inner product parameters: a bottom of shape %s has %d values from axis %d on, its "
            "weights want %d" % (bottom, prod(bottom[axis:]), axis, self.inputs)))
        return [bottom[:axis] + (p.num_output,)]

    def weight(self) -> torch.Tensor:
        """The weights as (num_output, K)."""
        weight = self.blobs[0].value
        return weight.t() if self.layer_param.inner_product_param.transpose else weight

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value.reshape(-1, self.inputs)
        top[0].value = torch.nn.functional.linear(x, self.weight(), self.blobs[1].value if len(self.blobs) > 1 else None)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        grad = top[0].grad.reshape(-1, self.layer_param.inner_product_param.num_output)
        if self.param_propagate_down[0]:
            x = bottom[0].value.reshape(-1, self.inputs)
            self.blobs[0].add_grad(x.t() @ grad if self.layer_param.inner_product_param.transpose else grad.t() @ x)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_grad(grad.sum(0))
        if propagate_down[0]:
            bottom[0].grad = grad @ self.weight()


@register
class Dropout(Layer):
    """In TRAIN each value is kept with probability 1 - dropout_ratio and scaled by its inverse; in TEST the identity.

    On the CPU the masks are Caffe's own, bit for bit (rng.bernoulli); on a GPU they come from PyTorch (rng.on_device).
    Works in place. Follows src/caffe/layers/dropout_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        ratio = self.layer_param.dropout_param.dropout_ratio
        self.check(0 <= ratio < 1, "got dropout_ratio %g, wanted 0 or more and less than 1" % ratio)
        self.kept = 1.0 - ratio
        self.mask: torch.Tensor | None = None  # 0 or the scale, as the last forward in TRAIN drew it

    def draw(self, x: torch.Tensor) -> torch.Tensor:
        """A new mask for x: 0 where dropped, 1 / (1 - dropout_ratio) where kept."""
        if x.device == HOST:
            mask = torch.from_numpy(rng.bernoulli(x.numel(), self.kept)).reshape(x.shape).float()
        else:
            mask = torch.empty_like(x).bernoulli_(self.kept, generator=rng.on_device(x.device))
        return mask.mul_(float(np.float32(1.0 / self.kept)))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.phase == caffe_pb2.TRAIN:
            self.mask = self.draw(bottom[0].value)
            top[0].value = bottom[0].value * self.mask
        elif top[0] is not bottom[0]:
            top[0].value = bottom[0].value.clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.phase == caffe_pb2.TRAIN:
            self.check(self.mask is not None, "backward before the first forward: there is no mask yet")
            bottom[0].grad = top[0].grad * self.mask
        elif top[0] is not bottom[0]:
            bottom[0].grad = top[0].grad.clone()


@register
class Embed(Layer):
    """Whole numbers as rows of a table: (...) -> (..., num_output). No gradient to the numbers.

    Params: weights (input_dim, num_output), bias (num_output). Deviation: a number outside 0 .. input_dim - 1 is an error
    (release builds of Caffe read outside the table). Follows src/caffe/layers/embed_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.embed_param
        self.check(p.num_output > 0 and p.input_dim > 0, "got num_output %d and input_dim %d, wanted both positive"
                   % (p.num_output, p.input_dim))
        self.add_param((p.input_dim, p.num_output), p.weight_filler)
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)

    def shape(self, bottom: Shape) -> list[Shape]:
        return [bottom + (self.layer_param.embed_param.num_output,)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        rows = read_labels(self, bottom[0], (-1,), self.layer_param.embed_param.input_dim)[0]
        values = self.blobs[0].value[rows]
        top[0].value = values + self.blobs[1].value if len(self.blobs) > 1 else values

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[0], "Can't backpropagate to EmbedLayer input; set propagate_down: false")
        grad = top[0].grad.reshape(-1, self.layer_param.embed_param.num_output)
        if self.param_propagate_down[0]:
            self.blobs[0].mutable_grad().index_add_(0, bottom[0].value.reshape(-1).long(), grad)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].add_grad(grad.sum(0))
