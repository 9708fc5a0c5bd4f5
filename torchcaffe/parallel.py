"""Several solvers that train together: their gradients are averaged before each update (src/caffe/parallel.cpp).

Each solver has a process of its own. It reads its share of the training data (solver_rank() of solver_count(), see the data
layers), so an iteration of n solvers sees n batches, and all make the same update. They talk through torch.distributed: by
NCCL in GPU mode, by gloo on the CPU. The processes find each other in a file in the temporary directory, so they run on one
machine, or where TMPDIR is a folder that machines share.

    uid = NCCL.new_uid()                  # once, handed to all processes
    set_solver_count(n), set_solver_rank(rank)
    solver = get_solver(...)              # in each process
    nccl = NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    solver.net.after_backward(nccl)       # optional: send a layer's gradients as soon as they are there
    solver.step(...)
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait

import torch
import torch.distributed as dist

from torchcaffe import common, forks, log
from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2
from torchcaffe.sgd_solver import get_solver
from torchcaffe.solver import Solver

# The first solver tests and snapshots while the others wait for it, which may take hours; torch gives up after 10 minutes.
PATIENCE = timedelta(days=365)
_asking = threading.Lock()


class NCCL:
    """This process's link to the other solvers. Hand it to solver.add_callback, and perhaps to net.after_backward.

    uid: what new_uid gave in one process. CaffeError if it is none, or if this process already takes part in a training
    with other counts.
    """

    def __init__(self, solver: Solver, uid: bytes):
        self.solver = solver
        self._count = common.solver_count()
        self._started: dict[int, tuple[torch.Tensor, dist.Work]] = {}  # id of a blob -> its diff, under way
        param, net = solver.param, solver.net
        # Later passes of an iteration, and other layers that share a blob, still add to its diff.
        shared = len({id(b) for layer in net.layers for b in layer.blobs}) != len(net.learnable_params)
        self._layer_wise = param.layer_wise_reduce and param.iter_size == 1 and not shared
        if dist.is_initialized():
            if (dist.get_world_size(), dist.get_rank()) != (self._count, common.solver_rank()):
                raise CaffeError("NCCL: this process is number %d of %d already, it cannot be number %d of %d; use one "
                                 "solver_rank and solver_count a process" % (dist.get_rank(), dist.get_world_size(),
                                                                             common.solver_rank(), self._count))
            return
        path = os.fsdecode(uid)
        if not os.path.isdir(os.path.dirname(path)):
            raise CaffeError("NCCL: got uid %r, wanted what NCCL.new_uid() gave in a process that still runs" % uid)
        gpu = common.mode() == common.GPU
        dist.init_process_group("nccl" if gpu else "gloo", store=dist.FileStore(path, self._count),
                                rank=common.solver_rank(), world_size=self._count, timeout=PATIENCE,
                                device_id=common.device() if gpu else None)
        atexit.register(dist.destroy_process_group)

    @staticmethod
    def new_uid() -> bytes:
        """What the processes of one training find each other by; valid while the process that made it runs."""
        folder = tempfile.mkdtemp(prefix="torchcaffe-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return os.fsencode(os.path.join(folder, "store"))

    def bcast(self) -> None:
        """Give all solvers the first one's parameters."""
        for blob in self.solver.net.learnable_params:
            dist.broadcast(blob.mutable_value(), 0)

    def __call__(self, layer: int) -> None:
        """After a layer's backward: begin to average its gradients (NCCL::run), if solver.param.layer_wise_reduce."""
        if self._layer_wise:
            for blob in self.solver.net.layers[layer].blobs:
                self._start(blob)

    def on_start(self) -> None:
        """Nothing; what solver.add_callback wants of a callback."""

    def on_gradients_ready(self) -> None:
        """Average the gradients that are not under way yet, and wait until all are there."""
        for blob in self.solver.net.learnable_params:
            if id(blob) not in self._started:
                self._start(blob)
        for diff, work in self._started.values():
            work.wait()
            diff.mul_(1.0 / self._count)
        self._started.clear()

    def _start(self, blob: Blob) -> None:
        diff = blob.mutable_grad()
        self._started[id(blob)] = diff, dist.all_reduce(diff, async_op=True)


def join(solver: Solver, uid: bytes) -> None:
    """Make a solver one of several, beginning with the first one's parameters."""
    nccl = NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    solver.net.add_callback("after_backward", nccl)


@contextmanager
def workers(param: caffe_pb2.SolverParameter, devices: Sequence[torch.device], snapshot: str = "") -> Iterator[bytes]:
    """Solvers of this definition, one a device, in processes of their own; this process is the first device's solver.

    Within the `with` block, build a solver of the same definition and `join` it by the uid that is yielded. The others
    train until max_iter; at the block's end they are ended, wherever they are. If one of them fails, so does this process,
    with exit code 134.
    """
    uid = NCCL.new_uid()
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    processes = [context.Process(target=_work, args=(param.SerializeToString(), str(device), rank, len(devices), snapshot,
                                                     uid, forks.enabled()), daemon=True)
                 for rank, device in enumerate(devices) if rank]
    over = threading.Event()
    for process in processes:
        process.start()
    threading.Thread(target=_watch, args=(processes, over), daemon=True).start()
    take_place(devices[0], 0, len(devices))
    try:
        yield uid
    except RuntimeError as e:  # gloo notices that another process is gone; NCCL does not
        over.set()
        lost = [p for p in processes if not isinstance(e, CaffeError) and wait([p.sentinel], timeout=10)]
        if not lost:
            raise
        raise CaffeError(_gone(lost[0])) from e
    finally:
        over.set()
        for process in processes:
            process.terminate()
            _status(process)
        take_place(devices[0], 0, 1)


def take_place(device: torch.device, rank: int, count: int) -> None:
    """Make this thread the one of solver `rank` of `count`, computing on a device."""
    if device.type == "cuda":
        common.set_device(device.index)
        common.set_mode_gpu()
    else:
        common.set_mode_cpu()
    common.set_solver_count(count)
    common.set_solver_rank(rank)


def _watch(processes: Sequence[multiprocessing.Process], over: threading.Event) -> None:
    """End this process if one of the others fails: it would wait for its gradients for ever."""
    running = {p.sentinel: p for p in processes}
    while running and not over.is_set():
        for sentinel in wait(running, timeout=1):
            process = running.pop(sentinel)
            if _status(process) and not over.wait(timeout=10):  # time for the main thread to notice by itself
                log.fatal(_gone(process))
                os._exit(134)


def _gone(process: multiprocessing.Process) -> str:
    return "the process of a further solver (pid %d) ended with status %d; see above why" % (process.pid, _status(process))


def _status(process: multiprocessing.Process) -> int:
    """The exit code of a process that has ended or is about to; two threads must not ask the system for it at once."""
    with _asking:
        process.join()
        return process.exitcode


def _work(definition: bytes, device: str, rank: int, count: int, snapshot: str, uid: bytes, extras: bool) -> None:
    """A further solver's process."""
    if extras:
        forks.enable()
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C reaches all processes; the first one decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    take_place(torch.device(device), rank, count)
    try:
        solver = get_solver(caffe_pb2.SolverParameter.FromString(definition))
        if snapshot:
            solver.restore(snapshot)
        join(solver, uid)
        solver.step(solver.param.max_iter - solver.iter)
    except CaffeError as e:
        log.fatal("solver %d: %s" % (rank, e))
        sys.exit(134)


def _follow_parent() -> None:
    """End with the first solver's process, however it ends."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
