"""The Docker image: built from the Dockerfile with podman, on a Debian 11 from mmdebstrap, and used with the commands
of docs/installation.md. Needs root, the network, podman, runc, mmdebstrap and the environment of ./fer."""
import csv
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.docker
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "env"))
import host  # noqa: E402

USER = 4321  # of nobody here, and not root
SOLVER = "prototxt/xie2019a/fer2013-toy-center-gabor/solver.prototxt"
# Limits that podman may set in a container, control groups by their old manager, and the network of the host.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{0}/store"
runroot = "{0}/run"
"""
# What lies in a project's folder and must not get into the image.
JUNK = (".fer/x", ".git/x", "data/fer2013/train/data.mdb", "runs/x", "models/x.caffemodel", "models/x.solverstate",
        "models/x.pth", "mine/data.mdb", "faces.csv", "common/__pycache__/x.pyc", ".hypothesis/x", ".pytest_cache/x",
        ".ruff_cache/x", ".snakemake/x", "caffe.INFO", "tests/__pycache__/x.pyc")


def tracked():
    names = subprocess.check_output(["git", "-C", str(ROOT), "ls-files", "-z"], universal_newlines=True).split("\0")
    return sorted(name for name in names if name and (ROOT / name).exists())


def copy(folder):
    """The project as git would check it out, with the changes of this working tree."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(ROOT / name), str(folder / name))


# Prints for each of the caffemodels in a folder whether those of another folder have its weights, bit for bit.
SAME_WEIGHTS = """
import pathlib, sys
from caffe.proto import caffe_pb2
def weights(path):
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    return [(layer.name, [blob.SerializeToString() for blob in layer.blobs]) for layer in net.layer]
one, other = map(pathlib.Path, sys.argv[1:])
for path in one.rglob("*.caffemodel"):
    print(weights(path) == weights(other / path.relative_to(one)))
"""


def others_files(folder):
    """The files in a folder that do not belong to the user whose commands made it."""
    return [str(path) for path in [folder, *folder.rglob("*")] if path.lstat().st_uid != USER]


def documented():
    """The commands of the page's part on Docker, each on one line."""
    page = (ROOT / "docs/installation.md").read_text()
    block = re.search(r"## Docker\n.*?\n```\n(.*?)```", page, re.S)
    return block.group(1).replace("\\\n", " ").splitlines()


class Docker:
    """Commands of the page, run in a copy of the project by podman, as an ordinary user's id."""

    def __init__(self, folder):
        self.folder, self.project = folder, folder / "project"
        for name in ("bin", "project", "tmp"):
            (folder / name).mkdir()
        (folder / "containers.conf").write_text(CONTAINERS)
        (folder / "storage.conf").write_text(STORAGE.format(folder))
        # A kernel of OpenBLAS that is set on this machine holds for the launcher, and so for the image, too.
        self.program("docker", 'command=$1; shift\nexec podman "$command" '
                     '$([ "$command" != run ] || echo ${OPENBLAS_CORETYPE:+-e OPENBLAS_CORETYPE}) "$@"')
        self.program("id", f"echo {USER}")
        self.variables = dict(os.environ, PATH=f"{folder}/bin:{os.environ['PATH']}", TMPDIR=str(folder / "tmp"),
                              CONTAINERS_CONF=str(folder / "containers.conf"),
                              CONTAINERS_STORAGE_CONF=str(folder / "storage.conf"))

    def program(self, name, line):
        (self.folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def shell(self, line, timeout=600):
        """Status, stdout and stderr of a line of shell."""
        with subprocess.Popen(["sh", "-c", line], cwd=str(self.project), env=self.variables, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, start_new_session=True) as p:
            try:
                out, said = p.communicate(timeout=timeout)
                return p.returncode, out, said
            except BaseException:
                # Podman then ends what runs in its containers; killed, it would leave that alone with their files.
                os.killpg(p.pid, signal.SIGTERM)
                raise

    def start_of(self, line):
        """The page's `docker run ... caffe-fer` of a command, with options for `run` in between."""
        return line[:line.index("caffe-fer ", line.index(":/caffe-fer")) + len("caffe-fer ")]

    def run(self, command, options="", timeout=600):
        start = self.start_of(documented()[1]).replace("run ", f"run {options} ", 1)
        return self.shell(start + command, timeout)

    def launcher(self, command):
        """The same command by ./fer, in the same folder."""
        variables = dict(os.environ, FER_ENV_DIR=os.environ.get("FER_ENV_DIR") or str(ROOT / ".fer"))
        p = subprocess.run([str(self.project / "fer")] + command, cwd=str(self.project), env=variables,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=1200)
        assert p.returncode == 0, p.stderr
        return p.stdout


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    # `kill` ends the tests as Ctrl-C does, so that nothing stays.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = Docker(tmp_path_factory.mktemp("docker"))
    try:
        build_image(made)
        yield made
    finally:
        signal.signal(signal.SIGTERM, before)
        made.shell("podman rm -af -t 0; podman rmi -af; podman system reset -f")
        # Podman mounts its storage on itself, and a command that was interrupted leaves a container's.
        with open("/proc/self/mounts") as f:
            mounted = [line.split()[1] for line in f if line.split()[1].startswith(f"{made.folder}/")]
        for at in sorted(mounted, reverse=True):
            subprocess.run(["umount", "--lazy", at], check=False)
        shutil.rmtree(str(made.folder))


def build_image(made):
    """The image of the page's first command, in a copy of the project that has more than git tracks; afterwards the
    copy has what git tracks, and belongs to USER. Skips the tests where podman does not work."""
    copy(made.project)
    for name in JUNK:
        (made.project / name).parent.mkdir(parents=True, exist_ok=True)
        (made.project / name).write_text("x")
    base = made.folder / "base.tar"
    keys = [f"--keyring={name}" for name in host.KEYRINGS if os.path.exists(name)]
    mirror = os.environ.get("FER_DEBIAN_MIRROR")
    subprocess.check_call(["mmdebstrap", "--quiet", "--variant=minbase"] + keys + [host.SUITE, str(base)] +
                          ([mirror] if mirror else []))
    status, _, said = made.shell(f"podman import -q {base} docker.io/library/debian:bullseye-slim && "
                                 "podman run --rm docker.io/library/debian:bullseye-slim true")
    base.unlink()
    if status:
        pytest.skip(f"podman does not work on this machine: {said.strip()}")
    build = documented()[0]
    assert build == "docker build -t caffe-fer ."
    if host.certificates():  # a network's own
        build = build.replace(" -t", f" --secret id=ca,src={host.certificates()} -t")
    for name in ("FER_DEBIAN_MIRROR", "PIP_INDEX_URL", "PIP_TRUSTED_HOST"):
        if os.environ.get(name):
            build = build.replace(" -t", f" --build-arg {name} -t")
    status, out, said = made.shell(build, 1800)
    assert status == 0, (out + said)[-3000:]
    shutil.rmtree(str(made.project))
    copy(made.project)
    for place, _, leaves in os.walk(str(made.project)):
        for name in ["."] + leaves:
            os.chown(os.path.join(place, name), USER, USER)


def test_the_image_has_what_git_tracks(docker):
    status, out, said = docker.shell("docker run --rm caffe-fer find /caffe-fer -type f")
    assert status == 0, said
    found = {os.path.relpath(line, "/caffe-fer") for line in out.splitlines() if "/__pycache__/" not in line}
    assert sorted(found) == sorted(set(tracked()) - {".dockerignore"})


def test_secrets_stay_out_of_the_image(docker):
    status, out, _ = docker.shell("docker run --rm caffe-fer sh -c 'ls /run/secrets; ls /etc/apt/apt.conf.d "
                                  "/etc/apt/trusted.gpg.d; env'")
    assert status == 0
    assert "caffe-fer.gpg" not in out and "00caffe-fer" not in out and "keyring" not in out.split("\n")


def test_variables_are_the_launchers(docker):
    """One rule for the kernel of OpenBLAS; a value from outside is kept, and a wrong one refused."""
    show = "sh -c 'echo $OPENBLAS_CORETYPE $PYTHONPATH'"
    ours = docker.launcher(["shell", "-c", "echo $OPENBLAS_CORETYPE"]).strip()
    assert docker.run(show)[1].split() == ([ours] if ours else []) + ["/caffe-fer"]
    assert docker.run(show, "-e OPENBLAS_CORETYPE=Nehalem")[1].split()[0] == "Nehalem"
    status, _, said = docker.run(show, "-e OPENBLAS_CORETYPE=Foo")
    assert (status, said.startswith("fer: OPENBLAS_CORETYPE is 'Foo', expected")) == (2, True)
    assert docker.run("nonexistent")[::2] == (127, "fer: nonexistent: No such file or directory\n")


def test_a_training_has_the_launchers_bytes(docker):
    """prepare and `caffe train` as on the page, with fewer iterations."""
    prepare, train = documented()[2:]
    numbers = random.Random(1)
    with open(str(docker.project / "fer2013.csv"), "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["emotion", "pixels", "Usage"])
        for usage, count in (("Training", 150), ("PublicTest", 20), ("PrivateTest", 20)):
            for number in range(count):
                pixels = " ".join(str(numbers.randrange(256)) for _ in range(48 * 48))
                table.writerow([number % 7, pixels, usage])
    status, _, said = docker.shell(prepare)
    assert status == 0, said
    solver = docker.project / SOLVER
    text = re.sub(r"(?m)^(max_iter|snapshot|test_interval): .*", r"\1: 4", solver.read_text())
    solver.write_text(re.sub(r"(?m)^test_iter: .*", "test_iter: 1", text))
    model = docker.project / "models/xie2019a-fer2013-toy-center-gabor_iter_4.caffemodel"
    status, _, said = docker.shell(train.replace("run ", "run -e OPENBLAS_NUM_THREADS=1 ", 1))
    assert status == 0, said
    assert model.stat().st_uid == USER and others_files(docker.project / "data") == []
    first = model.read_bytes()
    model.unlink()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    docker.launcher(["caffe", "train", "-solver", SOLVER])
    assert model.read_bytes() == first


def test_a_layer_that_fails_ends_caffe(docker):
    """As process 1, Caffe would wait for ever."""
    (docker.project / "net.prototxt").write_text(
        'layer { name: "a" type: "Python" top: "a" python_param { module: "nonexistent" layer: "No" } }\n')
    (docker.project / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 solver_mode: CPU\n')
    began = time.monotonic()
    status, _, said = docker.run("caffe train -solver solver.prototxt", timeout=120)
    assert status and "nonexistent" in said
    assert time.monotonic() - began < 60


def test_an_interrupt_lets_caffe_write_its_snapshot(docker):
    (docker.project / "solver.prototxt").write_text("""base_lr: 0.1 lr_policy: "fixed" max_iter: 100000000 display: 1
        snapshot_prefix: "s" solver_mode: CPU net_param {
        layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 9 dim: 9 } } }
        layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 9 } }
        layer { name: "r" type: "Reduction" bottom: "f" top: "r" loss_weight: 1 } }""")
    for command in ("caffe", "./fer caffe"):
        line = docker.start_of(documented()[1]) + command + " train -solver solver.prototxt"
        process = subprocess.Popen(["sh", "-c", "exec " + line], cwd=str(docker.project), env=docker.variables,
                                   stderr=subprocess.PIPE, universal_newlines=True)
        for shown in process.stderr:
            if "Iteration 9 " in shown:
                break
        process.send_signal(signal.SIGINT)
        assert "Optimization stopped early" in process.communicate(timeout=60)[1]
        assert process.returncode == 0
        made = list(docker.project.glob("s_iter_*"))
        assert sorted(path.suffix for path in made) == [".caffemodel", ".solverstate"]
        for path in made:
            path.unlink()


@pytest.mark.parametrize("command", [
    "./fer --version", "./fer experiments xie2019a/fer2013-toy", "./fer setup", "./fer prepare --help",
    "./fer test tests/test_environment.py tests/layers/test_parameters.py -q",
    "python3 -c 'import matplotlib.pyplot as p; p.plot([1]); p.savefig(\"plot.png\")'", "snakemake --version",
    "bash -c 'cd; touch made'"])
def test_commands_of_a_user_that_the_image_does_not_know(docker, command):
    status, out, said = docker.run(command)
    assert status == 0, out + said
    assert "Traceback" not in said and "ermission" not in said, said


def test_the_demo_has_the_launchers_figures(docker):
    """With a tenth of its iterations, which otherwise take most of the time of these tests. Last, because it takes
    minutes nevertheless."""
    settings = docker.project / "experiments/xie2019a/defaults.yml"
    text = settings.read_text()
    for line, shorter in (("max_iter: 1000\n", "max_iter: 100\n"), ("snapshot: 500\n", "snapshot: 50\n")):
        assert text.count(line) == 1
        text = text.replace(line, shorter)
    settings.write_text(text)
    status, out, said = docker.shell(documented()[1], 1200)
    assert status == 0, said
    shutil.move(str(docker.project / "runs/demo"), str(docker.folder / "demo"))
    ours = docker.launcher(["demo"])

    def figures(text):
        return [line for line in text.splitlines() if "%" in line]
    assert figures(out) == figures(ours) and len(figures(out)) == 2
    assert others_files(docker.folder / "demo") == []
    # The files have the paths of the data, which differ.
    compared = docker.launcher(["python", "-c", SAME_WEIGHTS, "runs/demo", str(docker.folder / "demo")])
    assert compared.split() == ["True"] * 4  # snapshots halfway and at the end
