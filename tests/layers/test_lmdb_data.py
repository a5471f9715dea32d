"""The data layer: values, wrap-around, position across a resume, refusals; beside Caffe's own Data layer."""
import os

import caffe
import numpy as np
import pytest

from common.errors import UserError
from data_prep import lmdb_io
from tests import caffe_nets, small_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"), counts=(10, 7, 7))


def text(data, batch_size=4, features=("gabor",), tops=None, **param):
    return caffe_nets.python_layer(
        "train_data", "lmdb_data", "LmdbDataLayer", [], params=["lr_mult: 0 decay_mult: 0"],
        tops=tops or ["data", "label"] + list(features), images=data + "/train/images",
        features=[data + "/train/" + name for name in features], batch_size=batch_size, **param)


def records(data, content):
    reader = lmdb_io.Reader(data + "/train/" + content)
    return [lmdb_io.decode(reader[index]) for index in range(len(reader))]


def test_records_come_in_order_and_wrap_around(tmp_path, data):
    net = caffe_nets.net(tmp_path, text(data))
    images, vectors = records(data, "images"), records(data, "gabor")
    seen = 0
    for _ in range(6):
        blobs = net.forward()
        for row in range(4):
            image, label = images[seen % 10]
            np.testing.assert_array_equal(blobs["data"][row], image)
            assert blobs["label"][row] == label == vectors[seen % 10][1]
            np.testing.assert_array_equal(blobs["gabor"][row], vectors[seen % 10][0].ravel())
            seen += 1
    assert tuple(net.params["train_data"][0].data) == (2, 4)


def test_same_blobs_as_caffes_own_layer(tmp_path, data):
    own = f'layer {{ name: "d" type: "Data" top: "data" top: "label" data_param {{ source: "{data}/train/images" ' \
          'backend: LMDB batch_size: 4 } transform_param { mean_value: 127.5 scale: 0.0078125 } }'
    caffes = caffe_nets.net(tmp_path, own)
    ours = caffe_nets.net(tmp_path, text(data, features=(), mean=127.5, scale=0.0078125))
    for _ in range(4):
        expected = {name: blob.copy() for name, blob in caffes.forward().items()}
        got = ours.forward()
        np.testing.assert_array_equal(got["data"], expected["data"])
        np.testing.assert_array_equal(got["label"], expected["label"])


def test_a_mean_and_a_scale_of_each_channel_and_images_alone(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (3, 5, 4, 3)).astype(np.uint8)
    writer = lmdb_io.Writer(str(tmp_path / "images"), 1 << 20, {})
    for number, image in enumerate(images):
        writer.put(number, lmdb_io.encode_image(image, 0))
    writer.close()

    def val(mean, scale=0.5):
        return caffe_nets.python_layer(
            "val", "lmdb_data", "LmdbDataLayer", [], params=["lr_mult: 0 decay_mult: 0"], tops=["data"],
            images=str(tmp_path / "images"), batch_size=3, mean=mean, scale=scale)
    net = caffe_nets.net(tmp_path, val([10, 20, 30]))
    expected = (images.transpose(0, 3, 1, 2) - np.float32([10, 20, 30]).reshape(3, 1, 1)) / 2
    np.testing.assert_array_equal(net.forward()["data"], expected)
    scaled = caffe_nets.net(tmp_path, val([10, 20, 30], [1, 2, -4])).forward()["data"]
    np.testing.assert_array_equal(scaled, expected * np.float32([2, 4, -8]).reshape(3, 1, 1))
    for param, said in (([10, 20],), "'mean' has 2 values"), ((0, [1, 2]), "'scale' has 2 values"):
        with pytest.raises(ValueError, match=said + ", expected 1 or 3"):
            caffe_nets.net(tmp_path, val(*param))


def test_takes_no_locks(tmp_path, data):
    net = caffe_nets.net(tmp_path, text(data))
    net.forward()
    opened = [os.readlink("/proc/self/fd/" + number) for number in os.listdir("/proc/self/fd")
              if os.path.exists("/proc/self/fd/" + number)]
    assert any(path.startswith(data) for path in opened)
    assert not any(path.startswith(data) and path.endswith("lock.mdb") for path in opened)


def test_resume_reads_on(tmp_path, data):
    net_text = text(data, features=()) + """
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }"""

    def solver():
        return caffe_nets.solver(tmp_path, net_text, base_lr=1e-6, momentum=0.9, weight_decay=0.1)
    through, stopped, resumed = solver(), solver(), solver()
    through.step(7)
    stopped.step(3)
    stopped.snapshot()
    resumed.restore(str(tmp_path / "snapshot_iter_3.solverstate"))
    resumed.step(4)
    for name in ("train_data", "fc"):
        np.testing.assert_array_equal(resumed.net.params[name][0].data, through.net.params[name][0].data)


def test_every_record_is_seen_equally_often(tmp_path, data):
    net = caffe_nets.net(tmp_path, text(data, batch_size=3))
    seen = {image.tobytes(): 0 for image, _ in records(data, "images")}
    for _ in range(20):
        for image in net.forward()["data"]:
            seen[image.astype(np.uint8).tobytes()] += 1
    assert set(seen.values()) == {6}


def test_features_of_other_faces_are_refused(tmp_path, data, capfd):
    other = tmp_path / "other"
    other.mkdir()
    other = small_data.prepared(other, counts=(9, 7, 7))
    wrong = text(data).replace(data + "/train/gabor", other + "/train/gabor")
    with pytest.raises(UserError):
        caffe_nets.net(tmp_path, wrong)
    said = capfd.readouterr().err
    assert "layer train_data (LmdbDataLayer): " + other + "/train/gabor does not match " + data in said


@pytest.mark.parametrize("change, said", [
    (lambda text: text.replace("/train/images", "/nowhere"), "nowhere: no LMDB here"),
    (lambda text: text.replace('top: "label"', ""), "2 tops, expected 3")])
def test_wrong_set_up_is_named(tmp_path, data, capfd, change, said):
    with pytest.raises((UserError, ValueError)):
        caffe_nets.net(tmp_path, change(text(data)))
    assert said in capfd.readouterr().err


def test_phase_does_not_matter_to_it(tmp_path, data):
    net = caffe_nets.net(tmp_path, text(data), caffe.TEST)
    assert net.forward()["data"].shape == (4, 1, 48, 48)
