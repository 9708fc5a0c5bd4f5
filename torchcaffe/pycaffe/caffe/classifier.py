"""Classifier: a net that takes images of any size and gives class probabilities (BVLC's python/caffe/classifier.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import io
from .proto.caffe_pb2 import TEST
from .pycaffe import Net


class Classifier(Net):
    """A net in phase TEST with one image input, whose first output is a vector of class probabilities.

    image_dims: (height, width) to which images are resized before crops of the input's size are taken; default: that size.
    mean, input_scale, raw_scale, channel_swap: see io.Transformer.
    """

    def __init__(self, model_file: str, pretrained_file: str, image_dims: Sequence[int] | None = None,
                 mean: np.ndarray | None = None, input_scale: float | None = None, raw_scale: float | None = None,
                 channel_swap: Sequence[int] | None = None):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = image_dims if image_dims else self.crop_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Probabilities (N, classes) of N images (H, W, C) as io.load_image gives them.

        With `oversample` each image's are the mean over ten crops (corners, centre, and their mirror images); else the
        centre's alone.
        """
        images = [io.resize_image(image, self.image_dims) for image in inputs]
        if oversample:
            crops = io.oversample(images, self.crop_dims)
        else:
            height, width = self.crop_dims
            top, left = (int((whole - part) / 2.0) for whole, part in zip(self.image_dims, self.crop_dims))
            crops = [image[top : top + height, left : left + width] for image in images]
        name = self.inputs[0]
        values = np.asarray([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(**{name: values})[self.outputs[0]]
        return predictions.reshape(len(images), 10, -1).mean(1) if oversample else predictions


def image_transformer(net: Net, mean: np.ndarray | None, input_scale: float | None, raw_scale: float | None,
                      channel_swap: Sequence[int] | None) -> io.Transformer:
    """A Transformer from (H, W, C) images to the first input of a net; what is None is left out."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    for put, value in ((transformer.set_mean, mean), (transformer.set_input_scale, input_scale),
                       (transformer.set_raw_scale, raw_scale), (transformer.set_channel_swap, channel_swap)):
        if value is not None:
            put(name, value)
    return transformer
