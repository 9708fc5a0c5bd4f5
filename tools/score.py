"""Scoring a segmentation net: confusion histogram -> accuracy, mean accuracy, mean IU, frequency-weighted IU.

Answers to score.py of the released code and prints the lines it printed; here the figures are returned too, and what
it let pass (labels out of range, file names that belong to other images) is an error.
"""
from __future__ import division, print_function

import os
from datetime import datetime

import numpy as np

import vis

IGNORE = 255


def fast_hist(a, b, n):
    """Pixels by class: int64 [n, n], row = truth a, column = prediction b (flat arrays of class indices).

    Pixels whose truth is not in 0..n-1 are not counted. ValueError for a prediction that is not in 0..n-1.
    """
    k = (a >= 0) & (a < n)
    truth, prediction = a[k].astype(int), b[k].astype(int)
    if prediction.size and not 0 <= prediction.min() <= prediction.max() < n:
        raise ValueError('predictions go from %d to %d; wanted class indices 0..%d'
                         % (prediction.min(), prediction.max(), n - 1))
    return np.bincount(n * truth + prediction, minlength=n ** 2).reshape(n, n)


def metrics(hist):
    """The figures of a histogram (row = truth, column = prediction) as a dictionary of plain numbers.

    overall_acc, mean_acc, mean_iu, fwavacc: as the released code computes them. mean_iu skips a class only if it is
    neither in the truth nor predicted: one absent from the truth and predicted anywhere counts as 0.
    mean_iu_present: mean IU over the classes that are in the truth. acc, iu: a class; None where it is 0/0.
    ValueError if the histogram counts no pixel.
    """
    hist = np.asarray(hist)
    if not hist.sum():
        raise ValueError('the histogram counts no pixel: every label was 255 or there was no image; check the labels')
    diag, truth, prediction = np.diag(hist), hist.sum(1), hist.sum(0)
    with np.errstate(divide='ignore', invalid='ignore'):    # 0/0 of an absent class is meant to be nan
        acc = diag / truth
        iu = diag / (truth + prediction - diag)
    freq = truth / hist.sum()
    return {'overall_acc': float(diag.sum() / hist.sum()),
            'mean_acc': float(np.nanmean(acc)),
            'mean_iu': float(np.nanmean(iu)),
            'fwavacc': float((freq[freq > 0] * iu[freq > 0]).sum()),
            'mean_iu_present': float(iu[truth > 0].mean()),
            'acc': [None if np.isnan(v) else float(v) for v in acc],
            'iu': [None if np.isnan(v) else float(v) for v in iu]}


def rewind(net, dataset):
    """Set the data layer of a net to its first image; ValueError if it will not show the ids of `dataset` in order.

    Only layers that keep a list (`indices`, see segdata.py) can be asked; others are taken at their word.
    """
    for source in net.layers:
        if not hasattr(source, 'indices'):
            continue
        who = type(source).__name__
        if source.random:
            raise ValueError('%s shows split %r in random order; wanted a split without "train" in its name, or '
                             "'randomize': False in param_str, to score it" % (who, str(source.split)))
        if list(source.indices) != list(dataset):
            place = next((i for i, (a, b) in enumerate(zip(source.indices, dataset)) if a != b),
                         min(len(source.indices), len(dataset)))
            shown, asked = [str(ids[place]) if place < len(ids) else 'the end' for ids in (source.indices, dataset)]
            raise ValueError('%s shows the %d images of split %r, asked to score %d: at position %d it shows %s, the '
                             'list says %s; score the list that the net reads'
                             % (who, len(source.indices), str(source.split), len(dataset), place, shown, asked))
        source.idx = 0


def compute_hist(net, save_dir, dataset, layer='score', gt='label'):
    """One forward an id: (histogram int64 [C, C], mean of the blob `loss`).

    net: has the blobs `layer` [1, C, H, W], `gt` [1, 1, H, W] and `loss`. save_dir: folder for the predictions,
    {id}.png of mode P with the VOC palette, or None. dataset: the ids, in the order the data layer shows them.
    A tie goes to the lowest class. ValueError for a batch of more than one image and for a label that is neither a
    class nor 255.
    """
    if len(dataset) == 0:
        raise ValueError('no ids to score; wanted the list that the data layer reads')
    for name in (layer, gt, 'loss'):
        if name not in net.blobs:
            raise ValueError('the net has no blob %r to score by; it has %s' % (name, ', '.join(net.blobs)))
    rewind(net, dataset)
    n_cl = net.blobs[layer].data.shape[1]
    hist = np.zeros((n_cl, n_cl), dtype=np.int64)
    loss = 0.
    not_finite = []
    for idx in dataset:
        net.forward()
        scores, truth = net.blobs[layer].data, net.blobs[gt].data
        if scores.shape[0] != 1 or truth.shape[0] != 1 or scores.shape[2:] != truth.shape[2:]:
            raise ValueError('%s: scores %r are %s, labels %r %s; wanted one image and one size: [1, C, H, W] and '
                             '[1, 1, H, W]' % (idx, layer, scores.shape, gt, truth.shape))
        if not np.isfinite(scores).all():
            not_finite.append(idx)
        prediction, truth = scores[0].argmax(0), truth[0, 0].flatten()
        wrong = (truth != IGNORE) & ((truth < 0) | (truth >= n_cl))
        if wrong.any():
            raise ValueError('%s: label value %g (%d pixels out of range); wanted 0..%d, as %r has %d classes, or %d '
                             'to ignore; correct the label or the number of classes of the net'
                             % (idx, truth[wrong][0], wrong.sum(), n_cl - 1, layer, n_cl, IGNORE))
        hist += fast_hist(truth, prediction.flatten(), n_cl)
        if save_dir:
            vis.save_indexed(os.path.join(save_dir, idx + '.png'), prediction)
        loss += float(net.blobs['loss'].data.flat[0])
    if not_finite:
        print('WARNING: the scores of %d of %d images are not finite, the first %s: their arg-max means nothing'
              % (len(not_finite), len(dataset), not_finite[0]))
    return hist, loss / len(dataset)


def seg_tests(solver, save_format, dataset, layer='score', gt='label'):
    """Score a solver's first test net with the weights of its train net, which the test net shares from then on."""
    print('>>>', datetime.now(), 'Begin seg tests')
    if not len(solver.test_nets):
        raise ValueError('the solver has no test net to score with; name one in solver.prototxt (test_net)')
    solver.test_nets[0].share_with(solver.net)
    return do_seg_tests(solver.test_nets[0], solver.iter, save_format, dataset, layer, gt)


def do_seg_tests(net, iter, save_format, dataset, layer='score', gt='label'):
    """Score a net, print the released lines and return `metrics` with loss, iter and hist (numpy int64 [C, C]) added.

    save_format: folder for the predictions, {} in it becomes the iteration; or None, False: don't save.
    """
    hist, loss = compute_hist(net, save_format.format(iter) if save_format else None, dataset, layer, gt)
    result = metrics(hist)
    result.update(loss=loss, iter=iter, hist=hist)
    for text, key in (('loss', 'loss'), ('overall accuracy', 'overall_acc'), ('mean accuracy', 'mean_acc'),
                      ('mean IU', 'mean_iu'), ('fwavacc', 'fwavacc'), ('IU over present classes', 'mean_iu_present')):
        print('>>>', datetime.now(), 'Iteration', iter, text, result[key])
    return result


def class_table(result, names=()):
    """The figures of each class as text: class, name, accuracy, IU; a class without figures shows '-'."""
    lines = ['%5s %-16s %9s %9s' % ('class', 'name', 'accuracy', 'IU')]
    for c, figures in enumerate(zip(result['acc'], result['iu'])):
        shown = tuple('-' if v is None else '%.6f' % v for v in figures)
        lines.append('%5d %-16s %9s %9s' % ((c, names[c] if c < len(names) else '') + shown))
    return '\n'.join(lines)
