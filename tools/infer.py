"""Segments photographs of any size.

    python tools/infer.py --net voc-fcn8s/deploy.prototxt --weights FILE IMAGE... | FOLDER
    python tools/infer.py --net nyud-fcn32s/color-hha-deploy.prototxt --weights FILE IMAGE... --hha FILE | FOLDER

For each image it writes OUT/<name>.png, class indices with the VOC palette, and OUT/<name>_overlay.png, the image with
its segmentation laid over it beside a legend of the classes found and their shares; of a net with several tasks
OUT/<name>_<task>.png and OUT/<name>_<task>_overlay.png for each. What the net is fed is the net's: the prototxt beside it
that its experiment is scored with says so (see inputs.py), and a line is printed for each input. An image that cannot be
read is said and left out; the exit status is then 1.
"""
from __future__ import division, print_function

import argparse
import collections
import os
import sys
import time

import numpy as np

import inputs
import segfiles
import surgery
import vis
from inputs import DEPTH, HHA, PHOTOGRAPHS
from which_caffe import caffe, describe

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.ppm', '.gif', '.webp')
OPTIONS = collections.OrderedDict([     # which argument names files of which kind
    (PHOTOGRAPHS, 'IMAGE'), (HHA, '--hha FILE|FOLDER (`python data/nyud/hha.py` makes it of depth)'),
    (DEPTH, '--depth FILE|FOLDER (16-bit PNGs of millimetres, without holes)')])


# -- a net and an image ------------------------------------------------------------------------------------------------
def load(path, weights, plan=None):
    """The net of a deploy prototxt with the weights of a caffemodel; TEST phase. plan: the inputs.Plan for it, if known.

    ValueError for a prototxt with a typo, one that is no deploy net, and weights that do not fit or are all zero.
    """
    plan = plan or inputs.plan(path)
    net = caffe.Net(path, caffe.TEST)
    for task in plan.tasks:
        if task.score not in net.blobs:
            raise ValueError('%s: the net has no blob "%s"; it has %s' % (path, task.score, ', '.join(net.blobs)))
    report = surgery.load(net, weights)
    if report.left:
        raise ValueError('%s has no weights for %s of %s; wanted the weights of this net'
                         % (weights, ', '.join(name for name, _ in report.left), path))
    surgery.refuse_zeros(net)
    return net


def segment(net, arrays, scores=('score',)):
    """The class of each pixel, uint8 [H, W], by each of the blobs `scores`; ties go to the lowest.

    arrays: {input blob: float32 [C, H, W]}, what the net is fed; it is reshaped to that.
    """
    for blob, array in arrays.items():
        net.blobs[blob].reshape(1, *array.shape)
        net.blobs[blob].data[...] = array
    net.forward()
    return [net.blobs[name].data[0].argmax(0).astype(np.uint8) for name in scores]


def read(net, feeds, paths):
    """{input blob: float32 [C, H, W]} of the files of an image, a path for each Feed. ValueError if they do not fit."""
    arrays = collections.OrderedDict((feed.blob, feed.read(path)) for feed, path in zip(feeds, paths))
    for feed, path in zip(feeds, paths):
        got, first = arrays[feed.blob].shape, arrays[feeds[0].blob].shape
        if got[1:] != first[1:]:
            raise ValueError('%s is %d x %d (width x height), %s %d x %d; wanted one size: they show the same'
                             % (path, got[2], got[1], paths[0], first[2], first[1]))
        if got[0] != net.blobs[feed.blob].data.shape[1]:
            raise ValueError('%s makes %d channels of %s, the input "%s" of the net has %d'
                             % (path, got[0], feed.kind, feed.blob, net.blobs[feed.blob].data.shape[1]))
    return arrays


# -- pictures ----------------------------------------------------------------------------------------------------------
def shares(seg, names):
    """The classes in a segmentation, most frequent first: (class, name, share of the pixels) each."""
    counts = np.bincount(seg.ravel())
    order = [c for c in np.argsort(-counts, kind='mergesort') if counts[c]]
    return [(int(c), names[c] if c < len(names) else 'class %d' % c, counts[c] / seg.size) for c in order]


def overlay(image, seg, names):
    """A PIL image: the image with the segmentation laid over it, and beside it the legend of the classes found."""
    palette = vis.make_palette(256)
    found = shares(seg, names)
    texts = dict((c, '%s %.1f%%' % (name, 100 * share)) for c, name, share in found)
    legend = vis.legend([c for c, _, _ in found], [texts.get(c, '') for c in range(max(texts) + 1)], palette)
    return vis.grid([[vis.vis_seg(np.array(image), seg, palette), legend]])


def write(stem, ends, image, segs, names):
    """Write the PNG and the overlay of each task; returns a line on the classes found. ends: of the tasks' files."""
    said = []
    for end, seg, known in zip(ends, segs, names):
        vis.save_indexed(stem + end + '.png', seg)
        vis.save_atomic(overlay(image, seg, known), stem + end + '_overlay.png')
        said.append((end[1:] + ': ' if end else '') + ', '.join(
            '%s %.1f%%' % (name, 100 * share) for _, name, share in shares(seg, known)))
    return '; '.join(said)


# -- files -------------------------------------------------------------------------------------------------------------
def listed(arguments):
    """The image files meant by arguments: files as they are, of folders all images in them, sorted."""
    files = []
    for path in arguments:
        inside = sorted(name for name in os.listdir(path) if name.lower().endswith(IMAGES)) if os.path.isdir(path) else None
        if inside == []:
            raise IOError('%s: no images in this folder; wanted files ending in %s' % (path, ', '.join(IMAGES)))
        files += [path] if inside is None else [os.path.join(path, name) for name in inside]
    return files


def matched(feeds, given):
    """[files of an image, a path for each Feed] for each image. given: {kind: arguments}.

    ValueError for a kind that the net does not see, for one that it sees and is not there, and for files without the other.
    """
    kinds = [feed.kind for feed in feeds]
    for kind in OPTIONS:
        if bool(given[kind]) != (kind in kinds):
            raise ValueError('the net sees %s%s %s%s; wanted %s' % (
                ' and '.join(kinds), ', and no' if kind in kinds else ', not', kind, ' are named' if kind in kinds else '',
                ' and '.join(OPTIONS[k] for k in kinds)))
    files = [listed(given[kind]) for kind in kinds]
    others = [inputs.pair(files[0], more, kind) for more, kind in zip(files[1:], kinds[1:])]
    return [[path] + [other[path] for other in others] for path in files[0]]


def outputs(files, out, ends=('',)):
    """{image file: path without ending to write to}. ValueError if two would be written to one place, or over an image.

    files: the files of each image, a list; the first of them gives the name. ends: what the tasks' files have after it.
    """
    stems, taken = {}, {}
    for path in [paths[0] for paths in files]:
        stems[path] = os.path.join(out, inputs.stem(path))
        for target in [os.path.abspath(stems[path] + end + kind) for end in ends for kind in ('.png', '_overlay.png')]:
            if target in taken:
                raise ValueError('%s and %s would both be written to %s; segment them one after the other, with different '
                                 '--out' % (taken[target], path, target))
            taken[target] = path
    for path in [path for paths in files for path in paths]:
        if os.path.abspath(path) in taken:
            raise ValueError('%s would be written over; choose another folder with --out' % path)
    return stems


# -- the command line --------------------------------------------------------------------------------------------------
def class_names(net, plan, named):
    """The class names of each task: those in the files `named`, or those known, if they are as many as the classes."""
    if named and len(named) != len(plan.tasks):
        raise ValueError('--classes is there %d times; wanted it once for each of %s'
                         % (len(named), ', '.join(task.score for task in plan.tasks)))
    found = []
    for i, task in enumerate(plan.tasks):
        classes = net.blobs[task.score].data.shape[1]
        names = segfiles.read_list(named[i]) if named else plan.names.get(task.name, [])
        if named and len(names) != classes:
            raise ValueError('%s has %d names, the net %d classes; wanted as many' % (named[i], len(names), classes))
        found.append(names if len(names) == classes else [])
    return found


def three_numbers(text):
    """(B, G, R) of '104,116.7,122.7'; ArgumentTypeError for another text."""
    try:
        mean = tuple(float(number) for number in text.split(','))
    except ValueError:
        mean = ()
    if len(mean) != 3 or not np.isfinite(mean).all():
        raise argparse.ArgumentTypeError('%r: wanted three numbers, blue, green, red: 104.00699,116.66877,122.67892' % text)
    return mean


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description='Segments photographs of any size.')
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='image files, or folders of them')
    parser.add_argument('--net', required=True, help='deploy prototxt')
    parser.add_argument('--weights', required=True, help='caffemodel')
    for kind, what in ((HHA, 'HHA encodings of depth'), (DEPTH, 'depth, 16-bit PNGs of millimetres')):
        parser.add_argument('--' + kind.lower(), action='append', default=[], metavar='FILE|FOLDER',
                            help='%s, named like the images; for nets that see them' % what)
    parser.add_argument('--mean', type=three_numbers, metavar='B,G,R', help='what is taken off the pixels, for a net that '
                        "stands alone (default: PASCAL VOC's)")
    parser.add_argument('--classes', action='append', default=[], metavar='FILE',
                        help='names, one a line; once for each task (default: those of its data set)')
    parser.add_argument('--out', default='segmented', help='folder to write to (default %(default)s)')
    parser.add_argument('--gpu', type=int, help='number of the GPU; without one, the CPU')
    options = parser.parse_args(arguments)
    try:
        plan = inputs.plan(options.net, options.mean)
        files = matched(plan.feeds, {PHOTOGRAPHS: options.images, HHA: options.hha, DEPTH: options.depth})
        ends = ['_' + task.name for task in plan.tasks] if len(plan.tasks) > 1 else ['']
        stems = outputs(files, options.out, ends)
        if options.gpu is not None:
            caffe.set_device(options.gpu)
            caffe.set_mode_gpu()
        print(describe('CPU' if options.gpu is None else 'GPU %d' % options.gpu))
        net = load(options.net, options.weights, plan)
        names = class_names(net, plan, options.classes)
    except (ValueError, EnvironmentError, RuntimeError) as error:
        print('infer.py: %s' % error, file=sys.stderr)
        return 1
    for feed in plan.feeds:
        print('%s: %s: %s' % (feed.blob, feed.kind, feed.said))
    failed = []
    for paths in files:
        begun = time.time()
        try:
            segs = segment(net, read(net, plan.feeds, paths), [task.score for task in plan.tasks])
            found = write(stems[paths[0]], ends, segfiles.read_image(paths[0]), segs, names)
        except (ValueError, EnvironmentError, RuntimeError) as error:
            print('infer.py: %s' % error, file=sys.stderr)
            failed.append(paths[0])
            continue
        print('%s %dx%d, %.2f s: %s' % (' + '.join(paths), segs[0].shape[1], segs[0].shape[0], time.time() - begun, found))
    done = len(files) - len(failed)
    print('%d of %d images segmented%s' % (done, len(files), '; written to ' + os.path.abspath(options.out) if done else
                                           '; nothing was written'))
    if failed:
        print('infer.py: left out: %s' % ', '.join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    caffe.init_log(1, True)     # warnings and errors; what it says of each layer is no news here
    sys.exit(main())
