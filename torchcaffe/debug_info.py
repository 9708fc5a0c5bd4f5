"""debug_info: the mean absolute values of what each layer reads and writes, in the log (net.cpp, ForwardDebugInfo ...)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from torchcaffe import log
from torchcaffe.log import number

if TYPE_CHECKING:
    from torchcaffe.net import Net


def forward(net: Net, i: int) -> None:
    """After layer i's forward: its tops and its parameters."""
    layer, name = net.layers[i], net.layer_names[i]
    for top, blob in zip(net.top_names[name], net.top_vecs[i]):
        log.info("    [Forward] Layer %s, top blob %s data: %s" % (name, top, _mean(blob.value)))
    for k, blob in enumerate(layer.blobs):
        specs = layer.layer_param.param
        shown = specs[k].name if k < len(specs) and specs[k].name else k
        log.info("    [Forward] Layer %s, param blob %s data: %s" % (name, shown, _mean(blob.value)))


def backward(net: Net, i: int) -> None:
    """After layer i's backward: the gradients it computed."""
    layer, name = net.layers[i], net.layer_names[i]
    for bottom, blob, needed in zip(net.bottom_names[name], net.bottom_vecs[i], net.bottom_need_backward[i]):
        if needed:
            log.info("    [Backward] Layer %s, bottom blob %s diff: %s" % (name, bottom, _mean(blob.grad)))
    for k, blob in enumerate(layer.blobs):
        if k >= len(layer.param_propagate_down) or layer.param_propagate_down[k]:
            log.info("    [Backward] Layer %s, param blob %d diff: %s" % (name, k, _mean(blob.grad)))


def all_params(net: Net) -> None:
    """After a whole backward: the norms of all parameters and gradients; of severity E, as in Caffe."""
    halves = [[blob.value for blob in net.learnable_params], [blob.grad for blob in net.learnable_params]]
    l1 = [sum(_sum(t.abs()) for t in half) for half in halves]
    l2 = [math.sqrt(sum(_sum(t.square()) for t in half)) for half in halves]
    log.error("    [Backward] All net params (data, diff): L1 norm = (%s, %s); L2 norm = (%s, %s)"
              % tuple(number(x) for x in (*l1, *l2)))


def _sum(tensor: torch.Tensor) -> float:
    return float(tensor.sum(dtype=torch.float64))


def _mean(tensor: torch.Tensor) -> str:
    return number(_sum(tensor.abs()) / tensor.numel() if tensor.numel() else math.nan)
