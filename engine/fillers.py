"""Initial values of parameters (caffe/filler.hpp). The distributions are Caffe's, the random numbers are torch's."""
from typing import Any, Tuple

import torch

from common import suggestions

from . import messages

KINDS = ("constant", "uniform", "gaussian", "xavier", "msra", "positive_unitball", "bilinear")


def fans(blob: torch.Tensor) -> Tuple[float, float]:
    """How many values go into and come out of one of a layer's units, as Caffe counts them."""
    fan_in = blob.numel() / blob.shape[0]
    fan_out = blob.numel() / blob.shape[1] if blob.dim() > 1 else float(blob.numel())
    return fan_in, fan_out


def fill(blob: torch.Tensor, filler: Any, generator: torch.Generator) -> None:
    """Fills a blob on the processor in place, by a FillerParameter. Raises ValueError for what Caffe refuses, too."""
    kind = filler.type
    if kind not in KINDS:
        raise ValueError(suggestions.unknown("filler", kind, KINDS))
    if filler.sparse >= 0 and kind != "gaussian":
        raise ValueError(f"filler {kind} with sparse: only gaussian has it")
    if kind == "constant":
        blob.fill_(filler.value)
    elif kind == "uniform":
        if filler.min > filler.max:
            raise ValueError(f"filler uniform from {filler.min:g} to {filler.max:g}, expected min <= max")
        blob.uniform_(filler.min, filler.max, generator=generator)
    elif kind == "gaussian":
        if filler.std <= 0:
            raise ValueError(f"filler gaussian with std {filler.std:g}, expected more than 0")
        blob.normal_(filler.mean, filler.std, generator=generator)
        if filler.sparse >= 0:  # so many of the outputs that an input goes to have a weight, on average
            share = min(1.0, filler.sparse / blob.shape[0])
            blob.mul_(torch.empty_like(blob).bernoulli_(share, generator=generator))
    elif kind in ("xavier", "msra"):
        norm = messages.enum_name(filler, "variance_norm")
        fan_in, fan_out = fans(blob)
        count = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]
        if kind == "xavier":
            blob.uniform_(-(3 / count) ** .5, (3 / count) ** .5, generator=generator)
        else:
            blob.normal_(0, (2 / count) ** .5, generator=generator)
    elif kind == "positive_unitball":
        rows = blob.uniform_(0, 1, generator=generator).view(blob.shape[0], -1)
        rows.div_(rows.sum(1, keepdim=True))
    else:
        _bilinear(blob)


def _bilinear(blob: torch.Tensor) -> None:
    """The weights of a Deconvolution that enlarges an image."""
    size = blob.shape[-1]
    if blob.dim() != 4 or blob.shape[-2] != size:
        raise ValueError(f"filler bilinear for the shape {tuple(blob.shape)}, expected 4 axes and a square kernel")
    factor = (size + 1) // 2
    center = (size - 1) / (2 * factor)
    line = 1 - (torch.arange(size, dtype=blob.dtype) / factor - center).abs()
    blob.copy_((line[:, None] * line).expand_as(blob))
