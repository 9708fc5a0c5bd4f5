"""Data layers: where blobs come from."""

from __future__ import annotations

import io
from math import prod

import numpy as np
import torch
from google.protobuf.message import DecodeError
from PIL import Image

from torchcaffe import files, filler, log, rng
from torchcaffe.blob import Blob
from torchcaffe.common import solver_count, solver_rank
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.lmdb import Lmdb
from torchcaffe.proto import caffe_pb2


@register
class Input(Layer):
    """Blobs that the user fills: input_param { shape ... } once a top, once for all, or not at all.

    Follows src/caffe/layers/input_layer.cpp.
    """

    bottoms, tops = (0, 0), (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = list(self.layer_param.input_param.shape)
        self.check(len(shapes) in (0, 1, len(top)), "Must specify 'shape' once, once per top blob, or not at all: got %d "
                   "shapes for %d tops" % (len(shapes), len(top)))
        if len(shapes) == 1:
            shapes *= len(top)
        for blob, shape in zip(top, shapes):
            blob.reshape(*shape.dim)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the user reshapes the tops."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the user fills the tops."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: there is no bottom."""


@register
class DummyData(Layer):
    """Blobs made by fillers, constant ones once, others anew in each forward; without a filler they are zero.

    data_filler and shape (or num, channels, height, width) are given once for all tops or once a top.
    Follows src/caffe/layers/dummy_data_layer.cpp.
    """

    bottoms, tops = (0, 0), (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, n = self.layer_param.dummy_data_param, len(top)
        self.check(len(p.data_filler) in (0, 1, n), "Number of data fillers must be 0, 1 or equal to the number of tops: "
                   "%d; you specified %d data fillers" % (n, len(p.data_filler)))
        legacy = [list(v) for v in (p.num, p.channels, p.height, p.width)]
        if p.shape:
            self.check(not any(legacy), "give either shape or num, channels, height and width, not both")
            shapes = [tuple(s.dim) for s in p.shape]
            self.check(len(shapes) in (1, n), "Must specify 'shape' once, or once per top blob (%d tops); specified %d"
                       % (n, len(shapes)))
        else:
            self.check(all(len(v) in (1, n) for v in legacy), "num, channels, height and width must be given once or once "
                       "per top blob (%d tops), got %s of each; or use shape" % (n, [len(v) for v in legacy]))
            shapes = list(zip(*(v * n if len(v) == 1 else v for v in legacy)))
        fillers = list(p.data_filler) or [caffe_pb2.FillerParameter()]
        self.fillers = fillers * n if len(fillers) == 1 else fillers
        for blob, shape in zip(top, shapes * n if len(shapes) == 1 else shapes):
            blob.reshape(*shape)
        self.fill(top, constant=True)

    def fill(self, top: list[Blob], constant: bool) -> None:
        """Fill the tops that have a constant filler, or the others."""
        for blob, param in zip(top, self.fillers):
            if (param.type == "constant") == constant:
                blob.value = torch.from_numpy(filler.fill(param, blob.shape))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the tops got their shapes in setup."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.fill(top, constant=False)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: there is no bottom."""


class Transformer:
    """transform_param: crop, mirror, mean, scale (src/caffe/data_transformer.cpp).

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
            self.layer.check(len(p.mean_value) in (1, channels), lambda: "Specify either 1 mean_value or as many as "
                             "channels: got %d for %d" % (len(p.mean_value), channels))
            result -= np.array(p.mean_value, np.float32)[:, None, None]
        result *= np.float32(p.scale)
        return result[:, :, ::-1] if mirrored else result


@register
class Data(Layer):
    """Images and labels from an LMDB of Datum messages, in the order of keys, again from the start at its end.

    Tops: (batch_size, C, H, W) after transform_param; labels (batch_size). A batch takes its shape from its first image.
    Deviations: LevelDB is not read; images are read when asked for, not by a thread ahead; JPEG is decoded by Pillow.
    Follows src/caffe/layers/data_layer.cpp and base_data_layer.cpp.
    """

    bottoms, tops = (0, 0), (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, t = self.layer_param.data_param, self.layer_param.transform_param
        self.check(p.backend == caffe_pb2.DataParameter.LMDB, "got backend LEVELDB (the default), the engine reads LMDB; "
                   "convert the database and say backend: LMDB")
        self.check(p.batch_size > 0, "Positive batch size required, got 0; set batch_size")
        self.check(not (t.force_color and t.force_gray), "cannot set both force_color and force_gray")
        try:
            self.database = Lmdb(p.source)
        except CaffeError as e:
            raise CaffeError(self.describe(str(e))) from e
        self.check(len(self.database) > 0, "the database %s is empty" % p.source)
        self.entries, self.offset = iter(self.database), 0
        self.transform = Transformer(self)
        self.transform.seed()
        self.transform.seed()  # twice, as Caffe does: it uses up two numbers of the stream, and the second one counts
        image, _ = self.read(*next(iter(self.database)))
        top[0].reshape(p.batch_size, *self.transform.shape(image.shape))
        for blob in top[1:]:
            blob.reshape(p.batch_size)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: forward gives top 0 its shape, from the first image of the batch."""

    def next(self) -> tuple[np.ndarray, int]:
        """The next image and label; of several solvers in training, each takes its own share."""
        while True:
            entry = next(self.entries, None)
            if entry is None:
                log.info("Restarting data prefetching from start.")
                self.entries = iter(self.database)
                continue
            self.offset += 1
            if self.phase == caffe_pb2.TEST or (self.offset - 1) % solver_count() == solver_rank():
                return self.read(*entry)

    def read(self, key: bytes, value: bytes) -> tuple[np.ndarray, int]:
        """A Datum as (C, H, W) array, uint8 or float32, and its label."""
        datum = caffe_pb2.Datum()
        try:
            datum.ParseFromString(value)
            if datum.encoded:
                return self.decode(datum.data), datum.label
        except (DecodeError, OSError) as e:
            raise CaffeError(self.describe("entry %r of %s cannot be read: %s" % (
                key, self.layer_param.data_param.source, e))) from e
        shape = (datum.channels, datum.height, datum.width)
        values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
        self.check(values.size == prod(shape) > 0, lambda: "entry %r of %s has %d values, wanted %d for its shape %s" % (
            key, self.layer_param.data_param.source, values.size, prod(shape), shape))
        return values.reshape(shape), datum.label

    def decode(self, data: bytes) -> np.ndarray:
        """A JPEG or PNG as (C, H, W), channels in the order B, G, R; grey stays one channel unless force_color."""
        t = self.layer_param.transform_param
        with Image.open(io.BytesIO(data)) as image:
            if t.force_color or t.force_gray:
                image = image.convert("RGB" if t.force_color else "L")
            elif image.mode not in ("L", "RGB", "RGBA"):
                image = image.convert("RGB")
            pixels = np.asarray(image)
        if pixels.ndim == 2:
            return pixels[None]
        return pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]].transpose(2, 0, 1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        batch, images, labels = self.layer_param.data_param.batch_size, [], []
        for _ in range(batch):
            image, label = self.next()
            images.append(self.transform(image))
            labels.append(label)
            self.check(images[-1].shape == images[0].shape, lambda: "one batch holds images of shapes %s and %s; make them "
                       "equal, or use crop_size or batch_size: 1" % (images[0].shape, images[-1].shape))
        top[0].reshape(batch, *images[0].shape)
        top[0].value = torch.from_numpy(np.stack(images))
        for blob in top[1:]:
            blob.value = torch.tensor(labels, dtype=torch.float32)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: there is no bottom."""
