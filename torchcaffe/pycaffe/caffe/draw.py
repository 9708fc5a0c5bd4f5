"""Pictures of nets (BVLC's python/caffe/draw.py): layers as boxes, blobs as octagons, laid out by Graphviz through pydot.

Both are wanted only here and not installed with the engine: pip install pydot, and Graphviz's program `dot`. Where they are
missing, torchcaffe/graph_picture.py draws, less well.
"""

from __future__ import annotations

import os
from typing import Any

from torchcaffe import graph_picture
from torchcaffe.errors import CaffeError
from torchcaffe.files import write_file

from .proto import caffe_pb2

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}  # layers that work in place
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}
COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
NO_LABEL = '""'
Key = tuple[str, str]  # of a node: its kind and its name


def get_pooling_types_dict() -> dict[int, str]:
    """The values of PoolMethod and their names: {0: 'MAX', ...}."""
    return {value: name for name, value in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """What stands on the edges to a layer's tops: the batch size of Data, how many outputs of layers with weights."""
    if layer.type == "Data":
        return "Batch %d" % layer.data_param.batch_size
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return NO_LABEL


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """The learning rate multipliers of weights and bias; ValueError for a type that BVLC shows none of."""
    if layer.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        raise ValueError("%s layers do not have a learning rate multiplier" % layer.type)
    weights, bias = [*(param.lr_mult for param in layer.param), 1.0, 1.0][:2]
    return weights, bias


def get_layer_label(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """A layer's text, in quotes: name, type, window; in lines, or in one where the net runs from top to bottom or back."""
    parts = [layer.name, "(%s)" % layer.type]
    if layer.type in ("Convolution", "Deconvolution"):
        p = layer.convolution_param  # of several values, one for each axis, the first is shown
        kernel, stride, pad = ([*values, default][0] for values, default in ((p.kernel_size, 1), (p.stride, 1), (p.pad, 0)))
        parts += ["kernel size: %d" % kernel, "stride: %d" % stride, "pad: %d" % pad]
    elif layer.type == "Pooling":
        p = layer.pooling_param
        parts[1] = "(Pooling %s)" % get_pooling_types_dict()[p.pool]
        parts += ["kernel size: %d" % p.kernel_size, "stride: %d" % p.stride, "pad: %d" % p.pad]
    if display_lrm and layer.type in ("Convolution", "Deconvolution", "InnerProduct"):
        parts.append("lr mult: %.1f, %.1f" % get_layer_lr_mult(layer))
    return '"%s"' % (" " if rankdir in ("TB", "BT") else r"\n").join(parts)


def choose_color_by_layertype(layertype: str) -> str:
    """The colour of a layer's box, e.g. '#FF5050'."""
    return COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_pydot_graph(caffe_net: caffe_pb2.NetParameter, rankdir: str, label_edges: bool = True, phase: int | None = None,
                    display_lrm: bool = False) -> Any:
    """The pydot.Dot of a net. ImportError where pydot is not installed.

    rankdir: 'LR', 'RL', 'TB' or 'BT', the way the net runs. phase: caffe.TRAIN or caffe.TEST, whose layers are drawn;
    None for all. display_lrm: show learning rate multipliers. Blobs that nobody reads are plain ellipses.
    """
    try:
        import pydot
    except ImportError as e:
        raise ImportError("drawing a net needs pydot: pip install pydot (and Graphviz: apt-get install graphviz)") from e
    nodes, edges = _parts(caffe_net, rankdir, label_edges, phase, display_lrm)
    nodes = {key: pydot.Node(text, **style) for key, (text, style) in nodes.items()}
    graph = pydot.Dot(caffe_net.name or "Net", graph_type="digraph", rankdir=rankdir)
    for node in nodes.values():
        graph.add_node(node)
    for source, target, label in edges:
        graph.add_edge(pydot.Edge(nodes[source], nodes[target], label=label))
    return graph


def _parts(caffe_net: caffe_pb2.NetParameter, rankdir: str, label_edges: bool, phase: int | None, display_lrm: bool
           ) -> tuple[dict[Key, tuple[str, dict[str, str]]], list[tuple[Key, Key, str]]]:
    """Each node's text and style, of several of one name the last; and the edges: from, to, text."""
    nodes: dict[Key, tuple[str, dict[str, str]]] = {}
    edges = []
    for layer in caffe_net.layer:
        if phase is not None and not _is_in(layer, phase):
            continue
        box = (layer.type, layer.name)
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        style = NEURON_LAYER_STYLE if in_place else {**LAYER_STYLE_DEFAULT,
                                                     "fillcolor": choose_color_by_layertype(layer.type)}
        nodes[box] = get_layer_label(layer, rankdir, display_lrm), style
        for name in layer.bottom:
            nodes["blob", name] = name, BLOB_STYLE
            edges.append((("blob", name), box, NO_LABEL))
        for name in layer.top:
            nodes["blob", name] = name, {}
            edges.append((box, ("blob", name), get_edge_label(layer) if label_edges else NO_LABEL))
    return nodes, edges


def _is_in(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    """Whether include and exclude rules admit the phase; a rule without one is TRAIN's, levels and stages don't count."""
    included = not layer.include or any(rule.phase == phase for rule in layer.include)
    return included and not any(rule.phase == phase for rule in layer.exclude)


def draw_net(caffe_net: caffe_pb2.NetParameter, rankdir: str, ext: str = "png", phase: int | None = None,
             display_lrm: bool = False) -> bytes:
    """The picture of a net as the content of a file of type `ext` (png, svg, pdf, dot ...). See get_pydot_graph.

    Without pydot or Graphviz only the types in graph_picture.FORMATS, plainer; CaffeError for others.
    """
    try:
        return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)
    except (ImportError, FileNotFoundError) as e:  # no pydot; no program dot
        if ext not in graph_picture.FORMATS:
            raise CaffeError("drawing a net as .%s needs pydot and Graphviz (pip install pydot; apt-get install graphviz); "
                             "without them: .%s" % (ext, ", .".join(graph_picture.FORMATS))) from e
    nodes, edges = _parts(caffe_net, rankdir, True, phase, display_lrm)
    return graph_picture.draw(
        {key: graph_picture.Node(text.strip('"').replace(r"\n", "\n"), style.get("fillcolor", "white"), key[0] == "blob")
         for key, (text, style) in nodes.items()},
        [(source, target, label.strip('"')) for source, target, label in edges], rankdir, ext)


def draw_net_to_file(caffe_net: caffe_pb2.NetParameter, filename: str, rankdir: str = "LR", phase: int | None = None,
                     display_lrm: bool = False) -> None:
    """draw_net into a file, whose extension says the type. See get_pydot_graph."""
    ext = os.path.splitext(filename)[1][1:]
    if not ext:
        raise ValueError("draw_net_to_file: '%s' has no extension; wanted one that says the type, e.g. .png" % filename)
    write_file(filename, [draw_net(caffe_net, rankdir, ext, phase, display_lrm)])
