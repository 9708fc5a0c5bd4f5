"""Normalization layers."""

from __future__ import annotations

import torch

from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.layers.helpers import Windows, channel_window_sum
from torchcaffe.proto import caffe_pb2

WITHIN = caffe_pb2.LRNParameter.WITHIN_CHANNEL


@register
class LRN(Layer):
    """Local response normalization of (N, C, H, W): x / (k + alpha / n * sum of x^2 over n channels) ^ beta.

    WITHIN_CHANNEL takes the average of x^2 over an n x n window (padding included) and k = 1.
    Follows src/caffe/layers/lrn_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.param = self.layer_param.lrn_param
        self.check(self.param.local_size % 2 == 1, "LRN only supports odd values for local_size, got %d"
                   % self.param.local_size)

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) == 4, lambda: "Input must have 4 axes, corresponding to (num, channels, height, width), "
                   "got shape %s" % (bottom,))
        n = self.param.local_size
        self.windows = Windows(bottom[2:], (n, n), (1, 1), (n // 2, n // 2))
        return [bottom]

    def base(self, x: torch.Tensor) -> torch.Tensor:
        """What is raised to -beta."""
        p = self.param
        if p.norm_region == WITHIN:
            return 1 + p.alpha * self.windows.average(x * x)
        return channel_window_sum(x * x, p.local_size).mul_(p.alpha / p.local_size).add_(p.k)

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.base(x) ** -self.param.beta

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.param.norm_region == WITHIN or top[0] is bottom[0]:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            p, x, grad = self.param, bottom[0].value, top[0].grad
            base = self.base(x)
            ratio = channel_window_sum(grad * top[0].value / base, p.local_size)
            bottom[0].grad = grad * base**-p.beta - 2 * p.alpha * p.beta / p.local_size * x * ratio


@register
class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + eps) a channel (axis 1), without affine part; a Scale layer adds that.

    In TRAIN mean and variance are the batch's and enter the running sums; in TEST (or use_global_stats) the running ones
    are used. Params: sums of means (C), sums of variances (C), the sums' weight (1); a solver must not touch them. The
    running variance is the batch's times m / (m - 1). Works in place. Follows src/caffe/layers/batch_norm_layer.cpp.
    """

    param_names = statistic_names = ("mean_sum", "variance_sum", "sum_weight")

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.batch_norm_param
        self.param = p
        self.check(len(bottom[0].shape) > 1, "got a bottom of shape %s, wanted channels on axis 1" % (bottom[0].shape,))
        self.channels = bottom[0].shape[1]
        for shape in ((self.channels,), (self.channels,), (1,)):
            self.add_param(shape, caffe_pb2.FillerParameter())
        for i in range(3):
            if i == len(self.layer_param.param):
                self.layer_param.param.add(lr_mult=0)
            self.check(self.layer_param.param[i].lr_mult == 0, "Cannot configure batch normalization statistics as layer "
                       "parameters: got lr_mult %g, wanted 0" % self.layer_param.param[i].lr_mult)
        self.normalized: torch.Tensor | None = None  # copy of the result in training: an in-place layer may change the top
        self.deviation: torch.Tensor | None = None

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) > 1 and bottom[1] == self.channels, lambda: "got a bottom of shape %s, wanted %d channels"
                   % (bottom, self.channels))
        return [bottom]

    @property
    def use_global(self) -> bool:
        """Whether the running statistics are used."""
        p = self.param
        return p.use_global_stats if p.HasField("use_global_stats") else self.phase == caffe_pb2.TEST

    def grouped(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, everything else)."""
        return x.reshape(x.shape[0], self.channels, -1)

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance a channel; a batch's are added to the running sums."""
        means, variances, weight = (blob.value for blob in self.blobs)
        if self.use_global:
            factor = torch.where(weight == 0, 0, 1 / weight)
            return means * factor, variances * factor
        variance, mean = torch.var_mean(x, (0, 2), correction=0)
        count, keep = x.numel() // self.channels, self.param.moving_average_fraction
        self.blobs[0].value = means * keep + mean
        self.blobs[1].value = variances * keep + variance * (count / (count - 1) if count > 1 else 1)
        self.blobs[2].value = weight * keep + 1
        return mean, variance

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = self.grouped(bottom[0].value)
        mean, variance = self.statistics(x)
        self.deviation = (variance + self.param.eps).sqrt_()[:, None]
        result = (x - mean[:, None]).div_(self.deviation)
        top[0].value = result
        self.normalized = None if self.use_global else result.clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        self.check(self.deviation is not None, "backward before the first forward: there are no statistics yet")
        grad = self.grouped(top[0].grad)
        if not self.use_global:
            y = self.normalized
            grad = grad - grad.mean((0, 2), keepdim=True) - y * (grad * y).mean((0, 2), keepdim=True)
        bottom[0].grad = grad / self.deviation


@register
class MVN(Layer):
    """(x - mean) / (standard deviation + eps) a channel, or an image with across_channels; the mean only without
    normalize_variance. The top has 4 axes. Works in place (Caffe's gradient does not).

    The gradient is Caffe's: it treats eps as if it were inside the deviation. Follows src/caffe/layers/mvn_layer.cpp.
    """

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) <= 4, lambda: "got a bottom of shape %s, wanted at most 4 axes" % (bottom,))
        return [bottom + (1,) * (4 - len(bottom))]

    def rows(self, blob: Blob, values: torch.Tensor) -> torch.Tensor:
        """One row for each thing that is normalized."""
        across = self.layer_param.mvn_param.across_channels
        return values.reshape(blob.num if across else blob.num * blob.channels, -1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, x = self.layer_param.mvn_param, self.rows(bottom[0], bottom[0].value)
        centred = x - x.mean(1, keepdim=True)
        if p.normalize_variance:
            self.deviation = centred.square().mean(1, keepdim=True).sqrt_().add_(p.eps)
            centred /= self.deviation
        top[0].value = centred

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        y, grad = self.rows(bottom[0], top[0].value), self.rows(bottom[0], top[0].grad)
        result = grad - grad.mean(1, keepdim=True)
        if self.layer_param.mvn_param.normalize_variance:
            result = (result - y * (grad * y).mean(1, keepdim=True)) / self.deviation
        bottom[0].grad = result


