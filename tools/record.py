"""run.json: what a run was begun with, so that it is gone on with alike, and so that its report can say it."""
from __future__ import division, print_function

import io
import json
import os
import platform
import sys
import time

import numpy as np
import PIL
import scipy

import runlog
from baseweights import sha256
from which_caffe import WHICH, caffe

# What must not change from one start of a run to the next, and the option that says it
FIXED = (('data', '--data'), ('variant', '--variant'), ('learning', '--learning'))


class RecordError(ValueError):
    """A record that cannot be read, or one of another training than is to be gone on with; the message says what to do."""


def new(experiment, run, settings, device, nets):
    """The record of a run that begins, a dictionary; load() of the recipe adds its `weights`.

    settings: what the command line and the recipe say, by name. nets: {name: prototxt}, of which hashes are kept.
    """
    record = dict(settings, experiment=experiment, run=run, weights=[], begun=time.strftime('%Y-%m-%dT%H:%M:%S'), resumed=[],
                  nets=dict((name, sha256(path)) for name, path in nets.items()))
    record.update(engine(device))
    return record


def engine(device):
    """What computes: which Caffe, its version, the device, and the versions of what it stands on."""
    torch = sys.modules.get('torch')
    return {'caffe': WHICH, 'version': getattr(caffe, '__version__', None), 'device': device, 'versions': {
        'python': platform.python_version(), 'numpy': np.__version__, 'scipy': scipy.__version__,
        'pillow': getattr(PIL, '__version__', None), 'torch': str(torch.__version__) if torch else None}}


def read(path):
    """The record in a file, or None if there is no file. RecordError if it is damaged."""
    if not os.path.exists(path):
        return None
    try:
        with io.open(path, encoding='utf-8') as f:
            record = json.load(f)
        if not isinstance(record, dict) or not isinstance(record.get('weights'), list):
            raise ValueError('wanted a dictionary with a list of weights')
        lacking = [key for key, _ in FIXED if key not in record]
        if lacking:
            raise ValueError('it lacks %s' % ', '.join(lacking))
    except ValueError as error:
        raise RecordError('%s: not the record of a run (%s); begin anew with --fresh, which keeps the folder under another '
                          'name, or choose another name with --run' % (os.path.abspath(path), error))
    return record


def write(path, record):
    """Write a record, complete or not at all."""
    runlog.write_atomic(path, json.dumps(record, sort_keys=True, indent=1, separators=(',', ': ')) + '\n')


def check_same(record, settings, weights, folder):
    """RecordError if a run was begun with other settings, or from other weights than are named now (None: any)."""
    now = dict((key, settings.get(key)) for key, _ in FIXED)
    begun = dict((key, record[key]) for key, _ in FIXED)
    options = dict(FIXED, weights='--weights')
    if weights is not None and record['weights']:     # none: it ended before it had loaded any
        now['weights'], begun['weights'] = list(weights), [entry.get('file') for entry in record['weights']]
    for key in sorted(now):
        if begun[key] != now[key]:
            raise RecordError('%s was begun with %s %s, now it is %s; choose another name with --run, say %s as before, or '
                              'begin anew with --fresh' % (os.path.abspath(folder), key, shown(begun[key]), shown(now[key]),
                                                           options[key]))


def shown(value):
    """A setting as people write it."""
    return ', '.join(str(v) for v in value) if isinstance(value, list) else str(value)
