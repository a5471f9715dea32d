"""A run that continues on another device: on another engine, on a card, or in another precision."""
import dataclasses
from collections.abc import Sequence

from common import files
from common.machine import Device
from tools.training import run as runs
from tools.training.run import BEFORE, NOTE, Run, device_of


def change(run: Run, device: Device) -> None:
    """Notes in run.json that the training continues on a device, and how far it was trained on which. Leaves a run that
    is finished, or that is trained on this device anyway, as it is. Raises UserError as `run.resume`, if a training is
    running in the folder, and if PyTorch is asked for and is not installed."""
    if device == run.device or run.is_finished:
        return
    runs.require_same_data(run)
    with runs.locked(run):
        info, done = run.info, max(run.snapshots(), default=0)
        before = list(info.get(BEFORE, []))
        if _has_trained(run, before[-1]["up_to"] if before else 0):
            before.append({**dataclasses.asdict(run.device), "up_to": done, "versions": info["versions"]})
            print(f"{run.folder}: was trained on {run.device}, and continues on {device} from iteration {done}")
        elif before and device_of(before[-1]) == device:
            before.pop()  # changed back before anything was trained
        files.write_json(run.path(NOTE), {**info, **dataclasses.asdict(device), "versions": runs.versions(device),
                                          BEFORE: before})


def continuing(begun: Sequence[Run]) -> Run:
    """Of the runs of a group that have begun, the one on whose device the group continues."""
    return ([one for one in begun if not one.is_finished] or begun)[-1]


def _has_trained(run: Run, since: int) -> bool:
    """Whether anything that is kept was trained on the run's present device, which it has had since an iteration. What
    the trainings inside of a schedule have done counts, too; when they did it is not known."""
    return run.has_inner_snapshots or max(run.snapshots(), default=0) > since
