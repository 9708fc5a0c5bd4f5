"""What reports are made of: one self-contained HTML page, its tables, curves, confusion matrices and pictures.

Nothing is fetched from anywhere: styles, curves (SVG) and pictures (data URIs) are in the file, and there are no scripts.
Light or dark as the reader's device is set; wide things scroll by themselves on a phone. All text is escaped, but what
the functions here return (Html).
"""
from __future__ import division, print_function

import base64
import io
import math
import os

import numpy as np
from PIL import Image

from curves import ticks

STYLE = u'''
:root{--ink:#1c2127;--soft:#59636e;--line:#dde2e7;--paper:#fff;--card:#f5f7f9;--bar:#d5e3f3;--cell:26,93,168;
--good:#176b3c;--bad:#a3271d;--warn:#7a5200;--c0:#1a5da8;--c1:#c2571a;--c2:#2d8a4e;--c3:#7b4bab;--c4:#78838e}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa5b0;--line:#333b43;--paper:#14181c;--card:#1d2329;
--bar:#20405f;--cell:96,165,235;--good:#5fc98a;--bad:#f08a80;--warn:#e0b050;--c0:#60a5eb;--c1:#f0995c;--c2:#63c588;
--c3:#b792e0;--c4:#8c98a4}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:66rem;padding:1.2rem 1rem 3rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.55rem;line-height:1.25;margin:.2rem 0}
h2{font-size:1.15rem;margin:2.4rem 0 .7rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.4rem 0;max-width:46rem}
.soft,.soft td{color:var(--soft)}.small{font-size:.87rem}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.4rem,1fr));gap:.6rem;margin:1rem 0}
.card{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}
.card b{display:block;font-size:1.45rem;line-height:1.3;font-variant-numeric:tabular-nums}
.card span{display:block;color:var(--soft);font-size:.82rem;line-height:1.35}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.4rem}
.scroll{overflow-x:auto;overscroll-behavior-x:contain}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:.24rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:500}th,td{white-space:nowrap}td.n,th.n{text-align:right}
.wide{white-space:normal;min-width:15rem;overflow-wrap:anywhere}
td.bar{min-width:4.6rem;background:linear-gradient(90deg,var(--bar) var(--v),transparent 0)}
table.facts td{white-space:normal;overflow-wrap:anywhere}
svg{display:block;max-width:100%;height:auto}.scroll svg{max-width:none}
svg text{fill:var(--soft);font:13px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif}
.grid{stroke:var(--line)}.line{fill:none;stroke-width:2;stroke-linejoin:round}.band{stroke:none;opacity:.18}
.dash{stroke-dasharray:5 4;stroke-width:1.5}
.legend{display:flex;flex-wrap:wrap;gap:.15rem .9rem;font-size:.87rem;color:var(--soft)}
.key{display:inline-block;width:.85em;height:.85em;border-radius:.2em;margin-right:.4em;vertical-align:-.06em;
border:1px solid rgba(128,128,128,.5)}
.shots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(47%,11.5rem),1fr));gap:.5rem;margin:.5rem 0 .3rem}
.shots figure{margin:0}.shots img{width:100%;height:auto;display:block;border-radius:.3rem}
figcaption{font-size:.82rem;color:var(--soft)}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
'''


class Html(type(u'')):
    """Text that is HTML already and must not be escaped again; what is added to it is."""

    def __add__(self, other):
        return Html(type(u'').__add__(self, text(other)))


def text(value):
    """A value as HTML: escaped, unless it is Html. None becomes a dash; bytes that are no UTF-8 become question marks."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html(u'\u2013')
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    value = u'%s' % (value,)
    for plain, escaped in ((u'&', u'&amp;'), (u'<', u'&lt;'), (u'>', u'&gt;'), (u'"', u'&quot;'), (u"'", u'&#39;')):
        value = value.replace(plain, escaped)
    return Html(value)


def join(parts, between=u''):
    """The HTML of several parts, one after another."""
    return Html(text(between).join(text(part) for part in parts))


def tag(name, content=u'', **attributes):
    """An element. class_ stands for the attribute class; an underscore in the name of another for a dash."""
    shown = [u' %s="%s"' % (key.rstrip('_').replace('_', '-'), text(attributes[key])) for key in sorted(attributes)]
    return Html(u'<%s%s>%s</%s>' % (name, u''.join(shown), text(content), name))


def page(title, parts):
    """The whole document, a unicode text."""
    return (u'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width='
            u'device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n<title>%s</title>\n<style>'
            u'%s</style>\n</head>\n<body>\n%s\n</body>\n</html>\n' % (text(title), STYLE, join(parts, Html(u'\n'))))


def cards(entries):
    """Key figures. entries: (value, what it is) or (value, what it is, class: good, bad or warn)."""
    return tag('div', join([tag('div', tag('b', entry[0], class_=entry[2] if len(entry) > 2 else '') +
                                tag('span', entry[1]), class_='card') for entry in entries]), class_='cards')


def table(head, rows, numbers=()):
    """A table that scrolls sideways if need be. numbers: the columns of figures, aligned to the right.

    A cell may be a Bar; None is a dash.
    """
    def cell(kind, c, value):
        if isinstance(value, Bar):
            return tag(kind, value.shown, class_='n bar', style=u'--v:%.4g%%' % (100 * value.share))
        return tag(kind, value, class_='n') if c in numbers else tag(kind, value)
    lines = [join(cell('th', c, value) for c, value in enumerate(head))]
    lines += [join(cell('td', c, value) for c, value in enumerate(row)) for row in rows]
    return tag('div', tag('table', join([tag('tr', line) for line in lines], Html(u'\n'))), class_='scroll')


class Bar(object):
    """A cell of a table with a bar behind it. share: its length, 0..1."""

    def __init__(self, shown, share):
        self.shown, self.share = shown, min(max(share, 0), 1)


def facts(pairs):
    """Names and values, one pair a line."""
    return tag('table', join([tag('tr', tag('th', key) + tag('td', value)) for key, value in pairs], Html(u'\n')),
               class_='facts')


def percent(value, digits=1):
    """A share as percent without the sign, e.g. 0.6347 -> 63.5; None stays None."""
    return None if value is None else u'%.*f' % (digits, 100 * value)


def place(path):
    """A file and the folder it is in: run/voc/best.caffemodel -> voc/best.caffemodel."""
    return os.path.join(os.path.basename(os.path.dirname(path)), os.path.basename(path))


def short(value):
    """A number of an axis: 4000 -> 4k, 1500000 -> 1.5M."""
    for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if abs(value) >= size:
            return '%g%s' % (value / size, unit)
    return '%g' % value


# -- curves ------------------------------------------------------------------------------------------------------------
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 290, 52, 18, 10, 40     # of a chart and its margins
BINS = 240                                                              # points a long series is drawn with at most


def chart(title, series, lines=(), log=False, x_label='iteration'):
    """Curves in one chart, an SVG with its title and legend.

    series: (name, xs, ys) each; values that are not finite are left out, long series are drawn as the means of
    neighbours with a band from their least to their greatest. lines: (name, y) each, drawn across. log: scale of y.
    """
    kept = []
    for name, xs, ys in series:
        points = [(x, y) for x, y in zip(xs, ys) if not math.isnan(y) and not math.isinf(y) and (y > 0 or not log)]
        kept.append((name, _thinned(points)))
    xs = [x for _, points in kept for x, _, _, _ in points] or [0, 1]
    ys = [y for _, points in kept for p in points for y in p[2:]] + [y for _, y in lines] or [1, 2]
    right = max(max(xs), 1)
    low, high = (math.log10(min(ys)), math.log10(max(ys))) if log else (min(0, min(ys)), max(ys))
    high += max(0.04 * (high - low), 1e-12)

    def place(x, y):
        y = math.log10(y) if log else y
        return (LEFT + (WIDTH - LEFT - RIGHT) * x / right,
                HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low))
    drawn = []
    for value in [10. ** e * m for e in range(int(math.floor(low)), int(high) + 1) for m in (1, 2, 5)
                  if low <= math.log10(10. ** e * m) <= high] if log else ticks(low, high):
        y = place(0, value)[1]
        drawn.append(u'<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH - RIGHT, y, y))
        drawn.append(_label(LEFT - 6, y + 4.5, short(value), 'end'))
    for value in ticks(0, right, 6):
        drawn.append(_label(place(value, 1)[0], HEIGHT - BOTTOM + 17, short(value), 'middle'))
    drawn.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, 'middle'))
    for i, (_, points) in enumerate(kept):
        color = u'var(--c%d)' % (i % 5)
        if any(p[2] != p[3] for p in points):
            edge = [place(x, top) for x, _, _, top in points] + [place(x, bottom) for x, _, bottom, _ in points[::-1]]
            drawn.append(u'<polygon class="band" fill="%s" points="%s"/>' % (color, _path(edge)))
        placed = [place(x, y) for x, y, _, _ in points]
        drawn.append(u'<polyline class="line" stroke="%s" points="%s"/>' % (color, _path(placed)))
        drawn += [u'<circle r="3" fill="%s" cx="%.1f" cy="%.1f"/>' % ((color,) + p) for p in placed if len(placed) < 40]
    for i, (_, y) in enumerate(lines):
        height = place(0, y)[1]
        drawn.append(u'<line class="dash" stroke="var(--c%d)" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>'
                     % (i % 5, LEFT, WIDTH - RIGHT, height, height))
    keys = [(name, i % 5, u'') for i, (name, _) in enumerate(kept)]
    keys += [(name, i % 5, u'\u2504 ') for i, (name, _) in enumerate(lines)]
    legend = [tag('span', join([u'' if dash else key_of('var(--c%d)' % color), dash, name])) for name, color, dash in keys]
    shown = Html(u'<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>'
                 % (WIDTH, HEIGHT, text(title), u''.join(drawn)))
    heading = tag('h3', title + (u' (log scale)' if log else u''))
    return tag('div', heading + tag('div', join(legend), class_='legend') + shown)


def key_of(color):
    """A small square of a colour: CSS, or (r, g, b)."""
    return tag('span', class_='key', style=u'background:%s' % (
        color if isinstance(color, (str, type(u''))) else u'rgb(%d,%d,%d)' % tuple(int(v) for v in color)))


def _thinned(points):
    """(x, y) points as (x, mean, least, greatest) of at most BINS groups of neighbours."""
    size = max(-(-len(points) // BINS), 1)
    groups = [points[i:i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g), min(y for _, y in g), max(y for _, y in g))
            for g in groups]


def _path(points):
    return u' '.join(u'%.1f,%.1f' % p for p in points)


def _label(x, y, shown, anchor, extra=u''):
    return u'<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>' % (x, y, anchor, extra, text(shown))


# -- confusion ---------------------------------------------------------------------------------------------------------
def confusion(hist, names, rows='truth', columns='predicted'):
    """A confusion matrix as a picture: a row a class of truth, shaded by the share of its pixels in each column.

    With up to 25 classes the shares are written in, in percent.
    """
    hist = np.asarray(hist, dtype=float)
    n = len(hist)
    shares = hist / np.maximum(hist.sum(1), 1)[:, None]
    written = n <= 25
    side = 30 if written else 14
    labels = [names[c] if c < len(names) and names[c] else u'class %d' % c for c in range(n)]
    margin = 14 + 7.2 * max(len(label) for label in labels)
    top = margin * 0.75 + 16
    parts = [_label(2, 14, u'%s \u2193  %s \u2192' % (rows, columns), 'start')]
    font = u' style="font-size:%dpx"' % (12 if written else 11)
    for c, label in enumerate(labels):
        middle = (c + .5) * side
        parts.append(_label(margin - 6, top + middle + 4, label, 'end', font))
        x, y = margin + middle + 4, top - 6
        parts.append(_label(x, y, label, 'start', u' transform="rotate(-48 %.1f %.1f)"%s' % (x, y, font)))
    parts.append(u'<rect x="%.1f" y="%.1f" width="%d" height="%d" fill="none" stroke="var(--line)"/>'
                 % (margin, top, n * side, n * side))
    for r, c in zip(*np.nonzero(shares >= 0.005)):      # lighter is not seen
        share, x, y = shares[r, c], margin + c * side, top + r * side
        parts.append(u'<rect x="%.1f" y="%.1f" width="%d" height="%d" style="fill:rgba(var(--cell),%.2f)"><title>%s</title>'
                     u'</rect>' % (x, y, side, side, 0.06 + 0.84 * share,
                                   text(u'%s \u2192 %s: %.1f %%' % (labels[r], labels[c], 100 * share))))
        if written:
            parts.append(_label(x + side / 2, y + side / 2 + 4, '%.0f' % (100 * share), 'middle',
                                u' pointer-events="none" style="font-size:11px;fill:%s"'
                                % (u'var(--paper)' if share > .55 else u'var(--ink)')))
    width = margin + n * side + margin * 0.75
    return tag('div', Html(u'<svg width="%d" height="%d" role="img" aria-label="confusion matrix">%s</svg>' % (
        width, top + n * side + 4, u''.join(parts))), class_='scroll')


def mistakes(hist, names, most=12):
    """The largest confusions: (class of truth, class predicted instead, share of the truth's pixels, pixels) each.

    In the order of pixels; the first `most`.
    """
    hist = np.array(hist)
    total = np.maximum(hist.sum(1), 1)
    np.fill_diagonal(hist, 0)
    order = np.argsort(-hist, axis=None, kind='mergesort')[:most]
    found = [divmod(int(i), len(hist)) for i in order]
    return [(named(names, r), named(names, c), hist[r, c] / total[r], int(hist[r, c])) for r, c in found if hist[r, c]]


def named(names, c):
    """The name of class c, or 'class c'."""
    return names[c] if c < len(names) and names[c] else u'class %d' % c


# -- pictures ----------------------------------------------------------------------------------------------------------
def picture(image, alt):
    """An <img> of a PIL image or of a PNG or JPEG file's path, held in the page itself."""
    if isinstance(image, Image.Image):
        data, kind = io.BytesIO(), 'png'
        image.save(data, 'PNG')
        data = data.getvalue()
    else:
        with open(image, 'rb') as f:
            data = f.read()
        kind = 'png' if data[:4] == b'\x89PNG' else 'jpeg'
    return Html(u'<img alt="%s" src="data:image/%s;base64,%s">' % (text(alt), kind, base64.b64encode(data).decode('ascii')))


def shots(entries):
    """Pictures side by side. entries: (picture as for `picture`, caption) each."""
    return tag('div', join([tag('figure', picture(image, caption) + tag('figcaption', caption))
                            for image, caption in entries]), class_='shots')
