"""A net: the layers of a prototxt for one phase, their parameters, the forward and the backward pass."""
import dataclasses
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch

from common import suggestions
from common.errors import UserError

from . import layers, messages, slicing
from .layer import Context, Layer, Shape
from .ranks import ALONE


@dataclasses.dataclass
class Parameter:
    """A parameter of the net, which several layers may share. `layer` and `number`: the first of them, and its place
    there. `rate` and `decay`: lr_mult and decay_mult."""

    blob: torch.Tensor
    layer: str
    number: int
    rate: float
    decay: float


class Net:
    """The layers that a NetParameter has for a phase, level and stages.

    definition  the NetParameter
    phase       messages.TRAIN or messages.TEST
    device      where it computes, as torch names it
    seed        of the initial values and of what the layers draw
    share       another net: layers of the same name have its parameters
    ranks       who computes the net together (see `ranks.Group`)
    Raises UserError, which names the layer, for what Caffe would refuse and for what the engine does not support.
    """

    def __init__(self, definition: Any, phase: int, level: int = 0, stages: Sequence[str] = (), device: str = "cpu",
                 seed: int = 0, share: Optional["Net"] = None, ranks: Any = ALONE):
        self.name, self.definition, self.phase = definition.name, definition, phase
        generator = torch.Generator()
        generator.manual_seed(seed)
        self.context = Context(phase, torch.device(device), generator, seed)
        self._slicing = slicing.Slicing(ranks, self.context) if ranks.size > 1 else None
        self.layers: List[Layer] = []
        self.parameters: List[Parameter] = []
        self.loss_weights: List[List[float]] = []
        self.shapes: Dict[str, Shape] = {}
        self._named: Dict[str, Parameter] = {}
        self._aliases: List[Tuple[torch.Tensor, torch.Tensor]] = []  # of shared parameters
        self._shared = {} if share is None else {layer.name: layer for layer in share.layers}
        unused: Dict[str, None] = {}
        chosen = [one for one in definition.layer if included(one, phase, level, stages)]
        for param in _input_layers(definition) + chosen:
            self._add(param, unused)
        self.outputs = sorted(unused)  # Caffe prints them in this order
        self._last_use = self._last_uses()
        self.blobs: Dict[str, torch.Tensor] = {}
        self.loss: Any = None

    def _add(self, param: Any, unused: Dict[str, None]) -> None:
        layer = layers.make(param, self.context, len(self.layers))
        for bottom in param.bottom:
            if bottom not in self.shapes:
                layer.fail(suggestions.unknown("bottom", bottom, self.shapes))
            unused.pop(bottom, None)
        for top in param.top:
            if top in self.shapes and top not in param.bottom:
                layer.fail(f"the blob {top} is made by two layers")
        shapes = [self.shapes[bottom] for bottom in param.bottom]
        layer.setup(shapes)
        self._register(layer)
        if self._slicing:
            self._slicing.add(layer, shapes)
        tops = layer.reshape(shapes)
        self.shapes.update(zip(param.top, tops))
        unused.update(dict.fromkeys(param.top))
        # A loss may have no top in the prototxt; it counts all the same.
        count = max(len(param.top), 1 if layer.LOSS else 0)
        weights = list(param.loss_weight) or [1.0 if layer.LOSS and number == 0 else 0.0 for number in range(count)]
        if len(weights) != count:
            layer.fail(f"{len(weights)} loss_weight, expected one for each of its {count} tops")
        self.loss_weights.append(weights)
        self.layers.append(layer)

    def _register(self, layer: Layer) -> None:
        """Shares the layer's parameters with other layers and nets, or makes them parameters of this net."""
        specs = list(layer.param.param)
        if len(specs) > len(layer.blobs):
            layer.fail(f"{len(specs)} `param`, but the layer has {len(layer.blobs)} parameters")
        theirs = self._shared.get(layer.name)
        shared = None if theirs is None else theirs.blobs
        if theirs is not None and len(theirs.blobs) != len(layer.blobs):
            layer.fail(f"{len(layer.blobs)} parameters, but {len(theirs.blobs)} in the net that shares them")
        if theirs is not None:
            layer.shared = theirs.shared = True
        for number, blob in enumerate(layer.blobs):
            spec = specs[number] if number < len(specs) else messages.ParamSpec()
            owner = self._named.get(spec.name) if spec.name else None
            other = owner.blob if owner else shared[number] if shared is not None else None
            if other is not None:
                permissive = spec.share_mode == messages.ParamSpec.PERMISSIVE
                if (blob.numel() != other.numel() if permissive else blob.shape != other.shape):
                    whose = f"that of layer {owner.layer}" if owner else "that of the other net"
                    layer.fail(f"parameter {number} has the shape {tuple(blob.shape)}, but {whose} has "
                               f"{tuple(other.shape)}")
                layer.blobs[number] = other if blob.shape == other.shape else other.view(blob.shape)
            if owner:
                # A tensor of its own with the same memory: autograd adds to its gradient as soon as the layer has
                # computed it, so a Python layer finds there what later layers have added, as in Caffe.
                alias = layer.blobs[number] = layer.blobs[number].detach()
                alias.requires_grad_(owner.blob.requires_grad)
                self._aliases.append((alias, owner.blob))
                continue
            made = Parameter(layer.blobs[number], layer.name, number, spec.lr_mult, spec.decay_mult)
            if other is None:
                made.blob.requires_grad_(made.rate != 0 and made.blob.is_floating_point())
            self.parameters.append(made)
            if spec.name:
                self._named[spec.name] = made

    def reshape(self) -> None:
        """Fits the layers to new shapes of the inputs, such as another number of images. Raises UserError, which names
        the layer, if they do not fit."""
        for layer in self.layers:
            tops = layer.reshape([self.shapes[bottom] for bottom in layer.param.bottom])
            self.shapes.update(zip(layer.param.top, tops))

    def _last_uses(self) -> List[List[str]]:
        """For each layer, the blobs that no later layer reads."""
        last: Dict[str, int] = {}
        for number, layer in enumerate(self.layers):
            last.update(dict.fromkeys([*layer.param.bottom, *layer.param.top], number))
        uses: List[List[str]] = [[] for _ in self.layers]
        for name, number in last.items():
            if name not in self.outputs:
                uses[number].append(name)
        return uses

    def forward(self, keep: Sequence[str] = ()) -> Dict[str, torch.Tensor]:
        """One pass. Returns the outputs and the blobs named in `keep`, in `loss` the weighted sum of the losses.

        Blobs that no later layer reads are let go of. Raises UserError, which names the layer.
        """
        self._join_gradients()
        blobs: Dict[str, Any] = {}
        self.blobs = blobs
        terms: List[torch.Tensor] = []
        force = self.definition.force_backward
        with torch.set_grad_enabled(torch.is_grad_enabled() and (self.phase == messages.TRAIN or force)):
            for layer, weights, done in zip(self.layers, self.loss_weights, self._last_use):
                bottoms = [blobs[name] for name in layer.param.bottom]
                if self._slicing:
                    whole = [weight != 0 or name in self.outputs or name in keep
                             for name, weight in zip(layer.param.top, weights)]
                    tops = self._slicing.run(layer, bottoms, self._run, whole)
                else:
                    tops = self._run(layer, bottoms)
                if force and not layer.param.bottom:
                    tops = [top if top.requires_grad else top.requires_grad_() for top in tops]
                blobs.update(zip(layer.param.top, tops))
                terms += [top.sum() * weight if weight != 1 or top.dim() else top
                          for top, weight in zip(tops, weights) if weight]
                for name in done:
                    if name not in keep:
                        del blobs[name]
        self.loss = sum(terms[1:], terms[0]) if terms else torch.zeros((), device=self.context.device)
        self.context.passes += 1
        return blobs

    def _run(self, layer: Layer, bottoms: List[torch.Tensor]) -> List[torch.Tensor]:
        flags = layer.param.propagate_down
        if flags:
            bottoms = [one if flag else one.detach() for one, flag in zip(bottoms, flags)]
        try:
            if layer.GRADIENT:
                return layer.forward(bottoms)
            with torch.no_grad():
                return layer.forward(bottoms)
        except RuntimeError as error:
            shapes = ", ".join(str(tuple(one.shape)) for one in bottoms) or "none"
            layer.fail(f"{str(error).splitlines()[0]} (shapes of its bottoms: {shapes})")

    def part_of_loss(self, name: str, value: float) -> str:
        """What Caffe's log says behind a value of a top that has a loss weight: its part in the loss; else ""."""
        weight = next(weight for layer, weights in zip(reversed(self.layers), reversed(self.loss_weights))
                      for top, weight in zip(layer.param.top, weights) if top == name)
        return f" (* {weight:g} = {weight * value:g} loss)" if weight else ""

    def lines(self, kind: str, blobs: Dict[str, torch.Tensor]) -> Iterator[str]:
        """What Caffe's log says of each value of the outputs. kind: "Train" or "Test"; blobs: the outputs by name."""
        values = [(name, value) for name in self.outputs for value in blobs[name].detach().reshape(-1).tolist()]
        for number, (name, value) in enumerate(values):
            yield f"    {kind} net output #{number}: {name} = {value:g}{self.part_of_loss(name, value)}"

    def backward(self) -> None:
        """Adds the gradient of `loss` to those of the parameters (`blob.grad`)."""
        self._join_gradients()
        if self.loss is not None and self.loss.requires_grad:
            self.loss.backward()

    def sum_gradients(self) -> None:
        """Adds the parts of the ranks to the gradient of the whole batch. To be called once, after all passes."""
        if self._slicing:
            self._slicing.sum_gradients([one.blob for one in self.parameters])

    def seek(self, passes: int) -> None:
        """The next pass reads and draws what it would after `passes` passes: for a training that is resumed."""
        self.context.passes = passes

    def _join_gradients(self) -> None:
        """Lets all layers that share a parameter add their gradients to the same memory."""
        for alias, blob in self._aliases:
            if blob.requires_grad:
                blob.grad = torch.zeros_like(blob) if blob.grad is None else blob.grad
                alias.grad = blob.grad.view(alias.shape)

    def layer(self, name: str) -> Layer:
        """The layer of this name. Raises UserError."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UserError(suggestions.unknown("layer", name, [layer.name for layer in self.layers]))


def included(param: Any, phase: int, level: int, stages: Sequence[str]) -> bool:
    """Whether a layer is in the net of this phase, level and stages, by its `include` and `exclude` rules."""
    if param.include and param.exclude:
        raise UserError(f"layer {param.name}: expected either include or exclude, found both")
    if param.include:
        return any(_meets(rule, phase, level, stages) for rule in param.include)
    return not any(_meets(rule, phase, level, stages) for rule in param.exclude)


def _meets(rule: Any, phase: int, level: int, stages: Sequence[str]) -> bool:
    return ((not rule.HasField("phase") or rule.phase == phase)
            and (not rule.HasField("min_level") or level >= rule.min_level)
            and (not rule.HasField("max_level") or level <= rule.max_level)
            and all(stage in stages for stage in rule.stage)
            and not any(stage in stages for stage in rule.not_stage))


def _input_layers(definition: Any) -> List[Any]:
    """The net's own `input`, Caffe's older form of an Input layer, as layers."""
    dims = list(definition.input_dim)
    shapes: List[Tuple[int, ...]] = [tuple(one.dim) for one in definition.input_shape] or [
        tuple(dims[start:start + 4]) for start in range(0, len(dims), 4)]
    if len(shapes) != len(definition.input):
        raise UserError(f"net {definition.name}: {len(definition.input)} input, but {len(shapes)} shapes of them")
    made = []
    for name, shape in zip(definition.input, shapes):
        param = messages.LayerParameter(name=name, type="Input", top=[name])
        param.input_param.shape.add().dim.extend(shape)
        made.append(param)
    return made
