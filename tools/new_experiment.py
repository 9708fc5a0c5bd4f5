"""A new experiment for your own photographs and masks, fine-tuned from a net of this repository.

    python tools/new_experiment.py NAME FOLDER [--from voc-fcn8s]
    python NAME/solve.py                            # trains, scores, and draws pictures into NAME/run/NAME

FOLDER holds images/ and masks/ (or JPEGImages/ and SegmentationClass/, or train/, trainannot/, val/, valannot/), and
classes.txt: a name a line, or `red green blue name` where masks are coloured. Everything is checked first. Then the data
are laid out in data/NAME, and the folder NAME gets its net.py, solve.py, solver.prototxt and classes.txt, to be read and
changed like those of the other experiments, and the prototxts that net.py writes.
"""
from __future__ import division, print_function

import argparse
import os
import re
import shutil
import subprocess
import sys

import baseweights
import experiment_files
import finetune
import lint_labels
import own_data
import runlog
import segfiles
from experiment_files import BASES
from own_data import OwnDataError


def create(name, base, **where):
    """Make data/<name> and the folder <name> of an experiment that starts from `base`; returns the folder.

    where: what own_data.read takes, and `side`. OwnDataError for what is wrong; nothing is left behind then.
    """
    side = where.pop('side')
    target, folder = os.path.join(segfiles.data_root(), name), os.path.join(segfiles.ROOT, name)
    if not re.match(r'[A-Za-z][\w-]*$', name):
        raise OwnDataError('%r: wanted a plain name that begins with a letter: it becomes a folder here, and one in data/'
                           % name)
    for path in (target, folder):
        if os.path.exists(path):
            raise OwnDataError('%s is there already; choose another name, or remove it' % path)
    data = own_data.read(**where)
    own_data.write(data, target, side)
    try:
        histogram, _, problems = lint_labels.lint(target, len(data.classes.names))
        if problems:
            raise OwnDataError('\n'.join(problems))
        tell(data, histogram)
        pixels = experiment_files.pixels(target, data.train)
        partial = folder + '.partial'
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        for file, text in experiment_files.texts(name, BASES[base], data, pixels).items():
            runlog.write_atomic(os.path.join(partial, file), text)
        os.rename(partial, folder)
        if subprocess.call([sys.executable, os.path.join(folder, 'net.py')]):
            raise OwnDataError('%s could not write its nets' % os.path.join(folder, 'net.py'))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def tell(data, histogram):
    """Say what the data set holds, class by class."""
    total = max(sum(histogram[:len(data.classes.names)]), 1)
    print('%d images to train on, %d to score; %d classes:' % (len(data.train), len(data.val), len(data.classes.names)))
    for i, name in enumerate(data.classes.names):
        print('%5d %-20s %5.1f %% of the pixels%s' % (i, name, 100. * histogram[i] / total,
                                                     '' if histogram[i] else '   WARNING: it is in no mask'))
    print('%26s %5.1f %% of all pixels do not count' % ('', 100. * histogram[255] / max(histogram.sum(), 1)))


def tell_base(name, base, data):
    """Say where the weights to start from will be looked for, and what becomes of their scores."""
    print(finetune.told(data, segfiles.read_list(os.path.join(segfiles.ROOT, name, base.classes)), base.name))
    try:
        os.chdir(os.path.join(segfiles.ROOT, name))
        print('weights: %s (%s)' % baseweights.find(base.weights, base.runs))
    except baseweights.BaseWeightsError as error:
        print('weights: %s' % error)
        print('(%s)' % base.remedy)


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', metavar='NAME', help='of the experiment: its folder here, and that of its data in data/')
    parser.add_argument('folder', metavar='FOLDER', nargs='?', help='where images, masks and classes.txt are')
    parser.add_argument('--from', dest='base', default='voc-fcn8s', choices=list(BASES),
                        help='the net to start from; shapes is the narrow one of the demo, which a laptop can train '
                        '(default %(default)s)')
    parser.add_argument('--images', help='folder of images, if FOLDER has other names')
    parser.add_argument('--masks', help='folder of masks')
    parser.add_argument('--classes', help='file of classes, if it is not FOLDER/classes.txt')
    parser.add_argument('--val', help="list of the images to score, or the share of them, such as 0.2 (default: "
                        "FOLDER's own lists train.txt and val.txt, or 0.2)")
    parser.add_argument('--seed', type=int, default=1337, help='of the draw of images to score (default %(default)s)')
    parser.add_argument('--side', type=int, default=500, help='scale photographs down to this many pixels on the longer '
                        'side, as those of PASCAL VOC; 0: leave them (default %(default)s)')
    parser.add_argument('--labelled-only', action='store_true', help='leave out images without a mask')
    args = parser.parse_args(arguments)
    if (args.folder is None) == (args.images is None) or (args.images is None) != (args.masks is None):
        parser.error('wanted FOLDER, or --images and --masks')
    if args.side < 0:
        parser.error('--side %d: wanted 0 or more' % args.side)
    val = float(args.val) if re.match(r'0?\.\d+$', args.val or '') else args.val
    base = BASES[args.base]
    try:
        folder = create(args.name, args.base, folder=args.folder, images=args.images, masks=args.masks, classes=args.classes,
                        val=val, seed=args.seed, labelled_only=args.labelled_only, side=args.side)
        tell_base(args.name, base, segfiles.read_list(os.path.join(folder, 'classes.txt')))
    except (ValueError, EnvironmentError) as error:
        print('new_experiment.py: %s' % error, file=sys.stderr)
        return 1
    print('now: python %s/solve.py' % args.name)
    return 0


if __name__ == '__main__':
    sys.exit(main())
