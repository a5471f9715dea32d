"""dlib's face recognition net (examples/dnn_face_recognition_ex.cpp of dlib, anet_type): 29 convolutions.

Zeros come from Caffe's own layers, so the net takes images of any size and number.
"""
import caffe
from caffe import layers as L
from caffe import params as P

from prototxt.builders.parts import MEAN, SCALE

# Width and number of the residual blocks of stages 2 to 6, and whether the first block of a stage halves the maps.
STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
# What the net subtracts from red, green and blue, from 0 to 255, before it divides by 256.
MEANS, RANGE = (122.782, 117.001, 104.298), 256


def last_map(net: caffe.NetSpec) -> None:
    """Grey images of 103x103 or more -> z, the last 256 maps.

    Red, green and blue have the same grey value, and each its own mean. `data` has what the data layers make of the
    values, (pixel - MEAN) * SCALE.
    """
    net.red, net.green, net.blue = (L.Power(net.data, scale=1 / (SCALE * RANGE), shift=(MEAN - mean) / RANGE)
                                    for mean in MEANS)
    net.rgb = L.Concat(net.red, net.green, net.blue)
    _layers(net, net.rgb)


def whole(net: caffe.NetSpec) -> None:
    """RGB images, (pixel - MEANS) / RANGE -> descriptor, 128 values. Its layers are those of dlib_face.caffemodel."""
    net.pool6 = L.Pooling(_layers(net, net.data), pool=P.Pooling.AVE, global_pooling=True)
    net.descriptor = L.InnerProduct(net.pool6, num_output=128, bias_term=False, weight_filler=dict(type="xavier"))


def _layers(net: caffe.NetSpec, bottom):
    first = _affine_convolution(net, "1", bottom, 32, kernel=7, stride=2)
    first = net.relu1 = L.ReLU(first, in_place=True)
    below = net.pool1 = L.Pooling(first, pool=P.Pooling.MAX, kernel_size=3, stride=2, round_mode=P.Pooling.FLOOR)
    came = 32
    for stage, (width, blocks, halves) in enumerate(STAGES, start=2):
        for number in range(1, blocks + 1):
            below = _block(net, f"{stage}_{number}", below, came, width, halves and number == 1)
            came = width
    return below


def _block(net: caffe.NetSpec, name: str, below, came: int, width: int, halves: bool):
    """A residual block.

    If it halves the maps, its shortcut is an average pooling of 2x2. dlib adds maps that differ in size as if zeros
    stood in the place of the missing channels, and of the missing rows below and columns on the right. The shortcut
    lacks channels. The convolutions lack one row and column if the maps below have an even side: they make
    (side - 1) // 2 of a side, and the pooling makes side // 2.
    """
    first = _affine_convolution(net, name + "a", below, width, **(dict(stride=2) if halves else dict(pad=1)))
    first = net[f"relu{name}a"] = L.ReLU(first, in_place=True)
    # It starts from 0: a net that starts from random weights then begins with the shortcuts alone (Goyal et al.,
    # "Accurate, large minibatch SGD", 2017). There is no normalisation that would keep its sums small.
    top = _affine_convolution(net, name + "b", first, width, pad=1, factor=0)
    shortcut = below
    if halves:
        shortcut = net["pool" + name] = L.Pooling(below, pool=P.Pooling.AVE, kernel_size=2, stride=2,
                                                  round_mode=P.Pooling.FLOOR)
        # Im2col with a kernel of 1x1 copies the maps and puts its pad around them. The crop to the size of the shortcut
        # takes the upper row and the left column of the pad off, and what is too much of the others.
        padded = net["padded" + name] = L.Im2col(top, convolution_param=dict(kernel_size=[1], pad=[1]))
        top = net["cropped" + name] = L.Crop(padded, shortcut, axis=2, offset=[1])
        if width > came:
            assert width == 2 * came
            net["zeros" + name] = L.Power(shortcut, scale=0)
            shortcut = net["widened" + name] = L.Concat(shortcut, net["zeros" + name])
    net["res" + name] = L.Eltwise(shortcut, top, operation=P.Eltwise.SUM)
    net["relu" + name] = L.ReLU(net["res" + name], in_place=True)
    return net["relu" + name]


def _affine_convolution(net: caffe.NetSpec, name: str, bottom, width: int, kernel: int = 3, stride: int = 1,
                        pad: int = 0, factor: float = 1):
    convolved = net["conv" + name] = L.Convolution(bottom, num_output=width, kernel_size=kernel, stride=stride, pad=pad,
                                                   bias_term=False, weight_filler=dict(type="msra"))
    net["affine" + name] = L.Scale(convolved, in_place=True, bias_term=True,
                                   filler=dict(type="constant", value=factor))
    return net["affine" + name]


def last_side(side: int) -> int:
    """The side of the last map for images of a side, in pixels; 0 if they are too small."""
    side = ((side - 7) // 2 + 1 - 3) // 2 + 1
    for *_, halves in STAGES:
        # A convolution of 3x3 must have room.
        side = 0 if side < 3 else side // 2 if halves else side
    return side
