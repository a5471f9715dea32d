"""The measurements themselves, on very little."""
import dataclasses
import glob
import os
import sys

import caffe
import numpy as np
import pytest

from bench import drawn, evaluation, feeding, kernels, load, memory, registry, scaling
from common import experiment, files
from data_prep import lmdb_io, prepared_folder


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return registry.Options(str(folder / "data"), str(folder), True, 2, str(folder))


def test_exponent_by_hand():
    assert scaling.exponent((10, 20, 40), (3, 12, 48)) == pytest.approx(2)
    assert scaling.exponent((10, 100), (5, 5)) == pytest.approx(0)


def test_faces_are_drawn_once_and_their_subjects_known(options):
    folder = drawn.faces(options.data, 3, 2)
    with open(folder + "/subjects.csv") as stream:
        lines = stream.read().splitlines()
    assert len(lines) == 1 + 3 * 7 and "train/angry/S001.png,S001" in lines
    with open(folder + "/mark", "w"):
        assert drawn.faces(options.data, 3, 1) == folder
    with open(folder + "/mark"):
        pass


def test_caffe_test_and_ours_agree_on_every_record(options, tmp_path):
    folder = drawn.prepared(options.data, 3, "whole", ("gsf", "sift"), 2)
    pair = evaluation.Pair(experiment.load("xie2019a/fer2013-toy-softmax"), folder, str(tmp_path), 1)
    # The validation split has 7 records, which Caffe's batch of 100 goes through again and again.
    assert (pair.caffe_test(1), pair.ours(2)) == (100, 100)
    pair.require_agreement()
    assert pair.prob.shape == (100, 7)
    np.testing.assert_allclose(pair.prob[:7], pair.prob[7:14], atol=1e-6)
    pair.theirs = 1 - pair.theirs
    with pytest.raises(RuntimeError, match="caffe test has an accuracy of"):
        pair.require_agreement()


@pytest.mark.parametrize("host", feeding.HOSTS)
def test_data_layers_feed_in_processes_side_by_side(options, tmp_path, capfd, host):
    folder = os.path.abspath(drawn.prepared(options.data, 3, "whole", ("gsf", "sift"), 2))
    path = feeding.write(feeding.lmdb(folder, ("gsf",)), str(tmp_path))
    found = feeding.speed(host, path, 128, 2, 0.05)
    with lmdb_io.Reader(folder + "/train/gsf")._environment.begin() as reading:
        vector = caffe.proto.caffe_pb2.Datum.FromString(reading.get(b"00000000")).channels
    # Images of 48x48, labels and vectors, of 4 bytes a value.
    assert found["MB/s"] == pytest.approx(found["images/s"] * 4 * (48 * 48 + 1 + vector) / 1e6)
    assert 0 < found["CPU us each"] < 1e6
    with pytest.raises(RuntimeError, match=host + ": a process of the benchmark failed"):
        feeding.speed(host, str(tmp_path / "nothing"), 128, 2, 0.05)
    capfd.readouterr()


def test_each_data_layer_feeds_both(options, monkeypatch):
    monkeypatch.setattr(feeding, "CASES", {"small": dataclasses.replace(
        feeding.CASES["227x227 grey"], crops="whole", features=("gsf", "sift"))})
    monkeypatch.setattr(feeding, "SUBJECTS", 3)
    rows = list(feeding.measure(dataclasses.replace(options, cores=1)))
    assert [(row["data"], row["host"], row["processes"]) for row in rows] == [
        ("small", "Caffe", 1), ("small", "engine", 1)]


def test_a_kernel_in_a_process_of_its_own(tmp_path):
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(kernels._toy())
    found = kernels.of_kernel("Prescott", str(deploy))
    assert found["kernel"] == "Prescott" and found["gflops"] > 0 and found["milliseconds"] > 0
    with pytest.raises(RuntimeError, match="(?s)Prescott: .*nothing.prototxt"):
        kernels.of_kernel("Prescott", str(tmp_path / "nothing.prototxt"))


def test_peak_wants_the_status_that_is_expected():
    assert memory.peak([sys.executable, "-c", "import sys; sys.exit(1)"], (0, 1)) >= 0
    with pytest.raises(RuntimeError, match="ended with status 1"):
        memory.peak([sys.executable, "-c", "import sys; sys.exit(1)"])


@pytest.mark.slow
def test_much_data(options, monkeypatch, tmp_path):
    """Each step is measured on ten times as much, in the order in which one needs the other."""
    monkeypatch.setattr(load, "QUICK", {"images": 70, "crops": 2, "photographs": 1, "runs": 1, "seeds": 1})
    options = dataclasses.replace(options, scratch=str(tmp_path))
    rows = list(load.measure(options))
    assert [(row["what"], row["of"], row["unit"]) for row in rows] == [
        (name, times * load.QUICK[unit], unit) for name, (unit, _) in load.STEPS.items() for times in (1, 10)]
    assert all(row["s"] > 0 and row["CPU s"] > 0 and row["MB at the peak"] > 10 for row in rows)
    for times in (1, 10):
        counts = prepared_folder.read_note(str(tmp_path / str(times) / "data"))["records"]
        assert counts == {"train": 56 * times, "val": 7 * times, "test": 7 * times}
        # No image is a copy of another one.
        assert len({files.digest(path) for path in glob.glob(str(tmp_path / str(times) / "faces/*/*/*"))}) == 70 * times
        with open(tmp_path / str(times) / "faces.csv") as stream:
            assert len(stream.readlines()) <= 1 + times
    assert {name for name in os.listdir(tmp_path / "10" / "runs")} == {f"run{number:04d}" for number in range(10)}
    assert len(files.read_json(str(tmp_path / "10" / "seeds" / "group.json"))["members"]) == 10
