"""The command line of `./fer setup`. It needs the standard library only."""
import gpu
import pytorch
from host import Failure

USAGE = """usage: ./fer setup [--gpu [--arch LIST]] [--torch VERSION]

Makes the environment, and prints what it holds, where it is, and what is there for graphics cards.

  --gpu            also build Debian's Caffe with CUDA, once; ./fer ... --gpu 0 then uses it. This takes about
                   30 minutes on two cores, downloads 1.7 GB, and needs 8 GB of disk while it builds and 0.4 GB
                   afterwards. NVIDIA's toolkit comes from Debian's section non-free and has NVIDIA's licence.
  --arch LIST      the compute capabilities of the cards to build for (default: %s); fewer are built
                   faster
  --torch VERSION  install this PyTorch from PyPI, once, and use it in the environment from now on: in ./fer engine,
                   with --engine torch, and in ./fer python and test. %s, the last one for the environment's
                   Python, is pinned by checksums; others are what pip chooses. With CUDA this downloads 3.8 GB, and
                   needs 10 GB of disk while it installs and 6 GB afterwards. --torch %s goes back to Debian's own
                   PyTorch, which the environment has.

examples
  ./fer setup
  ./fer setup --gpu
  ./fer setup --gpu --arch 7.0,8.6
  ./fer setup --torch %s
""" % (",".join("%.1f" % (number / 10) for number in gpu.ARCHITECTURES), pytorch.PINNED, pytorch.DEBIAN,
       pytorch.PINNED)


def parse(words):
    """What `./fer setup` is asked for: the architectures to build Caffe for, or None; the version of PyTorch, or None.
    Raises Failure on other words."""
    wanted, version, rest = None, None, list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--gpu" and not equals:
            wanted = wanted or gpu.ARCHITECTURES
        elif name in ("--arch", "--torch") and (equals or rest):
            value = value if equals else rest.pop(0)
            if name == "--arch":
                wanted = gpu.architectures(value)
            else:
                version = pytorch.version(value)
        elif name in ("--arch", "--torch"):
            raise Failure("setup: %s has no value, expected %s; see ./fer setup --help" % (
                name, "compute capabilities such as 7.0,8.6" if name == "--arch" else
                "a version such as 2.8.0, or debian"), 2)
        else:
            raise Failure("setup: unexpected %s; see ./fer setup --help" % name, 2)
    if wanted and "--gpu" not in words:
        raise Failure("setup: --arch needs --gpu; see ./fer setup --help", 2)
    return wanted, version
