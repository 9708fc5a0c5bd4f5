"""Timer: wall-clock time of what the computing device does (src/caffe/util/benchmark.cpp)."""

from __future__ import annotations

import time

import torch

from torchcaffe import common


class Timer:
    """start(), stop(), then milliseconds in `ms`."""

    def __init__(self) -> None:
        self._begin = self._end = 0.0

    def start(self) -> None:
        """Begin timing, once the device is idle."""
        self._begin = now()

    def stop(self) -> None:
        """End timing, once the device is idle."""
        self._end = now()

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop."""
        return self._end - self._begin


def now() -> float:
    """Milliseconds, read when everything asked of the device is done."""
    if common.mode() == common.GPU:
        torch.cuda.synchronize(common.device())
    return time.perf_counter() * 1000
