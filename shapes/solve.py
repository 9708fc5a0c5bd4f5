"""The paper's staircase in miniature: a classifier, FCN-32s with its trunk fixed, FCN-32s, FCN-16s, FCN-8s.

    python shapes/solve.py [GPU] [--data DIR]

Without --data it draws its own scenes (data/shapes/prepare.py). With it, any data set in VOC layout: the classifier
then learns windows cut around pixels of each class. Ends with the paper's table, run/<name>/table.txt, and two
pictures beside it: grid.png (image, truth, 32s, 16s, 8s) and curves.png. Stopped, it goes on where it was.
"""
from __future__ import division, print_function

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import curves
import dataset
import recipe
import runlog
import segfiles
import surgery
import crops
import net
import summary

STAIRCASE = (   # stage, stride, stage whose weights it starts from, steps a round, rounds
    ('fcn32s-fixed', 32, 'classifier', 125, 2),
    ('fcn32s', 32, 'classifier', 300, 3),
    ('fcn16s', 16, 'fcn32s', 300, 2),
    ('fcn8s', 8, 'fcn16s', 300, 2))
PIXELS = 192 * 256      # of a scene; the learning rates go with a loss that is the sum over so many


def solve():
    parser = recipe.options(__doc__.splitlines()[0], weights=False)
    parser.add_argument('--effort', type=float, default=1., help='times as many steps (default 1)')
    args = parser.parse_args()
    data, begun = dataset.DataSet(args.data) if args.data else None, time.time()
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    if data is None:
        data = scenes()
    root = os.path.join('run', args.run or (data.name if args.data else 'shapes'))
    if args.fresh:
        recipe.set_aside(root)
    own = data if args.data else None
    common = dict(device=recipe.use_device(args.gpu), keep=args.keep,
                  names={'label': data.classes}, data=args.data and data.root)

    weights = dict(classifier=train_classifier(root, own, args.effort, common))
    rows = []
    for stage, stride, base, steps, rounds in STAIRCASE:
        row, weights[stage] = train_fcn(root, stage, stride, weights[base], own, effort(steps, args.effort), rounds, common)
        rows.append((stage, row))

    summary.table(root, rows)
    with runlog.Capture(os.path.join(root, 'grid.log')):
        summary.grid(root, data, weights, net)
    curves.draw_runs([os.path.join(root, stage) for stage, _ in rows], os.path.join(root, 'curves.png'))
    print('curves:   %s' % os.path.abspath(os.path.join(root, 'curves.png')))
    print('this took %.0f s' % (time.time() - begun))


def train_classifier(root, own, factor, common):
    """Train the classifier and make it convolutional; returns the path of the trunk's weights."""
    solver, nets = 'classifier_solver.prototxt', ['classifier_train.prototxt', 'classifier_val.prototxt']
    if own:
        pictures = os.path.abspath(os.path.join(root, 'crops'))
        if not os.path.isdir(pictures):
            crops.cut(own, pictures)
        nets = [net.classifier(net.crops(split, len(own.classes), pictures), len(own.classes)) for split in ('train', 'val')]
    with recipe.Run(os.path.join(root, 'classifier'), solver, nets[0], nets[1], effort(350, factor), 2, stretch=factor,
                    score=accuracy, key='accuracy', **common) as run:
        for _ in run.rounds():
            run.step()
            run.score()
        trunk = run.path('trunk.caffemodel')
        # the fully connected layers become convolutions that slide over an image of any size
        surgery.convolutionalize(run.path('best.caffemodel'), trunk)
    return trunk


def train_fcn(root, stage, stride, base, own, steps, rounds, common):
    """Train one FCN from the weights `base`; returns its best row of metrics and the path of those weights."""
    solver, nets = 'fcn%ds_solver.prototxt' % stride, ['%s_train.prototxt' % stage, 'fcn%ds_val.prototxt' % stride]
    if own:
        nets = [net.fcn(stride, own.layer(split), len(own.classes), fixed=stage.endswith('fixed') and split == own.train)
                for split in (own.train, own.val)]
    with recipe.Run(os.path.join(root, stage), solver, nets[0], nets[1], steps, rounds,
                    rate=PIXELS / own.pixels() if own else 1, base=[recipe.Base(base, [], '')], **common) as run:
        if run.fresh:
            run.load()
            # upsampling is bilinear, and stays so: these layers have a learning rate of zero
            surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])
        for _ in run.rounds():
            run.step()
            run.score()
        return run.best, run.path('best.caffemodel')


def accuracy(solver):
    """The classifier's accuracy and loss over the pictures of its test net."""
    test = solver.test_nets[0]
    test.share_with(solver.net)
    source = test.layers[0]
    source.rewind()
    batches = max(len(source.pictures) // source.batch, 1)
    sums = dict(accuracy=0., loss=0.)
    for _ in range(batches):
        test.forward()
        for name in sums:
            sums[name] += float(test.blobs[name].data.flat[0])
    print('>>> classifier: accuracy %.4f over %d pictures' % (sums['accuracy'] / batches, batches * source.batch))
    return dict((name, value / batches) for name, value in sums.items())


def effort(steps, factor):
    """A number of steps, `factor` times as many."""
    return max(1, int(round(steps * factor)))


def scenes():
    """The data set of generated scenes, drawn now if need be."""
    script = os.path.join('..', 'data', 'shapes', 'prepare.py')
    folder = segfiles.data_path('../data/shapes')
    if not os.path.exists(os.path.join(folder, 'prepared.json')) and subprocess.call([sys.executable, script]):
        raise recipe.RecipeError('%s: no scenes, and %s could not draw them under this Python; run it with a Python of 3.9 '
                                 'or later that has numpy, scipy and Pillow' % (folder, os.path.abspath(script)))
    return dataset.DataSet(os.path.join(folder, 'voc'))


if __name__ == '__main__':
    sys.exit(recipe.main(solve))
