"""A data layer that saves its position and takes no locks. It reads images, labels and handcrafted features."""
import numpy as np

from data_prep import lmdb_io

from . import base, parameters


class LmdbDataLayer(base.Layer):
    """Reads an image LMDB and any number of feature LMDBs, the same record of each at a time.

    Caffe's own Data layer starts at the first record each time (BVLC/caffe issue #1059). So a resumed training sees
    other data than an uninterrupted one. This layer keeps its position in a parameter blob, and a snapshot saves it:
    `caffe train -snapshot` continues where the training stopped. The layer reads the same LMDBs as Caffe's, but
    without LMDB's locks. With locks, two trainings with the same process number, in two containers or on two machines,
    cannot read the same database ("mdb_status == 0 (11 vs. 0)").

    Tops, all float32: images (M, channels, height, width), (pixel - mean) * scale; labels (M), which may be left out
    if there are no features; then one (M, D) for each feature LMDB. Parameter blob: the position (2), which is the
    number of complete epochs and the number of the next record. It needs `param { lr_mult: 0 decay_mult: 0 }`. After
    the last record comes the first one, so a batch may span two epochs.
    Errors: UserError if a feature LMDB does not belong to the image LMDB; ValueError if `mean` or `scale` does not
    fit the channels, or if the images have different shapes.

    param_str, e.g. {"images": "data/fer2013/train/images", "batch_size": 64, "mean": 127.5, "scale": 0.0078125}:
        images      path of the image LMDB
        features    paths of the feature LMDBs (default: none)
        batch_size  M
        mean        one grey value, or a list with one for each channel (default 0)
        scale       factor on the pixels, or a list with one for each channel (default 1)
    """

    BOTTOMS = 0
    PARAMETERS = {"images": parameters.text(),
                  "features": parameters.texts(default=[]),
                  "batch_size": parameters.integer(least=1),
                  "mean": parameters.number_or_numbers(default=0),
                  "scale": parameters.number_or_numbers(default=1)}

    def prepare(self, bottom, top):
        if len(top) != 2 + len(self.params.features) and (len(top) != 1 or self.params.features):
            raise ValueError(f"{len(top)} tops, expected {2 + len(self.params.features)}: images, labels and one "
                             "for each feature LMDB")
        self.images = lmdb_io.Reader(self.params.images)
        self.features = [lmdb_io.Reader(path) for path in self.params.features]
        for reader in self.features:
            lmdb_io.require_match(self.images, reader)
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 0
        batch = self.params.batch_size
        shape = lmdb_io.decode(self.images[0])[0].shape
        self.mean, self.scale = (parameters.per_channel(name, getattr(self.params, name), shape[0])
                                 for name in ("mean", "scale"))
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
            image, labels[row] = lmdb_io.view(self.images[index])
            if image.shape != images.shape[1:]:
                raise ValueError(f"{self.params.images}: record {index} has shape {image.shape}, but the first record "
                                 f"has {images.shape[1:]}")
            base.normalise(image, self.mean, self.scale, images[row])
        for number, reader in enumerate(self.features, start=2):
            vectors = top[number].data
            vectors[...] = lmdb_io.decode_floats([reader[index] for index in indices], vectors.shape[1])
        epochs, index = divmod(start + len(indices), count)
        position[...] = position[0] + epochs, index
