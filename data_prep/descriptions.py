"""Features of images before their projection, kept on disk while a data set is prepared.

So each image is filtered only once, though it is needed to fit the projection and to write the records, in each fold.
"""
import os
from collections.abc import Iterable

import numpy as np

from common import files
from data_prep import features

# Reading more would take longer than filtering again. FER2013's ten crops with GSF and SIFT take 13 GB.
MOST_BYTES = 20 << 30


def size(names: Iterable[str], images: int, windows: int) -> int:
    """Size on disk in bytes, an upper bound. names: of features; images: their number; windows: of each image."""
    # An archive and the file system add less than 8 KiB.
    return images * (8192 + windows * sum(features.block_bytes(name) for name in names))


def load(folder: str, row: int) -> dict[str, np.ndarray]:
    """`Extractor.blocks` of an image, by its row of the manifest; empty if nothing was saved yet."""
    if not os.path.exists(_path(folder, row)):
        return {}
    with np.load(_path(folder, row), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def save(folder: str, row: int, blocks: dict[str, np.ndarray]) -> None:
    """Saves `Extractor.blocks` of an image, by its row of the manifest."""
    with files.replacing(_path(folder, row)) as partial, open(partial, "wb") as stream:
        np.savez(stream, **blocks)


def _path(folder: str, row: int) -> str:
    return os.path.join(folder, f"{row:08d}.npz")
