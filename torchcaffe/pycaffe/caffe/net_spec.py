"""Nets as Python expressions, emitted as protobuf messages.

    from caffe import layers as L, params as P
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module='voc_layers', layer='VOCSegDataLayer', ntop=2, param_str='...')
    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3, pad=1, param=[dict(lr_mult=1), dict(lr_mult=2)])
    n.pool1 = L.Pooling(n.conv1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    text = str(n.to_proto())

A call of `L.<Type>` makes a `Function` (a layer to be) and gives its `Top`s (blobs to be), which are the bottoms of
later calls. Nothing is computed and no size is known here; only the schema is (names of messages, fields, enums).
A layer has the name its first top has in the NetSpec, or its type and a running number where it has none there.

Answers to BVLC's python/caffe/net_spec.py; error texts are our own, exception types are BVLC's.
"""

from __future__ import annotations

import difflib
from collections import Counter, OrderedDict
from typing import Any

from google.protobuf.message import Message

from torchcaffe import forks

from .proto import caffe_pb2


def param_name_dict() -> dict[str, str]:
    """Map each layer type that has a parameter message to the stem of its field: {'Convolution': 'convolution', ...}.

    'Pooling': 'pooling' says that a Pooling layer's own parameters are PoolingParameter, in field `pooling_param`.
    Layers of Caffe's forks are among them while those are switched on (torchcaffe/forks.py).
    """
    fields = [field for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields
              if field.name.endswith("_param") and forks.visible(field)]
    return {field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param") for field in fields}


def __getattr__(name: str):
    """BVLC's module keeps the dict under this name; here it follows what is switched on."""
    if name == "_param_names":
        return param_name_dict()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def to_proto(*tops: Top) -> caffe_pb2.NetParameter:
    """The net of all layers that the given tops need, bottoms first, every name given automatically."""
    return _emit(tops, {})


def _emit(tops, names: dict) -> caffe_pb2.NetParameter:
    """The layers of these tops (or of functions without tops) in order, each after what it needs, each once."""
    layers: OrderedDict = OrderedDict()
    autonames: Counter = Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    net = caffe_pb2.NetParameter()
    net.layer.extend(layers.values())
    return net


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set field `name` of a message: a dict fills a nested message, a list a repeated field, all else is one value.

    One value or one dict for a repeated field is a list of one. AttributeError for an unknown field or a list or dict
    where the field is a single number; TypeError or ValueError, from protobuf, for a value the field cannot hold.
    """
    if name not in proto.DESCRIPTOR.fields_by_name:
        raise AttributeError(f"{proto.DESCRIPTOR.name} has no field {name!r}{_known(name, proto)}")
    held = getattr(proto, name)
    if hasattr(held, "extend"):  # repeated
        for item in val if isinstance(val, list) else [val]:
            if isinstance(item, dict):
                _assign_dict(held.add(), item)
            else:
                held.extend([item])
    elif isinstance(val, dict) and isinstance(held, Message):
        _assign_dict(held, val)
    elif isinstance(val, (dict, list)):
        wanted = "a dict" if isinstance(held, Message) else "one value"
        raise AttributeError(f"{proto.DESCRIPTOR.name}.{name} takes {wanted}, not {val!r}")
    else:
        setattr(proto, name, val)


def _assign_dict(proto: Message, values: dict) -> None:
    for name, val in values.items():
        assign_proto(proto, name, val)


def _known(name: str, *protos: Message) -> str:
    """'; did you mean ...?' and the fields there are: the end of a message about a field that is not there."""
    near = difflib.get_close_matches(name, [field.name for proto in protos for field in proto.DESCRIPTOR.fields], 1)
    text = f"; did you mean {near[0]!r}?" if near else "."
    for proto in protos:
        fields = [field.name for field in proto.DESCRIPTOR.fields]
        plain = [name for name in fields if not name.endswith("_param")]  # a layer's fifty messages drown its fields
        more = ", and <layer type>_param" if len(plain) < len(fields) else ""
        text += f" {proto.DESCRIPTOR.name} has: {', '.join(plain)}{more}."
    return text


def _elsewhere(kind: str, name: str) -> str:
    """For a layer type without a message of its own (Deconvolution, ...): the messages that do have the field."""
    if kind in forks.FORKS and not forks.enabled():
        return f" {forks.how(kind)}."
    own = [f"{stem}_param" for message, stem in param_name_dict().items()
           if name in getattr(caffe_pb2, message + "Parameter").DESCRIPTOR.fields_by_name]  # fmt: skip
    return f" It is a field of {', '.join(own)}: pass e.g. {own[0]}=dict({name}=...)." if own else ""


class Top:
    """One output of a layer to be: `fn` makes it, `n` is its place among the outputs. Used as a bottom of others."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net that ends in this top, every name given automatically."""
        return to_proto(self)

    def _to_proto(self, layers, names, autonames):
        return self.fn._to_proto(layers, names, autonames)


class Function:
    """A layer to be: a type name, bottoms (Tops) and parameters, from which `ntop` and `in_place` are taken out."""

    def __init__(self, type_name: str, inputs, params: dict):
        self.type_name = type_name
        for index, bottom in enumerate(inputs):
            if not isinstance(bottom, Top):
                # BVLC's words and no more: its own tests match the whole text
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(bottom)})")
        self.inputs = inputs
        self.params = params
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _get_name(self, names, autonames) -> str:
        if self not in names:
            names[self] = self._get_top_name(self.tops[0] if self.ntop > 0 else self, names, autonames)
        return names[self]

    def _get_top_name(self, top, names, autonames) -> str:
        """The name a top was given, or else type and running number. (Of a function without tops: its own.)"""
        if top not in names:
            autonames[self.type_name] += 1
            names[top] = self.type_name + str(autonames[self.type_name])
        return names[top]

    def _to_proto(self, layers, names, autonames) -> None:
        if self in layers:
            return
        bottom_names = []
        for bottom in self.inputs:
            bottom._to_proto(layers, names, autonames)
            bottom_names.append(layers[bottom.fn].top[bottom.n])
        layer = caffe_pb2.LayerParameter()
        layer.type = self.type_name
        layer.bottom.extend(bottom_names)
        if self.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend([self._get_top_name(top, names, autonames) for top in self.tops])
        layer.name = self._get_name(names, autonames)
        for key, val in self.params.items():
            self._assign(layer, key, val)
        layers[self] = layer

    def _assign(self, layer, key: str, val) -> None:
        """Set one parameter: in the message of the layer's type where that has it, else in the layer itself."""
        own = param_name_dict().get(self.type_name)
        # reading a nested message does not make it present, so a layer that sets none of its fields does not have it
        places = [layer] if own is None else [getattr(layer, f"{own}_param"), layer]
        target = places[0] if key in places[0].DESCRIPTOR.fields_by_name else layer
        who = f"layer {layer.name!r} (type {self.type_name}): parameter {key!r}"
        if key not in target.DESCRIPTOR.fields_by_name:
            elsewhere = _elsewhere(self.type_name, key) if own is None else ""
            raise AttributeError(f"{who} is unknown{_known(key, *places)}{elsewhere}")
        try:
            assign_proto(target, key, val)
        except (AttributeError, TypeError, ValueError) as error:
            kind = next(k for k in (AttributeError, TypeError, ValueError) if isinstance(error, k))
            raise kind(f"{who} = {val!r}: {error}") from error


class UnknownTop(KeyError, AttributeError):
    """A name that no top of the NetSpec has. KeyError is BVLC's type; AttributeError makes hasattr(n, name) work."""

    def __str__(self) -> str:
        return str(self.args[0])


class NetSpec:
    """Names for tops: `n.conv1 = L.Convolution(n.data, ...)` or n['conv1/a'] = ...; layers come in the order of naming.

    Every attribute but `tops`, the ordered dict of all of them, is a top.
    """

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Top) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Top:
        # `tops` itself is looked up here only before __init__ ran (copy, pickle), where self.tops would recurse
        if name == "tops" or name not in self.tops:
            raise UnknownTop(f"the NetSpec has no top {name!r} so far; name it first: n.{name} = L.<Type>(...)")
        return self.tops[name]

    def __setitem__(self, key: str, value: Top) -> None:
        setattr(self, key, value)

    def __getitem__(self, item: str) -> Top:
        return getattr(self, item)

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all named tops and what they need."""
        for name, top in self.tops.items():
            if not isinstance(top, (Top, Function)):
                raise TypeError(
                    f"{name!r} of the NetSpec is not a Top (type is {type(top)}); a layer of several tops "
                    f"is named by unpacking: n.data, n.label = L.Data(..., ntop=2)"
                )
        return _emit(self.tops.values(), {top: name for name, top in self.tops.items()})


class Layers:
    """`L`: any attribute is a layer type; calling it with bottoms and parameters gives its top, or a tuple of tops.

    With ntop=0 (Silence, HDF5Output) the Function itself, which can be named in a NetSpec like a top.
    """

    def __getattr__(self, name: str):
        if name.startswith("__"):  # asked for by inspect, copy, pickle; never a layer type
            raise AttributeError(name)

        def layer_fn(*args, **kwargs):
            fn = Function(name, args, kwargs)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer_fn


class Parameters:
    """`P`: the parameter messages, for the enum values they hold: P.Pooling.MAX, P.Eltwise.SUM, P.Data.LMDB."""

    def __getattr__(self, name: str) -> type[Message]:
        message = getattr(caffe_pb2, name + "Parameter", None)
        if message is None:
            near = difflib.get_close_matches(name, param_name_dict(), 1)
            guess = f"; did you mean P.{near[0]}?" if near else ""
            raise AttributeError(f"no parameter message {name}Parameter{guess}")
        return message


layers = Layers()
params = Parameters()
