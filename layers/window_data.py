"""Data layers that cut a new random window out of each registered face in each epoch."""
import os
from typing import List

import numpy as np
from numpy.random import RandomState

from data_prep import crops, lmdb_io, manifest, records

from . import base, parameters
from .functions import tuplets

# How many windows `even_illumination` takes at a time: their float64 pixels fit into the cache of a core.
CHUNK = 36


class WindowDataLayer(base.Layer):
    """Images of a prepared folder's training split, in a new order in each epoch.

    The layer cuts a random window of the net's size out of each registered face, mirrors it with probability 1/2, and
    normalises its illumination ([liu2017] Section 5.1). The seed and the position determine all of this. The position
    is a parameter blob, and a snapshot saves it: `caffe train -snapshot` continues where the training stopped.

    Tops: images (M, 1, side, side) float32, each with zero mean and unit variance; labels (M). Parameter blob: the
    position (2), which is the number of complete epochs and the number of the next image in the current epoch. It needs
    `param { lr_mult: 0 decay_mult: 0 }`. A batch may span two epochs.
    Errors (ValueError): the crops of the folder are already cut, the position comes from other data.

    param_str, e.g. {"data": "data/fer2013-liu2017", "batch_size": 128, "seed": 1}:
        data        prepared folder, which `./fer prepare` made
        batch_size  M
        seed        integer that seeds the random numbers
    """

    BOTTOMS = 0
    TOPS = 2
    PARAMETERS = {"data": parameters.text(),
                  "batch_size": parameters.integer(least=1),
                  "seed": parameters.integer(least=0)}

    def prepare(self, bottom, top):
        self.images = lmdb_io.Reader(os.path.join(self.params.data, "train", "images"))
        self.crops = crops.SETS[self.images.note["crops"]]
        if not self.crops.cut_in_training:
            raise ValueError("{}: made with crops {}, which are already cut; expected --crops {}".format(
                self.params.data, self.images.note["crops"],
                " or ".join(name for name, crop_set in crops.SETS.items() if crop_set.cut_in_training)))
        faces = manifest.read(os.path.join(self.params.data, "manifest.csv"))
        self.faces = [faces[record.row] for record in records.read(self.params.data, "train")]
        self.ordered_epoch = None
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 0
        top[0].reshape(self.params.batch_size * self.images_per_draw, *self.crops.shape)
        top[1].reshape(top[0].shape[0])

    def reshape(self, bottom, top):
        pass

    @property
    def images_per_draw(self) -> int:
        """How many images `draw` returns."""
        return 1

    def draw(self, query: int, random: RandomState) -> List[int]:
        """The images that a query brings into the batch, the query first. Only the query has its label, the others
        have -1."""
        return [query]

    def forward(self, bottom, top):
        labels = top[1].data
        labels[...] = -1
        position = self.blobs[0].data
        epoch, index = int(position[0]), int(position[1])
        if index >= len(self.faces):
            raise ValueError(f"the position is image {index} of {len(self.faces)}, so it comes from other data")
        # Setting the seed of one generator is ten times faster than making a new generator.
        windows, random = [], RandomState(0)
        for _ in range(self.params.batch_size):
            random.seed((self.params.seed, epoch, index))
            query = self.order(epoch)[index]
            labels[len(windows)] = self.faces[query].label
            windows += [self.window(number, random) for number in self.draw(query, random)]
            index += 1
            if index == len(self.faces):
                epoch, index = epoch + 1, 0
        position[...] = epoch, index
        for start in range(0, len(windows), CHUNK):
            top[0].data[start:start + CHUNK, 0] = crops.even_illumination(np.array(windows[start:start + CHUNK]))

    def order(self, epoch: int) -> np.ndarray:
        """(images,) the order of the images in an epoch."""
        if self.ordered_epoch != epoch:
            self.ordered_epoch = epoch
            self.permutation = RandomState((self.params.seed, epoch)).permutation(len(self.faces))
        return self.permutation

    def window(self, number: int, random: RandomState) -> np.ndarray:
        """uint8 (side, side): a random window of an image's region, mirrored or not."""
        region, side = lmdb_io.view(self.images[number])[0][0], self.crops.side
        x, y = random.randint(region.shape[1] - side + 1), random.randint(region.shape[0] - side + 1)
        return crops.Window(x, y, side, bool(random.randint(2))).cut(region)


class TupletDataLayer(WindowDataLayer):
    """Tuplets of a prepared folder's training split, [liu2017] Sections 3 and 5.2.

    Each image is the query of one tuplet in each epoch.

    Tops: images (T * (M + N), 1, side, side), one tuplet after the other: the query, then its other positives, then its
    negatives (`tuplets.Sampler.draw`); labels (T * (M + N)), which are -1 for all images but the queries. The softmax
    loss must ignore them (`loss_param { ignore_label: -1 }`). The rest is the same as in WindowDataLayer.
    Errors (ValueError): also images without a subject, and classes or subjects from which no tuplets can be drawn.

    param_str, e.g. {"data": "data/ckplus-liu2017/fold01", "batch_size": 12, "positives": 6, "negatives": 6, "seed": 1}:
        data        prepared folder, which `./fer prepare` made
        batch_size  T
        positives   M, including the query
        negatives   N
        seed        integer that seeds the random numbers
    """

    PARAMETERS = dict(WindowDataLayer.PARAMETERS, positives=parameters.integer(least=1),
                      negatives=parameters.integer(least=1))

    def prepare(self, bottom, top):
        super().prepare(bottom, top)
        try:
            self.sampler = tuplets.sampler([face.label for face in self.faces], [face.subject for face in self.faces],
                                           self.params.positives, self.params.negatives)
        except ValueError as error:
            raise ValueError("{}: {}".format(os.path.join(self.params.data, "manifest.csv"), error)) from None

    @property
    def images_per_draw(self) -> int:
        return self.params.positives + self.params.negatives

    def draw(self, query, random):
        return self.sampler.draw(query, random)
