"""What every solve.py does around its own lines: arguments, device, nets for your data, where it starts, messages.

    def solve():
        with recipe.begin(__file__, net, steps=4000, rounds=25, base='../voc-fcn16s/voc-fcn16s.caffemodel') as run:
            if run.fresh:
                run.load()
                surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])
            for _ in run.rounds():
                run.step()
                run.score()

What a run is, and what it leaves behind: training.py.
"""
from __future__ import division, print_function

import argparse
import collections
import errno
import os
import sys

import learning
import prototxt
import published
from which_caffe import caffe
from caffe.proto import caffe_pb2
from dataset import DataSet
from training import Base, RecipeError, Run, set_aside  # noqa: F401  for scripts, which know them by this module


def main(solve):
    """Call solve(); returns the exit status. What is wrong is one message; its traceback is in train.log."""
    try:
        solve()
    except KeyboardInterrupt:
        print('stopped; run again to go on from the last snapshot', file=sys.stderr)
        return 130
    except (ValueError, EnvironmentError, RuntimeError) as error:     # the embedded Caffe's errors are RuntimeErrors
        print('%s: %s' % (os.path.basename(sys.argv[0]), message(error)), file=sys.stderr)
        return 1
    return 0


def message(error):
    """What an error says, with the whole path of the file: a recipe works in its own folder, not where it was called."""
    text, name = str(error), getattr(error, 'filename', None)
    if name is not None and getattr(error, 'strerror', None):
        text = '%s: %s' % (os.path.abspath(name), error.strerror)
    if getattr(error, 'errno', None) == errno.ENOSPC:
        text += '; the disk is full: free some space, then run again'
    elif getattr(error, 'errno', None) in (errno.EACCES, errno.EPERM, errno.EROFS):
        text += '; make it writable for you, or work in a copy of the repository'
    return text


# -- the command line --------------------------------------------------------------------------------------------------
def options(description, steps=None, rounds=None, weights=True, variants=()):
    """The parser of the arguments all recipes have. steps, rounds: the recipe's own, None for a recipe of several."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('gpu', nargs='?', type=int, help='number of the GPU; without one, the CPU')
    parser.add_argument('--data', help='a data set in VOC layout to train on and score, in place of the paper\'s')
    parser.add_argument('--run', type=plain_name, metavar='NAME',
                        help='name of the run, its folder under run/ (default: after the data and the options)')
    parser.add_argument('--fresh', action='store_true', help='begin anew; an earlier run is kept under another name')
    parser.add_argument('--keep', type=int, default=2, help='how many snapshots to keep; 0: all (default 2, and the best)')
    if weights:
        if variants:
            parser.add_argument('--variant', choices=sorted(variants), help='another net, see VARIANTS in net.py')
        parser.set_defaults(variant=None)
        parser.add_argument('--learning', choices=sorted(learning.WAYS),
                            help='another way to learn from as many images, see tools/learning.py')
        parser.add_argument('--weights', action='append', metavar='FILE',
                            help='caffemodel to start from, or "random" for a random trunk; once for each that is wanted')
        parser.add_argument('--start', metavar='FILE', help='write the weights that the training starts from, and end')
        parser.add_argument('--steps', type=int, help='steps a round (default %s)' % steps)
        parser.add_argument('--rounds', type=int, default=rounds, help='rounds (default %(default)s)')
    return parser


def plain_name(text):
    """The name of a folder under run/; ArgumentTypeError for what is a path or would be hidden."""
    if not text or text != os.path.basename(text) or text.startswith('.'):
        raise argparse.ArgumentTypeError('%r is no plain name for a folder; wanted one without /, that does not begin with '
                                         'a dot' % text)
    return text


def use_device(gpu):
    """Choose the GPU of this number, or the CPU if None; returns its name."""
    if gpu is None:
        caffe.set_mode_cpu()
        return 'CPU'
    caffe.set_device(gpu)
    caffe.set_mode_gpu()
    return 'GPU %d' % gpu


# -- from the command line to a run ------------------------------------------------------------------------------------
def begin(script, net, steps, rounds, base, splits=('train', 'val'), variant=None, foreground=False):
    """The Run of an experiment, from its command line.

    script: its solve.py. net: the module net.py, with fcn(data, classes, **options) and, if it has variants, VARIANTS:
    their names and options. base: the file to start from, see baseweights.find, or a Base, or a list of Bases; or one of
    these for each variant. splits: the prototxts to train and to score with. variant: the default one, of an experiment
    that has nothing else. foreground: score it also without class 0.

    Nets are the committed prototxts; with --data, or for a variant that none are committed of, they are emitted into the
    run's folder.
    """
    doc = sys.modules['__main__'].__doc__
    variants = getattr(net, 'VARIANTS', {})
    args = options(doc.splitlines()[0] if doc else None, steps, rounds, variants=variants).parse_args()
    data = DataSet(args.data) if args.data else None
    weights, start = named_weights(args.weights), os.path.abspath(args.start) if args.start else None
    if start and not os.path.isdir(os.path.dirname(start)):
        raise RecipeError('--start %s: there is no folder %s' % (args.start, os.path.dirname(start)))
    os.chdir(os.path.dirname(os.path.abspath(script)))
    variant = args.variant or variant
    prefix, experiment = variant + '-' if variant else '', os.path.basename(os.getcwd())
    solver = first_there(prefix + 'solver.prototxt', 'solver.prototxt')
    if args.learning:
        ratio = learning.steps_ratio(prototxt.read(solver, caffe_pb2.SolverParameter()), args.learning)
        steps = max(int(round(steps * ratio)), 1)

    own = os.path.exists('classes.txt')     # an experiment that new_experiment.py has made is called after its data
    origin = data.name if data else experiment if own else experiment.split('-')[0]
    suffix = '-' + args.learning if args.learning else ''
    name = args.run or origin + ('-' + variant if variant else '') + suffix
    base = base[variant] if isinstance(base, dict) else base
    if isinstance(base, (list, Base)):
        bases = [wanted._replace(runs=once(run + end for run in wanted.runs for end in (suffix, '')))
                 for wanted in (base if isinstance(base, list) else [base])]
    else:
        bases = [Base(base, once([name, origin + suffix, origin]), '')]
    if weights is not None and weights != ['random'] and len(weights) != len(bases):
        raise RecipeError('--weights names %d files; wanted %d, for %s' % (len(weights), len(bases), ' and '.join(
            wanted.file for wanted in bases)))

    nets = choose_nets(net, splits, prefix, variants.get(variant, {}), data)
    return Run(os.path.join('run', name), solver, nets[0], nets[1], steps if args.steps is None else args.steps,
               args.rounds, device=use_device(args.gpu), base=bases, weights=weights, fresh=args.fresh, keep=args.keep,
               names={'label': data.classes} if data else published.class_names(experiment, '..'), data=data and data.root,
               variant=variant, learning=args.learning, start=start, foreground=foreground and data is None)


def named_weights(named):
    """What --weights says, as absolute paths, or ['random'], or None. RecipeError for a file that is not there."""
    if named is None or named == ['random']:
        return named
    for path in named:
        if not os.path.isfile(path):
            raise RecipeError('%s: no such file; wanted a caffemodel, or --weights random' % os.path.abspath(path))
    return [os.path.abspath(path) for path in named]


def once(names):
    """The names in their order, each once."""
    return list(collections.OrderedDict.fromkeys(names))


def first_there(*paths):
    """The first of some files that there is, or else the last."""
    return next((path for path in paths if os.path.exists(path)), paths[-1])


def choose_nets(net, splits, prefix, variant, data):
    """The two nets of a run, as files or as NetParameters. variant: options of net.fcn. data: a DataSet, or None."""
    files = ['%s%s.prototxt' % (prefix, split) for split in splits]
    if data is None and all(os.path.exists(path) for path in files):
        return files
    committed = [first_there(path, split + '.prototxt') for path, split in zip(files, splits)]
    if data is None:
        return [net.fcn(committed_data(path), **variant) for path in committed]
    if os.path.exists(committed[0]) and len(data_layer(committed[0]).top) != 2:
        raise RecipeError('--data: this net reads %s; a data set in VOC layout has images and one label a pixel, no more'
                          % ', '.join(data_layer(committed[0]).top))
    return [net.fcn(data.layer(split), len(data.classes), **variant) for split in (data.train, data.val)]


def data_layer(path):
    """The data layer (LayerParameter) of a committed prototxt, which is its first."""
    return prototxt.read(path, caffe_pb2.NetParameter()).layer[0]


def committed_data(path):
    """The tops of the data layer of a committed prototxt, for a net to be made on."""
    layer = data_layer(path)
    param = layer.python_param
    return caffe.layers.Python(module=str(param.module), layer=str(param.layer), ntop=len(layer.top),
                               param_str=str(param.param_str))
