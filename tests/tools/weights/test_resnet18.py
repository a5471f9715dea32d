"""torchvision's ResNet-18 in NumPy. `tests/host_oracles` compares it, through the conversion, with torchvision."""
import numpy as np

from tools.weights import resnet18


def test_shapes_are_those_of_torchvision():
    shapes = resnet18.shapes()
    weights = [shape for name, shape in shapes.items() if "running" not in name]
    # torchvision prints 11689512 parameters; 512 x 1000 + 1000 are the classifier's.
    assert sum(int(np.prod(shape)) for shape in weights) == 11689512 - 513000
    assert len(shapes) == 20 * 5
    assert [name for name in shapes if name.endswith("downsample.0.weight")] == [
        f"layer{stage}.0.downsample.0.weight" for stage in (2, 3, 4)]
    assert shapes["layer3.0.conv1.weight"] == (256, 128, 3, 3)
    assert shapes["layer4.0.downsample.0.weight"] == (512, 256, 1, 1)


def test_layers_of_caffe_and_their_tensors():
    assert resnet18.tensors_of("conv1", "Convolution") == ["conv1.weight"]
    assert resnet18.tensors_of("bn_conv1", "BatchNorm") == ["bn1.running_mean", "bn1.running_var"]
    assert resnet18.tensors_of("scale_conv1", "Scale") == ["bn1.weight", "bn1.bias"]
    assert resnet18.tensors_of("res2b_branch2a", "Convolution") == ["layer1.1.conv1.weight"]
    assert resnet18.tensors_of("bn5a_branch2b", "BatchNorm") == [
        "layer4.0.bn2.running_mean", "layer4.0.bn2.running_var"]
    assert resnet18.tensors_of("res3a_branch1", "Convolution") == ["layer2.0.downsample.0.weight"]
    assert resnet18.tensors_of("scale3a_branch1", "Scale") == [
        "layer2.0.downsample.1.weight", "layer2.0.downsample.1.bias"]
    assert resnet18.tensors_of("fc1000", "InnerProduct") == ["fc.weight", "fc.bias"]
    for layer in ("res6a_branch2a", "res3c_branch2a", "res3a_branch2c", "attention_1", "res3a_branch1_reference"):
        assert resnet18.tensors_of(layer, "Convolution") == []


def test_convolution_pixel_by_pixel():
    random = np.random.RandomState(1)
    images, weights = random.standard_normal((2, 3, 8, 9)), random.standard_normal((4, 3, 3, 3))
    for stride, pad in ((1, 1), (2, 1), (2, 0), (1, 0)):
        found = resnet18._convolution(images, weights, stride, pad)
        for n, o, row, column in np.ndindex(found.shape):
            total = 0
            for channel, y, x in np.ndindex(weights.shape[1:]):
                at = row * stride + y - pad, column * stride + x - pad
                if 0 <= at[0] < 8 and 0 <= at[1] < 9:
                    total += weights[o, channel, y, x] * images[(n, channel, *at)]
            np.testing.assert_allclose(found[n, o, row, column], total, rtol=1e-9, atol=1e-12)
        assert found.shape == (2, 4, (8 + 2 * pad - 3) // stride + 1, (9 + 2 * pad - 3) // stride + 1)


def test_pooling_by_hand():
    image = np.float64([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, -12], [-13, -14, -15, -16]])
    assert resnet18._pooled(image[None, None])[0, 0].tolist() == [[6, 8], [10, 11]]
    assert resnet18._pooled(-np.ones((1, 1, 5, 5))).tolist() == [[[[-1] * 3] * 3]]  # the padding is no value


def test_the_statistics_of_a_batch_norm():
    tensors = {"c.weight": np.full((1, 1, 1, 1), 3, np.float32), "n.weight": np.float32([5]), "n.bias": np.float32([7]),
               "n.running_mean": np.float32([2]), "n.running_var": np.float32([4 - 1e-5])}
    # (3 x - 2) / 2 * 5 + 7 for x = 4
    found = resnet18._unit(tensors, "c", "n", np.full((1, 1, 1, 1), 4.), 1, 0)
    np.testing.assert_allclose(found, [[[[32]]]], rtol=1e-7)
