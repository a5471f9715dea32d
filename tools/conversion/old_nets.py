"""Turns nets for older Caffes, and for the fork caffe-face with its layer CenterLoss, into nets for this Caffe."""
import functools
import json
import os
import re
import subprocess
import tempfile
from typing import Any, Optional

from caffe.proto import caffe_pb2
from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from common import files
from common.errors import UserError
from prototxt import build
from tools.training import pretrained

OLD_TYPE = "CenterLoss"
MODULE, CLASS = "layers.center_loss", "CenterLossLayer"
# Of the field that only the fork has. Its own number, 147, is that of another field in this Caffe.
NUMBER = 100000
HEADER = "# {}: converted from {} by ./fer convert-net\n"


def convert(old: str, new: str, weights: Optional[str] = None, out_weights: Optional[str] = None) -> list[str]:
    """Writes the net of the prototxt `old` to `new`, and its caffemodel to `out_weights`. Returns sentences on what was
    changed.

    Raises UserError, which names the file and the layer, if a file is no net, or a center loss has settings that the
    fork's layer does not have or ours cannot have, or `new` and `out_weights` are one file; then nothing is written.
    """
    if out_weights and os.path.realpath(out_weights) == os.path.realpath(new):
        raise UserError(f"--out-weights {out_weights}: is the name of the new prototxt, too; give another name")
    for path in filter(None, (new, out_weights)):
        files.require_replaceable(path, alone=True)
    net = _read(old)
    said = [_to_python(layer, old) for layer in net.layer if layer.type == OLD_TYPE]
    classes = {layer.name: json.loads(layer.python_param.param_str)["classes"] for layer in net.layer
               if layer.python_param.module == MODULE}
    # Nine digits are those of a float32; Caffe's tool writes the shortest text of the same number.
    plain = text_format.MessageToString(caffe_pb2.NetParameter.FromString(net.SerializeToString()), float_format=".9g")
    upgraded, done = _upgrade(plain.encode(), "text", old)
    said += done
    model = None
    if weights and out_weights:
        model, done = _model(weights, classes)
        said += done
    files.write_text(new, HEADER.format(files.SIGNATURE, os.path.basename(old)) + upgraded.decode(), alone=True)
    if model is not None and out_weights:
        with files.replacing(out_weights, alone=True) as partial, open(partial, "wb") as stream:
            stream.write(model)
    return said or ["nothing had to be changed but the layout of the text"]


# ---------------------------------------------------------------- the prototxt

def _read(path: str) -> Any:
    """A prototxt as the NetParameter of caffe-face."""
    net = build.read(path, _net_of_fork()())
    if not net.layer and not net.layers:
        raise UserError(f"{path}: is not the definition of a net: it has no layers")
    if net.layer and net.layers:
        raise UserError(f"{path}: has `layer` (of today) and `layers` (of before 2015), expected only one of them")
    return net


@functools.lru_cache(maxsize=None)
def _net_of_fork() -> Any:
    """The class of caffe-face's NetParameter: this Caffe's, with the settings of its layer CenterLoss."""
    file = FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(file)
    message = file.message_type.add(name="CenterLossParameter")
    layer = next(message for message in file.message_type if message.name == "LayerParameter")
    for owner, name, number, kind, settings in (
            (message, "num_output", 1, FieldDescriptorProto.TYPE_UINT32, {}),
            (message, "center_filler", 2, FieldDescriptorProto.TYPE_MESSAGE, {"type_name": ".caffe.FillerParameter"}),
            (message, "axis", 3, FieldDescriptorProto.TYPE_INT32, {"default_value": "1"}),
            (layer, "center_loss_param", NUMBER, FieldDescriptorProto.TYPE_MESSAGE,
             {"type_name": ".caffe.CenterLossParameter"})):
        owner.field.add(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL, **settings)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName("caffe.NetParameter"))


def _to_python(layer: Any, path: str) -> str:
    """Makes a layer CenterLoss our Python layer. All that is not its type and its own settings stays: its blobs, the
    loss weight, lr_mult and decay_mult of the centers, the phases. Returns what was changed."""
    def error(problem: str) -> UserError:
        return UserError(f"{path}: layer {layer.name}: {problem}")
    settings = layer.center_loss_param
    if len(layer.bottom) != 2 or len(layer.top) > 1:
        raise error(f"bottoms {', '.join(layer.bottom) or 'none'} and tops {', '.join(layer.top) or 'none'}, expected "
                    "features and labels, and one loss, as in caffe-face; it is of another fork")
    if not settings.num_output:
        raise error("center_loss_param has no num_output, expected the number of classes")
    if settings.axis != 1:
        raise error(f"axis is {settings.axis}, expected 1: all values of an image are its features")
    parameters = {"classes": settings.num_output, **_initial(settings, error), "name": layer.name}
    notes = []
    if not layer.top:
        layer.top.append(layer.name)
        notes.append(f"its loss is the new top {layer.name}")
    if not layer.loss_weight:
        notes.append("it has no loss_weight, so it has no effect, as in caffe-face")
    layer.ClearField("center_loss_param")
    layer.type = "Python"
    layer.python_param.module, layer.python_param.layer = MODULE, CLASS
    layer.python_param.param_str = json.dumps(parameters)
    return "; ".join([f"layer {layer.name}: type {OLD_TYPE} became the Python layer {MODULE}.{CLASS} "
                      f"{layer.python_param.param_str}", *notes])


def _initial(settings: Any, error: Any) -> dict[str, list[float]]:
    """The parameter of our layer that gives its centers the same first values as a filler."""
    filler = settings.center_filler
    if filler.type == "xavier" and filler.variance_norm == filler.FAN_IN:
        return {}
    if filler.type == "constant":  # Caffe's default, of 0
        return {"initial": [filler.value] * 2}
    if filler.type == "uniform":
        return {"initial": [filler.min, filler.max]}
    raise error(f"center_filler {text_format.MessageToString(filler, as_one_line=True)}, expected xavier (with "
                "variance_norm FAN_IN), uniform or constant")


# ---------------------------------------------------------------- Caffe's own tools

def _upgrade(content: bytes, kind: str, path: str) -> tuple[bytes, list[str]]:
    """A prototxt or caffemodel in the format of this Caffe, and what was changed. kind: "text" or "binary"; path: for
    error messages."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = (os.path.join(folder, name) for name in ("before", "after"))
        with open(before, "wb") as stream:
            stream.write(content)
        log = subprocess.run(["upgrade_net_proto_" + kind, before, after], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
                             env=dict(os.environ, GLOG_minloglevel="0", GLOG_logtostderr="1"))
        # The tool's status is 1 also where it could upgrade a part only.
        if log.returncode or not os.path.exists(after):
            reasons = re.findall(r"^[EF]\S* .*?\] (.*)$", log.stderr, flags=re.M)
            raise UserError(f"{path}: Caffe's upgrade_net_proto_{kind} cannot upgrade it: "
                            f"{'; '.join(reasons) or f'status {log.returncode}'}")
        with open(after, "rb") as stream:
            result = stream.read()
    return result, [f"Caffe's own tool upgraded the {what}" for what in re.findall(
        r"Successfully upgraded (.*?)\.?$", log.stderr, flags=re.M)]


# ---------------------------------------------------------------- the caffemodel

def _model(path: str, classes: dict[str, int]) -> tuple[bytes, list[str]]:
    """A caffemodel for the converted net, and what was changed. classes: layer -> its number of classes."""
    said: list[str] = []
    content = files.read_bytes(path)
    model = pretrained.parsed(content, path)
    if not model.layer:
        content, said = _upgrade(content, "binary", path)
        model = pretrained.parsed(content, path)
    for layer in model.layer:
        if layer.type == OLD_TYPE or layer.name in classes:
            said.append(_carry(layer, classes, path))
    # At the beginning of the file, it shows that the file may be replaced.
    model.name = f"{model.name} ({files.SIGNATURE})"
    return model.SerializeToString(), said


def _carry(layer: Any, classes: dict[str, int], path: str) -> str:
    """Makes the layer of a caffemodel our Python layer, with the same centers. Returns what was changed."""
    shapes = [tuple(blob.shape.dim) or (blob.height, blob.width) for blob in layer.blobs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != classes.get(layer.name, shapes[0][0]):
        raise UserError(f"{path}: layer {layer.name} has blobs {shapes}, expected one of centers "
                        f"({classes.get(layer.name, 'classes')}, features)")
    blobs = [caffe_pb2.BlobProto.FromString(blob.SerializeToString()) for blob in layer.blobs]
    name, bottoms, tops = layer.name, list(layer.bottom), list(layer.top)
    layer.Clear()  # with the fork's own settings, which this Caffe reads as something else
    layer.name, layer.type = name, "Python"
    layer.bottom.extend(bottoms)
    layer.top.extend(tops)
    layer.blobs.extend(blobs)
    layer.python_param.module, layer.python_param.layer = MODULE, CLASS
    layer.python_param.param_str = json.dumps({"classes": shapes[0][0], "name": name})
    return f"layer {name}: the {shapes[0][0]} centers of {shapes[0][1]} values are in the new caffemodel"
