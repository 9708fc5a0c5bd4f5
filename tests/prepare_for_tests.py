"""What the tests of data/ share: a prepare.py as a module, and miniature archives."""

import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

from segfiles_for_tests import ROOT


def module(name: str) -> ModuleType:
    """data/<name>/prepare.py, imported; it finds what it needs by itself, from any folder."""
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", ROOT / "data" / name / "prepare.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[f"prepare_{name}"] = found
    spec.loader.exec_module(found)
    return found


def zip_of(archive: Path, folder: Path, prefix: str = "") -> Path:
    """A zip archive of a folder, with or without a folder around it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as f:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                f.write(path, Path(prefix) / path.relative_to(folder))
    return archive


def damage(content: bytes) -> bytes:
    """The content of a file with some bytes in its middle turned around."""
    at = len(content) // 2
    return content[:at] + content[at:at + 64][::-1] + content[at + 64:]
