"""What every solve.py does around its own lines: arguments, device, nets for your data, resume, steps, scores, files.

    def solve():
        with recipe.begin(__file__, net.fcn, steps=4000, rounds=25) as run:
            if run.fresh:
                run.load('../voc-fcn16s/voc-fcn16s.caffemodel')
                surgery.interp(run.solver.net, [name for name in run.solver.net.params if 'up' in name])
            for _ in run.rounds():
                run.step()
                run.score()

A run lives in run/<name>/ of its experiment: train.log, metrics.jsonl, snapshot/, best.caffemodel, score.txt. Killed at
any moment and started again it goes on from the newest complete snapshot, and ends (on the CPU, bit for bit) where it
would have ended: random numbers are seeded anew at each snapshot, from the iteration, and the data layer's order is
wound on to it.
"""
from __future__ import division, print_function

import argparse
import difflib
import errno
import fcntl
import json
import os
import sys
import time
import traceback

import numpy as np

import baseweights
import prototxt
import runlog
import score
import segfiles
import snapshots
import surgery
from which_caffe import WHICH, caffe, describe
from caffe.proto import caffe_pb2
from dataset import DataSet, voc_classes
from progress import Progress

SEED = 1337     # of dropout and fillers; the released recipes left these to chance


class RecipeError(ValueError):
    """A training that cannot begin or go on; the message says why and what to do."""


def main(solve):
    """Call solve(); returns the exit status. What is wrong is one message; its traceback is in train.log."""
    try:
        solve()
    except KeyboardInterrupt:
        print('stopped; run again to go on from the last snapshot', file=sys.stderr)
        return 130
    except (ValueError, EnvironmentError, RuntimeError) as error:     # the embedded Caffe's errors are RuntimeErrors
        full = getattr(error, 'errno', None) == errno.ENOSPC
        print('%s: %s%s' % (os.path.basename(sys.argv[0]), error, '; the disk is full: free some space, then run again'
                            if full else ''), file=sys.stderr)
        return 1
    return 0


# -- the command line --------------------------------------------------------------------------------------------------
def options(description, steps=None, rounds=None, weights=True):
    """The parser of the arguments all recipes have. steps, rounds: the recipe's own, None for a recipe of several."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('gpu', nargs='?', type=int, help='number of the GPU; without one, the CPU')
    parser.add_argument('--data', help='a data set in VOC layout to train on and score, in place of the paper\'s')
    parser.add_argument('--run', help='name of the run, its folder under run/ (default: voc, or the data set\'s)')
    parser.add_argument('--fresh', action='store_true', help='begin anew; an earlier run is kept under another name')
    parser.add_argument('--keep', type=int, default=2, help='how many snapshots to keep; 0: all (default 2, and the best)')
    if weights:
        parser.add_argument('--weights', help='caffemodel to start from, or "random" for a random trunk')
        parser.add_argument('--steps', type=int, default=steps, help='steps a round (default %(default)s)')
        parser.add_argument('--rounds', type=int, default=rounds, help='rounds (default %(default)s)')
    return parser


def use_device(gpu):
    """Choose the GPU of this number, or the CPU if None; returns its name."""
    if gpu is None:
        caffe.set_mode_cpu()
        return 'CPU'
    caffe.set_device(gpu)
    caffe.set_mode_gpu()
    return 'GPU %d' % gpu


def begin(script, fcn, steps, rounds):
    """The Run of an experiment, from its command line. script: its solve.py. fcn: its net.py's function.

    Without --data, the committed train.prototxt and val.prototxt; with it, nets emitted into the run's folder.
    """
    doc = sys.modules['__main__'].__doc__
    args = options(doc.splitlines()[0] if doc else None, steps, rounds).parse_args()
    data = DataSet(args.data) if args.data else None
    if args.weights and args.weights != 'random':
        args.weights = os.path.abspath(args.weights)
        if not os.path.isfile(args.weights):
            raise RecipeError('%s: no such file; wanted a caffemodel, or --weights random' % args.weights)
    os.chdir(os.path.dirname(os.path.abspath(script)))
    if data:
        nets = [fcn(data.layer(split), len(data.classes)) for split in (data.train, data.val)]
        ids, names = data.ids, data.classes
    else:
        nets, names = ['train.prototxt', 'val.prototxt'], segfiles.read_list(voc_classes())
        ids = None
    folder = os.path.join('run', args.run or (data.name if data else 'voc'))
    return Run(folder, 'solver.prototxt', nets[0], nets[1], args.steps, args.rounds, device=use_device(args.gpu), ids=ids,
               names=names, weights=args.weights, fresh=args.fresh, keep=args.keep, data=data.root if data else None)


# -- checks before Caffe sees a file -----------------------------------------------------------------------------------
def read_net(path):
    """The NetParameter of a prototxt; PrototxtError for a typo, RecipeError for a layer type there is not."""
    net = prototxt.read(path, caffe_pb2.NetParameter())
    known = set(caffe.layer_type_list())
    for layer in net.layer:
        if layer.type not in known:
            near = difflib.get_close_matches(layer.type, known, 1)
            raise RecipeError("%s: layer '%s' has the type '%s', which this Caffe does not have%s"
                              % (path, layer.name, layer.type, '; did you mean %s?' % near[0] if near else ''))
    return net


def set_aside(folder):
    """Give a folder, if it is there, another name: with the first number after it that is free."""
    if os.path.isdir(folder):
        number = next(i for i in range(1, 10000) if not os.path.exists('%s.%d' % (folder, i)))
        os.rename(folder, '%s.%d' % (folder, number))
        print('the earlier run is %s.%d now' % (os.path.abspath(folder), number))


def data_ids(net):
    """The ids that the first data layer of a net shows, in its order."""
    for layer in net.layers:
        if hasattr(layer, 'indices'):
            return list(layer.indices)
    raise RecipeError('the test net has no data layer with a list of ids (see tools/segdata.py); there is nothing to score')


# -- a run -------------------------------------------------------------------------------------------------------------
class Run(object):
    """One training in one folder; a context manager. The working directory must be the experiment's folder.

    solver: the caffe solver, made when the context is entered. fresh: True if there was no snapshot to go on from; then
    weights must be loaded. best: the row of metrics.jsonl with the highest `key`.

    folder: where all its files go. solver: prototxt of the recipe. train, val: prototxts or NetParameters. steps, rounds.
    ids: the images scored, None for those of val's data layer. score: a function of the solver that returns a dictionary
    of figures, default score.seg_tests. data, weights: what --data and --weights said. rate: a factor of base_lr.
    stretch: a factor of the solver's stepsize, for a recipe that takes more or fewer steps than its solver says.
    """

    def __init__(self, folder, solver, train, val, steps, rounds, device='CPU', ids=None, names=(), weights=None,
                 fresh=False, keep=2, data=None, rate=1, stretch=1, score=None, key='mean_iu'):
        for option, value, least in (('--steps', steps, 1), ('--rounds', rounds, 1), ('--keep', keep, 0)):
            if value < least:
                raise RecipeError('%s is %d; wanted %d or more' % (option, value, least))
        self.folder, self.steps, self.total, self.device = folder, steps, steps * rounds, device
        self.ids, self.names, self.weights, self.keep, self.key = ids, names, weights, keep, key
        self.begin_anew, self.data, self.rate, self._figures = fresh, data, rate, score or self._segmentation
        self.stretch, self._files = stretch, (solver, train, val)
        self.prefix = os.path.join(folder, 'snapshot', 'train')
        self.solver, self.fresh, self.rows = None, True, []

    def path(self, name):
        """A file in the folder of the run."""
        return os.path.join(self.folder, name)

    @property
    def best(self):
        """The row of metrics with the highest key, the first of them if there are several; None before any scoring."""
        return max(self.rows, key=lambda row: (row[self.key], -row['iteration'])) if self.rows else None

    @property
    def done(self):
        """True if the last round has been trained and scored."""
        return bool(self.rows) and self.rows[-1]['iteration'] >= self.total and os.path.exists(self.path('best.caffemodel'))

    # -- begin and end
    def __enter__(self):
        if self.begin_anew:
            set_aside(self.folder)
        if not os.path.isdir(os.path.dirname(self.prefix)):
            os.makedirs(os.path.dirname(self.prefix))
        self._lock = open(self.path('.lock'), 'a')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (IOError, OSError):
            raise RecipeError('%s: another process trains here; wait for it, or choose another name with --run'
                              % os.path.abspath(self.folder))
        self._capture = runlog.Capture(self.path('train.log'))
        self._capture.start()
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind, error, where):
        if kind is not None:
            self._capture.note(''.join(traceback.format_exception(kind, error, where)))
        self._end()

    def _end(self):
        self.solver = None
        self._capture.stop()
        self._lock.close()

    def _begin(self):
        print('%s\n%s: Caffe\'s own lines go to %s' % (describe(self.device), time.strftime('%Y-%m-%d %H:%M:%S'),
                                                      os.path.abspath(self.path('train.log'))))
        self._check_same()
        param = self._write_solver()
        _init_log()
        caffe.set_random_seed(SEED)     # for fillers
        self.solver = caffe.get_solver(self.path('solver.prototxt'))
        caffe.log('Solving %s' % self.folder)       # parsers of logs take the time from this line, which solve() would say
        if self.ids is None and self._figures == self._segmentation:
            self.ids = data_ids(self.solver.test_nets[0])
        self.batch = param.iter_size * self.solver.net.blobs['data'].data.shape[0]
        self._progress = Progress(self)
        self.solver.add_callback(lambda: None, self._progress.iteration)
        iteration = snapshots.newest(self.prefix, print)
        self.fresh = iteration is None
        self.rows = runlog.read_metrics(self.path('metrics.jsonl'))
        if self.fresh:
            self.rows = []
            return
        snapshots.check_fits(self.prefix, iteration, self.solver.net)
        self.solver.restore(snapshots.paths(self.prefix, iteration)[1])
        for layer in self.solver.net.layers:
            if hasattr(layer, 'skip'):
                layer.skip(iteration * param.iter_size)
        self.rows = [row for row in self.rows if row['iteration'] <= iteration]
        print('goes on from %s, iteration %d of %d' % (snapshots.paths(self.prefix, iteration)[1], iteration, self.total))

    def _check_same(self):
        """RecipeError if the folder holds a run of other data, or one begun from other weights than are named now."""
        record = self.path('run.json')
        if not os.path.exists(record):
            return
        with open(record) as f:
            begun = json.load(f)
        now = {'data': self.data, 'weights': self.weights or begun['weights']}
        for key in sorted(now):
            if begun[key] != now[key]:
                raise RecipeError('%s was begun with %s %s, now it is %s; choose another name with --run, or begin anew '
                                  'with --fresh' % (os.path.abspath(self.folder), key, begun[key], now[key]))

    def _write_solver(self):
        """Write the solver (and nets that are no files yet) into the run's folder; returns the recipe's SolverParameter.

        It is the recipe's, but for where files are, how many images are scored, and that snapshots are taken by `step`.
        """
        recipe, train, val = self._files
        param = prototxt.read(recipe, caffe_pb2.SolverParameter())
        self.interval = param.snapshot or self.steps
        nets = []
        for name, net in (('train', train), ('val', val)):
            path = net
            if isinstance(net, caffe_pb2.NetParameter):
                path = self.path(name + '.prototxt')
                prototxt.write(path, net, header='made for this run; %s is the data' % self.data)
            read_net(path)
            nets.append(path)
        del param.test_net[:], param.test_iter[:]
        param.train_net = nets[0]
        param.test_net.append(nets[1])
        param.test_iter.append(len(self.ids) if self.ids else 1)
        param.base_lr *= self.rate
        if param.HasField('stepsize'):
            param.stepsize = max(int(param.stepsize * self.stretch), 1)
        param.ClearField('snapshot')
        param.snapshot_prefix = self.prefix
        prototxt.write(self.path('solver.prototxt'), param, header='made from %s for this run' % os.path.abspath(recipe))
        return param

    def load(self, named):
        """Load base weights into the train net: --weights, or those found for `named` (see baseweights.find).

        Then the net must have no zeros that it should not have, but upsampling is not checked here: interp comes after.
        """
        net = self.solver.net
        if self.weights == 'random':
            names = baseweights.random_trunk(net, SEED)
            print('WARNING: no base weights: the trunk (%s ... %s) is RANDOM, msra with seed %d; this tries the machinery '
                  'and gives no result worth a name' % (names[0], names[-1], SEED))
            begun = {'weights': 'random', 'sha256': None}
        else:
            path, how = baseweights.find(named, os.path.basename(self.folder)) if self.weights is None \
                else (self.weights, 'named with --weights')
            print('base weights: %s (%s)' % (os.path.abspath(path), how))
            print(baseweights.load(net, path, other_classes=self.data is not None))
            begun = {'weights': self.weights or os.path.abspath(path), 'sha256': baseweights.sha256(path)}
        begun['data'] = self.data
        runlog.write_atomic(self.path('run.json'), json.dumps(begun, sort_keys=True) + '\n')

    # -- train and score
    def rounds(self):
        """For each round that is left, its number from 1. Refuses zeros; scores first if a kill took the last scoring."""
        if self.done:
            print('done already: %d iterations' % self.total)
            return
        surgery.refuse_zeros(self.solver.net)
        reached = self.solver.iter
        scored = [row['iteration'] for row in self.rows]
        if reached and reached not in scored and (reached % self.steps == 0 or reached >= self.total):
            self.score()
        elif self.rows:
            self._keep()
        while self.solver.iter < self.total:
            yield self.solver.iter // self.steps + 1
        self._finish()

    def step(self):
        """Train to the end of the round. A snapshot is taken there, and where the recipe's `snapshot:` says."""
        end = min((self.solver.iter // self.steps + 1) * self.steps, self.total)
        self._progress.begin(end)
        while self.solver.iter < end:
            now = self.solver.iter
            snapshots.check_room(self.prefix, snapshots.size(self.solver.net))
            caffe.set_random_seed(SEED + now)
            self.solver.step(min(end, (now // self.interval + 1) * self.interval) - now)
            self.solver.snapshot()
            snapshots.prune(self.prefix, self.keep + 1 if self.keep else 0)     # one more until this one is scored
        self._progress.report()

    def score(self):
        """Score the weights, add the figures to metrics.jsonl, keep the best weights and the newest snapshots."""
        begun = time.time()
        result = self._figures(self.solver)
        model = snapshots.paths(self.prefix, self.solver.iter)[0]
        row = dict((key, value) for key, value in result.items() if not isinstance(value, np.ndarray) and key != 'iter')
        row.update(iteration=self.solver.iter, caffe=WHICH, version=getattr(caffe, '__version__', None), device=self.device,
                   weights=os.path.basename(model), sha256=baseweights.sha256(model),
                   seconds=round(time.time() - begun, 3), time=time.strftime('%Y-%m-%dT%H:%M:%S'))
        self.rows.append(row)
        runlog.write_metrics(self.path('metrics.jsonl'), self.rows)
        self._keep()
        return row

    def _segmentation(self, solver):
        return score.seg_tests(solver, False, self.ids)

    def _keep(self):
        """Make best.caffemodel that of the best row, if its snapshot is still there, and remove old snapshots."""
        if os.path.exists(snapshots.paths(self.prefix, self.best['iteration'])[0]):
            snapshots.keep_best(self.prefix, self.best['iteration'], self.path('best.caffemodel'))
        snapshots.prune(self.prefix, self.keep)

    def _finish(self):
        """Write score.txt, the figures of the best and the last weights, and say where everything is."""
        lines = ['%-10s %9s %9s %9s %9s %9s' % ('weights', 'iteration', 'pixel acc', 'mean acc', 'mean IU', 'f.w. IU')]
        if self.key == 'mean_iu':
            for name, row in (('best', self.best), ('last', self.rows[-1])):
                lines.append('%-10s %9d %9.4f %9.4f %9.4f %9.4f' % (
                    name, row['iteration'], row['overall_acc'], row['mean_acc'], row['mean_iu'], row['fwavacc']))
            lines += ['', 'mean IU over the classes present, best: %.4f' % self.best['mean_iu_present'], '',
                      score.class_table(self.best, self.names), '']
            runlog.write_atomic(self.path('score.txt'), '\n'.join(lines))
            print('\n'.join(lines))
        print('best weights: %s (iteration %d)' % (os.path.abspath(self.path('best.caffemodel')), self.best['iteration']))


_log_begun = []


def _init_log():
    """Let Caffe's lines out on stderr; glog wants to be told exactly once."""
    if not _log_begun:
        caffe.init_log(0, True)
        _log_begun.append(True)
