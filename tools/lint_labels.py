"""Checks the labels of a data set before a net sees them.

    python tools/lint_labels.py FOLDER --classes 21 [--geo] [--indices OUT]

FOLDER is a data set in VOC layout (SegmentationClass, JPEGImages, ImageSets/Segmentation), in SBD layout (cls, img,
lists), one of data/nyud, data/sift-flow and data/pascal-context, or a plain folder of label PNGs. Prints how many
pixels each class has and each problem with its remedy: values out of range, colours instead of indices, masks of 0 and
255, files that cannot be read, label and image of different size, missing files. Exit status: 0 clean, 1 problems, 2
nothing to check.
"""
from __future__ import division, print_function

import argparse
import collections
import os
import sys

import numpy as np

import segfiles
import vis
from context_classes import read_context_label
from segfiles import IGNORE

# What a kind of data set calls its labels and the images to them, {id} being the id, how a label is read, where lists lie.
# Of the lists in SIFT Flow's and PASCAL-Context's folders, some are no lists of ids: there, only the splits count.
Layout = collections.namedtuple('Layout', 'labels read images lists splits')
VOC = Layout('SegmentationClass/{id}.png', segfiles.read_label, 'JPEGImages/{id}.jpg', 'ImageSets/Segmentation', None)
SBD = Layout('cls/{id}.mat', segfiles.read_sbd_label, 'img/{id}.jpg', '.', None)
NYUD = Layout('segmentation/img_{id}.mat', segfiles.read_nyud_label, 'data/images/img_{id}.png', '.',
              ('train', 'val', 'trainval', 'test'))
SCENES = 'spatial_envelope_256x256_static_8outdoorcategories/{id}'
SIFTFLOW = Layout('SemanticLabels/%s.mat' % SCENES, segfiles.read_siftflow_sem, 'Images/%s.jpg' % SCENES, '.',
                  ('trainval', 'test'))
SIFTFLOW_GEO = SIFTFLOW._replace(labels='GeoLabels/%s.mat' % SCENES, read=segfiles.read_siftflow_geo)
CONTEXT = Layout('trainval/{id}.mat', read_context_label, '../pascal/VOC2010/JPEGImages/{id}.jpg',
                 '../pascal/VOC2010/ImageSets/Main', ('train', 'val', 'trainval'))
PLAIN = Layout('{id}.png', segfiles.read_label, None, None, None)


def layout_of(folder):
    """The layout a folder has, PLAIN if it just holds labels; SIFT Flow's semantic one. IOError if it is none of them."""
    for layout in (VOC, SBD, NYUD, SIFTFLOW, CONTEXT):
        if os.path.isdir(os.path.join(folder, os.path.dirname(layout.labels))):
            return layout
    if os.path.isdir(folder) and any(name.endswith('.png') for name in os.listdir(folder)):
        return PLAIN
    raise IOError('%s: no labels there; wanted SegmentationClass/ (VOC layout), cls/ (SBD layout), segmentation/ (NYUD), '
                  'SemanticLabels/ (SIFT Flow), trainval/ (PASCAL-Context) or *.png in it' % os.path.abspath(folder))


def ids_in(folder, template):
    """The sorted ids of the files of a folder that are named as a template says, e.g. cls/{id}.mat."""
    place, name = os.path.split(os.path.join(folder, template))
    begin, end = name.split('{id}')
    return sorted(entry[len(begin):-len(end)] for entry in os.listdir(place)
                  if entry.startswith(begin) and entry.endswith(end) and not entry.startswith('.'))


def path_of(folder, template, name):
    """The path that a template means for an id."""
    return os.path.normpath(os.path.join(folder, template.replace('{id}', name)))


def lint(folder, classes, progress=None, layout=None, ids=None):
    """Check the labels of a data set: (histogram int64 [256], number of labels, list of problems).

    progress: called as progress(labels done, labels) after each label. layout: if it is not to be told from the folder.
    ids: which labels; all if left out. IOError if there is nothing to check.
    """
    layout = layout or layout_of(folder)
    ids = ids_in(folder, layout.labels) if ids is None else ids
    histogram = np.zeros(256, dtype=np.int64)
    problems = [] if ids else ['%s: no labels' % os.path.dirname(os.path.join(folder, layout.labels))]
    for done, name in enumerate(ids, 1):
        path = path_of(folder, layout.labels, name)
        try:
            label = layout.read(path)
            histogram += np.bincount(label.ravel(), minlength=256)
            segfiles.check_label(label, classes, path)
            if layout.images:
                check_pair(path_of(folder, layout.images, name), path, label.shape)
        except (IOError, ValueError) as error:
            problems.append(str(error))
        if progress:
            progress(done, len(ids))
    found = np.flatnonzero(histogram)
    if len(found) == 2 and found[0] == 0 and found[1] == IGNORE:
        problems.append('%s: the labels hold only 0 and 255, and 255 is ignored: nothing is left to learn but class 0; '
                        'a mask of two classes is written as 0 and 1' % folder)
    if layout.lists:
        problems += missing_files(folder, layout, set(ids))
    return histogram, len(ids), problems


def check_pair(image, label, shape):
    """IOError if the image of a label is not there, ValueError if it has another size than `shape` (H, W)."""
    if not os.path.isfile(image):
        raise IOError('%s: has no image; wanted %s' % (label, image))
    width, height = segfiles.image_size(image)
    if (height, width) != shape:
        raise ValueError('%s: %d x %d (width x height), its image %s is %d x %d; they must agree: replace one'
                         % (label, shape[1], shape[0], image, width, height))


def missing_files(folder, layout, labels):
    """A problem for each list that names ids without a label. VOC layout may have images that no list names."""
    lists = os.path.normpath(os.path.join(folder, layout.lists))
    if not os.path.isdir(lists):
        return ['%s: no such folder; wanted lists of ids in it, e.g. train.txt' % lists]
    problems = []
    for list_name in ids_in(lists, '{id}.txt'):
        if layout.splits and list_name not in layout.splits:
            continue
        path = os.path.join(lists, list_name + '.txt')
        try:
            lacking = [name for name in segfiles.read_list(path) if name not in labels]
        except ValueError as error:
            problems.append(str(error))
            continue
        if lacking:
            problems.append('%s: %d of its ids have no label, the first %s; wanted %s'
                            % (path, len(lacking), lacking[0], path_of(folder, layout.labels, lacking[0])))
    return problems


def write_indices(folder, out, classes):
    """Rewrite labels that hold the VOC colours as palette PNGs of indices in folder `out`; returns how many."""
    layout = layout_of(folder)
    palette = vis.make_palette(256)
    palette = np.concatenate([palette[:classes], palette[IGNORE:]])     # any other colour would be no class
    written = 0
    for name in ids_in(folder, layout.labels):
        path = path_of(folder, layout.labels, name)
        image = segfiles.open_image(path)
        if image.mode in ('RGB', 'RGBA'):
            try:
                seg = vis.index_seg(np.array(image.convert('RGB')), palette)
            except ValueError as error:
                raise ValueError('%s: %s' % (path, error))
            seg[seg == classes] = IGNORE
            vis.save_indexed(os.path.join(out, name + '.png'), seg)
            written += 1
    return written


def report(histogram, classes):
    """The pixels of each value as text, one a line, with its share."""
    total = max(int(histogram.sum()), 1)
    shown = [v for v in range(256) if v < classes or histogram[v]]
    return '\n'.join('%5d %14d %8.4f %%%s' % (
        v, histogram[v], 100. * histogram[v] / total,
        '  ignore' if v == IGNORE else '  OUT OF RANGE' if v >= classes else '' if histogram[v] else '  never seen')
        for v in shown)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER')
    parser.add_argument('--classes', type=int, default=21, help='how many classes there are, background counted (21)')
    parser.add_argument('--geo', action='store_true', help='of data/sift-flow, check the geometric labels (3 classes)')
    parser.add_argument('--indices', metavar='OUT', help='rewrite labels in VOC colours as indices into this folder')
    args = parser.parse_args(argv)
    if not 1 <= args.classes <= IGNORE:
        parser.error('--classes %d: wanted 1..%d' % (args.classes, IGNORE))
    try:
        if args.indices:
            written = write_indices(args.folder, args.indices, args.classes)
            if not written:
                raise ValueError('%s: none of the labels holds colours, so nothing was written; check them without --indices'
                                 % os.path.abspath(args.folder))
            print('%d labels rewritten in %s' % (written, args.indices))
            return 0
        histogram, count, problems = lint(args.folder, args.classes, layout=SIFTFLOW_GEO if args.geo else None)
    except (IOError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print('%5s %14s' % ('value', 'pixels'))
    print(report(histogram, args.classes))
    for problem in problems:
        print('PROBLEM %s' % problem)
    print('%d labels, %d problems' % (count, len(problems)))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
