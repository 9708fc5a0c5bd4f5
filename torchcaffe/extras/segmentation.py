"""Layers of SegNet, DeepLab and PSPNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, Shape, register_extra
from torchcaffe.proto import caffe_pb2

BN_PARAM = caffe_pb2.BNParameter


def check_image(layer: Layer, shape: Shape) -> None:
    """CaffeError unless the shape is (N, C, H, W)."""
    layer.check(len(shape) == 4, lambda: "got a bottom of shape %s, wanted (num, channels, height, width)" % (shape,))


@register_extra
class Interp(Layer):
    """Bilinear resizing of (N, C, H, W) that keeps the corner pixels' centres where they are (align_corners).

    The new size is interp_param's `height` and `width`, or (n - 1) * zoom_factor + 1, or (n - 1) / shrink_factor + 1
    rounded down; with both factors shrinking comes first. pad_beg and pad_end, 0 or less, crop the input before.
    Follows DeepLab v2 (aquariusjay/deeplab-public-ver2) and PSPNet (hszhao/PSPNet), src/caffe/layers/interp_layer.cpp.
    """

    def shape(self, bottom: Shape) -> list[Shape]:
        p = self.layer_param.interp_param
        check_image(self, bottom)
        self.check(p.pad_beg <= 0 and p.pad_end <= 0, "got pad_beg %d and pad_end %d, wanted 0 or less: only cropping is "
                   "possible" % (p.pad_beg, p.pad_end))
        self.check(p.zoom_factor >= 1 and p.shrink_factor >= 1, "got zoom_factor %d and shrink_factor %d, wanted 1 or more"
                   % (p.zoom_factor, p.shrink_factor))
        zoom, shrink = p.HasField("zoom_factor"), p.HasField("shrink_factor")
        sizes = [n + p.pad_beg + p.pad_end for n in bottom[2:]]
        self.check(min(sizes) > 0, lambda: "pad_beg %d and pad_end %d leave nothing of a bottom of shape %s" % (
            p.pad_beg, p.pad_end, bottom))
        if zoom == shrink and p.HasField("height") and p.HasField("width"):
            sizes = [p.height, p.width]
            self.check(min(sizes) > 0, "got height %d and width %d, wanted both positive" % (p.height, p.width))
        else:
            self.check(zoom or shrink, "got no size, wanted height and width, zoom_factor or shrink_factor")
            sizes = [(n - 1) // p.shrink_factor * p.zoom_factor + 1 for n in sizes]
        return [bottom[:2] + tuple(sizes)]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.interp_param
        size = self.shape(tuple(x.shape))[0][2:]
        cropped = x[:, :, -p.pad_beg : x.shape[2] + p.pad_end, -p.pad_beg : x.shape[3] + p.pad_end]
        return F.interpolate(cropped, size, mode="bilinear", align_corners=True)


@register_extra
class Upsample(Layer):
    """Max pooling undone: each value of bottom 0 goes where bottom 1, the pooling's second top, says its maximum was.

    Bottoms (N, C, H, W) twice -> (N, C, H', W'), zero elsewhere: upsample_h and upsample_w, or H * scale (default 2, or
    scale_h and scale_w), one less with pad_out_h, pad_out_w, for scale 2. Where windows overlapped and two values go to
    one place the later one in row order is there, and each gets that place's gradient.
    Follows SegNet (alexgkendall/caffe-segnet), src/caffe/layers/upsample_layer.cpp.
    """

    bottoms = (2, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.upsample_param
        given = p.HasField("scale_h") + p.HasField("scale_w")
        self.check(given != 1, "got one of scale_h and scale_w, wanted both or scale")
        self.scale = (p.scale_h, p.scale_w) if given else (p.scale, p.scale)
        self.size = (p.upsample_h, p.upsample_w) if p.upsample_h and p.upsample_w else None
        self.check(self.size is not None or min(self.scale) > 1, "got scale %d, %d, wanted more than 1, or upsample_h and "
                   "upsample_w" % self.scale)
        for name, scale in zip(("pad_out_h", "pad_out_w"), self.scale):
            self.check(self.size is not None or not getattr(p, name) or scale == 2, "got %s with scale %d, wanted 2; say "
                       "upsample_h and upsample_w instead" % (name, scale))

    def shape(self, bottom: Shape, mask: Shape) -> list[Shape]:
        p = self.layer_param.upsample_param
        check_image(self, bottom)
        self.check(bottom == mask, lambda: "bottom 0 of shape %s and its pooling mask of shape %s must have one shape" % (
            bottom, mask))
        size = self.size or (bottom[2] * self.scale[0] - p.pad_out_h, bottom[3] * self.scale[1] - p.pad_out_w)
        return [bottom[:2] + size]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = top[0].shape
        x, mask = (b.value.flatten(2) for b in bottom)
        places = shape[2] * shape[3]
        self.index = mask.long()
        bad = (self.index < 0) | (self.index >= places)
        if bool(bad.any()):
            self.check(False, "upsample top index %d out of range: its mask must come from pooling something of the top's "
                       "size, %d x %d; check scale, or say upsample_h and upsample_w" % (
                           int(self.index[bad][0]), shape[2], shape[3]))
        order = torch.arange(x.shape[2], device=x.device).expand_as(x)
        writer = torch.full(shape[:2] + (places,), -1, device=x.device).scatter_reduce_(2, self.index, order, "amax")
        top[0].value = x.gather(2, writer.clamp(min=0)).where(writer >= 0, 0)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:  # the mask, a top of a layer that needs backward, gets none
            bottom[0].grad = top[0].grad.flatten(2).gather(2, self.index)


@register_extra
class BN(Layer):
    """Batch normalization with scale and offset a channel, as either of two forks has it; bn_param's fields tell which.

    SegNet's (scale_filler, shift_filler, bn_mode), params scale and offset (1, C, 1, 1): the batch's own mean and variance
    in TRAIN and in TEST (eps 1e-9); with `bn_mode: INFERENCE` none, only scale and offset, into which SegNet's script
    has worked the statistics. PSPNet's (slope_filler, bias_filler, momentum, eps, frozen), params slope, bias, running
    mean and running variance (1, C): the running ones in TEST and, with the slope and bias fixed, where `frozen`.
    A bn_param that says neither is PSPNet's. Without a filler scale and slope start at 0. Works in place.
    Follows SegNet (alexgkendall/caffe-segnet) and PSPNet (hszhao/PSPNet), src/caffe/layers/bn_layer.cpp of each.
    """

    @classmethod
    def create(cls, layer_param: caffe_pb2.LayerParameter) -> Layer:
        fields = {field.name for field, _ in layer_param.bn_param.ListFields()}
        segnet = fields & {"scale_filler", "shift_filler", "bn_mode"}
        if segnet and fields - segnet:
            raise CaffeError("Layer '%s' (BN): got %s, which are SegNet's, and %s, which are PSPNet's, wanted one fork's"
                             % (layer_param.name, ", ".join(sorted(segnet)), ", ".join(sorted(fields - segnet))))
        return (SegNetBN if segnet else PSPNetBN)(layer_param)

    def add_params(self, bottom: list[Blob], fillers: list[caffe_pb2.FillerParameter], ones: Shape) -> None:
        """A parameter of shape (1, channels, *ones) from each filler."""
        self.check(len(bottom[0].shape) > 1, "got a bottom of shape %s, wanted channels on axis 1" % (bottom[0].shape,))
        self.channels = bottom[0].shape[1]
        for filler_param in fillers:
            self.add_param((1, self.channels, *ones), filler_param)

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) > 1 and bottom[1] == self.channels, lambda: "got a bottom of shape %s, wanted %d channels"
                   % (bottom, self.channels))
        return [bottom]

    def fits(self, blob: Blob, shape: Shape) -> bool:
        return [d for d in blob.shape if d != 1] == [d for d in shape if d != 1]  # the forks differ in their 1s

    def column(self, blob: Blob) -> torch.Tensor:
        """A parameter as (C, 1)."""
        return blob.value.reshape(self.channels, 1)

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean and deviation (C, 1) to normalize x (N, C, all else) with; None for no normalizing. Sets from_batch."""
        raise NotImplementedError

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value.reshape(bottom[0].shape[0], self.channels, -1)
        self.from_batch, self.deviation = False, None
        found = self.statistics(x)
        if found is not None:
            self.deviation = found[1]
            x = (x - found[0]) / found[1]
        self.normalized = x if top[0] is not bottom[0] or found is not None else x.clone()
        top[0].value = x * self.column(self.blobs[0]) + self.column(self.blobs[1])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        y = self.normalized
        grad = top[0].grad.reshape(y.shape)
        for blob, wanted, value in zip(self.blobs, self.param_propagate_down, (grad * y, grad)):
            if wanted:
                blob.add_grad(value.sum((0, 2)))
        if propagate_down[0]:
            grad = grad * self.column(self.blobs[0])
            if self.from_batch:
                grad = grad - grad.mean((0, 2), keepdim=True) - y * (grad * y).mean((0, 2), keepdim=True)
            bottom[0].grad = grad if self.deviation is None else grad / self.deviation

    def of_batch(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's mean and variance (C, 1)."""
        self.from_batch = True
        variance, mean = torch.var_mean(x, (0, 2), correction=0)
        return mean[:, None], variance[:, None]


class SegNetBN(BN):
    """SegNet's half of BN."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.bn_param
        self.add_params(bottom, [p.scale_filler, p.shift_filler], (1, 1))

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        if self.layer_param.bn_param.bn_mode == BN_PARAM.INFERENCE:
            return None
        mean, variance = self.of_batch(x)
        return mean, (variance + 1e-9).sqrt_()


class PSPNetBN(BN):
    """PSPNet's half of BN."""

    param_names = ("weight", "bias", "running_mean", "running_var")
    statistic_names = ("running_mean", "running_var")

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.bn_param
        constant = [caffe_pb2.FillerParameter(value=v) for v in (0, 1)]
        self.add_params(bottom, [p.slope_filler, p.bias_filler, *constant], ())
        specs = self.layer_param.param
        while len(specs) < 4:
            specs.add()
        for spec in specs if p.frozen else specs[2:]:  # running values are no business of the solver
            spec.lr_mult = spec.decay_mult = 0

    def statistics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p = self.layer_param.bn_param
        if p.frozen or self.phase == caffe_pb2.TEST:
            mean, variance = (self.column(blob) for blob in self.blobs[2:])
        else:
            mean, variance = self.of_batch(x)
            for blob, batch in zip(self.blobs[2:], (mean, variance)):
                blob.value = blob.value * p.momentum + batch.reshape(blob.shape) * (1 - p.momentum)
        return mean, (variance + p.eps).sqrt()
