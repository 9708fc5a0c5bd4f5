"""How each layer type is written in ONNX, one file an area as in layers/; importing this package registers them all."""

from torchcaffe.onnx_layers import activation, common, normalization, recurrent, utility, vision  # noqa: F401
