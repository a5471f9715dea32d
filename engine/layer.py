"""The base class of the engine's layers, and what a net tells its layers."""
import dataclasses
from typing import Any, List, NoReturn, Optional, Sequence, Tuple

import torch

from common.errors import UserError

from . import ending, fillers, messages

ending.make_clean()
Shape = Tuple[int, ...]
# Devices on which torch's own functions are faster than ours of several steps (`Layer.fused`).
FUSED = ("cuda",)


@dataclasses.dataclass
class Context:
    """What a net tells its layers.

    `phase`: messages.TRAIN or TEST. `device`: where the blobs are. `generator`: torch's generator on the processor, for
    initial values. `seed`, `passes`: the seed, and how many forward passes came before; a layer's random numbers are a
    function of these two, so a training that was stopped goes on with the same ones. `rows`: while a layer runs on a
    part of its bottoms' rows, which ones (see `slicing.Rows`); else None.
    """

    phase: int
    device: torch.device
    generator: torch.Generator
    seed: int
    passes: int = 0
    rows: Any = None


class Layer:
    """One layer of a net.

    A subclass sets the constants below and overrides `setup`, `reshape` and `forward`. Gradients are autograd's.

    MESSAGE  the field of LayerParameter with its settings, or None
    FIELDS   the fields of that message that it takes; it is an error to set another one
    BOTTOMS, TOPS  the least and the greatest number of bottoms and tops (None: any number)
    LOSS     whether its first top is a loss, with weight 1 unless `loss_weight` says otherwise
    GRADIENT whether gradients go through it to its bottoms
    """

    MESSAGE: Optional[str] = None
    FIELDS: Sequence[str] = ()
    BOTTOMS: Tuple[int, Optional[int]] = (1, 1)
    TOPS: Tuple[int, Optional[int]] = (1, 1)
    LOSS = False
    GRADIENT = True

    def __init__(self, param: Any, context: Context, index: int):
        """`param`: the LayerParameter. `index`: the number of the layer in its net. Raises UserError."""
        self.param, self.context, self.index, self.name = param, context, index, param.name
        self.training = context.phase == messages.TRAIN
        self.fused = context.device.type in FUSED
        self.blobs: List[torch.Tensor] = []  # the parameters; a net may replace one by that of another layer
        self.shared = False  # whether a layer of another net has its parameters, too
        self.options: Any = getattr(param, self.MESSAGE) if self.MESSAGE else None
        for field, _ in param.ListFields():
            if field.name.endswith("_param") and field.name not in (self.MESSAGE, *self.also_read()):
                self.fail(f"{field.name} is not for this type of layer")
        for field, _ in self.options.ListFields() if self.options else ():
            if field.name not in self.FIELDS:
                self.fail(f"{self.MESSAGE}.{field.name} is not supported by the engine")
        for kind, blobs, (least, most) in (("bottoms", param.bottom, self.BOTTOMS), ("tops", param.top, self.TOPS)):
            if len(blobs) < least or (most is not None and len(blobs) > most):
                expected = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
                self.fail(f"{len(blobs)} {kind}, expected {expected}")

    def also_read(self) -> Sequence[str]:
        """More fields of LayerParameter ending in _param that the layer reads, e.g. "loss_param"."""
        return ()

    def setup(self, shapes: List[Shape]) -> None:
        """Makes the parameters for bottoms of these shapes. Raises UserError (by `fail`) if they do not fit."""

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        """The shapes of the tops for bottoms of these shapes. Raises UserError (by `fail`) if they do not fit."""
        return [shapes[0]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        """The tops. It changes no bottom in place."""
        raise NotImplementedError

    def add_blob(self, shape: Sequence[int], filler: Any = None, value: float = 0.0) -> None:
        """Adds a parameter (float32) with a FillerParameter's initial values (None: all are `value`)."""
        blob = torch.full(tuple(shape), float(value))
        if filler is not None:
            try:
                fillers.fill(blob, filler, self.context.generator)
            except ValueError as error:
                self.fail(str(error))
        self.blobs.append(blob.to(self.context.device))

    def generator(self, passes: Optional[int] = None, device: Optional[str] = None) -> torch.Generator:
        """A generator for this layer in a pass (default: this one), on a device (default: the net's)."""
        made = torch.Generator(device=device or self.context.device)
        passes = self.context.passes if passes is None else passes
        mixed = (self.context.seed * 1000003 + passes) * 1000003 + self.index
        made.manual_seed(mixed % 2 ** 63)
        return made

    def axis(self, axis: int, shape: Shape, extra: int = 0) -> int:
        """An axis of a shape counted from the front; -1 is the last. `extra`: how many axes it may lie beyond."""
        if not -len(shape) - extra <= axis < len(shape) + extra:
            self.fail(f"axis {axis}, but the bottom has the shape {shape}")
        return axis if axis >= 0 else axis + len(shape) + extra

    def require_same(self, shapes: Sequence[Shape]) -> None:
        """Fails unless all bottoms have the same shape."""
        for shape in shapes:
            if shape != shapes[0]:
                self.fail(f"a bottom has the shape {shape}, but the first one {shapes[0]}")

    def fail(self, message: str, cause: Optional[BaseException] = None) -> NoReturn:
        """Raises a UserError that names the layer."""
        raise UserError(f"layer {self.name} ({self.param.type}): {message}") from cause
