"""Which `caffe` is imported: the original one (BVLC) or the one this repository carries (torchcaffe).

The only file that knows the rule. `FCN_CAFFE=bvlc` wants the original, `FCN_CAFFE=torch` the embedded one. Unset: if a
module named `caffe` can be found it is imported, and any error it raises is let out; if none is found, the embedded
one is put on the path. Nothing ever falls back quietly.

    from which_caffe import caffe, describe
"""
from __future__ import division, print_function

import os
import pkgutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EMBEDDED = os.path.join(ROOT, 'torchcaffe', 'pycaffe')


def _choose():
    """Put the chosen caffe first on sys.path and return 'bvlc' or 'torch'; ValueError for any other FCN_CAFFE."""
    wanted = os.environ.get('FCN_CAFFE', '')
    if wanted not in ('', 'bvlc', 'torch'):
        raise ValueError('FCN_CAFFE is %r; wanted: bvlc (the original Caffe), torch (the one in this repository), '
                         'or unset (the original where it is installed)' % wanted)
    others = [p for p in sys.path if os.path.realpath(p or '.') != os.path.realpath(EMBEDDED)]
    if wanted == 'torch' or (not wanted and not any(_holds_caffe(p) for p in others)):
        sys.path[:] = [EMBEDDED] + others
        if ROOT not in sys.path:
            sys.path.append(ROOT)   # last: `torchcaffe` is found there and nothing is shadowed
        return 'torch'
    sys.path[:] = others
    return 'bvlc'


def _holds_caffe(folder):
    """True if `import caffe` would find a real package or module in this folder of sys.path."""
    finder = pkgutil.get_importer(folder or '.')
    return finder is not None and any(name == 'caffe' for name, _ in pkgutil.iter_importer_modules(finder))


WHICH = _choose()
try:
    import caffe  # noqa: E402  the one import of caffe that chooses; everything else says `from which_caffe import caffe`
except ImportError:
    if WHICH == 'bvlc' and not any(_holds_caffe(p) for p in sys.path):
        raise ImportError('FCN_CAFFE=bvlc wants the original Caffe, and this Python (%s) finds no module named caffe: put '
                          'the folder `python` of a built Caffe on PYTHONPATH, use the Python that Caffe was installed for, '
                          'or unset FCN_CAFFE for the Caffe of this repository' % sys.executable)
    raise   # there is one, and this is its own error
if WHICH == 'bvlc' and 'torchcaffe' in sys.modules:
    raise ImportError('wanted the original Caffe, found the embedded one of another checkout: %s. Take that folder off '
                      'PYTHONPATH, or set FCN_CAFFE=torch for the one of this checkout' % os.path.dirname(caffe.__file__))


def describe(device='CPU'):
    """One line: which Caffe runs, its version, where it lies, and the device, e.g. 'Caffe: torch 1.0.0 ... on CPU'."""
    return 'Caffe: %s %s (%s) on %s' % (WHICH, getattr(caffe, '__version__', 'unknown version'),
                                        os.path.dirname(os.path.abspath(caffe.__file__)), device)
