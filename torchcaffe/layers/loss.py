"""Loss layers, and Accuracy, which Caffe's catalogue lists among them.

A loss's top is one number, a blob without axes, whose diff holds the loss weight: gradients are scaled by it.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F

from torchcaffe import files
from torchcaffe.blob import Blob
from torchcaffe.layer import Layer, Shape, register
from torchcaffe.layers.helpers import FLT_MIN, around, axis_of, check_label_count, read_labels, running_sum, sigmoid
from torchcaffe.proto import caffe_pb2

LOSS = caffe_pb2.LossParameter
LOG_THRESHOLD = 1e-20  # the least probability whose logarithm MultinomialLogisticLoss and InfogainLoss take


class _Loss(Layer):
    """What losses share (loss_layer.cpp): scores and labels, equally many items, a weight of 1, no gradient to labels."""

    bottoms = (2, 2)
    auto_top_blobs = is_loss = True

    def shape(self, *bottom: Shape) -> list[Shape]:
        self.check(bottom[0][:1] == bottom[1][:1], lambda: (
            "The data and label should have the same first dimension: bottom 0 is %s, bottom 1 is %s" % bottom[:2]))
        return [()]

    def allow_force_backward(self, index: int) -> bool:
        return index != 1

    def only_scores(self, propagate_down: list[bool]) -> bool:
        """Whether the scores' gradient is wanted; CaffeError if another bottom's is."""
        self.check(not any(propagate_down[1:]), "Layer cannot backpropagate to label inputs; set propagate_down: false for "
                   "all bottoms but the first")
        return propagate_down[0]

    def ignored(self) -> int | None:
        """loss_param's ignore_label, if it has one."""
        p = self.layer_param.loss_param
        return p.ignore_label if p.HasField("ignore_label") else None

    def normalizer(self, default: int, outer: int, inner: int, valid: torch.Tensor | None) -> torch.Tensor | float:
        """What a sum over outer x inner places is divided by, at least 1; `valid` marks the ones that count."""
        p, mode = self.layer_param.loss_param, default
        if p.HasField("normalization"):
            mode = p.normalization
        elif p.HasField("normalize"):
            mode = LOSS.VALID if p.normalize else LOSS.BATCH_SIZE
        if mode == LOSS.VALID and valid is not None:
            return valid.sum().clamp(min=1)
        return float(max(1, {LOSS.NONE: 1, LOSS.BATCH_SIZE: outer}.get(mode, outer * inner)))


@register
class SoftmaxWithLoss(_Loss):
    """-log of the softmax probability (along softmax_param's axis) of the label, summed over places and normalized.

    Probabilities are floored at FLT_MIN, so a place costs at most 87.3. Places with ignore_label cost nothing and get no
    gradient. normalization: VALID (default), FULL, BATCH_SIZE, NONE; `normalize: false` means BATCH_SIZE.
    A second top is the probabilities. On the CPU the sum is Caffe's, see helpers.running_sum.
    Follows src/caffe/layers/softmax_loss_layer.cpp.
    """

    tops = (1, 2)

    def shape(self, scores: Shape, labels: Shape) -> list[Shape]:
        self.axis = axis_of(self, self.layer_param.softmax_param.axis, scores)
        check_label_count(self, scores, self.axis, labels)
        self.folded = around(scores, self.axis)
        return super().shape(scores, labels) + [scores]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        outer, classes, inner = self.folded
        self.labels, self.valid = read_labels(self, bottom[1], (outer, 1, inner), classes, self.ignored())
        self.probabilities = torch.softmax(bottom[0].value.reshape(self.folded), 1)
        losses = self.probabilities.gather(1, self.labels).clamp_(min=FLT_MIN).log_()
        if self.valid is not None:
            losses.mul_(self.valid)
        self.divisor = self.normalizer(LOSS.VALID, outer, inner, self.valid)
        top[0].value = -running_sum(losses) / self.divisor
        if len(top) > 1:
            top[1].value = self.probabilities.clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.only_scores(propagate_down):
            scale = top[0].grad / self.divisor
            grad = self.probabilities * (scale if self.valid is None else scale * self.valid)
            hit = (-scale).expand(self.labels.shape) if self.valid is None else -scale * self.valid
            bottom[0].grad = grad.scatter_add_(1, self.labels, hit)


@register
class SigmoidCrossEntropyLoss(_Loss):
    """Cross entropy between sigmoid(bottom 0) and targets in bottom 1, summed and normalized (default BATCH_SIZE).

    A target that, cut to a whole number, is ignore_label costs nothing.
    Follows src/caffe/layers/sigmoid_cross_entropy_loss_layer.cpp.
    """

    def shape(self, scores: Shape, targets: Shape) -> list[Shape]:
        self.check(prod(scores) == prod(targets), "SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count: "
                   "bottom 0 is %s, bottom 1 is %s" % (scores, targets))
        return super().shape(scores, targets)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, target, ignore = bottom[0].value, bottom[1].value.reshape(bottom[0].shape), self.ignored()
        losses = F.relu(x) - x * target + torch.log1p(torch.exp(-x.abs()))
        self.valid = None if ignore is None else target.long() != ignore
        if self.valid is not None:
            losses = losses.where(self.valid, 0)
        outer, *others = bottom[0].shape
        self.divisor = self.normalizer(LOSS.BATCH_SIZE, outer, prod(others), self.valid)
        top[0].value = running_sum(losses) / self.divisor

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.only_scores(propagate_down):
            grad = sigmoid(bottom[0].value) - bottom[1].value.reshape(bottom[0].shape)
            grad *= top[0].grad / self.divisor
            bottom[0].grad = grad if self.valid is None else grad.where(self.valid, 0)


@register
class EuclideanLoss(_Loss):
    """Sum of squared differences / (2 N). Gradients to both bottoms. Follows src/caffe/layers/euclidean_loss_layer.cpp."""

    def shape(self, a: Shape, b: Shape) -> list[Shape]:
        self.check(prod(a[1:]) == prod(b[1:]), "Inputs must have the same dimension: bottom 0 is %s, bottom 1 is %s"
                   % (a, b))
        return super().shape(a, b)

    def allow_force_backward(self, index: int) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        difference = bottom[0].value - bottom[1].value.reshape(bottom[0].shape)
        top[0].value = difference.square().sum(dtype=torch.float64) / (2 * bottom[0].num)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if any(propagate_down):
            grad = bottom[0].value - bottom[1].value.reshape(bottom[0].shape)
            grad *= top[0].grad / bottom[0].num
            for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
                if wanted:
                    blob.grad = grad * sign


@register
class HingeLoss(_Loss):
    """Sum of max(0, 1 - x) at the label and max(0, 1 + x) elsewhere, or of its squares with norm L2, / N.

    Follows src/caffe/layers/hinge_loss_layer.cpp.
    """

    def margins(self, bottom: list[Blob]) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, classes) margins violated, and the signs with which the scores enter."""
        x = bottom[0].value.reshape(bottom[0].shape[0], -1)
        labels = read_labels(self, bottom[1], (-1, 1), x.shape[1])[0]
        sign = torch.ones_like(x).scatter_(1, labels, -1.0)
        return (1 + sign * x).clamp_(min=0), sign

    def shape(self, scores: Shape, labels: Shape) -> list[Shape]:
        self.check(prod(labels) == scores[0], "got labels of shape %s for scores of shape %s, wanted one an item"
                   % (labels, scores))
        return super().shape(scores, labels)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        margins = self.margins(bottom)[0]
        squared = self.layer_param.hinge_loss_param.norm == caffe_pb2.HingeLossParameter.L2
        top[0].value = (margins.square() if squared else margins).sum() / bottom[0].shape[0]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.only_scores(propagate_down):
            margins, sign = self.margins(bottom)
            squared = self.layer_param.hinge_loss_param.norm == caffe_pb2.HingeLossParameter.L2
            bottom[0].grad = sign * (2 * margins if squared else margins.sign()) * (top[0].grad / bottom[0].shape[0])


@register
class MultinomialLogisticLoss(_Loss):
    """-log of the label's probability, probabilities given (floored at 1e-20), / N.

    Follows src/caffe/layers/multinomial_logistic_loss_layer.cpp.
    """

    def shape(self, probabilities: Shape, labels: Shape) -> list[Shape]:
        self.check(prod(labels) == labels[0], "got labels of shape %s, wanted one an item" % (labels,))
        return super().shape(probabilities, labels)

    def chosen(self, bottom: list[Blob]) -> tuple[torch.Tensor, torch.Tensor]:
        """The labels (N, 1) and their probabilities, floored."""
        x = bottom[0].value.reshape(bottom[0].shape[0], -1)
        labels = read_labels(self, bottom[1], (-1, 1), x.shape[1])[0]
        return labels, x.gather(1, labels).clamp_(min=LOG_THRESHOLD)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = -self.chosen(bottom)[1].log_().sum() / bottom[0].shape[0]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.only_scores(propagate_down):
            labels, probabilities = self.chosen(bottom)
            zeros = torch.zeros_like(bottom[0].value).reshape(labels.shape[0], -1)
            bottom[0].grad = zeros.scatter_(1, labels, -top[0].grad / bottom[0].shape[0] / probabilities)


@register
class InfogainLoss(_Loss):
    """Softmax, then -sum over classes of H[label, class] * log(probability), summed over places and normalized.

    H is bottom 2 or the BlobProto in file `source`; it gets no gradient. `axis` (default 1) holds the classes,
    normalization defaults to VALID and `normalize` is an error. A second top is the probabilities.
    Follows src/caffe/layers/infogain_loss_layer.cpp.
    """

    bottoms, tops = (2, 3), (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.infogain_loss_param
        self.check(not self.layer_param.loss_param.HasField("normalize"), "normalize is deprecated. use \"normalization\"")
        self.file: Blob | None = None
        if len(bottom) < 3:
            self.check(p.HasField("source"), "Infogain matrix source must be specified, or the matrix given as bottom 2")
            matrix = files.read_blob(p.source)
            self.file = Blob(*matrix.shape)
            self.file.data[...] = matrix.values.reshape(matrix.shape)

    def shape(self, scores: Shape, labels: Shape, matrix: Shape | None = None) -> list[Shape]:
        matrix = self.file.shape if matrix is None else matrix
        self.axis = axis_of(self, self.layer_param.infogain_loss_param.axis, scores, "axis")
        check_label_count(self, scores, self.axis, labels)
        self.folded = around(scores, self.axis)
        self.check(prod(matrix) == self.folded[1] ** 2, lambda: "got an infogain matrix of shape %s, wanted %d x %d for "
                   "scores of shape %s" % (matrix, self.folded[1], self.folded[1], scores))
        return super().shape(scores, labels) + [scores]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        outer, classes, inner = self.folded
        self.probabilities = torch.softmax(bottom[0].value.reshape(self.folded), 1)
        labels, self.valid = read_labels(self, bottom[1], (outer, inner), classes, self.ignored())
        matrix = (bottom[2] if len(bottom) > 2 else self.file).value.reshape(classes, classes)
        self.gains = matrix[labels].transpose(1, 2)  # (outer, classes, inner): the row of each place's label
        losses = self.gains * self.probabilities.clamp(min=LOG_THRESHOLD).log_()
        if self.valid is not None:
            losses.mul_(self.valid[:, None])
        self.divisor = self.normalizer(LOSS.VALID, outer, inner, self.valid)
        top[0].value = -running_sum(losses.transpose(1, 2)) / self.divisor
        if len(top) > 1:
            top[1].value = self.probabilities.clone()

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.only_scores(propagate_down):
            grad = self.probabilities * self.gains.sum(1, keepdim=True) - self.gains
            if self.valid is not None:
                grad *= self.valid[:, None]
            bottom[0].grad = grad * (top[0].grad / self.divisor)


@register
class ContrastiveLoss(_Loss):
    """Of pairs (a, b) that are alike (bottom 2 is 1): |a - b|^2; of others max(margin - |a - b|, 0)^2; sum / (2 N).

    legacy_version: max(margin - |a - b|^2, 0) for the others. Gradients to a and b.
    Follows src/caffe/layers/contrastive_loss_layer.cpp.
    """

    bottoms = (3, 3)

    def allow_force_backward(self, index: int) -> bool:
        return index != 2

    def shape(self, a: Shape, b: Shape, alike: Shape) -> list[Shape]:
        self.check(prod(a[2:]) == prod(b[2:]) == 1 and a[1:2] == b[1:2] and prod(alike) == alike[0], lambda: (
            "got shapes %s, %s and %s, wanted (N, C), (N, C) and N" % (a, b, alike)))
        return super().shape(a, b)

    def compare(self, bottom: list[Blob]) -> tuple[torch.Tensor, ...]:
        """(N, C) differences, (N, 1) distances (squared with legacy_version), (N, 1) whether alike."""
        count = bottom[0].shape[0]
        difference = (bottom[0].value - bottom[1].value.reshape(bottom[0].shape)).reshape(count, -1)
        distance = difference.square().sum(1, keepdim=True)
        if not self.layer_param.contrastive_loss_param.legacy_version:
            distance.sqrt_()
        return difference, distance, bottom[2].value.reshape(count, 1).long() != 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.layer_param.contrastive_loss_param
        difference, distance, alike = self.compare(bottom)
        missing = (p.margin - distance).clamp_(min=0)
        others = missing if p.legacy_version else missing.square()
        top[0].value = torch.where(alike, difference.square().sum(1, keepdim=True), others).sum() / (2 * bottom[0].shape[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[2], "Layer cannot backpropagate to label inputs; set propagate_down: false")
        p = self.layer_param.contrastive_loss_param
        difference, distance, alike = self.compare(bottom)
        missing = p.margin - distance
        # 1e-4 against 0 / 0, as in Caffe
        factor = torch.ones_like(missing) if p.legacy_version else missing / (distance + 1e-4)
        grad = difference * torch.where(alike, 1, -factor.where(missing > 0, 0)) * (top[0].grad / bottom[0].shape[0])
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                blob.grad = grad * sign


@register
class Accuracy(Layer):
    """The share of labels that are among the top_k best scores along `axis` (default 1); a second top has it a class.

    A class with the same score as the label's counts as better. ignore_label's places do not count; 0 if none counts.
    No gradient. Follows src/caffe/layers/accuracy_layer.cpp.
    """

    bottoms, tops = (2, 2), (1, 2)

    def shape(self, scores: Shape, labels: Shape) -> list[Shape]:
        p = self.layer_param.accuracy_param
        axis = axis_of(self, p.axis, scores)
        check_label_count(self, scores, axis, labels)
        self.folded = around(scores, axis)
        self.check(p.top_k <= self.folded[1], lambda: "top_k %d must be less than or equal to the number of classes, %d"
                   % (p.top_k, self.folded[1]))
        return [(), (self.folded[1],)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, (outer, classes, inner) = self.layer_param.accuracy_param, self.folded
        ignore = p.ignore_label if p.HasField("ignore_label") else None
        labels, valid = read_labels(self, bottom[1], (outer, 1, inner), classes, ignore)
        scores = bottom[0].value.reshape(self.folded)
        right = (scores >= scores.gather(1, labels)).sum(1, keepdim=True) <= p.top_k
        if valid is not None:
            labels, right = labels[valid], right[valid]
        top[0].value = right.sum() / max(1, right.numel())
        if len(top) > 1:
            totals = torch.bincount(labels.reshape(-1), minlength=classes)
            top[1].value = torch.bincount(labels[right], minlength=classes) / totals.clamp(min=1)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not any(propagate_down), "Accuracy has no gradient; set propagate_down: false")
