"""Backbones: the layers before the FC layers, from the image to FC1's input z."""
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional

import caffe
from caffe import layers as L
from caffe import params as P

from common import suggestions
from common.errors import UserError
from prototxt.builders import dlib_face
from prototxt.builders.parts import PLAIN, SCALE, Transform, linear

LEARNED = dict(param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)])
XAVIER = dict(type="xavier")
HE = dict(type="msra")
# The same, with the number of outputs in place of the number of inputs, as in torchvision's ResNets.
HE_OUTPUTS = dict(type="msra", variance_norm=P.Filler.FAN_OUT)
GAUSSIAN = dict(type="gaussian", std=0.01)


def convolution(bottom, outputs: int, kernel: int, stride: int = 1, pad: int = 0, filler=XAVIER):
    return L.Convolution(bottom, num_output=outputs, kernel_size=kernel, stride=stride, pad=pad,
                         weight_filler=filler, **LEARNED)


def max_pooling(bottom, kernel: int = 2, stride: int = 2, **pad: int):
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, **pad)


def inner_product(bottom, outputs: int, **options):
    return L.InnerProduct(bottom, num_output=outputs, weight_filler=XAVIER, **dict(LEARNED, **options))


def toy(net: caffe.NetSpec) -> None:
    """[xie2019a] III-B: 48x48 grey -> z, 512 x 5 x 5 = 12800."""
    net.conv1 = convolution(net.data, 128, kernel=3, stride=3)
    net.relu1 = L.PReLU(net.conv1, in_place=True)
    net.pool1 = max_pooling(net.relu1)
    net.conv2 = convolution(net.pool1, 512, kernel=2, stride=2, pad=1)
    net.relu2 = L.PReLU(net.conv2, in_place=True)


def face_resnet(net: caffe.NetSpec, pad: int) -> None:
    """[xie2019a] Fig. 6: 227x227 grey -> z, 512 x 5 x 5 = 12800 with pad 0, 512 x 6 x 6 with pad 4 ([xie2019b]).

    It is `face_base` with a 9x9 convolution of stride 2 in place of conv1a. All other layers have the same names as
    there, so that `caffe train -weights face_model.caffemodel` copies them.
    """
    net.conv1_9x9 = convolution(net.data, 32, kernel=9, stride=2, pad=pad)
    net.relu1a = L.PReLU(net.conv1_9x9, in_place=True)
    _after_first_convolution(net)


def face_base(net: caffe.NetSpec) -> None:
    """The face recognition net of Wen et al. (ECCV 2016): 3x112x96 -> fc5, 512. Its layers are those of
    face_model.caffemodel."""
    net.conv1a = convolution(net.data, 32, kernel=3)
    net.relu1a = L.PReLU(net.conv1a, in_place=True)
    _after_first_convolution(net)
    net.fc5 = inner_product(net.res5_6, 512)


def _after_first_convolution(net: caffe.NetSpec) -> None:
    _conv_prelu(net, "1b", net.relu1a, 64)
    net.pool1b = max_pooling(net.relu1b)
    below = net.pool1b
    # Stage, convolutions in its residual blocks, width of the next stage (None after the last).
    for stage, convolutions, next_width in ((2, 2, 128), (3, 4, 256), (4, 10, 512), (5, 6, None)):
        width = 32 << (stage - 1)
        for second in range(2, convolutions + 1, 2):
            first = _conv_prelu(net, f"{stage}_{second - 1}", below, width, pad=1, filler=GAUSSIAN)
            top = _conv_prelu(net, f"{stage}_{second}", first, width, pad=1, filler=GAUSSIAN)
            below = net[f"res{stage}_{second}"] = L.Eltwise(below, top, operation=P.Eltwise.SUM)
        if next_width:
            below = net[f"pool{stage}"] = max_pooling(_conv_prelu(net, str(stage), below, next_width))


# Outputs of each inception module: 1x1; (1x1, then 3x3); (1x1, then 5x5); 1x1 after pooling.
INCEPTION = {"3a": (64, (96, 128), (16, 32), 32), "3b": (128, (128, 192), (32, 96), 64),
             "4a": (192, (96, 208), (16, 48), 64)}


def inception(net: caffe.NetSpec, narrow: int = 1) -> None:
    """[liu2017] Section 4: 48x48 grey -> z, 512, the inception net of Mollahosseini et al. (WACV 2016) with PReLU.

    narrow: the divisor of all widths.
    """
    first = _conv_prelu(net, "1", net.data, 64 // narrow, kernel=7, stride=2, pad=3)
    net.pool1 = max_pooling(first, kernel=3)
    reduced = _conv_prelu(net, "2_reduce", net.pool1, 64 // narrow, kernel=1)
    net.pool2 = max_pooling(_conv_prelu(net, "2", reduced, 192 // narrow, pad=1), kernel=3)
    net.pool3 = max_pooling(_module(net, "3b", _module(net, "3a", net.pool2, narrow), narrow), kernel=3)
    net.pool4 = L.Pooling(_module(net, "4a", net.pool3, narrow), pool=P.Pooling.AVE, global_pooling=True)


def _module(net: caffe.NetSpec, name: str, bottom, narrow: int):
    single, *towers, projected = INCEPTION[name]
    tops = [_conv_prelu(net, name + "_1x1", bottom, single // narrow, kernel=1)]
    for kernel, (reduced, outputs) in zip((3, 5), towers):
        tower = f"{name}_{kernel}x{kernel}"
        below = _conv_prelu(net, tower + "_reduce", bottom, reduced // narrow, kernel=1)
        tops.append(_conv_prelu(net, tower, below, outputs // narrow, kernel=kernel, pad=kernel // 2))
    pooled = net["pool" + name] = max_pooling(bottom, kernel=3, stride=1, pad=1)
    tops.append(_conv_prelu(net, name + "_pool", pooled, projected // narrow, kernel=1))
    net["inception" + name] = L.Concat(*tops)
    return net["inception" + name]


def _conv_prelu(net: caffe.NetSpec, name: str, bottom, outputs: int, kernel: int = 3, **settings):
    net["conv" + name] = convolution(bottom, outputs, kernel=kernel, **settings)
    net["relu" + name] = L.PReLU(net["conv" + name], in_place=True)
    return net["relu" + name]


def one_map(net: caffe.NetSpec) -> None:
    """[xie2019b] 3.2: 227x227 grey -> z, one map of 110 x 110."""
    net.conv1 = convolution(net.data, 1, kernel=9, stride=2)
    net.relu1 = L.PReLU(net.conv1, in_place=True)


def vgg16(net: caffe.NetSpec) -> None:
    """[xie2019b] ref. [50], configuration D: 227x227 grey -> z, the 4096 of fc6.

    Layers have the names and shapes of the published caffemodels (ImageNet, VGG-Face). These take 3 x 224 x 224 values
    around 0 with the range of grey values. So the net crops the central window, scales it back and repeats it three
    times.
    """
    net.window = L.DummyData(shape=dict(dim=[1, 1, 224, 224]))
    net.central = L.Crop(net.data, net.window, axis=2, offset=1)
    net.grey = L.Power(net.central, scale=1 / SCALE)
    net.input = L.Tile(net.grey, axis=1, tiles=3)
    below = net.input
    for stage, convolutions, width in ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512)):
        for number in range(1, convolutions + 1):
            name = f"{stage}_{number}"
            net["conv" + name] = convolution(below, width, kernel=3, pad=1)
            below = net["relu" + name] = L.ReLU(net["conv" + name], in_place=True)
        below = net[f"pool{stage}"] = max_pooling(below)
    net.fc6 = inner_product(below, 4096)
    net.relu6 = L.ReLU(net.fc6, in_place=True)


# The maximum pooling after conv1, 3x3 with stride 2: torchvision's, and that of the ResNet-18 that was trained in
# Caffe. Both make 56 of 112, but their windows differ by one pixel.
TORCH_POOLING = dict(pad=1, round_mode=P.Pooling.FLOOR)
CAFFE_POOLING: dict[str, int] = {}


def resnet(net: caffe.NetSpec, widths: Sequence[int], kernel: int, pooling: Optional[dict[str, int]],
           projected: bool = False, bottom=None, suffix: str = "") -> None:
    """ResNet with two basic blocks in each stage (He et al., CVPR 2016): image -> pool5, one value for each channel.

    widths: channels of each stage; the last stage is stage 5. kernel: kernel size of conv1, which has stride 2.
    pooling: padding and rounding of the maximum pooling after conv1; None for no such pooling. projected: whether the
    first stage, which changes neither the side nor the width of its input, begins with a projection like the others.
    bottom: the images (`data` if None). suffix: suffix of the layers' names.

    Layers have the names of the ResNet-18 that was trained in Caffe (models/resnet18.txt). BatchNorm uses the
    statistics of the batch in the TRAIN phase and its blobs in the TEST phase. These three blobs are not weights, and
    Caffe itself excludes them from the solver's updates. They keep 0.9 of the old statistics in each iteration, as
    torchvision's do.
    """
    below = _normalized_convolution(net, "conv1", "_conv1", suffix, net.data if bottom is None else bottom, widths[0],
                                    kernel, stride=2)
    below = net["conv1_relu" + suffix] = L.ReLU(below, in_place=True)
    if pooling is not None:
        below = net["pool1" + suffix] = max_pooling(below, kernel=3, **pooling)
    for stage, width in enumerate(widths, start=6 - len(widths)):
        for block in "ab":
            first_of_later = block == "a" and width != widths[0]
            below = _basic_block(net, f"{stage}{block}", suffix, below, width, 2 if first_of_later else 1,
                                 first_of_later or projected and block == "a")
    net["pool5" + suffix] = L.Pooling(below, pool=P.Pooling.AVE, global_pooling=True)


def _basic_block(net: caffe.NetSpec, name: str, suffix: str, below, width: int, stride: int, projects: bool):
    def convolve(branch: str, bottom, kernel: int, stride: int = 1):
        return _normalized_convolution(net, f"res{name}_{branch}", f"{name}_{branch}", suffix,
                                       bottom, width, kernel, stride)
    shortcut = convolve("branch1", below, 1, stride) if projects else below
    first = convolve("branch2a", below, 3, stride)
    first = net[f"res{name}_branch2a_relu{suffix}"] = L.ReLU(first, in_place=True)
    total = net["res" + name + suffix] = L.Eltwise(shortcut, convolve("branch2b", first, 3), operation=P.Eltwise.SUM)
    net[f"res{name}_relu{suffix}"] = L.ReLU(total, in_place=True)
    return net[f"res{name}_relu{suffix}"]


def _normalized_convolution(net: caffe.NetSpec, name: str, normalized: str, suffix: str, bottom, width: int,
                            kernel: int, stride: int):
    convolved = net[name + suffix] = L.Convolution(
        bottom, num_output=width, kernel_size=kernel, stride=stride, pad=kernel // 2, bias_term=False,
        weight_filler=HE_OUTPUTS)
    batch = net["bn" + normalized + suffix] = L.BatchNorm(convolved, in_place=True, moving_average_fraction=0.9)
    net["scale" + normalized + suffix] = L.Scale(batch, in_place=True, bias_term=True)
    return net["scale" + normalized + suffix]


# torchvision's ResNet-18, and the one that was trained in Caffe.
RESNET18 = functools.partial(resnet, widths=(64, 128, 256, 512), kernel=7, pooling=TORCH_POOLING)
RESNET18_PROJECTED = functools.partial(resnet, widths=(64, 128, 256, 512), kernel=7, pooling=CAFFE_POOLING,
                                       projected=True)


def imagenet(net: caffe.NetSpec, build: Callable[[caffe.NetSpec], None]) -> None:
    """A ResNet-18 with the classifier of ImageNet: 3x224x224 -> fc1000."""
    build(net)
    net.fc1000 = linear(net.pool5, 512, 1000)


@dataclass(frozen=True)
class Backbone:
    """A backbone, and the facts that the rest of a net needs."""

    # Adds the layers to a NetSpec that has `data`.
    build: Callable[..., None]
    # The name of the last layer, whose output is z.
    output: str
    # (channels, height, width) of its images.
    shape: tuple[int, int, int]
    # The number of values of z for images of this shape; for a ResNet, the number of channels of its last stage.
    width: int
    # The name of FC1 in published caffemodels that hold this backbone and FC1.
    fc1: str = "fc1"
    # The transformation of pixels before the first layer.
    transform: Transform = PLAIN
    # Layers that show that a caffemodel belongs to another net, which has this one's other layers: layer -> that net.
    foreign: Mapping[str, str] = field(default_factory=dict)
    # Of a net that takes square images of several sizes: the side of its last map for images of a side, 0 if they are
    # too small. None for a net that takes `shape` alone.
    last_side: Optional[Callable[[int], int]] = None

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether the net takes images of a shape (channels, height, width)."""
        if self.last_side is None or len(shape) != 3:
            return tuple(shape) == self.shape
        channels, height, width = shape
        return channels == self.shape[0] and height == width and self.last_side(height) > 0

    @property
    def taken(self) -> str:
        """The shapes that the net takes, in words."""
        if self.last_side is None:
            return "x".join(map(str, self.shape))
        least = next(side for side in itertools.count(1) if self.last_side(side) > 0)
        return f"{self.shape[0]}xNxN with N of at least {least}"

    def values(self, shape: Sequence[int]) -> int:
        """The number of values of z for images of a shape that the net takes."""
        if self.last_side is None:
            return self.width
        return self.width // self.last_side(self.shape[1]) ** 2 * self.last_side(shape[1]) ** 2


def normalized(means: Sequence[float], deviations: Sequence[float]) -> Transform:
    """torchvision's `Normalize`, for pixels from 0 to 255. Both have one value for each channel, in the order RGB, of
    pixels from 0 to 1."""
    return Transform(tuple(round(255 * mean, 4) for mean in means[::-1]),
                     tuple(1 / (255 * deviation) for deviation in deviations[::-1]))


# Those of torchvision's models, and of the official code of [farzaneh2021]; and that of the ResNet-18 that was trained
# in Caffe.
IMAGENET = normalized((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RAF_DB = normalized((0.5752, 0.4495, 0.4012), (0.2086, 0.1911, 0.1827))
IMAGENET_CAFFE = Transform((104, 117, 123), 1)
SMALL = functools.partial(resnet, widths=(16, 32, 64), kernel=3, pooling=None)
PROJECTED = {"res2a_branch1": "resnet18_projected"}


BACKBONES = {
    "toy": Backbone(toy, "relu2", (1, 48, 48), 512 * 5 * 5),
    "one_map": Backbone(one_map, "relu1", (1, 227, 227), 110 * 110),
    "face_resnet": Backbone(functools.partial(face_resnet, pad=0), "res5_6", (1, 227, 227), 512 * 5 * 5),
    "face_resnet_pad4": Backbone(functools.partial(face_resnet, pad=4), "res5_6", (1, 227, 227), 512 * 6 * 6),
    "inception": Backbone(inception, "pool4", (1, 48, 48), 512),
    "inception_narrow": Backbone(functools.partial(inception, narrow=4), "pool4", (1, 48, 48), 512 // 4),
    "face_base": Backbone(face_base, "fc5", (3, 112, 96), 512),
    "dlib_face": Backbone(dlib_face.last_map, "relu6_1", (1, 150, 150), 256 * 2 * 2, last_side=dlib_face.last_side),
    "dlib_face_base": Backbone(dlib_face.whole, "descriptor", (3, 150, 150), 128),
    "vgg16": Backbone(vgg16, "relu6", (1, 227, 227), 4096, "fc7"),
    "resnet18": Backbone(RESNET18, "pool5", (3, 224, 224), 512, transform=IMAGENET, foreign=PROJECTED),
    "resnet18_raf": Backbone(RESNET18, "pool5", (3, 224, 224), 512, transform=RAF_DB, foreign=PROJECTED),
    "resnet18_base": Backbone(functools.partial(imagenet, build=RESNET18), "fc1000", (3, 224, 224), 1000,
                              transform=IMAGENET),
    "resnet18_projected": Backbone(RESNET18_PROJECTED, "pool5", (3, 224, 224), 512, transform=IMAGENET_CAFFE),
    "resnet18_projected_base": Backbone(functools.partial(imagenet, build=RESNET18_PROJECTED), "fc1000",
                                        (3, 224, 224), 1000, transform=IMAGENET_CAFFE),
    "resnet_small": Backbone(SMALL, "pool5", (3, 56, 56), 64)}


def named(name: str) -> Backbone:
    """A backbone by its name. Raises UserError if there is none."""
    if name not in BACKBONES:
        raise UserError(suggestions.unknown("net", name, BACKBONES,
                                            "prototxt/builders/backbones.py lists them all"))
    return BACKBONES[name]


def alone(name: str) -> caffe.proto.caffe_pb2.NetParameter:
    """The net of a backbone only: `data` in, z out."""
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1] + list(BACKBONES[name].shape)))
    BACKBONES[name].build(net)
    proto = net.to_proto()
    proto.name = name
    return proto
