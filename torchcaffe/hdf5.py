"""Caffe's HDF5 files (util/hdf5.cpp, Net::ToHDF5, SGDSolver::SnapshotSolverStateToHDF5).

Model: /data/<layer>/<i>, a group for every layer and a float32 array for each parameter it owns; /diff likewise if
asked for, shared ones included. State: integers /iter and /current_step, string /learned_net, arrays /history/<i>.
Training data (layers HDF5Data and HDF5Output): a dataset for each blob, rows first.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import h5py
import numpy as np

from torchcaffe.errors import CaffeError
from torchcaffe.wire import LayerWeights, SolverState

# A damaged header may claim any size. How much larger than its file an array may be: weights hardly compress, and gzip
# makes at most 1032 bytes of one, which images of labels come near to.
WEIGHTS, DEFLATE = 100, 1032
SIGNATURE, HEAP = b"\x89HDF\r\n\x1a\n", int.from_bytes(b"HEAP\0\0\0\0", "little")
Arrays = Sequence[np.ndarray | None]


def is_hdf5(path: str) -> bool:
    """Whether a file begins as HDF5 files do; False if it cannot be read."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as f:
            return f.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def read_weights(path: str) -> list[LayerWeights]:
    """The layers of an HDF5 model, in order of their names; their types are not in the file. Raises CaffeError.

    Their numbers are read when they are asked for; the file is open until then.
    """
    f = _File(path, "model")
    f.open()
    with f.damage():
        data = f.group("data")
        return [LayerWeights(name, "", _numbered(f, data, name)) for name in data]


def read_solver_state(path: str) -> SolverState:
    """An HDF5 solverstate. Raises CaffeError."""
    f = _File(path, "solverstate")
    f.open()
    with f.damage():
        history = _numbered(f, f.file, "history")
        if None in history:
            raise CaffeError("%s: /history lacks number %d" % (path, history.index(None)))
        learned_net = f.dataset("learned_net")[()]
        if not isinstance(learned_net, bytes):
            raise CaffeError("%s: /learned_net is %r, wanted a string" % (path, learned_net))
        return SolverState(f.integer("iter"), learned_net.decode("utf-8", "surrogateescape"), f.integer("current_step"),
                           history)


def read_datasets(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """The datasets of these names as float32; integers and floating point of any size can be read. Raises CaffeError."""
    with _File(path, "data file") as f:
        return [_values(f, f.dataset(name), DEFLATE) for name in names]


def write_datasets(path: str, datasets: Mapping[str, np.ndarray]) -> None:
    """Write arrays as float32 datasets of a new file; OSError if it cannot be written."""
    with _new_file(path) as f:
        for name, values in datasets.items():
            f.create_dataset(name, data=values, dtype=np.float32)


def write_weights(path: str, layers: Iterable[tuple[str, Arrays, Arrays | None]]) -> None:
    """Write (layer name, data, diff or None) to a new file; None instead of an array leaves its number out.

    Raises CaffeError for a layer name HDF5 has no room for, OSError if the file cannot be written.
    """
    with _new_file(path) as f:
        f.create_group("data")
        for name, data, diff in layers:
            if "/" in name or name in ("", "."):
                raise CaffeError("layer '%s': HDF5 has no room for this name ('/' would be a sub-group); save as binary "
                                 "(snapshot_format: BINARYPROTO, or Net.save), or rename the layer" % name)
            for top, arrays in (("data", data), ("diff", diff)):
                if arrays is None:
                    continue
                group = f.require_group(top).create_group(name)
                for i, array in enumerate(arrays):
                    if array is not None:
                        group.create_dataset(str(i), data=array, dtype=np.float32)


def write_solver_state(path: str, state: SolverState) -> None:
    """Write a solverstate to a new file; OSError if it cannot be written."""
    with _new_file(path) as f:
        f.create_dataset("iter", data=np.array([state.iter], np.int32))
        kind = h5py.h5t.C_S1.copy()  # a C string, zero at its end: H5LTread_dataset_string wants one
        text = os.fsencode(state.learned_net) + b"\0"
        kind.set_size(len(text))
        kind.set_strpad(h5py.h5t.STR_NULLTERM)
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5d.create(f.id, b"learned_net", kind, scalar).write(scalar, scalar, np.array(text), kind)
        f.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        history = f.create_group("history")
        for i, (_, values) in enumerate(state.history):
            history.create_dataset(str(i), data=values, dtype=np.float32)


class _Sink(io.FileIO):
    """A file that never fails while HDF5 writes to it, and remembers why it should have.

    The library, told that a disk is full, cannot close its file any more, complains at every object it drops and may
    take the process with it. So it is let finish, and the first error is raised afterwards.
    """

    def __init__(self, path: str):
        super().__init__(path, "w+b")
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        """All of data, as h5py wants, or as if."""
        rest = memoryview(data)
        while len(rest) and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as e:
                self.error = e
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """The file's new end, or as if."""
        try:
            return super().truncate(size)
        except OSError as e:
            self.error = self.error or e
            return size or 0


@contextmanager
def _new_file(path: str) -> Iterator[h5py.File]:
    with _Sink(path) as sink:
        with h5py.File(sink, "w") as f:
            yield f
        if sink.error is not None:
            raise sink.error


class _File:
    """An open file whose parts are asked for by name and kind; what is not there, or breaks, is a CaffeError."""

    def __init__(self, path: str, kind: str):
        self.path, self.kind = path, kind

    def open(self) -> None:
        """Open it; it is closed with the last object that came from it, or at the end of a `with` block."""
        try:
            _check_heaps(self.path)
            self.file = h5py.File(self.path, "r")
        except (OSError, RuntimeError) as e:
            raise CaffeError("%s: wanted an HDF5 %s; it cannot be opened: %s" % (self.path, self.kind, e)) from e

    @contextmanager
    def damage(self) -> Iterator[None]:
        """What HDF5 says of a damaged file, as a CaffeError."""
        try:
            yield
        except CaffeError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as e:
            raise CaffeError("%s: wanted an HDF5 %s; it is damaged: %s" % (self.path, self.kind, e)) from e

    def __enter__(self) -> _File:
        self.open()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            self.file.close()
        except (OSError, RuntimeError):
            pass  # nothing was written; a damaged file may fail to close
        if error is not None:
            with self.damage():
                raise error

    def group(self, name: str) -> h5py.Group:
        """The group of this name at the top."""
        found = self.file.get(name)
        if not isinstance(found, h5py.Group):
            raise CaffeError("%s: wanted an HDF5 %s, which has a group /%s; it has %s"
                             % (self.path, self.kind, name, ", ".join(self.file) or "nothing"))
        return found

    def dataset(self, name: str) -> h5py.Dataset:
        """The dataset of this name at the top."""
        found = self.file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise CaffeError("%s: wanted an HDF5 %s, which has a dataset /%s; it has %s"
                             % (self.path, self.kind, name, ", ".join(self.file) or "nothing"))
        return found

    def integer(self, name: str) -> int:
        """The one integer of the dataset of this name."""
        found = self.dataset(name)
        if found.size != 1 or found.dtype.kind not in "iu":
            raise CaffeError("%s: /%s holds %s values of type %s, wanted one integer"
                             % (self.path, name, found.size, found.dtype))
        return int(np.ravel(found[()])[0])


def _check_heaps(path: str) -> None:
    """OSError for a file whose list of free places in a group's names leads in a circle.

    The library (HDF5 2.0 and before) would follow it for ever, taking memory at each step; other damage it notices by
    itself. A heap begins with HEAP and a version of 0, at a multiple of 8; behind that are the size of its names, where the
    first free place is among them (1: there is none), and where they lie; a free place says where the next one is.
    """
    with open(path, "rb", buffering=0) as f:
        size, at, piece = os.fstat(f.fileno()).st_size, 0, bytearray(1 << 20)
        while n := f.readinto(piece):
            for index in np.flatnonzero(np.frombuffer(piece, "<u8", n // 8) == HEAP):
                start = at + 8 * int(index)
                header = os.pread(f.fileno(), 32, start)
                names, free, begin = struct.unpack("<8xQQQ", header) if len(header) == 32 else (0, 1, 0)
                steps = names // 16
                while free != 1 and begin + names <= size:
                    place = os.pread(f.fileno(), 16, begin + free) if free + 16 <= names else b""
                    if len(place) < 16 or not steps:
                        raise OSError("the names of a group (heap at byte %d) have a list of free places that does not end"
                                      % start)
                    free, steps = struct.unpack_from("<Q", place)[0], steps - 1
            at += n


def _numbered(f: _File, parent: h5py.Group, name: str) -> list[Stored | None]:
    """The datasets 0, 1, ... of a group, None for a missing one."""
    group = parent.get(name)
    if not isinstance(group, h5py.Group) or not all(
            isinstance(key, str) and key.isdecimal() and len(key) < 6 for key in group):
        raise CaffeError("%s: wanted in %s/%s a group of arrays named 0, 1, ..."
                         % (f.path, parent.name.rstrip("/"), name))
    found: list[Stored | None] = [None] * (1 + max((int(key) for key in group), default=-1))
    for key in group:
        dataset = group[key]
        if not isinstance(dataset, h5py.Dataset):
            raise CaffeError("%s: %s/%s is no array of numbers" % (f.path, group.name, key))
        _check(f, dataset, WEIGHTS)
        found[int(key)] = Stored(f, dataset)
    return found


class Stored:
    """One array of a file, whose numbers are still there, as wire.Stored."""

    def __init__(self, f: _File, dataset: h5py.Dataset):
        self.shape: tuple[int, ...] = tuple(dataset.shape)
        self._file, self._dataset = f, dataset

    @property
    def values(self) -> np.ndarray:
        """The numbers, as a float32 array of its own. CaffeError if the file is damaged."""
        with self._file.damage():  # numpy has no arrays of shape (0, 2**62, 4)
            array = np.empty(self.shape, np.float32)
        self.copy_to(array)
        return array

    def copy_to(self, array: np.ndarray) -> None:
        """Read the numbers into a C-contiguous float32 array of as many elements. CaffeError as in `values`."""
        with self._file.damage():
            if array.size:  # of nothing, there is nothing to select
                self._dataset.read_direct(array.reshape(self.shape))


def _values(f: _File, dataset: h5py.Dataset, ratio: int) -> np.ndarray:
    """A dataset as float32. CaffeError as in _check."""
    _check(f, dataset, ratio)
    return np.asarray(dataset[()], np.float32)


def _check(f: _File, dataset: h5py.Dataset, ratio: int) -> None:
    """CaffeError if a dataset is none of numbers, or says it is larger than `ratio` times the file."""
    if dataset.dtype.kind not in "fiu":
        raise CaffeError("%s: %s is no array of numbers, its type is %s" % (f.path, dataset.name, dataset.dtype))
    size = os.path.getsize(f.path)
    if dataset.nbytes > ratio * size:
        raise CaffeError("%s: %s says its shape is %s, which a file of %d bytes cannot hold"
                         % (f.path, dataset.name, dataset.shape, size))
