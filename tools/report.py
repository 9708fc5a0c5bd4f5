"""The report of a training or of an evaluation: one HTML file, made from the files of its folder.

    python tools/report.py FOLDER...

A training is the folder that solve.py leaves (run/<name>): its losses and scores as curves, the figures of each class, the
confusion matrix, settings and hashes. An evaluation is what evaluate.py leaves: figures, confusion matrix, best and worst
images. Where something is published of the experiment, it stands beside ours, with the verdict.
"""
from __future__ import division, print_function

import argparse
import io
import json
import math
import os
import sys

import numpy as np

import page
import published
import runlog
import score
import vis

PALETTE = vis.make_palette(256)
CURVES = (('mean_iu', 'mean IU'), ('mean_iu_present', 'mean IU, classes present'), ('overall_acc', 'pixel accuracy'),
          ('mean_acc', 'mean accuracy'), ('fwavacc', 'f.w. IU'))
TONE = {'agrees': 'good', 'above': 'good', 'below': 'bad', '': ''}


def write(folder):
    """Write report.html into the folder of a training or an evaluation; returns its path.

    ValueError if the folder is neither, or if a file of it is damaged.
    """
    folder = os.path.abspath(folder)
    if os.path.exists(os.path.join(folder, 'evaluation.json')):
        make, held = evaluation, ('evaluation.json', 'confusion.json')
    elif os.path.exists(os.path.join(folder, 'train.log')):
        make, held = training, ('metrics.jsonl', 'run.json', 'confusion.json')
    else:
        raise ValueError('%s: there is neither train.log nor evaluation.json; wanted the folder of a run (run/<name>) or of '
                         'an evaluation' % folder)
    try:
        title, parts = make(folder)
    except (KeyError, IndexError, TypeError, AttributeError) as error:      # JSON, but not what was written there
        raise ValueError('%s: no report can be made of %s: something is missing in one of them, or of another kind (%s: '
                         '%s); put them right, or score again' % (folder, ', '.join(held), type(error).__name__, error))
    path = os.path.join(folder, 'report.html')
    runlog.write_atomic(path, page.page(title, parts))
    return path


# -- a training --------------------------------------------------------------------------------------------------------
def training(folder):
    """(title, parts of the page) of a run."""
    rows = runlog.read_metrics(os.path.join(folder, 'metrics.jsonl'))
    record = _json(folder, 'run.json') or {}
    held = (_json(folder, 'confusion.json') or {'tasks': []})['tasks']
    names = [task['name'] for task in held] or ['label']
    experiment = record.get('experiment') or experiment_of(folder)
    known = published.find(experiment, *[record.get(key) for key in ('variant', 'data', 'learning')])
    title = '%s: training %s' % (experiment, os.path.basename(folder))
    parts = [page.tag('h1', title)]
    if rows:
        key = 'mean_iu' if 'mean_iu' in rows[0] else 'accuracy'
        best = max(rows, key=lambda row: (row[key], -row['iteration']))
        parts.append(page.tag('p', 'Scored %d times up to iteration %d; the best weights are those of iteration %d (%s).'
                              % (len(rows), rows[-1]['iteration'], best['iteration'], best['weights']), class_='soft'))
        parts += headline(best, names[0], known)
        for name in names[1:]:
            parts += [page.tag('h3', name)] + headline(best.get(name, {}), name, known)
        parts += verdicts_of(known, dict((name, task_row(best, names, i)) for i, name in enumerate(names)),
                              best.get('images'), False)
    else:
        parts.append(page.tag('p', 'Not scored yet.', class_='soft'))
    parts += curves_of(folder, rows, names, known)
    if rows and 'iu' in rows[0]:
        for i, name in enumerate(names):
            task = held[i] if held else {'classes': [], 'hist': None}
            parts += classes(task_row(best, names, i), task, 'Classes%s, best weights' % _of(name, names))
            if task['hist'] is not None:
                parts += matrix(task, 'Confusion%s, last scoring' % _of(name, names))
    if rows:
        parts += [page.tag('h2', 'Scorings'), scorings(rows, names)]
    last = [(key, rows[-1][key]) for key in ('caffe', 'version', 'device') if key in rows[-1]] if rows else []
    parts += settings(sorted(dict(last, **record).items()))
    parts += files(folder, ('solver.prototxt',))
    return title, parts


def experiment_of(folder):
    """The name of the experiment whose run a folder is: of the folder that run/ lies in."""
    parts = folder.split(os.sep)
    return parts[len(parts) - 2 - parts[::-1].index('run')] if 'run' in parts[1:] else os.path.basename(folder)


def task_row(row, names, i):
    """The figures of a task in a row of metrics: those of the first are in the row itself."""
    return row if i == 0 else row.get(names[i], {})


def curves_of(folder, rows, names, known):
    """The charts of a run: training loss, scores of each task, loss while scoring."""
    xs, losses = [], []
    if os.path.exists(os.path.join(folder, 'train.log')):
        xs, losses = runlog.read_losses(os.path.join(folder, 'train.log'))
    finite = [y for y in losses if y > 0 and not math.isinf(y)]
    wide = bool(finite) and max(finite) > 50 * min(finite)
    charts = [] if not xs else [page.chart('Training loss', [('as Caffe logs it', xs, losses)], log=wide)]
    at = [row['iteration'] for row in rows]
    for i, name in enumerate(names):
        of = [task_row(row, names, i) for row in rows]
        lines = [('published mean IU', entry.figures['mean_iu']) for entry in known if entry.task == name and
                 'mean_iu' in entry.figures][:1]
        if of and 'mean_iu' in of[0]:
            charts.append(page.chart('Scores%s, percent' % _of(name, names), [
                (shown, at, [100 * row[key] for row in of]) for key, shown in CURVES
                if key != 'mean_iu_present' or any(row[key] != row['mean_iu'] for row in of)], lines))
    if rows and 'accuracy' in rows[0]:
        charts.append(page.chart('Accuracy, percent', [('accuracy', at, [100 * row['accuracy'] for row in rows])]))
    if rows:
        charts.append(page.chart('Loss while scoring', [
            ('mean over the images' + _of(name, names), at, [task_row(row, names, i)['loss'] for row in rows])
            for i, name in enumerate(names)]))
    return [page.tag('h2', 'Curves'), page.tag('div', page.join(charts), class_='charts')] if charts else []


def scorings(rows, names):
    """A table of all rows of metrics."""
    columns = [(key, shown) for key, shown in CURVES + (('accuracy', 'accuracy'),) if key in rows[0]]
    head = ['iteration', 'loss'] + [shown for _, shown in columns] + ['seconds', 'weights (sha256)']
    body = []
    for i, name in enumerate(names):
        for row in rows:
            of = task_row(row, names, i)
            body.append(['%d%s' % (row['iteration'], ' ' + name if len(names) > 1 else ''), '%.5g' % of['loss']] + [
                page.percent(of[key], 2) for key, _ in columns] + ['%.0f' % row['seconds'], row['sha256'][:12]])
    return page.table(head, body, range(len(head) - 1))


# -- an evaluation -----------------------------------------------------------------------------------------------------
def evaluation(folder):
    """(title, parts of the page) of an evaluation."""
    held = _json(folder, 'evaluation.json')
    hists = dict((task['name'], task) for task in _json(folder, 'confusion.json')['tasks'])
    names = [task['name'] for task in held['tasks']]
    known = published.find(held['experiment'], held['variant'], held.get('data'), held.get('learning'))
    title = '%s%s: evaluation of %s' % (held['experiment'], ' (%s)' % held['variant'] if held['variant'] else '',
                                        page.place(held['weights']))
    parts = [page.tag('h1', title), page.tag('p', '%d images, %s, on %s %s, %s.' % (
        held['images'], held['time'].replace('T', ' '), held['caffe'], held['version'], held['device']), class_='soft')]
    for task in held['tasks']:
        parts += ([page.tag('h3', task['name'])] if len(names) > 1 else []) + headline(task, task['name'], known)
    parts += verdicts_of(known, dict((task['name'], task) for task in held['tasks']), held['images'], held['released'])
    for task in held['tasks']:
        of = _of(task['name'], names)
        parts += classes(task, hists[task['name']], 'Classes' + of) + matrix(hists[task['name']], 'Confusion' + of)
        parts += pictures(folder, held['pictures'], task, of)
    parts += settings([(key, held[key]) for key in sorted(held) if key not in ('tasks', 'pictures', 'verdicts')])
    return title, parts


def pictures(folder, shown, task, of):
    """The worst and the best images, each with its truth and the prediction laid over."""
    parts = []
    for kind in ('worst', 'best'):
        entries = [entry for entry in shown if entry['task'] == task['name'] and entry['kind'] == kind]
        if entries:
            parts += [page.tag('h2', '%s images%s' % (kind.capitalize(), of)), page.tag(
                'p', 'By mean IU over the classes that are in the image or predicted.', class_='soft small')]
        for entry in entries:
            figures = entry['figures']
            parts += [page.tag('h3', '%s: mean IU %s, pixel accuracy %s, loss %.5g' % (
                entry['id'], page.percent(figures['mean_iu']), page.percent(figures['overall_acc']), figures['loss']))]
            parts += [page.shots([(os.path.join(folder, entry['files'] + which + '.jpg'), which) for which in (
                'image', 'truth', 'prediction')]), legend(entry['classes'], task['classes'])]
    return parts


# -- what both have ----------------------------------------------------------------------------------------------------
def headline(row, task, known):
    """The key figures of a task as cards, the published mean IU among them."""
    columns = CURVES + (('accuracy', 'accuracy'),)
    entries = [(page.percent(row[key]) + u' %', shown) for key, shown in columns if row.get(key) is not None
               and not (key == 'mean_iu_present' and row[key] == row['mean_iu'])]
    for entry in [entry for entry in known if entry.task == task][:1]:
        key, shown = [pair for pair in reversed(published.KEYS[:3]) if pair[0] in entry.figures][0]
        entries.insert(1, ('%.1f %%' % entry.figures[key], 'published %s%s' % (shown, published.OVER[entry.over])))
    if 'foreground' in row:
        entries.insert(1, (page.percent(row['foreground']['mean_iu_present']) + u' %', 'mean IU without background'))
    return [page.cards(entries)] if entries else []


def verdicts_of(known, figures, images, same_weights):
    """What is published beside ours. images: how many ours are over; None: all that the experiment is scored on."""
    if not known:
        return []
    scored = known[0].images if images is None else images
    judged = published.verdicts(known, figures, scored, same_weights)
    rows = [[verdict.name + (' (%s)' % verdict.task if verdict.task != 'label' else ''), '%.2f' % verdict.ours,
             '%.1f' % verdict.published, '%+.2f' % verdict.difference, page.tag('span', {
                 'agrees': u'agrees (within \u00b1%.1f)', 'above': u'above (by more than %.1f)',
                 'below': u'below (by more than %.1f)', '': ''}[verdict.verdict] % (
                     (verdict.tolerance,) if verdict.verdict else ()), class_=TONE[verdict.verdict]),
             page.tag('div', page.join([verdict.source, page.tag('div', verdict.note, class_='soft small')]), class_='wide')]
            for verdict in judged]
    other = [entry for entry in known if entry.images != scored]
    parts = [page.tag('h2', 'Beside what is published')]
    if rows:
        parts.append(page.table(['figure', 'ours', 'published', 'difference', 'verdict', 'source'], rows, (1, 2, 3)))
        parts.append(page.tag('p', (
            'The weights are the released ones, so only rounding and JPEG decoders may make a difference (%.1f).'
            % published.SAME_WEIGHTS) if same_weights else (
            'Two trainings of one recipe have differed by %.1f in mean IU; for the other figures nobody has published two.'
            % published.RUN_TO_RUN), class_='soft small'))
    for entry in other:
        parts.append(page.tag('p', 'Not compared: %s is over %d images, ours over %d (%s).' % (', '.join(
            '%s %.1f' % (shown, entry.figures[key]) for key, shown in published.KEYS if key in entry.figures),
            entry.images, scored, entry.source), class_='soft small'))
    return parts


def classes(row, task, title):
    """A table of classes with their colours: share of the truth, accuracy, IU."""
    hist = None if task['hist'] is None else np.array(task['hist'])
    body = []
    for c, (acc, iu) in enumerate(zip(row['acc'], row['iu'])):
        share = None if hist is None else page.percent(hist[c].sum() / max(hist.sum(), 1), 2)
        body.append([page.join([page.key_of(PALETTE[c]), page.named(task['classes'], c)]), share] + [
            None if value is None else page.Bar(page.percent(value), value) for value in (acc, iu)])
    return [page.tag('h2', title), page.table(['class', '% pixels', 'accuracy', 'IU'], body, (1, 2, 3))]


def matrix(task, title):
    """The confusion matrix and the largest mistakes."""
    rows = [[truth, predicted, page.percent(share), '{:,}'.format(pixels)]
            for truth, predicted, share, pixels in page.mistakes(task['hist'], task['classes'])]
    read = 'Rows: the truth. Columns: what was predicted. Percent of the pixels of the truth.'
    return [page.tag('h2', title), page.tag('p', read, class_='soft small'), page.confusion(task['hist'], task['classes']),
            page.tag('h3', 'Largest mistakes'), page.table(['truth', 'predicted', '% of the truth', 'pixels'], rows, (2, 3))]


def legend(indices, names):
    """The classes of a picture with their colours."""
    keys = [page.key_of(PALETTE[c] if c else 'transparent') for c in indices]   # class 0 is left clear in pictures
    texts = ['ignored' if c == score.IGNORE else page.named(names, c) for c in indices]
    return page.tag('div', page.join([page.tag('span', page.join(pair)) for pair in zip(keys, texts)]), class_='legend')


def settings(pairs):
    """Settings, versions and hashes."""
    shown = [(key, told(value)) for key, value in pairs if value not in ([], {})]
    return [page.tag('h2', 'Settings'), page.tag('div', page.facts(shown), class_='scroll small')]


def told(value):
    """A value of JSON as HTML: a list as lines, a dictionary as its names and values."""
    if isinstance(value, list):
        return page.join([page.tag('div', told(item)) for item in value])
    if isinstance(value, dict):
        return page.join([page.join([page.tag('span', key, class_='soft'), told(value[key])], ' ')
                          for key in sorted(value) if value[key] not in (None, '')], ', ')
    return value


def files(folder, names):
    """The text of files that are there, to be unfolded."""
    parts = []
    for name in names:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with io.open(path, encoding='utf-8', errors='replace') as f:
                shown = page.tag('pre', f.read(), class_='scroll small')
            parts.append(page.tag('details', page.tag('summary', name) + shown))
    return parts


def _json(folder, name):
    """The object in a JSON file of the folder, None if there is no such file; ValueError names a damaged one."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    with io.open(path, encoding='utf-8') as f:
        try:
            return json.load(f)
        except ValueError as error:
            raise ValueError('%s: not JSON (%s); remove it and score again' % (path, error))


def _of(name, names):
    return ' of %s' % name if len(names) > 1 else ''


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description='Writes report.html into the folders of trainings and evaluations.')
    parser.add_argument('folders', nargs='+', metavar='FOLDER')
    options = parser.parse_args(arguments)
    for folder in options.folders:
        try:
            print(write(folder))
        except (ValueError, EnvironmentError) as error:
            print('report.py: %s' % error, file=sys.stderr)
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
