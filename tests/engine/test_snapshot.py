"""Weights and solver states: what Caffe wrote the engine goes on with, and the other way round."""
import os

import caffe
import h5py
import numpy as np
import pytest
import torch

from common.errors import UserError
from engine import messages, snapshot

from . import training

KINDS = {"SGD": 'momentum: 0.9 base_lr: 0.05 lr_policy: "multistep" stepvalue: 30 stepvalue: 60 gamma: 0.5',
         "Nesterov": 'momentum: 0.9 base_lr: 0.05 lr_policy: "step" stepsize: 30 gamma: 0.5',
         "AdaGrad": 'base_lr: 0.1 lr_policy: "fixed"',
         "RMSProp": 'base_lr: 0.01 delta: 1e-2 rms_decay: 0.9 lr_policy: "poly" power: 1 max_iter: 200',
         "AdaDelta": 'momentum: 0.95 delta: 1e-6 base_lr: 1 lr_policy: "fixed"',
         "Adam": 'momentum: 0.9 base_lr: 0.01 delta: 1e-3 lr_policy: "inv" gamma: 0.01 power: 0.5'}
FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}
SETTINGS = 'type: "Adam" momentum: 0.9 base_lr: 0.01 lr_policy: "fixed"'


def parsed(path, kind):
    with open(path, "rb") as stream:
        return getattr(messages, kind).FromString(stream.read())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_50_iterations_in_one_and_50_in_the_other_are_100_in_one(tmp_path, kind, form):
    path = training.write(tmp_path, f'type: "{kind}" {KINDS[kind]} snapshot_format: {form} weight_decay: 0.01')
    caffes = training.in_caffe(path)
    ours = training.in_engine(path, caffes)
    state = f"{tmp_path}/solver_iter_50.solverstate{FORMATS[form]}"
    caffes.step(50)
    caffes.snapshot()
    to_engine = training.restored(path, state, engine=True)
    caffes.step(50)
    whole = training.weights(caffes)
    os.unlink(state)
    to_engine.step(50)
    assert to_engine.iteration == 100
    assert training.difference(training.weights(to_engine), whole) <= 1e-5
    ours.step(50)
    ours.snapshot()
    to_caffe = training.restored(path, state, engine=False)
    to_caffe.step(50)
    assert training.difference(training.weights(to_caffe), whole) <= 1e-5
    ours.step(50)
    assert training.difference(training.weights(ours), whole) <= 1e-5


@pytest.mark.parametrize("form", FORMATS)
def test_the_files_hold_what_those_of_caffe_hold(tmp_path, form):
    path = training.write(tmp_path, f"{SETTINGS} snapshot_format: {form}")
    caffes = training.in_caffe(path)
    ours = training.in_engine(path, caffes)
    names = [f"{tmp_path}/solver_iter_0.{kind}{FORMATS[form]}" for kind in ("caffemodel", "solverstate")]
    written = []
    for one in (caffes, ours):
        one.snapshot()
        if form == "HDF5":
            written.append([hdf5(name) for name in names])
        else:
            written.append((parsed(names[0], "NetParameter"), parsed(names[1], "SolverState")))
            for layer in [layer for layer in written[-1][0].layer if layer.type == "Split"]:
                written[-1][0].layer.remove(layer)
    assert written[1] == written[0]


def hdf5(path):
    found = {}
    with h5py.File(path, "r") as stream:
        stream.visititems(lambda name, one: found.__setitem__(
            name, (one.dtype.str, one.shape, np.asarray(one[()]).tolist()) if hasattr(one, "dtype") else None))
    return found


def test_a_resumed_training_is_byte_identical(tmp_path):
    path = training.write(tmp_path, f"{SETTINGS} iter_size: 2 weight_decay: 0.01 clip_gradients: 1")
    start = training.in_caffe(path)
    files = []
    for stops in ((20,), (20,), (7, 20)):
        ours = training.in_engine(path, start)
        for stop in stops:
            if ours.iteration:
                ours = training.restored(path, f"{tmp_path}/solver_iter_{ours.iteration}.solverstate", engine=True)
            ours.step(stop - ours.iteration)
            ours.snapshot()
        assert ours.net.context.passes == 40
        files.append([(tmp_path / f"solver_iter_20.{kind}").read_bytes() for kind in ("caffemodel", "solverstate")])
    assert files[0] == files[1] == files[2]


def test_the_data_of_the_tests_go_on_where_they_were(tmp_path):
    for settings, passes in (("", 6), ("test_initialization: false", 4)):
        path = training.write(tmp_path, f"{SETTINGS} test_iter: 2 test_interval: 4 {settings}")
        ours = training.in_engine(path, training.in_caffe(path))
        ours.step(10)
        assert ours.test_nets[0].context.passes == passes
        ours.snapshot()
        assert training.restored(path, f"{tmp_path}/solver_iter_10.solverstate",
                                 engine=True).test_nets[0].context.passes == passes


def net(folder, text=training.NET):
    return training.in_engine(training.write(folder, SETTINGS, text)).net


def test_weights_go_to_the_layers_of_the_same_names(tmp_path):
    source, target = net(tmp_path), net(tmp_path, training.NET.replace('name: "first"', 'name: "other"'))
    before = target.layer("other").blobs[0].clone()
    with torch.no_grad():
        source.layer("second").blobs[0].fill_(3)
    for name in ("weights.caffemodel", "weights.caffemodel.h5"):
        snapshot.write_weights(source, f"{tmp_path}/{name}")
        with torch.no_grad():
            target.layer("second").blobs[0].fill_(0)
        assert snapshot.load_weights(target, f"{tmp_path}/{name}") == ["other"]
        assert (target.layer("third").blobs[0] == 3).all()
        assert torch.equal(target.layer("other").blobs[0], before)


def test_several_files_are_read_in_turn(tmp_path):
    target = net(tmp_path)
    for value in (1, 2):
        proto = messages.NetParameter()
        layer = proto.layer.add(name="first" if value == 1 else "second")
        for blob in target.layer(layer.name).blobs:
            layer.blobs.add(data=[value] * blob.numel()).shape.dim.extend(blob.shape)
        (tmp_path / f"{value}.caffemodel").write_bytes(proto.SerializeToString())
    log = training.Log()
    snapshot.load_files(target, f"{tmp_path}/1.caffemodel, {tmp_path}/2.caffemodel", log)
    assert (target.layer("first").blobs[1] == 1).all() and (target.layer("second").blobs[0] == 2).all()
    assert log.lines == [
        f"Finetuning from {tmp_path}/1.caffemodel",
        f"Layers that are not in {tmp_path}/1.caffemodel and keep their values: data, label, second, third",
        f"Finetuning from {tmp_path}/2.caffemodel",
        f"Layers that are not in {tmp_path}/2.caffemodel and keep their values: data, label, first, third"]


@pytest.mark.parametrize("old", [False, True])
def test_old_caffemodels_are_read_as_caffe_reads_them(tmp_path, old):
    """`layers` in place of `layer`, and four axes, of which the first ones are 1; also numbers of double precision."""
    target = net(tmp_path)
    proto = messages.NetParameter()
    layer = proto.layers.add(name="first", type=14) if old else proto.layer.add(name="first", type="InnerProduct")
    layer.blobs.add(num=1, channels=1, height=4, width=5, data=range(20))
    layer.blobs.add(num=1, channels=1, height=1, width=4, double_data=range(4))
    path = f"{tmp_path}/old.caffemodel"
    with open(path, "wb") as stream:
        stream.write(proto.SerializeToString())
    snapshot.load_weights(target, path)
    theirs = caffe.Net(f"{tmp_path}/solver_net.prototxt", caffe.TRAIN)
    theirs.copy_from(path)
    assert theirs.params["first"][0].data.ravel().tolist() == list(range(20))
    for blob, stored in zip(target.layer("first").blobs, theirs.params["first"]):
        np.testing.assert_array_equal(blob.detach().numpy(), stored.data)


def test_an_old_shape_must_fit_too(tmp_path):
    proto = messages.NetParameter()
    proto.layer.add(name="first").blobs.add(num=1, channels=1, height=5, width=4, data=range(20))
    proto.layer[0].blobs.add(num=1, channels=1, height=1, width=4, data=range(4))
    with pytest.raises(UserError, match=r"has the shape \(1, 1, 5, 4\), expected \(4, 5\)"):
        snapshot.copy_weights(net(tmp_path), proto, "x")


def test_blobs_in_the_prototxt_are_not_written_too(tmp_path):
    source = net(tmp_path, training.NET.replace('layer { name: "first"', 'layer { blobs { } name: "first"'))
    snapshot.write_weights(source, f"{tmp_path}/x.caffemodel")
    assert len(parsed(f"{tmp_path}/x.caffemodel", "NetParameter").layer[2].blobs) == 2


def test_a_new_shape_with_ones_does_not_fit(tmp_path):
    """As in Caffe: only the old form is padded."""
    proto = messages.NetParameter()
    layer = proto.layer.add(name="second")
    layer.blobs.add(data=range(16)).shape.dim.extend([1, 1, 4, 4])
    with pytest.raises(UserError, match=r"x: parameter 0 of layer second has the shape \(1, 1, 4, 4\), expected "
                                        r"\(4, 4\)"):
        snapshot.copy_weights(net(tmp_path), proto, "x")


@pytest.mark.parametrize("edit, message", [
    (lambda proto: proto.layer[2].blobs[0].shape.dim.__setitem__(0, 5),
     r"parameter 0 of layer first has the shape \(5, 5\), expected \(4, 5\)"),
    (lambda proto: proto.layer[2].blobs[0].data.pop(), r"has 19 values, expected 20 for its shape \(4, 5\)"),
    (lambda proto: proto.layer[2].blobs[1].ClearField("data"), r"parameter 1 of layer first has 0 values, expected 4"),
    (lambda proto: proto.layer[2].blobs.pop(), "layer first has 1 parameters, expected 2"),
    (lambda proto: proto.layer.__delitem__(slice(0, 6)), "no layer of the net is in it; layers with parameters in the "
                                                         "file: none, in the net: data, label, first, ..."),
    (lambda proto: [layer.__setattr__("name", f"x{layer.name}") for layer in proto.layer],
     "in the file: xdata, xlabel, xfirst, ..., in the net: data")])
def test_weights_that_do_not_fit_change_nothing(tmp_path, edit, message):
    target = net(tmp_path)
    path = f"{tmp_path}/x.caffemodel"
    snapshot.write_weights(target, path)
    proto = parsed(path, "NetParameter")
    for layer in proto.layer:
        for blob in layer.blobs:
            blob.data[:] = [9] * len(blob.data)
    edit(proto)
    with open(path, "wb") as stream:
        stream.write(proto.SerializeToString())
    with pytest.raises(UserError, match=message) as error:
        snapshot.load_weights(target, path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not any((blob == 9).any() for layer in target.layers for blob in layer.blobs)


@pytest.mark.parametrize("end", FORMATS.values())
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "noise", "other"])
def test_damaged_files_are_one_line(tmp_path, end, damage):
    path = training.write(tmp_path, f"{SETTINGS} snapshot_format: {'HDF5' if end else 'BINARYPROTO'}")
    ours = training.in_engine(path)
    ours.snapshot()
    for kind in ("caffemodel", "solverstate"):
        name = tmp_path / f"solver_iter_0.{kind}{end}"
        content = name.read_bytes()
        if damage == "missing":
            name.unlink()
        elif damage == "other":
            (tmp_path / f"x{end}").write_bytes(content)
        else:
            name.write_bytes({"empty": b"", "short": content[:-9], "noise": b"\xff\x13" * 300}[damage])
    shapes = [tuple(one.shape) for one in ours._updater.history]
    for call in (lambda: snapshot.load_weights(ours.net, f"{tmp_path}/solver_iter_0.caffemodel{end}"
                                               if damage != "other" else f"{tmp_path}/x{end}"),
                 lambda: snapshot.read_state(f"{tmp_path}/solver_iter_0.solverstate{end}" if damage != "other" else
                                             f"{tmp_path}/solver_iter_0.caffemodel{end}", shapes)):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


def test_a_state_of_another_solver_is_refused(tmp_path):
    training.in_engine(training.write(tmp_path, SETTINGS)).snapshot()
    other = training.in_engine(training.write(tmp_path, 'base_lr: 1 lr_policy: "fixed"'))
    with pytest.raises(UserError, match="10 blobs of history, expected 5; it is of another net or another type"):
        other.restore(f"{tmp_path}/solver_iter_0.solverstate")
    other = training.in_engine(training.write(tmp_path, SETTINGS, training.NET.replace("dim: 5", "dim: 6")))
    with pytest.raises(UserError, match=r"blob 0 of the history has the shape \(8, 5\), expected \(8, 6\)"):
        other.restore(f"{tmp_path}/solver_iter_0.solverstate")


def test_a_state_without_its_weights_names_the_missing_file(tmp_path):
    ours = training.in_engine(training.write(tmp_path, SETTINGS))
    ours.snapshot()
    (tmp_path / "solver_iter_0.caffemodel").unlink()
    with pytest.raises(UserError, match="solver_iter_0.caffemodel: cannot be read: No such file"):
        ours.restore(f"{tmp_path}/solver_iter_0.solverstate")


def test_a_snapshot_is_whole_or_not_there(tmp_path, monkeypatch):
    ours = training.in_engine(training.write(tmp_path, SETTINGS))
    ours.snapshot()
    before = (tmp_path / "solver_iter_0.caffemodel").read_bytes()

    def full(path, message):
        with open(path, "wb") as stream:
            stream.write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(snapshot, "_write", full)
    with pytest.raises(UserError, match="solver_iter_0.caffemodel: cannot be written: No space left on device"):
        ours.snapshot()
    assert (tmp_path / "solver_iter_0.caffemodel").read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]
