"""FCN-GoogLeNet: GoogLeNet made fully convolutional, its scores upsampled 32 times in one step.

    data -> conv1 pool1 conv2 pool2 3a 3b pool3 4a 4b 4c 4d 4e pool4 5a 5b -> score_fr
                                                                                | 32x
                                                                             upscore -> crop to data: score

The CVPR paper has it in Table 1; the authors released neither net nor weights. From the paper: the classifier's final
layer alone, on the last inception module, without the average pooling between them, which improved the result; dropout
where the classifier has it; scores start at zero. Chosen here: padding of 100 and an upsampling that is not learned, as
in the nets that were released; BVLC's GoogLeNet (layer names, dropout 0.4) for the authors' own.

`python voc-fcn-googlenet/net.py` writes train.prototxt, val.prototxt and deploy.prototxt beside it, and
average-deploy.prototxt, which keeps the average pooling: the receptive field of 907 pixels in Table 1 is that net's.
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
from which_caffe import caffe
from caffe import layers as L, params as P

import explain
import googlenet
from parts import deploy, score, upscore, voc_data, write_nets

VARIANTS = {
    # the classifier's average pooling stays: what the paper improved on. Images must have 29 pixels a side, at least
    'average': dict(average=True),
}


def fcn(data, classes=21, widths=googlenet.WIDTHS, average=False):
    """The net, as a NetParameter. `data`: two tops of a data layer, images (N x 3 x H x W) and labels (N x 1 x H x W).

    `score` has the size of the images and `classes` channels; label 255 counts nowhere. `average`: keep the 7x7 average
    pooling before the scores.
    """
    n = caffe.NetSpec()
    n.data, n.label = data
    last = googlenet.trunk(n, widths)
    if average:
        last = n['pool5/7x7_s1'] = L.Pooling(last, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n.drop5 = L.Dropout(last, dropout_ratio=0.4, in_place=True)

    n.score_fr = score(n.drop5, classes)
    # 63, as with AlexNet: the units lie on pixels, not between them, and an odd kernel has a centre
    n.upscore = upscore(n.score_fr, classes, kernel_size=63, stride=32)
    # coord_map.crop, which derives the offset in the other nets, does not know Concat; explain.py does
    n.score = L.Crop(n.upscore, n.data, crop_param=dict(axis=2, offset=explain.crop_offset(n.to_proto(), 'upscore')))

    # averaged over the pixels: the paper's learning rates, which solver.prototxt has, go with that
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=True, ignore_label=255))
    return n.to_proto()


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(voc_data('seg11valid'))
    named = dict(train=fcn(voc_data('train')), val=val, deploy=deploy(val))
    named['average-deploy'] = deploy(fcn(voc_data('seg11valid'), **VARIANTS['average']))
    return named


if __name__ == '__main__':
    write_nets(__file__, nets())
