"""Utility layers: they move, combine and compare blobs; and layers written in Python."""

from __future__ import annotations

import importlib
import sys
from math import prod

import torch

from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.layers.helpers import axis_of
from torchcaffe.proto import caffe_pb2

ELTWISE = caffe_pb2.EltwiseParameter
REDUCTION = caffe_pb2.ReductionParameter


@register
class Python(Layer):
    """A layer whose class is in a Python module: python_param { module layer param_str }.

    The module must be importable (sys.path), the class derive from caffe.Layer. Any number of bottoms and tops. It finds
    its parameters as the string self.param_str. Follows include/caffe/layers/python_layer.hpp.
    """

    @classmethod
    def create(cls, layer_param: caffe_pb2.LayerParameter) -> Layer:
        """An object of the named class. Errors inside the module come through as they are."""
        p = layer_param.python_param
        where = "Layer '%s' (Python): " % layer_param.name
        if not all(p.module.split(".")) or "\0" in p.module:
            raise CaffeError("%sgot module %r, wanted the name of a Python module, as one would import it"
                             % (where, p.module))
        try:
            module = importlib.import_module(p.module)
        except ModuleNotFoundError as error:
            if not (error.name and (p.module == error.name or p.module.startswith(error.name + "."))):
                raise
            raise CaffeError("%scannot find module '%s'; put its folder on PYTHONPATH or sys.path, which is now %s"
                             % (where, p.module, sys.path)) from error
        kind = getattr(module, p.layer, None)
        if not (isinstance(kind, type) and issubclass(kind, Layer)):
            raise CaffeError("%smodule '%s' (%s) has %s '%s'; wanted a class that derives from caffe.Layer" % (
                where, p.module, getattr(module, "__file__", "built in"), "no" if kind is None else "something else as",
                p.layer))
        layer = kind(layer_param)
        # any number of bottoms and tops; layers of the released FCN code have a `tops` of their own
        layer.check_counts = lambda bottom, top: None
        layer.param_str = p.param_str
        return layer


class _SameMemory(Layer):
    """A layer whose top is its bottom's memory, data and diff, under another shape. Not possible in place."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(top[0] is not bottom[0], "does not allow in-place computation; give its top another name")
        super().reshape(bottom, top)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the top's data is the bottom's."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: the bottom's diff is the top's."""


@register
class Flatten(_SameMemory):
    """Axes `axis` (default 1) to `end_axis` (default the last) become one; if none lies between, one of size 1 is added.

    Follows src/caffe/layers/flatten_layer.cpp.
    """

    def shape(self, bottom: Shape) -> list[Shape]:
        p = self.layer_param.flatten_param
        start, end = axis_of(self, p.axis, bottom), axis_of(self, p.end_axis, bottom, "end_axis")
        self.check(start <= end + 1, "axis %d is behind end_axis %d" % (start, end))
        return [bottom[:start] + (prod(bottom[start : end + 1]),) + bottom[end + 1 :]]


@register
class Reshape(_SameMemory):
    """Another shape for num_axes (default -1: all) axes from `axis` on; dim 0 copies an axis, one -1 takes what is left.

    Follows src/caffe/layers/reshape_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        dims = self.layer_param.reshape_param.shape.dim
        self.check(list(dims).count(-1) < 2 and all(d >= -1 for d in dims),
                   "got shape %s, wanted sizes, 0 to copy one, and at most one -1" % list(dims))

    def shape(self, bottom: Shape) -> list[Shape]:
        p = self.layer_param.reshape_param
        axes = len(bottom)
        start = p.axis if p.axis >= 0 else axes + p.axis + 1
        end = axes if p.num_axes == -1 else start + p.num_axes
        self.check(0 <= start <= axes and p.num_axes >= -1 and end <= axes, lambda: (
            "axis %d and num_axes %d are out of range for a bottom of shape %s" % (p.axis, p.num_axes, bottom)))
        dims = list(p.shape.dim)
        for i, dim in enumerate(dims):
            if dim == 0:
                self.check(start + i < axes, lambda i=i: "shape %s has a 0 for axis %d, but a bottom of shape %s has no "
                           "such axis to copy" % (list(p.shape.dim), start + i, bottom))
                dims[i] = bottom[start + i]
        rest = prod(bottom[:start]) * prod(d for d in dims if d != -1) * prod(bottom[end:])
        if -1 in dims:
            self.check(rest > 0 and prod(bottom) % rest == 0, lambda: (
                "bottom count (%d, shape %s) must be divisible by the product of the specified dimensions (%d)"
                % (prod(bottom), bottom, rest)))
            dims[dims.index(-1)] = prod(bottom) // rest
        top = bottom[:start] + tuple(dims) + bottom[end:]
        self.check(prod(top) == prod(bottom), lambda: "output count must match input count: shape %s has %d values, bottom "
                   "%s has %d" % (top, prod(top), bottom, prod(bottom)))
        return [top]


@register
class Split(Layer):
    """The bottom for several readers: tops share its data; its diff is the sum of theirs. The net inserts these itself.

    Follows src/caffe/layers/split_layer.cpp.
    """

    tops = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            self.check(blob is not bottom[0], "does not allow in-place computation; give its tops other names")
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the tops' data is the bottom's."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            total = top[0].grad + top[1].grad if len(top) > 1 else top[0].grad.clone()
            for blob in top[2:]:
                total += blob.grad
            bottom[0].grad = total


def _legacy_axis(layer: Layer, param, legacy: str, shape: Shape) -> int:
    """`axis`, or its old unsigned spelling."""
    if param.HasField(legacy):
        layer.check(not param.HasField("axis"), "Either axis or %s should be specified; not both" % legacy)
        return axis_of(layer, getattr(param, legacy), shape, legacy)
    return axis_of(layer, param.axis, shape)


@register
class Concat(_SameMemory):
    """Bottoms one after another along `axis` (default 1; concat_dim is its old name). One bottom alone shares its memory.

    Follows src/caffe/layers/concat_layer.cpp.
    """

    bottoms = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        Layer.reshape(self, bottom, top)
        if len(bottom) == 1:
            super().reshape(bottom, top)

    def shape(self, *bottom: Shape) -> list[Shape]:
        first = bottom[0]
        self.axis = a = _legacy_axis(self, self.layer_param.concat_param, "concat_dim", first)
        for i, shape in enumerate(bottom):
            self.check(len(shape) == len(first) and shape[:a] + shape[a + 1 :] == first[:a] + first[a + 1 :],
                       lambda i=i, shape=shape: "All inputs must have the same shape, except at axis %d: bottom %d is %s, "
                       "bottom 0 is %s" % (a, i, shape, first))
        return [first[:a] + (sum(s[a] for s in bottom),) + first[a + 1 :]]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) > 1:
            top[0].value = torch.cat([b.value for b in bottom], self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(bottom) > 1:
            for blob, part, wanted in zip(bottom, top[0].grad.split([b.shape[self.axis] for b in bottom], self.axis),
                                          propagate_down):
                if wanted:
                    blob.grad = part.clone(memory_format=torch.contiguous_format)


@register
class Slice(_SameMemory):
    """The bottom cut along `axis` (default 1; slice_dim is its old name) at slice_point, or into equal parts.

    One top alone shares the bottom's memory. Follows src/caffe/layers/slice_layer.cpp.
    """

    tops = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.layer_param.slice_param, bottom[0].shape
        self.axis = a = _legacy_axis(self, p, "slice_dim", shape)
        points = list(p.slice_point)
        if not points:
            self.check(shape[a] % len(top) == 0, lambda: "axis %d of shape %s cannot be cut into %d equal parts; give "
                       "slice_point" % (a, shape, len(top)))
            points = [shape[a] // len(top) * i for i in range(1, len(top))]
        self.check(len(points) == len(top) - 1, "got %d slice points for %d tops, wanted %d" % (
            len(points), len(top), len(top) - 1))
        self.sizes = [stop - start for start, stop in zip([0, *points], [*points, shape[a]])]
        self.check(min(self.sizes) > 0, lambda: "slice points %s must increase and lie inside axis %d of shape %s"
                   % (points, a, shape))
        for blob, size in zip(top, self.sizes):
            blob.reshape(*shape[:a], size, *shape[a + 1 :])
        if len(top) == 1:
            super().reshape(bottom, top)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) > 1:
            for blob, part in zip(top, bottom[0].value.split(self.sizes, self.axis)):
                blob.value = part.clone(memory_format=torch.contiguous_format)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(top) > 1 and propagate_down[0]:
            bottom[0].grad = torch.cat([t.grad for t in top], self.axis)


@register
class Eltwise(Layer):
    """Sum (with a coefficient a bottom), product or maximum of bottoms of one shape.

    Of equal maxima among the first two bottoms the second gets the gradient, else the first, as in Caffe.
    Follows src/caffe/layers/eltwise_layer.cpp.
    """

    bottoms = (2, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.eltwise_param
        self.operation = p.operation
        self.check(len(p.coeff) in (0, len(bottom)), "Eltwise Layer takes one coefficient per bottom blob: got %d for %d"
                   % (len(p.coeff), len(bottom)))
        self.check(not p.coeff or p.operation != ELTWISE.PROD, "coefficients are for summation, got operation PROD")
        self.coeff = list(p.coeff) or [1.0] * len(bottom)

    def shape(self, *bottom: Shape) -> list[Shape]:
        for name, shape in zip(self.layer_param.bottom, bottom):
            self.check(shape == bottom[0], lambda name=name, shape=shape: (
                "all bottoms must have one shape: bottom '%s' is %s, bottom '%s' is %s; crop or reshape one of them"
                % (self.layer_param.bottom[0], bottom[0], name, shape)))
        return [bottom[0]]

    def function(self, *x: torch.Tensor) -> torch.Tensor:
        if self.operation == ELTWISE.SUM:
            result = x[0] + x[1] if self.coeff[0] == 1 == self.coeff[1] else x[0] * self.coeff[0] + x[1] * self.coeff[1]
            for c, value in zip(self.coeff[2:], x[2:]):
                result.add_(value, alpha=c)
            return result
        if self.operation == ELTWISE.PROD:
            return prod(x[1:], start=x[0])
        return self.maximum(x)[0]

    @staticmethod
    def maximum(x: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The maximum and the number of the bottom it comes from."""
        first = x[0] > x[1]
        best, winner = torch.where(first, x[0], x[1]), torch.where(first, 0, 1)
        for i, value in enumerate(x[2:], 2):
            more = value > best
            best, winner = torch.where(more, value, best), torch.where(more, i, winner)
        return best, winner

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        grad, summed = top[0].grad, self.operation == ELTWISE.SUM
        self.check(summed or top[0] not in bottom, "only a sum runs backward in place; give its top another name")
        x = [] if summed else [b.value for b in bottom]
        winner = self.maximum(x)[1] if self.operation == ELTWISE.MAX else None
        for i, (blob, wanted) in enumerate(zip(bottom, propagate_down)):
            if not wanted:
                continue
            if summed:
                blob.grad = grad * self.coeff[i] if self.coeff[i] != 1 else grad.clone()
            elif winner is not None:
                blob.grad = grad.where(winner == i, 0)
            elif self.layer_param.eltwise_param.stable_prod_grad:
                blob.grad = prod(x[:i] + x[i + 1 :], start=grad)
            else:
                blob.grad = grad * (top[0].value / x[i])


@register
class Silence(Layer):
    """Reads bottoms and does nothing, so that they are no outputs. Follows src/caffe/layers/silence_layer.cpp."""

    bottoms, tops = (1, None), (0, 0)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.grad = torch.zeros_like(blob.value)


@register
class Softmax(Layer):
    """exp(x) over its sum along `axis` (default 1). Works in place. Follows src/caffe/layers/softmax_layer.cpp."""

    def shape(self, bottom: Shape) -> list[Shape]:
        self.axis = axis_of(self, self.layer_param.softmax_param.axis, bottom)
        return [bottom]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].grad = torch._softmax_backward_data(top[0].grad, top[0].value, self.axis, torch.float32)


@register
class ArgMax(Layer):
    """The top_k largest values' indices, values (out_max_val with axis) or both (out_max_val without). No gradient.

    With `axis` that axis becomes top_k; without, everything after axis 0 is searched and the top is (N, 1 or 2, top_k).
    Of equal values the last comes first, as in Caffe. Follows src/caffe/layers/argmax_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.layer_param.argmax_param, bottom[0].shape
        self.axis = axis_of(self, p.axis, shape) if p.HasField("axis") else None
        size = prod(shape[1:]) if self.axis is None else shape[self.axis]
        self.check(1 <= p.top_k <= size, "got top_k %d, wanted 1 to %d, the values to search in shape %s"
                   % (p.top_k, size, shape))

    def shape(self, bottom: Shape) -> list[Shape]:
        p = self.layer_param.argmax_param
        if self.axis is not None:
            return [bottom[: self.axis] + (p.top_k,) + bottom[self.axis + 1 :]]
        return [(bottom[0], 1 + p.out_max_val, p.top_k) + (1,) * (len(bottom) - 3)]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.argmax_param
        axis = 1 if self.axis is None else self.axis
        x = x.flatten(1) if self.axis is None else x
        # Sorting stably from the back puts the last of equal values first.
        values, index = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        values, index = (t.narrow(axis, 0, p.top_k) for t in (values, x.shape[axis] - 1 - index))
        if not p.out_max_val:
            return index.float()
        return values.clone() if self.axis is not None else torch.stack((index.float(), values), 1)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[0], "ArgMax has no gradient; set propagate_down: false")


@register
class Tile(Layer):
    """The bottom repeated `tiles` times along `axis` (default 1). Follows src/caffe/layers/tile_layer.cpp."""

    def shape(self, bottom: Shape) -> list[Shape]:
        p = self.layer_param.tile_param
        self.check(p.tiles > 0, "Number of tiles must be positive, got %d; set tiles" % p.tiles)
        self.axis = axis_of(self, p.axis, bottom)
        return [bottom[: self.axis] + (bottom[self.axis] * p.tiles,) + bottom[self.axis + 1 :]]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x] * self.layer_param.tile_param.tiles, self.axis)


@register
class Reduction(Layer):
    """SUM, ASUM (of absolute values), SUMSQ (of squares) or MEAN over all axes from `axis` (default 0) on, times coeff.

    Follows src/caffe/layers/reduction_layer.cpp.
    """

    def shape(self, bottom: Shape) -> list[Shape]:
        self.axis = axis_of(self, self.layer_param.reduction_param.axis, bottom)
        return [bottom[: self.axis]]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.reduction_param
        x = x.flatten(self.axis)
        x = x.abs() if p.operation == REDUCTION.ASUM else x * x if p.operation == REDUCTION.SUMSQ else x
        return (x.mean(-1) if p.operation == REDUCTION.MEAN else x.sum(-1)) * p.coeff


@register
class Filter(Layer):
    """The items (axis 0) of all bottoms but the last for which the last bottom is not zero. No gradient to the last one.

    Until the first forward tops have all items. Follows src/caffe/layers/filter_layer.cpp.
    """

    bottoms, tops = (2, None), (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(len(top) == len(bottom) - 1, "got %d tops, wanted one for each of the %d bottoms before the selector"
                   % (len(top), len(bottom) - 1))
        self.kept: torch.Tensor | None = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        selector = bottom[-1]
        self.check(selector.count == selector.shape[0], "the selector must hold one number an item, got shape %s"
                   % (selector.shape,))
        for i, blob in enumerate(bottom[:-1]):
            self.check(blob.shape[0] == selector.shape[0], "bottom %d has %d items, the selector %d; they must be equal"
                       % (i, blob.shape[0], selector.shape[0]))
        first = self.kept is None
        self.kept = selector.value.reshape(-1).nonzero().reshape(-1)
        for b, t in zip(bottom, top):
            t.reshape(b.shape[0] if first else self.kept.numel(), *b.shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for b, t in zip(bottom, top):
            t.value = b.value[self.kept]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[-1], "Layer cannot backpropagate to filter index inputs; set propagate_down: false")
        for b, t, wanted in zip(bottom, top, propagate_down):
            if wanted:
                b.grad = torch.zeros_like(b.value).index_copy_(0, self.kept, t.grad)


@register
class BatchReindex(Layer):
    """Items (axis 0) of bottom 0 in the order, and as often as, bottom 1 lists them. No gradient to bottom 1.

    Follows src/caffe/layers/batch_reindex_layer.cpp.
    """

    bottoms = (2, 2)

    def shape(self, bottom: Shape, index: Shape) -> list[Shape]:
        self.check(len(index) == 1, "bottom 1 must be a list of indices, got shape %s" % (index,))
        return [(index[0],) + bottom[1:]]

    def rows(self, bottom: list[Blob]) -> torch.Tensor:
        """The indices as whole numbers; CaffeError for one out of range."""
        rows, items = bottom[1].value.long(), bottom[0].shape[0]
        self.check(not bool(((rows < 0) | (rows >= items)).any()), "got an index outside 0 to %d in bottom 1" % (items - 1))
        return rows

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = bottom[0].value[self.rows(bottom)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[1], "Cannot backprop to index; set propagate_down: false")
        if propagate_down[0]:
            bottom[0].grad = torch.zeros_like(bottom[0].value).index_add_(0, self.rows(bottom), top[0].grad)


@register
class Parameter(Layer):
    """A learned blob of a given shape as a top, zeros at first. Follows include/caffe/layers/parameter_layer.hpp."""

    bottoms = (0, 0)
    param_names = ("value",)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.add_param(tuple(self.layer_param.parameter_param.shape.dim), caffe_pb2.FillerParameter())

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*self.blobs[0].shape)
        top[0].share_data(self.blobs[0])
        top[0].share_diff(self.blobs[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing: the top is the parameter."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nothing: the parameter's diff is the top's."""
