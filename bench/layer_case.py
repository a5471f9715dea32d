"""A small net of one layer, on which real Caffe is recorded and the engine checked. Needs neither of them."""
import dataclasses
import json
from collections.abc import Sequence

import numpy as np

# In a case's text, stands for the LMDB of `gpu_data.write_small_images`.
IMAGES = "@IMAGES@"


@dataclasses.dataclass
class Case:
    """A net and what it is run on.

    name      the type of the layer and a number
    text      the layer as text, its name is "layer"
    inputs    blob -> (shape, kind of values, see `draw`)
    seed      of the values
    outputs   blobs that are compared; those that are no loss get a drawn gradient
    train     the phase: TRAIN or else TEST
    backward  whether it is also run back
    force     whether the inputs get a gradient; some layers of Caffe have none for some inputs
    """

    name: str
    text: str
    inputs: dict[str, tuple[Sequence[int], str]]
    seed: int
    outputs: Sequence[str]
    train: bool = True
    backward: bool = True
    force: bool = True

    @property
    def loss(self) -> bool:
        """Whether its outputs are losses."""
        return "Loss" in self.name or "loss_weight" in self.text

    def net(self, images: str) -> str:
        """The prototxt. images: the LMDB."""
        lines = [f"force_backward: {str(self.backward and self.force).lower()}"]
        for name, (shape, _) in self.inputs.items():
            sizes = " ".join(f"dim: {size}" for size in shape)
            lines.append(f'layer {{ name: "{name}" type: "Input" top: "{name}" '
                         f"input_param {{ shape {{ {sizes} }} }} }}")
        return "\n".join([*lines, self.text.replace(IMAGES, images)])


def draw(random: np.random.RandomState, kind: str, shape: Sequence[int]) -> np.ndarray:
    """float32 values of a kind: "normal"; "positive", from 0.5 to 2; "LEAST:MOST", whole numbers."""
    if kind == "normal":
        values = random.standard_normal(shape)
    elif kind == "positive":
        values = random.uniform(0.5, 2, shape)
    else:
        least, most = map(int, kind.split(":"))
        values = random.randint(least, most + 1, shape)
    return np.asarray(values, np.float32)


class Drawn:
    """The values of a case. What is asked for is drawn at once, so both sides must ask in the same order: the inputs,
    the parameters in the net's order, the gradients of the outputs."""

    def __init__(self, case: Case):
        self._random = np.random.RandomState(case.seed)
        self.inputs = {name: draw(self._random, kind, shape) for name, (shape, kind) in case.inputs.items()}
        self.memory = (draw(self._random, "normal", (4, 3, 4, 5)), draw(self._random, "0:3", (4,)))  # of MemoryData

    def parameter(self, kind: str, number: int, shape: Sequence[int]) -> np.ndarray:
        """Parameter `number` of a layer of type `kind`."""
        if kind == "BatchNorm":
            return np.full(shape, 1.5, np.float32) if number == 2 else draw(self._random, "positive", shape)
        return draw(self._random, "normal", shape)

    def gradient(self, shape: Sequence[int]) -> np.ndarray:
        return draw(self._random, "normal", shape)


def to_json(cases: Sequence[Case]) -> str:
    return json.dumps([dataclasses.asdict(case) for case in cases])


def from_json(text: str) -> list[Case]:
    return [Case(**fields) for fields in json.loads(text)]
