"""The `caffe` command: python -m torchcaffe train|test|time|device_query, with the flags and exit codes of tools/caffe.cpp;
and Caffe's small tools, each by its name: python -m torchcaffe compute_image_mean ...

Exit codes: 0 also for early stop and for usage, 1 for a flag that is unknown or has a bad value and for an exception in a
Python layer, 134 (as an abort) for whatever Caffe's CHECKs would refuse. A tool's usage is 1, as in Caffe.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import torch

import torchcaffe
from torchcaffe import common, files, forks, log, parallel, tools_data, tools_export, tools_install, tools_nets
from torchcaffe.errors import CaffeError
from torchcaffe.flags import Default, FlagError, describe_flags, parse_flags
from torchcaffe.log import number
from torchcaffe.net import Net
from torchcaffe.proto import caffe_pb2
from torchcaffe.sgd_solver import get_solver
from torchcaffe.solver import SolverAction, output_lines
from torchcaffe.timer import now

FLAGS: dict[str, tuple[Default, str]] = {
    "gpu": ("", "Run in GPU mode on this device id. Training takes several, separated by ',', or 'all': a batch on each."),
    "solver": ("", "The solver definition protocol buffer text file."),
    "model": ("", "The model definition protocol buffer text file."),
    "phase": ("", "Network phase (TRAIN or TEST). Only used for 'time'."),
    "level": (0, "Network level."),
    "stage": ("", "Network stages (not to be confused with phase), separated by ','."),
    "snapshot": ("", "The snapshot solver state to resume training."),
    "weights": ("", "The pretrained weights to initialize finetuning, separated by ','. Not together with snapshot."),
    "iterations": (50, "The number of iterations to run."),
    "sigint_effect": ("stop", "What SIGINT does in training: snapshot, stop or none."),
    "extras": (False, "Know the layers of Caffe's forks too (docs/extras.md)."),
    "sighup_effect": ("snapshot", "What SIGHUP does in training: snapshot, stop or none."),
    "help": (False, "Show this."),
    "version": (False, "Show the version."),
    # glog's, which scripts give to the command
    "log_dir": ("", "A folder to keep the log in, too; its caffe.INFO is the latest one. Default: GLOG_log_dir, if set."),
    "logtostderr": (False, "Keep the log in no file, whatever log_dir says; also GLOG_logtostderr=1."),
    "alsologtostderr": (True, "As it is always: the log goes to stderr."),
    "minloglevel": (0, "The least severity shown: 0 info, 1 warning, 2 error, 3 fatal; also GLOG_minloglevel."),
}


def train(flags: SimpleNamespace) -> None:
    """Train or finetune a model."""
    _want(flags.solver, "Need a solver definition to train.")
    _want(not (flags.snapshot and flags.weights),
          "Give a snapshot to resume training or weights to finetune but not both.")
    param = files.read_solver_text(flags.solver)
    param.train_state.level = flags.level
    param.train_state.stage.extend(flags.stage.split(","))
    gpu = flags.gpu
    if not gpu and param.HasField("solver_mode") and param.solver_mode == caffe_pb2.SolverParameter.GPU:
        gpu = str(param.device_id)
    gpus = _set_mode(gpu, several=True)
    get_action = _catch_signals({signal.SIGHUP: flags.sighup_effect, signal.SIGINT: flags.sigint_effect})
    if flags.snapshot or flags.weights:
        del param.weights[:]
    if flags.weights:
        param.weights.append(flags.weights)
    with parallel.workers(param, gpus, flags.snapshot) if len(gpus) > 1 else nullcontext() as uid:
        solver = get_solver(param)
        solver.get_action = get_action
        if flags.snapshot:
            log.info("Resuming from %s" % flags.snapshot)
            solver.restore(flags.snapshot)
        if uid is not None:
            parallel.join(solver, uid)
        log.info("Starting Optimization")
        solver.solve()
    log.info("Optimization Done.")


def test(flags: SimpleNamespace) -> None:
    """Score a model."""
    _want(flags.model, "Need a model definition to score.")
    _want(flags.weights, "Need model weights to score.")
    _set_mode(flags.gpu)
    net = _read_net(flags, caffe_pb2.TEST)
    net.copy_trained_layers_from(flags.weights)
    log.info("Running for %d iterations." % flags.iterations)
    loss, sums = np.float32(0), {}
    for i in range(flags.iterations):
        loss += np.float32(net.forward_pass())
        for name, blob in zip(net.outputs, net.output_blobs):
            scores = blob.value.cpu().numpy()
            for score in np.ravel(scores):
                log.info("Batch %d, %s = %s" % (i, name, number(score)))
            sums[name] = sums.get(name, np.float32(0)) + scores
    log.info("Loss: %s" % number(loss / np.float32(flags.iterations)))
    means = [(name, total / np.float32(flags.iterations)) for name, total in sums.items()]
    for line in output_lines(net, means):
        log.info(line)


def time(flags: SimpleNamespace) -> None:
    """Benchmark model execution time."""
    _want(flags.model, "Need a model definition to time.")
    _want(flags.phase in ("", "TRAIN", "TEST"), 'phase must be "TRAIN" or "TEST"')
    _set_mode(flags.gpu)
    net = _read_net(flags, caffe_pb2.TEST if flags.phase == "TEST" else caffe_pb2.TRAIN)
    log.info("Performing Forward")
    log.info("Initial loss: %s" % number(net.forward_pass()))
    log.info("Performing Backward")
    net.backward_pass()
    log.info("*** Benchmark begins ***")
    log.info("Testing for %d iterations." % flags.iterations)
    layers = range(len(net.layers))
    forward, backward = np.zeros(len(layers)), np.zeros(len(layers))
    begin = now()
    for j in range(flags.iterations):
        start = now()
        for i in layers:
            forward[i] += _timed(net.forward_from_to, i, i)
        for i in reversed(layers):
            backward[i] += _timed(net.backward_from_to, i, i)
        log.info("Iteration: %d forward-backward time: %s ms." % (j + 1, number(now() - start)))
    total = now() - begin
    log.info("Average time per layer: ")
    for i, name in enumerate(net.layer_names):
        log.info("%10s\tforward: %s ms." % (name, number(forward[i] / flags.iterations)))
        log.info("%10s\tbackward: %s ms." % (name, number(backward[i] / flags.iterations)))
    log.info("Average Forward pass: %s ms." % number(forward.sum() / flags.iterations))
    log.info("Average Backward pass: %s ms." % number(backward.sum() / flags.iterations))
    log.info("Average Forward-Backward: %s ms." % number(total / flags.iterations))
    log.info("Total Time: %s ms." % number(total))
    log.info("*** Benchmark ends ***")


def device_query(flags: SimpleNamespace) -> None:
    """Show GPU diagnostic information."""
    log.info("Querying GPUs %s" % flags.gpu)
    for i in _device_ids(flags.gpu):
        _want(i < torch.cuda.device_count(), "-gpu %s: PyTorch sees %d GPUs" % (flags.gpu, torch.cuda.device_count()))
        p = torch.cuda.get_device_properties(i)
        log.info("Device id:                     %d" % i)
        log.info("Major revision number:         %d" % p.major)
        log.info("Minor revision number:         %d" % p.minor)
        log.info("Name:                          %s" % p.name)
        log.info("Total global memory:           %d" % p.total_memory)
        log.info("Number of multiprocessors:     %d" % p.multi_processor_count)


COMMANDS = {"device_query": device_query, "test": test, "time": time, "train": train}
TOOLS: dict[str, Callable[[list[str]], int]] = {tool.__name__: tool for tool in (
    tools_data.compute_image_mean, tools_data.convert_imageset, tools_nets.draw_net, tools_data.extract_features,
    tools_nets.upgrade_net_proto_binary, tools_nets.upgrade_net_proto_text, tools_nets.upgrade_solver_proto_text,
    tools_export.export_onnx, tools_export.export_safetensors, tools_export.import_safetensors,
    tools_install.install_caffe)}


def main(argv: list[str]) -> int:
    """Run one command or tool; returns the exit code."""
    try:
        if argv and argv[0] in TOOLS:
            return TOOLS[argv[0]](argv[1:])
        flags, words = parse_flags(argv, FLAGS)
        if flags.version:
            print("caffe version %s" % torchcaffe.__version__)
            return 0
        if flags.help or len(words) != 1:
            _print_usage()
            return int(flags.help)  # 1, as gflags has it
        if flags.minloglevel:
            os.environ["GLOG_minloglevel"] = str(flags.minloglevel)
        folder = flags.log_dir or os.environ.get("GLOG_log_dir", "")
        to_file = folder and not flags.logtostderr and os.environ.get("GLOG_logtostderr", "0") in ("", "0")
        with log.kept_in(folder) if to_file else nullcontext():
            return _run(words[0], flags)
    except FlagError as e:
        print("ERROR: %s" % e, file=sys.stderr)
        return 1
    except CaffeError as e:  # of a tool, or of the log's folder
        log.fatal(str(e))
        return 134


def _run(action: str, flags: SimpleNamespace) -> int:
    """Run one command; returns the exit code."""
    try:
        _want(action in COMMANDS, "Unknown action: %s (known: %s)" % (action, ", ".join([*COMMANDS, *TOOLS])))
        _want(flags.iterations > 0, "-iterations is %d, wanted 1 or more" % flags.iterations)
        if flags.extras:
            forks.enable()
        COMMANDS[action](flags)
    except CaffeError as e:
        log.fatal(str(e))
        return 134
    return 0


def _print_usage() -> None:
    """Every command, flag and tool."""
    print("caffe: command line brew\nusage: python -m torchcaffe <command> <args>\n\ncommands:")
    for name in ("train", "test", "device_query", "time"):
        text = COMMANDS[name].__doc__.rstrip(".")
        print("  %-16s%s" % (name, text[0].lower() + text[1:]))
    print("\nflags:\n%s\n\ntools:" % describe_flags(FLAGS))
    for name, tool in TOOLS.items():
        print("  %s\n      %s" % (name, tool.__doc__.splitlines()[0]))


def _set_mode(gpu: str, several: bool = False) -> list[torch.device]:
    """Compute on the CPU, or on the GPU of this id; with `several`, they may be several. Returns the GPUs."""
    if not gpu:
        log.info("Use CPU.")
        common.set_mode_cpu()
        return []
    ids = _device_ids(gpu)
    _want(ids, "-gpu all: PyTorch sees no GPU; leave -gpu out to run on the CPU")
    _want(len(ids) == len(set(ids)), "-gpu %s: an id is there twice; wanted each GPU once" % gpu)
    _want(several or len(ids) == 1, "-gpu %s: %d GPUs; this action runs on one, give one id" % (gpu, len(ids)))
    for i in reversed(ids):  # each is checked; the first one stays
        common.set_device(i)
    common.set_mode_gpu()
    log.info("Using GPUs %s" % ", ".join(str(i) for i in ids))
    for i in ids:
        log.info("GPU %d: %s" % (i, torch.cuda.get_device_name(i)))
    return [torch.device("cuda", i) for i in ids]


def _device_ids(gpu: str) -> list[int]:
    """The ids that -gpu names: "0,1", "all", or none."""
    if gpu == "all":
        return list(range(torch.cuda.device_count()))
    _want(not gpu or all(part.isdigit() for part in gpu.split(",")), "-gpu '%s': wanted a device id, or all" % gpu)
    return [int(part) for part in gpu.split(",") if part]


def _read_net(flags: SimpleNamespace, phase: int) -> Net:
    return Net(files.read_net_text(flags.model), phase, flags.level, flags.stage.split(","))


def _catch_signals(effects: dict[signal.Signals, str]) -> Callable[[], SolverAction]:
    """Catch these signals; returns the function that says, once for each, what the last ones ask for."""
    actions = {}
    for number_, effect in effects.items():
        _want(effect in {a.value for a in SolverAction}, 'Invalid signal effect "%s" was specified' % effect)
        actions[number_] = SolverAction(effect)
    got: set[int] = set()
    for number_ in actions:
        signal.signal(number_, lambda received, frame: got.add(received))

    def get_action() -> SolverAction:
        for number_, action in actions.items():
            if number_ in got:
                got.remove(number_)
                return action
        return SolverAction.NONE

    return get_action


def _timed(function: Callable[..., object], *args: object) -> float:
    start = now()
    function(*args)
    return now() - start


def _want(condition: object, message: str) -> None:
    if not condition:
        raise CaffeError(message)


def console() -> None:
    """The command as a program of its own: python -m torchcaffe, torchcaffe, caffe."""
    # Python layers `import caffe`, and in this program that is the façade.
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "pycaffe"))
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
