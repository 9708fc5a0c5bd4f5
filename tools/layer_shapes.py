"""The shape of every blob of a net, and where its units lie on the input, from the prototxt alone.

`data_tops` and `layer_tops` give what one layer makes of its bottoms by Caffe's own rules, for the layer types of the
FCN, VGG16, CaffeNet, GoogLeNet and LeNet families; any other type is an error. No net is built. Used by explain.py.
"""
from __future__ import division, print_function

import collections

from which_caffe import caffe  # noqa: F401  before anything of caffe
from caffe.proto import caffe_pb2

DEFAULT_SIZE = (500, 500)   # of a Python data layer when no --size is given: the placeholder of the released deploy net

# Types whose top is as large as their bottom, unit by unit.
POINTWISE = ('AbsVal', 'BNLL', 'Clip', 'Dropout', 'ELU', 'Exp', 'Log', 'Power', 'ReLU', 'Sigmoid', 'Softmax',
             'Swish', 'TanH', 'Threshold')
LOSSES = ('SoftmaxWithLoss', 'EuclideanLoss', 'HingeLoss', 'SigmoidCrossEntropyLoss', 'InfogainLoss',
          'MultinomialLogisticLoss', 'ContrastiveLoss')

# A spatial axis of a blob: receptive field, pixels from unit to unit (None: there is one unit only), first centre.
Axis = collections.namedtuple('Axis', 'field step centre')
# What is known of a blob: its shape, and one Axis for each axis after the channels (none where that has no meaning).
Blob = collections.namedtuple('Blob', 'shape grid')


class ShapeError(ValueError):
    """A layer whose shapes are unknown or do not fit, with what was found and what was wanted."""


def product(numbers):
    """The product of whole numbers; 1 of none."""
    total = 1
    for number in numbers:
        total *= number
    return total


def times(numbers):
    """A shape in words: '1x3x500x500', or 'scalar' without axes."""
    return 'x'.join('%g' % number for number in numbers) or 'scalar'


# Data: shapes that nothing but the data decides, so some of them are asked for: `size`.

def _pixels(shape):
    """A blob of input pixels."""
    return Blob(tuple(shape), [Axis(1, 1, 0)] * max(0, len(shape) - 2))


def _resized(shape, size):
    """The shape of an Input layer with the size asked for, which its own is but a placeholder for."""
    shape = list(shape)
    if size is not None and len(shape) == 4:
        shape[-len(size):] = size
    return _pixels(shape)


def input_tops(net, size):
    """(name, Blob) pairs of the inputs that a net has in the old way, as `input` fields of its own."""
    shapes = [list(shape.dim) for shape in net.input_shape]
    shapes = shapes or [list(net.input_dim[i:i + 4]) for i in range(0, len(net.input_dim), 4)]
    if len(shapes) != len(net.input):
        raise ShapeError('the net has %d inputs, but %d input shapes' % (len(net.input), len(shapes)))
    return [(name, _resized(shape, size)) for name, shape in zip(net.input, shapes)]


def data_tops(layer, layers, size):
    """The Blobs a layer without bottoms makes; `layers` are all of the net, `size` is (H, W), (C, H, W) or None."""
    if layer.type in ('Input', 'DummyData'):
        shapes = layer.input_param.shape if layer.type == 'Input' else layer.dummy_data_param.shape
        blobs = [_resized(shape.dim, size) for shape in shapes]
        if len(blobs) not in (1, len(layer.top)):
            raise ShapeError('has %d tops and %d shapes; wanted one shape, or one a top' % (len(layer.top), len(blobs)))
        if len(blobs) > 1 and size is not None and len(size) == 3:
            raise ShapeError('has %d tops, whose channels --size cannot say; give height and width alone' % len(blobs))
        return blobs * len(layer.top) if len(blobs) == 1 else blobs
    if layer.type == 'Python':
        return _python_data(layer, layers, tuple(size or DEFAULT_SIZE))
    if layer.type not in ('Data', 'ImageData'):
        raise ShapeError('has no bottoms and a type whose tops are not known. Known: Data, DummyData, ImageData, '
                         'Input, Python. In a copy of the net, put an Input layer in its place')
    param = layer.data_param if layer.type == 'Data' else layer.image_data_param
    crop = layer.transform_param.crop_size
    if size is None and not crop:
        raise ShapeError('the size of its images is not in the prototxt; give it: --size HxW, or CxHxW')
    size = tuple(size or (crop, crop))
    return [_pixels((param.batch_size,) + (size if len(size) == 3 else (3,) + size)), _pixels((param.batch_size,))]


def _python_data(layer, layers, size):
    """One image and what belongs to its pixels: tops that a loss compares with, and depth, have one channel.

    What is compared with the scores of an InnerProduct, which has no pixels, is one number an image.
    """
    compared = [other.bottom for other in layers if other.type in LOSSES + ('Accuracy',) and len(other.bottom) > 1]
    whole = set(top for other in layers if other.type == 'InnerProduct' for top in other.top)
    of_image = [bottom[1] for bottom in compared if bottom[0] in whole]
    labels = [bottom[1] for bottom in compared] + ['depth']
    channels = size[0] if len(size) == 3 else 3
    return [_pixels((1,) if name in of_image else (1, 1 if name in labels else channels) + size[-2:]) for name in layer.top]


def layer_tops(layer, bottoms):
    """(tops, facts) of a layer with these bottoms, Blobs all. ShapeError for an unknown type or shapes that do not fit.

    Facts, where there are any: kernel, stride, crop, slack (lists, one number an axis), params (the element counts of
    the parameter blobs), multiply_adds.
    """
    if layer.type not in RULES:
        raise ShapeError('its shapes are not known. Known types: %s, and layers without bottoms'
                         % ', '.join(sorted(RULES)))
    return RULES[layer.type](layer, bottoms)


# One rule a type or family.

def _window(param, name, prefix, count, default):
    """`count` numbers of a kernel, stride or pad, given once for all axes, once an axis, or as <prefix>_h and _w."""
    given = getattr(param, name)
    values = list(given) if hasattr(given, 'extend') else [given] if param.HasField(name) else []
    if prefix is not None and (param.HasField(prefix + '_h') or param.HasField(prefix + '_w')):
        values = [getattr(param, prefix + '_h'), getattr(param, prefix + '_w')]
    values = values or [default]
    if len(values) not in (1, count):
        raise ShapeError('%s has %d numbers for %d spatial axes' % (name, len(values), count))
    return values * count if len(values) == 1 else values


def _slide(axis, extent, stride, pad):
    """The axis after a window of this extent slid over it, for convolution and pooling."""
    if axis.step is None:
        return axis
    return Axis(axis.field + (extent - 1) * axis.step, axis.step * stride,
                axis.centre + ((extent - 1) / 2 - pad) * axis.step)


def _unslide(axis, extent, stride, pad):
    """The axis after a deconvolution: each unit of it reads at most extent / stride units, rounded up."""
    if axis.step is None:
        return axis
    return Axis(axis.field + (-(-extent // stride) - 1) * axis.step, axis.step / stride,
                axis.centre - ((extent - 1) / 2 - pad) * axis.step / stride)


def _positive(shape, what):
    if min(shape) < 1:
        raise ShapeError('its %s would be %s: the input is too small; give a larger --size' % (what, times(shape)))
    return tuple(shape)


def _convolution(layer, bottoms):
    param, bottom, up = layer.convolution_param, bottoms[0], layer.type == 'Deconvolution'
    count = len(bottom.shape) - 2
    if not (param.kernel_size or param.HasField('kernel_h')):
        raise ShapeError('has no kernel_size')
    kernel = _window(param, 'kernel_size', 'kernel', count, None)
    stride = _window(param, 'stride', 'stride', count, 1)
    pad = _window(param, 'pad', 'pad', count, 0)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, _window(param, 'dilation', None, count, 1))]
    channels, outputs = bottom.shape[1], param.num_output
    if outputs < 1 or channels % param.group or outputs % param.group:
        raise ShapeError('%d channels and num_output %d do not divide into group %d'
                           % (channels, outputs, param.group))
    sizes, windows = bottom.shape[2:], list(zip(extent, stride, pad))
    if up:
        out = [s * (size - 1) + e - 2 * p for size, (e, s, p) in zip(sizes, windows)]
    else:
        out = [(size + 2 * p - e) // s + 1 for size, (e, s, p) in zip(sizes, windows)]
    shape = _positive((bottom.shape[0], outputs) + tuple(out), 'output')
    weights = channels * outputs // param.group * product(kernel)
    move = _unslide if up else _slide
    grid = [move(axis, *window) for axis, window in zip(bottom.grid, windows)]
    return [Blob(shape, grid)] * len(layer.top), dict(
        kernel=kernel, stride=stride, params=[weights] + [outputs] * param.bias_term,
        multiply_adds=weights * bottom.shape[0] * product(sizes if up else out))


def _pooling(layer, bottoms):
    """Sizes are rounded up unless round_mode says FLOOR; with padding, no window may begin beyond the image."""
    param, bottom = layer.pooling_param, bottoms[0]
    if len(bottom.shape) != 4:
        raise ShapeError('wants a bottom of 4 axes, not %s' % times(bottom.shape))
    if not (param.global_pooling or param.HasField('kernel_size') or param.HasField('kernel_h')):
        raise ShapeError('has no kernel_size')
    kernel = list(bottom.shape[2:]) if param.global_pooling else _window(param, 'kernel_size', 'kernel', 2, None)
    stride, pad = _window(param, 'stride', 'stride', 2, 1), _window(param, 'pad', 'pad', 2, 0)
    out = []
    for size, k, s, p in zip(bottom.shape[2:], kernel, stride, pad):
        spare = size + 2 * p - k
        floor = getattr(param, 'round_mode', 0)     # tag 1.0 of Caffe has no such field and always rounds up
        n = (spare // s if floor else -(-spare // s)) + 1
        out.append(n - 1 if any(pad) and (n - 1) * s >= size + p else n)
    shape = _positive(bottom.shape[:2] + tuple(out), 'output')
    grid = [_slide(axis, k, s, p) for axis, k, s, p in zip(bottom.grid, kernel, stride, pad)]
    return [Blob(shape, grid)] * len(layer.top), dict(kernel=kernel, stride=stride)


def _inner_product(layer, bottoms):
    param, bottom = layer.inner_product_param, bottoms[0]
    axis = param.axis % len(bottom.shape)
    inputs = product(bottom.shape[axis:])
    grid = bottom.grid
    if axis < 2:    # every unit sees every position
        grid = [a if a.step is None else _slide(a, size, 1, 0)._replace(step=None)
                for a, size in zip(grid, bottom.shape[2:] or [1] * len(grid))]
    rows = product(bottom.shape[:axis])
    return [Blob(bottom.shape[:axis] + (param.num_output,), grid)], dict(
        params=[inputs * param.num_output] + [param.num_output] * param.bias_term,
        multiply_adds=rows * inputs * param.num_output)


def _crop(layer, bottoms):
    param, (bottom, reference) = layer.crop_param, bottoms
    axis = param.axis % len(bottom.shape)
    count = len(bottom.shape) - axis
    offset = list(param.offset) or [0]
    if len(offset) not in (1, count) or len(bottom.shape) != len(reference.shape):
        raise ShapeError('%d offsets cannot crop the last %d axes of %s to %s' % (
            len(offset), count, times(bottom.shape), times(reference.shape)))
    offset = offset * count if len(offset) == 1 else offset
    slack = [have - o - want for have, o, want in zip(bottom.shape[axis:], offset, reference.shape[axis:])]
    if min(slack) < 0:
        raise ShapeError('cannot crop %s to the last %d axes of %s at offset %s: too short by %d' % (
            times(bottom.shape), count, times(reference.shape), times(offset), -min(slack)))
    spatial = [0] * len(bottom.grid)
    spatial = (spatial + offset)[-len(spatial):] if spatial else []
    grid = [a if a.step is None else a._replace(centre=a.centre + o * a.step) for a, o in zip(bottom.grid, spatial)]
    return [Blob(bottom.shape[:axis] + reference.shape[axis:], grid)], dict(crop=offset, slack=slack)


def _union(bottoms):
    """The grid of units that read all the bottoms: fields joined. Where steps differ there is no such grid."""
    grid = []
    for axes in zip(*[bottom.grid for bottom in bottoms]):
        if len(set(axis.step for axis in axes)) > 1:
            return []
        low = min(axis.centre - (axis.field - 1) / 2 for axis in axes)
        high = max(axis.centre + (axis.field - 1) / 2 for axis in axes)
        grid.append(Axis(high - low + 1, axes[0].step, (low + high) / 2))
    return grid


def _eltwise(layer, bottoms):
    if len(set(bottom.shape for bottom in bottoms)) > 1:
        raise ShapeError('its bottoms differ in shape: %s' % ', '.join(
            '%s %s' % (name, times(bottom.shape)) for name, bottom in zip(layer.bottom, bottoms)))
    return [Blob(bottoms[0].shape, _union(bottoms))], {}


def _concat(layer, bottoms):
    param = layer.concat_param
    axis = param.concat_dim if param.HasField('concat_dim') else param.axis % len(bottoms[0].shape)
    rest = set(bottom.shape[:axis] + bottom.shape[axis + 1:] for bottom in bottoms)
    if len(rest) > 1:
        raise ShapeError('its bottoms differ beside axis %d: %s' % (axis, ', '.join(
            '%s %s' % (name, times(bottom.shape)) for name, bottom in zip(layer.bottom, bottoms))))
    shape = list(bottoms[0].shape)
    shape[axis] = sum(bottom.shape[axis] for bottom in bottoms)
    return [Blob(tuple(shape), _union(bottoms))], {}


def _slice(layer, bottoms):
    param, bottom = layer.slice_param, bottoms[0]
    axis = param.slice_dim if param.HasField('slice_dim') else param.axis % len(bottom.shape)
    total, tops = bottom.shape[axis], len(layer.top)
    points = [0] + (list(param.slice_point) or [total * i // tops for i in range(1, tops)]) + [total]
    sizes = [end - begin for begin, end in zip(points, points[1:])]
    if len(sizes) != tops or min(sizes) < 1 or (not param.slice_point and total % tops):
        raise ShapeError('cannot slice axis %d of %s into %d tops at %s' % (
            axis, times(bottom.shape), tops, list(param.slice_point)))
    return [Blob(bottom.shape[:axis] + (n,) + bottom.shape[axis + 1:], bottom.grid) for n in sizes], {}


def _flatten(layer, bottoms):
    param, shape = layer.flatten_param, bottoms[0].shape
    axis, end = param.axis % len(shape), param.end_axis % len(shape)
    return [Blob(shape[:axis] + (product(shape[axis:end + 1]),) + shape[end + 1:], [])], {}


def _reshape(layer, bottoms):
    param, shape = layer.reshape_param, bottoms[0].shape
    axis = param.axis % (len(shape) + 1)
    end = len(shape) if param.num_axes == -1 else axis + param.num_axes
    old, dims = shape[axis:end], list(param.shape.dim)
    new = [old[i] if dim == 0 else dim for i, dim in enumerate(dims)]
    if -1 in new:
        new[new.index(-1)] = product(old) // product(dim for dim in new if dim != -1)
    if product(new) != product(old):
        raise ShapeError('cannot reshape %s to dims %s' % (times(shape), dims))
    return [Blob(shape[:axis] + tuple(new) + shape[end:], [])], {}


def _lrn(layer, bottoms):
    param, bottom, grid = layer.lrn_param, bottoms[0], bottoms[0].grid
    if param.norm_region == caffe_pb2.LRNParameter.WITHIN_CHANNEL:
        grid = [_slide(axis, param.local_size, 1, (param.local_size - 1) // 2) for axis in grid]
    return [Blob(bottom.shape, grid)], {}


def _scale(layer, bottoms):
    """Scale and Bias, with a parameter where they have one bottom."""
    param = layer.scale_param if layer.type == 'Scale' else layer.bias_param
    axis = param.axis % len(bottoms[0].shape)
    end = None if param.num_axes == -1 else axis + param.num_axes
    count = product(bottoms[0].shape[axis:end])
    params = [count] if len(bottoms) == 1 else []
    if layer.type == 'Scale' and param.bias_term:
        params.append(count)
    return bottoms[:1], dict(params=params)


def _prelu(layer, bottoms):
    return bottoms[:1], dict(params=[1 if layer.prelu_param.channel_shared else bottoms[0].shape[1]])


def _batch_norm(layer, bottoms):
    channels = bottoms[0].shape[1]
    return bottoms[:1], dict(params=[channels, channels, 1])


def _loss(layer, bottoms):
    """A number. For those by pixel, one label for every unit of the score is wanted."""
    if layer.type in ('SoftmaxWithLoss', 'Accuracy') and len(bottoms) > 1:
        param = layer.accuracy_param if layer.type == 'Accuracy' else layer.softmax_param
        score, label = bottoms[0].shape, bottoms[1].shape
        if product(score) != product(label) * score[param.axis % len(score)]:
            raise ShapeError('wants one label for each unit of the score, but %s is %s and %s is %s' % (
                layer.bottom[0], times(score), layer.bottom[1], times(label)))
    return [Blob((), [])] * len(layer.top), {}


RULES = {
    'Convolution': _convolution, 'Deconvolution': _convolution, 'Pooling': _pooling, 'InnerProduct': _inner_product,
    'Crop': _crop, 'Eltwise': _eltwise, 'Concat': _concat, 'Slice': _slice, 'Flatten': _flatten, 'Reshape': _reshape,
    'LRN': _lrn, 'Scale': _scale, 'Bias': _scale, 'PReLU': _prelu, 'BatchNorm': _batch_norm,
    'Split': lambda layer, bottoms: (bottoms * len(layer.top), {}), 'Silence': lambda layer, bottoms: ([], {}),
}
RULES.update((kind, lambda layer, bottoms: (bottoms[:1], {})) for kind in POINTWISE)
RULES.update((kind, _loss) for kind in LOSSES + ('Accuracy',))
