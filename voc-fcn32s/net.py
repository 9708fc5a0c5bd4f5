"""FCN-32s: VGG16 made fully convolutional, its scores upsampled 32 times in one step.

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                                                                         | 32x
                                                                                      upscore -> crop to data: score

`python voc-fcn32s/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L
from caffe.coord_map import crop

import vgg16
from parts import FROZEN, LEARNED, deploy, read_by_losses, score, upscore, voc_data, write_nets

# What the papers compare with: options of fcn. `python voc-fcn32s/solve.py --variant NAME` trains one.
VARIANTS = {
    'fixed': dict(trunk=FROZEN * 2),    # only score_fr learns
    'pool5': dict(stream='pool5'),      # scores from pool5, without fc6 and fc7
    'cvpr': dict(normalize=True),       # tuned as in the CVPR paper, with cvpr-solver.prototxt
}


def fcn(data, classes=21, widths=vgg16.WIDTHS, trunk=LEARNED, stream='drop7', normalize=False):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere. `trunk`: how its weights and
    biases learn. `stream`: what is scored. `normalize`: average the loss over the pixels.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    vgg16.trunk(n, widths, trunk)

    n.score_fr = score(n[stream], classes)
    n.upscore = upscore(n.score_fr, classes, kernel_size=64, stride=32)
    n.score = crop(n.upscore, n.data)

    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=normalize, ignore_label=255))
    return read_by_losses(n.to_proto())


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(voc_data('seg11valid'))
    return dict(train=fcn(voc_data('train')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
