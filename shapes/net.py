"""The paper's staircase, narrow: a VGG-like classifier, and FCN-32s, 16s and 8s on its trunk.

    classifier   data -> conv1 pool1 ... conv5 pool5 -> fc6 fc7 fc8                     (112 x 112 pictures of one thing)
    FCN-32s      data -> conv1 pool1 ... conv5 pool5 -> fc6 fc7 -> score_fr -> 32x      (fc6 and fc7 as convolutions)
    FCN-16s                        score_pool4 + 2x score_fr -> 16x
    FCN-8s           score_pool3 + 2x (score_pool4 + 2x score_fr) -> 8x

What is not as in VGG16: one convolution a stage instead of two or three, 8 to 256 channels instead of 64 to 4096, and
fc6 sees 4 x 4 units instead of 7 x 7, which is what five poolings leave of 112 pixels. (With 3 x 3 so little is cut off
at the border that the skips come out too small for some image sizes.) Names, strides, padding, dropout and loss are as
in voc-fcn*/net.py. `python shapes/net.py` writes the prototxts beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P
from caffe.coord_map import crop

from parts import FROZEN, LEARNED, VOC_MEAN, deploy, python_data, upscore, write_nets
from vgg16 import max_pool

CLASSES = 7             # background and six shapes; the classifier knows the six
WIDTHS = (8, 16, 32, 48, 64, 256)   # of the five stages and of fc6 and fc7
BATCH = 16              # pictures a step of the classifier
# Score layers start at zero and learn this much faster than the rest, because they have so much less to add up than
# VGG16's: 4096 / 256 inputs of fc7, 512 / 48 of pool4, 256 / 32 of pool3. At equal rates the trunk is ruined, pulled
# about by scores that do not mean anything yet, before the scores have become any good.
RATES = dict(fc7=16, pool4=10, pool3=8)


def learned(rate=1):
    """Parameters that learn: weights at `rate`, biases at twice that and without decay."""
    return [dict(lr_mult=rate, decay_mult=1), dict(lr_mult=2 * rate, decay_mult=0)]


def stages(n, pad, param, **fillers):
    """Name conv1_1 to pool5 in the NetSpec, beginning at n.data; return n.pool5, of stride 32."""
    # VGG16's weights were made for pixels of -128..127. These begin at random, and He's deviations (msra) keep signals
    # at the size they come in, which had better be about 1. (voc-fcn8s-atonce has such fixed Scale layers, too.)
    bottom = n.scale_data = L.Scale(n.data, filler=dict(type='constant', value=1 / 64), param=FROZEN)
    for i, width in enumerate(WIDTHS[:5], 1):
        conv = L.Convolution(bottom, num_output=width, kernel_size=3, pad=pad if i == 1 else 1, param=param, **fillers)
        n['conv%d_1' % i], n['relu%d_1' % i] = conv, L.ReLU(conv, in_place=True)
        bottom = n['pool%d' % i] = max_pool(n['relu%d_1' % i])
    return bottom


def relu_drop(n, i, fc):
    """Name fc6 or fc7, its ReLU and its dropout; return the last."""
    n['fc%d' % i], n['relu%d' % i] = fc, L.ReLU(fc, in_place=True)
    n['drop%d' % i] = L.Dropout(n['relu%d' % i], dropout_ratio=0.5, in_place=True)
    return n['drop%d' % i]


def classifier(data, classes):
    """The classifier. `data`: two tops, pictures (N x 3 x 112 x 112) and classes (N)."""
    n = caffe.NetSpec()
    n.data, n.label = data
    bottom = stages(n, 1, LEARNED, weight_filler=dict(type='msra'))
    for i in (6, 7):
        bottom = relu_drop(n, i, L.InnerProduct(bottom, num_output=WIDTHS[5], param=LEARNED,
                                                weight_filler=dict(type='msra')))
    n.fc8 = L.InnerProduct(bottom, num_output=classes, param=LEARNED, weight_filler=dict(type='gaussian', std=0.01))
    n.loss = L.SoftmaxWithLoss(n.fc8, n.label)
    n.accuracy = L.Accuracy(n.fc8, n.label)
    return n.to_proto()


def fcn(stride, data, classes=CLASSES, fixed=False):
    """FCN-32s, 16s or 8s (`stride`). `data`: two tops, images (1 x 3 x H x W) and labels (1 x 1 x H x W).

    fixed: only the score layers learn, the trunk stays as the classifier left it.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    param = learned(0 if fixed else 1)
    bottom = stages(n, 100, param)
    for i, kernel_size in ((6, 4), (7, 1)):
        bottom = relu_drop(n, i, L.Convolution(bottom, num_output=WIDTHS[5], kernel_size=kernel_size, param=param))

    n.score_fr = score(n.drop7, classes, RATES['fc7'])
    if stride == 32:
        last = n.upscore = upscore(n.score_fr, classes, kernel_size=64, stride=32)
    else:
        n.upscore2 = upscore(n.score_fr, classes, kernel_size=4, stride=2)
        n.score_pool4 = score(n.pool4, classes, RATES['pool4'])
        n.score_pool4c = crop(n.score_pool4, n.upscore2)
        n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    if stride == 16:
        last = n.upscore16 = upscore(n.fuse_pool4, classes, kernel_size=32, stride=16)
    if stride == 8:
        n.upscore_pool4 = upscore(n.fuse_pool4, classes, kernel_size=4, stride=2)
        n.score_pool3 = score(n.pool3, classes, RATES['pool3'])
        n.score_pool3c = crop(n.score_pool3, n.upscore_pool4)
        n.fuse_pool3 = L.Eltwise(n.upscore_pool4, n.score_pool3c, operation=P.Eltwise.SUM)
        last = n.upscore8 = upscore(n.fuse_pool3, classes, kernel_size=16, stride=8)

    n.score = crop(last, n.data)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()


def score(bottom, classes, rate):
    """A score for every class at every unit. It has no filler, so it starts at exactly zero."""
    return L.Convolution(bottom, num_output=classes, kernel_size=1, param=learned(rate))


def crops(split, classes=CLASSES - 1, root='../data/shapes/crops'):
    """(data, label) of the classifier's pictures."""
    return python_data('crop_layers', 'CropDataLayer', [
        ('crop_dir', root), ('seed', 1337), ('split', split), ('mean', VOC_MEAN), ('batch_size', BATCH),
        ('classes', classes)])


def scenes(split):
    """(data, label) of the scenes: as in the paper, in SBD's layout to train on and in VOC's to be scored."""
    layer, source = dict(train=('SBDDSegDataLayer', ('sbdd_dir', '../data/shapes/sbdd')),
                         val=('VOCSegDataLayer', ('voc_dir', '../data/shapes/voc')))[split]
    return python_data('voc_layers', layer, [source, ('seed', 1337), ('split', split), ('mean', VOC_MEAN),
                                             ('classes', CLASSES)])


def nets():
    """The net of every prototxt in this folder, by its name."""
    named = dict(('classifier_' + split, classifier(crops(split), CLASSES - 1)) for split in ('train', 'val'))
    named['fcn32s-fixed_train'] = fcn(32, scenes('train'), fixed=True)
    for stride in (32, 16, 8):
        for split in ('train', 'val'):
            named['fcn%ds_%s' % (stride, split)] = fcn(stride, scenes(split))
        named['fcn%ds_deploy' % stride] = deploy(named['fcn%ds_val' % stride], (1, 3, 192, 256))
    return named


if __name__ == '__main__':
    write_nets(__file__, nets())
