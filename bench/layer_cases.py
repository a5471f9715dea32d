"""Small nets of one layer each, for all types of layers, see `layer_case`."""
import json
from collections.abc import Sequence
from typing import Any

from bench.layer_case import IMAGES, Case


def _layer(kind: str, settings: str, bottoms: Sequence[str], tops: Sequence[str]) -> str:
    blobs = [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops]
    return f'layer {{ name: "layer" type: "{kind}" {" ".join(blobs)} {settings} }}'


class _Cases(list):
    """Collects cases, and numbers those of a type."""

    def of(self, kind: str, settings: str, *inputs: Any, tops: int = 1, before: str = "", after: str = "",
           **options: Any) -> None:
        """Adds a case. inputs: shapes, or (shape, kind of values). before, after: the text of a layer before it and of
        one after it."""
        pairs = [one if isinstance(one[-1], str) else (one, "normal") for one in inputs]
        named = {f"data{number}": pair for number, pair in enumerate(pairs)}
        tops_ = [f"top{number}" for number in range(tops)]
        options.setdefault("outputs", tops_)
        count = sum(case.name.startswith(kind + "-") for case in self)
        text = before + _layer(kind, settings, list(named), tops_) + after
        self.append(Case(f"{kind}-{count + 1}", text, named, len(self), **options))


IMAGE = (2, 3, 6, 7)


def cases() -> list[Case]:
    """All cases, in a fixed order."""
    made = _Cases()
    for add in (_windows, _values, _normalizations, _products, _shapes, _reductions, _losses, _sources, _python):
        add(made)
    return made


def _windows(made: _Cases) -> None:
    for text in ("kernel_size: 3", "kernel_size: 3 pad: 1 stride: 2", "kernel_size: 1 bias_term: false",
                 "kernel_size: 2 dilation: 2 pad: 1", "kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1",
                 "kernel_size: 5 pad: 2 stride: 3"):
        made.of("Convolution", f"convolution_param {{ num_output: 4 {text} }}", IMAGE)
    made.of("Convolution", "convolution_param { num_output: 6 kernel_size: 3 group: 3 }", IMAGE)
    made.of("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", (2, 3, 9))
    made.of("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", IMAGE, IMAGE, tops=2)
    made.of("Convolution", "convolution_param { num_output: 32 kernel_size: 3 pad: 1 }", (4, 16, 12, 12))
    for text in ("kernel_size: 3", "kernel_size: 2 stride: 2", "kernel_size: 3 pad: 1 stride: 2",
                 "kernel_size: 1 stride: 2", "kernel_size: 2 dilation: 2"):
        made.of("Deconvolution", f"convolution_param {{ num_output: 4 {text} }}", IMAGE)
    made.of("Deconvolution", "convolution_param { num_output: 3 kernel_size: 2 group: 3 stride: 3 }", IMAGE)
    for text in ("kernel_size: 1 pad: 1", "kernel_size: 3 stride: 2 pad: 1", "kernel_h: 2 kernel_w: 3 dilation: 2"):
        made.of("Im2col", f"convolution_param {{ {text} }}", IMAGE)
    for pool in "MAX", "AVE":
        for text in ("kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1",
                     "kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 3", "global_pooling: true",
                     "kernel_size: 2 stride: 3 round_mode: FLOOR"):
            made.of("Pooling", f"pooling_param {{ pool: {pool} {text} }}", IMAGE)
    made.of("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", (IMAGE, "0:1"))
    made.of("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", IMAGE, tops=2, backward=False)


def _values(made: _Cases) -> None:
    for settings in "", "relu_param { negative_slope: 0.1 }":
        made.of("ReLU", settings, IMAGE)
    for settings in "", "prelu_param { channel_shared: true }":
        made.of("PReLU", settings, IMAGE)
    for settings in "", "elu_param { alpha: 0.5 }":
        made.of("ELU", settings, IMAGE)
    for kind in "Sigmoid", "TanH", "AbsVal", "BNLL":
        made.of(kind, "", IMAGE)
    for text in ("power: 2", "power: 0.5 scale: 2 shift: 0.5", "power: -1", "scale: 3 shift: -1"):
        made.of("Power", f"power_param {{ {text} }}", (IMAGE, "positive"))
    for text in "", "base: 2 scale: 0.5 shift: 1":
        made.of("Exp", f"exp_param {{ {text} }}", IMAGE)
        made.of("Log", f"log_param {{ {text} }}", (IMAGE, "positive"))
    made.of("Threshold", "threshold_param { threshold: 0.3 }", IMAGE, backward=False)
    for text in ("", "operation: PROD", "operation: MAX", "coeff: 0.5 coeff: -2 coeff: 1"):
        made.of("Eltwise", f"eltwise_param {{ {text} }}", IMAGE, IMAGE, IMAGE)


def _normalizations(made: _Cases) -> None:
    made.of("BatchNorm", "", IMAGE)
    made.of("BatchNorm", "batch_norm_param { moving_average_fraction: 0.9 eps: 0.001 }", (8, 5))
    made.of("BatchNorm", "batch_norm_param { use_global_stats: true }", IMAGE)
    made.of("BatchNorm", "", (8, 4, 9, 9), train=False)
    for text in ("", "local_size: 3 alpha: 0.5 beta: 0.5 k: 2", "norm_region: WITHIN_CHANNEL local_size: 3"):
        made.of("LRN", f"lrn_param {{ {text} }}", (2, 7, 4, 5))
    for text in ("", "across_channels: true", "normalize_variance: false"):
        made.of("MVN", f"mvn_param {{ {text} }}", IMAGE)
    for text in ("", "bias_term: true", "axis: 0 num_axes: -1", "axis: 1 num_axes: 2 bias_term: true"):
        made.of("Scale", f"scale_param {{ {text} }}", IMAGE)
    made.of("Scale", "scale_param { axis: 0 }", IMAGE, (2, 3))
    made.of("Bias", "bias_param { axis: 1 num_axes: 2 }", IMAGE)
    made.of("Bias", "bias_param { axis: 1 }", IMAGE, (3,))
    made.of("Dropout", "", IMAGE, train=False)
    made.of("Dropout", "dropout_param { dropout_ratio: 0 }", IMAGE)


def _products(made: _Cases) -> None:
    for text in ("", "bias_term: false", "transpose: true", "axis: 2"):
        made.of("InnerProduct", f"inner_product_param {{ num_output: 5 {text} }}", IMAGE)
    made.of("InnerProduct", "inner_product_param { num_output: 40 }", (16, 256))
    loss = 'layer { name: "sum" type: "Reduction" bottom: "top0" top: "sum" loss_weight: 0.5 reduction_param { ' \
           "operation: SUMSQ } }"
    for text in "", "bias_term: false":
        made.of("Embed", f"embed_param {{ num_output: 3 input_dim: 5 {text} }}", ((2, 4), "0:4"), after=loss,
                outputs=("top0", "sum"), force=False)


def _shapes(made: _Cases) -> None:
    made.of("Concat", "", IMAGE, (2, 1, 6, 7))
    made.of("Concat", "concat_param { axis: -1 }", IMAGE, (2, 3, 6, 2))
    made.of("Slice", "", IMAGE, tops=3)
    made.of("Slice", "slice_param { axis: 3 slice_point: 1 slice_point: 5 }", IMAGE, tops=3)
    made.of("Split", "", IMAGE, tops=2)
    made.of("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", IMAGE, (2, 3, 4, 5))
    made.of("Tile", "tile_param { tiles: 3 }", IMAGE)
    made.of("Tile", "tile_param { axis: 3 tiles: 2 }", IMAGE)
    made.of("Flatten", "", IMAGE)
    made.of("Flatten", "flatten_param { axis: 2 }", IMAGE)
    made.of("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }", IMAGE)
    made.of("Reshape", "reshape_param { shape { dim: 14 dim: 3 } axis: 2 num_axes: 2 }", IMAGE)
    made.of("Silence", "", IMAGE, tops=0, backward=False)
    made.of("Parameter", "parameter_param { shape { dim: 3 dim: 4 } }")


def _reductions(made: _Cases) -> None:
    for text in ("", "operation: ASUM axis: 1", "operation: SUMSQ axis: 2 coeff: 0.5", "operation: MEAN axis: -1"):
        made.of("Reduction", f"reduction_param {{ {text} }}", IMAGE)
    for text in "", "top_k: 2 out_max_val: true", "axis: 1":
        made.of("ArgMax", f"argmax_param {{ {text} }}", ((4, 5), "0:3"), backward=False)
    for text in "", "axis: 2":
        made.of("Softmax", f"softmax_param {{ {text} }}", IMAGE)


def _losses(made: _Cases) -> None:
    scores, labels = (6, 4), ((6,), "0:3")
    places, of_places = (2, 4, 3, 3), ((2, 3, 3), "-1:3")
    learned: dict = {"before": 'layer { name: "before" type: "Scale" bottom: "data0" top: "data0" }', "force": False}
    for text in ("", "loss_param { normalization: FULL }", "loss_weight: 0.3"):
        made.of("SoftmaxWithLoss", text, scores, labels)
    for text in ("", "normalization: BATCH_SIZE", "normalize: false"):
        made.of("SoftmaxWithLoss", f"loss_param {{ ignore_label: -1 {text} }}", places, of_places)
    made.of("InfogainLoss", "", scores, labels, ((4, 4), "positive"), **learned)
    made.of("InfogainLoss", "loss_param { normalization: NONE }", scores, labels, ((4, 4), "positive"), **learned)
    made.of("EuclideanLoss", "loss_weight: 2", scores, scores)
    for text in "", "hinge_loss_param { norm: L2 }":
        made.of("HingeLoss", text, scores, labels)
    for text in "", "margin: 3", "margin: 12 legacy_version: true":
        made.of("ContrastiveLoss", f"contrastive_loss_param {{ {text} }}", scores, scores, ((6,), "0:1"))
    for text in "", "ignore_label: 0 normalization: VALID":
        made.of("SigmoidCrossEntropyLoss", f"loss_param {{ {text} }}", scores, (scores, "0:1"))
    for text in "", "top_k: 2":
        made.of("Accuracy", f"accuracy_param {{ {text} }}", (scores, "0:9"), labels, backward=False)
    made.of("Accuracy", "accuracy_param { ignore_label: -1 }", places, of_places, backward=False, tops=2)


def _sources(made: _Cases) -> None:
    made.of("Input", "input_param { shape { dim: 2 dim: 3 } }", backward=False)
    made.of("DummyData", "dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: \"constant\" value: 0.7 } }",
            backward=False)
    # Caffe says that the labels have one axis, and gives them four.
    made.of("MemoryData", "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }", tops=2, backward=False,
            after='layer { name: "flat" type: "Flatten" bottom: "top1" top: "flat" flatten_param { axis: 0 } }',
            outputs=("top0", "flat"))
    for text in ("", "scale: 0.5 mean_value: 100", "crop_size: 6 mean_value: 10 mean_value: 20 mean_value: 30"):
        made.of("Data", f'data_param {{ source: "{IMAGES}" batch_size: 5 backend: LMDB }} '
                f"transform_param {{ {text} }}", tops=2, backward=False, train=False)


def _python(made: _Cases) -> None:
    """Our own losses, which the engine hosts."""
    features, labels, fixed = (12, 8), ((12,), "0:3"), "param { lr_mult: 0 decay_mult: 0 }"
    tuplet = {"positives": 3, "negatives": 3}
    for module, layer, settings, inputs, params in (
            ("center_loss", "CenterLossLayer", {"classes": 4, "seed": 1}, (features, labels), ""),
            ("feature_loss", "FeatureLossLayer", {"epoch_size": 30}, (features, (features, "positive")), fixed),
            ("feature_loss", "FeatureLossLayer", {"epoch_size": 30, "p": 1}, (features, (features, "positive")), fixed),
            ("sparseness_loss", "SparsenessLossLayer", {}, (features,), ""),
            ("sparse_center_loss", "SparseCenterLossLayer", {"classes": 4}, (features, labels, features), fixed),
            ("tuplet_loss", "TupletLossLayer", {"negatives": 4}, (features,), ""),
            ("tuplet_loss", "FixedClustersLossLayer", dict(tuplet, threshold=1, tau=0.5), (features,), ""),
            ("tuplet_loss", "AdaptiveClustersLossLayer", dict(tuplet, rank=4), (features,), "")):
        text = json.dumps(json.dumps(dict(settings, name="layer")))
        made.of("Python", f'loss_weight: 1 {params} python_param {{ module: "layers.{module}" layer: "{layer}" '
                f"param_str: {text} }}", *inputs)
