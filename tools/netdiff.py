"""Two nets side by side: how their definitions differ, layer by layer, and their parameters, blob by blob.

A caffemodel carries the definition of the net it was saved from. It is compared by what it means: layers that Caffe
inserts (Split) are taken out again, a field that is written out is the same as one left at its default, and the old
format's names for things (V1) are today's.
"""
from __future__ import division, print_function

import collections

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

import caffemodel
from which_caffe import caffe  # noqa: F401  before anything of caffe
from caffe.proto import caffe_pb2

# layer: its name. kind: 'only ours', 'only theirs' or 'differs'. what: a type, or the field; ours, theirs: its values
Difference = collections.namedtuple('Difference', 'layer kind what ours theirs')
# layer, blob: whose. shapes, norms: of ours and theirs, None where one lacks it. distance: |ours - theirs|, None if the
# numbers of values differ. cosine: of the angle between them, None if one is zero. identical: bit for bit
Blob = collections.namedtuple('Blob', 'layer blob shape their_shape norm their_norm distance cosine identical')

CHUNK = 1 << 20     # values compared at once, in double precision
# what a list means if nothing is written; and a loss layer has a loss_weight of 1
UNWRITTEN = {'convolution_param.pad': [0], 'convolution_param.stride': [1], 'convolution_param.dilation': [1]}
SKIPPED = ('name', 'type', 'bottom', 'top', 'blobs', 'phase', 'include', 'exclude', 'blobs_lr', 'weight_decay',
           'blob_share_mode', 'layer')


# -- definitions -------------------------------------------------------------------------------------------------------
def definition_of(path):
    """The NetParameter that a caffemodel carries, without its blobs. CaffemodelError if it is HDF5: that carries none."""
    return caffe_pb2.NetParameter.FromString(caffemodel.definition(path))


def described(net_param):
    """{layer name: (type, bottoms, tops, message, lr_mult and decay_mult of each param)}, in order, without Split layers.

    Of the oldest format, V0, only names and types are known here.
    """
    layers, split = collections.OrderedDict(), {}
    if net_param.input:
        layers['input'] = 'Input', [], list(net_param.input), None, []
    for layer in net_param.layers:
        if layer.HasField('layer'):     # V0
            kind = caffemodel.V0_TYPES.get(layer.layer.type, layer.layer.type)
            if kind != 'padding':
                layers[layer.layer.name] = kind, None, None, None, None
            continue
        mults = list(layer.blobs_lr), list(layer.weight_decay)
        count = max(len(values) for values in mults)
        params = list(zip(*[(values + [1.] * count)[:count] for values in mults]))
        layers[layer.name] = caffemodel.V1_TYPES.get(layer.type), list(layer.bottom), list(layer.top), layer, params
    for layer in net_param.layer:
        params = [(param.lr_mult, param.decay_mult) for param in layer.param]
        layers[layer.name] = layer.type, list(layer.bottom), list(layer.top), layer, params
    for name, (kind, bottoms, tops, _, _) in list(layers.items()):
        if kind == 'Split' and bottoms:
            split.update((top, split.get(bottoms[0], bottoms[0])) for top in tops)
            del layers[name]
    return collections.OrderedDict((name, (kind, bottoms and [split.get(b, b) for b in bottoms], tops, message, params))
                                   for name, (kind, bottoms, tops, message, params) in layers.items())


def definitions(ours, theirs):
    """The Differences of two NetParameters; none if they define the same net."""
    found, a, b = [], described(ours), described(theirs)
    for name in list(a) + [name for name in b if name not in a]:
        if name not in b:
            found.append(Difference(name, 'only ours', a[name][0], '', ''))
        elif name not in a:
            found.append(Difference(name, 'only theirs', b[name][0], '', ''))
        else:
            found += _layer(name, a[name], b[name])
    return found


def _layer(name, ours, theirs):
    found = []
    if ours[0] != theirs[0]:
        return [Difference(name, 'differs', 'type', ours[0], theirs[0])]
    if None in (ours[4], theirs[4]):    # V0
        return []
    for what, i in (('bottom', 1), ('top', 2)):
        if ours[i] != theirs[i]:
            found.append(Difference(name, 'differs', what, ' '.join(ours[i]), ' '.join(theirs[i])))
    # params left out are learned at the rate of the solver
    count = max(len(ours[4]), len(theirs[4]))
    for i, pair in enumerate(zip(*[(list(side[4]) + [(1., 1.)] * count)[:count] for side in (ours, theirs)])):
        for what, one, other in zip(('lr_mult', 'decay_mult'), *pair):
            if one != other:
                found.append(Difference(name, 'differs', 'param[%d].%s' % (i, what), one, other))
    fields = [{} if side[3] is None else _fields(side[3], ours[0]) for side in (ours, theirs)]
    for path in sorted(set(fields[0]) | set(fields[1])):
        values = [side[path][0] if path in side else (fields[0].get(path) or fields[1][path])[1] for side in fields]
        if values[0] != values[1]:
            found.append(Difference(name, 'differs', path, *[
                ' '.join('%s' % item for item in value) if isinstance(value, list) else value for value in values]))
    return found


def _fields(message, kind='', prefix=''):
    """{path: (value, default)} of the fields that are set, in messages within too; params and what wires a net left out."""
    found = {}
    for field, value in message.ListFields():
        path = prefix + field.name
        if not prefix and (field.name in SKIPPED or field.name == 'param'):
            continue
        if hasattr(value, 'extend'):    # repeated
            shown = [str(v).replace('\n', ' ') if field.type == FieldDescriptor.TYPE_MESSAGE else v for v in value]
            found[path] = shown, [1.] if path == 'loss_weight' and kind.endswith('Loss') else UNWRITTEN.get(path, [])
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found.update(_fields(value, prefix=path + '.'))
        elif field.type == FieldDescriptor.TYPE_ENUM:
            names = field.enum_type.values_by_number
            found[path] = names[value].name, names[field.default_value].name
        else:
            found[path] = value, field.default_value
    return found


# -- parameters --------------------------------------------------------------------------------------------------------
def parameters(ours, theirs):
    """The Blobs of two lists of (layer name, arrays), in the order of ours; of what only one has, too."""
    found, other = [], collections.OrderedDict(theirs)
    for name, arrays in ours:
        beside = other.pop(name, [])
        for i in range(max(len(arrays), len(beside))):
            found.append(_compared(name, i, arrays[i] if i < len(arrays) else None, beside[i] if i < len(beside) else None))
    return found + [_compared(name, i, None, array) for name, arrays in other.items() for i, array in enumerate(arrays)]


def _compared(name, i, a, b):
    shapes = [None if x is None else tuple(x.shape) for x in (a, b)]
    norms = [None if x is None else _dot(x, x) ** .5 for x in (a, b)]
    if a is None or b is None or a.size != b.size:
        return Blob(name, i, shapes[0], shapes[1], norms[0], norms[1], None, None, False)
    identical = np.array_equal(np.ravel(a), np.ravel(b))
    cosine = None if not norms[0] or not norms[1] else 1. if identical else _dot(a, b) / (norms[0] * norms[1])
    return Blob(name, i, shapes[0], shapes[1], norms[0], norms[1], 0. if identical else _dot(a, b, True) ** .5, cosine,
                identical)


def _dot(a, b, difference=False):
    """The inner product of two arrays of as many values, or the square of their difference, in double precision."""
    a, b, total = np.ravel(a), np.ravel(b), 0.
    for i in range(0, a.size, CHUNK):
        one, other = a[i:i + CHUNK].astype(np.float64), b[i:i + CHUNK].astype(np.float64)
        if difference:
            one = other = one - other
        total += float(np.dot(one, other))
    return total
