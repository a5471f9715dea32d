"""RespondRatio, [xie2019b] Eq. (13): the parts of the face to which FC1 responds (Table 2, Fig. 7 (b))."""
from collections.abc import Mapping
from dataclasses import dataclass

import caffe
import numpy as np
import scipy.special
import tabulate

from common import files
from common.errors import UserError
from data_prep import alignment, crops, prepared_folder, records
from data_prep.crops import Window
from tools.analysis import activations
from tools.evaluation import forward
from tools.training.caffe_process import all_cores
from tools.training.run import DEPLOY, Run

FILE = "respond_ratio.json"
# The boxes of each part (left, top, right, bottom), from the middle between the eyes, in distances between the eyes.
# The paper names the parts and draws some of them in Fig. 1, but does not give their borders.
PARTS = {"nose root": ((-0.17, -0.30, 0.17, 0.35),),
         "eyes and brows": ((-0.85, -0.60, -0.18, 0.25), (0.18, -0.60, 0.85, 0.25)),
         "cheek": ((-0.95, 0.30, -0.30, 0.85), (0.30, 0.30, 0.95, 0.85)),
         "mouth": ((-0.60, 0.86, 0.60, 1.45),)}


def respond_ratio(z: np.ndarray, weights: np.ndarray, bias: np.ndarray, x: np.ndarray, part: np.ndarray) -> float:
    """Eq. (13) for one part and the samples of one expression.

    z: (samples, K), FC1's inputs; weights: (n, K), V; bias: (n,); x: (samples, n), FC2's inputs; part: bool, (K,) or
    (samples, K), True where z belongs to the part. For each sample, the n/2 largest values of x count, at least one.
    The factor in the denominator is printed as #PART_m / #PART_m; it is understood as the part's share of z.
    """
    part = np.broadcast_to(part, z.shape)
    of_part = np.where(part, z, 0) @ weights.T + bias
    of_all = part.mean(axis=1, keepdims=True) * (z @ weights.T) + bias
    half = max(1, x.shape[1] // 2)
    top = np.argsort(-x, axis=1, kind="stable")[:, :half]
    return float(np.exp(scipy.special.logsumexp(np.take_along_axis(of_part, top, axis=1))
                        - scipy.special.logsumexp(np.take_along_axis(of_all, top, axis=1))))


@dataclass(frozen=True)
class Grid:
    """The positions of a feature map's values in the net's input: each is at the centre of its receptive field."""

    # Number of values per side.
    size: int
    # Position of the first value, in pixels from the border.
    start: float
    # Distance between two values, in pixels.
    step: float

    def positions(self) -> np.ndarray:
        """The positions along a side, (size,), in pixels from the border."""
        return self.start + self.step * np.arange(self.size)


def part_mask(boxes, grid: Grid, window: Window, region: int, target: np.ndarray) -> np.ndarray:
    """A mask of a part in the feature map of a window of the aligned face, bool (size, size).

    boxes: as in PARTS; region: side of the aligned face, in pixels; target: the triangle to which faces were aligned,
    see alignment.target_of.
    """
    left_eye, right_eye, _ = target * region
    middle, unit = (left_eye + right_eye) / 2, np.linalg.norm(right_eye - left_eye)
    columns = grid.positions()
    if window.mirrored:
        columns = window.side - columns
    x = (window.x + columns - middle[0]) / unit
    y = (window.y + grid.positions() - middle[1]) / unit
    inside = np.zeros((grid.size, grid.size), bool)
    for left, top, right, bottom in boxes:
        inside |= np.outer((y >= top) & (y < bottom), (x >= left) & (x < right))
    return inside


def grid_of(deploy: str) -> tuple[Grid, str]:
    """The grid of the feature map that is FC1's input, and the name of its blob. Raises UserError if FC1's input is
    not a map."""
    blob = activations.blobs(deploy).z
    shape = caffe.Net(deploy, caffe.TEST).blobs[blob].shape
    if len(shape) != 4 or shape[3] == 1:
        raise UserError(f"{deploy}: FC1's input is not a map of the face")
    place = activations.grid(deploy, blob)
    # Adds half a pixel, because this grid starts at the border and not at the centre of the first pixel.
    return Grid(shape[3], place.origin + 0.5, place.step), blob


def measure(run: Run, split: str) -> dict[str, dict[str, float]]:
    """Expression -> part -> RespondRatio on a split of the run's data. The result is also written into the run's
    folder.

    Raises UserError if FC1's input is not a map, or if the faces are not aligned to the template.
    """
    info = run.info
    data, note = info["data"], prepared_folder.read_note(info["data"])
    crop_set = crops.SETS[note["asked"]["crops"]]
    if crop_set.region != 256:
        raise UserError(f"{data}: crops {note['asked']['crops']} are not cut from faces aligned to the template")
    deploy = run.path(DEPLOY)
    grid, blob = grid_of(deploy)
    net = forward.load(deploy, run.caffemodel())
    fc1 = next(name for name in net.params if net.params[name][0].data.shape[1:] == (net.blobs[blob].count,))
    weights, bias = (parameter.data.astype(np.float64) for parameter in net.params[fc1])
    records_of_split = forward.read(data, note, split)
    engine = all_cores()
    outputs = forward.of_split(run.experiment, records_of_split, deploy, run.caffemodel(),
                               [blob, net.top_names[fc1][0]], engine)
    z, x = (values.reshape(len(values), -1).astype(np.float64) for values in outputs.values())
    windows = _windows(data, note, split)
    channels, target = net.blobs[blob].shape[1], alignment.target_of(prepared_folder.template(note)["margins"])
    labels = np.array(records_of_split.labels)
    result = {}
    for label, name in enumerate(note["classes"]):
        samples = np.flatnonzero(labels == label)
        if len(samples):
            result[name] = {part: respond_ratio(
                z[samples], weights, bias, x[samples],
                np.stack([np.tile(part_mask(boxes, grid, windows[sample], crop_set.region, target).ravel(), channels)
                          for sample in samples])) for part, boxes in PARTS.items()}
    files.write_json(run.path(FILE), {"split": split, "parts": {name: list(boxes) for name, boxes in PARTS.items()},
                                      "respond_ratio": result, "engine": engine.device.engine})
    return result


def _windows(data: str, note: dict, split: str) -> list[Window]:
    """The window of each record, in the order of the LMDB."""
    faces = prepared_folder.faces(data, note)
    return [crops.SETS[note["asked"]["crops"]].windows(split, faces[record.row].role)[record.crop]
            for record in records.read(data, split)]


def table(ratios: Mapping[str, Mapping[str, float]]) -> str:
    """The ratios as a text table, with a line for each expression."""
    return tabulate.tabulate([[expression, *row.values()] for expression, row in ratios.items()],
                             ["", *next(iter(ratios.values()))], tablefmt="plain", floatfmt=".2f")


def read(run: Run) -> dict[str, dict[str, float]]:
    """The result that `measure` wrote. Raises UserError if there is none."""
    return files.read_json(run.path(FILE))["respond_ratio"]
