"""A data layer that knows its position and takes no locks: images, labels and handcrafted features in step."""
import numpy as np

from data_prep import lmdb_io
from layers import base, parameters


class LmdbDataLayer(base.Layer):
    """Reads an image LMDB and any number of feature LMDBs, record by record in step.

    Caffe's own Data layer begins at the first record at every start (BVLC/caffe issue #1059), so a training
    that is resumed sees other data than one that ran through. This one keeps its position in a parameter blob,
    which the snapshot saves: `caffe train -snapshot` reads on where it stopped. It takes the same LMDBs, and reads
    them without LMDB's locks: with them, two trainings whose process numbers are the same, in two containers or on
    two machines, cannot read one database ("mdb_status == 0 (11 vs. 0)").

    Tops: images (M, channels, height, width), (pixel - mean) * scale; labels (M), which may be left out where there
    are no features; then one (M, D) for each feature LMDB. Parameter blob: the position (2), whole passes and the
    next record; it needs `param { lr_mult: 0 decay_mult: 0 }`. The record after the last is the first: a batch may
    span both.
    Errors: a feature LMDB that was not made together with the image LMDB is refused.

    param_str, e.g. {"images": "data/fer2013/train/images", "batch_size": 64, "mean": 127.5, "scale": 0.0078125}:
        images      image LMDB
        features    list of feature LMDBs (default none)
        batch_size  M
        mean        one number, or one a channel (default 0)
        scale       (default 1)
    """

    BOTTOMS = 0
    PARAMETERS = {"images": parameters.text(),
                  "features": parameters.texts(default=[]),
                  "batch_size": parameters.integer(least=1),
                  "mean": parameters.number_or_numbers(default=0),
                  "scale": parameters.number(default=1)}

    def prepare(self, bottom, top):
        if len(top) != 2 + len(self.params.features) and (len(top) != 1 or self.params.features):
            raise ValueError(f"{len(top)} tops, expected {2 + len(self.params.features)}: images, labels and one "
                             "for each of features")
        self.images = lmdb_io.Reader(self.params.images)
        self.features = [lmdb_io.Reader(path) for path in self.params.features]
        for reader in self.features:
            lmdb_io.require_match(self.images, reader)
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 0
        batch = self.params.batch_size
        shape = lmdb_io.decode(self.images[0])[0].shape
        self.mean = np.float32(self.params.mean).reshape(-1, 1, 1)
        if len(self.mean) not in (1, shape[0]):
            raise ValueError(f"{len(self.mean)} means, but the images have {shape[0]} channels")
        top[0].reshape(batch, *shape)
        if len(top) > 1:
            top[1].reshape(batch)
        for number, reader in enumerate(self.features, start=2):
            top[number].reshape(batch, lmdb_io.decode(reader[0])[0].size)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        images, labels = top[0].data, top[1].data if len(top) > 1 else np.empty(self.params.batch_size)
        position = self.blobs[0].data
        start, count = int(position[1]), len(self.images)
        indices = [index % count for index in range(start, start + self.params.batch_size)]
        for row, index in enumerate(indices):
            image, labels[row] = lmdb_io.decode(self.images[index])
            if image.shape != images.shape[1:]:
                raise ValueError(f"{self.params.images}: record {index} is {image.shape}, the first one "
                                 f"{images.shape[1:]}")
            images[row] = image
        for number, reader in enumerate(self.features, start=2):
            vectors = top[number].data
            vectors[...] = lmdb_io.decode_floats([reader[index] for index in indices], vectors.shape[1])
        np.multiply(np.subtract(images, self.mean, out=images), self.params.scale, out=images)
        passes, index = divmod(start + len(indices), count)
        position[...] = position[0] + passes, index
