"""Log lines as glog writes them, because people's parsers read them (Caffe's tools/extra/parse_log.py and others).

    I1120 15:56:05.123456  4711 solver.cpp:218] Iteration 0, loss = 3.04452

A line is tagged with the Caffe file its module answers to: torchcaffe/solver.py logs as solver.cpp. Severity below
GLOG_minloglevel (0 info, 1 warning, 2 error, 3 fatal) is not printed, as in Caffe.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime

from torchcaffe import common

_SEVERITIES = {"I": 0, "W": 1, "E": 2, "F": 3}
_FILES = {"__main__": "caffe", "lmdb_writer": "db_lmdb", "debug_info": "net"}  # modules whose Caffe file has another name


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
    sys.stderr.write("%s%s %5d %s.cpp:%d] %s\n" % (severity, stamp, os.getpid(), stem, caller.f_lineno, message))


def _least_shown() -> int:
    """GLOG_minloglevel; what is empty or no number counts as 0, as in glog."""
    try:
        return int(os.environ.get("GLOG_minloglevel", ""))
    except ValueError:
        return 0
