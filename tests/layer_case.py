"""What a case is: a layer with its inputs, as data; the list of them is cases.py.

All numbers follow from a case's name (`Case.random`), so an input is the same under any Python and numpy. Needs numpy
only, Python 3.9 (Debian's Caffe) or newer.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

Shape = tuple


@dataclass(frozen=True)
class Blob:
    """A bottom: its shape, and which numbers it holds (VALUES)."""

    shape: Shape
    values: str = "normal"


@dataclass(frozen=True)
class Case:
    """One layer, its bottoms, and what is done with it."""

    name: str
    layer: str  # type and parameters, as in a prototxt; the runner adds name, bottoms and tops
    bottoms: tuple[Blob, ...] = ()
    tops: int = 1
    phase: str = "TRAIN"
    backward: bool = True
    # Bottoms that get a gradient where the layer refuses force_backward for the others: they come from Parameter layers,
    # and `layer` says loss_weight, so that Caffe runs backward. None: force_backward, all bottoms that may.
    gradients: tuple[int, ...] | None = None
    in_place: bool = False  # top 0 is bottom 0
    after: tuple[str, ...] = ()  # layers that follow and write over top 0
    params: tuple[str, ...] = ()  # numbers for each parameter blob; () means normal ones; ("filler",) leaves them as filled
    passes: int = 1  # how often forward and backward run; parameter diffs add up
    then: tuple[Shape, ...] = ()  # shapes for the bottoms in one more pass
    memory: tuple[Blob, ...] = ()  # data and labels for Net.set_input_arrays
    seed: int | None = None  # set_random_seed, and srand of the C library, before the net is built
    exact: bool = False  # equal bit for bit: drawn, copied or counted, not computed

    def random(self) -> np.random.RandomState:
        """The stream the case's numbers come from."""
        return np.random.RandomState(zlib.crc32(self.name.encode()))


class CaseList(list):
    """Cases, in the order they were added."""

    def add(self, name: str, layer: str, *bottoms: Blob, **how) -> None:
        """Add a case."""
        self.append(Case(name, layer, bottoms, **how))


def numbers(random: np.random.RandomState, shape: Shape, kind: str) -> np.ndarray:
    """Float32 numbers of a kind; a kind with an argument is written `labels:5`."""
    name, _, argument = kind.partition(":")
    count = int(np.prod(shape, dtype=np.int64))
    return np.asarray(VALUES[name](random, count, argument), np.float32).reshape(shape)


def _apart(random: np.random.RandomState, count: int, _: str) -> np.ndarray:
    return random.permutation(np.linspace(-2, 2, count))


def _away(random: np.random.RandomState, count: int, _: str) -> np.ndarray:
    x = random.randn(count)
    return x + 0.1 * np.sign(x)


def _labels(random: np.random.RandomState, count: int, argument: str) -> np.ndarray:
    """`labels:5` 0 to 4; `labels:5,255` with some 255 among them; `labels:5,0.9` each 0.9 too large (Caffe cuts it off)."""
    classes, _, special = argument.partition(",")
    labels = random.randint(0, int(classes), count).astype(np.float64)
    if not special:
        return labels
    if float(special) % 1:
        return labels + float(special)
    return np.where(random.rand(count) < 0.3, float(special), labels)


VALUES = {
    "normal": lambda random, count, _: random.randn(count),
    "positive": lambda random, count, _: random.rand(count) + 0.1,
    "uniform": lambda random, count, _: random.rand(count),
    "wide": lambda random, count, _: 10 * random.randn(count),
    "large": lambda random, count, _: 100 * random.randn(count),
    "zero": lambda random, count, _: np.zeros(count),
    "apart": _apart,  # no two closer than 4 / count: rounding changes no order
    "away": _away,  # away from a kink at 0
    "steps": lambda random, count, _: random.randint(-1, 3, count),  # many ties
    "labels": _labels,
    "constant": lambda random, count, argument: np.full(count, float(argument)),
    "list": lambda random, count, argument: np.array([float(v) for v in argument.split(",")]),
}
