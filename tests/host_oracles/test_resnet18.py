"""torchvision's own ResNet-18, its file converted by `./fer weights convert`, and our nets of it in Caffe: the same
outputs and the same first step of a training. On the host, which has PyTorch; CONTRIBUTING.md says how to run it."""
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

# Its compiled operators, which no ResNet needs, load with the same build of PyTorch only.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
from torchvision.models import resnet18  # noqa: E402

pytestmark = pytest.mark.oracle
ROOT = pathlib.Path(__file__).resolve().parents[2]
SIDE, IMAGES = 96, 6
# The normalisation of the official code of [farzaneh2021].
MEAN, DEVIATION = (0.5752, 0.4495, 0.4012), (0.2086, 0.1911, 0.1827)
BRANCHES = {"conv1": "branch2a", "conv2": "branch2b", "downsample": "branch1"}


def fer(*arguments, status=0):
    """What a command writes: stdout, or stderr if it fails as it should."""
    done = subprocess.run([str(ROOT / "fer"), *map(str, arguments)], cwd=str(ROOT), capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def made(classes=7):
    """torchvision's net; weights and statistics are random and far from their first values."""
    torch.manual_seed(5)
    net = resnet18(num_classes=classes)
    for name, values in net.state_dict().items():
        if name.endswith("running_var") or values.ndim == 1 and name.endswith("weight"):
            values.uniform_(0.5, 1.5)
        elif values.ndim == 1:
            values.normal_(0, 0.5)
    return net


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(torchvision's results, Caffe's)."""
    folder = tmp_path_factory.mktemp("resnet18")
    net = made()
    torch.save(net.state_dict(), folder / "w.pth")
    said = fer("weights", "convert", folder / "w.pth", "--to", "resnet18_raf", "--out", folder / "weights.caffemodel")
    assert "left out: 20 counters num_batches_tracked\nmissing: none\nproven: " in said
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=np.uint8)
    labels = random.integers(0, 7, IMAGES)
    np.savez(folder / "in.npz", images=pixels, labels=labels)
    fer("python", "-m", "tests.host_oracles.resnet18_in_caffe", folder)
    return expected(net, pixels, labels), dict(np.load(folder / "out.npz"))


def expected(net, pixels, labels):
    images = torch.tensor(pixels) / 255
    for channel in range(3):
        images[:, channel] = (images[:, channel] - MEAN[channel]) / DEVIATION[channel]
    pooled = []
    net.avgpool.register_forward_hook(lambda module, given, taken: pooled.append(taken.detach().flatten(1)))
    net.eval()
    with torch.no_grad():
        found = {"fc": net(images).numpy(), "pool5": pooled[0].numpy()}
    net.train()
    found["before"] = {name: values.clone().numpy() for name, values in net.state_dict().items()}
    solver = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    loss = torch.nn.functional.cross_entropy(net(images), torch.tensor(labels))
    loss.backward()
    solver.step()
    found["loss"] = loss.item()
    found["after"] = {name: values.clone().numpy() for name, values in net.state_dict().items()}
    return found


def difference(found, wanted):
    """The largest one, relative to the largest value."""
    return np.abs(found - wanted).max() / np.abs(wanted).max()


def place(name):
    """Where Caffe has a tensor: (layer, number of the blob). Written out from the structure of both nets."""
    module, _, part = name.rpartition(".")
    if module == "fc":
        return "fc", ["weight", "bias"].index(part)
    *block, unit = module.replace("downsample.", "downsample").split(".")
    is_norm = "bn" in unit or unit == "downsample1"
    kind = "" if not is_norm else "bn" if part.startswith("running") else "scale"
    number = ("running_mean", "running_var").index(part) if kind == "bn" else ("weight", "bias").index(part)
    if not block:
        return f"{kind}_conv1" if kind else "conv1", number
    stage, second = int(block[0][-1]) + 1, int(block[1])
    branch = BRANCHES["downsample" if "downsample" in unit else unit.replace("bn", "conv")]
    return f"{kind or 'res'}{stage}{'ab'[second]}_{branch}", number


def in_caffe(found, when, name):
    layer, number = place(name)
    values = found[f"{when} {layer} {number}"]
    if "running" in name:
        values = values / found[f"{when} {layer} 2"][0]
    return values[:, ::-1] if name == "conv1.weight" else values


def test_the_outputs_are_the_same(both):
    wanted, found = both
    for blob in ("pool5", "fc"):
        assert found[blob].shape == wanted[blob].shape and difference(found[blob], wanted[blob]) < 3e-6


def test_the_first_step_of_a_training_is_the_same(both):
    wanted, found = both
    assert abs(found["loss"] - wanted["loss"]) < 1e-5 * wanted["loss"]
    names = [name for name in wanted["after"] if not name.endswith("num_batches_tracked")]
    assert len(names) == 102
    for name in names:
        before, after = (in_caffe(found, when, name) for when in ("before", "after"))
        assert before.shape == wanted["before"][name].shape
        assert difference(before, wanted["before"][name]) < 2e-7, name
        # Also the statistics: both keep 0.9 of them and add 0.1 of the batch's.
        assert difference(after, wanted["after"][name]) < 1e-5, name
        step = wanted["after"][name] - wanted["before"][name]
        assert np.abs(step).max() > 1e-5 and difference(after - before, step) < 2e-3, name


@pytest.mark.parametrize("kind", ["legacy", "float64", "float16", "bfloat16", "parallel", "parameters", "safetensors"])
def test_files_that_pytorch_and_safetensors_wrote(tmp_path, kind):
    net = made(classes=1000)
    state = net.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    exact = state
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "parallel":
        torch.save({"epoch": 3, "state_dict": torch.nn.DataParallel(net).state_dict(), "best": torch.tensor(81.5),
                    "optimizer": torch.optim.SGD(net.parameters(), 0.1).state_dict()}, path)
    elif kind == "parameters":
        torch.save({"model": {name: torch.nn.Parameter(values, values.is_floating_point())
                              for name, values in state.items()}}, path)
    else:
        exact = {name: values.to(getattr(torch, kind)) if values.is_floating_point() else values
                 for name, values in state.items()}
        torch.save(exact, path)
    fer("weights", "convert", path, "--to", "resnet18_base", "--out", tmp_path / "w.caffemodel")
    fer("weights", "convert", tmp_path / "w.caffemodel", "--to", "torchvision", "--out", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    made(classes=1000).load_state_dict(back, strict=True)
    for name, values in back.items():
        np.testing.assert_allclose(values.numpy(), exact[name].float().numpy(), rtol=1.3e-7 * ("running" in name))


def test_a_whole_model_is_refused_without_running_its_pickle(tmp_path):
    torch.save(made(), tmp_path / "w.pth")
    said = fer("weights", "convert", tmp_path / "w.pth", "--to", "resnet18", "--out", tmp_path / "w.caffemodel",
               status=1)
    assert "holds torchvision.models.resnet.ResNet, which is not read from a pickle" in said
    assert not (tmp_path / "w.caffemodel").exists()
