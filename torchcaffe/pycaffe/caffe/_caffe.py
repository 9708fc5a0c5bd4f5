"""What BVLC's compiled module `caffe._caffe` exports: the engine under the names pycaffe has for it."""

from __future__ import annotations

import os
import time

import torch

from torchcaffe import __version__, common, rng
from torchcaffe import log as _log
from torchcaffe.blob import Blob
from torchcaffe.common import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from torchcaffe.layer import BlobVec, Layer
from torchcaffe.net import layer_types
from torchcaffe.rng import set_random_seed

__all__ = [
    "Blob", "BlobVec", "Layer", "Timer", "__version__", "has_nccl", "init_log", "layer_type_list", "log",
    "rng", "set_device", "set_mode_cpu", "set_mode_gpu", "set_multiprocess", "set_random_seed", "set_solver_count",
    "set_solver_rank", "solver_count", "solver_rank",
]


def init_log(prefix: str | int = "", log_to_stderr: bool = True) -> None:
    """Begin logging; here the log always goes to stderr. An int (0 info, 1 warning, 2 error) sets the least level shown."""
    if isinstance(prefix, int):
        os.environ["GLOG_minloglevel"] = str(prefix)


def log(message: str) -> None:
    """Write one line of severity info to the log."""
    _log.info(message)


def layer_type_list() -> list[str]:
    """The layer types a prototxt may use, sorted."""
    return layer_types()


def has_nccl() -> bool:
    """Whether several GPUs can train together through NCCL: not in this version."""
    return False


def set_multiprocess(multiprocess: bool) -> None:
    """Accepted for compatibility; one process trains one solver here."""


class Timer:
    """Wall-clock timer of the computing device: start(), stop(), then ms in `ms` and `elapsed`."""

    def __init__(self) -> None:
        self._begin = self._end = 0.0

    def start(self) -> None:
        """Begin timing, once the device is idle."""
        self._begin = self._now()

    def stop(self) -> None:
        """End timing, once the device is idle."""
        self._end = self._now()

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop."""
        return (self._end - self._begin) * 1000.0

    @staticmethod
    def _now() -> float:
        if common.mode() == common.GPU:
            torch.cuda.synchronize(common.device())
        return time.perf_counter()
