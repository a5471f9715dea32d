"""`./fer convert-net`: nets of caffe-face and of older Caffes train in this Caffe, with their weights and centers."""
import os
import subprocess

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from common.errors import UserError
from common.experiment import ROOT
from tools.cli import main
from tools.conversion import old_nets

# As the example of caffe-face has it.
CENTER = """
layer {
  name: "center_loss" type: "CenterLoss" bottom: "fc5" bottom: "label" top: "center_loss"
  param { lr_mult: 0.5 decay_mult: 2 }
  center_loss_param { num_output: 3 center_filler { type: "xavier" } }
  loss_weight: 0.008
}"""
FEATURES = """
layer { name: "input" type: "DummyData" top: "fc5" top: "label" dummy_data_param {
  shape { dim: 4 dim: 2 } shape { dim: 4 } data_filler { value: 2 } data_filler { value: 1 } } }"""


def converted(folder, text, **weights):
    """The new net as Caffe's NetParameter, and what was said."""
    (folder / "old.prototxt").write_text(text)
    said = old_nets.convert(str(folder / "old.prototxt"), str(folder / "new.prototxt"), **weights)
    return text_format.Parse((folder / "new.prototxt").read_text(), caffe_pb2.NetParameter()), said


def load(folder):
    return caffe.Net(str(folder / "new.prototxt"), caffe.TRAIN)


def test_the_example_of_caffe_face(tmp_path):
    net, said = converted(tmp_path, 'name: "FaceNet"' + FEATURES + CENTER)
    assert net.layer[1] == text_format.Parse("""
        name: "center_loss" type: "Python" bottom: "fc5" bottom: "label" top: "center_loss" loss_weight: 0.008
        param { lr_mult: 0.5 decay_mult: 2 }
        python_param { module: "layers.center_loss" layer: "CenterLossLayer"
                       param_str: '{"classes": 3, "name": "center_loss"}' }""", caffe_pb2.LayerParameter())
    assert said == ["layer center_loss: type CenterLoss became the Python layer layers.center_loss.CenterLossLayer "
                    '{"classes": 3, "name": "center_loss"}']
    # (2 - c)^2 summed over 2 values, the same for each of 4 images, over 2.
    made = load(tmp_path)
    centers = made.params["center_loss"][0].data
    assert float(made.forward()["center_loss"]) == pytest.approx(((2 - centers[1]) ** 2).sum() / 2, rel=1e-6)
    assert centers.shape == (3, 2) and np.abs(centers).max() < np.sqrt(3 / 2) and centers.std() > 0.1


# A hand-made caffemodel of caffe-face: its settings have the number 147, which is swish_param in this Caffe.
SETTINGS = bytes([147 << 3 & 0x7f | 2 | 0x80, 147 >> 4, 12, 0x08, 3, 0x12, 8, 0x0a, 6]) + b"xavier"


def caffemodel(path, centers, name="center_loss"):
    layer = caffe_pb2.LayerParameter(name=name, type="CenterLoss", bottom=["fc5", "label"], top=[name], phase=1)
    layer.blobs.add(data=np.ravel(centers).tolist()).shape.dim.extend(np.shape(centers))
    model = caffe_pb2.NetParameter(name="FaceNet")
    other = model.layer.add(name="other", type="InnerProduct")
    other.blobs.add(data=[1.5, -2]).shape.dim.extend([1, 2])
    model.layer.add().ParseFromString(layer.SerializeToString() + SETTINGS)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_centers_come_along_and_train(tmp_path):
    """`caffe train` moves them as the C++ layer would: c - rate (sum (c - x) / (1 + count) + decay c), with x = 2 for
    four images of class 1, the rate 0.1 * lr_mult 0.5 and the decay 0.01 * decay_mult 2."""
    start = np.array([[1.0, -1.0], [3.0, 0.5], [0.25, 0.0]])
    _, said = converted(tmp_path, FEATURES + CENTER, weights=caffemodel(tmp_path / "old.caffemodel", start),
                        out_weights=str(tmp_path / "new.caffemodel"))
    assert said[1:] == ["layer center_loss: the 3 centers of 2 values are in the new caffemodel"]
    model = caffe_pb2.NetParameter.FromString((tmp_path / "new.caffemodel").read_bytes())
    assert [layer.type for layer in model.layer] == ["InnerProduct", "Python"]
    assert list(model.layer[0].blobs[0].data) == [1.5, -2] and not model.layer[1].HasField("swish_param")
    (tmp_path / "solver.prototxt").write_text(
        'net: "new.prototxt" base_lr: 0.1 lr_policy: "fixed" weight_decay: 0.01 max_iter: 3 display: 1 '
        'snapshot_prefix: "s" solver_mode: CPU')
    done = subprocess.run(["caffe", "train", "-solver", "solver.prototxt", "-weights", "new.caffemodel"],
                          cwd=str(tmp_path), env=dict(os.environ, PYTHONPATH=ROOT), stderr=subprocess.PIPE,
                          encoding="utf-8")
    assert done.returncode == 0, done.stderr
    expected = start.copy()
    for _ in range(3):
        steps = 0.02 * expected
        steps[1] += 4 * (expected[1] - 2) / 5
        expected -= 0.05 * steps
    trained = caffe_pb2.NetParameter.FromString((tmp_path / "s_iter_3.caffemodel").read_bytes())
    found, = (layer.blobs[0].data for layer in trained.layer if layer.name == "center_loss")
    np.testing.assert_allclose(np.reshape(found, (3, 2)), expected, rtol=1e-5)


def test_centers_of_a_net_without_their_layer_are_kept(tmp_path):
    """Of a deploy net, which has no loss."""
    centers = [[1.0, 2], [3, 4]]
    converted(tmp_path, FEATURES, weights=caffemodel(tmp_path / "old.caffemodel", centers),
              out_weights=str(tmp_path / "new.caffemodel"))
    model = caffe_pb2.NetParameter.FromString((tmp_path / "new.caffemodel").read_bytes())
    assert list(model.layer[1].blobs[0].data) == [1, 2, 3, 4]


def test_comments_strings_and_braces(tmp_path):
    """What looks like a layer and is none stays as it is."""
    path = 'a } # "CenterLoss" { center_loss_param { num_output: 9 }'
    text = (f"""# layer {{ type: "CenterLoss" center_loss_param {{ num_output: 9 }} }}
        layer {{ name: "data" type: "Data" top: "fc5" top: "label" data_param {{ source: {path!r} batch_size: 4 }} }}"""
            + CENTER.replace("center_loss_param {", "center_loss_param: { # {{{ \n").replace("center_filler {", (
                "center_filler: <")).replace('"xavier" }', "'xavier' >"))
    net, said = converted(tmp_path, text)
    assert net.layer[0].data_param.source == path
    assert [layer.type for layer in net.layer] == ["Data", "Python"] and len(said) == 1


def test_all_else_of_the_layer_stays(tmp_path):
    net, _ = converted(tmp_path, FEATURES + CENTER.replace("loss_weight: 0.008", """
        loss_weight: 0.1234567891 include { phase: TRAIN stage: "late" } propagate_down: true propagate_down: false
        """).replace("param { lr", 'param { name: "shared" lr'))
    layer = net.layer[1]
    assert layer.param[0].name == "shared" and layer.include[0].phase == caffe.TRAIN
    assert list(layer.include[0].stage) == ["late"] and list(layer.propagate_down) == [True, False]
    assert np.float32(layer.loss_weight[0]) == np.float32(0.1234567891)


def test_settings_keep_their_last_bit(tmp_path):
    """Nine digits, where eight would be another float32."""
    value = np.float32(14.3940935)
    assert np.float32(f"{value:.8g}") != value
    net, _ = converted(tmp_path, FEATURES + 'layer { name: "p" type: "Power" bottom: "fc5" top: "p" power_param { '
                       f"scale: {value:.9g} }} }}")
    assert np.float32(net.layer[1].power_param.scale) == value


@pytest.mark.parametrize("filler, low, high", [
    ("", 0, 0), ('center_filler { type: "constant" value: 0.5 }', 0.5, 0.5),
    ('center_filler { type: "uniform" min: -0.25 max: 0.75 }', -0.25, 0.75),
    ('center_filler { type: "xavier" variance_norm: FAN_IN }', -np.sqrt(1.5), np.sqrt(1.5))])
def test_centers_begin_as_the_filler_says(tmp_path, filler, low, high):
    text = CENTER.replace('num_output: 3 center_filler { type: "xavier" }', "num_output: 500 " + filler)
    converted(tmp_path, FEATURES + text)
    centers = load(tmp_path).params["center_loss"][0].data
    assert low <= centers.min() <= low + 0.02 * (high - low) and high - 0.02 * (high - low) <= centers.max() <= high


def test_a_layer_without_top_and_weight(tmp_path):
    """Caffe gives a loss of its own a top of its own; a Python layer needs one. Without loss_weight the layer of
    caffe-face has no effect."""
    net, said = converted(tmp_path, FEATURES + CENTER.replace('top: "center_loss"', "").replace(
        "loss_weight: 0.008", ""))
    assert list(net.layer[1].top) == ["center_loss"] and not net.layer[1].loss_weight
    assert said[0].endswith("; its loss is the new top center_loss; it has no loss_weight, so it has no effect, as in "
                            "caffe-face")
    load(tmp_path)


V1 = """
name: "old"
layers { name: "input" type: DUMMY_DATA top: "data" top: "label"
  dummy_data_param { num: 4 channels: 2 height: 1 width: 1 num: 4 channels: 1 height: 1 width: 1 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  inner_product_param { num_output: 3 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }
"""


def v1_model(path):
    model = caffe_pb2.NetParameter(name="old")
    layer = model.layers.add(name="fc", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    layer.blobs.add(num=1, channels=1, height=3, width=2, data=[1, 2, 3, 4, 5, 6])
    layer.blobs.add(num=1, channels=1, height=1, width=3, data=[7, 8, 9])
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_nets_of_before_2015_are_upgraded_with_their_weights(tmp_path):
    net, said = converted(tmp_path, V1, weights=v1_model(tmp_path / "old.caffemodel"),
                          out_weights=str(tmp_path / "new.caffemodel"))
    assert [layer.type for layer in net.layer] == ["DummyData", "InnerProduct", "SoftmaxWithLoss"]
    assert [(param.lr_mult, param.decay_mult) for param in net.layer[1].param] == [(1, 1), (2, 0)]
    assert said == ["Caffe's own tool upgraded the file specified using deprecated V1LayerParameter"] * 2
    made = load(tmp_path)
    made.copy_from(str(tmp_path / "new.caffemodel"))
    assert made.params["fc"][0].data.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert made.params["fc"][1].data.tolist() == [7, 8, 9]


def test_nets_of_the_first_caffe_and_old_settings_are_upgraded(tmp_path):
    net, said = converted(tmp_path, """
        input: "data" input_dim: 2 input_dim: 1 input_dim: 6 input_dim: 6
        layers { layer { name: "conv" type: "conv" num_output: 3 kernelsize: 2 blobs_lr: 1 blobs_lr: 2 }
                 bottom: "data" top: "conv" }""")
    assert [layer.type for layer in net.layer] == ["Input", "Convolution"]
    assert any("V0LayerParameter" in sentence for sentence in said)
    assert any("input fields" in sentence for sentence in said)
    assert load(tmp_path).blobs["conv"].data.shape == (2, 3, 5, 5)


def test_a_net_of_today_is_the_same_net(tmp_path):
    net, said = converted(tmp_path, FEATURES)
    assert net == text_format.Parse(FEATURES, caffe_pb2.NetParameter())
    assert said == ["nothing had to be changed but the layout of the text"]


@pytest.mark.parametrize("change, said", [
    (("num_output: 3", "num_output: 3 axis: 2"), "layer center_loss: axis is 2, expected 1: all values"),
    (("num_output: 3", ""), "layer center_loss: center_loss_param has no num_output, expected the number of classes"),
    (('bottom: "label"', 'bottom: "label" bottom: "w"'), "layer center_loss: bottoms fc5, label, w and tops "),
    (('top: "center_loss"', 'top: "center_loss" top: "w"'), "and tops center_loss, w, expected features and labels, "),
    (('"xavier"', '"gaussian" std: 2'), 'layer center_loss: center_filler type: "gaussian" std: 2.0, expected xavier'),
    (('"xavier"', '"xavier" variance_norm: FAN_OUT'), "FAN_OUT, expected xavier"),
    (("num_output: 3", "margin: 3"), 'is not the definition of a net: .* has no field named "margin"'),
    (("layer {", "layers { } layer {"), "has `layer` .* and `layers` .*, expected only one of them"),
    ((CENTER, "layer {"), "is not the definition of a net: "), ((CENTER, 'name: "x"'), "it has no layers"),
    ((CENTER, 'layers { name: "x" type: CENTER_LOSS }'), "is not the definition of a net: .*CENTER_LOSS")])
def test_what_cannot_be_converted_is_named(tmp_path, change, said):
    (tmp_path / "old.prototxt").write_text(CENTER.replace(*change))
    with pytest.raises(UserError, match=r"old.prototxt: .*" + said) as error:
        old_nets.convert(str(tmp_path / "old.prototxt"), str(tmp_path / "new.prototxt"))
    assert "\n" not in str(error.value) and os.listdir(str(tmp_path)) == ["old.prototxt"]


@pytest.mark.parametrize("text, said", [
    ('layers { layer { name: "conv" type: "conv" } bottom: "data" top: "conv" }', "Unknown blob input data to layer 0"),
    # Caffe's tool writes this net without the setting.
    ('input: "data" input_dim: 1 layers { layer { name: "a" type: "relu" kernelsize: 3 } bottom: "data" top: "a" }',
     "Unknown parameter kernelsize for layer type relu")])
def test_what_caffes_tool_refuses_is_said(tmp_path, text, said):
    (tmp_path / "old.prototxt").write_text(text)
    with pytest.raises(UserError, match="old.prototxt: Caffe's upgrade_net_proto_text cannot upgrade it: " + said):
        old_nets.convert(str(tmp_path / "old.prototxt"), str(tmp_path / "new.prototxt"))
    assert os.listdir(str(tmp_path)) == ["old.prototxt"]


@pytest.mark.parametrize("content, said", [
    (b"", "not a caffemodel"), (b"no model", "not a caffemodel, or one that was cut"),
    (None, "No such file or directory"), ([[1.0, 2]], "has blobs \\[\\(1, 2\\)\\], expected one of centers \\(3, feat"),
    ([1.0, 2, 3], "has blobs \\[\\(3,\\)\\], expected one")])
def test_weights_that_do_not_fit_are_named_and_nothing_is_written(tmp_path, content, said):
    (tmp_path / "old.prototxt").write_text(CENTER)
    weights = tmp_path / "old.caffemodel"
    if isinstance(content, bytes):
        weights.write_bytes(content)
    elif content:
        caffemodel(weights, content)
    with pytest.raises(UserError, match="old.caffemodel: .*" + said):
        old_nets.convert(str(tmp_path / "old.prototxt"), str(tmp_path / "new.prototxt"), str(weights),
                         str(tmp_path / "new.caffemodel"))
    assert not [name for name in os.listdir(str(tmp_path)) if "new" in name]


def test_replaces_only_its_own_files(tmp_path, capsys):
    (tmp_path / "old.prototxt").write_text(CENTER)
    weights = caffemodel(tmp_path / "old.caffemodel", np.zeros((3, 2)))
    old, new, out = (str(tmp_path / name) for name in ("old.prototxt", "new.prototxt", "new.caffemodel"))
    asked = ["convert-net", old, new, "--weights", weights, "--out-weights"]
    for _ in range(2):
        assert main.main([*asked, out]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    os.remove(new)
    for path in (old, weights):
        content = open(path, "rb").read()
        assert main.main(["convert-net", old, old] if path == old else [*asked, weights]) == 1
        assert not os.path.exists(new)
        assert capsys.readouterr().err == (f"fer: {path}: exists and was not made by caffe-fer; give another name, or "
                                           "remove it\n")
        assert open(path, "rb").read() == content


def test_both_caffemodels_or_none(tmp_path, capsys):
    assert main.main(["convert-net", "a", "b", "--weights", "c"]) == 1
    assert capsys.readouterr().err == "fer: --weights and --out-weights belong together; give both or none\n"


def test_one_name_for_both_new_files_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.prototxt").write_text(CENTER)
    caffemodel(tmp_path / "old.caffemodel", np.zeros((3, 2)))
    assert main.main(["convert-net", "old.prototxt", "new", "--weights", "old.caffemodel", "--out-weights",
                      "./new"]) == 1
    assert capsys.readouterr().err.endswith("/new: is the name of the new prototxt, too; give another name\n")
    assert sorted(os.listdir(".")) == ["old.caffemodel", "old.prototxt"]
