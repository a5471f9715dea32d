"""A prepared folder and a trained run that the tests of the tools share."""
import pytest

from common import experiment
from tests import small_data
from tools.training import run
from tools.training.caffe_process import Engine

SMALL = ["solver.batch_size=8", "solver.max_iter=12", "solver.snapshot=4", "solver.test_interval=4",
         "solver.display=1", "losses.gabor.weight=1e-3"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return small_data.prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def small():
    return experiment.load("xie2019a/fer2013-toy-center-gabor", SMALL)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data, small):
    return run.train(small, data, str(tmp_path_factory.mktemp("runs") / "a run"), None, Engine(1))
