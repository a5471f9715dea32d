"""Caffemodels from outside: what is copied, starts fresh, is left out, or does not fit."""
import dataclasses

import caffe
import numpy as np
import pytest

from common import experiment
from common.errors import UserError
from prototxt import build, nets
from prototxt.builders import backbones
from tests.tools import small_pairs
from tools.training import pretrained, run
from tools.training.caffe_process import Engine


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A stand-in for face_model.caffemodel: its names and shapes, other weights."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "base.prototxt").write_text(str(backbones.alone("face_base")))
    caffe.Net(str(folder / "base.prototxt"), caffe.TEST).save(str(folder / "face_model.caffemodel"))
    return str(folder / "face_model.caffemodel")


def deploy_of(folder, name):
    chosen = experiment.load(name)
    (folder / "deploy.prototxt").write_text(str(nets.deploy(chosen, build.expected(chosen))))
    return str(folder / "deploy.prototxt")


@pytest.mark.parametrize("name, fresh", [
    ("xie2019a/fer2013-softmax", ["conv1_9x9", "fc1", "fc2"]),
    ("xie2019a/oulu_casia-blfw", ["conv1_9x9", "fc1_gsf", "fc2_gsf", "fc1_sift", "fc2_sift"])])
def test_face_model_fits_the_face_resnet(tmp_path, base, name, fresh):
    deploy = deploy_of(tmp_path, name)
    fit = pretrained.write_fitting(base, deploy, str(tmp_path / "initial.caffemodel"))
    assert (fit.fresh, sorted(fit.left), fit.unfit) == (fresh, ["conv1a", "fc5"], [])
    assert len(fit.copied) == 26 + 27  # convolutions but the first, PReLUs
    assert str(fit).splitlines()[1:] == ["start fresh {}: {}".format(len(fresh), ", ".join(fresh)),
                                         "left out 2: conv1a, fc5"]
    net = caffe.Net(deploy, caffe.TEST, weights=str(tmp_path / "initial.caffemodel"))
    model = {layer.name: layer for layer in pretrained.read(base).layer}
    for layer in ("conv1b", "relu3_2", "conv5_6"):
        np.testing.assert_array_equal(net.params[layer][0].data.ravel(), np.float32(model[layer].blobs[0].data))


def test_what_does_not_fit_is_listed_with_both_shapes():
    given = {"a": ((2, 3), (2,)), "b": ((4, 2),), "c": ((1,),)}
    wanted = {"a": ((2, 3), (2,)), "b": ((5, 2),), "d": ((7,),)}
    fit = pretrained.compare(given, wanted)
    assert fit == pretrained.Fit(["a"], ["d"], ["c"], [("b", ((4, 2),), ((5, 2),))])
    assert str(fit) == ("copied 1: a\nstart fresh 2: d, b\nleft out 1: c\n"
                        "does not fit: layer b has blobs ((4, 2),), the net ((5, 2),)")


def test_nothing_in_common_is_refused_with_the_names(tmp_path, base):
    model = pretrained.read(base)
    for layer in model.layer:
        layer.name = "face_" + layer.name
    (tmp_path / "other.caffemodel").write_bytes(model.SerializeToString())
    with pytest.raises(UserError) as error:
        pretrained.write_fitting(str(tmp_path / "other.caffemodel"), deploy_of(tmp_path, "xie2019a/fer2013-softmax"),
                                 str(tmp_path / "initial.caffemodel"))
    assert "no layer matches the net's; it has face_conv1a, face_conv1b, " in str(error.value)
    assert ", the net conv1_9x9, conv1b, " in str(error.value)
    assert not (tmp_path / "initial.caffemodel").exists()


def test_every_layer_of_another_shape_is_named(tmp_path, base):
    model = pretrained.read(base)
    for layer in model.layer:
        if layer.name in ("conv1b", "relu5_6"):
            layer.blobs[0].shape.dim[0] += 1
    (tmp_path / "wide.caffemodel").write_bytes(model.SerializeToString())
    with pytest.raises(UserError) as error:
        pretrained.write_fitting(str(tmp_path / "wide.caffemodel"), deploy_of(tmp_path, "xie2019a/fer2013-softmax"),
                                 str(tmp_path / "initial.caffemodel"))
    assert "layer conv1b has blobs ((65, 32, 3, 3), (64,)), the net ((64, 32, 3, 3), (64,))" in str(error.value)
    assert "layer relu5_6 has blobs ((513,),), the net ((512,),)" in str(error.value)


def resnet18(folder, name):
    (folder / (name + ".prototxt")).write_text(str(backbones.alone(name)))
    caffe.Net(str(folder / (name + ".prototxt")), caffe.TEST).save(str(folder / (name + ".caffemodel")))
    return str(folder / (name + ".caffemodel"))


@pytest.mark.parametrize("net", ["resnet18", "resnet18_raf"])
def test_a_caffemodel_of_another_layout_is_refused_with_the_net_that_it_fits(tmp_path, net):
    other, own = resnet18(tmp_path, "resnet18_projected_base"), resnet18(tmp_path, "resnet18_base")
    layers, own_layers = (pretrained.shapes(pretrained.read(path)) for path in (other, own))
    with pytest.raises(UserError) as error:
        pretrained.require_layout(other, layers, net)
    assert str(error.value) == (f"{other}: has the layer res2a_branch1 of the net resnet18_projected, which {net} "
                                "lacks; train with --set net=resnet18_projected")
    pretrained.require_layout(own, own_layers, net)
    pretrained.require_layout(other, layers, "resnet18_projected")


def test_a_training_does_not_begin_with_another_layout(tmp_path, monkeypatch):
    data = small_pairs.prepared(tmp_path)
    small = backbones.BACKBONES["resnet_small"]
    monkeypatch.setitem(backbones.BACKBONES, "resnet_small", dataclasses.replace(small, foreign={"conv9": "large"}))
    path = resnet18(tmp_path, "resnet_small")
    model = pretrained.read(path)
    model.layer.add(name="conv9").blobs.add().data.append(1)
    (tmp_path / "large.caffemodel").write_bytes(model.SerializeToString())
    chosen = experiment.load("wu2023/synthetic-baseline", ["solver.batch_size=6", "solver.max_iter=1"])
    with pytest.raises(UserError, match="has the layer conv9 of the net large, which resnet_small lacks"):
        run.train(chosen, data, str(tmp_path / "run"), str(tmp_path / "large.caffemodel"), Engine(1))
    assert not (tmp_path / "run").exists()


def test_a_file_of_pytorch_is_told_how_to_become_one(tmp_path):
    for name, more in (("w.pth.tar", "; `./fer weights convert` makes one of PyTorch's ResNet-18"), ("w.txt", "")):
        (tmp_path / name).write_text("no model")
        with pytest.raises(UserError) as error:
            pretrained.read(str(tmp_path / name))
        assert str(error.value) == f"{tmp_path}/{name}: not a caffemodel, or one that was cut{more}"


def test_format_of_before_2015_is_named(tmp_path):
    model = caffe.proto.caffe_pb2.NetParameter()
    model.layers.add(name="conv1")
    (tmp_path / "old.caffemodel").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="upgrade_net_proto_binary .*old.caffemodel NEW"):
        pretrained.read(str(tmp_path / "old.caffemodel"))


def test_a_run_that_begins_with_another_dacl_run_takes_its_attention_and_not_its_centers(tmp_path, capsys):
    data = small_pairs.prepared(tmp_path)

    def trained(name, weights=None, *changes):
        chosen = experiment.load("farzaneh2021/synthetic-dacl", ["solver.batch_size=6", "solver.max_iter=1", *changes])
        return run.train(chosen, data, str(tmp_path / name), weights, Engine(1))
    first = trained("first")
    # With a rate of 0 the weights that it begins with are those that it ends with.
    second = trained("second", first.caffemodel(), "solver.base_lr=0", "solver.random_seed=2")
    assert "start fresh 0: none" in capsys.readouterr().out

    def blobs(path):
        return {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in pretrained.read(path).layer}
    given, taken, after = blobs(first.caffemodel()), blobs(second.path("initial.caffemodel")), blobs(
        second.caffemodel())
    assert set(given) - set(taken) == {layer.name for layer in pretrained.read(first.caffemodel()).layer
                                       if layer.name in ("train_data", "sparse_center_loss")} | {
        name for name, values in given.items() if not values}
    for name in ("conv1", "attention_1", "attention_heads", "fc"):
        np.testing.assert_array_equal(after[name][0], given[name][0])
    assert np.abs(after["sparse_center_loss"][0] - given["sparse_center_loss"][0]).max() > 0.1


def model_of(path, values, kind="data"):
    """A caffemodel of two layers; the second one's last blob holds the values."""
    model = caffe.proto.caffe_pb2.NetParameter(name="net")
    model.layer.add(name="conv", type="Convolution").blobs.add().data.extend([1.0, 2.0])
    fc = model.layer.add(name="fc", type="InnerProduct", bottom=["conv"])
    fc.blobs.add().data.extend([3.0] * 300)
    getattr(fc.blobs.add(), kind).extend(values)
    path.write_bytes(model.SerializeToString())
    return str(path)


@pytest.mark.parametrize("kind", ["data", "double_data"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf"), None])
def test_a_value_that_is_not_finite_is_found_wherever_it_lies(tmp_path, kind, wrong):
    values = [0.5] * (pretrained.CHUNK + 7)
    for at in (0, pretrained.CHUNK - 1, len(values) - 1):
        changed = values[:at] + [wrong] * (wrong is not None) + values[at + 1:]
        path = model_of(tmp_path / "w.caffemodel", changed, kind)
        assert pretrained.not_finite(path) == (None if wrong is None else "fc")
    assert pretrained.sizes(path) == {"conv": [2], "fc": [300, len(changed)]}


def test_a_caffemodel_cut_anywhere_is_refused_or_has_fewer_layers(tmp_path):
    path = model_of(tmp_path / "w.caffemodel", [0.5])
    whole, fewer = (tmp_path / "w.caffemodel").read_bytes(), 0
    for length in range(len(whole)):
        (tmp_path / "w.caffemodel").write_bytes(whole[:length])
        try:
            assert "fc" not in pretrained.sizes(path)
            fewer += 1
        except UserError as error:
            assert f"w.caffemodel: no caffemodel, or one that was cut ({length} bytes)" in str(error)
    assert fewer == 2  # without any layer, and with the first one


def test_blobs_are_those_of_protobufs_own_reading(base):
    expected = {layer.name: [len(blob.data) for blob in layer.blobs] for layer in pretrained.read(base).layer
                if layer.blobs}
    assert pretrained.sizes(base) == expected
    for blob in pretrained.blobs(base):
        if blob.layer == "conv1b":
            break
    layer = next(layer for layer in pretrained.read(base).layer if layer.name == "conv1b")
    np.testing.assert_array_equal(blob.values, np.float32(layer.blobs[0].data))
