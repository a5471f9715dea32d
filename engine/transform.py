"""What `transform_param` does to images (caffe/data_transformer.cpp): mean, scale, crop and mirror."""
import weakref
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from common.errors import UserError

from . import blobs, messages
from .layer import Layer, Shape

# Above every offset and number of offsets of a crop.
DRAWN = 2 ** 31 - 1
Images = Sequence[Tuple[str, np.ndarray]]


class Transform:
    """(image - mean) * scale of a window of the image, which may be mirrored.

    The window of `crop_size` is a random one in TRAIN, and the middle one in TEST; `mirror` mirrors every second image
    on average, in both phases. Wrong settings and images that do not fit raise the layer's UserError.
    """

    def __init__(self, layer: Layer):
        """Raises UserError if the mean cannot be read."""
        # No cycle of references: a net that is let go of closes its files at once.
        self._layer, self._param = weakref.proxy(layer), layer.param.transform_param
        self._crop = self._param.crop_size
        self._scale = np.float32(self._param.scale)
        self._values = np.array(self._param.mean_value or [0], np.float32).reshape(-1, 1, 1)
        self._mean = self._read_mean(self._param.mean_file) if self._param.mean_file else None
        self._there: Optional[torch.Tensor] = None  # the mean on the device where `finish` computes
        if self._mean is not None and self._param.mean_value:
            layer.fail("transform_param has both mean_file and mean_value, expected one of them")
        if self._param.force_color and self._param.force_gray:
            layer.fail("transform_param has both force_color and force_gray, expected one of them")

    def _read_mean(self, path: str) -> np.ndarray:
        """The mean image (channels, height, width), float32, of a binaryproto."""
        try:
            stored = blobs.from_proto(messages.read_binary(path, "BlobProto"))
        except UserError as error:
            self._layer.fail(f"transform_param.mean_file {error}")
        if len(stored.shape) != 4 or stored.shape[0] != 1 or np.prod(stored.shape) != stored.values.size:
            self._layer.fail(f"transform_param.mean_file {path} has {stored.values.size} values and the shape "
                             f"{stored.shape}, expected 1 x channels x height x width")
        return stored.values.reshape(stored.shape[1:])

    def shape(self, image: Shape) -> Shape:
        """The shape of the window of an image (channels, height, width). Raises UserError if they do not fit."""
        channels, height, width = image
        if self._crop > min(height, width):
            self._layer.fail(f"transform_param.crop_size {self._crop}, but the images are {height}x{width}")
        if self._mean is not None and self._mean.shape != image:
            self._layer.fail(f"transform_param.mean_file {self._param.mean_file} has the shape {self._mean.shape}, but "
                             f"the images have {image}")
        if self._values.size not in (1, channels):
            self._layer.fail(f"{self._values.size} transform_param.mean_value, expected 1 or {channels}, one for each "
                             "channel")
        return (channels, self._crop, self._crop) if self._crop else image

    def batch(self, images: Images, generator: torch.Generator) -> np.ndarray:
        """float32 (M, channels, height, width) of images (channels, height, width), uint8 or float32, and what an error
        calls them. Without a crop all must have one shape. The generator is on the processor."""
        made = np.empty(self._fit(images), np.float32)
        for out, (_, image), draw in zip(made, images, _draws(len(images), generator)):
            out[...] = self._cut(image, draw)
            np.subtract(out, self._values if self._mean is None else self._cut(self._mean, draw), out=out)
            if self._scale != 1:
                np.multiply(out, self._scale, out=out)
        return made

    def windows(self, images: Images, generator: torch.Generator) -> np.ndarray:
        """The windows of `batch` without its arithmetic, uint8 if all images are. `finish` does the rest."""
        shape = self._fit(images)
        made = np.empty(shape, np.result_type(*{image.dtype for _, image in images}))
        for out, (_, image), draw in zip(made, images, _draws(len(images), generator)):
            out[...] = self._cut(image, draw)
        return made

    def finish(self, windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What `batch` makes of what `windows` made, to the last bit, on their device. generator: as it was then."""
        made = windows.to(torch.float32)
        if self._there is None:
            self._there = torch.from_numpy(self._values if self._mean is None else self._mean).to(made.device)
        mean = self._there
        if self._mean is None:
            made -= mean
        else:
            for out, draw in zip(made, _draws(len(made), generator)):
                out -= self._mirrored(mean[(slice(None), *self._place(self._mean, draw))], draw, torch.flip)
        return made.mul_(float(self._scale))

    def _fit(self, images: Images) -> Tuple[int, ...]:
        """The shape of the batch. Raises UserError if the images do not fit each other."""
        first = self.shape(images[0][1].shape)
        named = {image.shape: name for name, image in reversed(images)}
        for shape, name in named.items():
            window = self.shape(shape)
            if window != first:
                self._layer.fail(f"{name} has the shape {window}, but {images[0][0]}, of the same batch, has {first}")
        return (len(images), *first)

    def _cut(self, image: np.ndarray, draw: List[int]) -> np.ndarray:
        return self._mirrored(image[(slice(None), *self._place(image, draw))], draw, np.flip)

    def _mirrored(self, window: Any, draw: List[int], flip: Callable[[Any, List[int]], Any]) -> Any:
        return flip(window, [2]) if self._param.mirror and draw[2] % 2 else window

    def _place(self, image: np.ndarray, draw: List[int]) -> List[slice]:
        return [self._window(size, drawn) for size, drawn in zip(image.shape[1:], draw)]

    def _window(self, size: int, drawn: int) -> slice:
        """The window of a side of the image."""
        if not self._crop:
            return slice(None)
        start = drawn % (size - self._crop + 1) if self._layer.training else (size - self._crop) // 2
        return slice(start, start + self._crop)


def _draws(count: int, generator: torch.Generator) -> List[List[int]]:
    """Three numbers for each image: for the row, the column and the mirror."""
    return torch.randint(DRAWN, (count, 3), generator=generator).tolist()
