"""What the forks' layers compute, written out once more: in plain loops, in float64, without PyTorch.

`reference(layer_param, bottoms, params, phase)` gives the tops of one forward pass. test_extras.py holds the engine's
results to it, and its gradients to differences of it. Written from the papers and the forks' descriptions, one function a
layer type; slow, for small arrays.
"""

from __future__ import annotations

from math import ceil, exp, floor, sqrt

import numpy as np

TRAIN = 0


def interp(p, x, phase):
    """Each output cell looks up the place it stands for between the four nearest input cells."""
    p = p.interp_param
    x = x[:, :, -p.pad_beg : x.shape[2] + p.pad_end, -p.pad_beg : x.shape[3] + p.pad_end]
    height, width = x.shape[2:]
    if p.HasField("height"):
        out = (p.height, p.width)
    else:
        shrunk = [(n - 1) // p.shrink_factor + 1 for n in (height, width)]
        out = [n + (n - 1) * (p.zoom_factor - 1) for n in shrunk]
    y = np.zeros(x.shape[:2] + tuple(out))
    for i in range(out[0]):
        for j in range(out[1]):
            h = i * (height - 1) / (out[0] - 1) if out[0] > 1 else 0
            w = j * (width - 1) / (out[1] - 1) if out[1] > 1 else 0
            for a, share_a in ((floor(h), 1 - h % 1), (min(floor(h) + 1, height - 1), h % 1)):
                for b, share_b in ((floor(w), 1 - w % 1), (min(floor(w) + 1, width - 1), w % 1)):
                    y[:, :, i, j] += share_a * share_b * x[:, :, a, b]
    return [y]


def upsample(p, x, mask, phase):
    """Every value to its place."""
    p = p.upsample_param
    n, c, h, w = x.shape
    scale_h, scale_w = (p.scale_h, p.scale_w) if p.HasField("scale_h") else (p.scale, p.scale)
    size = (p.upsample_h, p.upsample_w) if p.upsample_h else (h * scale_h - p.pad_out_h, w * scale_w - p.pad_out_w)
    y = np.zeros((n, c, size[0] * size[1]))
    for i, j, a, b in np.ndindex(x.shape):
        y[i, j, int(mask[i, j, a, b])] = x[i, j, a, b]
    return [y.reshape((n, c) + tuple(size))]


def bn(p, x, *rest):
    """A channel at a time."""
    *params, phase = rest
    p = p.bn_param
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        mean, variance, eps = values.mean(), values.var(), 1e-9
        if len(params) == 4:
            eps = p.eps
            if p.frozen or phase != TRAIN:
                mean, variance = params[2].flat[c], params[3].flat[c]
        elif p.bn_mode == p.INFERENCE:
            mean, variance, eps = 0, 1, 0
        y[:, c] = (values - mean) / sqrt(variance + eps) * params[0].flat[c] + params[1].flat[c]
    return [y]


def permute(p, x, phase):
    """Every value to its place."""
    order = list(p.permute_param.order)
    order += [axis for axis in range(x.ndim) if axis not in order]
    y = np.empty([x.shape[axis] for axis in order])
    for index in np.ndindex(y.shape):
        source = [0] * x.ndim
        for axis, i in zip(order, index):
            source[axis] = i
        y[index] = x[tuple(source)]
    return [y]


def normalize(p, x, scale, phase):
    """An item, or one place of it, at a time."""
    p = p.norm_param
    y = np.empty_like(x)
    for n in range(len(x)):
        if p.across_spatial:
            y[n] = x[n] / sqrt((x[n] ** 2).sum() + p.eps)
        else:
            for place in np.ndindex(x.shape[2:]):
                column = x[(n, slice(None), *place)]
                y[(n, slice(None), *place)] = column / sqrt((column**2).sum() + p.eps)
        for c in range(x.shape[1]):
            y[n, c] *= scale if p.channel_shared else scale[c]
    return [y]


def prior_box(p, features, image, phase):
    """Cell by cell, size by size."""
    p = p.prior_box_param
    height, width = features.shape[2:]
    image_h, image_w = image.shape[2:]
    if p.HasField("img_size"):
        image_h = image_w = p.img_size
    elif p.HasField("img_h"):
        image_h, image_w = p.img_h, p.img_w
    step_h, step_w = image_h / height, image_w / width
    if p.HasField("step"):
        step_h = step_w = p.step
    elif p.HasField("step_h"):
        step_h, step_w = p.step_h, p.step_w
    ratios = []
    for ratio in p.aspect_ratio:
        for r in (ratio, 1 / ratio) if p.flip else (ratio,):
            if abs(r - 1) > 1e-6 and not any(abs(r - other) < 1e-6 for other in ratios):
                ratios.append(r)
    boxes = []
    for h in range(height):
        for w in range(width):
            for s, size in enumerate(p.min_size):
                shapes = [(int(size), int(size))]
                if p.max_size:
                    shapes.append((sqrt(int(size) * int(p.max_size[s])),) * 2)
                shapes += [(int(size) * sqrt(r), int(size) / sqrt(r)) for r in ratios]
                for box_w, box_h in shapes:
                    x, y = (w + p.offset) * step_w, (h + p.offset) * step_h
                    boxes += [(x - box_w / 2) / image_w, (y - box_h / 2) / image_h, (x + box_w / 2) / image_w,
                              (y + box_h / 2) / image_h]
    if p.clip:
        boxes = [min(max(v, 0), 1) for v in boxes]
    variance = list(p.variance) or [0.1]
    variances = [variance[i % len(variance)] for i in range(len(boxes))]
    return [np.array([[boxes, variances]])]


def overlap(a, b):
    """Intersection over union of two boxes."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = [0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return w * h / (area[0] + area[1] - w * h)


def detection_output(p, offsets, scores, priors, phase):
    """Decode, suppress, keep the best; image by image, class by class, box by box."""
    p = p.detection_output_param
    count = priors.shape[2] // 4
    boxes, variances = priors.reshape(2, count, 4)
    offsets = offsets.reshape(len(offsets), count, -1, 4)
    scores = scores.reshape(len(scores), count, p.num_classes)
    rows = []
    for n in range(len(scores)):
        found = []
        for label in range(p.num_classes):
            if label == p.background_label_id:
                continue
            threshold, kept = p.nms_param.nms_threshold, []
            candidates = sorted((-scores[n, i, label], i) for i in range(count)
                                if not p.HasField("confidence_threshold") or scores[n, i, label] > p.confidence_threshold)
            if p.nms_param.HasField("top_k"):
                candidates = candidates[: p.nms_param.top_k]
            for score, i in candidates:
                variance = [1] * 4 if p.variance_encoded_in_target else variances[i]
                box = decode(p.code_type, offsets[n, i, 0 if p.share_location else label], boxes[i], variance)
                if all(overlap(box, other) <= threshold for _, other in kept):
                    kept.append((-score, box))
                    if p.nms_param.eta < 1 and threshold > 0.5:
                        threshold *= p.nms_param.eta
            found += [(score, label, box) for score, box in kept]
        if p.keep_top_k > -1:
            found = sorted(found, key=lambda f: -f[0])[: p.keep_top_k]
        rows += [(n, label, score, *box) for score, label, box in sorted(found, key=lambda f: (f[1], -f[0]))]
    return [np.array([[rows or [(n,) + (-1,) * 6 for n in range(len(scores))]]], np.float64)]


def decode(code, offset, prior, variance):
    """A box from what the network said of its prior."""
    moved = [o * v for o, v in zip(offset, variance)]
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if code == 1:  # CORNER
        return [a + b for a, b in zip(prior, moved)]
    if code == 3:  # CORNER_SIZE
        return [a + b * side for a, b, side in zip(prior, moved, (w, h, w, h))]
    x, y = (prior[0] + prior[2]) / 2 + moved[0] * w, (prior[1] + prior[3]) / 2 + moved[1] * h
    w, h = exp(moved[2]) * w, exp(moved[3]) * h
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def rounded(v):
    """As C's round: halves away from zero."""
    return floor(abs(v) + 0.5) * (1 if v >= 0 else -1)


def roi_pooling(p, x, rois, phase):
    """Bin by bin."""
    p = p.roi_pooling_param
    height, width = x.shape[2:]
    y = np.zeros((len(rois), x.shape[1], p.pooled_h, p.pooled_w))
    for r, roi in enumerate(rois.reshape(-1, 5)):
        x1, y1, x2, y2 = (rounded(v * p.spatial_scale) for v in roi[1:])
        for i, j in np.ndindex(p.pooled_h, p.pooled_w):
            bin_h, bin_w = max(y2 - y1 + 1, 1) / p.pooled_h, max(x2 - x1 + 1, 1) / p.pooled_w
            top, bottom = floor(i * bin_h) + y1, ceil((i + 1) * bin_h) + y1
            left, right = floor(j * bin_w) + x1, ceil((j + 1) * bin_w) + x1
            cells = x[int(roi[0]), :, max(top, 0) : max(min(bottom, height), 0), max(left, 0) : max(min(right, width), 0)]
            if cells.shape[1] and cells.shape[2]:
                y[r, :, i, j] = cells.max((1, 2))
    return [y]


def psroi_pooling(p, x, rois, phase):
    """Bin by bin."""
    p = p.psroi_pooling_param
    height, width = x.shape[2:]
    y = np.zeros((len(rois), p.output_dim, p.group_size, p.group_size))
    for r, roi in enumerate(rois.reshape(-1, 5)):
        x1, y1, x2, y2 = (v * p.spatial_scale for v in (
            rounded(roi[1]), rounded(roi[2]), rounded(roi[3]) + 1, rounded(roi[4]) + 1))
        bin_h, bin_w = max(y2 - y1, 0.1) / p.group_size, max(x2 - x1, 0.1) / p.group_size
        for d, i, j in np.ndindex(y.shape[1:]):
            top, bottom = floor(i * bin_h + y1), ceil((i + 1) * bin_h + y1)
            left, right = floor(j * bin_w + x1), ceil((j + 1) * bin_w + x1)
            cells = x[int(roi[0]), (d * p.group_size + i) * p.group_size + j,
                      max(top, 0) : max(min(bottom, height), 0), max(left, 0) : max(min(right, width), 0)]
            if cells.size:
                y[r, d, i, j] = cells.mean()
    return [y]


def smooth_l1_loss(p, x, target, *rest):
    """Number by number."""
    inside, outside = rest[:2] if len(rest) == 3 else (np.ones_like(x), np.ones_like(x))
    sigma, total = p.smooth_l1_loss_param.sigma, 0.0
    for index in np.ndindex(x.shape):
        d = inside[index] * (x[index] - target[index])
        total += outside[index] * (
            (sigma * d) ** 2 / 2 if abs(d) < 1 / sigma**2 else abs(d) - 1 / (2 * sigma**2))
    return [np.array(total / len(x))]


def axpy(p, a, x, y, phase):
    """Channel by channel."""
    result = np.empty_like(x)
    for n, c in np.ndindex(x.shape[:2]):
        result[n, c] = a[n, c].item() * x[n, c] + y[n, c]
    return [result]


def shuffle_channel(p, x, phase):
    """Channel by channel."""
    group = p.shuffle_channel_param.group
    each = x.shape[1] // group
    y = np.empty_like(x)
    for g in range(group):
        for i in range(each):
            y[:, i * group + g] = x[:, g * each + i]
    return [y]


def depthwise(p, x, weight, *rest):
    """Cell by cell."""
    p = p.convolution_param
    kernel = weight.shape[2:]
    stride, pad = (p.stride or [1])[0], (p.pad or [0])[0]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y = np.zeros(x.shape[:2] + tuple((n - k) // stride + 1 for n, k in zip(x.shape[2:], kernel)))
    for n, c, i, j in np.ndindex(y.shape):
        window = x[n, c, i * stride : i * stride + kernel[0], j * stride : j * stride + kernel[1]]
        y[n, c, i, j] = (window * weight[c, 0]).sum() + (rest[0][c] if len(rest) > 1 else 0)
    return [y]


def relu6(p, x, phase):
    """Value by value."""
    return [np.vectorize(lambda v: min(max(v, 0.0), 6.0))(x)]


REFERENCE = {
    "Axpy": axpy, "BN": bn, "ConvolutionDepthwise": depthwise, "DepthwiseConvolution": depthwise,
    "DetectionOutput": detection_output, "Interp": interp, "Normalize": normalize, "PSROIPooling": psroi_pooling,
    "Permute": permute, "PriorBox": prior_box, "ROIPooling": roi_pooling, "ReLU6": relu6,
    "ShuffleChannel": shuffle_channel, "SmoothL1Loss": smooth_l1_loss, "Upsample": upsample,
}


def reference(layer_param, bottoms, params, phase) -> list[np.ndarray]:
    """The tops of one forward pass, float64."""
    arrays = [np.asarray(a, np.float64) for a in [*bottoms, *params]]
    return REFERENCE[layer_param.type](layer_param, *arrays, phase)
