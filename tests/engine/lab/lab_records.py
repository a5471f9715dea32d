"""A helper of the layers beside it, which uses Caffe, too."""
import numpy as np
from caffe.io import array_to_datum
from caffe.proto import caffe_pb2


def records(count):
    """Datums of uint8 (3, 8, 8), with their numbers as labels."""
    random = np.random.RandomState(5)
    made = [array_to_datum(random.randint(0, 256, (3, 8, 8)).astype(np.uint8), label) for label in range(count)]
    return [caffe_pb2.Datum.FromString(one.SerializeToString()) for one in made]
