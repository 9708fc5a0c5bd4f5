"""What BVLC's compiled module `caffe._caffe` exports: the engine under the names pycaffe has for it."""

from __future__ import annotations

import os

import torch.distributed

from torchcaffe import __version__
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
from torchcaffe.layer import BlobVec, Layer, layer_types
from torchcaffe.parallel import NCCL
from torchcaffe.proto.caffe_pb2 import LayerParameter, SolverParameter
from torchcaffe.rng import set_random_seed
from torchcaffe.sgd_solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)
from torchcaffe.solver import Solver
from torchcaffe.timer import Timer

from .pycaffe import Net

__all__ = [
    "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Blob", "BlobVec", "Layer", "LayerParameter", "NCCL",
    "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver", "Solver", "SolverParameter", "Timer", "__version__",
    "get_solver", "has_nccl", "init_log", "layer_type_list", "log", "set_device", "set_mode_cpu", "set_mode_gpu",
    "set_multiprocess", "set_random_seed", "set_solver_count", "set_solver_rank", "solver_count", "solver_rank",
]


def init_log(prefix: str | int = "", log_to_stderr: bool = True) -> None:
    """Begin logging; here the log always goes to stderr. An int (0 info, 1 warning, 2 error) sets the least level shown."""
    if isinstance(prefix, int):
        os.environ["GLOG_minloglevel"] = str(prefix)


def log(message: str) -> None:
    """Write one line of severity info to the log."""
    _log.info(message, every=True)


def layer_type_list() -> list[str]:
    """The layer types a prototxt may use, sorted."""
    return sorted(layer_types())


def has_nccl() -> bool:
    """Whether several solvers can train together: through NCCL on GPUs and gloo on CPUs, where PyTorch has them."""
    return torch.distributed.is_available()


def set_multiprocess(multiprocess: bool) -> None:
    """Accepted for compatibility: each solver has a process of its own here, always."""
