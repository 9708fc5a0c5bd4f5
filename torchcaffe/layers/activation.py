"""Activation layers: value by value, and the learned scales and offsets that go with them."""

from __future__ import annotations

from math import exp, log

import torch
import torch.nn.functional as F

from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.layers.helpers import axis_of, expand, sigmoid, sum_around
from torchcaffe.proto import caffe_pb2


class _FromTop(Layer):
    """An activation whose gradient follows from its result, so that it works in place."""

    def slope(self, y: torch.Tensor) -> torch.Tensor:
        """The derivative where the result is y."""
        raise NotImplementedError

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].grad = self.slope(top[0].value).mul_(top[0].grad)


@register
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0). Works in place. Follows src/caffe/layers/relu_layer.cpp."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        slope = self.layer_param.relu_param.negative_slope
        if top[0] is bottom[0]:
            x = bottom[0].mutable_value()
            F.leaky_relu_(x, slope) if slope else torch.relu_(x)
        else:
            top[0].value = F.leaky_relu(bottom[0].value, slope) if slope else torch.relu(bottom[0].value)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        # In place bottom holds the result, which has the sign of the input as long as negative_slope >= 0.
        slope, x, grad = self.layer_param.relu_param.negative_slope, bottom[0].value, top[0].grad
        bottom[0].grad = torch.where(x > 0, grad, grad * slope) if slope else torch.ops.aten.threshold_backward(grad, x, 0)


@register
class PReLU(Layer):
    """max(x, 0) + a * min(x, 0) with a learned a for each channel (axis 1), or one for all with channel_shared.

    Param: a (C) or (); without a filler it starts at 0.25. Works in place. Follows src/caffe/layers/prelu_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.prelu_param
        shape = bottom[0].shape
        self.check(len(shape) >= 2, "Number of axes of bottom blob must be >= 2, got shape %s" % (shape,))
        filler = p.filler if p.HasField("filler") else caffe_pb2.FillerParameter(type="constant", value=0.25)
        self.add_param(() if p.channel_shared else (shape[1],), filler)
        self.input: torch.Tensor | None = None  # copy of the input where the result overwrites it

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        self.input = x.clone() if top[0] is bottom[0] else None
        top[0].value = torch.where(x > 0, x, x * expand(self.blobs[0].value, x.shape, 1))

    def shape(self, bottom: Shape) -> list[Shape]:
        slopes = self.blobs[0].shape
        self.check(not slopes or bottom[1] == slopes[0], lambda: "got a bottom of shape %s, wanted %d channels" % (
            bottom, slopes[0]))
        return [bottom]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        slopes, grad = self.blobs[0], top[0].grad
        x = bottom[0].value if self.input is None else self.input
        if self.param_propagate_down[0]:
            slopes.add_grad(sum_around((grad * x).where(x <= 0, 0), 1, len(slopes.shape)))
        if propagate_down[0]:
            bottom[0].grad = torch.where(x > 0, grad, grad * expand(slopes.value, x.shape, 1))


@register
class ELU(Layer):
    """x where positive, else alpha * (exp(x) - 1). Works in place if alpha >= 0. Follows src/caffe/layers/elu_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, self.layer_param.elu_param.alpha * torch.expm1(x.clamp(max=0)))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            grad, alpha = top[0].grad, self.layer_param.elu_param.alpha
            bottom[0].grad = torch.where(bottom[0].value > 0, grad, grad * (top[0].value + alpha))


@register
class Sigmoid(_FromTop):
    """1 / (1 + exp(-x)). Works in place. Follows src/caffe/layers/sigmoid_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return sigmoid(x)

    def slope(self, y: torch.Tensor) -> torch.Tensor:
        return y * (1 - y)


@register
class TanH(_FromTop):
    """tanh(x). Works in place. Follows src/caffe/layers/tanh_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    def slope(self, y: torch.Tensor) -> torch.Tensor:
        return 1 - y * y


@register
class Swish(Layer):
    """x * sigmoid(beta * x). Follows src/caffe/layers/swish_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.layer_param.swish_param.beta * x)


@register
class AbsVal(Layer):
    """|x|. Follows src/caffe/layers/absval_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs()


@register
class BNLL(Layer):
    """log(1 + exp(x)). Follows src/caffe/layers/bnll_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return F.softplus(x, threshold=50)  # beyond 50 the difference to x is below float32


@register
class Clip(Layer):
    """x, but at least min and at most max. Follows src/caffe/layers/clip_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(self.layer_param.clip_param.min, self.layer_param.clip_param.max)


@register
class Threshold(Layer):
    """1 where x > threshold, else 0. No gradient. Follows src/caffe/layers/threshold_layer.cpp."""

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return (x > self.layer_param.threshold_param.threshold).float()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[0], "a threshold has no gradient; set propagate_down: false")


@register
class Power(Layer):
    """(shift + scale * x) ^ power. Works in place if power is 1 (Caffe's gradient does not).

    Follows src/caffe/layers/power_layer.cpp.
    """

    def function(self, x: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.power_param
        base = x * p.scale + p.shift
        return base if p.power == 1 else base**p.power

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        p = self.layer_param.power_param
        if p.power != 1:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            bottom[0].grad = top[0].grad * p.scale


def _log_base(layer: Layer, base: float) -> float:
    """The logarithm of a base, -1 standing for e; CaffeError unless it is a finite number."""
    layer.check(base == -1 or base > 0, "base must be strictly positive or -1 for e, got %g" % base)
    return 1.0 if base == -1 else log(base)


@register
class Exp(_FromTop):
    """base ^ (shift + scale * x), base -1 meaning e. Works in place. Follows src/caffe/layers/exp_layer.cpp."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.exp_param
        self.inner = _log_base(self, p.base) * p.scale
        self.outer = exp(p.shift) if p.base == -1 else p.base**p.shift

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * self.inner).mul(self.outer)

    def slope(self, y: torch.Tensor) -> torch.Tensor:
        return y * self.inner


@register
class Log(Layer):
    """The logarithm to `base` (-1 meaning e) of shift + scale * x. Follows src/caffe/layers/log_layer.cpp."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.log_base = _log_base(self, self.layer_param.log_param.base)
        self.check(self.log_base != 0, "a logarithm to base 1 does not exist; set another base")

    def function(self, x: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.log_param
        return torch.log(x * p.scale + p.shift) / self.log_base


class _Broadcast(Layer):
    """What Scale and Bias share: a second operand, learned or bottom 1, whose axes are some of bottom 0's, from `axis` on.

    A learned operand has num_axes axes (-1: all from `axis` on, 0: one number). Works in place.
    """

    bottoms = (1, 2)

    def add_operand(self, param, bottom: list[Blob], filler: caffe_pb2.FillerParameter) -> None:
        """The learned operand, unless bottom 1 is there."""
        self.axis = axis_of(self, param.axis, bottom[0].shape) if bottom[0].shape else 0
        if len(bottom) == 2:
            return
        self.check(param.num_axes >= -1, "num_axes must be non-negative, or -1 to extend to the end of bottom[0], got %d"
                   % param.num_axes)
        self.check(param.num_axes == -1 or self.axis + param.num_axes <= len(bottom[0].shape), lambda: (
            "%d axes from axis %d on are more than a bottom of shape %s has" % (param.num_axes, self.axis, bottom[0].shape)))
        end = len(bottom[0].shape) if param.num_axes == -1 else self.axis + param.num_axes
        self.add_param(bottom[0].shape[self.axis : end], filler)

    def shape(self, bottom: Shape, operand: Shape | None = None) -> list[Shape]:
        operand = self.blobs[0].shape if operand is None else operand
        part = bottom[self.axis : self.axis + len(operand)]
        self.check(part == operand, lambda: (
            "dimension mismatch: the second operand's shape %s must be that of bottom 0, %s, from axis %d on"
            % (operand, bottom, self.axis)))
        return [bottom]


@register
class Scale(_Broadcast):
    """Bottom 0 times a second operand, plus a bias with bias_term: the affine part of batch normalization.

    Params: the operand unless it is bottom 1 (without a filler 1), and the bias, of the operand's shape (without a filler
    0). Works in place. Follows src/caffe/layers/scale_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.scale_param
        self.add_operand(p, bottom, p.filler if p.HasField("filler") else caffe_pb2.FillerParameter(value=1))
        if p.bias_term:
            self.param_names = ("weight", "bias")[len(bottom) - 1 :]
            self.add_param((bottom[1] if len(bottom) > 1 else self.blobs[0]).shape, p.bias_filler)
        self.input: torch.Tensor | None = None  # copy of the input where the result overwrites it

    def shape(self, bottom: Shape, operand: Shape | None = None) -> list[Shape]:
        if self.layer_param.scale_param.bias_term and operand is not None:
            self.check(operand == self.blobs[-1].shape, lambda: "dimension mismatch: bottom 1 has shape %s, the bias %s, as "
                       "bottom 1 had when the layer was set up" % (operand, self.blobs[-1].shape))
        return super().shape(bottom, operand)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value
        self.input = x.clone() if top[0] is bottom[0] else None
        result = x * expand((bottom[1] if len(bottom) > 1 else self.blobs[0]).value, x.shape, self.axis)
        if self.layer_param.scale_param.bias_term:
            result += expand(self.blobs[-1].value, x.shape, self.axis)
        top[0].value = result

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        operand = bottom[1] if len(bottom) > 1 else self.blobs[0]
        grad, axes = top[0].grad, len(operand.shape)
        x = bottom[0].value if self.input is None else self.input
        if self.layer_param.scale_param.bias_term and self.param_propagate_down[-1]:
            self.blobs[-1].add_grad(sum_around(grad, self.axis, axes))
        if len(bottom) > 1 and propagate_down[1]:
            operand.grad = sum_around(grad * x, self.axis, axes)
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            operand.add_grad(sum_around(grad * x, self.axis, axes))
        if propagate_down[0]:
            bottom[0].grad = grad * expand(operand.value, x.shape, self.axis)


@register
class Bias(_Broadcast):
    """Bottom 0 plus a second operand. Param: the operand unless it is bottom 1 (without a filler 0). Works in place.

    Follows src/caffe/layers/bias_layer.cpp.
    """

    param_names = ("bias",)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.add_operand(self.layer_param.bias_param, bottom, self.layer_param.bias_param.filler)

    def function(self, x: torch.Tensor, operand: torch.Tensor) -> torch.Tensor:
        return x + expand(operand, x.shape, self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        grad = top[0].grad
        if len(bottom) > 1 and propagate_down[1]:
            bottom[1].grad = sum_around(grad, self.axis, len(bottom[1].shape)).clone()
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            self.blobs[0].add_grad(sum_around(grad, self.axis, len(self.blobs[0].shape)))
        if propagate_down[0] and top[0] is not bottom[0]:
            bottom[0].grad = grad.clone()
