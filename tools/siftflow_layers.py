"""Data layer for SIFT Flow (LabelMe outdoor scenes), as the released nets name it: module "siftflow_layers"."""
from __future__ import division, print_function

import segfiles
from segdata import SegDataLayer

SCENES = 'spatial_envelope_256x256_static_8outdoorcategories'   # the folder in each of the data set's three folders


class SIFTFlowSegDataLayer(SegDataLayer):
    """Images with two labels each, what it is and how it lies. Answers to the released siftflow_layers.py.

    tops: data float32 [1, 3, H, W], BGR minus mean; sem [1, 1, H, W], 33 classes; geo [1, 1, H, W], 3 classes: sky,
    horizontal, vertical. 255 = ignore in both, and not always at the same pixels. Order: see SegDataLayer.

    param_str key siftflow_dir: the folder with {split}.txt, Images/, SemanticLabels/ and GeoLabels/, in each a folder
    spatial_envelope_256x256_static_8outdoorcategories with {id}.jpg or {id}.mat (matrix S), e.g. ../data/sift-flow.
    """
    folders = ('siftflow_dir',)
    list_file = '{siftflow_dir}/{split}.txt'
    files = {'data': '{siftflow_dir}/Images/' + SCENES + '/{id}.jpg',
             'sem': '{siftflow_dir}/SemanticLabels/' + SCENES + '/{id}.mat',
             'geo': '{siftflow_dir}/GeoLabels/' + SCENES + '/{id}.mat'}
    tops = ('data', 'sem', 'geo')
    classes = {'sem': 33, 'geo': 3}
    prepare = 'python data/sift-flow/prepare.py'
    mean = (114.578, 115.294, 108.353)      # of its own photographs

    def read_sem(self, path):
        """What a pixel shows: uint8 [1, H, W]. In the file 1..33, and 0 for what nobody named."""
        return segfiles.read_siftflow_sem(path, self.remedy())[None]

    def read_geo(self, path):
        """How a pixel's surface lies: uint8 [1, H, W]. In the file 1..3, and -1 (here also 0) for what nobody named."""
        return segfiles.read_siftflow_geo(path, self.remedy())[None]
