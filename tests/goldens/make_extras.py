"""Record what other programs answer to the forks' layers (tests/extras_cases.py); run once, from the repository's root:

    python tests/goldens/make_extras.py opencv     # needs opencv-python-headless==4.10.0.84, numpy, protobuf 7
    python tests/goldens/make_extras.py kendryte   # needs Python 3.9, kendryte-caffe==1.0.0.20210829, numpy 1.23, h5py

OpenCV reads Caffe's nets with code of its own, for inference only: extras_opencv.npz holds top0 of the cases marked for it.
The other is a fork of Caffe, with SSD's Permute: extras_kendryte.npz holds those cases forward and backward.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [os.path.dirname(TESTS), TESTS]

import extras_nets  # noqa: E402
from extras_cases import CASES, OPENCV  # noqa: E402
from layer_case import Case, numbers  # noqa: E402


def shapes_of_params(case: Case) -> list:
    """Of the layers with parameters that OpenCV is asked about."""
    channels = case.bottoms[0].shape[1]
    if "Depthwise" in case.layer:
        sides = [re.search(r"kernel_%s: (\d)" % s, case.layer) for s in "hw"]
        kernel = [int(s.group(1)) for s in sides] if all(sides) else [3, 3]
        return [(channels, 1, *kernel), (channels,)]
    if "Normalize" in case.layer:
        return [(channels,) if "channel_shared: false" in case.layer else ()]
    return []


def by_opencv(case: Case) -> dict:
    """Top 0 by OpenCV. It wants weights in a caffemodel, and takes an array of three axes for an image with colours last."""
    import cv2

    from torchcaffe.proto import caffe_pb2

    random = case.random()
    params = [numbers(random, shape, "normal") for shape in shapes_of_params(case)]
    bottoms = [numbers(random, b.shape, b.values) for b in case.bottoms]
    fed = [b[..., None] if b.ndim == 3 else b for b in bottoms]
    text = "".join('input: "in%d" input_shape { %s }\n' % (i, " ".join("dim: %d" % d for d in b.shape))
                   for i, b in enumerate(fed))
    for i, b in enumerate(bottoms):
        text += 'layer { name: "x%d" type: "Reshape" bottom: "in%d" top: "x%d" reshape_param { shape { %s } } }\n' % (
            i, i, i, " ".join("dim: %d" % d for d in b.shape))
    text += 'layer { name: "layer" %s %s top: "y" }' % (case.layer, " ".join('bottom: "x%d"' % i for i in range(len(fed))))
    model = caffe_pb2.NetParameter()
    weights = model.layer.add(name="layer", type=re.match(r'type: "(\w+)"', case.layer).group(1))
    for param in params:
        weights.blobs.add(data=param.ravel()).shape.dim.extend(param.shape or (1,))
    arguments = [np.frombuffer(b, np.uint8) for b in (text.encode(), model.SerializeToString())[: 1 + bool(params)]]
    net = cv2.dnn.readNetFromCaffe(*arguments)
    for i, bottom in enumerate(fed):
        net.setInput(bottom, "in%d" % i)
    top = net.forward("layer")
    return {"top0": in_order(top) if "DetectionOutput" in case.layer else top}


def ssd_by_opencv() -> np.ndarray:
    """The detections of the whole SSD net of extras_nets.py, in the order in which the fork lists them."""
    import cv2

    from torchcaffe.proto import caffe_pb2

    data, params = extras_nets.ssd_arrays()
    model = caffe_pb2.NetParameter()
    for name, arrays in params.items():
        layer = model.layer.add(name=name, type="Normalize" if "norm" == name[-4:] else "Convolution")
        for array in arrays:
            layer.blobs.add(data=array.ravel()).shape.dim.extend(array.shape)
    net = cv2.dnn.readNetFromCaffe(*(np.frombuffer(b, np.uint8) for b in (
        extras_nets.ssd().encode(), model.SerializeToString())))
    net.setInput(data, "data")
    return in_order(net.forward("detection_out"))


def in_order(top: np.ndarray) -> np.ndarray:
    """OpenCV gives all the room there is, the rest 0, and lists an image's detections by score alone."""
    rows = top[0, 0][top[0, 0, :, 2] != 0]
    return rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))][None, None]


def by_kendryte(case: Case) -> dict:
    """Everything of a case, by the fork."""
    import caffe
    from parity.run_cases import run_case

    return run_case(caffe, case)


def main(who: str) -> None:
    """Run the cases, write the file."""
    if who == "opencv":
        import cv2

        cases, run, version = [c for c in CASES if c.name in OPENCV], by_opencv, "OpenCV " + cv2.__version__
    else:
        cases, run = [c for c in CASES if c.name.startswith("Permute")], by_kendryte
        version = "kendryte-caffe 1.0.0.20210829 (PyPI), a fork of BVLC's"
    results = {"provenance": np.array("%s; numpy %s; %s; tests/goldens/make_extras.py" % (
        version, np.__version__, datetime.date.today().isoformat()))}
    if who == "opencv":
        results["SSD net/detections"] = ssd_by_opencv()
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for case in cases:
            results.update(("%s/%s" % (case.name, k), v) for k, v in run(case).items())
        os.chdir(home)
    path = os.path.join(HERE, "extras_%s.npz" % who)
    np.savez_compressed(path + ".tmp.npz", **results)
    os.replace(path + ".tmp.npz", path)
    print("%d cases, %d arrays -> %s" % (len(cases), len(results) - 1, path))


if __name__ == "__main__":
    main(sys.argv[1])
