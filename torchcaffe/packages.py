"""Packages that only some functions need, imported when they are called."""

from __future__ import annotations

import importlib
from types import ModuleType

from torchcaffe.errors import CaffeError


def need(name: str, purpose: str) -> ModuleType:
    """The module `name`; CaffeError saying what it is for and how to get it where its package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        package = name.partition(".")[0]
        if e.name is None or e.name.partition(".")[0] != package:
            raise
        raise CaffeError("%s needs the package %s, which is not installed; pip install %s, or pip install -e '.[export]' in "
                         "the repository" % (purpose, package, package)) from e
