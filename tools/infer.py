"""Segments photographs of any size.

    python tools/infer.py --net voc-fcn8s/deploy.prototxt --weights FILE IMAGE... | FOLDER

For each image it writes OUT/<name>.png, class indices with the VOC palette, and OUT/<name>_overlay.png, the image with
its segmentation laid over it beside a legend of the classes found and their shares. An image that cannot be read is
said and left out; the exit status is then 1.
"""
from __future__ import division, print_function

import argparse
import os
import sys
import time

import numpy as np

import prototxt
import segfiles
import surgery
import vis
from which_caffe import caffe, describe
from caffe.proto import caffe_pb2
from dataset import voc_classes
from parts import VOC_MEAN

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.ppm', '.gif', '.webp')


def load(path, weights):
    """The net of a deploy prototxt with the weights of a caffemodel; TEST phase.

    ValueError for a prototxt with a typo, one that is no deploy net, and weights that do not fit or are all zero.
    """
    inputs = [layer for layer in prototxt.read(path, caffe_pb2.NetParameter()).layer if layer.type == 'Input']
    if [list(layer.top) for layer in inputs] != [['data']]:
        raise ValueError('%s: the net has %s; wanted one Input layer with the top "data": name the deploy.prototxt of the '
                         'experiment, not a net that reads a data set' % (path, 'the inputs %s' % ', '.join(
                             top for layer in inputs for top in layer.top) if inputs else 'no Input layer'))
    net = caffe.Net(path, caffe.TEST)
    if 'score' not in net.blobs:
        raise ValueError('%s: the net has no blob "score"; it has %s' % (path, ', '.join(net.blobs)))
    report = surgery.load(net, weights)
    if report.left:
        raise ValueError('%s has no weights for %s of %s; wanted the weights of this net'
                         % (weights, ', '.join(name for name, _ in report.left), path))
    surgery.refuse_zeros(net)
    return net


def segment(net, image, mean=VOC_MEAN):
    """The class of each pixel of an RGB PIL image: uint8 [H, W]. The net is reshaped to the image; ties go to the lowest."""
    data = segfiles.preprocess(image, mean)
    net.blobs['data'].reshape(1, *data.shape)
    net.blobs['data'].data[...] = data
    net.forward()
    return net.blobs['score'].data[0].argmax(0).astype(np.uint8)


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


def listed(arguments):
    """The image files meant by arguments: files as they are, of folders all images in them, sorted."""
    files = []
    for path in arguments:
        inside = sorted(name for name in os.listdir(path) if name.lower().endswith(IMAGES)) if os.path.isdir(path) else None
        if inside == []:
            raise IOError('%s: no images in this folder; wanted files ending in %s' % (path, ', '.join(IMAGES)))
        files += [path] if inside is None else [os.path.join(path, name) for name in inside]
    return files


def outputs(files, out):
    """{image file: path without ending to write to}. ValueError if two would be written to one place, or over an image."""
    stems = {}
    for path in files:
        stem = os.path.join(out, os.path.splitext(os.path.basename(path))[0])
        if stem in stems:
            raise ValueError('%s and %s would both be written to %s.png; segment them one after the other, with different '
                             '--out' % (stems[stem], path, stem))
        stems[stem] = path
    taken = set(os.path.abspath(stem + end) for stem in stems for end in ('.png', '_overlay.png'))
    for path in files:
        if os.path.abspath(path) in taken:
            raise ValueError('%s would be written over; choose another folder with --out' % path)
    return dict((path, stem) for stem, path in stems.items())


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description='Segments photographs of any size.')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or folders of them')
    parser.add_argument('--net', required=True, help='deploy prototxt')
    parser.add_argument('--weights', required=True, help='caffemodel')
    parser.add_argument('--classes', help="names, one a line (default: PASCAL VOC's, for nets of 21 classes)")
    parser.add_argument('--out', default='segmented', help='folder to write to (default %(default)s)')
    parser.add_argument('--gpu', type=int, help='number of the GPU; without one, the CPU')
    options = parser.parse_args(arguments)
    try:
        files = listed(options.images)
        stems = outputs(files, options.out)
        if options.gpu is not None:
            caffe.set_device(options.gpu)
            caffe.set_mode_gpu()
        print(describe('CPU' if options.gpu is None else 'GPU %d' % options.gpu))
        net = load(options.net, options.weights)
        classes = net.blobs['score'].data.shape[1]
        names = segfiles.read_list(options.classes or voc_classes()) if options.classes or classes == 21 else []
        if names and len(names) != classes:
            raise ValueError('%s has %d names, the net %d classes; wanted as many' % (options.classes, len(names), classes))
    except (ValueError, EnvironmentError, RuntimeError) as error:
        print('infer.py: %s' % error, file=sys.stderr)
        return 1
    failed = []
    for path in files:
        begun = time.time()
        try:
            image = segfiles.read_image(path)
            seg = segment(net, image)
            vis.save_indexed(stems[path] + '.png', seg)
            vis.save_atomic(overlay(image, seg, names), stems[path] + '_overlay.png')
        except (ValueError, EnvironmentError, RuntimeError) as error:
            print('infer.py: %s' % error, file=sys.stderr)
            failed.append(path)
            continue
        print('%s %dx%d, %.2f s: %s' % (path, image.size[0], image.size[1], time.time() - begun, ', '.join(
            '%s %.1f%%' % (name, 100 * share) for _, name, share in shares(seg, names))))
    print('%d of %d images segmented; written to %s' % (len(files) - len(failed), len(files), os.path.abspath(options.out)))
    if failed:
        print('infer.py: left out: %s' % ', '.join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    caffe.init_log(1, True)     # warnings and errors; what it says of each layer is no news here
    sys.exit(main())
