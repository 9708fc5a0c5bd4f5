"""Images and arrays in and out of nets: the interface of BVLC's python/caffe/io.py, without scikit-image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from .proto import caffe_pb2

GREY = (0.2125, 0.7154, 0.0721)  # scikit-image's weights of R, G and B


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """A BlobProto's data (or diff) as a float64 array of its shape, e.g. a mean file as (1, 3, H, W)."""
    values = np.array(blob.diff if return_diff else blob.data, np.float64)
    if blob.HasField("num") or blob.HasField("channels") or blob.HasField("height") or blob.HasField("width"):
        return values.reshape(blob.num, blob.channels, blob.height, blob.width)
    return values.reshape(tuple(blob.shape.dim))


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """An array (and optionally its diff) as a BlobProto."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, np.float32).ravel())
    if diff is not None:
        blob.diff.extend(np.asarray(diff, np.float32).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """Arrays as a serialized BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(a) for a in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(text: bytes) -> list[np.ndarray]:
    """The arrays of a serialized BlobProtoVector."""
    return [blobproto_to_array(b) for b in caffe_pb2.BlobProtoVector.FromString(text).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A (C, H, W) array as a Datum: uint8 as bytes, anything else as floats. ValueError for another number of axes."""
    if arr.ndim != 3:
        raise ValueError("array_to_datum: got an array of shape %s, wanted (channels, height, width)" % (arr.shape,))
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """A Datum as a (C, H, W) array, uint8 or float."""
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data).astype(float)
    return values.reshape(datum.channels, datum.height, datum.width)


class Transformer:
    """How images become the values of input blobs, and back: transpose, channel swap, scales, mean.

    inputs: {blob name: shape}. For one input, in this order: resize, transpose, channel_swap, raw_scale, mean, input_scale.
    """

    def __init__(self, inputs: dict[str, Sequence[int]]):
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise Exception("%s is not one of the net inputs: %s" % (in_, list(self.inputs)))

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """An (H, W, C) image as the (C, H, W) float32 values of the input."""
        self._check_input(in_)
        caffe_in = data.astype(np.float32, copy=False)
        dims = tuple(self.inputs[in_][2:])
        if caffe_in.shape[:2] != dims:
            caffe_in = resize_image(caffe_in, dims)
        if self.transpose.get(in_) is not None:
            caffe_in = caffe_in.transpose(self.transpose[in_])
        if self.channel_swap.get(in_) is not None:
            caffe_in = caffe_in[list(self.channel_swap[in_]), :, :]
        if self.raw_scale.get(in_) is not None:
            caffe_in = caffe_in * np.float32(self.raw_scale[in_])
        if self.mean.get(in_) is not None:
            caffe_in = np.subtract(caffe_in, self.mean[in_], dtype=np.float32, casting="same_kind")
        if self.input_scale.get(in_) is not None:
            caffe_in = caffe_in * np.float32(self.input_scale[in_])
        return caffe_in

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """preprocess undone, but for the size."""
        self._check_input(in_)
        image = data.copy().squeeze()
        if self.input_scale.get(in_) is not None:
            image /= self.input_scale[in_]
        if self.mean.get(in_) is not None:
            image += self.mean[in_]
        if self.raw_scale.get(in_) is not None:
            image /= self.raw_scale[in_]
        if self.channel_swap.get(in_) is not None:
            image = image[np.argsort(self.channel_swap[in_]), :, :]
        if self.transpose.get(in_) is not None:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of axes, e.g. (2, 0, 1) for H x W x C to C x H x W."""
        self._check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise Exception("Transpose order needs to have the same number of dimensions as the input.")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of channels, e.g. (2, 1, 0) for RGB to BGR."""
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise Exception("Channel swap needs to have the same number of dimensions as the input channels.")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Multiply before the mean is subtracted: 255 for images in [0, 1] and a mean in [0, 255]."""
        self._check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Subtract this: one value a channel, or a (C, H, W) image (resized to the input, as BVLC's master does)."""
        self._check_input(in_)
        if mean.ndim == 1:
            if mean.shape[0] != self.inputs[in_][1]:
                raise ValueError("Mean channels incompatible with input.")
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            shape = tuple(self.inputs[in_][1:])
            mean = mean[np.newaxis] if mean.ndim == 2 else mean
            if mean.ndim != 3:
                raise ValueError("Mean shape invalid")
            if mean.shape != shape:
                low, high = mean.min(), mean.max()
                unit = (mean - low) / (high - low)
                resized = resize_image(unit.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
                mean = resized * (high - low) + low
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Multiply after the mean is subtracted."""
        self._check_input(in_)
        self.input_scale[in_] = scale


def load_image(filename: str, color: bool = True) -> np.ndarray:
    """An image file as (H, W, 3) float32 in [0, 1], RGB; (H, W, 1), its luminance, if not `color`."""
    with Image.open(filename) as image:
        if image.mode[0] in "IF":  # grey of 16 bits, or of floats: Pillow's convert would clip them to white
            values = np.asarray(image).astype(np.float64) / (1 if image.mode == "F" else 65535)
            return np.repeat(values[:, :, np.newaxis], 3 if color else 1, axis=2).astype(np.float32)
        values = np.asarray(image.convert("RGB")) / 255
    return (values if color else (values @ GREY)[:, :, np.newaxis]).astype(np.float32)


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """An (H, W, C) image resized to (height, width) by splines of `interp_order`; float32.

    One or three channels: pixel centres aligned, within the range of the input. Other numbers: corners aligned. Both as in
    BVLC with the scikit-image of its time; newer ones also blur what they make smaller.
    """
    if tuple(im.shape[:2]) == tuple(new_dims):
        return im.astype(np.float32)
    scale = tuple(n / s for n, s in zip(new_dims, im.shape[:2])) + (1.0,)
    if im.shape[-1] not in (1, 3):
        return ndimage.zoom(im, scale, order=interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if high == low:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    unit = (im.astype(np.float64) - low) / (high - low)  # what lies beyond the border is 0 here: the image's least value
    resized = ndimage.zoom(unit, scale, order=interp_order, mode="grid-constant", grid_mode=True).clip(0, 1)
    return (resized * (high - low) + low).astype(np.float32)


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int]) -> np.ndarray:
    """Ten crops an image (four corners, centre, and their mirror images): (10 N, height, width, C), float32."""
    height, width = np.array(images[0].shape[:2])
    h, w = crop_dims
    corners = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w)]
    centre = (int(height / 2.0 - h / 2.0), int(width / 2.0 - w / 2.0))
    crops = []
    for image in images:
        five = [image[y : y + h, x : x + w] for y, x in [*corners, centre]]
        crops.extend(five + [c[:, ::-1] for c in five])
    return np.asarray(crops, np.float32)
