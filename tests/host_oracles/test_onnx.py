"""Exported nets under ONNX and onnxruntime of today, on the host. `.ci/run` runs it."""
import json
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest

pytestmark = pytest.mark.oracle
ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    subprocess.run([str(ROOT / "fer"), "python", "-m", "tests.host_oracles.exported_nets", str(folder)], cwd=str(ROOT),
                   check=True, stdout=subprocess.DEVNULL)
    return folder


def test_probabilities_are_those_of_caffe(folder):
    models = sorted(folder.glob("*.onnx"))
    assert len(models) == COUNT
    for path in models:
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        assert [opset.version for opset in model.opset_import] == [12]
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        arrays = dict(np.load(path.with_suffix(".npz")))
        expected = arrays.pop("prob")
        found, = session.run(["prob"], arrays)
        assert found.shape == expected.shape and len(np.unique(expected, axis=0)) == len(expected)
        difference = np.abs(found - expected).max()
        print(f"{path.stem}: largest difference of a probability: {difference:.1e}")
        assert difference < 1e-5, path.stem


def test_metadata_are_read(folder):
    session = onnxruntime.InferenceSession(str(folder / "run.onnx"), providers=["CPUExecutionProvider"])
    notes = session.get_modelmeta().custom_metadata_map
    assert notes["experiment"] == "xie2019a/fer2013-toy-softmax" and notes["iteration"] == "12"
    assert json.loads(notes["classes"])[3] == "happy"
    assert json.loads(notes["preprocessing"])["mean"] == [127.5]
