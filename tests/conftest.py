"""What several tests share."""
import os
import shutil

import pytest

from common import machine

os.environ.setdefault("GLOG_minloglevel", "2")
# Two threads gain nothing on nets this small, and lose much where other work wants the processors too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked thorough, unless the command names that marker."""
    if "thorough" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Note on a test whether one of its parts failed, for `tmp_path` below."""
    outcome = yield
    item.failed = getattr(item, "failed", False) or outcome.get_result().failed


@pytest.fixture(autouse=True)
def computes():
    """What a test chooses to compute nets with is not what the next one does."""
    before = machine.device()
    yield
    machine.use(before)


@pytest.fixture
def tmp_path(request, tmp_path):
    """The test's folder, which is removed after it unless it failed: pytest would keep 28 GB until the end."""
    yield tmp_path
    if not getattr(request.node, "failed", False):
        shutil.rmtree(tmp_path, ignore_errors=True)
