"""Small real Caffe nets and solvers for the tests of layers."""
import faulthandler
import json
import os
import pathlib
import tempfile

import caffe


def python_layer(name, module, layer, bottoms, loss_weight=None, params=(), tops=None, **param):
    """loss_weight: by default 1 if there are bottoms, else the layer is no loss."""
    lines = [f'layer {{ name: "{name}" type: "Python"']
    lines += [f'bottom: "{bottom}"' for bottom in bottoms]
    lines += [f'top: "{top}"' for top in tops or [name]]
    if bottoms or loss_weight is not None:
        lines.append(f"loss_weight: {1 if loss_weight is None else loss_weight}")
    lines += [f"param {{ {spec} }}" for spec in params]
    quoted = json.dumps(json.dumps(dict(param, name=name)))
    lines.append(f'python_param {{ module: "layers.{module}" layer: "{layer}" param_str: {quoted} }} }}')
    return "\n".join(lines)


def inputs(**shapes):
    """Input layers: blobs to be filled, without a gradient."""
    return "\n".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ {_shape(shape)} }} }}'
                     for name, shape in shapes.items())


def parameter(name, shape):
    """A learnable blob, for which Caffe asks for a gradient."""
    return f'layer {{ name: "{name}" type: "Parameter" top: "{name}" parameter_param {{ {_shape(shape)} }} }}'


def blob(net, name):
    """The blob to fill, of `inputs` or of `parameter`."""
    return net.params[name][0] if name in net.params else net.blobs[name]


def layer(kind, settings="", bottoms=("x",), tops=("y",), name="layer"):
    """A layer of any type; `settings` are the rest of its lines."""
    blobs = [f'{key}: "{blob}"' for key, names in (("bottom", bottoms), ("top", tops)) for blob in names]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(blobs)} {settings} }}'


def refuses(text):
    """Whether Caffe ends the process that makes this net and runs it forward."""
    child = os.fork()
    if not child:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            with tempfile.TemporaryDirectory() as folder:
                net(pathlib.Path(folder), text).forward()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def _shape(shape):
    return "shape {{ {} }}".format(" ".join(f"dim: {size}" for size in shape))


def net(folder, text, phase=caffe.TRAIN):
    path = folder / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), phase)


def solver(folder, text, **settings):
    (folder / "net.prototxt").write_text(text)
    lines = ['net: "{}"'.format(folder / "net.prototxt"), 'lr_policy: "fixed"', "display: 0", "max_iter: 1000",
             "random_seed: 1", 'snapshot_prefix: "{}"'.format(folder / "snapshot")]
    lines += [f"{key}: {value}" for key, value in settings.items()]
    (folder / "solver.prototxt").write_text("\n".join(lines))
    return caffe.SGDSolver(str(folder / "solver.prototxt"))
