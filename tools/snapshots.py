"""Snapshots of a training: which is the newest complete one, room for the next, the best kept, old ones removed.

A snapshot of iteration N is <prefix>_iter_N.caffemodel and <prefix>_iter_N.solverstate, as Caffe writes them.
"""
from __future__ import division, print_function

import glob
import os
import re
import shutil

import caffemodel


class SnapshotError(ValueError):
    """A snapshot that cannot be used or written; the message says which, why, and what to do."""


def paths(prefix, iteration):
    """(caffemodel, solverstate) of an iteration."""
    return '%s_iter_%d.caffemodel' % (prefix, iteration), '%s_iter_%d.solverstate' % (prefix, iteration)


def iterations(prefix):
    """The iterations of which there is a file, complete or not, newest first."""
    found = set()
    for path in glob.glob(prefix + '_iter_*'):
        match = re.match(r'_iter_(\d+)\.(?:caffemodel|solverstate)$', path[len(prefix):])
        if match:
            found.add(int(match.group(1)))
    return sorted(found, reverse=True)


def damage(prefix, iteration):
    """What makes the snapshot of an iteration incomplete, a text; None if both files are there and whole."""
    model, state = paths(prefix, iteration)
    for path in (model, state):
        if not os.path.exists(path):
            return '%s is missing' % path
    try:
        layers = caffemodel.read(model)
        done, _, history = caffemodel.read_state(state)
    except caffemodel.CaffemodelError as error:
        return str(error)
    weights = [blob.size for layer in layers for blob in layer.blobs]
    if done != iteration:
        return '%s is of iteration %s' % (state, done)
    # a file cut exactly between two fields still parses: then something is missing at its end
    if [blob.size for blob in history[:len(weights)]] != weights or len(history) % max(len(weights), 1):
        return ('%s holds %d histories of %d values in all, the weights are %d blobs of %d values'
                % (state, len(history), sum(h.size for h in history), len(weights), sum(weights)))
    return None


def newest(prefix, say):
    """The iteration of the newest complete snapshot, or None. What is newer and incomplete is said and removed."""
    for iteration in iterations(prefix):
        reason = damage(prefix, iteration)
        if reason is None:
            return iteration
        say('snapshot of iteration %d is incomplete and is removed: %s' % (iteration, reason))
        remove(prefix, iteration)
    return None


def check_fits(prefix, iteration, net):
    """SnapshotError if the weights of a snapshot do not have the shapes of the net: restoring would end the process."""
    model = paths(prefix, iteration)[0]
    held = dict((layer.name, [blob.shape for blob in layer.blobs]) for layer in caffemodel.read(model) if layer.blobs)
    wanted = dict((name, [tuple(blob.data.shape) for blob in blobs]) for name, blobs in net.params.items())
    for name in sorted(set(held) | set(wanted)):
        if held.get(name) != wanted.get(name):
            raise SnapshotError("%s: layer '%s' has parameters of shapes %s, the net's has %s; the net or the number of "
                                'classes has changed since: begin anew with --fresh, or under another name with --run'
                                % (model, name, held.get(name, 'none'), wanted.get(name, 'none')))


def remove(prefix, iteration):
    """Remove the files of a snapshot, the solverstate first, so that no state is left without its weights."""
    for path in reversed(paths(prefix, iteration)):
        if os.path.exists(path):
            os.remove(path)


def prune(prefix, keep):
    """Remove all but the newest `keep` snapshots; 0 keeps all."""
    for iteration in iterations(prefix)[keep:] if keep else []:
        remove(prefix, iteration)


def size(net):
    """Bytes a snapshot of a net takes: its parameters twice, as weights and as momentum, and a little for the rest."""
    return 2 * 4 * sum(blob.data.size for blobs in net.params.values() for blob in blobs) + 1000000


def check_room(prefix, needed):
    """SnapshotError if the disk has fewer than `needed` bytes free: Caffe ends the process when it cannot write."""
    folder = os.path.dirname(os.path.abspath(prefix))
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        raise SnapshotError('%s: %.1f MB free on this disk, a snapshot needs %.1f MB; free some (--keep says how many '
                            'snapshots are kept), then run again: it goes on from the last snapshot'
                            % (folder, free / 1e6, needed / 1e6))


def keep_best(prefix, iteration, path):
    """Make `path` the weights of a snapshot: a second name of the same file, so it takes no room; or else a copy."""
    model, partial = paths(prefix, iteration)[0], path + '.partial'
    if os.path.exists(partial):
        os.remove(partial)
    try:
        try:
            os.link(model, partial)
        except OSError:     # a file system without links
            shutil.copyfile(model, partial)
        os.rename(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)
