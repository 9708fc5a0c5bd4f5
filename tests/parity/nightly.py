"""One step of every experiment at full width, on the CPU, under whichever Caffe runs this script.

    python tests/parity/nightly.py [NET...]

NET: voc-fcn8s, nyud-fcn32s-color-hha and the like; all of them without. The committed prototxts, with images and labels
made up in the sizes of the data set, random weights in the trunk and the committed solver's rates. Checked: the deploy
net gives scores of the image's size; the first loss is (valid pixels) x ln (classes), or ln (classes) if it is averaged;
after the step all parameters are numbers, score layers have moved, and what is not learned has not. Each net has a process
of its own, up to 7 GB large. Exit status 1 if a check fails.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

import nets_data
import numpy as np
import prototxt  # from tools/, which nets_data has put on the path
import run_nets
import surgery
from caffe.proto import caffe_pb2
from nets_data import ROOT
from which_caffe import caffe, describe

SIZES = {"voc": (375, 500), "siftflow": (256, 256), "nyud": (425, 560), "pascalcontext": (375, 500)}
TOLERANCE = 3e-3  # hundreds of thousands of pixels are added up in single precision


class NightlyError(Exception):
    """A net that is not what it should be after a step."""


def experiments():
    """{name: (folder, prefix of its files)} of all experiments; variants with files of their own are experiments, too."""
    found = {}
    for folder in nets_data.FOLDERS:
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            if name in ("train.prototxt", "trainval.prototxt"):
                found[folder] = folder, ""
            elif name.endswith("-trainval.prototxt"):
                prefix = name[: -len("trainval.prototxt")]
                found[folder + "-" + prefix[:-1]] = folder, prefix
    return found


def check(condition, *what):
    """NightlyError unless the condition holds."""
    if not condition:
        raise NightlyError(" ".join(map(str, what)))


def deploy(folder, prefix, size):
    """A forward of the deploy net."""
    net = caffe.Net(os.path.join(ROOT, folder, prefix + "deploy.prototxt"), caffe.TEST)
    for name in net.inputs:
        net.blobs[name].reshape(1, net.blobs[name].data.shape[1], *size)
    for name, scores in net.forward().items():
        check(scores.shape[2:] == size and not scores.any(), "deploy:", name, "is", scores.shape, "and not all zero")


def step(folder, prefix, size):
    """One step of the train net; returns its losses."""
    recipe = prototxt.read(os.path.join(ROOT, folder, prefix + "solver.prototxt"), caffe_pb2.SolverParameter())
    net = prototxt.read(os.path.join(ROOT, folder, recipe.train_net), caffe_pb2.NetParameter())
    nets_data.on_generated(net, [size])
    with tempfile.TemporaryDirectory() as made:
        files = [os.path.join(made, name) for name in ("train.prototxt", "solver.prototxt")]
        for path, text in zip(files, (str(net), nets_data.solver_text(files[0], made, recipe.base_lr, recipe.momentum))):
            with open(path, "w") as f:
                f.write(text)
        caffe.set_mode_cpu()
        solver = caffe.SGDSolver(files[1])
    params = solver.net.params
    run_nets.fill(solver.net)
    surgery.interp(solver.net, [name for name in params if "up" in name])
    frozen = {layer.name for layer in net.layer if layer.param and not any(param.lr_mult for param in layer.param)}
    before = {name: params[name][0].data.copy() for name in frozen}
    solver.step(1)
    losses = {}
    for name, wanted in nets_data.first_loss(net, solver.net).items():
        losses[name] = float(solver.net.blobs[name].data)
        check(abs(losses[name] - wanted) <= TOLERANCE * wanted, name, "is", losses[name], "and should be", wanted)
    for name, blobs in params.items():
        for blob in blobs:
            check(np.isfinite(blob.data).all(), name, "holds what is no number")
        if name in frozen:
            check(np.array_equal(before[name], blobs[0].data), name, "is frozen and has moved")
        elif name.startswith("score"):
            check(blobs[0].data.any(), name, "has not moved from zero")
    return losses


def one(name):
    """All checks of one experiment; prints a line."""
    folder, prefix = experiments()[name]
    size, begun = SIZES[folder.split("-")[0]], time.time()
    deploy(folder, prefix, size)
    losses = step(folder, prefix, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2.0**20
    print("%-24s %s; %.0f s, %.1f GB" % (
        name, ", ".join("%s %.6g" % pair for pair in sorted(losses.items())), time.time() - begun, peak), flush=True)


def main(names):
    """All experiments, or those named, in a process each; the exit status."""
    print(describe(), flush=True)
    failed = []
    for name in names or experiments():
        done = subprocess.run([sys.executable, __file__, "--one", name], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            failed.append(name)
            print("%s: FAILED\n%s" % (name, done.stderr[-3000:]), flush=True)
    print("nightly: " + ("FAILED: " + ", ".join(failed) if failed else "all took their step"))
    return bool(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
