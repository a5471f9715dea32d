"""dlib's face recognition net a second time, slow and in NumPy, and the format of dlib's files, written from its
description."""
import numpy as np

# (inputs, outputs, kernel) of the 29 convolutions in the order of the file.
CONVOLUTIONS = [(3, 32, 7)] + [(32, 32, 3)] * 6 + [(32, 64, 3)] + [(64, 64, 3)] * 7 + [(64, 128, 3)] + [
    (128, 128, 3)] * 5 + [(128, 256, 3)] + [(256, 256, 3)] * 7
# Whether each of the 14 blocks halves the maps: the first ones of 64, 128, 256 and again 256 maps.
HALVING = [False] * 3 + [True] + [False] * 3 + [True] + [False] * 2 + [True] + [False] * 2 + [True]
MEANS = (122.782, 117.001, 104.298)


def parameters(seed=0):
    """Random parameters with sizes as in dlib's file: 29 times (weights, biases, factors, summands), and the fully
    connected layer (256, 128). The biases are far larger than there, so that one that is forgotten is seen."""
    random = np.random.RandomState(seed)
    layers = []
    for inputs, outputs, kernel in CONVOLUTIONS:
        weights = random.normal(0, 0.01, (outputs, inputs, kernel, kernel))
        biases = random.uniform(-0.1, 0.1, outputs)
        factors = random.uniform(0.5, 1.5, outputs) / (0.01 * np.sqrt(inputs * kernel ** 2)) / 3
        layers.append([values.astype(np.float32) for values in (weights, biases, factors,
                                                                random.uniform(-0.5, 0.5, outputs))])
    return layers, random.normal(0, 0.1, (256, 128)).astype(np.float32)


def convolve(image, weights, stride, pad):
    """image: (C, h, w). Each place by itself."""
    image = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="constant")
    kernel = weights.shape[2]
    height, width = ((side - kernel) // stride + 1 for side in image.shape[1:])
    out = np.empty((len(weights), height, width))
    for y in range(height):
        for x in range(width):
            patch = image[:, y * stride:y * stride + kernel, x * stride:x * stride + kernel]
            out[:, y, x] = weights.reshape(len(weights), -1) @ patch.ravel()
    return out


def added(first, second):
    """The sum of maps of any sizes; what one of them lacks is 0."""
    out = np.zeros(np.maximum(first.shape, second.shape))
    for maps in (first, second):
        channels, height, width = maps.shape
        out[:channels, :height, :width] += maps
    return out


def last_map(image, layers):
    """The last maps of an RGB image that is prepared, (3, h, w)."""
    numbers = iter(layers)

    def affine_convolution(maps, stride, pad):
        weights, biases, factors, summands = (np.asarray(values, np.float64) for values in next(numbers))
        convolved = convolve(maps, weights, stride, pad) + biases[:, None, None]
        return convolved * factors[:, None, None] + summands[:, None, None]
    maps = np.maximum(affine_convolution(np.asarray(image, np.float64), 2, 0), 0)
    height, width = ((side - 3) // 2 + 1 for side in maps.shape[1:])
    maps = np.array([[[plane[2 * y:2 * y + 3, 2 * x:2 * x + 3].max() for x in range(width)] for y in range(height)]
                     for plane in maps])
    for halves in HALVING:
        first = np.maximum(affine_convolution(maps, *((2, 0) if halves else (1, 1))), 0)
        second = affine_convolution(first, 1, 1)
        if halves:
            height, width = maps.shape[1] // 2, maps.shape[2] // 2
            maps = maps[:, :2 * height, :2 * width].reshape(len(maps), height, 2, width, 2).mean(axis=(2, 4))
        maps = np.maximum(added(maps, second), 0)
    return maps


def descriptor(image, layers, product):
    return last_map(image, layers).mean(axis=(1, 2)) @ product


# ---------------------------------------------------------------- the file

def integer(value):
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def text(value):
    return integer(len(value)) + value.encode()


def tensor(values, *sizes):
    return b"".join(map(integer, (2,) + sizes)) + np.asarray(values, "<f4").tobytes()


def file(layers, product):
    """The bytes of a serialized net."""
    parts = [integer(1), text("loss_metric_2"), integer(-7)]
    stages = iter([(2, 0)] + [place for halves in HALVING for place in (((2, 0) if halves else (1, 1)), (1, 1))])
    for weights, biases, factors, summands in layers:
        outputs, _, kernel, _ = weights.shape
        stride, pad = next(stages)
        values = np.concatenate([weights.ravel(), biases])
        parts += [text("con_4"), tensor(values, len(values), 1, 1, 1),
                  *map(integer, (outputs, kernel, kernel, stride, stride, pad, pad)), integer(-1)]
        parts += [text("affine_"), tensor(np.concatenate([factors, summands]), 2 * outputs, 1, 1, 1), integer(3)]
        parts += [text("relu_")]
    parts += [text("fc_2"), integer(128), integer(256), tensor(product, 256, 128, 1, 1), text("end"), integer(300)]
    return b"".join(parts)
