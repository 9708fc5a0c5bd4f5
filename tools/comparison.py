"""What compare.py found, told: the verdict in sentences, and the same as text, as JSON and as an HTML page."""
from __future__ import division, print_function

import json
import os

import numpy as np

import page
import published
import report
import runlog

NAMES = ('ours', 'theirs')


def verdict(result):
    """What a comparison comes to: (tone, sentence) pairs; the tone is good, warn, bad or ''."""
    said = [_of_definitions(result['definitions'])] + [_of_parameters(result['parameters'])]
    if result['not_compared']:
        said.append(('warn', 'Score maps are not compared: %s' % result['not_compared']))
    for of in result['tasks']:
        said += _of_images(of, result['of'], len(result['tasks']) > 1)
    for name, verdicts in zip(NAMES, result['published']):
        for v in verdicts:
            if v['verdict']:
                same = v['tolerance'] == published.SAME_WEIGHTS
                tone = 'good' if v['verdict'] == 'agrees' or (v['verdict'] == 'above' and not same) else 'bad'
                said.append((tone, '%s, %s [%s]' % (name, published.sentence(published.Verdict(**v), same), v['source'])))
    known = published.find(result['experiment'], result['variant'], *result['trained'][0])
    if known and result['tasks'] and not any(result['published']):
        task = result['tasks'][0]
        said.append(('', 'The published figures are over %d labelled images, this is over %d%s; so they are not compared.'
                     % (known[0].images, len(task['images']), '' if task['figures'] else ' without labels')))
    return said


def _of_definitions(differ):
    if differ is None:
        return 'warn', 'Their file is HDF5, which carries no definition of its net.'
    layers, data = differ
    names = sorted(set(d['layer'] for d in layers))
    but = '; the data layers differ' if data else ''
    if not layers:
        return 'good', 'The definitions agree in every layer%s.' % (but.replace('; ', ', but ') if but else '')
    return 'warn', 'The definitions differ in %d layers (%s)%s.' % (len(names), ', '.join(names[:8]) + (
        ', ...' if len(names) > 8 else ''), but)


def _of_parameters(blobs):
    both = [b for b in blobs if b['distance'] is not None]
    alone = len(blobs) - len(both)
    rest = '' if not alone else ' %d blobs are in one file only, or of another size there.' % alone
    if not both:
        return 'bad', 'No parameter blob is in both files.%s' % rest
    differ = [b for b in both if not b['identical']]
    if not differ:
        return 'bad' if alone else 'good', 'All %d parameter blobs of both are identical, bit for bit.%s' % (len(both), rest)
    far = min(differ, key=lambda b: b['cosine'] if b['cosine'] is not None else 2.)
    cosine = '' if far['cosine'] is None else ' The least alike is %s[%d], cosine %.4f.' % (
        far['layer'], far['blob'], far['cosine'])
    return 'warn' if alone else '', '%d of %d parameter blobs differ.%s%s' % (len(differ), len(both), cosine, rest)


def _of_images(of, total, several):
    who = ' of %s' % of['task'] if several else ''
    count = len(of['images'])
    over = 'over %d images%s' % (count, '' if total is None else ', all of the list' if count == total else
                                 ' of the %d of the list' % total)
    share = 'all' if of['agreement'] == 1 else '%.2f %%' % (100 * of['agreement'])
    said = [('good' if of['agreement'] == 1 else '', 'Predictions%s agree at %s of the pixels, %s; the scores differ by '
             '%.3g at most, %.3g on average, and theirs reach %.3g.' % (
                 who, share, over, of['max_difference'], of['mean_difference'], of['max_score']))]
    if of['figures']:
        a, b = [100 * figures['mean_iu'] for figures in of['figures']]
        within = abs(a - b) <= published.RUN_TO_RUN + 1e-9
        said.append(('good' if within else 'warn', 'Mean IU%s: ours %.2f, theirs %.2f: %+.2f, %s the %.1f that two '
                     'trainings of one recipe have differed by on PASCAL VOC%s.' % (
                         who, a, b, a - b, 'within' if within else 'more than', published.RUN_TO_RUN,
                         '' if total in (None, count) else '; but these are not all images')))
    return said


# -- text --------------------------------------------------------------------------------------------------------------
def lines(result):
    """The comparison as lines of text."""
    said = ['ours:   %(weights)s  %(sha256)s' % result['files'][0], 'theirs: %(weights)s  %(sha256)s' % result['files'][1],
            'net:    %s' % result['net'], ''] + [sentence for _, sentence in result['verdict']]
    for title, found in zip(('definitions', 'data layers'), result['definitions'] or ()):
        if found:
            said += ['', title] + ['  %-16s %s' % (
                d['layer'], '%(what)s: ours %(ours)s, theirs %(theirs)s' % d if d['kind'] == 'differs' else
                '%(kind)s (%(what)s)' % d) for d in found]
    said += ['', '%-20s %-18s %12s %12s %12s %10s' % ('parameters', 'shape', 'norm', 'their norm', 'distance', 'cosine')]
    for b in result['parameters']:
        said.append('%-20s %-18s %12s %12s %12s %10s%s' % ((
            '%s[%d]' % (b['layer'], b['blob']), shape(b['shape'])) + tuple(
                '-' if v is None else form % v for form, v in (('%.6g', b['norm']), ('%.6g', b['their_norm']),
                                                               ('%.6g', b['distance']), ('%.6f', b['cosine']))) + (
                    '' if b['shape'] == b['their_shape'] else '  theirs: ' + shape(b['their_shape']),)))
    for of in result['tasks']:
        if of['figures']:
            said += ['', '%-20s %9s %9s %9s' % ('IU of ' + of['task'], 'ours', 'theirs', 'differ')]
            for c, (a, b) in enumerate(zip(*[figures['iu'] for figures in of['figures']])):
                said.append('%-20s %9s %9s %9s' % ((page.named(of['classes'], c),) + tuple(
                    '-' if v is None else '%.2f' % (100 * v) for v in (a, b, None if None in (a, b) else a - b))))
    return said


def shape(dims):
    """A shape as text, 64x3x3x3."""
    return '-' if dims is None else 'x'.join(str(d) for d in dims) or 'scalar'


def write(folder, result):
    """Write compare.txt, compare.json and compare.html."""
    runlog.write_atomic(os.path.join(folder, 'compare.txt'), u'\n'.join(u'%s' % line for line in lines(result)) + u'\n')
    runlog.write_atomic(os.path.join(folder, 'compare.json'), json.dumps(result, sort_keys=True, indent=1, default=plain))
    runlog.write_atomic(os.path.join(folder, 'compare.html'), page.page(*html(folder, result)))


def plain(value):
    """What json does not know, as what it knows."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


# -- HTML --------------------------------------------------------------------------------------------------------------
def html(folder, result):
    """(title, parts of the page)."""
    names = told_apart([file['weights'] for file in result['files']])
    title = '%s: %s beside %s' % (result['experiment'], names[0], names[1])
    parts = [page.tag('h1', title), page.tag('p', 'On %s %s.' % (result['caffe'], result['version']), class_='soft')]
    entries = []
    for of in result['tasks']:
        who = ' of %s' % of['task'] if len(result['tasks']) > 1 else ''
        entries.append(('%.2f %%' % (100 * of['agreement']), 'of the pixels are predicted alike' + who))
        if of['figures']:
            entries += [('%.2f %%' % (100 * figures['mean_iu']), 'mean IU%s, %s' % (who, name))
                        for figures, name in zip(of['figures'], NAMES)]
    parts.append(page.cards(entries + [(str(sum(not b['identical'] for b in result['parameters'])), 'of %d parameter blobs '
                                        'differ' % len(result['parameters']))]))
    parts += [page.tag('h2', 'Verdict')] + [page.tag('p', sentence, class_=tone) for tone, sentence in result['verdict']]
    for of in result['tasks']:
        parts += of_task(folder, of, ' of %s' % of['task'] if len(result['tasks']) > 1 else '')
    parts += of_definitions(result['definitions']) + of_parameters(result['parameters'])
    parts += report.settings([('net', result['net']), ('variant', result['variant'])] + [
        (name + ': ' + key, file[key]) for name, file in zip(NAMES, result['files']) for key in ('weights', 'sha256')])
    return title, parts


def told_apart(paths):
    """The ends of two paths, as long as it takes to tell one from the other, but at least a folder and a file."""
    split = [path.split(os.sep) for path in paths]
    length = next((n for n in range(2, max(len(parts) for parts in split)) if split[0][-n:] != split[1][-n:]), 2)
    return [os.sep.join(parts[-length:]) for parts in split]


def of_task(folder, of, who):
    """Classes, confusion between the two, and the images that agree least."""
    parts = []
    if of['figures']:
        rows = []
        for c, (a, b) in enumerate(zip(*[figures['iu'] for figures in of['figures']])):
            rows.append([page.join([page.key_of(report.PALETTE[c]), page.named(of['classes'], c)])] + [
                None if v is None else page.Bar(page.percent(v), v) for v in (a, b)] + [
                    None if None in (a, b) else '%+.1f' % (100 * (a - b))])
        parts += [page.tag('h2', 'IU of the classes' + who), page.table(['class', 'ours', 'theirs', 'difference'], rows,
                                                                        (1, 2, 3))]
    parts += [page.tag('h2', 'Confusion between the two' + who), page.tag(
        'p', 'Rows: our prediction. Columns: theirs. Percent of the pixels of the row.', class_='soft small'),
              page.confusion(of['between'], of['classes'], NAMES[0], NAMES[1])]
    if of['pictures']:
        parts += [page.tag('h2', 'Images that agree least' + who)]
    for entry in of['pictures']:
        parts += [page.tag('h3', '%s: %.2f %% agree' % (entry['id'], 100 * entry['agreement'])), page.shots(
            [(os.path.join(folder, path), which) for which, path in entry['files']]),
                  report.legend(entry['classes'], of['classes'])]
    return parts


def of_definitions(definitions):
    """The differences of the definitions as a table."""
    if definitions is None:
        return []
    rows = [[d['layer'], d['kind'], d['what']] + [page.tag('div', d[name], class_='wide') for name in NAMES]
            for found in definitions for d in found]
    return [page.tag('h2', 'Definitions'), page.table(['layer', '', 'what', 'ours', 'theirs'], rows) if rows else page.tag(
        'p', 'No layer differs.')]


def of_parameters(blobs):
    """The parameters as a table."""
    rows = [['%s[%d]' % (b['layer'], b['blob']), shape(b['shape']) + (
        '' if b['shape'] == b['their_shape'] else '; theirs ' + shape(b['their_shape']))] + [
            None if b[key] is None else '%.4g' % b[key] for key in ('norm', 'their_norm', 'distance')] + [
                None if b['cosine'] is None else page.Bar('%.4f' % b['cosine'], b['cosine'])] for b in blobs]
    head = ['blob', 'shape', 'norm', 'their norm', 'distance', 'cosine']
    return [page.tag('h2', 'Parameters'), page.tag('p', 'Norms and distance are Euclidean.', class_='soft small'),
            page.table(head, rows, (2, 3, 4, 5))]
