"""docker/run: what it would tell docker, seen through a stand-in that prints its arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "docker" / "run"


@pytest.fixture
def docker(tmp_path):
    """Runs docker/run with a `docker` on the PATH that prints what it is called with, one argument a line."""
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\n[ "$1" = image ] && exit 1\nprintf "%s\\n" "$@" --end\n')
    fake.chmod(0o755)

    def call(*args, cwd=ROOT, **env):
        path = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.run([str(RUN), *args], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              env={**os.environ, "PATH": path, "FCN_DATA": "", **env})

    return call


def test_the_command_runs_in_the_unmodified_image_as_the_caller(docker):
    words = docker("python", "voc-fcn8s/solve.py", "0").stdout.split("\n")
    assert words[words.index("bvlc/caffe:gpu"):][:5] == ["bvlc/caffe:gpu", "python", "voc-fcn8s/solve.py", "0", "--end"]
    assert words[words.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert words[words.index("--volume") + 1] == f"{ROOT}:{ROOT}"
    assert words[words.index("--workdir") + 1] == str(ROOT)
    assert "FCN_CAFFE=bvlc" in words and words[words.index("--gpus") + 1] == "all"


def test_the_cpu_image_asks_for_no_gpu(docker):
    words = docker("--image", "bvlc/caffe:cpu", "python", "x.py").stdout.split("\n")
    assert "bvlc/caffe:cpu" in words and "--gpus" not in words


def test_the_torch_image_is_built_on_first_use(docker):
    words = docker("--image", "torch", "python", "x.py").stdout.split("\n")
    build, run = words[: words.index("--end")], words[words.index("--end") + 1 :]
    assert build[0] == "build" and str(ROOT / "docker" / "Dockerfile") in build
    assert run[0] == "run" and "FCN_CAFFE=torch" in run and build[build.index("--tag") + 1] in run


def test_data_elsewhere_is_mounted_and_the_folder_kept(docker, tmp_path):
    words = docker("python", "solve.py", cwd=ROOT / "voc-fcn8s", FCN_DATA=str(tmp_path)).stdout.split("\n")
    assert words[words.index("--workdir") + 1] == str(ROOT / "voc-fcn8s")
    assert f"{tmp_path}:{tmp_path}" in words and f"FCN_DATA={tmp_path}" in words


@pytest.mark.parametrize("args, part", [((), "no command"), (("--image", "caffe", "ls"), "unknown image 'caffe'"),
                                        (("--image",), "--image wants a name")])
def test_misuse_says_what_to_do(docker, args, part):
    done = docker(*args)
    assert done.returncode and part in done.stderr
