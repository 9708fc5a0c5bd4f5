"""The cases: each layer type with each of its parameters, as data; those of data layers are in data_cases.py.

Three programs read this list: tests/parity/run_cases.py runs it on either Caffe, tests/test_layers.py replays what the real
Caffe answered (tests/goldens/layers.npz), and the same file checks that every registered layer type has a case.
"""

from __future__ import annotations

import data_cases
from layer_case import Blob, CaseList

X = Blob((2, 3, 5, 6))
AWAY, APART, STEPS, POSITIVE = (Blob((2, 3, 5, 6), kind) for kind in ("away", "apart", "steps", "positive"))
CASES = CaseList(data_cases.CASES)
case = CASES.add


def kernel(text: str, outputs: int = 4, bias: bool = True) -> str:
    """A convolution_param, whose default num_output the cases share."""
    return "convolution_param { num_output: %d %s%s }" % (outputs, text, "" if bias else " bias_term: false")


# -- vision ----------------------------------------------------------------------------------------------------------------
CONV = 'type: "Convolution" '
case("Convolution", CONV + kernel("kernel_size: 3"), X)
case("Convolution 1x1", CONV + kernel("kernel_size: 1"), X)
case("Convolution no bias", CONV + kernel("kernel_size: 3", bias=False), X)
case("Convolution pad stride", CONV + kernel("kernel_size: 3 pad: 2 stride: 2"), X)
case("Convolution _h _w", CONV + kernel("kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 2 stride_h: 2 stride_w: 1"), X)
case("Convolution an axis each", CONV + kernel("kernel_size: 2 kernel_size: 3 pad: 0 pad: 1 stride: 1 stride: 2"), X)
case("Convolution dilation", CONV + kernel("kernel_size: 3 dilation: 2 pad: 2"), X)
case("Convolution dilation each", CONV + kernel("kernel_size: 2 dilation: 3 dilation: 1"), X)
case("Convolution group", CONV + kernel("kernel_size: 3 group: 2", 6), Blob((2, 4, 5, 5)))
case("Convolution depthwise", CONV + kernel("kernel_size: 3 group: 3 pad: 1", 3), X)
case("Convolution two bottoms", CONV + kernel("kernel_size: 3"), X, X, tops=2)
case("Convolution accumulates", CONV + kernel("kernel_size: 3"), X, passes=2)
case("Convolution grows", CONV + kernel("kernel_size: 3 pad: 1"), X, then=((3, 3, 7, 8),))
case("Convolution shrinks", CONV + kernel("kernel_size: 3 pad: 1"), X, then=((1, 3, 4, 3),))
case("Convolution one spatial axis", CONV + kernel("kernel_size: 3 stride: 2"), Blob((2, 3, 9)))
case("Convolution three spatial axes", CONV + kernel("kernel_size: 2 pad: 1 stride: 1 stride: 2 stride: 1"),
     Blob((2, 2, 3, 4, 3)))
case("Convolution axis 2", CONV + kernel("kernel_size: 2 axis: 2", 3), Blob((2, 2, 3, 4, 4)))
case("Convolution no spatial axis", CONV + kernel("kernel_size: 1"), Blob((4, 3)))
case("Convolution force_nd_im2col", CONV + kernel("kernel_size: 3 force_nd_im2col: true engine: CAFFE"), X)
case("Convolution xavier", CONV + kernel('kernel_size: 3 weight_filler { type: "xavier" } bias_filler { value: 0.5 }'), X,
     seed=7, params=("filler",))
case("Convolution lr_mult 0", CONV + kernel("kernel_size: 3") + " param { lr_mult: 0 } loss_weight: 1", X, gradients=(0,))
case("Convolution only bias", CONV + kernel("kernel_size: 3") + " param { lr_mult: 0 } param { lr_mult: 2 } loss_weight: 1",
     X, gradients=())

DECONV = 'type: "Deconvolution" '
case("Deconvolution", DECONV + kernel("kernel_size: 3"), X)
case("Deconvolution stride", DECONV + kernel("kernel_size: 4 stride: 2", bias=False), X)
case("Deconvolution pad", DECONV + kernel("kernel_size: 4 stride: 2 pad: 1"), X)
case("Deconvolution _h _w", DECONV + kernel("kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 3"), X)
case("Deconvolution dilation", DECONV + kernel("kernel_size: 2 dilation: 2 stride: 2"), X)
case("Deconvolution group", DECONV + kernel("kernel_size: 3 group: 2 stride: 2", 6), Blob((2, 4, 3, 4)))
case("Deconvolution bilinear", DECONV + kernel('kernel_size: 4 stride: 2 pad: 1 group: 3 weight_filler { type: "bilinear" }',
                                               3, bias=False), X, params=("filler",))
case("Deconvolution bilinear odd", DECONV + kernel('kernel_size: 3 stride: 2 weight_filler { type: "bilinear" }', 3), X,
     params=("filler",))
case("Deconvolution unfilled", DECONV + kernel("kernel_size: 3"), X, params=("filler",))
case("Deconvolution two bottoms", DECONV + kernel("kernel_size: 3"), X, X, tops=2, passes=2)
case("Deconvolution shrinks", DECONV + kernel("kernel_size: 3 stride: 2"), X, then=((1, 3, 2, 4),))
case("Deconvolution one spatial axis", DECONV + kernel("kernel_size: 3 stride: 2"), Blob((2, 3, 4)))
case("Deconvolution axis 2", DECONV + kernel("kernel_size: 2 axis: 2 stride: 2 bias_filler { value: 1 } engine: CAFFE", 3),
     Blob((2, 2, 3, 2, 2)), params=("filler",))
case("Deconvolution lr_mult 0", DECONV + kernel("kernel_size: 4 stride: 2", bias=False)
     + " param { lr_mult: 0 } loss_weight: 1", X, gradients=(0,))

POOL = 'type: "Pooling" pooling_param { %s }'
for kind, bottom in (("MAX", APART), ("AVE", X)):
    case("Pooling %s 2x2" % kind, POOL % ("pool: %s kernel_size: 2 stride: 2" % kind), bottom)
    case("Pooling %s ceil" % kind, POOL % ("pool: %s kernel_size: 3 stride: 2" % kind), Blob((2, 2, 6, 8), bottom.values))
    case("Pooling %s floor" % kind, POOL % ("pool: %s kernel_size: 3 stride: 2 round_mode: FLOOR" % kind),
         Blob((2, 2, 6, 8), bottom.values))
    case("Pooling %s pad" % kind, POOL % ("pool: %s kernel_size: 3 stride: 2 pad: 1" % kind), bottom)
    case("Pooling %s large pad" % kind, POOL % ("pool: %s kernel_size: 3 stride: 2 pad: 2" % kind), bottom)
    case("Pooling %s last window dropped" % kind, POOL % ("pool: %s kernel_size: 2 stride: 2 pad: 1" % kind), bottom)
    case("Pooling %s one side padded" % kind, POOL % ("pool: %s kernel_size: 3 stride: 3 pad_h: 0 pad_w: 2" % kind),
         Blob((2, 2, 7, 7), bottom.values))
    case("Pooling %s _h _w" % kind, POOL % (
        "pool: %s kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0" % kind), bottom)
    case("Pooling %s overlapping" % kind, POOL % ("pool: %s kernel_size: 3 stride: 1 pad: 1" % kind), bottom)
    case("Pooling %s global" % kind, POOL % ("pool: %s global_pooling: true" % kind), bottom)
    case("Pooling %s global other size" % kind, POOL % ("pool: %s global_pooling: true" % kind), bottom,
         then=((1, 3, 8, 7),))
    case("Pooling %s kernel exceeds image" % kind, POOL % ("pool: %s kernel_size: 4 stride: 3" % kind),
         Blob((1, 2, 3, 3), bottom.values))
    case("Pooling %s window off the image" % kind, POOL % ("pool: %s kernel_size: 1 stride: 2" % kind),
         Blob((1, 2, 4, 4), bottom.values), backward=False)
    case("Pooling %s window far off the image" % kind, POOL % ("pool: %s kernel_size: 1 stride: 3" % kind),
         Blob((1, 2, 5, 6), bottom.values), backward=False)
    case("Pooling %s resized" % kind, POOL % ("pool: %s kernel_size: 2 stride: 2" % kind), bottom, then=((1, 3, 9, 9),))
case("Pooling default is MAX, stride 1", POOL % "kernel_size: 2", APART)
case("Pooling MAX ties", POOL % "kernel_size: 3 stride: 2", STEPS)
case("Pooling MAX mask", POOL % "kernel_size: 3 stride: 2 pad: 1", STEPS, tops=2)
case("Pooling MAX mask large pad", POOL % "kernel_size: 3 stride: 2 pad: 2 engine: CAFFE", STEPS, tops=2)
case("Pooling MAX mask off the image", POOL % "kernel_size: 1 stride: 3", Blob((1, 2, 5, 6)), tops=2, backward=False)

CROP = 'type: "Crop" crop_param { %s }'
case("Crop", 'type: "Crop"', X, Blob((2, 3, 3, 4)))
case("Crop offset", CROP % "offset: 2", X, Blob((1, 1, 3, 4)))
case("Crop offset an axis", CROP % "offset: 1 offset: 0", X, Blob((1, 1, 3, 4)))
case("Crop axis 1", CROP % "axis: 1 offset: 1", X, Blob((7, 2, 3, 4)))
case("Crop axis -1", CROP % "axis: -1 offset: 2", X, Blob((9, 9, 9, 3)))
case("Crop axis 0", CROP % "axis: 0 offset: 1 offset: 0 offset: 2 offset: 3", X, Blob((1, 3, 3, 3)))
case("Crop three axes", CROP % "axis: 1 offset: 1", Blob((2, 4, 5)), Blob((1, 2, 3)))
case("Crop whole", 'type: "Crop"', X, X)
case("Crop resized", CROP % "offset: 1", X, Blob((2, 3, 3, 4)), then=((1, 3, 8, 8), (1, 1, 7, 2)))

case("Im2col", 'type: "Im2col" convolution_param { kernel_size: 3 }', X)
case("Im2col all",
     'type: "Im2col" convolution_param { kernel_h: 2 kernel_w: 3 pad: 1 stride: 2 dilation: 1 dilation: 2 }', X)
case("Im2col axis", 'type: "Im2col" convolution_param { kernel_size: 2 axis: -3 }', X)
case("Im2col one spatial axis", 'type: "Im2col" convolution_param { kernel_size: 3 stride: 2 pad: 1 }', Blob((2, 3, 7)))
case("Im2col three spatial axes", 'type: "Im2col" convolution_param { kernel_size: 2 kernel_size: 1 kernel_size: 3 '
     "pad: 1 pad: 0 pad: 2 stride: 1 stride: 2 stride: 1 dilation: 2 dilation: 1 dilation: 1 }", Blob((2, 2, 3, 4, 3)))
case("Im2col force_nd_im2col", 'type: "Im2col" convolution_param { kernel_size: 3 pad: 1 force_nd_im2col: true }', X,
     then=((1, 3, 4, 7),))
case("SPP", 'type: "SPP" spp_param { pyramid_height: 3 }', Blob((2, 2, 8, 9), "apart"))
case("SPP AVE", 'type: "SPP" spp_param { pyramid_height: 2 pool: AVE engine: CAFFE }', Blob((2, 2, 7, 5)))
case("SPP one level", 'type: "SPP" spp_param { pyramid_height: 1 }', Blob((2, 2, 5, 7), "apart"))

# -- common ----------------------------------------------------------------------------------------------------------------
FC = 'type: "InnerProduct" inner_product_param { num_output: 5 %s}'
case("InnerProduct", FC % "", X)
case("InnerProduct no bias", FC % "bias_term: false", X)
case("InnerProduct transpose", FC % "transpose: true", X)
case("InnerProduct axis 2", FC % "axis: 2", X)
case("InnerProduct axis -1", FC % "axis: -1", X)
case("InnerProduct axis 0", FC % "axis: 0", X)
case("InnerProduct accumulates", FC % "", Blob((4, 6)), passes=2)
case("InnerProduct other batch", FC % "", Blob((4, 6)), then=((7, 6),))
case("InnerProduct fillers", FC % 'weight_filler { type: "gaussian" std: 0.1 sparse: 3 } bias_filler { type: "uniform" }',
     Blob((4, 30)), seed=11, params=("filler",))
for variance in ("FAN_IN", "FAN_OUT", "AVERAGE"):
    for filler in ("xavier", "msra"):
        case("InnerProduct %s %s" % (filler, variance), FC % (
            'weight_filler { type: "%s" variance_norm: %s }' % (filler, variance)), Blob((2, 12)), seed=5,
             params=("filler",))
case("InnerProduct positive_unitball", FC % 'weight_filler { type: "positive_unitball" }', Blob((2, 12)), seed=5,
     params=("filler",))
case("InnerProduct lr_mult 0", FC % "" + " param { lr_mult: 0 } loss_weight: 1", X, gradients=(0,))

DROP = 'type: "Dropout" %s'
case("Dropout", DROP % "", X, seed=1, exact=True)
case("Dropout ratio", DROP % "dropout_param { dropout_ratio: 0.3 }", X, seed=2)
case("Dropout in place", DROP % "", X, seed=3, in_place=True, exact=True)
case("Dropout twice", DROP % "dropout_param { dropout_ratio: 0.75 }", X, seed=3, passes=2)
case("Dropout TEST", DROP % "", X, phase="TEST", exact=True)
case("Dropout TEST in place", DROP % "", X, phase="TEST", in_place=True, exact=True)
case("Dropout ratio 0", DROP % "dropout_param { dropout_ratio: 0 }", X, seed=3, exact=True)
EMBED = 'type: "Embed" embed_param { num_output: 3 input_dim: 5 %s}'
case("Embed", EMBED % "" + " loss_weight: 1", Blob((2, 4), "labels:5"), gradients=())
case("Embed no bias", EMBED % "bias_term: false" + " loss_weight: 1", Blob((6,), "labels:5"), gradients=(), passes=2)
case("Embed filled", EMBED % 'weight_filler { type: "uniform" } bias_filler { value: 2 }' + " loss_weight: 1",
     Blob((6,), "labels:5"), gradients=(), seed=2, params=("filler",))

# -- recurrent -------------------------------------------------------------------------------------------------------------
X4, CONT = Blob((4, 3, 5)), Blob((4, 3), "labels:2")
for kind, states in (("RNN", 1), ("LSTM", 2)):
    RECURRENT = 'type: "%s" recurrent_param { num_output: 2 %%s}' % kind
    STATES = (Blob((1, 3, 2)),) * states
    case(kind, RECURRENT % "", X4, CONT)
    case(kind + " one timestep", RECURRENT % "", Blob((1, 3, 5)), Blob((1, 3), "labels:2"))
    case(kind + " more axes", RECURRENT % "debug_info: false ", Blob((2, 3, 2, 1, 3)), Blob((2, 3), "labels:2"))
    case(kind + " static input", RECURRENT % "", X4, CONT, Blob((3, 2, 2)))
    case(kind + " state carried on", RECURRENT % "", X4, CONT, passes=3)
    case(kind + " never begins anew", RECURRENT % "", X4, Blob((4, 3), "constant:1"), passes=3)
    case(kind + " cont in between", RECURRENT % "", X4, Blob((4, 3), "uniform"), passes=2)
    case(kind + " expose_hidden", RECURRENT % "expose_hidden: true ", X4, CONT, *STATES, tops=1 + states, passes=2)
    case(kind + " expose_hidden static input", RECURRENT % "expose_hidden: true ", X4, CONT, Blob((3, 4)), *STATES,
         tops=1 + states)
    case(kind + " fewer streams", RECURRENT % "", X4, CONT, passes=2, then=((4, 2, 5), (4, 2)))
    case(kind + " more streams", RECURRENT % "", X4, Blob((4, 3), "constant:1"), passes=2, then=((4, 5, 5), (4, 5)))
    case(kind + " filled", RECURRENT % ('weight_filler { type: "uniform" min: -1 } bias_filler { type: "gaussian" } '),
         X4, CONT, seed=8, params=("filler",), after=('type: "Dropout"',))
    case(kind + " lr_mult 0", RECURRENT % "" + " param { lr_mult: 0 } loss_weight: 1", X4, CONT, gradients=(0,))
    case(kind + " overwritten", RECURRENT % "", X4, Blob((4, 3), "constant:1"), passes=2, after=('type: "ReLU"',))
    case(kind + " one timestep overwritten", RECURRENT % "", Blob((1, 3, 5)), Blob((1, 3), "constant:1"), passes=3,
         after=('type: "ReLU"',))
    case(kind + " one timestep exposed overwritten", RECURRENT % "expose_hidden: true ", Blob((1, 3, 5)),
         Blob((1, 3), "constant:1"), *STATES, tops=1 + states, after=('type: "ReLU"',))
UNIT = (Blob((1, 3, 2)), Blob((1, 3, 8)))
case("LSTMUnit", 'type: "LSTMUnit"', *UNIT, Blob((1, 3), "labels:2"), tops=2)
case("LSTMUnit cont in between", 'type: "LSTMUnit"', *UNIT, Blob((1, 3), "uniform"), tops=2)
case("LSTMUnit resized", 'type: "LSTMUnit"', *UNIT, Blob((1, 3), "labels:2"), tops=2,
     then=((1, 5, 2), (1, 5, 8), (1, 5)))

# -- normalization ---------------------------------------------------------------------------------------------------------
LRN = 'type: "LRN" lrn_param { %s }'
case("LRN", 'type: "LRN"', Blob((2, 7, 3, 3)))
case("LRN all", LRN % "local_size: 3 alpha: 0.5 beta: 0.6 k: 2 engine: CAFFE", Blob((2, 7, 3, 3)))
case("LRN larger than channels", LRN % "local_size: 5", X)
case("LRN CaffeNet", LRN % "local_size: 5 alpha: 0.0001 beta: 0.75", Blob((2, 6, 3, 3), "large"))
case("LRN within", LRN % "local_size: 3 norm_region: WITHIN_CHANNEL alpha: 0.7", X)
case("LRN within larger", LRN % "local_size: 5 norm_region: WITHIN_CHANNEL beta: 0.5 k: 3", X)

BN = 'type: "BatchNorm" %s'
STATISTICS = ("normal", "positive", "positive")
case("BatchNorm TRAIN", BN % "", X, params=STATISTICS)
case("BatchNorm TRAIN in place", BN % "", X, params=STATISTICS, in_place=True)
case("BatchNorm TEST", BN % "", X, params=STATISTICS, phase="TEST")
case("BatchNorm TEST in place", BN % "", X, params=STATISTICS, phase="TEST", in_place=True)
case("BatchNorm untrained TEST", BN % "", X, params=("filler",), phase="TEST")
case("BatchNorm all", BN % "batch_norm_param { moving_average_fraction: 0.9 eps: 0.01 }", X, params=("filler",), passes=3)
case("BatchNorm global in TRAIN", BN % "batch_norm_param { use_global_stats: true }", X, params=STATISTICS)
case("BatchNorm batch in TEST", BN % "batch_norm_param { use_global_stats: false }", X, params=STATISTICS, phase="TEST")
case("BatchNorm two axes", BN % "", Blob((6, 4)), params=STATISTICS)
case("BatchNorm resized", BN % "", X, params=STATISTICS, then=((3, 3, 4, 2),))

case("BatchNorm overwritten", BN % "", X, params=STATISTICS, in_place=True,
     after=('type: "Scale" scale_param { filler { value: 2 } bias_term: true }', 'type: "ReLU"'))
case("BatchNorm overwritten at once", BN % "", X, params=STATISTICS, after=('type: "ReLU"',))
case("BatchNorm TEST overwritten", BN % "", X, params=STATISTICS, phase="TEST", after=('type: "ReLU"',))

MVN = 'type: "MVN" mvn_param { %s }'
case("MVN", 'type: "MVN"', X)
case("MVN mean only", MVN % "normalize_variance: false", X)
case("MVN across channels", MVN % "across_channels: true", X)
case("MVN mean only across", MVN % "across_channels: true normalize_variance: false", X)
case("MVN eps", MVN % "eps: 0.5", X)
case("MVN in place", 'type: "MVN"', X, in_place=True, backward=False)
case("MVN three axes", MVN % "across_channels: true", Blob((2, 3, 4)))

# -- activation ------------------------------------------------------------------------------------------------------------
for kind, text, values in (
        ("ReLU", "", "away"), ("ReLU slope", "relu_param { negative_slope: 0.1 engine: CAFFE }", "away"),
        ("ELU", "", "away"), ("ELU alpha", "elu_param { alpha: 0.4 }", "away"),
        ("Sigmoid", "sigmoid_param { engine: CAFFE }", "normal"), ("TanH", "tanh_param { engine: CAFFE }", "normal"),
        ("PReLU", "", "away"), ("PReLU shared", "prelu_param { channel_shared: true }", "away"),
        ("Exp", "", "normal"), ("Exp all", "exp_param { base: 2 scale: 0.5 shift: 1.5 }", "normal"),
        ("Exp shift", "exp_param { shift: -1 }", "normal"),
        ("Scale", "", "normal"), ("Scale bias", "scale_param { bias_term: true }", "normal"), ("Bias", "", "normal")):
    case(kind, 'type: "%s" %s' % (kind.split()[0], text), Blob((2, 3, 5, 6), values))
    case(kind + " in place", 'type: "%s" %s' % (kind.split()[0], text), Blob((2, 3, 5, 6), values), in_place=True)
case("ReLU at 0", 'type: "ReLU"', STEPS, exact=True)
case("PReLU two axes", 'type: "PReLU"', Blob((4, 5), "away"), passes=2)
case("PReLU overwritten", 'type: "PReLU"', AWAY, in_place=True, after=('type: "Sigmoid"',))
case("PReLU unfilled", 'type: "PReLU"', AWAY, params=("filler",))
case("PReLU filled", 'type: "PReLU" prelu_param { filler { value: 0.1 } }', AWAY, params=("filler",))
case("Sigmoid large", 'type: "Sigmoid"', Blob((2, 8), "large"))
case("Swish", 'type: "Swish"', X)
case("Swish beta", 'type: "Swish" swish_param { beta: 2.5 }', X)
case("AbsVal", 'type: "AbsVal"', AWAY)
case("AbsVal at 0", 'type: "AbsVal"', STEPS)
case("BNLL", 'type: "BNLL"', X)
case("BNLL large", 'type: "BNLL"', Blob((2, 8), "large"))
case("Clip", 'type: "Clip" clip_param { min: -0.5 max: 0.8 }', X)
case("Clip at the ends", 'type: "Clip" clip_param { min: -1 max: 1 }', STEPS)
case("Threshold", 'type: "Threshold"', X, backward=False, exact=True)
case("Threshold at it", 'type: "Threshold" threshold_param { threshold: 1 }', STEPS, backward=False, exact=True)
case("Power", 'type: "Power"', X)
case("Power scale shift", 'type: "Power" power_param { scale: -2 shift: 3 }', X)
case("Power in place", 'type: "Power" power_param { power: 3 scale: -2 shift: 3 }', X, in_place=True, backward=False)
case("Power 2", 'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }', X)
case("Power 3", 'type: "Power" power_param { power: 3 }', AWAY)
case("Power fraction", 'type: "Power" power_param { power: -0.75 scale: 2 shift: 1 }', POSITIVE)
case("Power 0", 'type: "Power" power_param { power: 0 }', X)
case("Power scale 0", 'type: "Power" power_param { power: 2 scale: 0 shift: 3 }', X)
case("Log", 'type: "Log"', POSITIVE)
case("Log all", 'type: "Log" log_param { base: 10 scale: 2 shift: 0.5 }', POSITIVE)
SCALE = 'type: "Scale" scale_param { %s }'
case("Scale unfilled", 'type: "Scale"', X, params=("filler",))
case("Scale filled", SCALE % "filler { value: 3 } bias_term: true bias_filler { value: -1 }", X, params=("filler",))
case("Scale axis 0", SCALE % "axis: 0 num_axes: 2", X)
case("Scale all axes", SCALE % "axis: 1 num_axes: -1 bias_term: true", X)
case("Scale axis -1", SCALE % "axis: -1", X)
case("Scale one number", SCALE % "num_axes: 0 bias_term: true", X)
case("Scale overwritten", 'type: "Scale"', X, in_place=True, after=('type: "TanH"', 'type: "Dropout"'), seed=9)
case("Scale accumulates", SCALE % "bias_term: true", X, passes=2)
case("Scale two bottoms", 'type: "Scale"', X, Blob((3,)))
case("Scale two bottoms axis 0", SCALE % "axis: 0 bias_term: true", X, Blob((2, 3)))
case("Scale two bottoms in place", SCALE % "axis: 2 bias_term: true", X, Blob((5, 6)), in_place=True)
case("Scale by one number", SCALE % "axis: 0", X, Blob(()))
case("Scale same shape", SCALE % "axis: 0", X, X)
BIAS = 'type: "Bias" bias_param { %s }'
case("Bias axis 0", BIAS % "axis: 0 num_axes: 2 filler { value: 2 }", X, params=("filler",))
case("Bias all axes", BIAS % "num_axes: -1", X, passes=2)
case("Bias one number", BIAS % "num_axes: 0", X)
case("Bias two bottoms", 'type: "Bias"', X, Blob((3, 5)))
case("Bias two bottoms in place", BIAS % "axis: 0", X, Blob((2,)), in_place=True)

# -- utility ---------------------------------------------------------------------------------------------------------------
case("Flatten", 'type: "Flatten"', X, exact=True)
case("Flatten axes", 'type: "Flatten" flatten_param { axis: 0 end_axis: -2 }', X, exact=True)
case("Flatten no axis", 'type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', X, exact=True)
case("Flatten resized", 'type: "Flatten"', X, then=((3, 4, 4, 2),), exact=True)
RESHAPE = 'type: "Reshape" reshape_param { %s }'
case("Reshape", RESHAPE % "shape { dim: 6 dim: 30 }", X, exact=True)
case("Reshape infer", RESHAPE % "shape { dim: 0 dim: -1 dim: 2 }", X, exact=True)
case("Reshape axis", RESHAPE % "shape { dim: 2 dim: -1 } axis: 2 num_axes: 1", Blob((2, 3, 4, 5)), exact=True)
case("Reshape insert", RESHAPE % "shape { dim: 1 } axis: -1 num_axes: 0", X, exact=True)
case("Reshape negative axis", RESHAPE % "shape { dim: -1 } axis: -3", X, exact=True)
case("Reshape resized", RESHAPE % "shape { dim: 0 dim: -1 }", X, then=((4, 2, 3, 4),), exact=True)
case("Split", 'type: "Split"', X, tops=3)
case("Split once", 'type: "Split"', X, exact=True)
case("Split resized", 'type: "Split"', X, tops=2, then=((3, 3, 6, 6),))
CONCAT = 'type: "Concat" concat_param { %s }'
case("Concat", 'type: "Concat"', X, Blob((2, 1, 5, 6)), Blob((2, 2, 5, 6)), exact=True)
case("Concat axis 0", CONCAT % "axis: 0", X, Blob((1, 3, 5, 6)), exact=True)
case("Concat axis -1", CONCAT % "axis: -1", X, Blob((2, 3, 5, 1)), exact=True)
case("Concat concat_dim", CONCAT % "concat_dim: 2", X, Blob((2, 3, 2, 6)), exact=True)
case("Concat one", 'type: "Concat"', X, exact=True)
case("Concat resized", 'type: "Concat"', X, X, then=((1, 3, 7, 7), (1, 2, 7, 7)), exact=True)
SLICE = 'type: "Slice" slice_param { %s }'
case("Slice", 'type: "Slice"', X, tops=3, exact=True)
case("Slice points", SLICE % "axis: -1 slice_point: 1 slice_point: 4", X, tops=3, exact=True)
case("Slice axis 0", SLICE % "axis: 0", X, tops=2, exact=True)
case("Slice slice_dim", SLICE % "slice_dim: 2 slice_point: 3", X, tops=2, exact=True)
case("Slice one", 'type: "Slice"', X, exact=True)
case("Slice resized", SLICE % "slice_point: 1", X, tops=2, then=((3, 5, 4, 4),), exact=True)
ELTWISE = 'type: "Eltwise" eltwise_param { %s }'
case("Eltwise SUM", 'type: "Eltwise"', X, X, X)
case("Eltwise coeff", ELTWISE % "coeff: 1 coeff: -2 coeff: 0.5", X, X, X)
case("Eltwise difference", ELTWISE % "coeff: 1 coeff: -1", X, X)
case("Eltwise PROD", ELTWISE % "operation: PROD", X, X, X)
case("Eltwise PROD with zeros", ELTWISE % "operation: PROD", STEPS, STEPS, X)
case("Eltwise PROD unstable", ELTWISE % "operation: PROD stable_prod_grad: false", AWAY, AWAY, AWAY)
case("Eltwise MAX", ELTWISE % "operation: MAX", X, X)
case("Eltwise MAX of three, ties", ELTWISE % "operation: MAX", STEPS, STEPS, STEPS, exact=True)
case("Silence", 'type: "Silence"', X, Blob((3,)), tops=0, exact=True)
case("Softmax", 'type: "Softmax"', X)
case("Softmax axis", 'type: "Softmax" softmax_param { axis: -1 engine: CAFFE }', X)
case("Softmax in place", 'type: "Softmax"', X, in_place=True)
case("Softmax wide", 'type: "Softmax"', Blob((2, 8), "wide"))
ARGMAX = 'type: "ArgMax" argmax_param { %s }'
case("ArgMax", 'type: "ArgMax"', X, backward=False, exact=True)
case("ArgMax top_k", ARGMAX % "top_k: 4", APART, backward=False, exact=True)
case("ArgMax values", ARGMAX % "top_k: 2 out_max_val: true", X, backward=False, exact=True)
case("ArgMax axis", ARGMAX % "axis: 1", X, backward=False, exact=True)
case("ArgMax axis values", ARGMAX % "axis: -1 top_k: 3 out_max_val: true", X, backward=False, exact=True)
case("ArgMax ties", ARGMAX % "axis: 1 top_k: 2", STEPS, backward=False, exact=True)
case("ArgMax two axes", ARGMAX % "top_k: 2", Blob((3, 6), "steps"), backward=False, exact=True)
case("Tile", 'type: "Tile" tile_param { tiles: 3 }', X)
case("Tile axis", 'type: "Tile" tile_param { tiles: 2 axis: -1 }', X)
case("Tile once", 'type: "Tile" tile_param { tiles: 1 axis: 0 }', X)
for operation in ("SUM", "ASUM", "SUMSQ", "MEAN"):
    case("Reduction %s" % operation, 'type: "Reduction" reduction_param { operation: %s }' % operation, AWAY)
    case("Reduction %s axis coeff" % operation,
         'type: "Reduction" reduction_param { operation: %s axis: -2 coeff: 0.3 }' % operation, AWAY)
FILTER = 'type: "Filter" loss_weight: 1'
case("Filter", FILTER, X, Blob((2,), "list:0,1"), gradients=(0,), exact=True)
case("Filter two bottoms", FILTER + " loss_weight: 1", Blob((4, 3)), Blob((4, 2, 2)), Blob((4, 1), "list:1,0,3,0"), tops=2,
     gradients=(0, 1), exact=True)
REINDEX = 'type: "BatchReindex" loss_weight: 1'
case("BatchReindex", REINDEX, Blob((4, 3, 2)), Blob((6,), "list:3,0,0,2,3,3"), gradients=(0,))
case("BatchReindex fewer", REINDEX, Blob((4, 3)), Blob((2,), "list:2,1"), gradients=(0,), exact=True)
case("Parameter", 'type: "Parameter" parameter_param { shape { dim: 2 dim: 3 } }', exact=True)
case("Python", 'type: "Python" python_param { module: "twice_layer" layer: "TwiceLayer" param_str: "{\'factor\': 3}" }', X)

# -- loss ------------------------------------------------------------------------------------------------------------------
SOFTMAX = 'type: "SoftmaxWithLoss" %s'
LABELS, IGNORED = Blob((2, 1, 5, 6), "labels:3"), Blob((2, 1, 5, 6), "labels:3,255")
case("SoftmaxWithLoss", SOFTMAX % "", X, LABELS)
for mode in ("normalization: FULL", "normalization: VALID", "normalization: BATCH_SIZE", "normalization: NONE",
             "normalize: true", "normalize: false", "normalize: false normalization: NONE"):
    case("SoftmaxWithLoss " + mode, SOFTMAX % ("loss_param { %s }" % mode), X, LABELS)
    case("SoftmaxWithLoss ignore " + mode, SOFTMAX % ("loss_param { ignore_label: 255 %s }" % mode), X, IGNORED)
case("SoftmaxWithLoss ignore a class", SOFTMAX % "loss_param { ignore_label: 0 }", X, LABELS)
case("SoftmaxWithLoss all ignored", SOFTMAX % "loss_param { ignore_label: 7 }", X, Blob((2, 1, 5, 6), "constant:7"))
case("SoftmaxWithLoss loss_weight", SOFTMAX % "loss_weight: 2.5", X, LABELS)
case("SoftmaxWithLoss two axes", SOFTMAX % "", Blob((6, 4)), Blob((6,), "labels:4"))
case("SoftmaxWithLoss axis", SOFTMAX % "softmax_param { axis: -1 }", X, Blob((2, 3, 5), "labels:6"))
case("SoftmaxWithLoss label shape", SOFTMAX % "", X, Blob((2, 5, 6), "labels:3"))
case("SoftmaxWithLoss cut labels", SOFTMAX % "", X, Blob((2, 1, 5, 6), "labels:3,0.9"))
case("SoftmaxWithLoss floor", SOFTMAX % "", Blob((4, 3), "large"), Blob((4,), "labels:3"))
case("SoftmaxWithLoss zero scores", SOFTMAX % "loss_param { normalize: false }", Blob((1, 21, 6, 5), "zero"),
     Blob((1, 1, 6, 5), "labels:21"))
case("SoftmaxWithLoss resized", SOFTMAX % "", X, LABELS, then=((1, 3, 7, 4), (1, 1, 7, 4)))
case("SoftmaxWithLoss twice", SOFTMAX % "", X, LABELS, passes=2)
SIGMOID = 'type: "SigmoidCrossEntropyLoss" %s'
TARGETS = Blob((2, 3, 5, 6), "uniform")
case("SigmoidCrossEntropyLoss", SIGMOID % "", X, TARGETS)
for mode in ("normalization: FULL", "normalization: VALID", "normalization: BATCH_SIZE", "normalization: NONE",
             "normalize: true", "normalize: false"):
    case("SigmoidCrossEntropyLoss " + mode, SIGMOID % ("loss_param { %s }" % mode), X, TARGETS)
    case("SigmoidCrossEntropyLoss ignore " + mode, SIGMOID % ("loss_param { ignore_label: -1 %s }" % mode), X,
         Blob((2, 3, 5, 6), "labels:2,-1"))
case("SigmoidCrossEntropyLoss ignore 0 cut", SIGMOID % "loss_param { ignore_label: 0 normalization: VALID }", X, X)
case("SigmoidCrossEntropyLoss large", SIGMOID % "loss_weight: 0.5", Blob((2, 8), "large"), Blob((2, 8), "uniform"))
case("EuclideanLoss", 'type: "EuclideanLoss"', X, X)
case("EuclideanLoss weight", 'type: "EuclideanLoss" loss_weight: 3', X, Blob((2, 90)))
case("EuclideanLoss one side", 'type: "EuclideanLoss"', X, X, gradients=(1,))
case("HingeLoss", 'type: "HingeLoss"', Blob((6, 4)), Blob((6,), "labels:4"))
case("HingeLoss L2", 'type: "HingeLoss" hinge_loss_param { norm: L2 }', Blob((6, 4)), Blob((6,), "labels:4"))
case("HingeLoss L1 at the margin", 'type: "HingeLoss" hinge_loss_param { norm: L1 }', Blob((6, 4), "steps"),
     Blob((6, 1, 1, 1), "labels:4"))
MULTINOMIAL = 'type: "MultinomialLogisticLoss"'
case("MultinomialLogisticLoss", MULTINOMIAL, Blob((6, 4), "positive"), Blob((6,), "labels:4"))
case("MultinomialLogisticLoss floor", MULTINOMIAL, Blob((3, 4), "zero"), Blob((3,), "labels:4"))
INFOGAIN = 'type: "InfogainLoss" %s'
MATRIX = Blob((1, 1, 3, 3), "uniform")
case("InfogainLoss", INFOGAIN % "", X, LABELS, MATRIX, gradients=(0,))
for mode in ("normalization: FULL", "normalization: BATCH_SIZE", "normalization: NONE"):
    case("InfogainLoss " + mode, INFOGAIN % ("loss_param { %s }" % mode), X, LABELS, MATRIX, gradients=(0,))
case("InfogainLoss ignore", INFOGAIN % "loss_param { ignore_label: 255 }", X, IGNORED, MATRIX, gradients=(0,))
case("InfogainLoss axis", INFOGAIN % "infogain_loss_param { axis: 2 }", Blob((2, 4, 3, 2)), Blob((2, 4, 2), "labels:3"),
     MATRIX, gradients=(0,))
case("InfogainLoss two tops", INFOGAIN % "loss_weight: 2 loss_weight: 0", X, LABELS, MATRIX, gradients=(0,), tops=2)
case("InfogainLoss source", 'type: "InfogainLoss" infogain_loss_param { source: "infogain.binaryproto" }', X, LABELS)
CONTRASTIVE = 'type: "ContrastiveLoss" %s'
PAIR = (Blob((6, 4)), Blob((6, 4)), Blob((6,), "labels:2"))
case("ContrastiveLoss", CONTRASTIVE % "", *PAIR)
case("ContrastiveLoss margin", CONTRASTIVE % "contrastive_loss_param { margin: 3.5 }", *PAIR)
case("ContrastiveLoss legacy", CONTRASTIVE % "contrastive_loss_param { margin: 9 legacy_version: true }", *PAIR)
ACCURACY = 'type: "Accuracy" %s'
case("Accuracy", ACCURACY % "", X, LABELS, backward=False)
case("Accuracy top_k", ACCURACY % "accuracy_param { top_k: 2 }", X, LABELS, backward=False)
case("Accuracy axis", ACCURACY % "accuracy_param { axis: 3 }", X, Blob((2, 3, 5), "labels:6"), backward=False)
case("Accuracy a class", ACCURACY % "accuracy_param { ignore_label: 255 }", X, IGNORED, tops=2, backward=False)
case("Accuracy absent class", ACCURACY % "accuracy_param { top_k: 3 }", Blob((4, 5)), Blob((4,), "labels:2"), tops=2,
     backward=False)
case("Accuracy ties", ACCURACY % "", STEPS, LABELS, backward=False)
case("Accuracy all equal", ACCURACY % "", Blob((4, 5), "zero"), Blob((4,), "labels:5"), backward=False)
case("Accuracy none valid", ACCURACY % "accuracy_param { ignore_label: 7 }", Blob((4, 5)), Blob((4,), "constant:7"), tops=2,
     backward=False)
