"""NetSpec of the stand-in: what the net.py of this repository say, and no word on mistakes."""
from __future__ import division, print_function

from collections import OrderedDict

from .proto import caffe_pb2


class Top(object):
    """Output `n` of a layer to be."""

    def __init__(self, fn, n):
        self.fn, self.n = fn, n


class Function(object):
    """A layer to be."""

    def __init__(self, type_name, inputs, params):
        self.type_name, self.inputs, self.params = type_name, inputs, params
        self.in_place = params.pop('in_place', False)
        self.tops = [Top(self, n) for n in range(params.pop('ntop', 1))]


class Layers(object):
    """L.Convolution(bottom, num_output=3) and the like."""

    def __getattr__(self, type_name):
        def make(*inputs, **params):
            tops = Function(type_name, inputs, params).tops
            return tops[0] if len(tops) == 1 else tops
        return make


class Parameters(object):
    """P.Pooling.MAX and the like."""

    def __getattr__(self, name):
        return getattr(caffe_pb2, name + 'Parameter')


class NetSpec(object):
    """Named tops; every layer must have names for all its tops."""

    def __init__(self):
        object.__setattr__(self, 'tops', OrderedDict())

    def __setattr__(self, name, top):
        self.tops[name] = top

    def __getattr__(self, name):
        return self.tops[name]

    __setitem__, __getitem__ = __setattr__, __getattr__

    def to_proto(self):
        names = dict((top, name) for name, top in self.tops.items())
        net, made = caffe_pb2.NetParameter(), {}
        for top in self.tops.values():
            fn = top.fn
            if fn not in made:
                layer = net.layer.add(name=names[fn.tops[0]], type=fn.type_name)
                layer.bottom.extend([made[bottom.fn][bottom.n] for bottom in fn.inputs])
                layer.top.extend(layer.bottom if fn.in_place else [names[t] for t in fn.tops])
                made[fn] = list(layer.top)
                own = [getattr(layer, f.name) for f in layer.DESCRIPTOR.fields if f.message_type is not None
                       and f.message_type.name == fn.type_name + 'Parameter']
                for key, value in fn.params.items():
                    places = [message for message in own if key in message.DESCRIPTOR.fields_by_name] + [layer]
                    _fill(places[0], key, value)
        return net


def _fill(message, key, value):
    held = getattr(message, key)
    if hasattr(held, 'extend'):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                _fill_all(held.add(), item)
            else:
                held.append(item)
    elif isinstance(value, dict):
        _fill_all(held, value)
    else:
        setattr(message, key, value)


def _fill_all(message, values):
    for key, value in values.items():
        _fill(message, key, value)


layers, params = Layers(), Parameters()
