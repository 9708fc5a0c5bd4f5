"""The 59 classes of PASCAL-Context's task among the 459 of the data set, and the reader of its labels. Knows no Caffe."""
from __future__ import division, print_function

import numpy as np

import segfiles

RAW_CLASSES = 459       # the data set's own
# Which of them each of the 59 is, from the data set's lists labels.txt and 59_labels.txt, which need not be there. Three
# names differ between the lists: diningtable is called table in labels.txt, bedcloth bedclothes, clothes cloth.
RAW = (
    ('aeroplane', 2), ('bicycle', 23), ('bird', 25), ('boat', 31), ('bottle', 34), ('bus', 45), ('car', 59), ('cat', 65),
    ('chair', 72), ('cow', 98), ('diningtable', 397), ('dog', 113), ('horse', 207), ('motorbike', 258), ('person', 284),
    ('pottedplant', 308), ('sheep', 347), ('sofa', 368), ('train', 416), ('tvmonitor', 427), ('bag', 9), ('bed', 18),
    ('bench', 22), ('book', 33), ('building', 44), ('cabinet', 46), ('ceiling', 68), ('clothes', 80), ('computer', 85),
    ('cup', 104), ('door', 115), ('fence', 144), ('floor', 158), ('flower', 159), ('food', 162), ('grass', 187),
    ('ground', 189), ('keyboard', 220), ('light', 232), ('mountain', 259), ('mouse', 260), ('curtain', 105),
    ('platform', 296), ('sign', 355), ('plate', 295), ('road', 324), ('rock', 326), ('shelves', 349), ('sidewalk', 354),
    ('sky', 360), ('snow', 366), ('bedcloth', 19), ('track', 415), ('tree', 420), ('truck', 424), ('wall', 440),
    ('water', 445), ('window', 454), ('wood', 458))


def class_indices(label):
    """The data set's own classes, integers of 0..459, as classes of the task: uint8 of the same shape, 0 for all others."""
    table = np.zeros(RAW_CLASSES + 1, dtype=np.uint8)
    table[[raw for _, raw in RAW]] = np.arange(1, len(RAW) + 1)
    return table[label]


def read_context_label(path, remedy='put the label there'):
    """A label of the data set (matrix LabelMap, 1..459) as classes of the task: uint8 [H, W]."""
    return class_indices(segfiles.read_mat(path, 'LabelMap', 0, RAW_CLASSES, remedy))
