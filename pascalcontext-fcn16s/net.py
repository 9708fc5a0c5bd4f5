"""FCN-16s on PASCAL-Context: FCN-32s with a skip: scores from pool4, of stride 16, are added before the last upsampling.

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                                        |                                | 2x
                                                   score_pool4 -> crop  ------------> fuse_pool4
                                                                                         | 16x
                                                                                      upscore16 -> crop to data: score

60 classes: the 59 most frequent ones of the data set, and what is none of them as class 0, which is learned like any other.
`python pascalcontext-fcn16s/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P
from caffe.coord_map import crop

import vgg16
from parts import deploy, pascalcontext_data, score, upscore, write_nets


def fcn(data, classes=60, widths=vgg16.WIDTHS):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere, but these labels have none.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    vgg16.trunk(n, widths)

    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upscore(n.score_fr, classes, kernel_size=4, stride=2)

    n.score_pool4 = score(n.pool4, classes)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    n.upscore16 = upscore(n.fuse_pool4, classes, kernel_size=32, stride=16)

    n.score = crop(n.upscore16, n.data)

    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(pascalcontext_data('val'))
    return dict(train=fcn(pascalcontext_data('train')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
