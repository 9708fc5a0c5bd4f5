"""Definitions and inputs that must be refused, as data: what Caffe answers with a failing CHECK that ends the process, and
the engine with a CaffeError saying which layer, what it got and what it wanted.

`only_here` marks what release builds of Caffe let pass, reading or computing nonsense (each has its reason).
"""

from __future__ import annotations

from dataclasses import dataclass

from cases import CONV, DECONV, POOL, kernel
from layer_case import Blob, Case


@dataclass(frozen=True)
class Refused:
    """A case that must not run, and a regular expression its message must match."""

    case: Case
    message: str
    only_here: str = ""  # why Caffe does not refuse it


X = Blob((2, 3, 5, 6))
REFUSED: list[Refused] = []


def refused(message: str, layer: str, *bottoms: Blob, only_here: str = "", **how) -> None:
    """Add one; its name is its message."""
    REFUSED.append(Refused(Case(message, layer, bottoms, **how), message, only_here))


refused("got 0 bottom blob.*wanted 1", 'type: "ReLU"')
refused("got 2 bottom blob.*wanted 1", 'type: "ReLU"', X, X)
refused("got 2 top blob.*wanted 1", 'type: "ReLU"', X, tops=2)
refused("unknown layer type 'Relu': did you mean 'ReLU'.", 'type: "Relu"', X)

# data
refused("once per top blob.*3 shapes for 2 tops", 'type: "Input" input_param { shape {} shape {} shape {} }', tops=2)
DUMMY = 'type: "DummyData" dummy_data_param { %s }'
refused("3 tops.* 2 data fillers|: 3; you specified 2", DUMMY % "data_filler {} data_filler {} shape { dim: 1 }", tops=3)
refused("2 tops.* specified 3", DUMMY % "shape { dim: 1 } shape { dim: 1 } shape { dim: 1 }", tops=2)
refused("not both", DUMMY % "shape { dim: 1 } num: 2")
refused("once or once per top", DUMMY % "num: 2 channels: 3 height: 4")
DATA = 'type: "Data" data_param { source: "%s" backend: LMDB batch_size: %d } transform_param { %s }'
refused("LEVELDB .the default., the engine reads LMDB", 'type: "Data" data_param { source: "images" batch_size: 1 }')
refused("nowhere: cannot open this LMDB: No such file", DATA.replace("%s", "./nowhere", 1) % (1, ""))
refused("Positive batch size required, got 0", DATA % ("images", 0, ""))
refused("crop_size 7 exceeds an image of shape .3, 6, 7.", DATA % ("images", 1, "crop_size: 7"))
refused("mean_file and mean_value at the same time", DATA % ("images", 1, 'mean_value: 1 mean_file: "mean.binaryproto"'))
refused("mean.binaryproto has shape .3, 6, 7., an image .3, 40, 50", DATA % ("mixed", 1, 'mean_file: "mean.binaryproto"'))
refused("1 mean_value or as many as channels: got 2 for 3", DATA % ("images", 1, "mean_value: 1 mean_value: 2"))
refused("shapes .3, 40, 50. and .2, 5, 4", DATA % ("mixed", 2, ""))
refused("both force_color and force_gray", DATA % ("mixed", 1, "force_color: true force_gray: true"), passes=3)
MEMORY = 'type: "MemoryData" memory_data_param { batch_size: 2 channels: 3 height: 2 width: %d }'
refused("specified and positive .*got 2, 3, 2 and 0", MEMORY % 0, tops=2)
refused("call net.set_input_arrays", MEMORY % 4, tops=2)
refused("multiple of batch size 2, got 5", MEMORY % 4, tops=2, memory=(Blob((5, 3, 2, 4)), Blob((5,))))
refused("got 1 top", MEMORY % 4)
HDF5 = 'type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "%s" batch_size: %d }'
refused("remove transform_param", HDF5 % ("hdf5.txt", 1) + " transform_param { scale: 2 }", tops=0)
refused("Failed to open source file: nowhere.txt: No such file", HDF5 % ("nowhere.txt", 1), tops=0)
refused("at least 1 HDF5 filename listed in empty.txt", HDF5 % ("empty.txt", 1), tops=0)
refused("nowhere.h5: .*cannot be opened", HDF5 % ("hdf5_none.txt", 5), tops=0)
refused("a.h5: .* which has a dataset /top1; it has data, label", HDF5.replace('top: "label"', 'top: "top1"') % (
    "hdf5.txt", 1), tops=0)
refused("rows.h5: wanted equally many rows.*3, 2, 3., .4,", HDF5 % ("hdf5_rows.txt", 1), tops=0)
refused("words.h5: /label is no array of numbers", HDF5 % ("hdf5_words.txt", 1), tops=0)
refused("rows of dataset data have shape .2, 2., those of the first file .2, 3", HDF5 % ("hdf5_narrow.txt", 4), tops=0,
        only_here="takes numbers of other rows")
OUTPUT = 'type: "HDF5Output" hdf5_output_param { file_name: "%s" }'
refused("holds the first batch", OUTPUT % "out.h5", X, Blob((2,)), tops=0, passes=2)
refused("same batch size, got shapes .2, 3, 5, 6. and .3", OUTPUT % "out.h5", X, Blob((3,)), tops=0)
refused("at most 4 axes", OUTPUT % "out.h5", Blob((1, 1, 1, 1, 1)), Blob((1,)), tops=0)
refused("Failed to open HDF5 file nowhere/out.h5: .*make the folder", OUTPUT % "nowhere/out.h5", X, Blob((2,)), tops=0)
refused("no file_name", OUTPUT % "", X, Blob((2,)), tops=0)
IMAGE = 'type: "ImageData" image_data_param { source: "%s" batch_size: %d %s} transform_param { %s }'
refused("new_height and new_width to be set at the same time, got 3 and 0", IMAGE % ("same.txt", 1, "new_height: 3 ", ""),
        tops=2)
refused("Failed to open file nowhere.txt: No such file", IMAGE % ("nowhere.txt", 1, "", ""), tops=2)
refused("File is empty: empty.txt", IMAGE % ("empty.txt", 1, "", ""), tops=2)
refused("Could not open or find file nowhere/0.png", IMAGE % ("same.txt", 1, 'root_folder: "nowhere/" ', ""), tops=2)
refused("Could not load same.txt: not an image", IMAGE % ("list.txt", 1, "", ""), tops=2)
refused("batch size required, got 0", IMAGE % ("same.txt", 0, "", ""), tops=2)
refused("Not enough points to skip: rand_skip drew .* same.txt has 5 lines", IMAGE % (
    "same.txt", 1, "rand_skip: 4000000000 ", ""), tops=2, seed=1)
refused("shapes .3, 6, 7. and .3, 5, 31", IMAGE % ("sizes.txt", 2, "", ""), tops=2)
refused("crop_size 6 exceeds an image of shape .3, 5, 31", IMAGE % ("sizes.txt", 2, "", "crop_size: 6"), tops=2)
refused("mean.binaryproto has shape .3, 6, 7., an image .3, 12, 14", IMAGE % (
    "same.txt", 2, "new_height: 12 new_width: 14 ", 'mean_file: "mean.binaryproto"'), tops=2)
WINDOW = 'type: "WindowData" window_data_param { source: "%s" batch_size: %d %s} transform_param { crop_size: 5 %s}'
refused("got crop_size 0", (WINDOW % ("windows.txt", 1, "", "")).replace("crop_size: 5", ""), tops=2)
refused("Failed to open file no.txt", WINDOW % ("no.txt", 1, "", ""), tops=2)
refused("Window file is empty: empty.txt", WINDOW % ("empty.txt", 1, "", ""), tops=2)
refused("Positive batch size required, got 0", WINDOW % ("windows.txt", 0, "", ""), tops=2)
refused("context_pad 3 on both sides leaves nothing of crop_size 5", WINDOW % ("windows.txt", 1, "context_pad: 3 ", ""),
        tops=2)
refused("got '0.png 3', wanted '# 0'", WINDOW % ("same.txt", 1, "", ""), tops=2)
refused("got '# 0', wanted '# 1'", WINDOW % ("windows_order.txt", 1, "", ""), tops=2, only_here="reads another image")
refused("has 1 channels, wanted 3", WINDOW % ("windows_grey.txt", 1, "", ""), tops=2, only_here="writes behind the blob")
refused("windows_cut.txt: image 0 is not '# index path", WINDOW % ("windows_cut.txt", 1, "", ""), tops=2,
        only_here="makes up the missing window")
refused("foreground window of class 0, wanted 1 or more", WINDOW % ("windows_class.txt", 1, "", ""), tops=2)
for parameter in ("", "cache_images: true "):
    refused("image 0 of windows_absent.txt: Could not open or find file nowhere.png", WINDOW % (
        "windows_absent.txt", 1, parameter, ""), tops=2, only_here="logs an error and returns what the batch holds by then")
refused("image 0 of windows_text.txt: Could not load same.txt: not an image", WINDOW % ("windows_text.txt", 1, "", ""),
        tops=2, only_here="logs an error and returns what the batch holds by then")
refused("has no background windows; change fg_threshold 0.5 or", WINDOW % ("windows_none.txt", 1, "", ""), tops=2)
refused("does not lie on its image of 7 x 6", WINDOW % ("windows_off.txt", 1, "", ""), tops=2)
refused("windows_back.txt: .*x1=5, y1=3, x2=2, y2=5. is inside out", WINDOW % ("windows_back.txt", 2, "context_pad: 1 ", ""),
        tops=2)
refused("nothing of .*x1=90, .*lies on its image of 7 x 6", WINDOW % (
    "windows_far.txt", 1, "context_pad: 1 fg_fraction: 1 ", ""), tops=2)
refused("nothing of .*x1=2000000000, .*lies on its image of 7 x 6", WINDOW % ("windows_far.txt", 1, "context_pad: 1 ", ""),
        tops=2)
refused("9999999999.* has a number beyond 32 bits", WINDOW % ("windows_large.txt", 1, "", ""), tops=2)
refused("mean.binaryproto has shape .3, 6, 7., wanted 3 channels and a square of at least crop_size 7", (WINDOW % (
    "windows.txt", 1, "", 'mean_file: "mean.binaryproto"')).replace("size: 5", "size: 7"), tops=2,
        only_here="reads behind the mean")
refused("1 mean_value or as many as channels: got 2 for 3", WINDOW % (
    "windows.txt", 1, "", "mean_value: 1 mean_value: 2 "), tops=2)

# vision
refused("kernel_size 0 times, wanted", CONV + kernel(""), X)
refused("kernel_size 3 times, wanted", CONV + kernel("kernel_size: 1 kernel_size: 1 kernel_size: 1"), X)
refused("kernel_size .0, 0.*more than zero", CONV + kernel("kernel_size: 0"), X)
refused("both kernel_h and kernel_w", CONV + kernel("kernel_h: 3"), X)
refused("Either kernel_size or kernel_h/w", CONV + kernel("kernel_size: 3 kernel_h: 3 kernel_w: 3"), X)
refused("kernel_h and kernel_w are for 2 spatial axes.*has 1", CONV + kernel("kernel_h: 3 kernel_w: 3"), Blob((2, 3, 4)))
refused("stride .0, 0.*more than zero", CONV + kernel("kernel_size: 1 stride: 0"), X)
refused("Either stride or stride_h/w", CONV + kernel("kernel_size: 1 stride: 1 stride_h: 1 stride_w: 1"), X)
refused("Either pad or pad_h/w", CONV + kernel("kernel_size: 1 pad: 1 pad_h: 1 pad_w: 1"), X)
refused("pad 3 times", CONV + kernel("kernel_size: 3 pad: 1 pad: 1 pad: 1"), X)
refused("dilation 3 times", CONV + kernel("kernel_size: 3 dilation: 1 dilation: 1 dilation: 1"), X)
refused("dilation .0, 0", CONV + kernel("kernel_size: 3 dilation: 0"), X, only_here="computes with all taps at one place")
refused("num_output 0.*set num_output", CONV + kernel("kernel_size: 3", 0), X)
refused("group 2 must divide both the 3 input channels", CONV + kernel("kernel_size: 3 group: 2"), X)
refused("group 3 must divide .*num_output 4", CONV + kernel("kernel_size: 3 group: 3"), X)
refused("axis: 4 is out of range.*4 axes", CONV + kernel("kernel_size: 3 axis: 4"), X)
refused("same shape: bottom 1 is .2, 3, 5, 5., bottom 0", CONV + kernel("kernel_size: 3"), X, Blob((2, 3, 5, 5)), tops=2)
refused("2 bottom and 1 top", CONV + kernel("kernel_size: 3"), X, X)
refused("incompatible with convolution kernel.*4, 5, 6.*3 channels", CONV + kernel("kernel_size: 3"), X,
        then=((2, 4, 5, 6),))
refused("covers .7, 7. but the padded input is only .5, 6", CONV + kernel("kernel_size: 7"), X)
refused("covers .8, 8. but the padded", CONV + kernel("kernel_size: 8 stride: 5"), X,
        only_here="its integer division rounds -3/5 to 0 and one window is computed, half of it beyond the padding")
refused("output of .-3, -2.*less pad", DECONV + kernel("kernel_size: 1 pad: 4"), X)
refused("4 spatial axes", CONV + kernel("kernel_size: 1"), Blob((1, 1, 1, 1, 1, 1)), only_here="convolves any number")
refused("4 axes, corresponding to .num, channels, height, width., got shape .2, 3, 5", POOL % "kernel_size: 2",
        Blob((2, 3, 5)))
refused("no kernel_size", POOL % "pool: MAX", X)
refused("kernel is one number OR kernel_h and kernel_w", POOL % "kernel_h: 2", X)
refused("kernel is one number OR", POOL % "kernel_size: 2 kernel_h: 2 kernel_w: 2", X)
refused("pad is one number OR pad_h and pad_w", POOL % "kernel_size: 2 pad_h: 1", X)
refused("stride is one number OR stride_h and stride_w", POOL % "kernel_size: 2 stride_h: 1", X)
refused("cannot be zero", POOL % "kernel_size: 0", X)
refused("stride .0, 0.*more than zero", POOL % "kernel_size: 2 stride: 0", X)
refused("pad .2, 2. must be smaller than kernel .2, 2", POOL % "kernel_size: 2 pad: 2", X)
refused("global_pooling, wanted one", POOL % "kernel_size: 2 global_pooling: true", X)
refused("only pad 0 and stride 1", POOL % "global_pooling: true stride: 2", X)
refused("kernel .9, 9. exceeds", POOL % "kernel_size: 9", X)
refused("Padding implemented only.*got pad .1, 1. for STOCHASTIC", POOL % "pool: STOCHASTIC kernel_size: 2 pad: 1", X)
refused("only MAX pooling has a mask|got 2 top", POOL % "pool: AVE kernel_size: 2", X, tops=2)
CROP = 'type: "Crop" crop_param { %s }'
refused("crop for axis 3 .*offset 3 . size 4 > 6 .*2, 3, 5, 6.*1, 1, 3, 4", CROP % "offset: 2 offset: 3", X,
        Blob((1, 1, 3, 4)))
refused("3 offsets, wanted none, one, or one for each of the 2 axes", CROP % "offset: 0 offset: 0 offset: 0", X, X)
refused("axis: 4 is out of range", CROP % "axis: 4", X, X)
refused("equally many axes", 'type: "Crop"', X, Blob((2, 3, 5)))
refused("wanted spatial axes after", 'type: "Im2col" convolution_param { kernel_size: 1 }', Blob((2, 3)))
refused("wanted 4 axes as when", 'type: "Im2col" convolution_param { kernel_size: 1 }', X, then=((2, 3, 5),))
refused("too small for 4 x 4 bins", 'type: "SPP" spp_param { pyramid_height: 4 }', X)
refused("Padding implemented only.*5, 6.*2 x 2 bins", 'type: "SPP" spp_param { pyramid_height: 2 pool: STOCHASTIC }', X)
refused("pyramid_height 0", 'type: "SPP" spp_param { pyramid_height: 0 }', X)

# common
FC = 'type: "InnerProduct" inner_product_param { %s }'
refused("num_output 0", FC % "", X)
refused("incompatible with inner product parameters.*weights want 90", FC % "num_output: 2", X, then=((2, 3, 5, 7),))
refused("out of range.*-5|axis: -5", FC % "num_output: 2 axis: -5", X)
refused("dropout_ratio 1, wanted", 'type: "Dropout" dropout_param { dropout_ratio: 1 }', X,
        only_here="divides by zero: every value becomes NaN")
EMBED = 'type: "Embed" loss_weight: 1 embed_param { %s }'
refused("num_output 0 and input_dim 5", EMBED % "input_dim: 5", Blob((3,), "labels:5"), gradients=())
refused("input_dim 0", EMBED % "num_output: 5", Blob((3,), "labels:5"), gradients=())
refused("out of range, such as 9, wanted 0 to 4", EMBED % "num_output: 2 input_dim: 5", Blob((3,), "constant:9"),
        gradients=(), only_here="reads behind the table")
refused("backpropagate to EmbedLayer", EMBED % "num_output: 2 input_dim: 5", Blob((3,), "labels:5"))

# recurrent
LSTM, RNN = ('type: "%s" recurrent_param { num_output: 2 %%s}' % kind for kind in ("LSTM", "RNN"))
XS, CONT = Blob((4, 3, 5)), Blob((4, 3), "labels:2")
refused("num_output must be positive", 'type: "LSTM"', XS, CONT)
refused("at least 3 axes.*got shape .4, 3.", RNN % "", Blob((4, 3)), CONT)
refused("exactly 2 axes.*got shape .4, 3, 1", LSTM % "", XS, Blob((4, 3, 1)))
refused("exactly 2 axes.*.4, 3. as bottom 0.*got shape .4, 2", LSTM % "", XS, Blob((4, 2)))
refused("static input must be.*3 streams.*got shape .2, 5", RNN % "", XS, CONT, Blob((2, 5)))
refused("static input must be.*got shape .3,", RNN % "", XS, CONT, Blob((3,)))
refused("got 1 bottom.*wanted 2 to 3", LSTM % "", XS)
refused("got 3 bottom.*wanted 4 to 5", LSTM % "expose_hidden: true ", XS, CONT, Blob((1, 3, 2)), tops=3)
refused("got 1 top.*wanted 2", RNN % "expose_hidden: true ", XS, CONT, Blob((1, 3, 2)))
refused(r"bottom\[3\] shape must match hidden.*got .1, 3, 4., wanted .1, 3, 2", LSTM % "expose_hidden: true ", XS, CONT,
        Blob((1, 3, 2)), Blob((1, 3, 4)), tops=3)
refused("number of timesteps changed.*got 5, wanted 4", LSTM % "", XS, CONT, then=((5, 3, 5), (5, 3)))
refused("incompatible with its weights.*4, 3, 6.*wanted 5", RNN % "", XS, CONT, then=((4, 3, 6), (4, 3)))
refused("4 static ones a stream", RNN % "", XS, CONT, Blob((3, 4)), then=((4, 3, 5), (4, 3), (3, 5)))
refused("Cannot backpropagate to sequence indicators.*bottom 1", LSTM % "" + " loss_weight: 1", XS, CONT, gradients=(1,))
refused("Cannot backpropagate to sequence indicators.*bottom 2", 'type: "LSTMUnit" loss_weight: 1 loss_weight: 1',
        Blob((1, 3, 2)), Blob((1, 3, 8)), Blob((1, 3)), tops=2, gradients=(2,))
refused("shapes .1, 3, 2., .1, 3, 6. and .1, 3., wanted", 'type: "LSTMUnit"', Blob((1, 3, 2)), Blob((1, 3, 6)),
        Blob((1, 3)), tops=2)

# normalization
refused("odd values for local_size, got 4", 'type: "LRN" lrn_param { local_size: 4 }', X)
refused("4 axes.*got shape .2, 3", 'type: "LRN"', Blob((2, 3)))
refused("lr_mult 2, wanted 0", 'type: "BatchNorm" param { lr_mult: 2 }', X)
refused("wanted 3 channels", 'type: "BatchNorm"', X, then=((2, 4, 5, 6),))
refused("wanted channels on axis 1", 'type: "BatchNorm"', Blob((9,)))
refused("at most 4 axes", 'type: "MVN"', Blob((1, 2, 3, 4, 5)))

# activation
refused("wanted 3 channels", 'type: "PReLU"', X, then=((2, 4, 5, 6),), only_here="reads or leaves out slopes")
refused(">= 2, got shape .4", 'type: "PReLU"', Blob((4,)))
refused("no gradient", 'type: "Threshold"', X)
refused("strictly positive", 'type: "Exp" exp_param { base: -2 }', X)
refused("base to|base 1", 'type: "Log" log_param { base: 1 }', X)
refused("in place", 'type: "Log"', X, in_place=True, only_here="gives the gradient at the result instead of the input")
refused("3 axes from axis 2", 'type: "Scale" scale_param { axis: 2 num_axes: 3 }', X)
refused("num_axes must be non-negative", 'type: "Scale" scale_param { num_axes: -2 }', X)
refused("dimension mismatch.*.4,.*.2, 3, 5, 6", 'type: "Scale"', X, Blob((4,)))
refused("dimension mismatch: bottom 1 has shape .3, 3., the bias .2, 3.",
        'type: "Scale" scale_param { axis: 0 bias_term: true }', X, Blob((2, 3)), then=((3, 3, 5, 6), (3, 3)))
refused("dimension mismatch", 'type: "Bias"', X, Blob((3, 5, 6, 7)))

# utility
refused("in-place", 'type: "Flatten"', X, in_place=True)
refused("axis 3 is behind end_axis 1", 'type: "Flatten" flatten_param { axis: 3 end_axis: 1 }', X)
RESHAPE = 'type: "Reshape" reshape_param { %s }'
refused("at most one -1", RESHAPE % "shape { dim: -1 dim: -1 }", X)
refused("shape .-2", RESHAPE % "shape { dim: -2 }", X)
refused("count .180.*divisible.*.7", RESHAPE % "shape { dim: 7 dim: -1 }", X)
refused("180 values|has 4 values", RESHAPE % "shape { dim: 4 }", X)
refused("no such axis to copy", RESHAPE % "shape { dim: 1 dim: 0 } axis: 3", X)
refused("num_axes 3 are out of range", RESHAPE % "shape { dim: 2 } axis: 2 num_axes: 3", X)
refused("except at axis 1: bottom 1 is .2, 3, 5, 5.", 'type: "Concat"', X, Blob((2, 3, 5, 5)))
refused("not both", 'type: "Concat" concat_param { axis: 1 concat_dim: 1 }', X, X)
refused("concat_dim: 4 is out of range", 'type: "Concat" concat_param { concat_dim: 4 }', X, X)
refused("5.* into 2 equal parts", 'type: "Slice" slice_param { axis: 2 }', X, tops=2)
SLICE = 'type: "Slice" slice_param { %s }'
refused("1 slice points for 3 tops, wanted 2", SLICE % "slice_point: 1", X, tops=3)
refused("must increase", SLICE % "slice_point: 2 slice_point: 1", X, tops=3)
refused("lie inside axis 1", SLICE % "slice_point: 3", X, tops=2)
ELTWISE = 'type: "Eltwise" eltwise_param { %s }'
refused("bottom 'x0' is .2, 3, 5, 6., bottom 'x1' is .2, 3, 5, 5", 'type: "Eltwise"', X, Blob((2, 3, 5, 5)))
refused("got 1 for 2", ELTWISE % "coeff: 1", X, X)
refused("for summation, got operation PROD", ELTWISE % "operation: PROD coeff: 1 coeff: 1", X, X)
refused("top_k 0, wanted 1", 'type: "ArgMax" argmax_param { top_k: 0 }', X)
refused("top_k 4, wanted 1 to 3", 'type: "ArgMax" argmax_param { axis: 1 top_k: 4 }', X)
refused("ArgMax has no gradient", 'type: "ArgMax"', X)
refused("must be positive, got 0", 'type: "Tile"', X)
refused("has 2 items, the selector 3|2 items", 'type: "Filter"', X, Blob((3,)))
refused("one number an item", 'type: "Filter"', X, Blob((2, 3)))
refused("filter index", 'type: "Filter"', X, Blob((2,), "list:0,1"))
refused("index outside 0 to 1", 'type: "BatchReindex" loss_weight: 1', X, Blob((2,), "list:0,2"), gradients=(0,))
refused("backprop to index", 'type: "BatchReindex"', X, Blob((2,), "list:0,1"))
refused("cannot find module 'no_such_module'.*PYTHONPATH",
        'type: "Python" python_param { module: "no_such_module" layer: "L" }', X)
refused("has no 'NoSuchLayer'.*caffe.Layer", 'type: "Python" python_param { module: "twice_layer" layer: "NoSuchLayer" }', X)

# loss
LABELS = Blob((2, 1, 5, 6), "labels:3")
for kind in ("SoftmaxWithLoss", "Accuracy"):
    refused("labels must match.*2, 1, 5, 5.*50 of them, wanted 60.*2, 3, 5, 6", 'type: "%s"' % kind, X, Blob((2, 1, 5, 5)),
            backward=False)
    refused("out of range, such as 3, 255, wanted 0 to 2; .*set ignore_label", 'type: "%s"' % kind, X,
            Blob((2, 1, 5, 6), "labels:4,255"), backward=False, only_here="reads what lies behind the scores")
    refused("out of range, such as -1, wanted 0 to 2", 'type: "%s"' % kind, X, Blob((2, 1, 5, 6), "constant:-1"),
            backward=False, only_here="reads what lies before the scores")
    refused("out of range, such as nan, wanted 0 to 2", 'type: "%s"' % kind, X, Blob((2, 1, 5, 6), "constant:nan"),
            backward=False, only_here="takes it for class 0, or reads beside the scores, as the compiler casts it")
refused("or ignore_label 255", 'type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }', X,
        Blob((2, 1, 5, 6), "constant:21"), backward=False, only_here="reads what lies behind the scores")
refused("first dimension", 'type: "EuclideanLoss"', Blob((4, 3)), Blob((2, 3)))
refused("Inputs must have the same dimension", 'type: "EuclideanLoss"', Blob((2, 3)), Blob((2, 4)))
refused("same count", 'type: "SigmoidCrossEntropyLoss"', Blob((2, 3)), Blob((2, 4)))
refused("wanted one an item", 'type: "HingeLoss"', Blob((2, 3)), Blob((2, 4)), only_here="uses the first ones")
refused("wanted one an item", 'type: "MultinomialLogisticLoss"', Blob((2, 3)), Blob((2, 4)))
refused("such as 7, wanted 0 to 2", 'type: "HingeLoss"', Blob((2, 3)), Blob((2,), "constant:7"), only_here="reads on")
refused("matrix source must be specified", 'type: "InfogainLoss"', X, LABELS)
refused("matrix of shape .2, 2., wanted 3 x 3", 'type: "InfogainLoss"', X, LABELS, Blob((2, 2)), gradients=(0,))
refused("normalize is deprecated", 'type: "InfogainLoss" loss_param { normalize: true }', X, LABELS, Blob((3, 3)),
        gradients=(0,))
refused("cannot backpropagate to label", 'type: "InfogainLoss"', X, LABELS, Blob((3, 3)))
refused("got shapes .2, 3., .2, 4. and .2", 'type: "ContrastiveLoss"', Blob((2, 3)), Blob((2, 4)), Blob((2,)))
refused("top_k 4 must be less", 'type: "Accuracy" accuracy_param { top_k: 4 }', X, LABELS, backward=False)
refused("Accuracy has no gradient", 'type: "Accuracy"', X, LABELS)
