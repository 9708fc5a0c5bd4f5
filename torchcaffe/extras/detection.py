"""Layers of SSD: from feature maps to boxes.

A box is (xmin, ymin, xmax, ymax), as fractions of the image's width and height.
"""

from __future__ import annotations

import numpy as np
import torch

from torchcaffe import log
from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register_extra
from torchcaffe.layers.helpers import expand
from torchcaffe.proto import caffe_pb2

CODE = caffe_pb2.PriorBoxParameter


@register_extra
class Permute(Layer):
    """The axes in another order: permute_param's `order`, and after it in their order the axes it leaves out.

    Follows SSD (weiliu89/caffe, branch ssd), src/caffe/layers/permute_layer.cpp.
    """

    def shape(self, bottom: Shape) -> list[Shape]:
        order = list(self.layer_param.permute_param.order)
        self.check(len(set(order)) == len(order) and all(axis < len(bottom) for axis in order), lambda: (
            "got order %s, wanted axes of a bottom of shape %s, 0 to %d, each at most once" % (
                order, bottom, len(bottom) - 1)))
        self.order = order + [axis for axis in range(len(bottom)) if axis not in order]
        return [tuple(bottom[axis] for axis in self.order)]

    def function(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.order).clone(memory_format=torch.contiguous_format)


@register_extra
class Normalize(Layer):
    """x * scale / sqrt(sum of x^2 + eps), the sum over an item, or with `across_spatial: false` a place's channels.

    Param: scale, one (shape ()) or with `channel_shared: false` one a channel (C); without a filler 1.
    The gradient is calculus'. Follows SSD (weiliu89/caffe, branch ssd), src/caffe/layers/normalize_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.norm_param
        self.check(len(bottom[0].shape) >= 2, "got a bottom of shape %s, wanted channels on axis 1" % (bottom[0].shape,))
        filler = p.scale_filler if p.HasField("scale_filler") else caffe_pb2.FillerParameter(value=1)
        self.add_param(() if p.channel_shared else (bottom[0].shape[1],), filler)

    def shape(self, bottom: Shape) -> list[Shape]:
        self.check(self.blobs[0].shape in ((), bottom[1:2]), lambda: "got a bottom of shape %s, wanted %d channels" % (
            bottom, self.blobs[0].count))
        return [bottom]

    def function(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.norm_param
        axes = tuple(range(1, x.dim())) if p.across_spatial else (1,)
        return x / (x.square().sum(axes, keepdim=True) + p.eps).sqrt() * expand(scale, x.shape, 1)


@register_extra
class PriorBox(Layer):
    """Default boxes around each cell of bottom 0, for images of bottom 1's size: -> (1, 2, H * W * boxes * 4).

    Channel 0 holds the boxes, cell by cell, channel 1 their variances (one for all, or four; default 0.1). At a cell: for
    each min_size a square of it, one of sqrt(min_size * max_size) if there is a max_size, and one box of the same area
    for each aspect_ratio but 1, with `flip` (default) also the other way up. Sizes are pixels, and cut to whole ones.
    img_size (or img_h, img_w), step (or step_h, step_w: pixels between cells) and offset (0.5: the cell's middle) replace
    what follows from the bottoms' sizes; `clip` cuts boxes to the image. The bottoms' values are not read: no gradient.
    Follows SSD (weiliu89/caffe, branch ssd), src/caffe/layers/prior_box_layer.cpp.
    """

    bottoms = (2, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.prior_box_param
        least, most = [[int(s) for s in sizes] for sizes in (p.min_size, p.max_size)]
        self.check(least and min(least) > 0, "got min_size %s, wanted one or more, 1 pixel at least" % list(p.min_size))
        self.check(len(most) in (0, len(least)), "got %d max_size, wanted none or one for each of %d min_size" % (
            len(most), len(least)))
        self.check(all(a < b for a, b in zip(p.min_size, p.max_size)), "got max_size %s, wanted each to be greater than its "
                   "min_size %s" % (list(p.max_size), list(p.min_size)))
        self.check(all(r > 0 for r in p.aspect_ratio), "got aspect_ratio %s, wanted all positive" % list(p.aspect_ratio))
        self.check(len(p.variance) in (0, 1, 4) and all(v > 0 for v in p.variance), "got variance %s, wanted one or four, "
                   "positive" % list(p.variance))
        ratios = [1.0]
        for ratio in p.aspect_ratio:
            if all(abs(ratio - r) >= 1e-6 for r in ratios):
                ratios += [ratio, 1 / ratio] if p.flip else [ratio]
        self.sizes: list[tuple[float, float]] = []  # width and height of each box of a cell
        for i, size in enumerate(least):
            self.sizes.append((size, size))
            if most:
                self.sizes.append(((size * most[i]) ** 0.5,) * 2)
            self.sizes += [(size * r**0.5, size / r**0.5) for r in ratios[1:]]
        self.image = self.sides("img_size", "img_h", "img_w")
        self.step = self.sides("step", "step_h", "step_w")

    def sides(self, both: str, high: str, wide: str) -> tuple[float, float] | None:
        """(high, wide) of a parameter given as one number or as two; None where it is not given."""
        p = self.layer_param.prior_box_param
        one, two = p.HasField(both), p.HasField(high) or p.HasField(wide)
        self.check(not (one and two), "Either %s or %s/%s should be specified; not both" % (both, high, wide))
        found = (getattr(p, high), getattr(p, wide)) if two else (getattr(p, both),) * 2 if one else None
        self.check(found is None or min(found) > 0, lambda: "got %s %g, %s %g, wanted both positive" % (
            high, found[0], wide, found[1]))
        return found

    def shape(self, features: Shape, image: Shape) -> list[Shape]:
        self.check(len(features) == 4 and (len(image) == 4 or self.image is not None), lambda: (
            "got bottoms of shapes %s and %s, wanted both (num, channels, height, width)" % (features, image)))
        return [(1, 2, features[2] * features[3] * len(self.sizes) * 4)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.prior_box_param
        cells = bottom[0].shape[2:]
        image = self.image or bottom[1].shape[2:]
        step = self.step or tuple(n / c for n, c in zip(image, cells))
        centres = np.zeros(cells + (1, 2))
        centres[..., 0] = ((np.arange(cells[1]) + p.offset) * step[1])[None, :, None]
        centres[..., 1] = ((np.arange(cells[0]) + p.offset) * step[0])[:, None, None]
        half = np.array(self.sizes) / 2
        boxes = np.concatenate([centres - half, centres + half], 3) / np.array([image[1], image[0]] * 2)
        variances = np.empty_like(boxes)
        variances[...] = p.variance or [0.1]
        result = np.stack([(boxes.clip(0, 1) if p.clip else boxes).ravel(), variances.ravel()])
        top[0].value = torch.from_numpy(result)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.grad = torch.zeros_like(blob.value)


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with each row of boxes (B, 4); float32."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], np.float32(0))
    areas = [np.where((b[:, 2:] >= b[:, :2]).all(1), (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]), np.float32(0))
             for b in (box[None], boxes)]
    return np.divide(shared, areas[0] + areas[1] - shared, out=np.zeros_like(shared), where=shared > 0)


def suppress(boxes: np.ndarray, threshold: float, eta: float) -> list[int]:
    """Non-maximum suppression of boxes (B, 4) with the best first: those that overlap no kept one by more than threshold.

    Each box kept makes the threshold eta times itself, as long as it is above 0.5.
    """
    kept, worst = [], np.zeros(len(boxes), np.float32)  # each box's greatest overlap with one kept
    threshold = np.float32(threshold)
    for i in range(len(boxes)):
        if worst[i] <= threshold:
            kept.append(i)
            worst[i + 1 :] = np.maximum(worst[i + 1 :], overlaps(boxes[i], boxes[i + 1 :]))
            if eta < 1 and threshold > 0.5:
                threshold *= np.float32(eta)
    return kept


@register_extra
class DetectionOutput(Layer):
    """Boxes that are left of the predictions: (1, 1, detections, 7), a row (image, label, score, box).

    Bottoms: offsets (N, priors * 4, or * classes * 4 with `share_location: false`), scores (N, priors * num_classes), and
    PriorBox's (1, 2, priors * 4). Offsets are decoded by code_type, times the variances unless
    variance_encoded_in_target. Of each class but background_label_id the scores above confidence_threshold, at most
    nms_param's top_k best of them, go through suppress with its nms_threshold and eta; an image's best keep_top_k of all
    classes stay. Rows are by image, label, score. No detection at all gives a row (image, -1, ..., -1) for each image.
    Of equal scores the first prior's counts as the better. Inference only. Deviations: output_directory, save_file and
    visualize, which write files and open windows, are errors; label_map_file, which is for these alone, is not read.
    Follows SSD (weiliu89/caffe, branch ssd), src/caffe/layers/detection_output_layer.cpp.
    """

    bottoms = (3, 3)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.detection_output_param
        nms = p.nms_param
        self.check(p.num_classes > 0, "got no num_classes, wanted how many classes there are")
        self.check(nms.nms_threshold >= 0, "got nms_threshold %g, wanted 0 or more" % nms.nms_threshold)
        self.check(0 < nms.eta <= 1, "got eta %g, wanted more than 0 and 1 at most" % nms.eta)
        for name, asked in (("save_output_param { output_directory }", p.save_output_param.output_directory),
                            ("save_file", p.save_file), ("visualize", p.visualize)):
            self.check(not asked, "%s is not supported; take it out, and save or draw what the top holds" % name)
        self.locations = 1 if p.share_location else p.num_classes

    def shape(self, offsets: Shape, scores: Shape, priors: Shape) -> list[Shape]:
        p = self.layer_param.detection_output_param
        self.check(len(priors) >= 3 and priors[:2] == (1, 2) and priors[2] >= 4, lambda: (
            "got priors of shape %s, wanted PriorBox's (1, 2, priors * 4)" % (priors,)))
        count = priors[2] // 4
        self.check(np.prod(offsets[1:]) == count * self.locations * 4, lambda: (
            "Number of priors must match number of location predictions: %d priors need (N, %d), got %s" % (
                count, count * self.locations * 4, offsets)))
        self.check(np.prod(scores[1:]) == count * p.num_classes, lambda: (
            "Number of priors must match number of confidence predictions: %d priors need (N, %d), got %s" % (
                count, count * p.num_classes, scores)))
        self.check(offsets[0] == scores[0], lambda: "got offsets of %d images and scores of %d" % (offsets[0], scores[0]))
        return [(1, 1, 1, 7)]

    def decode(self, offsets: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray:
        """Boxes (N, P, locations, 4) from offsets of that shape; priors and variances (P, 1, 4)."""
        p = self.layer_param.detection_output_param
        if not p.variance_encoded_in_target:
            offsets = offsets * variances
        low, high = priors[..., :2], priors[..., 2:]
        size = high - low
        if p.code_type == CODE.CORNER:
            return priors + offsets
        self.check((size > 0).all(), "got a prior box without width or height")
        if p.code_type == CODE.CORNER_SIZE:
            return priors + offsets * np.concatenate([size, size], -1)
        centre = (low + high) / 2 + offsets[..., :2] * size
        half = np.exp(offsets[..., 2:]) * size / 2
        return np.concatenate([centre - half, centre + half], -1)

    def detect(self, boxes: np.ndarray, scores: np.ndarray) -> list[list[float]]:
        """The rows of one image after its number, from boxes (P, locations, 4) and scores (P, classes)."""
        p = self.layer_param.detection_output_param
        least = p.confidence_threshold if p.HasField("confidence_threshold") else -np.inf
        found: list[tuple[int, int]] = []  # label and prior
        for label in range(p.num_classes):
            if label == p.background_label_id:
                continue
            candidates = np.flatnonzero(scores[:, label] > np.float32(least))
            candidates = candidates[np.argsort(-scores[candidates, label], kind="stable")]
            if p.nms_param.HasField("top_k") and p.nms_param.top_k > -1:
                candidates = candidates[: p.nms_param.top_k]
            here = boxes[candidates, 0 if p.share_location else label]
            found += [(label, candidates[i]) for i in suppress(here, p.nms_param.nms_threshold, p.nms_param.eta)]
        if -1 < p.keep_top_k < len(found):
            best = sorted(found, key=lambda f: -scores[f[1], f[0]])[: p.keep_top_k]
            found = sorted(best, key=lambda f: f[0])
        return [[label, scores[i, label], *boxes[i, 0 if p.share_location else label]] for label, i in found]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        offsets, scores, priors = (b.value.cpu().numpy() for b in bottom)
        priors, variances = priors.reshape(2, -1, 1, 4)
        scores = scores.reshape(len(scores), len(priors), -1)
        with np.errstate(over="ignore", invalid="ignore"):  # boxes of no size or endless ones overlap nothing, as in C
            boxes = self.decode(offsets.reshape(len(offsets), len(priors), self.locations, 4), priors, variances)
            rows = [[i, *row] for i in range(len(boxes)) for row in self.detect(boxes[i], scores[i])]
        if not rows:
            log.info("Couldn't find any detections")
            rows = [[i] + [-1] * 6 for i in range(len(boxes))]
        top[0].reshape(1, 1, len(rows), 7)
        top[0].value = torch.tensor(rows, dtype=torch.float32)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not any(propagate_down), "it is for inference and has no gradient; set propagate_down: false")

    def allow_force_backward(self, index: int) -> bool:
        return False
