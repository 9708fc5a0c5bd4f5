"""Make the LMDB databases with which a plain Caffe trains an experiment without Python layers.

    python data/make_lmdb.py voc-fcn32s [--draws N]

Reads what the data layers of the experiment's prototxts read, and writes data/lmdb/<data set>/<list>-<top>/, one database
for the images, one for the labels (and one for each further top): 8 bits a value as they are in the files, or, where that
is not possible (depth), the finished float values. All have the same keys in the same order.

Training lists come in the released order, random with replacement, drawn for as many images as the solver will show; an
image is stored once, however often it is drawn. Other lists are in their own order. A Data layer begins at the first entry,
also when a training is resumed. Then: python voc-fcn32s/net.py --data lmdb
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]
import lmdb_nets  # noqa: E402
import prototxt  # noqa: E402
import runlog  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402
from which_caffe import caffe  # noqa: E402

from torchcaffe.errors import CaffeError  # noqa: E402
from torchcaffe.lmdb_writer import LmdbWriter  # noqa: E402

MEANS = {"data": "mean", "color": "mean", "hha": "hha_mean"}  # attribute of a data layer that it takes off these tops
EVERY = 10  # seconds between two lines of progress


def find_sources(folder: Path) -> list[tuple[lmdb_nets.Source, int]]:
    """The data layers of all prototxts of an experiment, each with the number of images its solver will show (or 0).

    Layers that have the same databases come once.
    """
    nets: dict[str, caffe_pb2.NetParameter] = {}
    shows: dict[str, int] = {}
    for path in sorted(folder.glob("*.prototxt")):
        if path.stem.endswith("_lmdb"):
            continue
        if path.stem.endswith("solver"):
            solver = prototxt.read(str(path), caffe_pb2.SolverParameter())
            name = solver.train_net or solver.net
            shows[name] = max(shows.get(name, 0), solver.max_iter * solver.iter_size)
        else:
            nets[path.name] = prototxt.read(str(path), caffe_pb2.NetParameter())
    found: dict[str, tuple[lmdb_nets.Source, int]] = {}
    for name, net in nets.items():
        for source in lmdb_nets.sources(net):
            key = json.dumps([source.database(""), source.tops])
            found[key] = source, max(shows.get(name, 0), found.get(key, (None, 0))[1])
    if not found:
        raise lmdb_nets.LmdbError(f"{folder}: no net with a data layer that reads images and labels; wanted the folder "
                                  "of an experiment, whose prototxts are there (python net.py writes them)")
    return list(found.values())


def open_layer(source: lmdb_nets.Source) -> object:
    """The data layer itself, set up: a net of it alone is built. ValueError or IOError with what is wrong."""
    net = caffe_pb2.NetParameter(layer=[source.layer])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        prototxt.write(path, net)
        return caffe.Net(path, caffe.TRAIN).layers[0]


def positions(layer: object, draws: int) -> Iterator[int]:
    """Places in the layer's list, in the order in which it shows them."""
    for _ in range(draws):
        yield layer.idx
        layer.skip(1)


def datum(array: np.ndarray, mean: tuple[float, ...]) -> bytes:
    """An array [C, H, W] of a data layer as a Datum: 8 bits a value, `mean` put back on, or floats if there is none."""
    channels, height, width = array.shape
    message = caffe_pb2.Datum(channels=channels, height=height, width=width)
    if array.dtype != np.uint8 and not mean:
        message.float_data.extend(array.ravel().tolist())
        return message.SerializeToString()
    if mean:
        column = np.array(mean).reshape(-1, 1, 1)
        values = np.rint(array + column)
        if not 0 <= values.min() <= values.max() <= 255 or not np.array_equal((values - column).astype(np.float32), array):
            raise lmdb_nets.LmdbError(f"values that are not whole numbers of 0..255 minus {mean}")
        array = values.astype(np.uint8)
    message.data = array.tobytes()
    return message.SerializeToString()


def make(source: lmdb_nets.Source, draws: int) -> None:
    """Make the databases of a data layer, those that are not there. draws: of a list in random order."""
    layer = open_layer(source)
    entries = draws if source.drawn else len(layer.indices)
    if entries == 0:
        raise lmdb_nets.LmdbError(f"{source.folder}: no solver says how many images of '{source.split}' are shown; "
                                  "say it with --draws")
    listed = hashlib.sha256("\n".join(layer.indices).encode()).hexdigest()
    facts = {"settings": source.settings, "list": listed, "images": len(layer.indices), "entries": entries}
    wanted = [top for top in source.tops if not already(source, top, facts)]
    for top in wanted:
        shutil.rmtree(source.database(top), ignore_errors=True)
    if not wanted:
        return
    means = {top: tuple(getattr(layer, MEANS[top])) if top in MEANS else () for top in wanted}
    os.makedirs(source.folder, exist_ok=True)
    stored: dict[int, list] = {}  # what of each image is in the databases already
    begun = said = time.time()
    with ExitStack() as stack:
        databases = [stack.enter_context(LmdbWriter(source.database(top))) for top in wanted]
        for number, position in enumerate(positions(layer, entries)):
            name = layer.indices[position]
            key = b"%08d_%s" % (number, name.encode())
            if position in stored:
                for database, value in zip(databases, stored[position]):
                    database.repeat(key, value)
                continue
            arrays = dict(zip(layer.tops, layer.load(name)))
            stored[position] = [database.put(key, datum(arrays[top], means[top]))
                                for database, top in zip(databases, wanted)]
            if time.time() - said > EVERY:
                said = time.time()
                print(f"{source.split}: {len(stored)} of {len(layer.indices)} images, {said - begun:.0f} s")
    for top in wanted:
        path = source.database(top)
        runlog.write_atomic(os.path.join(path, lmdb_nets.MADE),
                            json.dumps(dict(facts, mean=means[top]), sort_keys=True, indent=1) + "\n")
        size = os.path.getsize(os.path.join(path, "data.mdb")) / 1e6
        print(f"{path}: {entries} entries, {'drawn from' if source.drawn else 'the list of'} {len(layer.indices)} images"
              f"{f', {len(stored)} of them drawn' if len(stored) < len(layer.indices) else ''}; {size:.1f} MB")


def already(source: lmdb_nets.Source, top: str, facts: dict) -> bool:
    """True if there is such a database with as many entries or more; says so. LmdbError if it holds something else."""
    made = source.made(top)
    if made is None:
        return False
    for key in ("settings", "list"):
        if made[key] != facts[key]:
            raise lmdb_nets.LmdbError(f"{source.database(top)} was made from another list or with other settings "
                                      f"({lmdb_nets.shown(made['settings'])}); remove it to make it anew")
    if made["entries"] < facts["entries"]:
        print(f"{source.database(top)} has {made['entries']} entries, {facts['entries']} are wanted: it is made anew")
        return False
    print(f"{source.database(top)}: there already, {made['entries']} entries")
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="folder of an experiment, e.g. voc-fcn32s")
    parser.add_argument("--draws", type=int, help="images to draw from a training list (default: what the solver shows)")
    options = parser.parse_args(arguments)
    if options.draws is not None and options.draws < 1:
        parser.error(f"--draws {options.draws}: wanted 1 or more")
    folder = Path(options.experiment)
    if not folder.is_dir() and (ROOT / options.experiment).is_dir():
        folder = ROOT / options.experiment
    try:
        for source, shown in find_sources(folder):
            make(source, shown if options.draws is None else options.draws)
    except (ValueError, OSError, CaffeError) as error:
        print(f"make_lmdb.py: {error}", file=sys.stderr)
        return 1
    print(f"now: python {folder.name}/net.py --data lmdb")
    return 0


if __name__ == "__main__":
    caffe.init_log(1, True)  # warnings and errors; what Caffe says of each layer is no news here
    sys.exit(main())
