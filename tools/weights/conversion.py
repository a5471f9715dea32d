"""Weights of ResNet-18 from torchvision's names into caffemodels, and back.

conv1 takes RGB in torchvision and BGR in Caffe. A BatchNorm is two layers in Caffe, BatchNorm and Scale. The third blob
of Caffe's BatchNorm is a count, which divides mean and variance. All other values are the same.

Each conversion is proven before its file is there: the same random images go through Caffe with the caffemodel, and
through `resnet18.forward` with the tensors.
"""
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import caffe
import numpy as np

from common import expressions, files, suggestions
from common.errors import UserError
from prototxt import build
from prototxt.builders import backbones
from tools.training import pretrained
from tools.weights import resnet18, torch_file
from tools.weights.torch_file import Tensors

# Stands for a net, where torchvision's names are wanted.
TORCHVISION = "torchvision"
# ImageNet's classifier is in IMAGENET alone. The other nets continue with a classifier of expressions, CLASSIFIER.
IMAGENET, IMAGENET_CLASSIFIER, CLASSIFIER = "resnet18_base", "fc1000", "fc"
NETS = ("resnet18", "resnet18_raf", IMAGENET)
# A classifier of more classes is of another task, and is left out.
MOST_CLASSES = len({*expressions.SEVEN, *expressions.SIX_AND_CONTEMPT})
FEATURES = "pool5"
WIDTH = backbones.named("resnet18").width
# Caffe's BatchNorm keeps 0.9 of its three blobs in each iteration and adds a batch with a count of 1. After a long
# training the count is 10. With it, a training goes on as PyTorch's does, which keeps 0.9 of the statistics and adds
# 0.1 of the batch's.
COUNT = 10
COUNTERS = ".num_batches_tracked"
# The largest difference of a feature that is accepted, relative to the largest feature. float32 leaves about 1e-6.
TOLERANCE = 1e-4
# The random images of the proof: number, channels, height, width.
IMAGES = (2, 3, 64, 64)
SEED = 0
# How many layers or tensors a message names.
NAMED = 4


@dataclass(frozen=True)
class Conversion:
    """What was converted."""

    # Layers of Caffe, and their tensors in torchvision.
    mapped: list[tuple[str, list[str]]]
    # Tensors or layers of the file that have no counterpart.
    left: list[str]
    # The largest difference of a feature between both, relative to the largest feature.
    error: float

    def __str__(self) -> str:
        rows: list[list[str]] = []
        for layer, tensors in self.mapped:
            # A convolution with its BatchNorm and Scale is one row.
            if not layer.startswith(("bn", "scale")):
                rows.append([])
            rows[-1].append(f"{layer} = {tensors[0].rpartition('.')[0]}")
        return "\n".join([
            f"mapped {len(self.mapped)} layers, and conv1 from one order of the channels, RGB or BGR, to the other:",
            *("  " + ", ".join(row) for row in rows), left_out(self.left), "missing: none",
            f"proven: {FEATURES} of {IMAGES[0]} random images in Caffe and in NumPy; the largest difference is "
            f"{self.error:.1e} of the largest value (at most {TOLERANCE:.0e} is accepted)"])


def to_caffe(path: str, net: str, out: str) -> Conversion:
    """Writes a state dict of torchvision's ResNet-18 as a caffemodel. net: one of NETS.

    Raises UserError if the file has no such state dict, has other layers, or a weight is NaN or infinite.
    """
    if net not in NETS:
        raise UserError(f"--to {net}: expected one of {', '.join(NETS)}, or {TORCHVISION}")
    _require_out(out, ".caffemodel")
    tensors = torch_file.read(path)
    require_fitting(path, compare(tensors, net), "tensor")
    require_finite(path, tensors)
    with tempfile.TemporaryDirectory() as folder:
        path_of_net = definition(folder, net, len(tensors["fc.weight"]) if _is_of_expressions(
            [tensors[name].shape for name in ("fc.weight", "fc.bias") if name in tensors]) else 0)
        made = caffe.Net(path_of_net, caffe.TEST)
        mapped = _mapped(made)
        for layer, names in mapped:
            blobs = made.params[layer]
            count = COUNT if _has_count(blobs, names) else 1
            for blob, name in zip(blobs, names):
                blob.data[...] = _swapped(name, tensors[name]) * count
            if _has_count(blobs, names):
                blobs[-1].data[...] = count
        with files.replacing(out, alone=True) as partial:
            pretrained.save(made, partial)
            error = _require_same(path, tensors, caffe.Net(path_of_net, caffe.TEST, weights=partial))
    converted = {name for _, names in mapped for name in names}
    return Conversion(mapped, [name for name in tensors if name not in converted], error)


def to_torchvision(path: str, out: str) -> Conversion:
    """Writes a caffemodel of torchvision's ResNet-18, or of a net that contains it, as safetensors with torchvision's
    names.

    Raises UserError if the file is no such caffemodel, or a weight is NaN or infinite.
    """
    _require_out(out, ".safetensors")
    model = pretrained.shapes(pretrained.read(path))
    pretrained.require_finite(path)
    net = IMAGENET if IMAGENET_CLASSIFIER in model else NETS[0]
    pretrained.require_layout(path, model, NETS[0])
    with tempfile.TemporaryDirectory() as folder:
        shapes = model.get(CLASSIFIER, ())
        path_of_net = definition(folder, net, shapes[0][0] if _is_of_expressions(shapes) else 0)
        fit = pretrained.compare(model, pretrained.net_shapes(path_of_net))
        require_fitting(path, fit, "layer")
        held = caffe.Net(path_of_net, caffe.TEST, weights=path)
        mapped = _mapped(held)
        tensors = {}
        for layer, names in mapped:
            blobs = held.params[layer]
            # Without statistics the count is 0, and Caffe then takes 0 for both.
            count = float(blobs[-1].data[0]) or np.inf if _has_count(blobs, names) else 1
            tensors.update({name: _swapped(name, blob.data / count) for name, blob in zip(names, blobs)})
        with files.replacing(out, alone=True) as partial:
            torch_file.write_safetensors(partial, tensors, {"format": "pt", "made_by": files.SIGNATURE})
            error = _require_same(path, torch_file.read(partial), held)
    return Conversion(mapped, fit.left, error)


def compare(tensors: Tensors, net: str) -> pretrained.Fit:
    """Which tensors a net takes. net: one of NETS."""
    wanted = dict(resnet18.shapes(), **{"fc.weight": (1000, WIDTH), "fc.bias": (1000,)} if net == IMAGENET else {})
    return pretrained.compare({name: (values.shape,) for name, values in tensors.items()},
                              {name: (shape,) for name, shape in wanted.items()})


def left_out(names: list[str]) -> str:
    """One line; the counters of torchvision's BatchNorms are only counted."""
    others = [name for name in names if not name.endswith(COUNTERS)]
    counters = len(names) - len(others)
    others += [f"{counters} counters {COUNTERS[1:]}"] * bool(counters)
    return f"left out: {', '.join(others) or 'none'}"


def require_fitting(path: str, fit: pretrained.Fit, what: str) -> None:
    """Raises UserError if a file lacks something that the net has, or has it in another shape, or is of a ResNet with
    more layers. what: "layer" or "tensor"."""
    if fit.unfit:
        name, given, wanted = fit.unfit[0]
        others = f"; {len(fit.unfit) - 1} more do not fit" * (len(fit.unfit) > 1)
        raise UserError(f"{path}: {what} {name} has the shape {_shapes(given)}, expected {_shapes(wanted)}{others}")
    if fit.fresh:
        raise UserError(f"{path}: lacks {len(fit.fresh)} {what}s of the net: {suggestions.first(fit.fresh, NAMED)}")
    deeper = [name for name in fit.left if re.match(r"(conv|bn|layer)\d.*(?<!num_batches_tracked)$", name)]
    if what == "tensor" and deeper:
        raise UserError(f"{path}: has {len(deeper)} tensors that ResNet-18 does not have: "
                        f"{suggestions.first(deeper, NAMED)}")


def require_finite(path: str, tensors: Tensors) -> None:
    """Raises UserError if a weight is NaN or infinite."""
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise UserError(f"{path}: tensor {name} has weights that are NaN or infinite")


def _shapes(shapes: tuple) -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _require_out(path: str, ending: str) -> None:
    if not path.endswith(ending):
        raise UserError(f"--out {path}: expected a name that ends with {ending}")
    files.require_replaceable(path, alone=True)


def _is_of_expressions(shapes) -> bool:
    """Whether these shapes, of weight and bias, are those of a classifier of expressions on the features."""
    return len(shapes) == 2 and tuple(shapes[0][1:]) == (WIDTH,) and shapes[0][0] <= MOST_CLASSES


def definition(folder: str, net: str, classes: int = 0) -> str:
    """Writes the definition of a backbone's net; returns its path. classes: of a classifier of expressions, which is
    added; 0 for none."""
    proto = backbones.alone(net)
    if classes:
        proto.layer.add(name=CLASSIFIER, type="InnerProduct", bottom=[FEATURES],
                        top=[CLASSIFIER]).inner_product_param.num_output = classes
    # The name is the first thing in a caffemodel. It shows that the file is ours.
    proto.name = f"{net}, {files.SIGNATURE}"
    path = f"{folder}/net.prototxt"
    files.write_text(path, build.text(proto))
    return path


def _mapped(net: caffe.Net) -> list[tuple[str, list[str]]]:
    """The net's layers with weights, and the tensors of their blobs."""
    kinds = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    return [(layer, resnet18.tensors_of(layer, kinds[layer])) for layer in net.params]


def _has_count(blobs: Sequence, names: list[str]) -> bool:
    """Whether the last blob of a layer is a BatchNorm's count. names: the layer's tensors."""
    return len(blobs) > len(names)


def _swapped(name: str, values: np.ndarray) -> np.ndarray:
    """conv1 with its input channels in the other order, RGB or BGR; other tensors as they are."""
    return values[:, ::-1] if name == "conv1.weight" else values


def _require_same(path: str, tensors: Tensors, net: caffe.Net) -> float:
    """The largest difference of a feature between NumPy and Caffe, relative to the largest feature. Raises UserError if
    it is larger than TOLERANCE."""
    images = np.random.RandomState(SEED).standard_normal(IMAGES)
    with np.errstate(invalid="ignore"):  # of a negative variance; the difference is NaN then
        expected = resnet18.forward(tensors, images)
    net.blobs["data"].reshape(*IMAGES)
    net.blobs["data"].data[...] = images[:, ::-1]
    net.forward()
    error = np.abs(net.blobs[FEATURES].data.reshape(expected.shape) - expected).max() / np.abs(expected).max()
    if not error <= TOLERANCE:  # also where it is NaN
        raise UserError(f"{path}: {FEATURES} of random images differs by {error:.1e} of the largest value between "
                        f"Caffe and NumPy, expected at most {TOLERANCE:.0e}")
    return float(error)
