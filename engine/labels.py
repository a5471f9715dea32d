"""What losses and accuracy share: labels, ignored ones, and what a loss is divided by."""
import math
from typing import Any, List, Tuple

import torch

from . import messages
from .layer import Layer, Shape


def check_labels(layer: Layer, class_axis: int, shapes: List[Shape]) -> int:
    """The number of classes; fails unless there is one label for each place beside their axis."""
    axis = layer.axis(class_axis, shapes[0])
    places = shapes[0][:axis] + shapes[0][axis + 1:]
    if math.prod(places) != math.prod(shapes[1]):
        layer.fail(f"labels of the shape {shapes[1]} for scores of the shape {shapes[0]}, expected {places} with the "
                   f"classes along axis {axis}")
    return shapes[0][axis]


def by_class(layer: Layer, class_axis: int, bottoms: List[torch.Tensor],
             options: Any) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (outer, classes, inner), labels (outer, inner), and which of these count. `options`: a message with
    `ignore_label`; ignored labels become 0."""
    shape = tuple(bottoms[0].shape)
    axis = layer.axis(class_axis, shape)
    scores = bottoms[0].reshape(math.prod(shape[:axis]), shape[axis], -1)
    labels = bottoms[1].detach().reshape(scores.shape[0], -1)
    valid = not_ignored(options, labels.long())
    return scores, class_labels(layer, labels.masked_fill(~valid, 0), shape[axis]), valid


def class_labels(layer: Layer, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """The labels as int64, cut off as Caffe does. Fails for a label that is no class: Caffe reads any memory there."""
    indices = labels.detach().long()
    wrong = (indices < 0) | (indices >= classes)
    if wrong.any():
        layer.fail(f"label {labels[wrong][0].item():g}, expected 0 to {classes - 1} ({classes} classes)")
    return indices


def divisor(options: Any, default: str, valid: torch.Tensor) -> Any:
    """What a loss is divided by, at least 1: by a LossParameter's `normalization`, or what the older `normalize` means,
    or `default`. `valid`: (samples, values of each), those that count."""
    if options.HasField("normalization"):
        mode = messages.enum_name(options, "normalization")
    elif options.HasField("normalize"):
        mode = "VALID" if options.normalize else "BATCH_SIZE"
    else:
        mode = default
    if mode == "VALID":
        return valid.sum().clamp(min=1)
    return {"FULL": valid.numel(), "BATCH_SIZE": len(valid), "NONE": 1}[mode]


def not_ignored(options: Any, labels: torch.Tensor) -> torch.Tensor:
    """Which labels (int64) are not the `ignore_label` of a message, as bool."""
    if options.HasField("ignore_label"):
        return labels != options.ignore_label
    return torch.ones_like(labels, dtype=torch.bool)
