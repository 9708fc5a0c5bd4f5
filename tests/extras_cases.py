"""The cases of the forks' layers (torchcaffe/extras): like cases.py, but no real Caffe knows these types.

What they are held to instead is said in test_extras.py. `opencv` marks those whose answer OpenCV's reader of Caffe nets gave
too (goldens/extras_opencv.npz), which has inference only, and not everything; it makes no use of the rest.
"""

from __future__ import annotations

from layer_case import Blob, CaseList

X = Blob((2, 4, 4, 5))
APART, AWAY = (Blob((2, 4, 4, 5), kind) for kind in ("apart", "away"))
CASES, OPENCV = CaseList(), set()


def case(name: str, layer: str, *bottoms: Blob, opencv: bool = False, **how) -> None:
    """Add a case; `opencv` if OpenCV's answer is in the goldens."""
    CASES.add(name, layer, *bottoms, **how)
    if opencv:
        OPENCV.add(name)


def listed(rows: list) -> str:
    """Rows of numbers as a kind of values."""
    return "list:" + ",".join(repr(float(v)) for row in rows for v in row)


# -- SegNet, DeepLab, PSPNet -------------------------------------------------------------------------------------------
INTERP = 'type: "Interp" interp_param { %s }'
case("Interp zoom", INTERP % "zoom_factor: 2", X, opencv=True)
case("Interp zoom 1", INTERP % "zoom_factor: 1", X, opencv=True)
case("Interp shrink", INTERP % "shrink_factor: 2", X)
case("Interp shrink and zoom", INTERP % "shrink_factor: 2 zoom_factor: 3", Blob((1, 2, 6, 7)))
case("Interp size", INTERP % "height: 7 width: 3", X, opencv=True)
case("Interp one row", INTERP % "height: 1 width: 4", X, opencv=True)
case("Interp from one cell", INTERP % "height: 3 width: 4", Blob((2, 3, 1, 1)), opencv=True)
case("Interp cropped", INTERP % "zoom_factor: 2 pad_beg: -1 pad_end: -2", Blob((1, 2, 7, 6)))
case("Interp size after crop", INTERP % "height: 5 width: 9 pad_beg: -1", X)
case("Interp grows", INTERP % "zoom_factor: 2", X, then=((1, 4, 5, 3),))

UPSAMPLE = 'type: "Upsample" upsample_param { %s }'
MASK = Blob((1, 2, 2, 3), listed([(0, 3, 4, 7, 13, 15), (6, 1, 10, 12, 18, 21)]))
FEATURES = Blob((1, 2, 2, 3))
case("Upsample", UPSAMPLE % "scale: 2", FEATURES, MASK)
case("Upsample default scale", 'type: "Upsample"', FEATURES, MASK)
case("Upsample scale each", UPSAMPLE % "scale_h: 2 scale_w: 3", FEATURES, MASK)
case("Upsample padded out", UPSAMPLE % "scale: 2 pad_out_h: true pad_out_w: true", FEATURES,
     Blob((1, 2, 2, 3), listed([(0, 2, 4, 7, 13, 14), (6, 1, 9, 12, 11, 10)])))
case("Upsample size", UPSAMPLE % "upsample_h: 5 upsample_w: 7", FEATURES, MASK)
case("Upsample twice to one place", UPSAMPLE % "scale: 2", FEATURES,
     Blob((1, 2, 2, 3), listed([(5, 5, 4, 5, 13, 4), (0, 0, 0, 0, 0, 1)])), backward=False)

BN = 'type: "BN" bn_param { %s }'
SEGNET = 'scale_filler { type: "constant" value: 1 } shift_filler { type: "constant" value: 0.001 }'
PSPNET = 'slope_filler { type: "constant" value: 1 } bias_filler { type: "constant" value: 0 } '
RUNNING = ("normal", "normal", "normal", "positive")
case("BN SegNet", BN % SEGNET, X)
case("BN SegNet in TEST", BN % SEGNET, X, phase="TEST")
case("BN SegNet INFERENCE", BN % (SEGNET + " bn_mode: INFERENCE"), X, phase="TEST")
case("BN SegNet fillers", BN % SEGNET, X, params=("filler",))
case("BN SegNet in place", BN % SEGNET, X, in_place=True, after=('type: "ReLU"',))
case("BN SegNet INFERENCE in place", BN % ("bn_mode: INFERENCE " + SEGNET), X, in_place=True)
case("BN PSPNet TRAIN", BN % (PSPNET + "momentum: 0.95"), X, params=RUNNING)
case("BN PSPNet eps", BN % (PSPNET + "eps: 0.1 engine: CUDNN"), X, params=RUNNING)
case("BN PSPNet TEST", BN % (PSPNET + "momentum: 0.95"), X, phase="TEST", params=RUNNING)
case("BN PSPNet frozen", BN % (PSPNET + "frozen: true momentum: 0.95"), X, params=RUNNING)
case("BN PSPNet in place", BN % PSPNET, X, params=RUNNING, in_place=True, after=('type: "ReLU"',))
case("BN without bn_param", 'type: "BN"', Blob((3, 2)), params=RUNNING)

# -- SSD ---------------------------------------------------------------------------------------------------------------
PERMUTE = 'type: "Permute" permute_param { %s }'
case("Permute", PERMUTE % "order: 0 order: 2 order: 3 order: 1", X, opencv=True, exact=True)
case("Permute first axes only", PERMUTE % "order: 2 order: 1", X, exact=True)
case("Permute to the same", PERMUTE % "order: 0 order: 1", X, exact=True, opencv=True)
case("Permute past a 1", PERMUTE % "order: 1 order: 0 order: 2", Blob((1, 3, 4)), exact=True)
case("Permute five axes", PERMUTE % "order: 4 order: 0 order: 3 order: 1 order: 2", Blob((2, 1, 3, 2, 2)), exact=True,
     opencv=True)

NORMALIZE = 'type: "Normalize" norm_param { %s }'
case("Normalize", NORMALIZE % "", X, opencv=True)
case("Normalize a place", NORMALIZE % "across_spatial: false", X, opencv=True)
case("Normalize SSD", NORMALIZE % 'across_spatial: false channel_shared: false scale_filler { type: "constant" value: 20 }',
     X, opencv=True)
case("Normalize SSD filler", NORMALIZE % 'channel_shared: false scale_filler { type: "constant" value: 20 }', X,
     params=("filler",))
case("Normalize eps", NORMALIZE % "across_spatial: false eps: 0.5", X, opencv=True)
case("Normalize zeros", NORMALIZE % "across_spatial: false", Blob((1, 2, 2, 2), "constant:0"), backward=False)
case("Normalize two axes", NORMALIZE % "channel_shared: false", Blob((3, 4)), opencv=True)

PRIORS = 'type: "PriorBox" prior_box_param { %s }'
MAP, IMAGE = Blob((2, 3, 2, 3)), Blob((2, 3, 40, 50))
VARIANCES = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 "
UNCUT = "clip: false " + VARIANCES  # the default; OpenCV has another
case("PriorBox", PRIORS % "min_size: 20", MAP, IMAGE)
case("PriorBox one variance", PRIORS % "min_size: 20 variance: 0.3 clip: false", MAP, IMAGE, opencv=True)
case("PriorBox SSD", PRIORS % ("min_size: 20 max_size: 35 aspect_ratio: 2 aspect_ratio: 3 flip: true offset: 0.5 step: 16 "
                               + UNCUT), MAP, IMAGE, opencv=True)
case("PriorBox clip", PRIORS % ("min_size: 30 max_size: 50 aspect_ratio: 2 clip: true " + VARIANCES), MAP, IMAGE,
     opencv=True)
case("PriorBox no flip", PRIORS % ("min_size: 20 aspect_ratio: 2 aspect_ratio: 0.5 flip: false " + UNCUT), MAP, IMAGE,
     opencv=True)
case("PriorBox ratios twice", PRIORS % (
    "min_size: 20 aspect_ratio: 2 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 0.5 " + VARIANCES), MAP, IMAGE)
case("PriorBox two sizes", PRIORS % (
    "min_size: 10 min_size: 20 max_size: 15 max_size: 25 aspect_ratio: 2 " + UNCUT), MAP, IMAGE, opencv=True)
case("PriorBox fractions cut", PRIORS % "min_size: 10.9 max_size: 20.6 aspect_ratio: 2", MAP, IMAGE)
case("PriorBox steps", PRIORS % ("min_size: 20 step_h: 18 step_w: 10 offset: 0.25 " + UNCUT), MAP, IMAGE, opencv=True)
case("PriorBox sizes given", PRIORS % ("min_size: 20 img_h: 60 img_w: 90 step_h: 20 step_w: 10 offset: 0.25 " + VARIANCES),
     MAP, IMAGE)
case("PriorBox image size", PRIORS % ("min_size: 20 img_size: 64 " + VARIANCES), MAP, IMAGE)

DETECT = 'type: "DetectionOutput" detection_output_param { num_classes: 3 %s }'
BOXES = [(0.1, 0.1, 0.4, 0.5), (0.12, 0.1, 0.42, 0.52), (0.5, 0.5, 0.9, 0.8), (0.45, 0.5, 0.9, 0.85), (0, 0, 1, 1),
         (0.6, 0.1, 0.9, 0.4)]
PRIOR_BOXES = Blob((1, 2, 24), listed([*BOXES, *[(0.1, 0.1, 0.2, 0.2)] * 6]))
OFFSETS, SCORES = Blob((2, 24)), Blob((2, 18), "apart")
SHARED = "share_location: true background_label_id: 0 "  # the defaults, but OpenCV wants to see them
ALL = "keep_top_k: 20 confidence_threshold: -9 "  # OpenCV crashes on keep_top_k -1, and its least score is 0
NMS = "nms_param { nms_threshold: 0.3 } "
SSD = "code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 4 } keep_top_k: 5 confidence_threshold: -1 "


def detect(name: str, text: str, offsets: Blob = OFFSETS, opencv: bool = True) -> None:
    """A case of DetectionOutput."""
    case("DetectionOutput " + name, DETECT % text, offsets, SCORES, PRIOR_BOXES, backward=False, opencv=opencv)


detect("SSD", SHARED + SSD + 'save_output_param { label_map_file: "labelmap.prototxt" }')
detect("defaults", "", opencv=False)
detect("corners", SHARED + NMS + ALL + "code_type: CORNER")
detect("corner offsets by size", "code_type: CORNER_SIZE", opencv=False)
detect("variance in target", "code_type: CENTER_SIZE variance_encoded_in_target: true", opencv=False)
detect("no background", "background_label_id: -1 code_type: CENTER_SIZE confidence_threshold: 0.5", opencv=False)
detect("background last", "share_location: true background_label_id: 2 code_type: CENTER_SIZE confidence_threshold: 0.2 "
       "keep_top_k: 20 " + NMS)
detect("adaptive threshold", "code_type: CENTER_SIZE nms_param { nms_threshold: 0.9 eta: 0.6 }", opencv=False)
detect("suppresses nothing", SHARED + ALL + "code_type: CENTER_SIZE nms_param { nms_threshold: 1 }")
detect("keeps one", SHARED + NMS + "code_type: CENTER_SIZE keep_top_k: 1 confidence_threshold: 0")
detect("nothing found", "confidence_threshold: 3", opencv=False)
detect("boxes for each class", "share_location: false background_label_id: 0 " + SSD, Blob((2, 72)))

# -- R-CNN, R-FCN ------------------------------------------------------------------------------------------------------
REGIONS = [(0, 0, 0, 8, 6), (1, 2, 1, 9, 7), (0, 5, 5, 5, 5), (1, -4, 3, 30, 30), (0, 2.4, 2.6, 7.5, 3.5)]
ROIS = Blob((5, 5), listed(REGIONS))
ROI = 'type: "ROIPooling" roi_pooling_param { %s }'
case("ROIPooling", ROI % "pooled_h: 2 pooled_w: 3 spatial_scale: 0.5", APART, ROIS, opencv=True)
case("ROIPooling default scale", ROI % "pooled_h: 3 pooled_w: 2", APART, Blob((3, 5, 1, 1), listed(
    [(0, 0, 0, 4, 3), (1, 1, 1, 2, 2), (0, 3, 2, 4, 3)])), opencv=True)
case("ROIPooling off the map", ROI % "pooled_h: 2 pooled_w: 2", APART,
     Blob((2, 5), listed([(0, 9, 9, 12, 12), (1, 3, 2, 6, 6)])), opencv=True)
case("ROIPooling more bins than cells", ROI % "pooled_h: 5 pooled_w: 6", APART, Blob((1, 5), listed([(1, 1, 1, 3, 2)])),
     opencv=True)
case("ROIPooling ties", ROI % "pooled_h: 2 pooled_w: 2 spatial_scale: 0.5", Blob((2, 4, 4, 5), "steps"), ROIS, opencv=True)

PSROI = 'type: "PSROIPooling" psroi_pooling_param { %s }'
case("PSROIPooling", PSROI % "spatial_scale: 0.5 output_dim: 1 group_size: 2", X, ROIS, opencv=True)
case("PSROIPooling three groups", PSROI % "spatial_scale: 0.25 output_dim: 2 group_size: 3", Blob((2, 18, 3, 3)), ROIS,
     opencv=True)
case("PSROIPooling one group", PSROI % "spatial_scale: 1 output_dim: 4 group_size: 1", X, Blob((2, 5, 1, 1), listed(
    [(1, 0, 0, 4, 3), (0, 20, 20, 30, 30)])), opencv=True)

SMOOTH = 'type: "SmoothL1Loss" smooth_l1_loss_param { %s } loss_weight: 1'
Y, INSIDE, OUTSIDE = Blob((3, 4)), Blob((3, 4), "uniform"), Blob((3, 4), "positive")
case("SmoothL1Loss", SMOOTH % "", Y, Y, gradients=(0, 1))
case("SmoothL1Loss sigma", SMOOTH % "sigma: 3", Y, Y, gradients=(0, 1))
case("SmoothL1Loss weights", SMOOTH % "sigma: 2", Y, Y, INSIDE, OUTSIDE, gradients=(0, 1))
case("SmoothL1Loss weighted", 'type: "SmoothL1Loss" loss_weight: 2.5', Blob((2, 3, 2, 2)), Blob((2, 3, 2, 2)),
     gradients=(0,))

# -- SENet, ShuffleNet, MobileNet --------------------------------------------------------------------------------------
case("Axpy", 'type: "Axpy"', Blob((2, 4, 1, 1)), X, X)
case("Axpy two axes", 'type: "Axpy"', Blob((2, 4)), X, X)
SHUFFLE = 'type: "ShuffleChannel" shuffle_channel_param { %s }'
case("ShuffleChannel", SHUFFLE % "group: 2", Blob((2, 6, 2, 3)), opencv=True, exact=True)
case("ShuffleChannel three groups", SHUFFLE % "group: 3", Blob((2, 6, 2, 3)), opencv=True, exact=True)
case("ShuffleChannel one group", 'type: "ShuffleChannel"', X, exact=True, opencv=True)
DEPTHWISE = "convolution_param { num_output: 4 %s }"
case("DepthwiseConvolution", 'type: "DepthwiseConvolution" ' + DEPTHWISE % "kernel_size: 3 group: 4", X)
case("DepthwiseConvolution without group", 'type: "DepthwiseConvolution" '
     + DEPTHWISE % "kernel_size: 3 pad: 1 stride: 2 bias_term: false", X)
case("ConvolutionDepthwise", 'type: "ConvolutionDepthwise" ' + DEPTHWISE % "kernel_size: 3 pad: 1", X, opencv=True)
case("ConvolutionDepthwise each side", 'type: "ConvolutionDepthwise" '
     + DEPTHWISE % "kernel_h: 2 kernel_w: 3 stride: 2 dilation: 1", X, opencv=True)
case("ReLU6", 'type: "ReLU6"', Blob((2, 4, 4, 5), "wide"), opencv=True)
case("ReLU6 in place", 'type: "ReLU6"', Blob((2, 4, 4, 5), "wide"), in_place=True)
