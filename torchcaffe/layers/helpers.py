"""What layers of several areas need: axes, labels, and the geometry of sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from torchcaffe import rng
from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape
from torchcaffe.log import number

FLT_MIN = torch.finfo(torch.float32).tiny
FLT_MAX = torch.finfo(torch.float32).max


def axis_of(layer: Layer, axis: int, shape: Shape, name: str = "axis") -> int:
    """A possibly negative axis counted from the front; CaffeError naming the layer if bottom 0 has no such axis."""
    layer.check(-len(shape) <= axis < len(shape),
                lambda: "%s: %d is out of range for a bottom of shape %s, which has %d axes" % (
                    name, axis, shape, len(shape)))
    return axis % len(shape)


def around(shape: Shape, axis: int) -> Shape:
    """(outer, channels, inner): the shape folded around one axis."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def check_label_count(layer: Layer, scores: Shape, axis: int, labels: Shape) -> None:
    """One label for each position of the scores outside `axis`."""
    outer, channels, inner = around(scores, axis)
    layer.check(outer * inner == prod(labels), lambda: (
        "Number of labels must match number of predictions: got labels of shape %s, %d of them, wanted %d for scores of "
        "shape %s with classes on axis %d (for scores (N, C, H, W), N*H*W labels with integer values 0 to C-1)"
        % (labels, prod(labels), outer * inner, scores, axis)))


def read_labels(layer: Layer, blob: Blob, shape: Shape, classes: int,
                ignore: int | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A label blob as whole numbers of this shape, and where they count (None: everywhere).

    Values are cut towards zero as C casts float to int (1.9 is class 1). A label that is neither a class nor `ignore` is
    a CaffeError (release builds of Caffe read whatever lies beside the scores). Ignored places get label 0.
    """
    labels = blob.value.reshape(shape).long()
    valid = None if ignore is None else labels != ignore
    bad = (labels < 0) | (labels >= classes)
    if valid is not None:
        bad &= valid
        labels = labels.where(valid, 0)
    if bool(bad.any()):
        found = dict.fromkeys(number(v) for v in blob.value.reshape(shape)[bad].unique()[:5])
        layer.check(False, "got %d label(s) out of range, such as %s, wanted 0 to %d%s; give the scores more classes, clean "
                    "the labels, or set ignore_label" % (int(bad.sum()), ", ".join(found), classes - 1,
                                                         "" if ignore is None else " or ignore_label %d" % ignore))
    return labels, valid


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """1 / (1 + exp(-x)) by Caffe's formula, whose last bits decide what is left of 1 - y where y is near 1."""
    return torch.tanh(x * 0.5).mul_(0.5).add_(0.5)


def running_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum of the losses of all places, as Caffe's code for the device adds them.

    Its CPU code adds them one after another to one float32, and what that loses shows: 167,500 places of ln 21 give
    509,015 instead of 509,958. The same order here gives the same number. Its GPU code adds in a tree, as torch does.
    """
    if values.device.type != "cpu" or not values.numel():
        return values.sum()
    return torch.from_numpy(np.add.accumulate(values.reshape(-1).numpy(), dtype=np.float32)[-1:]).reshape(())


def expand(values: torch.Tensor, shape: Shape, axis: int) -> torch.Tensor:
    """A view of `values` that broadcasts against `shape` with its first axis at `axis`."""
    return values.reshape((1,) * axis + tuple(values.shape) + (1,) * (len(shape) - axis - values.dim()))


def sum_around(values: torch.Tensor, axis: int, num_axes: int) -> torch.Tensor:
    """The sum over all axes but `num_axes` of them from `axis` on: the transpose of expand."""
    others = [d for d in range(values.dim()) if not axis <= d < axis + num_axes]
    return values.sum(others) if others else values


def channel_window_sum(x: torch.Tensor, size: int) -> torch.Tensor:
    """Sum over `size` (odd) neighbouring channels of (N, C, H, W), fewer at both ends."""
    padded = F.pad(x, (0, 0, 0, 0, size // 2, size // 2))
    total = padded[:, : x.shape[1]].clone()
    for i in range(1, size):
        total += padded[:, i : i + x.shape[1]]
    return total


# -- windows of convolutions ------------------------------------------------------------------------------------------
def per_axis(layer: Layer, name: str, param, rank: int, default: int | None) -> Shape:
    """A window parameter of ConvolutionParameter for each spatial axis: `name` once or once an axis, or name_h and name_w.

    `default` None means it must be given (kernel_size).
    """
    values = list(getattr(param, name))
    stem = "kernel" if name == "kernel_size" else name
    if name != "dilation" and (param.HasField(stem + "_h") or param.HasField(stem + "_w")):
        layer.check(rank == 2, "%s_h and %s_w are for 2 spatial axes, this bottom has %d; use %s once an axis"
                    % (stem, stem, rank, name))
        layer.check(not values, "Either %s or %s_h/w should be specified; not both" % (name, stem))
        values = [getattr(param, stem + "_h"), getattr(param, stem + "_w")]
    if not values and default is not None:
        values = [default]
    layer.check(len(values) in (1, rank) or not rank, "got %s %d times, wanted it once or once for each of %d spatial axes"
                % (name, len(values), rank))
    values = values * rank if len(values) == 1 else values
    layer.check(name == "pad" or all(values), "got %s %s, wanted more than zero%s" % (
        name, values, "; non-square kernels need both kernel_h and kernel_w" if stem == "kernel" else ""))
    return tuple(values)


def convolved(layer: Layer, sizes: Sequence[int], kernel: Shape, stride: Shape, pad: Shape, dilation: Shape) -> Shape:
    """Output sizes of a convolution, rounded down; CaffeError if a kernel exceeds its padded input."""
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    layer.check(all(n + 2 * p >= e for n, p, e in zip(sizes, pad, extent)), lambda: (
        "its kernel covers %s but the padded input is only %s (input %s, pad %s); use a larger input, more pad or a "
        "smaller kernel" % (extent, tuple(n + 2 * p for n, p in zip(sizes, pad)), tuple(sizes), pad)))
    return tuple((n + 2 * p - e) // s + 1 for n, p, e, s in zip(sizes, pad, extent, stride))


# -- windows of pooling ---------------------------------------------------------------------------------------------------
class Windows:
    """Caffe's pooling windows over (H, W), and what is made of each (pooling_layer.cpp; for stochastic, pooling_layer.cu).

    The number of windows is rounded up (or down with `floor`); only if there is padding, a last window that would start
    beyond image and leading pad is dropped. Where PyTorch's rule gives the same windows its kernels run on the image
    itself, else on an explicitly padded copy: PyTorch refuses pad > kernel / 2 and always drops such last windows.
    """

    def __init__(self, size: Shape, kernel: Shape, stride: Shape, pad: Shape, floor: bool = False):
        self.size, self.kernel, self.stride, self.pad, self.floor = size, kernel, stride, pad, floor
        starts = [n + 2 * p - k for n, k, p in zip(size, kernel, pad)]
        counts = [(d if floor else d + s - 1) // s + 1 for d, s in zip(starts, stride)]
        dropped = [c - ((c - 1) * s >= n + p) for c, n, s, p in zip(counts, size, stride, pad)]
        self.counts: Shape = tuple(dropped if any(pad) else counts)
        self.native = counts == dropped or any(pad)
        self.native &= all(2 * p <= k and d >= 0 for p, k, d in zip(pad, kernel, starts))

    def _padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """The image with just the border that the windows cover."""
        ends = [(c - 1) * s + k - p - n for n, k, s, p, c in zip(self.size, self.kernel, self.stride, self.pad, self.counts)]
        return F.pad(x, (self.pad[1], ends[1], self.pad[0], ends[0]), value=value)

    def max(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maxima and where they are: h * W + w of the first one in row order, -1 for a window off the image."""
        if self.native:
            return F.max_pool2d(x, self.kernel, self.stride, self.pad, ceil_mode=not self.floor, return_indices=True)
        padded = self._padded(x, -FLT_MAX)
        values, index = F.max_pool2d(padded, self.kernel, self.stride, return_indices=True)
        h, w = index // padded.shape[3] - self.pad[0], index % padded.shape[3] - self.pad[1]
        inside = (h >= 0) & (h < self.size[0]) & (w >= 0) & (w < self.size[1])
        return values, (h * self.size[1] + w).where(inside, -1)

    def average(self, x: torch.Tensor) -> torch.Tensor:
        """Averages; a window counts its padding, but not what lies beyond the padded image."""
        if self.native:
            return F.avg_pool2d(x, self.kernel, self.stride, self.pad, ceil_mode=not self.floor)
        sums = F.avg_pool2d(self._padded(x, 0.0), self.kernel, self.stride, divisor_override=1)
        sides = []
        for n, k, s, p, c in zip(self.size, self.kernel, self.stride, self.pad, self.counts):
            first = torch.arange(c, device=x.device) * s - p
            sides.append((first + k).clamp(max=n + p) - first)
        return sums / (sides[0][:, None] * sides[1])

    def draws(self, x: torch.Tensor) -> torch.Tensor:
        """A number in (0, 1] for each window, from PyTorch's stream."""
        return 1 - torch.rand(x.shape[:2] + self.counts, generator=rng.on_device(x.device), device=x.device)

    def stochastic(self, x: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        """The first value of each window where the running sum reaches the share `draws` of the whole; 0 if none does.

        Values that are not negative are so drawn with probabilities proportional to them. Without draws: their mean with
        these weights, 0 if the sum is not positive.
        """
        windows = self._padded(x, 0.0).unfold(2, self.kernel[0], self.stride[0]).unfold(3, self.kernel[1], self.stride[1])
        windows = windows.flatten(-2)
        if draws is None:
            total = windows.sum(-1)
            return windows.square().sum(-1).where(total > 0, 0) / total.where(total > 0, 1)
        running = windows.cumsum(-1)
        reached = running >= draws.unsqueeze(-1) * running[..., -1:]
        chosen = windows.gather(-1, reached.int().argmax(-1, keepdim=True)).squeeze(-1)
        return chosen.where(reached.any(-1), 0)
