"""Python layers in the style of labs: of Python 2, without checks. Caffe and the engine import the same file."""
import threading

import caffe
import lab_records
import numpy as np


class DistanceLossLayer(caffe.Layer):
    """1/2 of the mean squared distance of two blobs."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("DistanceLossLayer needs two bottoms")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("the bottoms of DistanceLossLayer must have the same dimension")
        self.distance = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.distance[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.distance ** 2) / bottom[0].num / 2.

    def backward(self, top, propagate_down, bottom):
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = top[0].diff[0] * sign * self.distance / bottom[i].num


class ChannelScale(caffe.Layer):
    """Learns one factor for each channel. It assigns its gradient, as many do, in place of adding it."""

    def __init__(self, p_object, *args, **kwargs):
        super(ChannelScale, self).__init__(p_object, *args, **kwargs)
        self.passes = 0

    def setup(self, bottom, top):
        params = eval(self.param_str)
        self.blobs.add_blob(bottom[0].channels)
        self.blobs[0].data[...] = params["start"]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.passes += 1
        for c in range(bottom[0].channels):
            top[0].data[:, c] = bottom[0].data[:, c] * self.blobs[0].data[c]

    def backward(self, top, propagate_down, bottom):
        assert bottom[0].data.shape == (bottom[0].num, bottom[0].channels, bottom[0].height, bottom[0].width)
        products = top[0].diff * bottom[0].data
        self.blobs[0].diff[...] = products.sum(axis=(0, 2, 3))
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data.reshape(1, -1, 1, 1)


class Double(caffe.Layer):
    """Works in place."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff


class EagerLoss(caffe.Layer):
    """The sum of squares, with the gradient stored by the forward pass."""

    def setup(self, bottom, top):
        top[0].reshape(1)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[0] = np.sum(bottom[0].data ** 2)
        bottom[0].diff[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] *= top[0].diff[0]


class CropData(caffe.Layer):
    """Random crops, half of them mirrored, of records; in the test phase crops of the middle. It reads its batch in
    `reshape`, and writes a blob of constants only once."""

    def setup(self, bottom, top):
        self.side, self.batch = [int(value) for value in self.param_str.split(",")]
        self.records = lab_records.records(8)
        self.next = 0
        top[2].reshape(2, 3)
        top[2].data[...] = np.arange(6).reshape(2, 3)

    def reshape(self, bottom, top):
        import caffe  # noqa: F811, found when the layer runs
        images, labels = [], []
        for _ in range(self.batch):
            record = self.records[self.next % len(self.records)]
            image = caffe.io.datum_to_array(record)
            room = image.shape[1] - self.side
            y = x = room // 2
            if self.phase == caffe.TRAIN:
                y, x = np.random.randint(room + 1, size=2)
            image = image[:, y:y + self.side, x:x + self.side]
            if self.phase == caffe.TRAIN and np.random.randint(2):
                image = image[:, :, ::-1]
            images.append(image)
            labels.append(record.label)
            self.next += 1
        self.images, self.labels = np.array(images), labels
        top[0].reshape(*self.images.shape)
        top[1].reshape(len(labels))

    def forward(self, bottom, top):
        top[0].data[...] = self.images
        top[1].data[...] = self.labels

    def backward(self, top, propagate_down, bottom):
        pass


class Old(caffe.Layer):
    """As forks of before 2015 have it: param_str_."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str_)

    def reshape(self, bottom, top):
        top[0].reshape(bottom[0].num, bottom[0].channels, bottom[0].height, bottom[0].width)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor

    def backward(self, top, propagate_down, bottom):
        pass


class Broken(caffe.Layer):
    """Fails in the method that param_str names."""

    def setup(self, bottom, top):
        self.fail("setup")

    def reshape(self, bottom, top):
        self.fail("reshape")
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.fail("forward")

    def backward(self, top, propagate_down, bottom):
        self.fail("backward")

    def fail(self, method):
        if self.param_str == method:
            raise KeyError("in two\nlines")


class Helper(object):
    pass


class Counted(caffe.Layer):
    """Data with their position in a blob, and another one in an attribute. It notes who runs it, fails at the batch
    that param_str names, and stops for good at the one behind "wait"."""

    def setup(self, bottom, top):
        self.made, self.runs = 0, []
        if self.param_str != "no blob":
            self.blobs.add_blob(2)
            self.blobs[0].data[...] = 0
        top[0].reshape(3)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.runs.append((self.made, threading.current_thread()))
        if self.param_str == "fail %d" % self.made:
            raise KeyError("in two\nlines")
        if self.param_str == "wait %d" % self.made:
            threading.Event().wait()
        position = self.blobs[0].data[1] if len(self.blobs) else -1
        top[0].data[...] = position, self.made, np.random.randint(1 << 20)
        if len(self.blobs):
            self.blobs[0].data[...] += (0, 1)
        self.made += 1

    def backward(self, top, propagate_down, bottom):
        pass
