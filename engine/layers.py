"""The table of all types of layers."""
from typing import Any, Dict, Type

from common import suggestions
from common.errors import UserError

from . import (
    data,
    elementwise,
    hdf5_data,
    inner_product,
    inputs,
    losses,
    normalization,
    python_layer,
    reduction,
    shapes,
    spatial,
)
from .layer import Context, Layer

TYPES: Dict[str, Type[Layer]] = {}
for _module in (inputs, data, hdf5_data, spatial, normalization, elementwise, inner_product, shapes, reduction, losses,
                python_layer):
    TYPES.update(_module.TYPES)


def make(param: Any, context: Context, index: int) -> Layer:
    """The layer of a LayerParameter. Raises UserError for a type or a setting that the engine does not support."""
    if param.type not in TYPES:
        raise UserError(f"layer {param.name}: {suggestions.unknown('type of layer', param.type, TYPES)}")
    return TYPES[param.type](param, context, index)
