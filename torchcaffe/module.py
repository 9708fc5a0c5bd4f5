"""A Net as a torch.nn.Module: parameters shared with it, gradients from its own backward.

One call is one operation to autograd: the layers run forward as they do in Caffe, and backward with Caffe's gradients.
Every call has blobs of its own, so a net can be called several times before one backward, as for a perceptual loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch

from torchcaffe import common
from torchcaffe.blob import Blob, Memory
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer
from torchcaffe.layers.data import Input, Source
from torchcaffe.layers.recurrent import _Recurrent
from torchcaffe.net import Net
from torchcaffe.proto import caffe_pb2
from torchcaffe.state_dict import entries

Needs = dict[int, tuple[list[bool], list[bool]]]  # of each layer, of each bottom and each parameter blob


class NetModule(torch.nn.Module):
    """`module(x)` or `module(data=x, label=y)` -> {blob name: tensor} of the net's outputs, or of the blobs named `outputs`.

    Inputs are the tops of the net's Input layers, in their order, of any shape the layers take; layers that bring their own
    data (Data, Python ...) run as they do in Caffe. With `outputs` only the layers these need run, and only the inputs they
    need are wanted: NetModule(net, outputs=["fc7"]) is a trunk, whatever losses the net goes on to.

    Parameters and their names are the net's (state_dict.entries): what an optimizer changes, net.forward sees, and the
    other way round; those with lr_mult 0 start with requires_grad False, and running statistics are buffers. Nets that
    share parameters give modules that do. The net's own diffs are left alone.

    train() and eval() change what Dropout, BatchNorm and STOCHASTIC pooling do; which layers there are was decided when the
    net was built, as was what data layers do. A new module is in the net's phase. to(device) moves the parameters and runs
    the net there; on a GPU a write through net.params[...].data takes effect at the next call. float32 only.

    Each call takes new memory for the net's blobs; net.blobs afterwards shows the last one's.
    """

    def __init__(self, net: Net, outputs: Sequence[str] | None = None):
        super().__init__()
        absent = [name for name in outputs or () if name not in net.blobs]
        if absent:
            raise CaffeError("NetModule: the net has no blob %s; it has %s" % (
                ", ".join(map(repr, absent)), ", ".join(net.blobs)))
        self.net = net
        self.outputs = list(net.outputs if outputs is None else outputs)
        self._layers = needed_layers(net, None if outputs is None else self.outputs)
        read = {blob for i in self._layers for blob in net.bottom_vecs[i]} | {net.blobs[name] for name in self.outputs}
        self.inputs = [name for name in net.inputs if outputs is None or net.blobs[name] in read]
        self._device = common.device()
        self._slots: list[tuple[torch.nn.Module, str, Blob, Memory]] = []
        for key, entry in entries(net).items():
            tensor = entry.blob.memory.lent()
            if tensor is not None and tensor.shape == entry.blob.shape:
                self._device = tensor.device  # of another module, of this net or one it shares with
            else:
                tensor = entry.blob.value if entry.statistic else torch.nn.Parameter(entry.blob.value, entry.learned)
            holder, name = self._holder(key)
            if entry.statistic:
                holder.register_buffer(name, tensor)
            else:
                holder.register_parameter(name, tensor)
            entry.blob.memory.lend(tensor)
            self._slots.append((holder, name, entry.blob, entry.blob.memory))
        self._in_phase = [layer for layer in net.layers if layer.phase == net.phase]  # the others' was written: it stays
        self._runs = _RUNS.get(net)
        if self._runs is None:
            self._runs = _RUNS[net] = _Runs()
            net.add_callback("before_forward", self._runs.count)
        self.register_state_dict_pre_hook(lambda module, prefix, keep_vars: module._settle())
        self.train(net.phase == caffe_pb2.TRAIN)

    def _holder(self, key: str) -> tuple[torch.nn.Module, str]:
        """The submodule of a name's parameter, made where it is missing, and the parameter's name in it.

        Not by add_module, which refuses layers called as some method is, such as `type`.
        """
        *path, name = key.split(".")
        holder: torch.nn.Module = self
        for part in path:
            holder = holder._modules.setdefault(part, torch.nn.Module())
        return holder, name

    # -- running ---------------------------------------------------------------------------------------------------------
    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the net; raises CaffeError for inputs that do not fit."""
        inputs = self._bind(args, kwargs)
        self._settle()
        params = list(self._learnable().values())
        results = _Call.apply(self, torch.is_grad_enabled(), len(inputs), *inputs, *params) if self.outputs else (
            self._run(inputs))
        return dict(zip(self.outputs, results))

    def loss(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """What Caffe calls the loss: the sum of outputs times their loss_weight. CaffeError if none has one."""
        parts = [self.net.blob_loss_weight(name) * value.sum() for name, value in outputs.items()
                 if self.net.blob_loss_weight(name)]
        if not parts:
            raise CaffeError("net '%s': none of its outputs (%s) has a loss_weight; compute a loss from them in PyTorch, or "
                             "add a loss layer" % (self.net.name, ", ".join(outputs)))
        return torch.stack(parts).sum()

    def param_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, object]]:
        """Groups for a torch.optim optimizer: lr and weight_decay times each parameter's lr_mult and decay_mult."""
        mults = {blob.memory: both for blob, *both in zip(self.net.learnable_params, self.net.params_lr,
                                                           self.net.params_weight_decay)}
        groups: dict[tuple[float, float], list[torch.Tensor]] = {}
        for memory, tensor in self._learnable().items():
            if tensor.requires_grad:
                groups.setdefault(tuple(mults.get(memory, (1.0, 1.0))), []).append(tensor)
        return [{"params": tensors, "lr": lr * rate, "weight_decay": weight_decay * decay}
                for (rate, decay), tensors in groups.items()]

    def _bind(self, args: Sequence[torch.Tensor], kwargs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """The input tensors in order, float32."""
        given = dict(zip(self.inputs, args))
        if len(args) > len(self.inputs) or set(given) & set(kwargs) or {*given, *kwargs} != set(self.inputs):
            raise CaffeError("net '%s': got %d inputs by place and %s by name, wanted %s" % (
                self.net.name, len(args), ", ".join(map(repr, kwargs)) or "none",
                "each of " + ", ".join(map(repr, self.inputs)) if self.inputs else "none: the net brings its own data"))
        given.update(kwargs)
        for name, x in given.items():
            if not isinstance(x, torch.Tensor) or x.device != self._device:
                raise CaffeError("net '%s': input '%s' is %s, wanted a tensor on %s, where the module is" % (
                    self.net.name, name, "on %s" % x.device if isinstance(x, torch.Tensor) else "a " + type(x).__name__,
                    self._device))
        return [given[name].to(torch.float32) for name in self.inputs]

    def _run(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """All needed layers forward; the outputs."""
        net = self.net
        with torch.no_grad(), self._running(self.training):
            self._runs.last = None
            _renew_data(net)
            for name, x in zip(self.inputs, inputs):
                net.blobs[name].reshape(*x.shape)
                net.blobs[name].value = x.clone()
            for i in self._layers:
                net.forward_layer(i)
            return [net.blobs[name].value.clone() for name in self.outputs]

    def _keep(self, needs: Needs) -> _Pass:
        """What the backward of the pass just run needs."""
        net = self.net
        self._runs.last = _Pass(self.training, needs, {blob: blob.parts for blob in _blobs(net)},
                                [(layer, _state(layer)) for layer in net.layers], self._runs.others)
        return self._runs.last

    def _backward(self, kept: _Pass, grads: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """From gradients of the outputs those of the inputs and parameters, None where none arrives."""
        net = self.net
        if kept.others != self._runs.others:
            raise CaffeError("NetModule: net '%s' itself ran forward after the module did, so that what backward needs is "
                             "gone; call backward first, or run the module instead of the net" % net.name)
        given = {net.blobs[name]: grad for name, grad in zip(self.outputs, grads) if grad is not None}
        arrived: set[Blob] = set()
        with self._as_of(kept), self._running(kept.train), _renewed_diffs(net):
            for i in reversed(self._layers):
                layer, bottom, top = net.layers[i], net.bottom_vecs[i], net.top_vecs[i]
                for blob in top:  # the last layer that writes an output in place is the first to meet it here
                    if blob in given:
                        grad = given.pop(blob)
                        blob.grad = blob.grad + grad if blob in arrived else grad.clone()
                        arrived.add(blob)
                if isinstance(layer, Input):
                    continue
                needed, params = kept.needs[i]
                run = (any(needed) or any(params)) and not arrived.isdisjoint(top)
                arrived.difference_update(top)
                if run:
                    layer.param_propagate_down, before = params, layer.param_propagate_down
                    try:
                        layer.backward(top, needed, bottom)
                    finally:
                        layer.param_propagate_down = before
                    arrived.update(blob for blob, need in zip(bottom, needed) if need)
            inputs = [net.blobs[name] for name in self.inputs]
            owners = {blob.memory: blob for _, _, blob, _ in reversed(self._slots)}
            return [blob.grad if blob in arrived else None for blob in inputs] + [
                owners[memory].grad if owners[memory].parts[2].newest else None for memory in self._learnable()]

    def _needs(self, inputs: Sequence[bool], params: Sequence[bool]) -> tuple[Needs, list[bool]]:
        """Of each layer, which bottoms' and parameters' gradients lead to one that is wanted (propagate_down: false cuts);
        and of each output, whether any does."""
        wanted = {self.net.blobs[name] for name, want in zip(self.inputs, inputs) if want}
        learned = {memory for memory, want in zip(self._learnable(), params) if want}
        needs = {}
        for i in self._layers:
            layer, bottom = self.net.layers[i], self.net.bottom_vecs[i]
            allowed = list(layer.layer_param.propagate_down) or [True] * len(bottom)
            needed = [blob in wanted and allow for blob, allow in zip(bottom, allowed)]
            mine = [blob.memory in learned for blob in layer.blobs]
            needs[i] = needed, mine
            if any(needed) or any(mine):
                wanted.update(self.net.top_vecs[i])
            elif not isinstance(layer, Input):
                wanted.difference_update(self.net.top_vecs[i])
        return needs, [self.net.blobs[name] in wanted for name in self.outputs]

    @contextmanager
    def _as_of(self, kept: _Pass) -> Iterator[None]:
        """With blobs and layers as they were after that pass, which may not have been the last."""
        if kept is self._runs.last:
            yield
            return
        now = {blob: blob.parts for blob in kept.blobs}, [(layer, dict(vars(layer))) for layer, _ in kept.layers]
        try:
            _put(kept.blobs, kept.layers)
            yield
        finally:
            _put(*now)

    @contextmanager
    def _running(self, train: bool) -> Iterator[None]:
        """In the mode of the module's device, and with the layers in the phase of the module."""
        before, phases = common.device(), [(layer, layer.phase) for layer in self._in_phase]
        try:
            _compute_on(self._device)
            for layer in self._in_phase:
                layer.phase = caffe_pb2.TRAIN if train else caffe_pb2.TEST
            self._runs.ours += 1
            yield
        finally:
            self._runs.ours -= 1
            for layer, phase in phases:
                layer.phase = phase
            _compute_on(before)

    # -- parameters ------------------------------------------------------------------------------------------------------
    def _learnable(self) -> dict[Memory, torch.Tensor]:
        """The parameters, shared ones once."""
        found: dict[Memory, torch.Tensor] = {}
        for holder, name, _, memory in self._slots:
            if name in holder._parameters:
                found.setdefault(memory, holder._parameters[name])
        return found

    def _settle(self) -> None:
        """See to it that each tensor still is its blob's memory: torch may have replaced what a parameter consists of."""
        for holder, name, blob, memory in self._slots:
            tensor = getattr(holder, name)
            if blob.memory is not memory or tensor.shape != blob.shape:
                raise CaffeError("NetModule: a parameter %s of net '%s' has other memory than when the module was made "
                                 "(share_with, or another shape); make a new NetModule" % (name, self.net.name))
            if tensor.device != self._device or tensor.dtype != torch.float32:
                raise CaffeError("NetModule: a parameter %s is %s on %s, wanted float32 on %s like the others; use "
                                 "module.to(device)" % (name, tensor.dtype, tensor.device, self._device))
            if memory.is_lent_to(tensor):
                memory.read(self._device)  # on a GPU, what numpy wrote
            else:
                tensor.data = tensor.data.contiguous()
                memory.lend(tensor)

    def _apply(self, fn, recurse: bool = True) -> NetModule:
        probe = fn(torch.empty(0, device=self._device))
        if probe.dtype != torch.float32 or probe.device.type not in ("cpu", "cuda"):
            raise CaffeError("NetModule: net '%s' computes in float32 on the CPU or a CUDA device, not in %s on %s" % (
                self.net.name, probe.dtype, probe.device))
        self._settle()
        super()._apply(fn, recurse)
        self._device = probe.device
        self._settle()
        return self

    def __reduce__(self):
        raise CaffeError("NetModule: net '%s' cannot be pickled or copied; save state_dict(), or build another net from its "
                         "prototxt" % self.net.name)

    def extra_repr(self) -> str:
        """The net, its inputs and outputs."""
        return "%s: %s -> %s" % (self.net.name, ", ".join(self.inputs) or "its own data", ", ".join(self.outputs))


@dataclass(eq=False)
class _Pass:
    """What one forward leaves for its backward: blobs and layers as they were, and what the gradient is wanted of."""

    train: bool
    needs: Needs
    blobs: dict[Blob, tuple]
    layers: list[tuple[Layer, dict[str, object]]]
    others: int  # the net's runs outside of modules before it


class _Runs:
    """Of a net: its last pass, and how often a layer ran other than in a module, which leaves no pass as it was."""

    def __init__(self):
        self.last: _Pass | None = None
        self.ours = self.others = 0

    def count(self, layer: int) -> None:
        """Called before each layer's forward."""
        self.others += not self.ours


_RUNS: WeakKeyDictionary[Net, _Runs] = WeakKeyDictionary()


class _Call(torch.autograd.Function):
    """One call of a module: (module, is grad enabled, number of inputs, inputs and parameters) -> outputs."""

    @staticmethod
    def forward(ctx, module: NetModule, grad: bool, count: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = module._run(tensors[:count])
        wanted = ctx.needs_input_grad[3:]
        if grad and any(wanted):
            needs, differentiable = module._needs(wanted[:count], wanted[count:])
            ctx.module, ctx.kept = module, module._keep(needs)
            ctx.save_for_backward(*tensors[count:])  # so that torch notices a parameter that changed since
            ctx.set_materialize_grads(False)
            ctx.mark_non_differentiable(*(r for r, needed in zip(results, differentiable) if not needed))
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018  raises if one changed
        return None, None, None, *ctx.module._backward(ctx.kept, grads)


def needed_layers(net: Net, outputs: Sequence[str] | None) -> list[int]:
    """The layers that these blobs need, in order; all of them for None."""
    if outputs is None:
        return list(range(len(net.layers)))
    wanted, layers = {net.blobs[name] for name in outputs}, []
    for i in reversed(range(len(net.layers))):
        if not wanted.isdisjoint(net.top_vecs[i]):
            wanted.update(net.bottom_vecs[i])
            layers.insert(0, i)
    return layers


def _blobs(net: Net) -> list[Blob]:
    """The net's blobs, each once."""
    return list(dict.fromkeys(blob for top in net.top_vecs for blob in top))


def _renew_data(net: Net) -> None:
    """Give the blobs new memory, shared as the old one was, so that what an earlier pass left stays.

    Tops that carry something on to the next forward (constants of data layers, the state of a recurrent layer, whatever a
    Python layer does) keep their content.
    """
    params = {blob.memory for layer in net.layers for blob in layer.blobs}
    carried = {blob.memory for layer, top in zip(net.layers, net.top_vecs) for blob in top
               if isinstance(layer, (Source, _Recurrent)) or layer.type == "Python"}
    renewed: dict[Memory, Memory] = {}
    for blob in _blobs(net):
        shape, data, diff = blob.parts
        if data in params:
            continue
        if data not in renewed:
            renewed[data] = Memory(data.size)
            if data in carried:
                renewed[data].adopt(data.read(common.device()).clone())
        blob.parts = shape, renewed[data], diff


@contextmanager
def _renewed_diffs(net: Net) -> Iterator[None]:
    """Within: zero diffs for all blobs and parameters, shared as theirs are; after it, theirs again."""
    before = {blob: blob.parts for blob in [*_blobs(net), *(b for layer in net.layers for b in layer.blobs)]}
    renewed: dict[Memory, Memory] = {}
    for blob, (shape, data, diff) in before.items():
        blob.parts = shape, data, renewed.setdefault(diff, Memory(max(diff.size, blob.count)))
    try:
        yield
    finally:
        for blob, parts in before.items():
            blob.parts = parts


def _state(layer: Layer) -> dict[str, object]:
    """A layer's attributes, lists and arrays copied: what it keeps from forward to backward is among them."""
    return {name: value.copy() if type(value) is list or isinstance(value, np.ndarray) else value
            for name, value in vars(layer).items()}


def _put(blobs: Mapping[Blob, tuple], layers: Sequence[tuple[Layer, dict[str, object]]]) -> None:
    """Put back what blobs and layers were."""
    for blob, parts in blobs.items():
        blob.parts = parts
    for layer, state in layers:
        vars(layer).clear()
        vars(layer).update(state)


def _compute_on(device: torch.device) -> None:
    """Set Caffe's mode and device of this thread."""
    if device.type == "cpu":
        common.set_mode_cpu()
    else:
        common.set_device(device.index)
        common.set_mode_gpu()
