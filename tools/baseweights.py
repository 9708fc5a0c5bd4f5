"""Base weights: where a training starts from. Finding them, loading them with a report, or making a random trunk."""
from __future__ import division, print_function

import hashlib
import io
import os

import numpy as np

import caffemodel
import snapshots
import surgery

CLASSIFIER = 'vgg16-fcn.caffemodel', 'VGG_ILSVRC_16_layers.caffemodel'     # made from, if only the second is there


class BaseWeightsError(ValueError):
    """No base weights; the message lists the places looked at and what would be there."""


def find(named, run):
    """The file to start from when a recipe names `named`, e.g. '../voc-fcn16s/voc-fcn16s.caffemodel'.

    The released recipes name their weights so, but trained files and downloaded ones are called otherwise. Looked at in
    this order: best weights and newest snapshot of the run called `run` in that folder; the file itself; the file under
    the name it was released by (caffemodel-url in that folder); a stock classifier, which is made convolutional.
    Returns (path, how it was come by). Raises BaseWeightsError.
    """
    folder, places = os.path.dirname(named), []
    script = os.path.join(folder, 'solve.py')
    if os.path.exists(script):
        trained = os.path.join(folder, 'run', run)
        prefix = os.path.join(trained, 'snapshot', 'train')
        places.append((os.path.join(trained, 'best.caffemodel'), 'the best that python %s has made'
                       % os.path.abspath(script)))
        places += [(snapshots.paths(prefix, i)[0], 'its newest snapshot') for i in snapshots.iterations(prefix)
                   if not snapshots.damage(prefix, i)][:1]
    places.append((named, 'as the recipe names it'))
    url = os.path.join(folder, 'caffemodel-url')
    if os.path.exists(url):
        with io.open(url, encoding='ascii') as f:
            address = f.read().split()[0]
        places.append((os.path.join(folder, os.path.basename(address)), 'as released: %s' % address))
    for path, how in places:
        if os.path.isfile(path):
            return path, how
    if os.path.basename(named) == CLASSIFIER[0]:
        stock = os.path.join(folder, CLASSIFIER[1])
        if os.path.isfile(stock):
            surgery.convolutionalize(stock, named)
            return named, 'made from %s' % os.path.abspath(stock)
        places.append((stock, "the Oxford group's VGG16 from the Caffe Model Zoo, to be made convolutional"))
    raise BaseWeightsError(
        'no base weights. Looked for\n%s\nPut one of them there, or name a file with --weights (--weights random starts '
        'from a random trunk, which learns little in the time of these recipes)'
        % '\n'.join('  %s (%s)' % (os.path.abspath(path), how) for path, how in places))


def sha256(path):
    """The hash of a file, as hex digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        for block in iter(lambda: f.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def load(net, path, other_classes=False):
    """Load a caffemodel into a net; returns surgery's Report.

    other_classes: layers of the head (score*, up*) whose shapes differ are dropped and stay as they are in the net,
    for weights of another number of classes. Otherwise, and for other layers, that is a SurgeryError.
    """
    if not other_classes:
        return surgery.load(net, path)
    report, todo = surgery.Report('weights of %s' % path, 'layers'), []
    for layer in caffemodel.read(path):
        number = sum(blob.size for blob in layer.blobs)
        blobs = net.params[layer.name] if layer.name in net.params else []
        got, wanted = [b.shape for b in layer.blobs], [tuple(b.data.shape) for b in blobs]
        fits = [int(np.prod(s)) for s in got] == [int(np.prod(s)) for s in wanted] and (layer.legacy or got == wanted)
        if fits and blobs:
            todo.append((blobs, layer.blobs))
            report.copied.append((layer.name, number))
        elif not blobs or layer.name.startswith(('score', 'up')):
            report.dropped += [(layer.name, number)] if number else []
        else:
            raise surgery.SurgeryError("%s: layer '%s' has parameters of shapes %s, the net's has %s; only score* and up* "
                                       'may differ, with the number of classes' % (path, layer.name, got, wanted))
    copied = set(name for name, _ in report.copied)
    report.left = [(name, sum(b.data.size for b in net.params[name])) for name in net.params if name not in copied]
    for blobs, values in todo:
        for blob, value in zip(blobs, values):
            blob.data[...] = value.reshape(blob.data.shape)
    return report


def random_trunk(net, seed):
    """Fill the convolutions of the trunk with random weights, msra: normal with deviation sqrt(2 / inputs); biases 0.

    The first gets a 64th of that, because pixels deviate by some 64 and the layers after it want about 1.
    Returns the names of the layers filled.
    """
    rng, names = np.random.RandomState(seed), []
    for name, layer in zip(net._layer_names, net.layers):
        if layer.type == 'Convolution' and not name.startswith('score'):
            weight = net.params[name][0].data
            deviation = np.sqrt(2. / weight[0].size) / (1 if names else 64)
            weight[...] = rng.normal(0, deviation, weight.shape)
            names.append(name)
    return names
