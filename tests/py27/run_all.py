"""Runs what the container runs, under any Python: `python tests/py27/run_all.py` (2.7 or 3; with packages).

    python tests/py27/run_all.py parse    only parses the files; needs nothing but Python

The packages are numpy, scipy, Pillow and protobuf. It sees the stand-in `caffe` beside this file in place of a real
one. Each check is a function; it raises if something is wrong, and returns figures that must be the same under every
Python, which are printed as `name: figures`. To add one: write the function and put it in CHECKS.
"""
from __future__ import division, print_function

import glob
import hashlib
import os
import shutil
import site
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MEAN = (104.00699, 116.66877, 122.67892)


def files():
    """Every file of the repository that must be in the common subset of Python 2.7 and 3."""
    found = []
    for pattern in ('tools/*.py', 'voc-*/*.py', 'siftflow-*/*.py', 'nyud-*/*.py', 'pascalcontext-*/*.py',
                    'shapes/*.py', 'tests/py27/*.py', 'tests/py27/*/*.py'):
        found += sorted(glob.glob(os.path.join(ROOT, pattern)))
    return found


def parse():
    """Every such file is the grammar of this Python."""
    for path in files():
        with open(path, 'rb') as f:
            compile(f.read(), path, 'exec')
    return '%d files' % len(files())


def digest(*arrays):
    """A short hash of the bits, types and shapes of arrays."""
    import numpy as np
    h = hashlib.sha256()
    for array in arrays:
        h.update(('%s %s ' % (array.dtype, array.shape)).encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()[:16]


# -- data --------------------------------------------------------------------------------------------------------------

def write_data(folder):
    """Three images in VOC layout and four in SBD layout; PNG under the name .jpg, so that every Pillow reads the same."""
    import numpy as np
    import scipy.io
    from PIL import Image
    rng = np.random.RandomState(0)
    for sub in ('voc/ImageSets/Segmentation', 'voc/JPEGImages', 'voc/SegmentationClass', 'sbd/img', 'sbd/cls'):
        os.makedirs(os.path.join(folder, sub))
    for kind, images, split, ids in (('voc', 'JPEGImages', 'ImageSets/Segmentation/val.txt', 'abc'),
                                     ('sbd', 'img', 'train.txt', 'wxyz')):
        with open(os.path.join(folder, kind, split), 'w') as f:
            f.write('\n'.join(ids))
        for name in ids:
            image = rng.randint(0, 256, (9, 13, 3)).astype(np.uint8)
            Image.fromarray(image).save(os.path.join(folder, kind, images, name + '.jpg'), 'PNG')
            label = rng.randint(0, 21, (9, 13)).astype(np.uint8)
            if kind == 'voc':
                label[0] = 255
                Image.fromarray(label).save(os.path.join(folder, 'voc/SegmentationClass', name + '.png'))
            else:
                scipy.io.savemat(os.path.join(folder, 'sbd/cls', name + '.mat'), {'GTcls': {'Segmentation': label}})


def voc_layer(folder):
    """A VOC data layer on the generated files."""
    import caffe  # noqa: F401  the stand-in
    import voc_layers
    return voc_layers.VOCSegDataLayer(str(dict(voc_dir=os.path.join(folder, 'voc'), split='val', mean=MEAN)))


def data_order(folder):
    """The images that seed 1337 visits first of the 8498 of SBD's train."""
    import numpy as np
    import voc_layers
    with open(os.path.join(folder, 'sbd', 'train8498.txt'), 'w') as f:
        f.write(''.join('%d\n' % i for i in range(8498)))
    layer = voc_layers.SBDDSegDataLayer(str(dict(sbdd_dir=os.path.join(folder, 'sbd'), split='train8498', mean=MEAN,
                                                 seed=1337)))
    layer.load = lambda name: (np.zeros((3, 1, 1), np.float32), np.zeros((1, 1, 1), np.uint8))
    import caffe
    net = caffe.Net([('data', layer, [], ['data', 'label'])])
    shown = []
    for _ in range(8):
        net.forward()
        shown.append(str(layer.current))
    return ', '.join(shown)


def data_layers(folder):
    """The blobs of the VOC and SBD layers on generated files."""
    import caffe
    import voc_layers
    blobs = []
    sbd = voc_layers.SBDDSegDataLayer(str(dict(sbdd_dir=os.path.join(folder, 'sbd'), split='train', mean=MEAN,
                                               seed=1337)))
    for layer in (voc_layer(folder), sbd):
        net = caffe.Net([('data', layer, [], ['data', 'label'])])
        for _ in range(4):
            net.forward()
            blobs += [net.blobs['data'].data.copy(), net.blobs['label'].data.copy()]
    try:
        voc_layers.VOCSegDataLayer("{'voc_dir': 'x', 'splt': 'val'}").setup([], [caffe.Blob(), caffe.Blob()])
    except ValueError as error:
        assert 'unknown key splt' in str(error), error
    else:
        raise AssertionError('an unknown key was accepted')
    return digest(*blobs)


def scoring(folder):
    """The figures of a made-up prediction, through a solver, and the pictures saved."""
    import caffe
    import numpy as np
    import score
    from PIL import Image

    class Scores(caffe.Layer):
        def setup(self, bottom, top):
            pass

        def reshape(self, bottom, top):
            top[0].reshape(1, 21, *bottom[0].shape[2:])
            top[1].reshape()

        def forward(self, bottom, top):     # right in two rows of three
            label = bottom[0].data[0, 0].astype(int) % 21
            label[::3] = 5
            top[0].data[0] = np.eye(21)[label].transpose(2, 0, 1)
            top[1].data[...] = 2.5

    net = caffe.Net([('data', voc_layer(folder), [], ['data', 'label']),
                     ('scores', Scores(), ['label'], ['score', 'loss'])])
    out = os.path.join(folder, 'out', '{}')
    result = score.seg_tests(caffe.Solver(net, net), out, ['a', 'b', 'c'])
    saved = [Image.open(os.path.join(folder, 'out', '0', name + '.png')) for name in 'abc']
    assert [image.mode for image in saved] == ['P'] * 3
    assert result['loss'] == 2.5 and len(score.class_table(result).splitlines()) == 22
    return '%s %s' % (digest(result['hist'], *[np.array(image) for image in saved]),
                      ' '.join('%.12g' % result[key] for key in ('overall_acc', 'mean_acc', 'mean_iu', 'fwavacc',
                                                                 'mean_iu_present')))


def pictures(folder):
    """Palette, overlay, legend and grid."""
    import numpy as np
    import vis
    palette = vis.make_palette(256)
    seg = np.arange(256).reshape(16, 16)
    colours = vis.color_seg(seg, palette)
    assert (vis.index_seg(colours, palette) == seg).all()
    over = vis.vis_seg(np.full((16, 16, 3), 90, np.uint8), seg, palette)
    legend = vis.legend([0, 15, 255], ['background'], palette)
    grid = vis.grid([[colours, None], [legend, over]], ['one', 'two'])
    return '%s %s %s' % (digest(palette, over), legend.size, grid.size)


def linting(folder):
    """The linter on both layouts, clean and with a fault."""
    import lint_labels
    histogram, count, problems = lint_labels.lint(os.path.join(folder, 'voc'), 21)
    assert problems == [] and count == 3, problems
    assert lint_labels.main([os.path.join(folder, 'sbd'), '--classes', '21']) == 0
    assert lint_labels.main([os.path.join(folder, 'sbd'), '--classes', '20']) == 1
    return digest(histogram)


def nets(folder):
    """The prototxts that every net.py emits, which are the committed ones, and what explain.py says of them."""
    import explain
    import prototxt
    from caffe.proto import caffe_pb2
    shown = []
    for script in sorted(glob.glob(os.path.join(ROOT, 'voc-*', 'net.py'))):
        experiment = os.path.dirname(script)
        module = {'__name__': 'net', '__file__': script}
        with open(script) as f:
            exec(compile(f.read(), script, 'exec'), module)
        for name, net in sorted(module['nets']().items()):
            path = os.path.join(experiment, name + '.prototxt')
            with open(path) as f:
                committed = f.read()
            emitted = prototxt.text(net, header='generated by %s/net.py' % os.path.basename(experiment))
            assert emitted == committed, path + ' is not what net.py emits'
            read = prototxt.read(path, caffe_pb2.NetParameter())
            assert read == net
            shown += [emitted] + explain.table(explain.explain(read, (375, 500)))
    return '%d lines, %s' % (len(shown), hashlib.sha256('\n'.join(shown).encode('utf-8')).hexdigest()[:16])


def weights(folder):
    """A classifier's file written, read, convolutionalized; a cut one refused."""
    import caffemodel
    import numpy as np
    import surgery
    rng = np.random.RandomState(0)
    path, fcn = os.path.join(folder, 'classifier.caffemodel'), os.path.join(folder, 'fcn.caffemodel')
    layers = [('conv1', 'Convolution', [rng.randn(4, 3, 3, 3), rng.randn(4)]), ('relu1', 'ReLU', []),
              ('fc6', 'InnerProduct', [rng.randn(5, 36), rng.randn(5)]), ('fc7', 'InnerProduct', [rng.randn(2, 5)])]
    caffemodel.write(path, layers, 'net')
    assert surgery.main(['convolutionalize', path, fcn]) == 0
    read = caffemodel.read(fcn)
    with open(fcn, 'rb') as f:
        content = f.read()
    with open(path, 'wb') as f:
        f.write(content[:-3])
    try:
        caffemodel.read(path)
    except caffemodel.CaffemodelError as error:
        assert 'classifier.caffemodel: field 100' in str(error), error
    else:
        raise AssertionError('a cut file was accepted')
    return '%s %s %s' % (' '.join('%s:%s' % (layer.name, layer.type) for layer in read),
                         digest(*[blob for layer in read for blob in layer.blobs]), hashlib.sha256(content).hexdigest()[:16])


def operations(folder):
    """load, transplant, interp, expand_score and refuse_zeros on nets of the stand-in."""
    import caffe
    import caffemodel
    import numpy as np
    import surgery

    class Weighted(caffe.Layer):
        def __init__(self, kind, *shapes):
            caffe.Layer.__init__(self)
            self.type, self.blobs = kind, [caffe.Blob(*shape) for shape in shapes]

        def setup(self, bottom, top):
            pass

        reshape = setup

    class Net(caffe.Net):
        def copy_from(self, path):
            for layer in caffemodel.read(path):
                for blob, values in zip(self.params.get(layer.name, []), layer.blobs):
                    blob.data[...] = values

    def net(classes):
        return Net([('conv1', Weighted('Convolution', (4, 3, 3, 3), (4,)), [], []),
                    ('fc6', Weighted('Convolution', (5, 4, 3, 3), (5,)), [], []),
                    ('score_fr', Weighted('Convolution', (classes, 5, 1, 1), (classes,)), [], []),
                    ('upscore', Weighted('Deconvolution', (classes, classes, 4, 4)), [], [])])

    rng = np.random.RandomState(0)
    path = os.path.join(folder, 'base.caffemodel')
    caffemodel.write(path, [('conv1', 'Convolution', [rng.randn(4, 3, 3, 3), rng.randn(4)]),
                            ('fc8', 'Convolution', [rng.randn(2, 5, 1, 1)])])
    old, new = net(2), net(3)
    full = caffe.Net([('fc6', Weighted('InnerProduct', (5, 36), (5,)), [], [])])
    full.params['fc6'][0].data[...] = rng.randn(5, 36)
    reports = [surgery.load(old, path), surgery.transplant(old, full)]
    for data in (blob.data for blob in old.params['score_fr']):
        data[...] = rng.randn(*data.shape)
    reports.append(surgery.expand_score(new, 'score_fr', old, 'score_fr'))
    for wrong in (lambda: surgery.refuse_zeros(old), lambda: surgery.transplant(new, old)):
        try:
            wrong()
        except surgery.SurgeryError:
            continue
        raise AssertionError('not refused')
    surgery.interp(old, ['upscore'])
    surgery.refuse_zeros(old)
    text = '\n'.join(str(report).replace(folder, '') for report in reports)
    return '%s %s' % (digest(*[blob.data for n in (old, new) for name in n.params for blob in n.params[name]]),
                      hashlib.sha256(text.encode('utf-8')).hexdigest()[:16])


CHECKS = [data_order, data_layers, scoring, pictures, linting, nets, weights, operations]


def main():
    print('parse: %s' % parse())
    if sys.argv[1:] == ['parse']:
        return
    os.environ['FCN_CAFFE'] = 'bvlc'    # which_caffe then takes the `caffe` it finds on the path: the stand-in
    sys.path[:0] = [os.path.join(ROOT, 'tools'), HERE]
    for packages in os.environ.get('PYTHONPATH', '').split(os.pathsep):
        site.addsitedir(packages)   # reads its .pth files, without which `google.protobuf` of that time is not found
    for check in CHECKS:
        folder = tempfile.mkdtemp()
        try:
            write_data(folder)
            print('%s: %s' % (check.__name__, check(folder)))
        finally:
            shutil.rmtree(folder)


if __name__ == '__main__':
    main()
