"""The training nets of every experiment and variant, on generated images, at an eighth of their widths if wanted.

For both Caffes: run_nets.py compares their steps, tests/nightly.py takes one at full width, tests/test_training_nets.py
looks at the first loss.
"""

import ast
import importlib.util
import os
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import explain  # noqa: E402
from parts import voc_data  # noqa: E402
from which_caffe import caffe  # noqa: E402

FOLDERS = ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s", "voc-fcn8s-atonce", "voc-fcn-alexnet", "voc-fcn-googlenet",
           "siftflow-fcn32s", "siftflow-fcn16s", "siftflow-fcn8s", "nyud-fcn32s",
           "pascalcontext-fcn32s", "pascalcontext-fcn16s", "pascalcontext-fcn8s")  # fmt: skip


def net_module(folder):
    """The net.py of an experiment, as a module of its own."""
    spec = importlib.util.spec_from_file_location(folder.replace("-", "_"), os.path.join(ROOT, folder, "net.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def training_nets(folder):
    """{name: NetParameter} of the nets that an experiment trains; a variant has its name after the folder's."""
    module = net_module(folder)
    nets = module.nets()
    found = {}
    for name in nets:
        if name.endswith("train") or name.endswith("trainval"):
            variant = name.rpartition("-")[0]
            found[folder + ("-" + variant if variant else "")] = nets[name]
    if folder.startswith("voc"):
        for variant, options in getattr(module, "VARIANTS", {}).items():
            found[folder + "-" + variant] = module.fcn(voc_data("train"), **options)
    return found


def narrow(net, by=8):
    """The net with fewer channels: `by` times less in every convolution but those that score."""
    for layer in net.layer:
        if layer.type == "Convolution" and not layer.name.startswith("score"):
            layer.convolution_param.num_output //= by
    return net


def losses(net):
    """Of each loss of the net: (loss blob, score blob, label blob, number of classes, averaged over the pixels or not)."""
    shapes = {name: blob.shape for row in explain.explain(net, (300, 300)) for name, blob in row.tops}
    return [(layer.top[0], layer.bottom[0], layer.bottom[1], shapes[layer.bottom[0]][1], layer.loss_param.normalize)
            for layer in net.layer if layer.type == "SoftmaxWithLoss"]


def first_loss(net, solver_net):
    """What each loss must be while all scores are zero, for the labels that `solver_net` holds: {loss blob: number}."""
    found = {}
    for loss, _, label, classes, averaged in losses(net):
        valid = np.count_nonzero(solver_net.blobs[label].data != 255)
        found[loss] = np.log(classes) * (1 if averaged else valid)
    return found


def on_generated(net, sizes):
    """The net with generated images of these (height, width), in turn, in place of its data."""
    labels = {label: classes for _, _, label, classes, _ in losses(net)}
    tops = [(name, labels.get(name)) for name in net.layer[0].top]
    param = net.layer[0].python_param
    param.module, param.layer, param.param_str = "nets_data", "Generated", repr({"tops": tops, "sizes": sizes})
    return net


def data_layer(tops):
    """The LayerParameter of the data layer that has these tops, which are images and labels."""
    n = caffe.NetSpec()
    n.data, n.label = tops
    return n.to_proto().layer[0]


class Generated(caffe.Layer):
    """Images and labels made of large blocks, and noise in the images. param_str: {'tops': ..., 'sizes': ...}.

    tops: (name, number of classes, or None for an image); a sixth of the blocks of a label are 255, to be ignored.
    """

    def setup(self, bottom, top):
        self.params = ast.literal_eval(self.param_str)
        self.count = 0

    def reshape(self, bottom, top):
        self.size = self.params["sizes"][self.count % len(self.params["sizes"])]
        for i, (name, classes) in enumerate(self.params["tops"]):
            top[i].reshape(1, 3 if classes is None and name != "depth" else 1, *self.size)

    def forward(self, bottom, top):
        random = np.random.RandomState(1000 + self.count)
        for i, (name, classes) in enumerate(self.params["tops"]):
            data = top[i].data[0]
            if classes is None:
                spread = 1.5 if name == "depth" else 100  # log of millimetres; colours less their mean
                blocks = random.uniform(-spread, spread, (len(data), 9, 12))
                data[...] = enlarged(blocks, self.size) + random.uniform(-0.1, 0.1, data.shape) * spread
            else:
                blocks = random.randint(0, classes, (1, 9, 12))
                blocks[random.uniform(size=blocks.shape) < 1 / 6] = 255
                data[...] = enlarged(blocks, self.size)
        self.count += 1

    def backward(self, top, propagate_down, bottom):
        pass


def enlarged(blocks, size):
    """Blocks (C, h, w) as (C, *size): each becomes a rectangle."""
    rows, columns = (np.arange(n) * b // n for n, b in zip(size, blocks.shape[1:]))
    return blocks[:, rows][:, :, columns]


def solver_text(train, prefix, base_lr, momentum=0.99, iter_size=1):
    """A solver.prototxt: one net, no tests, no snapshots."""
    return ('train_net: "%s"\nbase_lr: %g\nlr_policy: "fixed"\nmomentum: %g\nweight_decay: 0.0005\niter_size: %d\n'
            'snapshot: 0\nsnapshot_after_train: false\nsnapshot_prefix: "%s"\ndisplay: 1\n'
            % (train, base_lr, momentum, iter_size, prefix))
