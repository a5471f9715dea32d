"""torchvision's ResNet-18 into a caffemodel and back. `tests/host_oracles` does it with torchvision itself."""
import caffe
import numpy as np
import pytest

from common.errors import UserError
from prototxt.builders import backbones
from tests.tools.weights import state_dicts
from tests.tools.weights.torch_files import checkpoint
from tools.cli import main
from tools.training import pretrained
from tools.weights import conversion, resnet18, torch_file


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """(folder, state dict, report): a net of seven classes as .pth and as caffemodel."""
    folder = tmp_path_factory.mktemp("seven")
    tensors = state_dicts.resnet18(1)
    (folder / "seven.pth").write_bytes(checkpoint(tensors))
    report = conversion.to_caffe(str(folder / "seven.pth"), "resnet18_raf", str(folder / "seven.caffemodel"))
    return folder, tensors, report


def changed(folder, tensors):
    (folder / "changed.pth").write_bytes(checkpoint(tensors))
    return str(folder / "changed.pth")


def blobs(path):
    found = {}
    for blob in pretrained.blobs(str(path)):
        found.setdefault(blob.layer, []).append(np.array(blob.values))
    return found


def test_each_blob_is_a_tensor_of_the_file(seven):
    folder, tensors, report = seven
    found = blobs(folder / "seven.caffemodel")
    conv1 = tensors["conv1.weight"]
    np.testing.assert_array_equal(found["conv1"][0].reshape(64, 3, 7, 7), np.stack(
        [conv1[:, 2], conv1[:, 1], conv1[:, 0]], axis=1))  # blue is last in torchvision and first in Caffe
    for layer, names in (
            ("bn_conv1", ["bn1.running_mean", "bn1.running_var"]), ("scale_conv1", ["bn1.weight", "bn1.bias"]),
            ("res2a_branch2b", ["layer1.0.conv2.weight"]), ("res4a_branch1", ["layer3.0.downsample.0.weight"]),
            ("bn4a_branch1", ["layer3.0.downsample.1.running_mean", "layer3.0.downsample.1.running_var"]),
            ("scale5b_branch2a", ["layer4.1.bn1.weight", "layer4.1.bn1.bias"]), ("fc", ["fc.weight", "fc.bias"])):
        # PyTorch's running mean keeps 0.9 in each iteration, and 1 + 0.9 + 0.9^2 + ... = 10.
        times = 10 if layer.startswith("bn") else 1
        for blob, name in zip(found[layer], names):
            np.testing.assert_array_equal(blob, tensors[name].ravel() * np.float32(times))
        assert [list(blob) for blob in found[layer][len(names):]] == [[10]] * layer.startswith("bn")
    assert len(found) == 20 * 3 + 1
    assert report.error < 2e-6
    assert sorted(report.left) == sorted(name for name in tensors if name.endswith("num_batches_tracked"))


def test_the_report_says_what_was_mapped_and_left_out(seven):
    lines = str(seven[2]).splitlines()
    assert lines[0] == "mapped 61 layers, and conv1 from one order of the channels, RGB or BGR, to the other:"
    assert lines[1] == "  conv1 = conv1, bn_conv1 = bn1, scale_conv1 = bn1"
    assert "  res3a_branch1 = layer2.0.downsample.0, bn3a_branch1 = layer2.0.downsample.1, " \
        "scale3a_branch1 = layer2.0.downsample.1" in lines
    assert lines[21:24] == ["  fc = fc", "left out: 20 counters num_batches_tracked", "missing: none"]
    assert lines[24].startswith("proven: pool5 of 2 random images in Caffe and in NumPy; the largest difference is ")


def test_back_again_gives_the_same_tensors(seven):
    folder, tensors, _ = seven
    report = conversion.to_torchvision(str(folder / "seven.caffemodel"), str(folder / "back.safetensors"))
    found = torch_file.read(str(folder / "back.safetensors"))
    assert set(found) == {name for name in tensors if not name.endswith("num_batches_tracked")}
    for name, values in found.items():
        # Times 10 and divided by 10; otherwise the same bits.
        np.testing.assert_allclose(values, tensors[name], rtol=1.3e-7 * ("running" in name))
    assert report.left == [] and report.error < 2e-6
    # A file of ours is replaced.
    conversion.to_torchvision(str(folder / "seven.caffemodel"), str(folder / "back.safetensors"))


def test_statistics_of_a_training_are_divided_by_their_weight_and_other_layers_left_out(seven, tmp_path):
    """As Caffe writes them after a training: sums of statistics, and their weight."""
    folder, tensors, _ = seven
    model = pretrained.read(str(folder / "seven.caffemodel"))
    norm = next(layer for layer in model.layer if layer.name == "bn3b_branch2a")
    for blob in norm.blobs:
        blob.data[:] = [8 * value for value in blob.data]
    extra = model.layer.add(name="attention_1", type="InnerProduct").blobs.add()
    extra.data.append(1)
    extra.shape.dim.append(1)
    (tmp_path / "run.caffemodel").write_bytes(model.SerializeToString())
    report = conversion.to_torchvision(str(tmp_path / "run.caffemodel"), str(tmp_path / "w.safetensors"))
    found = torch_file.read(str(tmp_path / "w.safetensors"))
    for name in ("layer2.1.bn1.running_mean", "layer2.1.bn1.running_var"):
        np.testing.assert_allclose(found[name], tensors[name], rtol=1.3e-7)
    assert report.left == ["attention_1"]


def test_a_classifier_of_many_classes_is_left_out_and_imagenets_net_takes_it(tmp_path):
    path = changed(tmp_path, state_dicts.resnet18(2, classes=1000))
    report = conversion.to_caffe(path, "resnet18", str(tmp_path / "w.caffemodel"))
    assert "fc" not in blobs(tmp_path / "w.caffemodel")
    assert "left out: fc.weight, fc.bias, 20 counters num_batches_tracked" in str(report)
    conversion.to_caffe(path, "resnet18_base", str(tmp_path / "base.caffemodel"))
    assert len(blobs(tmp_path / "base.caffemodel")["fc1000"][0]) == 512000
    conversion.to_torchvision(str(tmp_path / "base.caffemodel"), str(tmp_path / "base.safetensors"))
    assert torch_file.read(str(tmp_path / "base.safetensors"))["fc.weight"].shape == (1000, 512)


def without(tensors, *names):
    return {name: values for name, values in tensors.items() if name not in names}


@pytest.mark.parametrize("change, said", [
    (lambda t: without(t, "layer2.0.downsample.1.running_var"),
     "lacks 1 tensors of the net: layer2.0.downsample.1.running_var"),
    (lambda t: {"a": np.float32([1])},
     "lacks 100 tensors of the net: conv1.weight, bn1.weight, bn1.bias, bn1.running_mean, ..."),
    (lambda t: dict(t, **{"bn1.bias": np.zeros(65, np.float32), "bn1.weight": np.zeros(65, np.float32)}),
     "tensor bn1.weight has the shape 65, expected 64; 1 more do not fit"),
    (lambda t: dict(t, **{"layer1.0.conv1.weight": np.zeros((64, 64, 1, 1), np.float32)}),
     "tensor layer1.0.conv1.weight has the shape 64x64x1x1, expected 64x64x3x3"),
    (lambda t: state_dicts.resnet18(1, blocks=3), "has 40 tensors that ResNet-18 does not have: layer1.2.conv1.weight"),
    (lambda t: dict(t, **{"layer1.0.downsample.0.weight": np.zeros((64, 64, 1, 1), np.float32)}),
     "has 1 tensors that ResNet-18 does not have: layer1.0.downsample.0.weight"),
    (lambda t: dict(t, **{"layer4.1.bn2.bias": np.full(512, np.nan, np.float32)}),
     "tensor layer4.1.bn2.bias has weights that are NaN or infinite"),
    (lambda t: dict(t, **{"layer4.1.bn2.running_var": np.full(512, -1, np.float32)}),  # the root of a negative number
     "pool5 of random images differs by nan of the largest value")])
def test_other_state_dicts_are_refused(tmp_path, seven, change, said):
    path = changed(tmp_path, change(dict(seven[1])))
    with pytest.raises(UserError) as error:
        conversion.to_caffe(path, "resnet18", str(tmp_path / "w.caffemodel"))
    assert str(error.value).startswith(f"{path}: {said}")
    assert not (tmp_path / "w.caffemodel").exists()


@pytest.mark.parametrize("patch", [
    lambda values: values,  # no BGR
    lambda values: values + 1e-3])
def test_a_wrong_conversion_is_found_and_writes_nothing(tmp_path, seven, monkeypatch, patch):
    monkeypatch.setattr(conversion, "_swapped", lambda name, values: patch(values))
    folder = seven[0]
    for convert, name in ((lambda out: conversion.to_caffe(str(folder / "seven.pth"), "resnet18", out), "w.caffemodel"),
                          (lambda out: conversion.to_torchvision(str(folder / "seven.caffemodel"), out),
                           "w.safetensors")):
        with pytest.raises(UserError, match="pool5 of random images differs by .* expected at most 1e-04"):
            convert(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_other_caffemodels_are_refused(tmp_path, seven):
    def saved(name, **layers):
        (tmp_path / "net.prototxt").write_text(str(backbones.alone(name)))
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).save(str(tmp_path / "other.caffemodel"))
        return str(tmp_path / "other.caffemodel")
    for name, said in (
            ("resnet18_projected", "has the layer res2a_branch1 of the net resnet18_projected, which resnet18 lacks"),
            ("resnet_small", "layer conv1 has the shape 16x3x3x3, expected 64x3x7x7; "),
            ("inception_narrow", "layer conv1 has the shape 16x1x7x7, 16, expected 64x3x7x7")):
        path = saved(name)
        with pytest.raises(UserError) as error:
            conversion.to_torchvision(path, str(tmp_path / "w.safetensors"))
        assert str(error.value).startswith(f"{path}: {said}")
    with pytest.raises(UserError, match="seven.pth: not a caffemodel"):
        conversion.to_torchvision(str(seven[0] / "seven.pth"), str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match="seven.caffemodel: neither a file of PyTorch"):
        conversion.to_caffe(str(seven[0] / "seven.caffemodel"), "resnet18", str(tmp_path / "w.caffemodel"))


def test_what_is_asked_wrongly_and_foreign_files(tmp_path, seven, capsys):
    source, model = str(seven[0] / "seven.pth"), str(seven[0] / "seven.caffemodel")

    def said(*arguments):
        assert main.main(["weights", "convert", *arguments]) == 1
        return capsys.readouterr().err
    assert "--to toy: expected one of resnet18, resnet18_raf, resnet18_base, or torchvision" in said(
        source, "--to", "toy", "--out", str(tmp_path / "w.caffemodel"))
    assert "expected a name that ends with .caffemodel" in said(
        source, "--to", "resnet18", "--out", str(tmp_path / "w.pth"))
    assert "expected a name that ends with .safetensors" in said(
        model, "--to", "torchvision", "--out", str(tmp_path / "w.pth"))
    for to, given, name in (("resnet18", source, "w.caffemodel"), ("torchvision", model, "w.safetensors")):
        (tmp_path / name).write_text("precious")
        assert "exists and was not made by caffe-fer" in said(given, "--to", to, "--out", str(tmp_path / name))
        assert (tmp_path / name).read_text() == "precious"


def test_the_command_converts_and_replaces_its_own_file(tmp_path, seven, capsys):
    out = str(tmp_path / "w.caffemodel")
    for _ in range(2):
        assert main.main(["weights", "convert", str(seven[0] / "seven.pth"), "--to", "resnet18", "--out", out]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == out
    assert np.array_equal(blobs(out)["conv1"][0], blobs(seven[0] / "seven.caffemodel")["conv1"][0])


def test_the_proof_is_of_the_whole_net(seven):
    """Each tensor changes the features of the proof, by far more than its tolerance."""
    tensors = {name: values for name, values in seven[1].items() if name in resnet18.shapes()}
    images = np.random.RandomState(0).standard_normal((1, 3, 64, 64))
    expected = resnet18.forward(tensors, images)
    for name in ("conv1.weight", "bn1.running_mean", "layer1.1.bn2.weight", "layer2.0.downsample.0.weight",
                 "layer3.0.downsample.1.running_var", "layer4.1.conv2.weight", "layer4.1.bn2.bias"):
        found = resnet18.forward(dict(tensors, **{name: tensors[name] * 1.1}), images)
        assert np.abs(found - expected).max() > 1e-3 * np.abs(expected).max(), name
