"""The layer HDF5Data: arrays of HDF5 files."""
from typing import Any, Callable, List, Tuple

import numpy as np
import torch

from .data import EPOCHS, Reading
from .layer import Shape


class HDF5Data(Reading):
    """Rows of the HDF5 files that a list names, file after file and again from the first one.

    Tops: the data sets with the tops' names, (M, ...). `shuffle` draws a new order of the files and of the rows of
    each file for each epoch. One file at a time is in memory.
    """

    MESSAGE = "hdf5_data_param"
    FIELDS = ("source", "batch_size", "shuffle")
    TOPS = (1, None)

    def setup(self, shapes: List[Shape]) -> None:
        self._h5py = self.needed("h5py", "h5py")
        self._files = " ".join(self.lines(self.options.source)).split()
        found = [self._shapes(path) for path in self._files]
        self._shape = [shape[1:] for shape in found[0]]
        for path, shape in zip(self._files, found):
            if [one[1:] for one in shape] != self._shape:
                self.fail(f"{path} has the shapes {shape}, but {self._files[0]} has {found[0]}")
        self._rows = [shape[0][0] for shape in found]
        self._order: Tuple[int, List[int]] = (-1, [])  # an epoch, its files
        self._loaded: Tuple[int, int, List[np.ndarray]] = (-1, -1, [])  # an epoch, a place in its order, rows

    def reshape(self, shapes: List[Shape]) -> List[Shape]:
        return [(self.batch, *shape) for shape in self._shape]

    def _read(self, path: str, read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the open file. Raises UserError if the file cannot be read."""
        try:
            with self._h5py.File(path, "r") as file:
                return read(file)
        except OSError as error:
            reason = str(error).splitlines()[0]
        # Not in the `except`: the error would hold objects of h5py, which complains of them when Python ends.
        self.fail(f"file {path} of {self.options.source} cannot be read: {reason}")

    def _shapes(self, path: str) -> List[Shape]:
        """The shapes of the tops' data sets in a file, whose numbers of rows are checked."""
        def shape(file: Any, top: str) -> Shape:
            if not isinstance(file.get(top), self._h5py.Dataset):
                self.fail(f"{path} has no data set {top}, which is the name of a top; it has "
                          f"{', '.join(sorted(file)) or 'none'}")
            if file[top].dtype.kind not in "fiu" or not file[top].shape:
                self.fail(f"data set {top} of {path} has the type {file[top].dtype} and the shape {file[top].shape}, "
                          "expected numbers and at least one axis")
            return tuple(file[top].shape)

        shapes = self._read(path, lambda file: [shape(file, top) for top in self.param.top])
        if len({one[0] for one in shapes}) > 1 or not shapes[0][0]:
            rows = ", ".join(str(one[0]) for one in shapes)
            self.fail(f"{path}: its data sets have {rows} rows, expected one number above 0")
        return shapes

    def read(self, number: int) -> List[np.ndarray]:
        parts: List[List[np.ndarray]] = []
        index, end = number * self.batch, (number + 1) * self.batch
        while index < end:
            epoch, row = divmod(index, sum(self._rows))
            place, start = self._place(epoch, row)
            loaded = self._load(epoch, place)
            stop = min(len(loaded[0]), start + end - index)
            parts.append([rows[start:stop] for rows in loaded])
            index += stop - start
        return [np.concatenate(pieces) for pieces in zip(*parts)]

    def _place(self, epoch: int, row: int) -> Tuple[int, int]:
        """In which place of the epoch's order of files a row is, and its number in that file."""
        if self._order[0] != epoch:
            files = list(range(len(self._files)))
            if self.options.shuffle:
                files = torch.randperm(len(files), generator=self._random(epoch, 0)).tolist()
            self._order = epoch, files
        place = 0
        while row >= self._rows[self._order[1][place]]:
            row -= self._rows[self._order[1][place]]
            place += 1
        return place, row

    def _load(self, epoch: int, place: int) -> List[np.ndarray]:
        """The rows of the file in a place of the epoch's order, float32."""
        same_file = len(self._files) == 1 and not self.options.shuffle and self._loaded[2]
        if self._loaded[:2] != (epoch, place) and not same_file:
            loaded = self._read(self._files[self._order[1][place]], lambda file: [
                file[top][...].astype(np.float32, copy=False) for top in self.param.top])
            if self.options.shuffle:
                order = torch.randperm(len(loaded[0]), generator=self._random(epoch, 1 + place)).numpy()
                loaded = [rows[order] for rows in loaded]
            self._loaded = epoch, place, loaded
        return self._loaded[2]

    def _random(self, epoch: int, number: int) -> torch.Generator:
        return self.random(EPOCHS - epoch * (1 + len(self._files)) - number)


TYPES = {"HDF5Data": HDF5Data}
