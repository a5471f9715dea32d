"""Forward passes on the engine on PyTorch: the decisions of real Caffe, for the nets of all papers."""
import os
import subprocess
import sys

import caffe
import cv2
import numpy as np
import pytest

from common import children, experiment, files
from common.errors import UserError
from common.experiment import ROOT
from common.machine import Device
from data_prep.datasets import synthetic
from prototxt import build, nets
from tests import small_data
from tools.evaluation import forward
from tools.training import pretrained
from tools.training.caffe_process import Engine

CAFFE, TORCH = Engine(1), Engine(1, Device("torch"))
# Faces that are drawn for each net, and of a batch of them: two batches, and one more.
FACES, BATCH = 9, 4


def drawn(shape, count, expressions):
    """Images (channels, height, width), uint8. expressions: of one face after the other, again and again."""
    channels, height, width = shape
    images = []
    for subject in range(count):
        face = synthetic.draw_face(subject, expressions[subject % len(expressions)], 4)[0]
        face = cv2.resize(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY), (width, height), interpolation=cv2.INTER_AREA)
        colours = [np.clip(face * factor, 0, 255).astype(np.uint8) for factor in (1, 0.8, 1.2)[:channels]]
        images.append(np.stack(colours))
    return images


def write_weights(deploy, inputs, path):
    """Random weights whose net decides for several classes. The statistics of BatchNorm are those of `inputs` (name ->
    array), and so are a shift and a factor of the class scores: otherwise all of them would lie far from zero, or
    together."""
    caffe.set_random_seed(3)
    net = caffe.Net(deploy, caffe.TEST)
    for name, values in inputs.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    names, at = list(net._layer_names), 0
    for number, kind in enumerate(layer.type for layer in net.layers):
        if kind == "BatchNorm":
            net.forward(start=names[at], end=names[number - 1])
            values = net.blobs[net.bottom_names[names[number]][0]].data
            for blob, statistics in zip(net.params[names[number]], (values.mean((0, 2, 3)), values.var((0, 2, 3)), 1)):
                blob.data[...] = statistics
            at = number
    net.forward(start=names[at])
    [scores] = net.bottom_names["prob"]
    last = next(net.params[name] for name in reversed(names) if scores in net.top_names[name] and name in net.params)
    values = net.blobs[scores].data
    factor = 2 / values.std(0).mean()
    last[1].data[...] = factor * (last[1].data - values.mean(0))
    last[0].data[...] *= factor
    net.save(path)


@pytest.mark.parametrize("name", (
    "xie2019a/fer2013-toy-alaw", "xie2019a/ckplus-alaw", "xie2019b/ckplus-center-l2", "xie2019b/mmi-one_map-norm",
    "farzaneh2021/raf_db-dacl", "liu2017/ckplus-2b-nm", "wu2023/ckplus-ndf", "wu2023/ckplus-spndl-without-neutral"))
def test_the_decisions_are_those_of_caffe(tmp_path, monkeypatch, name):
    chosen = experiment.load(name)
    data = build.expected(chosen)
    deploy, weights = str(tmp_path / "deploy.prototxt"), str(tmp_path / "w.caffemodel")
    files.write_text(deploy, build.text(nets.deploy(chosen, data)))
    images, references = drawn(data.shape, FACES, range(7)), None
    prepared = forward.transform(chosen)
    inputs = {"data": np.stack([forward.net_input(image, prepared) for image in images])}
    if nets.needs_references(chosen):
        references = drawn(data.shape, FACES, (6,))
        inputs["reference"] = np.stack([forward.net_input(image, prepared) for image in references])
    write_weights(deploy, inputs, weights)
    monkeypatch.setattr(forward, "BATCH", BATCH)
    expected, found = (forward.outputs(deploy, weights, images, ["prob"], prepared, references, engine)["prob"]
                       for engine in (CAFFE, TORCH))
    assert len(set(expected.argmax(1))) > 2 and len(np.unique(expected, axis=0)) == FACES
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert "torch" not in sys.modules


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """More images than two batches."""
    data = small_data.prepared(tmp_path_factory.mktemp("many"), features=(), counts=(2 * forward.BATCH + 7, 7, 7))
    return forward.read(data, files.read_json(os.path.join(data, "prepare.json")), "train")


def outputs(trained, part, engine, blobs=("prob", "conv2", "fc1")):
    return forward.of_split(trained.experiment, part, trained.path("deploy.prototxt"), trained.caffemodel(), blobs,
                            engine)


def test_all_blobs_of_more_images_than_a_batch(trained, part):
    """Also those that a layer changes in place, and that later layers read."""
    expected, found = (outputs(trained, part, engine) for engine in (CAFFE, TORCH))
    assert set(found) == {"prob", "conv2", "fc1"}
    for blob, values in expected.items():
        assert found[blob].shape == values.shape and found[blob].dtype == np.float32
        np.testing.assert_allclose(found[blob], values, rtol=0, atol=2e-6 * abs(values).max(), err_msg=blob)
    np.testing.assert_array_equal(found["prob"].argmax(1), expected["prob"].argmax(1))

    def work(_):  # in a process that may have no children
        return outputs(trained, part, TORCH)
    [inside] = children.in_order(1, lambda: None, (), work, [None])
    for blob in found:
        np.testing.assert_array_equal(inside[blob], found[blob])
    assert "torch" not in sys.modules


def test_no_images_give_no_values(trained):
    assert forward.outputs(trained.path("deploy.prototxt"), trained.caffemodel(), [], ["prob"], engine=TORCH) == {}


def test_what_is_wrong_is_said_in_one_line(tmp_path, trained, part):
    deploy, path = trained.path("deploy.prototxt"), tmp_path / "w.caffemodel"
    image = [forward.Images(part.images)[0]]

    def layer(model, name):
        return next(one for one in model.layer if one.name == name)
    for change, said in (
            (lambda model: model.layer.remove(layer(model, "fc1")), "w.caffemodel: has no weights of the layers fc1 "),
            (lambda model: layer(model, "fc1").blobs[1].data.append(0), "fc1"),
            (lambda model: layer(model, "fc2").blobs[1].data.__setitem__(3, float("nan")),
             "w.caffemodel: layer fc2 has weights that are NaN or infinite")):
        model = pretrained.read(trained.caffemodel())
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UserError, match=said) as error:
            forward.outputs(deploy, str(path), image, ["prob"], engine=TORCH)
        assert "\n" not in str(error.value)
    for device, said in ((Device("torch", "0"), "--gpu 0: PyTorch .*(is built for the processor only|sees no)"),
                         (Device("torch", "3,0"), "--gpu 3: PyTorch "),
                         (Device("torch", None, "tf32"), "tf32 is for graphics cards")):
        with pytest.raises(UserError, match=said) as error:
            forward.outputs(deploy, trained.caffemodel(), image, ["prob"], engine=Engine(1, device))
        assert "\n" not in str(error.value)
    (tmp_path / "deploy.prototxt").write_text("layer { of nothing")
    with pytest.raises(UserError, match="deploy.prototxt: is not the definition of a net: 1:9 "):
        forward.outputs(str(tmp_path / "deploy.prototxt"), trained.caffemodel(), image, ["prob"], engine=TORCH)


def cli(*words):
    """What a command prints. PyTorch is loaded in its process, not in this one."""
    done = subprocess.run([sys.executable, "-m", "tools.cli", *words], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True)
    return done.returncode, done.stdout, done.stderr


def test_photographs(tmp_path, trained):
    """`predict` keeps the net in its own process."""
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), synthetic.draw_face(number, 3 * number, 4)[0])
    asked = ["predict", trained.folder, str(tmp_path / "0.png"), str(tmp_path / "1.png"), "--whole"]
    (status, expected, _), (on_torch, found, error) = cli(*asked), cli(*asked, "--engine", "torch")
    assert (status, on_torch, error) == (0, 0, "")
    assert found == expected and len(found.splitlines()) >= 2


def test_pytorch_that_is_missing_is_one_line(tmp_path, trained):
    """A module of that name that is not there."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    words = [sys.executable, "-m", "tools.cli", "evaluate", trained.folder, "--split", "val", "--engine", "torch"]
    done = subprocess.run(words, cwd=ROOT, stderr=subprocess.PIPE, universal_newlines=True,
                          env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert done.returncode == 1
    assert done.stderr == "fer: --engine torch: PyTorch is not installed\n"
