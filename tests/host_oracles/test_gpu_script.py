"""`bench/gpu.sh`, which is for machines with a graphics card and without Caffe, on the processor. `.ci/run` runs it."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.oracle
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*words, python=sys.executable, cwd=ROOT, **variables):
    """Returns the status, the output and the errors."""
    done = subprocess.run([str(ROOT / "bench" / "gpu.sh"), *words], cwd=str(cwd), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True,
                          env=dict(os.environ, PYTHON=str(python), OMP_NUM_THREADS="1", **variables))
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The JSON and the output of a quick measurement, from another folder."""
    folder = tmp_path_factory.mktemp("gpu")
    status, out, errors = run("--device", "cpu", "--quick", "--out", str(folder / "found.json"), cwd=folder)
    assert (status, errors) == (0, ""), out + errors
    assert "warning" not in out
    assert [path.name for path in folder.iterdir()] == ["found.json"]
    return json.loads((folder / "found.json").read_text()), out


def test_all_layers_are_as_in_caffe(quick):
    layers = quick[0]["layers"]
    assert layers["cases"] == layers["checked"] == len(layers["each"]) >= 60 and layers["different"] == []
    for one in layers["each"]:
        assert one["error"] is None and one["output"] <= 1e-5 and one["gradient"] <= 1e-4, one
    assert 0 < layers["largest_output_difference"] == max(one["output"] for one in layers["each"])
    assert 0 < layers["largest_gradient_difference"] == max(one["gradient"] for one in layers["each"])
    assert f"{layers['cases']} of {layers['cases']} cases are as in Caffe" in quick[1]


def test_three_nets_in_three_precisions(quick):
    rows = {(row["net"], row["precision"]): row for row in quick[0]["trainings"]}
    assert len(rows) == len(quick[0]["trainings"]) == 9
    for (net, precision), row in rows.items():
        if precision == "tf32":
            assert row["note"] == "not on the processor" and "images_per_second" not in row
            continue
        assert "note" not in row and row["deterministic_resume"] is True
        assert row["batch"] > 1
        assert row["images_per_second"] == pytest.approx(row["batch"] * row["iterations_per_second"])
        assert row["images_per_second"] > 0 and 0 < row["waiting_for_data"] < 1 and row["iterations"] >= 2
        assert row["peak_memory_bytes"] is None
        assert re.search(rf"(?m)^{net} +{row['batch']} {precision} .* yes$", quick[1])
    assert "note" in quick[0]["all_cards"] and quick[0]["left_out"] == []


def test_facts(quick):
    import torch
    found = quick[0]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=str(ROOT), stdout=subprocess.PIPE, text=True).stdout.strip()
    assert (found["commit"], found["torch"], found["format"]) == (head, torch.__version__, 1)
    assert found["quick"] is True and found["cards"] == [] and found["python"].startswith("3.")
    assert found["device"] and found["seconds"] > 0 and "error" not in found


def test_time_that_is_over(tmp_path):
    """What it had begun is stopped, the rest is left out, and both are named."""
    out = run("--device", "cpu", "--budget", "6", "--out", str(tmp_path / "found.json"))[1]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["seconds"] < 60
    assert {"face ResNet, float32", "ResNet-18, bf16"} <= set(found["left_out"]) and "error" not in found
    assert found["trainings"][-1]["note"] == "left out: the time was over" in out


def test_a_file_that_exists_is_kept(tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    status, out, errors = run("--device", "cpu", "--out", "mine.json", cwd=tmp_path)
    assert (status, out) == (1, "") and errors.endswith("mine.json: exists already, expected a new file\n")
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_a_machine_without_a_card(tmp_path):
    status, out, errors = run("--out", str(tmp_path / "found.json"), CUDA_VISIBLE_DEVICES="")
    assert (status, out) == (1, "") and re.fullmatch(
        r"bench/gpu.sh: PyTorch \S+ (is built for the processor only|sees no graphics card of NVIDIA); "
        r"--device cpu tries the script on the processor\n", errors), errors
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path):
    """A Python without the packages of its environment, then with three that are named as those that are needed."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    status, out, errors = run("--device", "cpu", python=python)
    assert (status, out) == (1, "")
    assert errors == (f"bench/gpu.sh: not installed in {sys.executable}: torch, numpy, protobuf, lmdb; python3 -m pip "
                      "install torch numpy protobuf lmdb\n")
    for name in "torch", "numpy", "google/protobuf":
        (tmp_path / "more" / name).mkdir(parents=True)
        (tmp_path / "more" / name / "__init__.py").write_text("")
    errors = run("--device", "cpu", python=python, PYTHONPATH=str(tmp_path / "more"))[2]
    assert errors.endswith(": lmdb; python3 -m pip install lmdb\n")
    assert run("--quick", python="no-such-python")[2] == (
        "bench/gpu.sh: there is no no-such-python; set PYTHON to a Python 3.10 or later\n")


def test_a_changed_record_is_a_difference(tmp_path):
    """One number of real Caffe is changed in a copy of the project: the case is named."""
    import numpy as np
    copy = tmp_path / "project"
    files = subprocess.run(["git", "ls-files", "--", "bench", "common", "data_prep", "engine", "layers", "prototxt"],
                           cwd=str(ROOT), stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    for name in files:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / name), str(target))
    path = copy / "bench" / "recorded" / "layers.npz"
    with np.load(str(path)) as stream:
        arrays = {name: stream[name] for name in stream.files}
    arrays["Pooling-3/output/top0"][0, 0, 0, 0] += 1e-3
    np.savez_compressed(str(path), **arrays)
    done = subprocess.run([sys.executable, "-m", "bench.layer_check", "cpu", "300"], cwd=str(copy), check=True,
                          stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    assert found["different"] == ["Pooling-3"] and found["checked"] == found["cases"]
    assert 1e-4 < found["largest_output_difference"] < 1e-3
