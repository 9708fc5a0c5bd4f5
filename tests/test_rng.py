"""The random stream against what a real Caffe drew (goldens/rng.npz), bit for bit, and its rules."""

import hashlib
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from torchcaffe import filler, rng, ziggurat
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

GOLDEN = Path(__file__).parent / "goldens" / "rng.npz"
if not GOLDEN.exists():
    pytest.fail("no %s; record it: FCN_CAFFE=bvlc python tests/goldens/make_rng.py" % GOLDEN, pytrace=False)
ARRAYS = np.load(GOLDEN)
CASES = json.loads(str(ARRAYS["cases"]))


def matches(key, values):
    """Compare bits, so that -0.0 is not 0.0; long arrays by hash."""
    wanted = ARRAYS[key]
    if key + ".sha256" in ARRAYS:
        digest = np.frombuffer(hashlib.sha256(values.tobytes()).digest(), np.uint8)
        return np.array_equal(digest, ARRAYS[key + ".sha256"]) and values.ravel()[:8].tobytes() == wanted.tobytes()
    return values.shape == wanted.shape and values.tobytes() == wanted.tobytes()


def test_golden_names_its_origin():
    assert str(ARRAYS["provenance"]).startswith("caffe 1.0")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_stream_is_caffes(number):
    case = CASES[number]
    rng.set_random_seed(case["seed"])
    if case["ratio"] is not None:
        mask = rng.bernoulli(100000, 1.0 - float(np.float32(case["ratio"])))
        assert matches("%d.%d" % (number, len(case["tops"])), mask)
    for i, (text, shape) in enumerate(case["tops"]):
        values = filler.fill(text_format.Parse(text, caffe_pb2.FillerParameter()), shape)
        assert values.dtype == np.float32
        assert matches("%d.%d" % (number, i), values), "case %d, top %d: %s %s" % (number, i, text, shape)


def test_dropouts_probability_is_a_double():
    """Seed 120 holds a draw, number 82608, that is kept in double and not in float32 or the other way round."""
    double = rng.Generator(120).bernoulli(100000, 0.5)
    single = rng.Generator(120).bernoulli(100000, np.float32(0.5))
    assert np.flatnonzero(double != single).tolist() == [82608]


def test_gaussian_one_by_one_is_gaussian_at_once():
    """Every value made by the careful path draw by draw, against the vectorised one, through tails and wedges."""
    one, whole = rng.Generator(5), rng.Generator(5)
    nothing = np.zeros(0, np.uint32)
    singles = [x * sign for _, x, sign in (ziggurat._one(nothing, 0, one.rand) for _ in range(20000))]
    assert np.array_equal(np.array(singles, np.float32), whole.gaussian(20000, 0, 1))
    assert one.rand() == whole.rand()


@pytest.mark.parametrize("splits", [(1,) * 400, (3, 397), (399, 1), (400,)])
def test_gaussian_in_pieces(splits):
    """Values do not depend on how many are asked for at once, whichever kind of value ends a piece."""
    for seed in range(20):
        pieces, whole = rng.Generator(seed), rng.Generator(seed)
        got = np.concatenate([pieces.gaussian(n, 0, 1) for n in splits])
        assert np.array_equal(got, whole.gaussian(400, 0, 1))
        assert pieces.rand() == whole.rand()


def test_tables_close_at_the_top():
    """Both ziggurats: boxes of equal area whose last one ends at height 1, to the last bit but a few of a double."""
    for tables, height in ((ziggurat.normal_tables(), lambda x: np.exp(-x * x / 2)),
                           (ziggurat.exponential_tables(), lambda x: np.exp(-x))):
        x, y = tables.x.astype(np.float64), tables.y.astype(np.float64)
        assert np.allclose(height(x[1:]), y[1:], rtol=4e-6)  # float32 x, times its largest slope
        areas = x[1:-1] * np.diff(y[1:])
        assert np.allclose(areas, x[0] * y[1], rtol=3e-5)  # differences of float32 heights


def test_state_goes_on_where_it_was():
    g = rng.Generator(11)
    g.gaussian(1001, 0, 1)
    state = g.get_state()
    ahead = g.gaussian(50, 0, 1)
    other = rng.Generator(0)
    other.set_state(state)
    assert np.array_equal(other.gaussian(50, 0, 1), ahead)


@pytest.mark.parametrize("state", [np.zeros(624, np.uint32), np.zeros(625), np.full(625, 625, np.uint32)])
def test_state_of_another_kind_is_refused(state):
    with pytest.raises(CaffeError, match="625 uint32"):
        rng.Generator(0).set_state(state)


def test_each_thread_has_its_own_stream():
    rng.set_random_seed(1)
    expected = rng.Generator(1).rand()
    thread = threading.Thread(target=lambda: rng.set_random_seed(2))
    thread.start()
    thread.join()
    assert rng.rand() == expected


def test_unseeded_streams_differ():
    assert not np.array_equal(rng.Generator().draws(4), rng.Generator().draws(4))


def test_probability_zero_draws_nothing():
    g = rng.Generator(4)
    assert not g.bernoulli(10, 0.0).any()
    assert g.rand() == rng.Generator(4).rand()


@pytest.mark.parametrize("call", [lambda g: g.uniform(3, 1, 0), lambda g: g.uniform(3, float("nan"), 1),
                                  lambda g: g.gaussian(3, 0, 0), lambda g: g.gaussian(3, 0, -1),
                                  lambda g: g.bernoulli(3, 1.5), lambda g: g.bernoulli(3, -0.1)])
def test_impossible_distributions_are_errors(call):
    with pytest.raises(CaffeError, match="wanted"):
        call(rng.Generator(0))


def test_uniform_over_all_of_float32():
    values = rng.Generator(3).uniform(1000, -3.4e38, 3.4e38).astype(np.float64)
    assert np.isfinite(values).all() and values.std() > 1e38
