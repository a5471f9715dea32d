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


def test_there_is_no_caffe():
    assert importlib.util.find_spec("caffe") is None


def test_the_weights_are_the_same(folders):
    found, expected = (weights(folders[where][0], "trained_iter_10.caffemodel") for where in ("host", "inside"))
    start = weights(folders["host"][0], "start_iter_0.caffemodel")
    assert set(found) == set(expected) >= {(name, 0) for name in ("conv1", "fc2", "center_loss", "gabor_loss")}
    largest = 0.0
    for key, values in expected.items():
        difference = np.abs(found[key] - values).max() / np.abs(values).max()
        largest = max(largest, difference)
        assert difference < 1e-5, key
        assert np.abs(values - start[key]).max() > 0, f"{key} has not changed"
    print(f"largest difference of a weight: {largest:.1e}")


def test_the_logs_are_the_same(folders):
    """But for the times, and the last digits of the losses."""
    texts = []
    for _, log in folders.values():
        lines = re.findall(r"(?m)^I\S+ \S+ +\d+ (\S+\] .*)", log.partition("Starting Optimization")[2])
        texts.append([re.sub(r" \(\S+ iter/s, .*?\)|(?<=\d\.\d{3})\d+", "", line) for line in lines])
    assert texts[0] == texts[1] and len(texts[0]) > 40


PRODUCTS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 1 kernel_size: 1 weight_filler { type: "constant" value: 1 } } }
layer { name: "deconv" type: "Deconvolution" bottom: "x" top: "deconv"
        convolution_param { num_output: 1 kernel_size: 1 weight_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
        inner_product_param { num_output: 1 axis: -1 transpose: true weight_filler { type: "constant" value: 1 } } }
layer { name: "scale" type: "Scale" bottom: "x" top: "scale" }
"""


def test_what_is_rounded_to_bf16():
    """1 + 2^-9 has more digits than bfloat16, which rounds it to 1; 3 has not. Other layers do not round."""
    import torch
    from google.protobuf import text_format

    from engine import precision
    from engine.net import Net
    found = {}
    for name in "float32", "bf16":
        precision.use(name, "cpu")
        try:
            net = Net(text_format.Parse(PRODUCTS, messages.NetParameter()), messages.TRAIN)
            net.layer("x").value = torch.tensor([[[[1 + 2 ** -9, 3]]]])
            blobs = net.forward()
            sum(blobs.values()).sum().backward()
        finally:
            precision.use("float32", "cpu")
        assert {blob.dtype for blob in blobs.values()} == {torch.float32}
        assert {(one.blob.dtype, one.blob.grad.dtype) for one in net.parameters} == {(torch.float32, torch.float32)}
        found[name] = {key: blob.flatten().tolist() for key, blob in blobs.items()}
    exact = [1 + 2 ** -9, 3]
    assert found["float32"] == {"conv": exact, "deconv": exact, "ip": [4 + 2 ** -9], "scale": exact}
    assert found["bf16"] == {"conv": [1, 3], "deconv": [1, 3], "ip": [4], "scale": exact}


def test_trains_in_bf16(folders, tmp_path):
    folder, exact = folders["host"]
    shutil.copytree(str(folder), str(tmp_path / "copy"))
    log = run([sys.executable, "-m", "engine", "train", "-solver", "solver.prototxt", "-weights",
               "start_iter_0.caffemodel", "-precision", "bf16"], tmp_path / "copy")
    said = "engine] Convolutions and inner products are computed in bfloat16, all else in float32\n"
    assert log.count(said) == 1 and "bfloat16" not in exact
    ours, theirs = (np.array(re.findall(r"iters\), loss = (\S+)", text), float) for text in (log, exact))
    assert len(ours) == len(theirs) == 10 and (ours != theirs).any()
    print(f"largest difference of a loss: {np.abs(ours / theirs - 1).max():.1e}")
    np.testing.assert_allclose(ours, theirs, rtol=0.02)
    found, expected = (weights(where, "trained_iter_10.caffemodel") for where in (tmp_path / "copy", folder))
    start = weights(folder, "start_iter_0.caffemodel")
    moved, apart = (np.sqrt(sum(np.square(one[key] - expected[key]).sum() for key in expected))
                    for one in (start, found))
    assert 0 < apart < 0.1 * moved


def test_tf32_is_refused_on_the_processor_and_off_on_cards_by_default(folders, tmp_path):
    done = subprocess.run([sys.executable, "-m", "engine", "train", "-solver", "solver.prototxt", "-precision", "tf32"],
                          cwd=str(folders["host"][0]), env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(
        "-precision tf32 is for graphics cards (-gpu); on the processor, expected float32 or bf16")
    program = """
import torch
from engine import precision
precision.use("float32", "cuda:0")
print(torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision,
      torch.backends.fp32_precision, torch.are_deterministic_algorithms_enabled())
"""
    out = subprocess.run([sys.executable, "-c", program], cwd=str(ROOT), stdout=subprocess.PIPE, text=True).stdout
    # "none" takes the last one's value, and none at all is float32.
    assert out == "none ieee none True\n"


def test_without_caffe_pytorch_makes_the_start_weights(folders, tmp_path):
    folder, _ = folders["host"]
    text = (folder / "start.prototxt").read_text().replace('"start"', f'"{tmp_path}/made"')
    (folder / "own.prototxt").write_text(text)
    log = run([sys.executable, "-m", "engine", "train", "-solver", "own.prototxt"], folder)
    assert "The start weights are made by PyTorch (pycaffe is not installed), with the random seed 1\n" in log
    made = weights(tmp_path, "made_iter_0.caffemodel")
    assert np.isclose(np.abs(made["conv1", 0]).max(), np.sqrt(3 / 9), rtol=0.01)  # xavier
