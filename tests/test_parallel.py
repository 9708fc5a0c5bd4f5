"""Several solvers: that two of them, a batch each, train as one with twice the batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest

from torchcaffe import common, files
from torchcaffe.lmdb_writer import LmdbWriter
from torchcaffe.proto import caffe_pb2

SCRIPT = Path(__file__).parent / "parallel_for_tests.py"
NET = """
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" backend: LMDB batch_size: %d }
        transform_param { scale: 0.01 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "score" type: "InnerProduct" bottom: "ip" top: "score"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: %d random_seed: 5 '


def write(folder: Path, batch: int, more: str = "", iterations: int = 4, last_label: int = 2) -> Path:
    """A training in `folder`, 11 images: no multiple of a batch, so that rounds begin in the midst of one."""
    folder.mkdir()
    random = np.random.RandomState(0)
    with LmdbWriter(str(folder / "db")) as database:
        for i in range(11):
            image = random.randint(0, 256, (1, 2, 3)).astype(np.uint8)
            datum = caffe_pb2.Datum(channels=1, height=2, width=3, data=image.tobytes(), label=i % 3 if i < 9 else 0)
            datum.label = last_label if i == 9 else datum.label
            database.put(b"%02d" % i, datum.SerializeToString())
    (folder / "net.prototxt").write_text(NET % batch)
    (folder / "solver.prototxt").write_text(SOLVER % iterations + more)
    return folder


def run(*arguments: str | Path) -> subprocess.Popen:
    """The script, in a process of its own."""
    return subprocess.Popen([sys.executable, str(SCRIPT), *map(str, arguments)], stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def weights(path: Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: [np.asarray(b.values) for b in layer.blobs] for layer in files.read_weights(str(path))}


def compare(got: dict[str, list[np.ndarray]], folder: Path, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights after 4 iterations of two solvers, with those of one that has twice the batch."""
    monkeypatch.chdir(write(folder / "alone", 4, more))
    solver = caffe.SGDSolver("solver.prototxt")
    start = solver.net.params["ip"][0].data.copy()
    solver.step(4)
    assert np.abs(start - solver.net.params["ip"][0].data).max() > 0.01  # it does train
    for name, blobs in solver.net.params.items():
        for ours, blob in zip(got[name], blobs):
            # The mean of two mean gradients, each over half a batch, rounds otherwise; values are around 1.
            np.testing.assert_allclose(ours, blob.data, atol=1e-6, rtol=0)


@pytest.mark.parametrize("more", ["", "layer_wise_reduce: false iter_size: 2"])
def test_two_solvers_are_one_with_twice_the_batch(more, tmp_path, monkeypatch):
    folder = write(tmp_path / "together", 2, more)
    process = run(folder)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 0, err
    first, second = (weights(folder / ("rank%d.caffemodel" % rank)) for rank in range(2))
    assert all((a == b).all() for name in first for a, b in zip(first[name], second[name]))
    compare(first, tmp_path, more, monkeypatch)


def test_the_command_trains_tests_and_stops(tmp_path, monkeypatch):
    """Only the first solver tests, snapshots and logs; Ctrl-C stops all, after a snapshot."""
    folder = write(tmp_path / "together", 2, "display: 1 snapshot: 4 test_iter: 1 test_interval: 2", iterations=10**9)
    lines = []
    with run(folder, "--command") as process:
        for line in process.stderr:
            lines.append(line)
            if "Iteration 5 (" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    err = "".join(lines)
    assert err.count("Iteration 2, Testing net (#0)") == err.count("Iteration 3 (") == 1
    assert err.count("Initializing net") == 2  # the train net and the test net
    assert "Optimization stopped early." in err and len(list(folder.glob("*.solverstate"))) in (2, 3)
    compare(weights(folder / "solver_iter_4.caffemodel"), tmp_path, "", monkeypatch)


def test_a_solver_that_fails_ends_all(tmp_path):
    """The second solver reads the images of odd number, of which one has a label out of range."""
    process = run(write(tmp_path / "x", 2, last_label=9), "--command")
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 134
    assert "solver 1: Layer 'loss' (SoftmaxWithLoss)" in err and "ended with status 134" in err


@pytest.fixture
def second_of_two():
    """This process as that of the second solver."""
    common.set_solver_count(2)
    common.set_solver_rank(1)
    yield
    common.set_solver_count(1)
    common.set_solver_rank(0)


def test_only_the_first_solver_tests_and_snapshots(tmp_path, monkeypatch, second_of_two, capfd):
    monkeypatch.chdir(write(tmp_path / "x", 2, "snapshot: 1 test_iter: 1 test_interval: 1 display: 1"))
    solver = caffe.SGDSolver("solver.prototxt")
    solver.test_nets[0].forward_pass = lambda: pytest.fail("it tests")
    solver.step(2)
    assert not list(Path().glob("*.solverstate")) and not capfd.readouterr().err
    with pytest.raises(RuntimeError, match="this is number 1; call step"):
        solver.solve()


def test_what_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path / "x", 2))
    solver = caffe.SGDSolver("solver.prototxt")
    with pytest.raises(RuntimeError, match="wanted what NCCL.new_uid"):
        caffe.NCCL(solver, b"/nowhere/at/all")
    assert caffe.has_nccl() and isinstance(caffe.NCCL.new_uid(), bytes)
