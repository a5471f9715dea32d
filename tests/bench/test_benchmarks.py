"""The measurements themselves, on very little."""
import numpy as np
import pytest

from bench import drawn, evaluation, kernels, registry, scaling
from common import experiment


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


def test_a_kernel_in_a_process_of_its_own(tmp_path):
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(kernels._toy())
    found = kernels.of_kernel("Prescott", str(deploy))
    assert found["kernel"] == "Prescott" and found["gflops"] > 0 and found["milliseconds"] > 0
    with pytest.raises(RuntimeError, match="(?s)Prescott: .*nothing.prototxt"):
        kernels.of_kernel("Prescott", str(tmp_path / "nothing.prototxt"))
