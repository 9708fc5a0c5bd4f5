"""Net and the solvers as pycaffe users know them: built from files, with dicts of numpy arrays in and out."""

from __future__ import annotations

import operator
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import numpy as np

from torchcaffe import files, net
from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer
from torchcaffe.parallel import NCCL
from torchcaffe.proto import caffe_pb2
from torchcaffe.sgd_solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
)
from torchcaffe.solver import Solver
from torchcaffe.timer import Timer

__all__ = ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NCCL", "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver",
           "Timer"]

Path = str | bytes | os.PathLike


class Net(net.Net):
    """A net from a prototxt: Net(network_file, phase, level=0, stages=None, weights=None).

    The older order Net(network_file, weights_file, phase) works too. A missing file is a RuntimeError
    "Could not open file ...", as in pycaffe; anything wrong in the files is a CaffeError that says what. TypeError
    without a phase, as in pycaffe, and ValueError, unlike there, for one that is neither TRAIN nor TEST.
    """

    def __init__(self, network_file: Path | caffe_pb2.NetParameter, phase: int | Path | None = None,
                 level: int | None = 0, stages: Sequence[str] | None = None, weights: Path | None = None):
        if isinstance(network_file, caffe_pb2.NetParameter):  # from a solver, which has read its own file
            super().__init__(network_file, phase, level or 0, stages or ())
            return
        if isinstance(phase, (str, bytes, os.PathLike)):
            weights, phase, level = phase, level, 0
        phase = _phase(phase)
        network_file, weights = (None if path is None else os.fsdecode(path) for path in (network_file, weights))
        for path in (network_file, weights):
            if path is not None and not os.path.isfile(path):
                raise RuntimeError("Could not open file %s" % path)
        super().__init__(files.read_net_text(network_file), phase, level or 0, stages or ())
        if weights is not None:
            self.copy_from(weights)

    # -- what is in it ---------------------------------------------------------------------------------------------------
    @property
    def params(self) -> OrderedDict[str, Sequence[Blob]]:
        """Layer name -> its parameter blobs, for the layers that have any; always the same dict."""
        if not hasattr(self, "_params_dict"):
            self._params_dict = OrderedDict((n, layer.blobs) for n, layer in zip(self.layer_names, self.layers)
                                            if layer.blobs)
        return self._params_dict

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """Layer name -> Layer; always the same dict."""
        if not hasattr(self, "_layer_dict"):
            self._layer_dict = OrderedDict(zip(self.layer_names, self.layers))
        return self._layer_dict

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name -> its loss weight."""
        return OrderedDict((name, self.blob_loss_weight(name)) for name in self.blobs)

    # What BVLC's compiled half offers its Python half, and people use: names as lists, blobs by number.
    @property
    def _layer_names(self) -> list[str]:
        return self.layer_names

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> list[int]:
        return self._ids(self.blobs[name] for name in self.inputs)

    @property
    def _outputs(self) -> list[int]:
        return self._ids(self.output_blobs)

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._ids(self._of_layer(self.bottom_vecs, layer))

    def _top_ids(self, layer: int) -> list[int]:
        return self._ids(self._of_layer(self.top_vecs, layer))

    def _ids(self, blobs: Iterable[Blob]) -> list[int]:
        """The numbers that blobs have in _blob_names and _blobs."""
        numbers = {id(blob): i for i, blob in enumerate(self._blobs)}
        automatic = self._blob_names.index(net.AUTOMATIC) if net.AUTOMATIC in self.blobs else -1
        return [numbers.get(id(blob), automatic) for blob in blobs]  # of several automatic tops one has a number

    def _of_layer(self, vectors: list[list[Blob]], layer: int) -> list[Blob]:
        if not 0 <= layer < len(vectors):
            raise CaffeError("Invalid layer id %d: the net has layers 0 to %d" % (layer, len(vectors) - 1))
        return vectors[layer]

    # -- running it ------------------------------------------------------------------------------------------------------
    def forward(self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the layers from `start` to `end` (names; default all) after setting input blobs from keyword arguments.

        Returns {name: data} of the net's outputs (or of the end layer's tops) and of the further `blobs` named.
        """
        first = self.layer_names.index(start) if start is not None else 0
        last = self.layer_names.index(end) if end is not None else len(self.layers) - 1
        names = dict.fromkeys([*(self.top_names[end] if end is not None else self.outputs), *(blobs or [])])
        if kwargs:
            self._set(kwargs, self.inputs, "Input blob arguments do not match net inputs.", "Input is not batch sized",
                      "data")
        self._forward(first, last)
        return {name: self.blobs[name].data for name in names}

    def backward(self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                 **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """Run backward from layer `start` to `end` (names; default all) after setting output diffs from keywords.

        Returns {name: diff} of the net's inputs (or of the end layer's bottoms) and of the further `diffs` named.
        """
        first = self.layer_names.index(start) if start is not None else len(self.layers) - 1
        last = self.layer_names.index(end) if end is not None else 0
        names = dict.fromkeys([*(self.bottom_names[end] if end is not None else self.inputs), *(diffs or [])])
        if kwargs:
            self._set(kwargs, self.outputs, "Top diff arguments do not match net outputs.", "Diff is not batch sized",
                      "diff")
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in names}

    def _forward(self, start: int, end: int) -> float:
        return self.forward_from_to(start, end)

    def _backward(self, start: int, end: int) -> None:
        self.backward_from_to(start, end)

    def _set(self, arrays: dict[str, np.ndarray], names: Sequence[str], mismatch: str, size: str, half: str) -> None:
        if set(arrays) != set(names):
            raise CaffeError("%s Got %s, wanted %s" % (mismatch, sorted(arrays), sorted(names)))
        for name, array in arrays.items():
            blob, shape = self.blobs[name], np.shape(array)
            if blob.shape and shape[:1] != blob.shape[:1]:  # what has no axes, as a loss, numpy checks
                raise CaffeError("%s: blob '%s' has shape %s, got %s" % (size, name, blob.shape, shape))
            getattr(blob, half)[...] = array

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: np.ndarray) -> dict[str, np.ndarray]:
        """forward over any number of inputs, in batches; returns the outputs of all of them, stacked."""
        outs: dict[str, list[np.ndarray]] = {}
        for batch in self._batch(kwargs):
            _collect(outs, self.forward(blobs=blobs, **batch))
        return _stack(outs, kwargs)

    def forward_backward_all(self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None,
                             **kwargs: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """forward and backward over any number of inputs and output diffs, in batches; returns (outputs, diffs).

        Batches for which no output diffs are given run backward with the diffs that are there.
        """
        outs: dict[str, list[np.ndarray]] = {}
        grads: dict[str, list[np.ndarray]] = {}
        forwards = self._batch({n: kwargs[n] for n in self.inputs if n in kwargs})
        backwards = self._batch({n: kwargs[n] for n in self.outputs if n in kwargs})
        for inputs, tops in zip_longest(forwards, backwards, fillvalue={}):
            _collect(outs, self.forward(blobs=blobs, **inputs))
            _collect(grads, self.backward(diffs=diffs, **tops))
        return _stack(outs, kwargs), _stack(grads, kwargs)

    def _batch(self, arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Cut arrays into batches of the net's size; the last one is padded with zeros."""
        size = next(iter(self.blobs.values())).num
        count = len(next(iter(arrays.values()), ()))
        for begin in range(0, count, size):
            batch = {}
            for name, array in arrays.items():
                part = np.asarray(array[begin : begin + size])
                missing = size - len(part)
                batch[name] = np.concatenate([part, np.zeros((missing,) + part.shape[1:], part.dtype)]) if missing else part
            yield batch

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Have the net's first layer, a MemoryData, take its batches from these float32 arrays (n, C, H, W) and (n,).

        They are not copied: what is written into them later, the net reads.
        """
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
        self._set_input_arrays(data, labels)

    def _set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        layer = self.layers[0]
        if layer.type != "MemoryData":
            raise CaffeError(layer.describe("set_input_arrays may only be called if the first layer is a MemoryDataLayer"))
        batch, *wanted = self.top_vecs[0][0].shape
        for what, array, shape in (("data", data, tuple(wanted)), ("labels", labels, (1, 1, 1))):
            if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
                raise CaffeError(layer.describe("%s array must be C contiguous; use np.ascontiguousarray" % what))
            if array.ndim != 4:
                raise CaffeError(layer.describe("%s array must be 4-d, got shape %s" % (what, array.shape)))
            if array.dtype != np.float32:
                raise CaffeError(layer.describe("%s array must be float32, got %s" % (what, array.dtype)))
            if array.shape[1:] != shape:
                raise CaffeError(layer.describe("%s array has wrong number of channels, wrong height or wrong width: got "
                                                "shape %s, wanted (n, %d, %d, %d)" % (what, array.shape, *shape)))
        if len(data) != len(labels):
            raise CaffeError(layer.describe("data and labels must have the same first dimension, got %d and %d"
                                            % (len(data), len(labels))))
        if len(data) % batch:
            raise CaffeError(layer.describe("first dimensions of input arrays must be a multiple of batch size %d, got %d"
                                            % (batch, len(data))))
        layer.reset(data, labels)

    def before_forward(self, function) -> None:
        """Call function(layer index) before each layer's forward."""
        self.add_callback("before_forward", function)

    def after_forward(self, function) -> None:
        """Call function(layer index) after each layer's forward."""
        self.add_callback("after_forward", function)

    def before_backward(self, function) -> None:
        """Call function(layer index) before each layer's backward."""
        self.add_callback("before_backward", function)

    def after_backward(self, function) -> None:
        """Call function(layer index) after each layer's backward."""
        self.add_callback("after_backward", function)

    # -- its weights -------------------------------------------------------------------------------------------------------
    def copy_from(self, path: Path) -> None:
        """Load the parameters of a caffemodel (.h5 too) into the layers of the same names."""
        self.copy_trained_layers_from(os.fsdecode(path))

    def share_with(self, other: Net) -> None:
        """Use the parameters of another net's layers of the same names."""
        self.share_trained_layers_with(other)

    def save(self, path: Path, write_diff: bool = False) -> None:
        """Write definition and parameters as a caffemodel, atomically."""
        files.write_net(os.fsdecode(path), self, write_diff)

    def save_hdf5(self, path: Path, write_diff: bool = False) -> None:
        """Write the parameters as HDF5, atomically."""
        files.write_net_hdf5(os.fsdecode(path), self, write_diff)

    def load_hdf5(self, path: Path) -> None:
        """Load the parameters of an HDF5 model into the layers of the same names."""
        self.copy_trained_layers_from(os.fsdecode(path))


def _phase(phase: int | None) -> int:
    """A phase as pycaffe takes it: any whole number that is one."""
    wanted = "wanted caffe.TRAIN (0) or caffe.TEST (1): Net(network_file, phase, level=0, stages=None, weights=None)"
    try:
        number = operator.index(phase)
    except TypeError:
        raise TypeError("Net: got phase %r, %s" % (phase, wanted)) from None
    if number not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        raise ValueError("Net: got phase %r, %s" % (phase, wanted))
    return number


def _collect(rows: dict[str, list[np.ndarray]], batch: dict[str, np.ndarray]) -> None:
    """Append copies of a batch's rows."""
    for name, array in batch.items():
        rows.setdefault(name, []).extend(array.copy())


def _stack(rows: dict[str, list[np.ndarray]], given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows as arrays, without those that come from padding."""
    count = len(next(iter(given.values()), ()))
    return {name: np.asarray(arrays[:count]) for name, arrays in rows.items()}


Solver.net_class = Net  # the nets of a solver made here are pycaffe's, too
