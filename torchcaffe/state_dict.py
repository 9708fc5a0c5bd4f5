"""A net's parameters under PyTorch's names, `conv1_1.weight`: from any state dict by layer name, and safetensors files.

The name is the layer's, a dot, and what the layer calls the blob (Layer.param_names). No file with code in it is read:
PyTorch's own files are pickles; torch.load(path, weights_only=True) makes a state dict of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from torchcaffe import files
from torchcaffe.blob import Blob, Memory
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer
from torchcaffe.net import Net
from torchcaffe.packages import need

# torch.nn.BatchNorm keeps averages, Caffe sums and their weight: an average is a sum of weight 1.
AVERAGES = {"running_mean": "mean_sum", "running_var": "variance_sum"}
KINDS = (("copied", 8), ("coerced", 24), ("dropped", 24), ("left", 24))  # and how many of each str(Report) names


@dataclass
class Report:
    """What happened to parameters: (name, number of values) of each kind; str() of it is a few lines.

    copied: as they are. coerced: as many values, another shape. dropped: of the source, without a place in the net.
    left: of the net, without a source, so still what they were. The words of tools/surgery.py.
    """

    title: str
    copied: list[tuple[str, int]] = field(default_factory=list)
    coerced: list[tuple[str, int]] = field(default_factory=list)
    dropped: list[tuple[str, int]] = field(default_factory=list)
    left: list[tuple[str, int]] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many values are of this kind."""
        return sum(number for _, number in getattr(self, kind))

    def __str__(self) -> str:
        lines = ["%s: values %s" % (self.title, ", ".join(f"{k} {self.count(k):,}" for k, _ in KINDS))]
        for kind, most in KINDS:
            names = [name for name, _ in getattr(self, kind)]
            if names:
                lines.append("  %-7s %2d blobs: %s%s" % (kind, len(names), ", ".join(names[:most]),
                                                         ", ..." if len(names) > most else ""))
        return "\n".join(lines)


@dataclass(frozen=True)
class Entry:
    """One parameter blob of a net."""

    layer: Layer
    blob: Blob
    learned: bool  # False for running statistics and where lr_mult is 0
    statistic: bool


def entries(net: Net) -> dict[str, Entry]:
    """Name -> parameter blob, in the order of the layers.

    A blob shared between layers has a name for each; under another shape (share_mode: PERMISSIVE) only its owner's.
    CaffeError if two layers with parameters have one name.
    """
    rates = {blob.memory: rate for blob, rate in zip(net.learnable_params, net.params_lr)}
    found: dict[str, Entry] = {}
    shapes: dict[Memory, tuple[int, ...]] = {}
    for name, layer in zip(net.layer_names, net.layers):
        for k, blob in enumerate(layer.blobs):
            memory = blob.memory
            if shapes.setdefault(memory, blob.shape) != blob.shape:
                continue
            part = layer.param_names[k] if k < len(layer.param_names) else str(k)
            key = "%s.%s" % (name, part)
            if key in found:
                raise CaffeError(layer.describe("another layer of the net has this name and parameters, too; rename one"))
            statistic = part in layer.statistic_names
            found[key] = Entry(layer, blob, not statistic and rates.get(memory, 1) != 0, statistic)
    return found


def state_dict(net: Net) -> dict[str, torch.Tensor]:
    """Name -> a copy of the parameter, on the device the net computes on."""
    return {key: entry.blob.value.clone() for key, entry in entries(net).items()}


def load_state_dict(net: Net, state: Mapping[str, object], mapping: Mapping[str, str | None] | None = None) -> Report:
    """Copy the arrays of a state dict (tensors or numpy arrays) into the net's parameters of the same names.

    `mapping` says what the source's names are here: of a layer ("features.0": "conv1_1") or of one array
    ("bn1.weight": "scale1.weight"), None to drop it; the longest one that fits counts. An array with as many values but
    another shape is coerced, flat: so fully connected weights become convolution kernels. running_mean and running_var of
    PyTorch's batch normalization go into a BatchNorm layer as sums of weight 1.

    CaffeError, and nothing is changed, if numbers of values differ, two arrays have one place, the mapping names what is
    not there, or no array has a place at all.
    """
    ours, todo = entries(net), {}
    report = Report("load_state_dict")
    arrays = {key: _array(key, value) for key, value in state.items()}
    places = _places(arrays, ours, dict(mapping or {}))
    for key, array in arrays.items():
        place = places[key]
        if place not in ours:
            report.dropped.append((key, array.numel()))
            continue
        if place in todo:
            raise CaffeError("load_state_dict: '%s' and '%s' are both to become '%s'; drop one by mapping it to None"
                             % (todo[place][0], key, place))
        todo[place] = key, array
    for place in [p for p in todo if p.endswith(".mean_sum") or p.endswith(".variance_sum")]:
        weight = place.rpartition(".")[0] + ".sum_weight"
        if weight in ours and weight not in todo and todo[place][0].rpartition(".")[2] in AVERAGES:
            todo[weight] = todo[place][0], torch.ones(1)
    wrong = ["%s %s for %s %s" % (key, tuple(array.shape), place, ours[place].blob.shape)
             for place, (key, array) in todo.items() if array.numel() != ours[place].blob.count]
    if wrong:
        raise CaffeError("load_state_dict: numbers of values differ: %s. Nothing was changed. Drop these by mapping them to "
                         "None, or use a net whose layers fit" % "; ".join(wrong))
    if not todo:
        raise CaffeError("load_state_dict: none of the %d names fits, such as %s; the net has %s. Give a mapping from "
                         "their layers' names to the net's" % (
                             len(arrays), ", ".join(list(arrays)[:3]), ", ".join(list(ours)[:3])))
    for place, (key, array) in todo.items():
        blob = ours[place].blob
        if tuple(array.shape) == blob.shape:
            report.copied.append((place, blob.count))
        else:
            report.coerced.append(("%s %s -> %s" % (key, tuple(array.shape), blob.shape), blob.count))
        blob.data[...] = array.numpy().reshape(blob.shape)
    reached = {ours[place].blob.memory for place in todo}
    report.left = [(k, e.blob.count) for k, e in ours.items() if e.blob.memory not in reached]
    return report


def _array(key: str, value: object) -> torch.Tensor:
    """A float32 tensor on the host."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    if not isinstance(value, torch.Tensor):
        raise CaffeError("load_state_dict: '%s' is a %s, wanted a tensor or array; if it is the state dict itself, pass that"
                         % (key, type(value).__name__))
    return value.detach().to("cpu", torch.float32)


def _places(arrays: Mapping[str, torch.Tensor], ours: Mapping[str, Entry],
            mapping: Mapping[str, str | None]) -> dict[str, str | None]:
    """Where each array goes, by name; a name that the net does not have, or None, if nowhere."""
    layers = {name.rpartition(".")[0] for name in ours}
    strange = [t for t in mapping.values() if t is not None and t not in ours and t not in layers]
    if strange:
        raise CaffeError("load_state_dict: the mapping leads to %s, which the net does not have; it has the layers %s"
                         % (", ".join(repr(t) for t in strange), ", ".join(sorted(layers))))
    places: dict[str, str | None] = {}
    used = set()
    for key in arrays:
        source, place = key, key
        while source not in mapping and "." in source:
            source = source.rpartition(".")[0]
        if source in mapping:
            used.add(source)
            target = mapping[source]
            place = None if target is None else target + key[len(source):]
        layer, _, part = (place or "").rpartition(".")
        if place not in ours and part in AVERAGES and "%s.%s" % (layer, AVERAGES[part]) in ours:
            place = "%s.%s" % (layer, AVERAGES[part])
        places[key] = place
    unused = [name for name in mapping if name not in used]
    if unused:
        raise CaffeError("load_state_dict: the mapping names %s, which no array fits; the source has %s%s" % (
            ", ".join(repr(n) for n in unused), ", ".join(list(arrays)[:8]), ", ..." if len(arrays) > 8 else ""))
    return places


# -- files -------------------------------------------------------------------------------------------------------------
def write_safetensors(path: str, net: Net, metadata: Mapping[str, str] | None = None) -> None:
    """Write the net's parameters as a safetensors file; its metadata say what wrote it, the net's name, and `metadata`.

    CaffeError, and nothing is left, if it cannot. Needs the package safetensors.
    """
    safetensors = need("safetensors.numpy", "writing %s" % path)
    arrays = {key: entry.blob.value.cpu().numpy() for key, entry in entries(net).items()}
    facts = {"format": "pt", "producer": "torchcaffe", "net": net.name, **(metadata or {})}

    def write(temporary: str) -> None:
        try:
            safetensors.save_file(arrays, temporary, facts)
        except need("safetensors", "").SafetensorError as e:
            raise OSError(str(e)) from e

    files.write_by_name(path, write)


def read_safetensors(path: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. CaffeError if it is none. Needs the package safetensors."""
    safetensors = need("safetensors", "reading %s" % path)
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            return {key: f.get_tensor(key) for key in f.keys()}, dict(f.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as e:
        raise CaffeError("%s: cannot be read as safetensors: %s" % (path, e)) from e
