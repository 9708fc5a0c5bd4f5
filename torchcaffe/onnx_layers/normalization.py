"""Normalization layers in ONNX: see layers/normalization.py for what they compute."""

from __future__ import annotations

import numpy as np

from torchcaffe.layer import Layer
from torchcaffe.layers.normalization import WITHIN
from torchcaffe.onnx_graph import Graph, Value, exports, refuse


@exports("LRN")
def lrn(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """ONNX's LRN; within a channel, an average of squares (stride 1: no window reaches beyond the padding)."""
    p, x = layer.layer_param.lrn_param, bottoms[0]
    n = p.local_size
    if p.norm_region != WITHIN:
        return [g.node("LRN", x, alpha=p.alpha, beta=p.beta, bias=p.k, size=n)]
    mean = g.node("AveragePool", g.node("Mul", x, x), kernel_shape=[n, n], pads=[n // 2] * 4, count_include_pad=1)
    return [g.node("Mul", x, g.node("Pow", g.affine(mean, p.alpha, 1.0), g.floats(-p.beta)))]


@exports("BatchNorm")
def batch_norm(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """BatchNormalization without an affine part, by the running averages."""
    if not layer.use_global:
        raise refuse(layer, "it normalizes with the batch's statistics; build the net for TEST, or set "
                     "use_global_stats: true")
    means, variances, weight = (blob.value.cpu().numpy() for blob in layer.blobs)
    factor = np.float32(0 if weight[0] == 0 else 1 / weight[0])
    ones, zeros = np.ones(layer.channels, np.float32), np.zeros(layer.channels, np.float32)
    name = layer.layer_param.name
    return [g.node("BatchNormalization", bottoms[0], g.floats(ones), g.floats(zeros),
                   g.constant(means * factor, name + ".running_mean"), g.constant(variances * factor, name + ".running_var"),
                   epsilon=layer.param.eps)]


@exports("MVN")
def mvn(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Mean and deviation over the axes behind the channel, or behind the image."""
    p, x = layer.layer_param.mvn_param, bottoms[0]
    x = g.unsqueeze(x, *range(len(x.shape), 4))
    axes = [1, 2, 3] if p.across_channels else [2, 3]
    centred = g.node("Sub", x, g.node("ReduceMean", x, axes=axes))
    if not p.normalize_variance:
        return [centred]
    deviation = g.node("Sqrt", g.node("ReduceMean", g.node("Mul", centred, centred), axes=axes))
    return [g.node("Div", centred, g.affine(deviation, 1.0, p.eps))]
