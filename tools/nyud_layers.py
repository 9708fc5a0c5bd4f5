"""Data layer for NYU Depth v2 with 40 classes, as the released nets name it: module "nyud_layers"."""
from __future__ import division, print_function

import numpy as np

import segfiles
from segdata import SegDataLayer


class NYUDSegDataLayer(SegDataLayer):
    """Images, depth and labels of indoor scenes. Answers to the released nyud_layers.py. Order: see SegDataLayer.

    tops: those that param_str names in `tops`, in that order:
    color float32 [1, 3, H, W], BGR minus mean;
    depth float32 [1, 1, H, W], natural logarithm of millimetres, minus its mean;
    hha float32 [1, 3, H, W], horizontal disparity, height above ground, angle with gravity, minus their means;
    label [1, 1, H, W], 40 classes, 255 = ignore.

    param_str keys: nyud_dir, the folder with {split}.txt, data/images, data/depth (filled, 16-bit PNG of millimetres) and
    data/hha, each with img_{id}.png, and segmentation/img_{id}.mat (matrix segmentation), e.g. ../data/nyud; tops; and
    optionally color_mean (B, G, R), in place of the released one.
    """
    folders = ('nyud_dir',)
    list_file = '{nyud_dir}/{split}.txt'
    files = {'color': '{nyud_dir}/data/images/img_{id}.png',
             'depth': '{nyud_dir}/data/depth/img_{id}.png',
             'hha': '{nyud_dir}/data/hha/img_{id}.png',
             'label': '{nyud_dir}/segmentation/img_{id}.mat'}
    classes = {'label': 40}
    required, optional = ('tops',), ('color_mean',)
    prepare = 'python data/nyud/prepare.py'

    # The released code says this is blue, green, red; the values suggest that it is red, green, blue (red is the largest
    # in photographs of rooms). The released weights were trained with it as it stands. In the likely order it is
    # 'color_mean': (92.318, 97.203, 116.190).
    mean = (116.190, 97.203, 92.318)
    hha_mean = (132.431, 94.076, 118.477)
    log_depth_mean = 7.844      # exp(7.844) = 2550 millimetres

    def configure(self, params):
        tops = params['tops']
        if (not isinstance(tops, (list, tuple)) or not tops or len(set(map(str, tops))) != len(tops) or
                not all(str(top) in self.files for top in tops)):
            raise ValueError('%s: param_str key tops is %r; wanted a list of some of color, depth, hha, label, each once'
                             % (type(self).__name__, tops))
        self.tops = tuple(map(str, tops))
        self.mean = params.get('color_mean', self.mean)

    def fed(self, top):
        if top == 'depth':
            return 'logarithm of millimetres minus %g' % self.log_depth_mean
        if top == 'hha':
            return 'disparity, height, angle, in the order of the file, minus %g, %g, %g' % self.hha_mean
        return super(NYUDSegDataLayer, self).fed(top)

    def read_color(self, path):
        """A photograph: float32 [3, H, W], BGR minus mean."""
        return self.read_data(path)

    def read_depth(self, path):
        """How far away things are: float32 [1, H, W], log of millimetres minus its mean. ValueError where it is 0."""
        depth = segfiles.read_depth(path, self.remedy())
        holes = depth.size - np.count_nonzero(depth)
        if holes:
            raise ValueError('%s: the depth of %d pixels is 0, whose logarithm is no number; wanted depth with its holes '
                             'filled, not the raw depth of the camera: `%s` makes it' % (path, holes, self.prepare))
        return (np.log(depth) - np.float32(self.log_depth_mean))[None]

    def read_hha(self, path):
        """Disparity, height, angle: float32 [3, H, W], in the order of the file, which is not colours, minus their means."""
        array = np.array(segfiles.read_image(path, self.remedy()), dtype=np.float32)
        array -= np.array(self.hha_mean)
        return array.transpose((2, 0, 1))

    def read_label(self, path):
        """What a pixel shows: uint8 [1, H, W]. In the file 1..40, and 0 for what nobody named."""
        return segfiles.read_nyud_label(path, self.remedy())[None]
