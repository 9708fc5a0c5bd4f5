"""Every message and enum of caffe.proto, re-exported: the one schema stands in torchcaffe/proto.

The messages of Caffe's forks are here only while these are switched on (torchcaffe/forks.py).
"""

from torchcaffe import forks
from torchcaffe.proto import caffe_pb2
from torchcaffe.proto.caffe_pb2 import *  # noqa: F403

for _name in forks.MESSAGES:
    del globals()[_name]


def __getattr__(name):
    """A message of a fork."""
    if name not in forks.MESSAGES or not forks.enabled():
        raise AttributeError("module 'caffe.proto.caffe_pb2' has no attribute %r%s" % (
            name, "; it is of a fork of Caffe: import torchcaffe.extras" if name in forks.MESSAGES else ""))
    return getattr(caffe_pb2, name)
