"""FCN-AlexNet: AlexNet made fully convolutional, its scores upsampled 32 times in one step.

    data -> conv1 pool1 norm1 conv2 pool2 norm2 conv3 conv4 conv5 pool5 -> fc6 fc7 -> score_fr
                                                                                         | 32x
                                                                                      upscore -> crop to data: score

`python voc-fcn-alexnet/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L
from caffe.coord_map import crop

import alexnet
from parts import LEARNED, deploy, score, upscore, voc_data, write_nets

VARIANTS = {
    # as in the CVPR paper, with cvpr-solver.prototxt: biases of the trunk, too, learn at twice the rate
    'cvpr': dict(param=LEARNED),
}


def fcn(data, classes=21, widths=alexnet.WIDTHS, param=None):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere. `param`: how the trunk learns.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    alexnet.trunk(n, widths, param)

    n.score_fr = score(n.drop7, classes)
    # 63 and not 64, as with VGG16: the units lie on pixels, not between them, and an odd kernel has a centre
    n.upscore = upscore(n.score_fr, classes, kernel_size=63, stride=32)
    n.score = crop(n.upscore, n.data)

    # averaged over the pixels, unlike in the nets on VGG16: the learning rate in solver.prototxt goes with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=True, ignore_label=255))
    return n.to_proto()


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(voc_data('seg11valid'))
    return dict(train=fcn(voc_data('train')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
