"""Activation layers in ONNX: see layers/activation.py for what they compute."""

from __future__ import annotations

from torchcaffe.layer import Layer
from torchcaffe.onnx_graph import Graph, Value, exports

PLAIN = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}


@exports(*PLAIN)
def plain(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Layers that are an operator of ONNX."""
    return [g.node(PLAIN[layer.type], bottoms[0])]


@exports("ReLU")
def relu(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Relu, LeakyRelu with a slope."""
    slope = layer.layer_param.relu_param.negative_slope
    return [g.node("LeakyRelu", bottoms[0], alpha=slope) if slope else g.node("Relu", bottoms[0])]


@exports("PReLU")
def prelu(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """PRelu, the slopes in a shape that broadcasts."""
    slopes = layer.blobs[0]
    shape = (slopes.count,) + (1,) * (len(bottoms[0].shape) - 2) if slopes.shape else (1,)
    return [g.node("PRelu", bottoms[0], g.param(slopes, shape))]


@exports("ELU")
def elu(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Elu."""
    return [g.node("Elu", bottoms[0], alpha=layer.layer_param.elu_param.alpha)]


@exports("Swish")
def swish(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """x * Sigmoid(beta * x)."""
    return [g.node("Mul", bottoms[0], g.node("Sigmoid", g.affine(bottoms[0], layer.layer_param.swish_param.beta)))]


@exports("Clip")
def clip(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Clip."""
    p = layer.layer_param.clip_param
    return [g.node("Clip", bottoms[0], g.floats(p.min), g.floats(p.max))]


@exports("Threshold")
def threshold(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Greater, as numbers."""
    return [g.cast(g.node("Greater", bottoms[0], g.floats(layer.layer_param.threshold_param.threshold)), "FLOAT")]


@exports("Power")
def power(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value | str]:
    """Pow of an affine function."""
    p = layer.layer_param.power_param
    base = g.affine(bottoms[0], p.scale, p.shift)
    return [base if p.power == 1 else g.node("Pow", base, g.floats(p.power))]


@exports("Exp")
def exp(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value | str]:
    """Exp, scaled inside and outside."""
    return [g.affine(g.node("Exp", g.affine(bottoms[0], layer.inner)), layer.outer)]


@exports("Log")
def log(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[Value | str]:
    """Log of an affine function, scaled."""
    p = layer.layer_param.log_param
    return [g.affine(g.node("Log", g.affine(bottoms[0], p.scale, p.shift)), 1 / layer.log_base)]


@exports("Scale", "Bias")
def scale(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """Mul and Add of operands with as many axes of size 1 behind them as it takes."""
    axes = len(bottoms[0].shape)

    def learned(k: int) -> str:
        shape = layer.blobs[k].shape
        return g.param(layer.blobs[k], shape + (1,) * (axes - layer.axis - len(shape)))

    if len(bottoms) > 1:
        own = len(bottoms[1].shape)
        operand = g.unsqueeze(bottoms[1], *range(own, axes - layer.axis))
    else:
        operand = learned(0)
    if layer.type == "Bias":
        return [g.node("Add", bottoms[0], operand)]
    result = g.node("Mul", bottoms[0], operand)
    return [g.node("Add", result, learned(-1)) if layer.layer_param.scale_param.bias_term else result]
