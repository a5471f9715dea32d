"""Windows cut anew, and tuplets: what is cut, each image once a pass, the same stream after a resume, refusals."""
import caffe
import numpy as np
import pytest

from data_prep import crops, lmdb_io, manifest, records
from tests import caffe_nets, small_data

COUNTS = (57, 14, 14)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data.with_subjects(tmp_path_factory.mktemp("data"), COUNTS)


@pytest.fixture(scope="module")
def regions(data):
    reader = lmdb_io.Reader(data + "/train/images")
    return [lmdb_io.decode(reader[index])[0][0] for index in range(len(reader))]


def text(data, layer="WindowDataLayer", batch_size=4, seed=1, **param):
    return caffe_nets.python_layer("train_data", "window_data", layer, [], params=["lr_mult: 0 decay_mult: 0"],
                                   tops=["data", "label"], data=data, batch_size=batch_size, seed=seed, **param)


def tuplets(data, **param):
    return text(data, "TupletDataLayer", **dict(dict(positives=3, negatives=6), **param))


def stream(net, steps):
    """Images and labels of so many steps."""
    blobs = [{name: blob.copy() for name, blob in net.forward().items()} for _ in range(steps)]
    return (np.concatenate([step[name] for step in blobs]) for name in ("data", "label"))


@pytest.fixture(scope="module")
def found(regions):
    """Evened window -> number of its image: every window that can be cut, the mirrored ones too."""
    assert {region.shape for region in regions} == {(60, 60)}
    every = {}
    for number, region in enumerate(regions):
        for x in range(13):
            for y in range(13):
                for mirrored in (False, True):
                    cut = crops.Window(x, y, 48, mirrored).cut(region)
                    every[crops.even_illumination(cut).tobytes()] = number, x, y, mirrored
    return every


def test_each_image_once_a_pass_in_a_new_order_and_cut_anew(tmp_path, data, found):
    images, labels = stream(caffe_nets.net(tmp_path, text(data, batch_size=19)), 6)
    windows = [found[image.tobytes()] for image in images]
    faces = manifest.read(data + "/manifest.csv")
    known = [faces[record.row].label for record in records.read(data, "train")]
    orders = [[number for number, *_ in windows[start:start + 57]] for start in (0, 57)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(57)) and orders[0] != orders[1] != sorted(orders[1])
    assert labels.tolist() == [known[number] for order in orders for number in order]
    assert len(set(windows)) > 100
    assert {mirrored for *_, mirrored in windows} == {False, True}
    assert min(x for _, x, _, _ in windows) < 2 and max(y for _, _, y, _ in windows) > 10
    assert abs(images.mean()) < 1e-5 and abs(images.std() - 1) < 1e-5


def test_tuplets_over_a_pass(tmp_path, data, found):
    images, labels = stream(caffe_nets.net(tmp_path, tuplets(data, batch_size=3)), 19)
    faces = manifest.read(data + "/manifest.csv")
    faces = [faces[record.row] for record in records.read(data, "train")]
    numbers = np.array([found[image.tobytes()][0] for image in images]).reshape(57, 9)
    labels = labels.reshape(57, 9)
    assert sorted(numbers[:, 0]) == list(range(57))
    assert (labels[:, 1:] == -1).all()
    for row, (query, *others) in zip(labels, numbers):
        label, subject = faces[query].label, faces[query].subject
        assert row[0] == label
        assert all(faces[number].label == label and faces[number].subject != subject for number in others[:2])
        assert sorted(faces[number].label for number in others[2:]) == sorted(set(range(7)) - {label})
        # Here each subject shows each expression.
        assert all(faces[number].subject == subject for number in others[2:])


def test_a_batch_may_span_two_passes(tmp_path, data):
    net = caffe_nets.net(tmp_path, text(data, batch_size=50))
    net.forward()
    net.forward()
    assert tuple(net.params["train_data"][0].data) == (1, 43)


@pytest.mark.parametrize("definition", [text, tuplets])
def test_seed_decides(tmp_path, data, definition):
    def images(seed):
        return list(stream(caffe_nets.net(tmp_path, definition(data, seed=seed)), 2))[0]
    np.testing.assert_array_equal(images(1), images(1))
    assert (images(1) != images(2)).any()


@pytest.mark.parametrize("definition", [text, tuplets])
def test_same_stream_after_a_resume(tmp_path, data, definition):
    net_text = definition(data, batch_size=5) + """
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
                loss_param { ignore_label: -1 } }"""

    def solver():
        return caffe_nets.solver(tmp_path, net_text, base_lr=1e-3, momentum=0.9, weight_decay=0.1)
    through, stopped, resumed = solver(), solver(), solver()
    through.step(20)
    stopped.step(13)
    stopped.snapshot()
    resumed.restore(str(tmp_path / "snapshot_iter_13.solverstate"))
    resumed.step(7)
    assert tuple(through.net.params["train_data"][0].data) == (1, 43)
    for name in ("train_data", "fc"):
        np.testing.assert_array_equal(resumed.net.params[name][0].data, through.net.params[name][0].data)
    np.testing.assert_array_equal(resumed.net.blobs["data"].data, through.net.blobs["data"].data)


def test_position_of_other_data_is_refused(tmp_path, data, capfd):
    net = caffe_nets.net(tmp_path, text(data))
    net.params["train_data"][0].data[...] = 3, 57
    with pytest.raises(ValueError):
        net.forward()
    assert "layer train_data (WindowDataLayer): the position is image 57 of 57, so it comes from other data" in (
        capfd.readouterr().err)


def test_without_subjects_it_says_what_is_missing_and_how_to_give_it(tmp_path, capfd):
    source = small_data.write_csv(tmp_path / "fer2013.csv", small_data.rows((14, 7, 7)))
    from data_prep import prepare
    prepare.prepare(prepare.Settings("fer2013", source, "liu2017", features=()), str(tmp_path / "out"), 1)
    assert len(list(stream(caffe_nets.net(tmp_path, text(str(tmp_path / "out"))), 1))) == 2
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, tuplets(str(tmp_path / "out")))
    said = capfd.readouterr().err
    assert "out/manifest.csv: 14 of 14 images have no subject, but tuplets need subjects" in said
    assert "./fer prepare ... --subjects TABLE.csv" in said


def test_crops_that_are_cut_already_are_refused(tmp_path, capfd):
    with pytest.raises(ValueError):
        caffe_nets.net(tmp_path, text(small_data.prepared(tmp_path, features=(), counts=(7, 7, 7))))
    assert "made with crops whole, which are already cut; expected --crops liu2017" in capfd.readouterr().err


def test_phase_does_not_matter_to_it(tmp_path, data):
    assert caffe_nets.net(tmp_path, tuplets(data), caffe.TEST).forward()["data"].shape == (36, 1, 48, 48)
