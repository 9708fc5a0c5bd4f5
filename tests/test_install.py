"""What is installed, and `caffe` and `import caffe` on request."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from setuptools import find_namespace_packages

from torchcaffe import __main__ as command

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An empty Python environment's folders, and a PATH and sys.path on which nothing is called caffe but this one."""
    folders = {"scripts": tmp_path / "bin", "purelib": tmp_path / "site packages"}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(folders[name]))
    monkeypatch.setenv("PATH", "%s%s/usr/bin%s/bin" % (folders["scripts"], os.pathsep, os.pathsep))
    for name in [m for m in sys.modules if m == "caffe" or m.startswith("caffe.")]:
        monkeypatch.delitem(sys.modules, name)
    return folders


def test_every_package_is_installed():
    how = (ROOT / "pyproject.toml").read_text()
    assert '[tool.setuptools.packages.find]\ninclude = ["torchcaffe*"]' in how
    found = find_namespace_packages(ROOT, include=["torchcaffe*"])
    folders = {p.parent for p in (ROOT / "torchcaffe").rglob("*.py")}
    assert {".".join(p.relative_to(ROOT).parts) for p in folders} <= set(found)
    assert {name.partition(".")[0] for name in found} == {"torchcaffe"}
    scripts = how.partition("[project.scripts]\n")[2].partition("\n[")[0]
    assert scripts.split("#")[0].strip() == 'torchcaffe = "torchcaffe.__main__:console"'  # and no `caffe` unasked


def test_caffe_on_request(environment, capsys):
    assert command.main(["install_caffe"]) == 0
    assert "`import caffe` work" in capsys.readouterr().out
    script, path_file = environment["scripts"] / "caffe", environment["purelib"] / "torchcaffe_caffe.pth"
    code = "import site; site.addsitedir(%r); import caffe; print(caffe.__file__)" % str(path_file.parent)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=environment["purelib"])
    assert found.stdout.strip() == str(ROOT / "torchcaffe" / "pycaffe" / "caffe" / "__init__.py")
    done = subprocess.run([str(script), "brew"], capture_output=True, text=True, cwd=environment["purelib"])
    assert done.returncode == 134 and "Unknown action: brew" in done.stderr
    assert command.main(["install_caffe"]) == 0  # once more does no harm
    assert command.main(["install_caffe", "-remove"]) == 0
    assert not script.exists() and not path_file.exists()
    assert command.main(["install_caffe", "-remove"]) == 0
    assert "nothing of torchcaffe's" in capsys.readouterr().out
    assert command.main(["install_caffe", "more"]) == 1


def test_another_caffe_is_not_hidden(environment, tmp_path, monkeypatch, capfd):
    other = environment["scripts"] / "caffe"
    other.write_text("#!/bin/sh\necho the real one\n")
    assert command.main(["install_caffe"]) == 134
    assert "another command named caffe, %s" % other in capfd.readouterr().err
    assert command.main(["install_caffe", "-remove"]) == 0 and "the real one" in other.read_text()
    other.unlink()
    (tmp_path / "caffe.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert command.main(["install_caffe"]) == 134
    assert "`import caffe` finds %s" % (tmp_path / "caffe.py") in capfd.readouterr().err
    assert not any(p for folder in environment.values() for p in folder.iterdir())
