"""Records how BVLC's own tools upgrade old definitions: tests/goldens/upgrade.json.

    python tests/goldens/make_upgrade.py DIR

DIR is a folder with Debian's Caffe packages unpacked under DIR/root, whose `upgrade_net_proto_text` is run on each input.
Recorded is the text it writes, or the last line of its complaint where it aborts.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

V0 = """
name: "v0"
layers { layer { name: "data" type: "data" source: "db" meanfile: "m.bin" batchsize: 256 cropsize: 227 mirror: true
  scale: 0.5 rand_skip: 3 } top: "data" top: "label" }
layers { layer { name: "conv1" type: "conv" num_output: 96 kernelsize: 11 stride: 4 biasterm: true blobs_lr: 1
  weight_filler { type: "gaussian" std: 0.01 } bias_filler { value: 0.1 } blobs_lr: 2 weight_decay: 1 weight_decay: 0 }
  bottom: "data" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "conv1" top: "pool1" }
layers { layer { name: "norm1" type: "lrn" local_size: 5 alpha: 0.0001 beta: 0.75 k: 2 } bottom: "pool1" top: "norm1" }
layers { layer { name: "pad2" type: "padding" pad: 2 } bottom: "norm1" top: "pad2" }
layers { layer { name: "conv2" type: "conv" num_output: 256 group: 2 kernelsize: 5 } bottom: "pad2" top: "conv2" }
layers { layer { name: "conv2b" type: "conv" num_output: 2 kernelsize: 1 pad: 7 } bottom: "pad2" top: "conv2b" }
layers { layer { name: "pad3" type: "padding" pad: 1 } bottom: "conv2" top: "pad3" }
layers { layer { name: "pool3" type: "pool" kernelsize: 3 } bottom: "pad3" top: "pool3" }
layers { layer { name: "cat" type: "concat" concat_dim: 1 } bottom: "pool3" bottom: "conv2" top: "cat" }
layers { layer { name: "fc" type: "innerproduct" num_output: 10 biasterm: false weight_filler { type: "xavier" } }
  bottom: "cat" top: "fc" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.3 } bottom: "fc" top: "fc" }
layers { layer { name: "img" type: "images" source: "l.txt" batchsize: 2 shuffle_images: true new_height: 10
  new_width: 11 rand_skip: 1 } top: "img" top: "l2" }
layers { layer { name: "win" type: "window_data" source: "w.txt" batchsize: 4 det_fg_threshold: 0.6
  det_bg_threshold: 0.4 det_fg_fraction: 0.3 det_context_pad: 16 det_crop_mode: "square" } top: "win" top: "l3" }
layers { layer { name: "h5" type: "hdf5_data" source: "h.txt" batchsize: 4 } top: "h5" top: "l4" }
layers { layer { name: "h5o" type: "hdf5_output" hdf5_output_param { file_name: "x.h5" } } bottom: "h5" bottom: "l4" }
layers { layer { name: "info" type: "infogain_loss" source: "H.bin" } bottom: "fc" bottom: "label" }
""" + "".join(
    'layers { layer { name: "%s" type: "%s" } bottom: "fc" top: "x" }\n' % (t, t)
    for t in ("accuracy", "bnll", "euclidean_loss", "flatten", "im2col", "multinomial_logistic_loss", "sigmoid", "softmax",
              "softmax_loss", "split", "tanh"))

V0_STRAY = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { layer { name: "r" type: "relu" num_output: 3 kernelsize: 2 biasterm: false pad: 1 group: 2 stride: 3 pool: AVE
  dropout_ratio: 0.2 local_size: 3 alpha: 1 beta: 1 k: 3 source: "a" batchsize: 3 rand_skip: 1 shuffle_images: true
  new_height: 2 new_width: 2 concat_dim: 0 det_fg_threshold: 0.1 det_crop_mode: "a" scale: 2 meanfile: "m" cropsize: 3
  mirror: true hdf5_output_param { file_name: "f" } weight_filler { } bias_filler { } } bottom: "data" top: "r" }
"""

V1 = """
name: "v1" force_backward: true
input: "x" input: "y" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 input_dim: 6 input_dim: 7
input_dim: 8
state { phase: TEST stage: "a" }
layers { name: "d" type: DATA top: "d" data_param { source: "s" scale: 0.1 mean_file: "m" crop_size: 3 mirror: true
  batch_size: 2 backend: LMDB } include { phase: TRAIN } }
layers { name: "i" type: IMAGE_DATA top: "i" image_data_param { source: "s" scale: 0.1 mean_file: "m" crop_size: 3
  mirror: true } transform_param { force_color: true } }
layers { name: "w" type: WINDOW_DATA top: "w" window_data_param { scale: 0.1 mean_file: "m" crop_size: 3 mirror: true }
  exclude { phase: TRAIN } }
layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  param: "cw" param: "cb" blob_share_mode: PERMISSIVE convolution_param { num_output: 2 kernel_size: 1 }
  loss_weight: 0.5 blobs { num: 1 channels: 1 height: 1 width: 2 data: 1 data: 2 } }
layers { name: "c2" type: CONVOLUTION bottom: "x" top: "c2" weight_decay: 3 weight_decay: 0 }
layers { name: "untyped" bottom: "x" top: "n" }
""" + "".join(
    'layers { name: "%s" type: %s bottom: "x" top: "t" %s }\n' % (t, t, param)
    for t, param in (
        ("ABSVAL", ""), ("ACCURACY", "accuracy_param { top_k: 2 }"), ("ARGMAX", "argmax_param { top_k: 2 }"), ("BNLL", ""),
        ("CONCAT", "concat_param { axis: 0 }"), ("CONTRASTIVE_LOSS", "contrastive_loss_param { margin: 3 }"),
        ("DECONVOLUTION", ""), ("DROPOUT", "dropout_param { dropout_ratio: 0.1 }"),
        ("DUMMY_DATA", "dummy_data_param { num: 2 }"), ("EUCLIDEAN_LOSS", "loss_param { ignore_label: 255 }"),
        ("ELTWISE", "eltwise_param { operation: MAX }"), ("EXP", "exp_param { base: 2 }"), ("FLATTEN", ""),
        ("HDF5_DATA", "hdf5_data_param { source: 'a' }"), ("HDF5_OUTPUT", "hdf5_output_param { file_name: 'b' }"),
        ("HINGE_LOSS", "hinge_loss_param { norm: L2 }"), ("IM2COL", ""),
        ("INFOGAIN_LOSS", "infogain_loss_param { source: 'i' }"), ("INNER_PRODUCT", "inner_product_param { num_output: 2 }"),
        ("LRN", "lrn_param { k: 3 }"), ("MEMORY_DATA", "memory_data_param { batch_size: 3 }"),
        ("MULTINOMIAL_LOGISTIC_LOSS", ""), ("MVN", "mvn_param { across_channels: true }"),
        ("POOLING", "pooling_param { pool: AVE }"), ("POWER", "power_param { shift: 3 }"),
        ("RELU", "relu_param { negative_slope: 0.1 }"), ("SIGMOID", "sigmoid_param { engine: CAFFE }"),
        ("SIGMOID_CROSS_ENTROPY_LOSS", ""), ("SILENCE", ""), ("SOFTMAX", "softmax_param { axis: 2 }"),
        ("SOFTMAX_LOSS", ""), ("SPLIT", ""), ("SLICE", "slice_param { axis: 0 }"), ("TANH", "tanh_param { engine: CAFFE }"),
        ("THRESHOLD", "threshold_param { threshold: 0.3 }"), ("NONE", "")))

RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
INPUTS = {
    "v0": V0, "v0 with stray parameters": V0_STRAY, "v1": V1,
    "v2": 'input: "x" input_shape { dim: 1 dim: 3 } input: "z" input_shape { dim: 2 }\n'
          'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "b" param { lr_mult: 1 } '
          'param { lr_mult: 2 decay_mult: 5 } param { } }\n'
          'layer { name: "bn2" type: "BatchNorm" bottom: "x" top: "b2" param { lr_mult: 1 } }',
    "input without shape": 'input: "x" ' + RELU,
    "shape without input": "input_dim: 1 input_dim: 2 input_dim: 2 input_dim: 2 " + RELU,
    "v0 mixed with v1": 'input: "d"\nlayers { layer { name: "s" type: "conv" num_output: 2 } bottom: "d" top: "s" }\n'
                        'layers { name: "v1" type: RELU bottom: "s" top: "s" }',
    "v1 mixed with v2": RELU + ' layers { name: "r" type: RELU bottom: "x" top: "y" }',
    "v0 of unknown type": 'input: "d" layers { layer { name: "r" type: "foo" } bottom: "d" top: "r" }',
    "v0 of unknown bottom": 'layers { layer { name: "r" type: "conv" } bottom: "d" top: "r" }',
    "v0 padding before relu": 'input: "d" layers { layer { name: "p" type: "padding" pad: 3 } bottom: "d" top: "p" }\n'
                              'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }',
}


def main() -> None:
    """Run the tool on every input and write the file."""
    root = Path(sys.argv[1]) / "root"
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    environment = dict(os.environ, GLOG_logtostderr="1", LD_LIBRARY_PATH=":".join(
        map(str, (libraries / "openblas-pthread", libraries, root / "lib" / "x86_64-linux-gnu", root / "usr" / "lib"))))
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in INPUTS.items():
            source, target = Path(folder) / "in.prototxt", Path(folder) / "out.prototxt"
            source.write_text(text)
            target.unlink(missing_ok=True)
            done = subprocess.run([str(root / "usr" / "bin" / "upgrade_net_proto_text"), str(source), str(target)],
                                  env=environment, capture_output=True, text=True, check=False)
            case = {"name": name, "input": text}
            if target.exists():
                case["output"] = target.read_text()
            else:
                case["fatal"] = next(line for line in done.stderr.splitlines() if line.startswith("F")).split("] ", 1)[1]
            cases.append(case)
    golden = {"provenance": "upgrade_net_proto_text of Debian's caffe 1.0.0+git20180821.99bd997 (BVLC 99bd997); "
                            "python tests/goldens/make_upgrade.py DIR", "cases": cases}
    (HERE / "upgrade.json").write_text(json.dumps(golden, indent=1) + "\n")
    print("%d cases" % len(cases))


if __name__ == "__main__":
    main()
