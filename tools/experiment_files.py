"""The files of a new experiment: net.py, solve.py, solver.prototxt, classes.txt; made from those of the one it starts from.

They are to be read, and changed, like the ones written by hand: the net stands in net.py from top to bottom.
"""
from __future__ import division, print_function

import collections
import io
import os
import re

import nyud_layers
import pascalcontext_layers
import prototxt
import segfiles
import siftflow_layers
from parts import VOC_MEAN
from which_caffe import caffe  # noqa: F401  it decides whose caffe_pb2 that is
from caffe.proto import caffe_pb2

# What a new experiment can start from. name: it's an experiment's, mostly. template: the experiment whose net it gets.
# solver: that one's, for what is not said here. weights, runs: the file, and runs to look in before, see baseweights.find.
# classes: file with the classes that the weights know. heads: what their score layers have after their names. mean: of the
# pixels they were trained on (blue, green, red). rate: learning rate at `pixels` pixels an image; for a loss that is a mean
# over pixels, pixels is None. remedy: what to do if the weights are not there.
Base = collections.namedtuple('Base', 'name template solver weights runs classes heads mean rate pixels remedy')
VOC_PIXELS = 180000     # of a photograph of PASCAL VOC, about: 500 x 375
SHAPES_PIXELS = 192 * 256
SIFT_MEAN = siftflow_layers.SIFTFlowSegDataLayer.mean
NYUD_MEAN = nyud_layers.NYUDSegDataLayer.mean
CONTEXT_MEAN = pascalcontext_layers.PASCALContextSegDataLayer.mean
ROUNDS = 5
SHOWN = 4               # times that each image is shown in a round, on average


def _bases():
    """{name: Base}, in the order in which they are offered."""
    def base(name, template, runs, classes, mean, heads='', rate=1e-10, pixels=VOC_PIXELS, file=None):
        file = file or name + '.caffemodel'
        url = '-'.join([file.split('.')[0]] * (file != name + '.caffemodel') + ['caffemodel-url'])
        return Base(name, template, 'solver.prototxt', '../%s/%s' % (name, file), runs, '../data/%s/classes.txt' % classes,
                    heads, mean, rate, pixels, 'the released weights: see %s/%s' % (name, url))
    # the rate of FCN-32s for all on VGG16: their score layers begin at zero, too, or are to change
    bases = [base(name, name, ['voc'], 'pascal', VOC_MEAN)
             for name in ('voc-fcn8s', 'voc-fcn16s', 'voc-fcn32s', 'voc-fcn8s-atonce')]
    bases += [base(name, name, ['voc'], 'pascal', VOC_MEAN, rate=rate, pixels=None)
              for name, rate in (('voc-fcn-alexnet', 1e-4), ('voc-fcn-googlenet', 5e-5))]
    for stride in ('8s', '16s', '32s'):
        voc = 'voc-fcn' + stride
        bases.append(base('pascalcontext-fcn' + stride, voc, ['pascalcontext'], 'pascal-context', CONTEXT_MEAN))
        bases.append(base('siftflow-fcn' + stride, voc, ['siftflow'], 'sift-flow', SIFT_MEAN, heads='_sem'))
    bases.append(base('nyud-fcn32s', 'voc-fcn32s', ['nyud-color'], 'nyud', NYUD_MEAN, file='color.caffemodel'))
    bases.append(Base('shapes', 'shapes', 'fcn8s_solver.prototxt', '../shapes/run/shapes/fcn8s/best.caffemodel', [],
                      '../data/shapes/classes.txt', '', VOC_MEAN, 3e-9, SHAPES_PIXELS,
                      'the demo makes them in about 3 minutes: make demo, or python shapes/solve.py'))
    return collections.OrderedDict((base.name, base) for base in bases)


BASES = _bases()


def texts(name, base, data, pixels):
    """{file name: text} of the experiment `name`. base: a Base. data: an OwnData. pixels: of a training image, the mean."""
    recipe = prototxt.read(os.path.join(segfiles.ROOT, base.template, base.solver), caffe_pb2.SolverParameter())
    steps = max(SHOWN * len(data.train) // recipe.iter_size, 100)
    source, title = net(name, base, len(data.classes.names))
    return {'net.py': source, 'solve.py': solve(name, title, base, steps),
            'solver.prototxt': solver(base, recipe, len(data.train), len(data.val), steps, pixels),
            'classes.txt': '\n'.join(data.classes.names) + '\n'}


def pixels(folder, ids):
    """The mean number of pixels of some images of a data set in VOC layout."""
    sizes = [segfiles.image_size(os.path.join(folder, 'JPEGImages', name + '.jpg')) for name in ids]
    return sum(width * height for width, height in sizes) / len(sizes)


# -- net.py ------------------------------------------------------------------------------------------------------------
SHAPES_DOC = '''"""FCN-8s, narrow.

    data -> conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 pool5 -> fc6 fc7 -> score_fr
                                            |           |                                | 2x
                                            |      score_pool4 -> crop  ------------> fuse_pool4
                                            |                                            | 2x
                                       score_pool3 -> crop  ------------------------> fuse_pool3
                                                                                         | 8x
                                                                                      upscore8 -> crop to data: score

One convolution a stage, 8 to 256 channels, where VGG16 has two or three and 64 to 4096.

`python shapes/net.py` writes
"""
'''
NETS = '''

def own_data(split):
    """(data, label) of the images in the list `split` of data/{name}."""
    return python_data('voc_layers', 'VOCSegDataLayer', [
        ('voc_dir', '../data/{name}'), ('seed', 1337), ('split', split), ('mean', MEAN), ('classes', CLASSES)])


def nets():
    """The net of every prototxt in this folder, by its name."""
    val = fcn(own_data('val'))
    return dict(train=fcn(own_data('train')), val=val, deploy=deploy(val))


if __name__ == '__main__':
    write_nets(__file__, nets())
'''
# of a template: what does not belong to a net with one purpose
DROPPED = ('VARIANTS', 'CLASSES', 'BATCH', 'classifier', 'crops', 'scenes', 'nets', 'if')
# score layers on pool4 and pool3 learn at the rates at which the papers' FCN-16s and FCN-8s learn them
RATES = (('rate=1)', 'rate=0.01)'), ('rates=(1, 1))', 'rates=(0.01, 0.0001))'))


def net(name, base, classes):
    """(net.py, what the net is called): that of the Base's template, for other data and so many classes."""
    with io.open(os.path.join(segfiles.ROOT, base.template, 'net.py'), encoding='utf-8') as f:
        source = f.read()
    blocks = top_level(source)
    first = next(i for i, (what, _) in enumerate(blocks) if what == 'imports')
    doc = SHAPES_DOC if base.template == 'shapes' else ''.join(text for _, text in blocks[:first])
    title = doc[3:doc.index('\n')].split(':')[0].rstrip('.').split(',')[0]
    doc = ('"""%s for the images of data/%s: %d classes, fine-tuned from %s.%s`python %s/net.py` writes train.prototxt, '
           'val.prototxt and deploy.prototxt beside it.\n"""\n'
           % (title, name, classes, base.name, doc[doc.index('\n'):doc.index('`python ')], name))
    body = ''.join(text for what, text in blocks[first + 1:] if what not in DROPPED)
    body = body.replace('def fcn(stride, data, classes=CLASSES, fixed=False):', 'def fcn(data, classes=CLASSES, stride=8, '
                        'fixed=False):').replace('classes=21', 'classes=CLASSES')
    if base.template in ('voc-fcn16s', 'voc-fcn8s'):
        for old, new in RATES:
            body = body.replace(old, new)
    rest = NETS.format(name=name)
    imports = needed(blocks[first][1], body + rest)
    constants = ('CLASSES = %d%s# their names are in classes.txt\n'
                 'MEAN = %r    # blue, green, red; of what %s was trained on\n') % (classes, ' ' * 12, base.mean, base.name)
    return doc + imports.rstrip('\n') + '\n\n' + constants + body.rstrip('\n') + '\n' + rest, title


def top_level(source):
    """[(what, text)] of a module's parts: 'doc', 'imports', then the name of each constant and function, comments before.

    The parts of the text, one after the other, are the text.
    """
    starts, lines = [(0, 'doc')], source.splitlines(True)
    begin = next(i for i, line in enumerate(lines) if line.startswith('from __future__'))
    starts.append((begin, 'imports'))
    for i, line in enumerate(lines[begin:], begin):
        found = re.match(r'(?:def )?(\w+)', line)
        if not found or re.match(r'(import|from|sys)\b', line):
            continue
        what, start = found.group(1), i
        while lines[start - 1].startswith('#') or not lines[start - 1].strip():
            start -= 1
        starts.append((start, what))
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    return [(what, ''.join(lines[start:end])) for (start, what), end in zip(starts, ends)]


def needed(imports, text):
    """A block of imports without the names that `text` does not use; from `parts` with those that NETS uses."""
    out = []
    for line in imports.splitlines():
        found = re.match(r'(from (\w+) import |import )(.*)$', line)
        if found and not re.search(r'__future__|which_caffe|^import (os|sys)$', line):
            names = set(found.group(3).split(', '))
            if found.group(2) == 'parts':
                names |= set(['python_data', 'deploy', 'write_nets'])
            used = [n for n in names if re.search(r'\b%s\b' % n.split(' as ')[-1], text)]
            order = sorted(used, key=lambda n: (not n.isupper(), n))
            line = found.group(1) + ', '.join(order) if used else None
        if line is not None:
            out.append(line)
    return '\n'.join(out) + '\n'


# -- solve.py ----------------------------------------------------------------------------------------------------------
SOLVE = '''"""{title} on data/{name}, from {base}: {rounds} rounds of {steps} steps, a scoring after each; then pictures.

    python {name}/solve.py [GPU] [--weights FILE]
"""
from __future__ import division, print_function

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools'))
import pictures
import recipe
import surgery
import net


def solve():
    base = recipe.Base('{weights}', {runs!r}, '')
    with recipe.begin(__file__, net, steps={steps}, rounds={rounds}, base=base) as run:
        if run.fresh:
            # the trunk, and the scores of those classes that are in this file by the same name; the others start at zero
            run.load(classes='{classes}'{heads})
            # upsampling is bilinear, and stays so: these layers have a learning rate of zero
            surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])

        for _ in run.rounds():
            run.step()
            run.score()
        pictures.write(run)


if __name__ == '__main__':
    sys.exit(recipe.main(solve))
'''


def solve(name, title, base, steps):
    """solve.py: rounds of so many steps, from the weights of the Base. title: what the net is called."""
    return SOLVE.format(title=title, base=base.name, name=name,
                        rounds=ROUNDS, steps=steps, weights=base.weights, runs=base.runs, classes=base.classes,
                        heads=', heads=%r' % base.heads if base.heads else '')


# -- solver.prototxt -----------------------------------------------------------------------------------------------------
SOLVER = '''# Paths are relative to this folder, which solve.py makes the working directory.
train_net: "train.prototxt"
test_net: "val.prototxt"
# one forward for each of the {val} images of val
test_iter: {val}
# never: solve.py scores the test net itself, between rounds of steps
test_interval: 999999999
test_initialization: false
display: 20
# the loss of one image says little: show the mean of the last 20
average_loss: 20
lr_policy: "fixed"
# {why}
base_lr: {rate}
{momentum}
# {rounds} rounds; in each, each of the {train} images to train on is shown about {times} times
max_iter: {total}
weight_decay: {decay}
snapshot: {steps}
snapshot_prefix: "snapshot/train"
'''


def solver(base, recipe, train, val, steps, own_pixels):
    """solver.prototxt: as the template's (`recipe`, a SolverParameter), but for the learning rate and how long it learns."""
    if base.pixels is None:
        rate, why = base.rate, 'that of %s, whose loss is a mean over the pixels, as this one' % base.template
    else:
        rate = float('%.2g' % (base.rate * base.pixels / own_pixels))
        why = ('the loss is a sum over pixels, here {:,.0f} an image; {} learns from images of {:,} at {}'
               .format(own_pixels, 'the demo' if base.template == 'shapes' else 'FCN-32s', base.pixels, number(base.rate)))
    if recipe.iter_size == 1:
        momentum = ('# high, because a step sees one image: the update is a mean over about the last hundred of them\n'
                    'momentum: %g' % recipe.momentum)
    else:
        momentum = 'momentum: %g\n# a step sees so many images, one after another\niter_size: %d' % (recipe.momentum,
                                                                                                  recipe.iter_size)
    return SOLVER.format(val=val, train=train, why=why, rate=number(rate), momentum=momentum, rounds=ROUNDS,
                         times=int(steps * recipe.iter_size / train + 0.5), total=ROUNDS * steps,
                         decay=number(recipe.weight_decay), steps=steps)


def number(value):
    """A number as people write it: 1e-10."""
    return ('%.6g' % value).replace('e-0', 'e-')
