"""What a net does to its input, from the prototxt alone: sizes, receptive fields, crops, parameters, cost, memory.

    python tools/explain.py voc-fcn8s/train.prototxt --size 375x500

One line a layer. `field` is the receptive field: the side of the square of input pixels one unit depends on. `step` is
how many input pixels lie from one unit to the next, `offset` where in the input the first unit is centred (pixel 0 is
the first, so padding makes it negative). `crop` is the offset of a Crop and `slack` what it leaves behind its window.
Parameters are frozen where their lr_mult is 0. Multiply-adds are those of convolutions, deconvolutions and inner
products. Memory is that of float32, batch and all; a layer that works in place has none of its own.
"""
from __future__ import division, print_function

import argparse
import collections
import sys

import prototxt
from which_caffe import caffe  # noqa: F401  before anything of caffe
from caffe.proto import caffe_pb2

from layer_shapes import DEFAULT_SIZE, ShapeError, data_tops, input_tops, layer_tops, product, times

# One line of the table; `tops` are (name, Blob) pairs, kernel and stride lists, crop and slack lists, or None.
Row = collections.namedtuple('Row', 'name type tops kernel stride crop slack learned frozen multiply_adds')


class ExplainError(ValueError):
    """A net that cannot be explained, with the layer and the reason."""


def explain(net, size=None, phase=caffe_pb2.TRAIN):
    """A list of Rows, one for each layer of the NetParameter that runs in this phase.

    `size`: (height, width) or (channels, height, width) of the input where the prototxt does not say it (data layers)
    or says it as a placeholder (Input layers). ExplainError if a layer is of an unknown type or shapes do not fit.
    """
    if net.layers:
        raise ExplainError("the net is in the old format (layers { ... }, V1); upgrade it first, with Caffe's tool "
                           'upgrade_net_proto_text')
    layers = running(net, phase)
    if not layers:
        raise ExplainError('no layer %s; wanted a net: layer { ... } for each of its layers' % (
            'of %d runs in phase %s' % (len(net.layer), caffe_pb2.Phase.Name(phase)) if net.layer else 'is in it'))
    blobs, rows, shared = {}, [], set()
    if net.input:
        rows.append(Row('input', 'Input', input_tops(net, size), None, None, None, None, 0, 0, 0))
        blobs.update(rows[0].tops)
    for layer in layers:
        unmade = [name for name in layer.bottom if name not in blobs]
        try:
            if unmade:
                raise ShapeError('reads blob %s, which no layer before it makes (made so far: %s)'
                                 % (unmade[0], ', '.join(sorted(blobs)) or 'none'))
            if layer.bottom:
                tops, facts = layer_tops(layer, [blobs[name] for name in layer.bottom])
            else:
                tops, facts = data_tops(layer, layers, size), {}
        except ShapeError as error:
            raise ExplainError('layer %s (type %s): %s' % (layer.name, layer.type, error))
        learned, frozen = _count(layer, facts.get('params', []), shared)
        rows.append(Row(layer.name, layer.type, list(zip(layer.top, tops)), facts.get('kernel'), facts.get('stride'),
                        facts.get('crop'), facts.get('slack'), learned, frozen, facts.get('multiply_adds', 0)))
        blobs.update(rows[-1].tops)
    return rows


def crop_offset(net, name):
    """The offset, a whole number of pixels, that crops blob `name` to the input: where its unit for pixel 0 is.

    It is that of caffe.coord_map.crop, for nets with layers that coord_map does not know. ExplainError if the blob is not
    at the scale of the input, or lies between its pixels.
    """
    grid = dict(top for row in explain(net, DEFAULT_SIZE) for top in row.tops)[name].grid
    if not grid or any(axis.step != 1 or axis.centre != int(axis.centre) or axis.centre > 0 for axis in grid):
        raise ExplainError("blob %s cannot be cropped to the input: its units lie %s pixels apart, the first on %s; wanted "
                           "1, and a whole number of pixels not after 0"
                           % (name, _same([axis.step for axis in grid]), _same([axis.centre for axis in grid])))
    return int(-grid[0].centre)


def running(net, phase):
    """The layers of the net in this phase, at level 0 and without stages (Net::StateMeetsRule in net.cpp)."""
    return [layer for layer in net.layer if _runs(layer, phase)]


def _runs(layer, phase):
    def meets(rule):
        return ((not rule.HasField('phase') or rule.phase == phase) and rule.min_level <= 0 and not rule.stage
                and (not rule.HasField('max_level') or rule.max_level >= 0))
    if layer.include:
        return any(meets(rule) for rule in layer.include)
    return not any(meets(rule) for rule in layer.exclude)


def _count(layer, counts, shared):
    """(learned, frozen) of parameter blobs with these element counts. One shared by name counts once, at its owner."""
    learned = frozen = 0
    for i, count in enumerate(counts):
        spec = layer.param[i] if i < len(layer.param) else caffe_pb2.ParamSpec()
        if spec.name and spec.name in shared:
            continue
        shared.add(spec.name)
        if spec.lr_mult == 0 or layer.type == 'BatchNorm':  # the solver never learns running sums
            frozen += count
        else:
            learned += count
    return learned, frozen


def activations(rows, layers):
    """(bytes of data, bytes of diffs) of all blobs of a net in float32, of its rows and the layers that run.

    A blob made in place of another is the same memory. What layers without bottoms make has no diff; a blob that
    several layers read has a diff for each of them and one for their sum, since Caffe splits it.
    """
    readers = collections.Counter(name for layer in layers for name in layer.bottom if name not in layer.top)
    learnt_from = set(name for layer in layers if layer.bottom for name in layer.top)
    data = diffs = 0
    for name, blob in _distinct(rows):
        data += 4 * product(blob.shape)
        if name in learnt_from:
            diffs += 4 * product(blob.shape) * (1 + readers[name] if readers[name] > 1 else 1)
    return data, diffs


def depths(layers):
    """How many convolutions, at most, lie between the input and each blob, itself included: a dictionary by name."""
    found = {}
    for layer in layers:
        deepest = max([found[name] for name in layer.bottom] or [0]) + (layer.type == 'Convolution')
        found.update((name, deepest) for name in layer.top)
    return found


def coarsest(rows, layers):
    """What Table 1 of the CVPR paper says of a net, as a list of a line of text; empty without units on a grid.

    It is about the units farthest apart (largest step), before any upsampling, and of these about the last.
    """
    grids = [(name, blob.grid) for row in rows for name, blob in row.tops if blob.grid and blob.grid[0].step is not None]
    if not grids:
        return []
    step = max(grid[0].step for _, grid in grids)
    name, grid = [pair for pair in grids if pair[1][0].step == step][-1]
    return ['coarsest       {}: field {}, step {}, after {} convolutions'.format(
        name, _same([axis.field for axis in grid]), _same([axis.step for axis in grid]), depths(layers).get(name, 0))]


def _distinct(rows):
    """The (name, Blob) pairs of all rows, each blob where it is made first."""
    seen = set()
    for row in rows:
        for name, blob in row.tops:
            if name not in seen:
                seen.add(name)
                yield name, blob


def _same(numbers):
    """One number if all are equal, else all: '3' of [3, 3], '3x5' of [3, 5]; '-' for None, '' of nothing."""
    texts = ['-' if number is None else '%g' % number for number in numbers or []]
    return texts[0] if len(set(texts)) == 1 else 'x'.join(texts)


def _grouped(number):
    """134,362,751; nothing for 0."""
    return '{:,}'.format(number) if number else ''


HEADINGS = ('layer', 'type', 'output', 'kernel', 'stride', 'field', 'step', 'offset', 'crop', 'slack',
            'learned', 'frozen', 'multiply-adds', 'MiB')


def table(rows):
    """The table as lines of text, headings first."""
    lines, seen = [HEADINGS], set()
    for row in rows:
        grid = row.tops[0][1].grid if row.tops else []
        own = sum(product(blob.shape) for name, blob in row.tops if name not in seen)
        seen.update(name for name, _ in row.tops)
        lines.append((
            row.name, row.type, ' '.join(times(blob.shape) for _, blob in row.tops), _same(row.kernel),
            _same(row.stride), _same([axis.field for axis in grid]), _same([axis.step for axis in grid]),
            _same([axis.centre for axis in grid]), _same(row.crop), _same(row.slack), _grouped(row.learned),
            _grouped(row.frozen), _grouped(row.multiply_adds), '%.1f' % (4 * own / 2.0 ** 20) if own else ''))
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    return ['  '.join(['%-*s' % pair for pair in zip(widths[:3], line[:3])] +
                      ['%*s' % pair for pair in zip(widths[3:], line[3:])]).rstrip() for line in lines]


def totals(rows, layers):
    """The coarsest units, parameters, multiply-adds and memory of the whole net, as lines of text."""
    learned, frozen = sum(row.learned for row in rows), sum(row.frozen for row in rows)
    mebi = 2.0 ** 20
    data, diffs = activations(rows, layers)
    return coarsest(rows, layers) + [
        'parameters     {:,} learned + {:,} frozen: {:,.1f} MiB; in training twice that more (gradients, history)'
        .format(learned, frozen, 4 * (learned + frozen) / mebi),
        'multiply-adds  {:,} forward'.format(sum(row.multiply_adds for row in rows)),
        'activations    {:,.1f} MiB data; in training {:,.1f} MiB diffs (working memory of the layers not counted)'
        .format(data / mebi, diffs / mebi)]


def _size(words):
    """(H, W) or (C, H, W) of '500x375' or '1x28x28'."""
    parts = words.split('x')
    if len(parts) not in (2, 3) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError('%r is no size; wanted HxW or CxHxW, such as 375x500 or 1x28x28' % words)
    return tuple(int(part) for part in parts)


def main(arguments=None):
    """The command: prints the table; a message and status 1 for a net that cannot be explained."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('prototxt')
    parser.add_argument('--size', type=_size, help='of the input: height x width, or channels x height x width '
                        '(500x500 for Python data layers; else what the prototxt says)')
    parser.add_argument('--phase', choices=('TRAIN', 'TEST'), default='TRAIN', help='for include { phase } rules')
    options = parser.parse_args(arguments)
    phase = caffe_pb2.Phase.Value(options.phase)
    try:
        net = prototxt.read(options.prototxt, caffe_pb2.NetParameter())
        rows = explain(net, options.size, phase)
    except (EnvironmentError, prototxt.PrototxtError) as error:
        sys.exit('explain: %s' % error)
    except ExplainError as error:
        sys.exit('explain: %s: %s' % (options.prototxt, error))
    print('\n'.join(table(rows) + [''] + totals(rows, running(net, phase))))


if __name__ == '__main__':
    main()
