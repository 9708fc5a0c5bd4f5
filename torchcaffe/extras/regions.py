"""Layers of Fast R-CNN, Faster R-CNN and R-FCN: pooling over regions of interest, and the loss of boxes.

A region is a row (image of the batch, x1, y1, x2, y2) in pixels of the network's input, both ends included.
"""

from __future__ import annotations

import numpy as np
import torch

from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register_extra
from torchcaffe.layers.helpers import running_sum


def c_round(x: np.ndarray) -> np.ndarray:
    """Rounded as C does, halves away from zero; float64, because x + 0.5 must not round in between."""
    x = x.astype(np.float64)
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


class _RegionPooling(Layer):
    """What both poolings share: bottoms (N, C, H, W) and regions (R, 5); no gradient to the regions."""

    bottoms = (2, 2)

    def check_bottoms(self, bottom: Shape, regions: Shape) -> None:
        """CaffeError unless the shapes are those of features and regions."""
        self.check(len(bottom) == 4, lambda: "got features of shape %s, wanted (num, channels, height, width)" % (bottom,))
        self.check(len(regions) >= 2 and regions[1:] == (5,) + (1,) * (len(regions) - 2), lambda: (
            "got regions of shape %s, wanted (regions, 5): image, x1, y1, x2, y2" % (regions,)))

    def allow_force_backward(self, index: int) -> bool:
        return index == 0

    def regions(self, values: torch.Tensor, images: int) -> tuple[np.ndarray, np.ndarray]:
        """The regions' images (R) and corners (R, 4)."""
        rows = values.detach().cpu().numpy().reshape(-1, 5)
        wrong = np.flatnonzero(~np.isfinite(rows).all(1))
        self.check(not wrong.size, lambda: "region %d is %s, wanted finite numbers" % (wrong[0], rows[wrong[0]]))
        image = rows[:, 0].astype(np.int64)
        bad = (image < 0) | (image >= images)
        self.check(not bad.any(), lambda: "region %d is of image %d, wanted 0 to %d" % (
            np.flatnonzero(bad)[0], image[bad][0], images - 1))
        return image, rows[:, 1:]


@register_extra
class ROIPooling(_RegionPooling):
    """The maximum of each of pooled_h x pooled_w bins of a region: (N, C, H, W), (R, 5) -> (R, C, pooled_h, pooled_w).

    Corners times spatial_scale are rounded to whole cells, both ends included, at least one cell; bins may overlap by a
    cell, and an empty one, off the features, is 0. Of equal maxima the first in row order gets the gradient.
    Follows py-faster-rcnn (rbgirshick/caffe-fast-rcnn), src/caffe/layers/roi_pooling_layer.cpp.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.roi_pooling_param
        self.check(p.pooled_h > 0 and p.pooled_w > 0, "got pooled_h %d and pooled_w %d, wanted both positive" % (
            p.pooled_h, p.pooled_w))

    def shape(self, bottom: Shape, regions: Shape) -> list[Shape]:
        p = self.layer_param.roi_pooling_param
        self.check_bottoms(bottom, regions)
        return [(regions[0], bottom[1], p.pooled_h, p.pooled_w)]

    def bins(self, first: np.ndarray, last: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each of a side's bins begins and ends (R, count), cut to 0 .. size; in float32, as the fork counts."""
        scale = np.float32(self.layer_param.roi_pooling_param.spatial_scale)
        first, last = c_round(first * scale), c_round(last * scale)
        width = np.maximum(last - first + 1, 1).astype(np.float32)[:, None] / np.float32(count)
        steps = np.arange(count + 1, dtype=np.float32) * width
        starts, ends = np.floor(steps[:, :-1]) + first[:, None], np.ceil(steps[:, 1:]) + first[:, None]
        return starts.clip(0, size).astype(np.int64), ends.clip(0, size).astype(np.int64)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].value.permute(0, 2, 3, 1).contiguous()  # channels last: their maxima are taken side by side
        (images, height, width, channels), bins = x.shape, top[0].shape[2:]
        self.image, corners = self.regions(bottom[1].value, images)
        tops, ends = self.bins(corners[:, 1], corners[:, 3], bins[0], height)
        lefts, rights = self.bins(corners[:, 0], corners[:, 2], bins[1], width)
        result = x.new_zeros(len(corners), *bins, channels)
        self.index = torch.full(result.shape, -1, device=x.device)  # h * W + w of each bin's maximum
        for r in range(len(corners)):
            first, last = tops[r].min(), ends[r].max()
            filled = [j for j in range(bins[1]) if lefts[r, j] < rights[r, j]]
            if first >= last or not filled:
                continue
            # The first column of each row, then the first row: the first maximum in row order.
            each = [x[self.image[r], first:last, lefts[r, j] : rights[r, j]].max(1) for j in filled]
            values = torch.stack([v for v, _ in each], 1)
            columns = torch.stack([k + int(lefts[r, j]) for (_, k), j in zip(each, filled)], 1)
            for i in range(bins[0]):
                if tops[r, i] >= ends[r, i]:
                    continue
                start = int(tops[r, i] - first)
                best, row = values[start : ends[r, i] - first].max(0)
                row += start
                result[r, i, filled] = best
                self.index[r, i, filled] = (row + int(first)) * width + columns.gather(0, row[None])[0]
        top[0].value = result.permute(0, 3, 1, 2)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        (images, channels, height, width), grad = bottom[0].shape, top[0].grad.permute(0, 2, 3, 1)
        plane = torch.from_numpy(self.image).to(grad.device)[:, None] * channels + torch.arange(channels, device=grad.device)
        index = plane[:, None, None] * (height * width) + self.index.clamp(min=0)
        total = grad.new_zeros(images * channels * height * width)
        bottom[0].grad = total.scatter_add_(0, index.reshape(-1), grad.where(self.index >= 0, 0).reshape(-1))


@register_extra
class PSROIPooling(_RegionPooling):
    """Position-sensitive means: (N, output_dim * group_size^2, H, W), (R, 5) -> (R, output_dim, group_size, group_size).

    Bin (i, j) of a region is the mean over its cells of channel (d * group_size + i) * group_size + j. Corners are rounded
    to whole pixels, the last ones' far ends taken, times spatial_scale; bins are then widened to whole cells. An empty bin
    is 0. The fork has GPU code only. Follows R-FCN (daijifeng001/caffe-rfcn), src/caffe/layers/psroi_pooling_layer.cu.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.psroi_pooling_param
        self.check(p.output_dim > 0 and p.group_size > 0 and p.spatial_scale > 0, "got output_dim %d, group_size %d and "
                   "spatial_scale %g, wanted all positive" % (p.output_dim, p.group_size, p.spatial_scale))

    def shape(self, bottom: Shape, regions: Shape) -> list[Shape]:
        p = self.layer_param.psroi_pooling_param
        self.check_bottoms(bottom, regions)
        self.check(bottom[1] == p.output_dim * p.group_size**2, lambda: (
            "got %d channels, wanted output_dim %d * group_size %d squared = %d" % (
                bottom[1], p.output_dim, p.group_size, p.output_dim * p.group_size**2)))
        return [(regions[0], p.output_dim, p.group_size, p.group_size)]

    def weights(self, first: np.ndarray, last: np.ndarray, size: int) -> np.ndarray:
        """What each cell of a side counts in each bin (R, bins, size): 1 / cells of the bin inside it, else 0."""
        p = self.layer_param.psroi_pooling_param
        scale = np.float32(p.spatial_scale)
        first = c_round(first).astype(np.float32) * scale
        last = (c_round(last) + 1).astype(np.float32) * scale
        width = np.maximum(last - first, np.float32(0.1))[:, None] / np.float32(p.group_size)
        steps = np.arange(p.group_size + 1, dtype=np.float32) * width + first[:, None]
        starts, ends = np.floor(steps[:, :-1]).clip(0, size), np.ceil(steps[:, 1:]).clip(0, size)
        cell = np.arange(size)
        inside = (cell >= starts[..., None]) & (cell < ends[..., None])
        return inside / np.maximum(ends - starts, 1)[..., None]

    def function(self, x: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        p = self.layer_param.psroi_pooling_param
        image, corners = self.regions(regions, x.shape[0])
        sides = [torch.from_numpy(self.weights(corners[:, k], corners[:, k + 2], x.shape[3 - k])).to(x) for k in (0, 1)]
        maps = x.reshape(x.shape[0], p.output_dim, p.group_size, p.group_size, *x.shape[2:])
        result = x.new_zeros(len(image), p.output_dim, p.group_size, p.group_size)
        for n in np.unique(image):
            mine = torch.from_numpy(image == n).to(x.device)
            columns, rows = (side[mine] for side in sides)
            for i in range(p.group_size):
                for j in range(p.group_size):  # rows of the mean, then its columns, as products with the weights
                    means = torch.einsum("rh,dhw,rw->rd", rows[:, i], maps[n, :, i, j], columns[:, j])
                    result[mine, :, i, j] = means
        return result


@register_extra
class SmoothL1Loss(Layer):
    """Sum of f(inside * (x - target)) * outside over everything, divided by the number of items (axis 0).

    f(d) = (sigma d)^2 / 2 where |d| < 1 / sigma^2, else |d| - 1 / (2 sigma^2), with smooth_l1_loss_param's sigma (1).
    Bottoms: x, target, and either no weights or inside and outside ones, all of one shape; gradients go to x and target.
    The fork has GPU code only.
    Follows py-faster-rcnn (rbgirshick/caffe-fast-rcnn), src/caffe/layers/smooth_L1_loss_layer.cpp.
    """

    bottoms = (2, 4)
    auto_top_blobs = is_loss = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        sigma = self.layer_param.smooth_l1_loss_param.sigma
        self.check(sigma > 0, "got sigma %g, wanted more than 0" % sigma)

    def shape(self, *bottom: Shape) -> list[Shape]:
        self.check(len(bottom) != 3, "got 3 bottoms, wanted 2, or 4 with both inside and outside weights")
        for i, shape in enumerate(bottom):
            self.check(shape == bottom[0], lambda i=i, shape=shape: "bottom %d is %s, wanted the shape of bottom 0, %s" % (
                i, shape, bottom[0]))
        return [()]

    def allow_force_backward(self, index: int) -> bool:
        return index < 2

    def weighted(self, bottom: list[Blob]) -> tuple[torch.Tensor, float]:
        """The differences times their inside weights, and sigma squared."""
        difference = bottom[0].value - bottom[1].value
        return (difference * bottom[2].value if len(bottom) > 2 else difference,
                self.layer_param.smooth_l1_loss_param.sigma ** 2)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        d, square = self.weighted(bottom)
        losses = torch.where(d.abs() < 1 / square, 0.5 * square * d * d, d.abs() - 0.5 / square)
        losses = losses * bottom[3].value if len(bottom) > 2 else losses
        top[0].value = running_sum(losses) / bottom[0].shape[0]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not any(propagate_down[2:]), "cannot backpropagate to weights; set propagate_down: false for them")
        d, square = self.weighted(bottom)
        slope = torch.where(d.abs() < 1 / square, square * d, d.sign())
        slope = slope * bottom[2].value * bottom[3].value if len(bottom) > 2 else slope
        slope *= top[0].grad / bottom[0].shape[0]
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].grad = sign * slope
