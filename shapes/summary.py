"""What the demo leaves to look at: the paper's table and a grid of pictures."""
from __future__ import division, print_function

import os

import numpy as np

import infer
import parts
import prototxt
import runlog
import segfiles
import vis

ROWS = 6    # images in the grid


def table(root, rows):
    """Print and write root/table.txt, the columns of the paper's Table 2. rows: (stage, row of metrics) pairs."""
    lines = ['%-14s %9s %9s %9s %9s' % ('', 'pixel acc', 'mean acc', 'mean IU', 'f.w. IU')]
    lines += ['%-14s %9.1f %9.1f %9.1f %9.1f' % ((stage.replace('fcn', 'FCN-'),) + tuple(
        100 * row[key] for key in ('overall_acc', 'mean_acc', 'mean_iu', 'fwavacc'))) for stage, row in rows]
    runlog.write_atomic(os.path.join(root, 'table.txt'), '\n'.join(lines) + '\n')
    print('\n'.join(lines))


def grid(root, data, weights, net):
    """Write root/grid.png: some of the images scored, their truth, and what 32s, 16s and 8s make of them.

    data: the dataset.DataSet. weights: {stage: caffemodel}. net: the module net.py.
    """
    stages = ['fcn32s', 'fcn16s', 'fcn8s']
    nets = []
    for stage, stride in zip(stages, (32, 16, 8)):
        path = os.path.join(root, stage, 'deploy.prototxt')
        prototxt.write(path, parts.deploy(net.fcn(stride, data.layer(data.val), len(data.classes))))
        nets.append(infer.load(path, weights[stage]))
    palette, rows = vis.make_palette(256), []
    for i in np.linspace(0, len(data.ids) - 1, min(ROWS, len(data.ids))).astype(int):
        image = segfiles.read_image(os.path.join(data.root, 'JPEGImages', data.ids[i] + '.jpg'))
        truth = segfiles.read_label(os.path.join(data.root, 'SegmentationClass', data.ids[i] + '.png'))
        arrays = {'data': segfiles.preprocess(image, parts.VOC_MEAN)}
        segs = [truth] + [infer.segment(n, arrays)[0] for n in nets]
        rows.append([image] + [vis.color_seg(seg, palette) for seg in segs])
    path = os.path.join(root, 'grid.png')
    vis.save_atomic(vis.grid(rows, ['image', 'truth', 'FCN-32s', 'FCN-16s', 'FCN-8s']), path)
    print('pictures: %s' % os.path.abspath(path))
