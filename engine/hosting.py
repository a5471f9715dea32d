"""Imports the modules of Python layers with the stand-in for `caffe`, beside a real Caffe in the same process.

Where Caffe is neither loaded nor installed, the stand-in stays in `sys.modules` as `caffe`, and the modules of layers
are like any others. Else it is there only while `hosting` is open: it takes the place of Caffe, and modules that were
imported with it take the place of those that were imported with Caffe. So both kinds of `layers.base`, say, live side
by side, and an `import` inside a layer's function finds the right one. Another thread may import other modules at the
same time. But what it imports of Caffe, or of a package of layers, is the hosted one then; so in a process that has
loaded Caffe, layers must not run while another thread goes on (`beside_caffe`).
"""
import contextlib
import functools
import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Dict, Iterator, List, Set, Tuple

from . import caffe_module, messages


class _Modules:
    """What `sys.modules` has while hosted modules are imported or run, and what it has outside."""

    def __init__(self) -> None:
        self._lock, self._open = threading.RLock(), 0  # several threads may have it open at a time
        self._hosted = dict(caffe_module.MODULES)
        self._packages = {"caffe"}  # all their modules are hosted ones
        self._parents: List[Tuple[str, str, str]] = []  # of hosted modules in other packages: package, attribute, name
        self._outside: Dict[str, ModuleType] = {}  # what is put back at the end
        self._known: Set[str] = set()  # all names outside
        self._replaced: List[str] = []  # those of them that are put away
        self._size = 0  # of sys.modules at the start
        members = [value for name in ("caffe", "caffe.io") for value in vars(self._hosted[name]).values()]
        members += [value for value in vars(messages).values() if isinstance(value, type) and
                    getattr(value, "DESCRIPTOR", None)]
        self._parts = {id(one) for one in members if callable(one)}

    def enter(self, package: str = "") -> None:
        with self._lock:
            new = bool(package) and package not in self._packages
            self._packages.update([package] if new else [])
            if self._open == 0 or new:
                self._put_in(new)
            self._open += 1

    def leave(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._put_back()

    def has(self, name: str) -> bool:
        """Whether a module of this name that is not hosted is loaded."""
        with self._lock:
            return name in self._outside or sys.modules.get(name) not in (None, self._hosted.get(name))

    def _put_in(self, new: bool) -> None:
        changed = self._open == 0 and sys.modules.keys() != self._known
        if changed:
            self._known = set(sys.modules)
        if changed or new:
            self._replaced = [name for name in list(sys.modules) if self._is_of_package(name) or name in self._hosted]
        for name in self._replaced:
            if name in sys.modules and sys.modules[name] is not self._hosted.get(name):
                self._outside[name] = sys.modules.pop(name)
        sys.modules.update(self._hosted)
        for parent, child, name in self._parents:
            if parent in sys.modules:
                setattr(sys.modules[parent], child, self._hosted[name])
        self._size = len(sys.modules)

    def _put_back(self) -> None:
        if len(sys.modules) != self._size:
            self._take_over()
        for name in self._hosted:
            sys.modules.pop(name, None)
        sys.modules.update(self._outside)
        for parent, child, name in self._parents:
            if name in self._outside:
                setattr(sys.modules[parent], child, self._outside[name])
            elif hasattr(sys.modules.get(parent), child):
                delattr(sys.modules[parent], child)
        self._outside = {}

    def _take_over(self) -> None:
        """Of what was imported, makes hosted ones of the modules of a layer's package, of those that refer to the
        stand-in or to hosted modules, and of all modules of a hosted package."""
        left = {name: module for name, module in sys.modules.copy().items()
                if name not in self._hosted and (name not in self._known or self._is_of_package(name))}
        found = left
        while found:
            found = {name: module for name, module in left.items() if self._is_of_package(name)
                     or name.rpartition(".")[0] in self._hosted or self._refers(module)}
            self._hosted.update(found)
            left = {name: module for name, module in left.items() if name not in found}
        paths = [(*name.rpartition(".")[::2], name) for name in self._hosted]
        self._parents = [path for path in paths if path[0] and path[0] not in self._hosted]

    def _is_of_package(self, name: str) -> bool:
        return name.partition(".")[0] in self._packages

    def _refers(self, module: ModuleType) -> bool:
        if module.__name__.startswith(f"{__package__}."):
            return False
        hosted = {id(one) for one in self._hosted.values()} | self._parts
        return any(id(value) in hosted or str(getattr(value, "__module__", "")) in self._hosted
                   for value in list(vars(module).values()))


_MODULES = _Modules()


@functools.lru_cache(None)
def _has_caffe() -> bool:
    """Whether there is a real Caffe, loaded or installed. A mere folder of this name is none."""
    if "caffe" in sys.modules:
        return True
    try:
        spec = importlib.util.find_spec("caffe")
    except ImportError:
        return False
    return spec is not None and spec.origin is not None


def beside_caffe() -> bool:
    """Whether a real Caffe is loaded in this process."""
    return _MODULES.has("caffe")


@contextlib.contextmanager
def hosting(package: str = "") -> Iterator[None]:
    """While it is open, `caffe` is the stand-in. `package`: the first part of the name of a layer's module; what is
    imported of it has the stand-in, too."""
    if not _has_caffe():
        sys.modules.update(caffe_module.MODULES)
        yield
        return
    _MODULES.enter(package)
    try:
        yield
    finally:
        _MODULES.leave()


def load(name: str) -> ModuleType:
    """The module of a layer, found on PYTHONPATH or in the current folder, as Caffe finds it. Raises what its import
    raises, ModuleNotFoundError if there is none."""
    if "" not in sys.path:
        sys.path.append("")
    importlib.invalidate_caches()
    with hosting(name.partition(".")[0]):
        return importlib.import_module(name)
