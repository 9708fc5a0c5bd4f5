"""What several tests need of nets: the net.py of an experiment as a module, and classifiers written out for their sizes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import caffe
from caffe import layers as L
from caffe import params as P

ROOT = Path(__file__).resolve().parent.parent
LEARNED = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]


def load(experiment: str) -> ModuleType:
    """The module <experiment>/net.py; folders have dashes in their names, so they cannot be imported."""
    spec = importlib.util.spec_from_file_location(experiment.replace("-", "_"), ROOT / experiment / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alexnet_fcn(classes: int = 21):
    """FCN-32s on AlexNet in CaffeNet's order, as released: no param blocks on the trunk, kernel 63 in the upsampling."""
    from caffe.coord_map import crop

    def conv(bottom, **sizes):
        return L.ReLU(L.Convolution(bottom, **sizes), in_place=True)

    n = caffe.NetSpec()
    n.data = L.Input(shape=[dict(dim=[1, 3, 500, 500])])
    n.pool1 = L.Pooling(conv(n.data, num_output=96, kernel_size=11, stride=4, pad=100), kernel_size=3, stride=2)
    norm1 = L.LRN(n.pool1, local_size=5, alpha=1e-4, beta=0.75)
    n.pool2 = L.Pooling(conv(norm1, num_output=256, kernel_size=5, pad=2, group=2), kernel_size=3, stride=2)
    top = conv(L.LRN(n.pool2, local_size=5), num_output=384, kernel_size=3, pad=1)
    top = conv(top, num_output=384, kernel_size=3, pad=1, group=2)
    top = conv(top, num_output=256, kernel_size=3, pad=1, group=2)
    n.pool5 = L.Pooling(top, kernel_size=3, stride=2)
    n.fc6 = conv(n.pool5, num_output=4096, kernel_size=6)
    n.fc7 = conv(L.Dropout(n.fc6, in_place=True), num_output=4096, kernel_size=1)
    n.score_fr = L.Convolution(n.fc7, num_output=classes, kernel_size=1, param=LEARNED)
    n.upscore = L.Deconvolution(n.score_fr, param=[dict(lr_mult=0)], convolution_param=dict(
        num_output=classes, kernel_size=63, stride=32, bias_term=False))  # fmt: skip
    n.score = crop(n.upscore, n.data)
    return n.to_proto()


def googlenet():
    """GoogLeNet with its nine inception modules and without its side classifiers; 224x224."""
    n = caffe.NetSpec()

    def conv(bottom, num_output, kernel_size=1, stride=1, pad=0):
        return L.ReLU(L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad))

    def inception(bottom, one, reduce3, three, reduce5, five, pool):
        pooled = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=1, pad=1)
        return L.Concat(conv(bottom, one), conv(conv(bottom, reduce3), three, 3, pad=1),
                        conv(conv(bottom, reduce5), five, 5, pad=2), conv(pooled, pool))  # fmt: skip

    def halve(bottom):
        return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)

    n.data = L.Input(shape=[dict(dim=[1, 3, 224, 224])])
    top = halve(conv(n.data, 64, 7, stride=2, pad=3))
    top = halve(L.LRN(conv(conv(L.LRN(top), 64), 192, 3, pad=1)))
    top = inception(inception(top, 64, 96, 128, 16, 32, 32), 128, 128, 192, 32, 96, 64)
    top = inception(halve(top), 192, 96, 208, 16, 48, 64)
    top = inception(top, 160, 112, 224, 24, 64, 64)
    top = inception(top, 128, 128, 256, 24, 64, 64)
    top = inception(top, 112, 144, 288, 32, 64, 64)
    top = inception(top, 256, 160, 320, 32, 128, 128)
    n.last = inception(inception(halve(top), 256, 160, 320, 32, 128, 128), 384, 192, 384, 48, 128, 128)
    n.pool5 = L.Pooling(n.last, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n.classifier = L.InnerProduct(L.Dropout(n.pool5, in_place=True), num_output=1000)
    return n.to_proto()
