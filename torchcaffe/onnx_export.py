"""A net as an ONNX file, layer by layer: tensors are called as Caffe's blobs, weights as in state_dict.py.

Which sizes are left open follows from the net itself: other sizes of each input axis are tried, and it stays open if all
layers take one. So an FCN's images may have any size and number, a classifier's any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torchcaffe.onnx_layers  # noqa: F401  fills EXPORTERS
from torchcaffe import __version__, files, forks
from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, Shape
from torchcaffe.layers.data import DummyData, Source
from torchcaffe.module import needed_layers
from torchcaffe.net import AUTOMATIC, Net
from torchcaffe.onnx_graph import EXPORTERS, OPSET, Graph, NeedsFixedSize, Value, refuse
from torchcaffe.packages import need
from torchcaffe.state_dict import entries

IR_VERSION = 8  # of 2021, which goes with OPSET
LIMIT = 2**31 - 1  # bytes of one protobuf message
LABELLED = "it compares with labels, which a net in use has none of; export the deploy net, or name the outputs wanted"
NO_FORM = {"Accuracy": LABELLED, "HDF5Output": "it writes a file; name the outputs wanted",
           "Python": "its code is Python; replace it by a layer of Caffe, or name outputs that come before it"}
FILTERED = "items"  # what the axis varies with that Filter shortens


def export_onnx(net: Net, path: str, outputs: Sequence[str] | None = None, dynamic: bool = True,
                metadata: Mapping[str, str] | None = None) -> dict[str, list[int | str]]:
    """Write the net as an ONNX file that computes `outputs` (blob names; default: the net's) from the inputs these need.

    The inputs are the tops of Input and data layers; the layers are those that these outputs need, in the phase the net
    was built for. Returns {input: its shape}, open sizes by name (N, C, H and W where there are four axes). With `dynamic`
    False all sizes are as they are now. The file's metadata say what wrote it, the net's name, and `metadata`.

    CaffeError, and no file, for a layer that has no ONNX form (losses, Python layers, what draws random numbers), naming it.
    Needs the package onnx.
    """
    onnx = need("onnx", "writing %s" % path)
    if forks.enabled():
        import torchcaffe.extras.onnx_layers  # noqa: F401  adds to EXPORTERS
    wanted = list(dict.fromkeys([n for n in net.outputs if n != AUTOMATIC] if outputs is None else outputs))
    absent = [name for name in wanted if name not in net.blobs]
    if absent or not wanted:
        raise CaffeError("export_onnx: %s; the net has %s" % (
            "there is no blob " + ", ".join(map(repr, absent)) if absent else "there are no outputs", ", ".join(net.blobs)))
    layers = needed_layers(net, None if outputs is None else wanted)
    for i in layers:
        _check(net.layers[i])
    frozen: set[str] = set()
    while True:
        sizes = _Sizes(net, layers, wanted, frozen if dynamic else None)
        try:
            model = _model(onnx, net, layers, wanted, sizes)
            break
        except NeedsFixedSize as e:  # once more, with these sizes fixed
            reasons = set().union(*(sizes.varying[e.value.blob].get(axis, ()) for axis in e.axes))
            if FILTERED in reasons:
                raise CaffeError("export_onnx: blob '%s' has as many items as Filter lets through, and a layer that reads "
                                 "it needs a fixed number" % e.value.name) from e
            frozen |= reasons
    onnx.helper.set_model_props(model, {"net": net.name, **(metadata or {})})
    if model.ByteSize() > LIMIT:
        raise CaffeError("%s: the net has %d bytes, an ONNX file at most %d" % (path, model.ByteSize(), LIMIT))

    def write(temporary: str) -> None:
        onnx.save_model(model, temporary, format="protobuf")
        onnx.checker.check_model(temporary, full_check=True)

    files.write_by_name(path, write)
    return {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}


def _check(layer: Layer) -> None:
    """CaffeError if the layer has no ONNX form whatever its parameters."""
    if _is_input(layer):
        return
    if layer.is_loss or layer.type in NO_FORM:
        raise refuse(layer, LABELLED if layer.is_loss else NO_FORM[layer.type])
    if layer.type not in EXPORTERS:
        raise refuse(layer, "no form is known for its type; name outputs that come before it")


def _is_input(layer: Layer) -> bool:
    """Whether the layer's tops become inputs: they are the user's, or come from files."""
    return not layer.layer_param.bottom and (
        (isinstance(layer, Source) and not isinstance(layer, DummyData)) or layer.type == "Python")


# -- sizes -------------------------------------------------------------------------------------------------------------
class _Sizes:
    """Which axes of which blobs vary, and with which open axis of the inputs.

    `wanted`: the outputs. `frozen`: names of open axes that shall stay as they are; None: all of them.
    """

    def __init__(self, net: Net, layers: list[int], wanted: list[str], frozen: set[str] | None):
        self.net, self.layers = net, layers
        read = {blob for i in layers for blob in net.bottom_vecs[i]} | {net.blobs[name] for name in wanted}
        self.sources = {blob: name for i in layers if _is_input(net.layers[i])
                        for blob, name in zip(net.top_vecs[i], net.layers[i].layer_param.top) if blob in read}
        self.shapes = {blob: blob.shape for i in layers for blob in net.top_vecs[i]}
        self.varying: dict[Blob, dict[int, set[str]]] = {blob: {} for blob in self.shapes}
        self.names: dict[tuple[Blob, int], str] = {}  # open axes of sources
        self.open: dict[str, int] = {}  # name -> the size it was tried with
        with _unchanged(net.layers[i] for i in layers):
            self.tried = self._try({})
            if any(net.layers[i].type == "Filter" for i in layers):
                self._open(FILTERED, [], (1,))
                if FILTERED not in self.open:
                    raise CaffeError("export_onnx: a layer that follows Filter does not take another number of items")
            for name, axes in {} if frozen is None else self._candidates().items():
                if name not in frozen and not self._open(name, axes):
                    for blob, axis in axes[1:] and axes:  # not together, so perhaps one by one
                        alone = "%s_%s" % (name, self.sources[blob])
                        if alone not in frozen:
                            self._open(alone, [(blob, axis)])

    def _candidates(self) -> dict[str, list[tuple[Blob, int]]]:
        """Axes of the sources by name; those of one place and one size have one name."""
        found: dict[str, list[tuple[Blob, int]]] = {}
        sizes: dict[str, int] = {}
        for blob, source in self.sources.items():
            for axis, size in enumerate(blob.shape):
                name = "NCHW"[axis] if len(blob.shape) == 4 else "axis%d" % axis if axis else "N"
                if sizes.setdefault(name, size) != size:
                    name = "%s_%s" % (name, source)
                found.setdefault(name, []).append((blob, axis))
        return found

    def _open(self, name: str, axes: list[tuple[Blob, int]], others: Sequence[int] = ()) -> bool:
        """Leave these axes open if the layers take another size; says whether they do.

        64 more keeps what strides and halvings leave over, twice as much what equal parts do.
        """
        size = axes[0][0].shape[axes[0][1]] if axes else 0
        self.names.update((place, name) for place in axes)
        before, taken = self.tried, None
        for other in others or ((size + 1, 2 * size) if axes[0][1] == 0 else (size + 64, 2 * size, size + 1, size + 192)):
            try:
                tried = self._try({**self.open, name: other})
            except CaffeError:
                continue
            for blob, shape in tried.items():
                for axis, (a, b) in enumerate(zip(shape, before[blob])):
                    if a != b:
                        self.varying[blob].setdefault(axis, set()).add(name)
            if taken is None:
                self.tried, taken = tried, other
        if taken is None:
            for place in axes:
                del self.names[place]
            return False
        self.open[name] = taken
        return True

    def _try(self, sizes: Mapping[str, int]) -> dict[Blob, Shape]:
        """The shapes of all blobs with these sizes of open axes. CaffeError if a layer refuses."""
        blobs: dict[Blob, Blob] = {}
        for i in self.layers:
            layer, bottom, top = self.net.layers[i], self.net.bottom_vecs[i], self.net.top_vecs[i]
            for blob in top:
                if blob not in blobs:
                    blobs[blob] = Blob(*(sizes.get(self.names.get((blob, axis), ""), size)
                                         for axis, size in enumerate(blob.shape)))
            if not isinstance(layer, Source) and bottom:
                layer.reshape([blobs[b] for b in bottom], [blobs[t] for t in top])
            for blob in top if layer.type == "Filter" else ():  # how many items it lets through is not known
                blobs[blob].reshape(blob.shape[0] + sizes.get(FILTERED, 0), *blobs[blob].shape[1:])
        return {blob: other.shape for blob, other in blobs.items()}

    def value(self, name: str, blob: Blob) -> Value:
        """A tensor with the sizes of this blob."""
        return Value(name, blob, self.shapes[blob], frozenset(self.varying[blob]))

    def dims(self, blob: Blob) -> list[int | str | None]:
        """The blob's sizes as the file states them: numbers, open axes by name, and None for what follows from these."""
        dims: list[int | str | None] = []
        for axis, size in enumerate(self.shapes[blob]):
            reasons, name = self.varying[blob].get(axis, set()), None
            for place, open_name in self.names.items():
                if reasons == {open_name} and (size, self.tried[blob][axis]) == (
                        self.shapes[place[0]][place[1]], self.open[open_name]):
                    name = open_name
            dims.append(name if reasons else size)
        return dims


@contextmanager
def _unchanged(layers: Iterator[Layer]) -> Iterator[None]:
    """Afterwards, the layers keep what they kept before: trying sizes leaves no trace."""
    before = [(layer, dict(vars(layer))) for layer in layers]
    states = [(blob, blob.parts) for _, attributes in before for value in attributes.values() if isinstance(value, list)
              for blob in value if isinstance(blob, Blob)]
    try:
        yield
    finally:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)
        for blob, parts in states:
            blob.parts = parts


# -- the graph ---------------------------------------------------------------------------------------------------------
def _model(onnx, net: Net, layers: list[int], wanted: list[str], sizes: _Sizes):
    """The ONNX model. Raises NeedsFixedSize."""
    names = {entry.blob.memory: key for key, entry in reversed(entries(net).items())}
    graph = Graph(names, list(net.blobs))
    last = {blob: i for i in layers for blob in net.top_vecs[i]}
    values: dict[Blob, Value] = {}
    for i in layers:
        layer, top = net.layers[i], net.top_vecs[i]
        if _is_input(layer):
            values.update((blob, sizes.value(name, blob)) for blob, name in zip(top, layer.layer_param.top))
            continue
        first, graph.layer = len(graph.nodes), net.layer_names[i]
        results = EXPORTERS[layer.type](graph, layer, [values[b] for b in net.bottom_vecs[i]],
                                        [sizes.value("", blob) for blob in top])
        for blob, name, result in zip(top, layer.layer_param.top, results):
            result = result.name if isinstance(result, Value) else result
            if last[blob] != i or blob in sizes.sources:  # what a later layer overwrites, or an input's own name
                name = graph.unique("%s/%s" % (name, net.layer_names[i]))
            values[blob] = sizes.value(name if graph.rename(result, name, first) else result, blob)
            if blob in net.bottom_vecs[i]:
                _overwrite(graph, sizes, values, blob)
    outputs = [_output(graph, sizes, values[net.blobs[name]], name) for name in wanted]
    info = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    inputs = [info(name, kind, sizes.dims(blob)) for blob, name in sizes.sources.items()]
    outputs = [info(value.name, kind, sizes.dims(value.blob)) for value in outputs]
    return onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, list(graph.constants.values())),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="torchcaffe",
        producer_version=__version__)


def _overwrite(graph: Graph, sizes: _Sizes, values: dict[Blob, Value], blob: Blob) -> None:
    """What a layer writes in place, blobs see too that share its memory: the bottom of a Flatten before it, say."""
    for other, value in list(values.items()):
        if other is not blob and other.memory is blob.memory:
            new = values[blob].name
            if other.shape != blob.shape:
                new = graph.reshape(values[blob], [graph.size(value, axis) for axis in range(len(other.shape))])
            values[other] = sizes.value(new, other)


def _output(graph: Graph, sizes: _Sizes, value: Value, name: str) -> Value:
    """The value under the blob's name; if that is an input's, under its own."""
    computed = any(value.name in node.output for node in graph.nodes)
    if computed and (value.name == name or value.blob in sizes.sources):
        return value
    graph.layer = name
    first, copied = len(graph.nodes), graph.node("Identity", value)
    if value.blob in sizes.sources:
        name = graph.unique(name + "/output")
    graph.rename(name, graph.unique(name + "/before"), 0)  # the blob as it was before it was overwritten
    graph.rename(copied, name, first)
    return sizes.value(name, value.blob)
