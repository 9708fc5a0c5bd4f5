"""Image files as Caffe reads them, which is as OpenCV does (src/caffe/util/io.cpp), by Pillow and numpy.

Images are uint8 arrays (channels, height, width), colours in the order B, G, R. Bit for bit OpenCV's: PNG and other
lossless files, and the bilinear resize. Not promised: JPEG, whose decoders may differ by 1, and by 2 for CMYK. A
photograph's EXIF orientation is not applied, as in OpenCV 2.4; later versions turn the image.
"""

from __future__ import annotations

import io
from math import prod

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

# A damaged header may claim any size. Up to 16 M pixels are believed; of more, no format that photographs are in gets
# more than this many into a byte (PNG of one bit a pixel: 8 times the 1032 bytes that deflate makes at most of one).
SMALL, DENSITY = 1 << 24, 8 * 1032
# Weights of B, G, R, what is added before the shift, and the shift: 0.114, 0.587, 0.299 as OpenCV makes them whole numbers,
# and as libpng does, whom OpenCV leaves it to for PNG.
_GREY, _PNG_GREY = ((1868, 9617, 4899), 1 << 13, 14), ((3737, 19234, 9797), 0, 15)
_ONE = 2048  # OpenCV's resize counts weights in 2^11ths


def decode(data: bytes, color: bool | None) -> np.ndarray:
    """An encoded image: colour (3 channels), grey (1), or with None as it is (1, 3, or 4 with transparency).

    CaffeError, without the file's name, for what is no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max(SMALL, DENSITY * len(data)):
                raise ValueError("it says it has %d x %d pixels, which a file of %d bytes cannot hold" % (
                    image.width, image.height, len(data)))
            if color is False:
                image.draft("L", image.size)  # a JPEG's own grey, unconverted
            return _channels(image, color)
    except Exception as e:  # Pillow raises OSError, SyntaxError, TypeError, struct.error and more, by format and damage
        raise CaffeError("not an image: %s" % e) from e


def of_datum(message: bytes, color: bool | None) -> tuple[np.ndarray, int]:
    """The image (C, H, W) and the label of a serialised Datum: uint8, decoded as `decode` does if encoded, or float32.

    CaffeError, without the database's name, for what is no Datum or holds another number of values than it says.
    """
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(message)
    except DecodeError as e:
        raise CaffeError("not a Datum: %s" % e) from e
    if datum.encoded:
        return decode(datum.data, color), datum.label
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or prod(shape) != values.size:
        raise CaffeError("it has %d values, wanted %d for its shape %s" % (values.size, prod(shape), shape))
    return values.reshape(shape), datum.label


def load(path: str) -> bytes:
    """A file's content; CaffeError if it cannot be read."""
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise CaffeError("Could not open or find file %s: %s" % (path, e.strerror or e)) from e


def read(path: str, height: int, width: int, color: bool) -> np.ndarray:
    """An image file, resized unless height and width are 0 (ReadImageToCVMat); CaffeError if it is none."""
    data = load(path)
    try:
        image = decode(data, color)
    except CaffeError as e:
        raise CaffeError("Could not load %s: %s" % (path, e)) from e
    return resize(image, height, width) if height and width else image


def _channels(image: Image.Image, color: bool | None) -> np.ndarray:
    """A Pillow image as (C, H, W)."""
    if image.mode.startswith("I"):  # 16 bits: the high byte
        pixels = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
    elif image.mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))
    else:
        pixels = np.asarray(image.convert("RGBA" if color is None and "A" in image.mode else "RGB"))
    if pixels.ndim == 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]].transpose(2, 0, 1)
        if color is False:
            weights, rounding, shift = _PNG_GREY if image.format == "PNG" else _GREY
            grey = np.full(pixels.shape[1:], rounding, np.uint32)
            for weight, channel in zip(weights, pixels):
                grey += np.multiply(channel, np.uint32(weight), dtype=np.uint32)
            pixels = (grey >> shift).astype(np.uint8)[None]
        return pixels
    return np.repeat(pixels[None], 3, 0) if color else pixels[None]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with pixel centres at halves, no smoothing when shrinking (cv::resize, INTER_LINEAR), bit for bit."""
    (left, right), (top, bottom) = _taps(image.shape[2], width), _taps(image.shape[1], height)
    source = image.astype(np.int32)
    across = source[:, :, left[0]] * left[1] + source[:, :, right[0]] * right[1]
    down = sum(((across[:, index] >> 4) * weight[:, None]) >> 16 for index, weight in (top, bottom))
    return ((down + 2) >> 2).astype(np.uint8)


def _taps(size: int, wanted: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """For each wanted place the two pixels it lies between and their weights in 2^11ths."""
    scale = 1.0 / (wanted / size)
    place = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    part = place - first.astype(np.float32)
    weights = (np.rint((np.float32(1) - part) * np.float32(_ONE)), np.rint(part * np.float32(_ONE)))
    return tuple((np.clip(first + i, 0, size - 1), w.astype(np.int32)) for i, w in enumerate(weights))
