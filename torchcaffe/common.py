"""The state Caffe keeps a thread: mode, device, solver count (include/caffe/common.hpp). The random stream is in rng.py."""

from __future__ import annotations

import operator
import threading

import torch

from torchcaffe.errors import CaffeError

CPU, GPU = 0, 1


class _State(threading.local):
    """What `Caffe::Get()` returns: one of these a thread."""

    mode = CPU
    device_id = 0
    solver_count = 1
    solver_rank = 0


_state = _State()


def set_mode_cpu() -> None:
    """Compute on the CPU (the default)."""
    _state.mode = CPU


def set_mode_gpu() -> None:
    """Compute on the GPU chosen by set_device; float32 stays float32 (TF32 off), as in Caffe.

    Raises CaffeError where PyTorch sees no GPU.
    """
    if not torch.cuda.is_available():
        raise CaffeError(
            "set_mode_gpu: PyTorch %s sees no CUDA device; install a CUDA build of PyTorch and a driver, "
            "or call set_mode_cpu()" % torch.__version__
        )
    # cuDNN convolutions default to TF32, whose error is about 1e-3: off, so that Caffe's numbers come out.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    _state.mode = GPU


def set_device(device_id: int) -> None:
    """Choose the GPU for this thread; an id PyTorch does not know is a CaffeError, what is no whole number a TypeError."""
    device_id = operator.index(device_id)
    if torch.cuda.is_available() and not 0 <= device_id < torch.cuda.device_count():
        raise CaffeError("set_device: no GPU %d; PyTorch sees %d" % (device_id, torch.cuda.device_count()))
    _state.device_id = device_id


def mode() -> int:
    """CPU (0) or GPU (1)."""
    return _state.mode


def device() -> torch.device:
    """Where layers compute now."""
    return torch.device("cpu") if _state.mode == CPU else torch.device("cuda", _state.device_id)


def solver_count() -> int:
    """How many solvers train together; losses and batches are split by it."""
    return _state.solver_count


def set_solver_count(count: int) -> None:
    """Set by a parallel run before its solvers are built."""
    _state.solver_count = count


def solver_rank() -> int:
    """The place of this thread's solver among solver_count(); 0 is the root solver, which tests, snapshots and logs."""
    return _state.solver_rank


def set_solver_rank(rank: int) -> None:
    """Set by a parallel run before its solvers are built."""
    _state.solver_rank = rank
