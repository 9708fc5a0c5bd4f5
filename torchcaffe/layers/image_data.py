"""Data layers that read images: from an LMDB, from files, or windows of them."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import torch

from torchcaffe import images, log, rng
from torchcaffe.blob import Blob
from torchcaffe.common import solver_count, solver_rank
from torchcaffe.errors import CaffeError
from torchcaffe.layer import register
from torchcaffe.layers.data import Source
from torchcaffe.layers.data_transformer import DataTransformer
from torchcaffe.lmdb import Lmdb
from torchcaffe.proto import caffe_pb2


class _Prefetching(Source):
    """What layers share that read ahead in Caffe (base_data_layer.cpp); here items are read when they are asked for."""

    tops = (2, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        # What Caffe takes from the random stream here, in its order: a seed for the transformer, which nothing uses, what
        # the layer itself draws, the transformer's seed, and one for the thread that reads ahead.
        self.transform = DataTransformer(self)
        self.transform.seed()
        self.open(top)
        self.transform.seed()
        rng.rand()

    def open(self, top: list[Blob]) -> None:
        """Open the source and give the tops their first shapes."""
        raise NotImplementedError

    def check_batch_size(self, batch_size: int) -> None:
        """CaffeError unless there is a batch size."""
        self.check(batch_size > 0, "Positive batch size required, got 0; set batch_size")

    def hand_over(self, top: list[Blob], items: list[tuple[np.ndarray, float]]) -> None:
        """Make the tops hold a batch of images, which must have one shape, and labels."""
        for image, _ in items:
            self.check(image.shape == items[0][0].shape, lambda image=image: (
                "one batch holds images of shapes %s and %s; make them equal, or use crop_size or batch_size: 1"
                % (items[0][0].shape, image.shape)))
        top[0].reshape(len(items), *items[0][0].shape)
        top[0].value = torch.from_numpy(np.stack([image for image, _ in items]))
        for blob in top[1:]:
            blob.value = torch.tensor([label for _, label in items], dtype=torch.float32)


@register
class Data(_Prefetching):
    """Images and labels from an LMDB of Datum messages, in the order of keys, again from the start at its end.

    Tops: (batch_size, C, H, W) after transform_param; labels (batch_size). A batch takes its shape from its first image.
    Deviations: LevelDB is not read; images.py says which images are decoded bit for bit.
    Follows src/caffe/layers/data_layer.cpp and base_data_layer.cpp.
    """

    tops = (1, 2)

    def open(self, top: list[Blob]) -> None:
        p, t = self.layer_param.data_param, self.layer_param.transform_param
        self.check(p.backend == caffe_pb2.DataParameter.LMDB, "got backend LEVELDB (the default), the engine reads LMDB; "
                   "convert the database and say backend: LMDB")
        self.check_batch_size(p.batch_size)
        self.check(not (t.force_color and t.force_gray), "cannot set both force_color and force_gray")
        try:
            self.database = Lmdb(p.source)
        except CaffeError as e:
            raise CaffeError(self.describe(str(e))) from e
        self.check(len(self.database) > 0, "the database %s is empty" % p.source)
        self.entries, self.offset = iter(self.database), 0
        image, _ = self.read(*next(iter(self.database)))
        top[0].reshape(p.batch_size, *self.transform.shape(image.shape))
        for blob in top[1:]:
            blob.reshape(p.batch_size)

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
        t = self.layer_param.transform_param
        try:
            return images.of_datum(value, True if t.force_color else False if t.force_gray else None)
        except CaffeError as e:
            raise CaffeError(self.describe("entry %r of %s cannot be read: %s" % (
                key, self.layer_param.data_param.source, e))) from e

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        items = []
        for _ in range(self.layer_param.data_param.batch_size):
            image, label = self.next()
            items.append((self.transform(image), label))
        self.hand_over(top, items)


@register
class ImageData(_Prefetching):
    """Images and labels from files, which the text file `source` lists: "path label" a line; then from the start.

    Tops: (batch_size, C, H, W) after transform_param, labels (batch_size). A path is what stands before a line's last
    space, after root_folder; images become new_height x new_width if those are given, and grey unless is_color. `shuffle`
    is Caffe's, from the random stream, and so is rand_skip, a drawn number of lines left out at the beginning.
    Deviations: images.py says which images are decoded bit for bit.
    Follows src/caffe/layers/image_data_layer.cpp and base_data_layer.cpp.
    """

    def open(self, top: list[Blob]) -> None:
        p = self.layer_param.image_data_param
        self.check(bool(p.new_height) == bool(p.new_width), "Current implementation requires new_height and new_width to be "
                   "set at the same time, got %d and %d" % (p.new_height, p.new_width))
        self.check_batch_size(p.batch_size)
        log.info("Opening file %s" % p.source)
        text = _read_text(self, p.source)
        self.check(bool(text), "File is empty: %s" % p.source)
        self.lines = [_path_and_label(line) for line in text.removesuffix("\n").split("\n")]
        if p.shuffle:
            log.info("Shuffling data")
            self.random = rng.Generator(rng.rand())
            self.shuffle()
        log.info("A total of %d images." % len(self.lines))
        self.line = 0
        if p.rand_skip:
            self.line = rng.rand() % p.rand_skip
            log.info("Skipping first %d data points." % self.line)
            self.check(self.line < len(self.lines), lambda: "Not enough points to skip: rand_skip drew %d, %s has %d lines"
                       % (self.line, p.source, len(self.lines)))
        top[0].reshape(p.batch_size, *self.transform.shape(self.read(self.lines[self.line][0]).shape))
        top[1].reshape(p.batch_size)

    def shuffle(self) -> None:
        """The lines in another order (shuffle of util/rng.hpp, with boost's uniform_int)."""
        for i in range(len(self.lines) - 1, 0, -1):
            # As many buckets of equal size as there are values, out of 2^32; what is left over is drawn again.
            bucket = (1 << 32) // (i + 1)
            while (j := self.random.rand() // bucket) > i:
                pass
            self.lines[i], self.lines[j] = self.lines[j], self.lines[i]

    def read(self, path: str) -> np.ndarray:
        """An image of the list as (C, H, W)."""
        p = self.layer_param.image_data_param
        try:
            return images.read(p.root_folder + path, p.new_height, p.new_width, p.is_color)
        except CaffeError as e:
            raise CaffeError(self.describe("in the list %s: %s" % (p.source, e))) from e

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, items = self.layer_param.image_data_param, []
        for _ in range(p.batch_size):
            path, label = self.lines[self.line]
            items.append((self.transform(self.read(path)), label))
            self.line += 1
            if self.line == len(self.lines):
                log.info("Restarting data prefetching from start.")
                self.line = 0
                if p.shuffle:
                    self.shuffle()
        self.hand_over(top, items)


def _read_text(layer: Source, path: str) -> str:
    """A text file's content."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as f:
            return f.read()
    except OSError as e:
        raise CaffeError(layer.describe("Failed to open file %s: %s" % (path, e.strerror or e))) from e


def _path_and_label(line: str) -> tuple[str, int]:
    """What stands before and after a line's last space; a line without one is both. The label is read as by C's atoi."""
    path, space, label = line.rpartition(" ")
    number = re.match(r"\s*([+-]?\d+)", label, re.ASCII)
    return (path if space else line), int(number.group(1)) if number else 0


class _Window(NamedTuple):
    """One line of a window file: which image, the class, and the corners, both inside."""

    image: int
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


@register
class WindowData(_Prefetching):
    """Windows of images, as R-CNN trains on: batch_size of them, of which the share fg_fraction shows an object.

    `source` holds for each image "# index path channels height width count" and count times "class overlap x1 y1 x2 y2".
    A window is foreground if its overlap is fg_threshold or more, background, class 0, if it is below bg_threshold. It is
    widened so that after scaling to crop_size x crop_size (transform_param's) context_pad pixels of context lie around it;
    what of that lies off the image is 0. crop_mode "square" makes it a square first. Follows Caffe's random stream.

    As in Caffe, scale is window_data_param's, all else transform_param's; mirror, mean_file, crop_size there have no effect.
    Deviations: only 3 channels; a window off its image is an error (OpenCV's).
    Follows src/caffe/layers/window_data_layer.cpp and base_data_layer.cpp.
    """

    def open(self, top: list[Blob]) -> None:
        p, t = self.layer_param.window_data_param, self.layer_param.transform_param
        self.check(t.crop_size > 0, "got crop_size 0, wanted the windows' size; set it in transform_param")
        self.check_batch_size(p.batch_size)
        self.check(2 * p.context_pad < t.crop_size, "context_pad %d on both sides leaves nothing of crop_size %d" % (
            p.context_pad, t.crop_size))
        self.random = rng.Generator(rng.rand())
        self.read_windows(_read_text(self, p.source).split())
        self.cached = [self.content(i) for i in range(len(self.paths))] if p.cache_images else []
        if self.transform.mean is not None:
            channels, height, width = self.transform.mean.shape
            self.check(channels == 3 and t.crop_size <= width and (width + t.crop_size) // 2 <= height, lambda: (
                "mean_file %s has shape %s, wanted 3 channels and a square of at least crop_size %d" % (
                    t.mean_file, self.transform.mean.shape, t.crop_size)))
        elif t.mean_value:
            self.transform.mean_values(3)
        top[0].reshape(p.batch_size, 3, t.crop_size, t.crop_size)
        top[1].reshape(p.batch_size)

    def read_windows(self, words: list[str]) -> None:
        """Take images and windows from the words of a window file."""
        p = self.layer_param.window_data_param
        self.paths: list[str] = []
        background: list[_Window] = []
        foreground: list[_Window] = []
        self.windows = (background, foreground)
        self.check(len(words) > 0, "Window file is empty: %s" % p.source)
        position = done = 0
        try:
            while position < len(words):
                mark, index, path, channels, _, _, count = words[position : position + 7]
                position += 7
                self.check(mark == "#" and int(index) == len(self.paths), lambda mark=mark, index=index: (
                    "%s: got '%s %s', wanted '# %d', images being numbered from 0" % (
                        p.source, mark, index, len(self.paths))))
                self.check(int(channels) == 3, "%s: image %s has %s channels, wanted 3: windows are read in colour" % (
                    p.source, index, channels))
                self.paths.append(p.root_folder + path)
                for _ in range(int(count)):
                    label, overlap, *corners = words[position : position + 6]
                    position += 6
                    window = _Window(int(index), int(label), *map(int, corners))
                    if max(map(abs, window)) >= 1 << 31:
                        raise ValueError("%s has a number beyond 32 bits" % (window,))
                    if np.float32(overlap) >= p.fg_threshold:
                        self.check(window.label > 0, "%s: image %s has a foreground window of class %s, wanted 1 or more" % (
                            p.source, index, label))
                        foreground.append(window)
                    elif np.float32(overlap) < p.bg_threshold:
                        background.append(window._replace(label=0))
                done += 1
        except (ValueError, TypeError) as e:
            raise CaffeError(self.describe("%s: image %d is not '# index path channels height width count' and count times "
                                           "'class overlap x1 y1 x2 y2': %s" % (p.source, done, e))) from e
        for name, windows in zip(("background", "foreground"), self.windows):
            self.check(len(windows) > 0, "%s has no %s windows; change fg_threshold %g or bg_threshold %g" % (
                p.source, name, p.fg_threshold, p.bg_threshold))

    def content(self, index: int) -> bytes:
        """An image file's content."""
        try:
            return images.load(self.paths[index])
        except CaffeError as e:
            raise CaffeError(self.describe("image %d of %s: %s" % (
                index, self.layer_param.window_data_param.source, e))) from e

    def read(self, index: int) -> np.ndarray:
        """An image as (3, H, W)."""
        data = self.cached[index] if self.cached else self.content(index)
        try:
            return images.decode(data, color=True)
        except CaffeError as e:
            raise CaffeError(self.describe("image %d of %s: Could not load %s: %s" % (
                index, self.layer_param.window_data_param.source, self.paths[index], e))) from e

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, t = self.layer_param.window_data_param, self.layer_param.transform_param
        count = int(np.float32(p.batch_size) * np.float32(p.fg_fraction))
        items = []
        for windows, wanted in zip(self.windows, (p.batch_size - count, count)):
            for _ in range(wanted):
                window = windows[self.random.rand() % len(windows)]
                mirrored = bool(t.mirror and self.random.rand() % 2)
                items.append((self.cut(window, mirrored), window.label))
        self.hand_over(top, items)

    def cut(self, window: _Window, mirrored: bool) -> np.ndarray:
        """A window's (3, crop_size, crop_size) float32 values."""
        p, t = self.layer_param.window_data_param, self.layer_param.transform_param
        image = self.read(window.image)
        rows, columns = image.shape[1:]
        if p.context_pad or p.crop_mode == "square":
            (left, right), (top, bottom) = self.widened(window)
            self.check(left <= right and top <= bottom, "%s: %s is inside out" % (p.source, window))
        else:
            (left, right), (top, bottom) = (window.x1, window.x2), (window.y1, window.y2)
            self.check(0 <= left <= right < columns and 0 <= top <= bottom < rows, lambda: (
                "%s: %s does not lie on its image of %d x %d pixels" % (p.source, window, columns, rows)))
        x1, x2, width, pads = _fit(left, right, columns, t.crop_size)
        y1, y2, height, (pad_top, _) = _fit(top, bottom, rows, t.crop_size)
        pad_left = pads[1] if mirrored else pads[0]
        width, height = min(width, t.crop_size - pad_left), min(height, t.crop_size - pad_top)
        self.check(x1 <= x2 and y1 <= y2 and width > 0 and height > 0, lambda: (
            "%s: nothing of %s lies on its image of %d x %d pixels" % (p.source, window, columns, rows)))
        part = images.resize(image[:, y1 : y2 + 1, x1 : x2 + 1], height, width)
        values = np.zeros((3, t.crop_size, t.crop_size), np.float32)
        place = np.s_[:, pad_top : pad_top + height, pad_left : pad_left + width]
        values[place] = part[:, :, ::-1] if mirrored else part
        if self.transform.mean is not None:
            offset = (self.transform.mean.shape[2] - t.crop_size) // 2
            values[place] -= self.transform.mean[:, offset:, offset:][place]
        elif t.mean_value:
            values[place] -= self.transform.mean_values(3)
        return values * np.float32(p.scale)

    def widened(self, window: _Window) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last column, first and last row of a window with its context; they may lie off the image."""
        p, crop = self.layer_param.window_data_param, self.layer_param.transform_param.crop_size
        context = np.float32(crop) / np.float32(crop - 2 * p.context_pad)
        half = [np.float32((last - first + 1) / 2) for first, last in ((window.x1, window.x2), (window.y1, window.y2))]
        centre = [np.float32(first) + h for first, h in zip((window.x1, window.y1), half)]
        if p.crop_mode == "square":
            half = [max(half)] * 2
        return tuple((_round(c - h * context), _round(c + h * context)) for c, h in zip(centre, half))


def _round(x: np.float32) -> int:
    """The nearest whole number, halves away from 0, as C's round."""
    return int(np.copysign(np.floor(np.abs(np.float64(x)) + 0.5), x))


def _fit(first: int, last: int, size: int, crop: int) -> tuple[int, int, int, tuple[int, int]]:
    """Along one axis: first and last pixel on the image, how many they become, and how much is padded on both sides."""
    before, after = max(0, -first), max(0, last - size + 1)
    scale = np.float32(crop) / np.float32(last - first + 1)
    inside = (first + before, last - after)
    resized, *pads = (_round(np.float32(n) * scale) for n in (inside[1] - inside[0] + 1, before, after))
    return *inside, resized, (pads[0], pads[1])
