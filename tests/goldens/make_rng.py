"""Records what a real Caffe draws: tests/goldens/rng.npz. Run it under BVLC's Caffe (see docs on installing one):

    FCN_CAFFE=bvlc python tests/goldens/make_rng.py

A case is a seed and a net of DummyData tops, `filler | shape` each, and perhaps a dropout ratio; recorded is each top,
or where it is long its SHA-256 and first eight values. Every net ends in eight uniform values: they are only right if
all draws before were counted right.
"""

import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "2")
HERE = Path(__file__).resolve().parent
SHORT = 256  # values kept whole; longer tops are kept as a hash

PROBE = ("type: 'uniform'", (8,))
# What each of the fillers does, on the shapes that take every branch of its arithmetic.
FILLERS = [
    "type: 'uniform' min: -0.3 max: 0.7", "type: 'gaussian' mean: 0.2 std: 0.05", "type: 'gaussian' sparse: 3",
    "type: 'positive_unitball'", "type: 'xavier'", "type: 'xavier' variance_norm: FAN_OUT",
    "type: 'xavier' variance_norm: AVERAGE", "type: 'msra'", "type: 'msra' variance_norm: FAN_OUT",
    "type: 'msra' variance_norm: AVERAGE",
]
SHAPES = [(5,), (7, 3), (4, 2, 3, 3)]


def cases() -> list:
    """(seed, tops, dropout ratio or None)."""
    found = []
    for i, filler in enumerate(FILLERS):
        found.append((100 + i, [(filler, shape) for shape in SHAPES] + [PROBE], None))
    found.append((7, [("type: 'bilinear'", (2, 1, k, k)) for k in (1, 2, 3, 4, 5, 7)] + [PROBE], None))
    found.append((8, [("type: 'bilinear'", (1, 1, k, k)) for k in (16, 32, 63, 64)] + [PROBE], None))
    # Long streams: 2e6 gaussian values hold 24,000 wedges and 1,100 tails, and cross the chunks the engine works in.
    for seed in (1, 1337, 4294967295):
        found.append((seed, [("type: 'gaussian' std: 0.01", (2000003,)), PROBE], None))
    found.append((2, [("type: 'uniform' min: 5 max: 5.00001", (300000,)), PROBE], None))  # 2 % are drawn again
    found.append((3, [("type: 'gaussian' sparse: 50", (1000, 700)), ("type: 'msra'", (64, 64, 3, 3)), PROBE], None))
    # The two seeds give a draw for which float32 and double arithmetic of the probability disagree.
    found.append((120, [PROBE], 0.5))
    found.append((1045, [PROBE], 0.3))
    return found


def record(caffe, seed: int, tops: list, ratio) -> list:
    """The tops' values, and the mask of 100000 values if there is a dropout ratio."""
    text = "".join(
        "layer { name: 'top%d' type: 'DummyData' top: 'top%d' dummy_data_param { data_filler { %s } shape { %s } } }\n"
        % (i, i, filler, " ".join("dim: %d" % d for d in shape))
        for i, (filler, shape) in enumerate(tops)
    )
    if ratio is not None:
        text = (
            "layer { name: 'ones' type: 'DummyData' top: 'ones' dummy_data_param { data_filler { value: 1 } "
            "shape { dim: 100000 } } }\nlayer { name: 'mask' type: 'Dropout' bottom: 'ones' top: 'mask' "
            "dropout_param { dropout_ratio: %s } }\n" % ratio + text
        )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        Path(path).write_text(text)
        net = caffe.Net(path, caffe.TRAIN)
    caffe.set_random_seed(seed)
    net.forward()
    values = [net.blobs["top%d" % i].data.copy() for i in range(len(tops))]
    return values if ratio is None else [*values, (net.blobs["mask"].data > 0).astype(np.int32)]


def main() -> None:
    """Record every case and write the file."""
    sys.path.insert(0, str(HERE.parent.parent / "tools"))
    from which_caffe import WHICH, caffe

    if WHICH != "bvlc":
        raise SystemExit("make_rng.py records what the original Caffe says; run it with FCN_CAFFE=bvlc")
    arrays, listing = {}, []
    for number, (seed, tops, ratio) in enumerate(cases()):
        listing.append({"seed": seed, "tops": [[filler, list(shape)] for filler, shape in tops], "ratio": ratio})
        for i, values in enumerate(record(caffe, seed, tops, ratio)):
            if values.size > SHORT:
                digest = np.frombuffer(hashlib.sha256(values.tobytes()).digest(), np.uint8)
                arrays["%d.%d.sha256" % (number, i)] = digest
            arrays["%d.%d" % (number, i)] = values.ravel()[:8] if values.size > SHORT else values
    provenance = "caffe %s, Python %s, numpy %s; FCN_CAFFE=bvlc python tests/goldens/make_rng.py" % (
        caffe.__version__, platform.python_version(), np.__version__)
    np.savez_compressed(HERE / "rng.npz", provenance=provenance, cases=json.dumps(listing), **arrays)
    print("%s: %d cases, %d arrays" % (HERE / "rng.npz", len(listing), len(arrays)))


if __name__ == "__main__":
    main()
