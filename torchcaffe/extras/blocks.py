"""Layers of SENet, ShuffleNet and MobileNet."""

from __future__ import annotations

import torch

from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register_extra
from torchcaffe.layers.helpers import expand
from torchcaffe.layers.vision import Convolution


@register_extra
class Axpy(Layer):
    """a * x + y with one a for each channel: bottoms a (N, C) or (N, C, 1, 1), x and y (N, C, H, W).

    Follows SENet (hujie-frank/SENet), src/caffe/layers/axpy_layer.cpp.
    """

    bottoms = (3, 3)

    def shape(self, a: Shape, x: Shape, y: Shape) -> list[Shape]:
        self.check(x == y, lambda: "bottom 1 of shape %s and bottom 2 of shape %s must have one shape" % (x, y))
        self.check(len(x) == 4 and a in (x[:2], x[:2] + (1, 1)), lambda: (
            "bottom 0 of shape %s must hold one number for each channel of bottom 1, whose shape is %s: wanted %s"
            % (a, x, x[:2] + (1, 1))))
        return [x]

    def function(self, a: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return expand(a.reshape(x.shape[:2]), x.shape, 0) * x + y


@register_extra
class ShuffleChannel(Layer):
    """Channels dealt out anew: of `group` groups of n channels, the first of each, then the second of each, and so on.

    Follows ShuffleNet (farmingyard/ShuffleNet), shuffle_channel_layer.cpp.
    """

    def shape(self, bottom: Shape) -> list[Shape]:
        group = self.layer_param.shuffle_channel_param.group
        self.check(len(bottom) > 1 and group > 0 and bottom[1] % group == 0, lambda: (
            "group %d must divide the channels, axis 1 of a bottom of shape %s" % (group, bottom)))
        return [bottom]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        groups = x.reshape(x.shape[0], self.layer_param.shuffle_channel_param.group, -1, *x.shape[2:])
        return groups.transpose(1, 2).clone(memory_format=torch.contiguous_format).reshape(x.shape)


class _Depthwise(Convolution):
    """Convolution with a group for each channel, whatever the definition says of groups."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.convolution_param
        self.check(len(bottom[0].shape) == 4 and p.axis == 1, "got a bottom of shape %s and axis %d, wanted (num, channels, "
                   "height, width) and axis 1" % (bottom[0].shape, p.axis))
        channels = bottom[0].shape[1]
        self.check(p.num_output == channels and p.group in (1, channels), "got num_output %d and group %d, wanted as many "
                   "outputs as bottom 0 has channels, %d, and that group or none; otherwise use Convolution"
                   % (p.num_output, p.group, channels))
        p.group = channels
        super().setup(bottom, top)


@register_extra
class DepthwiseConvolution(_Depthwise):
    """Convolution of each channel with a kernel of its own; convolution_param as ever, `group` may be left out.

    Params: weights (C, 1, kernel...), bias (C).
    Follows MobileNet (yonghenglh6/DepthwiseConvolution), depthwise_conv_layer.cpp.
    """


@register_extra
class ConvolutionDepthwise(_Depthwise):
    """DepthwiseConvolution under another name. Follows BVLC/caffe pull request 5665, conv_dw_layer.cpp."""


@register_extra
class ReLU6(Layer):
    """min(max(x, 0), 6). Works in place. Follows MobileNetv2-SSDLite (chuanqi305/ssd), src/caffe/layers/relu6_layer.cpp."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = bottom[0].value.clamp(0, 6)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            x = bottom[0].value  # in place, the result: 0 and 6 where the gradient ends
            bottom[0].grad = top[0].grad.where((x > 0) & (x < 6), 0)
