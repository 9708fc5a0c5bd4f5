"""The six update rules and what they share: rate policies, clipping, decay, history (src/caffe/solvers/*.cpp).

A rule is one small method over flat float32 tensors: it turns the gradient in `diff` into the update, in place, and
keeps its `history`. Its operations are Caffe's, in Caffe's order, so that they round the same.
"""

from __future__ import annotations

import math
import os

import numpy as np
import torch

from torchcaffe import files, log
from torchcaffe.blob import Blob, same_shape
from torchcaffe.errors import CaffeError
from torchcaffe.log import number
from torchcaffe.proto import caffe_pb2
from torchcaffe.solver import Solver

# Parameters are updated in pieces. On a CPU they are just below the 32768 values from which PyTorch spreads an operation
# over threads: all passes of a rule find a piece in the cache (SGD 0.75, Adam 0.4 of the time on one core), temporaries stay
# small where VGG16's fc6 would make them 411 MB, and nothing waits for a thread that has no core (20 times the time on a
# busy machine). A GPU gets large ones, as each costs kernel launches.
CPU_PIECE, GPU_PIECE = 32704, 1 << 24

History = tuple[torch.Tensor, ...]


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum; the base of the other rules.

    history: the first kept value of every learnable parameter in order, then (AdaDelta, Adam) all the second ones.
    """

    type = "SGD"
    history_sets = 1  # kept values a parameter

    def __init__(self, param: str | os.PathLike | caffe_pb2.SolverParameter):
        super().__init__(param)
        self.current_step = 0
        self.check_param()
        self.history = [Blob(*b.shape) for _ in range(self.history_sets) for b in self.net.learnable_params]

    def check_param(self) -> None:
        """CaffeError if this rule cannot work with the solver's parameters."""

    def update_value(self, diff: torch.Tensor, history: History, rate: float) -> None:
        """Turn the gradient `diff` into what will be subtracted, in place; `rate` includes the parameter's lr_mult.

        The rate is inside the momentum: history = momentum * history + rate * gradient.
        """
        (h,) = history
        h.mul_(self.param.momentum).add_(diff, alpha=rate)
        diff.copy_(h)

    # -- one update --------------------------------------------------------------------------------------------------
    @property
    def lr(self) -> float:
        """The learning rate of the present iteration; asking lets multistep advance, as in Caffe."""
        return float(self._learning_rate())

    def _learning_rate(self) -> np.float32:
        """base_lr under lr_policy; pow(float, int) is double in Caffe's C++, everything else float."""
        p, f = self.param, np.float32
        base, gamma, policy = f(p.base_lr), f(p.gamma), p.lr_policy
        if policy in ("step", "exp", "inv", "multistep", "sigmoid") and not gamma >= 0:
            raise CaffeError("SolverParameter: gamma is %g, lr_policy '%s' wants 0 or more" % (gamma, policy))
        if policy == "fixed":
            return base
        if policy == "step":
            if p.stepsize <= 0:
                raise CaffeError("SolverParameter: stepsize is %d, lr_policy 'step' wants more than 0" % p.stepsize)
            self.current_step = self.iter // p.stepsize
            return f(float(base) * _pow(gamma, self.current_step))
        if policy == "exp":
            return f(float(base) * _pow(gamma, self.iter))
        if policy == "inv":
            return base * f(_pow(f(1) + gamma * f(self.iter), -p.power))
        if policy == "multistep":
            if self.current_step < len(p.stepvalue) and self.iter >= p.stepvalue[self.current_step]:
                self.current_step += 1  # at most one a call
                log.info("MultiStep Status: Iteration %d, step = %d" % (self.iter, self.current_step))
            return f(float(base) * _pow(gamma, self.current_step))
        if policy == "poly":
            return base * f(_pow(f(1) - f(self.iter) / f(p.max_iter), p.power))
        if policy == "sigmoid":
            return base * (f(1) / (f(1) + np.exp(-gamma * f(self.iter - p.stepsize))))
        raise CaffeError("Unknown learning rate policy: '%s' (known: fixed, step, exp, inv, multistep, poly, sigmoid)"
                         % policy)

    @torch.no_grad()
    def apply_update(self) -> None:
        """Clip, normalize, regularize, apply the rule and subtract; then count the iteration (ApplyUpdate)."""
        rate = self._learning_rate()
        if self.param.display and self.iter % self.param.display == 0:
            log.info("Iteration %d, lr = %s" % (self.iter, number(rate)))
        self._clip_gradients()
        net, n = self.net, len(self.net.learnable_params)
        for i, blob in enumerate(net.learnable_params):
            tensors = [t.reshape(-1) for t in (blob.mutable_grad(), blob.mutable_value(),
                                               *(h.mutable_value() for h in self.history[i::n]))]
            local_rate = float(rate * np.float32(net.params_lr[i]))
            decay = float(np.float32(self.param.weight_decay) * np.float32(net.params_weight_decay[i]))
            piece = CPU_PIECE if tensors[0].device.type == "cpu" else GPU_PIECE
            for diff, data, *history in zip(*(t.split(piece) for t in tensors)):
                if self.param.iter_size != 1:
                    diff.mul_(float(np.float32(1) / np.float32(self.param.iter_size)))
                if decay:
                    self._regularize(diff, data, decay)
                self.update_value(diff, tuple(history), local_rate)
                data.sub_(diff)
        self.iter += 1

    def _clip_gradients(self) -> None:
        """Scale all diffs so that their common L2 norm is clip_gradients at most; before iter_size divides them."""
        clip = np.float32(self.param.clip_gradients)
        if clip < 0:
            return
        diffs = [b.mutable_grad().reshape(-1) for b in self.net.learnable_params]
        norm = np.sqrt(sum((np.float32(torch.dot(d, d).item()) for d in diffs), np.float32(0)))
        if norm > clip:
            scale = clip / norm
            log.info("Gradient clipping: scaling down gradients (L2 norm %s > %s) by scale factor %s"
                     % (number(norm), number(clip), number(scale)))
            for diff in diffs:
                diff.mul_(float(scale))

    def _regularize(self, diff: torch.Tensor, data: torch.Tensor, decay: float) -> None:
        if self.param.regularization_type == "L2":
            diff.add_(data, alpha=decay)
        elif self.param.regularization_type == "L1":
            diff.add_(data.sign(), alpha=decay)
        else:
            raise CaffeError("Unknown regularization type: '%s' (known: L1, L2)" % self.param.regularization_type)

    # -- solverstate -------------------------------------------------------------------------------------------------
    def write_state(self, path: str, model: str) -> None:
        """Write iter, current_step, the name of the caffemodel and the history; HDF5 if `path` ends in .h5."""
        files.write_solver_state(path, self.iter, self.current_step, model, self.history)

    def restore(self, path: str) -> None:
        """Go on from a solverstate (HDF5 if it ends in .h5): its iter, step and history, and the weights it names.

        The caffemodel is looked for where the solverstate says, relative to the working directory as in Caffe, and
        then, unlike Caffe, beside the solverstate. CaffeError, and nothing changed, if either file does not fit.
        """
        path = os.fsdecode(path)
        state = files.read_solver_state(path)
        names = self._history_names()
        if len(state.history) != len(names):
            raise CaffeError("%s: Incorrect length of history blobs: it has %d, wanted %d for a %s solver of net '%s' "
                             "(%d learnable parameters); use the solver type and net it was written by"
                             % (path, len(state.history), len(names), self.type, self.net.name,
                                len(self.net.learnable_params)))
        for name, blob, array in zip(names, self.history, state.history):
            if array.shape != blob.shape and not same_shape(blob.shape, array.shape, legacy=True):
                raise CaffeError("%s: the history of %s has shape %s, wanted %s; use the net it was written by"
                                 % (path, name, array.shape, blob.shape))
        if state.learned_net:
            try:
                self.net.copy_trained_layers_from(_find_model(state.learned_net, path))
            except CaffeError as e:
                raise CaffeError("%s: the weights it names: %s" % (path, e)) from e
        else:
            log.warning("%s names no caffemodel; the weights stay as they are" % path)
        log.info("SGDSolver: restoring history")
        for blob, array in zip(self.history, state.history):
            array.copy_to(blob.data)
        self.iter, self.current_step = state.iter, state.current_step

    def _history_names(self) -> list[str]:
        """Whose history each entry is, e.g. "layer 'conv1' param 0", for messages."""
        names = {id(b): "layer '%s' param %d" % (name, k)
                 for name, layer in reversed(list(zip(self.net.layer_names, self.net.layers)))
                 for k, b in enumerate(layer.blobs)}
        return [names[id(b)] for b in self.net.learnable_params] * self.history_sets


class NesterovSolver(SGDSolver):
    """Nesterov's accelerated gradient: the update is (1 + momentum) * new history - momentum * old history."""

    type = "Nesterov"

    def update_value(self, diff: torch.Tensor, history: History, rate: float) -> None:
        (h,), momentum = history, np.float32(self.param.momentum)
        update = h * float(-momentum)
        h.mul_(float(momentum)).add_(diff, alpha=rate)
        torch.add(update, h, alpha=float(1 + momentum), out=diff)


class AdaGradSolver(SGDSolver):
    """AdaGrad: history sums squares; the update is rate * gradient / (sqrt(history) + delta)."""

    type = "AdaGrad"

    def check_param(self) -> None:
        _check_no_momentum(self)

    def update_value(self, diff: torch.Tensor, history: History, rate: float) -> None:
        (h,) = history
        h.add_(diff * diff)
        diff.div_(h.sqrt().add_(self.param.delta)).mul_(rate)


class RMSPropSolver(SGDSolver):
    """RMSProp: as AdaGrad, with a history that forgets by rms_decay."""

    type = "RMSProp"

    def check_param(self) -> None:
        _check_no_momentum(self)
        if not 0 <= self.param.rms_decay < 1:
            raise CaffeError("SolverParameter: rms_decay is %g, wanted 0 <= rms_decay < 1" % self.param.rms_decay)

    def update_value(self, diff: torch.Tensor, history: History, rate: float) -> None:
        (h,), decay = history, np.float32(self.param.rms_decay)
        h.mul_(float(decay)).add_(diff * diff, alpha=float(1 - decay))
        diff.div_(h.sqrt().add_(self.param.delta)).mul_(rate)


class AdaDeltaSolver(SGDSolver):
    """AdaDelta: the gradient times sqrt((delta + past updates) / (delta + past squares)), both decaying by momentum."""

    type = "AdaDelta"
    history_sets = 2

    def update_value(self, diff: torch.Tensor, history: History, rate: float) -> None:
        (squares, updates), momentum = history, np.float32(self.param.momentum)
        squares.mul_(float(momentum)).add_(diff * diff, alpha=float(1 - momentum))
        diff.mul_((updates + self.param.delta).div_(squares + self.param.delta).sqrt_())
        updates.mul_(float(momentum)).add_(diff * diff, alpha=float(1 - momentum))
        diff.mul_(rate)


class AdamSolver(SGDSolver):
    """Adam, with momentum and momentum2 as its betas and delta as its epsilon."""

    type = "Adam"
    history_sets = 2

    def update_value(self, diff: torch.Tensor, history: History, rate: float) -> None:
        (mean, square), t = history, self.iter + 1
        beta1, beta2 = np.float32(self.param.momentum), np.float32(self.param.momentum2)
        mean.mul_(float(beta1)).add_(diff, alpha=float(1 - beta1))
        square.mul_(float(beta2)).add_(diff * diff, alpha=float(1 - beta2))
        correction = np.float32(math.sqrt(1 - _pow(beta2, t)) / (1 - _pow(beta1, t)))
        torch.div(mean, square.sqrt().add_(self.param.delta), out=diff).mul_(float(np.float32(rate) * correction))


SOLVERS = {cls.type: cls
           for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)}


def get_solver(param: str | os.PathLike | caffe_pb2.SolverParameter) -> SGDSolver:
    """The solver of the type that a solver prototxt (path or message) names; CaffeError for an unknown type."""
    if not isinstance(param, caffe_pb2.SolverParameter):
        param = files.read_solver_text(os.fsdecode(param))
    if param.type not in SOLVERS:
        raise CaffeError("Unknown solver type: %s (known types: %s)" % (param.type, ", ".join(sorted(SOLVERS))))
    return SOLVERS[param.type](param)


def _pow(base: float, exponent: float) -> float:
    """C's pow in double: nan and inf where Python would raise."""
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(base), np.float64(exponent)))


def _check_no_momentum(solver: SGDSolver) -> None:
    if solver.param.momentum != 0:
        raise CaffeError("SolverParameter: momentum is %g; Momentum cannot be used with %s: leave it out"
                         % (solver.param.momentum, solver.type))


def _find_model(learned_net: str, state_path: str) -> str:
    """Where the caffemodel of a solverstate lies."""
    beside = os.path.join(os.path.dirname(state_path), os.path.basename(learned_net))
    if os.path.exists(learned_net) or not os.path.exists(beside):
        return learned_net  # where it is missing, reading it says so
    log.info("%s is not there; taking %s, beside the solverstate" % (learned_net, beside))
    return beside
