"""Exports a trained net as an ONNX model, with what a program needs to know to use it, and compares it with Caffe."""
import json
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import caffe
import numpy as np
import onnx
import onnxruntime
from onnx import helper

from common import files
from common.errors import UserError
from prototxt import build
from prototxt.builders.parts import Transform
from tools.conversion import onnx_layers
from tools.conversion.onnx_layers import Blob, Graph, Layer
from tools.evaluation import forward, predict
from tools.evaluation.predict import Preparation
from tools.training import snapshots
from tools.training.run import DEPLOY, Run, require_same_data
from tools.training.snapshots import Snapshot

OPSET = 12
# The format of the file of the first ONNX with this opset, so that old programs read it, too.
IR = 7
OUTPUT = "prob"
# The largest difference from Caffe's probabilities that is put down to rounding.
TOLERANCE = 1e-4
# Images that are compared. The second batch is smaller, which shows that the batch size is open.
COMPARED = (forward.BATCH, 5)
# Best first.
SPLITS = ("test", "val", "train")


def export(run: Run, out: str, snapshot: Snapshot = None) -> list[str]:
    """Writes the net of a run as an ONNX model. Returns sentences on what was compared.

    snapshot: which weights, see `snapshots`. The model has the inputs of the deploy net, (pixel - mean) * scale, and
    the output `prob`, both float32 with an open batch size; `metadata` describes its metadata. Raises UserError if the
    training is not complete or has no such snapshot, if a layer cannot be exported, and if onnxruntime computes other
    probabilities than Caffe; then nothing is written.
    """
    files.require_replaceable(out, alone=True)
    iteration = snapshots.iteration(run, snapshot)
    caffemodel = run.caffemodel(iteration)
    prepared = predict.preparation(run)
    forward.use(forward.ONE)
    net = forward.load(run.path(DEPLOY), caffemodel)
    graph = graph_of(run.path(DEPLOY), net)
    model = _model(run, graph, net, metadata(run, prepared, iteration))
    with files.replacing(out, alone=True) as partial:
        onnx.save(model, partial)
        what, images, references = _images(run, prepared)
        worst = np.max(list(compare(partial, net, images, forward.transform(run.experiment), references, graph.batch)))
        if not worst <= TOLERANCE:
            raise UserError(f"{out}: not written, because onnxruntime's probabilities differ from Caffe's by up to "
                            f"{worst:.1e}, expected at most {TOLERANCE:.0e}")
    return [f"compared with Caffe on {what}", f"largest difference of a probability: {worst:.1e}"]


# ---------------------------------------------------------------- the model

def graph_of(deploy: str, net: caffe.Net) -> Graph:
    """The ONNX graph of a net. deploy: path of its definition; net: the same with its weights, in the TEST phase.

    Raises UserError, which names the layer, if one cannot be exported.
    """
    proto = build.read(deploy, caffe.proto.caffe_pb2.NetParameter())
    # Without the layers of the other phase, and those that copy a blob for two layers, which are Caffe's own.
    names = set(net._layer_names)
    protos = [layer for layer in proto.layer if layer.name in names]
    # A layer in place makes a new tensor. The last one has the blob's name, but the name of an input is its own.
    last = {top: number for number, layer in enumerate(protos) for top in layer.top}
    last.update({top: number for number, layer in enumerate(protos) if layer.type == "Input" for top in layer.top})
    tensors: dict[str, str] = {}
    graph = Graph()

    def blob(name: str) -> Blob:
        return Blob(tensors[name], tuple(net.blobs[name].shape))
    for number, layer in enumerate(protos):
        bottoms = [blob(name) for name in layer.bottom]
        tensors.update({top: top if last[top] == number else f"{top}/{layer.name}" for top in layer.top})
        weights = [np.array(values.data) for values in net.params[layer.name]] if layer.name in net.params else []
        onnx_layers.write(graph, Layer(layer, bottoms, [blob(name) for name in layer.top], weights))
    return graph


def _model(run: Run, graph: Graph, net: caffe.Net, notes: dict[str, str]) -> onnx.ModelProto:
    name = run.experiment.name
    model = helper.make_model(
        graph.proto(name.replace("/", "-"), [Blob(OUTPUT, tuple(net.blobs[OUTPUT].shape))]),
        opset_imports=[helper.make_opsetid("", OPSET)], producer_name=files.SIGNATURE,
        doc_string=f"The net of the experiment {name}, trained with Caffe.")
    model.ir_version = IR
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    return model


def metadata(run: Run, prepared: Preparation, iteration: int) -> dict[str, str]:
    """What the model says about itself: key -> text.

    experiment, iteration; caffemodel_sha256, the digest of the weights; classes, a JSON list in the order of `prob`;
    decision, the rule by which the crops of an image vote; preprocessing, a JSON object:

        height, width    of an input, in pixels
        channels         "grey" or "BGR", the order of the planes
        mean, scale      one number for each plane: an input is (pixel - mean) * scale, with pixels from 0 to 255
        registration     how a face is found in a photograph: "template" (aligned by its landmarks), "box" or "none"
        region           side of the registered face in pixels
        crops            x, y, side, mirrored of each window of the region that is an input
        stretched        whether the grey values of the region are stretched to 0 ... 255
        illumination     whether the histogram is equalised, a plane is subtracted and the variance made 1 before
    """
    crop_set, transform = prepared.crops, forward.transform(run.experiment)
    # What the illumination's normalisation gives goes into the net as it is.
    mean, scale = (0, 1) if crop_set.illumination else (transform.mean, transform.scale)
    preprocessing = {
        "height": crop_set.side, "width": crop_set.side, "channels": "grey" if crop_set.channels == 1 else "BGR",
        **{name: np.broadcast_to(value, (crop_set.channels,)).tolist() for name, value in (
            ("mean", mean), ("scale", scale))},
        "registration": prepared.registration, "region": crop_set.region,
        "crops": [list(window) for window in crop_set.windows("test", "")], "stretched": crop_set.stretched,
        "illumination": crop_set.illumination}
    return {"experiment": run.experiment.name, "iteration": str(iteration),
            "caffemodel_sha256": files.digest(run.caffemodel(iteration)), "classes": json.dumps(list(prepared.classes)),
            "decision": run.experiment.decision, "preprocessing": json.dumps(preprocessing)}


# ---------------------------------------------------------------- the comparison

def _images(run: Run, prepared: Preparation
            ) -> tuple[str, Sequence[np.ndarray], Optional[Sequence[np.ndarray]]]:
    """What is compared, in words; the images; and their references, for a net that has them."""
    try:
        note = require_same_data(run)
        name = next(split for split in SPLITS if note["records"].get(split))
        split = forward.read(run.info["data"], note, name)
    except (UserError, StopIteration) as error:
        shape, random = prepared.crops.shape, np.random.RandomState(0)
        pixels = [random.randint(0, 256, shape).astype(np.uint8) for _ in range(2 * sum(COMPARED))]
        if prepared.crops.illumination:
            pixels = [random.randn(*shape).astype(np.float32) for _ in pixels]
        why = f" ({error})" if str(error) else ""
        return (f"random images, because the data of the run are not there{why}", pixels[:sum(COMPARED)],
                pixels[sum(COMPARED):])
    count = min(len(split.images), sum(COMPARED))
    rows = range(count)
    references = None if split.references is None else forward.Images(split.references, rows)
    return (f"{count} images of the {name} split", forward.Images(split.images, rows), references)


def compare(path: str, net: caffe.Net, images: Sequence[np.ndarray], transform: Transform,
            references: Optional[Sequence[np.ndarray]] = None, batch: Optional[int] = None) -> Iterator[float]:
    """The largest absolute difference between the probabilities of an ONNX model and of Caffe's net, for each batch.

    images, references: see `forward.outputs`; batch: the only size of a batch that the model takes, None if any.
    """
    options = onnxruntime.SessionOptions()
    # It warns of weights that are not used any more after its own optimisation.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    sizes = [batch] * max(1, len(images) // batch) if batch else COMPARED
    start = 0
    for size in sizes:
        rows = range(start, min(start + size, len(images)))
        start += size
        if not rows:
            continue
        expected = forward.batch(net, [images[row] for row in rows], [OUTPUT], transform,
                                 None if references is None else [references[row] for row in rows])[OUTPUT]
        inputs: dict[str, Any] = {name: np.array(net.blobs[name].data) for name in net.inputs}
        found, = session.run([OUTPUT], inputs)
        yield float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
