"""transform_param: what data layers do to images on their way into a blob (src/caffe/data_transformer.cpp)."""

from __future__ import annotations

from math import prod

import numpy as np

from torchcaffe import files, rng
from torchcaffe.layer import Layer, Shape
from torchcaffe.proto import caffe_pb2


class DataTransformer:
    """Crop, mirror, mean, scale.

    In TRAIN the crop is drawn, in TEST it is the centre. Draws come from a generator of its own, seeded from the random
    stream; per image first mirror, then row and column of the crop.
    """

    def __init__(self, layer: Layer):
        self.layer, self.param = layer, layer.layer_param.transform_param
        self.train = layer.phase == caffe_pb2.TRAIN
        layer.check(not (self.param.mean_file and self.param.mean_value), "Cannot specify mean_file and mean_value at the "
                    "same time")
        self.mean: np.ndarray | None = None
        if self.param.mean_file:
            mean = files.read_blob(self.param.mean_file)
            layer.check(len(mean.shape) > 2 and prod(mean.shape[:-3]) == 1, lambda: (
                "mean_file %s has shape %s, wanted (channels, height, width)" % (self.param.mean_file, mean.shape)))
            self.mean = mean.values.reshape(mean.shape[-3:])

    def seed(self) -> None:
        """Begin the generator anew, if anything is drawn (InitRand)."""
        if self.param.mirror or (self.train and self.param.crop_size):
            self.random = rng.Generator(rng.rand())

    def shape(self, image: Shape) -> Shape:
        """(C, H, W) after cropping."""
        crop = self.param.crop_size
        self.layer.check(crop <= min(image[1:]), lambda: "crop_size %d exceeds an image of shape %s" % (crop, image))
        return (image[0], crop, crop) if crop else image

    def mean_values(self, channels: int) -> np.ndarray:
        """mean_value as (channels or 1, 1, 1)."""
        values = self.param.mean_value
        self.layer.check(len(values) in (1, channels), lambda: "Specify either 1 mean_value or as many as channels: got %d "
                         "for %d" % (len(values), channels))
        return np.array(values, np.float32)[:, None, None]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A (C, H, W) image as float32, transformed."""
        p, (channels, height, width) = self.param, self.shape(image.shape)
        mirrored = p.mirror and self.random.rand() % 2
        spare = (image.shape[1] - height, image.shape[2] - width)
        if p.crop_size and self.train:
            top, left = (self.random.rand() % (n + 1) for n in spare)
        else:
            top, left = spare[0] // 2, spare[1] // 2
        window = np.s_[:, top : top + height, left : left + width]
        result = image[window].astype(np.float32)
        if self.mean is not None:
            self.layer.check(self.mean.shape == image.shape, lambda: "mean_file %s has shape %s, an image %s" % (
                p.mean_file, self.mean.shape, image.shape))
            result -= self.mean[window]
        elif p.mean_value:
            result -= self.mean_values(channels)
        result *= np.float32(p.scale)
        return result[:, :, ::-1] if mirrored else result
