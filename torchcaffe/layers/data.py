"""Data layers: where blobs come from, and go to. Those that read images are in image_data.py."""

from __future__ import annotations

import ctypes

import numpy as np
import torch

from torchcaffe import files, filler, hdf5, log
from torchcaffe.blob import Blob
from torchcaffe.common import solver_count, solver_rank
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, register
from torchcaffe.layers.data_transformer import DataTransformer
from torchcaffe.proto import caffe_pb2


class Source(Layer):
    """A layer without bottoms. Its tops have their shapes from setup, from forward, or from the user."""

    bottoms = (0, 0)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: shapes do not follow from bottoms."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: there is no bottom."""


@register
class Input(Source):
    """Blobs that the user fills: input_param { shape ... } once a top, once for all, or not at all.

    Follows src/caffe/layers/input_layer.cpp.
    """

    tops = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = list(self.layer_param.input_param.shape)
        self.check(len(shapes) in (0, 1, len(top)), "Must specify 'shape' once, once per top blob, or not at all: got %d "
                   "shapes for %d tops" % (len(shapes), len(top)))
        if len(shapes) == 1:
            shapes *= len(top)
        for blob, shape in zip(top, shapes):
            blob.reshape(*shape.dim)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the user fills the tops."""


@register
class DummyData(Source):
    """Blobs made by fillers, constant ones once, others anew in each forward; without a filler they are zero.

    data_filler and shape (or num, channels, height, width) are given once for all tops or once a top.
    Follows src/caffe/layers/dummy_data_layer.cpp.
    """

    tops = (1, None)

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
                blob.value = torch.from_numpy(np.array(filler.fill(param, blob.shape)))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.fill(top, constant=False)


@register
class MemoryData(Source):
    """Batches from arrays in memory, which Net.set_input_arrays names; again from their start at their end.

    Tops: (batch_size, channels, height, width) and labels, (batch_size) until the first forward, then (batch_size, 1, 1, 1)
    as in Caffe. transform_param does nothing, as in pycaffe: in Caffe it is for images handed over in C++.
    Follows src/caffe/layers/memory_data_layer.cpp.
    """

    tops = (2, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.memory_data_param
        shape = (p.batch_size, p.channels, p.height, p.width)
        self.check(all(shape), "batch_size, channels, height, and width must be specified and positive in "
                   "memory_data_param, got %d, %d, %d and %d" % shape)
        DataTransformer(self).seed()  # nothing is drawn from it, but the seed is, from the stream later layers draw from
        top[0].reshape(*shape)
        top[1].reshape(p.batch_size)
        self.arrays: tuple[np.ndarray, np.ndarray] | None = None

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Go on with these arrays, float32 (n, channels, height, width) and n labels; they are kept, not copied."""
        batch = self.layer_param.memory_data_param.batch_size
        self.check(len(data) > 0 and len(data) % batch == 0, "n must be a multiple of batch size: got %d items for batches "
                   "of %d" % (len(data), batch))
        if self.layer_param.HasField("transform_param"):
            log.warning("%s does not transform array data on Reset()" % self.type)
        self.arrays, self.position = (data, labels.reshape(-1, 1, 1, 1)), 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(self.arrays is not None, "MemoryDataLayer needs to be initialized by calling Reset: call "
                   "net.set_input_arrays(data, labels) before forward")
        stop = self.position + self.layer_param.memory_data_param.batch_size
        for blob, array in zip(top, self.arrays):
            part = np.array(array[self.position : stop])
            blob.reshape(*part.shape)
            blob.value = torch.from_numpy(part)
        self.position = stop % len(self.arrays[0])


def _shuffle(values: list) -> None:
    """std::random_shuffle: by the C library's rand(), which Caffe does not seed, so set_random_seed has no part in it."""
    rand = ctypes.CDLL(None).rand
    for i in range(1, len(values)):
        j = rand() % (i + 1)
        values[i], values[j] = values[j], values[i]


@register
class HDF5Data(Source):
    """Rows of the datasets named as the tops, from the HDF5 files that the text file `source` lists; then from the start.

    Each top has the shape of its dataset but batch_size rows. All of a file is read at once, as float32. `shuffle`
    mixes files, and rows inside a file, in Caffe's order if nobody else in the process calls the C library's rand().
    Deviation: a file whose rows have another shape than the first one's is an error (Caffe copies whatever is there).
    Follows src/caffe/layers/hdf5_data_layer.cpp.
    """

    tops = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.hdf5_data_param
        self.check(not self.layer_param.HasField("transform_param"), "HDF5Data does not transform data; remove "
                   "transform_param, and put into the file what the net is to see")
        self.check(p.batch_size > 0, "Positive batch size required, got 0; set batch_size")
        try:
            with open(p.source, encoding="utf-8", errors="surrogateescape") as f:
                self.files = f.read().split()
        except OSError as e:
            raise CaffeError(self.describe("Failed to open source file: %s: %s" % (p.source, e.strerror or e))) from e
        self.check(len(self.files) > 0, "Must have at least 1 HDF5 filename listed in %s" % p.source)
        if p.shuffle:
            _shuffle(self.files)
        self.file = self.offset = 0
        self.load()
        for blob, rows in zip(top, self.datasets):
            blob.reshape(p.batch_size, *rows.shape[1:])

    def load(self) -> None:
        """Read the file whose turn it is."""
        path = self.files[self.file]
        log.info("Loading HDF5 file: %s" % path)
        names = list(self.layer_param.top)
        try:
            self.datasets = hdf5.read_datasets(path, names)
        except CaffeError as e:
            raise CaffeError(self.describe(str(e))) from e
        shapes = [a.shape for a in self.datasets]
        self.check(all(shapes) and len({s[0] for s in shapes}) == 1 and shapes[0][0] > 0, lambda: (
            "%s: wanted equally many rows, at least one, in %s; got shapes %s" % (path, ", ".join(names), shapes)))
        self.row, self.order = 0, list(range(shapes[0][0]))
        self.shuffle_rows()

    def shuffle_rows(self) -> None:
        """Another order of rows, if they are to be shuffled."""
        if self.layer_param.hdf5_data_param.shuffle:
            _shuffle(self.order)

    def next(self) -> None:
        """Go on to the next row: of this file, of the next one, or of the first."""
        self.offset += 1
        self.row += 1
        if self.row < len(self.order):
            return
        if len(self.files) > 1:
            self.file += 1
            if self.file == len(self.files):
                self.file = 0
                if self.layer_param.hdf5_data_param.shuffle:
                    _shuffle(self.files)
            self.load()
        self.row = 0
        self.shuffle_rows()  # once more where load() just did: as in Caffe, whose draws these are

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        batch = [np.empty(blob.shape, np.float32) for blob in top]
        for i in range(len(batch[0])):
            while self.phase != caffe_pb2.TEST and self.offset % solver_count() != solver_rank():
                self.next()
            for name, values, rows in zip(self.layer_param.top, batch, self.datasets):
                self.check(values.shape[1:] == rows.shape[1:], lambda name=name, values=values, rows=rows: (
                    "%s: rows of dataset %s have shape %s, those of the first file %s" % (
                        self.files[self.file], name, rows.shape[1:], values.shape[1:])))
                values[i] = rows[self.order[self.row]]
            self.next()
        for blob, values in zip(top, batch):
            blob.value = torch.from_numpy(values)


@register
class HDF5Output(Layer):
    """Writes its two bottoms as /data and /label of the HDF5 file `file_name`, with 4 axes each, 1s added at their end.

    The file is made in setup, without datasets, and complete after the first forward; a second one is an error, as in
    Caffe, which has no place in the file for another batch. Backward does nothing.
    Follows src/caffe/layers/hdf5_output_layer.cpp.
    """

    bottoms, tops = (2, 2), (0, 0)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.write({})
        self.written = False

    def write(self, datasets: dict[str, np.ndarray]) -> None:
        """Make the file anew with these datasets."""
        path = self.layer_param.hdf5_output_param.file_name
        self.check(bool(path), "got no file_name; set it in hdf5_output_param")
        try:
            files.write_hdf5(path, datasets)
        except CaffeError as e:
            raise CaffeError(self.describe("Failed to open HDF5 file %s" % e)) from e

    def shape(self, *bottom: tuple[int, ...]) -> list[tuple[int, ...]]:
        self.check(all(len(s) < 5 for s in bottom), lambda: "got bottoms of shapes %s and %s, wanted at most 4 axes"
                   % bottom)
        self.check((bottom[0] + (1,))[0] == (bottom[1] + (1,))[0], lambda: (
            "data blob and label blob must have the same batch size, got shapes %s and %s" % bottom))
        return []

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        path = self.layer_param.hdf5_output_param.file_name
        self.check(not self.written, "%s holds the first batch and has no place for another; run one forward, with a "
                   "batch_size that covers all items" % path)
        log.info("Saving HDF5 file %s" % path)
        self.write({name: blob.value.cpu().numpy().reshape(blob.num, blob.channels, blob.height, blob.width)
                    for name, blob in zip(("data", "label"), bottom)})
        self.written = True

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: diffs stay as they are."""
