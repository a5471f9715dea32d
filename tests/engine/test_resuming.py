"""A training with data that go on, Dropout and BatchNorm: the same bytes each time, and after a stop."""
import h5py
import numpy as np
import pytest

from . import training

NET = """
layer { name: "data" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "SOURCE" batch_size: 4 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" dropout_param { dropout_ratio: 0.4 } }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


@pytest.fixture
def net(tmp_path):
    values = np.random.RandomState(0)
    with h5py.File(tmp_path / "data.h5", "w") as stream:
        stream["data"] = values.standard_normal((22, 2, 6, 6)).astype(np.float32)
        stream["label"] = values.randint(0, 3, 22).astype(np.float32)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/data.h5\n")
    return NET.replace("SOURCE", f"{tmp_path}/list.txt")


@pytest.mark.parametrize("settings", [
    'type: "Adam" momentum: 0.9 base_lr: 0.01', 'base_lr: 0.05 momentum: 0.9 lr_policy: "step" stepsize: 5 gamma: 0.5'])
def test_a_resumed_training_is_byte_identical_and_prints_the_same(tmp_path, net, settings):
    path = training.write(tmp_path, f"{settings} iter_size: 3 weight_decay: 0.01 display: 1 average_loss: 1 "
                                    "test_iter: 2 test_interval: 4", net)
    files, lines = [], []
    for stops in ((14,), (14,), (5, 14), (4, 8, 14)):
        done, log = 0, training.Log()
        for stop in stops:
            ours = training.in_engine(path, log=log)
            if done:
                ours.restore(f"{tmp_path}/solver_iter_{done}.solverstate")
            ours.step(stop - done)
            ours.snapshot()
            done = stop
        files.append([(tmp_path / f"solver_iter_14.{kind}").read_bytes() for kind in ("caffemodel", "solverstate")])
        lines.append([line for line in log.lines if "net output" in line])
    assert len(lines[0]) == 14 + 2 * 4
    assert all(one == files[0] for one in files)
    assert all(one == lines[0] for one in lines)
