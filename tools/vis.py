"""Pictures: the VOC palette, coloured segmentations, overlays, legends and grids."""
from __future__ import division, print_function

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import segfiles

LINE = 16       # pixels a line of text takes in the default font
LETTER = 7      # pixels a letter of the default font takes at most on average; Pillow's own measure changed names


def make_palette(num_classes):
    """The colours of PASCAL VOC: uint8 [num_classes, 3] (RGB).

    The bits of a class index are dealt out to red, green and blue in turn, from the highest bit of the colour down,
    so that near classes get far colours. Class 0 is black; 255, the border, is (224, 224, 192).
    """
    palette = np.zeros((num_classes, 3), dtype=np.uint8)
    for label in range(num_classes):
        rest = label
        for bit in range(7, -1, -1):
            for channel in range(3):
                palette[label, channel] |= (rest >> channel & 1) << bit
            rest >>= 3
    return palette


def color_seg(seg, palette):
    """Class indices [H, W] -> colours uint8 [H, W, 3]. ValueError for an index that the palette lacks."""
    seg = np.asarray(seg)
    if seg.size and not 0 <= seg.min() <= seg.max() < len(palette):
        raise ValueError('class indices from %d to %d, the palette has %d colours; wanted make_palette(%d)'
                         % (seg.min(), seg.max(), len(palette), seg.max() + 1))
    return np.asarray(palette, dtype=np.uint8)[seg.astype(int)]


def vis_seg(img, seg, palette, alpha=0.5):
    """A picture uint8 [H, W, 3] with its segmentation [H, W] laid over it; class 0 stays clear.

    alpha: share of the colour, 0..1.
    """
    img, seg = np.asarray(img), np.asarray(seg)
    if img.shape != seg.shape + (3,):
        raise ValueError('image %s and segmentation %s; wanted [H, W, 3] and [H, W] of one size'
                         % (img.shape, seg.shape))
    vis = np.array(img, dtype=np.float32)
    mask = seg > 0
    vis[mask] = (1. - alpha) * vis[mask] + alpha * color_seg(seg, palette)[mask]
    return vis.astype(np.uint8)


def index_seg(colors, palette):
    """Colours [H, W, 3] -> class indices uint8 [H, W]: color_seg backwards. ValueError for a colour of no class."""
    def packed(array):
        array = np.asarray(array).astype(np.int64)
        return array[..., 0] << 16 | array[..., 1] << 8 | array[..., 2]
    codes, wanted = packed(palette), packed(colors)
    order = np.argsort(codes)
    place = np.minimum(np.searchsorted(codes[order], wanted), len(codes) - 1)
    seg = order[place]
    strange = codes[seg] != wanted
    if strange.any():
        raise ValueError('%d pixels have a colour of no class, the first %s; wanted the %d colours of the palette: '
                         'are the labels smoothed, JPEG, or in other colours?'
                         % (strange.sum(), tuple(int(c) for c in np.asarray(colors)[strange][0]), len(codes)))
    return seg.astype(np.uint8)


def save_atomic(image, path, **options):
    """Write a PIL image; its folder is made, and no half-written file is ever seen under `path`. options: of its save()."""
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    segfiles.make_folder(folder)
    temporary = os.path.join(folder, '.%d.%s' % (os.getpid(), os.path.basename(path)))
    try:
        image.save(temporary, **options)
        os.rename(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def save_indexed(path, seg, palette=None):
    """Write class indices [H, W] (0..255) as a PNG of mode P: the indices stay readable, viewers show the colours.

    palette: up to 256 colours, the VOC ones if left out.
    """
    seg = np.asarray(seg)
    if seg.ndim != 2 or (seg.size and not 0 <= seg.min() <= seg.max() <= 255):
        raise ValueError('%s: cannot save a segmentation of shape %s with values %s..%s; wanted [H, W] of 0..255'
                         % (path, seg.shape, seg.min(), seg.max()))
    image = Image.fromarray(seg.astype(np.uint8))   # mode L; giving it a palette makes it P
    image.putpalette(np.asarray(make_palette(256) if palette is None else palette, dtype=np.uint8).ravel().tolist())
    save_atomic(image, path)


def legend(classes, names, palette):
    """A PIL image that lists classes with their colours, one a line.

    classes: the indices to list, e.g. np.unique(seg). names: the name of each class; 255 without one is 'ignore'.
    """
    texts = ['%d %s' % (c, names[c] if c < len(names) else 'ignore' if c == 255 else 'class %d' % c) for c in classes]
    width = 2 * LINE + LETTER * max([len(text) for text in texts] or [1])
    image = Image.new('RGB', (width, LINE * max(len(texts), 1) + 4), (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    for row, (c, text) in enumerate(zip(classes, texts)):
        y = 2 + row * LINE
        draw.rectangle([3, y + 2, LINE, y + LINE - 2], fill=tuple(int(v) for v in palette[c]), outline=(0, 0, 0))
        draw.text((LINE + 6, y + 2), text, fill=(0, 0, 0), font=font)
    return image


def grid(rows, titles=(), gap=4):
    """A PIL image of pictures in rows and columns on white, each column under its title.

    rows: lists of pictures, each a PIL image, uint8 [H, W, 3], or None for an empty cell. titles: one a column, or
    none at all. Pictures keep their size and stand in the upper left corner of their cell.
    """
    cells = [[None if cell is None else _as_image(cell) for cell in row] for row in rows]
    columns = max([len(row) for row in cells] or [0])
    if not columns or (titles and len(titles) != columns):
        raise ValueError('%d rows, %d columns and %d titles; wanted at least one picture, and a title a column or none'
                         % (len(cells), columns, len(titles)))
    widths = [max([row[c].width for row in cells if c < len(row) and row[c] is not None] +
                  [LETTER * len(titles[c]) if titles else 1]) for c in range(columns)]
    heights = [max([cell.height for cell in row if cell is not None] or [1]) for row in cells]
    top = gap + (LINE if titles else 0)
    page = Image.new('RGB', (gap + sum(w + gap for w in widths), top + sum(h + gap for h in heights)), (255, 255, 255))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default()
    x = gap
    for c, width in enumerate(widths):
        if titles:
            draw.text((x, gap), titles[c], fill=(0, 0, 0), font=font)
        y = top
        for row, height in zip(cells, heights):
            if c < len(row) and row[c] is not None:
                page.paste(row[c], (x, y))
            y += height + gap
        x += width + gap
    return page


def _as_image(picture):
    """The PIL RGB image of a picture given as PIL image or uint8 [H, W, 3]."""
    return picture.convert('RGB') if isinstance(picture, Image.Image) else Image.fromarray(
        np.ascontiguousarray(picture, dtype=np.uint8))
