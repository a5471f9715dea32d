"""RespondRatio against a slow one, where the parts lie, and a whole run of the net with one map."""
import math
import os
import shutil

import caffe
import numpy as np
import pytest
from google.protobuf import text_format

from common import experiment, files
from common.errors import UserError
from data_prep import alignment, crops, lmdb_io, manifest, prepare, prepared_folder, records
from prototxt import build, nets
from tests import caffe_nets, small_data
from tools.analysis import respond_ratio
from tools.analysis.respond_ratio import Grid
from tools.cli import main
from tools.report import figures
from tools.training import run
from tools.training.caffe_process import Engine


def slow(z, weights, bias, x, parts):
    above = below = 0.0
    for i in range(len(z)):
        ranked = sorted(range(x.shape[1]), key=lambda j, row=x[i]: (-row[j], j))
        for j in ranked[:max(1, x.shape[1] // 2)]:
            above += math.exp(sum(weights[j, k] * z[i, k] for k in range(z.shape[1]) if parts[i][k]) + bias[j])
            below += math.exp(sum(parts[i]) / z.shape[1] * sum(weights[j] * z[i]) + bias[j])
    return above / below


def example(samples, values, outputs, seed=0):
    random = np.random.RandomState(seed)
    return (random.randn(samples, values), random.randn(outputs, values), random.randn(outputs),
            random.randn(samples, outputs), random.rand(samples, values) < 0.4)


@pytest.mark.parametrize("shape", [(1, 4, 2), (3, 10, 6), (5, 7, 5), (2, 3, 1)])
def test_equals_the_slow_one(shape):
    z, weights, bias, x, parts = example(*shape)
    assert respond_ratio.respond_ratio(z, weights, bias, x, parts) == pytest.approx(slow(z, weights, bias, x, parts))
    # One mask for all samples.
    assert respond_ratio.respond_ratio(z, weights, bias, x, parts[0]) == pytest.approx(
        slow(z, weights, bias, x, [parts[0]] * len(z)))


def test_by_hand():
    # One sample, outputs 3 and 1: output 0 has the larger x. The part is one of two values: 2 * 1 against
    # (2 * 1 + 4 * 1) / 2, and the bias is in both.
    ratio = respond_ratio.respond_ratio(np.array([[2., 4.]]), np.array([[1., 1.], [9., 9.]]), np.array([5., 0.]),
                                        np.array([[3., 1.]]), np.array([True, False]))
    assert ratio == pytest.approx(math.exp(2 - 3))


def test_the_whole_face_and_no_part_of_it():
    z, weights, bias, x, _ = example(4, 9, 6, seed=2)
    for part in (np.ones(9, bool), np.zeros(9, bool)):
        assert respond_ratio.respond_ratio(z, weights, bias, x, part) == pytest.approx(1)


def test_large_responses_do_not_overflow():
    z, weights, bias, x, parts = example(3, 10, 6)
    # The bias is in both terms of the quotient.
    assert respond_ratio.respond_ratio(z, weights, bias + 2000, x, parts) == pytest.approx(
        respond_ratio.respond_ratio(z, weights, bias, x, parts))


def test_parts_lie_on_the_landmarks_and_do_not_overlap():
    region = crops.SETS["xie2019b-mmi"].region
    grid = Grid(256, 0.5, 1)
    whole = crops.Window(0, 0, 256)
    masks = {name: respond_ratio.part_mask(boxes, grid, whole, region, alignment.template())
             for name, boxes in respond_ratio.PARTS.items()}
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    left, right, lower = (alignment.template() * region).astype(int)
    assert masks["eyes and brows"][left[1], left[0]] and masks["eyes and brows"][right[1], right[0]]
    assert masks["nose root"][(left[1] + right[1]) // 2, (left[0] + right[0]) // 2]
    # The barycenter of nose and mouth corners is above the mouth's middle, between the cheeks.
    assert masks["mouth"][lower[1] + 20, lower[0]] and not masks["cheek"][lower[1], lower[0]]
    for mask in masks.values():
        assert mask.any()
        # The template is nearly symmetric.
        assert (mask != mask[:, ::-1]).mean() < 0.02


def test_windows_shift_and_mirror_the_parts():
    region, boxes = 256, respond_ratio.PARTS["mouth"]
    target = alignment.template()
    whole = respond_ratio.part_mask(boxes, Grid(256, 0.5, 1), crops.Window(0, 0, 256), region, target)
    shifted = respond_ratio.part_mask(boxes, Grid(227, 0.5, 1), crops.Window(10, 20, 227), region, target)
    np.testing.assert_array_equal(shifted, whole[20:247, 10:237])
    mirrored = respond_ratio.part_mask(boxes, Grid(227, 0.5, 1), crops.Window(10, 20, 227, True), region, target)
    np.testing.assert_array_equal(mirrored, whole[20:247, 10:237][:, ::-1])
    # A template 16 pixels further to the right moves the parts by as much.
    moved = respond_ratio.part_mask(boxes, Grid(256, 0.5, 1), crops.Window(0, 0, 256), region, target + (1 / 16, 0))
    np.testing.assert_array_equal(moved[:, 16:], whole[:, :-16])
    assert whole.any() and not whole[:, -16:].any()


@pytest.mark.parametrize("name, grid, blob", [("mmi-one_map-l2", (110, 4.5, 2), "conv1"),
                                              ("fer2013-toy-l2", (5, 0, 12), "conv2")])
def test_grid_is_where_a_value_sees(tmp_path, name, grid, blob):
    chosen = experiment.load("xie2019b/" + name)
    path = tmp_path / "deploy.prototxt"
    path.write_text(build.text(nets.deploy(chosen, build.expected(chosen))))
    found, found_blob = respond_ratio.grid_of(str(path))
    assert found_blob == blob and (found.size, found.start, found.step) == grid
    # The input's gradient of one value is around its position.
    net = caffe.proto.caffe_pb2.NetParameter()
    text_format.Merge(path.read_text(), net)
    net.force_backward = True
    path.write_text(str(net))
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.RandomState(0).rand(*net.blobs["data"].shape)
    net.forward()
    for row, column in ((1, 2), (3, 3)):
        net.blobs[blob].diff[...] = 0
        net.blobs[blob].diff[0, :, row, column] = 1
        net.backward(start="relu" + blob[-1], end=net._layer_names[1])
        # All that it may see, whatever max pooling has let through.
        seen = np.argwhere(net.blobs["data"].diff[0, 0])
        middle = (seen.min(axis=0) + seen.max(axis=0)) / 2 + 0.5
        assert np.abs(middle - found.positions()[[row, column]]).max() <= (0 if blob == "conv1" else 2)


@pytest.mark.parametrize("size, kind", [(1, "Flatten"), (5, "ReLU")])
def test_net_without_a_map_is_refused(tmp_path, size, kind):
    """Of a kernel as large as the image there is one cell."""
    path = tmp_path / "deploy.prototxt"
    path.write_text(caffe_nets.inputs(data=(1, 1, 5, 5)) + f"""
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param {{ num_output: 1 kernel_size: {size} }} }}
        layer {{ name: "flat" type: "{kind}" bottom: "conv" top: "flat" }}
        layer {{ name: "fc1" type: "InnerProduct" bottom: "flat" top: "fc1"
                inner_product_param {{ num_output: 2 }} }}""")
    with pytest.raises(UserError, match="FC1's input is not a map of the face"):
        respond_ratio.grid_of(str(path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The net with one map on FER2013's format at 227x227."""
    folder = tmp_path_factory.mktemp("respond")
    source = small_data.write_csv(folder / "fer2013.csv", small_data.rows((14, 7, 7)))
    prepare.prepare(prepare.Settings("fer2013", source, "xie2019a", features=[]), str(folder / "data"), processes=1)
    chosen = experiment.load("xie2019b/synthetic-one_map-l2", [
        "solver.batch_size=8", "solver.max_iter=4", "solver.snapshot=4", "solver.test_interval=4"])
    return run.train(chosen, str(folder / "data"), str(folder / "run"), None, Engine(1))


def test_of_a_run(trained, capsys):
    ratios = respond_ratio.measure(trained, "test")
    assert respond_ratio.read(trained) == ratios
    assert list(ratios) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    # Of one expression by hand: one image, ten windows.
    data = trained.info["data"]
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=trained.caffemodel())
    faces, images = manifest.read(data + "/manifest.csv"), lmdb_io.Reader(data + "/test/images")
    z, x, masks = [], [], []
    for record in records.read(data, "test"):
        if faces[record.row].label == 3:
            net.blobs["data"].data[0] = (lmdb_io.decode(images[record.key])[0].astype(float) - 127.5) / 128
            net.forward()
            z.append(net.blobs["conv1"].data[0].ravel().astype(float))
            x.append(net.blobs["fc1"].data[0].astype(float))
            masks.append(respond_ratio.part_mask(
                respond_ratio.PARTS["mouth"], Grid(110, 4.5, 2), crops.SETS["xie2019a"].test[record.crop],
                256, alignment.template()).ravel())
    assert len(z) == 10 and len({mask.tobytes() for mask in masks}) > 5
    weights, bias = (blob.data.astype(float) for blob in net.params["fc1"])
    expected = respond_ratio.respond_ratio(np.array(z), weights, bias, np.array(x), np.array(masks))
    assert ratios["happy"]["mouth"] == pytest.approx(expected, rel=1e-4)
    # PyTorch adds up in another order.
    assert main.main(["respond-ratio", trained.folder, "--engine", "torch"]) == 0
    on_torch = files.read_json(trained.path(respond_ratio.FILE))
    assert on_torch["engine"] == "torch"
    for name, of_parts in ratios.items():
        assert on_torch["respond_ratio"][name] == pytest.approx(of_parts, rel=1e-4)
    capsys.readouterr()
    assert main.main(["respond-ratio", trained.folder]) == 0
    assert files.read_json(trained.path(respond_ratio.FILE))["engine"] == "caffe"
    assert "{:.2f}".format(ratios["happy"]["mouth"]) in next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("happy"))


def test_parts_lie_where_the_data_s_own_template_says(trained, tmp_path, monkeypatch):
    """The same run and images, noted as aligned to another template."""
    before = respond_ratio.measure(trained, "test")
    data = str(tmp_path / "data")
    shutil.copytree(trained.info["data"], data)
    margins = {"left": .05, "right": .75, "top": .05, "bottom": .7}
    template = {"dataset": "ckplus", "protocol": "x", "faces": 3, "margins": margins}
    files.write_json(os.path.join(data, "prepare.json"), dict(prepared_folder.read_note(data), template=template))
    shutil.copytree(trained.folder, str(tmp_path / "run"))
    moved = run.Run(str(tmp_path / "run"))
    files.write_json(moved.path("run.json"), dict(trained.info, data=data))
    masks = []
    plain = respond_ratio.part_mask

    def seen(boxes, grid, window, region, target):
        np.testing.assert_allclose(target, [[.05, .05], [.25, .05], [.15, .3]])
        masks.append(plain(boxes, grid, window, region, target))
        return masks[-1]
    monkeypatch.setattr(respond_ratio, "part_mask", seen)
    after = respond_ratio.measure(moved, "test")
    assert masks and after["happy"] != before["happy"]


def test_figure_has_a_bar_for_each_part(trained):
    ratios = respond_ratio.measure(trained, "test")
    figure = figures.respond_ratios({"norm": ratios["fear"], "L2": ratios["sad"]}, "fear")
    assert len(figure.axes[0].patches) == 2 * len(respond_ratio.PARTS)


def test_faces_that_are_not_aligned_are_refused(tmp_path, trained):
    files.write_json(str(tmp_path / "prepare.json"), dict(
        prepared_folder.read_note(trained.info["data"]), asked={"crops": "whole", "seed": 0}))
    os.makedirs(str(tmp_path / "run"))
    files.write_json(str(tmp_path / "run" / "run.json"), dict(trained.info, data=str(tmp_path)))
    with pytest.raises(UserError, match="crops whole are not cut from faces aligned to the template"):
        respond_ratio.measure(run.Run(str(tmp_path / "run")), "test")
