"""Log lines as glog writes them, because people's parsers read them (Caffe's tools/extra/parse_log.py and others).

    I1120 15:56:05.123456  4711 solver.cpp:218] Iteration 0, loss = 3.04452

A line is tagged with the Caffe file its module answers to: torchcaffe/solver.py logs as solver.cpp. Severity below
GLOG_minloglevel (0 info, 1 warning, 2 error, 3 fatal) is not printed, as in Caffe. The command can keep them in a file too.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from torchcaffe import common
from torchcaffe.errors import CaffeError

_SEVERITIES = {"I": 0, "W": 1, "E": 2, "F": 3}
_FILES = {"__main__": "caffe", "lmdb_writer": "db_lmdb", "debug_info": "net"}  # modules whose Caffe file has another name
_kept: list[TextIO] = []  # the file of `kept_in`, while there is one


@contextmanager
def kept_in(folder: str) -> Iterator[None]:
    """Write every line into a new file of this folder too, named as glog names it; caffe.INFO becomes a link to it.

    CaffeError for a folder that cannot be written to; glog would go on without the file.
    """
    began = datetime.now()
    try:
        name = "caffe.%s.%s.log.INFO.%s.%d" % (platform.node(), os.environ.get("USER", "invalid-user"),
                                               began.strftime("%Y%m%d-%H%M%S"), os.getpid())
        file = open(os.path.join(folder, name), "w", encoding="utf-8")
        link, temporary = os.path.join(folder, "caffe.INFO"), os.path.join(folder, name + ".link")
        os.symlink(name, temporary)
        os.replace(temporary, link)
    except OSError as e:
        raise CaffeError("log folder '%s': %s; wanted a folder to keep the log in" % (folder, e.strerror or e)) from e
    with file:
        file.write("Log file created at: %s\nRunning on machine: %s\n"
                   "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n"
                   % (began.strftime("%Y/%m/%d %H:%M:%S"), platform.node()))
        _kept.append(file)
        try:
            yield
        finally:
            _kept.remove(file)


def info(message: str, every: bool = False) -> None:
    """One line of severity I, on stderr; of several solvers only the first one's, unless `every` (Caffe's root_solver)."""
    if every or common.solver_rank() == 0:
        _write("I", message)


def warning(message: str) -> None:
    """One line of severity W, on stderr."""
    _write("W", message)


def error(message: str) -> None:
    """One line of severity E, on stderr."""
    _write("E", message)


def fatal(message: str) -> None:
    """One line of severity F, on stderr; it does not end the program, unlike glog's."""
    _write("F", message)


def number(value: float) -> str:
    """A number as C++ iostreams print it by default: six significant digits (%.6g)."""
    return "%.6g" % value


def _write(severity: str, message: str) -> None:
    if _SEVERITIES[severity] < _least_shown():
        return
    caller = sys._getframe(2)
    stem = os.path.splitext(os.path.basename(caller.f_code.co_filename))[0]
    stem = caller.f_code.co_name if stem.startswith("tools_") else _FILES.get(stem, stem)  # a function there is a tool
    stamp = datetime.now().strftime("%m%d %H:%M:%S.%f")
    line = "%s%s %5d %s.cpp:%d] %s\n" % (severity, stamp, os.getpid(), stem, caller.f_lineno, message)
    sys.stderr.write(line)
    for file in _kept:
        file.write(line)
        file.flush()


def _least_shown() -> int:
    """GLOG_minloglevel; what is empty or no number counts as 0, as in glog."""
    try:
        return int(os.environ.get("GLOG_minloglevel", ""))
    except ValueError:
        return 0
