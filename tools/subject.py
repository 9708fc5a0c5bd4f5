"""What evaluate.py and compare.py are about: which net, which weights, which images; found, loaded and looked at."""
from __future__ import division, print_function

import collections
import io
import json
import os
import re
import shutil
import tempfile

import numpy as np
from PIL import Image

import prototxt
import published
import score
import segfiles
import surgery
import vis
from which_caffe import caffe
from caffe.proto import caffe_pb2

# net: absolute path of the prototxt. folder: the experiment's, where it runs; experiment: its name. variant: or None.
# weights: absolute path. run: the folder of the run that was named, or None. trained: see `trained`.
Subject = collections.namedtuple('Subject', 'net folder experiment variant weights run trained')

SIDE = 400      # pixels a picture has at most on its longer side


class SubjectError(ValueError):
    """A net, weights or images that cannot be scored; the message says why and what to do."""


# -- finding -----------------------------------------------------------------------------------------------------------
def find(what, weights=None, variant=None):
    """The Subject that a command line means.

    what: an experiment's folder, the folder of a run, or a prototxt. weights: a caffemodel; for a run its best, if left
    out. variant: of an experiment that has several nets. SubjectError or IOError if something is not there.
    """
    run = None
    if os.path.isfile(what):
        net, folder = what, os.path.dirname(os.path.abspath(what))
    elif not os.path.isdir(what):
        raise IOError('%s: no such folder or file; wanted the folder of an experiment, of a run, or a prototxt' % what)
    elif os.path.isfile(os.path.join(what, 'solver.prototxt')) and os.path.exists(os.path.join(what, 'snapshot')):
        run = os.path.abspath(what)
        net, folder = _net_of_run(run)
        weights = weights or os.path.join(run, 'best.caffemodel')
        variant = variant or _record(run).get('variant')
    else:
        folder = os.path.abspath(what)
        net = _net_of_experiment(folder, variant)
    if weights is None:
        raise SubjectError('%s: say which weights, a caffemodel; only for a run (run/<name>) are they found' % what)
    if not os.path.isfile(weights):
        raise IOError('%s: no such file; wanted a caffemodel' % weights)
    return Subject(os.path.abspath(net), folder, os.path.basename(folder), variant, os.path.abspath(weights), run,
                   trained(weights))


def _net_of_run(run):
    """(prototxt that a run is scored with, folder of its experiment); paths in a solver are relative to that folder."""
    param = prototxt.read(os.path.join(run, 'solver.prototxt'), caffe_pb2.SolverParameter())
    if not param.test_net:
        raise SubjectError('%s: its solver.prototxt names no test_net; name a prototxt instead of the run' % run)
    folder = run
    while not os.path.isfile(os.path.join(folder, param.test_net[0])):
        folder, below = os.path.dirname(folder), folder
        if folder == below:
            raise SubjectError('%s: the net %s of its solver.prototxt is in no folder above it; name a prototxt instead of '
                               'the run' % (run, param.test_net[0]))
    return os.path.join(folder, param.test_net[0]), folder


def _net_of_experiment(folder, variant):
    """The prototxt that an experiment, or a variant of it, is scored with: val.prototxt, color-test.prototxt."""
    found = {}
    for name in sorted(os.listdir(folder)):
        match = re.match(r'(?:(.+)[-_])?(?:val|test)\.prototxt$', name)
        if match:
            found[match.group(1)] = os.path.join(folder, name)
    if variant in found:
        return found[variant]
    if None in found:       # a variant that differs in how it learns is scored with the experiment's own net
        return found[None]
    raise SubjectError('%s has %s; %s' % (folder, 'the variants ' + ', '.join(sorted(found)) if found else
                                          'no val.prototxt or test.prototxt', 'name one with --variant' if found else
                                          'name the folder of an experiment, of a run, or a prototxt'))


def trained(weights):
    """(--data, --learning) that weights of a run were trained with, where its record lies beside them; else (None, None)."""
    record = _record(os.path.dirname(os.path.abspath(weights)))
    return record.get('data'), record.get('learning')


def _record(run):
    """What run.json says; SubjectError if it is damaged."""
    path = os.path.join(run, 'run.json')
    if not os.path.exists(path):
        return {}
    with io.open(path, encoding='utf-8') as f:
        try:
            record = json.load(f)
        except ValueError as error:
            raise SubjectError('%s: not JSON (%s); move it away: it says how the run was begun' % (path, error))
    if not isinstance(record, dict):
        raise SubjectError('%s: not the record of a run; move it away: it says how the run was begun' % path)
    return record


# -- loading -----------------------------------------------------------------------------------------------------------
def load(path, weights):
    """The net of a prototxt, TEST phase, with the weights of a caffemodel of any format (V0, V1, today's, HDF5).

    SubjectError if the file lacks weights of the net; SurgeryError for shapes that differ and for weights that are zero.
    """
    net = caffe.Net(path, caffe.TEST)
    if is_hdf5(weights):
        if not weights.endswith('.h5'):
            raise SubjectError('%s is HDF5, which Caffe tells by the name: rename it to end in .h5' % weights)
        net.copy_from(weights)
    else:
        left = surgery.load(net, weights).left
        if left:
            raise SubjectError('%s has no weights for %s of %s; wanted the weights of this net'
                               % (weights, ', '.join(name for name, _ in left), path))
    surgery.refuse_zeros(net)
    return net


def is_hdf5(path):
    """True if a file begins as HDF5 does."""
    with open(path, 'rb') as f:
        return f.read(4) == b'\x89HDF'


def sources(net_param):
    """A caffe.Net of the data layers of a NetParameter alone: it shows the images, and costs nothing."""
    alone = caffe_pb2.NetParameter()
    alone.layer.extend(layer for layer in net_param.layer if not layer.bottom)
    folder = tempfile.mkdtemp()
    try:
        prototxt.write(os.path.join(folder, 'data.prototxt'), alone)
        return caffe.Net(os.path.join(folder, 'data.prototxt'), caffe.TEST)
    finally:
        shutil.rmtree(folder)


def ids(net, path):
    """The ids that the data layer of a net shows; SubjectError if there is none that keeps a list."""
    for layer in net.layers:
        if hasattr(layer, 'indices'):
            return [type(u'')(name) for name in layer.indices]
    raise SubjectError('%s: the net has no data layer with a list of ids (see tools/segdata.py), so there is nothing to '
                       'score; wanted val.prototxt or test.prototxt of an experiment' % path)


def class_names(layers, tasks, experiment):
    """{task: class names} of the data that layers read: classes.txt in its folder, or those of the paper's data set.

    layers: those of a net; the data layers among them (see tools/segdata.py) count.
    """
    names = published.class_names(experiment)
    for layer in layers:
        for root in getattr(layer, 'roots', {}).values():
            own = os.path.join(root, 'classes.txt')
            held = segfiles.read_list(own) if os.path.isfile(own) else []
            if held and len(held) == layer.classes.get(tasks[0].name):
                names[tasks[0].name] = held
    return dict((task.name, names[task.name]) for task in tasks if task.name in names)


# -- looking -----------------------------------------------------------------------------------------------------------
def show(net, place):
    """Make a net of data layers show the image at a position of its list; returns its id and the layer."""
    for layer in net.layers:
        if hasattr(layer, 'indices'):
            layer.idx = place
            net.forward()
            return layer.indices[place], layer


def photograph(net, layer, name):
    """The image that a net of data layers shows, uint8 [H, W, 3] (RGB): of its file, or stretched from its blob."""
    for top in getattr(layer, 'tops', ()):
        if top not in layer.classes and net.blobs[top].data.shape[1] == 3:
            return np.array(segfiles.read_image(layer.file(top, name)))
    data = next(iter(net.blobs.values())).data[0]
    data = data[::-1].transpose(1, 2, 0) if len(data) == 3 else np.repeat(data[0][:, :, None], 3, 2)
    low, high = data.min(), data.max()
    return (255 * (data - low) / max(high - low, 1e-12)).astype(np.uint8)


def fitted(picture, resample=Image.BILINEAR):
    """A picture (uint8 [H, W, 3]) as a PIL image of at most SIDE pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.uint8))
    scale = SIDE / max(image.size)
    if scale >= 1:
        return image
    return image.resize([max(int(round(side * scale)), 1) for side in image.size], resample)


def laid_over(picture, seg):
    """A picture with a segmentation [H, W] laid over it in the VOC colours; class 0 stays clear."""
    return vis.vis_seg(picture, seg, vis.make_palette(256), alpha=.65)


def tasks_of(path):
    """(NetParameter, tasks) of a prototxt."""
    net_param = prototxt.read(path, caffe_pb2.NetParameter())
    try:
        return net_param, score.find_tasks(net_param)
    except ValueError as error:
        raise SubjectError('%s: %s' % (path, error))
