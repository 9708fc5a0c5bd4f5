"""What the nets share besides their trunks: data layers, what heads are made of, deploy nets, and writing them all."""
from __future__ import division, print_function

import argparse
import os
import sys

import prototxt
from which_caffe import caffe
from caffe.proto import caffe_pb2

L = caffe.layers

# weights, then biases: biases learn at twice the rate and do not decay, as when the classifiers were trained
LEARNED = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]
FROZEN = [dict(lr_mult=0)]

VOC_MEAN = (104.00699, 116.66877, 122.67892)    # of the ILSVRC photographs VGG16 was trained on: blue, green, red


def python_data(module, layer, params, ntop=2):
    """The tops of a data layer in Python: class `layer` of `module`, `ntop` tops, `params` as (key, value) pairs.

    The pairs are written in the order given, in the form of str(dict): the order of a dict depends on the Python.
    """
    param_str = '{%s}' % ', '.join('%r: %r' % (key, value) for key, value in params)
    return L.Python(module=module, layer=layer, ntop=ntop, param_str=param_str)


def voc_data(split, root='../data'):
    """(data, label) of PASCAL VOC: for 'train' the photographs SBD has labelled, for another split those of VOC2011."""
    if split == 'train':
        layer, source = 'SBDDSegDataLayer', ('sbdd_dir', root + '/sbdd/dataset')
    else:
        layer, source = 'VOCSegDataLayer', ('voc_dir', root + '/pascal/VOC2011')
    # in the order of the released files, which is that of a Python 2 dict
    return python_data('voc_layers', layer, [source, ('seed', 1337), ('split', split), ('mean', VOC_MEAN)])


def nyud_data(split, tops, root='../data'):
    """The tops, in their order, of NYUDv2 named in `tops`: some of 'color', 'depth', 'hha' and 'label'."""
    return python_data('nyud_layers', 'NYUDSegDataLayer', [
        ('tops', list(tops)), ('seed', 1337), ('nyud_dir', root + '/nyud'), ('split', split)], ntop=len(tops))


def siftflow_data(split, root='../data'):
    """(data, sem, geo) of SIFT Flow: images, and the labels of its two tasks."""
    return python_data('siftflow_layers', 'SIFTFlowSegDataLayer', [
        ('siftflow_dir', root + '/sift-flow'), ('seed', 1337), ('split', split)], ntop=3)


def pascalcontext_data(split, root='../../data'):
    """(data, label) of PASCAL-Context. Its data folder is one higher than in the others, as in the released files."""
    return python_data('pascalcontext_layers', 'PASCALContextSegDataLayer', [
        ('context_dir', root + '/pascal-context'), ('seed', 1337), ('split', split), ('voc_dir', root + '/pascal')])


def score(bottom, classes, rate=1):
    """A score for every class at every unit: a 1x1 convolution. It has no filler, so it starts at exactly zero.

    rate: how much faster than the trunk it learns.
    """
    param = [dict(learned, lr_mult=rate * learned['lr_mult']) for learned in LEARNED]
    return L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0, param=param)


def upscore(bottom, classes, kernel_size, stride, param=FROZEN):
    """Scores upsampled by `stride`. Zero until surgery.interp has made the kernels bilinear; not learned, no bias."""
    return L.Deconvolution(bottom, param=param, convolution_param=dict(
        num_output=classes, kernel_size=kernel_size, stride=stride, bias_term=False))


class Suffixed(object):
    """A NetSpec seen with a suffix on every name: what is called conv1_1 here is conv1_1color in the net, say.

    It lets a net have a trunk twice. `data`, where the trunk begins, has the name it is given.
    """

    def __init__(self, n, suffix, data):
        for key, value in (('_n', n), ('_suffix', suffix), ('data', data)):
            object.__setattr__(self, key, value)

    def __setattr__(self, name, top):
        self._n[name + self._suffix] = top

    def __getattr__(self, name):
        return self._n[name + self._suffix]

    __setitem__, __getitem__ = __setattr__, __getattr__


def read_by_losses(net):
    """The net (NetParameter) without the layers that no loss depends on."""
    needed, kept = set(), []
    for layer in reversed(net.layer):
        if layer.type.endswith('Loss') or needed.intersection(layer.top):
            needed.update(layer.bottom)
            kept.insert(0, layer)
    out = caffe_pb2.NetParameter()
    out.layer.extend(kept)
    return out


def deploy(net, shape=(1, 3, 500, 500), *more):
    """The inference net of a training net (NetParameter): an Input layer for the data; no losses, labels or dropout.

    `shape` is a placeholder: a net is reshaped to the image it gets. `more` shapes: where data has several tops that
    differ in shape, one for each. A top of the data layer that only losses read, a label, goes with them. ValueError if
    no layer of the net makes data.
    """
    left_out = ('Dropout', 'Accuracy')
    undropped = dict((layer.top[0], layer.bottom[0]) for layer in net.layer if layer.type == 'Dropout')
    out = caffe_pb2.NetParameter()
    out.layer.add(name='input', type='Input')
    for dims in (shape,) + more:
        out.layer[0].input_param.shape.add().dim.extend(dims)
    for layer in net.layer:
        if layer.bottom and layer.type not in left_out and not layer.type.endswith('Loss'):
            copy = out.layer.add()
            copy.CopyFrom(layer)
            copy.bottom[:] = [undropped.get(name, name) for name in layer.bottom]
    read = set(name for layer in out.layer for name in layer.bottom)
    out.layer[0].top.extend(top for layer in net.layer if not layer.bottom for top in layer.top if top in read)
    if not out.layer[0].top:
        raise ValueError('no deploy net can be made: the net (layers: %s) has no data layer that another layer reads'
                         % ', '.join(layer.name for layer in net.layer))
    return out


def write_nets(script, nets):
    """Write each net of {'train': NetParameter, ...} to <name>.prototxt in the folder of `script`, a net.py.

    Prints one line a file, and leaves a file alone that is already what it should be. With --data lmdb on the command
    line, it writes those that read databases instead, see lmdb_nets.
    """
    parser = argparse.ArgumentParser(description='Writes the nets of this experiment beside it.')
    parser.add_argument('--data', choices=['lmdb'], help='write <name>_lmdb.prototxt, which need no Python layers')
    own = os.path.abspath(sys.argv[0]) == os.path.abspath(script)   # another script may write nets, too
    if parser.parse_args(sys.argv[1:] if own else []).data == 'lmdb':
        import lmdb_nets    # here, because it imports the data layers
        lmdb_nets.write(script, nets)
        return
    folder = os.path.dirname(os.path.abspath(script))
    made_by = os.path.join(os.path.basename(folder), os.path.basename(script))
    for name in sorted(nets):
        path = os.path.join(folder, name + '.prototxt')
        changed = prototxt.write(path, nets[name], header='generated by ' + made_by)
        print('%s: %s' % (os.path.join(os.path.basename(folder), name + '.prototxt'),
                          'written' if changed else 'as it was'))
