"""Losses and accuracy."""
import math
from typing import List, Sequence

import torch
import torch.nn.functional as F

from . import blobs, messages
from .labels import by_class, check_labels, class_labels, divisor, not_ignored
from .layer import Layer, Shape

# The least probabilities of which Caffe takes a logarithm (FLT_MIN; infogain_loss_layer.hpp).
LEAST, LEAST_INFOGAIN = 1.17549435e-38, 1e-20
# What Caffe adds to a distance by which it divides (contrastive_loss_layer.cpp).
LEAST_DISTANCE = 1e-4


class _Known(torch.autograd.Function):
    """A scalar of `bottom` with a gradient that is given: Caffe's, where that is not the one of the formula."""

    @staticmethod
    def forward(ctx, bottom, value, gradient):  # type: ignore
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx, top_gradient):  # type: ignore
        return top_gradient * ctx.saved_tensors[0], None, None


class Loss(Layer):
    """Base class of losses of two bottoms with as many samples; the loss is a scalar.

    ALIKE   whether the bottoms must have as many values, too
    LABELS  the number of the bottom with one label for each sample; 0: none
    """

    BOTTOMS = (2, 2)
    TOPS = (0, 1)
    LOSS = True
    ALIKE = False
    LABELS = 0

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        if not shapes[0] or shapes[0][:1] != shapes[1][:1]:
            self.fail(f"the bottoms have the shapes {shapes[0]} and {shapes[1]}, expected the same first size")
        if self.ALIKE and math.prod(shapes[0]) != math.prod(shapes[1]):
            self.fail(f"the bottoms have the shapes {shapes[0]} and {shapes[1]}, expected as many values in both")
        if self.LABELS and math.prod(shapes[self.LABELS]) != shapes[0][0]:
            self.fail(f"labels of the shape {shapes[self.LABELS]} for a bottom of the shape {shapes[0]}, expected "
                      f"{shapes[0][0]} labels")
        return [()]


class SoftmaxWithLoss(Loss):
    """The mean of -log(probability of the label), by a softmax along `softmax_param.axis`. Second top: the
    probabilities, without a gradient. `loss_param.normalization` says what the sum is divided by; `normalize` is its
    older form, VALID or BATCH_SIZE."""

    MESSAGE = "loss_param"
    FIELDS: Sequence[str] = ("ignore_label", "normalization", "normalize")
    TOPS = (0, 2)

    def also_read(self) -> List[str]:
        return ["softmax_param"]

    def class_axis(self) -> int:
        """The axis of the classes as the prototxt has it."""
        return self.param.softmax_param.axis

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        super().reshape(shapes)
        check_labels(self, self.class_axis(), shapes)
        return [(), shapes[0]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores, labels, valid = by_class(self, self.class_axis(), bottoms, self.param.loss_param)
        with torch.no_grad():
            probability = torch.softmax(scores, 1)
            losses, gradient = self.each(probability, labels, bottoms)
            number = divisor(self.param.loss_param, "VALID", valid)
            value = losses.masked_fill(~valid, 0).sum() / number
            gradient = gradient.masked_fill_(~valid.unsqueeze(1), 0).div_(number)
        return [_Known.apply(scores, value, gradient), probability.reshape(bottoms[0].shape)]

    def each(self, probability: torch.Tensor, labels: torch.Tensor, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        """The loss (outer, inner) of each label, and its gradient for the scores (outer, classes, inner). Caffe's
        gradient knows no least probability."""
        index = labels.unsqueeze(1)
        own = probability.gather(1, index)
        return [-own.clamp(min=LEAST).log().squeeze(1), probability.scatter(1, index, own - 1)]


class InfogainLoss(SoftmaxWithLoss):
    """The mean of -sum over k of H[label, k] log(probability of k). H, (classes, classes), is the third bottom or else
    `source`, a file with a BlobProto."""

    MESSAGE = "infogain_loss_param"
    FIELDS = ("source", "axis")
    BOTTOMS = (2, 3)

    def also_read(self) -> List[str]:
        return ["loss_param"]

    def class_axis(self) -> int:
        return self.options.axis

    def setup(self, shapes: List[Shape]) -> None:
        if self.param.loss_param.HasField("normalize"):
            self.fail("loss_param.normalize is not for this layer, expected normalization")
        self.matrix = None
        if len(shapes) == 2:
            if not self.options.HasField("source"):
                self.fail("infogain_loss_param.source is missing, and there is no third bottom")
            matrix = blobs.from_proto(messages.read_binary(self.options.source, "BlobProto"))
            self.matrix = torch.from_numpy(matrix.values).to(self.context.device)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        tops = super().reshape(shapes)
        classes = shapes[0][self.axis(self.class_axis(), shapes[0])]
        found = math.prod(shapes[2]) if self.matrix is None else self.matrix.numel()
        if found != classes ** 2:
            where = "the third bottom" if self.matrix is None else self.options.source
            self.fail(f"{where} has {found} values, expected {classes} x {classes}")
        return tops

    def each(self, probability: torch.Tensor, labels: torch.Tensor, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        matrix = bottoms[2].detach() if self.matrix is None else self.matrix
        weights = matrix.reshape(probability.shape[1], -1)[labels].transpose(1, 2)
        losses = -(weights * probability.clamp(min=LEAST_INFOGAIN).log()).sum(1)
        return [losses, probability * weights.sum(1, keepdim=True) - weights]


class EuclideanLoss(Loss):
    """Half the mean over the samples of the squared distance of the two bottoms. Both get a gradient."""

    ALIKE = True

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        difference = bottoms[0] - bottoms[1].reshape(bottoms[0].shape)
        return [(difference * difference).sum() / (2 * len(difference))]


class HingeLoss(Loss):
    """The mean over the samples of the sum of max(0, 1 - score) of the label and max(0, 1 + score) of the other
    classes, or with `norm: L2` of their squares. A score of NaN makes it NaN; Caffe takes that for 0."""

    MESSAGE = "hinge_loss_param"
    FIELDS = ("norm",)
    LABELS = 1

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores = bottoms[0].reshape(len(bottoms[0]), -1)
        labels = class_labels(self, bottoms[1], scores.shape[1]).reshape(-1, 1)
        signs = torch.ones_like(scores).scatter_(1, labels, -1)
        margins = F.relu(1 + scores * signs)
        if messages.enum_name(self.options, "norm") == "L2":
            margins = margins * margins
        return [margins.sum() / len(scores)]


class ContrastiveLoss(Loss):
    """Half the mean over the pairs (bottoms 0 and 1) of d^2 for similar ones, whose label (bottom 2) is not 0, and of
    max(0, margin - d)^2 for others; with `legacy_version` of max(0, margin - d^2)."""

    MESSAGE = "contrastive_loss_param"
    FIELDS = ("margin", "legacy_version")
    BOTTOMS = (3, 3)
    ALIKE = True
    LABELS = 2

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        difference = (bottoms[0] - bottoms[1].reshape(bottoms[0].shape)).flatten(1)
        similar = bottoms[2].detach().long().reshape(-1, 1) != 0
        with torch.no_grad():
            squares = (difference * difference).sum(1, keepdim=True)
            distance = squares.sqrt()
            if self.options.legacy_version:
                gap = self.options.margin - squares
                loss, slope = F.relu(gap), -(gap > 0).to(gap.dtype)
            else:
                gap = F.relu(self.options.margin - distance)
                loss, slope = gap * gap, -gap / (distance + LEAST_DISTANCE)
            loss, slope = torch.where(similar, squares, loss), torch.where(similar, torch.ones_like(slope), slope)
            pairs = len(difference)
            value, gradient = loss.sum() / (2 * pairs), difference * slope / pairs
        return [_Known.apply(difference, value, gradient)]


class SigmoidCrossEntropyLoss(Loss):
    """The cross-entropy of sigmoid(bottom 0) and the targets (bottom 1), summed. It is divided by the number of
    samples, unless `loss_param` says otherwise."""

    MESSAGE = "loss_param"
    FIELDS = ("ignore_label", "normalization", "normalize")
    ALIKE = True

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores = bottoms[0].reshape(len(bottoms[0]), -1)
        targets = bottoms[1].detach().reshape(scores.shape)
        valid = not_ignored(self.options, targets.long())
        with torch.no_grad():
            # torch's own function takes the difference of two large numbers, from version 2 on.
            losses = F.relu(scores) - scores * targets + torch.log1p(torch.exp(-scores.abs()))
            number = divisor(self.options, "BATCH_SIZE", valid)
            value = losses.masked_fill(~valid, 0).sum() / number
            gradient = (torch.sigmoid(scores) - targets).masked_fill_(~valid, 0).div_(number)
        return [_Known.apply(scores, value, gradient)]


class Accuracy(Layer):
    """The part of the labels of which fewer than `top_k` other classes have a score as large or larger, so a tie is an
    error. Second top: the same for the samples of each class, 0 for a class without samples."""

    MESSAGE = "accuracy_param"
    FIELDS = ("top_k", "axis", "ignore_label")
    BOTTOMS = (2, 2)
    TOPS = (1, 2)
    GRADIENT = False

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        classes = check_labels(self, self.options.axis, shapes)
        if self.options.top_k > classes:
            self.fail(f"top_k {self.options.top_k}, but the bottom has {classes} classes")
        return [(), (classes,)]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores, labels, valid = by_class(self, self.options.axis, bottoms, self.options)
        own = scores.gather(1, labels.unsqueeze(1))
        # Nothing is as large as NaN, so Caffe counts a sample without numbers as right.
        right = ((scores >= own).sum(1) - 1 < self.options.top_k) & valid
        tops = [right.sum().to(scores.dtype) / valid.sum().clamp(min=1)]
        if len(self.param.top) > 1:
            classes = torch.arange(scores.shape[1], device=labels.device)
            is_class = labels.reshape(-1, 1) == classes
            of_class, right_of_class = ((is_class & which.reshape(-1, 1)).sum(0) for which in (valid, right))
            tops.append(right_of_class.to(scores.dtype) / of_class.clamp(min=1))
        return tops


TYPES = {"SoftmaxWithLoss": SoftmaxWithLoss, "InfogainLoss": InfogainLoss, "EuclideanLoss": EuclideanLoss,
         "HingeLoss": HingeLoss, "ContrastiveLoss": ContrastiveLoss,
         "SigmoidCrossEntropyLoss": SigmoidCrossEntropyLoss, "Accuracy": Accuracy}
