"""A data set of yours, in VOC layout: what a recipe must know of it to emit nets for it and score them."""
from __future__ import division, print_function

import os
import re

import parts
import segfiles


class DataSetError(ValueError):
    """A folder that is no data set in VOC layout; the message says what is missing."""


class DataSet(object):
    """A data set in VOC layout: root, name, classes (their names), train and val (names of its lists), ids of val."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.name = re.sub(r'[^\w.-]', '_', os.path.basename(self.root))
        lists = os.path.join(self.root, 'ImageSets', 'Segmentation')
        have = sorted(os.listdir(lists)) if os.path.isdir(lists) else []
        self.train, self.val = 'train', 'seg11valid' if 'seg11valid.txt' in have else 'val'
        for split in (self.train, self.val):
            if split + '.txt' not in have:
                raise DataSetError('%s: no list ImageSets/Segmentation/%s.txt (there %s); wanted a data set in VOC layout: '
                                  'that list and train.txt, JPEGImages/, SegmentationClass/ and classes.txt'
                                  % (self.root, split, 'are ' + ', '.join(have) if have else 'is no such folder'))
        self.ids = segfiles.read_list(os.path.join(lists, self.val + '.txt'))
        own = os.path.join(self.root, 'classes.txt')
        if not os.path.exists(own):
            print('%s: there is no such file, so the classes are the 21 of PASCAL VOC' % own)
            own = voc_classes()
        self.classes = segfiles.read_list(own)

    def pixels(self):
        """The mean number of pixels of the first 100 training images."""
        ids = segfiles.read_list(os.path.join(self.root, 'ImageSets', 'Segmentation', self.train + '.txt'))[:100]
        sizes = [segfiles.image_size(os.path.join(self.root, 'JPEGImages', name + '.jpg')) for name in ids]
        return sum(width * height for width, height in sizes) / len(sizes)

    def layer(self, split):
        """The tops of the data layer for one of its lists."""
        return parts.python_data('voc_layers', 'VOCSegDataLayer', [
            ('voc_dir', self.root), ('seed', 1337), ('split', split), ('mean', parts.VOC_MEAN),
            ('classes', len(self.classes))])


def voc_classes():
    """The file with the names of PASCAL VOC's 21 classes."""
    return os.path.join(segfiles.ROOT, 'data', 'pascal', 'classes.txt')
