"""FCN-32s on SIFT Flow: two tasks on one trunk, what a pixel shows (33 classes) and how its surface lies (3 classes).

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                                                                         | 32x
                                                                                      upscore -> crop to data: score

The figure has one head; there are two alike, first that of the semantic classes, its layers named ..._sem, and then that
of the geometric ones, ..._geo. `python siftflow-fcn32s/net.py` writes trainval.prototxt, test.prototxt and
deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L
from caffe.coord_map import crop

import vgg16
from parts import deploy, score, siftflow_data, upscore, write_nets


def fcn(data, classes=33, geo_classes=3, widths=vgg16.WIDTHS):
    """The net, as a NetParameter. `data`: three tops, images (N x 3 x H x W), semantic and geometric labels (N x 1 x H x W).

    `score_sem` and `score_geo` have the size of the images and `classes` and `geo_classes` channels; label 255 counts
    nowhere. The loss of the geometric task is `loss_geo`, that of the semantic one `loss`.
    """
    n = caffe.NetSpec()
    n.data, n.sem, n.geo = data
    vgg16.trunk(n, widths)

    n.score_fr_sem = score(n.drop7, classes)
    n.upscore_sem = upscore(n.score_fr_sem, classes, kernel_size=64, stride=32)
    n.score_sem = crop(n.upscore_sem, n.data)
    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score_sem, n.sem, loss_param=dict(normalize=False, ignore_label=255))

    n.score_fr_geo = score(n.drop7, geo_classes)
    n.upscore_geo = upscore(n.score_fr_geo, geo_classes, kernel_size=64, stride=32)
    n.score_geo = crop(n.upscore_geo, n.data)
    n.loss_geo = L.SoftmaxWithLoss(n.score_geo, n.geo, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()


def nets():
    """The net of every prototxt in this folder, by its name."""
    test = fcn(siftflow_data('test'))
    return dict(trainval=fcn(siftflow_data('trainval')), test=test, deploy=deploy(test, (1, 3, 256, 256)))


if __name__ == '__main__':
    write_nets(__file__, nets())
