"""The part of test_dlib_face.py that runs inside the environment: converts dlib's net, and writes a folder with

    model.dat       dlib's file (a link to the cached one)
    images.npy      faces, uint8 (N, 150, 150, 3), taken for RGB
    ours.npy        their descriptors by Caffe, float32 (N, 128)
    digest          SHA-256 of the caffemodel
"""
import os
import sys
import tempfile

import caffe
import cv2
import numpy as np

from common import files
from data_prep.datasets import synthetic
from tests import dlib_reference as reference
from tools.weights import catalogue, dlib_face, dlib_file

# Kept, so that the download of 100 MB is done once in a checkout.
CACHE = os.path.join(catalogue.ROOT, "data", "host_oracles")


def model():
    """The path of dlib's file, which is downloaded if it is not there."""
    path = os.path.join(CACHE, dlib_face.MODEL)
    if not os.path.exists(path):
        os.makedirs(CACHE, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            os.replace(dlib_face.unpacked(folder)[0], path)
    return path


def main(folder):
    definition, weights = os.path.join(folder, "net.prototxt"), os.path.join(folder, "net.caffemodel")
    os.symlink(model(), os.path.join(folder, "model.dat"))
    dlib_face.write(dlib_file.layers(model()), model(), definition, weights)
    images = np.array([cv2.resize(synthetic.draw_face(subject, subject % 7, 4)[0], (150, 150))
                       for subject in range(8)])
    net = caffe.Net(definition, weights, caffe.TEST)
    net.blobs["data"].reshape(len(images), 3, 150, 150)
    net.blobs["data"].data[...] = ((images - np.array(reference.MEANS)) / 256).transpose(0, 3, 1, 2)
    np.save(os.path.join(folder, "images.npy"), images)
    np.save(os.path.join(folder, "ours.npy"), net.forward()["descriptor"])
    files.write_text(os.path.join(folder, "digest"), files.digest(weights))


if __name__ == "__main__":
    main(sys.argv[1])
