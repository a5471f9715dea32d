"""A PyTorch of PyPI, seen from the host: what is asked for, its installation, and how it is shown inside."""
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import unittest
from contextlib import redirect_stdout
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "env"), os.path.dirname(os.path.abspath(__file__))]
import arguments  # noqa: E402
import gpu  # noqa: E402
import host  # noqa: E402
import pytorch  # noqa: E402

if host.marker():
    raise unittest.SkipTest("for the host; this is the environment itself")

import test_launcher  # noqa: E402
from test_gpu import ENVIRONMENT, Folder, content, write  # noqa: E402
from test_launcher import FER, alive, fer, wait_for  # noqa: E402

setUpModule = test_launcher.setUpModule

# Stands in for pip and the check: makes a package, after a line of shell.
FAKE = """
set -e
echo "  Downloading https://x/torch-2.8.0-cp39-cp39-manylinux_2_28_x86_64.whl (888.1 MB)"
echo "  Downloading filelock-3.19.1-py3-none-any.whl (15 kB)"
echo "Installing collected packages: torch"
%s
mkdir -p "$1/python/torch"
echo "__version__ = 'theirs'" >"$1/python/torch/__init__.py"
echo "2.8.0 12.8" >"$1/version"
"""

# A process that installs with that stand-in, to be killed.
INSTALLER = """
import sys
sys.path.insert(0, sys.argv[1])
import host, pytorch
pytorch.NEEDED = pytorch.KEPT = 0
def run(command, variables, **options):
    assert command[:2] == ["sh", "-c"] and command[-4:] == ["--no-deps", "--require-hashes", "-r", pytorch.REQUIREMENTS]
    assert variables == {"TMPDIR": sys.argv[2] + ".tmp"}
    return host.run(host.namespaces() + ["sh", "-c", sys.argv[3], "sh", command[4]], **options)
try:
    pytorch.install(sys.argv[2], "2.8.0", run)
except host.Failure as e:
    host.say(str(e))
    sys.exit(e.status)
"""
x86 = unittest.skipUnless(os.uname().machine == "x86_64", "the pins are for x86-64")


class Asked(unittest.TestCase):
    def test_options_of_setup(self):
        for line, wanted in (("--torch 2.8.0", (None, "2.8.0")), ("--torch=debian", (None, "debian")),
                             ("--gpu --torch 2.7 --arch 86", ((86,), "2.7"))):
            self.assertEqual(arguments.parse(line.split()), wanted)
        for line, said in (("--torch", "--torch has no value, expected a version such as 2.8.0, or debian"),
                           ("--torch new", "--torch new: expected a version such as 2.8.0, or debian"),
                           ("--torch 2.8.0;x", "expected a version"), ("--torch=", "expected")):
            with self.assertRaisesRegex(host.Failure, re.escape(said)) as e:
                arguments.parse(line.split())
            self.assertEqual(e.exception.status, 2)

    def test_pins(self):
        with open(pytorch.REQUIREMENTS) as f:
            lines = f.read().splitlines()
        self.assertEqual(lines, sorted(lines))
        for line in lines:
            self.assertRegex(line, r"^[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}$")
        self.assertEqual([line.split()[0] for line in lines if line.startswith("torch")], ["torch==" + pytorch.PINNED])

    @x86
    def test_another_version_or_other_pins_are_another_installation(self):
        self.assertEqual(len({pytorch.place_of("/x", wanted) for wanted in ("2.8.0", "2.7.0", "2.7.1")}), 3)
        before = pytorch.key("2.8.0"), pytorch.key("2.7.0")
        with mock.patch.object(pytorch, "REQUIREMENTS", __file__):
            self.assertNotEqual(pytorch.key("2.8.0"), before[0])
            self.assertEqual(pytorch.key("2.7.0"), before[1])


@x86
class Installing(Folder):
    def setUp(self):
        super().setUp()
        self.envs, self.note = self.path("envs"), self.path("note")
        self.place = pytorch.place_of(self.envs, "2.8.0")
        self.name = os.path.basename(self.place)

    def installer(self, before=""):
        return subprocess.Popen([sys.executable, "-c", INSTALLER, os.path.join(ROOT, "env"), self.place, FAKE % before],
                                stderr=subprocess.PIPE, universal_newlines=True)

    def finish(self, process):
        error = process.communicate(timeout=60)[1]
        return process.returncode, error

    def test_says_what_it_takes_and_shows_large_downloads(self):
        status, error = self.finish(self.installer("sleep 0.5"))
        self.assertEqual(status, 0, error)
        self.assertRegex(error, r"(?s)PyTorch 2.8.0 from PyPI\n.*3.8 GB.*10 GB.*6 GB.*NVIDIA's licence.*log: .*"
                         r" s  downloading torch-2.8.0, 888.1 MB\n.* s  unpacking.*\nfer: ready after")
        self.assertNotIn("filelock", error)
        self.assertEqual(sorted(os.listdir(self.envs)), [self.name, self.name + ".log", "torch.lock"])
        self.assertTrue(pytorch.is_complete(self.place))
        self.assertIn("2.8.0 with CUDA 12.8: " + self.place, pytorch.report(self.place))
        before = content(self.place)
        self.assertEqual(self.finish(self.installer("exit 9")), (0, ""), "it is there already")
        self.assertEqual(content(self.place), before)

    def test_failures_are_one_sentence_and_leave_nothing(self):
        for line, said in (("ERROR: x==9 (from versions: 1.7.1, 2.8.0)", "no such version of a package.* Python 3.9"),
                           ("ERROR: x==9 (from versions: none)\nERROR: No matching distribution", "PyPI cannot be"),
                           ("OSError: [Errno 28] No space left on device", "no space left")):
            status, error = self.finish(self.installer(f"echo '{line}'; exit 1"))
            self.assertEqual(status, 1)
            self.assertRegex(error.splitlines()[-1], "^fer: the set-up failed: .*" + said)
            self.assertEqual(sorted(os.listdir(self.envs)), [self.name + ".log", "torch.lock"])

    def test_killed_ones_leave_no_process_and_are_removed(self):
        busy = f': >"$1/half"; (exec sleep 1000) & : >"{self.note}"; wait'
        for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
            process = self.installer(busy)
            wait_for(lambda: os.path.exists(self.note))
            os.remove(self.note)
            process.send_signal(number)
            self.assertEqual(self.finish(process)[0], status)
            self.assertFalse(pytorch.is_complete(self.place))
            if number != signal.SIGKILL:
                self.assertEqual(sorted(os.listdir(self.envs)), [self.name + ".log", "torch.lock"])
        for name in (".partial", ".tmp"):
            os.mkdir(self.place + name)
        wait_for(lambda: not alive(self.note))
        with mock.patch.object(host, "say"):
            fer.leftovers.clean(self.envs)
        self.assertEqual(sorted(os.listdir(self.envs)), [self.name + ".log", "torch.lock"])
        self.assertEqual(self.finish(self.installer())[0], 0)
        self.assertTrue(pytorch.is_complete(self.place))

    def test_space_is_looked_at_first(self):
        with mock.patch.object(pytorch, "NEEDED", 10**18), self.assertRaisesRegex(host.Failure, "GB are free"):
            pytorch.install(self.place, "2.8.0", None)
        self.assertEqual(os.listdir(self.envs), ["torch.lock"])

    def test_pip_chooses_for_other_versions_and_that_is_said(self):
        with mock.patch.object(host, "make") as make, mock.patch.object(host, "say") as say:
            pytorch.install(self.path("other"), "2.7.1", lambda command, **options: self.assertEqual(
                command[3:], ["sh", self.path("partial"), "torch==2.7.1"]) or 1)
            with open(self.path("log"), "w") as log, self.assertRaises(host.Failure):
                make.call_args[0][3](self.path("partial"), self.path("tmp"), mock.Mock(), log)
        self.assertIn("what pip chooses", say.call_args_list[0][0][0])


class Chosen(Folder):
    def install(self, version, cuda="12.8"):
        place = pytorch.place_of(self.folder, version)
        write(os.path.join(place, host.MARKER), f"key {pytorch.key(version)}\ntorch {version}\ncuda {cuda}\n")
        return place

    def test_the_last_choice_is_used(self):
        self.assertIsNone(pytorch.chosen(self.folder))
        first, second = self.install("2.7.0"), self.install("2.8.0")
        self.assertIsNone(pytorch.chosen(self.folder), "none was chosen yet")
        for place in (first, second, None, first):
            pytorch.choose(self.folder, place)
            self.assertEqual(pytorch.chosen(self.folder), place)
        os.remove(os.path.join(first, host.MARKER))
        self.assertIsNone(pytorch.chosen(self.folder))
        self.assertRegex(pytorch.report(None), "Debian's, .*--torch 2.8.0 installs")

    def test_what_the_engine_needs_for_a_card(self):
        with mock.patch.object(gpu, "CARDS", write(self.path("nvidia0"), "")), \
                mock.patch.object(gpu, "driver", lambda: {"libcuda.so.1": "/x/libcuda.so.1"}):
            for place in (None, self.install("2.7.0", "none")):
                with self.assertRaisesRegex(host.Failure, "missing here: a PyTorch with CUDA, which ./fer setup "
                                            "--torch 2.8.0 installs$"):
                    gpu.require("0", self.folder, pytorch.has_cuda(place))
            found = gpu.require("0", self.folder, pytorch.has_cuda(self.install("2.8.0")))
        self.assertEqual(gpu.arguments(*found), ["driver=libcuda.so.1=/x/libcuda.so.1"])


@unittest.skipUnless(host.is_complete(ENVIRONMENT), "the environment is not there: ./fer setup")
class Inside(Folder):
    """A stand-in of an installation, in the real environment."""

    def setUp(self):
        super().setUp()
        self.envs = self.path("envs")
        os.mkdir(self.envs)
        os.symlink(ENVIRONMENT, self.path("envs", host.key()))
        self.place = pytorch.place_of(self.envs, "2.8.0")
        write(os.path.join(self.place, host.MARKER), f"key {pytorch.key('2.8.0')}\ntorch 2.8.0\ncuda 12.8\n")
        write(os.path.join(self.place, "python", "torch", "__init__.py"), "__version__ = 'theirs'\n")

    def fer(self, *words):
        p = subprocess.run([FER] + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
                           universal_newlines=True, timeout=60, env=dict(os.environ, FER_ENV_DIR=self.envs))
        return p.returncode, p.stdout, p.stderr

    def test_python_finds_the_chosen_one(self):
        ask = textwrap.dedent(f"""
            import os, subprocess, sys, torch
            print(torch.__version__)
            try:
                open("/caffe-fer-torch/python/x", "w")
            except OSError:
                print("read-only")
            if len(sys.argv) > 1:
                subprocess.check_call([{FER!r}, "python", "-c", "import torch; print('again', torch.__version__)"])""")
        self.assertEqual(self.fer("python", "-c", "import torch; print('PyPI' if torch.__version__ == 'theirs' else "
                                  "'Debian')"), (0, "Debian\n", ""))
        pytorch.choose(self.envs, self.place)
        self.assertEqual(self.fer("python", "-c", ask, "again"), (0, "theirs\nread-only\nagain theirs\n", ""))
        self.assertEqual(self.mounts(), [])
        pytorch.choose(self.envs, None)
        self.assertNotIn("theirs", self.fer("python", "-c", ask)[1])

    def test_setup_chooses(self):
        out = io.StringIO()
        with mock.patch.dict(os.environ, FER_ENV_DIR=self.envs), mock.patch.object(fer, "enter", lambda *a: 0), \
                redirect_stdout(out):
            self.assertEqual(fer.main(["setup", "--torch", "2.8.0"]), 0)
            self.assertEqual(pytorch.chosen(self.envs), self.place)
            self.assertIn("torch       2.8.0 with CUDA 12.8: " + self.place, out.getvalue())
            self.assertNotIn("not used", out.getvalue())
            self.assertEqual(fer.main(["setup"]), 0)
            self.assertEqual(pytorch.chosen(self.envs), self.place, "the choice stays")
            self.assertEqual(fer.main(["setup", "--torch", "debian"]), 0)
        self.assertIsNone(pytorch.chosen(self.envs))
        self.assertRegex(out.getvalue(), "torch       Debian's, (.|\n)*not used .*" + re.escape(self.name()))

    def name(self):
        return os.path.basename(self.place)

    def test_the_engines_flags_pass_through_untouched(self):
        status, out, _ = self.fer("engine", "--help")
        self.assertEqual((status, out.splitlines()[0]), (0, "usage: python3 -m engine COMMAND [flags]"))
        self.assertEqual(self.fer("engine", "train", "-solverr", "x"), (
            2, "", "engine: there is no flag '-solverr'; did you mean -solver? See --help\n"))
        status, _, err = self.fer("engine", "train", "-gpu", "0", "-solver", "x")
        self.assertEqual(status, 1)
        self.assertRegex(err, "^fer: --gpu 0: missing here: a PyTorch with CUDA, which ./fer setup --torch 2.8.0")


if __name__ == "__main__":
    unittest.main()
