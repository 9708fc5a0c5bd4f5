"""What the container runs, run under Python 2.7 with numpy, scipy and Pillow of that time; see tests/py27/run_all.py.

A Python 2.7 is looked for in $FCN_PYTHON27, on the PATH and in ~/.pyenv. Its packages are its own, or lie in
$FCN_PYTHON27_SITE, or in .python27 of the checkout, where `make python27` puts them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DRIVER = ROOT / "tests/py27/run_all.py"


def run(python: str, *args: str, site: str = "") -> subprocess.CompletedProcess:
    """The driver under a Python, with `site` as the only addition to its path."""
    env = {**os.environ, "PYTHONPATH": site, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([python, *args], capture_output=True, text=True, env=env, cwd="/")


@pytest.fixture(scope="module")
def python27() -> tuple[str, str]:
    """A Python 2.7 and the folder of its packages ('' if they are its own); skips where there is none."""
    made = ROOT / ".python27"
    site = os.environ.get("FCN_PYTHON27_SITE") or (str(made) if made.is_dir() else "")
    candidates = [os.environ.get("FCN_PYTHON27"), shutil.which("python2.7"),
                  *sorted(map(str, Path.home().glob(".pyenv/versions/2.7*/bin/python")))]
    for python in candidates:
        if python and Path(python).exists() and run(python, "-V", site=site).stderr.startswith("Python 2.7"):
            return python, site
    pytest.skip("no Python 2.7 found: set FCN_PYTHON27, or install one (pyenv install 2.7.18)")


@pytest.fixture(scope="module")
def figures(python27) -> dict[str, str]:
    """What each check answers under Python 2.7; skips where numpy, scipy, Pillow or protobuf is not there for it."""
    python, site = python27
    look = "import site, sys; site.addsitedir(sys.argv[1]); import numpy, scipy.io, PIL.Image, google.protobuf"
    packages = run(python, "-c", look, site, site=site)
    if packages.returncode:
        pytest.skip(f"{python} lacks packages: {packages.stderr.strip().splitlines()[-1]}; `make python27` installs them, "
                    "or set FCN_PYTHON27_SITE")
    done = run(python, str(DRIVER), site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    return answers(done.stdout)


def answers(text: str) -> dict[str, str]:
    """name -> figures of the lines that the driver prints."""
    return dict(re.findall(r"^(\w+): (.*)$", text, re.MULTILINE))


def test_every_file_is_python27_grammar(python27):
    done = run(python27[0], str(DRIVER), "parse")
    assert done.returncode == 0, done.stderr
    assert int(re.fullmatch(r"parse: (\d+) files\n", done.stdout).group(1)) >= 10


def test_every_file_asks_for_python3_division_and_print():
    """Without it, 1 / 2 is 0 and print is a statement under 2.7: the same line would mean two things."""
    sys.path.insert(0, str(DRIVER.parent))
    try:
        import run_all
    finally:
        sys.path.remove(str(DRIVER.parent))
    wanted = "from __future__ import division, print_function\n"
    stand_in = str(DRIVER.parent / "caffe")
    assert [path for path in run_all.files() if not path.startswith(stand_in) and wanted not in Path(path).read_text()] == []


def test_data_order(figures):
    assert figures["data_order"] == "5249, 4531, 3108, 4978, 1408, 7005, 3260, 6710"


def test_same_answers_as_this_python(figures):
    done = run(sys.executable, str(DRIVER))
    assert done.returncode == 0, done.stdout + done.stderr
    here = answers(done.stdout)
    assert len(here) >= 7 and here == figures
