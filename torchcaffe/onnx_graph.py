"""What ONNX graphs are made of: values with their sizes, nodes, constants; and arithmetic of sizes known only at run time.

The functions of onnx_layers/ write a layer each in these terms; onnx_export.py calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, Shape
from torchcaffe.packages import need

OPSET = 17  # of 2022, which every runtime in use reads
Dim = int | str  # a size, or the name of an int64 tensor of shape (1,) that holds it at run time


@dataclass(frozen=True)
class Value:
    """A blob's tensor: its name, its shape when exported, and which of its axes may have other sizes at run time."""

    name: str
    blob: Blob
    shape: Shape
    varying: frozenset[int]


Exporter = Callable[["Graph", Layer, list[Value], list[Value]], "Sequence[Value | str]"]
EXPORTERS: dict[str, Exporter] = {}


def exports(*types: str) -> Callable[[Exporter], Exporter]:
    """Function decorator: it writes layers of these types. (graph, layer, bottoms, tops) -> the tops' tensors, in order.

    The tops it is given have their shapes and varying axes already.
    """

    def register(function: Exporter) -> Exporter:
        EXPORTERS.update(dict.fromkeys(types, function))
        return function

    return register


class NeedsFixedSize(Exception):
    """A layer can only be written for fixed sizes of these axes of a bottom."""

    def __init__(self, value: Value, axes: Sequence[int]):
        super().__init__(value, axes)
        self.value, self.axes = value, axes


class Graph:
    """The nodes and constants of a graph as it grows. `names`: parameter blob memory -> name in state dicts."""

    def __init__(self, names: dict[object, str], taken: Sequence[str]):
        self.onnx = need("onnx", "exporting to ONNX")
        self.nodes: list = []
        self.constants: dict[str, object] = {}
        self.layer = ""  # whose nodes are being written
        self._names = names
        self._taken = set(taken)
        self._known: dict[object, str] = {}

    # -- nodes -----------------------------------------------------------------------------------------------------------
    def node(self, op: str, *inputs: Value | str, **attributes: object) -> str:
        """Append a node with one output; its name."""
        return self.node_of(1, op, *inputs, **attributes)[0]

    def node_of(self, outputs: int, op: str, *inputs: Value | str, **attributes: object) -> list[str]:
        """Append a node with several outputs; their names."""
        names = [self.unique("%s:%s" % (self.layer, op)) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, [i.name if isinstance(i, Value) else i for i in inputs], names,
                                                     name=self.unique("%s:%s node" % (self.layer, op)), **attributes))
        return names

    def unique(self, name: str) -> str:
        """This name, or one like it if it is taken."""
        tried, i = name, 2
        while tried in self._taken:
            tried, i = "%s_%d" % (name, i), i + 1
        self._taken.add(tried)
        return tried

    def rename(self, old: str, new: str, first: int) -> bool:
        """Give an output of nodes[first:] another name; whether there is such an output."""
        found = False
        for node in self.nodes[first:]:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new
            found = found or new in node.output
        return found

    # -- constants ---------------------------------------------------------------------------------------------------------
    def constant(self, array: np.ndarray, name: str) -> str:
        """A constant under this name, or one like it; its name."""
        name = self.unique(name)
        self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def _small(self, array: np.ndarray) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.constant(array, "constant")
        return self._known[key]

    def floats(self, values: object) -> str:
        """A float32 constant."""
        return self._small(np.asarray(values, np.float32))

    def ints(self, values: object) -> str:
        """An int64 constant."""
        return self._small(np.asarray(values, np.int64))

    def param(self, blob: Blob, shape: Shape | None = None, transpose: bool = False) -> str:
        """A parameter blob as a constant, perhaps in another shape or, of two axes, transposed."""
        shape = blob.shape if shape is None else shape
        key = (blob.memory, shape, transpose)
        if key not in self._known:
            array = blob.value.detach().cpu().numpy().reshape(shape)
            self._known[key] = self.constant(array.T if transpose else array, self._names[blob.memory])
        return self._known[key]

    # -- sizes -------------------------------------------------------------------------------------------------------------
    def size(self, value: Value, axis: int) -> Dim:
        """The size of an axis."""
        axis %= len(value.shape)
        if axis not in value.varying:
            return value.shape[axis]
        return self.measured(value.name, axis)

    def measured(self, name: str, axis: int) -> str:
        """The size of a tensor's axis as it is at run time."""
        if (name, axis) not in self._known:
            if (name, "shape") not in self._known:
                self._known[name, "shape"] = self.node("Shape", name)
            self._known[name, axis] = self.node("Gather", self._known[name, "shape"], self.ints([axis]))
        return self._known[name, axis]

    def fixed(self, value: Value, axes: Sequence[int]) -> list[int]:
        """The sizes of these axes, for layers that cannot be written for others."""
        if value.varying.intersection(axes):
            raise NeedsFixedSize(value, axes)
        return [value.shape[axis] for axis in axes]

    def tensor(self, dims: Sequence[Dim]) -> str:
        """Sizes as one int64 tensor."""
        if all(isinstance(d, int) for d in dims):
            return self.ints(list(dims))
        return self.node("Concat", *(self.ints([d]) if isinstance(d, int) else d for d in dims), axis=0)

    def calculate(self, op: str, a: Dim, b: Dim) -> Dim:
        """Add, Sub, Mul, Div (down; of numbers that are not negative) or Max of two sizes; at once where both are known."""
        if isinstance(a, int) and isinstance(b, int):
            return {"Add": a + b, "Sub": a - b, "Mul": a * b, "Max": max(a, b)}[op] if op != "Div" else a // b
        return self.node(op, *(self.ints([d]) if isinstance(d, int) else d for d in (a, b)))

    # -- what many layers need ---------------------------------------------------------------------------------------------
    def reshape(self, x: Value | str, dims: Sequence[Dim]) -> str:
        """x in this shape; one size may be -1, what is left."""
        return self.node("Reshape", x, self.tensor(dims))

    def unsqueeze(self, x: Value | str, *axes: int) -> Value | str:
        """x with axes of size 1 at these places of the result."""
        return self.node("Unsqueeze", x, self.ints(list(axes))) if axes else x

    def squeeze(self, x: Value | str, *axes: int) -> str:
        """x without these axes of size 1."""
        return self.node("Squeeze", x, self.ints(list(axes)))

    def affine(self, x: Value | str, scale: float = 1.0, shift: float = 0.0) -> Value | str:
        """scale * x + shift."""
        if scale != 1:
            x = self.node("Mul", x, self.floats(scale))
        return self.node("Add", x, self.floats(shift)) if shift else x

    def cast(self, x: Value | str, kind: str) -> str:
        """x as FLOAT, INT64 or BOOL."""
        return self.node("Cast", x, to=getattr(self.onnx.TensorProto, kind))


def refuse(layer: Layer, why: str) -> CaffeError:
    """An error that says which layer cannot be exported and why."""
    return CaffeError(layer.describe("cannot be exported to ONNX: %s" % why))
