"""dlib's face recognition net in Caffe against dlib itself, on the host: dlib-bin from PyPI. `.ci/run` runs it."""
import pathlib
import re
import subprocess

import dlib
import numpy as np
import pytest

pytestmark = pytest.mark.oracle
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dlib")
    subprocess.run([str(ROOT / "fer"), "python", "-m", "tests.host_oracles.dlib_descriptors", str(folder)],
                   cwd=str(ROOT), check=True)
    return folder


def test_descriptors_are_dlibs(folder):
    net = dlib.face_recognition_model_v1(str(folder / "model.dat"))
    images, ours = np.load(folder / "images.npy"), np.load(folder / "ours.npy")
    expected = np.array([net.compute_face_descriptor(image) for image in images])
    assert expected.shape == ours.shape == (8, 128)
    # Of other faces they are others.
    assert np.linalg.norm(expected[1:] - expected[0], axis=1).min() > 0.01
    # Both compute in float32. An exact calculation is as far from either of them.
    difference = (np.abs(ours - expected).max(axis=1) / np.linalg.norm(expected, axis=1)).max()
    print(f"largest difference of a value, in lengths of its descriptor: {difference:.1e}")
    assert difference < 1e-6


def test_the_catalogue_has_the_digest_of_the_caffemodel(folder):
    """So the file is the same on all machines."""
    catalogue = (ROOT / "tools" / "weights" / "catalogue.py").read_text()
    assert (folder / "digest").read_text() in re.findall(r'"([0-9a-f]{64})", "dlib_face_base"', catalogue)
