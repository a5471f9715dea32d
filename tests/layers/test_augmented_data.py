"""The augmenting data layer: every record once an epoch, pairs alike, position across a resume, refusals."""
import collections

import cv2
import numpy as np
import pytest

from common.errors import UserError
from data_prep import lmdb_io
from layers.functions import augmentation
from tests import caffe_nets

COUNT, SIDE = 10, 8


def write(folder, name, seed, count=COUNT, side=SIDE, manifest="m"):
    """An LMDB of count colour images; the label is the record's number."""
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (count, side, side, 3)).astype(np.uint8)
    writer = lmdb_io.Writer(str(folder / name), lmdb_io.estimate(count, images[0].size),
                            {"manifest": manifest, "crops": "c", "seed": 0, "split": "train"})
    for number, image in enumerate(images):
        writer.put(number, lmdb_io.encode_image(image, number))
    writer.close()
    return images.transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, write(folder, "images", 1), write(folder, "references", 2)


def text(folder, batch_size=4, pairs=False, **param):
    if pairs:
        param["references"] = str(folder / "references")
    return caffe_nets.python_layer(
        "train_data", "augmented_data", "AugmentedDataLayer", [], params=["lr_mult: 0 decay_mult: 0"],
        tops=["data", "label"] + ["reference"] * pairs, images=str(folder / "images"), batch_size=batch_size, **param)


def passes(net, count):
    """[(label, image, reference or None)] of so many batches."""
    found = []
    for _ in range(count):
        blobs = {name: blob.copy() for name, blob in net.forward().items()}
        for row, label in enumerate(blobs["label"]):
            found.append((int(label), blobs["data"][row], blobs["reference"][row] if "reference" in blobs else None))
    return found


def test_each_epoch_has_each_record_once_in_an_order_of_its_own(tmp_path, data):
    folder, images, _ = data
    found = passes(caffe_nets.net(tmp_path, text(folder)), 15)
    labels = [label for label, _, _ in found]
    epochs = [labels[start:start + COUNT] for start in range(0, 60, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    for label, image, _ in found:
        np.testing.assert_array_equal(image, images[label])


def test_a_list_of_records_and_the_position(tmp_path, data):
    net = caffe_nets.net(tmp_path, text(data[0], records=[7, 2, 5]))
    labels = [label for label, _, _ in passes(net, 3)]
    assert [sorted(labels[start:start + 3]) for start in range(0, 12, 3)] == [[2, 5, 7]] * 4
    assert tuple(net.params["train_data"][0].data) == (4, 0)


def test_mean_and_scale_are_those_of_caffes_own_layer(tmp_path, data):
    folder, _, _ = data
    own = 'layer {{ name: "d" type: "Data" top: "data" top: "label" data_param {{ source: "{}/images" backend: LMDB ' \
          'batch_size: 10 }} transform_param {{ mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 }} }}'
    caffes = caffe_nets.net(tmp_path, own.format(folder))
    expected = caffes.forward()["data"]
    for label, image, _ in passes(caffe_nets.net(tmp_path, text(folder, mean=[104, 117, 123], scale=0.5)), 3):
        np.testing.assert_array_equal(image, expected[label])


def test_each_channel_has_a_scale_of_its_own(tmp_path, data):
    folder, images, _ = data
    net = caffe_nets.net(tmp_path, text(folder, mean=[10, 20, 30], scale=[0.5, -2, 0.125]))
    for label, image, _ in passes(net, 3):
        for channel, (mean, scale) in enumerate(((10, 0.5), (20, -2), (30, 0.125))):
            np.testing.assert_array_equal(image[channel], (images[label][channel] - np.float32(mean)) * scale)


def test_five_crops_and_their_mirrors_all_come_equally_often(tmp_path, data):
    folder, images, _ = data
    windows = {}
    for label, image in enumerate(images):
        for y, x in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
            part = image[:, y:y + 6, x:x + 6].astype(np.float32)
            windows[part.tobytes()] = label, y, x, False
            windows[part[:, :, ::-1].tobytes()] = label, y, x, True
    seen = collections.Counter()
    for label, image, _ in passes(caffe_nets.net(tmp_path, text(folder, 10, augmentation="five_crops", side=6)), 100):
        assert image.shape == (3, 6, 6)
        assert windows[image.tobytes()][0] == label
        seen[windows[image.tobytes()][1:]] += 1
    assert len(seen) == 10 and min(seen.values()) > 65 and max(seen.values()) < 135


def test_pairs_are_augmented_alike(tmp_path, data):
    folder, images, references = data
    seen = collections.Counter()
    net = caffe_nets.net(tmp_path, text(folder, 10, True, augmentation="mirror_or_noise", deviation=5))
    deviations = []
    for label, image, reference in passes(net, 30):
        noise = image - images[label]
        if (image == images[label]).all():
            seen["as it is"] += 1
            np.testing.assert_array_equal(reference, references[label])
        elif (image == images[label][:, :, ::-1]).all():
            seen["mirrored"] += 1
            np.testing.assert_array_equal(reference, references[label][:, :, ::-1])
        else:
            seen["noise"] += 1
            np.testing.assert_allclose(reference - references[label], noise, atol=1e-4)
            deviations.append(noise.std())
    assert len(seen) == 3 and min(seen.values()) > 70
    assert np.mean(deviations) == pytest.approx(5, rel=0.03)


@pytest.mark.parametrize("settings", [dict(augmentation="five_crops", side=6),
                                      dict(augmentation="mirror_or_noise", deviation=5, pairs=True)])
def test_resume_goes_on_as_if_it_had_not_stopped(tmp_path, data, settings):
    bottom = "reference" if settings.get("pairs") else "data"
    net_text = text(data[0], **settings) + f"""
        layer {{ name: "fc" type: "InnerProduct" bottom: "{bottom}" top: "fc"
                inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
        layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}"""

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


def test_the_seed_decides(tmp_path, data):
    def images(seed):
        net = caffe_nets.net(tmp_path, text(data[0], augmentation="five_crops", side=6, seed=seed))
        return np.array([image for _, image, _ in passes(net, 5)])
    np.testing.assert_array_equal(images([1, 2]), images([1, 2]))
    assert (images([1, 2]) != images([1, 3])).any() and (images([1, 2]) != images([2, 1])).any()


def test_draws_by_hand():
    image = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    draw = augmentation.Draw((1, 2), True)
    np.testing.assert_array_equal(augmentation.apply(draw, image, (2, 2)),
                                  [[[7, 6], [11, 10]], [[19, 18], [23, 22]]])
    # Odd room: the centre is the upper left one of the two.
    corners = {augmentation.five_crops(np.random.RandomState(seed), (1, 5, 6), 2).corner for seed in range(60)}
    assert corners == {(1, 2), (0, 0), (0, 4), (3, 0), (3, 4)}


def test_an_image_as_large_as_the_window_is_only_mirrored(tmp_path, data):
    folder, images, _ = data
    for label, image, _ in passes(caffe_nets.net(tmp_path, text(folder, augmentation="five_crops", side=8)), 5):
        assert (image == images[label]).all() or (image == images[label][:, :, ::-1]).all()


def test_augmenting_leaves_png_records_as_they_were(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    writer = lmdb_io.Writer(str(tmp_path / "images"), 10 ** 6, {})
    writer.put(0, lmdb_io.encode_image(image, 3, "png"))
    writer.close()
    found = passes(caffe_nets.net(tmp_path, text(tmp_path, 2)), 1)
    np.testing.assert_array_equal(found[1][1], cv2.split(image))


@pytest.mark.parametrize("param, said", [
    (dict(augmentation="five_crops"), "key 'side' is missing, but five_crops needs it"),
    (dict(augmentation="mirror_or_noise"), "key 'deviation' is missing, but mirror_or_noise needs it"),
    (dict(augmentation="five_crops", side=9), "the images are 8x8, smaller than the window of 9"),
    (dict(mean=[1, 2]), "param_str: 'mean' has 2 values, expected 1 or 3 (one for each channel)"),
    (dict(scale=[1, 2, 3, 4]), "param_str: 'scale' has 4 values, expected 1 or 3 (one for each channel)"),
    (dict(scale=[]), "'scale' has 0 values"), (dict(scale="1"), "expected a number or a list of numbers"),
    (dict(augmentation="flip"), 'expected one of "none", "five_crops", "mirror_or_noise"')])
def test_wrong_settings_are_named(tmp_path, data, capfd, param, said):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, text(data[0], **param))
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("records, said", [([10], "expected different numbers from 0 to 9"),
                                           ([3, 3], "expected different numbers from 0 to 9"),
                                           ([-1], "expected a list of integers >= 0")])
def test_wrong_list_of_records_is_named(tmp_path, data, capfd, records, said):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, text(data[0], records=records))
    assert said in capfd.readouterr().err


def test_references_of_other_faces_and_missing_tops_are_refused(tmp_path, data, capfd):
    other = tmp_path / "other"
    other.mkdir()
    write(other, "references", 2, manifest="n")
    wrong = text(data[0], pairs=True).replace(str(data[0] / "references"), str(other / "references"))
    with pytest.raises(UserError):
        caffe_nets.net(tmp_path, wrong)
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, text(data[0], pairs=True).replace('top: "reference"', ""))
    said = capfd.readouterr().err
    assert "does not match" in said and "2 tops, expected 3: images, labels and references" in said
