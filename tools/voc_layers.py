"""Data layers for PASCAL VOC and for SBD (Semantic Boundaries), as the released nets name them: module "voc_layers"."""
from __future__ import division, print_function

import os

import segfiles
from segdata import SegDataLayer


class VOCSegDataLayer(SegDataLayer):
    """Images and labels of a folder in VOC layout; see SegDataLayer for tops, order and the other parameters.

    param_str key voc_dir: the folder with ImageSets/Segmentation/{split}.txt, JPEGImages/{id}.jpg and
    SegmentationClass/{id}.png (8-bit indices, 255 = ignore), e.g. ../data/pascal/VOC2011.
    """
    folder_key = 'voc_dir'
    prepare = 'python data/pascal/prepare.py'
    read_label = staticmethod(segfiles.read_label)

    def list_file(self):
        return os.path.join(self.root, 'ImageSets', 'Segmentation', self.split + '.txt')

    def image_file(self, name):
        return os.path.join(self.root, 'JPEGImages', name + '.jpg')

    def label_file(self, name):
        return os.path.join(self.root, 'SegmentationClass', name + '.png')


class SBDDSegDataLayer(SegDataLayer):
    """Images and labels of SBD; see SegDataLayer for tops, order and the other parameters.

    param_str key sbdd_dir: the folder with {split}.txt, img/{id}.jpg and cls/{id}.mat (struct GTcls, field
    Segmentation), e.g. ../data/sbdd/dataset. SBD's labels have no border of 255, VOC's have.
    """
    folder_key = 'sbdd_dir'
    prepare = 'python data/pascal/prepare.py'
    read_label = staticmethod(segfiles.read_sbd_label)

    def list_file(self):
        return os.path.join(self.root, self.split + '.txt')

    def image_file(self, name):
        return os.path.join(self.root, 'img', name + '.jpg')

    def label_file(self, name):
        return os.path.join(self.root, 'cls', name + '.mat')
