"""Layers that read records or images from files, ahead and in another thread: Data and ImageData."""
import importlib
import os
import re
from typing import Any, List, Tuple

import lmdb
import numpy as np
import torch
from google.protobuf.message import DecodeError

from common import datums
from common.errors import UserError

from . import ahead, messages
from .layer import Layer, Shape
from .transform import Images, Transform

# Passes of which no layer draws anything, for what is drawn once and once in each epoch (see `Layer.generator`).
BEFORE_ALL = -1
EPOCHS = -2


class Reading(Layer):
    """Base class of layers that read ahead. What a pass reads is a function of its number, so a training that was
    stopped goes on where it stopped. Caffe's layers of the same names begin again at the first record.

    A subclass overrides `setup`, `reshape` and `read`.
    """

    BOTTOMS = (0, 0)
    GRADIENT = False

    def __init__(self, param: Any, context: Any, index: int):
        super().__init__(param, context, index)
        self._ahead = ahead.Ahead()
        self.batch = self.options.batch_size
        if self.batch < 1:
            self.fail(f"{self.MESSAGE}.batch_size {self.batch}, expected at least 1")

    def read(self, number: int) -> List[np.ndarray]:
        """The tops of pass `number`, float32. It runs in another thread."""
        raise NotImplementedError

    def forward(self, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        tops = self._ahead.get(self._tensors, self.context.passes)
        return self.finish([top.to(self.context.device, non_blocking=True) for top in tops])

    def _tensors(self, number: int) -> List[torch.Tensor]:
        return [ahead.to_send(top, self.context.device) for top in self.read(number)]

    def finish(self, tops: List[torch.Tensor]) -> List[torch.Tensor]:
        """The tops of this pass on their device, of what `read` made."""
        return tops

    def random(self, number: int) -> torch.Generator:
        """A generator on the processor for pass `number`, or for EPOCHS - epoch."""
        return self.generator(number, "cpu")

    def needed(self, module: str, package: str) -> Any:
        """A Python module that only few types of layers need. Raises UserError if it is not installed."""
        try:
            return importlib.import_module(module)
        except ImportError:
            self.fail(f"needs the Python package {package}, which is not installed")

    def lines(self, path: str) -> List[str]:
        """The lines of a list of files. Raises UserError if it cannot be read or is empty."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                lines = stream.read().splitlines()
        except OSError as error:
            self.fail(f"{self.MESSAGE}.source {path} cannot be read: {error.strerror}")
        if not lines:
            self.fail(f"{self.MESSAGE}.source {path} is empty, expected a list of files")
        return lines


class ReadingImages(Reading):
    """A layer whose first top goes through `transform_param`. A subclass sets `transform`. Images go to a card as they
    are stored, which takes a quarter of the time, and their arithmetic is done there."""

    transform: Transform

    def __init__(self, param: Any, context: Any, index: int):
        super().__init__(param, context, index)
        self.as_stored = context.device.type == "cuda"

    def also_read(self):
        return ["transform_param"]

    def images(self, images: Images, number: int) -> np.ndarray:
        """The first top of pass `number`, or what `finish` makes it of."""
        make = self.transform.windows if self.as_stored else self.transform.batch
        return make(images, self.random(number))

    def finish(self, tops: List[torch.Tensor]) -> List[torch.Tensor]:
        if self.as_stored:
            tops[0] = self.transform.finish(tops[0], self.random(self.context.passes))
        return tops


class Data(ReadingImages):
    """Records of an LMDB in the order of their keys, again from the first one after the last one.

    Tops: images (M, channels, height, width), and labels (M), which may be left out. As in Caffe 1.0, `rand_skip`,
    `prefetch` and `force_encoded_color` change nothing, and force_color and force_gray are for encoded images.
    """

    MESSAGE = "data_param"
    FIELDS = ("source", "batch_size", "backend", "rand_skip", "prefetch", "force_encoded_color")
    TOPS = (1, 2)

    def setup(self, shapes: List[Shape]) -> None:
        if messages.enum_name(self.options, "backend") != "LMDB":
            self.fail("data_param.backend is LEVELDB, Caffe's default, which the engine does not read; expected LMDB")
        self.transform = Transform(self)
        try:
            environment = datums.environment(self.options.source)
        except UserError as error:
            self.fail(f"data_param.source {error}")
        self._cursor = environment.begin(buffers=True).cursor()
        self._count, self._next = environment.stat()["entries"], 0
        if not self._cursor.first():
            self.fail(f"data_param.source {self.options.source} has no records")

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        image = self._record()[1]
        return [(self.batch, *self.transform.shape(image.shape)), (self.batch,)][:len(self.param.top)]

    def read(self, number: int) -> List[np.ndarray]:
        self._seek(number * self.batch % self._count)
        images, labels = [], np.empty(self.batch, np.float32)
        for row in range(self.batch):
            name, image, labels[row] = self._record()
            images.append((name, image))
            self._seek((self._next + 1) % self._count)
        return [self.images(images, number), labels][:len(self.param.top)]

    def _seek(self, index: int) -> None:
        """Goes to a record by its number, forwards and from the first one on."""
        if index < self._next:
            self._cursor.first()
            self._next = 0
        for _ in range(self._next, index):
            self._cursor.next()
        self._next = index

    def _record(self) -> Tuple[str, np.ndarray, int]:
        """The record under the cursor: what an error calls it, image (maybe a view of the file), label."""
        param = self.param.transform_param
        flag = 1 if param.force_color else 0 if param.force_gray else datums.AS_STORED
        try:
            key, raw = self._cursor.item()
        except lmdb.Error as error:
            self.fail(datums.broken(self.options.source, error))
        name = f"record {bytes(key).decode(errors='backslashreplace')} of {self.options.source}"
        found = datums.pixels(raw)
        if found is not None:
            return (name, *found)
        try:
            datum = messages.Datum.FromString(raw)
            return name, datums.image(datum, raw, flag), datum.label
        except DecodeError:
            self.fail(f"{name} is not a Datum of Caffe, or damaged")
        except ImportError:
            self.fail(f"{name} is an image file, which needs the Python package opencv-python-headless")
        except ValueError as error:
            self.fail(f"{name} has {error}")


class ImageData(ReadingImages):
    """Image files of a list, whose lines are a path, a space and an integer label.

    Tops: images (M, channels, height, width), channels in OpenCV's order BGR, and labels (M). `shuffle` draws a new
    order for each epoch. `rand_skip` leaves out a random number of images at the beginning, in both phases.
    """

    MESSAGE = "image_data_param"
    FIELDS = ("source", "batch_size", "rand_skip", "shuffle", "new_height", "new_width", "is_color", "root_folder")
    TOPS = (2, 2)

    def setup(self, shapes: List[Shape]) -> None:
        self._cv2 = self.needed("cv2", "opencv-python-headless")
        height, width = self.options.new_height, self.options.new_width
        if (height > 0) != (width > 0):
            self.fail(f"image_data_param.new_height {height} and new_width {width}, expected both or none")
        for name in ("force_color", "force_gray"):
            if getattr(self.param.transform_param, name):
                self.fail(f"transform_param.{name} is for records of Data, expected image_data_param.is_color")
        self.transform = Transform(self)
        self._list = [self._parse(*line) for line in enumerate(self.lines(self.options.source), start=1)]
        self._skip = 0
        if self.options.rand_skip:
            self._skip = int(torch.randint(self.options.rand_skip, (), generator=self.random(BEFORE_ALL)))
            if self._skip >= len(self._list):
                self.fail(f"image_data_param.rand_skip left out {self._skip} images of {len(self._list)}")
        self._order: Tuple[int, List[int]] = (-1, [])  # an epoch, its order

    def _parse(self, number: int, line: str) -> Tuple[str, int]:
        path, _, label = line.rpartition(" ")
        if not path or not re.fullmatch(r"[+-]?\d+", label):
            self.fail(f"line {number} of {self.options.source} is {line!r}, expected a path, a space and an integer "
                      "label")
        return self.options.root_folder + path, int(label)

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        image = self._image(self._entry(0)[0])
        return [(self.batch, *self.transform.shape(image.shape)), (self.batch,)]

    def read(self, number: int) -> List[np.ndarray]:
        entries = [self._entry(index) for index in range(number * self.batch, (number + 1) * self.batch)]
        images = [(path, self._image(path)) for path, _ in entries]
        labels = np.array([label for _, label in entries], np.float32)
        return [self.images(images, number), labels]

    def _entry(self, index: int) -> Tuple[str, int]:
        """Path and label of the image that is read after `index` others."""
        epoch, place = divmod(self._skip + index, len(self._list))
        if self.options.shuffle:
            if self._order[0] != epoch:
                drawn = torch.randperm(len(self._list), generator=self.random(EPOCHS - epoch))
                self._order = epoch, drawn.tolist()
            place = self._order[1][place]
        return self._list[place]

    def _image(self, path: str) -> np.ndarray:
        image = self._cv2.imread(path, 1 if self.options.is_color else 0)
        if image is None:
            what = "OpenCV cannot decode it" if os.path.exists(path) else "there is no such file"
            self.fail(f"image {path} of {self.options.source}: {what}")
        if self.options.new_height:
            image = self._cv2.resize(image, (self.options.new_width, self.options.new_height))
        return datums.planes(image)


TYPES = {"Data": Data, "ImageData": ImageData}
