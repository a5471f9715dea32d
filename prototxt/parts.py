"""What the nets of all papers have in common: their data, our layers in them, and one text for both phases."""
import json
from typing import Dict, NamedTuple, Optional, Sequence

import caffe
from caffe import layers as L

NetParameter = caffe.proto.caffe_pb2.NetParameter
FROZEN = dict(param=dict(lr_mult=0, decay_mult=0))
MEAN, SCALE = 127.5, 1 / 128


class Data(NamedTuple):
    """What a net must know of its data. root: folder that `./fer prepare` made; classes: how many;
    counts: split -> records; shape: (channels, height, width) of an image; class_counts: training samples of
    each class, which class weights need."""

    root: str
    classes: int
    counts: Dict[str, int]
    shape: tuple
    class_counts: Sequence[int] = ()

    def lmdb(self, split: str, content: str) -> str:
        return "{}/{}/{}".format(self.root, split, content)


def prepared(root: str, note: Dict) -> Data:
    """Of a prepared folder; note: its prepare.json."""
    return Data(root, len(note["classes"]), note["records"], tuple(note["shape"]), note["class_counts"]["train"])


def test_batch(count: int) -> int:
    """Batch size that sees `count` records in whole batches, if there is one of a fair size; else 100."""
    return next((size for size in range(128, 15, -1) if count % size == 0), 100)


def python_layer(name: str, module: str, layer: str, *bottoms, ntop: int = 1, stateful: bool = False,
                 loss_weight: Optional[float] = None, options: Optional[Dict] = None, **param):
    """A layer of ours. stateful: its parameter blob is no weight, and the solver must leave it alone; options: the
    layer's other settings; param: of its param_str."""
    options = dict(options or {}, **(FROZEN if stateful else {}))
    if loss_weight is not None:
        options["loss_weight"] = loss_weight
    return L.Python(*bottoms, name=name, ntop=ntop, **options, python_param=dict(
        module="layers." + module, layer=layer,
        param_str=json.dumps(dict(name=name, **param))))


def merge(name: str, train: NetParameter, test: NetParameter) -> NetParameter:
    """One definition for both phases: what only one of them has is included in its phase alone."""
    merged = NetParameter(name=name)
    tested = {layer.name: layer for layer in test.layer}
    for layer in train.layer:
        both = tested.get(layer.name) == layer
        merged.layer.add().CopyFrom(layer)
        if both:
            del tested[layer.name]
        else:
            merged.layer[-1].include.add(phase=caffe.TRAIN)
    head = next(i for i, layer in enumerate(merged.layer) if not layer.include)
    leading = [layer for layer in tested.values() if not layer.bottom]
    trailing = [layer for layer in tested.values() if layer.bottom]
    ordered = list(merged.layer[:head]) + leading + list(merged.layer[head:]) + trailing
    result = NetParameter(name=name)
    for layer in ordered:
        result.layer.add().CopyFrom(layer)
        if layer.name in tested:
            result.layer[-1].include.add(phase=caffe.TEST)
    return result
