"""dlib's net as a caffemodel: against a slow second implementation on random parameters, and what is written where."""
import io
import os
import tarfile

import caffe
import numpy as np
import pytest

from common import files
from common.errors import UserError
from tests import dlib_reference as reference
from tools.training import pretrained
from tools.weights import catalogue, checking, dlib_face, dlib_file

MODEL = "face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"


@pytest.fixture(scope="module")
def parameters():
    return reference.parameters()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, parameters):
    folder = tmp_path_factory.mktemp("dlib")
    (folder / "net.dat").write_bytes(reference.file(*parameters))
    return folder


def converted(folder, name, scaled):
    definition, weights = str(folder / (name + ".prototxt")), str(folder / (name + ".caffemodel"))
    dlib_face.write(dlib_file.layers(str(folder / "net.dat")), "net.dat", definition, weights, scaled)
    return caffe.Net(definition, weights, caffe.TEST)


@pytest.fixture(scope="module")
def scaled(folder):
    return converted(folder, "scaled", True)


def descriptor(net, image):
    net.blobs["data"].data[0] = image
    return net.forward()["descriptor"][0].copy()


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_both_scalings_are_the_function_of_the_file(folder, parameters, scaled):
    image = np.random.RandomState(1).uniform(-0.5, 0.5, (3, 150, 150)).astype(np.float32)
    expected = reference.descriptor(image, *parameters)
    plain = converted(folder, "plain", False)
    found = descriptor(plain, image), descriptor(scaled, image)
    assert np.abs(expected).max() > 0.01
    for values in found:
        assert relative(values, expected) < 2e-6
    # They are not the same numbers.
    assert np.abs(plain.params["conv3_1a"][0].data).max() < 0.2 * np.abs(scaled.params["conv3_1a"][0].data).max()
    np.testing.assert_array_equal(plain.params["conv3_1a"][0].data, parameters[0][7][0])


def test_weights_have_the_norm_of_he(scaled):
    """As many values as outputs times inputs, each with a mean square of 2 / inputs."""
    convolutions = [name for name in scaled.params if name.startswith("conv")]
    assert len(convolutions) == 29
    for name in convolutions:
        weights = scaled.params[name][0].data.astype(np.float64)
        assert np.square(weights).sum() == pytest.approx(2 * len(weights), rel=1e-6)


def test_other_layers_than_those_of_the_net(folder, tmp_path, parameters):
    layers, product = parameters
    (weights, *others), *rest = layers
    wrong = [
        (layers[:-1], product, "net.dat: has 28 con_4, 28 affine_, 1 fc_2, expected 29, 29 and 1, each "
                               "con_4 before its affine_"),
        ([(weights[:, :2], *others), *rest], product,
         r"net.dat: layer conv1 has 3168 values and settings \(32, 7, 7, 2, 2, 0, 0\), expected 4736 for 32 filters of "
         "7x7"),
        ([*rest[:1], *rest[:1], *rest[1:]], product, "layer conv1 has 9248 values")]
    for one, other, said in wrong:
        (tmp_path / "net.dat").write_bytes(reference.file(one, other))
        with pytest.raises(UserError, match=said):
            converted(tmp_path, "wrong", True)
    content = reference.file(layers, product)
    cut = content.index(b"fc_2") + 4
    (tmp_path / "net.dat").write_bytes(content[:cut] + b"\x01\x40" + content[cut + 2:])
    with pytest.raises(UserError, match="layer descriptor has 256 inputs and 64 outputs, expected 256 and 128"):
        converted(tmp_path, "wrong", True)


# ---------------------------------------------------------------- get

@pytest.fixture
def package(monkeypatch, folder):
    """A package with the random net in the place of the index's. Yields the calls of the download."""
    calls = []

    def fetch(name, version, digest, out):
        calls.append((name, version))
        with tarfile.open(out, "w:gz") as archive:
            for member, content in ((MODEL, (folder / "net.dat").read_bytes()),
                                    ("face_recognition_models-0.3.0/LICENSE", b"CC0 1.0 Universal\n"),
                                    ("face_recognition_models-0.3.0/setup.py", b"raise SystemExit")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(dlib_face.pypi, "fetch", fetch)
    return calls


def test_get(tmp_path, package, folder, scaled):
    paths = dlib_face.get(str(tmp_path))
    assert [os.path.basename(path) for path in paths] == [
        "dlib_face.caffemodel", "dlib_face.prototxt", "dlib_face.txt"] and package == [
        ("face-recognition-models", "0.3.0")]
    assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, paths))
    net = caffe.Net(paths[1], paths[0], caffe.TEST)
    assert {name: list(net.blobs[name].shape) for name in ("data", "descriptor")} == {
        "data": [1, 3, 150, 150], "descriptor": [1, 128]}
    for name, blobs in scaled.params.items():
        for blob, other in zip(blobs, net.params[name]):
            np.testing.assert_array_equal(blob.data, other.data)
    text = (tmp_path / "dlib_face.txt").read_text()
    assert text.endswith("\nCC0 1.0 Universal\n")
    for path in (*paths[:2], str(folder / "net.dat")):
        assert files.digest(path) in text
    # Its own files are written anew, and to the same bytes.
    before = files.digest(paths[0])
    assert dlib_face.get(str(tmp_path)) == paths and files.digest(paths[0]) == before
    fit = pretrained.compare(pretrained.shapes(pretrained.read(paths[0])), pretrained.net_shapes(paths[1]))
    assert len(fit.copied) == 29 + 29 + 1 and not (fit.fresh or fit.left or fit.unfit)


@pytest.mark.parametrize("name", ("dlib_face.caffemodel", "dlib_face.prototxt", "dlib_face.txt"))
def test_a_foreign_file_stays(tmp_path, package, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name}: exists and was not made by caffe-fer"):
        dlib_face.get(str(tmp_path))
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"
    # Known before 100 MB are transferred.
    assert not package


def test_nothing_is_written_if_the_net_is_another(tmp_path, package, monkeypatch):
    monkeypatch.setattr(dlib_face.dlib_file, "layers", lambda path: [])
    with pytest.raises(UserError, match="has 0 con_4, 0 affine_, 0 fc_2"):
        dlib_face.get(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_in_the_catalogue(tmp_path, package, monkeypatch):
    monkeypatch.setattr(catalogue, "FOLDER", str(tmp_path))
    path, *_ = catalogue.get("dlib_face")
    assert catalogue.named("dlib_face").path == path
    # Random weights are not the published ones.
    with pytest.raises(UserError, match="its SHA-256 is"):
        checking.check(path, None)
