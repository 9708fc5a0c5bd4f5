"""FCN-32s on NYUDv2, indoor scenes with depth, in the five variants of the papers.

color, hha       data -> trunk -> score_fr -> upscore -> crop to data: score      one image, or one HHA encoding of depth

color-d          color -+                                                         early fusion: depth is a fourth channel
                        +-> data -> trunk -> score_fr -> upscore -> ...            of the image
                 depth -+

color-hha        color -> trunk -> score_frcolor -+                               late fusion: the mean of the scores of
                                                  +-> score_fused -> upscore ...   two nets, color and hha
                 hha ---> trunk -> score_frhha ---+

color-hha-16s    as color-hha, with a skip: the mean of the scores of both pool4 is added, as in voc-fcn16s. It is in the
                 CVPR paper's Table 4 and was not released; how the two pool4 are joined is chosen here.

HHA: horizontal disparity, height above ground, angle with gravity. `python nyud-fcn32s/net.py` writes
<variant>-trainval.prototxt, <variant>-test.prototxt and <variant>-deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P
from caffe.coord_map import crop

import vgg16
from parts import Suffixed, deploy, nyud_data, score, upscore, write_nets

VARIANTS = {
    'color': dict(inputs=('color',)),
    'hha': dict(inputs=('hha',)),
    'color-d': dict(inputs=('color', 'depth')),
    'color-hha': dict(inputs=('color', 'hha')),
    'color-hha-16s': dict(inputs=('color', 'hha'), stride=16),
}
CHANNELS = dict(color=3, hha=3, depth=1)


def fcn(data, classes=40, widths=vgg16.WIDTHS, inputs=('color',), stride=32):
    """The net of a variant, as a NetParameter. `data`: a top for each of `inputs` (N x C x H x W), and labels.

    `score` has the size of the images and `classes` channels; label 255 counts nowhere.
    """
    n = caffe.NetSpec()
    if len(inputs) == 1:
        n.data, n.label = data
        one_net(n, classes, widths)
    elif inputs == ('color', 'depth'):
        n.color, n.depth, n.label = data
        early_fusion(n, classes, widths)
    elif stride == 32:
        n.color, n.hha, n.label = data
        late_fusion(n, classes, widths)
    else:
        n.color, n.hha, n.label = data
        late_fusion_16s(n, classes, widths)

    # summed over the pixels, not averaged: the learning rate in the solver goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()


def one_net(n, classes, widths):
    """From n.data to n.score."""
    vgg16.trunk(n, widths)
    n.score_fr = score(n.drop7, classes)
    n.upscore = upscore(n.score_fr, classes, kernel_size=64, stride=32)
    n.score = crop(n.upscore, n.data)


def early_fusion(n, classes, widths):
    """From n.color and n.depth to n.score."""
    n.data = L.Concat(n.color, n.depth)
    # its first layer has four channels, blue, green, red and depth, so VGG16's do not fit and must not be loaded by name
    vgg16.trunk(n, widths, first='conv1_1_bgrd')
    n.score_fr = score(n.drop7, classes)
    n.upscore = upscore(n.score_fr, classes, kernel_size=64, stride=32)
    n.score = crop(n.upscore, n.data)


def late_fusion(n, classes, widths):
    """From n.color and n.hha to n.score. The layers of the two nets have `color` and `hha` after their names."""
    color, hha = (Suffixed(n, suffix, data=n[suffix]) for suffix in ('color', 'hha'))
    for net in (color, hha):
        vgg16.trunk(net, widths)
        net.score_fr = score(net.drop7, classes)
    n.score_fused = mean(color.score_fr, hha.score_fr)
    n.upscore = upscore(n.score_fused, classes, kernel_size=64, stride=32)
    n.score = crop(n.upscore, n.color)


def late_fusion_16s(n, classes, widths):
    """From n.color and n.hha to n.score, with a skip from pool4."""
    color, hha = (Suffixed(n, suffix, data=n[suffix]) for suffix in ('color', 'hha'))
    for net in (color, hha):
        vgg16.trunk(net, widths)
        net.score_fr = score(net.drop7, classes)
    n.score_fused = mean(color.score_fr, hha.score_fr)
    n.upscore2 = upscore(n.score_fused, classes, kernel_size=4, stride=2)

    for net in (color, hha):
        net.score_pool4 = score(net.pool4, classes)
    n.score_pool4 = mean(color.score_pool4, hha.score_pool4)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    n.upscore16 = upscore(n.fuse_pool4, classes, kernel_size=32, stride=16)

    n.score = crop(n.upscore16, n.color)


def mean(a, b):
    """Half of each score: the paper says they are summed, the released net has these factors."""
    return L.Eltwise(a, b, operation=P.Eltwise.SUM, coeff=[0.5, 0.5])


def nets():
    """The net of every prototxt in this folder, by its name."""
    named = {}
    for variant, options in VARIANTS.items():
        for split in ('trainval', 'test'):
            data = nyud_data(split, options['inputs'] + ('label',))
            named['%s-%s' % (variant, split)] = fcn(data, **options)
        # 425 x 560, the size of the prepared images
        shapes = [(1, CHANNELS[top], 425, 560) for top in options['inputs']]
        named[variant + '-deploy'] = deploy(named[variant + '-test'], *shapes)
    return named


if __name__ == '__main__':
    write_nets(__file__, nets())
