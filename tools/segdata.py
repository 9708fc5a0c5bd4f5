"""Base of the data layers: which image comes next, and how it and what belongs to it become blobs.

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
from prefetch import Prefetch
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


def check_params(params, who, folders):
    """ValueError for a parameter of the data layers that is not of the kind wanted. folders: the keys of folders."""
    texts = (str, type(u''))
    wanted = [(key, 'a text', isinstance(params[key], texts)) for key in tuple(folders) + ('split',)]
    wanted += [(key, 'three numbers, blue, green, red', isinstance(params[key], (list, tuple)) and len(params[key]) == 3 and
                all(type(m) in (int, float) for m in params[key])) for key in params if key.endswith('mean')]
    classes = params.get('classes', 21)
    wanted.append(('classes', 'a number 1..255', type(classes) is int and 1 <= classes <= 255))
    for key, kind, good in wanted:
        if not good:
            raise ValueError('%s: param_str key %s is %r; wanted %s' % (who, key, params.get(key), kind))


def minus(mean):
    """What segfiles.preprocess does, in words."""
    return 'blue, green, red minus %s' % ', '.join('%.8g' % m for m in mean)


class SegDataLayer(caffe.Layer):
    """One image and what belongs to it a forward. Answers to the data layers of the released code.

    tops: as the subclass says, each [1, C, H, W], all of one size; no bottoms. Usually data, float32, BGR minus mean, and
    label, class indices, 255 = ignore. Image sizes differ, so a net reshapes on every forward.

    param_str keys: the folders (`folders` of the subclass), split (the list's name), those of the subclass, and
    optionally randomize (True) and seed (None: not repeatable). Order is random, with replacement, if the split's name
    contains 'train' and randomize is true; otherwise the list's own order, again and again.

    indices: the ids of the list. idx: position in it of the next image. current: id of the image in the tops, None
    before the first forward. `idx` may be set: scoring rewinds with idx = 0.

    A subclass says in class attributes where its files lie and what its tops are, and has a method read_<top>(path) for
    each: a new array [C, H, W]. read_data, for a photograph, is here. configure(params) may set them from param_str.
    """
    folders = ()            # names of the param_str keys that hold folders; the first is where the list lies
    list_file = None        # path of the list; {split} and the names of folders are put in
    files = {}              # of each top: path of its file for an id; {id} and the names of folders are put in
    tops = ('data', 'label')
    classes = {}            # of each top that holds class indices: how many classes there are
    required, optional = (), ()     # further param_str keys
    prepare = None          # the command that makes the data

    def setup(self, bottom, top):
        """Read the list and draw the first image. ValueError for wrong tops, bottoms, parameters; IOError: no list."""
        who = type(self).__name__
        params = self.take(self.param_str)
        self.split = params['split']
        self.seed = params.get('seed', None)
        if len(top) != len(self.tops):
            raise ValueError('%s: %d tops; wanted %d: %s' % (who, len(top), len(self.tops), ', '.join(self.tops)))
        if len(bottom) != 0:
            raise ValueError('%s: %d bottoms; wanted none: a data layer reads files' % (who, len(bottom)))
        self.random = bool(params.get('randomize', True)) and 'train' in self.split
        self.indices = segfiles.read_list(self.path(self.list_file), self.remedy())
        self.idx = 0
        self.current = None
        self._loaded = None     # position of the image that self.arrays hold
        self._after = None      # position after idx in a random order, if it has been drawn already
        self._ahead = Prefetch(lambda name: self.load(name))
        self._stream = random.Random(self.seed)
        if self.random:
            self.idx = self.draw()

    def take(self, param_str):
        """Take what param_str says of folders and files; returns its parameters. ValueError for wrong ones."""
        who = type(self).__name__
        params = read_params(param_str, who, self.folders + ('split',) + self.required,
                             ('randomize', 'seed') + self.optional)
        check_params(params, who, self.folders)
        self.roots = dict((key, data_path(params[key])) for key in self.folders)
        self.prepare = segfiles.prepare_of(params[self.folders[0]], self.prepare)
        self.configure(params)
        return params

    @classmethod
    def reader(cls, param_str, remedy):
        """A layer outside any net, for its read_<top>(path): how it reads files, without its list.

        remedy: what to do when a file is not there.
        """
        layer = cls.__new__(cls)    # a Caffe makes whole layers from a net alone
        layer.take(param_str)
        layer.remedy = lambda: remedy
        return layer

    def configure(self, params):
        """Take what the subclass's own keys say; ValueError for what they cannot be."""

    def reshape(self, bottom, top):
        """Load the next image and give the tops its size. Decodes once a forward, however often it is called.

        The image after it is decoded in the background meanwhile. What is wrong with it is said when it is its turn.
        """
        if self._loaded != self.idx:
            self.arrays = self._ahead.take(self.indices[self.idx])
            self._loaded = self.idx
            if self.following() != self.idx:
                self._ahead.begin(self.indices[self.following()])
        for i, array in enumerate(self.arrays):     # BVLC's `top` can be indexed, not iterated over
            top[i].reshape(1, *array.shape)

    def forward(self, bottom, top):
        """Copy the image and what belongs to it to the tops and choose the image after it."""
        for i, array in enumerate(self.arrays):
            top[i].data[...] = array
        self.current = self.indices[self.idx]
        self.skip(1)

    def backward(self, top, propagate_down, bottom):
        """Nothing to propagate to."""

    def skip(self, forwards):
        """Choose the next image as so many forwards would, without loading any: a resumed training goes on in order."""
        for _ in range(forwards):
            self.idx, self._after = self.following(), None

    def following(self):
        """The position of the image after the next one."""
        if not self.random:
            return (self.idx + 1) % len(self.indices)
        if self._after is None:
            self._after = self.draw()
        return self._after

    def draw(self):
        """A random position in the list: Python 2's randint(0, n - 1), on any Python."""
        return int(self._stream.random() * len(self.indices))

    def path(self, template, **names):
        """The file that a template of `list_file` or `files` means."""
        return type(u'')(template).format(split=self.split, **dict(self.roots, **names))

    def file(self, top, name):
        """The file that a top is read from for an id."""
        return self.path(self.files[top], id=name)

    def remedy(self):
        """What to do when a file is not there: one of the known data sets can be made, another is yours to complete."""
        if not (self.roots[self.folders[0]] + os.sep).startswith(segfiles.data_root() + os.sep):
            return 'put the file there, or take it off the list'
        return segfiles.how_to_get(self.prepare)

    def load(self, name):
        """The arrays of an id, [C, H, W], one a top in their order: float32, or uint8 for class indices.

        ValueError if they differ in size, or if a label holds what is neither a class nor 255.
        """
        paths = [self.file(top, name) for top in self.tops]
        arrays = [getattr(self, 'read_' + top)(path) for top, path in zip(self.tops, paths)]
        for top, path, array in zip(self.tops, paths, arrays):
            if array.shape[1:] != arrays[0].shape[1:]:
                raise ValueError('%s: %s of %r is %d x %d (width x height), its %s %d x %d; they must agree: replace one. '
                                 '%s: %s. %s: %s'
                                 % (type(self).__name__, self.tops[0], str(name), arrays[0].shape[2], arrays[0].shape[1],
                                    top, array.shape[2], array.shape[1], self.tops[0], paths[0], top, path))
            if top in self.classes:
                segfiles.check_label(array, self.classes[top], path)
        return arrays

    def fed(self, top):
        """What read_<top> makes of a file's numbers, in words; a subclass says so of what it reads in a way of its own."""
        return minus(self.mean)

    def read_data(self, path):
        """A photograph: float32 [3, H, W], BGR minus self.mean."""
        return segfiles.preprocess(segfiles.read_image(path, self.remedy()), self.mean)
