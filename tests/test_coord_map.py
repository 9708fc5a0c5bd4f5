"""caffe.coord_map: maps derived by hand, a naive twin that tracks every unit, and the crops that must be refused."""

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe.coord_map import (
    PASS_THROUGH_LAYERS,
    AxisMismatchException,
    UndefinedMapException,
    compose,
    conv_params,
    coord_map,
    coord_map_from_to,
    crop,
    crop_params,
    inverse,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def data():
    return L.Input(shape=dict(dim=[1, 3, 100, 100]))


def flat(mapping):
    axis, scale, shift = mapping
    return axis, np.atleast_1d(scale).tolist(), np.atleast_1d(shift).tolist()


@pytest.mark.parametrize(
    "layer, scale, shift",
    [
        (lambda d: L.Convolution(d, kernel_size=3, pad=1), 1, 0),
        (lambda d: L.Convolution(d, kernel_size=3, pad=100), 1, 99),  # the first convolution of every FCN
        (lambda d: L.Convolution(d, kernel_size=3, dilation=2), 1, -2),  # 5 wide with its holes
        (lambda d: L.Convolution(d, convolution_param=dict(kernel_size=7, stride=2)), 0.5, -1.5),
        (lambda d: L.Pooling(d, kernel_size=2, stride=2), 0.5, -0.25),  # unit 0 is centred at 0.5
        (lambda d: L.Im2col(d, convolution_param=dict(kernel_size=1, stride=4)), 0.25, 0),
        (lambda d: L.Deconvolution(d, convolution_param=dict(kernel_size=4, stride=2)), 2, 1.5),
        (lambda d: L.Deconvolution(d, convolution_param=dict(kernel_size=4, stride=2, pad=1)), 2, 0.5),
        (lambda d: L.Crop(d, d, offset=19), 1, -19),
        (lambda d: L.Crop(d, d, crop_param=dict(axis=2, offset=5)), 1, -5),
    ],
)
def test_maps_of_single_layers(layer, scale, shift):
    assert flat(coord_map(layer(data()).fn)) == (1, [scale], [shift])


@pytest.mark.parametrize("kind", PASS_THROUGH_LAYERS)
def test_pointwise_layers_change_nothing(kind):
    assert coord_map(getattr(L, kind)(data()).fn) == (None, 1, 0)


def test_parameters_and_their_defaults():
    axis, stride, extent, pad = conv_params(L.Convolution(data(), kernel_size=[3, 5], axis=2).fn)
    assert (axis, stride.tolist(), extent.tolist(), pad.tolist()) == (2, [1], [3, 5], [0])
    axis, offset = crop_params(L.Crop(data(), data()).fn)
    assert (axis, offset.tolist()) == (2, [0])


def test_layers_without_a_map():
    with pytest.raises(UndefinedMapException, match="InnerProduct"):
        coord_map(L.InnerProduct(data()).fn)


def test_compose_takes_the_second_map_first():
    assert compose((1, 2, 3), (1, 5, 7)) == (1, 10, 17)  # 2 * (5 x + 7) + 3
    assert compose((None, 1, 0), (2, 1, 0))[0] == compose((2, 1, 0), (None, 1, 0))[0] == 2
    with pytest.raises(AxisMismatchException, match="after axis 1 .* after axis 2"):
        compose((1, 1, 0), (2, 1, 0))


number = st.integers(-64, 64).map(lambda n: n / 8)  # in eighths, exact in floats
scale = st.sampled_from([0.125, 0.25, 0.5, 1, 2, 4, 8])


@settings(deadline=None)
@given(scale, number, number)
def test_inverse_undoes_a_map(a, b, x):
    there, back = (1, a, b), inverse((1, a, b))
    assert compose(back, there) == (1, 1, 0) and back[1] * (a * x + b) + back[2] == x


windows = st.tuples(
    st.sampled_from(["Convolution", "Pooling", "Deconvolution"]),
    st.sampled_from([1, 2, 3, 4, 7]),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(windows, max_size=4))
def test_chains_agree_with_tracking_units_one_by_one(chain):
    """The twin: a unit lies, in input pixels, at the mean of the units it reads; one that a deconvolution spreads out
    lies at the mean of the units that read it, and those between are interpolated."""
    blob = start = data()
    first, step = 0.0, 1.0
    for kind, kernel, stride, pad in chain:
        sizes = dict(kernel_size=kernel, stride=stride, pad=pad)
        blob = L.Pooling(blob, **sizes) if kind == "Pooling" else getattr(L, kind)(blob, convolution_param=sizes)
        units, taps = np.arange(-20, 20), np.arange(kernel)
        if kind == "Deconvolution":
            spread_around = np.array([np.mean(unit * stride - pad + taps) for unit in units])
            positions = np.interp([0, 1], spread_around, first + step * units)
        else:
            positions = [np.mean(first + step * (unit * stride - pad + taps)) for unit in (0, 1)]
        first, step = positions[0], positions[1] - positions[0]
    _, a, b = coord_map_from_to(blob, start)
    assert np.allclose(np.ravel([b, a + b]), [first, first + step], rtol=0, atol=1e-9)  # binary fractions: nearly exact


def test_several_spatial_axes():
    d = data()
    up = L.Convolution(d, kernel_size=[3, 5], pad=[10, 20])
    top = crop(up, d)
    assert top.fn.params["crop_param"] == dict(axis=2, offset=[9, 18])
    volume = L.Convolution(d, kernel_size=3, pad=4, axis=0)
    assert crop(volume, d).fn.params["crop_param"] == dict(axis=1, offset=[3])


def vgg_like(n, pad=100):
    """Strides, kernels and pads of VGG16, which is all that counts for coordinates."""
    n.data = data()
    top = n.data
    for stage, convs in enumerate((2, 2, 3, 3, 3), 1):
        for _ in range(convs):
            top = L.Convolution(top, kernel_size=3, stride=1, pad=pad if top is n.data else 1)
        top = n["pool%d" % stage] = L.Pooling(L.ReLU(top, in_place=True), kernel_size=2, stride=2)
    return L.Dropout(L.Convolution(top, kernel_size=7))


def up(bottom, kernel_size, stride):
    return L.Deconvolution(bottom, convolution_param=dict(kernel_size=kernel_size, stride=stride))


def offset(top):
    return top.fn.params["crop_param"]["offset"]


def test_offsets_of_the_released_nets():
    # facts computed with BVLC's net spec from the released net.py files: 19; 5, 27; 5, 9, 31; AlexNet 18
    n = caffe.NetSpec()
    fc = vgg_like(n)
    assert offset(crop(up(fc, 64, 32), n.data)) == [19]
    up2 = up(fc, 4, 2)
    pool4c = crop(n.pool4, up2)
    assert offset(pool4c) == [5]
    fuse4 = L.Eltwise(up2, pool4c)
    assert offset(crop(up(fuse4, 32, 16), n.data)) == [27]
    up4 = up(fuse4, 4, 2)
    pool3c = crop(n.pool3, up4)
    assert offset(pool3c) == [9]
    assert offset(crop(up(L.Eltwise(up4, pool3c), 16, 8), n.data)) == [31]


def test_offset_of_alexnet():
    d = data()
    pool1 = L.Pooling(L.Convolution(d, kernel_size=11, stride=4, pad=100), kernel_size=3, stride=2)
    pool2 = L.Pooling(L.Convolution(L.LRN(pool1), kernel_size=5, pad=2), kernel_size=3, stride=2)
    conv = pool2
    for _ in range(3):
        conv = L.Convolution(conv, kernel_size=3, pad=1)
    fc6 = L.Convolution(L.Pooling(conv, kernel_size=3, stride=2), kernel_size=6)
    assert offset(crop(up(fc6, 63, 32), d)) == [18]


def test_a_crop_is_followed_to_what_it_cuts_from_only():
    a, b = data(), data()
    cut = L.Crop(L.Convolution(a, kernel_size=1), b, offset=3)
    assert flat(coord_map_from_to(cut, a)) == (1, [1], [3])
    with pytest.raises(RuntimeError):
        coord_map_from_to(cut, b)


def test_many_ways_to_a_blob_are_one_map():
    top = start = data()
    for _ in range(60):
        top = L.Eltwise(top, L.ReLU(top))  # 2^60 ways
    assert coord_map_from_to(top, start) == (None, 1, 0)


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (lambda d: L.InnerProduct(d), RuntimeError, "Could not compute map .*InnerProduct"),
        (lambda d: data(), RuntimeError, "Could not compute map"),
        (lambda d: L.Pooling(d, kernel_size=2, stride=2), AssertionError, "scale mismatch .*same stride"),
        (lambda d: L.Convolution(d, kernel_size=3), AssertionError, "cannot crop negative offset .*more padding"),
        (lambda d: L.Convolution(d, kernel_size=4, pad=10), AssertionError, "cannot crop noninteger offset .*8.5"),
        (lambda d: L.Convolution(d, kernel_size=2, stride_h=2), AssertionError, "legacy _h/_w .*stride_h"),
        (lambda d: L.Convolution(d, convolution_param=dict(kernel_size=2, pad_w=2)), AssertionError, "legacy .*pad_w"),
        (lambda d: L.Pooling(d, global_pooling=True), KeyError, "Pooling layer .* no kernel_size"),
        (lambda d: L.Convolution(L.Convolution(d, kernel_size=1, axis=2), kernel_size=1), AxisMismatchException, "axis"),
        (lambda d: L.ReLU(d), AttributeError, "nothing to crop"),
    ],
)  # fmt: skip
def test_crops_that_cannot_be(make, kind, words):
    d = data()
    with pytest.raises(kind, match=words):
        crop(make(d), d)
