"""Layer: what every layer is (include/caffe/layer.hpp), and the catalogue of layer types.

A layer of the engine is one small class:

    @register
    class TanH(Layer):
        def function(self, x):
            return torch.tanh(x)

`shape` says what the tops' shapes are (default: like bottom 0), `function` computes tops from bottoms and parameters as
torch tensors. The gradient comes from calculus: `backward` differentiates `function` at the bottoms' present data, so it
keeps no state between passes, as in Caffe. A layer overrides `backward` only where Caffe differs from calculus, where it
must work in place, or where recomputing would be slow.

Layers in Python (`caffe.Layer`) are subclasses too, which override setup, reshape, forward and backward themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch

from torchcaffe import filler, forks
from torchcaffe.blob import Blob, same_shape
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

Shape = tuple[int, ...]

CATALOGUE: dict[str, type[Layer]] = {}
EXTRAS: dict[str, type[Layer]] = {}  # those of Caffe's forks (torchcaffe/extras), which are off unless switched on


def register(cls: type[Layer]) -> type[Layer]:
    """Class decorator: the class name is the layer type of prototxts."""
    return _register(cls, CATALOGUE)


def register_extra(cls: type[Layer]) -> type[Layer]:
    """Class decorator for a layer type that BVLC's Caffe does not have; forks.FORKS says whose it is."""
    return _register(cls, EXTRAS)


def _register(cls: type[Layer], types: dict[str, type[Layer]]) -> type[Layer]:
    if cls.__name__ in CATALOGUE or cls.__name__ in EXTRAS:
        raise CaffeError("layer type %s is registered twice" % cls.__name__)
    types[cls.__name__] = cls
    return cls


class BlobVec(list):
    """A layer's parameter blobs; Python layers add theirs with add_blob(*shape)."""

    def add_blob(self, *shape: int) -> Blob:
        """Append a zero blob of this shape and return it."""
        self.append(Blob(*shape))
        return self[-1]


class Layer:
    """Base of all layers.

    Class attributes declare what layer.hpp's CheckBlobCounts checks: `bottoms` and `tops` are (at least, at most) counts,
    None meaning no upper bound; `same_count` that there are as many tops as bottoms. `auto_top_blobs` lets the net add
    anonymous tops up to the least count, as losses without a named top need.
    """

    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    same_count: ClassVar[bool] = False
    auto_top_blobs: ClassVar[bool] = False
    is_loss: ClassVar[bool] = False  # a loss's first top has loss_weight 1 unless the prototxt says otherwise
    # What state dicts call the parameter blobs, in their order (further ones by their number), and which of them are no
    # parameters that a solver changes but running statistics. A layer may set param_names in setup.
    param_names: Sequence[str] = ("weight", "bias")
    statistic_names: ClassVar[Sequence[str]] = ()

    def __init__(self, layer_param: caffe_pb2.LayerParameter):
        self.layer_param = layer_param
        self.phase: int = layer_param.phase
        self.blobs = BlobVec()
        # Whether to compute each parameter's gradient; the net sets it from lr_mult and force_backward.
        self.param_propagate_down: list[bool] = []

    @property
    def type(self) -> str:
        """The layer type, as in the prototxt."""
        return self.layer_param.type

    @classmethod
    def create(cls, layer_param: caffe_pb2.LayerParameter) -> Layer:
        """An object for this definition; Python layers override it to import their module."""
        return cls(layer_param)

    # -- what a layer defines ----------------------------------------------------------------------------------------
    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Once: read and check the layer's parameters, create self.blobs. Bottoms have their shapes."""

    def shape(self, *bottom: Shape) -> Sequence[Shape]:
        """The tops' shapes from the bottoms'; the default is bottom 0's shape for every top."""
        return [bottom[0]] * self.tops[0]

    def function(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Tops from bottoms followed by parameters. Must not return a view of an input, except where Caffe shares data."""
        raise CaffeError("layer type %s defines neither function nor forward" % type(self).__name__)

    def fits(self, blob: Blob, shape: Shape) -> bool:
        """Whether a file's array of this shape can be parameter `blob`: equal shapes, but for old files' leading 1s."""
        return blob.shape == shape or same_shape(blob.shape, shape, legacy=True)

    def allow_force_backward(self, index: int) -> bool:
        """Whether force_backward may ask for bottom `index`'s gradient; losses refuse it for labels."""
        return True

    # -- what the net calls --------------------------------------------------------------------------------------------
    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Before every forward: give the tops their shapes."""
        for blob, shape in zip(top, self.shape(*(b.shape for b in bottom))):
            blob.reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Compute the tops' data."""
        results = self.function(*(b.value for b in bottom), *(b.value for b in self.blobs))
        for blob, result in zip(top, results if isinstance(results, tuple) else (results,)):
            blob.value = result

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """From the tops' diff: overwrite the wanted bottoms' diff, add to the wanted parameters' diff."""
        if any(b is t for b in bottom for t in top):
            raise CaffeError(self.describe("cannot run backward in place: its input is gone; give its top another name"))
        wanted = list(propagate_down) + list(self.param_propagate_down)
        blobs = [*bottom, *self.blobs]
        inputs = [b.value.detach().requires_grad_(w) for b, w in zip(blobs, wanted)]
        with torch.enable_grad():
            results = self.function(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        pairs = [(r, t.grad.reshape(r.shape)) for r, t in zip(results, top) if r.requires_grad]
        if not pairs:
            return
        grads = iter(torch.autograd.grad([r for r, _ in pairs], [x for x in inputs if x.requires_grad],
                                         [g for _, g in pairs], allow_unused=True))
        for i, (blob, x) in enumerate(zip(blobs, inputs)):
            if not x.requires_grad:
                continue
            grad = next(grads)
            grad = torch.zeros_like(x) if grad is None else grad
            if any(grad.data_ptr() == given.data_ptr() for _, given in pairs):
                grad = grad.clone()  # calculus may hand a top's diff on as it is
            if i < len(bottom):
                blob.grad = grad
            else:
                blob.add_grad(grad)

    # -- shared by all ---------------------------------------------------------------------------------------------------
    def add_param(self, shape: Shape, filler_param: caffe_pb2.FillerParameter) -> Blob:
        """Append a parameter blob: from the blobs the definition carries, else from its filler (drawn now)."""
        blob = self.blobs.add_blob(*shape)
        index = len(self.blobs) - 1
        if self.layer_param.blobs:
            self.check(index < len(self.layer_param.blobs), "its definition carries %d parameter blobs, wanted more"
                       % len(self.layer_param.blobs))
            blob.from_proto(self.layer_param.blobs[index], reshape=False)
        else:
            blob.data[...] = filler.fill(filler_param, tuple(shape))
        return blob

    def check_counts(self, bottom: list[Blob], top: list[Blob]) -> None:
        """CaffeError unless the numbers of bottoms and tops are as declared."""
        for what, blobs, (least, most) in (("bottom", bottom, self.bottoms), ("top", top, self.tops)):
            if len(blobs) < least or (most is not None and len(blobs) > most):
                wanted = str(least) if least == most else "%d or more" % least if most is None else "%d to %d" % (
                    least, most)
                raise CaffeError(self.describe("got %d %s blob(s), wanted %s" % (len(blobs), what, wanted)))
        if self.same_count and len(bottom) != len(top):
            raise CaffeError(self.describe("got %d bottom and %d top blobs, wanted as many of each"
                                           % (len(bottom), len(top))))

    def describe(self, message: str) -> str:
        """An error text that begins with this layer's name and type."""
        return "Layer '%s' (%s): %s" % (self.layer_param.name, self.layer_param.type, message)

    def check(self, condition: bool, message: str | Callable[[], str]) -> None:
        """Raise CaffeError with the layer's name, type and `message` unless `condition` holds."""
        if not condition:
            raise CaffeError(self.describe(message() if callable(message) else message))


@contextmanager
def naming(layer: Layer) -> Iterator[None]:
    """Give the errors of blobs, fillers and PyTorch (no memory, say), which know no layer, the name of this one."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if layer.type == "Python" or str(error).startswith("Layer '"):
            raise
        raise CaffeError(layer.describe(str(error))) from error


def layer_types() -> dict[str, type[Layer]]:
    """The layer types a net may have: BVLC's, and where they are switched on (forks.py) those of forks."""
    import torchcaffe.layers  # noqa: F401  fills CATALOGUE; imported late because the layers import this module

    if not forks.enabled():
        return CATALOGUE
    from torchcaffe.extras import blocks, detection, regions, segmentation  # noqa: F401  fill EXTRAS

    return {**CATALOGUE, **EXTRAS}


def create(layer_param: caffe_pb2.LayerParameter) -> Layer:
    """A layer object of layer_param.type (layer_factory.hpp); an unknown type is an error that lists the known ones."""
    types = layer_types()
    if layer_param.type not in types:
        lower = {name.lower(): name for name in types}
        near = difflib.get_close_matches(layer_param.type.lower(), lower, 1)
        raise CaffeError("Layer '%s': unknown layer type '%s': %s" % (layer_param.name, layer_param.type, (
            forks.how(layer_param.type) if layer_param.type in forks.FORKS else
            "%sknown types: %s" % ("did you mean '%s'? " % lower[near[0]] if near else "", ", ".join(sorted(types))))))
    if refusal := forks.refusal(layer_param):
        raise CaffeError("Layer '%s': %s" % (layer_param.name, refusal))
    return types[layer_param.type].create(layer_param)
