"""Weights files (.caffemodel) read and written with numpy alone: no Caffe, no protobuf, no h5py.

    for layer in caffemodel.read('vgg16.caffemodel'):
        print(layer.name, layer.type, [blob.shape for blob in layer.blobs])
    caffemodel.write('copy.caffemodel', layers)

Reads the three formats Caffe has had (V0 of 2013, V1 of 2014, V2 since) and writes V2. The structure around the numbers
is walked byte by byte; the numbers stay where they are in the one buffer that the file was read into. torchcaffe/wire.py
does the same for the engine, which has no use for a tool; tests/test_caffemodel.py holds the two together. Follows
caffe.proto:

    NetParameter      name 1, layer 100 (LayerParameter), layers 2 (V1LayerParameter)
    LayerParameter    name 1, type 2, blobs 7
    V1LayerParameter  layer 1 (V0LayerParameter), name 4, type 5, blobs 6
    V0LayerParameter  name 1, type 2, blobs 50
    BlobProto         num 1, channels 2, height 3, width 4, data 5, shape 7 (dim 1), double_data 8
    SolverState       iter 1, learned_net 2, history 3
"""
from __future__ import division, print_function

import collections
import io
import os

import numpy as np

# legacy: its blobs have the four axes of old files, a bias being (1, 1, 1, N); Caffe lets them pass for (N,)
Layer = collections.namedtuple('Layer', 'name type blobs legacy')

V1_TYPES = dict(enumerate((
    None, 'Accuracy', 'BNLL', 'Concat', 'Convolution', 'Data', 'Dropout', 'EuclideanLoss', 'Flatten', 'HDF5Data',
    'HDF5Output', 'Im2col', 'ImageData', 'InfogainLoss', 'InnerProduct', 'LRN', 'MultinomialLogisticLoss', 'Pooling',
    'ReLU', 'Sigmoid', 'Softmax', 'SoftmaxWithLoss', 'Split', 'TanH', 'WindowData', 'Eltwise', 'Power',
    'SigmoidCrossEntropyLoss', 'HingeLoss', 'MemoryData', 'ArgMax', 'Threshold', 'DummyData', 'Slice', 'MVN', 'AbsVal',
    'Silence', 'ContrastiveLoss', 'Exp', 'Deconvolution')))
V0_TYPES = {
    'accuracy': 'Accuracy', 'bnll': 'BNLL', 'concat': 'Concat', 'conv': 'Convolution', 'data': 'Data',
    'dropout': 'Dropout', 'euclidean_loss': 'EuclideanLoss', 'flatten': 'Flatten', 'hdf5_data': 'HDF5Data',
    'hdf5_output': 'HDF5Output', 'im2col': 'Im2col', 'images': 'ImageData', 'infogain_loss': 'InfogainLoss',
    'innerproduct': 'InnerProduct', 'lrn': 'LRN', 'multinomial_logistic_loss': 'MultinomialLogisticLoss',
    'pool': 'Pooling', 'relu': 'ReLU', 'sigmoid': 'Sigmoid', 'softmax': 'Softmax', 'softmax_loss': 'SoftmaxWithLoss',
    'split': 'Split', 'tanh': 'TanH', 'window_data': 'WindowData'}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_AXES = 32             # Caffe's own limit
INT_MAX = 2 ** 31 - 1     # Caffe counts with int
MAX_FIELDS = 1 << 20      # in one message; a net has a few thousand, and noise that parses should not take minutes
UNPACKED = (5, 6, 8, 9)   # of BlobProto: data, diff and their doubles, where a writer did not pack them
FLOATS = {5: ('<f4', FIXED32), 8: ('<f8', FIXED64)}


class CaffemodelError(ValueError):
    """A file that is no caffemodel, or a damaged one; the message names it."""


class _Malformed(Exception):
    """What is wrong with the bytes."""


def read(path):
    """The layers of a caffemodel, in its order: name, type, blobs (float32 arrays, views of one buffer), legacy.

    Types are today's names; '' where the file has none. Raises IOError if there is no such file, CaffemodelError if it
    is not a caffemodel, is damaged, or is HDF5.
    """
    return _read(path, 'caffemodel', _layers)


def definition(path):
    """The net that a caffemodel says it is of: the file without its blobs, as caffe_pb2.NetParameter.FromString reads it.

    Raises as `read` does.
    """
    return b''.join(_read(path, 'caffemodel', _without_blobs))


def read_state(path):
    """(iteration, path of the weights, history) of a solverstate; history is a list of arrays, one a parameter blob.

    Raises as `read` does.
    """
    return _read(path, 'solverstate', _state)[0]


def _read(path, kind, reader):
    if not os.path.isfile(path):
        raise IOError('%s: no such file; wanted a %s' % (path, kind))
    data = bytearray(os.path.getsize(path))
    rest = memoryview(data)
    with io.open(path, 'rb', buffering=0) as f:     # unbuffered: straight into `data`
        while len(rest):
            rest = rest[f.readinto(rest) or len(rest):]
    try:
        if data[:4] == b'\x89HDF':
            raise _Malformed('it is HDF5; save the weights as binary (snapshot_format: BINARYPROTO, or net.save)')
        return list(reader(data))
    except _Malformed as error:
        raise CaffemodelError('%s: %s. Wanted a %s; got %d bytes that begin with %r. If it is one, it is '
                              'damaged: copy or fetch it again' % (path, error, kind, len(data), bytes(data[:16])))


def write(path, layers, name=''):
    """Write (name, type, blobs, ...) tuples as a caffemodel of today's format, each array in its own shape.

    Written beside `path` and renamed when complete. Raises IOError if it cannot be written; nothing is left then.
    """
    temporary = path + '.tmp'
    try:
        with open(temporary, 'wb') as f:
            f.write(encode_field(1, name.encode('utf-8')) if name else b'')
            for layer in layers:
                _write_layer(f, *layer[:3])
        os.rename(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        if not isinstance(error, (IOError, OSError)):
            raise
        raise IOError('%s: cannot be written: %s. Nothing of it was left behind; free some disk space, make the folder '
                      'or choose another place' % (os.path.abspath(path), error))


# -- reading -----------------------------------------------------------------------------------------------------------
def _varint(data, i, end):
    begin, value, shift = i, 0, 0
    while True:
        if i >= end:
            raise _Malformed('it ends inside a number at byte %d' % begin)
        if shift > 63:
            raise _Malformed('the number at byte %d does not end' % begin)
        byte = data[i]
        i += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, i
        shift += 7


def _fields(data, i, end):
    """The fields of a message: number, wire type, and the value twice (varint) or where it begins and ends.

    Of 32 and 64 bit fields the key is included; a run of unpacked numbers comes as one field.
    """
    count = 0
    while i < end:
        begin, count = i, count + 1
        if count > MAX_FIELDS:
            raise _Malformed('one message has more than %d fields' % MAX_FIELDS)
        key, i = _varint(data, i, end)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise _Malformed('there is no field %d (byte %d)' % (number, begin))
        if kind == VARINT:
            value, i = _varint(data, i, end)
            yield number, kind, value, value
        elif kind == BYTES:
            length, i = _varint(data, i, end)
            if length > end - i:
                raise _Malformed('field %d at byte %d should have %d bytes, but only %d are left'
                                 % (number, begin, length, end - i))
            yield number, kind, i, i + length
            i += length
        elif kind in (FIXED32, FIXED64):
            width = 4 if kind == FIXED32 else 8
            if width > end - i:
                raise _Malformed('field %d at byte %d is cut off' % (number, begin))
            if number in UNPACKED:
                if i - begin != 1:
                    raise _Malformed('field %d at byte %d is spelt in %d bytes' % (number, begin, i - begin))
                i = _run(data, begin, end, key, width + 1)
            else:
                i += width
            yield number, kind, begin, i
        else:
            raise _Malformed('wire type %d at byte %d is none that Caffe writes' % (kind, begin))


def _run(data, begin, end, key, stride):
    """Where the records of `stride` bytes that all begin with the byte `key` end; looks ahead in growing steps."""
    stop, step = begin, 16
    while stop + stride <= end:
        n = min(step, (end - stop) // stride)
        other = np.flatnonzero(np.frombuffer(data, np.uint8, n * stride, stop)[::stride] != key)
        if other.size:
            return stop + int(other[0]) * stride
        stop += n * stride
        step *= 2
    return stop


def _numbers(data, kind, a, b, dtype):
    """The floats of one field: a view if packed."""
    size = np.dtype(dtype).itemsize
    if kind == BYTES:
        if (b - a) % size:
            raise _Malformed('a field of numbers of %d bytes each has %d bytes at byte %d' % (size, b - a, a))
        return np.frombuffer(data, dtype, (b - a) // size, a) if b > a else np.zeros(0, dtype)
    records = np.dtype([('key', 'u1'), ('value', dtype)])
    return np.frombuffer(data, records, (b - a) // (size + 1), a)['value']


def _signed(value, bits):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _text(data, a, b):
    try:
        return bytes(data[a:b]).decode('utf-8')
    except UnicodeError:
        raise _Malformed('the name at byte %d is no text: %r' % (a, bytes(data[a:min(b, a + 16)])))


def _dims(data, a, b, dims):
    for number, kind, c, d in _fields(data, a, b):
        if number == 1 and kind == VARINT:
            dims.append(_signed(c, 64))
        while number == 1 and kind == BYTES and c < d and len(dims) <= MAX_AXES:
            value, c = _varint(data, c, d)
            dims.append(_signed(value, 64))
        if len(dims) > MAX_AXES:
            raise _Malformed('a blob has more than %d axes (byte %d)' % (MAX_AXES, a))


def _blob(data, a, b, who):
    """A BlobProto as a float32 array, and whether its shape is of the old kind."""
    dims, legacy, parts = [], {}, {5: [], 8: []}
    for number, kind, c, d in _fields(data, a, b):
        if number <= 4 and kind == VARINT:
            legacy[number] = _signed(c, 32)
        elif number in FLOATS and kind in (BYTES, FLOATS[number][1]):
            parts[number].append(_numbers(data, kind, c, d, FLOATS[number][0]))
        elif number == 7 and kind == BYTES:
            _dims(data, c, d, dims)
        elif number in (1, 2, 3, 4, 5, 7, 8):
            raise _Malformed('%s: field %d has wire type %d' % (who, number, kind))
    shape = tuple(legacy.get(k, 0) for k in (1, 2, 3, 4)) if legacy else tuple(dims)
    chosen = [p for p in parts[8] if p.size] or parts[5]
    values = chosen[0] if len(chosen) == 1 else np.concatenate([np.zeros(0, np.float32)] + chosen)
    count = places = 1
    for d in shape:
        count *= max(d, -1)
        places *= d or 1        # numpy has no arrays of shape (0, 2**62, 4) either
    if min(shape or (0,)) < 0 or places > INT_MAX or count != values.size:
        raise _Malformed('%s says its shape is %s but holds %d values' % (who, shape, values.size))
    with np.errstate(over='ignore', invalid='ignore'):     # a double beyond float32 becomes inf, as in Caffe
        return values.astype(np.float32, copy=False).reshape(shape), bool(legacy)


def _layers(data):
    if not data:
        raise _Malformed('it is empty')
    seen = set()
    for number, kind, a, b in _fields(data, 0, len(data)):
        if number not in (2, 100):
            continue
        if kind != BYTES:
            raise _Malformed('field %d of the net has wire type %d' % (number, kind))
        seen.add(number)
        layer = _layer(data, a, b, 1, 2, BYTES, 7) if number == 100 else _old_layer(data, a, b)
        if layer is not None:
            yield layer
    if len(seen) != 1:
        raise _Malformed('it holds both `layer` and `layers` (V1) fields' if seen else 'it holds no layer')


def _layer(data, a, b, name_number, type_number, type_kind, blobs_number):
    """A layer message given the numbers of the three fields wanted of it; a type is a text or, in V1, a number."""
    name, kind_of, fields = '', '', []
    for number, kind, c, d in _fields(data, a, b):
        if number in (name_number, blobs_number) and kind != BYTES:
            raise _Malformed('field %d of a layer has wire type %d (byte %d)' % (number, kind, a))
        if number == name_number:
            name = _text(data, c, d)
        elif (number, kind) == (type_number, type_kind):
            kind_of = _text(data, c, d) if kind == BYTES else V1_TYPES.get(c) or ''
        elif number == blobs_number:
            fields.append((c, d))
    blobs = [_blob(data, c, d, "layer '%s' blob %d" % (name, i)) for i, (c, d) in enumerate(fields)]
    return Layer(name, kind_of, [array for array, _ in blobs], any(old for _, old in blobs))


def _old_layer(data, a, b):
    """A layer of format V1, or of V0 inside it; None for V0's padding layers, which hold nothing."""
    nested = [(c, d) for number, kind, c, d in _fields(data, a, b) if number == 1 and kind == BYTES]
    if not nested:
        return _layer(data, a, b, 4, 5, VARINT, 6)
    if len(nested) > 1:
        raise _Malformed('a layer of format V0 at byte %d is in pieces' % a)
    layer = _layer(data, nested[0][0], nested[0][1], 1, 2, BYTES, 50)
    return None if layer.type == 'padding' else layer._replace(type=V0_TYPES.get(layer.type, ''))


def _without_blobs(data):
    """The pieces of a net, its layers without blobs."""
    if not any(number in (2, 100) for number, _, _, _ in _fields(data, 0, len(data))):
        raise _Malformed('it holds no layer')
    for number, kind, a, b in _fields(data, 0, len(data)):
        if number == 100 and kind == BYTES:
            yield encode_field(100, _pruned(data, a, b, 7))
        elif number == 2 and kind == BYTES:
            yield encode_field(2, _pruned(data, a, b, 6, within=50))
        else:
            yield _again(data, number, kind, a, b)


def _pruned(data, a, b, blobs_number, within=None):
    """A layer message without its blobs. within: the number of the blobs of a V0 layer, which is field 1 of a V1 layer."""
    parts = []
    for number, kind, c, d in _fields(data, a, b):
        if number == 1 and within and kind == BYTES:
            parts.append(encode_field(1, _pruned(data, c, d, within)))
        elif number != blobs_number:
            parts.append(_again(data, number, kind, c, d))
    return b''.join(parts)


def _again(data, number, kind, a, b):
    """A field as it was: `_fields` backwards."""
    if kind == VARINT:
        return encode_number(number << 3) + encode_number(a)
    return encode_field(number, bytes(data[a:b])) if kind == BYTES else bytes(data[a:b])


def _state(data):
    """One (iteration, path of the weights, history) of a SolverState."""
    iteration, model, history = 0, '', []
    for number, kind, a, b in _fields(data, 0, len(data)):
        if number == 1 and kind == VARINT:
            iteration = _signed(a, 32)
        elif number == 2 and kind == BYTES:
            model = _text(data, a, b)
        elif number == 3 and kind == BYTES:
            history.append(_blob(data, a, b, 'history blob %d' % len(history))[0])
    yield iteration, model, history


# -- writing -----------------------------------------------------------------------------------------------------------
def encode_number(value):
    """A number of 0 or more, as protobuf writes it."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _head(number, length):
    return encode_number(number << 3 | BYTES) + encode_number(length)


def encode_field(number, payload):
    """A field of bytes: a text, or a message within the message."""
    return _head(number, len(payload)) + payload


def _write_layer(f, name, kind, blobs):
    arrays = [np.ascontiguousarray(blob, '<f4').reshape(np.shape(blob)) for blob in blobs]   # keeps 0 axes 0
    parts = []
    for array in arrays:
        dims = b''.join(encode_number(d) for d in array.shape)
        before = _head(5, array.nbytes) if array.size else b''
        after = encode_field(7, encode_field(1, dims)) if array.ndim else b''   # as Caffe, no shape for 0 axes
        parts.append((_head(7, len(before) + array.nbytes + len(after)) + before, array, after))
    head = encode_field(1, name.encode('utf-8')) + encode_field(2, kind.encode('utf-8'))
    f.write(_head(100, len(head) + sum(len(before) + array.nbytes + len(after) for before, array, after in parts)))
    f.write(head)
    for before, array, after in parts:
        f.write(before)
        array.tofile(f)
        f.write(after)
