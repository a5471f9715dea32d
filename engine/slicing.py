"""How a net's blobs are divided among ranks: each has a part of the rows (axis 0), and the batch stays what it is.

A blob is whole, the same on all ranks, or a `Part`, of which each rank has its rows. Layers that calculate each row by
itself work on parts. All others see whole blobs, and so compute the same on all ranks.
"""
import contextlib
import dataclasses
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch

from .layer import Layer, Shape

# Types of layers that calculate each row of their bottoms by itself, or (BatchNorm, Dropout) know of parts. All others
# see whole blobs.
BY_ROW = {"AbsVal", "BNLL", "BatchNorm", "Convolution", "Deconvolution", "Dropout", "ELU", "Eltwise", "Embed", "Exp",
          "Im2col", "LRN", "Log", "MVN", "PReLU", "Pooling", "Power", "ReLU", "Sigmoid", "Silence", "Split", "TanH",
          "Threshold"}
# Those that do so if their `axis` is not the axis of the rows.
BY_ROW_BEHIND_AXIS_0 = {"Crop", "Flatten", "InnerProduct", "Reduction", "Softmax", "Tile"}


def by_row(layer: Layer, shapes: List[Shape]) -> bool:
    """Whether a layer calculates each row of its bottoms, which have these shapes, by itself."""
    kind, options = layer.param.type, layer.options
    if kind in BY_ROW:
        return True
    if not shapes or not shapes[0]:
        return False
    if kind in BY_ROW_BEHIND_AXIS_0:
        return layer.axis(options.axis, shapes[0]) > 0
    if kind in ("Concat", "Slice"):
        old = options.concat_dim if kind == "Concat" else options.slice_dim
        given = options.HasField("concat_dim" if kind == "Concat" else "slice_dim")
        return layer.axis(old if given else options.axis, shapes[0]) > 0
    if kind in ("Scale", "Bias"):
        axis = layer.axis(options.axis, shapes[0])
        if len(shapes) == 1:  # the factor is a parameter, of one value or of axes behind the rows
            return axis > 0 or not layer.blobs[0].dim()
        return axis == 0 and len(shapes[1]) > 0 and not layer.blobs  # the factor has as many rows
    if kind == "Reshape":
        axis, sizes = layer.axis(options.axis, shapes[0], extra=1), list(options.shape.dim)
        return axis > 0 or sizes[:1] == [0]
    return False


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which rows of `total` this rank has: from `start` to before `end`. ranks: a ranks.Group."""

    ranks: Any
    total: int

    def _bounds(self, rank: int) -> Tuple[int, int]:
        return self.total * rank // self.ranks.size, self.total * (rank + 1) // self.ranks.size

    @property
    def start(self) -> int:
        return self._bounds(self.ranks.rank)[0]

    @property
    def end(self) -> int:
        return self._bounds(self.ranks.rank)[1]

    def cut(self, whole: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a tensor."""
        return whole[self.start:self.end]

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """The rows of all ranks."""
        sizes = [end - start for start, end in map(self._bounds, range(self.ranks.size))]
        missing = max(sizes) - len(own)
        if missing:
            own = torch.cat([own, own.new_zeros((missing, *own.shape[1:]))])
        return torch.cat([rows[:size] for rows, size in zip(self.ranks.gather(own.contiguous()), sizes)])

    def mean(self, own: torch.Tensor) -> torch.Tensor:
        """The mean over all rows, of the means over the rows of each rank."""
        part = (own * ((self.end - self.start) / self.total)).contiguous()
        self.ranks.sum_(part)
        return part


class Part:
    """A blob of which this rank has some rows."""

    def __init__(self, own: torch.Tensor, rows: Rows):
        self.own, self.rows = own, rows
        self._whole: Optional[torch.Tensor] = None

    def whole(self) -> torch.Tensor:
        """All rows; they are gathered once."""
        if self._whole is None:
            self._whole = _Gathered.apply(self.own, self.rows)
        return self._whole


class _Gathered(torch.autograd.Function):
    """All rows of a part. All ranks compute the same loss, so each has the whole gradient already."""

    @staticmethod
    def forward(context, own, rows):  # type: ignore
        context.rows = rows
        return rows.gather(own)

    @staticmethod
    def backward(context, gradient):  # type: ignore
        return context.rows.cut(gradient), None


class _Cut(torch.autograd.Function):
    """This rank's rows of a whole blob."""

    @staticmethod
    def forward(context, whole, rows):  # type: ignore
        context.rows = rows
        return rows.cut(whole).clone()

    @staticmethod
    def backward(context, gradient):  # type: ignore
        return context.rows.gather(gradient), None


class _Summed(torch.autograd.Function):
    """A parameter whose gradient from a part is at once that of the whole batch."""

    @staticmethod
    def forward(context, parameter, ranks):  # type: ignore
        context.ranks = ranks
        return parameter.view_as(parameter)

    @staticmethod
    def backward(context, gradient):  # type: ignore
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        context.ranks.sum_(gradient)
        return gradient, None


class _Divided(torch.autograd.Function):
    """A parameter whose gradient from a whole blob is divided by the number of ranks, which will be summed."""

    @staticmethod
    def forward(context, parameter, ranks):  # type: ignore
        context.size = ranks.size
        return parameter.view_as(parameter)

    @staticmethod
    def backward(context, gradient):  # type: ignore
        return gradient / context.size, None


class Slicing:
    """Runs the layers of a net on parts or on whole blobs, and sums gradients over the ranks.

    The gradient of a parameter of which all layers work by row is that of this rank's rows until `sum_gradients`. Each
    other parameter always has the gradient of the whole batch, so that Python layers find it there.
    """

    def __init__(self, ranks: Any, context: Any):
        """ranks: a ranks.Group; context: that of the net's layers."""
        self._ranks, self._context = ranks, context
        self._by_row: Dict[str, bool] = {}  # by the name of a layer
        self._partial: Dict[int, bool] = {}  # by the memory of a parameter: whether its gradient is of own rows

    def add(self, layer: Layer, shapes: List[Shape]) -> None:
        """Takes a layer of the net, with the shapes of its bottoms."""
        self._by_row[layer.name] = by_row(layer, shapes)
        for blob in layer.blobs:
            known = self._partial.get(blob.data_ptr(), True)
            self._partial[blob.data_ptr()] = known and self._by_row[layer.name]

    def run(self, layer: Layer, bottoms: List[Any], forward: Callable, whole: Sequence[bool]) -> List[Any]:
        """The tops of a layer, parts or whole blobs, as its bottoms are. forward: computes tops from tensors; whole:
        which tops must be whole."""
        rows = self._rows(layer, bottoms)
        if rows is None:
            given = [one.whole() if isinstance(one, Part) else one for one in bottoms]
        else:
            given = [one.own if isinstance(one, Part) else
                     _Cut.apply(one, rows) if one.requires_grad else rows.cut(one) for one in bottoms]
        with self._parameters(layer, rows):
            tops = forward(layer, given)
        if rows is None:
            return tops
        parts = [Part(top, rows) for top in tops]
        return [part.whole() if needed else part for part, needed in zip(parts, whole)]

    def _rows(self, layer: Layer, bottoms: List[Any]) -> Optional[Rows]:
        """The rows on which the layer works; None: on all. Each rank must have one row at least."""
        if not bottoms or not self._by_row[layer.name]:
            return None
        totals = {one.rows.total if isinstance(one, Part) else len(one) if one.dim() else 0 for one in bottoms}
        total = totals.pop()
        return Rows(self._ranks, total) if not totals and total >= self._ranks.size else None

    @contextlib.contextmanager
    def _parameters(self, layer: Layer, rows: Optional[Rows]) -> Iterator[None]:
        """While it is open, the layer has parameters whose gradients are what they must be."""
        own, wrapped = layer.blobs, _Divided if rows is None else _Summed
        layer.blobs = [wrapped.apply(blob, self._ranks) if blob.requires_grad and
                       self._partial[blob.data_ptr()] == (rows is None) else blob for blob in own]
        self._context.rows = rows
        try:
            yield
        finally:
            layer.blobs, self._context.rows = own, None

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Gives the parameters, all those of the net, the gradients of the whole batch, with the same bytes on all
        ranks."""
        found = [one for one in parameters if one.grad is not None]
        if not found:
            return
        # Of gradients that are whole on each rank, those of rank 0 count: processors may round in other ways.
        flat = torch.cat([(one.grad if self._partial[one.data_ptr()] or self._ranks.rank == 0 else
                           torch.zeros_like(one.grad)).reshape(-1) for one in found])
        self._ranks.sum_(flat)
        for one, values in zip(found, flat.split([one.numel() for one in found])):
            one.grad.copy_(values.view(one.shape))
