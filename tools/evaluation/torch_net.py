"""A trained net that predicts on the engine on PyTorch, with what `forward` uses of a `caffe.Net`. It is loaded only
where the engine is asked for: PyTorch takes a second, and 200 MB."""
from collections.abc import Mapping, Sequence

from engine import tuning

tuning.before_torch()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from common.errors import UserError  # noqa: E402
from engine import commands, messages, precision, snapshot  # noqa: E402
from engine.inputs import Input  # noqa: E402
from engine.net import Net  # noqa: E402
from tools.training.caffe_process import Engine  # noqa: E402


def place(engine: Engine) -> str:
    """Makes PyTorch in this process compute as the engine says; of several cards, on the first one. Returns where, as
    torch names it. Raises UserError if there is no such card or precision."""
    card = engine.device.each()[0].gpu
    if card is not None:
        commands.require_card(card, f"--gpu {card}")
    device = "cpu" if card is None else f"cuda:{card}"
    precision.use(engine.device.precision, device)
    torch.set_num_threads(engine.threads)
    return device


def net(deploy: str, engine: Engine) -> tuple[Net, str]:
    """A net in the phase TEST, with initial weights, and where it computes. Raises UserError."""
    device = place(engine)
    return Net(messages.read_text(deploy, "NetParameter"), messages.TEST, device=device), device


class TorchNet:
    """A net in the phase TEST.

    inputs  the names of its inputs
    Raises UserError if the weights do not fit, or if there is no such card or precision.
    """

    def __init__(self, deploy: str, caffemodel: str, engine: Engine):
        self._net, self._place = net(deploy, engine)
        missing = snapshot.load_weights(self._net, caffemodel)
        if missing:
            raise UserError(f"{caffemodel}: has no weights of the layers {', '.join(missing)} of {deploy}")
        self._inputs = {layer.param.top[0]: layer for layer in self._net.layers if isinstance(layer, Input)}

    @property
    def inputs(self) -> Sequence[str]:
        return list(self._inputs)

    def forward(self, inputs: Mapping[str, np.ndarray], blobs: Sequence[str]) -> dict[str, np.ndarray]:
        """The values of some blobs, float32. inputs: name -> values, float32 (images, ...)."""
        for name, layer in self._inputs.items():
            layer.value = torch.from_numpy(np.ascontiguousarray(inputs[name], np.float32)).to(self._place)
        if any(self._net.shapes[name] != layer.value.shape for name, layer in self._inputs.items()):
            self._net.reshape()
        with torch.no_grad():
            found = self._net.forward(keep=blobs)
        return {blob: found[blob].float().cpu().numpy() for blob in blobs}
