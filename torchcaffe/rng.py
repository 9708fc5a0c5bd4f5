"""Caffe's random stream on the CPU, bit for bit (caffe_rng_* of src/caffe/util/math_functions.cpp, util/rng.hpp).

One Mersenne Twister a thread, in Boost's words `mt19937`: its raw 32-bit draws are those of numpy's RandomState(seed).
The distributions are Boost's (1.74, what Debian's Caffe was built with), in float32, and they draw again where Boost
draws again, so the stream stays in step however long it gets:

    uniform     one draw a value, drawn again if rounding reaches the upper end
    bernoulli   one draw a value; none if p is 0
    gaussian    a ziggurat of 128 boxes: one draw for 98.8 % of the values, two or more for the others (ziggurat.py)

What draws, and in which order: as layers are set up, fillers (weight before bias; in recurrent layers for every timestep)
and the seeds of data layers; then DummyData and Dropout in forward. Caffe built with another Boost gives the same uniform
and Bernoulli values; very old ones have another gaussian. What Caffe draws on a GPU comes from PyTorch's streams instead
(on_device).
"""

from __future__ import annotations

import os
import threading

import numpy as np
import torch

from torchcaffe import ziggurat
from torchcaffe.errors import CaffeError

CHUNK = 1 << 20  # draws handled at once: 4 MB, so temporaries stay in cache however large the blob


class Generator:
    """One stream; Caffe has one a thread (`caffe_rng()`) and derives others from it with rand() as seed."""

    def __init__(self, seed: int | None = None):
        """`seed` is taken as C's unsigned int (modulo 2^32); None takes one from the operating system."""
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "little")
        self._twister = np.random.RandomState(int(seed) & 0xFFFFFFFF)

    def draws(self, n: int) -> np.ndarray:
        """The next n raw draws, uint32."""
        return self._twister.randint(0, 1 << 32, size=n, dtype=np.uint32)

    def rand(self) -> int:
        """One raw draw, 0 .. 2^32 - 1 (caffe_rng_rand)."""
        return int(self._twister.randint(0, 1 << 32, dtype=np.uint32))

    def uniform(self, n: int, a: float, b: float) -> np.ndarray:
        """n float32 values in [a, b] (caffe_rng_uniform); CaffeError unless a <= b."""
        a, b = np.float32(a), np.float32(b)
        _check(n >= 0 and a <= b, "uniform", "n >= 0 and a <= b", n, a, b)
        top = np.nextafter(b, np.finfo(np.float32).max)
        if top / np.float32(2) - a / np.float32(2) > np.finfo(np.float32).max / np.float32(2):
            return np.float32(2) * self._below(n, a / np.float32(2), top / np.float32(2))
        return self._below(n, a, top)

    def _below(self, n: int, a: np.float32, top: np.float32) -> np.ndarray:
        out = np.empty(n, np.float32)
        done = 0
        while done < n:
            values = self.draws(min(n - done, CHUNK)).astype(np.float32)
            values *= np.float32(2.0**-32)
            values *= top - a
            values += a
            values = values[values < top]
            out[done : done + values.size] = values
            done += values.size
        return out

    def gaussian(self, n: int, mean: float, std: float) -> np.ndarray:
        """n float32 values of a normal distribution (caffe_rng_gaussian); CaffeError unless std > 0."""
        mean, std = np.float32(mean), np.float32(std)
        _check(n >= 0 and std > 0, "gaussian", "n >= 0 and std > 0", n, mean, std)
        out = np.empty(n, np.float32)
        done = 0
        while done < n:
            # A draw gives at most one value, so n - done draws never give too many.
            values = ziggurat.normals(self.draws(min(n - done, CHUNK)), self.rand)
            out[done : done + values.size] = values
            done += values.size
        out *= std
        out += mean
        return out

    def bernoulli(self, n: int, p: float | np.float32) -> np.ndarray:
        """n int32 values, 1 with probability p (caffe_rng_bernoulli); CaffeError unless 0 <= p <= 1.

        Caffe's template compares in the type of p, and so does this: np.float32 in float32 (the sparse gaussian
        filler), a float in double. Dropout's p is `1. - ratio`, a double, of the float32 ratio: 1.0 - float(ratio).
        """
        kind = np.float32 if isinstance(p, np.float32) else np.float64
        _check(n >= 0 and 0 <= p <= 1, "bernoulli", "n >= 0 and 0 <= p <= 1", n, p)
        if p == 0:
            return np.zeros(n, np.int32)
        limit = kind(p) * kind(0xFFFFFFFF)
        out = np.empty(n, np.int32)
        for start in range(0, n, CHUNK):
            part = out[start : start + CHUNK]
            np.less_equal(self.draws(part.size).astype(kind), limit, out=part, casting="unsafe")
        return out

    def get_state(self) -> np.ndarray:
        """The state as 625 uint32: the twister's 624 words and the position in them."""
        _, words, position = self._twister.get_state()[:3]
        return np.append(words, np.uint32(position)).astype(np.uint32)

    def set_state(self, state: np.ndarray) -> None:
        """Go on from a state that get_state returned; anything else is a CaffeError."""
        state = np.asarray(state)
        if state.shape != (625,) or state.dtype != np.uint32 or state[-1] > 624:
            raise CaffeError("rng.set_state: got an array of %s, shape %s; wanted what get_state returns: 625 uint32, "
                             "the last at most 624" % (state.dtype, state.shape))
        self._twister.set_state(("MT19937", state[:624], int(state[624])))


def _check(holds: bool, what: str, wanted: str, *got: object) -> None:
    if not holds:
        raise CaffeError("rng.%s: got %s, wanted %s" % (what, ", ".join(str(g) for g in got), wanted))


_thread = threading.local()


def generator() -> Generator:
    """This thread's stream; seeded from the operating system if set_random_seed was never called in this thread."""
    if not hasattr(_thread, "generator"):
        _thread.generator = Generator()
    return _thread.generator


def set_random_seed(seed: int) -> None:
    """Start this thread's streams anew, the ones on devices too (Caffe::set_random_seed)."""
    _thread.generator = Generator(seed)
    _thread.seed, _thread.on_device = int(seed) & 0xFFFFFFFF, {}


def on_device(device: torch.device) -> torch.Generator:
    """This thread's stream on a device, for what Caffe's GPU code draws: PyTorch's numbers, not cuRAND's."""
    streams = _thread.__dict__.setdefault("on_device", {})
    if device not in streams:
        streams[device] = torch.Generator(device)
        streams[device].manual_seed(_thread.__dict__.get("seed", int.from_bytes(os.urandom(4), "little")))
    return streams[device]


def rand() -> int:
    """One raw draw of this thread's stream, the seed of a derived one (caffe_rng_rand)."""
    return generator().rand()


def uniform(n: int, a: float, b: float) -> np.ndarray:
    """Generator.uniform of this thread's stream."""
    return generator().uniform(n, a, b)


def gaussian(n: int, mean: float, std: float) -> np.ndarray:
    """Generator.gaussian of this thread's stream."""
    return generator().gaussian(n, mean, std)


def bernoulli(n: int, p: float | np.float32) -> np.ndarray:
    """Generator.bernoulli of this thread's stream."""
    return generator().bernoulli(n, p)


def get_state() -> np.ndarray:
    """Generator.get_state of this thread's stream."""
    return generator().get_state()


def set_state(state: np.ndarray) -> None:
    """Generator.set_state of this thread's stream."""
    generator().set_state(state)
