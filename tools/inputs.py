"""What a deploy net is fed and what it answers, from the net beside it that its experiment is scored with.

That is val.prototxt or test.prototxt; for X-deploy.prototxt X-val.prototxt or X-test.prototxt, if there is one. Its data
layer's own read_<top> reads the files, so that a net sees them as it saw those it has learned from: HHA in the order of its
file and not as colours, NYUD's photographs minus the mean in the order of the released code. Its losses say which blobs hold
scores. A net that stands alone is taken for one that sees photographs in `data`, minus PASCAL VOC's mean, and answers in
`score`.
"""
from __future__ import division, print_function

import collections
import os
import re

import prototxt
import published
import score
import segfiles
import subject
from which_caffe import caffe  # noqa: F401  it decides whose caffe_pb2 that is
from caffe.proto import caffe_pb2
from lmdb_nets import class_of
from parts import VOC_MEAN
from segdata import minus

# An input blob of a net. kind: PHOTOGRAPHS, HHA or DEPTH. read: makes float32 [C, H, W] of a file. said: how, in words.
Feed = collections.namedtuple('Feed', 'blob kind read said')
# feeds: a Feed for each input, in their order. tasks: score.Tasks. names: {task: class names}.
Plan = collections.namedtuple('Plan', 'feeds tasks names')

PHOTOGRAPHS, HHA, DEPTH = 'photographs', 'HHA', 'depth'
KINDS = {'data': PHOTOGRAPHS, 'color': PHOTOGRAPHS, 'hha': HHA, 'depth': DEPTH}     # of the tops of our data layers
REMEDY = 'name a file that is there'


def plan(path, mean=None):
    """The Plan for a deploy prototxt. mean: (B, G, R) that a net which stands alone is fed; None: PASCAL VOC's.

    ValueError for a net without inputs, for a mean where the net beside it has one, and for a net that stands alone and has
    other inputs than `data`.
    """
    net = prototxt.read(path, caffe_pb2.NetParameter())
    tops = [str(top) for layer in net.layer if layer.type == 'Input' for top in layer.top]
    source = beside(path)
    known = plan_of(source, tops) if source and tops else None
    if known and mean:
        raise ValueError('--mean: %s says what this net was trained with: %s. Leave --mean out, or correct it there'
                         % (source, known.feeds[0].said))
    if known:
        return known
    if tops != ['data']:
        raise ValueError('%s: the net has %s; wanted one Input layer with the top "data", or a val.prototxt or '
                         'test.prototxt beside it that says what its inputs are: name the deploy.prototxt of the '
                         'experiment, not a net that reads a data set'
                         % (path, 'the inputs ' + ', '.join(tops) if tops else 'no Input layer'))
    return alone(mean)


def alone(mean=None):
    """The Plan for a net of which nothing is known: photographs minus a mean (B, G, R), PASCAL VOC's if it is None."""
    why = ' (--mean)' if mean else " (PASCAL VOC's: no net beside this one says what it was trained with; --mean does)"
    mean = mean or VOC_MEAN
    feed = Feed('data', PHOTOGRAPHS, lambda file: segfiles.preprocess(segfiles.read_image(file, REMEDY), mean),
                minus(mean) + why)
    return Plan([feed], [score.Task('label', 'score', 'label', 'loss')], published.class_names('voc-'))


def beside(path):
    """The prototxt that the experiment of a deploy prototxt is scored with, or None."""
    match = re.match(r'((?:.+[-_])?)deploy\.prototxt$', os.path.basename(path))
    folder = os.path.dirname(os.path.abspath(path))
    named = [prefix + split for prefix in (match.group(1), '') for split in ('val', 'test')] if match else []
    files = [os.path.join(folder, name + '.prototxt') for name in named]
    return next((file for file in files if os.path.isfile(file)), None)


def plan_of(source, inputs):
    """The Plan that the scored net `source` gives for these inputs; None if it reads them by no data layer of ours."""
    net = prototxt.read(source, caffe_pb2.NetParameter())
    try:
        layers = [layer for layer in net.layer if class_of(layer)]
    except (ImportError, AttributeError) as error:
        raise ValueError('%s: its data layer cannot be found: %s; put the folder of its module on PYTHONPATH'
                         % (source, error))
    if len(layers) != 1 or not set(inputs) <= set(layers[0].top):
        return None
    reader = class_of(layers[0]).reader(layers[0].python_param.param_str, REMEDY)
    feeds = []
    for blob in inputs:
        top = reader.tops[list(layers[0].top).index(blob)]
        if top not in KINDS:
            raise ValueError('%s: the input %s is the %s of %s; this can feed %s alone'
                             % (source, blob, top, layers[0].python_param.layer, ', '.join(sorted(KINDS))))
        feeds.append(Feed(blob, KINDS[top], getattr(reader, 'read_' + top), '%s (%s)' % (
            reader.fed(top), os.path.join(os.path.basename(os.path.dirname(source)), os.path.basename(source)))))
    if feeds[0].kind == DEPTH:
        raise ValueError('%s: the net sees depth first; wanted photographs or HHA, to lay its segmentation over' % source)
    _, tasks = subject.tasks_of(source)
    return Plan(feeds, tasks, subject.class_names([reader], tasks, os.path.basename(os.path.dirname(source))))


def pair(files, others, kind):
    """{file: the one of `others` that belongs to it}: of the same name but for the ending; or one file each, of any name.

    kind: what the others hold, for the messages. ValueError if there is none for a file, or several, or the file itself.
    """
    both = sorted(set(map(os.path.realpath, files)) & set(map(os.path.realpath, others)))
    if both:
        raise ValueError('%s is named as an image and as %s; wanted two files' % (both[0], kind))
    if len(files) == len(others) == 1:
        return {files[0]: others[0]}
    named = collections.defaultdict(list)
    for path in others:
        named[stem(path)].append(path)
    lacking = [path for path in files if len(named[stem(path)]) != 1]
    if lacking:
        there = named[stem(lacking[0])]
        raise ValueError('%d of %d images do not have one file of %s: %s has %s; wanted one of the same name (but for the '
                         'ending) for each' % (len(lacking), len(files), kind, lacking[0], ', '.join(there) or 'none'))
    return dict((path, named[stem(path)][0]) for path in files)


def stem(path):
    """The name of a file without its ending."""
    return os.path.splitext(os.path.basename(path))[0]
