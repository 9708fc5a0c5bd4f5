"""Surgery on parameters: from one net to another, from a classifier to a fully convolutional net, bilinear kernels.

On nets (either Caffe's): transplant, interp, expand_score, extend_inputs, load, refuse_zeros; Weights lets a file stand
for the net that is copied from. On files, without Caffe:

    python tools/surgery.py convolutionalize VGG_ILSVRC_16_layers.caffemodel vgg16-fcn.caffemodel

Every function checks everything first and changes nothing if it raises. Those that move parameters answer with a Report.
"""
from __future__ import division, print_function

import argparse
import collections
import sys

import numpy as np

import caffemodel


class SurgeryError(ValueError):
    """Parameters that do not fit; the message names both sides, their shapes, and the remedy."""


class Report(object):
    """What happened to parameters: a list of (what, number of values) for each kind; str() of it is a few lines.

    copied: as they are. coerced: same number of values, another shape. dropped: of the source, without a place in the
    target. left: of the target, without a source, so still what they were (their filler, in a new net).
    """
    KINDS = (('copied', 8), ('coerced', 24), ('dropped', 24), ('left', 24))    # and how many of each str() names

    def __init__(self, title, unit='blobs'):
        self.title, self.unit = title, unit
        self.copied, self.coerced, self.dropped, self.left = [], [], [], []

    def count(self, kind):
        """How many values are of this kind."""
        return sum(number for _, number in getattr(self, kind))

    def by_layer(self, title):
        """The same of whole layers, under another title; what was coerced stays as it is, with its shapes."""
        report = Report(title, 'layers')
        report.coerced = self.coerced
        for kind in ('copied', 'dropped', 'left'):
            layers = collections.OrderedDict()
            for what, number in getattr(self, kind):
                name = what.partition('[')[0]
                layers[name] = layers.get(name, 0) + number
            setattr(report, kind, list(layers.items()))
        return report

    def __str__(self):
        lines = ['%s: values %s' % (self.title, ', '.join('{} {:,}'.format(kind, self.count(kind))
                                                          for kind, _ in self.KINDS))]
        for kind, most in self.KINDS:
            entries = [what for what, _ in getattr(self, kind)]
            if entries:
                lines.append('  %-7s %2d %s: %s%s' % (kind, len(entries), self.unit, ', '.join(entries[:most]),
                                                      ', ...' if len(entries) > most else ''))
        return '\n'.join(lines)


# -- between nets ------------------------------------------------------------------------------------------------------
class Weights(object):
    """The parameters of a caffemodel, in the place of a net to copy from: params, as those of a net, but only to read."""
    Blob = collections.namedtuple('Blob', 'data')

    def __init__(self, path):
        self.params = collections.OrderedDict((layer.name, [self.Blob(blob) for blob in layer.blobs])
                                              for layer in caffemodel.read(path) if layer.blobs)


def transplant(new_net, net, suffix=''):
    """Copy the parameters of each layer of `net` to the layer of `new_net` named like it plus `suffix`.

    A blob of another shape but the same number of values is coerced, flat: that is how fully connected weights become
    convolution kernels, (4096, 25088) -> (4096, 512, 7, 7). Layers and blobs without a counterpart are dropped, those
    of `new_net` without a source are left. Raises SurgeryError where the numbers of values differ.
    """
    report, todo, reached = Report('transplant%s' % (" to layers *%s" % suffix if suffix else '')), [], set()
    for name in net.params:
        target = name + suffix
        for i, blob in enumerate(net.params[name]):
            here, there = '%s[%d]' % (name, i), '%s[%d]' % (target, i)
            if target not in new_net.params or i >= len(new_net.params[target]):
                report.dropped.append((here, blob.data.size))
                continue
            new = new_net.params[target][i]
            if new.data.size != blob.data.size:
                raise SurgeryError('transplant: %s has shape %s, %d values; its target %s has shape %s, %d values. Give '
                                   'them the same number, or rename the layer of one net so that it is dropped'
                                   % (here, blob.data.shape, blob.data.size, there, new.data.shape, new.data.size))
            reached.add(there)
            todo.append((new, blob))
            if new.data.shape == blob.data.shape:
                report.copied.append((there, new.data.size))
            else:
                report.coerced.append(('%s %s -> %s' % (there, blob.data.shape, new.data.shape), new.data.size))
    for name in new_net.params:
        report.left += [('%s[%d]' % (name, i), blob.data.size) for i, blob in enumerate(new_net.params[name])
                        if '%s[%d]' % (name, i) not in reached]
    for new, blob in todo:
        new.data[...] = blob.data.reshape(new.data.shape)
    return report


def expand_score(new_net, new_layer, net, layer):
    """Copy a score layer with k classes to one with k or more, whose first k classes are the old ones.

    Further classes are left. Raises SurgeryError if the new layer has fewer classes or other inputs.
    """
    report, olds, news = Report('expand_score'), net.params[layer], new_net.params[new_layer]
    for i, old in enumerate(olds):
        if (len(olds) != len(news) or old.data.ndim != news[i].data.ndim or old.data.shape[0] > news[i].data.shape[0]
                or old.data.shape[1:] != news[i].data.shape[1:]):
            raise SurgeryError('expand_score: %s has shapes %s, %s has %s; wanted the same but for the first dimension, '
                               'the classes, of which there may be more: check num_output, kernel_size and bias_term'
                               % (layer, [b.data.shape for b in olds], new_layer, [b.data.shape for b in news]))
    for i, old in enumerate(olds):
        classes = old.data.shape[0]
        news[i].data[:classes] = old.data
        report.copied.append(('%s[%d], first %d of %d' % (new_layer, i, classes, len(news[i].data)), old.data.size))
        if classes < len(news[i].data):
            report.left.append(('%s[%d], the rest' % (new_layer, i), news[i].data.size - old.data.size))
    return report


def extend_inputs(new_net, new_layer, net, layer):
    """Copy a convolution to one that has more input channels, whose first are the old ones; biases, too.

    Each further channel starts as the mean of the old ones' filters: what a gray image, or a depth, fed in their place
    would give on average. Raises SurgeryError if the new layer has other outputs, kernels or fewer inputs.
    """
    report, olds, news = Report('extend_inputs'), net.params.get(layer, []), new_net.params[new_layer]
    shapes = [tuple(b.data.shape) for b in olds], [tuple(b.data.shape) for b in news]
    weights = [found[0] if found and len(found[0]) == 4 else None for found in shapes]
    if (None in weights or len(olds) != len(news) or weights[0][0] != weights[1][0] or weights[0][1] > weights[1][1] or
            weights[0][2:] != weights[1][2:] or [b.data.size for b in olds[1:]] != [b.data.size for b in news[1:]]):
        raise SurgeryError("extend_inputs: '%s' has shapes %s, '%s' has %s; wanted convolutions that differ in the second "
                           'dimension alone, the inputs, of which there may be more: check num_output, kernel_size and '
                           'bias_term' % ((layer, shapes[0], new_layer, shapes[1])))
    inputs = weights[0][1]
    news[0].data[:, :inputs] = olds[0].data
    report.copied.append(('%s[0], first %d of %d inputs' % (new_layer, inputs, weights[1][1]), olds[0].data.size))
    if weights[1][1] > inputs:
        news[0].data[:, inputs:] = olds[0].data.mean(axis=1, keepdims=True)
        report.coerced.append(('%s[0], the other inputs: their mean' % new_layer, news[0].data[:, inputs:].size))
    for i in range(1, len(olds)):
        news[i].data[...] = olds[i].data.reshape(news[i].data.shape)
        report.copied.append(('%s[%d]' % (new_layer, i), news[i].data.size))
    return report


def upsample_filt(size):
    """The square kernel of bilinear upsampling, size x size, float64; its factor is (size + 1) // 2.

    4 -> .25 .75 .75 .25 each way. Deconvolved with stride = factor, a constant image stays constant inside.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    tap = 1 - abs(np.arange(size) - centre) / factor
    return np.outer(tap, tap)


def interp(net, layers):
    """Make each of these layers, named deconvolutions, bilinear upsampling of each channel by itself.

    The kernel goes on the diagonal (channel to the same channel), or into every channel's own if the layer has group =
    channels; the rest is set to zero. Raises SurgeryError for kernels that are not square or channels that differ.
    """
    for layer in layers:
        if layer not in net.params:
            raise SurgeryError("interp: the net has no layer '%s' with parameters; it has %s"
                               % (layer, ', '.join(net.params)))
        m, k, h, w = net.params[layer][0].data.shape
        if m != k and k != 1:
            raise SurgeryError("interp: layer '%s' has shape %s: %d channels to %d; wanted as many to as from, or group: %d"
                               % (layer, (m, k, h, w), m, k, m))
        if h != w:
            raise SurgeryError("interp: layer '%s' has shape %s, a kernel of %d x %d; wanted a square one"
                               % (layer, (m, k, h, w), h, w))
    for layer in layers:
        data = net.params[layer][0].data
        data[...] = 0
        data[range(data.shape[0]), range(data.shape[1]), :, :] = upsample_filt(data.shape[2])


def refuse_zeros(net):
    """Raise SurgeryError if a layer of weights is all zero that must not be: a deconvolution, or one of the trunk.

    Score layers, named score*, start at zero and may be. The two mistakes this catches cost people days: weights that
    were not loaded, and deconvolutions that were not made bilinear; either way every output is zero.
    """
    zeros = [(name, layer.type) for name, layer in zip(net._layer_names, net.layers)
             if layer.type in ('Convolution', 'Deconvolution', 'InnerProduct') and name in net.params
             and (layer.type == 'Deconvolution' or not name.startswith('score'))
             and not np.any(net.params[name][0].data)]
    if zeros:
        trunk = [name for name, kind in zeros if kind != 'Deconvolution']
        up = [name for name, kind in zeros if kind == 'Deconvolution']
        raise SurgeryError(
            'the net would compute nothing: all weights are zero%s%s'
            % (' in %s: load base weights (their layer names must match)' % ', '.join(trunk) if trunk else '',
               '%s in %s: call surgery.interp(net, %r)' % ('; and' if trunk else '', ', '.join(up), up) if up else ''))


# -- from a file into a net ----------------------------------------------------------------------------------------------
def load(net, path):
    """net.copy_from(path) with a check before and a Report after: of whole layers, matched by name.

    dropped are layers of the file that the net does not have, left are layers of the net that the file does not have.
    Raises SurgeryError where a shape differs; Caffe's own copy_from would end the process.
    """
    report, layers = Report('weights of %s' % path, 'layers'), caffemodel.read(path)
    names = set(net._layer_names)
    found = set()
    for layer in layers:
        size = sum(blob.size for blob in layer.blobs)
        if layer.name not in names:
            report.dropped += [(layer.name, size)] if layer.blobs else []
            continue
        wanted = [tuple(blob.data.shape) for blob in net.params[layer.name]] if layer.name in net.params else []
        got = [blob.shape for blob in layer.blobs]
        if len(got) != len(wanted) or not all(_passes(g, w, layer.legacy) for g, w in zip(got, wanted)):
            raise SurgeryError("%s: layer '%s' (%s) has parameters of shapes %s, the net's has %s; %s"
                               % (path, layer.name, layer.type, got, wanted, _remedy(path, got, wanted)))
        found.add(layer.name)
        report.copied += [(layer.name, size)] if layer.blobs else []
    del layers      # the file's bytes; copy_from reads them again
    report.left = [(name, sum(blob.data.size for blob in net.params[name])) for name in net.params if name not in found]
    net.copy_from(path)
    return report


def _passes(got, wanted, legacy):
    """Caffe's rule: shapes are equal; those of old files have ones in front."""
    return got == wanted or (legacy and len(wanted) <= 4 and got == (1,) * (4 - len(wanted)) + wanted)


def _remedy(path, got, wanted):
    if [int(np.prod(g)) for g in got] == [int(np.prod(w)) for w in wanted]:
        return ('they hold as many values: if these are the fully connected layers of a classifier, make them '
                'convolutions first: python tools/surgery.py convolutionalize %s OUT.caffemodel' % path)
    return ('for weights of another number of classes or inputs, rename the layer in the net: it then starts from its '
            'filler and the file\'s is dropped')


# -- from file to file ---------------------------------------------------------------------------------------------------
def convolutionalize(source, target, kernels=None):
    """Write the classifier `source` (.caffemodel of any format) as a fully convolutional net's weights to `target`.

    Convolutions stay as they are. The first fully connected layer after a convolution becomes one whose kernel covers
    the map it saw, its size inferred: VGG's fc6 sees 25088 / 512 channels of conv5_3 = 49 = 7 x 7. Those after it become
    1 x 1 convolutions. Biases of old files, (1, 1, 1, N), become (N,). All layers keep their names, the classifier's
    last one (fc8) too: FCNs have no layer of that name and ignore it, and the file remains the whole ImageNet
    classifier, only applicable anywhere in an image. Layers without parameters are not written.

    kernels: {layer name: (height, width)} where the size cannot be inferred, because the map is not square or the layer
    before it in the file is not what it sees. Returns lines that tell what became of each layer. Raises SurgeryError.
    """
    kernels, said, layers, channels = dict(kernels or {}), [], [], None
    for name, kind, blobs, _ in caffemodel.read(source):
        if not blobs:
            continue
        new_kind, weight = kind, blobs[0]
        if kind == 'InnerProduct':
            if int(np.prod(blobs[0].shape[-2:])) != blobs[0].size or blobs[0].ndim < 2:
                raise SurgeryError("%s: layer '%s' (InnerProduct) has weights of shape %s; wanted outputs x inputs"
                                   % (source, name, blobs[0].shape))
            weight = blobs[0].reshape(blobs[0].shape[-2:])
            kernel = kernels.pop(name, None) or _kernel(source, name, weight.shape[1], channels)
            if weight.shape[1] % (kernel[0] * kernel[1]):
                raise SurgeryError("%s: layer '%s' has %d inputs, which are no channels of %d x %d; wanted a kernel size "
                                   'whose area divides them' % ((source, name, weight.shape[1]) + tuple(kernel)))
            weight = weight.reshape((len(weight), -1) + tuple(kernel))
            new_kind = 'Convolution'
        if new_kind == 'Convolution':
            channels = len(weight)
            blobs = [weight] + [bias.reshape(-1) for bias in blobs[1:]]
        layers.append((name, new_kind, blobs))
        said.append('%-12s %-13s %-20s' % (name, kind, _by(weight.shape)) if kind == new_kind else
                    '%-12s %-13s %-20s from %s %s' % (name, new_kind, _by(weight.shape), kind, '%dx%d' % (
                        len(weight), weight.size // len(weight))))
    if kernels:
        raise SurgeryError('%s: kernels are given for %s, which are no fully connected layers of it (it has %s)'
                           % (source, ', '.join(sorted(kernels)), ', '.join(name for name, _, _ in layers)))
    if not any('from InnerProduct' in line for line in said):
        raise SurgeryError('%s: it has no fully connected layers to convolutionalize (it has %s); it may be one already'
                           % (source, ', '.join('%s %s' % (kind, name) for name, kind, _ in layers) or 'no parameters'))
    caffemodel.write(target, layers)
    return [line.rstrip() for line in said]


def _kernel(source, name, inputs, channels):
    """The side of the square map of `channels` channels that a layer with this many inputs sees."""
    side = int(round((inputs / channels) ** 0.5)) if channels else 0
    if not channels or side * side * channels != inputs:
        raise SurgeryError("%s: layer '%s' has %d inputs, which are no square map of the %s channels of the layer before it "
                           "in the file; give its kernel: --kernel %s=HEIGHTxWIDTH" % (source, name, inputs, channels, name))
    return side, side


def _by(shape):
    return 'x'.join(str(d) for d in shape)


def _kernel_option(text):
    name, _, size = text.partition('=')
    height, _, width = size.partition('x')
    if not (name and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError('%r is not LAYER=HEIGHTxWIDTH, such as fc6=7x7' % text)
    return name, (int(height), int(width))


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description='Surgery on weights files.')
    verbs = parser.add_subparsers(dest='verb', metavar='convolutionalize')
    verb = verbs.add_parser('convolutionalize', help='make a classifier fully convolutional')
    verb.add_argument('source', help='a classifier, e.g. VGG_ILSVRC_16_layers.caffemodel')
    verb.add_argument('target', help='the file to write, e.g. vgg16-fcn.caffemodel')
    verb.add_argument('--kernel', type=_kernel_option, action='append', default=[], metavar='LAYER=HxW',
                      help='kernel of a fully connected layer whose map is not square or not of the layer before it')
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.error('say what to do: convolutionalize')
    try:
        for line in convolutionalize(options.source, options.target, dict(options.kernel)):
            print(line)
    except (SurgeryError, caffemodel.CaffemodelError, IOError) as error:
        print('surgery.py: %s' % error, file=sys.stderr)
        return 1
    print('wrote %s' % options.target)
    return 0


if __name__ == '__main__':
    sys.exit(main())
