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


def other_data_layers(folder):
    """The arrays of the layers for SIFT Flow, NYUD and PASCAL-Context on generated files."""
    import numpy as np
    import scipy.io
    from PIL import Image
    from nyud_layers import NYUDSegDataLayer
    from pascalcontext_layers import PASCALContextSegDataLayer
    from siftflow_layers import SIFTFlowSegDataLayer
    rng = np.random.RandomState(1)

    def put(path, array, key=None):
        path = os.path.join(folder, path)
        if not os.path.isdir(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
        if key:
            scipy.io.savemat(path, {key: array})
        else:
            Image.fromarray(array).save(path, 'PNG')

    def photograph():
        return rng.randint(0, 256, (9, 13, 3)).astype(np.uint8)

    scenes = 'spatial_envelope_256x256_static_8outdoorcategories'
    put('sift/Images/%s/a.jpg' % scenes, photograph())
    put('sift/SemanticLabels/%s/a.mat' % scenes, rng.randint(0, 34, (9, 13)).astype(float), 'S')
    put('sift/GeoLabels/%s/a.mat' % scenes, rng.choice([-1, 1, 2, 3], (9, 13)).astype(float), 'S')
    for kind in ('images', 'hha'):
        put('nyud/data/%s/img_5001.png' % kind, photograph())
    put('nyud/segmentation/img_5001.mat', rng.randint(0, 41, (9, 13)).astype(np.uint8), 'segmentation')
    put('pascal/VOC2010/JPEGImages/c.jpg', photograph())
    put('context/trainval/c.mat', rng.randint(1, 460, (9, 13)).astype(np.uint16), 'LabelMap')
    depth = Image.fromarray(rng.randint(700, 9000, (9, 13)).astype(np.uint16))
    os.makedirs(os.path.join(folder, 'nyud/data/depth'))
    depth.save(os.path.join(folder, 'nyud/data/depth/img_5001.png'))
    os.makedirs(os.path.join(folder, 'pascal/VOC2010/ImageSets/Main'))
    for path, name in (('sift/test.txt', 'a'), ('nyud/test.txt', '5001'), ('pascal/VOC2010/ImageSets/Main/test.txt', 'c')):
        with open(os.path.join(folder, path), 'w') as f:
            f.write(name)
    import caffe
    arrays = []
    for kind, params, name in (
            (SIFTFlowSegDataLayer, dict(siftflow_dir=os.path.join(folder, 'sift')), 'a'),
            (NYUDSegDataLayer, dict(nyud_dir=os.path.join(folder, 'nyud'), tops=['color', 'depth', 'hha', 'label']), '5001'),
            (PASCALContextSegDataLayer, dict(voc_dir=os.path.join(folder, 'pascal'),
                                             context_dir=os.path.join(folder, 'context')), 'c')):
        layer = kind(str(dict(params, split='test')))
        layer.setup([], [caffe.Blob() for _ in params.get('tops', kind.tops)])
        arrays += layer.load(name)
    # numpy's float32 logarithms differ in the last bit between versions
    return digest(*[np.round(array, 4) if len(array) == 1 and array.dtype == np.float32 else array for array in arrays])


def fed(folder):
    """What infer.py would feed a net of two inputs."""
    other_data_layers(folder)    # for its files
    import infer
    import inputs
    plan = inputs.plan(os.path.join(ROOT, 'nyud-fcn32s', 'color-hha-deploy.prototxt'))
    paths = [os.path.join(folder, 'nyud', 'data', kind, 'img_5001.png') for kind in ('images', 'hha')]
    given = {inputs.PHOTOGRAPHS: paths[:1], inputs.HHA: paths[1:], inputs.DEPTH: []}
    (matched,) = infer.matched(plan.feeds, given)
    assert matched == paths and infer.outputs([matched], 'out') == {paths[0]: os.path.join('out', 'img_5001')}
    return '%s %s %s' % (digest(*[feed.read(path) for feed, path in zip(plan.feeds, matched)]),
                         '; '.join(feed.said for feed in plan.feeds), plan.names['label'][0])


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
    for script in [path for path in files() if os.path.basename(path) == 'net.py']:
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
            shown += [emitted] + (explain.table(explain.explain(read, (375, 500))) if 'classifier' not in name else [])
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


def training(folder):
    """A solve.py from its command line to its score, interrupted and gone on with, on a solver of the stand-in."""
    import caffe
    import caffemodel
    import numpy as np
    import prototxt
    import recipe
    import snapshots
    import voc_layers
    from caffe.proto import caffe_pb2

    class Conv(caffe.Layer):
        def __init__(self, *shape):
            caffe.Layer.__init__(self)
            self.type, self.blobs = 'Convolution', [caffe.Blob(*shape)]

        def setup(self, bottom, top):
            pass

        reshape = forward = setup

    class Solver(object):
        """Learns nothing: each step adds something of the image, and something random, to the weights."""

        def __init__(self, path):
            self.param = prototxt.read(path, caffe_pb2.SolverParameter())
            self.net, test = [self.make(name) for name in (self.param.train_net, self.param.test_net[0])]
            self.test_nets, self.iter, self.callbacks = [test], 0, []

        def make(self, path):
            source = prototxt.read(path, caffe_pb2.NetParameter()).layer[0]
            layer = getattr(voc_layers, source.python_param.layer)(source.python_param.param_str)
            net = caffe.Net([('data', layer, [], ['data', 'label']), ('conv1', Conv(2, 3, 1, 1), [], []),
                             ('score_fr', Conv(21, 2, 1, 1), [], [])])
            layer.type = 'Python'
            for name in ('score', 'loss'):
                net.blobs[name] = caffe.Blob(1, 21, 2, 3) if name == 'score' else caffe.Blob(1)
            net.forward = lambda: self.forward(net)
            return net

        def forward(self, net):
            caffe.Net.forward(net)
            net.blobs['score'].reshape(1, 21, *net.blobs['label'].data.shape[2:])
            net.blobs['score'].data[0] += net.params['score_fr'][0].data.sum((1, 2, 3))[:, None, None]
            net.blobs['loss'].data[...] = np.log(21) * np.count_nonzero(net.blobs['label'].data != 255)

        def add_callback(self, start, ready):
            self.callbacks.append(ready)

        def step(self, steps):
            for _ in range(steps):
                self.net.forward()
                for ready in self.callbacks:
                    ready()
                self.net.params['score_fr'][0].data[...] += self.net.blobs['data'].data.mean() + np.random.rand(21, 2, 1, 1)
                self.iter += 1

        def snapshot(self):
            model, state = snapshots.paths(self.param.snapshot_prefix, self.iter)
            caffemodel.write(model, [(name, 'Convolution', [blob.data for blob in blobs])
                                     for name, blobs in sorted(self.net.params.items())])
            message = caffe_pb2.SolverState(iter=self.iter, learned_net=model)
            for layer in caffemodel.read(model):
                history = message.history.add()
                history.shape.dim.extend(layer.blobs[0].shape)
                history.data.extend(layer.blobs[0].ravel().tolist())
            with open(state, 'wb') as f:
                f.write(message.SerializeToString())

        def restore(self, path):
            self.iter, model, _ = caffemodel.read_state(path)
            for layer in caffemodel.read(model):
                self.net.params[layer.name][0].data[...] = layer.blobs[0]

    caffe.get_solver, caffe.set_random_seed, caffe.init_log = Solver, np.random.seed, lambda level, stderr: None
    caffe.log = lambda text: None
    caffe.layer_type_list = lambda: [layer.type for layer in fcn(data, 21).layer]
    data = [caffe.layers.Python(module='voc_layers', layer='VOCSegDataLayer', ntop=2)]

    def fcn(tops, classes):
        net = caffe_pb2.NetParameter()
        source = tops[0].fn if hasattr(tops[0], 'fn') else tops[0][0].fn
        net.layer.add(name='data', type='Python', top=['data', 'label']).python_param.MergeFrom(
            caffe_pb2.PythonParameter(**source.params))
        net.layer.add(name='score_fr', type='Convolution', bottom=['data'], top=['score'])
        loss = net.layer.add(name='loss', type='SoftmaxWithLoss', bottom=['score', 'label'], top=['loss'])
        loss.loss_param.normalize = False
        return net

    class Net(object):
        """A net.py."""

    Net.fcn = staticmethod(fcn)
    voc, experiment = os.path.join(folder, 'voc'), os.path.join(folder, 'experiment')
    os.mkdir(experiment)
    lists = os.path.join(voc, 'ImageSets', 'Segmentation')
    shutil.copy(os.path.join(lists, 'val.txt'), os.path.join(lists, 'train.txt'))
    with open(os.path.join(experiment, 'solver.prototxt'), 'w') as f:
        f.write('train_net: "t" test_net: "v" test_iter: 1 snapshot: 2 base_lr: 1 iter_size: 1')

    def solve():
        with recipe.begin(os.path.join(experiment, 'solve.py'), Net, steps=4, rounds=2, base='../nowhere.caffemodel') as run:
            if run.fresh:
                run.load()
            for _ in run.rounds():
                run.step()
                run.score()

    here, ends = os.getcwd(), []
    for name, interrupted in (('whole', False), ('parts', True)):
        sys.argv = ['solve.py', '--data', voc, '--weights', 'random', '--run', name, '--keep', '0']
        assert recipe.main(solve) == 0
        run = os.path.join(experiment, 'run', name)
        if interrupted:     # as if killed while the snapshot of iteration 6 was written
            for end in ('6.solverstate', '8.solverstate', '8.caffemodel'):
                os.remove(os.path.join(run, 'snapshot', 'train_iter_' + end))
            assert recipe.main(solve) == 0
        with open(os.path.join(run, 'snapshot', 'train_iter_8.caffemodel'), 'rb') as f:
            ends.append(hashlib.sha256(f.read()).hexdigest()[:16])
        with open(os.path.join(run, 'train.log')) as f:
            assert ('goes on from' in f.read()) == interrupted
    os.chdir(here)
    assert ends[0] == ends[1], ends
    return ends[0]


def reports(folder):
    """The report of a run and TensorBoard's records, byte for byte; what evaluate.py and compare.py tell, too."""
    import io
    import json
    import compare  # noqa: F401  that they can be imported
    import comparison
    import evaluate
    import events
    import netdiff
    import numpy as np
    import prototxt
    import report
    import score
    from caffe.proto import caffe_pb2
    run = os.path.join(folder, 'voc-fcn32s', 'run', 'voc')
    os.makedirs(run)
    hist = np.array([[60, 5], [10, 20]])
    row = dict(score.metrics(hist), iteration=4, loss=2.5, seconds=1., sha256='f' * 64, weights='w', images=736)
    for name, held in (('metrics.jsonl', row), ('run.json', {'experiment': 'voc-fcn32s', 'weights': [{'file': u'\xe4<b>'}]}),
                       ('confusion.json', score.confusion(4, [('label', hist)], {'label': [u'a & \xe4', 'b']}))):
        with open(os.path.join(run, name), 'w') as f:
            f.write(json.dumps(held) + '\n')
    with open(os.path.join(run, 'train.log'), 'w') as f:
        f.write('I1120 17:00:31.199579 25748 solver.cpp:239] Iteration 20, loss = 7e+04\n')
    with io.open(report.write(run), encoding='utf-8') as f:
        html = f.read()
    assert u'a &amp; \xe4' in html and u'\xe4&lt;b&gt;' in html and 'published mean IU' in html
    record = events.record(events.event(1.5e9, 4000, events.summary([(u'val/\xe4', .5)])))
    net = prototxt.read(os.path.join(ROOT, 'voc-fcn8s', 'val.prototxt'), caffe_pb2.NetParameter())
    other = prototxt.read(os.path.join(ROOT, 'voc-fcn16s', 'val.prototxt'), caffe_pb2.NetParameter())
    differ = netdiff.definitions(net, other)
    blobs = netdiff.parameters([('a', [np.ones((2, 3))]), ('b', [np.ones(2)])], [('a', [np.full((2, 3), 2.)])])
    result = {'definitions': [[d._asdict() for d in differ], []], 'parameters': [b._asdict() for b in blobs], 'tasks': [],
              'not_compared': u'\xe4', 'published': [], 'experiment': 'x', 'variant': None, 'net': 'n', 'caffe': 'c',
              'trained': [(None, None)] * 2,
              'version': 'v', 'files': [{'weights': '/x/a', 'sha256': 's'}, {'weights': '/x/b', 'sha256': 's'}]}
    result['verdict'] = comparison.verdict(result)
    comparison.write(run, result)
    cells = {'loss': 1., 'finite': True, 'classes': 2, 'cells': [[0, 0, 3], [1, 0, 1]]}
    summed = evaluate.summed({0: {'id': 'a', 'tasks': [cells]}}, [score.Task('label', 'score', 'label', 'loss')], {})
    told = '\n'.join(u'%s' % line for line in comparison.lines(result)) + repr(summed[0]['mean_iu'])
    return '%d differences, %s' % (len(differ), ' '.join(hashlib.sha256(data).hexdigest()[:16] for data in (
        html.encode('utf-8'), record, told.encode('utf-8'))))


def own_experiment(folder):
    """A folder of photographs and coloured masks becomes a data set, and the files of an experiment on it."""
    import experiment_files
    import lint_labels
    import numpy as np
    import own_data
    import prefetch
    from PIL import Image
    rng, colors = np.random.RandomState(1), np.array([[0, 0, 0], [9, 8, 7], [1, 2, 3]], dtype=np.uint8)
    for sub in ('images', 'masks'):
        os.makedirs(os.path.join(folder, sub))
    for name in 'abcdefghij':
        Image.fromarray(rng.randint(0, 256, (7, 9, 3)).astype(np.uint8)).save(os.path.join(folder, 'images', name + '.png'))
        mask = colors[rng.randint(0, 3, (7, 9))]
        Image.fromarray(mask).save(os.path.join(folder, 'masks', name + '_L.png'))
    with open(os.path.join(folder, 'classes.txt'), 'w') as f:
        f.write('0 0 0 void\n9 8 7 cat\n1 2 3 dog\n')
    data, out = own_data.read(folder, say=lambda line: None), os.path.join(folder, 'out')
    own_data.write(data, out)
    histogram, count, problems = lint_labels.lint(out, 2)
    assert (count, problems) == (10, []), problems
    texts = experiment_files.texts('mine', experiment_files.BASES['voc-fcn8s'], data, 63.)
    for name, text in texts.items():
        if name.endswith('.py'):
            compile(text.encode('ascii'), name, 'exec')
    ahead = prefetch.Prefetch(lambda name: name.upper())
    ahead.begin('a')
    assert ahead.take('a') + ahead.take('b') == 'AB'
    return '%s %s %s' % (','.join(data.val), histogram[[0, 1, 255]].tolist(),
                         hashlib.sha256(''.join(texts[name] for name in sorted(texts)).encode('ascii')).hexdigest()[:8])


CHECKS = [data_order, data_layers, other_data_layers, fed, scoring, pictures, linting, nets, weights, operations, training,
          reports, own_experiment]


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
