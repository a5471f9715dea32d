"""Records written per second against Caffe's own convert_imageset, on the same images in one run.

    ./fer python -m bench.crops [--images 2000]

Both read grey JPEG files of 48x48 pixels and write 227x227 records to an LMDB on the same disk, and what they wrote
is flushed within the measured time. convert_imageset scales each image; ours scales it to 256x256 and cuts one
window, or the ten of [xie2019a], out of it.
"""
import argparse
import os
import subprocess
import tempfile
import time
from typing import List

import cv2
import numpy as np

from data_prep import crops, records
from data_prep.images import read_image
from data_prep.manifest import Dataset, Face

ONE = crops.CropSet(256, crops.SETS["xie2019a"].test[:1], crops.SETS["xie2019a"].test[:1], stretched=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as folder:
        faces = write_images(folder, options.images)
        dataset = Dataset("bench", ("a",), faces, lambda face: read_image(os.path.join(folder, face.path)))
        rates = {"convert_imageset": [], "one crop": [], "ten crops": []}
        for repeat in range(options.repeats):
            out = os.path.join(folder, str(repeat))
            rates["convert_imageset"].append(options.images / convert_imageset(folder, faces, out + "c"))
            for name, crop_set in (("one crop", ONE), ("ten crops", crops.SETS["xie2019a"])):
                seconds = ours(dataset, crop_set, out + name[:3], options.processes)
                rates[name].append(options.images * len(crop_set.test) / seconds)
    base = np.median(rates["convert_imageset"])
    for name, values in rates.items():
        print("{:<18}{:>8.0f} records/s (from {:.0f} to {:.0f}), {:.2f} times convert_imageset".format(
            name, np.median(values), min(values), max(values), np.median(values) / base))


def write_images(folder: str, count: int) -> List[Face]:
    """Blurred noise: grey JPEGs of about the size that FER2013's faces take."""
    random, faces = np.random.RandomState(0), []
    for index in range(count):
        image = cv2.GaussianBlur(random.randint(0, 256, (48, 48)).astype(np.uint8), (0, 0), 1.5)
        name = "{:06d}.jpg".format(index)
        cv2.imwrite(os.path.join(folder, name), image)
        faces.append(Face(name, None, 0, "a", split="train"))
    return faces


def convert_imageset(folder: str, faces: List[Face], out: str) -> float:
    listing = out + ".txt"
    with open(listing, "w") as stream:
        stream.writelines("{} {}\n".format(face.path, face.label) for face in faces)
    began = time.time()
    subprocess.run(["convert_imageset", "-gray", "-resize_height", "227", "-resize_width", "227", "-shuffle",
                    folder + "/", listing, out], check=True, stderr=subprocess.DEVNULL)
    os.sync()
    return time.time() - began


def ours(dataset: Dataset, crop_set: crops.CropSet, out: str, processes: int) -> float:
    plan = records.Plan(crop_set, "none", False, (), "", "crop", "raw", 0, 1)
    began = time.time()
    records.write_split(plan, dataset, dataset.faces, "train", out, {}, {}, processes)
    os.sync()
    return time.time() - began


if __name__ == "__main__":
    main()
