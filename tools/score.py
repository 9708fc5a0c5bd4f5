"""Scoring a segmentation net: confusion histogram -> accuracy, mean accuracy, mean IU, frequency-weighted IU.

Answers to score.py of the released code and prints the lines it printed; here the figures are returned too, what it let
pass (labels out of range, file names that belong to other images) is an error, and a net with several tasks is scored in
one pass over the images, each task with its own loss.
"""
from __future__ import division, print_function

import collections
import os
from datetime import datetime

import numpy as np

import vis

IGNORE = 255

# What a net is scored on. name: what the task is called, that of its label blob. score, label, loss: names of blobs.
Task = collections.namedtuple('Task', 'name score label loss')
# What scoring found for a task. hist: int64 [C, C]. loss: the mean over the images. images: (id, figures) pairs.
Tally = collections.namedtuple('Tally', 'hist loss images')
# One image, one task. prediction: class indices [H, W]. hist: int64 [C, C]. loss. finite: False if a score is not.
Scored = collections.namedtuple('Scored', 'prediction hist loss finite')


def find_tasks(net_param):
    """The tasks of a net (NetParameter): one for each SoftmaxWithLoss layer, in the order of the layers.

    Its bottoms are the scores and the label, its top the loss. Of several losses on one label the last counts: those
    before it are the side classifiers of a deep net. ValueError if there is none.
    """
    tasks = collections.OrderedDict()
    for layer in net_param.layer:
        if layer.type == 'SoftmaxWithLoss':
            if len(layer.bottom) < 2 or not layer.top:
                raise ValueError("layer '%s' (SoftmaxWithLoss) has the bottoms %s and the tops %s; wanted scores and label, "
                                 'and a top to read the loss from' % (layer.name, list(layer.bottom), list(layer.top)))
            label = str(layer.bottom[1])
            tasks[label] = Task(label, str(layer.bottom[0]), label, str(layer.top[0]))
    if not tasks:
        raise ValueError('the net has no SoftmaxWithLoss layer, so nothing says which scores answer to which labels; wanted '
                         'the net that is scored (val.prototxt or test.prototxt), not a deploy net')
    return list(tasks.values())


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


def foreground(hist):
    """`metrics` of the task without class 0: pixels whose truth is class 0 do not count, predicting it is still wrong.

    For PASCAL-Context, whose nets have 59 classes and a background that the paper's figures leave out. Of its mean IUs
    mean_iu_present is the one to read; in the other, class 0 counts as 0 if it is predicted anywhere.
    """
    hist = np.array(hist)
    hist[0] = 0
    return metrics(hist)


def rewind(net, dataset):
    """Set the data layer of a net to its first image; ValueError if it will not show the ids of `dataset` in order.

    Only layers that keep a list (`indices`, see segdata.py) can be asked; others are taken at their word. Returns them.
    """
    sources = [layer for layer in net.layers if hasattr(layer, 'indices')]
    for source in sources:
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
    return sources


def each_image(net, dataset, tasks, places=None):
    """Forward a net once an image and yield (id, [Scored of each task]).

    net: for each task it has the blobs `score` [1, C, H, W], `label` [1, 1, H, W] and `loss`. dataset: the ids, in the
    order the data layer shows them. places: the positions in `dataset` to score, in this order; all, if left out. A tie
    goes to the lowest class. ValueError for a batch of more than one image, for a label that is neither a class nor 255,
    and for places if the data layer has no list.
    """
    if len(dataset) == 0:
        raise ValueError('no ids to score; wanted the list that the data layer reads')
    for name in [name for task in tasks for name in (task.score, task.label, task.loss)]:
        if name not in net.blobs:
            raise ValueError('the net has no blob %r to score by; it has %s' % (name, ', '.join(net.blobs)))
    sources = rewind(net, dataset)
    if places is not None and not sources:
        raise ValueError('asked to score some of the images, but the net has no data layer with a list of ids (see '
                         'tools/segdata.py) that could be told which')
    for place in range(len(dataset)) if places is None else places:
        for source in sources:
            if source.idx != place:
                source.idx = place
        net.forward()
        yield dataset[place], [_scored(net, dataset[place], task) for task in tasks]


def _scored(net, idx, task):
    """What a task's blobs hold of the image `idx`."""
    scores, truth = net.blobs[task.score].data, net.blobs[task.label].data
    if scores.shape[0] != 1 or truth.shape[0] != 1 or scores.shape[2:] != truth.shape[2:]:
        raise ValueError('%s: scores %r are %s, labels %r %s; wanted one image and one size: [1, C, H, W] and '
                         '[1, 1, H, W]' % (idx, task.score, scores.shape, task.label, truth.shape))
    n_cl = scores.shape[1]
    prediction, truth = scores[0].argmax(0), truth[0, 0].flatten()
    wrong = (truth != IGNORE) & ((truth < 0) | (truth >= n_cl))
    if wrong.any():
        raise ValueError('%s: label value %g (%d pixels out of range); wanted 0..%d, as %r has %d classes, or %d to ignore; '
                         'correct the label or the number of classes of the net'
                         % (idx, truth[wrong][0], wrong.sum(), n_cl - 1, task.score, n_cl, IGNORE))
    return Scored(prediction, fast_hist(truth, prediction.flatten(), n_cl), float(net.blobs[task.loss].data.flat[0]),
                  bool(np.isfinite(scores).all()))


def warn_not_finite(ids, total):
    """Say that the scores of these images, of `total`, are not finite; nothing if there are none."""
    if ids:
        print('WARNING: the scores of %d of %d images are not finite, the first %s: their arg-max means nothing'
              % (len(ids), total, ids[0]))


def image_figures(hist, loss):
    """The figures of one image: pixels that count, loss, and overall_acc and mean_iu, which are None if none counts.

    mean_iu is over the classes that are in its truth or predicted.
    """
    hist = np.asarray(hist)
    figures = metrics(hist) if hist.sum() else {'overall_acc': None, 'mean_iu': None}
    return {'pixels': int(hist.sum()), 'loss': loss, 'overall_acc': figures['overall_acc'], 'mean_iu': figures['mean_iu']}


def prediction_file(save_dir, tasks, task, idx):
    """Where the prediction of an image is saved: save_dir/{id}.png, of one task among several save_dir/{task}/{id}.png."""
    return os.path.join(*([save_dir] + ([task.name] if len(tasks) > 1 else []) + [idx + '.png']))


def compute_hists(net, save_dir, dataset, tasks):
    """One forward an id: a Tally of each task.

    save_dir: folder for the predictions (see prediction_file), PNGs of mode P with the VOC palette, or None. For the
    rest see each_image.
    """
    hists, losses, images, not_finite = [0] * len(tasks), [0.] * len(tasks), [[] for _ in tasks], []
    for idx, results in each_image(net, dataset, tasks):
        for i, (task, scored) in enumerate(zip(tasks, results)):
            hists[i] = hists[i] + scored.hist
            losses[i] += scored.loss
            images[i].append((idx, image_figures(scored.hist, scored.loss)))
            if save_dir:
                vis.save_indexed(prediction_file(save_dir, tasks, task, idx), scored.prediction)
        if not all(scored.finite for scored in results):
            not_finite.append(idx)
    warn_not_finite(not_finite, len(dataset))
    return [Tally(hist, loss / len(dataset), figures) for hist, loss, figures in zip(hists, losses, images)]


def compute_hist(net, save_dir, dataset, layer='score', gt='label'):
    """One forward an id: (histogram int64 [C, C], mean of the blob `loss`). For the rest see compute_hists."""
    tally = compute_hists(net, save_dir, dataset, [Task(gt, layer, gt, 'loss')])[0]
    return tally.hist, tally.loss


def seg_tests(solver, save_format, dataset, layer='score', gt='label', tasks=None):
    """Score a solver's first test net with the weights of its train net, which the test net shares from then on."""
    print('>>>', datetime.now(), 'Begin seg tests')
    if not len(solver.test_nets):
        raise ValueError('the solver has no test net to score with; name one in solver.prototxt (test_net)')
    solver.test_nets[0].share_with(solver.net)
    return do_seg_tests(solver.test_nets[0], solver.iter, save_format, dataset, layer, gt, tasks)


def do_seg_tests(net, iter, save_format, dataset, layer='score', gt='label', tasks=None):
    """Score a net, print the released lines and return its figures.

    They are `metrics` with loss, iter, hist (numpy int64 [C, C]) and images (see Tally) added; `row` of them is what goes
    into a metrics file. save_format: folder for the predictions, {} in it becomes the iteration; or None, False: don't
    save. tasks: those of a net that has several, see find_tasks; layer and gt then say nothing, the figures are those
    of the first task, and those of each further one are under its name.
    """
    tasks = tasks or [Task(gt, layer, gt, 'loss')]
    tallies = compute_hists(net, save_format.format(iter) if save_format else None, dataset, tasks)
    results = []
    for task, tally in zip(tasks, tallies):
        if len(tasks) > 1:
            print('>>>', datetime.now(), 'Iteration', iter, 'task', task.name)
        result = metrics(tally.hist)
        result.update(loss=tally.loss, hist=tally.hist, images=tally.images)
        print_figures(result, iter)
        results.append(result)
    results[0].update([(task.name, result) for task, result in zip(tasks[1:], results[1:])], iter=iter)
    return results[0]


def print_figures(result, iter):
    """Print the lines of the released scoring, and one for the mean IU over the classes present."""
    for text, key in (('loss', 'loss'), ('overall accuracy', 'overall_acc'), ('mean accuracy', 'mean_acc'),
                      ('mean IU', 'mean_iu'), ('fwavacc', 'fwavacc'), ('IU over present classes', 'mean_iu_present')):
        print('>>>', datetime.now(), 'Iteration', iter, text, result[key])


def row(result):
    """What of do_seg_tests' answer is figures: without histograms and iteration, and of the images only their number."""
    kept = dict((key, row(value) if isinstance(value, dict) else value) for key, value in result.items()
                if key not in ('hist', 'iter'))
    if 'images' in kept:
        kept['images'] = len(kept['images'])
    return kept


def hists(result, tasks):
    """The histograms in do_seg_tests' answer: (task name, hist) pairs."""
    return [(task.name, held['hist']) for task, held in zip(tasks, [result] + [result[task.name] for task in tasks[1:]])]


def confusion(iteration, held, names):
    """What goes into confusion.json, of (task name, hist) pairs and {task name: class names}, of which some may be missing.

    {'iteration': n, 'tasks': [{'name': .., 'classes': [names], 'hist': [[..]]}, ..]}, row = truth.
    """
    return {'iteration': iteration, 'tasks': [
        {'name': name, 'classes': list(names.get(name, ())), 'hist': np.asarray(hist).tolist()} for name, hist in held]}


def class_table(result, names=()):
    """The figures of each class as text: class, name, accuracy, IU; a class without figures shows '-'."""
    lines = ['%5s %-16s %9s %9s' % ('class', 'name', 'accuracy', 'IU')]
    for c, figures in enumerate(zip(result['acc'], result['iu'])):
        shown = tuple('-' if v is None else '%.6f' % v for v in figures)
        lines.append('%5d %-16s %9s %9s' % ((c, names[c] if c < len(names) else '') + shown))
    return '\n'.join(lines)
