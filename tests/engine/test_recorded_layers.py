"""The recorded results of real Caffe that `bench/gpu.sh` compares a card with. (Here, not in tests/bench, since
Debian's PyTorch and Debian's onnx cannot be loaded together.)"""
import os
import subprocess
import sys

import numpy as np
import pytest

from bench import gpu_data, gpu_nets, layer_check, record_layers
from common import experiment
from common.errors import UserError
from engine.layers import TYPES
from prototxt import build
from tests import paper_nets

from . import programs

# They need Python packages that the script does not ask for.
NOT_RECORDED = {"HDF5Data", "ImageData"}


@pytest.fixture(scope="module")
def recorded():
    return layer_check.read()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return gpu_data.write_small_images(str(tmp_path_factory.mktemp("images")))


def test_the_committed_file_is_what_caffe_calculates_now(recorded):
    cases, arrays = recorded
    anew = record_layers.record()
    assert anew.pop("cases").tobytes().decode() == layer_check.layer_case.to_json(cases)
    assert set(anew) == set(arrays)
    for name, value in arrays.items():
        assert value.dtype == np.float32 and np.isfinite(value).all(), name
        np.testing.assert_allclose(anew[name], value, rtol=0, atol=1e-6 * max(1, np.abs(value).max(initial=0)),
                                   err_msg=name)


def test_the_file_is_small_and_always_the_same(tmp_path):
    assert os.path.getsize(layer_check.RECORDED) < 5e6
    for name in "first", "second":
        subprocess.run([sys.executable, "-m", "bench.record_layers", str(tmp_path / name) + ".npz"], check=True,
                       cwd=programs.ROOT)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_each_type_of_layer_is_there_and_each_gradient_counts(recorded):
    cases, arrays = recorded
    assert {case.name.rpartition("-")[0] for case in cases} == set(TYPES) - NOT_RECORDED
    assert 60 <= len(cases) == len({case.name for case in cases}) <= 150
    for case in cases:
        of_case = {name: value for name, value in arrays.items() if name.startswith(case.name + "/")}
        assert sum("/output/" in name for name in of_case) == len(case.outputs)
        gradients = [value for name, value in of_case.items() if "/gradient/" in name]
        assert bool(gradients) == case.backward, case.name
        assert not gradients or max(np.abs(value).max() for value in gradients) > 1e-3, case.name


def test_the_engine_calculates_the_same(recorded, images):
    results = layer_check.check(*recorded, "cpu", images)
    assert len(results) == len(recorded[0])
    assert [one for one in results if not one.good] == []
    print(max(one.output for one in results), max(one.gradient for one in results))


@pytest.mark.parametrize("name, factor", [
    ("Convolution-1/output/top0", 1 + 3e-5), ("PReLU-1/gradient/layer.0", 1 + 3e-4),
    ("BatchNorm-1/parameter/layer.1", 1 + 3e-5), ("Python-5/output/top0", 1 + 3e-5), ("Tile-1/gradient/data0", -1)])
def test_another_number_is_seen(recorded, images, name, factor):
    cases, arrays = recorded
    changed = dict(arrays, **{name: arrays[name] * np.float32(factor)})
    case = name.partition("/")[0]
    few = [one for one in cases if one.name.startswith(case.rpartition("-")[0] + "-")]
    assert [one.name for one in layer_check.check(few, changed, "cpu", images) if not one.good] == [case]


def test_another_shape_a_missing_array_and_nan_are_seen(recorded):
    found = {"output/top0": np.ones((2, 3), np.float32)}
    assert layer_check.compared("x", found, dict(found)).good
    flat, nan = np.ones(6, np.float32), np.full((2, 3), np.nan, np.float32)
    for expected, said in (({"output/top0": flat}, "output/top0: shape (2, 3), Caffe's is (6,)"),
                           ({"output/top1": flat}, "output/top1: shape None, Caffe's is (6,)"),
                           ({"output/top0": nan}, "output/top0: a value is not finite")):
        assert layer_check.compared("x", found, expected).error == said


def test_differences_by_hand():
    found = {"output/a": np.array([1, 2.5], np.float32), "gradient/a": np.array([1e-3], np.float32),
             "parameter/w": np.array([7], np.float32)}
    expected = {"output/a": np.array([1, 2], np.float32), "gradient/a": np.zeros(1, np.float32),
                "parameter/w": np.array([10], np.float32)}
    result = layer_check.compared("x", found, expected)
    assert (result.output, result.gradient) == (pytest.approx(0.3), pytest.approx(0.1))  # 1e-3 of the floor 1e-2
    assert not result.good


def test_a_layer_that_fails_is_a_difference_and_the_others_are_checked(recorded, images, monkeypatch):
    cases, arrays = recorded
    monkeypatch.setitem(TYPES, "TanH", TYPES["Silence"])
    few = [case for case in cases if case.name in ("Sigmoid-1", "TanH-1", "AbsVal-1")]
    results = layer_check.check(few, arrays, "cpu", images)
    assert [one.good for one in results] == [True, False, True] and "UserError: layer layer (TanH)" in results[1].error


def test_time_that_is_over(recorded, images):
    answers = iter([True, True, False])
    assert len(layer_check.check(*recorded, "cpu", images, lambda: next(answers))) == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", None])
def test_a_damaged_file(tmp_path, content):
    path = str(tmp_path / "layers.npz")
    if content is None:
        np.savez(path, nothing=np.zeros(1))
    else:
        (tmp_path / "layers.npz").write_bytes(content)
    with pytest.raises(UserError, match="layers.npz: not the file of bench.record_layers, or damaged"):
        layer_check.read(path)


@pytest.mark.parametrize("net", gpu_nets.NETS.values(), ids=list(gpu_nets.NETS))
def test_the_data_that_are_drawn_have_the_shapes_of_the_experiment(net):
    data = build.expected(experiment.load(net.experiment))
    sizes = paper_nets.top_shapes(data)
    assert {name: (count,) for name, count in net.features.items()} == {name: sizes[name] for name in net.features}
    channels, *sides = data.shape
    assert net.shape[0] == channels and all(ours >= side for ours, side in zip(net.shape[1:], sides))
    assert data.classes == gpu_data.CLASSES
