"""One training by one solver."""
import os

from tools.training import caffe_process
from tools.training.schedules.base import Schedule, Training


class Single(Schedule):

    def describe(self) -> str:
        return "one training of {max_iter} iterations".format(**self.experiment.solver)

    def train(self, training: Training) -> None:
        run = training.run
        caffe_process.train(run, training.weights, training.engine, os.path.basename(run.folder))
