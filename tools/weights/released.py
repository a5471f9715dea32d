"""Trained runs that come with the project, in models/released, with weights of half the size.

    NAME/weights.npz       the parameters of the deploy net in float16: LAYER/NUMBER -> values
    NAME/deploy.prototxt   the deploy net
    NAME/run.json, data.json   as in the run's folder, without the paths of the machine that trained it

`./fer weights get NAME` makes a run of them. To add a run: ./fer python -m tools.weights.released RUN NAME
"""
import os
import shutil
import sys
import zipfile

import caffe
import numpy as np

from common import files
from common.errors import UserError
from common.experiment import ROOT
from data_prep import prepared_folder
from tools.training import pretrained
from tools.training import run as runs
from tools.training.run import DATA, DEPLOY, Run

FOLDER = os.path.join(ROOT, "models", "released")
WEIGHTS, NOTE = "weights.npz", "run.json"
# A time for the files in weights.npz, so that the same weights have the same bytes.
NO_TIME = (1980, 1, 1, 0, 0, 0)


def get(name: str, folder: str, digest: str) -> list[str]:
    """Makes the run folder/name of a released one, and returns its path.

    digest: the SHA-256 of its caffemodel. Raises UserError if the folder holds something else, such as a run of the
    user's own, and if the caffemodel has another digest.
    """
    source, made = os.path.join(FOLDER, name), Run(os.path.join(folder, name))
    files.require_claimable(made.folder, runs.KIND)
    if made.has_begun and files.read_json(made.path(NOTE)) != files.read_json(os.path.join(source, NOTE)):
        raise UserError(f"{made.folder}: holds another run; give it another name, or remove it")
    is_new = not os.path.exists(made.folder)
    files.claim(made.folder, runs.KIND)
    try:
        _make(source, made, digest)
    except BaseException:
        if is_new:
            files.remove(made.folder)
        raise
    return [made.folder]


def _make(source: str, made: Run, digest: str) -> None:
    for file in (DEPLOY, DATA):
        shutil.copyfile(os.path.join(source, file), made.path(file))
    note = files.read_json(os.path.join(source, NOTE))
    weights = made.path("snapshots", f"iter_{note['iterations']}.caffemodel")
    os.makedirs(os.path.dirname(weights), exist_ok=True)
    with files.replacing(weights) as partial:
        restore(os.path.join(source, WEIGHTS), made.path(DEPLOY), partial)
        if files.digest(partial) != digest:
            raise UserError(f"{source}: makes a caffemodel with the SHA-256 {files.digest(partial)}, expected {digest}")
    files.write_json(made.path(NOTE), note)


def restore(weights: str, deploy: str, caffemodel: str) -> None:
    """Writes the caffemodel of a deploy net. weights: the path of its parameters."""
    net = caffe.Net(deploy, caffe.TEST)
    with np.load(weights, allow_pickle=False) as arrays:
        for layer, blobs in net.params.items():
            for number, blob in enumerate(blobs):
                blob.data[...] = arrays[f"{layer}/{number}"]
    pretrained.save(net, caffemodel)


def release(run: Run, name: str, folder: str = FOLDER) -> str:
    """Writes a run with its last snapshot to folder/name, and returns the SHA-256 that `get` will ask for."""
    target = os.path.join(folder, name)
    os.makedirs(target, exist_ok=True)
    net = caffe.Net(run.path(DEPLOY), run.caffemodel(), caffe.TEST)
    with zipfile.ZipFile(os.path.join(target, WEIGHTS), "w", zipfile.ZIP_DEFLATED) as archive:
        for layer, blobs in net.params.items():
            for number, blob in enumerate(blobs):
                if np.abs(blob.data).max(initial=0) > np.finfo(np.float16).max:
                    raise UserError(f"{run.folder}: layer {layer} has values that are too large for float16")
                with archive.open(zipfile.ZipInfo(f"{layer}/{number}.npy", NO_TIME), "w") as stream:
                    np.lib.format.write_array(stream, blob.data.astype(np.float16), allow_pickle=False)
    shutil.copyfile(run.path(DEPLOY), os.path.join(target, DEPLOY))
    data, note = files.read_json(run.path(DATA)), run.info
    data["asked"] = {key: os.path.basename(value) if key == "source" else value for key, value in data["asked"].items()}
    files.write_json(os.path.join(target, DATA), data)
    note = {**note, "data": os.path.join("data", prepared_folder.data_set(data))}
    if note.get(runs.ORIGIN):
        note[runs.ORIGIN] = {**note[runs.ORIGIN], "path": os.path.basename(note[runs.ORIGIN]["path"])}
    files.write_json(os.path.join(target, NOTE), note)
    scratch = os.path.join(target, "restored.caffemodel")
    try:
        restore(os.path.join(target, WEIGHTS), run.path(DEPLOY), scratch)
        return files.digest(scratch)
    finally:
        files.remove(scratch)


if __name__ == "__main__":
    print(release(Run(os.path.abspath(sys.argv[1])), sys.argv[2]))
