"""A solver's prototxt: read, brought to Caffe's newest form, checked, and the nets that it names."""
import os
from typing import Any, List, NamedTuple

from common.errors import UserError

from . import messages, policies

# In the order of the old enumeration `solver_type`.
_OLD_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
_NETS = ("train_net_param", "train_net", "net_param", "net")


class Definition(NamedTuple):
    """A net of a solver: the NetParameter with its phase, level and stages in `state`, and where it is from, in
    Caffe's words."""

    net: Any
    source: str


def read(path: str) -> Any:
    """Reads a solver's prototxt. Returns a SolverParameter with `type` in place of `solver_type` and with Caffe's
    default for `snapshot_prefix`. Raises UserError."""
    param = messages.read_text(path, "SolverParameter")
    stem = os.path.splitext(path)[0]
    if not param.HasField("snapshot_prefix"):
        param.snapshot_prefix = stem
    elif os.path.isdir(param.snapshot_prefix):
        param.snapshot_prefix = os.path.join(param.snapshot_prefix, os.path.basename(stem))
    return param


def upgrade(param: Any) -> None:
    """Replaces the old field `solver_type` by `type`. Raises UserError if both are set."""
    if not param.HasField("solver_type"):
        return
    if param.HasField("type"):
        raise UserError("solver: found both solver_type and type, expected type only")
    param.type = _OLD_TYPES[param.solver_type]
    param.ClearField("solver_type")


def check(param: Any) -> None:
    """Raises UserError for what Caffe refuses and for what the engine does not support. The types of solvers are
    checked by `updates.Updater`."""
    policies.check(param)
    for field, least in (("average_loss", 1), ("iter_size", 1), ("max_iter", 0), ("display", 0), ("snapshot", 0),
                         ("test_interval", 0)):
        if getattr(param, field) < least:
            raise UserError(f"solver: {field} {getattr(param, field)}, expected {least} or more")
    if param.snapshot_diff:
        raise UserError("solver: snapshot_diff is not supported by the engine")
    if (param.snapshot or param.snapshot_after_train) and not param.snapshot_prefix:
        raise UserError("solver: snapshots are asked for, but snapshot_prefix is missing")
    if any(count < 1 for count in param.test_iter):
        raise UserError(f"solver: test_iter {min(param.test_iter)}, expected 1 or more")


def train_net(param: Any) -> Definition:
    """The net that is trained. Raises UserError if there is not exactly one."""
    given = [field for field in _NETS if param.HasField(field)]
    if len(given) != 1:
        raise UserError(f"solver: found {' and '.join(given) or 'no net to train'}, expected one of "
                        f"{', '.join(_NETS)}")
    made = _definition(param, given[0], getattr(param, given[0]))
    return _with_state(made, messages.TRAIN, param.train_state)


def test_nets(param: Any) -> List[Definition]:
    """The nets that are tested, in Caffe's order: those of test_net_param, of test_net, and for each further test_iter
    that of net_param or net. Raises UserError for a number that does not fit."""
    made = [_definition(param, field, one) for field in ("test_net_param", "test_net") for one in getattr(param, field)]
    count = len(param.test_iter)
    generic = [field for field in ("net_param", "net") if param.HasField(field)]
    if count < len(made) or count > len(made) and not generic:
        raise UserError(f"solver: {count} test_iter, expected one for each of the {len(made)} test nets")
    for _ in range(count - len(made)):
        made.append(_definition(param, generic[0], getattr(param, generic[0])))
    if param.test_state and len(param.test_state) != count:
        raise UserError(f"solver: {len(param.test_state)} test_state, expected one for each of the {count} test nets, "
                        "or none")
    if made and param.test_interval <= 0:
        raise UserError("solver: test_interval is 0, expected 1 or more, because there are test nets")
    states = list(param.test_state) or [messages.NetState()] * count
    return [_with_state(one, messages.TEST, state) for one, state in zip(made, states)]


def _definition(param: Any, field: str, value: Any) -> Definition:
    """A net given in the solver's file, or in a file of its own."""
    if not field.endswith("_param"):
        return Definition(messages.read_text(value, "NetParameter"), f"{field} file: {value}")
    net = messages.NetParameter()
    net.CopyFrom(value)
    return Definition(net, field)


def _with_state(made: Definition, phase: int, state: Any) -> Definition:
    """The solver's own state goes before the net's, and that before the phase's."""
    merged = messages.NetState(phase=phase)
    merged.MergeFrom(made.net.state)
    merged.MergeFrom(state)
    made.net.state.CopyFrom(merged)
    return made
