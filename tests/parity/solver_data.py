"""The data of the solver cases, a Python layer for both Caffes: batch number n comes from RandomState(1000 + n)."""

import numpy as np
from which_caffe import caffe

BATCH, CHANNELS, SIDE, CLASSES = 4, 2, 6, 3


class Batches(caffe.Layer):
    """Tops: images (4, 2, 6, 6) and labels (4,). `Batches.count` is the next batch's number; set it to start over."""

    count = 0

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(BATCH, CHANNELS, SIDE, SIDE)
        top[1].reshape(BATCH)

    def forward(self, bottom, top):
        rng = np.random.RandomState(1000 + Batches.count)
        Batches.count += 1
        top[0].data[...] = rng.randn(BATCH, CHANNELS, SIDE, SIDE)
        top[1].data[...] = rng.randint(CLASSES, size=BATCH)

    def backward(self, top, propagate_down, bottom):
        pass
