"""The engine with a PyTorch of today and without Caffe, on the host, beside the engine in the environment. `.ci/run`
runs it."""
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from engine import messages

pytestmark = pytest.mark.oracle
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(command, folder):
    variables = dict(os.environ, PYTHONPATH=str(ROOT), OPENBLAS_NUM_THREADS="1")
    done = subprocess.run(command, cwd=str(folder), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of the same training on the host and in the environment, from Caffe's start weights, and the logs."""
    first = tmp_path_factory.mktemp("host")
    run([str(ROOT / "fer"), "python", "-m", "tests.host_oracles.engine_data", str(first)], ROOT)
    run([str(ROOT / "fer"), "engine", "train", "-solver", "start.prototxt"], first)
    second = tmp_path_factory.mktemp("inside") / "copy"
    shutil.copytree(str(first), str(second))
    words = ["train", "-solver", "solver.prototxt", "-weights", "start_iter_0.caffemodel"]
    return {"host": (first, run([sys.executable, "-m", "engine", *words], first)),
            "inside": (second, run([str(ROOT / "fer"), "engine", *words], second))}


def weights(folder, name):
    net = messages.read_binary(str(folder / name), "NetParameter")
    return {(layer.name, number): np.array(blob.data) for layer in net.layer for number, blob in enumerate(layer.blobs)}


def assert_same_weights(found, expected):
    """Within 1e-5 of the largest value of each blob. Returns the largest difference."""
    assert found.keys() == expected.keys()
    differences = {key: np.abs(found[key] - values).max() / np.abs(values).max() for key, values in expected.items()}
    largest = max(differences, key=lambda key: differences[key])
    assert differences[largest] < 1e-5, largest
    return differences[largest]


def test_there_is_no_caffe():
    assert importlib.util.find_spec("caffe") is None


def test_the_weights_are_the_same(folders):
    found, expected = (weights(folders[where][0], "trained_iter_10.caffemodel") for where in ("host", "inside"))
    start = weights(folders["host"][0], "start_iter_0.caffemodel")
    assert set(expected) >= {(name, 0) for name in ("conv1", "fc2", "center_loss", "gabor_loss")}
    for key, values in expected.items():
        assert np.abs(values - start[key]).max() > 0, f"{key} has not changed"
    print(f"largest difference of a weight: {assert_same_weights(found, expected):.1e}")


def torchrun(ranks, folder, *words):
    """The log of ranks under torchrun."""
    return run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), "-m",
                "engine", "train", "-solver", "solver.prototxt", *words], folder)


@pytest.mark.parametrize("ranks", [2, 3])
def test_under_torchrun_the_weights_are_the_same(folders, tmp_path, ranks):
    folder = tmp_path / "copy"
    shutil.copytree(str(folders["host"][0]), str(folder))
    for file in folder.glob("trained_*"):
        file.unlink()
    log = torchrun(ranks, folder, "-weights", "start_iter_0.caffemodel")
    assert f"engine] {ranks} processes (ranks) train together" in log and log.count("Iteration 9 ") == 1
    name = "trained_iter_10.caffemodel"
    print(f"largest difference of a weight: "
          f"{assert_same_weights(weights(folder, name), weights(folders['host'][0], name)):.1e}")


def test_the_logs_are_the_same(folders):
    """But for the times, and the last digits of the losses."""
    texts = []
    for _, log in folders.values():
        lines = re.findall(r"(?m)^I\S+ \S+ +\d+ (\S+\] .*)", log.partition("Starting Optimization")[2])
        texts.append([re.sub(r" \(\S+ iter/s, .*?\)|(?<=\d\.\d{3})\d+", "", line) for line in lines])
    assert texts[0] == texts[1] and len(texts[0]) > 40


def test_without_caffe_pytorch_makes_the_start_weights(folders, tmp_path):
    folder, _ = folders["host"]
    text = (folder / "start.prototxt").read_text().replace('"start"', f'"{tmp_path}/made"')
    (folder / "own.prototxt").write_text(text)
    log = run([sys.executable, "-m", "engine", "train", "-solver", "own.prototxt"], folder)
    assert "The start weights are made by PyTorch (pycaffe is not installed), with the random seed 1\n" in log
    made = weights(tmp_path, "made_iter_0.caffemodel")
    assert np.isclose(np.abs(made["conv1", 0]).max(), np.sqrt(3 / 9), rtol=0.01)  # xavier
