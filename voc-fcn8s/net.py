"""FCN-8s: FCN-16s with a second skip: scores from pool3, of stride 8, are added before the last upsampling.

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                            |           |                                | 2x
                                            |      score_pool4 -> crop  ------------> fuse_pool4
                                            |                                            | 2x
                                       score_pool3 -> crop  ------------------------> fuse_pool3
                                                                                         | 8x
                                                                                      upscore8 -> crop to data: score

`python voc-fcn8s/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P
from caffe.coord_map import crop

import vgg16
from parts import FROZEN, LEARNED, deploy, read_by_losses, score, upscore, voc_data, write_nets

# What the papers compare with: options of fcn. `python voc-fcn8s/solve.py --variant NAME` trains one.
VARIANTS = {
    'learned-interp': dict(interp=LEARNED[:1]),     # upsampling between the streams is learned, the last one is not
    # The scores of pool3 alone. Nothing is refined here, score_pool3 starts at zero with nothing beside it. So, as pool5 of
    # voc-fcn32s, this starts from VGG16 (not from FCN-16s, which has had 200,000 steps by then) and learns at the rate of
    # FCN-32s, see pool3-solver.prototxt. Only score_pool3 keeps to the rate it has in FCN-8s, a ten thousandth, because
    # activations are larger here than after fc7. How the papers trained their single streams could not be checked.
    'pool3': dict(stream='score_pool3', rates=(1, 0.0001)),
}


def fcn(data, classes=21, widths=vgg16.WIDTHS, interp=FROZEN, stream='fuse_pool3', rates=(1, 1)):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere. `interp`: how the upsampling
    between streams learns. `stream`: which scores are upsampled to the image. `rates`: how much faster than the trunk
    score_pool4 and score_pool3 learn.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    vgg16.trunk(n, widths)

    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upscore(n.score_fr, classes, kernel_size=4, stride=2, param=interp)

    n.score_pool4 = score(n.pool4, classes, rates[0])
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    n.upscore_pool4 = upscore(n.fuse_pool4, classes, kernel_size=4, stride=2, param=interp)

    n.score_pool3 = score(n.pool3, classes, rates[1])
    n.score_pool3c = crop(n.score_pool3, n.upscore_pool4)
    n.fuse_pool3 = L.Eltwise(n.upscore_pool4, n.score_pool3c, operation=P.Eltwise.SUM)
    n.upscore8 = upscore(n[stream], classes, kernel_size=16, stride=8)

    n.score = crop(n.upscore8, n.data)

    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return read_by_losses(n.to_proto())


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(voc_data('seg11valid'))
    return dict(train=fcn(voc_data('train')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
