"""Solver: trains a net, tests it on others, snapshots (src/caffe/solver.cpp). The update rules are in sgd_solver.py."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from google.protobuf import text_format

from torchcaffe import common, files, log, rng
from torchcaffe.errors import CaffeError
from torchcaffe.log import number
from torchcaffe.net import Net
from torchcaffe.proto import caffe_pb2

HDF5 = caffe_pb2.SolverParameter.HDF5
TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


class SolverAction(enum.Enum):
    """What a signal (or whoever answers get_action) asks a running solver to do."""

    NONE = "none"
    STOP = "stop"  # after this iteration
    SNAPSHOT = "snapshot"  # and go on


class Callback(Protocol):
    """What add_callback takes as one object."""

    def on_start(self) -> None:
        """Before an iteration's first forward."""

    def on_gradients_ready(self) -> None:
        """Before its update."""


class Solver:
    """Base of the six solvers: everything but the update rule.

    net: the net in training; test_nets: the nets it is tested on; iter: how many updates it has made.
    param: the SolverParameter, complete with defaults. Raises CaffeError for a definition Caffe would refuse.
    """

    type: str
    net_class: type[Net] = Net  # what nets are made of; the façade puts its own subclass here

    def __init__(self, param: str | os.PathLike | caffe_pb2.SolverParameter):
        """`param`: the path of a solver prototxt, or a parsed (and upgraded) one."""
        if not isinstance(param, caffe_pb2.SolverParameter):
            param = files.read_solver_text(os.fsdecode(param))
        self.param = param
        self.iter = 0
        self.test_nets: list[Net] = []
        # Polled after every iteration and before every test batch; the command line sets it to its signal handlers.
        self.get_action: Callable[[], SolverAction] = lambda: SolverAction.NONE
        self._callbacks: list[tuple[Callable[[], object], Callable[[], object]]] = []
        self._early_exit = False
        self._losses: list[np.float32] = []
        self._smoothed_loss = np.float32(0)
        self._last_display = (0, time.monotonic())
        log.info("Initializing solver from parameters: \n" + text_format.MessageToString(self.param).rstrip())
        _check(self.param.average_loss >= 1, "average_loss is %d, wanted 1 or more" % self.param.average_loss)
        _check(self.param.iter_size >= 1, "iter_size is %d, wanted 1 or more" % self.param.iter_size)
        self._check_snapshot_writable()
        if self.param.random_seed >= 0:
            rng.set_random_seed(self.param.random_seed + common.solver_rank())
        self.net = self._make_train_net()
        for i, (net_param, source) in enumerate(self._test_net_params()):
            log.info("Creating test net (#%d) specified by %s" % (i, source))
            self.test_nets.append(self._make_net(net_param))
            self.test_nets[-1].debug_info = self.param.debug_info
        log.info("Solver scaffolding done.")

    # -- building ----------------------------------------------------------------------------------------------------
    def _make_train_net(self) -> Net:
        """The train net: default state, then the net's own, then train_state, each overriding the one before."""
        given = [f for f in TRAIN_FIELDS if self.param.HasField(f)]
        if len(given) != 1:
            raise CaffeError("SolverParameter must specify a train net using exactly one of these fields: %s; it has %s"
                             % (", ".join(TRAIN_FIELDS), ", ".join(given) or "none of them"))
        net_param = caffe_pb2.NetParameter()
        if given[0].endswith("_param"):
            log.info("Creating training net specified in %s." % given[0])
            net_param.CopyFrom(getattr(self.param, given[0]))
        else:
            path = getattr(self.param, given[0])
            log.info("Creating training net from %s file: %s" % (given[0], path))
            net_param = files.read_net_text(path)
        _merge_state(net_param, caffe_pb2.TRAIN, self.param.train_state)
        return self._make_net(net_param)

    def _test_net_params(self) -> Iterator[tuple[caffe_pb2.NetParameter, str]]:
        """Definition and origin of each test net: test_net_param, test_net, then `net` for the remaining test_iter."""
        param = self.param
        own = len(param.test_net_param) + len(param.test_net)
        generic = param.HasField("net") or param.HasField("net_param")
        count = len(param.test_iter)
        if count < own or (count > own and not generic):
            raise CaffeError("test_iter must be specified for each test network: got %d test_iter for %d test nets"
                             % (count, own))
        if param.test_state and len(param.test_state) != count:
            raise CaffeError("test_state must be unspecified or specified once per test net: got %d, wanted %d"
                             % (len(param.test_state), count))
        _check(not count or param.test_interval > 0,
               "test_interval is %d but there are %d test nets; wanted more than 0" % (param.test_interval, count))
        sources: list[tuple[caffe_pb2.NetParameter | str, str]] = [(p, "test_net_param") for p in param.test_net_param]
        sources += [(path, "test_net file: " + path) for path in param.test_net]
        if param.HasField("net_param"):
            sources += [(param.net_param, "net_param")] * (count - own)
        elif param.HasField("net"):
            sources += [(param.net, "net file: " + param.net)] * (count - own)
        for i, (source, described) in enumerate(sources):
            net_param = caffe_pb2.NetParameter()
            net_param.CopyFrom(files.read_net_text(source) if isinstance(source, str) else source)
            _merge_state(net_param, caffe_pb2.TEST, param.test_state[i] if param.test_state else None)
            yield net_param, described

    def _make_net(self, net_param: caffe_pb2.NetParameter) -> Net:
        net = self.net_class(net_param)
        for paths in self.param.weights:
            for path in paths.split(","):
                log.info("Finetuning from %s" % path.strip())
                net.copy_trained_layers_from(path.strip())
        return net

    # -- training ----------------------------------------------------------------------------------------------------
    def step(self, n: int) -> None:
        """Do n iterations, whatever max_iter says. Each starts an average of losses anew, as in Caffe."""
        param = self.param
        start, stop, root = self.iter, self.iter + n, common.solver_rank() == 0
        self._losses, self._smoothed_loss = [], np.float32(0)
        self._last_display = (self._last_display[0], time.monotonic())
        while self.iter < stop:
            self.net.clear_param_diffs()
            if param.test_interval and self.iter % param.test_interval == 0 and root and (
                    self.iter > 0 or param.test_initialization):
                self._test_all()
                if self._early_exit:
                    break
            for on_start, _ in self._callbacks:
                on_start()
            display = bool(param.display) and self.iter % param.display == 0
            self.net.debug_info = display and param.debug_info
            loss = np.float32(0)
            for _ in range(param.iter_size):
                loss += np.float32(self.net.forward_pass())
                self.net.backward_pass()
            self._update_smoothed_loss(loss / np.float32(param.iter_size), start)
            if display:
                self._display()
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            action = self.get_action()
            if action is SolverAction.SNAPSHOT or (param.snapshot and self.iter % param.snapshot == 0 and root):
                self.snapshot()
            if action is SolverAction.STOP:
                self._early_exit = True
                break

    def solve(self, resume_file: str | None = None) -> None:
        """Train up to max_iter, from a solverstate if given one, then snapshot (unless snapshot_after_train: false)."""
        param = self.param
        _check(common.solver_rank() == 0, "solve runs in the first of several solvers (solver_rank 0), this is number %d; "
               "call step(max_iter - iter)" % common.solver_rank())
        log.info("Solving %s" % self.net.name)
        log.info("Learning Rate Policy: %s" % param.lr_policy)
        self._early_exit = False
        if resume_file:
            log.info("Restoring previous solver status from %s" % resume_file)
            self.restore(resume_file)
        start = self.iter
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and not (param.snapshot and self.iter % param.snapshot == 0):
            self.snapshot()
        if self._early_exit:
            log.info("Optimization stopped early.")
            return
        if param.display and self.iter % param.display == 0:
            self._update_smoothed_loss(np.float32(self.net.forward_pass()), start)
            log.info("Iteration %d, loss = %s" % (self.iter, number(self._smoothed_loss)))
        if param.test_interval and self.iter % param.test_interval == 0:
            self._test_all()
        log.info("Optimization Done.")

    def apply_update(self) -> None:
        """Change the parameters by what their diffs say, and count it in `iter`."""
        raise NotImplementedError

    def add_callback(self, on_start: Callable[[], object] | Callback,
                     on_gradients_ready: Callable[[], object] | None = None) -> None:
        """Have two functions called in every iteration: before forward, and between backward and the update.

        One object that has methods of these names, such as an NCCL, does too.
        """
        if on_gradients_ready is None:
            on_start, on_gradients_ready = on_start.on_start, on_start.on_gradients_ready
        self._callbacks.append((on_start, on_gradients_ready))

    def share_weights(self, net: Net) -> None:
        """Make the train net use this net's parameters, by layer name."""
        self.net.share_trained_layers_with(net)

    def _update_smoothed_loss(self, loss: np.float32, start: int) -> None:
        """A running mean of the first average_loss losses since `start`, then a sliding one."""
        window = np.float32(self.param.average_loss)
        if len(self._losses) < self.param.average_loss:
            self._losses.append(loss)
            size = np.float32(len(self._losses))
            self._smoothed_loss = (self._smoothed_loss * (size - np.float32(1)) + loss) / size
        else:
            k = (self.iter - start) % self.param.average_loss
            self._smoothed_loss += (loss - self._losses[k]) / window
            self._losses[k] = loss

    def _display(self) -> None:
        """The lines of a training iteration: speed, loss, and the train net's outputs."""
        last_iter, last_time = self._last_display
        now = time.monotonic()
        lapse = now - last_time
        log.info("Iteration %d (%s iter/s, %ss/%d iters), loss = %s" % (
            self.iter, number((self.iter - last_iter) / (lapse or 1)), number(lapse), self.param.display,
            number(self._smoothed_loss)))
        self._last_display = (self.iter, now)
        outputs = [(name, blob.value.cpu().numpy()) for name, blob in zip(self.net.outputs, self.net.output_blobs)]
        for i, line in enumerate(output_lines(self.net, outputs)):
            log.info("    Train net output #%d: %s" % (i, line))

    # -- testing -----------------------------------------------------------------------------------------------------
    def _test_all(self) -> None:
        for i in range(len(self.test_nets)):
            if not self._early_exit:
                self._test(i)

    def _test(self, i: int) -> None:
        """Print the mean of each output of test net i over its test_iter batches."""
        log.info("Iteration %d, Testing net (#%d)" % (self.iter, i))
        net, batches = self.test_nets[i], self.param.test_iter[i]
        net.share_trained_layers_with(self.net)
        loss, sums = np.float32(0), {}
        for _ in range(batches):
            while (action := self.get_action()) is not SolverAction.NONE:
                if action is SolverAction.SNAPSHOT:
                    self.snapshot()
                else:
                    self._early_exit = True
            if self._early_exit:
                log.info("Test interrupted.")
                return
            loss += np.float32(net.forward_pass())
            for name, blob in zip(net.outputs, net.output_blobs):
                scores = blob.value.cpu().numpy()
                if name in sums and sums[name].shape != scores.shape:
                    raise CaffeError("test net (#%d): output '%s' has shape %s now and had %s; outputs that change "
                                     "their shape have no mean, give this one a consumer (a Silence layer)"
                                     % (i, name, scores.shape, sums[name].shape))
                sums[name] = sums.get(name, np.float32(0)) + scores
        if self.param.test_compute_loss:
            log.info("Test loss: %s" % number(loss / np.float32(batches)))
        means = [(name, total / np.float32(batches)) for name, total in sums.items()]
        for k, line in enumerate(output_lines(net, means)):
            log.info("    Test net output #%d: %s" % (k, line))

    # -- snapshots ---------------------------------------------------------------------------------------------------
    def snapshot(self) -> None:
        """Write `<snapshot_prefix>_iter_<iter>.caffemodel`, then `.solverstate` (`.h5` appended for HDF5).

        Each file appears complete or not at all, and a solverstate never before its model. CaffeError if it cannot.
        """
        suffix = ".h5" if self.param.snapshot_format == HDF5 else ""
        kind = "HDF5" if suffix else "binary proto"
        model = self._snapshot_path(".caffemodel" + suffix)
        log.info("Snapshotting to %s file %s" % (kind, model))
        (files.write_net_hdf5 if suffix else files.write_net)(model, self.net, self.param.snapshot_diff)
        state = self._snapshot_path(".solverstate" + suffix)
        log.info("Snapshotting solver state to %s file %s" % (kind, state))
        self.write_state(state, model)

    def write_state(self, path: str, model: str) -> None:
        """Write the solverstate that goes with the caffemodel `model`."""
        raise NotImplementedError

    def restore(self, path: str) -> None:
        """Go on from a solverstate; CaffeError, and nothing changed, if it does not fit this solver."""
        raise NotImplementedError

    def _snapshot_path(self, suffix: str) -> str:
        _check(self.param.snapshot_prefix, "snapshot_prefix is not set; a snapshot needs one")
        return "%s_iter_%d%s" % (self.param.snapshot_prefix, self.iter, suffix)

    def _check_snapshot_writable(self) -> None:
        """With snapshots due, find out now and not after hours whether they can be written: by a probe file."""
        if not self.param.snapshot or common.solver_rank():
            return
        path = self._snapshot_path(".tempfile")
        try:
            with open(path, "wb"):
                pass
            os.remove(path)
        except OSError as e:
            raise CaffeError("Cannot write to snapshot prefix '%s': %s: %s. Make sure that the directory exists and is "
                             "writable: create the directory %s or change snapshot_prefix"
                             % (self.param.snapshot_prefix, path, e.strerror,
                                os.path.abspath(os.path.dirname(path)))) from e


def output_lines(net: Net, outputs: list[tuple[str, np.ndarray]]) -> Iterator[str]:
    """`name = value` for each value of each output, with its weighted loss where the output has a loss weight."""
    for name, values in outputs:
        weight = np.float32(net.blob_loss_weight(name))
        for value in np.ravel(values):
            loss = " (* %s = %s loss)" % (number(weight), number(weight * value)) if weight else ""
            yield "%s = %s%s" % (name, number(value), loss)


def _merge_state(net_param: caffe_pb2.NetParameter, phase: int, state: caffe_pb2.NetState | None) -> None:
    merged = caffe_pb2.NetState(phase=phase)
    merged.MergeFrom(net_param.state)
    if state is not None:
        merged.MergeFrom(state)
    net_param.state.CopyFrom(merged)


def _check(condition: object, message: str) -> None:
    if not condition:
        raise CaffeError("SolverParameter: " + message)
