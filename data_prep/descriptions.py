"""What images' features are before their projection, kept while a set is prepared: an image is filtered once, though a
projection is fitted on it before it is written, in each fold anew."""
import os
from typing import Dict

import numpy as np

from data_prep import features, files

# GSF's are counts of a block's pixels.
STORED = {"gsf": np.uint16}
# More would cost the disk what it saves the processor.
MOST_BYTES = 4 << 30


def size(names, images: int, windows: int) -> int:
    """Bytes of the features `names` of so many images, from above."""
    values = {name: features.PROJECTED[name] * features.GRIDS[name] ** 2 if name in features.PROJECTED else
              features.length(name, 0) for name in names}
    return images * windows * sum(count * np.dtype(STORED.get(name, np.float32)).itemsize
                                  for name, count in values.items())


def load(folder: str, row: int) -> Dict[str, np.ndarray]:
    """Name -> float32 (windows, ...) of an image, by its row of the manifest; empty where it was not kept yet."""
    if not os.path.exists(_path(folder, row)):
        return {}
    with np.load(_path(folder, row), allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float32, copy=False) for name in arrays.files}


def save(folder: str, row: int, described: Dict[str, np.ndarray]) -> None:
    with files.replacing(_path(folder, row)) as partial, open(partial, "wb") as stream:
        np.savez(stream, **{name: values.astype(STORED.get(name, values.dtype), copy=False)
                            for name, values in described.items()})


def _path(folder: str, row: int) -> str:
    return os.path.join(folder, "{:08d}.npz".format(row))
