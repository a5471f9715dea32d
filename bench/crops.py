"""Records written per second, compared with Caffe's own convert_imageset on the same images.

Both read grey JPEG files of 48x48 pixels and write 227x227 records to an LMDB on the same disk. The measured time
includes flushing to the disk. convert_imageset scales each image to 227x227. Our preparation scales it to 256x256, and
cuts one window out of it or the ten windows of [xie2019a].
"""
import functools
import itertools
import os
import subprocess
from typing import Callable

import cv2
import numpy as np

from bench import timing
from data_prep import crops, features, records
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

ONE_CROP = crops.CropSet(256, crops.SETS["xie2019a"].test[:1], crops.SETS["xie2019a"].test[:1], stretched=True)


def measure(options) -> list[dict]:
    images, repeats = (200, 1) if options.quick else (2000, 3)
    faces = write_images(options.scratch, images)
    dataset = Dataset("bench", ("a",), faces, lambda face: read_image(os.path.join(options.scratch, face.path)))
    turn = itertools.count()

    def out(name: str) -> str:
        return os.path.join(options.scratch, f"{name}-{next(turn)}")
    works: dict[str, Callable[[], float]] = {
        "convert_imageset": lambda: convert_imageset(options.scratch, faces, out("caffe"))}
    for name, crop_set in (("one crop", ONE_CROP), ("ten crops", crops.SETS["xie2019a"])):
        works[name] = functools.partial(lambda crop_set: ours(dataset, crop_set, out("ours"), options.cores), crop_set)
    return timing.rows(timing.in_turn(works, repeats), "records")


def write_images(folder: str, count: int) -> list[Face]:
    """Writes `count` images of blurred noise: grey JPEG files that are about as large as those of FER2013's faces."""
    random, faces = np.random.RandomState(0), []
    for index in range(count):
        image = cv2.GaussianBlur(random.randint(0, 256, (48, 48)).astype(np.uint8), (0, 0), 1.5)
        name = f"{index:06d}.jpg"
        cv2.imwrite(os.path.join(folder, name), image)
        faces.append(Face(name, None, 0, "a", split="train"))
    return faces


def convert_imageset(folder: str, faces: list[Face], out: str) -> int:
    """Writes the LMDB `out` with Caffe's program. Returns the number of records."""
    listing = out + ".txt"
    with open(listing, "w") as stream:
        stream.writelines(f"{face.path} {face.label}\n" for face in faces)
    subprocess.run(["convert_imageset", "-gray", "-resize_height", "227", "-resize_width", "227", "-shuffle",
                    folder + "/", listing, out], check=True, stderr=subprocess.DEVNULL)
    os.sync()
    return len(faces)


def ours(dataset: Dataset, crop_set: crops.CropSet, out: str, processes: int) -> int:
    """Writes the LMDB `out` with our preparation. Returns the number of records."""
    plan = records.Plan(crop_set, "none", references=False, features=(), geometry=features.DEFAULT, features_of="crop",
                        encoding="raw", seed=0, classes=1)
    count = records.write_split(plan, dataset, dataset.faces, "train", out, {}, {}, processes)
    os.sync()
    return count

