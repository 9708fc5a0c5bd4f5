"""AlexNet up to fc7, fully convolutional, as CaffeNet has it: pooling comes before the local response normalization.

    conv1 pool1 norm1    96 wide, 11x11, stride 8 after pooling      conv2, conv4 and conv5 are in two groups, as when
    conv2 pool2 norm2   256       5x5           16                   the net was trained on two GPUs; fc6 and fc7 are
    conv3 conv4 conv5   384 384 256  3x3        16                   the fully connected layers as 6x6 and 1x1
    pool5                                       32                   convolutions
    fc6 fc7            4096                     32
"""
from __future__ import division, print_function

from which_caffe import caffe

L, P = caffe.layers, caffe.params

WIDTHS = (96, 256, 384, 384, 256, 4096)     # of the five convolutions and of fc6 and fc7


def conv_relu(bottom, num_output, kernel_size, stride=1, pad=0, group=1, **param):
    """A convolution and its in-place ReLU: (conv, relu), the tops to name."""
    conv = L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad, group=group,
                         **param)
    return conv, L.ReLU(conv, in_place=True)


def pool_norm(bottom):
    """3x3 max pooling and normalization over 5 channels: (pool, norm)."""
    pool = max_pool(bottom)
    return pool, L.LRN(pool, local_size=5, alpha=1e-4, beta=0.75)


def max_pool(bottom):
    """Max pooling; neighbouring windows share a row. Caffe rounds the size of its output up."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)


def trunk(n, widths=WIDTHS, param=None):
    """Name conv1 to drop7 in the NetSpec `n`, beginning at n.data; return the last, n.drop7, of stride 32.

    `widths`: six numbers, the channels of the five convolutions and of fc6 and fc7; all but the third even.
    `param`: how weights and biases learn. None, as released: Caffe's defaults, biases like weights.
    """
    w1, w2, w3, w4, w5, fc = widths
    learning = {} if param is None else dict(param=param)

    # pad 100: as in vgg16.py, so that an image of any size gives at least one unit of fc6
    n.conv1, n.relu1 = conv_relu(n.data, w1, 11, stride=4, pad=100, **learning)
    n.pool1, n.norm1 = pool_norm(n.relu1)

    n.conv2, n.relu2 = conv_relu(n.norm1, w2, 5, pad=2, group=2, **learning)
    n.pool2, n.norm2 = pool_norm(n.relu2)

    n.conv3, n.relu3 = conv_relu(n.norm2, w3, 3, pad=1, **learning)
    n.conv4, n.relu4 = conv_relu(n.relu3, w4, 3, pad=1, group=2, **learning)
    n.conv5, n.relu5 = conv_relu(n.relu4, w5, 3, pad=1, group=2, **learning)
    n.pool5 = max_pool(n.relu5)

    n.fc6, n.relu6 = conv_relu(n.pool5, fc, 6, **learning)
    n.drop6 = L.Dropout(n.relu6, dropout_ratio=0.5, in_place=True)
    n.fc7, n.relu7 = conv_relu(n.drop6, fc, 1, **learning)
    n.drop7 = L.Dropout(n.relu7, dropout_ratio=0.5, in_place=True)
    return n.drop7
