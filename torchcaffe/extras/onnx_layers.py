"""How the forks' layers are written in ONNX (see torchcaffe/onnx_layers): those that segmentation and classification need.

PriorBox, DetectionOutput, ROIPooling, PSROIPooling and SmoothL1Loss have no form here.
"""

from __future__ import annotations

from math import prod

from torchcaffe.extras.segmentation import BN_PARAM, SegNetBN
from torchcaffe.layer import Layer
from torchcaffe.onnx_graph import Graph, Value, exports, refuse
from torchcaffe.onnx_layers.vision import convolution
from torchcaffe.proto import caffe_pb2

exports("DepthwiseConvolution", "ConvolutionDepthwise")(convolution)


@exports("Axpy")
def axpy(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Mul and Add."""
    a, x, y = bottoms
    return [g.node("Add", g.node("Mul", a if len(a.shape) == 4 else g.unsqueeze(a, 2, 3), x), y)]


@exports("ShuffleChannel")
def shuffle_channel(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """The channels as a table of groups, its transpose, and flat again."""
    x, group = bottoms[0], layer.layer_param.shuffle_channel_param.group
    channels, rest = g.fixed(x, (1,))[0], [g.size(x, i) for i in range(2, len(x.shape))]
    table = g.reshape(x, [g.size(x, 0), group, channels // group, *rest])
    dealt = g.node("Transpose", table, perm=[0, 2, 1, *range(3, len(x.shape) + 1)])
    return [g.reshape(dealt, [g.size(x, 0), channels, *rest])]


@exports("ReLU6")
def relu6(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Clip."""
    return [g.node("Clip", bottoms[0], g.floats(0), g.floats(6))]


@exports("Permute")
def permute(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Transpose."""
    return [g.node("Transpose", bottoms[0], perm=layer.order)]


@exports("Normalize")
def normalize(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """x over the root of a sum of squares, times the scale."""
    p, x = layer.layer_param.norm_param, bottoms[0]
    axes = list(range(1, len(x.shape))) if p.across_spatial else [1]
    norm = g.node("Sqrt", g.affine(g.node("ReduceSumSquare", x, axes=axes), 1.0, p.eps))
    scale = layer.blobs[0]
    shape = scale.shape + (1,) * (len(x.shape) - 2) if scale.shape else ()
    return [g.node("Mul", g.node("Div", x, norm), g.param(scale, shape))]


@exports("Interp")
def interp(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Slice, then Resize that keeps the corners, to the size given or by the factors."""
    p, x = layer.layer_param.interp_param, bottoms[0]
    sizes = [g.calculate("Sub", g.size(x, i), -(p.pad_beg + p.pad_end)) for i in (2, 3)]
    if p.pad_beg or p.pad_end:
        ends = [g.calculate("Sub", g.size(x, i), -p.pad_end) for i in (2, 3)]
        cropped = g.node("Slice", x, g.ints([-p.pad_beg] * 2), g.tensor(ends), g.ints([2, 3]))
    else:
        cropped = x.name
    if p.HasField("zoom_factor") == p.HasField("shrink_factor") and p.HasField("height") and p.HasField("width"):
        sizes = [p.height, p.width]
    else:
        for op, number in (("Sub", 1), ("Div", p.shrink_factor), ("Mul", p.zoom_factor), ("Add", 1)):
            sizes = [g.calculate(op, size, number) for size in sizes]
    return [g.node("Resize", cropped, "", "", g.tensor([g.size(x, 0), g.size(x, 1), *sizes]), mode="linear",
                   coordinate_transformation_mode="align_corners")]


@exports("Upsample")
def upsample(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """ScatterElements into zeros, each channel flat."""
    p, x = layer.layer_param.upsample_param, bottoms[0]
    size = layer.size or [g.calculate("Sub", g.calculate("Mul", g.size(x, 2 + i), scale), int(cut))
                          for i, (scale, cut) in enumerate(zip(layer.scale, (p.pad_out_h, p.pad_out_w)))]
    lead = [g.size(x, 0), g.size(x, 1)]
    zeros = g.node("Expand", g.floats(0), g.tensor([*lead, g.calculate("Mul", *size)]))
    values, places = (g.reshape(b, [*lead, -1]) for b in bottoms)
    return [g.reshape(g.node("ScatterElements", zeros, g.cast(places, "INT64"), values, axis=2), [*lead, *size])]


@exports("BN")
def bn(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """BatchNormalization by the running values; SegNet's normalizes with the batch's in TEST, too, or not at all."""
    x, p = bottoms[0], layer.layer_param.bn_param
    flat = [blob.shape[1:2] for blob in layer.blobs]
    if not isinstance(layer, SegNetBN):
        if layer.phase == caffe_pb2.TRAIN and not p.frozen:
            raise refuse(layer, "it normalizes with the batch's statistics; build the net for TEST")
        return [g.node("BatchNormalization", x, *(g.param(b, s) for b, s in zip(layer.blobs, flat)), epsilon=p.eps)]
    y: Value | str = x
    if p.bn_mode != BN_PARAM.INFERENCE:
        axes = [0, *range(2, len(x.shape))]
        y = g.node("Sub", x, g.node("ReduceMean", x, axes=axes))
        y = g.node("Div", y, g.node("Sqrt", g.affine(g.node("ReduceMean", g.node("Mul", y, y), axes=axes), 1.0, 1e-9)))
    scale, offset = (g.param(b, (prod(s),) + (1,) * (len(x.shape) - 2)) for b, s in zip(layer.blobs, flat))
    return [g.node("Add", g.node("Mul", y, scale), offset)]
