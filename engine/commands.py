"""What the commands do: train, test, time and device_query. Each takes the flags, see flags.FLAGS, and writes to the
log what `caffe` writes."""
import argparse
import contextlib
import functools
import signal
import time as clock
from typing import Any, Dict, Iterator, List, Tuple

import torch

from common import signals
from common.errors import UserError

from . import launcher, log, messages, precision, ranks, snapshot, solver_param, start
from .net import Net
from .solver import SNAPSHOT, STOP, Solver


def train(options: argparse.Namespace) -> None:
    """Trains, or continues a training; for several cards it starts a process each. Raises UserError."""
    param = solver_param.read(options.solver)
    param.train_state.level = options.level
    param.train_state.stage.extend(_stages(options))
    where, asked = ranks.place(), ""
    if not options.gpu and param.solver_mode == messages.SolverParameter.GPU:
        options.gpu = "all" if where else str(param.device_id)
        asked = (f"{options.solver}: solver_mode is GPU, which is Caffe's default (solver_mode: CPU trains on the "
                 "processor)")
    cards = _cards(options.gpu, asked)
    if len(cards) > 1 and not where:
        launcher.run(["train", *(f"-{name}={value}" for name, value in vars(options).items())], len(cards))
        return
    if cards:
        if where and where.local >= len(cards):
            raise UserError(f"-gpu {options.gpu}: no card is left for process {where.local + 1} of this machine, "
                            "expected one for each")
        options.gpu = str(cards[where.local if where else 0])
    if where and where.rank:
        log.only_errors()
    device = _device(options, "caffe.cpp:197")
    with ranks.joined(where, device) as together:
        _train(options, param, device, together)


def _train(options: argparse.Namespace, param: Any, device: str, together: Any) -> None:
    if together.size > 1:
        log.info("engine", f"{together.size} processes (ranks) train together; each takes a part of each batch")
    if options.snapshot or options.weights:
        param.ClearField("weights")
        param.weights.extend([options.weights] if options.weights else [])
    with _signals(options) as requests:
        made = Solver(param, log, device, None if options.snapshot else _start, together)
        requests.to(made)
        if options.snapshot:
            log.info("caffe.cpp:235", f"Resuming from {options.snapshot}")
            made.restore(options.snapshot)
        log.info("caffe.cpp:239", "Starting Optimization")
        made.solve()
    log.info("caffe.cpp:250", "Optimization Done.")


def _start(param: Any) -> Any:
    """The weights of a new training, as a NetParameter; None for those of the engine's net itself."""
    made = start.weights(param, param.train_net or param.net)
    log.info("engine", f"The start weights are made by {'Caffe' if made else 'PyTorch (pycaffe is not installed)'}, "
             f"with the random seed {param.random_seed}")
    return made


class _Requests:
    """Hands signals on to a solver, also those that came before it was made."""

    def __init__(self) -> None:
        self._early: List[str] = []
        self._request = self._early.append

    def to(self, solver: Solver) -> None:
        self._request = solver.request
        for one in self._early:
            solver.request(one)

    def handle(self, what: str, *_: Any) -> None:
        """A handler of a signal. what: STOP, SNAPSHOT or nothing."""
        if what:
            self._request(what)


@contextlib.contextmanager
def _signals(options: argparse.Namespace) -> Iterator[_Requests]:
    """While it is open, signals have their effects. One that this process ignores, as under nohup, stays ignored."""
    requests, asked = _Requests(), {"stop": STOP, "snapshot": SNAPSHOT, "none": ""}
    effects = {signal.SIGINT: options.sigint_effect, signal.SIGHUP: options.sighup_effect}
    with signals.installed({number: functools.partial(requests.handle, asked[effect])
                            for number, effect in effects.items()}):
        yield requests


def test(options: argparse.Namespace) -> None:
    """Measures a net with the given weights. Raises UserError."""
    device = _device(options, "caffe.cpp:275")
    net = _net(options, messages.TEST, device)
    for path in options.weights.split(","):
        snapshot.load_weights(net, path.strip())
    log.info("caffe.cpp:281", f"Running for {options.iterations} iterations.")
    names: List[str] = []
    sums, loss = [], 0.0  # type: List[float], float
    for batch in range(options.iterations):
        blobs = net.forward()
        loss += net.loss.item()
        values = [(name, value) for name in net.outputs for value in blobs[name].reshape(-1).tolist()]
        for name, value in values:
            log.info("caffe.cpp:304", f"Batch {batch}, {name} = {value:g}")
        names = [name for name, _ in values]
        sums = [before + value for before, (_, value) in zip(sums or [0.0] * len(values), values)]
    log.info("caffe.cpp:309", f"Loss: {loss / options.iterations:g}")
    for name, total in zip(names, sums):
        mean = total / options.iterations
        log.info("caffe.cpp:321", f"{name} = {mean:g}{net.part_of_loss(name, mean)}")


def time(options: argparse.Namespace) -> None:
    """Measures how long the layers take. Raises UserError."""
    device = _device(options, "caffe.cpp:343")
    net = _net(options, messages.TEST if options.phase == "TEST" else messages.TRAIN, device)
    log.info("caffe.cpp:351", "Performing Forward")
    net.forward()
    log.info("caffe.cpp:356", f"Initial loss: {net.loss.item():g}")
    log.info("caffe.cpp:357", "Performing Backward")
    _timed_pass(net, [0.0] * len(net.layers), [0.0] * len(net.layers))
    log.info("caffe.cpp:365", "*** Benchmark begins ***")
    log.info("caffe.cpp:366", f"Testing for {options.iterations} iterations.")
    forward, backward = [[0.0] * len(net.layers) for _ in range(2)]
    began = clock.perf_counter()
    for number in range(1, options.iterations + 1):
        before = clock.perf_counter()
        _timed_pass(net, forward, backward)
        log.info("caffe.cpp:394", f"Iteration: {number} forward-backward time: "
                 f"{1e3 * (clock.perf_counter() - before):g} ms.")
    whole = 1e3 * (clock.perf_counter() - began)
    log.info("caffe.cpp:397", "Average time per layer: ")
    for layer, there, back in zip(net.layers, forward, backward):
        log.info("caffe.cpp:400", f"{layer.name:>10}\tforward: {there / options.iterations:g} ms.")
        log.info("caffe.cpp:403", f"{layer.name:>10}\tbackward: {back / options.iterations:g} ms.")
    log.info("caffe.cpp:408", f"Average Forward pass: {sum(forward) / options.iterations:g} ms.")
    log.info("caffe.cpp:410", f"Average Backward pass: {sum(backward) / options.iterations:g} ms.")
    log.info("caffe.cpp:412", f"Average Forward-Backward: {whole / options.iterations:g} ms.")
    log.info("caffe.cpp:414", f"Total Time: {whole:g} ms.")
    log.info("caffe.cpp:415", "*** Benchmark ends ***")


def _timed_pass(net: Net, forward: List[float], backward: List[float]) -> None:
    """One pass forward and back, layer by layer. Adds the milliseconds of each layer to the two lists."""
    blobs: Dict[str, torch.Tensor] = {}
    done: List[Tuple[List[torch.Tensor], List[torch.Tensor]]] = []
    for number, layer in enumerate(net.layers):
        # Cut off from the layers before, so that a layer's backward pass ends at its bottoms.
        bottoms = [blobs[name].detach().requires_grad_(blobs[name].requires_grad) for name in layer.param.bottom]
        with torch.set_grad_enabled(layer.GRADIENT), _clock(net, forward, number):
            tops = layer.forward(bottoms)
        blobs.update(zip(layer.param.top, tops))
        done.append((bottoms, tops))
    net.context.passes += 1
    gradients: Dict[str, torch.Tensor] = {}
    for number, (layer, weights, (bottoms, tops)) in reversed(list(enumerate(zip(net.layers, net.loss_weights, done)))):
        pairs = []
        for name, top, weight in zip(layer.param.top, tops, weights):
            gradient = gradients.pop(name, None)
            if weight and top.requires_grad:
                gradient = torch.full_like(top, weight) if gradient is None else gradient + weight
            if gradient is not None:
                pairs.append((top, gradient))
        if pairs:
            with _clock(net, backward, number):
                torch.autograd.backward([top for top, _ in pairs], [gradient for _, gradient in pairs])
        for name, bottom in zip(layer.param.bottom, bottoms):
            if bottom.grad is not None:
                gradients[name] = bottom.grad if name not in gradients else gradients[name] + bottom.grad


@contextlib.contextmanager
def _clock(net: Net, times: List[float], number: int) -> Iterator[None]:
    """Adds the milliseconds that it was open."""
    wait = torch.cuda.synchronize if net.context.device.type == "cuda" else lambda: None
    wait()
    began = clock.perf_counter()
    yield
    wait()
    times[number] += 1e3 * (clock.perf_counter() - began)


def device_query(options: argparse.Namespace) -> None:
    """Shows the card of -gpu, or all cards. Raises UserError if there is none."""
    log.info("caffe.cpp:138", f"Querying GPUs {options.gpu or 'all'}")
    for number in _cards(options.gpu or "all", "device_query"):
        card = torch.cuda.get_device_properties(number)
        for name, value in (("Device id", number), ("Major revision number", card.major),
                            ("Minor revision number", card.minor), ("Name", card.name),
                            ("Total global memory", card.total_memory),
                            ("Number of multiprocessors", card.multi_processor_count)):
            log.info("common.cpp:222", f"{name + ':':<31}{value}")


def _device(options: argparse.Namespace, place: str) -> str:
    """Where to compute, as torch names it, in the precision of -precision; says so in the log."""
    device = "cpu"
    if options.gpu:
        require_card(options.gpu, f"-gpu {options.gpu}")
        device = f"cuda:{options.gpu}"
        log.info(place, f"Use GPU with device ID {options.gpu}")
        log.info(place, f"GPU device name: {torch.cuda.get_device_name(int(options.gpu))}")
    else:
        log.info(place, "Use CPU.")
    said = precision.use(options.precision, device)
    if said:
        log.info("engine", said)
    return device


def _cards(gpu: str, asked: str = "") -> List[int]:
    """The numbers of the cards of -gpu; none for "". asked: what asks for them, for the error."""
    if not gpu:
        return []
    most = "0" if gpu == "all" else max(gpu.split(","), key=int)
    require_card(most, asked or f"-gpu {gpu}")
    return list(range(torch.cuda.device_count())) if gpu == "all" else [int(one) for one in gpu.split(",")]


def require_card(number: str, asked: str) -> None:
    """Raises UserError if there is no such card, or none that PyTorch can use. asked: what asks for it."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number) >= count:
        found = ("is built for the processor only" if torch.version.cuda is None else
                 f"sees {count or 'no'} graphics card{'s' * (count > 1)} of NVIDIA")
        raise UserError(f"{asked}: PyTorch {torch.__version__} {found}")


def _net(options: argparse.Namespace, phase: int, device: str) -> Net:
    if ranks.place():
        raise UserError("`test` and `time` compute in one process, but RANK and WORLD_SIZE are set, as for several")
    definition = messages.read_text(options.model, "NetParameter")
    return Net(definition, phase, options.level, _stages(options), device)


def _stages(options: argparse.Namespace) -> List[str]:
    return [stage for stage in options.stage.split(",") if stage]
