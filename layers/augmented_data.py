"""A data layer with augmentation: images or pairs, all records or a list of them, in a new order each epoch."""
import numpy as np

from data_prep import lmdb_io

from . import base, parameters
from .functions import augmentation


class AugmentedDataLayer(base.Layer):
    """Reads an image LMDB and, for pairs, the LMDB of their references. Both images of a pair are augmented alike.

    Each epoch has each record once, in a new order. The seed and the epoch determine the order; the seed, the epoch
    and the record determine the augmentation. A snapshot saves the position, because it is a parameter blob. So
    `caffe train -snapshot` continues as if the training had not stopped.

    Tops, all float32: images (M, channels, height, width), (pixel - mean) * scale; labels (M); for pairs also
    references, with the shape of the images. Parameter blob: the position (2), which is the number of complete epochs
    and the number of records read in the current epoch. It needs `param { lr_mult: 0 decay_mult: 0 }`. A batch may
    span two epochs.
    Errors: UserError if the references do not belong to the images; ValueError if `records` has a number twice or a
    number that the LMDB does not have, if an image is smaller than the window, or if the images have different shapes.

    param_str, e.g. {"images": "data/x/train/images", "batch_size": 128, "augmentation": "five_crops", "side": 224}:
        images        path of the image LMDB
        references    path of the LMDB of the references, for pairs (default: none)
        records       numbers of the records to read (default: all records)
        batch_size    M
        augmentation  "none" (default), "five_crops" or "mirror_or_noise", see layers/functions/augmentation.py
        side          side of the windows of five_crops, in pixels
        deviation     standard deviation of the noise of mirror_or_noise, in grey values
        mean          one grey value, or a list with one for each channel (default 0)
        scale         factor on the pixels, or a list with one for each channel (default 1)
        seed          integers that seed the random numbers (default [0])
    """

    BOTTOMS = 0
    PARAMETERS = {"images": parameters.text(),
                  "references": parameters.text(default=""),
                  "records": parameters.integers(least=0, default=[]),
                  "batch_size": parameters.integer(least=1),
                  "augmentation": parameters.choice("none", "five_crops", "mirror_or_noise", default="none"),
                  "side": parameters.integer(least=1, default=None),
                  "deviation": parameters.number(0, default=None),
                  "mean": parameters.number_or_numbers(default=0),
                  "scale": parameters.number_or_numbers(default=1),
                  "seed": parameters.integers(least=0, default=[0])}
    NEEDED = {"five_crops": "side", "mirror_or_noise": "deviation"}

    def prepare(self, bottom, top):
        self.readers = [lmdb_io.Reader(path) for path in (self.params.images, self.params.references) if path]
        if len(top) != 1 + len(self.readers):
            raise ValueError("{} tops, expected {}: images, labels{}".format(
                len(top), 1 + len(self.readers), " and references" if self.params.references else ""))
        for reader in self.readers[1:]:
            lmdb_io.require_match(self.readers[0], reader)
        needed = self.NEEDED.get(self.params.augmentation)
        if needed and getattr(self.params, needed) is None:
            raise ValueError(f"param_str: key {needed!r} is missing, but {self.params.augmentation} needs it")
        self.shape = lmdb_io.decode(self.readers[0][0])[0].shape
        channels, *sides = self.shape
        if self.params.augmentation == "five_crops":
            if self.params.side > min(sides):
                raise ValueError("{}: the images are {}x{}, smaller than the window of {}".format(
                    self.params.images, *sides, self.params.side))
            sides = [self.params.side] * 2
        self.mean, self.scale = (parameters.per_channel(name, getattr(self.params, name), channels)
                                 for name in ("mean", "scale"))
        self.records = self._records()
        self.epoch, self.order = None, None
        self.random = np.random.RandomState(0)  # setting its seed is ten times faster than making a new generator
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 0
        for number in range(len(top)):
            top[number].reshape(self.params.batch_size, *(() if number == 1 else [channels] + sides))

    def _records(self) -> np.ndarray:
        count = len(self.readers[0])
        records = np.array(self.params.records or range(count))
        if records.max() >= count or np.unique(records).size < records.size:
            raise ValueError(f"param_str: 'records' has a number twice, or a number that {self.params.images} does not "
                             f"have; expected different numbers from 0 to {count - 1}")
        return records

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        epoch, seen = (int(value) for value in self.blobs[0].data)
        blobs = [top[0].data] + [top[number].data for number in range(2, len(top))]
        for row in range(self.params.batch_size):
            record = self._record(epoch, seen)
            draw = self._draw(epoch, record)
            for reader, images in zip(self.readers, blobs):
                image, label = lmdb_io.view(reader[record])
                if image.shape != self.shape:
                    raise ValueError(f"{reader.path}: record {record} has shape {image.shape}, but the first "
                                     f"record has {self.shape}")
                base.normalise(augmentation.apply(draw, image, images.shape[2:]), self.mean, self.scale, images[row])
            top[1].data[row] = label
            seen += 1
            if seen == len(self.records):
                epoch, seen = epoch + 1, 0
        self.blobs[0].data[...] = epoch, seen

    def _record(self, epoch: int, seen: int) -> int:
        if self.epoch != epoch:
            self.epoch, self.order = epoch, augmentation.order(len(self.records), self.params.seed, epoch)
        return int(self.records[self.order[seen]])

    def _draw(self, epoch: int, record: int) -> augmentation.Draw:
        if self.params.augmentation == "none":
            return augmentation.Draw()
        self.random.seed((*self.params.seed, epoch, record))
        if self.params.augmentation == "five_crops":
            return augmentation.five_crops(self.random, self.shape, self.params.side)
        return augmentation.mirror_or_noise(self.random, self.shape, self.params.deviation)
