"""Where the units of one blob lie among those of another, through the layers between; and the Crop that aligns them.

A map (axis, scale, shift) takes a position x of one blob to `scale * x + shift` of another. Positions are indices of
units along the spatial axes; `axis` is the last axis before the first spatial one (the channel axis, 1 for images), or
None where every axis maps to itself. Scale and shift are numbers or arrays with one entry a spatial axis (or one for
all). `coord_map(fn)` goes from the bottom of a layer to its top: stride 2 gives scale 1/2, padding shifts to the right.

Sizes are not needed: the offset of a crop is the same for every size of the input.

Answers to BVLC's python/caffe/coord_map.py.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from .net_spec import Function, Top
from .net_spec import layers as L

PASS_THROUGH_LAYERS = [
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN", "Power", "ReLU",
    "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold",
]  # fmt: skip

LEGACY = {"pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"}


class UndefinedMapException(Exception):
    """A layer has no coordinate map: its top is no picture of its bottom (InnerProduct, Python, data, losses, ...)."""


class AxisMismatchException(Exception):
    """Two maps were chained whose spatial axes begin at different places."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(axis, stride, kernel extent with its dilation, pad) of a Convolution, Deconvolution, Im2col or Pooling.

    The last three are arrays with one entry a spatial axis, or one for all. Convolutions may have their parameters
    plainly or in a `convolution_param` dict; a Pooling plainly. KeyError without `kernel_size` (a global pooling has
    none); AssertionError for the parameters named _h and _w, which say the same in a second way.
    """
    params = fn.params.get("convolution_param", fn.params)
    if "kernel_size" not in params:
        raise KeyError(f"a {fn.type_name} layer on the way has no kernel_size; it has {sorted(params)}")
    legacy = sorted(LEGACY & (set(fn.params) | set(params)))
    if legacy:
        raise AssertionError(
            f"cropping does not support legacy _h/_w params: a {fn.type_name} layer has {', '.join(legacy)}; "
            "write kernel_size, stride and pad, as lists [h, w] if they differ"
        )
    kernel = np.array(params["kernel_size"], ndmin=1)
    dilation = np.array(params.get("dilation", 1), ndmin=1)
    stride = np.array(params.get("stride", 1), ndmin=1)
    pad = np.array(params.get("pad", 0), ndmin=1)
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """(axis, offset) of a Crop, whose axis is the first one that is cropped: 2 for height and width."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function):
    """The map (axis, scale, shift) from the bottom of a layer to its top; UndefinedMapException where there is none.

    A convolution centres unit 0 of its top at (kernel - 1) / 2 - pad of its bottom; a deconvolution is its inverse.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    raise UndefinedMapException(f"no coordinates can be followed through a layer of type {fn.type_name}")


def compose(base_map, next_map):
    """The map that takes `next_map` first and `base_map` after it. AxisMismatchException if their axes differ."""
    base_axis, base_scale, base_shift = base_map
    next_axis, next_scale, next_shift = next_map
    if base_axis is not None and next_axis is not None and base_axis != next_axis:
        raise AxisMismatchException(
            f"spatial axes begin after axis {base_axis} in one layer and after axis {next_axis} in another"
        )
    axis = next_axis if base_axis is None else base_axis
    return axis, base_scale * next_scale, base_scale * next_shift + base_shift


def inverse(coord_map):
    """The map in the other direction."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def _bottoms(top: Top):
    """The bottoms whose coordinates a top has: of a Crop only the first, the second gives nothing but a size."""
    return top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs


def _walk_up(start: Top):
    """Yield (top, map from it to start) for start and everything above it that a coordinate map leads to, near first.

    A top reached in several ways has the map of the first; all ways are composed, so that no mismatch goes unseen.
    """
    maps = {start: (None, 1, 0)}
    frontier = deque([start])
    while frontier:
        top = frontier.popleft()
        yield top, maps[top]
        for bottom in _bottoms(top):
            try:
                step = coord_map(top.fn)
            except UndefinedMapException:
                break
            way = compose(maps[top], step)
            if bottom not in maps:
                maps[bottom] = way
                frontier.append(bottom)


def coord_map_from_to(top_from: Top, top_to: Top):
    """The map from positions of one top to positions of another, by way of the nearest blob both come from.

    RuntimeError if there is none that layers with coordinate maps lead to.
    """
    from_maps = dict(_walk_up(top_from))
    for top, to_map in _walk_up(top_to):
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise RuntimeError(
        f"Could not compute map between tops; are they connected by spatial layers? One is made by a "
        f"{top_from.fn.type_name} layer, the other by a {top_to.fn.type_name} layer; wanted: a common ancestor from "
        f"which only Convolution, Deconvolution, Pooling, Im2col, Crop or pointwise layers lead to both."
    )


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop of `top_from` to the place and size of `top_to`, its offset derived from the layers between them.

    AssertionError if the two have different strides, if `top_from` would have to be extended to the left, or if the
    offset is no whole number.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    who = f"a {top_from.fn.type_name} layer's top to a {top_to.fn.type_name} layer's"
    if axis is None:
        raise AttributeError(f"nothing to crop from {who}: no layer between them has spatial axes")
    scale, shift = np.atleast_1d(scale), np.atleast_1d(shift)
    if not (scale == 1).all():
        raise AssertionError(
            f"scale mismatch on crop (a = {scale}) from {who}: the first has {scale} units for one of "
            f"the second; wanted the same stride (upsample or pool one of them)"
        )
    if not (shift <= 0).all():
        raise AssertionError(
            f"cannot crop negative offset (b = {shift}) from {who}: the first begins {shift} units inside "
            f"the second; wanted more padding before it"
        )
    if not (np.round(shift) == shift).all():
        raise AssertionError(
            f"cannot crop noninteger offset (b = {shift}) from {who}: their units lie between each "
            f"other; wanted kernels and paddings of matching parity"
        )
    return L.Crop(top_from, top_to, crop_param=dict(axis=axis + 1, offset=[-int(b) for b in np.round(shift)]))
