"""Recurrent layers: sequences in, sequences out.

Sequences are (T, N, ...): T timesteps of N independent streams. `cont` (T, N) is 0 where a stream begins anew, 1 where it
goes on: the state that enters a timestep is multiplied by it.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F

from torchcaffe import filler
from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.proto import caffe_pb2

Tensors = tuple[torch.Tensor, ...]


class _Recurrent(Layer):
    """What RNN and LSTM share (recurrent_layer.cpp).

    Bottoms: x (T, N, ...), cont (T, N), perhaps a static input (N, ...) that every timestep sees, and with expose_hidden
    the state (1, N, num_output) to begin with. Tops: (T, N, num_output), and with expose_hidden the state at the end.

    Without expose_hidden the state at the end of one forward is where the next begins, zero at first. No gradient goes to
    the state: nor from one forward to the one before, nor to or from exposed state blobs. T is fixed at setup; N is not.
    The parameters' gradients are always computed, whatever lr_mult says. Deviations: debug_info, which logs what is inside
    Caffe's unrolled net, has no effect, there being none; sharing parameters between layers by name works in TRAIN, too.
    """

    named: ClassVar[tuple[str, ...]] = ()  # the parameters, in order
    gates: ClassVar[int] = 1  # rows of the input weights, in multiples of num_output
    states: ClassVar[int] = 1  # blobs that make up the state, h first

    def __init__(self, layer_param: caffe_pb2.LayerParameter):
        super().__init__(layer_param)
        self.exposed = self.states if layer_param.recurrent_param.expose_hidden else 0
        self.bottoms = (2 + self.exposed, 3 + self.exposed)
        self.tops = (1 + self.exposed, 1 + self.exposed)

    def hidden_params(self) -> list[tuple[Shape, caffe_pb2.FillerParameter]]:
        """Shapes and fillers of the parameters that each timestep uses."""
        raise NotImplementedError

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.recurrent_param
        self.outputs = p.num_output
        self.check(self.outputs > 0, "num_output must be positive, got 0; set it in recurrent_param")
        self.static = 2 if len(bottom) > 2 + self.exposed else None  # the index of the static input
        self.check_axes(*(b.shape for b in bottom))
        self.steps = bottom[0].shape[0]
        self.param_names = [n for n in self.named if self.static or not n.endswith("_static")]
        rows = self.gates * self.outputs
        self.add_param((rows, prod(bottom[0].shape[2:])), p.weight_filler)
        self.add_param((rows,), p.bias_filler)
        if self.static:
            self.add_param((rows, prod(bottom[2].shape[1:])), p.weight_filler)
        for shape, param in self.hidden_params():
            self.add_param(shape, param)
        if not self.layer_param.blobs:
            # Caffe unrolls the layer into a net whose timesteps fill weights of their own before they share the first's:
            # numbers that nobody sees, but drawn from the stream that later layers draw from.
            for _ in range(self.steps - 1):
                for shape, param in self.hidden_params():
                    filler.fill(param, shape)
        self.carried = [Blob() for _ in range(self.states)]  # the state at the end of the last forward
        self.saved: list[Tensors] = []  # of each timestep of the last forward, what backward needs

    def check_axes(self, x: Shape, cont: Shape, *others: Shape) -> None:
        """CaffeError unless the bottoms are sequences of one length and number of streams."""
        self.check(len(x) > 2, lambda: "bottom 0 must have at least 3 axes -- (#timesteps, #streams, ...), got shape %s"
                   % (x,))
        self.check(cont == x[:2], lambda: "bottom 1 must have exactly 2 axes -- (#timesteps, #streams), %s as bottom 0 of "
                   "shape %s has them; got shape %s" % (x[:2], x, cont))
        if self.static:
            self.check(len(others[0]) > 1 and others[0][0] == x[1], lambda: (
                "the static input must be (#streams, ...) with %d streams as bottom 0 of shape %s has, got shape %s" % (
                    x[1], x, others[0])))
        for i, shape in enumerate(others[-self.exposed :] if self.exposed else ()):
            self.check(shape == (1, x[1], self.outputs), lambda i=i, shape=shape: (
                "bottom[%d] shape must match hidden state input shape: got %s, wanted %s" % (
                    len(others) + 2 - self.exposed + i, shape, (1, x[1], self.outputs))))

    def shape(self, x: Shape, cont: Shape, *others: Shape) -> list[Shape]:
        self.check(x[:1] == (self.steps,), lambda: "input number of timesteps changed: got %d, wanted %d as when the layer "
                   "was set up" % (x[0] if x else 0, self.steps))
        self.check_axes(x, cont, *others)
        wanted = [self.blobs[0].shape[1], self.blobs[2].shape[1] if self.static else 0]
        self.check([prod(x[2:]), prod(others[0][1:]) if self.static else 0] == wanted, lambda: (
            "input size incompatible with its weights: got bottoms of shapes %s, wanted %d values a timestep and stream%s"
            % ((x, cont, *others), wanted[0], " and %d static ones a stream" % wanted[1] if self.static else "")))
        return [(self.steps, x[1], self.outputs)] + [(1, x[1], self.outputs)] * self.exposed

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        for blob in self.carried:
            blob.reshape(1, bottom[0].shape[1], self.outputs)

    def allow_force_backward(self, index: int) -> bool:
        return index != 1

    def step(self, inputs: torch.Tensor, cont: torch.Tensor, state: Tensors) -> tuple[torch.Tensor, Tensors, Tensors]:
        """One timestep from (N, gates * num_output) transformed inputs, (N, 1) cont and the state before.

        Returns the output, the new state, and what step_back needs.
        """
        raise NotImplementedError

    def step_back(self, grad: torch.Tensor, state_grad: Tensors | None, saved: Tensors) -> tuple[torch.Tensor, Tensors]:
        """From the gradients of a timestep's output and new state (None: zero), those of its inputs and old state.

        Adds to the gradients of the parameters that each timestep uses, the last of self.blobs.
        """
        raise NotImplementedError

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, cont = bottom[0].value.flatten(2), bottom[1].value.unsqueeze(2)
        inputs = F.linear(x, self.blobs[0].value, self.blobs[1].value)
        if self.static:
            inputs = inputs + F.linear(bottom[2].value.flatten(1), self.blobs[2].value)
        state = tuple(b.value[0].clone() for b in (bottom[-self.exposed :] if self.exposed else self.carried))
        outputs = []
        self.saved = []
        for t in range(self.steps):
            output, state, saved = self.step(inputs[t], cont[t], state)
            outputs.append(output)
            self.saved.append(saved)
        top[0].value = torch.stack(outputs)
        for blob, value in zip(top[1:] if self.exposed else self.carried, state):
            blob.mutable_value().copy_(value)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[1], "Cannot backpropagate to sequence indicators; set propagate_down: false for "
                   "bottom 1")
        self.check(len(self.saved) == self.steps, "backward before the first forward")
        state_grad, grads = None, []
        for grad, saved in zip(reversed(top[0].grad), reversed(self.saved)):
            inputs_grad, state_grad = self.step_back(grad, state_grad, saved)
            grads.insert(0, inputs_grad)
        grad = torch.stack(grads).flatten(0, 1)
        self.blobs[0].add_grad(grad.t() @ bottom[0].value.flatten(2).flatten(0, 1))
        self.blobs[1].add_grad(grad.sum(0))
        if propagate_down[0]:
            bottom[0].grad = grad @ self.blobs[0].value
        if self.static:
            grad = grad.unflatten(0, (self.steps, -1)).sum(0)
            self.blobs[2].add_grad(grad.t() @ bottom[2].value.flatten(1))
            if propagate_down[2]:
                bottom[2].grad = grad @ self.blobs[2].value


@register
class RNN(_Recurrent):
    """h[t] = tanh(W_hh (cont[t] h[t-1]) + W_xh x[t] + b_h + W_xh_static s), top o[t] = tanh(W_ho h[t] + b_o).

    Params: W_xh (H, D), b_h (H), with a static input W_xh_static (H, S), W_hh (H, H), W_ho (H, H), b_o (H), where H is
    num_output. The state is h. Follows src/caffe/layers/rnn_layer.cpp and recurrent_layer.cpp.
    """

    named = ("W_xh", "b_h", "W_xh_static", "W_hh", "W_ho", "b_o")

    def hidden_params(self) -> list[tuple[Shape, caffe_pb2.FillerParameter]]:
        p, n = self.layer_param.recurrent_param, self.outputs
        return [((n, n), p.weight_filler), ((n, n), p.weight_filler), ((n,), p.bias_filler)]

    def step(self, inputs: torch.Tensor, cont: torch.Tensor, state: Tensors) -> tuple[torch.Tensor, Tensors, Tensors]:
        w_hh, w_ho, b_o = (b.value for b in self.blobs[-3:])
        before = state[0] * cont
        h = torch.tanh(F.linear(before, w_hh) + inputs)
        output = torch.tanh(F.linear(h, w_ho, b_o))
        return output, (h,), (cont, before, h, output)

    def step_back(self, grad: torch.Tensor, state_grad: Tensors | None, saved: Tensors) -> tuple[torch.Tensor, Tensors]:
        w_hh, w_ho, b_o = self.blobs[-3:]
        cont, before, h, output = saved
        grad = grad * (1 - output * output)
        w_ho.add_grad(grad.t() @ h)
        b_o.add_grad(grad.sum(0))
        h_grad = grad @ w_ho.value
        if state_grad is not None:
            h_grad += state_grad[0]
        inputs_grad = h_grad * (1 - h * h)
        w_hh.add_grad(inputs_grad.t() @ before)
        return inputs_grad, (inputs_grad @ w_hh.value * cont,)


def _unit(c: torch.Tensor, gates: torch.Tensor, cont: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Tensors]:
    """One step of LSTM cells (lstm_unit_layer.cpp): (N, H) cell state, (N, 4 H) gates, (N, 1) cont.

    Returns the new cell state, the hidden state, and what _unit_back needs.
    """
    i, f, o, g = gates.chunk(4, 1)
    i, f, o, g = torch.sigmoid(i), torch.sigmoid(f) * cont, torch.sigmoid(o), torch.tanh(g)
    new = f * c + i * g
    tanh = torch.tanh(new)
    return new, o * tanh, (c, i, f, o, g, tanh)


def _unit_back(c_grad: torch.Tensor | float, h_grad: torch.Tensor, saved: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of c and gates. Of cont times the forget gate Caffe takes f (1 - f), wrong unless cont is 0 or 1."""
    c, i, f, o, g, tanh = saved
    c_grad = c_grad + h_grad * o * (1 - tanh * tanh)
    gates = [c_grad * g * i * (1 - i), c_grad * c * f * (1 - f), h_grad * tanh * o * (1 - o), c_grad * i * (1 - g * g)]
    return c_grad * f, torch.cat(gates, 1)


@register
class LSTM(_Recurrent):
    """Long short-term memory: gates = W_hc (cont[t] h[t-1]) + W_xc x[t] + b_c + W_xc_static s, then as LSTMUnit; top h.

    Params: W_xc (4 H, D), b_c (4 H), with a static input W_xc_static (4 H, S), W_hc (4 H, H), where H is num_output; the
    rows are the gates input, forget, output and the cell's candidate. The state is h and c, in this order.
    Follows src/caffe/layers/lstm_layer.cpp and recurrent_layer.cpp.
    """

    gates, states = 4, 2
    named = ("W_xc", "b_c", "W_xc_static", "W_hc")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if self.steps == 1:  # the only output is the new state: who writes over the top, in place, changes the state
            (top[1] if self.exposed else self.carried[0]).share_data(top[0])

    def hidden_params(self) -> list[tuple[Shape, caffe_pb2.FillerParameter]]:
        return [((4 * self.outputs, self.outputs), self.layer_param.recurrent_param.weight_filler)]

    def step(self, inputs: torch.Tensor, cont: torch.Tensor, state: Tensors) -> tuple[torch.Tensor, Tensors, Tensors]:
        before = state[0] * cont
        c, h, saved = _unit(state[1], F.linear(before, self.blobs[-1].value) + inputs, cont)
        return h, (h, c), (cont, before, *saved)

    def step_back(self, grad: torch.Tensor, state_grad: Tensors | None, saved: Tensors) -> tuple[torch.Tensor, Tensors]:
        cont, before, *unit = saved
        h_grad, c_grad = (grad, 0.0) if state_grad is None else (grad + state_grad[0], state_grad[1])
        c_grad, gates_grad = _unit_back(c_grad, h_grad, tuple(unit))
        self.blobs[-1].add_grad(gates_grad.t() @ before)
        return gates_grad, (gates_grad @ self.blobs[-1].value * cont, c_grad)


@register
class LSTMUnit(Layer):
    """One timestep of LSTM cells, without their weights: c (1, N, H), gates (1, N, 4 H), cont (1, N) -> new c and h.

    c' = cont sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c'), the gates in the order i, f, o, g. Where cont is
    neither 0 nor 1, the forget gate's gradient is Caffe's, not calculus'. Follows src/caffe/layers/lstm_unit_layer.cpp.
    """

    bottoms, tops = (3, 3), (2, 2)

    def shape(self, c: Shape, gates: Shape, cont: Shape) -> list[Shape]:
        n = c[1] if len(c) == 3 else 0
        self.check(len(c) == 3 and c[0] == 1 and gates == (1, n, 4 * c[2]) and cont == (1, n), lambda: (
            "got bottoms of shapes %s, %s and %s, wanted (1, N, H), (1, N, 4 * H) and (1, N)" % (c, gates, cont)))
        return [c, c]

    def allow_force_backward(self, index: int) -> bool:
        return index != 2

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        c, gates, cont = (b.value[0] for b in bottom)
        new, h, self.saved = _unit(c.clone(), gates, cont[:, None])
        top[0].value, top[1].value = new, h

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[2], "Cannot backpropagate to sequence indicators; set propagate_down: false for "
                   "bottom 2")
        for blob, grad, wanted in zip(bottom, _unit_back(top[0].grad[0], top[1].grad[0], self.saved), propagate_down):
            if wanted:
                blob.grad = grad
