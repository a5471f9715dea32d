"""How exactly convolutions and inner products are computed: the flag -precision. It holds for the whole process."""
from typing import Any, Callable, Optional

import torch

from common.errors import UserError

# What each precision does, for the log.
SAID = {"float32": "",
        "tf32": "On the card, convolutions and inner products are computed in TF32",
        "bf16": "Convolutions and inner products are computed in bfloat16, all else in float32"}
# The first PyTorch that computes in bfloat16 everywhere.
FIRST = (1, 10)
# The first compute capability of NVIDIA's cards with TF32 and bfloat16. (torch.cuda.is_bf16_supported also counts
# cards on which it is emulated, and asks only the current one.)
AMPERE = 8

_factors = torch.float32  # the type of what is multiplied


def use(name: str, device: str) -> str:
    """Sets the precision of this process. On a card, it also makes PyTorch take algorithms that give the same bytes
    each time, and TF32 is off unless it is asked for.

    name: a key of SAID. device: as torch names it. Returns what the log says, "" for float32. Raises UserError where
    the device or PyTorch cannot compute so.
    """
    card = torch.device(device).type == "cuda"
    if name == "tf32" and not card:
        raise UserError("-precision tf32 is for graphics cards (-gpu); on the processor, expected float32 or bf16")
    if name == "bf16" and _version() < FIRST:
        raise UserError(f"-precision bf16 needs PyTorch {FIRST[0]}.{FIRST[1]} or later, found {torch.__version__}")
    if name != "float32" and card and torch.cuda.get_device_capability(device)[0] < AMPERE:
        raise UserError(f"-precision {name}: the card {torch.cuda.get_device_name(device)} cannot compute so, expected "
                        "one of the generation Ampere or later")
    global _factors
    _factors = torch.bfloat16 if name == "bf16" else torch.float32
    if card:
        _set_card(name == "tf32")
    return SAID[name]


def multiply(function: Callable[..., torch.Tensor], *factors: Optional[torch.Tensor]) -> torch.Tensor:
    """function(*factors) in the precision of this process. The factors may be None, and the result is float32. The
    gradients of the factors have their types."""
    if _factors == torch.float32:
        return function(*factors)
    return function(*(one if one is None else one.to(_factors) for one in factors)).float()


def _set_card(tf32: bool) -> None:
    """The settings of NVIDIA's libraries."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False  # it would choose the fastest algorithm, by times that differ
    torch.backends.cudnn.deterministic = True
    if _version() >= (1, 11):  # the first with warn_only; what has no such algorithm then works, with a warning
        torch.use_deterministic_algorithms(True, warn_only=True)
        utilities: Any = getattr(torch.utils, "deterministic", None)
        if utilities is not None:
            utilities.fill_uninitialized_memory = False  # it is for finding mistakes, and takes time


def _version() -> tuple:
    return tuple(int(part) for part in torch.__version__.split(".")[:2])
