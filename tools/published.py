"""The published figures of each experiment, where they stand, and whether ours agree with them.

Only figures that were checked against a public copy of their source are here: those of the authors' README, and of the
tables of the CVPR paper in its corrected version (arXiv 1411.4038v2). The journal paper (PAMI 2017) has tables of its
own; of those only the mean IUs that the README repeats could be checked, so the rest of them is not here.
"""
from __future__ import division, print_function

import collections
import os
import re

import score
import segfiles

# Two trainings of one recipe by the same people, on seg11valid: 62.30 and 62.87 (32s), 63.98 and 64.15 (8s at once); see
# wkentaro/pytorch-fcn, PR 89. Dropout is not seeded in the released recipes, so that is chance. A difference within this
# is none; one beyond it is worth looking into. On other data sets nobody has published two. (63.6 is the best snapshot's,
# chosen on the very images it is for.)
RUN_TO_RUN = 0.6
# The same weights must give the same figure: half of the last digit printed, and as much again for JPEG decoders, which
# differ in the last bit of some pixels.
SAME_WEIGHTS = 0.1

README = "the authors' README (github.com/shelhamer/fcn.berkeleyvision.org)"
CVPR = 'Long, Shelhamer, Darrell, CVPR 2015 (arXiv 1411.4038v2), %s'
KEYS = (('overall_acc', 'pixel accuracy'), ('mean_acc', 'mean accuracy'), ('mean_iu', 'mean IU'), ('fwavacc', 'f.w. IU'))

# figures: {key of score.metrics: percent}. task: the label blob they are of. images: how many they are over. over: which
# classes count, as in the paper: 'all' as the released scoring has it, 'present' in the truth only, or 'foreground', the
# present ones without class 0. note: what differs from training and scoring the experiment as it is here.
Published = collections.namedtuple('Published', 'source figures task images over note')
# What ours say beside one of them; all in percent. verdict: 'agrees', 'above', 'below', or '' for figures of which no
# tolerance is known; tolerance: None for these.
Verdict = collections.namedtuple('Verdict', 'task key name ours published difference tolerance verdict source note')

OVER = {'all': '', 'present': ', classes present', 'foreground': ', without background'}     # said after a figure's name

_FOUR = [key for key, _ in KEYS]
SEG11VALID, VOC2011_VAL, NYUD, SIFT_FLOW, CONTEXT = 736, 1111, 654, 200, 5105     # images


def _readme(mean_iu):
    return Published(README, {'mean_iu': mean_iu}, 'label', SEG11VALID, 'all', '')


def _cvpr(table, figures, images, task='label', over='all', note=''):
    return Published(CVPR % table, dict(zip(_FOUR, figures)), task, images, over, note)


_ACCUMULATED = 'trained with the gradients of 20 images accumulated, momentum 0.9; the recipe here is another one'
_VOC2011_ALONE = 'trained on the 1112 images of VOC2011 alone, scored on its validation set'
_WITHOUT_BACKGROUND = 'the 59-class task: pixels of no class do not count'

# (experiment, variant): variant None is the experiment as its committed solver trains it
TABLE = {
    ('voc-fcn-alexnet', None): [
        _readme(48.0),
        Published(CVPR % 'section 5', {'mean_iu': 48.0}, 'label', SEG11VALID, 'all', ''),
        Published(CVPR % 'Table 1', {'mean_iu': 39.8}, 'label', VOC2011_VAL, 'all', _VOC2011_ALONE)],
    ('voc-fcn-googlenet', None): [
        Published(CVPR % 'Table 1', {'mean_iu': 42.5}, 'label', VOC2011_VAL, 'all', _VOC2011_ALONE +
                  '; the trunk was an own reimplementation, never released')],
    ('voc-fcn32s', None): [
        _readme(63.6), _cvpr('Table 2', (89.1, 73.3, 59.4, 81.4), SEG11VALID, note=_ACCUMULATED)],
    ('voc-fcn32s', 'cvpr'): [_cvpr('Table 2', (89.1, 73.3, 59.4, 81.4), SEG11VALID)],
    ('voc-fcn32s', 'fixed'): [_cvpr('Table 2', (83.0, 59.7, 45.4, 72.0), SEG11VALID, note=_ACCUMULATED)],
    ('voc-fcn16s', None): [
        _readme(65.0), _cvpr('Table 2', (90.0, 75.7, 62.4, 83.0), SEG11VALID, note=_ACCUMULATED)],
    ('voc-fcn8s', None): [
        _readme(65.5), _cvpr('Table 2', (90.3, 75.9, 62.7, 83.2), SEG11VALID, note=_ACCUMULATED)],
    ('voc-fcn8s-atonce', None): [_readme(65.4)],
    ('nyud-fcn32s', 'color'): [_cvpr('Table 4', (60.0, 42.2, 29.2, 43.9), NYUD, note=_ACCUMULATED)],
    ('nyud-fcn32s', 'color-d'): [_cvpr('Table 4', (61.5, 42.4, 30.5, 45.5), NYUD, note=_ACCUMULATED)],
    ('nyud-fcn32s', 'hha'): [_cvpr('Table 4', (57.1, 35.2, 24.2, 40.4), NYUD, note=_ACCUMULATED)],
    ('nyud-fcn32s', 'color-hha'): [_cvpr('Table 4', (64.3, 44.9, 32.8, 48.0), NYUD, note=_ACCUMULATED)],
    ('nyud-fcn32s', 'color-hha-16s'): [_cvpr('Table 4', (65.4, 46.1, 34.0, 49.5), NYUD, note=_ACCUMULATED)],
    ('siftflow-fcn16s', None): [
        _cvpr('Table 5', (85.2, 51.7, 39.5, 76.1), SIFT_FLOW, 'sem', 'present', _ACCUMULATED),
        Published(CVPR % 'Table 5', {'overall_acc': 94.3}, 'geo', SIFT_FLOW, 'present', _ACCUMULATED)],
    ('pascalcontext-fcn32s', None): [
        _cvpr('Table 6', (63.8, 42.7, 31.8, 48.3), CONTEXT, over='foreground', note=_WITHOUT_BACKGROUND)],
    ('pascalcontext-fcn16s', None): [
        _cvpr('Table 6', (65.7, 46.2, 34.8, 50.7), CONTEXT, over='foreground', note=_WITHOUT_BACKGROUND)],
    ('pascalcontext-fcn8s', None): [
        _cvpr('Table 6', (65.9, 46.5, 35.1, 51.0), CONTEXT, over='foreground', note=_WITHOUT_BACKGROUND)],
}

CLASSES = (     # how an experiment's name begins, and the class names of its tasks: files in data/
    ('voc-', {'label': 'pascal/classes.txt'}),
    ('nyud-', {'label': 'nyud/classes.txt'}),
    ('siftflow-', {'sem': 'sift-flow/classes.txt', 'geo': 'sift-flow/geo_classes.txt'}),
    ('pascalcontext-', {'label': 'pascal-context/classes.txt'}))


def find(experiment, variant=None, data=None, learning=None):
    """What is published of an experiment (its folder's name) or a variant of it; the first is the one to be held to.

    data, learning: what --data and --learning said when it was trained, or None. Nothing is published of either.
    """
    return [] if data or learning else TABLE.get((experiment, variant), [])


def class_names(experiment, root=segfiles.ROOT):
    """{task: class names} of the data set that an experiment is trained on, its own or one of the paper's; or {}.

    root: the folder that the experiment's folder is in.
    """
    own = os.path.join(root, experiment, 'classes.txt')
    if os.path.exists(own):
        return {'label': segfiles.read_list(own)}
    for beginning, files in CLASSES:
        if experiment.startswith(beginning):
            paths = [(task, os.path.join(segfiles.ROOT, 'data', *name.split('/'))) for task, name in files.items()]
            return dict((task, segfiles.read_list(path)) for task, path in paths if os.path.exists(path))
    return {}


def is_released(weights, folder):
    """True if a weights file is called as the file that the experiment's caffemodel-url points to."""
    record = os.path.join(folder, 'caffemodel-url')
    if not os.path.isfile(record):
        return False
    found = re.search(r'([^/\s]+\.caffemodel)', segfiles.read_list(record)[0])
    return found is not None and found.group(1) == os.path.basename(weights)


def figures_of(hists, published):
    """{task: score.metrics, with score.foreground as `foreground` if something published leaves class 0 out}."""
    figures = dict((task, score.metrics(hist)) for task, hist in hists.items())
    for entry in published:
        if entry.over == 'foreground' and entry.task in hists:
            figures[entry.task]['foreground'] = score.foreground(hists[entry.task])
    return figures


def verdicts(published, figures, images, same_weights=False):
    """The Verdicts on every published figure that is over as many images as ours.

    figures: {task: score.metrics, with `foreground` where that is published}. images: how many were scored. same_weights:
    ours are the published ones, so that only rounding may differ. Only for mean IU is it known how far two trainings
    differ, so only that is judged.
    """
    found = []
    for entry in published:
        ours = figures.get(entry.task, {})
        if entry.over == 'foreground':
            ours = ours.get('foreground', {})
        if not ours or entry.images != images:
            continue
        for key, name in KEYS:
            if key in entry.figures:
                read = 'mean_iu_present' if key == 'mean_iu' and entry.over != 'all' else key
                found.append(_judged(entry, key, name, 100 * ours[read], entry.figures[key], same_weights))
    return found


def _judged(entry, key, name, ours, theirs, same_weights):
    tolerance, verdict, difference = None, '', ours - theirs
    if same_weights or key == 'mean_iu':
        tolerance = SAME_WEIGHTS if same_weights else RUN_TO_RUN
        verdict = 'agrees' if abs(difference) <= tolerance + 1e-9 else 'above' if difference > 0 else 'below'
    return Verdict(entry.task, key, name + OVER[entry.over], ours, theirs, difference, tolerance, verdict, entry.source,
                   entry.note)


def sentence(verdict, same_weights=False):
    """A Verdict in words."""
    said = '%s %.2f, published %.1f: %+.2f' % (verdict.name, verdict.ours, verdict.published, verdict.difference)
    if not verdict.verdict:
        return said + ' (no tolerance known)'
    where = 'within' if verdict.verdict == 'agrees' else verdict.verdict + ' it by more than'
    why = 'rounding and JPEG decoders allow for' if same_weights else 'two trainings of one recipe have differed by'
    return '%s, %s the %.1f that %s' % (said, where, verdict.tolerance, why)
