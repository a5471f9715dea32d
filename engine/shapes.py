"""Layers that join, cut, repeat or rearrange blobs."""
import math
from typing import Any, List

import torch

from .layer import Layer, Shape


class Concat(Layer):
    """Joins the bottoms along `axis`; `concat_dim` is its older name."""

    MESSAGE = "concat_param"
    FIELDS = ("axis", "concat_dim")
    BOTTOMS = (1, None)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        axis = self.along = _axis_or_dim(self, "concat_dim", shapes[0])
        for shape in shapes:
            if shape[:axis] + shape[axis + 1:] != shapes[0][:axis] + shapes[0][axis + 1:] or len(shape) <= axis:
                self.fail(f"a bottom has the shape {shape}, the first one {shapes[0]}, expected the same but for axis "
                          f"{axis}")
        return [shapes[0][:axis] + (sum(shape[axis] for shape in shapes),) + shapes[0][axis + 1:]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return [torch.cat(bottoms, self.along)]


class Slice(Layer):
    """Cuts the bottom along `axis` (older name: `slice_dim`) at each `slice_point`; without one, in equal parts."""

    MESSAGE = "slice_param"
    FIELDS = ("axis", "slice_dim", "slice_point")
    TOPS = (1, None)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        [shape], parts = shapes, len(self.param.top)
        axis = self.along = _axis_or_dim(self, "slice_dim", shape)
        points = list(self.options.slice_point)
        if not points:
            if shape[axis] % parts:
                self.fail(f"axis {axis} of the shape {shape} cannot be cut into {parts} equal parts")
            points = [shape[axis] // parts * number for number in range(1, parts)]
        if len(points) != parts - 1:
            self.fail(f"{len(points)} slice_point, expected {parts - 1}, as there are {parts} tops")
        borders = [0, *points, shape[axis]]
        self.sizes = [end - start for start, end in zip(borders, borders[1:])]
        if min(self.sizes) <= 0:
            self.fail(f"slice_point {', '.join(map(str, points))}, expected ascending numbers from 1 to "
                      f"{shape[axis] - 1} for axis {axis} of the shape {shape}")
        return [shape[:axis] + (size,) + shape[axis + 1:] for size in self.sizes]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return list(bottoms[0].split(self.sizes, self.along))


class Split(Layer):
    """The same blob under several names."""

    TOPS = (1, None)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return shapes * len(self.param.top)

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return bottoms * len(self.param.top)


class Crop(Layer):
    """Cuts the axes from `axis` on to the size of the second bottom, from `offset` on: none (0), one for all axes, or
    one for each."""

    MESSAGE = "crop_param"
    FIELDS = ("axis", "offset")
    BOTTOMS = (2, 2)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        shape, model = shapes
        axis = self.axis(self.options.axis, shape)
        cut, offsets = len(shape) - axis, list(self.options.offset) or [0]
        if len(offsets) not in (1, cut):
            self.fail(f"{len(offsets)} offset, expected 1 or {cut}, one for each axis from {axis} on of the "
                      f"shape {shape}")
        self.starts = [0] * axis + (offsets * cut if len(offsets) == 1 else offsets)
        if len(model) < len(shape) or any(start + size > whole for start, size, whole in
                                          zip(self.starts[axis:], model[axis:], shape[axis:])):
            self.fail(f"the shape {shape} cannot be cut to {model} from axis {axis} on, with offset "
                      f"{', '.join(map(str, offsets))}")
        return [shape[:axis] + model[axis:len(shape)]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        [sizes] = self.reshape([tuple(bottom.shape) for bottom in bottoms])
        return [bottoms[0][tuple(slice(start, start + size) for start, size in zip(self.starts, sizes))]]


class Tile(Layer):
    """Repeats the bottom `tiles` times along `axis`."""

    MESSAGE = "tile_param"
    FIELDS = ("axis", "tiles")

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        if self.options.tiles < 1:
            self.fail(f"tile_param.tiles is {self.options.tiles} or missing, expected 1 or more")
        axis = self.along = self.axis(self.options.axis, shapes[0])
        return [shapes[0][:axis] + (shapes[0][axis] * self.options.tiles,) + shapes[0][axis + 1:]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return [torch.cat(bottoms * self.options.tiles, self.along)]


class Flatten(Layer):
    """Makes one axis of those from `axis` to `end_axis`."""

    MESSAGE = "flatten_param"
    FIELDS = ("axis", "end_axis")

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        start, end = (self.axis(axis, shapes[0]) for axis in (self.options.axis, self.options.end_axis))
        if start > end + 1:
            self.fail(f"axis {start} comes after end_axis {end}; the bottom has the shape {shapes[0]}")
        return [shapes[0][:start] + (math.prod(shapes[0][start:end + 1]),) + shapes[0][end + 1:]]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return [bottoms[0].reshape(*self.reshape([tuple(bottoms[0].shape)]))]


class Reshape(Layer):
    """Gives `num_axes` axes from `axis` on (-1: all) the sizes in `shape`: 0 keeps the size that the axis had there;
    -1, at most once, is what is left."""

    MESSAGE = "reshape_param"
    FIELDS = ("shape", "axis", "num_axes")

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        [shape], wanted = shapes, list(self.options.shape.dim)
        start = self.axis(self.options.axis, shape, extra=1)
        end = len(shape) if self.options.num_axes == -1 else start + self.options.num_axes
        if not start <= end <= len(shape):
            self.fail(f"axis {start} and num_axes {self.options.num_axes} do not fit the shape {shape}")
        if wanted.count(-1) > 1 or any(size < -1 for size in wanted):
            self.fail(f"shape {wanted}, expected sizes, 0, or one -1")
        for number, size in enumerate(wanted):
            if size == 0:
                if start + number >= len(shape):
                    self.fail(f"shape {wanted} has a 0 for axis {start + number}, but the bottom has the shape {shape}")
                wanted[number] = shape[start + number]
        sizes = [*shape[:start], *wanted, *shape[end:]]
        if -1 in sizes:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = math.prod(shape) // known if known else 0
        if math.prod(sizes) != math.prod(shape):
            self.fail(f"the shape {shape} cannot become {tuple(sizes)}, which has another number of values")
        return [tuple(sizes)]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return [bottoms[0].reshape(*self.reshape([tuple(bottoms[0].shape)]))]


class Silence(Layer):
    """Takes blobs that nobody needs, so that they are no outputs of the net."""

    BOTTOMS = (1, None)
    TOPS = (0, 0)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return []

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return []


class Parameter(Layer):
    """A parameter of the net as a blob. It starts at 0."""

    MESSAGE = "parameter_param"
    FIELDS = ("shape",)
    BOTTOMS = (0, 0)

    def setup(self, shapes: List[Shape]) -> None:
        self.add_blob(tuple(self.options.shape.dim))

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [tuple(self.options.shape.dim)]

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        return [self.blobs[0]]


def _axis_or_dim(layer: Any, old: str, shape: Shape) -> int:
    """The setting `axis` of a layer, or its older form `old`, which is no negative number."""
    if layer.options.HasField(old):
        if layer.options.HasField("axis"):
            layer.fail(f"both axis and {old}, expected one of them")
        return layer.axis(getattr(layer.options, old), shape)
    return layer.axis(layer.options.axis, shape)


TYPES = {"Concat": Concat, "Slice": Slice, "Split": Split, "Crop": Crop, "Tile": Tile, "Flatten": Flatten,
         "Reshape": Reshape, "Silence": Silence, "Parameter": Parameter}
