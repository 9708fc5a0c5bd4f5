"""Solver trajectories on either Caffe: the same net, weights and data, every update rule with every rate policy.

    run_solvers.py record a.npz              what this Caffe does in all cases
    run_solvers.py snapshot FOLDER           half the steps of some cases, then a snapshot, in both formats
    run_solvers.py resume FOLDER b.npz       the other half, from the snapshots in FOLDER (of either Caffe)
    run_solvers.py log c.log COMMAND...      what `COMMAND train|test|time` log (COMMAND: caffe, python -m torchcaffe)

FCN_CAFFE chooses the Caffe (tools/which_caffe.py); compare_solvers.py compares. A recorded case holds, after 8 steps, the
loss and rate of each step, and the parameters, their diffs (the applied updates) and the solver's history as the
solverstate file has it, each as one flat float32 array.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "..", "tools"), HERE]

from which_caffe import WHICH, caffe  # noqa: E402  isort: skip
from caffe.proto import caffe_pb2  # noqa: E402  isort: skip
from solver_data import Batches  # noqa: E402  isort: skip

STEPS = 8
PROVENANCE = "%s Caffe %s, by tests/parity/run_solvers.py" % (WHICH, caffe.__version__)

NET = """
name: "solver cases"
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "solver_data" layer: "Batches" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 3 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "conv" top: "conv" }
layer { name: "frozen" type: "InnerProduct" bottom: "conv" top: "frozen" param { lr_mult: 0 } param { decay_mult: 3 }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "first" type: "InnerProduct" bottom: "frozen" top: "first" %(share)s
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "squash" type: "TanH" bottom: "first" top: "squash" }
layer { name: "second" type: "InnerProduct" bottom: "squash" top: "second" %(share)s
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "score" type: "InnerProduct" bottom: "second" top: "score"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "balance" type: "EuclideanLoss" bottom: "first" bottom: "second" top: "balance" loss_weight: 0.25 }
"""
SHARE = 'param { name: "weight" lr_mult: 0.5 } param { name: "bias" }'

RULES = {
    "sgd": 'type: "SGD" base_lr: 0.1',
    "momentum": 'type: "SGD" base_lr: 0.05 momentum: 0.9',
    "nesterov": 'type: "Nesterov" base_lr: 0.05 momentum: 0.9',
    "adagrad": 'type: "AdaGrad" base_lr: 0.05 delta: 1e-4',
    "rmsprop": 'type: "RMSProp" base_lr: 0.01 rms_decay: 0.95 delta: 1e-4',
    "adadelta": 'type: "AdaDelta" base_lr: 2 momentum: 0.95 delta: 1e-4',
    "adam": 'type: "Adam" base_lr: 0.01 momentum: 0.9 momentum2: 0.99 delta: 1e-4',
}
POLICIES = {
    "fixed": 'lr_policy: "fixed"',
    "step": 'lr_policy: "step" gamma: 0.5 stepsize: 3',
    "exp": 'lr_policy: "exp" gamma: 0.9',
    "inv": 'lr_policy: "inv" gamma: 0.1 power: 0.75',
    "multistep": 'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 2 stepvalue: 5',
    "poly": 'lr_policy: "poly" power: 0.9',
    "sigmoid": 'lr_policy: "sigmoid" gamma: 0.3 stepsize: 4',
}
EXTRAS = {  # each with every rule
    "clip": "clip_gradients: 0.3",
    "l1": 'regularization_type: "L1" weight_decay: 0.01',
    "iter_size": "iter_size: 3 clip_gradients: 2",
    "shared": "weight_decay: 0.1",  # with shared parameters, see case()
    "plain": "",
}
COMMON = "max_iter: %d random_seed: 7 " % STEPS


def cases() -> dict[str, tuple[str, str]]:
    """Case name -> (solver text without its net, net text)."""
    table = {}
    for rule, text in RULES.items():
        for policy, rate in POLICIES.items():
            table["%s-%s" % (rule, policy)] = (COMMON + text + " weight_decay: 0.05 " + rate, NET % {"share": ""})
        for extra, more in EXTRAS.items():
            share = SHARE if extra == "shared" else ""
            table["%s-%s" % (rule, extra)] = (COMMON + text + ' lr_policy: "fixed" ' + more, NET % {"share": share})
    return table


def make_solver(folder: str, name: str, more: str = "") -> caffe.SGDSolver:
    """The solver of a case, its files in `folder`, its weights always the same, its data at batch 0."""
    solver_text, net_text = cases()[name]
    prefix = os.path.join(folder, name)
    with open(prefix + ".net", "w") as f:
        f.write(net_text)
    with open(prefix + ".solver", "w") as f:
        f.write('%s net: "%s.net" snapshot_prefix: "%s" %s' % (solver_text, prefix, prefix, more))
    solver = caffe.get_solver(prefix + ".solver")
    rng = np.random.RandomState(5)
    for blobs in solver.net.params.values():
        for blob in blobs:  # of a shared parameter the last draw stays, on either Caffe
            blob.data[...] = 0.4 * rng.randn(*blob.data.shape)
    Batches.count = 0
    return solver


def flat(arrays) -> np.ndarray:
    """All arrays as one flat float32 array."""
    return np.concatenate([np.asarray(a, np.float32).ravel() for a in arrays])


def params(solver, half: str) -> np.ndarray:
    """The data or diff of all parameters of all layers, flat."""
    return flat(getattr(b, half) for blobs in solver.net.params.values() for b in blobs)


def outcome(solver, losses: list[float], rates: list[float]) -> dict[str, np.ndarray]:
    """What a solver has done; `data_sizes` and `diff_sizes` are those of the single parameters."""
    sizes = np.array([b.data.size for blobs in solver.net.params.values() for b in blobs])
    return {"loss": flat(losses), "rate": flat(rates), "data": params(solver, "data"), "data_sizes": sizes,
            "diff": params(solver, "diff"), "diff_sizes": sizes}


def history(path: str) -> dict[str, np.ndarray]:
    """The history in a binary solverstate file, flat, and the sizes of its blobs."""
    state = caffe_pb2.SolverState()
    with open(path, "rb") as f:
        state.ParseFromString(f.read())
    return {"history": flat(b.data for b in state.history),
            "history_sizes": np.array([len(b.data) for b in state.history])}


def steps(solver, n: int) -> tuple[list[float], list[float]]:
    """Losses and rates of n steps taken one by one."""
    losses, rates = [], []
    for _ in range(n):
        rates.append(solver.lr)
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    return losses, rates


def run_case(folder: str, name: str) -> dict[str, np.ndarray]:
    """What the chosen Caffe does in this case."""
    solver = make_solver(folder, name)
    losses, rates = steps(solver, STEPS)
    solver.snapshot()
    state = os.path.join(folder, "%s_iter_%d.solverstate" % (name, STEPS))
    return outcome(solver, losses, rates) | history(state)


RESUMED = ["momentum-multistep", "nesterov-step", "adagrad-inv", "rmsprop-exp", "adadelta-fixed", "adam-poly",
           "momentum-shared", "adam-iter_size"]
FORMATS = ("BINARYPROTO", "HDF5")


def snapshot(folder: str, names: list[str] = RESUMED) -> None:
    """Half the steps of some cases, then a snapshot in either format."""
    for name in names:
        for fmt in FORMATS:
            solver = make_solver(folder, name, "snapshot_format: " + fmt)
            steps(solver, STEPS // 2)  # not step(4): asking for the rate lets multistep advance
            solver.snapshot()


def snapshot_bytes() -> dict[str, np.ndarray]:
    """The snapshot files of two cases, as uint8 arrays under file/<name>."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)  # so that the solverstates name their models by bare names
        snapshot("", ["momentum-shared", "adam-poly"])
        os.chdir(here)
        for name in os.listdir(folder):
            if "_iter_" in name:
                files["file/" + name] = np.fromfile(os.path.join(folder, name), np.uint8)
    return files


def resume(folder: str, name: str, fmt: str) -> dict[str, np.ndarray]:
    """The other half from such a snapshot, in a fresh solver, on the chosen Caffe."""
    solver = make_solver(folder, name, "snapshot_format: " + fmt)
    suffix = ".h5" if fmt == "HDF5" else ""
    solver.restore(os.path.join(folder, "%s_iter_%d.solverstate%s" % (name, STEPS // 2, suffix)))
    assert solver.iter == STEPS // 2, solver.iter
    Batches.count = STEPS // 2 * (3 if "iter_size" in name else 1)
    losses, rates = steps(solver, STEPS // 2)
    return outcome(solver, losses, rates)


LOG_NET = """
name: "logged"
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "solver_data" layer: "Batches" } }
layer { name: "pair" type: "InnerProduct" bottom: "data" top: "pair"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
        inner_product_param { num_output: 3 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 0.5
        exclude { stage: "quiet" } }
layer { name: "again" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "again" }
"""
LOG_SOLVER = """
net: "net.prototxt" test_iter: 3 test_iter: 2 test_state { stage: "quiet" } test_state { } test_interval: 3
test_compute_loss: true max_iter: 10 display: 2 average_loss: 3 base_lr: 0.05 lr_policy: "multistep" gamma: 0.1
stepvalue: 4 stepvalue: 6 momentum: 0.9 clip_gradients: 5 iter_size: 2 snapshot: 4 snapshot_prefix: "logged"
random_seed: 4
"""
DEBUG_NET = LOG_NET.replace('name: "pair"', 'name: "pair" param { name: "w" } param { lr_mult: 0 }')
DEBUG_SOLVER = """
net: "debug_net.prototxt" test_iter: 1 test_interval: 1 max_iter: 2 display: 2 base_lr: 0.05 lr_policy: "fixed"
debug_info: true random_seed: 4 snapshot_after_train: false snapshot_prefix: "debug"
"""


def logs(command: list[str]) -> str:
    """What the solver and the tool log of `command` train, test and time with the nets above, in a folder of its own."""
    path = os.pathsep.join([HERE, os.path.join(HERE, "..", "..", "tools"), os.path.join(HERE, "..", "..")])
    env = dict(os.environ, PYTHONPATH=path, GLOG_logtostderr="1", GLOG_minloglevel="0")
    text = "# %s\n" % PROVENANCE
    with tempfile.TemporaryDirectory() as folder:
        for name, definition in (("net", LOG_NET), ("solver", LOG_SOLVER), ("debug_net", DEBUG_NET),
                                 ("debug_solver", DEBUG_SOLVER)):
            with open(os.path.join(folder, name + ".prototxt"), "w") as f:
                f.write(definition)
        for words in ("train -solver solver.prototxt", "time --model=net.prototxt --iterations=2 -stage quiet",
                      "test -model net.prototxt -weights logged_iter_10.caffemodel -iterations 3",
                      "train -solver debug_solver.prototxt"):
            run = subprocess.run([*command, *words.split()], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
            if run.returncode:
                sys.exit("%s %s exited with %d:\n%s" % (" ".join(command), words, run.returncode, run.stderr[-2000:]))
            text += "".join(line for line in run.stderr.splitlines(True)
                            if any(part in line for part in ("solver.cpp:", "caffe.cpp:", "ward] ")))
    return text


def main(argv: list[str]) -> None:
    """The command line described above."""
    results = {}
    if argv[:1] == ["record"]:
        with tempfile.TemporaryDirectory() as folder:
            for name in cases():
                results.update(("%s/%s" % (name, k), v) for k, v in run_case(folder, name).items())
        results.update(snapshot_bytes())
    elif argv[:1] == ["snapshot"]:
        os.makedirs(argv[1], exist_ok=True)
        snapshot(argv[1])
        return
    elif argv[:1] == ["resume"]:
        for name in RESUMED:
            for fmt in FORMATS:
                got = resume(argv[1], name, fmt)
                results.update(("%s %s/%s" % (name, fmt, k), v) for k, v in got.items())
    elif argv[:1] == ["log"]:
        with open(argv[1], "w") as f:
            f.write(logs(argv[2:]))
        return
    else:
        sys.exit(__doc__)
    results["provenance"] = np.array(PROVENANCE)
    np.savez_compressed(argv[-1], **results)
    print("%s: %d arrays -> %s" % (WHICH, len(results) - 1, argv[-1]))


if __name__ == "__main__":
    main(sys.argv[1:])
