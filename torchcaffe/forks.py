"""The layers that forks of Caffe added and old models need: which there are, whose, and whether they are switched on.

BVLC's Caffe does not know them, so neither does the engine, until one says `import torchcaffe.extras`, sets the
environment variable TORCHCAFFE_EXTRAS=1, or gives the command the flag -extras. The layers themselves are in
torchcaffe/extras; this module does without PyTorch, for scripts that only emit nets. docs/extras.md is about all of it.
"""

from __future__ import annotations

import os

from google.protobuf.descriptor import FieldDescriptor

from torchcaffe.proto import caffe_pb2

VARIABLE = "TORCHCAFFE_EXTRAS"
FIRST_FIELD = 20001  # of LayerParameter: from here on the fields are the forks'

_R_CNN, _SSD = "py-faster-rcnn (rbgirshick/caffe-fast-rcnn)", "SSD (weiliu89/caffe, branch ssd)"
FORKS: dict[str, str] = {  # layer type: the fork whose layer it is
    "Axpy": "SENet (hujie-frank/SENet)",
    "BN": "SegNet (alexgkendall/caffe-segnet) and PSPNet (hszhao/PSPNet)",
    "ConvolutionDepthwise": "BVLC/caffe pull request 5665",
    "DepthwiseConvolution": "MobileNet (yonghenglh6/DepthwiseConvolution)",
    "DetectionOutput": _SSD,
    "Interp": "DeepLab v2 (aquariusjay/deeplab-public-ver2) and PSPNet (hszhao/PSPNet)",
    "Normalize": _SSD,
    "PSROIPooling": "R-FCN (daijifeng001/caffe-rfcn)",
    "Permute": _SSD,
    "PriorBox": _SSD,
    "ROIPooling": _R_CNN,
    "ReLU6": "MobileNetv2-SSDLite (chuanqi305/ssd)",
    "ShuffleChannel": "ShuffleNet (farmingyard/ShuffleNet)",
    "SmoothL1Loss": _R_CNN,
    "Upsample": "SegNet (alexgkendall/caffe-segnet)",
}
MESSAGES = frozenset("""BNParameter DetectionOutputParameter InterpParameter LabelMap LabelMapItem
    NonMaximumSuppressionParameter NormalizeParameter PSROIPoolingParameter PermuteParameter PriorBoxParameter
    ROIPoolingParameter SaveOutputParameter ShuffleChannelParameter SmoothL1LossParameter UpsampleParameter""".split())

_enabled = False


def enable() -> None:
    """Switch the forks' layers on, for the rest of the process."""
    global _enabled
    _enabled = True


def enabled() -> bool:
    """Whether they are on."""
    return _enabled or os.environ.get(VARIABLE, "0") not in ("", "0")


def how(layer_type: str) -> str:
    """For an error about a type that is switched off: whose it is and how to have it."""
    return ("%s is not BVLC's but a layer of %s; it is among the extras, which are off. Switch them on with `import "
            "torchcaffe.extras`, %s=1 in the environment, or the flag -extras of the command"
            % (layer_type, FORKS[layer_type], VARIABLE))


def visible(field: FieldDescriptor) -> bool:
    """Whether a field of LayerParameter is BVLC's, or a fork's while these are on."""
    return field.number < FIRST_FIELD or enabled()


def refusal(layer_param: caffe_pb2.LayerParameter) -> str:
    """What is wrong with a layer that sets a fork's parameters while these are off; '' if nothing."""
    fields = [field.name for field, _ in layer_param.ListFields() if not visible(field)]
    if not fields:
        return ""
    if layer_param.type in FORKS:
        return how(layer_param.type)
    return "%s is a parameter of a fork of Caffe, not of %s layers" % (fields[0], layer_param.type)
