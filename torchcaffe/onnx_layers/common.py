"""Common layers, and those that bring constants, in ONNX: see layers/common.py, data.py and utility.py."""

from __future__ import annotations

from torchcaffe.layer import Layer
from torchcaffe.layers.helpers import axis_of
from torchcaffe.onnx_graph import Graph, Value, exports, refuse
from torchcaffe.proto import caffe_pb2


@exports("InnerProduct")
def inner_product(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Gemm of what is one vector, the axes before it folded into one."""
    p, x = layer.layer_param.inner_product_param, bottoms[0]
    axis = axis_of(layer, p.axis, x.shape)
    rows = x if (len(x.shape), axis) == (2, 1) else (
        g.node("Flatten", x, axis=1) if axis == 1 else g.reshape(x, [-1, layer.inputs]))
    bias = [g.param(layer.blobs[1])] if len(layer.blobs) > 1 else []
    result = g.node("Gemm", rows, g.param(layer.blobs[0]), *bias, transB=int(not p.transpose))
    return [result if axis == 1 else g.reshape(result, [*(g.size(x, i) for i in range(axis)), p.num_output])]


@exports("Dropout")
def dropout(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value]:
    """The bottom itself."""
    if layer.phase == caffe_pb2.TRAIN:
        raise refuse(layer, "in TRAIN it draws random numbers; build the net for TEST")
    return [bottoms[0]]


@exports("Embed")
def embed(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Gather of rows."""
    rows = g.node("Gather", g.param(layer.blobs[0]), g.cast(bottoms[0], "INT64"), axis=0)
    return [g.node("Add", rows, g.param(layer.blobs[1])) if len(layer.blobs) > 1 else rows]


@exports("Parameter")
def parameter(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """A constant."""
    return [g.param(layer.blobs[0])]


@exports("DummyData")
def dummy_data(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Constants, for fillers of type constant."""
    if any(param.type != "constant" for param in layer.fillers):
        raise refuse(layer, "it draws random numbers; make it an Input layer")
    return [g.node("Expand", g.floats(param.value), g.tensor(top.shape)) for param, top in zip(layer.fillers, tops)]
