"""Data layers for PASCAL VOC and for SBD (Semantic Boundaries), as the released nets name them: module "voc_layers"."""
from __future__ import division, print_function

import segfiles
from segdata import SegDataLayer


class VOCSegDataLayer(SegDataLayer):
    """Images and labels of a folder in VOC layout; see SegDataLayer for order and the other parameters.

    tops: data float32 [1, 3, H, W], BGR minus mean; label [1, 1, H, W], class indices, 255 = ignore.

    param_str keys: voc_dir, the folder with ImageSets/Segmentation/{split}.txt, JPEGImages/{id}.jpg and
    SegmentationClass/{id}.png (8-bit indices, 255 = ignore), e.g. ../data/pascal/VOC2011; mean (B, G, R); and optionally
    classes (21).
    """
    folders = ('voc_dir',)
    list_file = '{voc_dir}/ImageSets/Segmentation/{split}.txt'
    files = {'data': '{voc_dir}/JPEGImages/{id}.jpg', 'label': '{voc_dir}/SegmentationClass/{id}.png'}
    required, optional = ('mean',), ('classes',)
    prepare = 'python data/pascal/prepare.py'

    def configure(self, params):
        self.mean = params['mean']
        self.classes = {'label': params.get('classes', 21)}

    def read_label(self, path):
        """A PNG of class indices: uint8 [1, H, W]."""
        return segfiles.read_label(path, self.remedy())[None]


class SBDDSegDataLayer(VOCSegDataLayer):
    """Images and labels of SBD; see VOCSegDataLayer for tops and the other parameters.

    param_str key sbdd_dir: the folder with {split}.txt, img/{id}.jpg and cls/{id}.mat (struct GTcls, field
    Segmentation), e.g. ../data/sbdd/dataset. SBD's labels have no border of 255, VOC's have.
    """
    folders = ('sbdd_dir',)
    list_file = '{sbdd_dir}/{split}.txt'
    files = {'data': '{sbdd_dir}/img/{id}.jpg', 'label': '{sbdd_dir}/cls/{id}.mat'}

    def read_label(self, path):
        """A .mat of SBD: uint8 [1, H, W]."""
        return segfiles.read_sbd_label(path, self.remedy())[None]
