"""The three VOC nets, three solver steps each with dropout on, under whichever Caffe runs this script.

    python tests/parity/run_nets.py OUT DATA [--narrow] [NET...]

DATA: a folder in VOC layout with a split `train`. Weights are drawn by numpy, the same for both Caffes. For each net and
step it writes into OUT the loss, the score map before the update and the update of every learned parameter, as .npy files
that compare_nets.py reads side by side. `--narrow` runs an eighth of the widths (for tests), else the full nets.
"""


import functools
import importlib.util
import json
import os
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import surgery  # noqa: E402
import vgg16  # noqa: E402
from parts import python_data  # noqa: E402
from which_caffe import caffe, describe  # noqa: E402

STEPS = 3
NETS = ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s")
BASE_LR = 1e-10  # of the released 32s


def net_module(name):
    """The net.py of an experiment, as a module of its own."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), os.path.join(ROOT, name, "net.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(net, seed=1):
    """Draw the trunk from numpy, He-scaled, without biases; scores start at zero, as in the recipe.

    With biases the 100 pixels of padding become wide areas of one value, up to rounding, and max pooling picks its
    gradient's way through them by the last bit of BVLC's BLAS. Zeros are exact everywhere.
    """
    random = np.random.RandomState(seed)
    for name, blobs in net.params.items():
        if name.startswith(("up", "score")):
            continue
        weights = blobs[0].data
        scale = np.sqrt(2.0 / np.prod(weights.shape[1:])) * (0.1 if name == "conv1_1" else 1.0)  # pixels are about 100
        draw = random.standard_normal if weights.size < 1e6 else functools.partial(fast_normal, random)
        weights[...] = draw(weights.shape) * scale


def fast_normal(random, shape):
    """Bell-shaped values for the large layers: the sum of four uniforms, in float32, quicker than a true normal."""
    total = np.zeros(shape, np.float32)
    for _ in range(4):
        total += random.random_sample(shape).astype(np.float32) - np.float32(0.5)
    return total * np.float32(np.sqrt(3.0))


def run(name, out, data, narrow):
    """Three steps of one net; everything comparable goes to OUT/name."""
    folder = os.path.join(out, name)
    if not os.path.isdir(folder):
        os.makedirs(folder)
    widths = tuple(w // 8 for w in vgg16.WIDTHS) if narrow else vgg16.WIDTHS
    tops = python_data("voc_layers", "VOCSegDataLayer",
                       [("voc_dir", data), ("seed", 1337), ("split", "train"), ("mean", (104.00699, 116.66877, 122.67892))])
    train = os.path.join(folder, "train.prototxt")
    with open(train, "w") as f:
        f.write(str(net_module(name).fcn(tops, widths=widths)))
    solver_path = os.path.join(folder, "solver.prototxt")
    with open(solver_path, "w") as f:
        f.write('train_net: "%s"\nbase_lr: %g\nlr_policy: "fixed"\nmomentum: 0.99\nweight_decay: 0.0005\n'
                'snapshot: 0\nsnapshot_after_train: false\nsnapshot_prefix: "%s/x"\ndisplay: 1\n'
                % (train, BASE_LR, folder))
    caffe.set_mode_cpu()
    solver = caffe.SGDSolver(solver_path)
    fill(solver.net)
    surgery.interp(solver.net, [key for key in solver.net.params if "up" in key])
    caffe.set_random_seed(5)  # the dropout masks
    losses = []
    for step in range(STEPS):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
        np.save(os.path.join(folder, "score_%d.npy" % step), solver.net.blobs["score"].data)
        for key, blobs in solver.net.params.items():
            if not key.startswith("up"):
                for k, blob in enumerate(blobs):
                    np.save(os.path.join(folder, "update_%d_%s_%d.npy" % (step, key, k)), blob.diff)
    with open(os.path.join(folder, "losses.json"), "w") as f:
        json.dump(losses, f)
    print(name, "losses", " ".join("%.6g" % x for x in losses))


if __name__ == "__main__":
    print(describe())
    words = [word for word in sys.argv[1:] if word != "--narrow"]
    for net_name in words[2:] or NETS:
        run(net_name, words[0], os.path.abspath(words[1]), "--narrow" in sys.argv)
