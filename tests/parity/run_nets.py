"""Training nets of the experiments, three solver steps each with dropout on, under whichever Caffe runs this script.

    python tests/parity/run_nets.py OUT DATA NET...
    python tests/parity/run_nets.py OUT --narrow [NET...]

NET: a name of nets_data.training_nets, such as voc-fcn8s or nyud-fcn32s-color-hha; with `--narrow` all of them, at an
eighth of their widths and on small generated images. DATA: a folder in VOC layout with a split `train`, for nets on VOC.
Weights are drawn by numpy, the same for both Caffes. For each net and step it writes into OUT the losses, the score maps
before the update and the update of every learned parameter, as .npy files that compare_nets.py reads side by side.
"""


import functools
import json
import os
import sys

import nets_data
import numpy as np
import surgery  # from tools/, which nets_data has put on the path
from parts import VOC_MEAN, python_data
from which_caffe import caffe, describe

STEPS = 3
# of the released 32s, where the loss is a sum over 180,000 pixels; of 1e-5 where it is a mean over them
BASE_LR, BASE_LR_AVERAGED = 1e-10, 1e-5
NARROW_SIZES = [(75, 100), (100, 67), (60, 91)]


def fill(net, seed=1):
    """Draw the trunk from numpy, He-scaled, without biases; scores start at zero, as in the recipe.

    With biases the 100 pixels of padding become wide areas of one value, up to rounding, and max pooling picks its
    gradient's way through them by the last bit of BVLC's BLAS. Zeros are exact everywhere.
    """
    random = np.random.RandomState(seed)
    for name, blobs in net.params.items():
        if name.startswith(("up", "score", "scale")):
            continue
        weights = blobs[0].data
        first = name.startswith("conv1_1") or name in ("conv1", "conv1/7x7_s2")
        scale = np.sqrt(2.0 / np.prod(weights.shape[1:])) * (0.1 if first else 1.0)  # pixels are about 100
        draw = random.standard_normal if weights.size < 1e6 else functools.partial(fast_normal, random)
        weights[...] = draw(weights.shape) * scale


def fast_normal(random, shape):
    """Bell-shaped values for the large layers: the sum of four uniforms, in float32, quicker than a true normal."""
    total = np.zeros(shape, np.float32)
    for _ in range(4):
        total += random.random_sample(shape).astype(np.float32) - np.float32(0.5)
    return total * np.float32(np.sqrt(3.0))


def run(name, net, out):
    """Three steps of one net; everything comparable goes to OUT/name."""
    folder = os.path.join(out, name)
    if not os.path.isdir(folder):
        os.makedirs(folder)
    train, solver_path = (os.path.join(folder, kind + ".prototxt") for kind in ("train", "solver"))
    heads = nets_data.losses(net)
    with open(train, "w") as f:
        f.write(str(net))
    with open(solver_path, "w") as f:
        f.write(nets_data.solver_text(train, os.path.join(folder, "x"), BASE_LR_AVERAGED if heads[0][4] else BASE_LR))
    caffe.set_mode_cpu()
    solver = caffe.SGDSolver(solver_path)
    # with seed 1 a ReLU of the narrow GoogLeNet turns around between two BLAS kernels: BVLC is 5e-3 from itself
    fill(solver.net, seed=2 if "googlenet" in name else 1)
    surgery.interp(solver.net, [key for key in solver.net.params if "up" in key])
    caffe.set_random_seed(5)  # the dropout masks
    learned = [layer.name for layer in net.layer if layer.name in solver.net.params
               and (not layer.param or any(param.lr_mult for param in layer.param))]
    record = {"losses": {head[0]: [] for head in heads}}
    for step in range(STEPS):
        solver.step(1)
        if step == 0:
            record["first"] = nets_data.first_loss(net, solver.net)
        for loss, score, _, _, _ in heads:
            record["losses"][loss].append(float(solver.net.blobs[loss].data))
            np.save(os.path.join(folder, "score_%d_%s.npy" % (step, score)), solver.net.blobs[score].data)
        for key in learned:
            for k, blob in enumerate(solver.net.params[key]):
                np.save(os.path.join(folder, "update_%d_%s_%d.npy" % (step, key.replace("/", "+"), k)), blob.diff)
    with open(os.path.join(folder, "losses.json"), "w") as f:
        json.dump(record, f)
    print(name, "losses", record["losses"])


def chosen(names, data):
    """(name, NetParameter) of each net named, or of all; on the photographs of `data`, or narrow on generated images."""
    for folder in nets_data.FOLDERS:
        for name, net in nets_data.training_nets(folder).items():
            if names and name not in names:
                continue
            if data is None:
                net = nets_data.on_generated(nets_data.narrow(net), NARROW_SIZES)
            else:
                params = [("voc_dir", os.path.abspath(data)), ("seed", 1337), ("split", "train"), ("mean", VOC_MEAN)]
                tops = python_data("voc_layers", "VOCSegDataLayer", params)
                net.layer[0].CopyFrom(nets_data.data_layer(tops))
            yield name, net


if __name__ == "__main__":
    print(describe())
    words = sys.argv[1:]
    data = None if words[1] == "--narrow" else words[1]
    for net_name, net_param in chosen(words[2:], data):
        run(net_name, net_param, words[0])
