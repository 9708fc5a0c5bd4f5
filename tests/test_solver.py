"""The solvers against recorded trajectories of BVLC Caffe 1.0.0 (Debian's 99bd997), and what Caffe would refuse.

tests/goldens/solvers.npz and solver.log were written by tests/parity/run_solvers.py, whose cases are run again here.
"""

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
import torch
from parity import compare_solvers, run_solvers
from solver_data import Batches

from torchcaffe import __main__ as command
from torchcaffe import log
from torchcaffe.errors import CaffeError
from torchcaffe.solver import SolverAction

GOLDENS = Path(__file__).parent / "goldens"
CASES = run_solvers.cases()
RULES = list(run_solvers.RULES)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS / "solvers.npz") as archive:
        return dict(archive)


def of_case(golden, name):
    """The recorded arrays of one case, their names without it."""
    return {k.split("/")[1]: v for k, v in golden.items() if k.startswith(name + "/")}


def small(folder, text="", **kinds):
    """A solver over a small net, with more solver text; keywords replace words of the net."""
    net = run_solvers.LOG_NET
    for old, new in kinds.items():
        net = net.replace(old, new)
    (folder / "net.prototxt").write_text(net)
    path = folder / "solver.prototxt"
    defaults = {"net": '"%s"' % (folder / "net.prototxt"), "base_lr": "0.05", "lr_policy": '"fixed"', "random_seed": "4"}
    path.write_text(text + "".join(" %s: %s" % (k, v) for k, v in defaults.items() if not re.search(r"\b%s: " % k, text)))
    Batches.count = 0
    return caffe.get_solver(str(path))


# -- numbers -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_trajectory(name, golden, tmp_path):
    """Losses, parameters, applied updates and history after 8 steps, within 1e-5 of each parameter's largest value."""
    got = run_solvers.run_case(str(tmp_path), name)
    wanted = of_case(golden, name)
    shares = compare_solvers.array_shares(wanted, got)
    assert max(shares.values()) <= 1, shares
    # Rates are scalar arithmetic in float32 and double, mixed as in Caffe: no tolerance.
    np.testing.assert_array_equal(got["rate"], wanted["rate"])


def test_every_recorded_case_is_run(golden):
    assert {k.split("/")[0] for k in golden if k.endswith("/loss")} == set(CASES)


@pytest.mark.parametrize("fmt", run_solvers.FORMATS)
@pytest.mark.parametrize("name", ["momentum-shared", "adam-poly"])
def test_resumes_from_caffes_snapshot(name, fmt, golden, tmp_path, capfd):
    """Caffe's caffemodel and solverstate after 4 steps, 4 more steps here: Caffe's state after 8."""
    for key, content in golden.items():
        if key.startswith("file/"):
            (tmp_path / key[5:]).write_bytes(content.tobytes())
    got = {"%s %s/%s" % (name, fmt, k): v for k, v in run_solvers.resume(str(tmp_path), name, fmt).items()}
    shares = compare_solvers.array_shares(compare_solvers.ends(golden, got), got)
    assert max(shares.values()) <= 1, shares
    assert "beside the solverstate" in capfd.readouterr().err  # the recorded files name each other without a folder


@pytest.mark.parametrize("fmt", run_solvers.FORMATS)
@pytest.mark.parametrize("rule", RULES)
def test_resume_is_bit_for_bit(rule, fmt, tmp_path):
    """4 steps, snapshot, 4 steps in a fresh solver: the same bits as 8 steps."""
    name = rule + "-multistep"
    straight = run_solvers.make_solver(str(tmp_path), name)
    _, rates = run_solvers.steps(straight, 8)
    halfway = run_solvers.make_solver(str(tmp_path), name, "snapshot_format: " + fmt)
    run_solvers.steps(halfway, 4)
    halfway.snapshot()
    got = run_solvers.resume(str(tmp_path), name, fmt)
    np.testing.assert_array_equal(got["rate"], np.array(rates[4:], np.float32))
    for half in ("data", "diff"):
        np.testing.assert_array_equal(got[half], run_solvers.params(straight, half))


def test_pieces_of_a_parameter_make_no_difference(tmp_path, monkeypatch):
    """Parameters are updated in pieces of 32704 values; here in pieces of 5."""
    wanted = run_solvers.run_case(str(tmp_path), "adam-fixed")
    monkeypatch.setattr("torchcaffe.sgd_solver.CPU_PIECE", 5)
    got = run_solvers.run_case(str(tmp_path), "adam-fixed")
    # A vectorised and a scalar float operation may round differently in the last bit (fused multiply-add).
    np.testing.assert_allclose(got["data"], wanted["data"], rtol=0, atol=3e-7)


def test_diff_of_a_frozen_parameter_is_zero_and_its_data_stays(tmp_path):
    """lr_mult 0 with weight decay: the decay enters the diff and is multiplied by a rate of 0."""
    solver = run_solvers.make_solver(str(tmp_path), "momentum-fixed")
    before = solver.net.params["frozen"][0].data.copy()
    solver.step(2)
    assert not solver.net.params["frozen"][0].diff.any()
    np.testing.assert_array_equal(solver.net.params["frozen"][0].data, before)
    assert solver.net.params["frozen"][1].diff.any()


# -- log -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("level, shown", [("0", "IW"), ("1", "W"), ("2", ""), ("", "IW"), ("none", "IW")])
def test_least_severity_shown(level, shown, monkeypatch, capsys):
    """GLOG_minloglevel, which glog reads with strtol: what is no number is 0."""
    monkeypatch.setenv("GLOG_minloglevel", level)
    log.info("a")
    log.warning("b")
    assert "".join(line[0] for line in capsys.readouterr().err.splitlines()) == shown


@pytest.mark.slow
def test_log_is_caffes(monkeypatch):
    """train, test and time print what Caffe's tool printed: the same lines in order, numbers to 1e-4, times left out."""
    monkeypatch.setenv("FCN_CAFFE", "torch")
    got = run_solvers.logs([sys.executable, "-m", "torchcaffe"])
    share, where = compare_solvers.log_share((GOLDENS / "solver.log").read_text(), got)
    assert share <= 1, where


def test_log_comparison_notices():
    """A wrong number, word or count is noticed (the comparison above could otherwise not fail)."""
    text = "I1120 16:25:27.483388 12845 solver.cpp:239] Iteration 2 (7 iter/s, 1s/2 iters), loss = 1.5\n"
    assert compare_solvers.log_share(text, text.replace("7 iter", "8 iter"))[0] == 0
    for other in (text.replace("1.5", "1.501"), text.replace("loss", "lass"), text + text, text.replace("2 (", "3 (")):
        assert compare_solvers.log_share(text, other)[0] > 1


# -- order of a step -----------------------------------------------------------------------------------------------------
def test_callbacks_and_iter(tmp_path):
    solver = small(tmp_path)
    seen = []
    solver.add_callback(lambda: seen.append(("start", solver.iter)), lambda: seen.append(("gradients", solver.iter)))
    solver.step(2)
    assert seen == [("start", 0), ("gradients", 0), ("start", 1), ("gradients", 1)]
    assert solver.iter == 2


def test_apply_update_alone(tmp_path):
    """apply_update uses whatever diff is there, as pycaffe users with their own loop expect."""
    solver = small(tmp_path, "base_lr: 0.5")
    weight = solver.net.params["score"][0]
    weight.data[...] = 1
    weight.diff[...] = 3
    solver.apply_update()
    np.testing.assert_array_equal(weight.data, np.full(weight.data.shape, -0.5, np.float32))
    assert solver.iter == 1


def test_step_ignores_max_iter_and_solve_does_not(tmp_path):
    solver = small(tmp_path, "max_iter: 3 snapshot_after_train: false")
    solver.step(2)
    solver.solve()
    assert solver.iter == 3
    solver.step(2)
    assert solver.iter == 5
    assert not list(tmp_path.glob("*iter*"))


def test_solve_snapshots_the_end_once(tmp_path, capfd):
    """After training there is a snapshot, unless one was due in the last iteration anyway."""
    small(tmp_path, "max_iter: 4 snapshot: 2").solve()
    small(tmp_path, "max_iter: 5 snapshot: 2").solve()
    assert re.findall(r"_iter_(\d+)\.caffemodel", capfd.readouterr().err) == ["2", "4", "2", "4", "5"]


@pytest.mark.parametrize("initial, tested", [("true", ["0", "2"]), ("false", ["2"])])
def test_when_tests_are_due(initial, tested, tmp_path, capfd):
    """Before the iterations that test_interval divides; before the first only with test_initialization."""
    small(tmp_path, "test_iter: 1 test_interval: 2 test_initialization: " + initial).step(4)
    assert re.findall(r"Iteration (\d+), Testing net", capfd.readouterr().err) == tested


def test_smoothed_loss(tmp_path, capfd):
    """The mean of the losses so far, then of the last average_loss ones; every step() begins anew."""
    solver = small(tmp_path, "display: 1 average_loss: 2")
    losses = []
    solver.add_callback(lambda: None, lambda: losses.append(
        sum(float(solver.net.blobs[n].data) * w for n, w in (("loss", 0.5), ("again", 1)))))
    solver.step(3)
    solver.step(1)
    shown = [float(v) for v in re.findall(r"iters\), loss = (\S+)", capfd.readouterr().err)]
    a, b, c, d = losses
    np.testing.assert_allclose(shown, [a, (a + b) / 2, (b + c) / 2, d], rtol=1e-5)  # six digits are printed


def test_test_nets_share_weights_and_merge_states(tmp_path, capfd):
    """Stages of test_state filter layers; test nets see the train net's weights when tested."""
    solver = small(tmp_path, 'test_iter: 1 test_iter: 1 test_interval: 2 test_state { stage: "quiet" } test_state { }')
    assert "loss" not in solver.test_nets[0].blobs
    assert "loss" in solver.test_nets[1].blobs
    solver.net.params["score"][0].data[...] = 7
    solver.step(1)
    np.testing.assert_array_equal(solver.test_nets[0].params["score"][0].data, solver.net.params["score"][0].data)
    assert "Iteration 0, Testing net (#1)" in capfd.readouterr().err


def test_weights_of_the_solver_definition(tmp_path):
    first = small(tmp_path, "snapshot_prefix: \"%s\"" % (tmp_path / "first"))
    first.net.params["score"][0].data[...] = 3
    first.snapshot()
    text = 'weights: "%s" test_iter: 1 test_interval: 1' % (tmp_path / "first_iter_0.caffemodel")
    solver = small(tmp_path, text)
    for net in (solver.net, solver.test_nets[0]):
        assert (net.params["score"][0].data == 3).all()


def test_a_python_layers_exception_comes_through(tmp_path, monkeypatch):
    solver = small(tmp_path)
    solver.step(1)

    def broken(self, bottom, top):
        raise ZeroDivisionError("in the data layer")

    monkeypatch.setattr(Batches, "forward", broken)
    with pytest.raises(ZeroDivisionError, match="in the data layer"):
        solver.step(1)
    assert solver.iter == 1
    monkeypatch.undo()
    solver.step(1)
    assert solver.iter == 2


# -- snapshots -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fmt, suffix", [("BINARYPROTO", ""), ("HDF5", ".h5")])
def test_snapshot_names(fmt, suffix, tmp_path):
    """Without a snapshot_prefix the solver file's name is used; a snapshot falls due after the iteration is counted."""
    solver = small(tmp_path, "snapshot: 2 snapshot_format: " + fmt)
    solver.step(5)
    names = {"solver_iter_%d.%s%s" % (i, kind, suffix) for i in (2, 4) for kind in ("caffemodel", "solverstate")}
    assert {p.name for p in tmp_path.glob("solver_*")} == names


def test_a_snapshot_that_cannot_be_is_noticed_at_once(tmp_path):
    prefix = tmp_path / "none" / "x"
    with pytest.raises(CaffeError, match="Cannot write to snapshot prefix '%s'.*create the directory" % prefix):
        small(tmp_path, 'snapshot: 2 snapshot_prefix: "%s"' % prefix)
    small(tmp_path, 'snapshot: 2 snapshot_prefix: "%s"' % (tmp_path / "x"))
    assert not list(tmp_path.glob("x*"))  # the probe file is gone


@pytest.mark.parametrize("room, failing", [(50, "caffemodel"), (2500, "solverstate")])  # of 2200 and 3000 bytes
def test_no_room_for_a_snapshot(room, failing, tmp_path, monkeypatch):
    """A write that fails half-way names the file, leaves nothing of it, and no solverstate without its model."""
    solver = small(tmp_path, 'momentum: 0.9 type: "Adam"')
    solver.step(1)
    monkeypatch.setenv("GLOG_minloglevel", "3")  # pytest may keep the log in a file, which has no room either
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # Python ignores SIGXFSZ: writing is an OSError
        with pytest.raises(CaffeError, match=r"solver_iter_1\.%s: cannot be written" % failing):
            solver.snapshot()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = [p.name for p in tmp_path.glob("solver_iter*")]
    assert left == ([] if failing == "caffemodel" else ["solver_iter_1.caffemodel"])


def test_restore_refuses_another_solvers_state(tmp_path):
    """Nothing is changed by a restore that fails; the message names file, what it has and what was wanted."""
    small(tmp_path, 'snapshot_prefix: "%s"' % (tmp_path / "sgd")).snapshot()
    state = str(tmp_path / "sgd_iter_0.solverstate")
    adam = small(tmp_path, 'type: "Adam"')
    before = adam.net.params["pair"][0].data.copy() + 1
    adam.net.params["pair"][0].data[...] = before
    with pytest.raises(CaffeError, match=r"sgd_iter_0.solverstate: .*it has 4, wanted 8 for a Adam solver"):
        adam.restore(state)
    np.testing.assert_array_equal(adam.net.params["pair"][0].data, before)
    wider = small(tmp_path, **{"num_output: 2": "num_output: 5"})
    with pytest.raises(CaffeError, match=r"layer 'pair' param 0 has shape \(2, 72\), wanted \(5, 72\)"):
        wider.restore(state)
    with pytest.raises(CaffeError, match="none.solverstate"):
        wider.restore(str(tmp_path / "none.solverstate"))
    os.remove(tmp_path / "sgd_iter_0.caffemodel")
    with pytest.raises(CaffeError, match="sgd_iter_0.caffemodel"):
        small(tmp_path).restore(state)


# -- what is refused -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text, message", [
    ('net: "a" train_net: "b"', "exactly one of these fields: net, net_param, train_net, train_net_param; it has net, tr"),
    ('type: "Foo"', "Unknown solver type: Foo .known types: AdaDelta, AdaGrad, Adam, Nesterov, RMSProp, SGD"),
    ('type: "AdaGrad" momentum: 0.9', "momentum is 0.9; Momentum cannot be used with AdaGrad"),
    ('type: "RMSProp" momentum: 0.9', "momentum is 0.9; Momentum cannot be used with RMSProp"),
    ('type: "RMSProp" rms_decay: 1', "rms_decay is 1, wanted 0 <= rms_decay < 1"),
    ("average_loss: 0", "average_loss is 0, wanted 1 or more"),
    ("iter_size: 0", "iter_size is 0, wanted 1 or more"),
    ("test_iter: 1", "test_interval is 0 but there are 1 test nets"),
    ('test_net: "a" test_interval: 1', "got 0 test_iter for 1 test nets"),
    ("test_iter: 1 test_interval: 1 test_state {} test_state {}", "test_state must be .* per test net: got 2, wanted 1"),
])
def test_refused_definitions(text, message, tmp_path):
    with pytest.raises(CaffeError, match=message):
        small(tmp_path, text)


@pytest.mark.parametrize("text, message", [
    ('lr_policy: "foo"', "Unknown learning rate policy: 'foo'"),
    ('lr_policy: "step"', "stepsize is 0, lr_policy 'step' wants more than 0"),
    ('lr_policy: "sigmoid" gamma: -1', "gamma is -1, lr_policy 'sigmoid' wants 0 or more"),
    ('weight_decay: 1 regularization_type: "L3"', "Unknown regularization type: 'L3'"),
])
def test_refused_in_the_first_step(text, message, tmp_path):
    solver = small(tmp_path, text)
    with pytest.raises(CaffeError, match=message):
        solver.step(1)


def test_a_test_output_that_changes_its_shape(tmp_path, monkeypatch):
    solver = small(tmp_path, "test_iter: 2 test_interval: 1 test_initialization: true")

    def reshape(self, bottom, top):
        top[0].reshape(4 + Batches.count, 2, 6, 6)
        top[1].reshape(4 + Batches.count)

    def forward(self, bottom, top):
        Batches.count += 1

    monkeypatch.setattr(Batches, "reshape", reshape)
    monkeypatch.setattr(Batches, "forward", forward)
    with pytest.raises(CaffeError, match=r"output 'pair' has shape \(5, 2\) now and had \(4, 2\)"):
        solver.step(1)


# -- the command ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """The current folder holds net.prototxt and solver.prototxt; signals are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(run_solvers.LOG_NET)
    Path("solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 4 momentum: 0.9')
    handlers = [(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGHUP)]
    Batches.count = 0
    yield tmp_path
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.mark.parametrize("words, code, message", [
    ("", 0, "commands:"),
    ("train more", 0, "commands:"),
    ("-version", 0, "caffe version 1.0.0"),
    ("train --help", 1, "commands:"),
    ("train -bar", 1, "ERROR: unknown command line flag 'bar'"),
    ("train -iterations x", 1, "ERROR: illegal value 'x' specified for int32 flag 'iterations'"),
    ("train -solver", 1, "ERROR: flag 'solver' is missing its argument"),
    ("brew", 134, "Unknown action: brew"),
    ("train", 134, "Need a solver definition to train."),
    ("train --solver=none.prototxt", 134, "none.prototxt"),
    ("train -solver solver.prototxt -snapshot a --weights b", 134, "Give a snapshot to resume training or weights"),
    ("train -solver solver.prototxt -sigint_effect foo", 134, 'Invalid signal effect "foo" was specified'),
    ("test -model net.prototxt -weights w -gpu 0,1", 134, "2 GPUs; this action runs on one, give one id"),
    ("train -solver solver.prototxt -gpu 0,1,0", 134, "-gpu 0,1,0: an id is there twice"),
    ("train -solver solver.prototxt -gpu x", 134, "-gpu 'x': wanted a device id, or all"),
    ("train -solver solver.prototxt -weights none", 134, "none"),
    ("train -solver solver.prototxt -log_dir nowhere", 134, "log folder 'nowhere': No such file or directory"),
    ("test", 134, "Need a model definition to score."),
    ("test -model net.prototxt", 134, "Need model weights to score."),
    ("time", 134, "Need a model definition to time."),
    ("time -model net.prototxt -phase X", 134, 'phase must be "TRAIN" or "TEST"'),
    ("time -model net.prototxt -iterations 0", 134, "-iterations is 0, wanted 1 or more"),
])
def test_exit_codes(words, code, message, in_folder, capfd):
    """As Caffe's tool exits; 134 is what a shell shows for its abort."""
    assert command.main(words.split()) == code
    out = capfd.readouterr()
    assert message in out.out + out.err


@pytest.mark.parametrize("flags, variables, kept", [
    ("--log_dir=logs -alsologtostderr=1", {}, True), ("", {"GLOG_log_dir": "logs"}, True), ("", {}, False),
    ("-log_dir logs -logtostderr", {}, False), ("", {"GLOG_log_dir": "logs", "GLOG_logtostderr": "1"}, False)])
def test_the_log_is_kept_in_a_file_as_glog_does(flags, variables, kept, in_folder, capfd, monkeypatch):
    """caffe.HOST.USER.log.INFO.DATE-TIME.PID with the lines of stderr, and caffe.INFO; the last line, the fatal one, too."""
    for name in ("GLOG_log_dir", "GLOG_logtostderr"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"USER": "someone", **variables}.items():
        monkeypatch.setenv(name, value)
    Path("logs").mkdir()
    assert command.main(["train", "-solver", "solver.prototxt", *flags.split()]) == 0
    shown = capfd.readouterr().err
    assert [f.name.split(".log.INFO.")[0].endswith(".someone") for f in Path("logs").glob("*.log.INFO.*")] == [True] * kept
    if kept:
        created, machine, form, *lines = Path("logs/caffe.INFO").read_text().splitlines()
        assert created.startswith("Log file created at: 2") and "[IWEF]mmdd" in form and lines == shown.splitlines()
    assert command.main(["train", "-solver", "none.prototxt", *flags.split()]) == 134
    assert not kept or "] none.prototxt: cannot be read" in Path("logs/caffe.INFO").read_text()


def test_train_resumes_and_finetunes(in_folder, capfd):
    """-snapshot and -weights replace the weights that the solver definition names."""
    text = Path("solver.prototxt").read_text()
    assert command.main(["train", "-solver", "solver.prototxt"]) == 0
    Path("longer.prototxt").write_text(text.replace("max_iter: 4", 'max_iter: 6 weights: "none.caffemodel"'))
    assert command.main(["train", "-solver=longer.prototxt", "--snapshot", "solver_iter_4.solverstate"]) == 0
    assert "Resuming from solver_iter_4.solverstate" in capfd.readouterr().err
    assert {p.name for p in in_folder.glob("*.solverstate")} == {"solver_iter_4.solverstate", "longer_iter_6.solverstate"}
    models = "solver_iter_4.caffemodel,longer_iter_6.caffemodel"
    assert command.main(["train", "-solver=longer.prototxt", "-weights", models]) == 0
    assert re.findall(r"Finetuning from (\S+)", capfd.readouterr().err) == models.split(",")


@pytest.mark.parametrize("number, flags, last, snapshots", [
    (signal.SIGINT, [], 2, [2]),
    (signal.SIGHUP, [], 4, [2, 4]),
    (signal.SIGINT, ["-sigint_effect", "snapshot"], 4, [2, 4]),
    (signal.SIGHUP, ["-sighup_effect", "none"], 4, [4]),
])
def test_signals(number, flags, last, snapshots, in_folder, monkeypatch, capfd):
    """SIGINT in the second iteration: it is finished, a snapshot made, and training stops; SIGHUP: and goes on."""
    forward = Batches.forward

    def signalling(self, bottom, top):
        forward(self, bottom, top)
        if Batches.count == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Batches, "forward", signalling)
    assert command.main(["train", "-solver", "solver.prototxt", *flags]) == 0
    assert sorted(int(p.stem.split("_")[-1]) for p in in_folder.glob("*.solverstate")) == snapshots
    assert ("Optimization stopped early." in capfd.readouterr().err) == (last == 2)


def test_signals_from_outside(in_folder):
    """To the process itself: SIGHUP snapshots, SIGINT stops after another; SIGTERM is nobody's and ends it at once."""
    text = Path("solver.prototxt").read_text().replace("max_iter: 4", "max_iter: 1000000000 display: 1")
    Path("net.prototxt").write_text(run_solvers.LOG_NET)
    Path("solver.prototxt").write_text(text)
    tests = GOLDENS.parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests.parent / "tools", tests / "parity")))}
    words = [sys.executable, "-m", "torchcaffe", "train", "-solver", "solver.prototxt"]
    seen = []
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stderr:
            seen.append(line)
            if "Iteration 1 (" in line:
                process.send_signal(signal.SIGHUP)
            if "Snapshotting solver state" in line and process.poll() is None:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0 and "Optimization stopped early." in seen[-2], seen[-3:]
    states = len(list(in_folder.glob("*.solverstate")))
    assert 1 <= states <= 2  # one, if the second signal came in the same iteration
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stderr:
            if "Iteration 1 (" in line:
                process.terminate()
    assert process.returncode == -signal.SIGTERM and len(list(in_folder.glob("*.solverstate"))) == states


def test_stop_while_testing(tmp_path, capfd):
    solver = small(tmp_path, "test_iter: 5 test_iter: 5 test_interval: 1 max_iter: 3")
    requests = [SolverAction.NONE, SolverAction.SNAPSHOT, SolverAction.STOP]
    solver.get_action = lambda: requests.pop(0) if requests else SolverAction.NONE
    solver.solve()
    assert solver.iter == 0
    log = capfd.readouterr().err
    assert log.count("Test interrupted.") == 1
    assert log.count("Snapshotting to") == 2  # the one asked for and the one after training


def test_stage_and_level_reach_the_net(in_folder, capfd):
    net = run_solvers.LOG_NET.replace('exclude { stage: "quiet" }', 'include { min_level: 2 stage: "loud" }')
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(Path("solver.prototxt").read_text() + " display: 1")
    for flags, there in ((["-level", "2", "-stage", "loud,other"], True), (["-level", "1", "-stage", "loud"], False)):
        assert command.main(["time", "-model", "net.prototxt", "-iterations", "1", *flags]) == 0
        assert ("      loss\tforward" in capfd.readouterr().err) == there
        assert command.main(["train", "-solver", "solver.prototxt", *flags]) == 0
        assert ("#1: loss = " in capfd.readouterr().err) == there


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")
def test_trajectory_on_a_gpu(golden, tmp_path):
    caffe.set_mode_gpu()
    try:
        for name in ("momentum-step", "adam-clip", "adadelta-fixed"):
            shares = compare_solvers.array_shares(of_case(golden, name), run_solvers.run_case(str(tmp_path), name))
            assert max(shares.values()) <= 1, shares
    finally:
        caffe.set_mode_cpu()
