"""Utility layers in ONNX: see layers/utility.py for what they compute."""

from __future__ import annotations

from torchcaffe.layer import Layer
from torchcaffe.layers.helpers import axis_of
from torchcaffe.layers.utility import ELTWISE, REDUCTION
from torchcaffe.onnx_graph import Graph, Value, exports

BACKWARDS = -(2**63)  # where a Slice with step -1 ends that goes to the beginning


@exports("Flatten")
def flatten(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Reshape."""
    p, x = layer.layer_param.flatten_param, bottoms[0]
    start, end = axis_of(layer, p.axis, x.shape), axis_of(layer, p.end_axis, x.shape)
    sizes = [g.size(x, i) for i in range(len(x.shape))]
    return [g.reshape(x, [*sizes[:start], -1, *sizes[end + 1 :]])]


@exports("Reshape")
def reshape(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Reshape."""
    p, x = layer.layer_param.reshape_param, bottoms[0]
    sizes = [g.size(x, i) for i in range(len(x.shape))]
    start = p.axis if p.axis >= 0 else len(sizes) + p.axis + 1
    end = len(sizes) if p.num_axes == -1 else start + p.num_axes
    dims = [sizes[start + i] if dim == 0 else dim for i, dim in enumerate(p.shape.dim)]
    return [g.reshape(x, [*sizes[:start], *dims, *sizes[end:]])]


@exports("Split")
def split(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value]:
    """The bottom itself, for each reader."""
    return bottoms * len(tops)


@exports("Silence")
def silence(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Nothing."""
    return []


@exports("Concat")
def concat(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value | str]:
    """Concat."""
    return [g.node("Concat", *bottoms, axis=layer.axis)] if len(bottoms) > 1 else bottoms


@exports("Slice")
def slice_(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value | str]:
    """Split into equal parts, or a Slice for each top."""
    points = list(layer.layer_param.slice_param.slice_point)
    if len(tops) == 1:
        return bottoms
    if not points:
        return g.node_of(len(tops), "Split", bottoms[0], axis=layer.axis)
    bounds = [0, *points, 2**63 - 1]
    return [g.node("Slice", bottoms[0], g.ints([a]), g.ints([b]), g.ints([layer.axis])) for a, b in zip(bounds, bounds[1:])]


@exports("Eltwise")
def eltwise(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Add, Mul or Max, one after another."""
    terms = [g.affine(x, c) for x, c in zip(bottoms, layer.coeff)]
    op = {ELTWISE.SUM: "Add", ELTWISE.PROD: "Mul", ELTWISE.MAX: "Max"}[layer.operation]
    result = terms[0]
    for term in terms[1:]:
        result = g.node(op, result, term)
    return [result]


@exports("Softmax")
def softmax(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Softmax."""
    return [g.node("Softmax", bottoms[0], axis=layer.axis)]


@exports("ArgMax")
def argmax(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """ArgMax that takes the last of equal values, or TopK from the back."""
    p, x = layer.layer_param.argmax_param, bottoms[0]
    axis, values = 1 if layer.axis is None else layer.axis, ""
    searched = g.node("Flatten", x, axis=1) if layer.axis is None else x.name
    if p.top_k == 1:
        index = g.node("ArgMax", searched, axis=axis, keepdims=1, select_last_index=1)
        if p.out_max_val:
            values = g.node("ReduceMax", searched, axes=[axis], keepdims=1)
    else:
        size = g.measured(searched, axis)
        back = g.node("Slice", searched, g.ints([-1]), g.ints([BACKWARDS]), g.ints([axis]), g.ints([-1]))
        values, index = g.node_of(2, "TopK", back, g.ints([p.top_k]), axis=axis)
        index = g.node("Sub", g.node("Sub", size, g.ints(1)), index)
    index = g.cast(index, "FLOAT")
    if layer.axis is not None:
        return [values if p.out_max_val else index]
    found = g.node("Concat", index, values, axis=1) if p.out_max_val else index
    return [g.reshape(found, [g.size(x, 0), 1 + p.out_max_val, p.top_k, *[1] * (len(x.shape) - 3)])]


@exports("Tile")
def tile(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Tile."""
    times = [layer.layer_param.tile_param.tiles if i == layer.axis else 1 for i in range(len(bottoms[0].shape))]
    return [g.node("Tile", bottoms[0], g.ints(times))]


@exports("Reduction")
def reduction(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value | str]:
    """One of ONNX's reductions over all axes from one on."""
    p, x = layer.layer_param.reduction_param, bottoms[0]
    axes = list(range(layer.axis, len(x.shape)))
    if p.operation == REDUCTION.SUM:  # whose axes have been an input since opset 13
        return [g.affine(g.node("ReduceSum", x, g.ints(axes), keepdims=0), p.coeff)]
    op = {REDUCTION.ASUM: "ReduceL1", REDUCTION.SUMSQ: "ReduceSumSquare", REDUCTION.MEAN: "ReduceMean"}[p.operation]
    return [g.affine(g.node(op, x, axes=axes, keepdims=0), p.coeff)]


@exports("Filter")
def filter_(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Compress."""
    kept = g.cast(g.reshape(bottoms[-1], [-1]), "BOOL")
    return [g.node("Compress", x, kept, axis=0) for x in bottoms[:-1]]


@exports("BatchReindex")
def batch_reindex(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Gather."""
    return [g.node("Gather", bottoms[0], g.cast(bottoms[1], "INT64"), axis=0)]
