"""A stand-in for pycaffe: blobs, Python layers, a net and a solver made of them, NetSpec. No layer types.

Just enough for the scripts in tools/ to really run under Python 2.7, where neither the embedded Caffe (Python 3) nor,
on most machines, the original is at hand. Written in the common subset of Python 2.7 and 3.
"""
from collections import OrderedDict

import numpy as np

from .net_spec import NetSpec, layers, params  # noqa: F401

__version__ = 'stand-in'
TRAIN, TEST = 0, 1


class Blob(object):
    """float32 data and diff of any shape."""

    def __init__(self, *shape):
        self.reshape(*shape)

    def reshape(self, *shape):
        self.data = np.zeros(shape, dtype=np.float32)
        self.diff = np.zeros(shape, dtype=np.float32)

    @property
    def shape(self):
        return self.data.shape


class Layer(object):
    """Base of Python layers; the stand-in net sets param_str and calls setup, reshape, forward."""

    def __init__(self, param_str=''):
        self.param_str = param_str
        self.blobs = []


class Net(object):
    """A net of Python layers: rows of (name, layer, bottom names, top names), set up and run in order."""

    def __init__(self, rows):
        self.rows = rows
        self.blobs = OrderedDict()
        self.params = OrderedDict()
        self.layers = [row[1] for row in rows]
        self._layer_names = [row[0] for row in rows]
        for name, layer, bottoms, tops in rows:
            for top in tops:
                self.blobs.setdefault(top, Blob())
            layer.setup(*self._blobs_of(bottoms, tops))
            layer.reshape(*self._blobs_of(bottoms, tops))
            if layer.blobs:
                self.params[name] = layer.blobs

    def _blobs_of(self, bottoms, tops):
        return [self.blobs[b] for b in bottoms], [self.blobs[t] for t in tops]

    def forward(self):
        for _, layer, bottoms, tops in self.rows:
            layer.reshape(*self._blobs_of(bottoms, tops))
            layer.forward(*self._blobs_of(bottoms, tops))
        return self.blobs

    def share_with(self, other):
        """Take the parameter blobs of the layers of the same name."""
        for name in self.params:
            if name in other.params:
                self.params[name] = other.params[name]


class Solver(object):
    """A train net, a test net, and an iteration count; it does not solve."""

    def __init__(self, net, test_net):
        self.net, self.test_nets, self.iter = net, [test_net], 0


def set_mode_cpu():
    """There is nothing else."""
