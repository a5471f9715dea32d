"""What is counted in images' blocks, kept while a set is prepared: an image is filtered once, though a projection is
fitted on it before it is written, in each fold anew."""
import os
from collections.abc import Iterable

import numpy as np

from common import files
from data_prep import features

# More would cost the disk what it saves the processor. FER2013's ten crops with GSF and SIFT take 13 GB.
MOST_BYTES = 20 << 30


def size(names: Iterable[str], images: int, windows: int) -> int:
    """Bytes on disk, from above, of so many images. names: of features; windows: none mirrored."""
    # 8 KiB are above what an archive and the file system add.
    return images * (8192 + windows * sum(features.block_bytes(name) for name in names))


def load(folder: str, row: int) -> dict[str, np.ndarray]:
    """`Extractor.blocks` of an image, by its row of the manifest; empty where it was not kept yet."""
    if not os.path.exists(_path(folder, row)):
        return {}
    with np.load(_path(folder, row), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def save(folder: str, row: int, blocks: dict[str, np.ndarray]) -> None:
    with files.replacing(_path(folder, row)) as partial, open(partial, "wb") as stream:
        np.savez(stream, **blocks)


def _path(folder: str, row: int) -> str:
    return os.path.join(folder, f"{row:08d}.npz")
