"""Drawn data for trainings without Caffe: LMDBs of noise, and of features of the length 1."""
import os
from collections.abc import Sequence

import numpy as np

from engine import hosting

CLASSES = 7


def write_images(path: str, count: int, shape: Sequence[int], seed: int = 0) -> None:
    """An LMDB of `count` images of noise, shape (channels, height, width), with labels of CLASSES classes in turn."""
    lmdb_io = hosting.load("data_prep.lmdb_io")
    random = np.random.RandomState(seed)
    writer = lmdb_io.Writer(path, lmdb_io.estimate(count, int(np.prod(shape))), {})
    for index in range(count):
        image = random.randint(0, 256, shape).astype(np.uint8)
        writer.put(index, lmdb_io.encode_image(image.transpose(1, 2, 0), index % CLASSES))
    writer.close()


def write_features(path: str, count: int, length: int, seed: int = 1) -> None:
    """The same of `count` vectors of `length` values."""
    lmdb_io = hosting.load("data_prep.lmdb_io")
    random = np.random.RandomState(seed)
    writer = lmdb_io.Writer(path, lmdb_io.estimate(count, 5 * length), {})
    for index in range(count):
        vector = random.uniform(0, 1, length)
        vector /= np.linalg.norm(vector)
        writer.put(index, lmdb_io.encode_floats(vector.astype(np.float32), index % CLASSES))
    writer.close()


def write_small_images(folder: str) -> str:
    """The LMDB that the cases of layers read, in a new folder inside `folder`. Returns its path."""
    path = os.path.join(folder, "small_images")
    write_images(path, 7, (3, 8, 9))
    return path
