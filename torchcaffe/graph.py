"""From the net a prototxt describes to the net that is built: layers filtered by phase, level and stage, splits inserted.

Proto in, proto out; no tensor here. Follows src/caffe/net.cpp (FilterNet, StateMeetsRule) and util/insert_splits.cpp.
"""

from __future__ import annotations

from collections import defaultdict

from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2


def filter_net(net_param: caffe_pb2.NetParameter, state: caffe_pb2.NetState) -> caffe_pb2.NetParameter:
    """A copy of the net with only the layers whose include/exclude rules admit this state.

    A layer with include rules needs one of them met, one with exclude rules none; both at once is a CaffeError.
    """
    kept = caffe_pb2.NetParameter()
    kept.CopyFrom(net_param)
    del kept.layer[:]
    for layer in net_param.layer:
        if layer.include and layer.exclude:
            raise CaffeError("Layer '%s' (%s): has both include and exclude rules; specify one kind"
                             % (layer.name, layer.type))
        if layer.include:
            keep = any(_meets(state, rule) for rule in layer.include)
        else:
            keep = not any(_meets(state, rule) for rule in layer.exclude)
        if keep:
            kept.layer.add().CopyFrom(layer)
    return kept


def _meets(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> bool:
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return all(s in state.stage for s in rule.stage) and not any(s in state.stage for s in rule.not_stage)


def insert_splits(net_param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy of the net where each top with several consumers feeds a Split layer, one output a consumer.

    A non-zero loss_weight counts as a consumer and moves to the split's first output; the default weight of a loss layer
    does not count, as in Caffe. A layer that reads an unknown blob is a CaffeError.
    """
    producer: dict[str, tuple[int, int]] = {}  # blob name -> (layer, top) that wrote it last
    source: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, bottom) -> the (layer, top) it reads
    uses: dict[tuple[int, int], int] = defaultdict(int)
    loss_weight: dict[tuple[int, int], float] = {}
    for i, layer in enumerate(net_param.layer):
        for j, name in enumerate(layer.bottom):
            if name not in producer:
                raise CaffeError("Layer '%s' (%s): unknown bottom blob '%s' (bottom %d); no layer before it has a top of "
                                 "that name" % (layer.name, layer.type, name, j))
            source[i, j] = producer[name]
            uses[producer[name]] += 1
        for j, name in enumerate(layer.top):
            producer[name] = (i, j)
        for j in range(min(len(layer.loss_weight), len(layer.top))):
            loss_weight[i, j] = layer.loss_weight[j]
            if layer.loss_weight[j]:
                uses[i, j] += 1

    result = caffe_pb2.NetParameter()
    result.CopyFrom(net_param)
    del result.layer[:]
    taken: dict[tuple[int, int], int] = defaultdict(int)  # how many outputs of a split are used so far
    for i, layer in enumerate(net_param.layer):
        copy = result.layer.add()
        copy.CopyFrom(layer)
        for j in range(len(layer.bottom)):
            top = source[i, j]
            if uses[top] > 1:
                writer = net_param.layer[top[0]]
                copy.bottom[j] = _split_top(writer.name, layer.bottom[j], top[1], taken[top])
                taken[top] += 1
        for j, name in enumerate(layer.top):
            count = uses[i, j]
            if count < 2:
                continue
            split = result.layer.add(name=_split_name(layer.name, name, j), type="Split", bottom=[name])
            split.top.extend(_split_top(layer.name, name, j, k) for k in range(count))
            weight = loss_weight.get((i, j), 0.0)
            if weight:
                split.loss_weight.extend([weight] + [0.0] * (count - 1))
                del copy.loss_weight[:]
                taken[i, j] += 1
    return result


def _split_name(layer: str, blob: str, top: int) -> str:
    return "%s_%s_%d_split" % (blob, layer, top)


def _split_top(layer: str, blob: str, top: int, k: int) -> str:
    return "%s_%s_%d_split_%d" % (blob, layer, top, k)
