"""The three ways to learn that the papers compare, as changes to a solver: --learning heavy, online or accumulation.

                 images a step   momentum   learning rate
    heavy              1           0.99     1e-10 of the sum over pixels: how the released nets on VGG16 were trained
    online             1           0.9      the same
    accumulation      20           0.9      1e-4 of the mean over pixels: how the CVPR paper trained on VGG16

What a momentum p does over k images it does over one image as p^(1/k): 0.9 at 20 images a step is 0.9947 an image, near
the 0.99 of heavy learning. So accumulation and heavy remember gradients for about as many images, online for ten times less.

A learning rate belongs to a reduction. A loss that is a sum over pixels has gradients as many times those of the mean as
there are pixels, so 1e-10 of the sum is 500 x 375 x 1e-10 = 1.9e-5 of the mean, for the usual image of PASCAL VOC. The
paper's 1e-4 is RATIO times that. A solver that is of one way gets to be of another by multiplying or dividing its base_lr
by RATIO, whatever its loss is reduced by, and whatever it divides the first stage's learning rate by.
"""
from __future__ import division, print_function

WAYS = {'heavy': (1, 0.99), 'online': (1, 0.9), 'accumulation': (20, 0.9)}     # iter_size, momentum
PIXELS = 500 * 375
RATIO = 1e-4 / (PIXELS * 1e-10)     # 5.33: learning rate of accumulation : that of heavy and online


class LearningError(ValueError):
    """A solver that learns in none of the three ways; the message says how it does."""


def way_of(param):
    """Which of the WAYS a solver (SolverParameter) has, or None."""
    for way, (iter_size, momentum) in WAYS.items():
        if param.iter_size == iter_size and abs(param.momentum - momentum) < 1e-6:
            return way
    return None


def steps_ratio(param, way):
    """How many steps of a way see as many images as one step of the solver (SolverParameter); LearningError if unknown."""
    return WAYS[_known(param)][0] / WAYS[way][0]


def change(param, way):
    """Make a solver (SolverParameter) learn in another of the WAYS; nothing else of it changes. Raises LearningError."""
    param.base_lr *= rate(way) / rate(_known(param))
    param.iter_size, param.momentum = WAYS[way]


def _known(param):
    way = way_of(param)
    if way is None:
        raise LearningError('the solver has iter_size %d and momentum %g, which is none of the ways to learn it could be '
                            'changed from (%s); train without --learning'
                            % (param.iter_size, param.momentum, ', '.join('%s: %d and %g' % ((name,) + WAYS[name])
                                                                          for name in sorted(WAYS))))
    return way


def rate(way):
    """The learning rate of a way, in terms of that of heavy learning."""
    return RATIO if way == 'accumulation' else 1.


def told(param, mean):
    """One line: how a solver learns. mean: its loss is the mean over pixels, not their sum."""
    way, images = way_of(param), param.iter_size
    if mean:
        other = '%.2g of the sum' % (param.base_lr / PIXELS)
    else:
        other = '%.2g of the mean' % (param.base_lr * PIXELS)
    return ('learning%s: %d image%s a step, momentum %g%s, base_lr %.4g of the loss, which is the %s over pixels (%s, for '
            'images of 500 x 375)' % (
                ' (%s)' % way if way else '', images, 's' if images > 1 else '', param.momentum,
                ' (%.4f an image)' % param.momentum ** (1. / images) if images > 1 else '', param.base_lr,
                'mean' if mean else 'sum', other))


def is_mean(net):
    """True if the first loss of a net (NetParameter) is the mean over the pixels that count, False if it is their sum.

    Caffe's own rule: `normalization` (default: the mean) unless only the older `normalize` is given; a batch is one image.
    """
    for layer in net.layer:
        if layer.type == 'SoftmaxWithLoss':
            param = layer.loss_param
            if param.HasField('normalization') or not param.HasField('normalize'):
                return type(param).NormalizationMode.Name(param.normalization) in ('FULL', 'VALID')
            return param.normalize
    return True
