"""The training loop (solver.cpp): gradients, tests, log lines, snapshots, in Caffe's order and words."""
import collections
import os
import time
from typing import Any, Callable, Deque, List, Optional, Set

import torch
from google.protobuf import text_format

from common.errors import UserError

from . import messages, policies, snapshot, solver_param, updates
from .net import Net
from .ranks import ALONE

STOP, SNAPSHOT = "stop", "snapshot"


class Solver:
    """Trains a net as a SolverParameter says.

    net, test_nets  the nets; those for tests share the parameters of the layers with the same names
    iteration       how many updates were made

    Raises UserError for what Caffe refuses and for what the engine does not support.
    """

    def __init__(self, param: Any, log: Any, device: str = "cpu", start: Optional[Callable[[Any], Any]] = None,
                 ranks: Any = ALONE):
        """param: a SolverParameter, see `solver_param.read`; log: the module `log`, or what has its `info`; device: as
        torch names it; start: makes the start weights of the SolverParameter, whose random_seed is then set, as a
        NetParameter, or None for those of the net itself; ranks: who trains together (see `ranks.Group`)."""
        self.param = messages.SolverParameter()
        self.param.CopyFrom(param)
        self.log, self.ranks, self.iteration, self._step = log, ranks, 0, 0
        self._hdf5 = self.param.snapshot_format == messages.SolverParameter.HDF5
        solver_param.upgrade(self.param)
        solver_param.check(self.param)
        log.info("solver.cpp:45", "Initializing solver from parameters: \n"
                 + text_format.MessageToString(self.param).rstrip())
        if self.param.random_seed < 0:
            self.param.random_seed = ranks.first((time.time_ns() ^ os.getpid()) % 2 ** 31)
            log.info("engine", f"random_seed is not set; that of this training is {self.param.random_seed}")
        if self.param.debug_info:
            log.info("engine", "debug_info is ignored")
        seed = self.param.random_seed
        ranks.seed(seed)
        definition = solver_param.train_net(self.param)
        log.info("solver.cpp:102", f"Creating training net from {definition.source}")
        self.net = _net(definition, device, seed, None, ranks)
        if ranks.rank == 0 and (self.param.snapshot or self.param.snapshot_after_train):
            snapshot.require_writable(self.net, self.param.snapshot_prefix, self._hdf5)
        self._updater = updates.Updater(self.net.parameters, self.param)
        made = start(self.param) if start and self.net.parameters and ranks.rank == 0 else None
        if made:
            snapshot.copy_weights(self.net, made, "the start weights")
        self._load(self.net)
        self.test_nets: List[Net] = []
        for number, definition in enumerate(solver_param.test_nets(self.param)):
            log.info("solver.cpp:190", f"Creating test net (#{number}) specified by {definition.source}")
            self.test_nets.append(_net(definition, device, seed + number + 1, self.net, ranks))
            self._load(self.test_nets[-1])
        self._losses: Deque[float] = collections.deque(maxlen=self.param.average_loss)
        self._requests: Set[str] = set()
        self._stopped = False
        self._shown, self._clock = 0, time.monotonic()
        log.info("solver.cpp:57", "Solver scaffolding done.")

    def request(self, what: str) -> None:
        """Asks for STOP or SNAPSHOT, e.g. in a handler of signals. The solver looks for it after each iteration and
        before each pass of a test."""
        self._requests.add(what)

    def solve(self, resume: str = "") -> None:
        """Trains up to max_iter. resume: a solver's state to go on from. Raises UserError as `step` and `restore`."""
        self.log.info("solver.cpp:289", f"Solving {self.net.name}")
        self.log.info("solver.cpp:290", f"Learning Rate Policy: {self.param.lr_policy}")
        if resume:
            self.log.info("solver.cpp:297", f"Restoring previous solver status from {resume}")
            self.restore(resume)
        self.step(self.param.max_iter - self.iteration)
        if self.param.snapshot_after_train and not self._due(self.param.snapshot):
            self.snapshot()
        if self._stopped:
            self.log.info("solver.cpp:311", "Optimization stopped early.")
            return
        if self._due(self.param.display):
            with torch.no_grad():
                self.net.forward()
            self._losses.append(self.net.loss.item())
            self.log.info("solver.cpp:327", f"Iteration {self.iteration}, loss = {self._smoothed():g}")
        if self._due(self.param.test_interval):
            self.test()
        self.log.info("solver.cpp:332", "Optimization Done.")

    def step(self, iterations: int) -> None:
        """Makes so many updates, with the tests, log lines and snapshots that are due; fewer after a request to stop.

        Raises UserError if a loss is NaN or infinite. (Caffe goes on, and writes weights of NaN.) All ranks begin with
        the weights and the history of rank 0.
        """
        self.ranks.copy_first([one.blob for one in self.net.parameters] + self._updater.history)
        self._losses.clear()
        self._stopped = False
        self._clock = time.monotonic()
        end = self.iteration + iterations
        while self.iteration < end:
            if self._due(self.param.test_interval) and (self.iteration or self.param.test_initialization):
                self.test()
                if self._stopped:
                    return
            self._losses.append(self._gradients())
            shown = self._due(self.param.display)
            if shown:
                self._show()
            self._update(shown)
            self.iteration += 1
            asked = self._asked()
            if self._due(self.param.snapshot) or asked == SNAPSHOT:
                self.snapshot()
            if asked == STOP:
                self._stopped = True
                return

    def test(self) -> None:
        """Runs all test nets and prints the means of their outputs."""
        for number, net in enumerate(self.test_nets):
            if not self._stopped:
                self._test(number, net)

    def snapshot(self) -> None:
        """Writes the weights and the solver's state, if this is rank 0. Raises UserError if they cannot be written."""
        if self.ranks.rank:
            return
        kind, end = ("HDF5", snapshot.HDF5) if self._hdf5 else ("binary proto", "")
        start = f"{self.param.snapshot_prefix}_iter_{self.iteration}"
        weights, state = f"{start}.caffemodel{end}", f"{start}.solverstate{end}"
        places = ("solver.cpp:474", "sgd_solver.cpp:296") if self._hdf5 else ("solver.cpp:464", "sgd_solver.cpp:284")
        self.log.info(places[0], f"Snapshotting to {kind} file {weights}")
        snapshot.write_weights(self.net, weights)
        self.log.info(places[1], f"Snapshotting solver state to {kind} file {state}")
        snapshot.write_state(snapshot.State(self.iteration, self._step, weights,
                                            [one.cpu().numpy() for one in self._updater.history]), state)

    def restore(self, path: str) -> None:
        """Goes on from a solver's state of the engine or of Caffe: weights, history, iteration, and, unlike Caffe, the
        position in the data and the random numbers. Raises UserError if a file is damaged or does not fit."""
        history = self._updater.history
        state = snapshot.read_state(path, [tuple(one.shape) for one in history])
        if state.learned_net:
            snapshot.load_weights(self.net, state.learned_net)
        if not path.endswith(snapshot.HDF5):  # then Caffe says nothing
            self.log.info("sgd_solver.cpp:336", "SGDSolver: restoring history")
        for ours, stored in zip(history, state.history):
            ours.copy_(torch.from_numpy(stored))
        self.iteration = self._shown = state.iteration
        self._step = state.current_step
        self.net.seek(self.iteration * self.param.iter_size)
        interval = self.param.test_interval
        tests = -(-self.iteration // interval) - (not self.param.test_initialization) if interval else 0
        for net, passes in zip(self.test_nets, self.param.test_iter):
            net.seek(max(0, tests) * passes)

    def _load(self, net: Net) -> None:
        for names in self.param.weights:
            snapshot.load_files(net, names, self.log)

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.iteration % interval == 0

    def _asked(self) -> str:
        requests = self.ranks.agreed(self._requests, (STOP, SNAPSHOT))
        for what in (STOP, SNAPSHOT):
            if what in requests:
                self._requests.discard(what)
                return what
        return ""

    def _gradients(self) -> float:
        """Sums the gradients of iter_size passes. Returns their mean loss."""
        total: Any = 0.0  # a tensor after the first pass, read once only: a card would wait
        for _ in range(self.param.iter_size):
            self.net.forward()
            self.net.backward()
            total += self.net.loss.detach()
        loss = float(total) / self.param.iter_size
        if not abs(loss) < float("inf"):
            raise UserError(f"iteration {self.iteration}: the loss is {loss:g}; the training stops, and nothing was "
                            "written from this iteration on (Caffe would go on and write weights of NaN); try a "
                            "smaller base_lr, or clip_gradients")
        self.ranks.require_alike(loss, f"iteration {self.iteration}: the loss")
        self.net.sum_gradients()
        return loss

    def _update(self, shown: bool) -> None:
        rate, step = policies.rate(self.param, self.iteration, self._step)
        if self.param.lr_policy == "multistep" and step != self._step:
            self.log.info("sgd_solver.cpp:50", f"MultiStep Status: Iteration {self.iteration}, step = {step}")
        self._step = step
        if shown:
            self.log.info("sgd_solver.cpp:112", f"Iteration {self.iteration}, lr = {rate:g}")
        self._updater.apply(rate, self.iteration, self.log.info)

    def _smoothed(self) -> float:
        return sum(self._losses) / len(self._losses)

    def _show(self) -> None:
        now = time.monotonic()
        took, self._clock = now - self._clock, now
        speed = (self.iteration - self._shown) / (took or 1)
        self._shown = self.iteration
        self.log.info("solver.cpp:239", f"Iteration {self.iteration} ({speed:g} iter/s, {took:g}s/{self.param.display} "
                      f"iters), loss = {self._smoothed():g}")
        for line in self.net.lines("Train", self.net.blobs):
            self.log.info("solver.cpp:258", line)

    def _test(self, number: int, net: Net) -> None:
        self.log.info("solver.cpp:347", f"Iteration {self.iteration}, Testing net (#{number})")
        passes, loss, sums = self.param.test_iter[number], 0.0, {}  # type: int, Any, Any
        for _ in range(passes):
            self._act_on_requests()
            if self._stopped:
                self.log.info("solver.cpp:395", "Test interrupted.")
                return
            with torch.no_grad():
                net.forward()
            loss += net.loss
            for name in net.outputs:
                blob = net.blobs[name]
                sums[name] = blob.clone() if name not in sums else sums[name].add_(blob)
        if self.param.test_compute_loss:
            self.log.info("solver.cpp:401", f"Test loss: {float(loss) / passes:g}")
        for line in net.lines("Test", {name: total / passes for name, total in sums.items()}):
            self.log.info("solver.cpp:414", line)

    def _act_on_requests(self) -> None:
        asked = self._asked()
        while asked:
            if asked == SNAPSHOT:
                self.snapshot()
            self._stopped |= asked == STOP
            asked = self._asked()


def _net(definition: solver_param.Definition, device: str, seed: int, share: Any, ranks: Any) -> Net:
    state = definition.net.state
    return Net(definition.net, state.phase, state.level, list(state.stage), device, seed, share, ranks)
