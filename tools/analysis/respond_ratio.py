"""RespondRatio, [xie2019b] Eq. (13): which parts of the face the outputs of FC1 respond to (Table 2, Fig. 7 (b))."""
from typing import NamedTuple

import caffe
import numpy as np

from common import files
from common.errors import UserError
from data_prep import alignment, crops, prepared_folder, records
from data_prep.crops import Window
from tools.analysis import activations
from tools.evaluation import forward
from tools.training.caffe_process import all_cores
from tools.training.run import DEPLOY, Run

FILE = "respond_ratio.json"
# Boxes (left, top, right, bottom) in distances between the eyes, from the middle between them; those beside it are
# taken on both sides. The paper names the parts and draws some in Fig. 1, without borders.
PARTS = {"nose root": ((-0.17, -0.30, 0.17, 0.35),),
         "eyes and brows": ((-0.85, -0.60, -0.18, 0.25), (0.18, -0.60, 0.85, 0.25)),
         "cheek": ((-0.95, 0.30, -0.30, 0.85), (0.30, 0.30, 0.95, 0.85)),
         "mouth": ((-0.60, 0.86, 0.60, 1.45),)}


def respond_ratio(z: np.ndarray, weights: np.ndarray, bias: np.ndarray, x: np.ndarray, part: np.ndarray) -> float:
    """Eq. (13) of one part and the samples of one expression.

    z: (samples, K) FC1's inputs; weights: (n, K) V; bias: (n,); x: (samples, n) FC2's inputs; part: bool, (K,) or
    (samples, K), where the part is in z. Of each sample the larger half of x counts, at least one. The factor in the
    denominator, printed as #PART_m / #PART_m, is read as the part's share of z.
    """
    part = np.broadcast_to(part, z.shape)
    ours = np.where(part, z, 0) @ weights.T + bias
    all_ = part.mean(axis=1, keepdims=True) * (z @ weights.T) + bias
    half = max(1, x.shape[1] // 2)
    top = np.argsort(-x, axis=1, kind="stable")[:, :half]
    return float(np.exp(_log_sum_exp(np.take_along_axis(ours, top, axis=1))
                        - _log_sum_exp(np.take_along_axis(all_, top, axis=1))))


def _log_sum_exp(values: np.ndarray) -> float:
    largest = values.max()
    return float(largest + np.log(np.exp(values - largest).sum()))


class Grid(NamedTuple):
    """Where the values of a feature map lie in the net's input: `count` a side, the first at `start`, each `step`
    pixels from the next; positions are those of the centre of what a value sees, in pixels from the border."""

    count: int
    start: float
    step: float

    def positions(self) -> np.ndarray:
        return self.start + self.step * np.arange(self.count)


def part_mask(boxes, grid: Grid, window: Window, region: int, target: np.ndarray) -> np.ndarray:
    """Where a part is in the feature map of a window of the aligned face, bool (count, count). target: the triangle
    that faces were aligned to, see alignment.target_of."""
    left_eye, right_eye, _ = target * region
    middle, unit = (left_eye + right_eye) / 2, np.linalg.norm(right_eye - left_eye)
    columns = grid.positions()
    if window.mirrored:
        columns = window.side - columns
    x = (window.x + columns - middle[0]) / unit
    y = (window.y + grid.positions() - middle[1]) / unit
    inside = np.zeros((grid.count, grid.count), bool)
    for left, top, right, bottom in boxes:
        inside |= np.outer((y >= top) & (y < bottom), (x >= left) & (x < right))
    return inside


def grid_of(deploy: str) -> tuple[Grid, str]:
    """The grid of the map that FC1 takes, and that map's blob. Raises UserError where FC1 takes no map."""
    blob = activations.blobs(deploy).z
    shape = caffe.Net(deploy, caffe.TEST).blobs[blob].shape
    if len(shape) != 4:
        raise UserError(f"{deploy}: FC1 takes no map of the face")
    place = activations.grid(deploy, blob)
    # From the border, where a pixel's centre is half a pixel away.
    return Grid(shape[3], place.origin + 0.5, place.step), blob


def measure(run: Run, split: str) -> dict[str, dict[str, float]]:
    """Expression -> part -> RespondRatio on a split of the run's data; written into the run's folder.

    Raises UserError where the net has no map before FC1, or the faces are not aligned to the template.
    """
    info = run.info
    data, note = info["data"], prepared_folder.read_note(info["data"])
    crop_set = crops.SETS[note["asked"]["crops"]]
    if crop_set.region != 256:
        raise UserError("{}: crops {} are not cut from faces aligned to the template".format(
            data, note["asked"]["crops"]))
    deploy = run.path(DEPLOY)
    grid, blob = grid_of(deploy)
    net = forward.load(deploy, run.caffemodel())
    fc1 = next(name for name in net.params if net.params[name][0].data.shape[1:] == (net.blobs[blob].count,))
    weights, bias = (parameter.data.astype(np.float64) for parameter in net.params[fc1])
    part = forward.read(data, note, split)
    found = forward.of_part(run.experiment, part, deploy, run.caffemodel(), [blob, net.top_names[fc1][0]],
                            all_cores(info["gpu"]))
    z, x = (values.reshape(len(values), -1).astype(np.float64) for values in found.values())
    windows = _windows(data, note, split)
    channels, target = net.blobs[blob].shape[1], alignment.target_of(prepared_folder.template(note)["margins"])
    labels = np.array(part.labels)
    result = {}
    for label, name in enumerate(note["classes"]):
        chosen = np.flatnonzero(labels == label)
        if len(chosen):
            result[name] = {region: respond_ratio(
                z[chosen], weights, bias, x[chosen],
                np.stack([np.tile(part_mask(boxes, grid, windows[row], crop_set.region, target).ravel(), channels)
                          for row in chosen])) for region, boxes in PARTS.items()}
    files.write_json(run.path(FILE), {"split": split, "parts": {name: list(boxes) for name, boxes in PARTS.items()},
                                      "respond_ratio": result})
    return result


def _windows(data: str, note: dict, split: str) -> list[Window]:
    """Record by record, in the order of the LMDB."""
    faces = prepared_folder.faces(data, note)
    return [crops.SETS[note["asked"]["crops"]].windows(split, faces[record.row].role)[record.crop]
            for record in records.read(data, split)]


def table(ratios: dict[str, dict[str, float]]) -> str:
    """As text, a line an expression."""
    parts = list(next(iter(ratios.values())))
    lines = ["".ljust(12) + "".join(part.rjust(16) for part in parts)]
    lines += [name.ljust(12) + "".join(f"{row[part]:.2f}".rjust(16) for part in parts)
              for name, row in ratios.items()]
    return "\n".join(lines)


def read(run: Run) -> dict[str, dict[str, float]]:
    """What `measure` wrote. Raises UserError where there is nothing."""
    return files.read_json(run.path(FILE))["respond_ratio"]
