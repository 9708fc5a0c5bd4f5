"""The layers, one file an area of Caffe's own catalogue; importing this package registers them all."""

from torchcaffe.layers import (  # noqa: F401
    activation,
    common,
    data,
    image_data,
    loss,
    normalization,
    recurrent,
    utility,
    vision,
)
