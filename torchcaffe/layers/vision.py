"""Vision layers: images in, images out."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F

from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.layers.helpers import Windows, axis_of, convolved, per_axis
from torchcaffe.proto import caffe_pb2

POOL, SPP_POOL = caffe_pb2.PoolingParameter, caffe_pb2.SPPParameter


class _Convolving(Layer):
    """What Convolution and Deconvolution share (base_conv_layer.cpp). Each bottom gives the top of its place."""

    bottoms, tops, same_count = (1, None), (1, None), True
    transposed = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.convolution_param
        self.axis = axis_of(self, p.axis, bottom[0].shape)
        self.rank = len(bottom[0].shape) - self.axis - 1
        self.check(self.rank <= 3, "a bottom of shape %s has %d spatial axes after axis %d, the engine convolves up to 3"
                   % (bottom[0].shape, self.rank, self.axis))
        self.kernel = per_axis(self, "kernel_size", p, self.rank, None)
        self.stride, self.pad, self.dilation = (per_axis(self, name, p, self.rank, default) for name, default in (
            ("stride", 1), ("pad", 0), ("dilation", 1)))
        self.group, self.channels = p.group, bottom[0].shape[self.axis]
        self.check(p.num_output > 0, "got num_output 0, wanted at least one output channel; set num_output")
        self.check(self.group > 0 and self.channels % self.group == 0 and p.num_output % self.group == 0,
                   "group %d must divide both the %d input channels and num_output %d"
                   % (self.group, self.channels, p.num_output))
        rows, columns = (self.channels, p.num_output) if self.transposed else (p.num_output, self.channels)
        self.add_param((rows, columns // self.group, *self.kernel), p.weight_filler)
        if p.bias_term:
            self.add_param((p.num_output,), p.bias_filler)

    def shape(self, *bottom: Shape) -> list[Shape]:
        for i, shape in enumerate(bottom):
            self.check(shape == bottom[0], lambda i=i, shape=shape: (
                "All inputs must have the same shape: bottom %d is %s, bottom 0 is %s" % (i, shape, bottom[0])))
        first = bottom[0]
        self.check(len(first) == self.axis + 1 + self.rank and first[self.axis] == self.channels, lambda: (
            "Input size incompatible with convolution kernel: got a bottom of shape %s, wanted %d axes with %d channels on "
            "axis %d, as when the layer was set up" % (first, self.axis + 1 + self.rank, self.channels, self.axis)))
        outputs = self.layer_param.convolution_param.num_output
        return [first[: self.axis] + (outputs,) + self.output_sizes(first[self.axis + 1 :])] * len(bottom)

    def output_sizes(self, sizes: Shape) -> Shape:
        """Spatial sizes of the tops."""
        return convolved(self, sizes, self.kernel, self.stride, self.pad, self.dilation)

    def arguments(self) -> tuple:
        """Stride, pad, dilation, transposed, output padding, group as PyTorch wants them; no spatial axis counts as one."""
        one, none = (1,) * (not self.rank), (0,) * (not self.rank)
        return (self.stride + one, self.pad + none, self.dilation + one, self.transposed, (0,) * max(self.rank, 1),
                self.group)

    def folded(self, values: torch.Tensor) -> torch.Tensor:
        """A bottom or top as (batch, channels, spatial...), all axes before the channels folded into the batch."""
        return values.reshape(-1, *(values.shape[self.axis :] if self.rank else (values.shape[self.axis], 1)))

    def weight(self) -> torch.Tensor:
        """The weights, with one spatial axis if there is none."""
        return self.blobs[0].value if self.rank else self.blobs[0].value.unsqueeze(-1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        bias = self.blobs[1].value if len(self.blobs) > 1 else None
        for b, t in zip(bottom, top):
            t.value = torch.convolution(self.folded(b.value), self.weight(), bias, *self.arguments())

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        has_bias = len(self.blobs) > 1
        for b, t, wanted in zip(bottom, top, propagate_down):
            mask = [wanted, self.param_propagate_down[0], has_bias and self.param_propagate_down[1]]
            if not any(mask):
                continue
            grads = torch.ops.aten.convolution_backward(
                self.folded(t.grad), self.folded(b.value), self.weight(), list(self.blobs[1].shape) if has_bias else None,
                *self.arguments(), mask)
            if wanted:
                b.grad = grads[0]
            for blob, grad, wanted_param in zip(self.blobs, grads[1:], mask[1:]):
                if wanted_param:
                    blob.add_grad(grad)


@register
class Convolution(_Convolving):
    """Cross-correlation with learned kernels: (..., C, spatial) -> (..., num_output, spatial'), sizes rounded down.

    Params: weights (num_output, C / group, kernel...), bias (num_output). Up to 3 spatial axes.
    Deviation: a kernel larger than its padded input is an error (Caffe's integer division may accept one by stride > 1).
    Follows src/caffe/layers/conv_layer.cpp and base_conv_layer.cpp.
    """


@register
class Deconvolution(_Convolving):
    """Convolution backwards: (..., C, spatial) -> (..., num_output, stride * (n - 1) + kernel extent - 2 * pad).

    Params: weights (C, num_output / group, kernel...), bias (num_output); without a filler both are zero.
    Follows src/caffe/layers/deconv_layer.cpp and base_conv_layer.cpp.
    """

    transposed = True

    def output_sizes(self, sizes: Shape) -> Shape:
        outputs = tuple(s * (n - 1) + d * (k - 1) + 1 - 2 * p for n, k, s, p, d in zip(
            sizes, self.kernel, self.stride, self.pad, self.dilation))
        self.check(all(n > 0 for n in outputs), "an input of %s gives an output of %s: pad %s cuts everything away; "
                   "use less pad" % (sizes, outputs, self.pad))
        return outputs


@register
class Pooling(Layer):
    """Maximum or average over windows: (N, C, H, W) -> (N, C, H', W'), sizes rounded up unless round_mode is FLOOR.

    A second top of MAX holds where the maximum is, h * W + w, the first one in row order. Windows and divisor are Caffe's
    (helpers.Windows). STOCHASTIC draws in TRAIN one value of each window, with probabilities in proportion to the values,
    which must not be negative; in TEST it is their mean with these weights.
    Deviations: NaN is a maximum. STOCHASTIC, which only Caffe's GPU code has, works on the CPU too; its draws are PyTorch's
    (rng.on_device), and its gradient in TEST is calculus', where Caffe takes draws that were never made.
    Follows src/caffe/layers/pooling_layer.cpp and pooling_layer.cu.
    """

    tops = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.pooling_param
        self.check(p.pool == POOL.MAX or len(top) == 1, "got 2 tops, wanted 1: only MAX pooling has a mask")
        for name in ("kernel", "pad", "stride"):
            square = p.HasField("kernel_size" if name == "kernel" else name)
            sides = p.HasField(name + "_h") + p.HasField(name + "_w")
            self.check(not (square and sides) and sides != 1, "%s is one number OR %s_h and %s_w" % (name, name, name))
            self.check(name != "kernel" or p.global_pooling != bool(square or sides),
                       "got kernel_size and global_pooling, wanted one of them" if p.global_pooling else
                       "got no kernel_size, wanted it or kernel_h and kernel_w or global_pooling: true")
        self.kernel = (p.kernel_h, p.kernel_w) if p.HasField("kernel_h") else (p.kernel_size,) * 2
        self.pad = (p.pad_h, p.pad_w) if p.HasField("pad_h") else (p.pad,) * 2
        self.stride = (p.stride_h, p.stride_w) if p.HasField("stride_h") else (p.stride,) * 2
        self.check(all(self.stride), "got stride %s, wanted more than zero" % (self.stride,))
        if p.global_pooling:
            self.check(self.pad == (0, 0) and self.stride == (1, 1),
                       "With global_pooling only pad 0 and stride 1 are possible, got pad %s, stride %s" % (
                           self.pad, self.stride))
        else:
            self.check(all(self.kernel), "Filter dimensions cannot be zero, got kernel %s" % (self.kernel,))
            self.check(all(a < k for a, k in zip(self.pad, self.kernel)),
                       "pad %s must be smaller than kernel %s" % (self.pad, self.kernel))
            self.check(p.pool != POOL.STOCHASTIC or self.pad == (0, 0), "Padding implemented only for average and max "
                       "pooling, got pad %s for STOCHASTIC" % (self.pad,))
        self.draws: torch.Tensor | None = None  # the last forward's

    @property
    def drawn(self) -> bool:
        """Whether each forward draws."""
        return self.layer_param.pooling_param.pool == POOL.STOCHASTIC and self.phase == caffe_pb2.TRAIN

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) == 4, lambda: "Input must have 4 axes, corresponding to (num, channels, height, width), "
                   "got shape %s" % (bottom,))
        p = self.layer_param.pooling_param
        kernel = bottom[2:] if p.global_pooling else self.kernel
        self.windows = Windows(bottom[2:], kernel, self.stride, self.pad, p.round_mode == POOL.FLOOR)
        self.check(min(self.windows.counts) > 0, lambda: "its kernel %s exceeds the padded input (input %s, pad %s)" % (
            kernel, bottom[2:], self.pad))
        return [bottom[:2] + self.windows.counts] * 2

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.draws = self.windows.draws(bottom[0].value) if self.drawn else None
        super().forward(bottom, top)

    def function(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        kind = self.layer_param.pooling_param.pool
        if kind == POOL.AVE:
            return self.windows.average(x)
        if kind == POOL.STOCHASTIC:
            self.check(not self.drawn or self.draws is not None, "backward before the first forward: nothing is drawn yet")
            return self.windows.stochastic(x, self.draws)
        values, index = self.windows.max(x)
        return (values, index.float()) if len(self.layer_param.top) > 1 else values


@register
class Crop(Layer):
    """Bottom 0 cut to bottom 1's sizes from `axis` (default 2) on, beginning at `offset` (one for all, or one an axis).

    Bottom 1 gives sizes only; its diff is not written. Follows src/caffe/layers/crop_layer.cpp.
    """

    bottoms = (2, 2)

    def shape(self, bottom: Shape, reference: Shape) -> list[Shape]:
        p = self.layer_param.crop_param
        axis = axis_of(self, p.axis, bottom)
        count = len(bottom) - axis
        self.check(len(p.offset) in (0, 1, count), lambda: (
            "got %d offsets, wanted none, one, or one for each of the %d axes from axis %d on" % (
                len(p.offset), count, axis)))
        self.check(len(reference) == len(bottom), lambda: "bottom 0 of shape %s and bottom 1 of shape %s must have equally "
                   "many axes" % (bottom, reference))
        offsets = list(p.offset or [0])
        self.offsets = [0] * axis + (offsets * count if len(offsets) == 1 else offsets)
        top = bottom[:axis] + reference[axis:]
        for i in range(axis, len(bottom)):
            self.check(self.offsets[i] + top[i] <= bottom[i], lambda i=i: (
                "the crop for axis %d is out of bounds: offset %d + size %d > %d (bottom 0 %s, bottom 1 %s); check the "
                "offset, or pad the input more" % (i, self.offsets[i], top[i], bottom[i], bottom, reference)))
        return [top]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        window = tuple(slice(o, o + n) for o, n in zip(self.offsets, top[0].shape))
        top[0].value = bottom[0].value[window].clone(memory_format=torch.contiguous_format)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            pads = [p for o, n, m in zip(self.offsets, top[0].shape, bottom[0].shape) for p in (m - o - n, o)]
            bottom[0].grad = F.pad(top[0].grad, pads[::-1])


@register
class Im2col(Layer):
    """Each window of a convolution as a column: (..., C, spatial) -> (..., C * kernel count, spatial'), sizes rounded down.

    Axes before `axis` (default 1) count as the batch; any number of spatial axes. Follows src/caffe/layers/im2col_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.convolution_param
        self.axis = axis_of(self, p.axis, bottom[0].shape)
        self.rank = len(bottom[0].shape) - self.axis - 1
        self.check(self.rank > 0, "got a bottom of shape %s, wanted spatial axes after the channels on axis %d" % (
            bottom[0].shape, self.axis))
        self.window = tuple(per_axis(self, name, p, self.rank, default) for name, default in (
            ("kernel_size", None), ("stride", 1), ("pad", 0), ("dilation", 1)))

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) == self.axis + 1 + self.rank, lambda: "got a bottom of shape %s, wanted %d axes as when the "
                   "layer was set up" % (bottom, self.axis + 1 + self.rank))
        return [bottom[: self.axis] + (bottom[self.axis] * prod(self.window[0]),)
                + convolved(self, bottom[self.axis + 1 :], *self.window)]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, [p for pad in reversed(self.window[2]) for p in (pad, pad)])
        for i, (k, s, _, d) in enumerate(zip(*self.window)):  # each spatial axis becomes places; its taps go to the end
            x = x.unfold(self.axis + 1 + i, d * (k - 1) + 1, s)[..., ::d]
        places, taps = range(self.axis + 1, self.axis + 1 + self.rank), range(x.dim() - self.rank, x.dim())
        return x.permute(*range(self.axis + 1), *taps, *places).contiguous()


@register
class SPP(Layer):
    """Spatial pyramid pooling: (N, C, H, W) -> (N, C * (1 + 4 + 16 ...)), pyramid_height levels of Pooling.

    STOCHASTIC (see Pooling) wants sizes that need no padding. With one level the top is (N, C, 1, 1).
    Follows src/caffe/layers/spp_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.spp_param
        self.check(p.pyramid_height > 0, "got pyramid_height 0, wanted at least one level")
        self.draws: list[torch.Tensor | None] = [None] * p.pyramid_height  # the last forward's

    @property
    def drawn(self) -> bool:
        """Whether each forward draws."""
        return self.layer_param.spp_param.pool == SPP_POOL.STOCHASTIC and self.phase == caffe_pb2.TRAIN

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(len(bottom) == 4, lambda: "Input must have 4 axes, corresponding to (num, channels, height, width), "
                   "got shape %s" % (bottom,))
        self.levels = []
        for bins in (2**i for i in range(self.layer_param.spp_param.pyramid_height)):
            kernel = tuple(-(-n // bins) for n in bottom[2:])
            pad = tuple((k * bins - n + 1) // 2 for n, k in zip(bottom[2:], kernel))
            self.check(all(a < k for a, k in zip(pad, kernel)), lambda bins=bins: (
                "an input of shape %s is too small for %d x %d bins; use fewer levels" % (bottom, bins, bins)))
            self.check(self.layer_param.spp_param.pool != SPP_POOL.STOCHASTIC or pad == (0, 0), lambda bins=bins: (
                "Padding implemented only for average and max pooling, and an input of shape %s needs some for %d x %d "
                "bins; use sizes divisible by %d, or MAX or AVE" % (bottom, bins, bins, bins)))
            self.levels.append(Windows(bottom[2:], kernel, kernel, pad))
        if len(self.levels) == 1:
            return [bottom[:2] + (1, 1)]
        return [(bottom[0], bottom[1] * sum(w.counts[0] * w.counts[1] for w in self.levels))]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.draws = [w.draws(bottom[0].value) if self.drawn else None for w in self.levels]
        super().forward(bottom, top)

    def function(self, x: torch.Tensor) -> torch.Tensor:
        kind = self.layer_param.spp_param.pool
        pooled = [w.average(x) if kind == SPP_POOL.AVE else w.max(x)[0] if kind == SPP_POOL.MAX else w.stochastic(x, draws)
                  for w, draws in zip(self.levels, self.draws)]
        return torch.cat([values.flatten(1) for values in pooled], 1)
