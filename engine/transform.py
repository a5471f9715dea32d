"""What `transform_param` does to images (caffe/data_transformer.cpp): mean, scale, crop and mirror."""
import weakref
from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch

from common.errors import UserError

from . import blobs, messages
from .layer import Layer, Shape

# Above every offset and number of offsets of a crop.
DRAWN = 2 ** 31 - 1


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
        self._values = np.array(self._param.mean_value, np.float32).reshape(-1, 1, 1)
        self._mean = self._read_mean(self._param.mean_file) if self._param.mean_file else None
        if self._mean is not None and self._values.size:
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
        if self._values.size not in (0, 1, channels):
            self._layer.fail(f"{self._values.size} transform_param.mean_value, expected 1 or {channels}, one for each "
                             "channel")
        return (channels, self._crop, self._crop) if self._crop else image

    def batch(self, images: Sequence[Tuple[str, np.ndarray]], generator: torch.Generator) -> np.ndarray:
        """float32 (M, channels, height, width) of images (channels, height, width), uint8 or float32, and what an error
        calls them. Without a crop all must have one shape. The generator is on the processor."""
        draws = torch.randint(DRAWN, (len(images), 3), generator=generator).tolist()
        first = self.shape(images[0][1].shape)
        made = np.empty((len(images), *first), np.float32)
        for out, (name, image), draw in zip(made, images, draws):
            shape = self.shape(image.shape)
            if shape != first:
                self._layer.fail(f"{name} has the shape {shape}, but {images[0][0]}, of the same batch, has {first}")
            self._write(out, image, draw)
        return made

    def _write(self, out: np.ndarray, image: np.ndarray, draw: List[int]) -> None:
        flip = slice(None, None, -1 if self._param.mirror and draw[2] % 2 else 1)
        rows, columns = (self._window(size, drawn) for size, drawn in zip(image.shape[1:], draw))
        mean: Optional[np.ndarray] = self._values if self._values.size else None
        if self._mean is not None:
            mean = self._mean[:, rows, columns][:, :, flip]
        window = image[:, rows, columns][:, :, flip]
        if mean is None:
            np.copyto(out, window)
        else:
            np.subtract(window, mean, out=out, dtype=np.float32)
        if self._scale != 1:
            np.multiply(out, self._scale, out=out)

    def _window(self, size: int, drawn: int) -> slice:
        """The window of a side of the image."""
        if not self._crop:
            return slice(None)
        start = drawn % (size - self._crop + 1) if self._layer.training else (size - self._crop) // 2
        return slice(start, start + self._crop)
