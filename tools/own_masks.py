"""Masks as people have them: what classes there are, and which class a value or a colour of a mask is.

A file of classes has one a line, in the order of their indices: `name`, or with the colour it has in the masks, `R G B name`
or `name R G B`. Names like void or unlabelled are no class: their pixels are 255, which counts nowhere.

    masks                                        are
    gray or palette images, no colours given     class indices, 255 does not count
    the same, only 0 and 255, of two classes     0 the first, 255 the second
    colour images, gray in fact                  class indices
    anything, colours given                      colours
"""
from __future__ import division, print_function

import re

import numpy as np

import segfiles
from segfiles import IGNORE

NO_CLASS = ('void', 'ignore', 'ignored', 'unlabelled', 'unlabeled', 'unknown', 'border', 'boundary')


class OwnDataError(ValueError):
    """What is wrong with a folder of images and masks, and what to do about it; several problems, one a line."""


class Classes(object):
    """The classes in a file, and what of a mask is which of them. OwnDataError for a file that is no list of classes.

    names: of the classes that count, in the order of their indices. colors: {(R, G, B): index or 255}; {} if masks hold
    indices. First `count` all masks, then `settle` the question of 0 and 255, then `indices` translates a mask.
    """

    def __init__(self, path):
        self.path, self.names, self.colors, entries = path, [], {}, []
        for line in segfiles.read_list(path, 'write one class a line'):
            if not line.startswith('#'):
                entries.append(parse_class(line, path))
        self.table = np.full(256, IGNORE, dtype=np.uint8)       # the class of each value in a mask of indices
        for value, (name, color) in enumerate(entries):
            if name in self.names or color in self.colors:
                raise OwnDataError('%s: %s is there twice; wanted each class and each colour once'
                                   % (path, name if name in self.names else 'the colour of %s' % name))
            index = IGNORE if name.lower() in NO_CLASS else len(self.names)
            if index != IGNORE:
                self.names.append(name)
            if value < IGNORE:
                self.table[value] = index
            if color is not None:
                self.colors[color] = index
        colored = sum(color is not None for _, color in entries)
        if colored not in (0, len(entries)):
            raise OwnDataError('%s: %d of %d classes have a colour; wanted all, if masks hold colours, or none, if they '
                               'hold indices' % (path, colored, len(entries)))
        if not 2 <= len(self.names) <= IGNORE:
            raise OwnDataError('%s: %d classes that count (%s); wanted 2 to %d, the background being one if there is any'
                               % (path, len(self.names), ', '.join(self.names[:5]) or 'none', IGNORE))
        self.listed = len(entries)
        self._seen = {}     # value or colour of the masks: [pixels, first mask]
        self._codes = None
        if self.colors:
            self._codes = np.full(1 << 24, -1, dtype=np.int16)
            for color, index in self.colors.items():
                self._codes[pack(color)] = index

    def count(self, mask, path):
        """Note what a mask (a PIL image) holds. OwnDataError if it holds colours and none are given."""
        if self.colors:
            codes = pack(np.asarray(mask.convert('RGB'), dtype=np.int32).transpose(2, 0, 1))
            strange = codes[self._codes[codes] < 0]
            values, numbers = np.unique(strange, return_counts=True)
        else:
            numbers = np.bincount(values_of(mask, path).ravel(), minlength=256)
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        for value, number in zip(values.tolist(), numbers.tolist()):
            self._seen.setdefault(value, [0, path])[0] += number

    def settle(self, say):
        """The problems, a list of texts, with what all masks hold together; decides what 0 and 255 are and says so."""
        if self.colors:
            strange = sorted(self._seen, key=lambda code: -self._seen[code][0])
            found = ['%d %d %d (%d pixels, first in %s)' % (unpack(code) + tuple(self._seen[code])) for code in strange[:5]]
            return ['the masks hold %d colours that %s does not list: %s; it lists %s. Add them, as `%d %d %d void` if they '
                    'do not count. Where they are many, masks were smoothed, or were JPEG once: wanted pure colours'
                    % ((len(strange), self.path, '; '.join(found), ', '.join('%d %d %d' % c for c in sorted(self.colors))) +
                       unpack(strange[0]))] if strange else []
        if self.listed == 2 and len(self.names) == 2 and set(self._seen) == {0, IGNORE}:
            self.table[IGNORE] = 1
            say('the masks hold 0 and 255: 0 is %s, 255 is %s' % tuple(self.names))
        return ['%d pixels of the masks have the value %d, first in %s; %s lists %d classes, 0 to %d, and 255 does not '
                'count. Add the class to the list, or correct the masks' % (self._seen[v][0], v, self._seen[v][1], self.path,
                                                                            self.listed, self.listed - 1)
                for v in sorted(self._seen) if v >= self.listed and v != IGNORE][:5]

    def indices(self, mask):
        """The class of each pixel of a mask (a PIL image): uint8 [H, W], 255 where it does not count."""
        if self.colors:
            return self._codes[pack(np.asarray(mask.convert('RGB'), dtype=np.int32).transpose(2, 0, 1))].astype(np.uint8)
        return self.table[values_of(mask, 'mask')]


def parse_class(line, path):
    """(name, colour or None) of a line of a file of classes; blanks, tabs, commas and colons part its words."""
    words = [word for word in re.split(r'[\s,;:]+', line) if word]
    for numbers, rest in ((words[:3], words[3:]), (words[-3:], words[:-3])):
        if rest and len(numbers) == 3 and all(word.isdigit() for word in numbers):
            color = tuple(int(word) for word in numbers)
            if max(color) > 255:
                raise OwnDataError('%s: line %r has the colour %d %d %d; wanted red, green, blue of 0..255'
                                   % ((path, str(line)) + color))
            return ' '.join(rest), color
    if not words or all(word.isdigit() for word in words):
        raise OwnDataError('%s: line %r names no class; wanted `name`, or `red green blue name`' % (path, str(line)))
    return line, None


def open_mask(path):
    """The PIL image of a mask. OwnDataError for a JPEG: it has smoothed the borders between classes."""
    mask = segfiles.open_image(path, kind='label')
    if mask.format == 'JPEG':
        raise OwnDataError('%s: a mask that is JPEG; its compression mixes the values of neighbouring classes: save masks '
                           'as PNG' % path)
    return mask


def values_of(mask, path):
    """The values in a mask of indices (a PIL image): uint8 [H, W]. OwnDataError for colours, and for values above 255."""
    if mask.mode in segfiles.DEEP_MODES:
        array = np.array(mask)
        if array.size and not 0 <= array.min() <= array.max() <= 255:
            raise OwnDataError('%s: values from %s to %s; wanted class indices of 0..255' % (path, array.min(), array.max()))
        return array.astype(np.uint8)
    if mask.mode in ('P', 'L', '1'):
        return np.array(mask, dtype=np.uint8)
    array = np.array(mask.convert('RGB'))
    if (array != array[:, :, :1]).any():
        y, x = np.argwhere((array != array[:, :, :1]).any(2))[0]
        raise OwnDataError('%s: a coloured mask (%d %d %d at x %d, y %d), and no colours are given; write each class with '
                           'its colour, `red green blue name`' % ((path,) + tuple(int(v) for v in array[y, x]) + (x, y)))
    return array[:, :, 0]


def contents(paths):
    """A sentence that tells what the first masks hold, for someone who has to write the list of classes."""
    values, colors = set(), set()
    for path in paths[:50]:
        mask = open_mask(path)
        if mask.mode in ('P', 'L', '1'):
            values.update(np.unique(np.array(mask)).tolist())
        else:
            codes = np.unique(pack(np.asarray(mask.convert('RGB'), dtype=np.int32).transpose(2, 0, 1)))
            colors.update(unpack(code) for code in codes.tolist())
    shown = ['the %s %s%s' % (what, ', '.join(form % v for v in sorted(found)[:40]), ', ...' if len(found) > 40 else '')
             for what, form, found in (('values', '%d', values), ('colours', '%d %d %d', colors)) if found]
    return 'The first %d masks hold %s' % (len(paths[:50]), ' and '.join(shown))


def pack(color):
    """Red, green, blue (or arrays of them) as one number."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(code):
    """Red, green, blue of such a number."""
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255
