"""The layers, one file an area of Caffe's own catalogue; importing this package registers them all."""

from torchcaffe.layers import activation, common, data, loss, normalization, utility, vision  # noqa: F401
