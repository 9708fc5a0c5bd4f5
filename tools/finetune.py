"""Starting a net for other classes from a trained one: what the trunk knows, and of the scores those of the same classes."""
from __future__ import division, print_function

import re

import numpy as np

import surgery


def same_classes(names, old):
    """[(index in names, index in old)] of the classes that both lists have, whatever their case, blanks and dashes."""
    def plain(name):
        return re.sub(r'[\W_]', '', name).lower()
    places = dict((plain(name), i) for i, name in reversed(list(enumerate(old))))
    return [(i, places[plain(name)]) for i, name in enumerate(names) if plain(name) in places]


def load(net, path, names, old, heads=''):
    """Load the weights `path` of a net for the classes `old` into a net for the classes `names`; returns surgery's Report.

    The trunk is copied. A score layer gets, class by class, the scores that the old one has for classes of the same name;
    scores of other classes start at zero. Then, as only differences between scores say anything, the mean of the old
    classes is taken off the copied ones: they keep their differences, and a class at zero starts as an average one. If all
    classes are the old ones or more of them, in their order, this is surgery.expand_score, but for that.

    heads: what the old score layers have after their names ('_sem' in the nets for SIFT Flow). A file that has as many
    scores as `names` and not as `old` was trained for these very classes, and is taken as it is. SurgeryError for weights
    that do not fit.
    """
    source, pairs = surgery.Weights(path), same_classes(names, old)
    scores = [name for name in net.params if name.startswith('score') and name + heads in source.params]
    rows = sorted(set(len(source.params[name + heads][0].data) for name in scores))
    if rows == [len(names)] and len(names) != len(old):
        report = surgery.transplant(net, source)
        return report.by_layer('weights of %s, trained for %d classes as this net is' % (path, len(names)))
    if rows != [len(old)]:
        raise surgery.SurgeryError('%s has %s scores; wanted %d, for the classes %s, ...: name the ones it was trained for'
                                   % (path, ' or '.join(str(n) for n in rows) or 'no layers of', len(old),
                                      ', '.join(old[:3])))
    taken = dict((name, source.params[name + heads]) for name in scores)
    for name in scores:
        old_inputs, inputs = taken[name][0].data.shape[1:], net.params[name][0].data.shape[1:]
        if old_inputs != inputs:
            raise surgery.SurgeryError("%s: layer '%s' has weights for %s, the net's for %s (inputs, height, width); wanted "
                                       'the weights of a net with this trunk' % (path, name + heads, old_inputs, inputs))
    for name in [name for name in source.params if name.startswith(('score', 'up'))]:
        del source.params[name]
    report = surgery.transplant(net, source)
    report = report.by_layer('weights of %s' % path)
    for name in scores:
        for new, blob in zip(net.params[name], taken[name]):
            values = blob.data.reshape(len(old), -1).astype(np.float64)
            if len(pairs) < len(names):
                values = values - values.mean(0)
            new.data[...] = 0
            for index, place in pairs:
                new.data[index] = values[place].reshape(new.data[index].shape)
        if pairs:
            report.copied.append(('%s, %d of %d classes' % (name, len(pairs), len(names)),
                                  len(pairs) * sum(blob.data[0].size for blob in net.params[name])))
    return report


def told(names, old, base):
    """A line on which classes start from trained scores and which from zero."""
    known = [names[i] for i, _ in same_classes(names, old)]
    return 'scores: of the %d classes %s knows %s%s' % (
        len(names), base, ', '.join(known) or 'none', ', whose scores are kept; the others start at zero'
        if 0 < len(known) < len(names) else ': all start at zero' if not known else ': all scores are kept')
