"""Pictures for the classifier, cut from a data set in VOC layout: windows of which the middle pixel is of a class."""
from __future__ import division, print_function

import os
import random
import shutil

import numpy as np
from PIL import Image

import segfiles


def cut(data, target, size=112, per_class=400, seed=1337):
    """Write target/JPEGImages and target/{train,val}.txt (`file class`), as crop_layers.CropDataLayer reads them.

    data: a dataset.DataSet. Of each class `per_class` windows of size x size, a tenth of them for val, around pixels
    drawn at random from the training images that show the class; what lies beyond an image is mirrored. A class that
    no training image shows has none. Complete or not there at all.
    """
    partial, rng = target + '.partial', random.Random(seed)
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(os.path.join(partial, 'JPEGImages'))
    ids = segfiles.read_list(os.path.join(data.root, 'ImageSets', 'Segmentation', data.train + '.txt'))
    showing = dict((c, []) for c in range(len(data.classes)))       # class -> ids of the images that show it
    for name in ids:
        for c in np.unique(read_label(data, name)):
            if c != segfiles.IGNORE:
                showing[c].append(name)
    wanted = {}                                                     # id -> (class, number) of each window to cut
    for c in sorted(showing):
        for i in range(per_class if showing[c] else 0):
            wanted.setdefault(showing[c][int(rng.random() * len(showing[c]))], []).append((c, i))
    lines = dict(train=[], val=[])
    for name in sorted(wanted):
        label = read_label(data, name)
        image = np.array(segfiles.read_image(os.path.join(data.root, 'JPEGImages', name + '.jpg')))
        reach = size // 2
        padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode='symmetric')
        for c, i in wanted[name]:
            rows, columns = np.nonzero(label == c)
            place = int(rng.random() * len(rows))
            window = padded[rows[place]:rows[place] + size, columns[place]:columns[place] + size]
            picture = 'class%d_%d.jpg' % (c, i)
            Image.fromarray(window).save(os.path.join(partial, 'JPEGImages', picture), quality=92)
            lines['val' if i < per_class // 10 else 'train'].append('%s %d\n' % (picture, c))
    for split in lines:
        with open(os.path.join(partial, split + '.txt'), 'w') as f:
            f.writelines(sorted(lines[split]))
    shutil.rmtree(target, ignore_errors=True)
    os.rename(partial, target)


def read_label(data, name):
    """The label of an image of a dataset.DataSet, checked."""
    path = os.path.join(data.root, 'SegmentationClass', name + '.png')
    label = segfiles.read_label(path)
    segfiles.check_label(label, len(data.classes), path)
    return label
