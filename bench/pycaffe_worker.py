"""FCN-8s under whichever Caffe FCN_CAFFE names. Arguments: forward|train, size, full|narrow."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [os.path.join(ROOT, "tools"), HERE]
from which_caffe import caffe  # noqa: E402  isort: skip
import surgery  # noqa: E402
import vgg16  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402
from common import serve  # noqa: E402

task, size, width = sys.argv[1], int(sys.argv[2]), sys.argv[3]
widths = vgg16.WIDTHS if width == "full" else tuple(w // 8 for w in vgg16.WIDTHS)
spec = importlib.util.spec_from_file_location("net", os.path.join(ROOT, "voc-fcn8s", "net.py"))
fcn8s = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fcn8s)
shapes = [dict(dim=[1, 3, size, size]), dict(dim=[1, 1, size, size])]
net_param = fcn8s.fcn(caffe.layers.Input(ntop=2, input_param=dict(shape=shapes)), widths=widths)
if task == "forward":  # as the deploy net: no loss, no dropout
    for layer in [x for x in net_param.layer if x.type in ("Dropout", "SoftmaxWithLoss")]:
        net_param.layer.remove(layer)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "net.prototxt")
    with open(path, "w") as f:
        f.write(str(net_param))
    if task == "forward":
        net = caffe.Net(path, caffe.TEST)
    else:
        solver_path = os.path.join(folder, "solver.prototxt")
        with open(solver_path, "w") as f:
            f.write(str(caffe_pb2.SolverParameter(train_net=path, base_lr=1e-14, lr_policy="fixed", momentum=0.99,
                                                  weight_decay=0.0005, snapshot_after_train=False,
                                                  snapshot_prefix=os.path.join(folder, "x"))))
        solver = caffe.SGDSolver(solver_path)
        net = solver.net
random = np.random.RandomState(0)
for blobs in net.params.values():
    for blob in blobs:
        count = max(1, int(np.prod(blob.data.shape[1:])))
        row = random.standard_normal(blob.data.shape[-1:] or (1,)) * np.sqrt(2.0 / count)
        blob.data[...] = row  # speed does not depend on the values; this keeps them in range
surgery.interp(net, [name for name in net.params if "up" in name])
net.blobs["data"].data[...] = random.standard_normal((1, 3, size, size)) * 50
serve(net.forward if task == "forward" else lambda: solver.step(1))
