"""Runs solve.py scripts in forked children, so that importing torch is paid for once. See solving.py.

Reads a job a line (JSON: script, arguments, cwd, output, kill_after, kill_when, env) from stdin; answers each with its
wait status. kill_after: seconds; kill_when: a file whose appearance ends it.
"""

import json
import os
import runpy
import signal
import sys
import time
import traceback

import recipe  # noqa: F401  the imports that every script shares
import torch.fx.experimental.symbolic_shapes  # noqa: F401  imported by the first torch.autograd.grad: a second


def child(job: dict) -> int:
    """Run the script as a program; its exit status."""
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    out = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    sys.argv = [job["script"], *job["arguments"]]
    sys.path.insert(0, os.path.dirname(job["script"]))
    try:
        runpy.run_path(job["script"], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        status = child(job)
        sys.stdout.flush()
        os._exit(status)
    deadline = time.monotonic() + (job["kill_after"] or 120)
    done, status = 0, 0
    while not done and time.monotonic() < deadline and not (job["kill_when"] and os.path.exists(job["kill_when"])):
        done, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)
    if not done:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    print(status, flush=True)
