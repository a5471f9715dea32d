"""torchvision's ResNet-18: the names and shapes of its tensors, their names in Caffe, and its forward pass in NumPy.

The forward pass knows nothing of Caffe. So it can show that converted weights are the same function.
"""
import re

import numpy as np

from tools.weights.torch_file import Tensors

EPSILON = 1e-5  # of BatchNorm
# Branches of a block in Caffe's names -> (convolution, its BatchNorm) in torchvision's.
BRANCHES = {"1": ("downsample.0", "downsample.1"), "2a": ("conv1", "bn1"), "2b": ("conv2", "bn2")}
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def shapes() -> dict[str, tuple[int, ...]]:
    """The tensors up to pool5: name -> shape. The counters `num_batches_tracked`, which old files lack, are not
    needed."""
    found: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, norm: str, *shape: int) -> None:
        found[convolution + ".weight"] = shape
        found.update({f"{norm}.{what}": shape[:1] for what in BATCH_NORM})
    add("conv1", "bn1", 64, 3, 7, 7)
    below = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (f"layer{stage}.0.", f"layer{stage}.1."):
            add(block + "conv1", block + "bn1", width, below, 3, 3)
            add(block + "conv2", block + "bn2", width, width, 3, 3)
            if below != width:
                add(block + "downsample.0", block + "downsample.1", width, below, 1, 1)
            below = width
    return found


def tensors_of(layer: str, kind: str) -> list[str]:
    """The tensors that belong to the blobs of one of Caffe's layers, in the blobs' order; empty if torchvision's
    ResNet-18 has no such layer. kind: the layer's type."""
    module = _module(layer)
    parts = {"Convolution": ("weight",), "BatchNorm": ("running_mean", "running_var"), "Scale": ("weight", "bias"),
             "InnerProduct": ("weight", "bias")}.get(kind, ())
    return [f"{module}.{part}" for part in parts] if module else []


def _module(layer: str) -> str:
    """Caffe's res3a_branch1, bn3a_branch1 and scale3a_branch1 -> layer2.0.downsample.0 and .1."""
    named = {"conv1": "conv1", "bn_conv1": "bn1", "scale_conv1": "bn1", "fc": "fc", "fc1000": "fc"}
    match = re.fullmatch(r"(res|bn|scale)([2-5])([ab])_branch(1|2a|2b)", layer)
    if not match:
        return named.get(layer, "")
    kind, stage, block, branch = match.groups()
    return f"layer{int(stage) - 1}.{'ab'.index(block)}.{BRANCHES[branch][kind != 'res']}"


# ---------------------------------------------------------------- the forward pass

def forward(tensors: Tensors, images: np.ndarray) -> np.ndarray:
    """The features before the classifier, (N, 512) float64. images: (N, 3, height, width) in the order RGB, transformed
    as the weights expect it."""
    below = _pooled(_relu(_unit(tensors, "conv1", "bn1", images.astype(float), 2, 3)))
    for stage in range(1, 5):
        for block in (f"layer{stage}.0.", f"layer{stage}.1."):
            stride = 2 if block + "downsample.0.weight" in tensors else 1
            first = _relu(_unit(tensors, block + "conv1", block + "bn1", below, stride, 1))
            second = _unit(tensors, block + "conv2", block + "bn2", first, 1, 1)
            shortcut = below if stride == 1 else _unit(tensors, block + "downsample.0", block + "downsample.1", below,
                                                       stride, 0)
            below = _relu(second + shortcut)
    return below.mean(axis=(2, 3))


def _unit(tensors: Tensors, convolution: str, norm: str, images: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """A convolution and its BatchNorm."""
    convolved = _convolution(images, tensors[convolution + ".weight"].astype(float), stride, pad)
    weight, bias, mean, variance = (tensors[f"{norm}.{what}"].astype(float)[:, None, None] for what in BATCH_NORM)
    return (convolved - mean) / np.sqrt(variance + EPSILON) * weight + bias


def _convolution(images: np.ndarray, weights: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """A sum over the kernel's positions: each adds the image, shifted, times its weights."""
    height, width = ((side + 2 * pad - weights.shape[2]) // stride + 1 for side in images.shape[2:])
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    total = np.zeros((len(images), len(weights), height, width))
    for row in range(weights.shape[2]):
        for column in range(weights.shape[3]):
            shifted = padded[:, :, row:row + stride * height:stride, column:column + stride * width:stride]
            total += np.einsum("oi,nihw->nohw", weights[:, :, row, column], shifted, optimize=True)
    return total


def _pooled(images: np.ndarray) -> np.ndarray:
    """Maximum pooling 3x3, stride 2, one pixel of padding, sizes rounded down."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    height, width = ((side - 1) // 2 + 1 for side in images.shape[2:])
    return np.max([padded[:, :, row:row + 2 * height:2, column:column + 2 * width:2]
                   for row in range(3) for column in range(3)], axis=0)


def _relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)
