"""An old trained net, from a V1-format file with 4-axis shapes, gives the predictions a real Caffe recorded."""

from __future__ import annotations

import gzip
import json

import caffe
import numpy as np
from segfiles_for_tests import shared

from torchcaffe import files


def test_lenet_makes_exactly_the_recorded_errors(tmp_path):
    """10,000 MNIST digits: the same 95 are wrong, and each is taken for the same wrong digit."""
    folder = shared("lenet-mnist")
    weights = str(folder / "v1_lenet_iter_10000.caffemodel")
    expected = json.loads((folder / "v1_lenet_iter_10000.expected.json").read_text())
    images = np.frombuffer(gzip.open(folder / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(folder / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    images = images.reshape(10000, 1, 28, 28).astype(np.float32) * np.float32(0.00390625)

    # The file carries its own definition; its LMDB layer becomes an Input, its loss a Softmax.
    definition = files.read_net_binary(weights)
    for layer in definition.layer:
        del layer.blobs[:]
    data, loss = definition.layer[0], definition.layer[-1]
    data.CopyFrom(caffe.proto.caffe_pb2.LayerParameter(name="data", type="Input", top=["data"]))
    data.input_param.shape.add(dim=[500, 1, 28, 28])
    loss.CopyFrom(caffe.proto.caffe_pb2.LayerParameter(name="prob", type="Softmax", bottom=["ip2"], top=["prob"]))
    prototxt = tmp_path / "lenet.prototxt"
    prototxt.write_text(str(definition))

    net = caffe.Net(str(prototxt), weights, caffe.TEST)
    predicted = net.forward_all(data=images)["prob"].reshape(10000, 10).argmax(1)

    wrong = np.flatnonzero(predicted != labels)
    assert len(wrong) == 95
    assert wrong.tolist() == expected["wrong_index"]
    assert ["%d/%d" % pair for pair in zip(predicted[wrong], labels[wrong])] == expected["pred/answer"]
