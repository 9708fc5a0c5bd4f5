"""Small nets in the manner of the forks' published ones: how they use their layers, at a few channels and pixels.

Text only, for test_extras_nets.py and goldens/make_extras.py; needs numpy only.
"""

from __future__ import annotations

import numpy as np

XAVIER = 'weight_filler { type: "xavier" }'


def layer(name: str, kind: str, bottoms: str, top: str = "", text: str = "") -> str:
    """A layer; bottoms and tops are names with spaces between, the top is the layer's name unless given."""
    return 'layer { name: "%s" type: "%s" %s %s %s }\n' % (
        name, kind, " ".join('bottom: "%s"' % b for b in bottoms.split()),
        " ".join('top: "%s"' % t for t in (top or name).split()), text)


def conv(name: str, bottom: str, outputs: int, kernel: int = 3, text: str = "") -> str:
    """A convolution that keeps the size, with both its rates as every published net gives them."""
    return layer(name, "Convolution", bottom, text="param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 } "
                 "convolution_param { num_output: %d kernel_size: %d pad: %d %s %s }" % (
                     outputs, kernel, kernel // 2, XAVIER, text))


def inputs(**shapes: tuple) -> str:
    """Input layers."""
    return "".join(layer(name, "Input", "", name, "input_param { shape { %s } }" % " ".join("dim: %d" % d for d in shape))
                   for name, shape in shapes.items())


def drawn(classes: int, data: tuple, label: tuple) -> str:
    """Training data that asks for nothing: noise, and one label everywhere."""
    dims = ["shape { %s }" % " ".join("dim: %d" % d for d in shape) for shape in (data, label)]
    return layer("data", "DummyData", "", "data label", "dummy_data_param { %s %s data_filler { type: 'gaussian' } "
                 "data_filler { value: %d } }" % (*dims, classes - 1))


# -- SegNet-Basic: two of its four encoders and decoders --------------------------------------------------------------------
def segnet(data: str, inference: bool = False, end: str = "") -> str:
    """Encoders conv, BN, ReLU, pooling with its mask; decoders Upsample by that mask, conv, BN."""
    mode = "bn_mode: INFERENCE " if inference else ""

    def bn(name: str) -> str:
        return layer(name + "_bn", "BN", name, name, "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 1 decay_mult: 0 } "
                     "bn_param { %sscale_filler { type: 'constant' value: 1 } "
                     "shift_filler { type: 'constant' value: 0.001 } }" % mode)

    pool = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
    return ('name: "segnet"\n' + data
            + conv("conv1", "data", 4) + bn("conv1") + layer("relu1", "ReLU", "conv1", "conv1")
            + layer("pool1", "Pooling", "conv1", "pool1 pool1_mask", pool)
            + conv("conv2", "pool1", 6) + bn("conv2") + layer("relu2", "ReLU", "conv2", "conv2")
            + layer("pool2", "Pooling", "conv2", "pool2 pool2_mask", pool)
            # 7 x 9 -> 4 x 5 (rounded up) -> 2 x 3: the way back needs sizes, or pad_out
            + layer("upsample2", "Upsample", "pool2 pool2_mask", "", "upsample_param { upsample_h: 4 upsample_w: 5 }")
            + conv("conv_decode2", "upsample2", 4) + bn("conv_decode2")
            + layer("upsample1", "Upsample", "conv_decode2 pool1_mask", "",
                    "upsample_param { scale: 2 pad_out_h: true pad_out_w: true }")
            + conv("conv_decode1", "upsample1", 4) + bn("conv_decode1") + conv("score", "conv_decode1", 3, 1) + end)


SEGNET_SHAPES = {"data": (2, 3, 7, 9), "label": (2, 1, 7, 9)}
LOSS = layer("loss", "SoftmaxWithLoss", "score label", "loss", "loss_param { normalize: true }")


# -- PSPNet: a residual end, its pyramid of means, and the way up ---------------------------------------------------------
def pspnet(data: str, frozen: bool = False, end: str = "") -> str:
    """BN in place after each convolution; means over 4 x 4 and 2 x 2 bins, resized by Interp and put beside the map."""

    def bn(name: str) -> str:
        rates = "param { lr_mult: 1 decay_mult: 0 } " * 2 + "param { lr_mult: 0 decay_mult: 0 } " * 2
        return layer(name + "/bn", "BN", name, name, rates + "bn_param { slope_filler { value: 1 } bias_filler { value: 0 } "
                     "%smomentum: 0.95 }" % ("frozen: true " if frozen else ""))

    text = ('name: "pspnet"\n' + data + conv("conv5_3", "data", 6, 3, "bias_term: true stride: 2") + bn("conv5_3")
            + layer("conv5_3/relu", "ReLU", "conv5_3", "conv5_3"))
    for bins, kernel in ((1, 8), (2, 4)):
        name = "conv5_3_pool%d" % bins
        text += (layer(name, "Pooling", "conv5_3", "", "pooling_param { pool: AVE kernel_size: %d stride: %d }" % (
            kernel, kernel)) + conv(name + "_conv", name, 2, 1) + bn(name + "_conv")
            + layer(name + "_interp", "Interp", name + "_conv", "",
                    "interp_param { height: 8 width: 8 pad_beg: 0 pad_end: 0 }"))
    return (text + layer("conv5_3_concat", "Concat", "conv5_3 conv5_3_pool1_interp conv5_3_pool2_interp")
            + conv("conv6", "conv5_3_concat", 3, 1)
            + layer("score", "Interp", "conv6", "", "interp_param { zoom_factor: 2 pad_beg: 0 pad_end: 0 }") + end)


PSPNET_SHAPES = {"data": (2, 3, 16, 16), "label": (2, 1, 15, 15)}


# -- SSD: two feature maps of a deploy net --------------------------------------------------------------------------------
SSD_CLASSES = 4
SSD_MAPS = {"conv4_3": ("conv4_3_norm", 4, 'min_size: 12 max_size: 24 aspect_ratio: 2 flip: true', 8),
            "fc7": ("fc7", 6, 'min_size: 24 max_size: 36 aspect_ratio: 2 aspect_ratio: 3 flip: true', 16)}


def ssd() -> str:
    """conv4_3 normalized, heads permuted and flattened, priors of each map, and the boxes that are left."""
    text = ('name: "ssd"\ninput: "data"\ninput_shape { dim: 2 dim: 3 dim: 32 dim: 40 }\n'
            + conv("conv4_3", "data", 6, 3, "stride: 8") + layer("relu4_3", "ReLU", "conv4_3", "conv4_3")
            + conv("fc7", "conv4_3", 8, 3, "stride: 2") + layer("relu7", "ReLU", "fc7", "fc7")
            + layer("conv4_3_norm", "Normalize", "conv4_3", "", "norm_param { across_spatial: false "
                    "scale_filler { type: 'constant' value: 20 } channel_shared: false }"))
    for source, boxes, sizes, step in SSD_MAPS.values():
        for what, outputs in (("loc", boxes * 4), ("conf", boxes * SSD_CLASSES)):
            name = "%s_mbox_%s" % (source, what)
            text += (conv(name, source, outputs) + layer(name + "_perm", "Permute", name, "",
                     "permute_param { order: 0 order: 2 order: 3 order: 1 }")
                     + layer(name + "_flat", "Flatten", name + "_perm", "", "flatten_param { axis: 1 }"))
        text += layer(source + "_mbox_priorbox", "PriorBox", source + " data", "", "prior_box_param { %s clip: false "
                      "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: %d offset: 0.5 }" % (sizes, step))
    for what, axis in (("loc", 1), ("conf", 1), ("priorbox", 2)):
        text += layer("mbox_" + what, "Concat", " ".join("%s_mbox_%s%s" % (
            source, what, "" if what == "priorbox" else "_flat") for source, _, _, _ in SSD_MAPS.values()), "",
            "concat_param { axis: %d }" % axis)
    return (text + layer("mbox_conf_reshape", "Reshape", "mbox_conf", "",
                         "reshape_param { shape { dim: 0 dim: -1 dim: %d } }" % SSD_CLASSES)
            + layer("mbox_conf_softmax", "Softmax", "mbox_conf_reshape", "", "softmax_param { axis: 2 }")
            + layer("mbox_conf_flatten", "Flatten", "mbox_conf_softmax", "", "flatten_param { axis: 1 }")
            + layer("detection_out", "DetectionOutput", "mbox_loc mbox_conf_flatten mbox_priorbox", "", (
                "include { phase: TEST } detection_output_param { num_classes: %d share_location: true "
                "background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 100 } save_output_param { "
                "label_map_file: 'data/VOC0712/labelmap_voc.prototxt' } code_type: CENTER_SIZE keep_top_k: 20 "
                "confidence_threshold: 0.3 }" % SSD_CLASSES)))


def ssd_params() -> dict:
    """layer name -> shapes of its parameters."""
    shapes = {"conv4_3": [(6, 3, 3, 3), (6,)], "fc7": [(8, 6, 3, 3), (8,)], "conv4_3_norm": [(6,)]}
    for (source, boxes, _, _), channels in zip(SSD_MAPS.values(), (6, 8)):
        for what, each in (("loc", 4), ("conf", SSD_CLASSES)):
            shapes["%s_mbox_%s" % (source, what)] = [(boxes * each, channels, 3, 3), (boxes * each,)]
    return shapes


def ssd_arrays() -> tuple:
    """The input, and layer name -> arrays: weights of a size that scores and boxes differ, from one seed."""
    random = np.random.RandomState(0)
    data = random.randn(2, 3, 32, 40).astype(np.float32)
    params = {name: [(random.randn(*shape) / max(1, np.prod(shape[1:])) ** 0.5).astype(np.float32) for shape in shapes]
              for name, shapes in ssd_params().items()}
    params["conv4_3_norm"] = [np.full(6, 2, np.float32) + random.rand(6).astype(np.float32)]
    return data, params


# -- SENet, ShuffleNet, MobileNet -----------------------------------------------------------------------------------------
def blocks(data: str, end: str = "") -> str:
    """A squeeze and excitation block, then a shuffle unit, then ReLU6."""
    return ('name: "blocks"\n' + data + conv("conv1", "data", 8)
            + layer("bn1", "BatchNorm", "conv1", "conv1") + layer("scale1", "Scale", "conv1", "conv1",
                                                                  "scale_param { bias_term: true }")
            + conv("conv2", "conv1", 8)
            + layer("global_pool", "Pooling", "conv2", "", "pooling_param { pool: AVE engine: CAFFE global_pooling: true }")
            + conv("1x1_down", "global_pool", 2, 1) + layer("down/relu", "ReLU", "1x1_down", "1x1_down")
            + conv("1x1_up", "1x1_down", 8, 1) + layer("prob", "Sigmoid", "1x1_up", "1x1_up")
            + layer("axpy", "Axpy", "1x1_up conv2 conv1")
            + conv("branch1", "axpy", 8, 1, "group: 2") + layer("shuffle", "ShuffleChannel", "branch1", "",
                                                                "shuffle_channel_param { group: 2 }")
            + layer("dw", "ConvolutionDepthwise", "shuffle", "", "convolution_param { num_output: 8 kernel_size: 3 pad: 1 "
                    "bias_term: false %s }" % XAVIER)
            + layer("dw2", "DepthwiseConvolution", "dw", "", "convolution_param { num_output: 8 kernel_size: 3 pad: 1 "
                    "group: 8 engine: CAFFE %s }" % XAVIER)
            + layer("relu6", "ReLU6", "dw2", "dw2") + layer("resx", "Eltwise", "axpy dw2")
            + conv("score", "resx", 3, 1) + end)


BLOCKS_SHAPES = {"data": (2, 3, 6, 7), "label": (2, 1, 6, 7)}


# -- Fast R-CNN and R-FCN --------------------------------------------------------------------------------------------------
def rcnn() -> str:
    """One map, regions pooled both ways, class scores and boxes, both losses as they are trained."""
    return ('name: "rcnn"\n' + inputs(data=(2, 3, 24, 32), rois=(5, 5), labels=(5,), bbox_targets=(5, 12),
                                      bbox_inside_weights=(5, 12), bbox_outside_weights=(5, 12))
            + conv("conv5", "data", 8, 3, "stride: 4") + layer("relu5", "ReLU", "conv5", "conv5")
            + layer("roi_pool5", "ROIPooling", "conv5 rois", "", "roi_pooling_param { pooled_w: 3 pooled_h: 3 "
                    "spatial_scale: 0.25 }")
            + layer("bbox_pred", "InnerProduct", "roi_pool5", "", "inner_product_param { num_output: 12 %s }" % XAVIER)
            + conv("rfcn_cls", "conv5", 3 * 9, 1)
            + layer("psroipooled_cls_rois", "PSROIPooling", "rfcn_cls rois", "", "psroi_pooling_param { spatial_scale: 0.25 "
                    "output_dim: 3 group_size: 3 }")
            + layer("ave_cls_score_rois", "Pooling", "psroipooled_cls_rois", "", "pooling_param { pool: AVE kernel_size: 3 "
                    "stride: 3 }")
            + layer("loss_cls", "SoftmaxWithLoss", "ave_cls_score_rois labels", "", "loss_weight: 1 propagate_down: true "
                    "propagate_down: false")
            + layer("loss_bbox", "SmoothL1Loss", "bbox_pred bbox_targets bbox_inside_weights bbox_outside_weights", "",
                    "loss_weight: 1 propagate_down: true propagate_down: false propagate_down: false propagate_down: false"))
