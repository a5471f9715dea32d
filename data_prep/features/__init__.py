"""Handcrafted features of [xie2019a] II-B: GABOR, GSF and SIFT, of several crops of a face at once."""
from typing import Dict, Sequence

import cv2
import numpy as np

from data_prep.crops import Window
from data_prep.features import gabor, sift
from data_prep.features.gabor import Geometry
from data_prep.features.projection import Fitter, Projection

__all__ = ["DEFAULT", "Extractor", "GEOMETRIES", "GRIDS", "NAMES", "PROJECTED", "Projection", "fitter", "length"]

# Blocks a row and column.
GRIDS = {"gabor": 5, "gsf": 8, "sift": 7}
NAMES = tuple(GRIDS)
# These go through PCA and LDA, block by block; the length of a block's description before that.
PROJECTED = {"gsf": gabor.MAPS * gabor.BINS, "sift": sift.LENGTH}
# "literal": all as the paper has it. "compact" takes a quarter of the time, and GSF and GABOR are better by it.
GEOMETRIES = {"compact": Geometry(114, float(np.pi)), "literal": Geometry(227, float(2 * np.pi))}
DEFAULT = "compact"


def length(name: str, classes: int) -> int:
    """Of a feature vector: 12800 (GABOR), (classes - 1) * 64 (GSF), (classes - 1) * 49 (SIFT)."""
    if name in PROJECTED:
        return (classes - 1) * GRIDS[name] ** 2
    return gabor.MAPS * gabor.BINS * GRIDS[name] ** 2


def fitter(name: str, classes: int) -> Fitter:
    return Fitter(classes, GRIDS[name] ** 2, PROJECTED[name])


class Extractor:
    """Describes windows of a registered face. names: of features; geometry: name in GEOMETRIES; side: of the
    windows, in the region's pixels."""

    def __init__(self, names: Sequence[str], geometry: str, side: int):
        self.names, self.geometry, self.side = tuple(names), GEOMETRIES[geometry], side

    def describe(self, region: np.ndarray, windows: Sequence[Window]) -> Dict[str, np.ndarray]:
        """region: uint8 grey (S, S); windows: of self.side pixels. For each feature float32, by window:

        gabor: (windows, 12800), of L2 norm 1; ordered orientation, scale, bin, block row, block column, as
        512 x 5 x 5, the shape of FC1's input. gsf: (windows, 64, 512), the blocks' histograms. sift: (windows, 49,
        128). The last two are to be projected.

        The region is scaled and filtered once. Windows are cut from the maps of codes; the description of a
        mirrored window is that of its original, rearranged.
        """
        face = self.geometry.face
        scale = face / self.side
        size = max(int(round(len(region) * scale)), face)
        shrinks = size < len(region)
        scaled = cv2.resize(region, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        places = [tuple(min(int(round(at * scale)), size - face) for at in (window.x, window.y)) for window in windows]
        corners = list(dict.fromkeys(places))
        which = [corners.index(place) for place in places]
        flipped = np.array([window.mirrored for window in windows])
        found = {}
        grids = {name: GRIDS[name] for name in ("gabor", "gsf") if name in self.names}
        if grids:
            code = gabor.codes(gabor.magnitudes(scaled, self.geometry))
            tables = gabor.histograms(code, face, corners, tuple(grids.values()))
            for name, table in zip(grids, tables):
                table = table[which]
                table[flipped] = gabor.mirrored(table[flipped])
                found[name] = (sift.normalised(table.reshape(len(table), -1)) if name == "gabor" else
                               np.ascontiguousarray(table.reshape(len(table), PROJECTED[name], -1).transpose(0, 2, 1)))
        if "sift" in self.names:
            maps = sift.orientation_maps(scaled)
            table = np.stack([sift.describe(maps[:, y:y + face, x:x + face], GRIDS["sift"])
                              for x, y in corners])[which]
            table[flipped] = sift.mirrored(table[flipped])
            found["sift"] = table
        return {name: found[name] for name in self.names}
