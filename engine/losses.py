"""Losses and accuracy."""
import math
from typing import Any, List

import torch
import torch.nn.functional as F

from . import labels as labels_
from . import messages
from .layer import Layer, Shape

# The least probabilities of which Caffe takes a logarithm (FLT_MIN; infogain_loss_layer.hpp).
LEAST, LEAST_INFOGAIN = 1.17549435e-38, 1e-20
# What Caffe adds to a distance by which it divides (contrastive_loss_layer.cpp).
LEAST_DISTANCE = 1e-4


class _Known(torch.autograd.Function):
    """A scalar of `bottom` whose gradient is known, because Caffe's is not that of the formula."""

    @staticmethod
    def forward(ctx, bottom, value, gradient):  # type: ignore
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx, top_gradient):  # type: ignore
        return top_gradient * ctx.saved_tensors[0], None, None


class Loss(Layer):
    """Base class of losses of two bottoms with as many samples; the loss is a scalar."""

    BOTTOMS = (2, 2)
    TOPS = (0, 1)
    LOSS = True

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        if not shapes[0] or shapes[0][:1] != shapes[1][:1]:
            self.fail(f"the bottoms have the shapes {shapes[0]} and {shapes[1]}, expected the same first size")
        return [()]

    def check_count(self, first: Shape, second: Shape, start: int = 0) -> None:
        """Fails unless both shapes have as many values in the axes from `start` on."""
        if math.prod(first[start:]) != math.prod(second[start:]):
            self.fail(f"the bottoms have the shapes {first} and {second}, expected as many values in both")


class SoftmaxWithLoss(Loss):
    """The mean of -log(probability of the label), by a softmax along `softmax_param.axis`. Second top: the
    probabilities, without a gradient. The divisor is `loss_param.normalization`, or by the older `normalize` VALID or BATCH_SIZE."""

    MESSAGE = "loss_param"
    FIELDS = ("ignore_label", "normalization", "normalize")
    TOPS = (0, 2)
    FLOOR = LEAST

    def also_read(self) -> List[str]:
        return ["softmax_param"]

    def class_axis(self) -> int:
        """The axis of the classes as the prototxt has it."""
        return self.param.softmax_param.axis

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        super().reshape(shapes)
        labels_.check_labels(self, self.class_axis(), shapes)
        return [(), shapes[0]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores, labels, valid = labels_.by_class(self, self.class_axis(), bottoms, self.param.loss_param)
        with torch.no_grad():
            probability = torch.softmax(scores, 1)
            weights = self.weights(labels, scores.shape[1], bottoms)
            losses = -(weights * probability.clamp(min=self.FLOOR).log()).sum(1)
            divisor = self.divisor(valid)
            # Caffe's gradient knows no least probability.
            gradient = probability * weights.sum(1, keepdim=True) - weights
            value = losses.masked_fill(~valid, 0).sum() / divisor
            gradient = gradient.masked_fill(~valid.unsqueeze(1), 0) / divisor
        return [_Known.apply(scores, value, gradient), probability.view(bottoms[0].shape)]

    def weights(self, labels: torch.Tensor, classes: int, bottoms: List[torch.Tensor]) -> torch.Tensor:
        """How much the log-probability of each class counts, (outer, classes, inner), for labels (outer, inner)."""
        shape = (labels.shape[0], classes, labels.shape[1])
        return torch.zeros(shape, device=labels.device).scatter_(1, labels.unsqueeze(1), 1)

    def divisor(self, valid: torch.Tensor) -> Any:
        return labels_.divisor(labels_.normalization(self.param.loss_param, "VALID"), valid)


class InfogainLoss(SoftmaxWithLoss):
    """The mean of -sum over k of H[label, k] log(probability of k). H, (classes, classes), is the third bottom or else
    `source`, a file with a BlobProto."""

    MESSAGE = "infogain_loss_param"
    FIELDS = ("source", "axis")
    BOTTOMS = (2, 3)
    FLOOR = LEAST_INFOGAIN

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
            matrix = messages.read_binary(self.options.source, "BlobProto")
            self.matrix = torch.tensor(list(matrix.data) or list(matrix.double_data), dtype=torch.float32,
                                       device=self.context.device)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        tops = super().reshape(shapes)
        classes = shapes[0][self.axis(self.class_axis(), shapes[0])]
        found = math.prod(shapes[2]) if self.matrix is None else self.matrix.numel()
        if found != classes ** 2:
            where = "the third bottom" if self.matrix is None else self.options.source
            self.fail(f"{where} has {found} values, expected {classes} x {classes}")
        return tops

    def weights(self, labels: torch.Tensor, classes: int, bottoms: List[torch.Tensor]) -> torch.Tensor:
        matrix = bottoms[2].detach() if self.matrix is None else self.matrix
        return matrix.reshape(classes, classes)[labels].transpose(1, 2)


class EuclideanLoss(Loss):
    """Half the mean over the samples of the squared distance of the two bottoms. Both get a gradient."""

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        self.check_count(*shapes, 1)
        return super().reshape(shapes)

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        difference = bottoms[0] - bottoms[1].reshape(bottoms[0].shape)
        return [(difference * difference).sum() / (2 * len(difference))]


class HingeLoss(Loss):
    """The mean over the samples of the sum of max(0, 1 - score) of the label and max(0, 1 + score) of the other
    classes, or with `norm: L2` of their squares."""

    MESSAGE = "hinge_loss_param"
    FIELDS = ("norm",)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        tops = super().reshape(shapes)
        self.check_count(shapes[0][:1], shapes[1])
        return tops

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores = bottoms[0].reshape(len(bottoms[0]), -1)
        labels = labels_.class_labels(self, bottoms[1], scores.shape[1]).view(-1, 1)
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

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        tops = super().reshape(shapes)
        self.check_count(shapes[0], shapes[1])
        self.check_count(shapes[0][:1], shapes[2])
        return tops

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        difference = (bottoms[0] - bottoms[1].reshape(bottoms[0].shape)).flatten(1)
        similar = bottoms[2].detach().long().view(-1, 1) != 0
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

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        self.check_count(*shapes)
        return super().reshape(shapes)

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores = bottoms[0].reshape(len(bottoms[0]), -1)
        targets = bottoms[1].detach().reshape(scores.shape)
        losses = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        valid = labels_.not_ignored(self.options, targets.long())
        total = losses.masked_fill(~valid, 0).sum()
        return [total / labels_.divisor(labels_.normalization(self.options, "BATCH_SIZE"), valid)]


class Accuracy(Layer):
    """The part of the labels of which fewer than `top_k` other classes have a score as large or larger, so a tie is an
    error. Second top: the same for the samples of each class, 0 for a class without samples."""

    MESSAGE = "accuracy_param"
    FIELDS = ("top_k", "axis", "ignore_label")
    BOTTOMS = (2, 2)
    TOPS = (1, 2)
    GRADIENT = False

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        classes = labels_.check_labels(self, self.options.axis, shapes)
        if self.options.top_k > classes:
            self.fail(f"top_k {self.options.top_k}, but the bottom has {classes} classes")
        return [(), (classes,)]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        scores, labels, valid = labels_.by_class(self, self.options.axis, bottoms, self.options)
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
