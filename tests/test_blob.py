"""Blob: shapes, the two faces of its memory, sharing, and where results land."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchcaffe.blob import HOST, Blob, proto_shape, same_shape
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2


def test_starts_as_zeros_and_shows_writes_to_layers():
    blob = Blob(2, 3)
    assert blob.data.dtype == blob.diff.dtype == np.float32
    assert not blob.data.any() and not blob.diff.any()
    blob.data[1, 2] = 5
    blob.diff[...] = -1
    assert blob.value[1, 2] == 5 and (blob.grad == -1).all()


def test_a_held_view_sees_results_and_an_unheld_one_costs_no_copy():
    blob = Blob(2, 3)
    result = torch.ones(2, 3)
    blob.value = result
    assert blob.value.data_ptr() == result.data_ptr()  # adopted
    view = blob.data[1]  # of the adopted memory
    blob.value = torch.full((2, 3), 7.0)
    assert (view == 7).all()
    del view
    gc.collect()
    result = torch.zeros(2, 3)
    blob.value = result
    assert blob.value.data_ptr() == result.data_ptr()


def test_views_outlive_the_blob():
    blob = Blob(4)
    view = blob.data
    view[:] = 3
    del blob
    gc.collect()
    assert (view == 3).all()


def test_zero_axes():
    blob = Blob()
    assert blob.shape == () and blob.count == 1 and blob.data.shape == ()
    blob.value = torch.tensor(2.5)
    assert float(blob.data) == 2.5


def test_reshape_keeps_memory_until_it_grows():
    blob = Blob(2, 3)
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(4)
    assert blob.data.tolist() == [0, 1, 2, 3]
    blob.reshape(3, 2)
    assert blob.data[2].tolist() == [4, 5]
    blob.reshape(7)
    assert not blob.data.any()


def test_growth_after_an_adopted_smaller_result():
    """The adopted memory is smaller than what was there before: growing again must not read beyond it."""
    blob = Blob(10)
    blob.reshape(4)
    blob.value = torch.ones(4)
    blob.reshape(8)
    assert blob.value.shape == (8,) and not blob.value.any()


def test_a_diff_outlives_smaller_results():
    """A loss weight is written into a top's diff once. BVLC keeps it while the blob stays within its first size: a net
    with `loss_weight: 2` on a top of 4 x 4, then 2 x 2, then 4 x 4 values prints 192, 48, 192, and 0 once it grew."""
    blob = Blob(6)
    blob.diff[...] = 2
    for count in (3, 6):
        blob.reshape(count)
        blob.value = torch.ones(count)
        assert blob.diff.tolist() == [2] * count
    blob.reshape(7)
    assert not blob.diff.any()


@given(st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=4), st.booleans(), st.booleans()), max_size=12))
def test_any_order_of_reshapes_views_and_results(steps):
    """Whatever came before, the last result is what both faces show, and a view held since then shows it too."""
    blob, views = Blob(), []
    for i, (shape, hold, shrink) in enumerate(steps):
        blob.reshape(*shape)
        if hold:
            views.append(blob.data)
        blob.value = torch.full(tuple(shape), float(i))
        assert blob.data.shape == tuple(shape) and (blob.data == i).all() and (blob.value == i).all()
        if hold:
            assert (views[-1] == i).all()
        if shrink:
            views.clear()


def test_sharing_is_of_memory():
    a, b = Blob(2, 3), Blob(6)
    b.share_data(a)
    a.value = torch.ones(2, 3)
    assert (b.data == 1).all() and not b.diff.any()
    b.data[0] = 9
    assert a.data[0, 0] == 9
    with pytest.raises(CaffeError, match=r"\(2, 3\).*\(5,\)|\(5,\).*\(2, 3\)"):
        Blob(5).share_data(a)


def test_parameter_diffs_accumulate():
    blob = Blob(3)
    blob.add_grad(torch.ones(3))
    blob.add_grad(torch.ones(1, 3))
    assert blob.diff.tolist() == [2, 2, 2]


@pytest.mark.parametrize("shape, part", [((-1, 2), "negative"), ((65536, 65536), "limit"), ((1,) * 33, "axes")])
def test_impossible_shapes(shape, part):
    with pytest.raises(CaffeError, match=part):
        Blob(*shape)


def test_shapes_are_whole_numbers():
    """As in pycaffe a TypeError, and no quiet 187 of 375 / 2."""
    blob = Blob(2, 3)
    with pytest.raises(TypeError, match=r"\(1, 187.5\).*//"):
        blob.reshape(1, 375 / 2)
    blob.reshape(np.int64(3), True)
    assert blob.shape == (3, 1)


def test_a_result_of_another_size_is_refused():
    with pytest.raises(CaffeError, match=r"\(2, 3\).*\(4,\)"):
        Blob(2, 3).value = torch.zeros(4)


def test_protos_old_and_new():
    blob = Blob(2, 3)
    blob.data[...] = np.arange(6).reshape(2, 3)
    proto = blob.to_proto()
    other = Blob()
    other.from_proto(proto)
    assert other.shape == (2, 3) and (other.data == blob.data).all()
    old = caffe_pb2.BlobProto(num=1, channels=1, height=2, width=3, double_data=range(6))
    assert proto_shape(old) == (1, 1, 2, 3)
    blob.data[...] = 0
    blob.from_proto(old, reshape=False)
    assert blob.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(CaffeError, match=r"\(1, 1, 2, 3\).*\(3, 2\)"):
        Blob(3, 2).from_proto(old, reshape=False)
    with pytest.raises(CaffeError, match="5 values, wanted 6"):
        Blob().from_proto(caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[6]), data=range(5)))
    assert same_shape((2, 3), (1, 1, 2, 3), legacy=True) and not same_shape((2, 3), (1, 1, 2, 3), legacy=False)


def test_lent_to_a_parameter():
    """Results land in it, whatever is held; it may be moved; when it is gone, results are adopted again."""
    blob = Blob(2, 3)
    blob.data[...] = 5
    tensor = torch.nn.Parameter(blob.value)
    blob.memory.lend(tensor)
    assert blob.memory.is_lent_to(tensor)
    blob.value = torch.ones(2, 3)
    assert (tensor == 1).all() and blob.value.data_ptr() == tensor.data_ptr()
    tensor.data.fill_(7)
    assert (blob.data == 7).all()
    view = blob.data
    tensor.data = torch.full((2, 3), 9.0)  # other memory: the blob does not know yet
    assert not blob.memory.is_lent_to(tensor) and (view == 7).all()
    blob.memory.lend(tensor)
    assert (view == 9).all() and blob.memory.is_lent_to(tensor)
    del tensor, view
    gc.collect()
    result = torch.zeros(2, 3)
    blob.value = result
    assert blob.value.data_ptr() == result.data_ptr()


class Far(torch.Tensor):
    """Says it is on a GPU, so that the rules of lent memory show where there is none."""

    device = torch.device("cuda", 0)


def test_lent_to_a_parameter_on_a_gpu():
    blob = Blob(3)
    memory, gpu = blob.memory, Far.device
    tensor = torch.full((3,), 5.0).as_subclass(Far)
    memory.lend(tensor)
    assert blob.data.tolist() == [5, 5, 5]
    tensor.fill_(6)  # as an optimizer does, after somebody looked at the host copy
    assert blob.data.tolist() == [6, 6, 6] and memory.read(gpu).tolist() == [6, 6, 6]
    view = blob.data
    view[:] = 7  # as one sets weights
    assert memory.read(gpu).data_ptr() == tensor.data_ptr() and tensor.tolist() == [7, 7, 7]
    tensor.add_(1)
    assert memory.read(HOST).tolist() == [8, 8, 8] == view.tolist()
    tensor.add_(1)
    assert memory.read(HOST).tolist() == [9, 9, 9]  # reading did not make the host copy the newest
    memory.adopt(torch.full((3,), 4.0).as_subclass(Far))
    assert memory.is_lent_to(tensor) and tensor.tolist() == [4, 4, 4] == blob.data.tolist()
    home = torch.nn.Parameter(torch.full((3,), 2.0))  # and back, a view being held
    memory.lend(home)
    assert view.tolist() == [2, 2, 2] and memory.is_lent_to(home) and blob.value.data_ptr() == home.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_host_and_device_rule():
    """In GPU mode a write through .data reaches the next layer, and a result of the device reaches .data."""
    import caffe

    caffe.set_mode_gpu()
    try:
        blob = Blob(3)
        view = blob.data
        view[...] = 2
        assert blob.value.is_cuda and blob.value.tolist() == [2, 2, 2]
        blob.value = blob.value * 3
        assert blob.data.tolist() == [6, 6, 6] and view.tolist() == [6, 6, 6]
        blob.data[0] = 1
        assert blob.value.tolist() == [1, 6, 6]
    finally:
        caffe.set_mode_cpu()
