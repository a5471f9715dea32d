"""Data layers that cut a random window of each registered face, each time anew."""
from __future__ import annotations

import os

import numpy as np
from numpy.random import RandomState

from data_prep import crops, lmdb_io, manifest, records
from layers import base, parameters
from layers.functions import tuplets

# Windows that are evened at a time: their float64 pixels stay in a core's cache.
CACHED = 36


class WindowDataLayer(base.Layer):
    """Images of a prepared folder's training split, in a new order in each pass.

    Of each registered face a window of the net's size is cut at random, mirrored by a fair coin, and its
    illumination evened ([liu2017] Section 5.1). All of it follows from the seed and the position, which a parameter
    blob keeps: `caffe train -snapshot` reads on where it stopped.

    Tops: images (M, 1, side, side), zero mean and unit variance; labels (M). Parameter blob: the position (2), whole
    passes and the number of the next image in the present one; it needs `param { lr_mult: 0 decay_mult: 0 }`. The
    image after the last of a pass is the first of the next: a batch may span both.
    Errors: a folder whose crops are not cut in training, and a position of other data, are refused.

    param_str, e.g. {"data": "data/fer2013-liu2017", "batch_size": 128, "seed": 1}:
        data        folder that `./fer prepare` made
        batch_size  M
        seed
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
            raise ValueError("{}: made with crops {}, which are cut already; expected --crops {}".format(
                self.params.data, self.images.note["crops"],
                " or ".join(name for name, crop_set in crops.SETS.items() if crop_set.cut_in_training)))
        faces = manifest.read(os.path.join(self.params.data, "manifest.csv"))
        self.faces = [faces[record.row] for record in records.read(self.params.data, "train")]
        self.pass_of_order = None
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 0
        top[0].reshape(self.params.batch_size * self.images_of_a_draw, *self.crops.shape)
        top[1].reshape(top[0].shape[0])

    def reshape(self, bottom, top):
        pass

    @property
    def images_of_a_draw(self) -> int:
        return 1

    def draw(self, query: int, random: RandomState) -> list[int]:
        """The images that come with one, itself first. Only the first has its label, the others -1."""
        return [query]

    def forward(self, bottom, top):
        labels = top[1].data
        labels[...] = -1
        position = self.blobs[0].data
        epoch, index = int(position[0]), int(position[1])
        if index >= len(self.faces):
            raise ValueError(f"the position is image {index} of {len(self.faces)}: it comes from other data")
        # Seeding one anew is ten times faster than making one.
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
        for start in range(0, len(windows), CACHED):
            top[0].data[start:start + CACHED, 0] = crops.even_illumination(np.array(windows[start:start + CACHED]))

    def order(self, epoch: int) -> np.ndarray:
        """Of the images in a pass."""
        if self.pass_of_order != epoch:
            self.pass_of_order = epoch
            self.order_of_pass = RandomState((self.params.seed, epoch)).permutation(len(self.faces))
        return self.order_of_pass

    def window(self, number: int, random: RandomState) -> np.ndarray:
        region, side = lmdb_io.decode(self.images[number])[0][0], self.crops.side
        x, y = random.randint(region.shape[1] - side + 1), random.randint(region.shape[0] - side + 1)
        return crops.Window(x, y, side, bool(random.randint(2))).cut(region)


class TupletDataLayer(WindowDataLayer):
    """Tuplets of a prepared folder's training split, [liu2017] Sections 3 and 5.2: each image is the query once a pass.

    Tops: images (T * (M + N), 1, side, side), tuplet by tuplet, the query first, then its other positives, then its
    negatives (`tuplets.Sampler.draw`); labels (T * (M + N)), of the queries, and -1 for all others, which softmax is
    to ignore (`loss_param { ignore_label: -1 }`). The rest is as in WindowDataLayer.
    Errors: images without a subject.

    param_str, e.g. {"data": "data/ckplus-liu2017/fold01", "batch_size": 12, "positives": 6, "negatives": 6, "seed": 1}:
        data        folder that `./fer prepare` made
        batch_size  T
        positives   M, with the query
        negatives   N
        seed
    """

    PARAMETERS = dict(WindowDataLayer.PARAMETERS, positives=parameters.integer(least=1),
                      negatives=parameters.integer(least=1))

    def prepare(self, bottom, top):
        super().prepare(bottom, top)
        try:
            self.sampler = tuplets.sampler([face.label for face in self.faces], [face.subject for face in self.faces],
                                           self.params.positives, self.params.negatives)
        except ValueError as error:
            raise ValueError("{}: {}{}".format(
                os.path.join(self.params.data, "manifest.csv"), error,
                "" if all(face.subject for face in self.faces) else
                "; `./fer prepare ... --subjects TABLE.csv` takes them from a table path,subject")) from None

    @property
    def images_of_a_draw(self) -> int:
        return self.params.positives + self.params.negatives

    def draw(self, query, random):
        return self.sampler.draw(query, random)
