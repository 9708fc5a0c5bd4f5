"""Scores an experiment with any weights, in as many processes as the machine carries, and leaves a report.

    python tools/evaluate.py voc-fcn8s fcn8s-heavy-pascal.caffemodel --processes 4
    python tools/evaluate.py voc-fcn8s/run/voc        # a run: the net it is scored with, and its best weights
    python tools/evaluate.py nyud-fcn32s weights.caffemodel --variant color-hha --gpu 0

Weights may be of any format Caffe has had, HDF5 included. The folder of the evaluation (--out, by default beside the
experiment's runs) gets evaluation.json with all figures, score.txt, confusion.json, images.jsonl with the histogram of
each image, report.html, and with --save every prediction as a PNG. Killed at any moment and started again it goes on
with the images that are left. However many processes work, the histograms are those of one. (So are the losses, with as
many threads a process; the engine's sums in single precision differ in the last digit with the number of threads.)
"""
from __future__ import division, print_function

import argparse
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np

import baseweights
import published
import recipe
import record
import report
import runlog
import score
import segfiles
import subject
import vis
from progress import EVERY, duration
from which_caffe import caffe, describe

SHOWN = 4       # best images, and worst ones, that are shown


class EvaluationError(ValueError):
    """An evaluation that cannot begin or go on; the message says why and what to do."""


# -- the work: images -> rows ------------------------------------------------------------------------------------------
def work(job, shard, each=None):
    """Score the images at job['shards'][shard] and append a row for each to rows-<shard>.jsonl in job['folder'].

    A row is {'place': position in the list, 'id': .., 'tasks': [{'loss': .., 'finite': .., 'classes': n, 'cells': [[truth,
    prediction, pixels], ..]}, ..]}. Its predictions are saved before it is written. each: called after each row.
    """
    _, tasks = subject.tasks_of(job['net'])
    net = subject.load(job['net'], job['weights'])
    listed, places, parent = subject.ids(net, job['net']), job['shards'][shard], os.getppid()
    with io.open(rows_file(job['folder'], shard), 'a', encoding='utf-8') as f:
        for place, (idx, results) in zip(places, score.each_image(net, listed, tasks, places)):
            row = {'place': place, 'id': idx, 'tasks': []}
            for task, scored in zip(tasks, results):
                vis.save_indexed(prediction_file(job['folder'], tasks, task, idx), scored.prediction)
                truth, prediction = np.nonzero(scored.hist)
                row['tasks'].append({'loss': scored.loss, 'finite': scored.finite, 'classes': len(scored.hist), 'cells': [
                    [int(t), int(p), int(scored.hist[t, p])] for t, p in zip(truth, prediction)]})
            line = json.dumps(row)
            f.write((line if isinstance(line, type(u'')) else line.decode('ascii')) + u'\n')
            f.flush()
            if each:
                each()
            elif os.getppid() != parent:
                raise EvaluationError('the process that began this evaluation has ended')


def rows_file(folder, shard):
    return os.path.join(folder, 'rows-%d.jsonl' % shard)


def prediction_file(folder, tasks, task, idx):
    return score.prediction_file(os.path.join(folder, 'predictions'), tasks, task, idx)


def gathered(folder, tasks):
    """{place: row} of the images that are scored: those of images.jsonl, and what processes wrote before they ended.

    All are then in images.jsonl. A line that is cut off or damaged does not count, nor one whose predictions are gone.
    """
    rows, paths = {}, [os.path.join(folder, 'images.jsonl')]
    paths += [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.startswith('rows-')]
    for path in paths:
        if not os.path.exists(path):
            continue
        with io.open(path, 'rb') as f:
            for line in f:
                row = row_of(line, tasks)
                if row and all(os.path.exists(prediction_file(folder, tasks, task, row['id'])) for task in tasks):
                    rows[row['place']] = row
    write_rows(folder, rows)
    for path in paths[1:]:
        os.remove(path)
    return rows


def row_of(line, tasks):
    """The row in a line (bytes) of a file of rows; None if it holds none: then its image is scored again."""
    try:
        row = json.loads(line.decode('utf-8'))
        held = [(histogram(of), float(of['loss']), of['finite']) for of in row['tasks']]
        return row if len(held) == len(tasks) and type(row['place']) is int and row['id'] else None
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def histogram(of):
    """The histogram (int64 [C, C], row = truth) of one task in a row."""
    hist = np.zeros((of['classes'], of['classes']), dtype=np.int64)
    for truth, prediction, pixels in of['cells']:
        hist[truth, prediction] = pixels
    return hist


def write_rows(folder, rows):
    """Write images.jsonl, in the order of the list."""
    lines = [json.dumps(rows[place], sort_keys=True) + '\n' for place in sorted(rows)]
    runlog.write_atomic(os.path.join(folder, 'images.jsonl'), ''.join(lines))


def shared_out(places, processes):
    """Positions dealt to so many processes in runs of neighbours, which differ in length by one at most."""
    edges = [len(places) * k // processes for k in range(processes + 1)]
    return [places[a:b] for a, b in zip(edges, edges[1:])]


# -- the processes -----------------------------------------------------------------------------------------------------
class Counter(object):
    """Says how many images are done, every EVERY seconds."""

    def __init__(self, done, total):
        self.first, self.done, self.total, self.begun = done, done, total, time.time()
        self._said = self.begun

    def __call__(self, done=None):
        self.done = self.done + 1 if done is None else done
        now = time.time()
        if now - self._said > EVERY and self.done > self.first:
            rate = (self.done - self.first) / (now - self.begun)
            print('%d of %d images; %.2f images/s; %s left'
                  % (self.done, self.total, rate, duration((self.total - self.done) / rate)))
            sys.stdout.flush()
            self._said = now


def run_workers(job, gpus, counter):
    """A process a shard until all are done; EvaluationError with its last words if one fails, and the others end."""
    folder, environment, done = job['folder'], dict(os.environ), counter.done
    cores = os.sysconf('SC_NPROCESSORS_ONLN')
    environment.setdefault('OMP_NUM_THREADS', str(max(cores // len(job['shards']), 1)))
    runlog.write_atomic(os.path.join(folder, 'job.json'), json.dumps(job))
    workers = []
    try:
        for shard in range(len(job['shards'])):
            gpu = [] if not gpus else [str(gpus[shard % len(gpus)])]
            with open(os.path.join(folder, 'worker-%d.log' % shard), 'wb') as log:
                workers.append(subprocess.Popen([sys.executable, os.path.abspath(__file__), '--worker', folder, str(shard)]
                                                + gpu, stdout=log, stderr=log, cwd=job['cwd'], env=environment))
        while any(worker.poll() is None for worker in workers):
            time.sleep(0.2)
            counter(done + sum(lines_of(rows_file(folder, shard)) for shard in range(len(workers))))
            for shard, worker in enumerate(workers):
                if worker.poll():
                    raise EvaluationError('process %d of %d ended with status %d. Its last words, of %s:\n%s' % (
                        shard + 1, len(workers), worker.returncode, os.path.join(folder, 'worker-%d.log' % shard),
                        last_words(os.path.join(folder, 'worker-%d.log' % shard))))
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
            worker.wait()


def lines_of(path):
    """How many lines a file has, 0 if there is none."""
    if not os.path.exists(path):
        return 0
    with open(path, 'rb') as f:
        return f.read().count(b'\n')


def last_words(path, most=12):
    with io.open(path, encoding='utf-8', errors='replace') as f:
        return '\n'.join(line.rstrip() for line in f.readlines()[-most:])


def worker(folder, shard, gpu=None):
    """The command line of one of several processes."""
    recipe.use_device(None if gpu is None else int(gpu))
    with io.open(os.path.join(folder, 'job.json'), encoding='utf-8') as f:
        job = json.load(f)
    work(job, int(shard))
    return 0


# -- an evaluation -----------------------------------------------------------------------------------------------------
def evaluate(what, out=None, processes=1, gpus=(), save=False, fresh=False):
    """Score a Subject; returns the folder of the evaluation.

    out: that folder; by default evaluation/ of a run, else run/evaluation-<weights>/ of the experiment. The working
    directory must be the experiment's.
    """
    if processes < 1:
        raise EvaluationError('--processes is %d; wanted 1 or more' % processes)
    begun, stem = time.time(), os.path.splitext(os.path.basename(what.weights))[0]
    folder = os.path.abspath(out or (os.path.join(what.run, 'evaluation') if what.run else os.path.join(
        what.folder, 'run', 'evaluation-%s%s' % (what.variant + '-' if what.variant else '', stem))))
    if fresh:
        recipe.set_aside(folder)
    segfiles.make_folder(folder)
    with open(os.path.join(folder, '.lock'), 'a') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (IOError, OSError):
            raise EvaluationError('%s: another process evaluates here; wait for it, or choose another folder with --out'
                                  % folder)
        net_param, tasks = subject.tasks_of(what.net)
        data = subject.sources(net_param)
        listed = subject.ids(data, what.net)
        settings = check_same(folder, {'net': what.net, 'net_sha256': baseweights.sha256(what.net), 'weights': what.weights,
                                       'sha256': baseweights.sha256(what.weights), 'images': len(listed)})
        if os.path.exists(os.path.join(folder, 'evaluation.json')) and (
                not save or os.path.isdir(os.path.join(folder, 'predictions'))):
            print('evaluated already; --fresh begins anew. Report: %s' % report.write(folder))
            return folder
        rows = scored_rows(what, folder, tasks, len(listed), processes, gpus)
        result = summed(rows, tasks, subject.class_names(data.layers, tasks, what.experiment))
        device = ', '.join('GPU %d' % gpu for gpu in gpus) or 'CPU'
        settings.update(record.engine(device), experiment=what.experiment, variant=what.variant, data=what.trained[0],
                        learning=what.trained[1], processes=processes,
                        seconds=round(time.time() - begun, 3), time=time.strftime('%Y-%m-%dT%H:%M:%S'),
                        released=published.is_released(what.weights, what.folder))
        settings['pictures'] = draw(folder, data, tasks, result)
        finish(folder, settings, result)
        tidy(folder)
        if not save:
            shutil.rmtree(os.path.join(folder, 'predictions'))
    return folder


def scored_rows(what, folder, tasks, count, processes, gpus):
    """{place: row} of all `count` images of a Subject; those that the folder does not have yet are scored now."""
    rows = gathered(folder, tasks)
    tidy(folder)
    left = [place for place in range(count) if place not in rows]
    if rows:
        print('%d of %d images are scored already' % (len(rows), count))
    if not left:
        return rows
    job = {'net': what.net, 'weights': what.weights, 'folder': folder, 'cwd': what.folder,
           'shards': shared_out(left, min(processes, len(left)))}
    counter = Counter(len(rows), count)
    if len(job['shards']) == 1:
        recipe.use_device(gpus[0] if gpus else None)
        work(job, 0, counter)
    else:
        run_workers(job, gpus, counter)
    return gathered(folder, tasks)


def tidy(folder):
    """Remove what processes needed and left."""
    for name in os.listdir(folder):
        if name == 'job.json' or name.startswith('worker-'):
            os.remove(os.path.join(folder, name))


def check_same(folder, settings):
    """Write settings.json, or EvaluationError if the folder holds an evaluation with others; returns the settings."""
    path = os.path.join(folder, 'settings.json')
    begun = any(lines_of(os.path.join(folder, name)) for name in os.listdir(folder) if name.endswith('.jsonl'))
    if begun and os.path.exists(path):
        with io.open(path, encoding='utf-8') as f:
            try:
                held = dict(json.load(f))
            except (ValueError, TypeError) as error:
                raise EvaluationError('%s: not what an evaluation was begun with (%s); begin anew with --fresh'
                                      % (path, error))
        for key in ('images', 'net_sha256', 'sha256'):
            if held.get(key) != settings[key]:
                raise EvaluationError('%s holds an evaluation whose %s is %s, now it is %s; choose another folder with '
                                      '--out, or begin anew with --fresh' % (folder, key, held.get(key), settings[key]))
    runlog.write_atomic(path, json.dumps(settings, sort_keys=True, indent=1))
    return settings


def summed(rows, tasks, names):
    """For each task score.metrics, with name, classes, loss, hist and images; from rows, in the order of the list."""
    results, not_finite = [], []
    for i, task in enumerate(tasks):
        held = [(rows[place]['id'], rows[place]['tasks'][i]) for place in sorted(rows)]
        hist, images, loss = 0, [], 0.
        for idx, row in held:
            own = histogram(row)
            hist = hist + own
            loss += row['loss']
            images.append((idx, score.image_figures(own, row['loss'])))
            if not row['finite']:
                not_finite.append(idx)
        result = score.metrics(hist)
        result.update(name=task.name, classes=list(names.get(task.name, ())), loss=loss / len(held), hist=hist,
                      images=images)
        results.append(result)
    score.warn_not_finite(not_finite, len(rows))
    return results


def draw(folder, data, tasks, results):
    """Draw the best and the worst images of each task into pictures/; returns what they are, for the report."""
    shown, places = [], dict((name, i) for i, (name, _) in enumerate(results[0]['images']))
    for task, result in zip(tasks, results):
        ranked = sorted((figures['mean_iu'], name) for name, figures in result['images'] if figures['pixels'])
        count = min(SHOWN, (len(ranked) + 1) // 2)
        kinds = [('worst', i, name) for i, (_, name) in enumerate(ranked[:count])]
        kinds += [('best', i, name) for i, (_, name) in enumerate(ranked[:count - 1:-1][:SHOWN])]
        for kind, i, name in kinds:
            _, layer = subject.show(data, places[name])
            image = subject.photograph(data, layer, name)
            truth = data.blobs[task.label].data[0, 0].astype(np.uint8)
            ours = segfiles.read_label(prediction_file(folder, tasks, task, name))
            stem = 'pictures/%s-%s%d-' % (task.name, kind, i)
            for which, picture in (('image', image), ('truth', subject.laid_over(image, truth)),
                                   ('prediction', subject.laid_over(image, ours))):
                vis.save_atomic(subject.fitted(picture), os.path.join(folder, stem + which + '.jpg'))
            shown.append({'task': task.name, 'kind': kind, 'id': name, 'files': stem,
                          'figures': dict(result['images'])[name],
                          'classes': sorted(set(np.unique(truth).tolist()) | set(np.unique(ours).tolist()))})
    return shown


def finish(folder, settings, results):
    """Write evaluation.json, confusion.json, score.txt and report.html, and print the figures."""
    known = published.find(*[settings[key] for key in ('experiment', 'variant', 'data', 'learning')])
    figures = published.figures_of(dict((result['name'], result['hist']) for result in results), known)
    judged = published.verdicts(known, figures, settings['images'], settings['released'])
    settings['verdicts'] = [verdict._asdict() for verdict in judged]
    settings['tasks'] = [dict(score.row(dict(figures[result['name']], **result)), images=result['images'])
                         for result in results]
    held = score.confusion(None, [(result['name'], result['hist']) for result in results],
                           dict((result['name'], result['classes']) for result in results))
    runlog.write_atomic(os.path.join(folder, 'confusion.json'), json.dumps(held))
    runlog.write_atomic(os.path.join(folder, 'evaluation.json'), json.dumps(settings, sort_keys=True, indent=1))
    lines = []
    for result in results:
        lines += ['%s: %d images, loss %.6g' % (result['name'], settings['images'], result['loss']),
                  'pixel acc %.4f, mean acc %.4f, mean IU %.4f, f.w. IU %.4f; mean IU over the classes present %.4f'
                  % tuple(result[key] for key in ('overall_acc', 'mean_acc', 'mean_iu', 'fwavacc', 'mean_iu_present')),
                  score.class_table(result, result['classes']), '']
    lines += [published.sentence(verdict, settings['released']) + ' [%s]' % verdict.source for verdict in judged]
    runlog.write_atomic(os.path.join(folder, 'score.txt'), '\n'.join(lines) + '\n')
    print('\n'.join(lines))
    print('report: %s' % report.write(folder))


def main(arguments=None):
    """The command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ['--worker']:
        return worker(*arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', help='folder of an experiment or of a run, or a prototxt that reads a data set')
    parser.add_argument('weights', nargs='?', help='caffemodel of any format (default: the best of a run)')
    parser.add_argument('--variant', help='of an experiment that has several nets')
    parser.add_argument('--processes', type=int, default=1, help='how many work at once (default 1)')
    parser.add_argument('--gpu', type=int, nargs='+', default=[], help='numbers of GPUs, one after the other')
    parser.add_argument('--save', action='store_true', help='keep the predictions, as PNGs of class indices')
    parser.add_argument('--out', help='folder of the evaluation')
    parser.add_argument('--fresh', action='store_true', help='begin anew; an earlier evaluation gets another name')
    options = parser.parse_args(arguments)
    try:
        what = subject.find(options.what, options.weights, options.variant)
        out = options.out and os.path.abspath(options.out)
        os.chdir(what.folder)
        print(describe('CPU' if not options.gpu else ', '.join('GPU %d' % gpu for gpu in options.gpu)))
        evaluate(what, out, options.processes, options.gpu, options.save, options.fresh)
    except KeyboardInterrupt:
        print('stopped; run again to go on with the images that are left', file=sys.stderr)
        return 130
    except (ValueError, EnvironmentError, RuntimeError) as error:   # the embedded Caffe's errors are RuntimeErrors
        print('evaluate.py: %s' % error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    caffe.init_log(1, True)     # warnings and errors; what it says of each layer is no news here
    sys.exit(main())
