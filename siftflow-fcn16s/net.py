"""FCN-16s on SIFT Flow: two tasks on one trunk, what a pixel shows (33 classes) and how its surface lies (3 classes).

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                                        |                                | 2x
                                                   score_pool4 -> crop  ------------> fuse_pool4
                                                                                         | 16x
                                                                                      upscore16 -> crop to data: score

The figure has one head; there are two alike, first that of the semantic classes, its layers named ..._sem, and then that
of the geometric ones, ..._geo. `python siftflow-fcn16s/net.py` writes trainval.prototxt, test.prototxt and
deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P
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
    n.upscore2_sem = upscore(n.score_fr_sem, classes, kernel_size=4, stride=2)

    n.score_pool4_sem = score(n.pool4, classes)
    n.score_pool4_semc = crop(n.score_pool4_sem, n.upscore2_sem)
    n.fuse_pool4_sem = L.Eltwise(n.upscore2_sem, n.score_pool4_semc, operation=P.Eltwise.SUM)
    n.upscore16_sem = upscore(n.fuse_pool4_sem, classes, kernel_size=32, stride=16)

    n.score_sem = crop(n.upscore16_sem, n.data)
    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score_sem, n.sem, loss_param=dict(normalize=False, ignore_label=255))

    n.score_fr_geo = score(n.drop7, geo_classes)
    n.upscore2_geo = upscore(n.score_fr_geo, geo_classes, kernel_size=4, stride=2)

    n.score_pool4_geo = score(n.pool4, geo_classes)
    n.score_pool4_geoc = crop(n.score_pool4_geo, n.upscore2_geo)
    n.fuse_pool4_geo = L.Eltwise(n.upscore2_geo, n.score_pool4_geoc, operation=P.Eltwise.SUM)
    n.upscore16_geo = upscore(n.fuse_pool4_geo, geo_classes, kernel_size=32, stride=16)

    n.score_geo = crop(n.upscore16_geo, n.data)
    n.loss_geo = L.SoftmaxWithLoss(n.score_geo, n.geo, loss_param=dict(normalize=False, ignore_label=255))
    return n.to_proto()


def nets():
    """The net of every prototxt in this folder, by its name."""
    test = fcn(siftflow_data('test'))
    return dict(trainval=fcn(siftflow_data('trainval')), test=test, deploy=deploy(test, (1, 3, 256, 256)))


if __name__ == '__main__':
    write_nets(__file__, nets())
