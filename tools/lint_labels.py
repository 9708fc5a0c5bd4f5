"""Checks the labels of a data set before a net sees them.

    python tools/lint_labels.py FOLDER --classes 21 [--indices OUT]

FOLDER is a data set in VOC layout (SegmentationClass, JPEGImages, ImageSets/Segmentation), in SBD layout (cls, img,
lists), or a plain folder of label PNGs. Prints how many pixels each class has and each problem with its remedy: values
out of range, colours instead of indices, masks of 0 and 255, files that cannot be read, label and image of different
size, missing files. Exit status: 0 clean, 1 problems, 2 nothing to check.
"""
from __future__ import division, print_function

import argparse
import os
import sys

import numpy as np

import segfiles
import vis
from segfiles import IGNORE

# layout: folder of labels, their ending, their reader, folder of images, folder of lists
VOC = ('SegmentationClass', '.png', segfiles.read_label, 'JPEGImages', os.path.join('ImageSets', 'Segmentation'))
SBD = ('cls', '.mat', segfiles.read_sbd_label, 'img', '')
PLAIN = ('', '.png', segfiles.read_label, None, None)


def layout_of(folder):
    """VOC, SBD or PLAIN, whichever the folder is laid out as. IOError if it is none of them."""
    for layout in (VOC, SBD):
        if os.path.isdir(os.path.join(folder, layout[0])):
            return layout
    if os.path.isdir(folder) and any(name.endswith('.png') for name in os.listdir(folder)):
        return PLAIN
    raise IOError('%s: no labels there; wanted SegmentationClass/ (VOC layout), cls/ (SBD layout) or *.png in it'
                  % os.path.abspath(folder))


def ids_in(folder, ending):
    """The sorted ids of the files of a folder with this ending."""
    return sorted(name[:-len(ending)] for name in os.listdir(folder)
                  if name.endswith(ending) and not name.startswith('.'))


def lint(folder, classes, progress=None):
    """Check every label of a data set: (histogram int64 [256], number of labels, list of problems).

    progress: called as progress(labels done, labels) after each label. IOError if there is nothing to check.
    """
    labels_dir, ending, read, images_dir, lists_dir = layout_of(folder)
    ids = ids_in(os.path.join(folder, labels_dir), ending)
    histogram = np.zeros(256, dtype=np.int64)
    problems = [] if ids else ['%s: no labels' % os.path.join(folder, labels_dir)]
    for done, name in enumerate(ids, 1):
        path = os.path.join(folder, labels_dir, name + ending)
        try:
            label = read(path)
            histogram += np.bincount(label.ravel(), minlength=256)
            segfiles.check_label(label, classes, path)
            if images_dir:
                check_pair(os.path.join(folder, images_dir, name + '.jpg'), path, label.shape)
        except (IOError, ValueError) as error:
            problems.append(str(error))
        if progress:
            progress(done, len(ids))
    found = np.flatnonzero(histogram)
    if len(found) == 2 and found[0] == 0 and found[1] == IGNORE:
        problems.append('%s: the labels hold only 0 and 255, and 255 is ignored: nothing is left to learn but class 0; '
                        'a mask of two classes is written as 0 and 1' % folder)
    if lists_dir is not None:
        problems += missing_files(folder, set(ids))
    return histogram, len(ids), problems


def check_pair(image, label, shape):
    """IOError if the image of a label is not there, ValueError if it has another size than `shape` (H, W)."""
    if not os.path.isfile(image):
        raise IOError('%s: has no image; wanted %s' % (label, image))
    width, height = segfiles.image_size(image)
    if (height, width) != shape:
        raise ValueError('%s: %d x %d (width x height), its image %s is %d x %d; they must agree: replace one'
                         % (label, shape[1], shape[0], image, width, height))


def missing_files(folder, labels):
    """A problem for each list that names ids without a label. VOC layout may have images that no list names."""
    labels_dir, ending, _, _, lists_dir = layout_of(folder)
    if not os.path.isdir(os.path.join(folder, lists_dir)):
        return ['%s: no such folder; wanted lists of ids in it, e.g. train.txt' % os.path.join(folder, lists_dir)]
    problems = []
    for list_name in ids_in(os.path.join(folder, lists_dir), '.txt'):
        path = os.path.join(folder, lists_dir, list_name + '.txt')
        try:
            lacking = [name for name in segfiles.read_list(path) if name not in labels]
        except ValueError as error:
            problems.append(str(error))
            continue
        if lacking:
            problems.append('%s: %d of its ids have no label, the first %s; wanted %s'
                            % (path, len(lacking), lacking[0],
                               os.path.join(folder, labels_dir, lacking[0] + ending)))
    return problems


def write_indices(folder, out, classes):
    """Rewrite labels that hold the VOC colours as palette PNGs of indices in folder `out`; returns how many."""
    labels_dir, ending = layout_of(folder)[:2]
    palette = vis.make_palette(256)
    palette = np.concatenate([palette[:classes], palette[IGNORE:]])     # any other colour would be no class
    written = 0
    for name in ids_in(os.path.join(folder, labels_dir), ending):
        path = os.path.join(folder, labels_dir, name + ending)
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
    parser.add_argument('--indices', metavar='OUT', help='rewrite labels in VOC colours as indices into this folder')
    args = parser.parse_args(argv)
    if not 1 <= args.classes <= IGNORE:
        parser.error('--classes %d: wanted 1..%d' % (args.classes, IGNORE))
    try:
        if args.indices:
            print('%d labels rewritten in %s' % (write_indices(args.folder, args.indices, args.classes), args.indices))
            return 0
        histogram, count, problems = lint(args.folder, args.classes)
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
