"""Handcrafted features of [xie2019a] II-B, GABOR, GSF and SIFT, computed for several crops of a face at once."""
from collections.abc import Sequence

import cv2
import numpy as np

from data_prep.crops import Window
from data_prep.features import gabor, sift
from data_prep.features.gabor import Geometry
from data_prep.features.projection import Fitter, Projection

__all__ = ["DEFAULT", "Extractor", "GEOMETRIES", "GRIDS", "NAMES", "PROJECTED", "Projection", "block_bytes", "fitter",
           "length", "of_windows", "upright"]

# Blocks in each row and in each column.
GRIDS = {"gabor": 5, "gsf": 8, "sift": 7}
NAMES = tuple(GRIDS)
# Features that go through PCA and LDA, block by block -> length of a block's vector before that.
PROJECTED = {"gsf": gabor.MAPS * gabor.BINS, "sift": sift.LENGTH}
# "literal" is as printed in the paper. "compact" takes half of the time, and improves GSF and GABOR.
GEOMETRIES = {"compact": Geometry(114, float(np.pi)), "literal": Geometry(227, float(2 * np.pi))}
DEFAULT = "compact"


def length(name: str, classes: int) -> int:
    """Length of a feature vector: 12800 (GABOR), (classes - 1) * 64 (GSF), (classes - 1) * 49 (SIFT)."""
    if name in PROJECTED:
        return (classes - 1) * GRIDS[name] ** 2
    return gabor.MAPS * gabor.BINS * GRIDS[name] ** 2


def block_bytes(name: str) -> int:
    """Size in bytes of `Extractor.blocks` of one window."""
    return GRIDS[name] ** 2 * (sift.LENGTH * 4 if name == "sift" else gabor.MAPS * gabor.BINS * 2)


def fitter(name: str, classes: int) -> Fitter:
    """Fits the projection of a feature in PROJECTED."""
    return Fitter(classes, GRIDS[name] ** 2, PROJECTED[name])


class Extractor:
    """Computes features of windows of a registered face.

    names: of the features; geometry: name in GEOMETRIES; side: of the windows, in pixels of the region.
    """

    def __init__(self, names: Sequence[str], geometry: str, side: int):
        self.names, self.geometry, self.side = tuple(names), GEOMETRIES[geometry], side

    def describe(self, region: np.ndarray, windows: Sequence[Window]) -> dict[str, np.ndarray]:
        """Feature -> float32 array of the windows of a region.

        region: uint8 grey (S, S); windows: of self.side pixels. Shapes:

        gabor  (windows, 12800), each of L2 norm 1, in the order orientation, scale, bin, block row, block column:
               512 x 5 x 5, the shape of FC1's input
        gsf    (windows, 64, 512), the histograms of the blocks, before their projection
        sift   (windows, 49, 128), the descriptors of the blocks, before their projection
        """
        originals = upright(windows)
        return of_windows(self.blocks(region, originals), originals, windows)

    def blocks(self, region: np.ndarray, windows: Sequence[Window]) -> dict[str, np.ndarray]:
        """Feature -> its values in the blocks of each window, from which `of_windows` makes the features.

        region: uint8 grey (S, S); windows: without mirrored ones. gabor, gsf: uint16 (windows, 512, grid, grid), the
        histograms of the blocks; sift: float32 (windows, 49, 128). The region is scaled and filtered once, and the
        windows are cut from the maps of codes.
        """
        face = self.geometry.face
        scale = face / self.side
        size = max(int(round(len(region) * scale)), face)
        shrinks = size < len(region)
        scaled = cv2.resize(region, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        corners = [(min(int(round(window.x * scale)), size - face), min(int(round(window.y * scale)), size - face))
                   for window in windows]
        values = {}
        grids = {name: GRIDS[name] for name in ("gabor", "gsf") if name in self.names}
        if grids:
            code = gabor.codes(gabor.magnitudes(scaled, self.geometry))
            tables = gabor.histograms(code, face, corners, tuple(grids.values()))
            values = {name: table.astype(np.uint16) for name, table in zip(grids, tables)}
        if "sift" in self.names:
            maps = sift.orientation_maps(scaled)
            values["sift"] = np.stack([sift.describe(maps[:, y:y + face, x:x + face], GRIDS["sift"])
                                       for x, y in corners])
        return {name: values[name] for name in self.names}


def upright(windows: Sequence[Window]) -> list[Window]:
    """The different windows, without mirrored ones."""
    return list(dict.fromkeys(window._replace(mirrored=False) for window in windows))


def of_windows(blocks: dict[str, np.ndarray], originals: Sequence[Window], windows: Sequence[Window]
               ) -> dict[str, np.ndarray]:
    """`Extractor.describe` of the windows, from `Extractor.blocks` of their originals, which are not mirrored. The
    features of a mirrored window are those of its original, rearranged."""
    which = [originals.index(window._replace(mirrored=False)) for window in windows]
    flipped = np.array([window.mirrored for window in windows])
    vectors = {}
    for name, table in blocks.items():
        table = table[which]
        table[flipped] = (sift if name == "sift" else gabor).mirrored(table[flipped])
        if name == "gabor":
            table = sift.normalised(table.reshape(len(table), -1).astype(np.float32))
        elif name == "gsf":
            table = table.reshape(len(table), PROJECTED[name], -1).transpose(0, 2, 1).astype(np.float32, order="C")
        vectors[name] = table
    return vectors
