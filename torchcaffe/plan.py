"""The place between a built Net and its execution: what is run, in which steps.

A built net is a list of layers. `plan(net)` turns it into a list of steps, each covering one or more consecutive layers.
A pass is a function from a list of steps to a list of steps that compute the same blobs (fused, elided, reordered ...);
the passes in PASSES are applied in order. There are none yet: every step is one layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchcaffe.net import Net


@dataclass
class Step:
    """Layers `first` to `last` of a net, run as one."""

    net: Net
    first: int
    last: int

    def forward(self) -> float:
        """Run the layers; returns their weighted losses."""
        return sum(self.net.forward_layer(i) for i in range(self.first, self.last + 1))

    def backward(self) -> None:
        """Run the layers backward, those that need it."""
        for i in range(self.last, self.first - 1, -1):
            self.net.backward_layer(i)


PASSES: list[Callable[[list[Step]], list[Step]]] = []


def plan(net: Net) -> list[Step]:
    """The steps that run this net from its first layer to its last."""
    steps = [Step(net, i, i) for i in range(len(net.layers))]
    for transform in PASSES:
        steps = transform(steps)
    return steps
