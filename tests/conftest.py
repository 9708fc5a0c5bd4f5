"""Puts the repository, its tools and the embedded Caffe on the path of every test."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ["FCN_CAFFE"] = "torch"
for folder in (ROOT, ROOT / "tools", ROOT / "torchcaffe" / "pycaffe", ROOT / "tests"):
    sys.path.insert(0, str(folder))
