"""crop of the stand-in: offsets from where the units of both blobs lie in the input."""
from __future__ import division, print_function

from .net_spec import layers


def place(top):
    """(pixels from unit to unit, pixel on which unit 0 is centred) of a top."""
    fn = top.fn
    if not fn.inputs:
        return 1.0, 0.0
    step, first = place(fn.inputs[0])
    params = fn.params.get('convolution_param', fn.params)
    reach = (params.get('kernel_size', 1) - 1) / 2 - params.get('pad', 0)
    if fn.type_name in ('Convolution', 'Pooling'):
        return step * params.get('stride', 1), first + reach * step
    if fn.type_name == 'Deconvolution':
        step /= params.get('stride', 1)
        return step, first - reach * step
    if fn.type_name == 'Crop':
        return step, first + fn.params['crop_param']['offset'][0] * step
    return step, first


def crop(top_from, top_to):
    """A Crop of the first to the place and size of the second."""
    (step, first), (step_to, first_to) = place(top_from), place(top_to)
    offset = (first_to - first) / step
    assert step == step_to and offset == int(offset) >= 0, (step, step_to, offset)
    return layers.Crop(top_from, top_to, crop_param=dict(axis=2, offset=[int(offset)]))
