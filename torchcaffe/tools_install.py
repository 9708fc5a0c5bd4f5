"""The words `caffe` and `import caffe` in a Python environment, on request: python -m torchcaffe install_caffe.

Nothing is installed under these names otherwise, and nothing of them where there is another Caffe.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import stat
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from torchcaffe import files
from torchcaffe.errors import CaffeError
from torchcaffe.flags import describe_flags, parse_flags

FLAGS = {"remove": (False, "Take away again what this tool wrote.")}
PACKAGE = Path(__file__).resolve().parent
MARK = "written by torchcaffe; to take it away: %s -m torchcaffe install_caffe -remove"
COMMAND = """#!/bin/sh
# %s
exec %s -c 'import sys; sys.path.append(sys.argv.pop(1)); from torchcaffe.__main__ import console; console()' %s "$@"
"""


def install_caffe(argv: Sequence[str]) -> int:
    """Make `caffe` a command and `import caffe` work in this Python environment: [-remove].

    Two files: the command beside python, and a .pth file that appends the façade's folder to sys.path, behind everything
    else. An error, and nothing written, if there is another Caffe to be imported, or another command of that name.
    """
    flags, words = parse_flags(argv, FLAGS)
    if words:
        print("Usage:\n    install_caffe [-remove]\n%s" % describe_flags(FLAGS))
        return 1
    python = shlex.quote(sys.executable)
    mark = MARK % python
    command = Path(sysconfig.get_path("scripts"), "caffe")
    path_file = Path(sysconfig.get_path("purelib"), "torchcaffe_caffe.pth")
    ours = [p for p in (command, path_file) if _begins(p, "written by torchcaffe")]
    if flags.remove:
        for path in ours:
            path.unlink()
            print("removed %s" % path)
        if not ours:
            print("nothing of torchcaffe's is in %s or %s" % (command.parent, path_file.parent))
        return 0
    _refuse_others(command, ours)
    content = COMMAND % (mark, python, shlex.quote(str(PACKAGE.parent)))
    files.write_file(str(path_file), [("# %s\n%s\n" % (mark, PACKAGE / "pycaffe")).encode()])
    files.write_file(str(command), [content.encode()])
    command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    print("wrote %s and %s; `caffe train ...` and `import caffe` work with %s" % (command, path_file, sys.executable))
    if not shutil.which("caffe"):
        print("%s is not on the PATH: activate the environment, or call the command by its path" % command.parent)
    return 0


def _begins(path: Path, words: str) -> bool:
    """Whether a file has these words in its beginning."""
    try:
        with open(path, "rb") as f:
            return words.encode() in f.read(200)
    except OSError:
        return False


def _refuse_others(command: Path, ours: Sequence[Path]) -> None:
    """CaffeError if a Caffe that is not this one would be hidden, or would hide this one."""
    facade = PACKAGE / "pycaffe"
    kept, sys.path[:] = list(sys.path), [p for p in sys.path if Path(p or os.curdir).resolve() != facade]
    try:
        spec = importlib.util.find_spec("caffe") if "caffe" not in sys.modules else None
    finally:
        sys.path[:] = kept
    other = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    if other and not Path(other).resolve().is_relative_to(facade):
        raise CaffeError("`import caffe` finds %s, which is not this one; nothing is written. Use an environment without "
                         "it, or PYTHONPATH=%s where this one is wanted" % (other, facade))
    found = [Path(folder, "caffe") for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    others = [p for p in [command, *found] if p.exists() and p not in ours and not _begins(p, "written by torchcaffe")]
    if others:
        raise CaffeError("there is another command named caffe, %s; nothing is written. `%s -m torchcaffe` is this one's"
                         % (others[0], sys.executable))
