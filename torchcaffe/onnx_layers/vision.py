"""Vision layers in ONNX: see layers/vision.py for what they compute.

Caffe rounds the number of pooling windows up, lets the last ones reach beyond image and padding, and drops those that
would begin there. ONNX's own ceil_mode does so, too, but runtimes disagree on windows that begin beyond the image and on the
divisor of those that reach beyond the padding: where that can happen, the image is padded explicitly, by as much as the
sizes at run time ask for.
"""

from __future__ import annotations

from math import prod

import numpy as np

from torchcaffe.layer import Layer, Shape
from torchcaffe.layers.helpers import FLT_MAX
from torchcaffe.layers.vision import POOL, SPP_POOL
from torchcaffe.onnx_graph import Dim, Graph, Value, exports, refuse

KINDS = {POOL.MAX: "MAX", POOL.AVE: "AVE", POOL.STOCHASTIC: "STOCHASTIC"}
SPP_KINDS = {SPP_POOL.MAX: "MAX", SPP_POOL.AVE: "AVE", SPP_POOL.STOCHASTIC: "STOCHASTIC"}


@exports("Convolution", "Deconvolution")
def convolution(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Conv or ConvTranspose, which have Caffe's layout of weights; other axes before the channels than one are folded."""
    rank, axis = max(layer.rank, 1), layer.axis
    unused = (1,) * (not layer.rank)  # ONNX wants a spatial axis
    params = [g.param(layer.blobs[0], layer.blobs[0].shape + unused)]
    params += [g.param(b) for b in layer.blobs[1:]]
    results = []
    for x in bottoms:
        spatial = [g.size(x, i) for i in range(axis + 1, len(x.shape))] + list(unused)
        folded = x if axis == 1 and layer.rank else g.reshape(x, [-1, layer.channels, *spatial])
        y = g.node("ConvTranspose" if layer.transposed else "Conv", folded, *params, kernel_shape=layer.kernel + unused,
                   strides=layer.stride + unused, dilations=layer.dilation + unused, group=layer.group,
                   pads=(layer.pad + (0,) * (not layer.rank)) * 2)
        if folded is not x:
            sizes = [g.measured(y, i + 2) for i in range(rank)] if layer.rank else []
            y = g.reshape(y, [*(g.size(x, i) for i in range(axis)), layer.layer_param.convolution_param.num_output, *sizes])
        results.append(y)
    return results


@exports("Pooling")
def pooling(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """MaxPool or AveragePool, see pool; the global ones for a window as large as the image."""
    p, x = layer.layer_param.pooling_param, bottoms[0]
    kind = _kind(layer, KINDS[p.pool])
    if not p.global_pooling:
        return pool(g, kind, x, layer.kernel, layer.stride, layer.pad, p.round_mode == POOL.FLOOR, len(tops) > 1)
    if kind == "STOCHASTIC":
        return [_weighted_mean(g, g.node("GlobalAveragePool", g.node("Mul", x, x)), g.node("GlobalAveragePool", x))]
    if len(tops) == 1:
        return [g.node("GlobalMaxPool" if kind == "MAX" else "GlobalAveragePool", x)]
    flat = g.reshape(x, [g.size(x, 0), g.size(x, 1), -1, 1])
    return [g.node("GlobalMaxPool", x), g.cast(g.node("ArgMax", flat, axis=2), "FLOAT")]


@exports("SPP")
def spp(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Pooling levels, flat, one after another; window sizes follow from the image's, which must be fixed."""
    x = bottoms[0]
    g.fixed(x, (2, 3))
    kind = _kind(layer, SPP_KINDS[layer.layer_param.spp_param.pool])
    levels = [pool(g, kind, x, w.kernel, w.stride, w.pad, False, False)[0] for w in layer.levels]
    return levels if len(levels) == 1 else [g.node("Concat", *(g.node("Flatten", y, axis=1) for y in levels), axis=1)]


def _kind(layer: Layer, kind: str) -> str:
    if layer.drawn:
        raise refuse(layer, "in TRAIN, STOCHASTIC pooling draws random numbers; build the net for TEST")
    return kind


def pool(g: Graph, kind: str, x: Value, kernel: Shape, stride: Shape, pad: Shape, floor: bool, mask: bool) -> list[str]:
    """One pooling by Caffe's windows (layers/helpers.py, Windows); with `mask` also where each maximum is."""
    how = {"kernel_shape": kernel, "strides": stride}
    begins_inside = floor and not any(pad) or all(p + s <= k for k, s, p in zip(kernel, stride, pad))
    if kind != "AVE":
        padded, border = x, (0, 0)
        if begins_inside:
            how.update(pads=pad * 2, ceil_mode=int(not floor))
        else:
            padded, border = _pad(g, x, kernel, stride, pad, floor, -FLT_MAX if kind == "MAX" else 0.0)[0], pad
        if kind == "STOCHASTIC":  # equal divisors of both averages cancel
            return [_weighted_mean(g, *(g.node("AveragePool", v, **how) for v in (g.node("Mul", padded, padded), padded)))]
        if not mask:
            return [g.node("MaxPool", padded, **how)]
        values, index = g.node_of(2, "MaxPool", padded, **how)
        return [values, _places(g, x, padded, index, border)]
    if begins_inside and (floor or all(s == 1 for s in stride)):  # no window reaches beyond the padding
        return [g.node("AveragePool", x, pads=pad * 2, count_include_pad=1, **how)]
    padded, counts = _pad(g, x, kernel, stride, pad, floor, 0.0)
    y = g.node("AveragePool", padded, **how)
    for i, (k, s, p) in enumerate(zip(kernel, stride, pad)):
        end = g.calculate("Add", g.size(x, 2 + i), p)
        y = g.node("Mul", y, _shares(g, counts[i], end, k, s, p, 1 - i))
    return [y]


def _pad(g: Graph, x: Value, kernel: Shape, stride: Shape, pad: Shape, floor: bool, value: float) -> tuple[str, list[Dim]]:
    """The image with just the border that the windows cover, and the numbers of windows."""
    counts, ends = [], []
    for i, (k, s, p) in enumerate(zip(kernel, stride, pad)):
        n = g.size(x, 2 + i)
        count = g.calculate("Add", g.calculate("Div", g.calculate("Add", n, 2 * p - k + (0 if floor else s - 1)), s), 1)
        if any(pad):  # a last window that begins beyond image and padding is dropped
            last, end = g.calculate("Mul", g.calculate("Sub", count, 1), s), g.calculate("Add", n, p)
            if isinstance(last, int):
                count -= last >= end
            else:
                count = g.node("Sub", count, g.cast(g.node("GreaterOrEqual", last, end), "INT64"))
        covered = g.calculate("Add", g.calculate("Mul", g.calculate("Sub", count, 1), s), k - p)
        counts.append(count)
        ends.append(g.calculate("Max", g.calculate("Sub", covered, n), 0))
    return g.node("Pad", x, g.tensor([0, 0, *pad, 0, 0, *ends]), g.floats(value)), counts


def _shares(g: Graph, count: Dim, end: Dim, kernel: int, stride: int, pad: int, behind: int) -> str:
    """Along an axis, kernel / (what of each window lies before `end`, the end of the padding), with axes behind it."""
    if isinstance(count, int) and isinstance(end, int):
        starts = np.arange(count) * stride - pad
        return g.floats((kernel / (np.minimum(starts + kernel, end) - starts)).reshape((-1,) + (1,) * behind))
    scalars = [g.ints(0), g.ints(count) if isinstance(count, int) else g.squeeze(count, 0), g.ints(1)]
    starts = g.node("Sub", g.node("Mul", g.node("Range", *scalars), g.ints(stride)), g.ints(pad))
    last = g.node("Min", g.node("Add", starts, g.ints(kernel)), g.ints([end]) if isinstance(end, int) else end)
    share = g.node("Div", g.floats(kernel), g.cast(g.node("Sub", last, starts), "FLOAT"))
    return g.unsqueeze(share, *range(1, 1 + behind))


def _places(g: Graph, x: Value, padded: Value | str, index: str, border: Shape) -> str:
    """h * W + w in the image, -1 outside, from MaxPool's index into the whole padded tensor."""
    if padded is x:
        area = g.calculate("Mul", g.size(x, 2), g.size(x, 3))
        return g.cast(g.node("Mod", index, g.tensor([area])), "FLOAT")
    height, width = (g.measured(padded, axis) for axis in (2, 3))
    index = g.node("Mod", index, g.node("Mul", height, width))
    h, w = (g.node("Sub", g.node(op, index, width), g.ints(b)) for op, b in zip(("Div", "Mod"), border))
    place = g.node("Add", g.node("Mul", h, g.tensor([g.size(x, 3)])), w)
    inside = None
    for at, axis in ((h, 2), (w, 3)):
        for test in (g.node("GreaterOrEqual", at, g.ints(0)), g.node("Less", at, g.tensor([g.size(x, axis)]))):
            inside = test if inside is None else g.node("And", inside, test)
    return g.cast(g.node("Where", inside, place, g.ints(-1)), "FLOAT")


def _weighted_mean(g: Graph, squares: str, total: str) -> str:
    """squares / total, 0 where total is not positive."""
    positive = g.node("Greater", total, g.floats(0))
    return g.node("Div", g.node("Where", positive, squares, g.floats(0)), g.node("Where", positive, total, g.floats(1)))


@exports("Crop")
def crop(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Slice from the offsets, as far as bottom 1 is large."""
    x, reference = bottoms
    axes = [i for i in range(len(x.shape)) if i >= layer.layer_param.crop_param.axis % len(x.shape)]
    starts = [layer.offsets[i] for i in axes]
    ends = [g.calculate("Add", g.size(reference, i), start) for i, start in zip(axes, starts)]
    return [g.node("Slice", x, g.tensor(starts), g.tensor(ends), g.ints(axes))]


@exports("Im2col")
def im2col(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """A convolution of each channel with one kernel for each place of the window, which is 1 there and 0 elsewhere."""
    x, (kernel, stride, pad, dilation) = bottoms[0], layer.window
    if layer.rank > 3:
        raise refuse(layer, "it has %d spatial axes, runtimes convolve up to 3" % layer.rank)
    taps, axis = prod(kernel), layer.axis
    channels = g.fixed(x, (axis,))[0]
    picks = np.tile(np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel), (channels,) + (1,) * (layer.rank + 1))
    folded = x if axis == 1 else g.reshape(x, [-1, channels, *(g.size(x, i) for i in range(axis + 1, len(x.shape)))])
    y = g.node("Conv", folded, g.floats(picks), kernel_shape=kernel, strides=stride, dilations=dilation, group=channels,
               pads=pad * 2)
    if folded is not x:
        y = g.reshape(y, [*(g.size(x, i) for i in range(axis)), channels * taps,
                          *(g.measured(y, i + 2) for i in range(layer.rank))])
    return [y]
