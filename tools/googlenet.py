"""GoogLeNet up to its last inception module, with the layer names of BVLC's model, so that its weights load by name.

    conv1 pool1 conv2 pool2              stride  8      an inception module looks at its input through windows of 1x1,
    inception_3a 3b pool3                       16      3x3 and 5x5 and through a max pooling, each made cheap by a 1x1
    inception_4a 4b 4c 4d 4e pool4              32      convolution ("reduce"), and joins what they saw
    inception_5a 5b                             32

Left out: the two side classifiers, which only helped the training of the classifier, and its average pooling.
"""
from __future__ import division, print_function

from which_caffe import caffe

from parts import LEARNED

L, P = caffe.layers, caffe.params

# conv1, conv2's reduction, conv2; then for each inception module: 1x1, reduction for 3x3, 3x3, reduction for 5x5, 5x5,
# projection of the pooling
WIDTHS = ((64, 64, 192),
          (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64),
          (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
          (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
          (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


def trunk(n, widths=WIDTHS, param=LEARNED):
    """Name conv1/7x7_s2 to inception_5b/output in the NetSpec `n`, beginning at n.data; return the last, of stride 32.

    `widths`: as WIDTHS. `param`: how weights and biases learn.
    """
    def conv(bottom, name, num_output, kernel_size, stride=1, pad=0):
        n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad, param=param)
        where, _, window = name.partition('/')
        n['%s/relu_%s' % (where, window)] = L.ReLU(n[name], in_place=True)
        return n['%s/relu_%s' % (where, window)]

    def norm(bottom):
        return L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)

    def inception(bottom, name, sizes):
        one, reduce3, three, reduce5, five, project = sizes
        name = 'inception_%s/' % name
        n[name + 'pool'] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=1, pad=1)
        n[name + 'output'] = L.Concat(
            conv(bottom, name + '1x1', one, 1),
            conv(conv(bottom, name + '3x3_reduce', reduce3, 1), name + '3x3', three, 3, pad=1),
            conv(conv(bottom, name + '5x5_reduce', reduce5, 1), name + '5x5', five, 5, pad=2),
            conv(n[name + 'pool'], name + 'pool_proj', project, 1))
        return n[name + 'output']

    stem, i3a, i3b, i4a, i4b, i4c, i4d, i4e, i5a, i5b = widths

    # pad 100 and not the classifier's 3: as in vgg16.py, so that the upsampled scores reach beyond the image on all sides
    conv(n.data, 'conv1/7x7_s2', stem[0], 7, stride=2, pad=100)
    n['pool1/3x3_s2'] = max_pool(n['conv1/relu_7x7_s2'])
    n['pool1/norm1'] = norm(n['pool1/3x3_s2'])

    conv(n['pool1/norm1'], 'conv2/3x3_reduce', stem[1], 1)
    conv(n['conv2/relu_3x3_reduce'], 'conv2/3x3', stem[2], 3, pad=1)
    n['conv2/norm2'] = norm(n['conv2/relu_3x3'])
    n['pool2/3x3_s2'] = max_pool(n['conv2/norm2'])

    inception(n['pool2/3x3_s2'], '3a', i3a)
    inception(n['inception_3a/output'], '3b', i3b)
    n['pool3/3x3_s2'] = max_pool(n['inception_3b/output'])

    inception(n['pool3/3x3_s2'], '4a', i4a)
    inception(n['inception_4a/output'], '4b', i4b)
    inception(n['inception_4b/output'], '4c', i4c)
    inception(n['inception_4c/output'], '4d', i4d)
    inception(n['inception_4d/output'], '4e', i4e)
    n['pool4/3x3_s2'] = max_pool(n['inception_4e/output'])

    inception(n['pool4/3x3_s2'], '5a', i5a)
    return inception(n['inception_5a/output'], '5b', i5b)


def max_pool(bottom):
    """Max pooling; neighbouring windows share a row. Caffe rounds the size of its output up."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)
