"""How sparse the features of a trained net are."""
import numpy as np

from data_prep import prepared_folder
from tools.analysis import activations
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
    """Measures x, FC2's input (M, D), on all records of a split of the run's data.

    `near_zero`: see there. `l1`: the mean of |x|_1 / (sqrt(D) |x|_2), from 1/sqrt(D) where one component is left to 1
    where all are alike ([xie2019a] Eq. (11)). `norm`: the mean of |x|_2.
    """
    info = run.info
    records = forward.read(info["data"], prepared_folder.read_note(info["data"]), split)
    blob, *_ = activations.blobs(run.path(DEPLOY)).x
    x = forward.of_split(run.experiment, records, run.path(DEPLOY), run.caffemodel(), [blob],
                         all_cores(info["gpu"]))[blob]
    return {"near_zero": near_zero(x), "l1": adaptive_weights.sparseness(x),
            "norm": float(np.linalg.norm(x.astype(np.float64), axis=1).mean())}
