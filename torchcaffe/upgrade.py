"""Old prototxts and caffemodels brought to today's form, as src/caffe/util/upgrade_proto.cpp does, in its order.

V0 (2013: `layers { layer { type: "conv" ... } }`) becomes V1 (2014: `layers { type: CONVOLUTION ... }`), whose data
layers lose their transformation fields to `transform_param`; V1 becomes V2, today's (`layer { type: "Convolution" ...
}`); `input` fields become an Input layer in front; BatchNorm's three `param`s get rate 0. It is logged in Caffe's words.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from google.protobuf.message import Message

from torchcaffe import log
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

_V1 = caffe_pb2.V1LayerParameter

V1_TYPES: dict[int, str] = {
    _V1.ABSVAL: "AbsVal", _V1.ACCURACY: "Accuracy", _V1.ARGMAX: "ArgMax", _V1.BNLL: "BNLL", _V1.CONCAT: "Concat",
    _V1.CONTRASTIVE_LOSS: "ContrastiveLoss", _V1.CONVOLUTION: "Convolution", _V1.DATA: "Data",
    _V1.DECONVOLUTION: "Deconvolution", _V1.DROPOUT: "Dropout", _V1.DUMMY_DATA: "DummyData",
    _V1.EUCLIDEAN_LOSS: "EuclideanLoss", _V1.ELTWISE: "Eltwise", _V1.EXP: "Exp", _V1.FLATTEN: "Flatten",
    _V1.HDF5_DATA: "HDF5Data", _V1.HDF5_OUTPUT: "HDF5Output", _V1.HINGE_LOSS: "HingeLoss", _V1.IM2COL: "Im2col",
    _V1.IMAGE_DATA: "ImageData", _V1.INFOGAIN_LOSS: "InfogainLoss", _V1.INNER_PRODUCT: "InnerProduct", _V1.LRN: "LRN",
    _V1.MEMORY_DATA: "MemoryData", _V1.MULTINOMIAL_LOGISTIC_LOSS: "MultinomialLogisticLoss", _V1.MVN: "MVN",
    _V1.POOLING: "Pooling", _V1.POWER: "Power", _V1.RELU: "ReLU", _V1.SIGMOID: "Sigmoid",
    _V1.SIGMOID_CROSS_ENTROPY_LOSS: "SigmoidCrossEntropyLoss", _V1.SILENCE: "Silence", _V1.SOFTMAX: "Softmax",
    _V1.SOFTMAX_LOSS: "SoftmaxWithLoss", _V1.SPLIT: "Split", _V1.SLICE: "Slice", _V1.TANH: "TanH",
    _V1.WINDOW_DATA: "WindowData", _V1.THRESHOLD: "Threshold",
}
V0_TYPES: dict[str, int] = {
    "accuracy": _V1.ACCURACY, "bnll": _V1.BNLL, "concat": _V1.CONCAT, "conv": _V1.CONVOLUTION, "data": _V1.DATA,
    "dropout": _V1.DROPOUT, "euclidean_loss": _V1.EUCLIDEAN_LOSS, "flatten": _V1.FLATTEN, "hdf5_data": _V1.HDF5_DATA,
    "hdf5_output": _V1.HDF5_OUTPUT, "im2col": _V1.IM2COL, "images": _V1.IMAGE_DATA, "infogain_loss": _V1.INFOGAIN_LOSS,
    "innerproduct": _V1.INNER_PRODUCT, "lrn": _V1.LRN, "multinomial_logistic_loss": _V1.MULTINOMIAL_LOGISTIC_LOSS,
    "pool": _V1.POOLING, "relu": _V1.RELU, "sigmoid": _V1.SIGMOID, "softmax": _V1.SOFTMAX,
    "softmax_loss": _V1.SOFTMAX_LOSS, "split": _V1.SPLIT, "tanh": _V1.TANH, "window_data": _V1.WINDOW_DATA,
}

_WEIGHTED = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_WINDOWED = {"conv": "convolution_param", "pool": "pooling_param"}
_SOURCES = {"data": "data_param", "hdf5_data": "hdf5_data_param", "images": "image_data_param",
            "window_data": "window_data_param", "infogain_loss": "infogain_loss_param"}
_IMAGES = {"images": "image_data_param"}
_LRN = {"lrn": "lrn_param"}
_WINDOWS = {"window_data": "window_data_param"}
# V0 has one flat message for all types; where each of its fields went: name there, and by type the message it is in.
_V0_FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "num_output": ("num_output", _WEIGHTED), "biasterm": ("bias_term", _WEIGHTED),
    "weight_filler": ("weight_filler", _WEIGHTED), "bias_filler": ("bias_filler", _WEIGHTED),
    "pad": ("pad", _WINDOWED), "kernelsize": ("kernel_size", _WINDOWED), "stride": ("stride", _WINDOWED),
    "group": ("group", {"conv": "convolution_param"}), "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", _LRN), "alpha": ("alpha", _LRN), "beta": ("beta", _LRN), "k": ("k", _LRN),
    "source": ("source", _SOURCES),
    "batchsize": ("batch_size", {k: v for k, v in _SOURCES.items() if k != "infogain_loss"}),
    "rand_skip": ("rand_skip", {"data": "data_param", **_IMAGES}), "shuffle_images": ("shuffle", _IMAGES),
    "new_height": ("new_height", _IMAGES), "new_width": ("new_width", _IMAGES),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", _WINDOWS), "det_bg_threshold": ("bg_threshold", _WINDOWS),
    "det_fg_fraction": ("fg_fraction", _WINDOWS), "det_context_pad": ("context_pad", _WINDOWS),
    "det_crop_mode": ("crop_mode", _WINDOWS),
}
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_DATA_PARAMS = {_V1.DATA: "data_param", _V1.IMAGE_DATA: "image_data_param", _V1.WINDOW_DATA: "window_data_param"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def upgrade_net(net: caffe_pb2.NetParameter, source: str) -> bool:
    """Bring `net`, read from `source`, to today's form in place (UpgradeNetAsNeeded). Raises CaffeError.

    False if a V0 layer had parameters its type does not know: they are logged and dropped, as in Caffe.
    """
    complete = True
    attempt = "Attempting to upgrade input file specified using deprecated %s: " + source
    success = "Successfully upgraded file specified using deprecated %s"
    future = "Note that future Caffe releases will only support %s."
    if any(v1.HasField("layer") for v1 in net.layers):
        log.info(attempt % "V0LayerParameter")
        complete = _v0_net(net, source)
        if complete:
            log.info(success % "V0LayerParameter")
        else:
            log.error("Warning: had one or more problems upgrading V0NetParameter to NetParameter (see above); "
                      "continuing anyway.")
        log.warning("Note that future Caffe releases will not support V0NetParameter")
    if any(_old_transforms(v1) for v1 in net.layers):
        log.info(attempt % "transformation parameters")
        for v1 in net.layers:
            _move_transforms(v1)
        log.info(success % "data transformation parameters.")
        log.warning(future % "transform_param messages for transformation fields")
    if net.layers:
        log.info(attempt % "V1LayerParameter")
        if net.layer:
            raise CaffeError("%s: Refusing to upgrade inconsistent NetParameter input; the definition includes both "
                             "'layer' and 'layers' fields. Write all of them as layer { type: 'Convolution' ... }, not "
                             "layers { type: CONVOLUTION ... }" % source)
        for v1 in net.layers:
            _v1_layer(v1, net.layer.add())
        net.ClearField("layers")
        log.info(success % "V1LayerParameter")
    if net.input:
        log.info(attempt % "input fields")
        _inputs(net, source)
        log.info(success % "input fields.")
        log.warning(future % "input layers and not input fields")
    old = [layer for layer in net.layer if layer.type == "BatchNorm" and len(layer.param) == 3]
    if old:
        log.info("Attempting to upgrade batch norm layers using deprecated params: %s" % source)
        for param in (p for layer in old for p in layer.param):
            param.lr_mult = param.decay_mult = 0
        log.info("Successfully upgraded batch norm layers using deprecated params.")
    return complete


# -- V0 to V1 ----------------------------------------------------------------------------------------------------------
def _v0_net(net: caffe_pb2.NetParameter, source: str) -> bool:
    """V0 to V1 in place; False if a layer had a parameter its type does not know (logged and dropped, as in Caffe)."""
    _fold_paddings(net, source)
    complete = True
    for v1 in net.layers:
        v0 = caffe_pb2.V0LayerParameter()
        v0.CopyFrom(v1.layer)
        bottom, top = list(v1.bottom), list(v1.top)
        v1.Clear()
        v1.bottom.extend(bottom)
        v1.top.extend(top)
        complete = _v0_layer(v0, v1, source) and complete
    return complete


def _fold_paddings(net: caffe_pb2.NetParameter, source: str) -> None:
    """V0 pads with layers of their own; take them out and give their pad to the layers they feed."""
    writer = {name: -1 for name in net.input}
    for i, layer in enumerate(net.layers):
        for j, name in enumerate(layer.bottom):
            if name not in writer:
                raise CaffeError("%s: Unknown blob input %s to layer %d" % (source, name, i))
            before = net.layers[writer[name]] if writer[name] >= 0 else None
            if before is None or before.layer.type != "padding":
                continue
            if layer.layer.type not in ("conv", "pool"):
                raise CaffeError("%s: layer '%s': Padding layer input to non-convolutional / non-pooling layer type %s"
                                 % (source, layer.layer.name, layer.layer.type))
            if not len(layer.bottom) == len(before.bottom) == len(before.top) == 1:
                raise CaffeError("%s: padding layer '%s' and layer '%s' that it feeds must take and give a single blob"
                                 % (source, before.layer.name, layer.layer.name))
            layer.layer.pad = before.layer.pad
            layer.bottom[j] = before.bottom[0]
        writer.update((name, i) for name in layer.top)
    kept = [layer for layer in net.layers if layer.layer.type != "padding"]
    kept_net = caffe_pb2.NetParameter(layers=kept)
    net.ClearField("layers")
    net.MergeFrom(kept_net)


def _v0_layer(v0: caffe_pb2.V0LayerParameter, v1: caffe_pb2.V1LayerParameter, source: str) -> bool:
    complete = True
    for field, value in v0.ListFields():
        if field.name == "name":
            v1.name = value
        elif field.name == "type":
            if value not in V0_TYPES:
                raise CaffeError("%s: layer '%s': Unknown layer name: %s (known in format V0: %s)"
                                 % (source, v0.name, value, ", ".join(sorted(V0_TYPES))))
            v1.type = V0_TYPES[value]
        elif field.name in ("blobs", "blobs_lr", "weight_decay"):
            getattr(v1, field.name).extend(value)
        elif field.name in _V0_TRANSFORM:
            setattr(v1.transform_param, _V0_TRANSFORM[field.name], value)
        elif field.name == "hdf5_output_param" and v0.type == "hdf5_output":
            v1.hdf5_output_param.CopyFrom(value)
        elif v0.type in _V0_FIELDS.get(field.name, ("", {}))[1]:
            name, messages = _V0_FIELDS[field.name]
            _put(getattr(v1, messages[v0.type]), name, value)
        else:
            log.error("Unknown parameter %s for layer type %s" % (field.name, v0.type))
            complete = False
    return complete


def _put(message: Message, name: str, value) -> None:
    """Set a field, whether it is a message, repeated (convolution's kernel_size by now is) or neither."""
    if isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    elif hasattr(getattr(message, name), "append"):
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)


# -- V1 to V2 ----------------------------------------------------------------------------------------------------------
def _old_transforms(v1: caffe_pb2.V1LayerParameter) -> list[str]:
    """The transformation fields a V1 data layer still has in its own parameters."""
    if v1.type not in _DATA_PARAMS:
        return []
    return [f for f in _TRANSFORM_FIELDS if getattr(v1, _DATA_PARAMS[v1.type]).HasField(f)]


def _move_transforms(v1: caffe_pb2.V1LayerParameter) -> None:
    for name in _old_transforms(v1):
        param = getattr(v1, _DATA_PARAMS[v1.type])
        setattr(v1.transform_param, name, getattr(param, name))
        param.ClearField(name)


def _v1_layer(v1: caffe_pb2.V1LayerParameter, layer: caffe_pb2.LayerParameter) -> None:
    if v1.HasField("type"):
        layer.type = V1_TYPES.get(v1.type, "")
    specs: tuple[tuple[str, Callable], ...] = (
        ("param", lambda spec, value: setattr(spec, "name", value)),
        ("blob_share_mode", lambda spec, value: setattr(spec, "share_mode", value)),
        ("blobs_lr", lambda spec, value: setattr(spec, "lr_mult", value)),
        ("weight_decay", lambda spec, value: setattr(spec, "decay_mult", value)),
    )
    for name, put in specs:
        for i, value in enumerate(getattr(v1, name)):
            put(layer.param[i] if i < len(layer.param) else layer.param.add(), value)
    if v1.HasField("name"):
        layer.name = v1.name
    for name in ("bottom", "top", "include", "exclude", "blobs", "loss_weight"):
        getattr(layer, name).extend(getattr(v1, name))
    for field, value in v1.ListFields():
        if isinstance(value, Message) and field.name != "layer":
            getattr(layer, field.name).CopyFrom(value)


def _inputs(net: caffe_pb2.NetParameter, source: str) -> None:
    """The `input` fields as one Input layer in front; inputs without any shape are dropped, as in Caffe."""
    if net.input_shape or net.input_dim:
        known = len(net.input_shape) if net.input_shape else len(net.input_dim) // 4
        if known < len(net.input):
            raise CaffeError("%s: got %d inputs (%s) but %d shapes; wanted one input_shape, or four input_dim, for each"
                             % (source, len(net.input), ", ".join(net.input), known))
        layer = caffe_pb2.LayerParameter(name="input", type="Input", top=net.input)
        for i in range(len(net.input)):
            dims = net.input_shape[i].dim if net.input_shape else net.input_dim[4 * i : 4 * i + 4]
            layer.input_param.shape.add().dim.extend(dims)
        rest = caffe_pb2.NetParameter(layer=net.layer)
        net.ClearField("layer")
        net.layer.append(layer)
        net.MergeFrom(rest)
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)


# -- solvers -----------------------------------------------------------------------------------------------------------
_SOLVER_TYPES = {
    caffe_pb2.SolverParameter.SGD: "SGD", caffe_pb2.SolverParameter.NESTEROV: "Nesterov",
    caffe_pb2.SolverParameter.ADAGRAD: "AdaGrad", caffe_pb2.SolverParameter.RMSPROP: "RMSProp",
    caffe_pb2.SolverParameter.ADADELTA: "AdaDelta", caffe_pb2.SolverParameter.ADAM: "Adam",
}


def upgrade_solver(solver: caffe_pb2.SolverParameter, source: str) -> None:
    """`solver_type: ADAM` becomes `type: "Adam"`, in place (UpgradeSolverAsNeeded); both at once are a CaffeError."""
    if not solver.HasField("solver_type"):
        return
    log.info("Attempting to upgrade input file specified using deprecated 'solver_type' field (enum)': %s" % source)
    if solver.HasField("type"):
        raise CaffeError("%s: Failed to upgrade solver: old solver_type field (enum) and new type field (string) cannot "
                         "be both specified; keep type: \"%s\" alone" % (source, solver.type))
    solver.type = _SOLVER_TYPES[solver.solver_type]
    solver.ClearField("solver_type")
    log.info("Successfully upgraded file specified using deprecated 'solver_type' field (enum) to 'type' field "
             "(string).")
    log.warning("Note that future Caffe releases will only support 'type' field (string) for a solver's type.")


def set_snapshot_prefix(solver: caffe_pb2.SolverParameter, path: str) -> None:
    """Without snapshot_prefix: the solver file's path without extension; a directory: the file's stem in it.

    In place, as UpgradeSnapshotPrefixProperty.
    """
    stem = os.path.splitext(path)[0]
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = stem
        log.info("snapshot_prefix was not specified and is set to %s" % solver.snapshot_prefix)
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(stem))
        log.info("snapshot_prefix was a directory and is replaced to %s" % solver.snapshot_prefix)
