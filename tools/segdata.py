"""Base of the data layers: which image comes next, and how image and label become blobs.

The order of images is the released one, bit for bit, and each layer has a random stream of its own: a layer draws
once at setup and once after each forward. The released code drew `random.randint` of Python 2 from the global stream,
which is int(random() * n); Python 3's randint draws differently, int(random() * n) is the same on both.
"""
from __future__ import division, print_function

import ast
import json
import os
import random

import segfiles
from segfiles import data_path  # noqa: F401  the name other layers and scripts know it by
from which_caffe import caffe


def read_params(text, who, required, optional):
    """The parameters in a `param_str`: a Python or JSON dictionary of literals.

    who: the layer's class name, for the messages. required, optional: the keys it knows. Raises ValueError for text
    that is neither, for an unknown key and for a missing one.
    """
    try:
        params = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError):
        try:
            params = json.loads(text)
        except ValueError:
            params = None
    known = ', '.join(list(required) + ['[%s]' % key for key in optional])
    if not isinstance(params, dict):
        raise ValueError('%s: param_str is %r; wanted a dictionary with the keys %s (in brackets: may be left out)'
                         % (who, text, known))
    unknown = sorted(str(key) for key in params if key not in required and key not in optional)
    missing = sorted(key for key in required if key not in params)
    if unknown or missing:
        raise ValueError('%s: param_str %s; wanted %s (in brackets: may be left out); correct the net that says %r'
                         % (who, '; '.join(['unknown key %s' % key for key in unknown] +
                                           ['no key %s' % key for key in missing]), known, text))
    return params


def check_params(params, who, folder_key):
    """ValueError for a parameter of the data layers that is not of the kind wanted."""
    texts = (str, type(u''))
    mean, classes = params['mean'], params.get('classes', 21)
    wanted = [(key, 'a text', isinstance(params[key], texts)) for key in (folder_key, 'split')]
    wanted += [('mean', 'three numbers, blue, green, red', isinstance(mean, (list, tuple)) and len(mean) == 3 and
                all(type(m) in (int, float) for m in mean)),
               ('classes', 'a number 1..255', type(classes) is int and 1 <= classes <= 255)]
    for key, kind, good in wanted:
        if not good:
            raise ValueError('%s: param_str key %s is %r; wanted %s' % (who, key, params.get(key), kind))


class SegDataLayer(caffe.Layer):
    """One image and its label a forward. Answers to the data layers of the released voc_layers.py.

    tops: data float32 [1, 3, H, W], BGR minus mean; label [1, 1, H, W], class indices, 255 = ignore. No bottoms.
    Image sizes differ, so a net reshapes on every forward.

    param_str keys: the data folder (`folder_key` of the subclass), split (the list's name), mean (B, G, R), and
    optionally randomize (True), seed (None: not repeatable), classes (21). Order is random, with replacement, if the
    split's name contains 'train' and randomize is true; otherwise the list's own order, again and again.

    indices: the ids of the list. idx: position in it of the next image. current: id of the image in the tops, None
    before the first forward. `idx` may be set: scoring rewinds with idx = 0.

    A subclass names its files and reads its labels: list_file(), image_file(id), label_file(id), read_label(path, remedy).
    """
    folder_key = None       # name of the param_str key that holds the folder
    prepare = None          # the command that makes the data

    def setup(self, bottom, top):
        """Read the list and draw the first image. ValueError for wrong tops, bottoms, parameters; IOError: no list."""
        who = type(self).__name__
        if len(top) != 2:
            raise ValueError('%s: %d tops; wanted 2: data, label' % (who, len(top)))
        if len(bottom) != 0:
            raise ValueError('%s: %d bottoms; wanted none: a data layer reads files' % (who, len(bottom)))
        params = read_params(self.param_str, who, (self.folder_key, 'split', 'mean'), ('randomize', 'seed', 'classes'))
        check_params(params, who, self.folder_key)
        self.root = data_path(params[self.folder_key])
        self.prepare = segfiles.prepare_of(params[self.folder_key], self.prepare)
        self.split = params['split']
        self.mean = params['mean']
        self.classes = params.get('classes', 21)
        self.seed = params.get('seed', None)
        self.random = bool(params.get('randomize', True)) and 'train' in self.split
        self.indices = segfiles.read_list(self.list_file(), self.remedy())
        self.idx = 0
        self.current = None
        self._loaded = None     # position of the image that self.data and self.label hold
        self._stream = random.Random(self.seed)
        if self.random:
            self.idx = self.draw()

    def reshape(self, bottom, top):
        """Load the next image and give the tops its size. Decodes once a forward, however often it is called."""
        if self._loaded != self.idx:
            self.data, self.label = self.load(self.indices[self.idx])
            self._loaded = self.idx
        top[0].reshape(1, *self.data.shape)
        top[1].reshape(1, *self.label.shape)

    def forward(self, bottom, top):
        """Copy image and label to the tops and choose the image after it."""
        top[0].data[...] = self.data
        top[1].data[...] = self.label
        self.current = self.indices[self.idx]
        self.skip(1)

    def backward(self, top, propagate_down, bottom):
        """Nothing to propagate to."""

    def skip(self, forwards):
        """Choose the next image as so many forwards would, without loading any: a resumed training goes on in order."""
        for _ in range(forwards):
            self.idx = self.draw() if self.random else (self.idx + 1) % len(self.indices)

    def draw(self):
        """A random position in the list: Python 2's randint(0, n - 1), on any Python."""
        return int(self._stream.random() * len(self.indices))

    def remedy(self):
        """What to do when a file is not there: one of the known data sets can be made, another is yours to complete."""
        if not (self.root + os.sep).startswith(segfiles.data_root() + os.sep):
            return 'put the file there, or take it off the list'
        return segfiles.how_to_get(self.prepare)

    def load(self, name):
        """(data float32 [3, H, W], label uint8 [1, H, W]) of an id. ValueError if the two differ in size."""
        data, label = self.load_image(name), self.load_label(name)
        if data.shape[1:] != label.shape[1:]:
            raise ValueError('%s: image %r is %d x %d (width x height), its label %d x %d; they must agree: replace '
                             'one. Image: %s. Label: %s'
                             % (type(self).__name__, str(name), data.shape[2], data.shape[1], label.shape[2],
                                label.shape[1], self.image_file(name), self.label_file(name)))
        return data, label

    def load_image(self, name):
        """float32 [3, H, W], BGR minus mean."""
        return segfiles.preprocess(segfiles.read_image(self.image_file(name), self.remedy()), self.mean)

    def load_label(self, name):
        """uint8 [1, H, W], every value a class or 255."""
        path = self.label_file(name)
        label = self.read_label(path, self.remedy())
        segfiles.check_label(label, self.classes, path)
        return label[None]
