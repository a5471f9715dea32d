"""Training through the real `caffe train`: same bytes twice, after a kill too, and refusals."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import caffe
import numpy as np
import pytest

from common import experiment, files
from common.errors import UserError
from common.machine import Device
from data_prep import prepared_folder
from tests import small_data
from tests.tools.conftest import SMALL
from tools.evaluation import forward
from tools.training import caffe_log, caffe_process, pretrained, run
from tools.training.caffe_process import Engine

NAME = "xie2019a/fer2013-toy-center-gabor"


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_run_has_what_it_should(trained):
    assert trained.snapshots() == [4, 8, 12]
    names = set(os.listdir(trained.folder))
    assert {"caffe.log", "data.json", "deploy.prototxt", "run.json", "solver.prototxt", "train_val.prototxt"} < names
    assert "scratch" not in names
    curves = caffe_log.curves(trained.path("caffe.log"))
    assert [iteration for iteration, _ in curves["val accuracy"]] == [4, 8, 12]
    assert {"train softmax_loss", "train center_loss", "train gabor_loss"} < set(curves)
    assert curves["train softmax_loss"][-1][1] < curves["train softmax_loss"][0][1]


def test_twice_gives_the_same_bytes(tmp_path, data, small, trained):
    again = run.train(small, data, str(tmp_path / "again"), None, Engine(1))
    assert read(again.caffemodel()) == read(trained.caffemodel())


def test_clock_and_position_are_in_the_caffemodel(trained):
    blobs = {layer.name: list(layer.blobs[0].data) for layer in pretrained.read(trained.caffemodel()).layer
             if layer.name in ("train_data", "gabor_loss")}
    assert blobs == {"train_data": [4, 0], "gabor_loss": [4, 0]}  # 12 batches of 8 are 4 passes over 24 faces


def command(data, out, *more):
    return [sys.executable, "-m", "tools.cli", "train", NAME, "--data", data, "--out", out, "--threads", "1"] + [
        word for change in SMALL for word in ("--set", change)] + list(more)


@pytest.mark.parametrize("after", [1, 5, 9])
def test_killed_and_given_again_it_ends_in_the_same_bytes(tmp_path, data, trained, after):
    out = str(tmp_path / "run")
    process = subprocess.Popen(command(data, out), stdout=subprocess.DEVNULL)
    log = os.path.join(out, "caffe.log")
    while not (os.path.exists(log) and f"Iteration {after} (".encode() in read(log)):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(command(data, out), stdout=subprocess.DEVNULL).returncode == 0
    assert read(run.Run(out).caffemodel()) == read(trained.caffemodel())


def test_half_written_snapshot_does_not_count(tmp_path, data, small, trained):
    stopped = run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    # As after a kill between the two renames of the last commit, and within Caffe's writing of the next.
    os.unlink(stopped.path("snapshots", "iter_12.caffemodel"))
    os.makedirs(stopped.path("scratch"))
    with open(stopped.path("scratch", "snapshot_iter_12.caffemodel"), "wb") as stream:
        stream.write(b"half")
    assert stopped.snapshots() == [4, 8]
    run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    assert read(stopped.caffemodel()) == read(trained.caffemodel())


def test_what_a_call_left_that_was_killed_at_its_very_end_is_removed(data, small, trained, copied):
    for folder in ("scratch", "rounds/01/gsf/scratch", "mine/scratch"):
        os.makedirs(copied.path(*folder.split("/")))
    run.train(small, data, copied.folder, None, Engine(1))
    assert not os.path.exists(copied.path("scratch"))
    assert not os.path.exists(copied.path("rounds", "01", "gsf", "scratch"))
    assert os.path.exists(copied.path("mine", "scratch"))  # the user's


def test_moved_run_goes_on(tmp_path, data, small, trained):
    stopped = run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    os.unlink(stopped.path("snapshots", "iter_12.caffemodel"))
    os.rename(str(tmp_path / "run"), str(tmp_path / "moved"))
    moved = run.train(small, data, str(tmp_path / "moved"), None, Engine(1))
    assert read(moved.caffemodel()) == read(trained.caffemodel())


def test_folder_of_another_run_is_refused(data, trained):
    other = experiment.load(NAME, SMALL + ["solver.base_lr=0.1"])
    with pytest.raises(UserError) as error:
        run.train(other, data, trained.folder, None, Engine(1))
    assert str(error.value) == "{}: belongs to another run, whose experiment was {}, not {}; give another --out".format(
        trained.folder, {"solver": {"base_lr": 0.005}}, {"solver": {"base_lr": 0.1}})


def test_a_run_goes_on_that_was_begun_before_an_experiment_had_all_that_it_has_now(tmp_path, data, small, trained):
    """And whose citation was another."""
    older = str(tmp_path / "run")
    shutil.copytree(trained.folder, older)
    for name in ("iter_12.caffemodel", "iter_12.solverstate"):
        os.unlink(os.path.join(older, "snapshots", name))
    path = os.path.join(older, "run.json")
    with open(path) as stream:
        note = json.load(stream)
    del note["experiment"]["pretrained"], note["experiment"]["pacing"]
    note["experiment"]["source"] = "as it was called"
    with open(path, "w") as stream:
        json.dump(note, stream)
    began = os.stat(os.path.join(older, "snapshots", "iter_8.caffemodel")).st_mtime_ns
    again = run.train(small, data, older, None, Engine(1))
    assert os.stat(again.path("snapshots", "iter_8.caffemodel")).st_mtime_ns == began
    assert read(again.caffemodel()) == read(trained.caffemodel())


def test_folder_of_something_else_is_left_alone(tmp_path, data, small):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="exists and is not a run"):
        run.train(small, data, str(tmp_path), None, Engine(1))
    assert os.listdir(str(tmp_path)) == ["thesis.txt"]


def test_two_at_once_in_one_folder(tmp_path, data, small):
    os.makedirs(str(tmp_path / "run"))
    with run.locked(run.Run(str(tmp_path / "run"))):
        with pytest.raises(UserError, match="another training is running"):
            run.train(small, data, str(tmp_path / "run"), None, Engine(1))


def test_exploding_loss_stops_and_names_the_last_good_snapshot(tmp_path, data):
    wild = experiment.load(NAME, SMALL + ["solver.base_lr=1000", "solver.snapshot=1", "solver.max_iter=40"])
    with pytest.raises(UserError, match=r"run: the loss is \S+ at iteration \d+ .*; last good snapshot: "):
        run.train(wild, data, str(tmp_path / "run"), None, Engine(1))


def test_a_net_of_nan_is_never_a_snapshot(tmp_path, data):
    """No loss is shown before it ends, so it is the weights that tell."""
    wild = experiment.load(NAME, SMALL + ["solver.base_lr=1e10", "solver.max_iter=3", "solver.display=0"])
    with pytest.raises(UserError) as error:
        run.train(wild, data, str(tmp_path / "run"), None, Engine(1))
    assert "run: layer conv1 has weights that are NaN or infinite at iteration 3 " in str(error.value)
    assert str(error.value).endswith("last good snapshot: none")
    assert run.Run(str(tmp_path / "run")).snapshots() == [] and not (tmp_path / "run" / "scratch").exists()


def test_weights_that_are_not_finite_are_not_begun_with(tmp_path, data, small, trained):
    def spoil(model):
        next(layer for layer in model.layer if layer.name == "fc1").blobs[0].data[5] = float("-inf")
    weights = changed_model(tmp_path / "w.caffemodel", trained, spoil)
    with pytest.raises(UserError, match="w.caffemodel: layer fc1 has weights that are NaN or infinite"):
        run.train(small, data, str(tmp_path / "run"), weights, Engine(1))
    assert os.listdir(str(tmp_path)) == ["w.caffemodel"]


@pytest.fixture
def copied(tmp_path, trained):
    shutil.copytree(trained.folder, str(tmp_path / "run"))
    return run.Run(str(tmp_path / "run"))


@pytest.mark.parametrize("what", ["caffemodel", "solverstate"])
@pytest.mark.parametrize("kept", [0, 1 / 2, 0.999])
def test_a_cut_snapshot_is_named_and_the_one_before_goes_on(data, small, trained, copied, what, kept):
    os.unlink(copied.weights_of(12))
    path = copied.path("snapshots", "iter_8." + what)
    os.truncate(path, int(kept * os.path.getsize(path)))
    with pytest.raises(UserError, match=f"iter_8.{what}: .*cut.*remove iter_8.caffemodel"):
        run.train(small, data, copied.folder, None, Engine(1))
    os.unlink(copied.weights_of(8))
    assert read(run.train(small, data, copied.folder, None, Engine(1)).caffemodel()) == read(trained.caffemodel())


def test_a_changed_deploy_net_is_refused_and_trained_anew_it_is_whole(data, small, copied):
    whole = read(copied.path("deploy.prototxt"))
    for change, said in ((lambda path: path.write_text(path.read_text().replace("ReLU", "Sigmoid")), "was changed"),
                         (os.unlink, "was removed")):
        change(pathlib.Path(copied.path("deploy.prototxt")))
        with pytest.raises(UserError, match=f"deploy.prototxt: {said} since the run was trained"):
            copied.caffemodel()
        run.train(small, data, copied.folder, None, Engine(1))
        assert read(copied.path("deploy.prototxt")) == whole and copied.caffemodel() == copied.weights_of(12)


def test_a_changed_manifest_is_refused(tmp_path, small):
    data = small_data.prepared(tmp_path)
    path = os.path.join(data, "manifest.csv")
    os.truncate(path, os.path.getsize(path) - 30)
    with pytest.raises(UserError, match="manifest.csv: was changed, or cut, since it was prepared"):
        run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    os.unlink(path)
    with pytest.raises(UserError, match="manifest.csv: was removed since it was prepared"):
        run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    assert not os.path.exists(str(tmp_path / "run"))


def test_other_numbers_of_records_are_refused(tmp_path, small):
    data, folder = small_data.prepared(tmp_path), str(tmp_path / "run")
    table = os.path.join(data, "train", "records.csv")
    whole = read(table)
    lines = whole.splitlines(keepends=True)
    for content, said in ((lines[:-1], "records.csv: 23 records, but 24 were prepared; prepare the data anew"),
                          (lines[:-1] + [lines[-1][:2]], "records.csv:25: expected key,row,crop"),
                          (lines[1:], "records.csv:1: expected key,row,crop")):
        with open(table, "wb") as stream:
            stream.writelines(content)
        with pytest.raises(UserError, match=said):
            run.train(small, data, folder, None, Engine(1))
        with pytest.raises(UserError, match=said):
            forward.read(data, prepared_folder.read_note(data), "train")
    with open(table, "wb") as stream:
        stream.write(whole)
    images = os.path.join(data, "train", "images")
    shutil.rmtree(images)
    shutil.copytree(os.path.join(data, "test", "images"), images)
    for attempt in (lambda: run.train(small, data, folder, None, Engine(1)),
                    lambda: forward.read(data, prepared_folder.read_note(data), "train")):
        with pytest.raises(UserError, match="train/images: 12 records, but 24 were prepared; prepare the data anew"):
            attempt()
    assert not os.path.exists(folder)


def test_a_changed_manifest_is_refused_wherever_images_are_read(tmp_path):
    data = small_data.prepared(tmp_path, features=())
    with open(os.path.join(data, "manifest.csv"), "a") as stream:
        stream.write("\n")
    for attempt in (lambda: forward.read(data, prepared_folder.read_note(data), "test"),
                    lambda: prepared_folder.faces(data)):
        with pytest.raises(UserError, match="manifest.csv: was changed, or cut, since it was prepared"):
            attempt()


def test_caffes_last_words_are_shown(tmp_path, small):
    data = small_data.prepared(tmp_path)
    path = os.path.join(data, "train", "gabor", "note.json")
    files.write_json(path, dict(files.read_json(path), seed=7))
    with pytest.raises(UserError) as error:
        run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    assert f"layer train_data (LmdbDataLayer): {data}/train/gabor does not match" in str(error.value)
    assert "seed 7 against 0" in str(error.value) and " @ " not in str(error.value)


def test_missing_lmdb_is_named_before_anything_is_written(tmp_path, small):
    data = small_data.prepared(tmp_path)
    os.unlink(os.path.join(data, "train", "gabor", "data.mdb"))
    with pytest.raises(UserError, match="train/gabor: no LMDB here"):
        run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    assert not os.path.exists(str(tmp_path / "run"))


def test_data_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, small):
    data = small_data.prepared(tmp_path, features=())
    with pytest.raises(UserError, match="has no gabor features, which xie2019a/fer2013-toy-center-gabor needs"):
        run.train(small, data, str(tmp_path / "run"), None, Engine(1))
    with pytest.raises(UserError, match="no prepared data here"):
        run.train(small, str(tmp_path), str(tmp_path / "run"), None, Engine(1))
    assert not os.path.exists(str(tmp_path / "run"))


def test_begins_with_given_weights_but_not_with_their_state(tmp_path, data, small, trained):
    fine = run.train(small, data, str(tmp_path / "run"), trained.caffemodel(), Engine(1))
    with_weights = {layer.name for layer in pretrained.read(fine.path("initial.caffemodel")).layer}
    assert with_weights == {"conv1", "relu1", "conv2", "relu2", "fc1", "fc2"}
    first = caffe_log.curves(fine.path("caffe.log"))["train softmax_loss"][0]
    fresh = caffe_log.curves(trained.path("caffe.log"))["train softmax_loss"][0]
    assert first[1] < fresh[1]
    state = pretrained.read(fine.caffemodel())
    assert list(next(layer for layer in state.layer if layer.name == "train_data").blobs[0].data) == [4, 0]


def changed_model(path, trained, change):
    model = pretrained.read(trained.caffemodel())
    change(model)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_weights_that_do_not_fit_are_refused(tmp_path, data, small, trained):
    def widen(model):
        blob = next(layer for layer in model.layer if layer.name == "fc2").blobs[1]
        blob.shape.dim[0] = 8
        blob.data.append(0)

    def rename(model):
        for layer in model.layer:
            layer.name = "other_" + layer.name
    for change, said in ((widen, r"layer fc2 has blobs \(\(7, 384\), \(8,\)\), the net \(\(7, 384\), \(7,\)\)"),
                         (rename, "no layer matches the net's; it has other_")):
        weights = changed_model(tmp_path / "w.caffemodel", trained, change)
        with pytest.raises(UserError, match=said):
            run.train(small, data, str(tmp_path / change.__name__), weights, Engine(1))
    (tmp_path / "w.caffemodel").write_bytes(b"\xff no model")
    with pytest.raises(UserError, match="w.caffemodel: not a caffemodel"):
        run.train(small, data, str(tmp_path / "third"), str(tmp_path / "w.caffemodel"), Engine(1))


def test_weights_equal_pycaffes_reading(trained):
    net = caffe.Net(trained.path("deploy.prototxt"), caffe.TEST, weights=trained.caffemodel())
    model = {layer.name: layer for layer in pretrained.read(trained.caffemodel()).layer}
    np.testing.assert_array_equal(net.params["fc2"][0].data.ravel(), np.float32(model["fc2"].blobs[0].data))


def test_wrong_weights_leave_no_folder(tmp_path, data, small):
    (tmp_path / "w.caffemodel").write_text("text")
    with pytest.raises(UserError, match="w.caffemodel: not a caffemodel"):
        run.train(small, data, str(tmp_path / "run"), str(tmp_path / "w.caffemodel"), Engine(1))
    assert os.listdir(str(tmp_path)) == ["w.caffemodel"]


def test_a_run_without_a_snapshot_may_begin_anew_with_other_settings(tmp_path, data):
    name, folder = "xie2019a/fer2013-toy-center-gabor", str(tmp_path / "run")
    with pytest.raises(UserError, match="the loss is"):
        run.train(experiment.load(name, SMALL + ["solver.base_lr=1e12", "solver.snapshot=0"]), data, folder, None,
                  Engine(1))
    (tmp_path / "run" / "notes.txt").write_text("tried 1e12")
    (tmp_path / "run" / "plots").mkdir()
    trained = run.train(experiment.load(name, SMALL), data, folder, None, Engine(1))
    assert trained.snapshots() == [4, 8, 12]
    assert (tmp_path / "run" / "notes.txt").read_text() == "tried 1e12" and (tmp_path / "run" / "plots").is_dir()
    assert "1e+12" not in read(trained.path("solver.prototxt")).decode()


def test_a_folder_of_the_users_with_a_lock_is_no_run(tmp_path, data, small):
    for name in (".lock", "solver.prototxt", "run.json"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path}: exists and is not a run; give another --out"):
        run.train(small, data, str(tmp_path), None, Engine(1))
    assert {name: (tmp_path / name).read_text() for name in os.listdir(str(tmp_path))} == dict.fromkeys(
        (".lock", "solver.prototxt", "run.json"), "mine")


@pytest.mark.parametrize("what", ["caffemodel", "solverstate"])
def test_a_file_that_a_full_disk_cut_is_no_snapshot(tmp_path, trained, what):
    """Caffe's last bytes go out when it closes the file, which it does not look at."""
    segment, written = caffe_process.Segment(str(tmp_path)), []
    for kind in ("caffemodel", "solverstate"):
        written.append(str(tmp_path / f"snapshot_iter_8.{kind}"))
        shutil.copy(trained.path("snapshots", "iter_8." + kind), written[-1])
    cut = written[what == "solverstate"]
    os.truncate(cut, os.path.getsize(cut) - 1)
    with pytest.raises(UserError, match=f"iter_8.{what}: could not be written completely; the disk mounted at /.* has "
                                        "[0-9.]+ MB"
                                        ):
        caffe_process._commit(segment, None, written, None)
    assert segment.snapshots() == []


@pytest.mark.parametrize("status, words, said", [
    (-9, "I1125 solver.cpp:239] Iteration 3", "there is not enough memory; a smaller solver.batch_size needs less: "),
    (-6, "F1125 12:00:00.0 1 syncedmem.hpp:25] Check failed: *ptr host allocation of size 9 failed",
     "there is not enough memory; a smaller solver.batch_size needs less: "),
    (-6, "F1125 12:00:00.0 1 io.cpp:72] Check failed: proto.SerializeToOstream(&output)",
     "/q/s_iter_4.caffemodel: could not be written completely; the disk mounted at /"),
    (-6, "F1125 12:00:00.0 1 layer.cpp:1] Check failed: other", "caffe train ended with status -6: F1125")])
def test_what_caffe_died_of_is_named(tmp_path, status, words, said):
    (tmp_path / "caffe.log").write_text("I1 s.cpp:1] Snapshotting to binary proto file /q/s_iter_4.caffemodel\n")
    told = caffe_process._failure(caffe_process.Segment(str(tmp_path)), Engine(1), status, [words])
    assert told.startswith(said) and told.endswith(f"caffe train ended with status {status}: {words}")


def test_the_engines_own_advice_is_not_given_twice(tmp_path):
    words = "F1125 12:00:00.0 1 engine] there is not enough memory; a smaller batch_size needs less: out of memory"
    told = caffe_process._failure(caffe_process.Segment(str(tmp_path)), Engine(1, Device("torch")), 1, [words])
    assert told == f"engine train ended with status 1: {words}"
