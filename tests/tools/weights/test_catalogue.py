"""The list of pretrained weights: `./fer weights`, `get` and `check`."""
import dataclasses
import hashlib

import caffe
import numpy as np
import pytest

from prototxt.builders import backbones
from tests.tools.weights import state_dicts
from tests.tools.weights.torch_files import checkpoint
from tools.cli import main
from tools.training import pretrained
from tools.weights import catalogue


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(catalogue, "FOLDER", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def fer(capsys):
    """Runs `./fer weights ...` and returns (status, stdout, stderr)."""
    def run(*arguments):
        status = main.main(["weights", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err
    return run


def known(monkeypatch, name, **changes):
    entries = [dataclasses.replace(entry, **changes) if entry.name == name else entry for entry in catalogue.ENTRIES]
    monkeypatch.setattr(catalogue, "ENTRIES", tuple(entries))


def saved(path, net, change=lambda model: None):
    """A caffemodel of a backbone with random weights."""
    definition = path.with_suffix(".prototxt")
    definition.write_text(str(backbones.alone(net)))
    caffe.Net(str(definition), caffe.TEST).save(str(path))
    model = pretrained.read(str(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_entries_are_complete_and_their_nets_exist():
    names = [entry.name for entry in catalogue.ENTRIES]
    assert len(set(names)) == len(names) == len({entry.file for entry in catalogue.ENTRIES})
    for entry in catalogue.ENTRIES:
        assert entry.net is None or entry.net in backbones.BACKBONES
        assert entry.purpose and entry.licence and entry.source
        # torchvision's files have the first digits of their SHA-256 in their names.
        if entry.digest:
            assert len(entry.digest) == 64 and (entry.fetch or f"-{entry.digest[:8]}." in entry.file)


def test_the_list_says_what_is_here(models, monkeypatch, fer):
    digest = hashlib.sha256(b"weights").hexdigest()
    known(monkeypatch, "vgg16", digest=digest)
    known(monkeypatch, "resnet18_imagenet", digest="0" * 64)
    for name in ("VGG_ILSVRC_16_layers.caffemodel", "resnet18-f37072fd.pth", "face_model.caffemodel"):
        (models / name).write_bytes(b"weights")
    status, out, _ = fer()
    lines = out.splitlines()
    assert status == 0
    assert "vgg16: models/VGG_ILSVRC_16_layers.caffemodel, here, as published" in lines
    assert "resnet18_imagenet: models/resnet18-f37072fd.pth, here, but with another SHA-256" in lines
    assert "face_model: models/face_model.caffemodel, here, not checked" in lines
    assert "resnet18_msceleb: models/resnet18_msceleb.pth, not here" in lines
    assert f"  SHA-256: {digest}" in lines and "  SHA-256: none was published" in lines
    assert "  ./fer weights get dlib_face" in lines


def test_get_calls_what_fetches_or_says_whom_to_ask(models, monkeypatch, fer):
    def fetch(folder):
        assert folder == str(models)
        return [folder + "/x.caffemodel", folder + "/x.txt"]
    known(monkeypatch, "vgg16", fetch=fetch)
    assert fer("get", "vgg16") == (0, f"{models}/x.caffemodel\n{models}/x.txt\n", "")
    status, _, error = fer("get", "face_model")
    assert status == 1 and "face_model: no program can download it" in error and "ydwen/caffe-face" in error
    assert fer("get", "face_modle")[2] == ("fer: there is no entry 'face_modle'; did you mean face_model?\n")


def test_check_of_a_caffemodel_by_its_name_in_the_list(tmp_path, fer):
    path = saved(tmp_path / "face_model.caffemodel", "face_base")
    status, out, _ = fer("check", path)
    assert (status, out.splitlines()) == (0, [
        "SHA-256 " + hashlib.sha256(path.read_bytes()).hexdigest(),
        # 28 convolutions, 27 PReLUs and fc5
        "fits: all 55 layers of the net face_base, with their shapes; all weights are finite", "left out: none"])


def drop(model):
    del model.layer[[layer.name for layer in model.layer].index("conv2")]


def widen(model):
    blob = next(layer for layer in model.layer if layer.name == "conv2").blobs[0]
    blob.shape.dim[0] += 1
    blob.data.extend([0.] * (128 * 4))


def spoil(model):
    next(layer for layer in model.layer if layer.name == "conv2").blobs[1].data[5] = np.inf


@pytest.mark.parametrize("change, said", [
    (drop, "lacks 1 layers of the net: conv2"),
    (widen, "layer conv2 has the shape 513x128x2x2, 512, expected 512x128x2x2, 512"),
    (spoil, "layer conv2 has weights that are NaN or infinite")])
def test_check_names_what_is_wrong(tmp_path, fer, change, said):
    path = saved(tmp_path / "own.caffemodel", "toy", change)
    assert fer("check", path, "--net", "toy") == (1, "", f"fer: {path}: {said}\n")


def test_check_takes_a_net_by_name_and_names_what_is_left(tmp_path, fer):
    path = saved(tmp_path / "own.caffemodel", "toy", lambda model: model.layer.add(
        name="fc9").blobs.add().data.append(1))
    assert fer("check", path)[2] == (
        f"fer: {path}: the list does not say which net it is for; name the net with --net\n")
    assert fer("check", path, "--net", "resnet_smal")[2] == (
        "fer: there is no net 'resnet_smal'; did you mean resnet_small?\n")
    assert fer("check", path, "--net", "toy")[1].splitlines()[1:] == [
        "fits: all 4 layers of the net toy, with their shapes; all weights are finite", "left out: fc9"]


def test_check_of_a_state_dict(tmp_path, fer, monkeypatch):
    tensors = state_dicts.resnet18(1, classes=1000)
    path = tmp_path / "resnet18-f37072fd.pth"
    path.write_bytes(checkpoint(tensors))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    status, _, error = fer("check", path)
    assert status == 1 and f"its SHA-256 is {digest}, the published file's f37072fd" in error
    known(monkeypatch, "resnet18_imagenet", digest=digest)
    assert fer("check", path)[1].splitlines() == [
        f"SHA-256 {digest}, as published",
        "fits: all 100 tensors of the net resnet18, with their shapes; all weights are finite",
        "left out: fc.weight, fc.bias, 20 counters num_batches_tracked"]
    assert "expected a caffemodel for the net toy" in fer("check", path, "--net", "toy")[2]
    del tensors["bn1.bias"]
    path.write_bytes(checkpoint(tensors))
    path.rename(tmp_path / "resnet18_msceleb.pth")
    assert fer("check", tmp_path / "resnet18_msceleb.pth")[2].endswith("lacks 1 tensors of the net: bn1.bias\n")


def test_check_of_a_file_that_is_missing_cut_or_of_another_net(tmp_path, fer):
    for net in ([], ["--net", "toy"]):
        assert fer("check", tmp_path / "no.caffemodel", *net)[2] == f"fer: {tmp_path}/no.caffemodel: no such file\n"
        assert fer("check", tmp_path, *net)[2] == f"fer: {tmp_path}: is a folder, expected a file of weights\n"
    path = saved(tmp_path / "own.caffemodel", "toy")
    path.write_bytes(path.read_bytes()[:-5])
    assert "own.caffemodel: not a caffemodel, or one that was cut" in fer("check", path, "--net", "toy")[2]
    projected = saved(tmp_path / "p.caffemodel", "resnet18_projected")
    assert fer("check", projected, "--net", "resnet18")[2] == (
        f"fer: {projected}: has the layer res2a_branch1 of the net resnet18_projected, which resnet18 lacks; "
        "train with --set net=resnet18_projected\n")
    assert fer("check", projected, "--net", "resnet18_projected")[0] == 0


def test_shapes_of_before_2015_fit(tmp_path, fer):
    """Four sizes for each blob, as in VGG-16's published caffemodel; Caffe itself copies such weights."""
    def age(model):
        for layer in model.layer:
            for blob in layer.blobs:
                blob.num, blob.channels, blob.height, blob.width = [1] * (4 - len(blob.shape.dim)) + list(
                    blob.shape.dim)
                blob.ClearField("shape")
    path = saved(tmp_path / "old.caffemodel", "toy", age)
    assert pretrained.read(str(path)).layer[1].blobs[1].channels == 1
    assert fer("check", path, "--net", "toy")[0] == 0
    net = caffe.Net(str(tmp_path / "old.prototxt"), caffe.TEST, weights=str(path))
    values = next(layer for layer in pretrained.read(str(path)).layer if layer.name == "conv2").blobs[1].data
    np.testing.assert_array_equal(net.params["conv2"][1].data, np.float32(values))
