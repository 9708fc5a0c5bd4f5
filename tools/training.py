"""A training in a folder: the solver, going on after a kill, rounds of steps and scores, and the files it leaves.

A run lives in run/<name>/ of its experiment: train.log, metrics.jsonl, run.json, snapshot/, best.caffemodel, score.txt,
confusion.json, report.html, events.* (for TensorBoard). Killed at any moment and started again it goes on from the newest
complete snapshot, and ends (on the CPU, bit for bit) where it would have ended: random numbers are seeded anew at each
snapshot, from the iteration, and the data layer's order is wound on to it.
"""
from __future__ import division, print_function

import collections
import difflib
import fcntl
import json
import os
import time
import traceback

import baseweights
import finetune
import events
import learning
import parts
import prototxt
import record
import report
import runlog
import score
import segfiles
import snapshots
import surgery
from which_caffe import WHICH, caffe, describe
from caffe.proto import caffe_pb2
from progress import Progress

FIGURES = ('overall_acc', 'mean_acc', 'mean_iu', 'fwavacc', 'mean_iu_present')      # what score.metrics makes
SEED = 1337     # of dropout and fillers; the released recipes left these to chance

# A file to start from: what the recipe calls it, see baseweights.find; names of the runs of that experiment to look for
# first; and what the net's layers have after the names that the file's have, for a net that has a trunk twice.
Base = collections.namedtuple('Base', 'file runs suffix')


class RecipeError(ValueError):
    """A training that cannot begin or go on; the message says why and what to do."""


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
    weights must be loaded. best: the row of metrics.jsonl with the highest `key`. variant: the experiment's.

    folder: where all its files go. solver: prototxt of the recipe. train, val: prototxts or NetParameters. steps, rounds.
    base: a Base for each file to start from. names: {task: class names}. score: a function of the solver that returns a
    dictionary of figures, default that of the net's tasks; then foreground adds those without class 0. data, weights,
    variant, learning, start: what the options say. rate: a factor of base_lr. stretch: a factor of the solver's stepsize,
    for a recipe that takes more or fewer steps than its solver says.
    """

    def __init__(self, folder, solver, train, val, steps, rounds, device='CPU', base=(), names=None, weights=None,
                 fresh=False, keep=2, data=None, variant=None, learning=None, start=None, foreground=False, rate=1,
                 stretch=1, score=None, key='mean_iu'):
        for option, value, least in (('--steps', steps, 1), ('--rounds', rounds, 1), ('--keep', keep, 0)):
            if value < least:
                raise RecipeError('%s is %d; wanted %d or more' % (option, value, least))
        self.folder, self.steps, self.total, self.device = folder, steps, steps * rounds, device
        self.base, self.names, self.weights, self.keep, self.key = base, names or {}, weights, keep, key
        self.variant, self.begin_anew, self.start, self.foreground = variant, fresh, start, foreground
        self.rate, self.stretch, self._figures = rate, stretch, score or self._segmentation
        self.settings = {'data': data, 'variant': variant, 'learning': learning, 'steps': steps, 'rounds': rounds}
        self._files = solver, train, val
        self.prefix = os.path.join(folder, 'snapshot', 'train')
        self.solver, self.fresh, self.rows, self.ids, self.tasks, self._events = None, True, [], None, [], None

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
        segfiles.make_folder(os.path.dirname(self.prefix))
        self._lock = open(self.path('.lock'), 'a')
        fcntl.fcntl(self._lock, fcntl.F_SETFD, fcntl.FD_CLOEXEC)    # Python 2 would let the log's process hold it, too
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (IOError, OSError):
            raise RecipeError('%s: another process trains here; wait for it, or choose another name with --run'
                              % os.path.abspath(self.folder))
        for name in os.listdir(self.folder):
            if name.endswith('.partial'):       # a kill came while it was written
                os.remove(self.path(name))
        self._capture = runlog.Capture(self.path('train.log'))
        self._capture.start()
        try:
            self._begin()
        except BaseException:
            self._capture.note(traceback.format_exc())
            self._end()
            raise
        return self

    def __exit__(self, kind, error, where):
        if kind is not None:
            self._capture.note(''.join(traceback.format_exception(kind, error, where)))
        self._end()

    def _end(self):
        self.solver = None
        if self._events is not None:
            self._events.close()
        self._capture.stop()
        self._lock.close()

    def _begin(self):
        print('%s\n%s: Caffe\'s own lines go to %s' % (describe(self.device), time.strftime('%Y-%m-%d %H:%M:%S'),
                                                      os.path.abspath(self.path('train.log'))))
        self._record = record.read(self.path('run.json'))
        if self._record is not None:
            record.check_same(self._record, self.settings, self.weights, self.folder)
        iteration = snapshots.newest(self.prefix, print)
        self.fresh = iteration is None
        if self.start and not self.fresh:
            raise RecipeError('%s is at iteration %d, so it starts no more; for the weights it started from choose another '
                              'name with --run' % (os.path.abspath(self.folder), iteration))
        self.rows = [] if self.fresh else self._read_rows(iteration)
        # before the nets are built, which takes minutes: what is to be loaded may not be there
        self._found = self._find_base() if self.fresh else []
        param = self._write_solver()
        self._begin_record(iteration)
        _init_log()
        caffe.set_random_seed(SEED)     # for fillers
        self.solver = caffe.get_solver(self.path('solver.prototxt'))
        caffe.log('Solving %s' % self.folder)       # parsers of logs take the time from this line, which solve() would say
        if self._figures == self._segmentation:
            self.ids = data_ids(self.solver.test_nets[0])
        self._events = events.Training(self.folder, param, iteration or 0)
        self._progress = Progress(self, param.iter_size, self._events)
        self.solver.add_callback(lambda: None, self._progress.iteration)
        if self.fresh:
            return
        snapshots.check_fits(self.prefix, iteration, self.solver.net)
        self.solver.restore(snapshots.paths(self.prefix, iteration)[1])
        for layer in self.solver.net.layers:
            if hasattr(layer, 'skip'):
                layer.skip(iteration * param.iter_size)
        print('goes on from %s, iteration %d of %d' % (snapshots.paths(self.prefix, iteration)[1], iteration, self.total))

    def _read_rows(self, iteration):
        """The rows of metrics.jsonl up to an iteration; RecipeError if one lacks what score.txt says of the best."""
        path = self.path('metrics.jsonl')
        rows = runlog.read_metrics(path)
        wanted = [self.key] + (list(FIGURES) if self._figures == self._segmentation else [])
        for number, row in enumerate(rows, 1):
            lacking = [key for key in wanted if not isinstance(row.get(key), (int, float))]
            if lacking:
                raise RecipeError('%s:%d: the row has no number %s; correct it or remove it: the scoring it held is lost '
                                  'then' % (os.path.abspath(path), number, lacking[0]))
        return [row for row in rows if row['iteration'] <= iteration]

    def _find_base(self):
        """(path, how it was come by) for each Base; of none if the trunk is to be random."""
        if self.weights == ['random']:
            return []
        if self.weights is not None:
            return [(path, 'named with --weights') for path in self.weights]
        return [baseweights.find(base.file, base.runs) for base in self.base]

    def _write_solver(self):
        """Write the solver (and nets that are no files yet) into the run's folder; returns its SolverParameter.

        It is the recipe's, but for where files are, how it learns, and that snapshots are taken by `step`.
        """
        recipe, train, val = self._files
        param = prototxt.read(recipe, caffe_pb2.SolverParameter())
        if self.settings['learning']:
            learning.change(param, self.settings['learning'])
        self.interval = param.snapshot or self.steps
        self.nets, held = collections.OrderedDict(), []
        for name, net in (('train', train), ('val', val)):
            self.nets[name] = net
            if isinstance(net, caffe_pb2.NetParameter):
                self.nets[name] = self.path(name + '.prototxt')
                prototxt.write(self.nets[name], net, header='made for this run of %s%s' % (
                    self.settings['data'] or 'the released data', ', variant ' + self.variant if self.variant else ''))
            held.append(read_net(self.nets[name]))
        if isinstance(val, caffe_pb2.NetParameter) and self._figures == self._segmentation:
            prototxt.write(self.path('deploy.prototxt'), parts.deploy(val), header='made for this run, for tools/infer.py')
        self.tasks, self.mean = score.find_tasks(held[1]), learning.is_mean(held[0])
        del param.test_net[:]
        param.train_net = self.nets['train']
        param.test_net.append(self.nets['val'])
        del param.test_iter[1:]
        param.base_lr *= self.rate
        if param.HasField('stepsize'):
            param.stepsize = max(int(param.stepsize * self.stretch), 1)
        param.ClearField('snapshot')
        param.snapshot_prefix = self.prefix
        prototxt.write(self.path('solver.prototxt'), param, header='made from %s for this run' % os.path.abspath(recipe))
        if self._figures == self._segmentation:
            print(learning.told(param, self.mean))
        return param

    def _begin_record(self, iteration):
        """Make what goes to run.json once weights are loaded; or say in the one there is that the run went on.

        Warns if the nets are others than it was begun with.
        """
        begun = self._record
        if self.fresh or begun is None:
            self._record = record.new(os.path.basename(os.getcwd()), os.path.basename(self.folder), self.settings,
                                      self.device, self.nets)
        else:
            changed = [name for name in self.nets if begun.get('nets', {}).get(name) != baseweights.sha256(self.nets[name])]
            if changed:
                print('WARNING: %s: the net is another than this run was begun with (see run.json)'
                      % ', '.join(self.nets[name] for name in changed))
            begun.setdefault('resumed', []).append(
                dict(record.engine(self.device), iteration=iteration, time=time.strftime('%Y-%m-%dT%H:%M:%S')))
            record.write(self.path('run.json'), begun)

    def load(self, classes=None, heads=''):
        """Load the base weights into the train net: those of --weights, or those found; returns their paths.

        classes: file of the classes that they were trained for, if those are others than the net's; heads: what their score
        layers have after their names; see finetune.load.
        Then the net must have no zeros that it should not have, but upsampling is not checked here: interp comes after.
        """
        net, names = self.solver.net, self.names.get('label')
        if self.weights == ['random']:
            names = baseweights.random_trunk(net, SEED)
            print('WARNING: no base weights: the trunk (%s ... %s) is RANDOM, msra with seed %d; this tries the machinery '
                  'and gives no result worth a name' % (names[0], names[-1], SEED))
            self._record['weights'] = [{'file': 'random', 'sha256': None, 'suffix': ''}]
        for (path, how), base in zip(self._found, self.base):
            print('base weights: %s (%s)' % (os.path.abspath(path), how))
            if classes is not None:
                print(finetune.load(net, path, names, segfiles.read_list(classes), heads))
            else:
                print(baseweights.load(net, path, base.suffix, other_classes=self.settings['data'] is not None))
            self._record['weights'].append({'file': os.path.abspath(path), 'sha256': baseweights.sha256(path),
                                            'suffix': base.suffix})
        return [path for path, _ in self._found]

    # -- train and score
    def rounds(self):
        """For each round that is left, its number from 1. Refuses zeros; scores first if a kill took the last scoring."""
        if self.done:
            print('done already: %d iterations' % self.total)
            return
        surgery.refuse_zeros(self.solver.net)
        if self.fresh and not self.rows:
            record.write(self.path('run.json'), self._record)
        if self.start:
            self._save_start()
            return
        reached = self.solver.iter
        scored = [row['iteration'] for row in self.rows]
        if reached and reached not in scored and (reached % self.steps == 0 or reached >= self.total):
            self.score()
        elif self.rows:
            self._keep()
        while self.solver.iter < self.total:
            yield self.solver.iter // self.steps + 1
        self._finish()

    def _save_start(self):
        """Write the weights that the training starts from to the file that --start names."""
        partial = self.start + '.partial'
        try:
            self.solver.net.save(partial)
            os.rename(partial, self.start)
        finally:
            if os.path.exists(partial):
                os.remove(partial)
        print('the weights it starts from: %s' % self.start)

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
        row = score.row(result)
        row.update(iteration=self.solver.iter, caffe=WHICH, version=getattr(caffe, '__version__', None), device=self.device,
                   weights=os.path.basename(model), sha256=baseweights.sha256(model),
                   seconds=round(time.time() - begun, 3), time=time.strftime('%Y-%m-%dT%H:%M:%S'))
        self.rows.append(row)
        runlog.write_metrics(self.path('metrics.jsonl'), self.rows)
        self._events.scored(row)
        self._keep()
        try:
            report.write(self.folder)
        except ValueError as error:     # a damaged file of the past is no reason to end a training
            print('WARNING: no report: %s' % error)
        return row

    def _segmentation(self, solver):
        """The figures of each task in one pass over the images, and confusion.json."""
        result = score.seg_tests(solver, False, self.ids, tasks=self.tasks)
        if self.foreground:
            result['foreground'] = score.foreground(result['hist'])
            print('>>> without class 0: mean IU %.4f' % result['foreground']['mean_iu_present'])
        confusion = score.confusion(solver.iter, score.hists(result, self.tasks), self.names)
        runlog.write_atomic(self.path('confusion.json'), json.dumps(confusion, sort_keys=True) + '\n')
        return result

    def _keep(self):
        """Make best.caffemodel that of the best row, if its snapshot is still there, and remove old snapshots."""
        if os.path.exists(snapshots.paths(self.prefix, self.best['iteration'])[0]):
            snapshots.keep_best(self.prefix, self.best['iteration'], self.path('best.caffemodel'))
        snapshots.prune(self.prefix, self.keep)

    def _finish(self):
        """Write score.txt, the figures of the best and the last weights, and say where everything is."""
        if self._figures == self._segmentation:
            text = '\n'.join(score_text(self.best, self.rows[-1], self.tasks, self.names))
            runlog.write_atomic(self.path('score.txt'), text)
            print(text)
        print('best weights: %s (iteration %d)' % (os.path.abspath(self.path('best.caffemodel')), self.best['iteration']))


def score_text(best, last, tasks, names):
    """The lines of score.txt: the figures of the best and the last row of metrics, and of each class, task by task."""
    lines = []
    for i, task in enumerate(tasks):
        lines += ['task %s' % task.name] if len(tasks) > 1 else []
        lines.append('%-10s %9s %9s %9s %9s %9s' % ('weights', 'iteration', 'pixel acc', 'mean acc', 'mean IU', 'f.w. IU'))
        for name, row in (('best', best), ('last', last)):
            figures = row[task.name] if i else row
            lines.append('%-10s %9d %9.4f %9.4f %9.4f %9.4f' % (
                name, row['iteration'], figures['overall_acc'], figures['mean_acc'], figures['mean_iu'], figures['fwavacc']))
        figures = best[task.name] if i else best
        lines += ['', 'mean IU over the classes present, best: %.4f' % figures['mean_iu_present']]
        if not i and 'foreground' in best:
            lines.append('without class 0, best: mean IU %.4f, pixel acc %.4f, mean acc %.4f' % tuple(
                best['foreground'][key] for key in ('mean_iu_present', 'overall_acc', 'mean_acc')))
        lines += ['', score.class_table(figures, names.get(task.name, ())), '']
    return lines


_log_begun = []


def _init_log():
    """Let Caffe's lines out on stderr; glog wants to be told exactly once."""
    if not _log_begun:
        caffe.init_log(0, True)
        _log_begun.append(True)
