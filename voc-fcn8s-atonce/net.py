"""FCN-8s in one go: FCN-8s learned at once, from the classifier, by scaling down what pool4 and pool3 bring in.

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                            |           | x 0.01                         | 2x
                                            |      score_pool4 -> crop  ------------> fuse_pool4
                                            | x 0.0001                                   | 2x
                                       score_pool3 -> crop  ------------------------> fuse_pool3
                                                                                         | 8x
                                                                                      upscore8 -> crop to data: score

`python voc-fcn8s-atonce/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P
from caffe.coord_map import crop

import vgg16
from parts import FROZEN, deploy, score, upscore, voc_data, write_nets


def fcn(data, classes=21, widths=vgg16.WIDTHS):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    vgg16.trunk(n, widths)

    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upscore(n.score_fr, classes, kernel_size=4, stride=2)

    # fixed: activations of the lower stages are larger, and would swamp score_fr at its learning rate
    n.scale_pool4 = L.Scale(n.pool4, filler=dict(type='constant', value=0.01), param=FROZEN)
    n.score_pool4 = score(n.scale_pool4, classes)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    n.upscore_pool4 = upscore(n.fuse_pool4, classes, kernel_size=4, stride=2)

    n.scale_pool3 = L.Scale(n.pool3, filler=dict(type='constant', value=0.0001), param=FROZEN)
    n.score_pool3 = score(n.scale_pool3, classes)
    n.score_pool3c = crop(n.score_pool3, n.upscore_pool4)
    n.fuse_pool3 = L.Eltwise(n.upscore_pool4, n.score_pool3c, operation=P.Eltwise.SUM)
    n.upscore8 = upscore(n.fuse_pool3, classes, kernel_size=16, stride=8)

    n.score = crop(n.upscore8, n.data)

    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(voc_data('seg11valid'))
    return dict(train=fcn(voc_data('train')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
