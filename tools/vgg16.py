"""The VGG 16-layer net up to fc7, fully convolutional: the trunk of every FCN but those on AlexNet and GoogLeNet.

    conv1_1 conv1_2 pool1   64 wide, stride 2       two or three 3x3 convolutions a stage, each with its ReLU,
    conv2_1 conv2_2 pool2  128        4             then 2x2 max pooling; fc6 and fc7 are the classifier's fully
    conv3_1 .. _3   pool3  256        8             connected layers as 7x7 and 1x1 convolutions, so the same
    conv4_1 .. _3   pool4  512       16             weights slide over an image of any size
    conv5_1 .. _3   pool5  512       32
    fc6 fc7               4096       32
"""
from __future__ import division, print_function

import functools

from which_caffe import caffe

from parts import LEARNED

L, P = caffe.layers, caffe.params

WIDTHS = (64, 128, 256, 512, 512, 4096)     # of the five stages and of fc6 and fc7


def conv_relu(bottom, num_output, kernel_size=3, stride=1, pad=1, param=LEARNED):
    """A convolution and its in-place ReLU: (conv, relu), the tops to name."""
    conv = L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad, param=param)
    return conv, L.ReLU(conv, in_place=True)


def max_pool(bottom, kernel_size=2, stride=2):
    """Max pooling; Caffe rounds the size of its output up."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, stride=stride)


def trunk(n, widths=WIDTHS, param=LEARNED, first='conv1_1'):
    """Name conv1_1 to drop7 in the NetSpec `n`, beginning at n.data; return the last, n.drop7, of stride 32.

    `widths`: six numbers, the channels of the five stages and of fc6 and fc7 (less of them makes a net for tests).
    `param`: how weights and biases learn. `first`: the name of the first layer, another one where its shape is another.
    """
    w1, w2, w3, w4, w5, fc = widths
    conv = functools.partial(conv_relu, param=param)

    # pad 100: a 7x7 fc6 at stride 32 needs 193 pixels of input before it gives one unit; with 100 pixels of border
    # every input down to 1x1 gives at least one, and the upsampled scores reach beyond the image on all sides
    n[first], n.relu1_1 = conv(n.data, w1, pad=100)
    n.conv1_2, n.relu1_2 = conv(n.relu1_1, w1)
    n.pool1 = max_pool(n.relu1_2)

    n.conv2_1, n.relu2_1 = conv(n.pool1, w2)
    n.conv2_2, n.relu2_2 = conv(n.relu2_1, w2)
    n.pool2 = max_pool(n.relu2_2)

    n.conv3_1, n.relu3_1 = conv(n.pool2, w3)
    n.conv3_2, n.relu3_2 = conv(n.relu3_1, w3)
    n.conv3_3, n.relu3_3 = conv(n.relu3_2, w3)
    n.pool3 = max_pool(n.relu3_3)

    n.conv4_1, n.relu4_1 = conv(n.pool3, w4)
    n.conv4_2, n.relu4_2 = conv(n.relu4_1, w4)
    n.conv4_3, n.relu4_3 = conv(n.relu4_2, w4)
    n.pool4 = max_pool(n.relu4_3)

    n.conv5_1, n.relu5_1 = conv(n.pool4, w5)
    n.conv5_2, n.relu5_2 = conv(n.relu5_1, w5)
    n.conv5_3, n.relu5_3 = conv(n.relu5_2, w5)
    n.pool5 = max_pool(n.relu5_3)

    n.fc6, n.relu6 = conv(n.pool5, fc, kernel_size=7, pad=0)
    n.drop6 = L.Dropout(n.relu6, dropout_ratio=0.5, in_place=True)
    n.fc7, n.relu7 = conv(n.drop6, fc, kernel_size=1, pad=0)
    n.drop7 = L.Dropout(n.relu7, dropout_ratio=0.5, in_place=True)
    return n.drop7
