"""Net: a graph of layers built from a NetParameter, run forward and backward (src/caffe/net.cpp)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from torchcaffe import debug_info, files, graph, log, plan
from torchcaffe.blob import Blob
from torchcaffe.errors import CaffeError
from torchcaffe.layer import Layer, create, naming
from torchcaffe.proto import caffe_pb2

AUTOMATIC = "(automatic)"  # what Caffe calls a top that the net adds, as to a loss without one


class Net:
    """A net for one phase, level and set of stages, ready to run.

    blobs: OrderedDict name -> Blob, in order of first appearance, split outputs included.
    layers: list of Layer; layer_names, bottom_vecs, top_vecs run parallel to it.
    learnable_params: the parameter blobs a solver updates, each once however often shared, with params_lr and
    params_weight_decay beside it.
    """

    def __init__(self, net_param: caffe_pb2.NetParameter, phase: int | None = None, level: int = 0,
                 stages: Sequence[str] = ()):
        state = caffe_pb2.NetState()
        state.CopyFrom(net_param.state)
        if phase is not None:
            state.phase = phase
            state.level = level
            state.stage.extend(stages)
        self.phase = state.phase
        param = graph.insert_splits(graph.filter_net(net_param, state))
        log.info("Initializing net '%s' from %d layers" % (param.name, len(param.layer)))
        self.name: str = param.name
        self.debug_info: bool = param.debug_info  # say in the log what each layer computes; a solver sets it
        self.layers: list[Layer] = []
        self.layer_names: list[str] = []
        self.blobs: OrderedDict[str, Blob] = OrderedDict()
        self.bottom_names: OrderedDict[str, list[str]] = OrderedDict()
        self.top_names: OrderedDict[str, list[str]] = OrderedDict()
        self.bottom_vecs: list[list[Blob]] = []
        self.top_vecs: list[list[Blob]] = []
        self.loss_weights: list[list[float]] = []  # of each layer, one a top
        self.bottom_need_backward: list[list[bool]] = []
        self.layer_need_backward: list[bool] = []
        self.learnable_params: list[Blob] = []
        self.params_lr: list[float] = []
        self.params_weight_decay: list[float] = []
        self.inputs: list[str] = []
        self._callbacks: dict[str, list[Callable[[int], None]]] = {
            "before_forward": [], "after_forward": [], "before_backward": [], "after_backward": []}
        self._ran: set[int] = set()  # layers that have run forward
        self._blob_need_backward: dict[str, bool] = {}
        self._blob_loss_weight: dict[str, float] = {}
        self._param_owners: dict[str, tuple[int, int, int]] = {}  # name -> (layer, blob, learnable index)
        self._explicit: list[set[str]] = []  # of each learnable parameter: which multipliers were written in the prototxt
        unread: set[str] = set()
        for layer_param in param.layer:
            self._append(layer_param, unread)
        self.outputs: list[str] = sorted(unread)  # std::set order, as Caffe lists them
        self._prune_backward(param.force_backward)
        self._plan = plan.plan(self)
        log.info("Network initialization done.")

    # -- building --------------------------------------------------------------------------------------------------------
    def _append(self, layer_param: caffe_pb2.LayerParameter, unread: set[str]) -> None:
        """Create, connect and set up one layer."""
        if not layer_param.HasField("phase"):
            layer_param.phase = self.phase
        if len(layer_param.propagate_down) not in (0, len(layer_param.bottom)):
            raise CaffeError("Layer '%s' (%s): got %d propagate_down entries, wanted none or one for each of its %d bottoms"
                             % (layer_param.name, layer_param.type, len(layer_param.propagate_down),
                                len(layer_param.bottom)))
        layer = create(layer_param)
        bottom_names = list(layer_param.bottom)
        need_backward = [self._blob_need_backward[n] for n in bottom_names]
        if layer_param.propagate_down:
            need_backward = list(layer_param.propagate_down)
        unread.difference_update(bottom_names)
        top_names = list(layer_param.top)
        for j, name in enumerate(top_names):
            in_place = j < len(bottom_names) and bottom_names[j] == name
            if (name in self.blobs or name in top_names[:j]) and not in_place:
                raise CaffeError(layer.describe("top blob '%s' is already produced by another layer; rename it" % name))
        if layer.auto_top_blobs:
            top_names += [AUTOMATIC] * (layer.tops[0] - len(top_names))
        for name in top_names[: len(layer_param.top)]:
            self.blobs.setdefault(name, Blob())
            unread.add(name)
        for name in top_names[len(layer_param.top) :]:
            self.blobs[name] = Blob()  # of several, the last one has the name; no output, as in Caffe
        if layer_param.type == "Input":
            self.inputs.extend(top_names)
        bottom = [self.blobs[n] for n in bottom_names]
        top = [self.blobs[n] for n in top_names]
        layer.check_counts(bottom, top)
        with naming(layer):
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        self._set_loss_weights(layer, top_names, top)

        specs = self._param_specs(layer)
        layer.param_propagate_down = [spec.lr_mult != 0 for spec in specs]
        needs = any(need_backward) or any(layer.param_propagate_down)
        self._blob_need_backward.update((n, needs) for n in top_names)
        self.layers.append(layer)
        self.layer_names.append(layer_param.name)
        self.bottom_names[layer_param.name], self.top_names[layer_param.name] = bottom_names, top_names
        self.bottom_vecs.append(bottom)
        self.top_vecs.append(top)
        self.bottom_need_backward.append(need_backward)
        self.layer_need_backward.append(needs)
        for k, spec in enumerate(specs):
            self._append_param(layer, k, spec)

    def _set_loss_weights(self, layer: Layer, names: list[str], top: list[Blob]) -> None:
        """Write each top's loss weight into its diff, once (layer.hpp SetLossWeights)."""
        weights = layer.layer_param.loss_weight
        if layer.is_loss and not weights:
            weights.append(1.0)
        if weights and len(weights) != len(top):
            raise CaffeError(layer.describe("loss_weight must be unspecified or specified once for each top: got %d, wanted "
                                            "%d" % (len(weights), len(top))))
        self.loss_weights.append(list(weights) or [0.0] * len(top))
        for name, blob, weight in zip(names, top, self.loss_weights[-1]):
            self._blob_loss_weight[name] = weight
            if weight:
                blob.diff[...] = weight

    @staticmethod
    def _param_specs(layer: Layer) -> list[caffe_pb2.ParamSpec]:
        given = list(layer.layer_param.param)
        if len(given) > len(layer.blobs):
            raise CaffeError(layer.describe("got %d param entries, wanted at most its %d parameter blobs"
                                            % (len(given), len(layer.blobs))))
        return given + [caffe_pb2.ParamSpec() for _ in range(len(layer.blobs) - len(given))]

    def _append_param(self, layer: Layer, k: int, spec: caffe_pb2.ParamSpec) -> None:
        """List a parameter as learnable, or make it share its owner's memory."""
        blob = layer.blobs[k]
        if not spec.name or spec.name not in self._param_owners:
            if spec.name:
                self._param_owners[spec.name] = (len(self.layers) - 1, k, len(self.learnable_params))
            self.learnable_params.append(blob)
            self.params_lr.append(spec.lr_mult)
            self.params_weight_decay.append(spec.decay_mult)
            self._explicit.append({f for f in ("lr_mult", "decay_mult") if spec.HasField(f)})
            return
        owner_layer, owner_k, learnable = self._param_owners[spec.name]
        owner = self.layers[owner_layer].blobs[owner_k]
        permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
        if blob.count != owner.count if permissive else blob.shape != owner.shape:
            raise CaffeError(layer.describe(
                "cannot share param '%s' owned by layer '%s': its shape is %s, the owner's is %s; %s"
                % (spec.name, self.layer_names[owner_layer], blob.shape, owner.shape,
                   "counts must be equal" if permissive else "shapes must be equal, or set share_mode: PERMISSIVE")))
        self._agree(layer, spec, learnable)
        blob.share_data(owner)
        blob.share_diff(owner)

    def _agree(self, layer: Layer, spec: caffe_pb2.ParamSpec, learnable: int) -> None:
        """Multipliers written at several users of a shared parameter must be equal; the first written one counts."""
        for field, values in (("lr_mult", self.params_lr), ("decay_mult", self.params_weight_decay)):
            if not spec.HasField(field):
                continue
            value = getattr(spec, field)
            if field in self._explicit[learnable] and value != values[learnable]:
                raise CaffeError(layer.describe("shared param '%s' has mismatched %s: %g here, %g at an earlier layer"
                                                % (spec.name, field, value, values[learnable])))
            self._explicit[learnable].add(field)
            values[learnable] = value

    def _prune_backward(self, force: bool) -> None:
        """Decide which layers and bottoms run backward: those under a loss that someone needs, or all if forced."""
        under_loss: set[Blob] = set()
        skipped: set[Blob] = set()
        for i in range(len(self.layers) - 1, -1, -1):
            tops = self.top_vecs[i]
            loss = any(self.loss_weights[i][j] or t in under_loss for j, t in enumerate(tops))
            if self.layer_need_backward[i] and all(t in skipped for t in tops):
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(self.bottom_vecs[i])
            if not loss:
                self.layer_need_backward[i] = False
            for j, bottom in enumerate(self.bottom_vecs[i]):
                if loss:
                    under_loss.add(bottom)
                else:
                    self.bottom_need_backward[i][j] = False
                if not self.bottom_need_backward[i][j]:
                    skipped.add(bottom)
        if force:
            for i, layer in enumerate(self.layers):
                self.layer_need_backward[i] = True
                self.bottom_need_backward[i] = [need or layer.allow_force_backward(j)
                                                for j, need in enumerate(self.bottom_need_backward[i])]
                layer.param_propagate_down = [True] * len(layer.blobs)

    # -- running -----------------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def forward_from_to(self, start: int, end: int) -> float:
        """Run layers start..end (inclusive); returns the sum of their weighted losses. CaffeError for layers not there."""
        loss = 0.0
        for step in self._steps(start, end):
            loss += step.forward()
        return loss

    @torch.no_grad()
    def backward_from_to(self, start: int, end: int) -> None:
        """Run backward from layer `start` down to `end` (inclusive), the layers that need it."""
        for step in reversed(self._steps(end, start)):
            step.backward()

    def forward_pass(self) -> float:
        """All layers forward; returns the loss."""
        return self.forward_from_to(0, len(self.layers) - 1)

    def backward_pass(self) -> None:
        """All layers backward."""
        self.backward_from_to(len(self.layers) - 1, 0)
        if self.debug_info:
            debug_info.all_params(self)

    def forward_layer(self, i: int) -> float:
        """Reshape and run one layer; returns its weighted loss (layer.hpp Forward)."""
        layer, bottom, top = self.layers[i], self.bottom_vecs[i], self.top_vecs[i]
        for callback in self._callbacks["before_forward"]:
            callback(i)
        with naming(layer):
            layer.reshape(bottom, top)
            layer.forward(bottom, top)
        self._ran.add(i)
        loss = 0.0
        for blob, weight in zip(top, self.loss_weights[i]):
            if weight:
                loss += float(torch.dot(blob.value.reshape(-1), blob.grad.reshape(-1)))
        if self.debug_info:
            debug_info.forward(self, i)
        for callback in self._callbacks["after_forward"]:
            callback(i)
        return loss

    def backward_layer(self, i: int) -> None:
        """Run one layer backward, if it needs it."""
        if not self.layer_need_backward[i]:
            return
        for callback in self._callbacks["before_backward"]:
            callback(i)
        layer = self.layers[i]
        try:
            with naming(layer):
                layer.backward(self.top_vecs[i], self.bottom_need_backward[i], self.bottom_vecs[i])
        except (AttributeError, IndexError) as e:
            if i in self._ran or layer.type == "Python":
                raise
            raise CaffeError(layer.describe("cannot run backward before it ran forward, which keeps what it needs; call "
                                            "forward first (%s)" % e)) from e
        if self.debug_info:
            debug_info.backward(self, i)
        for callback in self._callbacks["after_backward"]:
            callback(i)

    def _steps(self, first: int, last: int) -> list[plan.Step]:
        """The plan's steps for layers first..last; where that cuts a step, its layers one by one."""
        if not self.layers:
            raise CaffeError("net '%s' has no layers to run: none of its definition's is for this phase, level and stages"
                             % self.name)
        if first < 0 or last >= len(self.layers):
            raise CaffeError("net '%s': asked to run layers %d to %d, it has layers 0 to %d"
                             % (self.name, first, last, len(self.layers) - 1))
        steps = []
        for step in self._plan:
            if first <= step.first and step.last <= last:
                steps.append(step)
            else:
                steps.extend(plan.Step(self, i, i) for i in range(max(first, step.first), min(last, step.last) + 1))
        return steps

    def reshape(self) -> None:
        """Give every blob the shape that follows from the input blobs' present shapes."""
        for layer, bottom, top in zip(self.layers, self.bottom_vecs, self.top_vecs):
            with naming(layer):
                layer.reshape(bottom, top)

    def add_callback(self, when: str, function: Callable[[int], None]) -> None:
        """Call function(layer index) before_forward, after_forward, before_backward or after_backward of every layer."""
        self._callbacks[when].append(function)

    def clear_param_diffs(self) -> None:
        """Zero the diffs of all learnable parameters; backward accumulates into them."""
        for blob in self.learnable_params:
            blob.mutable_grad().zero_()

    # -- asking ----------------------------------------------------------------------------------------------------------
    @property
    def output_blobs(self) -> list[Blob]:
        """The blobs no layer reads, in the order of `outputs`."""
        return [self.blobs[n] for n in self.outputs]

    def blob_loss_weight(self, name: str) -> float:
        """The loss weight of a top, 0 for most."""
        return self._blob_loss_weight.get(name, 0.0)

    # -- weights -----------------------------------------------------------------------------------------------------------
    def copy_trained_layers_from(self, path: str) -> None:
        """Load parameters from a caffemodel (or .h5) by layer name.

        Layers of the file without a namesake here are ignored (logged), as are layers here without one in the file.
        A different number of blobs or another shape is a CaffeError, and nothing is changed then.
        """
        pairs = []
        owners = {id(b) for b in self.learnable_params}
        index = self._first_of_name()
        for name, _, arrays in files.read_weights(path):
            if name not in index:
                log.info("Ignoring source layer %s" % name)
                continue
            layer = self.layers[index[name]]
            absent = layer.blobs[len(arrays):] + [b for b, a in zip(layer.blobs, arrays) if a is None]
            if len(arrays) > len(layer.blobs) or any(id(b) in owners for b in absent):  # HDF5 has no shared ones
                raise CaffeError(layer.describe("%s holds %d parameter blobs for it, wanted %d"
                                                % (path, len(arrays), len(layer.blobs))))
            for k, (blob, array) in enumerate(zip(layer.blobs, arrays)):
                if array is None:
                    continue
                if not layer.fits(blob, array.shape):
                    raise CaffeError(layer.describe(
                        "cannot copy param %d weights from layer '%s' of %s; shape mismatch. Source param shape is %s; "
                        "target param shape is %s. To learn this layer's parameters from scratch rather than copying from "
                        "a saved net, rename the layer." % (k, name, path, array.shape, blob.shape)))
                pairs.append((blob, array))
        for blob, array in pairs:
            array.copy_to(blob.data)

    def share_trained_layers_with(self, other: Net) -> None:
        """Use another net's parameter data, matched by layer name; diffs stay apart. A shape mismatch is a CaffeError."""
        index = self._first_of_name()
        for name, source in zip(other.layer_names, other.layers):
            if name not in index:
                continue
            layer = self.layers[index[name]]
            if [b.shape for b in layer.blobs] != [b.shape for b in source.blobs]:
                raise CaffeError(layer.describe("cannot share the weights of its namesake: shapes %s there, %s here"
                                                % ([b.shape for b in source.blobs], [b.shape for b in layer.blobs])))
            for blob, shared in zip(layer.blobs, source.blobs):
                blob.share_data(shared)

    def _first_of_name(self) -> dict[str, int]:
        """Layer name -> number; of several layers of one name the first, which is the one Caffe finds."""
        return {name: i for i, name in reversed(list(enumerate(self.layer_names)))}

    def definition(self) -> caffe_pb2.NetParameter:
        """The net as built (filtered, splits included), without the parameters' values."""
        param = caffe_pb2.NetParameter(name=self.name)
        for layer in self.layers:
            copy = param.layer.add()
            copy.CopyFrom(layer.layer_param)
            del copy.blobs[:]
        return param

    def param_blobs(self) -> list[list[Blob]]:
        """Each layer's parameter blobs, parallel to definition().layer."""
        return [list(layer.blobs) for layer in self.layers]
