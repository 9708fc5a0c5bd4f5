"""Curves as a picture, with Pillow alone: python tools/curves.py RUN... [--out curves.png]

Each RUN is a folder with train.log (Caffe's lines) and metrics.jsonl, as solve.py leaves it.
"""
from __future__ import division, print_function

import argparse
import math
import os
import sys

from PIL import Image, ImageDraw, ImageFont

import runlog
import vis

WIDTH, HEIGHT = 520, 320                    # of a panel
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 26, 56   # its margins
COLORS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207), (127, 127, 127))


def draw(panels):
    """A PIL image of panels side by side. panels: (title, series) each; series: (name, xs, ys) each.

    Panels show iterations to the right. A series of fewer than 13 points gets a dot at each. Values that are not
    finite are left out.
    """
    page = Image.new('RGB', (WIDTH * len(panels), HEIGHT), (255, 255, 255))
    for i, (title, series) in enumerate(panels):
        kept = []
        for name, xs, ys in series:
            points = [(x, y) for x, y in zip(xs, ys) if not (math.isnan(y) or math.isinf(y))]
            kept.append((name, points))
        _panel(ImageDraw.Draw(page), i * WIDTH, title, kept)
    return page


def draw_runs(runs, path):
    """Draw the training loss and the mean IU of runs, folders with train.log and metrics.jsonl, into the file `path`."""
    losses, scores = [], []
    for run in runs:
        name = os.path.basename(os.path.abspath(run))
        losses.append((name,) + runlog.read_losses(os.path.join(run, 'train.log')))
        rows = runlog.read_metrics(os.path.join(run, 'metrics.jsonl'))
        if any('mean_iu' not in row for row in rows):
            raise ValueError('%s: its metrics.jsonl has no mean IU; wanted a run of a segmentation net'
                             % os.path.abspath(run))
        scores.append((name, [row['iteration'] for row in rows], [row['mean_iu'] for row in rows]))
    vis.save_atomic(draw([('training loss, sum over an image', losses), ('mean IU', scores)]), path)


def ticks(low, high, most=6):
    """Round numbers from low to high, at most so many, 1, 2 or 5 times a power of ten apart."""
    span = max(high - low, 1e-12)
    step = 10. ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= most - 1:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(int(first), int(math.floor(high / step + 1e-9)) + 1)]


def _panel(pen, left, title, series):
    font = ImageFont.load_default()
    xs = [x for _, points in series for x, _ in points] or [0, 1]
    ys = [y for _, points in series for _, y in points] or [0, 1]
    low, high = 0., max(max(ys), 1e-12) * 1.05
    x0, x1, y0, y1 = left + LEFT, left + WIDTH - RIGHT, HEIGHT - BOTTOM, TOP

    def place(x, y):
        return x0 + (x1 - x0) * x / max(max(xs), 1), y0 + (y1 - y0) * (y - low) / (high - low)
    for value in ticks(low, high):
        _, y = place(0, value)
        pen.line([x0, y, x1, y], fill=(225, 225, 225))
        text = '%g' % value
        pen.text((x0 - 6 - vis.LETTER * len(text), y - 6), text, fill=(0, 0, 0), font=font)
    for value in ticks(0, max(xs)):
        x, _ = place(value, 0)
        pen.line([x, y0, x, y0 + 4], fill=(0, 0, 0))
        text = '%g' % value
        pen.text((x - vis.LETTER * len(text) // 2, y0 + 6), text, fill=(0, 0, 0), font=font)
    pen.text((left + LEFT, 6), title, fill=(0, 0, 0), font=font)
    pen.text((x1 - 9 * vis.LETTER, y0 + 18), 'iteration', fill=(0, 0, 0), font=font)
    pen.rectangle([x0, y1, x1, y0], outline=(0, 0, 0))
    across = x0
    for i, (name, points) in enumerate(series):
        color = COLORS[i % len(COLORS)]
        placed = [place(x, y) for x, y in points]
        if len(placed) > 1:
            pen.line(placed, fill=color, width=2)
        for x, y in placed if len(placed) < 13 else []:
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=color)
        pen.line([across, HEIGHT - 11, across + 14, HEIGHT - 11], fill=color, width=3)
        pen.text((across + 18, HEIGHT - 17), name, fill=(0, 0, 0), font=font)
        across += 30 + vis.LETTER * len(name)


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description='Draws the training loss and the mean IU of runs.')
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folders with train.log and metrics.jsonl')
    parser.add_argument('--out', default='curves.png', help='default %(default)s')
    options = parser.parse_args(arguments)
    try:
        draw_runs(options.runs, options.out)
    except (ValueError, EnvironmentError, RuntimeError) as error:
        print('curves.py: %s' % error, file=sys.stderr)
        return 1
    print(os.path.abspath(options.out))
    return 0


if __name__ == '__main__':
    sys.exit(main())
