"""A data layer for classification: pictures of one size with a class each, in batches."""
from __future__ import division, print_function

import os
import random

import numpy as np

import segfiles
from segdata import check_params, read_params
from which_caffe import caffe


class CropDataLayer(caffe.Layer):
    """Batches of pictures and their classes. No bottoms.

    tops: data float32 [N, 3, S, S], BGR minus mean; label [N], class indices.

    param_str keys: crop_dir (a folder with JPEGImages/ and {split}.txt, whose lines are `file class`), split, mean
    (B, G, R), batch_size, and optionally seed, classes (how many; 21). Order as in segdata.SegDataLayer: random with
    replacement if the split's name contains 'train', otherwise the list's own. All pictures are decoded at setup and
    kept, 3 bytes a pixel.
    """

    def setup(self, bottom, top):
        """Read the list and its pictures. ValueError for wrong tops, parameters, lines, sizes; IOError: no such file."""
        who = type(self).__name__
        if len(top) != 2 or len(bottom) != 0:
            raise ValueError('%s: %d bottoms, %d tops; wanted none, and 2: data, label' % (who, len(bottom), len(top)))
        params = read_params(self.param_str, who, ('crop_dir', 'split', 'mean', 'batch_size'), ('seed', 'classes'))
        check_params(params, who, ('crop_dir',))
        self.batch = params['batch_size']
        if type(self.batch) is not int or self.batch < 1:
            raise ValueError('%s: param_str key batch_size is %r; wanted a number of 1 or more' % (who, self.batch))
        self.mean = params['mean']
        self.random = 'train' in params['split']
        root = segfiles.data_path(params['crop_dir'])
        listed = os.path.join(root, params['split'] + '.txt')
        self.pictures, self.classes = [], []
        remedy = segfiles.how_to_get(segfiles.prepare_of(params['crop_dir'], 'python shapes/solve.py'))
        for line in segfiles.read_list(listed, remedy):
            name, _, label = line.rpartition(' ')
            if not name or not label.isdigit() or int(label) >= params.get('classes', 21):
                raise ValueError('%s: line %r; wanted `file class`, classes 0..%d'
                                 % (listed, str(line), params.get('classes', 21) - 1))
            path = os.path.join(root, 'JPEGImages', name)
            self.pictures.append(np.array(segfiles.read_image(path, remedy)))
            self.classes.append(int(label))
            if self.pictures[-1].shape != self.pictures[0].shape:
                raise ValueError('%s: size %s; wanted that of the first picture, %s (height, width)'
                                 % (path, self.pictures[-1].shape[:2], self.pictures[0].shape[:2]))
        self._stream = random.Random(params.get('seed', None))
        self.rewind()

    def rewind(self):
        """Begin the list anew, or the random order with its next picture."""
        self.idx = -1
        self._next()

    def reshape(self, bottom, top):
        """The tops' sizes, which never change."""
        height, width = self.pictures[0].shape[:2]
        top[0].reshape(self.batch, 3, height, width)
        top[1].reshape(self.batch)

    def forward(self, bottom, top):
        """Fill the batch; the picture after it is chosen already."""
        for i in range(self.batch):
            top[0].data[i] = segfiles.preprocess(self.pictures[self.idx], self.mean)
            top[1].data[i] = self.classes[self.idx]
            self._next()

    def backward(self, top, propagate_down, bottom):
        """Nothing to propagate to."""

    def skip(self, forwards):
        """Choose the next picture as so many forwards would, without making their batches."""
        for _ in range(forwards * self.batch):
            self._next()

    def _next(self):
        self.idx = int(self._stream.random() * len(self.pictures)) if self.random \
            else (self.idx + 1) % len(self.pictures)
