"""A training by two solvers on the CPU, run as a script: FOLDER as pycaffe's train.py does it, FOLDER --command as `caffe
train -gpu 0,1` does. In FOLDER are a solver.prototxt, whose net is net.prototxt, and what that reads."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "torchcaffe" / "pycaffe"))
import caffe  # noqa: E402


def solve(rank: int, uid: bytes) -> None:
    """One of the two; it leaves its weights as rank<N>.caffemodel."""
    caffe.set_mode_cpu()
    caffe.set_solver_count(2)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver("solver.prototxt")
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(solver.param.max_iter)
    solver.net.save("rank%d.caffemodel" % rank)


def by_hand() -> None:
    """The processes of python/train.py."""
    uid = caffe.NCCL.new_uid()
    processes = [multiprocessing.get_context("fork").Process(target=solve, args=(rank, uid)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode for process in processes))


def as_the_command() -> None:
    """What torchcaffe.__main__.train does with two GPUs, on the CPU."""
    import torch

    import torchcaffe.__main__ as command

    command._set_mode = lambda gpu, several: [torch.device("cpu")] * 2
    sys.exit(command.main(["train", "-solver", "solver.prototxt"]))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    as_the_command() if "--command" in sys.argv else by_hand()
