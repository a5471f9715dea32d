"""The Caffe for cards, seen from the host: what is asked for, its build, and what of the host is shown inside."""
import glob
import hashlib
import io
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from contextlib import redirect_stdout
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "env"), os.path.dirname(os.path.abspath(__file__))]
import arguments  # noqa: E402
import gpu  # noqa: E402
import host  # noqa: E402

if host.marker():
    raise unittest.SkipTest("for the host; this is the environment itself")

import test_launcher  # noqa: E402
from test_launcher import FER, alive, fer, mounts, wait_for  # noqa: E402

setUpModule = test_launcher.setUpModule
FOLDER = fer.folder_of_environments()
ENVIRONMENT = os.path.join(FOLDER, host.key())
KEPT = gpu.kept(FOLDER)

# Stands in for mmdebstrap: makes the archive of a build, after a line of shell.
FAKE = """
set -e; echo "fer: a step" >&2
echo "[  7%%] Building NVCC (Device) object a/b.dir/layers/cuda_compile_1_generated_relu_layer.cu.o" >&2
echo "[ 88%%] Building CXX object src/caffe/CMakeFiles/caffe.dir/net.cpp.o" >&2
%s
mkdir -p "$1/caffe-fer-gpu/etc" "$1/caffe-fer-gpu/lib"
printf 'key %s\\narchitectures 70,86\\n' >"$1/caffe-fer-gpu/etc/caffe-fer"
tar -C "$1" -cf "$2" caffe-fer-gpu
"""

# A process that builds with that stand-in, to be killed.
BUILDER = """
import os, shlex, sys
sys.path.insert(0, sys.argv[1])
import host, gpu
host.missing_tools = list
gpu.NEEDED = 0
def bootstrap(mode, form, target, content, script, hook):
    assert (content, script) == (gpu.CONTENT, 'gpu.sh "70 86"'), script
    archive = shlex.split(hook)[2]
    return ["sh", "-c", sys.argv[3], "sh", os.path.dirname(archive), archive]
host.bootstrap = bootstrap
def check(folder):
    if sys.argv[4] != "runs":
        raise host.Failure("does not run")
try:
    gpu.build(sys.argv[2], (70, 86), check)
except host.Failure as e:
    host.say(str(e))
    sys.exit(e.status)
"""

# A driver with two cards. Its third attribute makes no sense.
STUB = """
#include <string.h>
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int number) { *device = number + 40; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strcpy(name, device == 40 ? "Tesla V9" : "A 10"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (device == 40 ? 7 : 9) : attribute == 76 ? 0 : -1; return 0; }
"""


def content(folder):
    """Path -> digest of all files below a folder, and link -> its target."""
    found = {}
    for at, names, leaves in os.walk(folder):
        for name in names + leaves:
            path = os.path.join(at, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as f:
                    found[path] = hashlib.sha256(f.read()).hexdigest()
    return found


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="fer test "))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def mounts(self):
        """Those of this test, or in the environment; other programs may mount something meanwhile."""
        return [line for line in mounts() if self.folder.split()[-1] in line or ENVIRONMENT in line]


class Asked(Folder):
    def test_the_number_of_the_card(self):
        for line, number in (("train x --data d --gpu 0", "0"), ("train x --gpu=12", "12"), ("train x", None),
                             ("--debug evaluate r --gpu 1", "1"), ("caffe train -gpu 0", "0"),
                             ("caffe train --gpu=3 -solver s", "3"), ("caffe train -gpu=3", "3"),
                             ("engine train -gpu 0", "0"), ("engine time --gpu=1", "1"),
                             ("report r --gpu 0", None), ("shell -c --gpu 0", None), ("train --gpu 0 --gpu 1", "1"),
                             ("reproduce t --gpu 0", "0"), ("predict r --gpu 0", "0"), ("features --gpu 0", "0"),
                             ("respond-ratio r --gpu 0", "0"), ("caffe", None), ("", None)):
            self.assertEqual(gpu.card(line.split()), number, line)

    def test_one_card_only(self):
        for line in ("train x --gpu 0,1", "caffe train -gpu 0,1", "caffe train -gpu all", "train x --gpu",
                     "evaluate r --gpu=", "train x --gpu -1"):
            with self.assertRaisesRegex(host.Failure, "-gpu .*number of one card.*Python layers.*one card only") as e:
                gpu.card(line.split())
            self.assertEqual(e.exception.status, 2)

    def test_pytorch_takes_several_cards(self):
        for line, cards in (("engine train -gpu 0,1", "0,1"), ("engine train -gpu=all", "all"),
                            ("train x --engine torch --gpu 0,1", "0,1"), ("train x --gpu all --engine=torch", "all"),
                            ("demo --gpu 0 --engine torch", "0"), ("evaluate r --engine torch", None),
                            ("--debug train x --engine caffe --gpu 1,2 --engine torch", "1,2")):
            self.assertEqual(gpu.card(line.split()), cards, line)
            self.assertTrue(gpu.on_torch(line.split()), line)
        for line in ("train x", "train x --engine caffe --gpu 0", "train x --engine torch --engine caffe",
                     "train x --engine", "train torch", "caffe train --engine torch", "report r --engine torch", ""):
            self.assertFalse(gpu.on_torch(line.split()), line)
        for line in ("engine train -gpu x", "engine train -gpu", "train x --engine torch --gpu 0,",
                     "train x --engine torch --gpu", "train x --engine torch --gpu -1",
                     "predict r --engine=torch --gpu=", "train x --engine torch --gpu 0;1",
                     "train x --engine torch --gpu 0,all"):
            with self.assertRaisesRegex(host.Failure, "-gpu .*: expected the number of a card.*0,1; or all") as e:
                gpu.card(line.split())
            self.assertEqual(e.exception.status, 2)

    def test_a_training_goes_on_with_its_own_engine(self):
        for name, note in (("run", '{"engine": "torch"}'), ("group/seed01", '{"engine": "torch"}'),
                           ("caffe", '{"engine": "caffe"}'), ("old", "{}"), ("broken", "{"), ("list", "[]")):
            os.makedirs(self.path(name))
            write(self.path(name, "run.json"), note)
        for name, torch in (("run", True), ("group", True), ("caffe", False), ("old", False), ("broken", False),
                            ("list", False), ("nothing", False), ("[", False)):
            words = ["train", self.path(name), "--gpu", "0"]
            self.assertEqual(gpu.on_torch(words), torch, name)
            self.assertFalse(gpu.on_torch(words + ["--engine", "caffe"]), name)
        self.assertEqual(gpu.card(["train", self.path("group"), "--gpu", "0,1"]), "0,1")
        for line in (["evaluate", self.path("run")], ["train"], ["train", "--gpu", "0"]):
            self.assertFalse(gpu.on_torch(line), line)

    def test_options_of_setup(self):
        for line, wanted in (("", None), ("--gpu", (60, 70, 75, 80, 86)), ("--gpu --arch 8.6,70", (70, 86)),
                             ("--arch=86 --gpu", (86,)), ("--gpu --arch 7.0,7.0", (70,))):
            self.assertEqual(arguments.parse(line.split()), (wanted, None), line)
        for line, said in (("--gpu --arch 9.0", "--arch 9.0: expected compute capabilities"), ("--arch 70", "needs"),
                           ("--gpu --arch", "--arch has no value, expected"), ("x", "unexpected x"),
                           ("--gpu --arch ,", "--arch ,"),
                           ("--gpu=1", "unexpected --gpu"), ("--gpu --arch 8.6,seven", "8.6,seven: expected")):
            with self.assertRaisesRegex(host.Failure, re.escape(said)) as e:
                arguments.parse(line.split())
            self.assertEqual(e.exception.status, 2)

    def test_the_launcher_and_the_command_line_agree(self):
        names = []
        for path in glob.glob(os.path.join(ROOT, "tools", "cli", "*.py")):
            with open(path) as f:
                if re.search(r"\badd_device\(command", f.read()):
                    names.append(os.path.basename(path)[:-3].replace("_", "-"))
        self.assertEqual(sorted(names), sorted(gpu.COMMANDS))

    def test_nothing_is_made_for_a_line_that_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            for words, status in ((["setup", "--help"], 0), (["setup", "--gpu", "--arch", "99"], 2),
                                  (["setup", "--torch", "new"], 2), (["engine", "train", "-gpu", "x"], 2),
                                  (["train", "e", "--engine", "torch", "--gpu", "0,"], 2),
                                  (["caffe", "train", "-gpu", "0,1"], 2)):
                p = subprocess.run([sys.executable, FER] + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   universal_newlines=True, timeout=20, env=dict(os.environ, FER_ENV_DIR=folder))
                self.assertEqual((p.returncode, len(p.stderr.splitlines())), (status, status // 2), p.stderr)
                if not status:
                    for word in ("30 minutes", "8 GB", "licence", "--arch"):
                        self.assertIn(word, p.stdout)
            self.assertEqual(os.listdir(folder), [])


class Missing(Folder):
    """What is missing is named, and nothing else."""

    def require(self, build, card, driver):
        place = self.path("gpu-x")
        if build:
            write(os.path.join(place, host.MARKER), f"key {gpu.key()}\narchitectures 86\n")
        with mock.patch.object(gpu, "CARDS", write(self.path("nvidia0"), "") if card else self.path("none*")), \
                mock.patch.object(gpu, "driver", lambda: {"libcuda.so.1": "/x/libcuda.so.1"} if driver else {}):
            return gpu.require("0", self.folder)

    def test_each(self):
        said = {"build": "Caffe for cards, which ./fer setup --gpu builds", "card": r"a card of NVIDIA \(there is no "
                "/dev/nvidia0\\)", "driver": r"NVIDIA's driver \(there is no libcuda.so.1\)"}
        for number in range(7):
            there = {name: bool(number & bit) for name, bit in (("card", 1), ("driver", 2), ("build", 4))}
            with self.assertRaises(host.Failure) as e:
                self.require(**there)
            self.assertRegex(str(e.exception), "^--gpu 0: missing here: %s$" % "; ".join(
                said[name] for name in ("build", "card", "driver") if not there[name]))
            shutil.rmtree(self.folder)
            os.mkdir(self.folder)
        self.assertEqual(self.require(True, True, True), (self.path("gpu-x"), {"libcuda.so.1": "/x/libcuda.so.1"}))

    def test_a_build_of_another_description_does_not_count(self):
        write(self.path("gpu-old", host.MARKER), "key 0123\narchitectures 86\n")
        write(self.path("gpu-half.partial", "x"), "")
        self.assertIsNone(gpu.kept(self.folder))

    def test_the_build_that_was_made_last(self):
        for name, age in (("gpu-a", 50), ("gpu-b", 10), ("gpu-c", 30)):
            marker = write(self.path(name, host.MARKER), f"key {gpu.key()}\narchitectures 86\n")
            os.utime(marker, (time.time() - age,) * 2)
        self.assertEqual(gpu.kept(self.folder), self.path("gpu-b"))


class Machine(Folder):
    def setUp(self):
        super().setUp()
        for patch in (mock.patch.object(gpu, "FOLDERS", (self.path("lib"),)),
                      mock.patch.object(host, "tool_path", lambda: self.path("bin") + ":/usr/bin:/bin")):
            patch.start()
            self.addCleanup(patch.stop)

    def ldconfig(self, text):
        write(self.path("bin", "ldconfig"), f"#!/bin/sh\n[ \"$*\" = -p ] && cat <<'X'\n{text}X\n", 0o755)

    def test_of_ldconfig_only_the_drivers_files(self):
        for name in ("libcuda.so.535.54.03", "libnvidia-ml.so.1", "libc.so.6", "libcuda32.so", "libEGL_nvidia.so.0"):
            write(self.path("drv", name), name)
        os.symlink("libcuda.so.535.54.03", self.path("drv", "libcuda.so.1"))
        write(self.path("bin", "nvidia-smi"), "", 0o755)
        self.ldconfig(textwrap.dedent(f"""\
            5 libs found in cache `/etc/ld.so.cache'
            \tlibcuda.so.1 (libc6) => {self.path("drv")}/libcuda32.so
            \tlibcuda.so.1 (libc6,x86-64) => {self.path("drv")}/libcuda.so.1
            \tlibcuda.so (libc6,x86-64) => {self.path("drv")}/libcuda.so.1
            \tlibEGL_nvidia.so.0 (libc6,x86-64) => {self.path("drv")}/libEGL_nvidia.so.0
            \tlibnvidia-ml.so.1 (libc6,x86-64) => {self.path("drv")}/libnvidia-ml.so.1
            \tlibc.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => {self.path("drv")}/libc.so.6
            \tlibnvidia-ptxjitcompiler.so.1 (libc6,x86-64) => /nonexistent/libnvidia-ptxjitcompiler.so.1
            """))
        found = gpu.driver()
        self.assertEqual(found, {"libcuda.so.1": self.path("drv", "libcuda.so.535.54.03"),
                                 "libnvidia-ml.so.1": self.path("drv", "libnvidia-ml.so.1"),
                                 "nvidia-smi": self.path("bin", "nvidia-smi")})
        self.assertEqual(gpu.version(found), "535.54.03")
        self.assertEqual(gpu.arguments("/b", {"b": "/y", "a": "/x z"}), ["gpu=/b", "driver=a=/x z", "driver=b=/y"])

    def test_the_usual_folders(self):
        self.ldconfig("")
        self.assertEqual(gpu.driver(), {})
        write(self.path("bin", "nvidia-smi"), "", 0o755)
        self.assertEqual(gpu.driver(), {}, "nvidia-smi without a driver is of no use")
        write(self.path("lib", "libcuda.so.1"), "")
        self.assertEqual(set(gpu.driver()), {"libcuda.so.1", "nvidia-smi"})
        self.assertEqual(gpu.version(gpu.driver()), "unknown version")

    def test_which_cards_a_build_fits(self):
        for capability, numbers, said in ((86, (60, 70, 75, 80, 86), "^$"), (61, (60, 70), "^$"), (89, (86,), "^$"),
                                          (72, (70,), "^$"), (90, (80, 86), "newer than 8.6.*PTX.*cuBLAS 11.2 may"),
                                          (70, (86,), "not built for it: ./fer setup --gpu --arch 7.0$"),
                                          (80, (70, 86), "not built for it"), (52, (60,), "not built.*--arch 5.2$"),
                                          (75, (70, 72), "^$"), (100, (60, 86), "newer than 8.6")):
            self.assertRegex(gpu.fit(capability, numbers), said, (capability, numbers))

    def report(self, place=None):
        return "\n".join(gpu.report(place))

    def test_what_setup_says(self):
        self.ldconfig("")
        self.assertRegex(self.report(), "not built; ./fer setup --gpu builds it\ngpu driver  none of NVIDIA")
        write(self.path("build", host.MARKER), f"key {gpu.key()}\narchitectures 70,86\n")
        self.assertIn("for compute capability 7.0, 8.6: " + self.path("build"), self.report(self.path("build")))
        write(self.path("lib", "libcuda.so.470.1"), "no library")
        os.symlink("libcuda.so.470.1", self.path("lib", "libcuda.so.1"))
        with mock.patch.object(gpu, "CARDS", self.path("none*")):
            self.assertRegex(self.report(), r"driver  470.1: .*/libcuda.so.470.1\ngpu card    none of NVIDIA")
        with mock.patch.object(gpu, "CARDS", write(self.path("nvidia0"), "")):
            self.assertRegex(self.report(), "the driver cannot be asked: .*libcuda")

    @unittest.skipUnless(shutil.which("cc"), "no C compiler, which makes a stub of the driver")
    def test_cards_as_the_driver_sees_them(self):
        source = write(self.path("stub.c"), STUB)
        os.mkdir(self.path("lib"))
        library = self.path("lib", "libcuda.so.1")
        self.ldconfig("")
        write(self.path("build", host.MARKER), f"key {gpu.key()}\narchitectures 70,86\n")
        with mock.patch.object(gpu, "CARDS", write(self.path("nvidia0"), "")):
            subprocess.check_call(["cc", "-shared", "-fPIC", "-DSTATUS=0", "-o", library, source])
            self.assertEqual(gpu.cards(library), [(70, "Tesla V9"), (90, "A 10")])
            self.assertRegex(self.report(self.path("build")), r"(?m)card 0  Tesla V9, compute capability 7.0$\n"
                             r"gpu card 1  A 10, compute capability 9.0; newer than 8.6")
            subprocess.check_call(["cc", "-shared", "-fPIC", "-DSTATUS=100", "-o", library, source])
            self.assertRegex(self.report(), "the driver cannot be asked: cuInit: error 100$")


class Building(Folder):
    def setUp(self):
        super().setUp()
        self.place, self.note = self.path("envs", "gpu-key"), self.path("note")
        write(self.path("envs", "processor", "etc", "caffe-fer"), "key x\n")

    def builder(self, before="", check="runs"):
        return subprocess.Popen([sys.executable, "-c", BUILDER, os.path.join(ROOT, "env"), self.place,
                                 FAKE % (before, gpu.key()), check], stderr=subprocess.PIPE, universal_newlines=True)

    def finish(self, process):
        error = process.communicate(timeout=60)[1]
        return process.returncode, error

    def left(self):
        return sorted(os.listdir(self.path("envs")))

    def test_says_what_it_takes_shows_each_file_and_keeps_the_build(self):
        status, error = self.finish(self.builder())
        self.assertEqual((status, gpu.is_complete(self.place)), (0, True), error)
        self.assertEqual(gpu.built_for(self.place), [70, 86])
        for words in ("for cards of compute capability 7.0, 8.6\n", "30 minutes", "8 GB of disk", "non-free",
                      "NVIDIA's licence", "  a step\n", "[  7%] relu_layer.cu\n", "[ 88%] net.cpp\n", "ready after"):
            self.assertIn(words, error)
        self.assertEqual(self.left(), ["gpu-key", "gpu-key.log", "gpu.lock", "processor"])
        again = self.finish(self.builder("exit 1"))
        self.assertEqual(again, (0, ""))

    def test_what_does_not_run_is_not_kept(self):
        for before, check, said in (("", "fails", "does not run"), ("echo 'E: No space left on device' >&2; exit 1",
                                                                    "runs", "no space left on the disk")):
            status, error = self.finish(self.builder(before, check))
            self.assertEqual(status, 1)
            self.assertRegex(error.splitlines()[-1], said)
            self.assertEqual(self.left(), ["gpu-key.log", "gpu.lock", "processor"])

    def test_killed_builds_leave_nothing_and_the_next_one_succeeds(self):
        processor = content(self.path("envs", "processor"))
        busy = f': >"$1/half"; (exec sleep 1000) & : >"{self.note}"; wait'
        for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
            process = self.builder(busy)
            wait_for(lambda: os.path.exists(self.note))
            os.remove(self.note)
            process.send_signal(number)
            self.assertEqual(self.finish(process)[0], status)
            self.assertFalse(gpu.is_complete(self.place))
            wait_for(lambda: not alive(self.note))
            self.assertEqual(self.mounts(), [])
            self.assertIsNone(gpu.kept(self.path("envs")))
            if number != signal.SIGKILL:
                self.assertEqual(self.left(), ["gpu-key.log", "gpu.lock", "processor"])
        status, error = self.finish(self.builder())
        self.assertEqual((status, gpu.is_complete(self.place)), (0, True), error)
        self.assertEqual(self.left(), ["gpu-key", "gpu-key.log", "gpu.lock", "processor"])
        self.assertEqual(content(self.path("envs", "processor")), processor)

    def test_killed_while_the_archive_is_unpacked(self):
        write(self.path("bin", "tar"), f'#!/bin/sh\ncase $1 in -x) : >"{self.note}"; sleep 1000;; esac\n'
              'exec /bin/tar "$@"\n', 0o755)
        with mock.patch.dict(os.environ, PATH=self.path("bin") + ":" + os.environ["PATH"]):
            process = self.builder()
        wait_for(lambda: os.path.exists(self.note))
        process.kill()
        self.finish(process)
        self.assertFalse(gpu.is_complete(self.place))
        self.assertEqual(self.finish(self.builder())[0], 0)
        self.assertTrue(gpu.is_complete(self.place))

    def test_space_is_looked_at_first(self):
        with mock.patch.object(gpu, "NEEDED", 10**18), self.assertRaisesRegex(host.Failure, "GB are free"):
            gpu.build(self.place, (86,), lambda folder: None)
        self.assertEqual(self.left(), ["gpu.lock", "processor"])

    def test_the_real_command_line(self):
        output = mock.Mock()
        output.name = write(self.path("log"), "")
        with mock.patch.object(host, "run") as run, mock.patch.dict(os.environ, FER_DEBIAN_MIRROR="http://m.invalid"):
            gpu.bootstrap((70, 86), "/a b/gpu.tar", self.folder, mock.Mock(**{"fileno.return_value": 3}), output)
        line = run.call_args[0][0]
        self.assertEqual(line[-3:], ["bullseye", "-", "deb http://m.invalid bullseye main"])
        self.assertIn("--format=null", line)
        self.assertIn("--customize-hook=tar-out /caffe-fer-gpu '/a b/gpu.tar'", line)
        self.assertTrue(any(word.endswith('/caffe-fer-env/gpu.sh "70 86"') for word in line))
        self.assertEqual([word for word in line if "install.sh" in word], [])
        self.assertNotRegex(" ".join(line).lower(), "unauthenticated|insecure|trusted=yes|weak")


# Runs the launcher where /dev has a file nvidia0 more than that of this machine.
WITH_CARD = """
mkdir "$1/dev" && mount --rbind /dev "$1/dev" && mount -t tmpfs fer /dev || exit 99
for name in null zero full random urandom tty; do : >/dev/$name; mount --bind "$1/dev/$name" /dev/$name; done
mkdir /dev/shm; mount --bind "$1/dev/shm" /dev/shm; ln -s /proc/self/fd /dev/fd
echo card >/dev/nvidia0
shift; exec "$@"
"""


@unittest.skipUnless(host.is_complete(ENVIRONMENT), "the environment is not there: ./fer setup")
class Inside(Folder):
    """A stand-in of a build and of a driver, in the real environment."""

    def setUp(self):
        super().setUp()
        self.build = self.path("envs", "gpu-x")
        write(os.path.join(self.build, host.MARKER), f"key {gpu.key()}\narchitectures 86\n")
        write(os.path.join(self.build, "bin", "caffe"), "#!/bin/sh\necho cards: \"$@\"; cat /dev/nvidia0; "
              f"[ $1 != again ] || exec {shlex.quote(FER)} caffe train -gpu 0; "
              "echo $LD_LIBRARY_PATH; nvidia-smi; ls /caffe-fer-driver\n", 0o755)
        write(os.path.join(self.build, "python", "_caffe.so"), "the module of the build")
        write(os.path.join(self.build, "lib", "libcaffe.so.1.0.0"), "the library of the build")
        write(self.path("drv", "libcuda.so.470"), "the driver")
        write(self.path("drv", "libother.so"), "not of the driver")
        write(self.path("bin", "nvidia-smi"), "#!/bin/sh\necho smi\n", 0o755)
        write(self.path("bin", "ldconfig"), f"#!/bin/sh\necho '\tlibcuda.so.1 (libc6,x86-64) => "
              f"{self.path('drv', 'libcuda.so.470')}'\n", 0o755)
        os.symlink(ENVIRONMENT, self.path("envs", host.key()))

    def run_inside(self, script, cards):
        out = self.path("out")
        with open(out, "w") as f:
            status = fer.inside(["sh", "-c", script], ENVIRONMENT, self.folder, cards, stdout=f, stderr=f)
        with open(out) as f:
            return status, f.read()

    def test_only_caffe_itself_is_replaced(self):
        before = content(os.path.join(ENVIRONMENT, "usr", "bin"))
        cards = gpu.arguments(self.build, {"libcuda.so.1": self.path("drv", "libcuda.so.470"),
                                           "nvidia-smi": self.path("bin", "nvidia-smi")})
        status, out = self.run_inside(
            "head -c 9 /usr/bin/caffe; cat /usr/lib/python3/dist-packages/caffe/_caffe.*.so; echo; "
            "cat /caffe-fer-gpu/lib/libcaffe.so.1.0.0 /caffe-fer-driver/libcuda.so.1; echo; ls /caffe-fer-driver; "
            "nvidia-smi; echo $LD_LIBRARY_PATH; convert_imageset 2>&1 | head -n 1; "
            "for at in /caffe-fer-gpu/x /caffe-fer-driver/x /usr/bin/x; do touch $at 2>/dev/null && echo $at; done; "
            "echo y 2>/dev/null >/usr/bin/caffe; echo y 2>/dev/null >/caffe-fer-driver/libcuda.so.1; exit 0", cards)
        self.assertEqual(status, 0, out)
        self.assertEqual(out.splitlines()[:6], [
            "#!/bin/shthe module of the build", "the library of the buildthe driver", "libcuda.so.1", "nvidia-smi",
            "smi", "/caffe-fer-driver"])
        self.assertRegex(out.splitlines()[6], "^convert_imageset: ")
        self.assertEqual(len(out.splitlines()), 7, out)
        self.assertEqual(content(os.path.join(ENVIRONMENT, "usr", "bin")), before)
        self.assertEqual(self.mounts(), [])
        self.assertNotIn("y\n", content(self.folder).values())

    def test_without_a_card_nothing_of_it_is_there(self):
        status, out = self.run_inside("ls -d /caffe-fer-gpu /caffe-fer-driver; echo -$LD_LIBRARY_PATH-; "
                                      "caffe --version | head -n 1", [])
        self.assertEqual(status, 0)
        self.assertRegex(out, r"(?s)cannot access.*cannot access.*\n--\ncaffe version 1\.0\.0\n$")

    @unittest.skipUnless(os.geteuid() == 0, "only root can stand a file in for a card")
    def test_the_launcher_shows_the_card_and_the_driver(self):
        def call(*words):
            os.makedirs(self.path("ns"))
            p = subprocess.run(["unshare", "--mount", "sh", "-c", WITH_CARD, "sh", self.path("ns"), FER] + list(words),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
                               cwd=self.folder, env=dict(os.environ, FER_ENV_DIR=self.path("envs"),
                                                         PATH=self.path("bin") + ":" + os.environ["PATH"]))
            shutil.rmtree(self.path("ns"))
            return p.returncode, p.stdout, p.stderr
        self.assertEqual(call("caffe", "train", "-gpu", "0", "-solver", "a b"), (
            0, "cards: train -gpu 0 -solver a b\ncard\n/caffe-fer-driver\nsmi\nlibcuda.so.1\nnvidia-smi\n", ""))
        # A command in it starts another one, as ./fer reproduce does.
        self.assertEqual(call("caffe", "again", "-gpu", "0"), (
            0, "cards: again -gpu 0\ncard\ncards: train -gpu 0\ncard\n/caffe-fer-driver\nsmi\nlibcuda.so.1\n"
            "nvidia-smi\n", ""))
        self.assertRegex(call("caffe", "--version")[1], "^caffe version 1.0.0")
        shutil.rmtree(self.build)
        self.assertEqual(call("caffe", "train", "-gpu", "0"), (
            1, "", "fer: --gpu 0: missing here: Caffe for cards, which ./fer setup --gpu builds\n"))


class Trained(Folder):
    """A small training, for comparisons."""

    def fer(self, *words):
        p = subprocess.run([FER] + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
                           universal_newlines=True, timeout=3000, env=dict(os.environ, OPENBLAS_NUM_THREADS="1"))
        self.assertEqual(p.returncode, 0, p.stderr)

    def prepare(self):
        """112 random images of 48x48 pixels with GABOR features."""
        draw = random.Random(3)
        rows = ["emotion,pixels,Usage"]
        for number in range(112):
            pixels = " ".join(str(min(255, max(0, int(draw.gauss(40 + 25 * (number % 7), 30))))) for _ in range(2304))
            usage = "Training" if number < 70 else "PublicTest" if number < 98 else "PrivateTest"
            rows.append(f"{number % 7},{pixels},{usage}")
        write(self.path("fer2013.csv"), "\n".join(rows) + "\n")
        self.fer("prepare", "fer2013", "fer2013.csv", "--out", "data", "--features", "gabor")

    def train(self, out, iterations, *words):
        self.fer("train", "xie2019a/fer2013-toy-center-gabor", "--data", "data", "--out", out, "--threads", "1",
                 *words, "--set", f"solver.max_iter={iterations}", "solver.display=1", f"solver.snapshot={iterations}",
                 "solver.batch_size=14")


@unittest.skipUnless(KEPT and host.is_complete(ENVIRONMENT), "no Caffe for cards is there: ./fer setup --gpu")
class Kept(Trained):
    """The real build, on the processor."""

    def inside(self, *command):
        with open(self.path("out"), "w+") as f:
            status = fer.inside(list(command), ENVIRONMENT, self.folder, gpu.arguments(KEPT, {}), stdout=f, stderr=f)
            f.seek(0)
            return status, f.read()

    def test_the_same_weights_as_those_of_debians_package(self):
        self.prepare()
        self.train("run", 20)
        segment = self.path("run")
        model = os.path.join("snapshots", "iter_20.caffemodel")
        for name in ("snapshots", "scratch"):
            os.makedirs(self.path("other", name))
        with open(os.path.join(segment, "solver.prototxt")) as f:
            write(self.path("other", "solver.prototxt"), f.read().replace(
                os.path.join(segment, "scratch", "snapshot"), self.path("other", "snapshots", "x")))
        with mock.patch.dict(os.environ, OPENBLAS_NUM_THREADS="1", GLOG_logtostderr="1"):
            status, log = self.inside("caffe", "train", "-solver", self.path("other", "solver.prototxt"))
        self.assertEqual(status, 0, log)
        digests = []
        for path in (os.path.join(segment, model), self.path("other", "snapshots", "x_iter_20.caffemodel")):
            with open(path, "rb") as f:
                digests.append(hashlib.sha256(f.read()).hexdigest())
        self.assertEqual(digests[0], digests[1])
        with open(os.path.join(segment, "caffe.log")) as f:
            losses = [re.findall(r"Iteration \d+ .*loss = .*", text) for text in (f.read(), log)]
        self.assertEqual(len(losses[0]), 20)
        self.assertEqual([re.sub(r" \(.*\)", "", line) for line in losses[0]],
                         [re.sub(r" \(.*\)", "", line) for line in losses[1]])
        self.assertNotRegex(log, "(?i)cublas|curand")

    def test_says_nothing_of_cards_to_those_who_do_not_ask(self):
        self.assertEqual(self.inside("python3", "-c", "import caffe; caffe.set_mode_cpu(); caffe.set_random_seed(1)"),
                         (0, ""))
        status, out = self.inside("caffe", "--version")
        self.assertEqual((status, out.splitlines()[0]), (0, "caffe version 1.0.0"))

    @unittest.skipIf(glob.glob(gpu.CARDS), "there is a card")
    def test_without_a_card_caffes_own_check_ends_it(self):
        status, out = self.inside("caffe", "device_query", "-gpu", "0")
        self.assertEqual(status, 134)
        self.assertRegex(out, "Check failed: error == cudaSuccess")

    def test_its_module_and_its_program_use_its_own_library(self):
        status, out = self.inside("python3", "-c", "import caffe; print(*sorted({line.split()[-1] for line in "
                                  "open('/proc/self/maps') if '/libcaffe' in line or '/libcu' in line}))")
        libraries = [path for path in out.split() if "/libcurl" not in path]
        self.assertEqual((status, libraries), (0, ["/caffe-fer-gpu/lib/" + name for name in (
            "libcaffe.so.1.0.0", "libcublas.so.11", "libcublasLt.so.11", "libcudart.so.11.0", "libcurand.so.10")]))

    def test_the_texts_of_the_licences_are_there(self):
        names = os.listdir(os.path.join(KEPT, "copyright"))
        self.assertEqual(sorted(names), ["caffe", "libcublas11", "libcublaslt11", "libcudart11.0", "libcurand10"])
        with open(os.path.join(KEPT, "copyright", "libcublas11")) as f:
            self.assertIn("NVIDIA", f.read())


@unittest.skipUnless(KEPT and glob.glob(gpu.CARDS) and "libcuda.so.1" in gpu.driver(),
                     "no card of NVIDIA with its driver and ./fer setup --gpu")
class OnACard(Trained):
    def test_the_losses_are_those_of_the_processor(self):
        self.prepare()
        self.train("processor", 50)
        self.train("card", 50, "--gpu", "0")
        losses = []
        for name in ("processor", "card"):
            with open(self.path(name, "caffe.log")) as f:
                losses.append([float(value) for value in re.findall(r"Iteration \d+ .*loss = (\S+)", f.read())])
        self.assertEqual([len(values) for values in losses], [50, 50])
        for number, (processor, card) in enumerate(zip(*losses)):
            self.assertLess(abs(processor - card), 1e-3 * abs(processor), number)
        self.fer("evaluate", "card", "--gpu", "0")
        self.fer("evaluate", "processor")


class Setup(Folder):
    """./fer setup --gpu as a whole, without its build."""

    @unittest.skipUnless(host.is_complete(ENVIRONMENT), "the environment is not there: ./fer setup")
    def test_prints_the_build(self):
        os.symlink(ENVIRONMENT, self.path(host.key()))

        def build(place, numbers, check):
            self.assertEqual((os.path.dirname(place), numbers), (self.folder, (70, 86)))
            write(os.path.join(place, host.MARKER), f"key {gpu.key()}\narchitectures 70,86\n")
        out = io.StringIO()
        with mock.patch.object(gpu, "build", build), mock.patch.dict(os.environ, FER_ENV_DIR=self.folder), \
                mock.patch.object(fer, "enter", lambda *a: 0), redirect_stdout(out):
            self.assertEqual(fer.main(["setup", "--gpu", "--arch", "8.6,7.0"]), 0)
        self.assertIn("gpu caffe   for compute capability 7.0, 8.6: " + self.path("gpu-"), out.getvalue())
        self.assertNotIn("unused", out.getvalue())


if __name__ == "__main__":
    unittest.main()
