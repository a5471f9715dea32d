"""How sparse the features of a trained net are."""

import numpy as np

from data_prep import prepared_folder
from prototxt.builders import xie2019a
from tools.evaluation import forward
from tools.training.caffe_process import all_cores
from tools.training.run import DEPLOY, Run
from tools.training.schedules import adaptive_weights

# A component is near zero below this share of the largest one beside it: what shrinks all alike is not sparse.
NEAR = 0.01


def near_zero(x: np.ndarray) -> float:
    """Share of the components of x (M, D) whose magnitude is at most NEAR times the largest of their row."""
    magnitude = np.abs(x)
    return float((magnitude <= NEAR * magnitude.max(axis=1, keepdims=True)).mean())


def of_run(run: Run, split: str) -> dict[str, float]:
    """Of x, FC2's input, on a split of the run's data, of all records: `near_zero`, `l1` ([xie2019a] Eq. (11), |x|_1 /
    (sqrt(D) |x|_2): 1/sqrt(D) where one component is left, 1 where all are alike) and `norm`, the mean of |x|_2."""
    info = run.info
    part = forward.read(info["data"], prepared_folder.read_note(info["data"]), split)
    blob = xie2019a.fc2_input(run.experiment)
    x = forward.of_part(run.experiment, part, run.path(DEPLOY), run.caffemodel(), [blob],
                        all_cores(info["gpu"]))[blob]
    return {"near_zero": near_zero(x), "l1": adaptive_weights.sparseness(x),
            "norm": float(np.linalg.norm(x.astype(np.float64), axis=1).mean())}
