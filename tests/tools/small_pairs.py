"""A small prepared folder of pairs: colour images of 56x56 whose label moves a bar against their reference."""
import os
from dataclasses import asdict

import numpy as np

from common import files
from data_prep import lmdb_io, manifest, prepare
from data_prep.manifest import Face

COUNTS = {"train": 17, "val": 16, "test": 12}
CLASSES = 3
SIDE = 56


def prepared(folder, seed=0):
    """Path of the folder, as `prepare.prepare` would leave it for one fold of a protocol with pairs."""
    random = np.random.RandomState(seed)
    faces, out = [], str(folder / "prepared")
    os.makedirs(out)
    for split, count in COUNTS.items():
        os.makedirs(os.path.join(out, split))
        note = {"manifest": "m", "crops": "wu2023-small", "seed": 0, "split": split}
        writers = {name: lmdb_io.Writer(os.path.join(out, split, name), lmdb_io.estimate(count, 3 * SIDE * SIDE), note)
                   for name in ("images", "references")}
        records = ["key,row,crop"]
        for number in range(count):
            label = number % CLASSES
            reference = random.randint(0, 200, (SIDE, SIDE, 3)).astype(np.uint8)
            image = reference.copy()
            image[15 * label:15 * label + 12] += 50
            for name, pixels in (("images", image), ("references", reference)):
                writers[name].put(number, lmdb_io.encode_image(pixels, label))
            records.append(f"{number},{len(faces)},0")
            faces.append(Face(f"{split}_{number}.png", None, label, f"class{label}", split, split,
                              number, "peak", split))
        for writer in writers.values():
            writer.close()
        files.write_text(os.path.join(out, split, "records.csv"), "\n".join(records) + "\n")
    manifest.write(os.path.join(out, "manifest.csv"), faces)
    counts = {split: [sum(face.split == split and face.label == label for face in faces) for label in range(CLASSES)]
              for split in COUNTS}
    files.write_json(os.path.join(out, "prepare.json"), {
        "asked": asdict(prepare.Settings("synthetic", None, "wu2023", "wu2023-small", [])),
        "manifest": files.digest(os.path.join(out, "manifest.csv")),
        "classes": [f"class{label}" for label in range(CLASSES)], "shape": [3, SIDE, SIDE], "features": [],
        "unit": "image", "folds": [], "records": COUNTS, "class_counts": counts})
    return out
