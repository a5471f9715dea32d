"""Layers that read files, against Caffe's, and what they draw."""
import threading
import time

import caffe
import cv2
import h5py
import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data_prep import lmdb_io
from engine import ahead
from tests.engine import compare

Datum = caffe.proto.caffe_pb2.Datum


def write_lmdb(path, records):
    """records: serialized Datums, or Datums."""
    path.mkdir()
    with lmdb.open(str(path), map_size=1 << 24, lock=False) as environment, environment.begin(write=True) as writing:
        for number, record in enumerate(records):
            record = record if isinstance(record, bytes) else record.SerializeToString()
            writing.put(b"%06d" % number, record)
    return str(path)


def images(count, shape=(3, 6, 7), seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)


def raw(pixels, label):
    channels, height, width = pixels.shape
    return Datum(channels=channels, height=height, width=width, data=pixels.tobytes(), label=label)


def raws(pixels):
    return [raw(image, 10 + label) for label, image in enumerate(pixels)]


def data(source, batch=3, transform="", more="backend: LMDB", tops='top: "data" top: "label"'):
    return (f'layer {{ name: "data" type: "Data" {tops} transform_param {{ {transform} }} '
            f'data_param {{ source: "{source}" batch_size: {batch} {more} }} }}')


def image_data(source, transform="", more="batch_size: 3"):
    return (f'layer {{ name: "data" type: "ImageData" top: "data" top: "label" transform_param {{ {transform} }} '
            f'image_data_param {{ source: "{source}" {more} }} }}')


def hdf5_data(source, tops=("data", "label"), more="batch_size: 3"):
    return ('layer {{ name: "data" type: "HDF5Data" {} hdf5_data_param {{ source: "{}" {} }} }}'.format(
        " ".join(f'top: "{top}"' for top in tops), source, more))


def passes(net, count):
    """The tops of so many passes of the engine: one dict of arrays for each."""
    return [{name: top.numpy().copy() for name, top in net.forward(keep=list(net.shapes)).items()}
            for _ in range(count)]


def assert_equal(text, count, phase=compare.TEST):
    """Both engines give the same bytes in so many passes."""
    theirs, ours = compare.caffe_net(text, phase), compare.engine_net(text, phase)
    for made in passes(ours, count):
        theirs.forward()
        assert set(made) == set(theirs.blobs)
        for name, array in made.items():
            expected = theirs.blobs[name].data
            assert array.dtype == np.float32 and array.shape == ours.shapes[name] == expected.shape
            assert (array == expected).all(), name
    return ours


def refused(text, *words, phase=compare.TEST, run=False):
    """The error, of one line, names the layer and the words."""
    with pytest.raises(UserError) as error:
        net = compare.engine_net(text, phase)
        if run:
            net.forward()
    message = str(error.value)
    assert message.startswith("layer data (") and "\n" not in message
    for word in words:
        assert word in message


def write_mean(path, mean, legacy=True):
    blob = caffe.io.caffe_pb2.BlobProto(data=mean.ravel())
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = mean[None].shape
    else:
        blob.shape.dim.extend(mean[None].shape)
    path.write_bytes(blob.SerializeToString())
    return str(path)


class TestData:
    @pytest.mark.parametrize("phase", (compare.TRAIN, compare.TEST))
    @pytest.mark.parametrize("batch", (1, 3, 5, 12))
    def test_wraps_around_as_caffe_does(self, tmp_path, batch, phase):
        assert_equal(data(write_lmdb(tmp_path / "db", raws(images(5))), batch), 6, phase)

    def test_rand_skip_and_force_encoded_color_change_nothing_in_caffe_nor_here(self, tmp_path):
        source = write_lmdb(tmp_path / "db", raws(images(5)))
        assert_equal(data(source, more="backend: LMDB rand_skip: 4 force_encoded_color: true prefetch: 2"), 3,
                     compare.TRAIN)

    def test_without_labels(self, tmp_path):
        assert_equal(data(write_lmdb(tmp_path / "db", raws(images(5))), tops='top: "data"'), 2)

    @settings(max_examples=25, derandomize=True, deadline=None)
    @given(st.data())
    def test_transform_in_test(self, tmp_path_factory, drawn):
        shape = drawn.draw(st.tuples(st.sampled_from((1, 3)), st.integers(3, 7), st.integers(3, 7)))
        crop = drawn.draw(st.integers(0, min(shape[1:])))
        scale = drawn.draw(st.sampled_from((1, 0.0078125, 0.017, -3)))
        mean = drawn.draw(st.sampled_from(("none", "one value", "values", "file", "new file")))
        seed = drawn.draw(st.integers(0, 99))
        folder = tmp_path_factory.mktemp("transform")
        random = np.random.RandomState(seed)
        transform = f"crop_size: {crop} scale: {scale}"
        if "value" in mean:
            count = shape[0] if mean == "values" else 1
            transform += "".join(f" mean_value: {value:.3f}" for value in random.uniform(90, 140, count))
        elif "file" in mean:
            path = write_mean(folder / "mean", random.uniform(0, 255, shape).astype(np.float32), mean == "file")
            transform += f' mean_file: "{path}"'
        source = write_lmdb(folder / "db", raws(images(4, shape, seed)))
        assert_equal(data(source, transform=transform), 2)

    @pytest.mark.parametrize("mirror", (False, True))
    def test_train_draws_all_windows_of_the_image(self, tmp_path, mirror):
        pixels = images(4, (2, 6, 6))
        mean = np.random.RandomState(1).uniform(0, 255, (2, 6, 6)).astype(np.float32)
        text = data(write_lmdb(tmp_path / "db", raws(pixels)), 4, "crop_size: 3 scale: 0.5 mirror: {} mean_file: \"{}\""
                    .format(str(mirror).lower(), write_mean(tmp_path / "mean", mean)))
        seen = {}
        for made in passes(compare.engine_net(text, seed=3), 500):
            for row, image in enumerate(made["data"]):
                centered = (pixels[row] - mean) * np.float32(0.5)
                windows = {(y, x, flip): centered[:, y:y + 3, x:x + 3][:, :, ::-1 if flip else 1]
                           for y in range(4) for x in range(4) for flip in ((False, True) if mirror else (False,))}
                found = [key for key, window in windows.items() if (window == image).all()]
                assert len(found) == 1
                seen[found[0]] = seen.get(found[0], 0) + 1
        # 2000 draws of 16 or 32 windows, of which each is seen 125 or 62 times on average.
        assert len(seen) == (32 if mirror else 16)
        assert min(seen.values()) > 1000 / len(seen) and max(seen.values()) < 4000 / len(seen)

    def test_mirror_in_test_mirrors_half_as_in_caffe(self, tmp_path):
        source = write_lmdb(tmp_path / "db", raws(images(1, (1, 2, 3))))
        theirs = compare.caffe_net(data(source, 400, "mirror: true"), compare.TEST)
        theirs.forward()
        ours = passes(compare.engine_net(data(source, 400, "mirror: true"), compare.TEST), 1)[0]["data"]
        for made in (theirs.blobs["data"].data, ours):
            flipped = (made == images(1, (1, 2, 3))[..., ::-1]).all((1, 2, 3))
            assert (made[~flipped] == images(1, (1, 2, 3))).all()
            assert 150 < flipped.sum() < 250

    def test_floats(self, tmp_path):
        random = np.random.RandomState(0)
        vectors = random.standard_normal((5, 4)).astype(np.float32)
        records = [lmdb_io.encode_floats(vector, label) for label, vector in enumerate(vectors)]
        # A field after the floats, so that the record does not end with them.
        records[3] = Datum.FromString(records[3]).SerializeToString() + Datum(encoded=False).SerializeToString()
        assert_equal(data(write_lmdb(tmp_path / "db", records), transform="scale: 0.1 mean_value: 0.3"), 4)

    def test_negative_and_missing_labels(self, tmp_path):
        records = raws(images(3))
        records[0].label = -7
        records[1].ClearField("label")
        assert_equal(data(write_lmdb(tmp_path / "db", records)), 2)

    @pytest.mark.parametrize("channels", (None, 3, 4))
    @pytest.mark.parametrize("force", ("", "force_color: true", "force_gray: true"))
    @pytest.mark.parametrize("encoding", (".png", ".jpg"))
    def test_encoded(self, tmp_path, encoding, force, channels):
        if (encoding, channels) == (".jpg", 4):
            pytest.skip("JPEG has no transparency")
        pixels = np.random.RandomState(0).randint(0, 256, (4, 8, 9, channels or 1)).astype(np.uint8)
        records = [Datum(channels=channels or 1, height=8, width=9, encoded=True, label=label,
                         data=cv2.imencode(encoding, image)[1].tobytes()) for label, image in enumerate(pixels)]
        assert_equal(data(write_lmdb(tmp_path / "db", records), transform=f"crop_size: 4 scale: 0.1 {force}"), 3)

    def test_16_bits_become_8_if_forced(self, tmp_path):
        pixels = np.random.RandomState(0).randint(0, 1 << 16, (4, 5, 3)).astype(np.uint16)
        record = Datum(encoded=True, data=cv2.imencode(".png", pixels)[1].tobytes())
        assert_equal(data(write_lmdb(tmp_path / "db", [record]), transform="force_color: true"), 1)

    def test_one_image_a_batch_may_have_any_size(self, tmp_path):
        records = [raw(images(1, shape)[0], label) for label, shape in enumerate([(1, 3, 4), (1, 5, 2)])]
        ours, theirs = (make(data(write_lmdb(tmp_path / name, records), 1), compare.TEST)
                        for make, name in ((compare.engine_net, "a"), (compare.caffe_net, "b")))
        for made in passes(ours, 3):
            theirs.forward()
            assert (made["data"] == theirs.blobs["data"].data).all()

    def test_two_nets_read_the_same_lmdb(self, tmp_path):
        source = write_lmdb(tmp_path / "db", raws(images(5)))
        nets = [compare.engine_net(data(source), phase) for phase in (compare.TRAIN, compare.TEST)]
        assert [passes(net, 1)[0]["label"].tolist() for net in nets] == [[10, 11, 12]] * 2


def send_as_stored(net):
    """As to a card."""
    net.layer("data").as_stored = True
    return net


class TestForACard:
    """The arithmetic that is done on the card gives the same bits as that on the processor."""

    @pytest.mark.parametrize("phase", (compare.TRAIN, compare.TEST))
    @pytest.mark.parametrize("mirror", ("", "mirror: true"))
    @pytest.mark.parametrize("crop", ("", "crop_size: 4"))
    @pytest.mark.parametrize("mean", (
        "", "mean_value: 101.3", "mean_value: 1 mean_value: 99.7 mean_value: 0.3", "FILE"))
    def test_same_bits(self, tmp_path, mean, crop, mirror, phase):
        path = write_mean(tmp_path / "mean", np.random.RandomState(1).uniform(0, 255, (3, 6, 7)).astype(np.float32))
        transform = f"scale: 0.017 {mean} {crop} {mirror}".replace("FILE", f'mean_file: "{path}"')
        text = data(write_lmdb(tmp_path / "db", raws(images(5))), transform=transform)
        expected = passes(compare.engine_net(text, phase, seed=4), 6)
        net = send_as_stored(compare.engine_net(text, phase, seed=4))
        for made, one in zip(passes(net, 6), expected):
            assert made["data"].dtype == np.float32
            assert (made["data"] == one["data"]).all() and (made["label"] == one["label"]).all()
        # Of a net that has no thread which reads ahead.
        net = send_as_stored(compare.engine_net(text, phase, seed=4))
        sent = net.layer("data").read(0)[0]
        assert sent.dtype == np.uint8 and sent.shape == net.shapes["data"]

    def test_floats_stay_floats(self, tmp_path):
        vectors = np.random.RandomState(0).standard_normal((5, 4)).astype(np.float32)
        records = [lmdb_io.encode_floats(vector, label) for label, vector in enumerate(vectors)]
        records.append(Datum(channels=4, height=1, width=1, data=b"1234", label=7))
        text = data(write_lmdb(tmp_path / "db", records), 6, "scale: 0.1 mean_value: 0.3")
        expected = passes(compare.engine_net(text), 2)
        for made, one in zip(passes(send_as_stored(compare.engine_net(text)), 2), expected):
            assert (made["data"] == one["data"]).all()

    def test_image_files(self, listed):
        text = image_data(listed / "list.txt", "scale: 0.1 mean_value: 100 crop_size: 4 mirror: true",
                          f'batch_size: 3 root_folder: "{listed}/" shuffle: true')
        expected = passes(compare.engine_net(text), 4)
        for made, one in zip(passes(send_as_stored(compare.engine_net(text)), 4), expected):
            assert (made["data"] == one["data"]).all()


class TestDataRefuses:
    def test_leveldb(self, tmp_path):
        refused(data(tmp_path, more=""), "LEVELDB")

    def test_no_lmdb(self, tmp_path):
        refused(data(tmp_path / "none"), str(tmp_path / "none"), "No such file")

    def test_no_records(self, tmp_path):
        refused(data(write_lmdb(tmp_path / "db", [])), str(tmp_path / "db"), "no records")

    def test_file_that_was_cut(self, tmp_path):
        source = write_lmdb(tmp_path / "db", raws(images(400)))
        with open(f"{source}/data.mdb", "r+b") as stream:
            stream.truncate(20000)
        refused(data(source), source, "the file was cut")

    def test_batch_size(self, tmp_path):
        refused(data(tmp_path, 0), "batch_size 0")

    def test_settings_that_caffe_leaves_out_silently(self, tmp_path):
        refused(data(tmp_path, more="backend: LMDB mirror: true"), "data_param.mirror")

    def test_record_that_is_no_datum(self, tmp_path):
        refused(data(write_lmdb(tmp_path / "db", [b"\xff\xff"])), "000000", "not a Datum")

    def test_record_with_too_few_values(self, tmp_path):
        records = raws(images(4))
        records[2].data = records[2].data[:-1]
        refused(data(write_lmdb(tmp_path / "db", records)), "record 000002", "125 values", "3x6x7", run=True)

    def test_image_that_cannot_be_decoded(self, tmp_path):
        records = [Datum(encoded=True, data=b"no image")]
        refused(data(write_lmdb(tmp_path / "db", records)), "record 000000", "cannot decode")

    def test_image_of_16_bits(self, tmp_path):
        png = cv2.imencode(".png", np.zeros((3, 3), np.uint16))[1].tobytes()
        refused(data(write_lmdb(tmp_path / "db", [Datum(encoded=True, data=png)])), "record 000000", "uint16", "8 bits")

    def test_images_of_two_sizes_in_a_batch(self, tmp_path):
        records = [raw(images(1, (1, 3, 4))[0], 0), raw(images(1, (1, 4, 4))[0], 0)]
        refused(data(write_lmdb(tmp_path / "db", records)), "record 000001", "(1, 4, 4)", "(1, 3, 4)", run=True)

    @pytest.mark.parametrize("transform, words", (
        ("crop_size: 7", ("crop_size 7", "6x7")),
        ("mean_value: 1 mean_value: 2", ("2 transform_param.mean_value", "expected 1 or 3")),
        ("force_color: true force_gray: true", ("force_color and force_gray",)),
        ('mean_file: "/nowhere/mean"', ("/nowhere/mean", "No such file")),
    ))
    def test_transform(self, tmp_path, transform, words):
        refused(data(write_lmdb(tmp_path / "db", raws(images(4))), transform=transform), *words)

    def test_mean_of_another_shape(self, tmp_path):
        path = write_mean(tmp_path / "mean", np.zeros((3, 6, 6), np.float32))
        source = write_lmdb(tmp_path / "db", raws(images(4)))
        refused(data(source, transform=f'mean_file: "{path}"'), path, "(3, 6, 6)", "(3, 6, 7)")
        refused(data(source, transform=f'mean_value: 1 mean_file: "{path}"'), "mean_file and mean_value")

    def test_mean_that_is_cut(self, tmp_path):
        path = write_mean(tmp_path / "mean", np.zeros((3, 6, 7), np.float32))
        blob = caffe.io.caffe_pb2.BlobProto.FromString((tmp_path / "mean").read_bytes())
        del blob.data[100:]
        (tmp_path / "mean").write_bytes(blob.SerializeToString())
        source = write_lmdb(tmp_path / "db", raws(images(4)))
        refused(data(source, transform=f'mean_file: "{path}"'), path, "100 values")
        (tmp_path / "mean").write_bytes(caffe.io.caffe_pb2.BlobProto(
            num=2, channels=3, height=6, width=7, data=[0] * 252).SerializeToString())
        refused(data(source, transform=f'mean_file: "{path}"'), path, "(2, 3, 6, 7)")


@pytest.fixture
def listed(tmp_path):
    """A list of seven image files of two sizes, one of them grey, with spaces in their names."""
    random = np.random.RandomState(0)
    lines = []
    for number in range(7):
        shape = ((8, 9), (10, 7))[number % 2] + ((3,) if number != 2 else ())
        cv2.imwrite(str(tmp_path / f"a face {number}.png"), random.randint(0, 256, shape).astype(np.uint8))
        lines.append(f"a face {number}.png {3 * number}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


class TestImageData:
    @pytest.mark.parametrize("size", ("", "new_height: 5 new_width: 6"))
    @pytest.mark.parametrize("color", ("", "is_color: false"))
    def test_equals_caffe(self, listed, size, color):
        transform = "scale: 0.1 mean_value: 100 crop_size: 4"
        assert_equal(image_data(listed / "list.txt", transform,
                                f'batch_size: 3 root_folder: "{listed}/" {size} {color}'), 6)

    def test_shuffle_reads_each_image_once_an_epoch(self, listed):
        text = image_data(listed / "list.txt", "crop_size: 4", f'shuffle: true root_folder: "{listed}/" batch_size: 7')
        orders = [made["label"].tolist() for made in passes(compare.engine_net(text, seed=1), 6)]
        assert all(sorted(order) == list(range(0, 21, 3)) for order in orders)
        assert len(set(map(tuple, orders))) == 6

    def test_labels_stay_with_their_images(self, listed):
        text = image_data(listed / "list.txt", "", f'shuffle: true root_folder: "{listed}/" batch_size: 1')
        for made in passes(compare.engine_net(text), 20):
            image = cv2.imread(str(listed / "a face {:.0f}.png".format(made["label"][0] / 3)))
            assert (made["data"][0] == image.transpose(2, 0, 1)).all()

    @pytest.mark.parametrize("phase", (compare.TRAIN, compare.TEST))
    def test_rand_skip_leaves_out_the_first_images_once(self, listed, phase):
        text = image_data(listed / "list.txt", "crop_size: 4", f'rand_skip: 5 root_folder: "{listed}/" batch_size: 7')
        starts = set()
        for seed in range(30):
            first, second = passes(compare.engine_net(text, phase, seed=seed), 2)
            assert (first["label"] == second["label"]).all()
            assert (first["label"] == np.roll(np.arange(0, 21, 3), -int(first["label"][0] / 3))).all()
            starts.add(first["label"][0] // 3)
        assert starts == {0, 1, 2, 3, 4}

    @pytest.mark.parametrize("line, words", (
        ("", ("is empty",)), ("a.png\n", ("line 1", "'a.png'")), ("a.png 1\n\n", ("line 2", "''")),
        ("a.png 0.5\n", ("line 1", "integer label")), ("a.png 1\n", ("image /nowhere/a.png", "no such file"))))
    def test_list(self, tmp_path, line, words):
        (tmp_path / "list.txt").write_text(line)
        refused(image_data(tmp_path / "list.txt", more='root_folder: "/nowhere/"'), str(tmp_path / "list.txt"), *words)

    def test_no_list(self, tmp_path):
        refused(image_data(tmp_path / "list.txt"), str(tmp_path / "list.txt"), "No such file")

    def test_later_file_that_is_no_image(self, listed):
        (listed / "a face 1.png").write_text("no image")
        refused(image_data(listed / "list.txt", "crop_size: 4", f'root_folder: "{listed}/" batch_size: 3'),
                f"image {listed}/a face 1.png", "cannot decode", run=True)

    def test_settings(self, listed):
        refused(image_data(listed / "list.txt", more="new_height: 3"), "new_height 3 and new_width 0")
        refused(image_data(listed / "list.txt", "force_gray: true"), "force_gray", "is_color")


@pytest.fixture
def arrays(tmp_path):
    """A list of three HDF5 files with 4, 1 and 5 rows, of floats, doubles and integers."""
    random = np.random.RandomState(0)
    row = 0
    for name, count in (("a", 4), ("b", 1), ("c", 5)):
        with h5py.File(str(tmp_path / f"{name}.h5"), "w") as file:
            file["data"] = random.standard_normal((count, 2, 3)).astype(np.float64 if name == "c" else np.float32)
            file["label"] = np.arange(row, row + count, dtype=np.int32)
        row += count
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{name}.h5\n" for name in "abc"))
    return tmp_path


class TestHDF5Data:
    @pytest.mark.parametrize("batch", (1, 3, 10, 23))
    def test_equals_caffe(self, arrays, batch):
        assert_equal(hdf5_data(arrays / "list.txt", more=f"batch_size: {batch}"), 8)

    def test_one_file(self, arrays):
        (arrays / "list.txt").write_text(f"{arrays}/a.h5")
        assert_equal(hdf5_data(arrays / "list.txt"), 5)

    def test_shuffle_reads_each_row_once_an_epoch_and_file_after_file(self, arrays):
        made = passes(compare.engine_net(hdf5_data(arrays / "list.txt", more="batch_size: 10 shuffle: true")), 40)
        ordered = {}
        for number in range(10):
            ordered[number] = passes(compare.engine_net(hdf5_data(arrays / "list.txt", more="batch_size: 1")), 10)
        rows = np.concatenate([one["data"] for one in ordered[0]])
        files = set()
        for one in made:
            labels = one["label"].astype(int)
            assert sorted(labels) == list(range(10))
            assert (one["data"] == rows[labels]).all()
            file = np.digitize(labels, (4, 5))
            changes = file[np.flatnonzero(np.diff(file, prepend=-1))]
            assert len(changes) == 3
            files.add(tuple(changes))
        assert len(files) == 6
        assert len({tuple(one["label"]) for one in made}) == 40

    def test_files_of_one_length_have_orders_of_their_own(self, arrays):
        (arrays / "list.txt").write_text(f"{arrays}/c.h5\n" * 3)
        net = compare.engine_net(hdf5_data(arrays / "list.txt", more="batch_size: 15 shuffle: true"))
        for made in passes(net, 4):
            assert len({tuple(part) for part in made["label"].reshape(3, 5)}) > 1

    def test_file_that_is_gone_since_the_start(self, arrays):
        net = compare.engine_net(hdf5_data(arrays / "list.txt", more="batch_size: 4"))
        (arrays / "b.h5").unlink()
        net.forward()
        with pytest.raises(UserError, match="b.h5 of .*list.txt cannot be read"):
            net.forward()

    def test_refuses(self, arrays):
        source = arrays / "list.txt"
        refused(hdf5_data(source, ("data", "lable")), "a.h5", "no data set lable", "data, label")
        with h5py.File(str(arrays / "b.h5"), "a") as file:
            del file["data"]
            file["data"] = np.zeros((1, 2, 4))
        refused(hdf5_data(source), "b.h5", "(1, 2, 4)", "a.h5", "(4, 2, 3)")
        with h5py.File(str(arrays / "b.h5"), "a") as file:
            del file["data"]
            file["data"] = np.zeros((2, 2, 3))
        refused(hdf5_data(source), "b.h5", "2, 1 rows")
        with h5py.File(str(arrays / "b.h5"), "a") as file:
            del file["data"]
            file["data"] = b"text"
        refused(hdf5_data(source), "b.h5", "data set data")
        (arrays / "b.h5").write_text("no HDF5")
        refused(hdf5_data(source), "b.h5", "cannot be read")
        refused(hdf5_data(source).replace("hdf5_data_param", "transform_param { scale: 2 } hdf5_data_param"),
                "transform_param")


class TestResume:
    @pytest.mark.parametrize("kind", ("data", "image", "hdf5"))
    def test_a_training_that_is_resumed_reads_and_draws_the_same(self, tmp_path, listed, arrays, kind):
        text = {"data": lambda: data(write_lmdb(tmp_path / "db", raws(images(5))), 3, "crop_size: 3 mirror: true"),
                "image": lambda: image_data(listed / "list.txt", "crop_size: 3 mirror: true",
                                            f'shuffle: true rand_skip: 3 root_folder: "{listed}/" batch_size: 3'),
                "hdf5": lambda: hdf5_data(arrays / "list.txt", more="batch_size: 3 shuffle: true")}[kind]
        if kind != "data":  # both fixtures write list.txt
            lines = ([f"a face {number}.png {3 * number}\n" for number in range(7)] if kind == "image" else
                     [f"{arrays}/{name}.h5\n" for name in "abc"])
            (tmp_path / "list.txt").write_text("".join(lines))
        text = text()
        whole = passes(compare.engine_net(text, seed=5), 12)
        resumed = compare.engine_net(text, seed=5)
        passes(resumed, 2)
        for start in (7, 1, 1):  # forwards, back, and the one before the next
            resumed.seek(start)
            for made, expected in zip(passes(resumed, 4), whole[start:]):
                for name, array in made.items():
                    assert (array == expected[name]).all()
        other = passes(compare.engine_net(text, seed=6), 12)
        assert any((made["data"] != expected["data"]).any() for made, expected in zip(other, whole))


class TestAhead:
    def test_makes_the_next_ones_in_one_other_thread(self):
        made, threads = [], set()

        def make(number):
            threads.add(threading.current_thread())
            made.append(number)
            return number * 10

        reader = ahead.Ahead()
        assert [reader.get(make, number) for number in (0, 1, 2, 7, 8, 3)] == [0, 10, 20, 70, 80, 30]
        wait_for(lambda: made[-1] == 3 + ahead.DEPTH)
        assert len(threads) == 1 and threading.current_thread() not in threads
        assert len(made) <= 6 + 3 * ahead.DEPTH

    def test_an_error_comes_with_its_own_pass_only(self):
        def make(number):
            if number == 1:
                raise UserError("the second one")
            return number

        reader = ahead.Ahead()
        assert reader.get(make, 0) == 0
        with pytest.raises(UserError, match="the second one"):
            reader.get(make, 1)
        assert reader.get(make, 2) == 2

    def test_the_thread_ends_with_the_net(self, tmp_path):
        before = set(threading.enumerate())
        net = compare.engine_net(data(write_lmdb(tmp_path / "db", raws(images(5)))))
        assert not set(threading.enumerate()) - before
        net.forward()
        threads = set(threading.enumerate()) - before
        assert len(threads) == 1
        del net
        wait_for(lambda: not threads & set(threading.enumerate()))


def wait_for(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 seconds")
