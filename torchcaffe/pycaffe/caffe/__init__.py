"""pycaffe on PyTorch: what `import caffe` gives where BVLC's Caffe is not installed.

This folder mirrors BVLC's python/caffe file for file; the work is done in torchcaffe. What emits nets (NetSpec, layers,
params, the messages) is there at once, 0.1 s; the rest comes when it is first asked for, because it takes PyTorch, 2 s.
"""

import os
import sys
from importlib import import_module

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
if _ROOT not in sys.path:
    sys.path.append(_ROOT)  # so that only this package's folder need be put on the path

from torchcaffe import __version__  # noqa: E402

from .net_spec import NetSpec, layers, params, to_proto  # noqa: E402
from .proto.caffe_pb2 import TEST, TRAIN  # noqa: E402

_LATER = {  # module of this package: the names it gives to the package
    "_caffe": ["Layer", "NCCL", "Timer", "get_solver", "has_nccl", "init_log", "layer_type_list", "log", "set_device",
               "set_mode_cpu", "set_mode_gpu", "set_multiprocess", "set_random_seed", "set_solver_count",
               "set_solver_rank", "solver_count", "solver_rank"],
    "classifier": ["Classifier"],
    "detector": ["Detector"],
    "io": [],
    "pycaffe": ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver"],
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in [module, *names]}

__all__ = ["NetSpec", "TEST", "TRAIN", "__version__", "layers", "params", "to_proto", *_MODULE_OF]


def __getattr__(name):
    """A name of _LATER, from its module."""
    if name not in _MODULE_OF:
        raise AttributeError("module 'caffe' has no attribute %r" % name)
    module = import_module("." + _MODULE_OF[name], __name__)
    value = module if name == _MODULE_OF[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
