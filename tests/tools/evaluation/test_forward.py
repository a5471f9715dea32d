"""Forward passes over many processes: the same values for any number of them, and those of one image at a time."""
import os

import caffe
import numpy as np
import pytest

from common import files, machine
from common.errors import UserError
from common.machine import Device
from data_prep import lmdb_io
from tests import small_data
from tools.evaluation import forward
from tools.training import caffe_process, pretrained
from tools.training.caffe_process import Engine


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More than three batches, the last one partial."""
    return small_data.prepared(tmp_path_factory.mktemp("many"), features=(), counts=(3 * forward.BATCH + 7, 7, 7))


@pytest.fixture(scope="module")
def part(many):
    return forward.read(many, files.read_json(os.path.join(many, "prepare.json")), "train")


def outputs(trained, part, engine, blobs=("prob", "conv2", "fc1")):
    return forward.of_split(trained.experiment, part, trained.path("deploy.prototxt"), trained.caffemodel(), blobs,
                           engine)


@pytest.mark.parametrize("threads", [2, 3, 9])
def test_any_number_of_processes_gives_the_same_bytes(trained, part, threads):
    alone, together = (outputs(trained, part, Engine(number)) for number in (1, threads))
    assert alone["prob"].shape == (len(part.images), 7) and alone["prob"].dtype == np.float32
    assert len(np.unique(alone["prob"], axis=0)) == len(part.images)
    for blob in alone:
        np.testing.assert_array_equal(alone[blob], together[blob], blob)


def test_in_order_and_as_one_image_at_a_time(trained, part):
    found = outputs(trained, part, Engine(2))["prob"]
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=trained.caffemodel())
    for record in range(len(part.images)):
        net.blobs["data"].data[0] = (lmdb_io.decode(part.images[record])[0].astype(np.float32) - 127.5) / 128
        np.testing.assert_allclose(net.forward()["prob"].ravel(), found[record], atol=2e-6)


def test_batches_of_a_hundred_give_the_same_to_float32_rounding(trained, part, monkeypatch):
    found = outputs(trained, part, Engine(1))
    monkeypatch.setattr(forward, "BATCH", 100)
    for blob, values in outputs(trained, part, Engine(1)).items():
        np.testing.assert_allclose(found[blob], values, rtol=2e-6, atol=2e-6, err_msg=blob)


def test_images_by_the_numbers_of_records(part):
    images = forward.Images(part.images, [5, 2])
    assert len(images) == 2 and len(forward.Images(part.images)) == len(part.images)
    for image, record in zip([images[0], images[1]], (5, 2)):
        np.testing.assert_array_equal(image, lmdb_io.decode(part.images[record])[0])


def test_no_images_give_no_values(trained):
    assert forward.outputs(trained.path("deploy.prototxt"), trained.caffemodel(), [], ["prob"], engine=Engine(2)) == {}


def test_what_a_child_raises_is_raised(trained, part):
    images = forward.Images(part.images, [0] * 40 + [10 ** 6])
    with pytest.raises(Exception, match="no record with key 01000000"):
        forward.outputs(trained.path("deploy.prototxt"), trained.caffemodel(), images, ["prob"], engine=Engine(2))


@pytest.mark.parametrize("told, threads", [(None, 4), ("1", 1), ("3", 3), ("9", 4), ("0", 1), ("", 4), ("many", 4)])
def test_never_more_threads_than_cores_or_than_told(told, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", told)
    for name, value in zip((machine.ENGINE, machine.CARD, machine.PRECISION), ("torch", "0", "bf16")):
        monkeypatch.setenv(name, value)
    assert caffe_process.all_cores() == Engine(threads, Device("torch", "0", "bf16"))


def test_weights_that_are_not_those_of_the_net_are_refused(tmp_path, trained):
    deploy, path = trained.path("deploy.prototxt"), tmp_path / "w.caffemodel"

    def layer(model, name):
        return next(one for one in model.layer if one.name == name)
    for change, said in (
            (lambda model: model.layer.remove(layer(model, "fc1")), "layer fc1 has blobs of no values, the net "),
            (lambda model: layer(model, "fc1").blobs[1].data.append(0), "layer fc1 has blobs of "),
            (lambda model: layer(model, "fc2").blobs[1].data.__setitem__(3, float("nan")),
             "layer fc2 has weights that are NaN or infinite")):
        model = pretrained.read(trained.caffemodel())
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UserError, match="w.caffemodel: " + said):
            forward.outputs(deploy, str(path), [], ["prob"])
    (tmp_path / "deploy.prototxt").write_text("layer { of nothing")
    with pytest.raises(UserError, match="deploy.prototxt: is not the definition of a net: 1:9 "):
        forward.load(str(tmp_path / "deploy.prototxt"), trained.caffemodel())
    with pytest.raises(UserError, match="none.prototxt: No such file"):
        forward.load(str(tmp_path / "none.prototxt"), trained.caffemodel())
