"""Whether a file of pretrained weights is whole, and has what its net needs."""
import os
import tempfile
from typing import Optional

from common import files
from common.errors import UserError
from prototxt.builders import backbones
from tools.training import pretrained
from tools.weights import catalogue, conversion, torch_file


def check(path: str, net: Optional[str]) -> str:
    """What fits, as lines. net: a backbone; None for that of the file's name in the catalogue.

    Raises UserError if the file is damaged, is not the published one, lacks something that the net has, has it in
    another shape, or if a weight is NaN or infinite.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: " + (
            "is a folder, expected a file of weights" if os.path.isdir(path) else "no such file"))
    entry = catalogue.of_file(path)
    if net is None:
        if entry is None or entry.net is None:
            raise UserError(f"{path}: the list does not say which net it is for; name the net with --net")
        net = entry.net
    backbones.named(net)
    digest = files.digest(path)
    published = entry.digest if entry is not None else None
    if published not in (None, digest):
        raise UserError(f"{path}: its SHA-256 is {digest}, the published file's {published}")
    if torch_file.is_one(path):
        if net not in conversion.NETS:
            raise UserError(f"{path}: is of PyTorch or safetensors, expected a caffemodel for the net {net}")
        tensors = torch_file.read(path)
        fit, what = conversion.compare(tensors, net), "tensor"
        conversion.require_finite(path, tensors)
    else:
        model = pretrained.shapes(pretrained.read(path))
        pretrained.require_layout(path, model, net)
        with tempfile.TemporaryDirectory() as folder:
            fit, what = pretrained.compare(model, pretrained.net_shapes(conversion.definition(folder, net))), "layer"
        pretrained.require_finite(path)
    conversion.require_fitting(path, fit, what)
    return "\n".join([
        f"SHA-256 {digest}{', as published' if published else ''}",
        f"fits: all {len(fit.copied)} {what}s of the net {net}, with their shapes; all weights are finite",
        conversion.left_out(fit.left)])
