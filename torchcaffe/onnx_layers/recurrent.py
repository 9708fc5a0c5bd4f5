"""Recurrent layers in ONNX: see layers/recurrent.py for what they compute.

Their timesteps, whose number is fixed in Caffe, too, are written out one by one.
"""

from __future__ import annotations

from torchcaffe import log
from torchcaffe.layer import Layer
from torchcaffe.onnx_graph import Graph, Value, exports


@exports("RNN", "LSTM")
def recurrent(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """A linear function of all inputs, then timestep by timestep."""
    x, cont = bottoms[:2]
    steps = g.fixed(x, (0,))[0]
    inputs = x if len(x.shape) == 3 else g.reshape(x, [steps, g.size(x, 1), -1])
    inputs = _linear(g, inputs, layer.blobs[0], layer.blobs[1])
    if layer.static:
        inputs = g.node("Add", inputs, _linear(g, g.node("Flatten", bottoms[2], axis=1), layer.blobs[2]))
    cont = g.unsqueeze(cont, 2)
    if layer.exposed:
        state = [g.squeeze(blob, 0) for blob in bottoms[-layer.exposed :]]
    else:
        log.warning(layer.describe("exported to ONNX, each run begins with a state of zero; Caffe goes on with that of the "
                                   "run before. To carry it on, use expose_hidden: true"))
        shape = g.tensor([g.size(x, 1), layer.outputs])
        state = [g.node("ConstantOfShape", shape)] * layer.states
    step, outputs = {"RNN": _rnn, "LSTM": _lstm}[layer.type], []
    for t in range(steps):
        now = g.ints(t)
        output, state = step(g, layer, g.node("Gather", inputs, now, axis=0), g.node("Gather", cont, now, axis=0), state)
        outputs.append(g.unsqueeze(output, 0))
    top = g.node("Concat", *outputs, axis=0)
    return [top, *(g.unsqueeze(s, 0) for s in state[: layer.exposed])]


def _linear(g: Graph, x: Value | str, weight, bias=None) -> str:
    """x times the weights' transpose, plus a bias."""
    y = g.node("MatMul", x, g.param(weight, transpose=True))
    return y if bias is None else g.node("Add", y, g.param(bias))


def _rnn(g: Graph, layer: Layer, inputs: str, cont: str, state: list[str]) -> tuple[str, list[str]]:
    w_hh, w_ho, b_o = layer.blobs[-3:]
    h = g.node("Tanh", g.node("Add", _linear(g, g.node("Mul", state[0], cont), w_hh), inputs))
    return g.node("Tanh", _linear(g, h, w_ho, b_o)), [h]


def _lstm(g: Graph, layer: Layer, inputs: str, cont: str, state: list[str]) -> tuple[str, list[str]]:
    gates = g.node("Add", _linear(g, g.node("Mul", state[0], cont), layer.blobs[-1]), inputs)
    c, h = _unit(g, state[1], gates, cont, 1)
    return h, [h, c]


def _unit(g: Graph, c: Value | str, gates: Value | str, cont: str, axis: int) -> tuple[str, str]:
    """One step of LSTM cells: the new cell state and the hidden state."""
    i, f, o, new = g.node_of(4, "Split", gates, axis=axis)
    i, f, o = (g.node("Sigmoid", gate) for gate in (i, f, o))
    kept = g.node("Mul", g.node("Mul", f, cont), c)
    c = g.node("Add", kept, g.node("Mul", i, g.node("Tanh", new)))
    return c, g.node("Mul", o, g.node("Tanh", c))


@exports("LSTMUnit")
def lstm_unit(g: Graph, layer: Layer, bottoms: list[Value], tops: list[Value]) -> list[str]:
    """One step."""
    return list(_unit(g, bottoms[0], bottoms[1], g.unsqueeze(bottoms[2], 2), 2))
