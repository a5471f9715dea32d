"""The activations of a trained net: FC2's input x, feature maps, and where on the face they respond."""
from collections.abc import Sequence
from dataclasses import dataclass

import caffe
import numpy as np

from common.errors import UserError
from prototxt import build


@dataclass(frozen=True)
class Blobs:
    """Names of a deploy net's blobs."""

    # Maps of the first convolution, after its in-place activation.
    first: str
    # FC1's input.
    z: str
    # FC2's input in each branch.
    x: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The positions of a map's cells: the centre of the receptive field of cell i is origin + i * step."""

    # In pixels of the image; 0 is the centre of the first pixel.
    origin: float
    # In pixels of the image.
    step: float


def blobs(deploy: str) -> Blobs:
    """The names of a deploy net's blobs. Raises UserError if the net has no convolution or no FC layer."""
    layers = _layers(deploy)
    products = [layer for layer in layers if layer.type == "InnerProduct"]
    convolutions = [layer for layer in layers if layer.type == "Convolution"]
    if not products or not convolutions:
        raise UserError(f"{deploy}: has no {'Convolution' if products else 'InnerProduct'} layer")
    # The FC layers that each blob depends on, and all FC layers that another FC layer depends on.
    behind: dict[str, set] = {}
    inner = set()
    for layer in layers:
        origin = set().union(*(behind.get(bottom, set()) for bottom in layer.bottom))
        if layer.type == "InnerProduct":
            inner |= origin
            origin = origin | {layer.name}
        behind.update({top: origin for top in layer.top})
    return Blobs(convolutions[0].top[0], products[0].bottom[0],
                 tuple(layer.bottom[0] for layer in products if layer.name not in inner))


def grid(deploy: str, blob: str) -> Grid:
    """The grid of a blob. It must be computed from `data` by convolutions and poolings with square kernels, and by
    square crops."""
    grids = {"data": Grid(0, 1)}
    for layer in _layers(deploy):
        below = next((grids[bottom] for bottom in layer.bottom if bottom in grids), None)
        if not below:
            continue
        origin, step = below.origin, below.step
        kernel, stride, pad = 1, 1, 0
        if layer.type in ("Convolution", "Im2col"):
            settings = layer.convolution_param
            kernel, stride, pad = settings.kernel_size[0], (list(settings.stride) or [1])[0], (
                list(settings.pad) or [0])[0]
        elif layer.type == "Pooling":
            settings = layer.pooling_param
            kernel, stride, pad = settings.kernel_size, settings.stride, settings.pad
        elif layer.type == "Crop":
            origin += step * layer.crop_param.offset[0]
        grids.update({top: Grid(origin + step * ((kernel - 1) / 2 - pad), step * stride) for top in layer.top})
    return grids[blob]


def maps_of(deploy: str, blob: str) -> str:
    """A blob, if its maps have more than one cell; else the nearest one that it is computed from, along the first
    inputs, whose maps have."""
    above = {top: layer.bottom[0] for layer in _layers(deploy) for top in layer.top
             if layer.bottom and top not in layer.bottom}
    shapes = caffe.Net(deploy, caffe.TEST).blobs
    while blob in above and np.prod(shapes[blob].shape[2:]) == 1:
        blob = above[blob]
    return blob


def _layers(deploy: str) -> list:
    return list(build.read(deploy, caffe.proto.caffe_pb2.NetParameter()).layer)


def normalised(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The x of all branches, each (M, ...), concatenated to (M, D). Each row has L2 norm 1, as the handcrafted features
    have; a row of zeros stays."""
    joined = np.concatenate([vector.reshape(len(vector), -1) for vector in vectors], axis=1)
    norms = np.linalg.norm(joined, axis=1, keepdims=True)
    return joined / np.where(norms > 0, norms, 1)


def average_over_face(maps: np.ndarray, place: Grid, shape: tuple[int, int]) -> np.ndarray:
    """The mean of maps (channels, h, w), interpolated at each pixel of an image: float32 of `shape` (height, width). It
    is linear between the centres of the cells' receptive fields, and constant beyond the outermost centres."""
    mean = maps.mean(axis=0)
    rows, columns = (_interpolation(place, cells, pixels) for cells, pixels in zip(mean.shape, shape))
    return (rows @ mean @ columns.T).astype(np.float32)


def _interpolation(place: Grid, cells: int, pixels: int) -> np.ndarray:
    """The share of each cell in each pixel along one side, (pixels, cells)."""
    position = (np.arange(pixels) - place.origin) / place.step
    return np.stack([np.interp(position, np.arange(cells), cell) for cell in np.eye(cells)], axis=1)


def largest(response: np.ndarray, share: float) -> np.ndarray:
    """A mask of the pixels with the largest responses, bool, of the response's shape. share: the share of all pixels,
    from 0 to 1; there are more if values are equal."""
    count = int(round(share * response.size))
    if count == 0:
        return np.zeros(response.shape, bool)
    return response >= np.partition(response.ravel(), -count)[-count]


def most_varied(maps: np.ndarray, count: int) -> np.ndarray:
    """The `count` of the maps (channels, h, w) with the largest standard deviation over the face, the largest first.
    Equal ones keep their order."""
    deviation = maps.reshape(len(maps), -1).std(axis=1)
    return maps[np.argsort(-deviation, kind="stable")[:count]]
