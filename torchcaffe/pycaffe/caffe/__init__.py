"""pycaffe on PyTorch: what `import caffe` gives where BVLC's Caffe is not installed.

This folder mirrors BVLC's python/caffe file for file; the work is done in torchcaffe.
"""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
if _ROOT not in sys.path:
    sys.path.append(_ROOT)  # so that only this package's folder need be put on the path

from . import io  # noqa: E402
from ._caffe import (  # noqa: E402
    Layer,
    __version__,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .net_spec import NetSpec, layers, params, to_proto  # noqa: E402
from .proto.caffe_pb2 import TEST, TRAIN  # noqa: E402
from .pycaffe import (  # noqa: E402
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Timer,
    get_solver,
)

__all__ = [
    "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Layer", "Net", "NetSpec", "NesterovSolver", "RMSPropSolver",
    "SGDSolver", "TEST", "TRAIN", "Timer", "__version__", "get_solver", "has_nccl", "init_log", "io", "layer_type_list",
    "layers", "log", "params", "set_device", "set_mode_cpu", "set_mode_gpu", "set_multiprocess", "set_random_seed",
    "set_solver_count", "set_solver_rank", "solver_count", "solver_rank", "to_proto",
]
