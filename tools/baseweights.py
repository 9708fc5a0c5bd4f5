"""Base weights: where a training starts from. Finding them, loading them with a report, or making a random trunk."""
from __future__ import division, print_function

import hashlib
import io
import os
import re

import numpy as np

import snapshots
import surgery

# What an FCN's trunk is made from if it is not there: stock classifiers, by the names they are given out under, the kernels
# of fully connected layers that see more than the layer before them in the file, and what is to be said of it
CLASSIFIERS = {
    'vgg16-fcn.caffemodel': [
        ('VGG_ILSVRC_16_layers.caffemodel', {}, "the Oxford group's VGG16, from the Caffe Model Zoo")],
    'alexnet-fcn.caffemodel': [
        ('bvlc_reference_caffenet.caffemodel', {}, "BVLC's CaffeNet, from the Caffe Model Zoo"),
        ('bvlc_alexnet.caffemodel', {}, "BVLC's AlexNet, from the Caffe Model Zoo. It was trained with the normalization "
         'before the pooling, this net has it after, as CaffeNet: bvlc_reference_caffenet.caffemodel fits better')],
    'googlenet-fcn.caffemodel': [
        ('bvlc_googlenet.caffemodel', {'loss3/classifier': (1, 1)}, "BVLC's GoogLeNet, from the Caffe Model Zoo")],
}
FIRST = re.compile(r'conv1(_1.*|/7x7_s2)?$')     # the first convolution of VGG16, AlexNet, GoogLeNet


class BaseWeightsError(ValueError):
    """No base weights; the message lists the places looked at and what would be there."""


def find(named, runs):
    """The file to start from when a recipe names `named`, e.g. '../voc-fcn16s/voc-fcn16s.caffemodel'.

    The released recipes name their weights so, but trained files and downloaded ones are called otherwise. Looked at in
    this order: best weights and newest snapshot of the first of the `runs` (names) that there is in that folder; the file
    itself; the file under the name it was released by (caffemodel-url in that folder, or one that begins with the name);
    a stock classifier, which is made convolutional. Returns (path, how it was come by). Raises BaseWeightsError.
    """
    folder, places = os.path.dirname(named), []
    stem = os.path.splitext(os.path.basename(named))[0]
    script = os.path.join(folder, 'solve.py')
    for run in runs if os.path.exists(script) else []:
        trained = os.path.join(folder, 'run', run)
        prefix = os.path.join(trained, 'snapshot', 'train')
        places.append((os.path.join(trained, 'best.caffemodel'), 'the best that python %s has made'
                       % os.path.abspath(script)))
        places += [(snapshots.paths(prefix, i)[0], 'its newest snapshot') for i in snapshots.iterations(prefix)
                   if not snapshots.damage(prefix, i)][:1]
    places.append((named, 'as the recipe names it'))
    for url in (os.path.join(folder, stem + '-caffemodel-url'), os.path.join(folder, 'caffemodel-url')):
        if os.path.exists(url):
            with io.open(url, encoding='ascii') as f:
                address = f.read().split()[0]
            places.append((os.path.join(folder, os.path.basename(address)), 'as released: %s' % address))
            break
    for path, how in places:
        if os.path.isfile(path):
            return path, how
    for name, kernels, what in CLASSIFIERS.get(os.path.basename(named), ()):
        stock = os.path.join(folder, name)
        if os.path.isfile(stock):
            surgery.convolutionalize(stock, named, kernels)
            return named, 'made from %s: %s' % (os.path.abspath(stock), what)
        places.append((stock, '%s; it is made convolutional' % what))
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


def load(net, path, suffix='', other_classes=False):
    """Load a caffemodel into a net; returns surgery's Report.

    suffix: what the net's layers have after the names that the file's have, for a net that has a trunk twice; layers that
    it does not have then are dropped. other_classes: layers of the head (score*, up*) whose sizes differ are dropped and
    stay as they are in the net, for weights of another number of classes. Raises SurgeryError for other differences.
    """
    if not suffix and not other_classes:
        return surgery.load(net, path)
    source, dropped = surgery.Weights(path), []
    for name in list(source.params) if other_classes else []:
        got = [blob.data.size for blob in source.params[name]]
        target = name + suffix
        wanted = [blob.data.size for blob in net.params[target]] if target in net.params else got
        if got != wanted and name.startswith(('score', 'up')):
            dropped.append((name, sum(got)))
            del source.params[name]
    report = surgery.transplant(net, source, suffix)
    report.dropped += dropped
    report.left = [(what, number) for what, number in report.left if what.partition('[')[0].endswith(suffix)]
    return report.by_layer('weights of %s%s' % (path, ', to layers *%s' % suffix if suffix else ''))


def random_trunk(net, seed):
    """Fill the convolutions of the trunk with random weights, msra: normal with deviation sqrt(2 / inputs); biases 0.

    The first of a trunk gets a 64th of that, because pixels deviate by some 64 and the layers after it want about 1.
    Returns the names of the layers filled.
    """
    rng, names = np.random.RandomState(seed), []
    for name, layer in zip(net._layer_names, net.layers):
        if layer.type == 'Convolution' and not name.startswith('score'):
            weight = net.params[name][0].data
            deviation = np.sqrt(2. / weight[0].size) / (64 if FIRST.match(name) else 1)
            weight[...] = rng.normal(0, deviation, weight.shape)
            names.append(name)
    return names
