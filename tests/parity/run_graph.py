"""What a Caffe makes of one net with every kind of rule, split, sharing and pruning, in each phase and stage, as JSON.

    FCN_CAFFE=bvlc python tests/parity/run_graph.py tests/goldens/graph.json

Runs under either Caffe; tests/test_net.py compares the engine's answer with the recorded one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from which_caffe import WHICH, caffe  # noqa: E402  isort: skip
from caffe.proto import caffe_pb2  # noqa: E402  isort: skip

ACCURACY = 'layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "lab" top: "acc" }'
NET = """
name: "graph"
layer { name: "in" type: "Input" top: "x" top: "lab"
        input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } shape { dim: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { name: "w" lr_mult: 0.5 } param { name: "b" }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "c2" type: "Convolution" bottom: "c" top: "c2" param { name: "w" } param { name: "b" lr_mult: 2 }
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "s" type: "Eltwise" bottom: "c" bottom: "c2" bottom: "x" top: "s" }
layer { name: "ip" type: "InnerProduct" bottom: "s" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "only_test" type: "Softmax" bottom: "ip" top: "p" include { phase: TEST } }
layer { name: "staged" type: "Softmax" bottom: "ip" top: "q" include { stage: "a" not_stage: "b" } }
layer { name: "not_train" type: "Silence" bottom: "c2" exclude { phase: TRAIN } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "lab" top: "l" loss_weight: 2 }
layer { name: "use" type: "Power" bottom: "l" top: "l2" power_param { scale: 3 } }
%s
layer { name: "dead" type: "InnerProduct" bottom: "x" top: "dead" inner_product_param { num_output: 2 } }
""" % ACCURACY


def describe(phase: int, stages: list[str], force: bool = False) -> dict:
    """One net's layers as built, outputs, results and the absolute sums of its parameter gradients."""
    with tempfile.TemporaryDirectory() as folder:
        prototxt, model = os.path.join(folder, "net.prototxt"), os.path.join(folder, "net.caffemodel")
        with open(prototxt, "w") as f:
            # BVLC aborts where Accuracy is forced backward
            f.write(NET.replace(ACCURACY, "force_backward: true") if force else NET)
        net = caffe.Net(prototxt, phase, stages=stages)
        net.save(model)
        saved = caffe_pb2.NetParameter()
        with open(model, "rb") as f:
            saved.ParseFromString(f.read())
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = 0.01 * np.arange(blob.data.size).reshape(blob.data.shape) / blob.data.size
    net.blobs["x"].data[...] = np.arange(150).reshape(2, 3, 5, 5) / 150.0
    net.blobs["lab"].data[...] = [1, 3]
    results = net.forward()
    net.clear_param_diffs()
    net.backward()
    return {
        "layers": [[x.name, x.type, list(x.bottom), list(x.top), list(x.loss_weight)] for x in saved.layer],
        "layer_names": list(net._layer_names),
        "blobs": list(net.blobs),
        "inputs": list(net.inputs),
        "outputs": list(net.outputs),
        "loss_weights": {k: v for k, v in net.blob_loss_weights.items() if v},
        "results": {k: float(np.ravel(v)[0]) for k, v in results.items()},
        "gradients": {k: [float(np.abs(b.diff).sum()) for b in v] for k, v in net.params.items()},
        "input_diff": float(np.abs(net.blobs["x"].diff).sum()),
    }


def cases() -> dict:
    """Every phase and set of stages, and force_backward."""
    found = {}
    for phase, name in ((caffe.TRAIN, "train"), (caffe.TEST, "test")):
        for stages in ([], ["a"], ["a", "b"]):
            found["+".join([name, *stages])] = describe(phase, stages)
    found["train, forced"] = describe(caffe.TRAIN, [], force=True)
    return found


if __name__ == "__main__":
    answer = {"provenance": "%s Caffe %s: python tests/parity/run_graph.py" % (WHICH, caffe.__version__), "cases": cases()}
    with open(sys.argv[1], "w") as f:
        json.dump(answer, f, indent=1, sort_keys=True)
