"""Files of a segmentation data set: where they lie, id lists, photographs, labels, depth. Knows nothing of Caffe.

Every error names the file, what was found in it, what was wanted, and what to do.
"""
from __future__ import division, print_function

import io
import os
import re

import numpy as np
import scipy.io
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IGNORE = 255    # the label no loss and no score counts; VOC draws it as the border around each object
# modes that hold more than 8 bits a pixel: convert('RGB') would clip them to white without a word
DEEP_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')


def data_root():
    """The folder that holds the data sets: $FCN_DATA, or data/ of this repository."""
    return os.path.abspath(os.environ.get('FCN_DATA') or os.path.join(ROOT, 'data'))


def data_path(path):
    """The absolute path meant by a data path of a net.

    The released nets say ../data/X, one of them ../../data/X, each relative to a folder of its own; here all of them
    mean X of the one data root, from wherever a net is run. Any other relative path is relative to the current
    folder, an absolute one is taken as it is.
    """
    released = re.match(r'(?:\.\./){1,2}data/(.+)$', path)
    return os.path.abspath(os.path.join(data_root(), released.group(1)) if released else path)


def prepare_of(path, default):
    """The command that makes the data a net names: data/<name>/prepare.py if ../data/<name>/ has one, or `default`."""
    name = re.match(r'(?:\.\./){1,2}data/([^/]+)', path)
    script = 'data/%s/prepare.py' % name.group(1) if name else ''
    return 'python ' + script if name and os.path.exists(os.path.join(ROOT, script)) else default


def how_to_get(prepare):
    """The remedy for a file that is not there: the command that makes it, and the setting that points elsewhere."""
    return ('get the data with `%s`, or set FCN_DATA to the folder that holds the data sets (now %s)'
            % (prepare, os.environ.get('FCN_DATA') or 'unset: %s is used' % data_root()))


def make_folder(path):
    """Make a folder, and those it is in, if it is not there; another process may be making it, too."""
    try:
        os.makedirs(path)
    except OSError:
        if not os.path.isdir(path):
            raise


def read_list(path, remedy='write one id a line'):
    """The ids (or class names) of a text file, one a line, in its order. Blank lines and carriage returns are dropped.

    Raises IOError if it is not there, ValueError if it is empty or is no text.
    """
    if not os.path.isfile(path):
        folder = os.path.dirname(path)
        beside = sorted(name for name in os.listdir(folder) if name.endswith('.txt')) if os.path.isdir(folder) else []
        raise IOError('%s: no such list%s; %s'
                      % (path, ' (there are %s)' % ', '.join(beside[:10]) if beside else '', remedy))
    try:
        with io.open(path, encoding='utf-8-sig') as f:
            lines = [line.strip() for line in f]
    except UnicodeDecodeError as error:
        raise ValueError('%s: not a text file (%s); wanted one id a line' % (path, error))
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError('%s: the list is empty; wanted one id a line; %s' % (path, remedy))
    return lines


def open_image(path, remedy='put the image there', kind='image'):
    """The PIL image of a file, fully decoded. IOError if it is not there, ValueError if it is no (whole) image.

    kind: what the file is to be, 'image' or 'label', for the message.
    """
    if not os.path.isfile(path):
        raise IOError('%s: no such %s; %s' % (path, kind, remedy))
    try:
        with open(path, 'rb') as f:
            image = Image.open(f)
            image.load()
    except Exception as error:  # PIL raises IOError, SyntaxError, ValueError, struct.error and more, by format
        raise ValueError('%s: not a readable image: %s (%d bytes); replace the file'
                         % (path, error, os.path.getsize(path)))
    return image


def image_size(path):
    """(width, height) of an image file from its header alone; ValueError if it has none."""
    try:
        with open(path, 'rb') as f:
            return Image.open(f).size
    except Exception as error:  # as in open_image
        raise ValueError('%s: not a readable image: %s; replace the file' % (path, error))


def read_image(path, remedy='put the image there'):
    """A photograph as an RGB PIL image; gray, palette and transparent ones are converted."""
    image = open_image(path, remedy)
    if image.mode in DEEP_MODES:
        raise ValueError('%s: an image of mode %s has more than 8 bits a channel; wanted 8-bit gray or colour: '
                         'convert it first' % (path, image.mode))
    return image.convert('RGB')


def preprocess(image, mean):
    """RGB image -> float32 [3, H, W] in BGR order minus `mean` (B, G, R; 0..255), as the released layers do.

    The subtraction is in place, float32 minus float64: computed in double and rounded once. Subtracting a float32
    mean instead would change the last bit.
    """
    array = np.array(image, dtype=np.float32)
    array = array[:, :, ::-1]
    array -= np.array(mean)
    return array.transpose((2, 0, 1))


def read_label(path, remedy='put the label there'):
    """The class indices of a label PNG: uint8 [H, W]. ValueError if it is coloured rather than indexed."""
    image = open_image(path, remedy, 'label')
    if image.mode not in ('P', 'L'):
        raise ValueError('%s: a label of mode %s; wanted class indices in an 8-bit PNG of mode P or L; a label that '
                         'holds colours is converted by `python tools/lint_labels.py FOLDER --indices OUT`'
                         % (path, image.mode))
    return np.array(image, dtype=np.uint8)


def read_sbd_label(path, remedy='put the label there'):
    """The class indices of an SBD .mat file (struct GTcls, field Segmentation): uint8 [H, W]."""
    if not os.path.isfile(path):
        raise IOError('%s: no such label; %s' % (path, remedy))
    try:
        label = np.asarray(scipy.io.loadmat(path)['GTcls'][0]['Segmentation'][0])
        if label.ndim != 2 or label.dtype.kind not in 'iub':
            raise ValueError('Segmentation is %s of shape %s' % (label.dtype, label.shape))
        if label.size and not 0 <= label.min() <= label.max() <= 255:
            raise ValueError('values go from %d to %d' % (label.min(), label.max()))
    except Exception as error:  # scipy raises TypeError, KeyError, NotImplementedError, zlib.error and more, by damage
        raise ValueError('%s: not an SBD label: %s: %s; wanted a .mat file with a struct GTcls whose field '
                         'Segmentation is a matrix of class indices 0..255; replace the file'
                         % (path, type(error).__name__, error))
    return label.astype(np.uint8)


def read_mat(path, key, low, high, remedy='put the label there'):
    """A matrix of whole numbers from a .mat file (v5, any numeric type): int64 [H, W], all of low..high."""
    if not os.path.isfile(path):
        raise IOError('%s: no such label; %s' % (path, remedy))
    try:
        held = scipy.io.loadmat(path)
        if key not in held:
            raise ValueError('it holds %s' % (', '.join(sorted(name for name in held if name[:2] != '__')) or 'nothing'))
        label = np.asarray(held[key])
        if label.ndim != 2 or label.dtype.kind not in 'iufb' or not (label == np.floor(label)).all():
            raise ValueError('%s is %s of shape %s%s' % (key, label.dtype, label.shape, ', not of whole numbers'
                                                         if label.dtype.kind == 'f' else ''))
        if label.size and not low <= label.min() <= label.max() <= high:
            raise ValueError('values go from %d to %d' % (label.min(), label.max()))
    except Exception as error:  # as in read_sbd_label
        raise ValueError('%s: not a label of this data set: %s: %s; wanted a .mat file (version 5 to 7) with a matrix %s of '
                         'whole numbers %d..%d; replace the file' % (path, type(error).__name__, error, key, low, high))
    return label.astype(np.int64)


def minus_one(label):
    """Labels that count from 1 as class indices, uint8: 0 becomes 255, the one that is ignored."""
    return label.astype(np.uint8) - np.uint8(1)     # it is the 8 bits that make 255 of 0 - 1


def read_nyud_label(path, remedy='put the label there'):
    """The class indices of an NYUD .mat: uint8 [H, W]. In the file 1..40, and 0 for what nobody named."""
    return minus_one(read_mat(path, 'segmentation', 0, 40, remedy))


def read_siftflow_sem(path, remedy='put the label there'):
    """What is seen, of a SIFT Flow .mat: uint8 [H, W]. In the file 1..33, and 0 for what nobody named."""
    return minus_one(read_mat(path, 'S', 0, 33, remedy))


def read_siftflow_geo(path, remedy='put the label there'):
    """How surfaces lie, of a SIFT Flow .mat: uint8 [H, W]. In the file 1..3, and -1 (here also 0) for what nobody named."""
    return minus_one(np.maximum(read_mat(path, 'S', -1, 3, remedy), 0))


def read_depth(path, remedy='put the depth image there'):
    """The numbers in a 16-bit gray PNG: float32 [H, W]. ValueError for an image of 8 bits or of colours."""
    image = open_image(path, remedy, 'depth image')
    if image.mode not in DEEP_MODES:
        raise ValueError('%s: a depth image of mode %s; wanted a gray PNG of 16 bits a pixel, millimetres; 8 bits cannot '
                         'hold them: replace the file' % (path, image.mode))
    return np.array(image, dtype=np.float32)


def check_label(label, classes, path):
    """ValueError if a label holds a value that is neither a class 0..classes-1 nor 255. `label` is uint8.

    The original let such a value through; Caffe's loss then reads beside the scores of the pixel.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    wrong = [v for v in np.flatnonzero(counts) if v >= classes and v != IGNORE]
    if wrong:
        raise ValueError('%s: label value %s; wanted 0..%d, or %d for pixels to ignore. Correct the label, or say '
                         'how many classes there are (param_str key `classes`); '
                         '`python tools/lint_labels.py FOLDER --classes %d` checks a whole data set'
                         % (path, ', '.join('%d (%d pixels)' % (v, counts[v]) for v in wrong[:5]), classes - 1,
                            IGNORE, classes))
