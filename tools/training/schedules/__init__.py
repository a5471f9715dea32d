"""Training schedules. The settings of an experiment say which one it has; only this package looks at them."""
from common.experiment import Experiment
from tools.training.schedules.adaptive_weights import AdaptiveWeights
from tools.training.schedules.base import Cost, Progress, Schedule, Training
from tools.training.schedules.plateau import Plateau
from tools.training.schedules.self_paced import SelfPaced
from tools.training.schedules.single import Single

__all__ = ["AdaptiveWeights", "Cost", "Plateau", "Progress", "Schedule", "SelfPaced", "Single", "Training", "of"]

# Section of an experiment's settings -> the schedule that it asks for.
SECTIONS: dict[str, type[Schedule]] = {"weighting": AdaptiveWeights, "pacing": SelfPaced, "halving": Plateau}
# What all of them make in a run's folder.
FILES = tuple(name for schedule in SECTIONS.values() for name in schedule.FILES)


def of(experiment: Experiment) -> Schedule:
    """The schedule of an experiment."""
    return next((schedule(experiment) for section, schedule in SECTIONS.items() if getattr(experiment, section)),
                Single(experiment))
