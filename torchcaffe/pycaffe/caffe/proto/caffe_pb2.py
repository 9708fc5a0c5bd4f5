"""Every message and enum of caffe.proto, re-exported: the one schema stands in torchcaffe/proto."""

from torchcaffe.proto.caffe_pb2 import *  # noqa: F403
