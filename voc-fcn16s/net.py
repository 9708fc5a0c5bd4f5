"""FCN-16s: FCN-32s with a skip: scores from pool4, of stride 16, are added before the last upsampling.

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                                        |                                | 2x
                                                   score_pool4 -> crop  ------------> fuse_pool4
                                                                                         | 16x
                                                                                      upscore16 -> crop to data: score

`python voc-fcn16s/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it.
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

# What the papers compare with: options of fcn. `python voc-fcn16s/solve.py --variant NAME` trains one.
VARIANTS = {
    'learned-interp': dict(interp=LEARNED[:1]),     # upsampling between the streams is learned, the last one is not
    # The scores of pool4 alone. Nothing is refined here, score_pool4 starts at zero with nothing beside it. So, as pool5 of
    # voc-fcn32s, this starts from VGG16 (not from FCN-32s, which has had 100,000 steps by then) and learns at the rate of
    # FCN-32s, see pool4-solver.prototxt. Only score_pool4 keeps to the rate it has in FCN-16s, a hundredth, because
    # activations are larger here than after fc7. How the papers trained their single streams could not be checked.
    'pool4': dict(stream='score_pool4', rate=0.01),
}


def fcn(data, classes=21, widths=vgg16.WIDTHS, interp=FROZEN, stream='fuse_pool4', rate=1):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere. `interp`: how the upsampling
    between streams learns. `stream`: which scores are upsampled to the image. `rate`: how much faster than the trunk
    score_pool4 learns.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    vgg16.trunk(n, widths)

    n.score_fr = score(n.drop7, classes)
    n.upscore2 = upscore(n.score_fr, classes, kernel_size=4, stride=2, param=interp)

    n.score_pool4 = score(n.pool4, classes, rate)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    n.upscore16 = upscore(n[stream], classes, kernel_size=32, stride=16)

    n.score = crop(n.upscore16, n.data)

    # summed over the pixels, not averaged: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=False, ignore_label=255))
    return read_by_losses(n.to_proto())


def nets():
    """The net of every prototxt in this folder, by its name. (Their data folder is one higher than in the others.)"""
    val = fcn(voc_data('seg11valid', root='../../data'))
    return dict(train=fcn(voc_data('train', root='../../data')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
