"""Nets that read LMDB databases: a data layer in Python becomes one native Data layer a top.

    python data/make_lmdb.py voc-fcn32s
    python voc-fcn32s/net.py --data lmdb
    python voc-fcn32s/solve.py --start start.caffemodel
    cd voc-fcn32s && caffe train -solver solver_lmdb.prototxt -weights start.caffemodel

Beside train.prototxt, val.prototxt and solver.prototxt this writes train_lmdb.prototxt, val_lmdb.prototxt and
solver_lmdb.prototxt, which need no Python. The databases are those of data/make_lmdb.py; each says in its made.json what
it was made from, and what the Data layer has to take off its values.
"""
from __future__ import division, print_function

import importlib
import io
import json
import os
import re

import prototxt
import runlog
import segdata
import segfiles
from which_caffe import caffe  # noqa: F401  it decides whose caffe_pb2 that is
from caffe.proto import caffe_pb2

MADE = 'made.json'      # in the folder of each database


class LmdbError(ValueError):
    """No database for a net, or one made for another; the message says how to make it."""


class Source(object):
    """The data layer in Python of a net (a LayerParameter): where its databases lie, and for which parameters they hold.

    tops: what the layer calls its tops ('color'), where the net may have other names for them ('data'). drawn: its images
    come in random order. settings: all of its parameters that make a difference to what is in a database, but the folders.
    """

    def __init__(self, layer):
        param, kind = layer.python_param, class_of(layer)
        self.layer = layer
        params = segdata.read_params(param.param_str, param.layer, kind.folders + ('split',) + kind.required,
                                     ('randomize', 'seed') + kind.optional)
        self.tops = tuple(params.get('tops', kind.tops))
        self.drawn = 'train' in params['split'] and bool(params.get('randomize', True))
        settings = dict((key, value) for key, value in params.items() if key not in kind.folders + ('tops',))
        self.settings = json.loads(json.dumps(dict(settings, layer=param.layer)))   # as made.json gives them back
        root, home = segdata.data_path(params[kind.folders[0]]), segfiles.data_root()
        name = os.path.relpath(root, home) if (root + os.sep).startswith(home + os.sep) else os.path.basename(root)
        self.folder = os.path.join(home, 'lmdb', re.sub(r'[^\w.-]', '-', name))
        self.split = params['split']

    def database(self, top):
        """The folder of the database for one of `tops`."""
        return os.path.join(self.folder, '%s-%s' % (self.split, top))

    def made(self, top):
        """What made.json of a database says, a dictionary; None if there is no complete database."""
        path = os.path.join(self.database(top), MADE)
        if not os.path.exists(path):
            return None
        with io.open(path, encoding='utf-8') as f:
            return json.load(f)


def class_of(layer):
    """The class of a layer (LayerParameter) if it is a data layer in Python of images with labels, or None."""
    if layer.type != 'Python' or layer.bottom:
        return None
    kind = getattr(importlib.import_module(layer.python_param.module), layer.python_param.layer)
    return kind if issubclass(kind, segdata.SegDataLayer) else None


def sources(net):
    """The Source of each layer of a net (NetParameter) that databases can stand in for."""
    return [Source(layer) for layer in net.layer if class_of(layer)]


def with_databases(net, folder, remedy):
    """A copy of `net` (NetParameter) whose data layers in Python are Data layers.

    folder: where it is to be run; the databases are named relative to it if they lie in the repository. remedy: the
    command that makes them. LmdbError if one is not there or was made with other settings.
    """
    out = caffe_pb2.NetParameter()
    out.CopyFrom(net)
    del out.layer[:]
    for layer in net.layer:
        if class_of(layer):
            source = Source(layer)
            for top, name in zip(source.tops, layer.top):
                out.layer.add().CopyFrom(data_layer(name, source, top, folder, remedy))
        else:
            out.layer.add().CopyFrom(layer)
    return out


def data_layer(name, source, top, folder, remedy):
    """The Data layer (LayerParameter) with the top `name`, that reads the database for `top` of a Source."""
    path, made = source.database(top), source.made(top)
    if made is None:
        raise LmdbError('%s: no such database; make it with `%s`' % (path, remedy))
    if made['settings'] != source.settings:
        raise LmdbError('%s was made for %s, the net says %s; remove it and make it again with `%s`'
                        % (path, shown(made['settings']), shown(source.settings), remedy))
    if (path + os.sep).startswith(segfiles.ROOT + os.sep):
        path = os.path.relpath(path, folder)
    layer = caffe_pb2.LayerParameter(name=name, type='Data', top=[name])
    layer.transform_param.mean_value.extend(made['mean'])
    if not made['mean']:
        layer.ClearField('transform_param')
    # images differ in size, so one a batch
    layer.data_param.source, layer.data_param.batch_size, layer.data_param.backend = path, 1, caffe_pb2.DataParameter.LMDB
    return layer


def shown(settings):
    """Settings as people write them."""
    return ', '.join('%s %s' % (key, settings[key]) for key in sorted(settings))


def write(script, nets):
    """Write <name>_lmdb.prototxt for each net with data layers in Python, and the solvers, beside `script`, a net.py."""
    folder = os.path.dirname(os.path.abspath(script))
    base = os.path.basename(folder)
    remedy = 'python data/make_lmdb.py %s' % base
    header = 'generated by %s --data lmdb' % os.path.join(base, os.path.basename(script))
    renamed = {}
    for name in sorted(nets):
        if sources(nets[name]):
            target = name + '_lmdb.prototxt'
            changed = prototxt.write(os.path.join(folder, target), with_databases(nets[name], folder, remedy), header)
            renamed[name + '.prototxt'] = target
            print('%s: %s' % (os.path.join(base, target), 'written' if changed else 'as it was'))
        else:
            print('%s/%s.prototxt: no data layer that reads a data set of images and labels; left as it is' % (base, name))
    for name in sorted(os.listdir(folder)):
        if name.endswith('solver.prototxt'):
            print('%s: written' % os.path.join(base, write_solver(os.path.join(folder, name), renamed)))


def write_solver(path, renamed):
    """Write <solver>_lmdb.prototxt, the solver with the names of its nets changed; returns the name of the file.

    renamed: {name: new name}. The folder of its snapshots is made, without which Caffe stops at the start.
    """
    with io.open(path, encoding='utf-8') as f:
        text = f.read()
    for old in renamed:
        text = re.sub(r'(?m)^(\s*(?:net|train_net|test_net):\s*)"%s"' % re.escape(old), r'\1"%s"' % renamed[old], text)
    target = path[:-len('.prototxt')] + '_lmdb.prototxt'
    runlog.write_atomic(target, text)
    prefix = prototxt.read(target, caffe_pb2.SolverParameter()).snapshot_prefix
    snapshots = os.path.join(os.path.dirname(path), os.path.dirname(prefix))
    segfiles.make_folder(snapshots)
    return os.path.basename(target)
