"""tools/which_caffe.py: which caffe is imported, in processes of their own, with FCN_CAFFE set and unset."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "torchcaffe" / "pycaffe"
ASK = "import sys; sys.path.insert(0, %r); import which_caffe as w; print(w.WHICH, w.caffe.__file__, w.describe('GPU 3'))"


def ask(wanted: str | None, *path: Path) -> str:
    """What which_caffe chose (or the last line of what went wrong), with FCN_CAFFE and PYTHONPATH as given."""
    env = {k: v for k, v in os.environ.items() if k not in ("FCN_CAFFE", "PYTHONPATH")}
    env.update({"FCN_CAFFE": wanted} if wanted is not None else {}, PYTHONPATH=os.pathsep.join(map(str, path)))
    program = [sys.executable, "-c", ASK % str(ROOT / "tools")]
    done = subprocess.run(program, env=env, cwd="/", capture_output=True, text=True)
    return (done.stdout or done.stderr.strip().splitlines()[-1]).strip()


@pytest.fixture
def installed(tmp_path) -> Path:
    """A folder with a package named caffe, as an installed Caffe is."""
    (tmp_path / "site" / "caffe").mkdir(parents=True)
    (tmp_path / "site" / "caffe" / "__init__.py").write_text("__version__ = '1.2.3'")
    return tmp_path / "site"


@pytest.fixture
def broken(tmp_path) -> Path:
    """A Caffe that is there and cannot be imported."""
    (tmp_path / "broken" / "caffe").mkdir(parents=True)
    (tmp_path / "broken" / "caffe" / "__init__.py").write_text("raise ImportError('libcudart.so.8.0 is missing')")
    return tmp_path / "broken"


# The Python of the tests may have a caffe of its own; then nothing can be said about finding none.
NONE_INSTALLED = subprocess.run([sys.executable, "-c", "import caffe"], cwd="/", capture_output=True,
                                env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}).returncode != 0


@pytest.mark.skipif(not NONE_INSTALLED, reason="this Python has a caffe")
@pytest.mark.parametrize("wanted", [None, "", "torch"])
def test_the_embedded_one_where_none_is_installed(wanted, tmp_path):
    (tmp_path / "caffe").mkdir()  # a folder that is no package: a source tree, say
    for path in ((), (tmp_path,), (EMBEDDED,)):
        assert ask(wanted, *path).startswith(f"torch {EMBEDDED}/caffe/__init__.py Caffe: torch 1.0.0 ("), path
        assert ask(wanted, *path).endswith("on GPU 3")


@pytest.mark.parametrize("wanted", [None, "bvlc"])
def test_an_installed_one_is_taken_and_its_errors_come_out(wanted, installed, broken):
    assert ask(wanted, EMBEDDED, installed) == (
        f"bvlc {installed}/caffe/__init__.py Caffe: bvlc 1.2.3 ({installed}/caffe) on GPU 3")
    assert "libcudart.so.8.0 is missing" in ask(wanted, broken)


def test_the_embedded_one_is_taken_if_wanted_whatever_is_installed(installed, broken):
    assert ask("torch", installed).startswith(f"torch {EMBEDDED}")
    assert ask("torch", broken).startswith(f"torch {EMBEDDED}")


def test_what_cannot_be_had_is_an_error(tmp_path):
    assert "FCN_CAFFE is 'Torch'; wanted: bvlc" in ask("Torch")
    if NONE_INSTALLED:
        said = ask("bvlc", EMBEDDED)
        assert "FCN_CAFFE=bvlc wants the original Caffe" in said and "on PYTHONPATH" in said and sys.executable in said


@pytest.mark.skipif(not NONE_INSTALLED, reason="this Python has a caffe")
def test_the_embedded_one_never_passes_for_the_original(tmp_path):
    """Its figures would be recorded as BVLC's: by a link it is known for what it is, of another checkout it is refused."""
    (tmp_path / "link").symlink_to(ROOT)
    assert ask(None, tmp_path / "link" / "torchcaffe" / "pycaffe").startswith(f"torch {EMBEDDED}")
    (tmp_path / "other").mkdir()
    for name in ("torchcaffe", "tools"):
        (tmp_path / "other" / name).mkdir()
    (tmp_path / "other/torchcaffe/__init__.py").write_text("")
    (tmp_path / "other/torchcaffe/pycaffe/caffe").mkdir(parents=True)
    (tmp_path / "other/torchcaffe/pycaffe/caffe/__init__.py").write_text(
        f"import sys; sys.path.append({str(tmp_path / 'other')!r}); import torchcaffe")
    for wanted in (None, "bvlc"):
        assert "the embedded one of another checkout: " + str(tmp_path) in ask(wanted, tmp_path / "other/torchcaffe/pycaffe")
