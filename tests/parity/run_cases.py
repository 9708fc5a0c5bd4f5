"""Run the cases of tests/cases.py on whichever Caffe FCN_CAFFE names, and write what comes out to one .npz.

    FCN_CAFFE=bvlc /path/to/python-with-caffe tests/parity/run_cases.py bvlc.npz
    FCN_CAFFE=torch python tests/parity/run_cases.py torch.npz [pattern] [--gpu 0]
    FCN_CAFFE=bvlc /path/to/python-with-caffe tests/parity/run_cases.py --refused

The last one runs what tests/refused.py lists, each in a process of its own because Caffe's CHECKs end the process, and
exits 1 if a case runs that should not.

Only the interface that both have is used. Keys are `case/array`: top0, top0_diff's of losses excepted, bottom0_diff,
param0, param0_diff, and the datasets of a written HDF5 file. `pattern` is a regular expression for the names of cases.
Runs under Python 3.9 and newer.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import hashlib
import os
import re
import sys
import tempfile

import h5py
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
for folder in (HERE, TESTS, os.path.join(os.path.dirname(TESTS), "tools")):
    if folder not in sys.path:
        sys.path.append(folder)

from cases import CASES  # noqa: E402
from layer_case import Case, numbers  # noqa: E402
from layer_files import write_files  # noqa: E402

PROVENANCE = "provenance"  # the key that says where the arrays come from


def prototxt(case: Case) -> str:
    """The net of a case: a layer for each bottom, `layer`, the one it is about, and what follows."""
    lines = ["force_backward: %s" % ("true" if case.gradients is None else "false")]
    bottoms = ["x%d" % i for i in range(len(case.bottoms))]
    for i, (name, bottom) in enumerate(zip(bottoms, case.bottoms)):
        shape = "shape { %s}" % "".join("dim: %d " % d for d in bottom.shape)
        kind = "Parameter" if case.gradients and i in case.gradients else "Input"
        lines.append('layer { name: "%s" type: "%s" top: "%s" %s_param { %s } }' % (name, kind, name, kind.lower(), shape))
    tops = (bottoms[:1] if case.in_place else ["top0"])[: case.tops] + ["top%d" % i for i in range(1, case.tops)]
    lines.append("layer {\n  name: \"layer\"\n  %s\n%s%s}" % (
        case.layer, "".join('  bottom: "%s"\n' % b for b in bottoms), "".join('  top: "%s"\n' % t for t in tops)))
    lines += ['layer { name: "after%d" bottom: "%s" top: "%s" %s }' % (i, tops[0], tops[0], layer)
              for i, layer in enumerate(case.after)]
    return "\n".join(lines) + "\n"


def run_case(caffe, case: Case) -> dict[str, np.ndarray]:
    """All arrays of one case; files it needs are written to, and read from, the current folder."""
    random = case.random()
    write_files(caffe, case, random)
    with open("net.prototxt", "w") as f:
        f.write(prototxt(case))
    arrays = run_net(caffe, case, random)  # the net is gone now, so Caffe has closed what HDF5Output wrote
    for path in re.findall(r'file_name: "(\w+\.h5)"', case.layer):
        with h5py.File(path, "r") as f:
            arrays.update((name, dataset[()]) for name, dataset in f.items())
    return arrays


def run_net(caffe, case: Case, random: np.random.RandomState) -> dict[str, np.ndarray]:
    """Build the net, run it as the case says; its arrays."""
    if case.seed is not None:
        caffe.set_random_seed(case.seed)
        ctypes.CDLL(None).srand(case.seed)
    net = caffe.Net("net.prototxt", getattr(caffe, case.phase))
    bottoms = [net.params[x][0] if x in net.params else net.blobs[x] for x in ("x%d" % i for i in range(len(case.bottoms)))]
    tops = [net.blobs[name] for name in net.top_names["layer"]]
    params = list(net.params["layer"]) if "layer" in net.params else []
    if case.params != ("filler",):
        for i, blob in enumerate(params):
            blob.data[...] = numbers(random, blob.data.shape, case.params[i] if case.params else "normal")
    net.clear_param_diffs()
    if case.memory:
        net.set_input_arrays(*(numbers(random, b.shape, b.values) for b in case.memory))
    shapes = [tuple(b.shape for b in case.bottoms)] * case.passes + ([case.then] if case.then else [])
    for now in shapes:
        for blob, bottom, shape in zip(bottoms, case.bottoms, now):
            if blob.data.shape != shape:
                blob.reshape(*shape)
            blob.data[...] = numbers(random, shape, bottom.values)
            blob.diff[...] = 7  # what backward does not write stays so
        net.reshape()
        net.forward()
        arrays = {"top%d" % i: t.data.copy() for i, t in enumerate(tops)}
        if not case.backward:
            continue
        if not any(net.blob_loss_weights[name] for name in net.top_names["layer"]) or "Loss" not in case.layer:
            for blob in tops:
                blob.diff[...] = numbers(random, blob.diff.shape, "normal")
        net.backward()
        for i in range(len(bottoms)) if case.gradients is None else case.gradients:
            arrays["bottom%d_diff" % i] = bottoms[i].diff.copy()
    for i, blob in enumerate(params):
        arrays["param%d" % i] = blob.data.copy()
        if case.backward:
            arrays["param%d_diff" % i] = blob.diff.copy()
    return arrays


def run_refused(caffe) -> int:
    """Run each refused case in a forked process, without its log; how many end otherwise than listed."""
    from refused import REFUSED

    wrong = 0
    caffe.Net  # noqa: B018  imported on demand: here, or again in every process
    for refused in REFUSED:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                run_case(caffe, refused.case)
            except BaseException:
                os._exit(1)
            os._exit(0)
        ran = os.waitpid(child, 0)[1] == 0
        if not ran or refused.only_here:
            continue
        wrong += 1
        print("ran, but should not: %s: %s" % (refused.case.layer, refused.message))
    print("%d cases that must be refused, %d of them ran" % (len(REFUSED), wrong))
    return wrong


def main() -> None:
    """Parse the command line, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", help="the .npz to write")
    parser.add_argument("pattern", nargs="?", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--gpu", type=int, help="run on this GPU")
    parser.add_argument("--refused", action="store_true", help="run the cases that must be refused instead")
    args = parser.parse_args()
    if not args.out and not args.refused:
        parser.error("say where to write, or --refused")
    os.environ.setdefault("GLOG_minloglevel", "2")
    from which_caffe import caffe, describe

    if args.gpu is not None:
        caffe.set_mode_gpu()
        caffe.set_device(args.gpu)
    if args.refused:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            sys.exit(1 if run_refused(caffe) else 0)
    out = os.path.abspath(args.out)
    chosen = [c for c in CASES if re.search(args.pattern, c.name)]
    results: dict[str, np.ndarray] = {}
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for case in chosen:
                print(case.name, flush=True)  # a failing CHECK of Caffe ends the process: the last name is the culprit
                results.update(("%s/%s" % (case.name, k), v) for k, v in run_case(caffe, case).items())
        finally:
            os.chdir(home)
    with open(caffe._caffe.__file__, "rb") as f:
        build = hashlib.sha256(f.read()).hexdigest()[:16]
    results[PROVENANCE] = np.array("%s; sha256 of its %s %s...; numpy %s; %s; tests/parity/run_cases.py %s" % (
        re.sub(r" \(.*?\)", "", describe("CPU" if args.gpu is None else "GPU %d" % args.gpu)),
        os.path.basename(caffe._caffe.__file__), build, np.__version__, datetime.date.today().isoformat(), args.pattern))
    np.savez_compressed(out + ".tmp.npz", **results)
    os.replace(out + ".tmp.npz", out)
    print("%d cases, %d arrays -> %s" % (len(chosen), len(results) - 1, args.out))


if __name__ == "__main__":
    main()
