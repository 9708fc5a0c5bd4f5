"""Data layer for PASCAL-Context with its 59 most frequent classes, as the released nets name it: "pascalcontext_layers"."""
from __future__ import division, print_function

from context_classes import RAW, class_indices, read_context_label  # noqa: F401  the classes, to whoever looks here
from segdata import SegDataLayer


class PASCALContextSegDataLayer(SegDataLayer):
    """Images and labels of whole scenes. Answers to the released pascalcontext_layers.py. Order: see SegDataLayer.

    tops: data float32 [1, 3, H, W], BGR minus mean; label [1, 1, H, W], 60 classes: the 59, and as class 0, learned like
    any other, all that is none of them. Nothing is ignored.

    param_str keys: voc_dir, the folder with VOC2010/JPEGImages/{id}.jpg and VOC2010/ImageSets/Main/{split}.txt, e.g.
    ../data/pascal; context_dir, the folder with trainval/{id}.mat (matrix LabelMap), e.g. ../data/pascal-context.
    """
    folders = ('context_dir', 'voc_dir')
    list_file = '{voc_dir}/VOC2010/ImageSets/Main/{split}.txt'
    files = {'data': '{voc_dir}/VOC2010/JPEGImages/{id}.jpg', 'label': '{context_dir}/trainval/{id}.mat'}
    classes = {'label': 60}
    prepare = 'python data/pascal-context/prepare.py'
    mean = (104.007, 116.669, 122.679)      # of the ILSVRC photographs, as parts.VOC_MEAN but with fewer digits

    def read_label(self, path):
        """Which of the 59 classes a pixel is, or 0 for none of them: uint8 [1, H, W]. In the file 1..459."""
        return read_context_label(path, self.remedy())[None]
