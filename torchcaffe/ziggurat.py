"""Normal values from raw draws as Boost makes them: Marsaglia and Tsang's ziggurat (J. Stat. Soft. 5(8), 2000).

The bell is covered by 128 boxes of equal area. The low 8 bits of a draw choose sign and box, the high 24 bits the place
x in the box. Left of the box above, x is the value at once. In the wedge under the curve a second draw decides; beyond
the lowest box the tail is sampled with exponential values, which come from a ziggurat of 256 boxes of their own.
Whatever is refused starts over with the next draw. All in float32. Answers to boost/random/normal_distribution.hpp and
exponential_distribution.hpp (1.74) as used by caffe_rng_gaussian<float>.

The tables follow from the construction and are computed here, to 40 digits, instead of being written down.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache
from typing import NamedTuple

import numpy as np

# Where the lowest box ends and the tail begins: the one place for which boxes of equal area end exactly at the top.
NORMAL_TAIL = "3.442619855896652121424320491467339704338"
EXPONENTIAL_TAIL = "7.697117470131049714044628048015215499114"
UNIT_24 = np.float32(2.0**-24)
UNIT_32 = np.float32(2.0**-32)
ONE = np.float32(1)
TWO = np.float32(2)


class Tables(NamedTuple):
    """Right ends x and heights y of the boxes, from the lowest up, in float32 unless said otherwise."""

    x: np.ndarray
    y: np.ndarray
    x_step: np.ndarray  # x[i] - x[i+1], the width of a wedge, rounded once from double
    y_step: np.ndarray  # y[i+1] - y[i], the height of a box, rounded once from double
    inner: np.ndarray  # x[i+1] rounded up: for a float32 v, v < inner[i] says the same as v < x[i+1] in double


def _tables(x: list[Decimal], y: list[Decimal]) -> Tables:
    x64, y64 = np.array([float(v) for v in x]), np.array([float(v) for v in y])
    x32 = x64.astype(np.float32)
    up = np.where(x32.astype(np.float64) < x64, np.nextafter(x32, np.float32(np.inf)), x32)
    return Tables(x32, y64.astype(np.float32), (x64[:-1] - x64[1:]).astype(np.float32),
                  (y64[1:] - y64[:-1]).astype(np.float32), up[1:])


@cache
def normal_tables() -> Tables:
    """Of exp(-x^2/2), 128 boxes."""
    with localcontext() as context:
        context.prec = 40
        tail = Decimal(NORMAL_TAIL)
        mills = tail  # area of the tail / height where it begins, a continued fraction: 1/(t+1/(t+2/(t+3/...)))
        for k in range(300, 0, -1):
            mills = tail + k / mills
        y = [Decimal(0), (-tail * tail / 2).exp()]
        area = y[1] * (tail + 1 / mills)
        x = [area / y[1], tail]
        for _ in range(126):
            y.append(y[-1] + area / x[-1])
            x.append((-2 * y[-1].ln()).sqrt())
        return _tables([*x, Decimal(0)], [*y, Decimal(1)])


@cache
def exponential_tables() -> Tables:
    """Of exp(-x), 256 boxes."""
    with localcontext() as context:
        context.prec = 40
        tail = Decimal(EXPONENTIAL_TAIL)
        y = [Decimal(0), (-tail).exp()]
        area = y[1] * (tail + 1)
        x = [tail + 1, tail]
        for _ in range(254):
            y.append(y[-1] + area / x[-1])
            x.append(-y[-1].ln())
        return _tables([*x, Decimal(0)], [*y, Decimal(1)])


def normals(draws: np.ndarray, more: Callable[[], int]) -> np.ndarray:
    """The float32 standard normal values these uint32 draws make: at most as many as there are draws.

    `more` is asked for further draws only if the last value is not complete when `draws` end.
    """
    tables = normal_tables()
    boxes = (draws & 0xFF).astype(np.intp)
    signs = np.where(boxes & 1, ONE, -ONE)
    boxes >>= 1
    x = (draws >> 8).astype(np.float32) * UNIT_24 * tables.x[boxes]
    begins = np.ones(draws.size, bool)  # which draws begin a value that is kept
    slow = np.flatnonzero(x >= tables.inner[boxes])
    follower = slow + 1
    last = draws.size - 1
    unit = draws[np.minimum(follower, last)].astype(np.float32) * UNIT_32
    # A wedge with its second draw at hand is decided here for all at once; the others (0.06 %) one by one below.
    plain = (boxes[slow] > 0) & (slow < last) & (unit < ONE)
    kept = _under_normal(tables, boxes[slow], x[slow], unit)
    position = 0
    for start, is_plain, is_kept in zip(slow.tolist(), plain.tolist(), kept.tolist()):
        if start < position:
            continue  # this draw was the second of a wedge or part of a tail
        if is_plain:
            begins[start] = is_kept
            begins[start + 1] = False
            position = start + 2
        else:
            position, x[start], signs[start] = _one(draws, start, more)
            begins[start + 1 : position] = False
    x *= signs
    return x if begins.all() else x[begins]


def _under_normal(tables: Tables, box, x, unit):
    """Whether the point of the wedge at x and `unit` of its height lies under the bell; arrays or scalars alike."""
    left, below = tables.x[box], tables.y[box]
    y = below + unit * tables.y_step[box]
    chord = tables.x_step[box] * unit - (left - x)
    tangent = y - (below + (left - x) * below * left)
    convex = left >= ONE
    above_upper = np.where(convex, chord, tangent)
    above_lower = np.where(convex, tangent, chord)
    return (above_upper < 0) & ((above_lower < 0) | (y < _exp(-(x * x / TWO))))


def _exp(x):
    """exp rounded to float32 from double: what a good expf gives, where numpy's float32 exp may be 2 units off."""
    return np.exp(np.asarray(x, np.float64)).astype(np.float32)


def _one(draws: np.ndarray, start: int, more: Callable[[], int]) -> tuple[int, np.float32, np.float32]:
    """One value, draw by draw, from draws[start]: the position after it, its size and its sign."""
    position = start

    def draw() -> int:
        nonlocal position
        position += 1
        return int(draws[position - 1]) if position <= draws.size else more()

    tables = normal_tables()
    while True:
        raw = draw()
        sign = ONE if raw & 1 else -ONE
        box = (raw & 0xFF) >> 1
        x = np.float32(raw >> 8) * UNIT_24 * tables.x[box]
        if x < tables.inner[box]:
            return position, x, sign
        if box == 0:
            x = _tail(draw)
            return position, x, sign
        if _under_normal(tables, box, x, _unit(draw)):
            return position, x, sign


def _unit(draw: Callable[[], int]) -> np.float32:
    """[0, 1): one draw, or more where float32 rounds it up to 1 (the 128 largest draws)."""
    while True:
        value = np.float32(draw()) * UNIT_32
        if value < ONE:
            return value


def _tail(draw: Callable[[], int]) -> np.float32:
    """A value beyond the lowest box."""
    begin = normal_tables().x[1]
    while True:
        x = _exponential(draw) / begin
        y = _exponential(draw)
        if TWO * y > x * x:
            return x + begin


def _exponential(draw: Callable[[], int]) -> np.float32:
    """An exponential value of mean 1."""
    tables = exponential_tables()
    shift = np.float32(0)
    while True:
        raw = draw()
        box = raw & 0xFF
        x = np.float32(raw >> 8) * UNIT_24 * tables.x[box]
        if x < tables.x[box + 1]:
            return shift + x
        if box == 0:
            shift += tables.x[1]  # the tail of an exponential looks like the whole of it
            continue
        unit = _unit(draw)
        y = tables.y[box] + unit * tables.y_step[box]
        above_upper = tables.x_step[box] * unit - (tables.x[box] - x)
        above_lower = y - (tables.y[box + 1] + (tables.x[box + 1] - x) * tables.y[box + 1])
        if above_upper < 0 and (above_lower < 0 or y < _exp(-x)):
            return x + shift
