"""What a run leaves: log, metrics, snapshots, curves. Each without a solver."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import caffemodel
import curves
import numpy as np
import progress
import pytest
import runlog
import snapshots
from segfiles_for_tests import ROOT
from solving import state_bytes

LOG = """I1120 17:00:31.199579 25748 solver.cpp:239] Iteration 0 (-8.1e-25 iter/s, 0s/2 iters), loss = 0.541835
I1120 17:00:31.199587 25748 solver.cpp:258]     Train net output #0: loss = 0.6 (* 1 = 0.6 loss)
I1120 17:00:31.199810 25748 solver.cpp:239] Iteration 2 (2 iter/s, 0s/2 iters), loss = 1.2512
I1120 17:00:31.199810 25748 solver.cpp:239] Iteration 4 (2 iter/s, 0s/2 iters), loss = nan
I1120 17:01:31.199810 25748 solver.cpp:239] Iteration 2 (2 iter/s, 0s/2 iters), loss = 1.5
I1120 17:01:31.199810 25748 solver.cpp:331] Iteration 6, loss = 7e+04
"""


# -- log -----------------------------------------------------------------------------------------------------------------
def test_losses_of_a_log_with_a_part_done_again(tmp_path):
    (tmp_path / "train.log").write_text("ours\n" + LOG)
    iterations, losses = runlog.read_losses(str(tmp_path / "train.log"))
    assert iterations == [0, 2, 4, 6]
    np.testing.assert_array_equal(losses, [0.541835, 1.5, np.nan, 7e4])


def test_a_line_of_the_log_that_was_cut_off_counts_nothing(tmp_path):
    """As a full disk leaves it, with the next start's first line after it."""
    line = "I1120 17:02:31.199810 25748 solver.cpp:331] Iteration 8, loss = "
    for cut in ("7e", "", "-", "418.45Caffe: torch 1.0.0", "4x8\n"):
        (tmp_path / "train.log").write_text(LOG + line + cut)
        assert runlog.read_losses(str(tmp_path / "train.log"))[0] == [0, 2, 4, 6]


def test_console_gets_what_is_no_information_of_caffe():
    lines = [b"I1120 1] Initializing net from parameters: \n", b"name: 'x'\n", b"W1120 2] careful\n", b"I1120 3] more\n",
             b"F1120 4] Check failed: a == b\n", b"*** Check failure stack trace: ***\n", b"    @ 0x1 main\n"]
    log, console = io.BytesIO(), io.BytesIO()
    runlog.relay(lines, log, console)
    assert log.getvalue() == b"".join(lines)
    assert console.getvalue() == b"".join(lines[i] for i in (2, 4, 5, 6))


def test_capture_takes_python_and_c_and_ends_with_a_kill(tmp_path):
    """Lines of the process itself (os.write to 2, as C++ would) and of Python, up to the moment of SIGKILL."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT / 'tools')!r})
import runlog
capture = runlog.Capture('train.log')
capture.start()
print('ours')
sys.stderr.write('I1120 engine\\n')
os.write(2, b'I1120 glog\\nW1120 warned\\n')
print('error', file=sys.stderr)
capture.note('noted\\n')
if len(sys.argv) > 1:
    os.kill(os.getpid(), signal.SIGKILL)
capture.stop()
print('after')
"""
    for arguments in ([], ["kill"]):
        (tmp_path / "train.log").unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == ("ours\n" if arguments else "ours\nafter\n")
        assert sorted(done.stderr.splitlines()) == ["W1120 warned", "error"]
        wanted = ["I1120 engine", "I1120 glog", "W1120 warned", "error", "noted", "ours"]
        logged = sorted((tmp_path / "train.log").read_text().splitlines())
        assert logged == (wanted if not arguments else [line for line in wanted if line != "noted"]) or (
            arguments and logged == wanted)


# -- metrics ---------------------------------------------------------------------------------------------------------------
def test_metrics_round_trip_and_a_bad_line_is_named(tmp_path):
    path = str(tmp_path / "metrics.jsonl")
    assert runlog.read_metrics(path) == []
    rows = [{"iteration": 1, "mean_iu": 0.1 + 0.2, "iu": [None, 0.5]}, {"iteration": 2}]
    runlog.write_metrics(path, rows)
    assert runlog.read_metrics(path) == rows
    assert len([json.loads(line) for line in Path(path).read_text().splitlines()]) == 2
    with open(path, "a") as f:
        f.write('{"iteration": 3, "mean\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:3: not a line of metrics"):
        runlog.read_metrics(path)


@pytest.mark.parametrize("line", ["3", "[]", "{}", '{"iteration": "2"}', "null", ""])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=rf"{tmp_path}/metrics.jsonl:2: not a line of metrics"):
        runlog.read_metrics(str(path))


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    runlog.write_metrics(str(path), [{"iteration": 1}])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runlog.write_metrics(str(path), [{"iteration": 2}])
    assert runlog.read_metrics(str(path)) == [{"iteration": 1}] and os.listdir(tmp_path) == ["metrics.jsonl"]


# -- snapshots -----------------------------------------------------------------------------------------------------------
def snapshot(folder, iteration, said=None):
    """A snapshot of a net of two layers; returns its prefix."""
    prefix, rng = str(folder / "train"), np.random.RandomState(iteration)
    blobs = [rng.rand(3, 2, 1, 1).astype(np.float32), rng.rand(3).astype(np.float32), rng.rand(4).astype(np.float32)]
    model, state = snapshots.paths(prefix, iteration)
    caffemodel.write(model, [("conv", "Convolution", blobs[:2]), ("relu", "ReLU", []), ("bias", "Bias", blobs[2:])])
    with open(state, "wb") as f:
        f.write(state_bytes(iteration if said is None else said, model, blobs))
    return prefix


def cut(path, size):
    with open(path, "r+b") as f:
        f.truncate(size)


def test_newest_complete_snapshot(tmp_path, capsys):
    for i in (5, 10, 200):
        prefix = snapshot(tmp_path, i)
    assert snapshots.iterations(prefix) == [200, 10, 5]
    assert snapshots.newest(prefix, print) == 200
    os.remove(snapshots.paths(prefix, 200)[1])
    assert snapshots.newest(prefix, print) == 10
    assert "iteration 200 is incomplete and is removed" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(p) for i in (5, 10) for p in snapshots.paths(prefix, i))
    assert snapshots.newest(str(tmp_path / "other"), print) is None


@pytest.mark.parametrize("which", [0, 1], ids=["caffemodel", "solverstate"])
def test_a_file_cut_anywhere_is_seen(tmp_path, which):
    prefix = snapshot(tmp_path, 7)
    assert snapshots.damage(prefix, 7) is None
    path = snapshots.paths(prefix, 7)[which]
    for size in range(os.path.getsize(path) - 1, -1, -1):
        cut(path, size)
        assert snapshots.damage(prefix, 7) is not None, size


def test_a_state_of_another_iteration_is_no_snapshot(tmp_path):
    prefix = snapshot(tmp_path, 7, said=6)
    assert "is of iteration 6" in snapshots.damage(prefix, 7)


def test_prune_keeps_the_newest_and_best_survives(tmp_path):
    for i in (1, 2, 3):
        prefix = snapshot(tmp_path, i)
    best = str(tmp_path / "best.caffemodel")
    snapshots.keep_best(prefix, 1, best)
    wanted = Path(best).read_bytes()
    snapshots.keep_best(prefix, 1, best)    # again, over itself
    snapshots.prune(prefix, 0)
    assert snapshots.iterations(prefix) == [3, 2, 1]
    snapshots.prune(prefix, 2)
    assert snapshots.iterations(prefix) == [3, 2]
    assert Path(best).read_bytes() == wanted and not list(tmp_path.glob("*.partial"))


def test_best_is_copied_where_there_are_no_links(tmp_path, monkeypatch):
    prefix = snapshot(tmp_path, 1)

    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    snapshots.keep_best(prefix, 1, str(tmp_path / "best.caffemodel"))
    assert (tmp_path / "best.caffemodel").read_bytes() == Path(snapshots.paths(prefix, 1)[0]).read_bytes()


# -- what is said ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3540, "59 min"), (3600, "1 h 0 min"), (12000, "3 h 20 min"),
    (190000, "2 d 4 h")])  # fmt: skip
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


# -- curves ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("low", "high", "wanted"), [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 95000, [0, 20000, 40000, 60000, 80000]),
    (0, 0.05, [0, 0.01, 0.02, 0.03, 0.04, 0.05]), (0, 0, [0])])  # fmt: skip
def test_ticks_are_round(low, high, wanted):
    np.testing.assert_allclose(curves.ticks(low, high), wanted, atol=1e-12)


def test_curves_of_a_run(tmp_path, capsys):
    run = tmp_path / "fcn8s"
    run.mkdir()
    (run / "train.log").write_text(LOG)
    runlog.write_metrics(str(run / "metrics.jsonl"), [{"iteration": i, "mean_iu": 0.1 * i} for i in (1, 2, 3)])
    out = tmp_path / "curves.png"
    assert curves.main([str(run), str(run), "--out", str(out)]) == 0
    from PIL import Image
    page = np.asarray(Image.open(out))
    assert page.shape == (curves.HEIGHT, 2 * curves.WIDTH, 3)
    for half in (page[:, : curves.WIDTH], page[:, curves.WIDTH :]):    # both panels have a line in the second run's colour
        assert (half == curves.COLORS[1]).all(-1).sum() > 50
    assert curves.main([str(tmp_path), "--out", str(out)]) == 1 and "train.log" in capsys.readouterr().err
    runlog.write_metrics(str(run / "metrics.jsonl"), [{"iteration": 1, "accuracy": 0.5}])
    assert curves.main([str(run), "--out", str(out)]) == 1 and "has no mean IU" in capsys.readouterr().err


def test_curves_of_a_broken_engine_are_a_message(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("layer 'conv1' (Convolution): no")
    monkeypatch.setattr(curves, "draw_runs", broken)
    assert curves.main([str(tmp_path)]) == 1 and "curves.py: layer 'conv1'" in capsys.readouterr().err
