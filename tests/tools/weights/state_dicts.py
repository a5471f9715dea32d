"""State dicts of torchvision's ResNet-18 with random weights and statistics."""
import numpy as np


def resnet18(seed: int = 0, classes: int = 7, blocks: int = 2) -> dict:
    """name -> values. classes: 0 for no classifier. blocks: in each stage; 3 for a deeper net of the same kind."""
    random, found = np.random.RandomState(seed), {}

    def unit(convolution, norm, *shape):
        found[convolution + ".weight"] = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for what, values in (("weight", random.uniform(0.5, 1.5, shape[0])), ("bias", random.normal(0, 1, shape[0])),
                             ("running_mean", random.normal(0, 1, shape[0])),
                             ("running_var", random.uniform(0.5, 2, shape[0]))):
            found[f"{norm}.{what}"] = values.astype(np.float32)
        found[norm + ".num_batches_tracked"] = np.int64(5)
    unit("conv1", "bn1", 64, 3, 7, 7)
    for stage, below, width in ((1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)):
        for block in range(blocks):
            name = f"layer{stage}.{block}."
            unit(name + "conv1", name + "bn1", width, below if block == 0 else width, 3, 3)
            unit(name + "conv2", name + "bn2", width, width, 3, 3)
            if block == 0 and stage > 1:
                unit(name + "downsample.0", name + "downsample.1", width, below, 1, 1)
    if classes:
        found["fc.weight"] = random.normal(0, 0.1, (classes, 512)).astype(np.float32)
        found["fc.bias"] = random.normal(0, 1, classes).astype(np.float32)
    return found
