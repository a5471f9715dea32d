"""What `train` refuses before it begins: data that a net, or its data layer, does not take."""
import pytest

from common import experiment, files
from common.errors import UserError
from tests import small_data
from tools.training import groups


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Training images of 60x60, of which nets of 48x48 take windows."""
    return small_data.with_subjects(tmp_path_factory.mktemp("windows"))


def refused(name, data):
    with pytest.raises(UserError) as error:
        groups.require_fitting(experiment.load(name), data)
    return str(error.value)


def test_larger_training_images_than_the_net_takes(windows):
    assert refused("xie2019a/fer2013-toy-softmax", windows) == (
        f"{windows}: made with crops liu2017, whose training images are not cut to the size of the net's input; "
        "xie2019a/fer2013-toy-softmax needs --crops whole")


def test_training_images_that_are_cut_already(tmp_path):
    data = small_data.prepared(tmp_path, ())
    assert refused("liu2017/fer2013-softmax", data) == (
        f"{data}: made with crops whole, whose training images are cut to the size of the net's input; "
        "liu2017/fer2013-softmax needs --crops liu2017")


@pytest.mark.parametrize("crops, taken, refused_by", (
    ("wu2023-small", ("farzaneh2021/synthetic-dacl", "wu2023/synthetic-baseline"), ()),
    ("farzaneh2021-small", ("farzaneh2021/synthetic-dacl",), ("wu2023/synthetic-baseline",))))
def test_five_windows_are_cut_out_of_records_of_any_size(tmp_path, crops, taken, refused_by):
    """Both are 3x56x56; records of the one are 64x64."""
    data = small_data.prepared(tmp_path, ())
    note = files.read_json(data + "/prepare.json")
    files.write_json(data + "/prepare.json", {**note, "shape": [3, 56, 56], "asked": {**note["asked"], "crops": crops}})
    for name in taken:
        groups.require_fitting(experiment.load(name), data)
    for name in refused_by:
        assert f"made with crops {crops}" in refused(name, data)


def test_images_without_a_subject(tmp_path, windows):
    """The same layer says so in a Caffe without this command."""
    name = "liu2017/synthetic-2b-nm"
    groups.require_fitting(experiment.load(name), windows)
    note = files.read_json(windows + "/prepare.json")
    with open(windows + "/manifest.csv", encoding="utf-8") as stream:
        head, *rows = stream.read().splitlines()
    column = head.split(",").index("subject")
    rows = [",".join("" if at == column else cell for at, cell in enumerate(row.split(","))) for row in rows]
    files.write_text(str(tmp_path / "manifest.csv"), "\n".join([head, *rows]) + "\n")
    files.write_json(str(tmp_path / "prepare.json"), {**note, "manifest": files.digest(str(tmp_path / "manifest.csv"))})
    assert refused(name, str(tmp_path)).startswith(
        f"{tmp_path}/manifest.csv: 56 of 56 images have no subject, but tuplets need subjects")
    groups.require_fitting(experiment.load("liu2017/synthetic-softmax"), str(tmp_path))
