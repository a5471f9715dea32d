"""Measures the sparseness of a trained net's features."""
import numpy as np

from data_prep import prepared_folder
from tools.analysis import activations
from tools.evaluation import forward
from tools.training.caffe_process import all_cores
from tools.training.run import DEPLOY, Run
from tools.training.schedules import adaptive_weights

# A component is near zero up to this share of the largest one in its vector. Scaling a vector does not make it sparse.
NEAR = 0.01


def near_zero(x: np.ndarray) -> float:
    """The share of the components of x (M, D) whose magnitude is at most NEAR times the largest in their row."""
    magnitude = np.abs(x)
    return float((magnitude <= NEAR * magnitude.max(axis=1, keepdims=True)).mean())


def of_run(run: Run, split: str) -> dict[str, float]:
    """Measures x, FC2's input (M, D), on all records of a split of the run's data.

    `near_zero`: see the function of this name. `l1`: the mean of |x|_1 / (sqrt(D) |x|_2), [xie2019a] Eq. (11); it is
    1/sqrt(D) if only one component is not 0, and 1 if all are equal. `norm`: the mean of |x|_2.
    """
    info = run.info
    records = forward.read(info["data"], prepared_folder.read_note(info["data"]), split)
    blob, *_ = activations.blobs(run.path(DEPLOY)).x
    x = forward.of_split(run.experiment, records, run.path(DEPLOY), run.caffemodel(), [blob],
                         all_cores())[blob]
    return {"near_zero": near_zero(x), "l1": adaptive_weights.sparseness(x),
            "norm": float(np.linalg.norm(x.astype(np.float64), axis=1).mean())}
