"""Imports run downwards only: common, data preparation and layers, nets, tools, bench."""
import ast
import os

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A package imports those of its own level and of the levels before.
LEVELS = (("common",), ("data_prep", "published"), ("layers",), ("prototxt",), ("engine",), ("tools",), ("bench",))
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}
# The command line offers the benchmarks; it imports their list alone, when it is asked for one.
EXCEPTIONS = {("tools/cli/bench.py", "bench.registry"), ("tools/cli/bench.py", "bench")}
PAPERS = ("xie2019a", "xie2019b", "liu2017", "farzaneh2021", "wu2023")


def modules():
    return sorted(os.path.relpath(os.path.join(folder, name), ROOT) for package in LEVEL
                  for folder, _, names in os.walk(os.path.join(ROOT, package)) for name in names
                  if name.endswith(".py"))


def imports(path):
    """Dotted names of what a module of the project imports from the project, wherever the import stands."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in LEVEL)
        elif isinstance(node, ast.ImportFrom):
            module = imported_from(path, node)
            if module.split(".")[0] in LEVEL:
                for alias in node.names:
                    inner = os.path.join(ROOT, module.replace(".", "/"), alias.name)
                    is_module = os.path.exists(inner + ".py") or os.path.isdir(inner)
                    yield f"{module}.{alias.name}" if is_module else module


def imported_from(path, node):
    """The dotted name of the module in `from MODULE import ...`; "from ..x" is relative to the module at `path`."""
    if node.level == 0:
        return node.module
    package = os.path.dirname(path).split(os.sep)
    return ".".join(package[:len(package) - node.level + 1] + ([node.module] if node.module else []))


@pytest.mark.parametrize("path, statement, expected", [
    ("layers/loss.py", "from . import base", "layers"),
    ("layers/loss.py", "from .functions import x", "layers.functions"),
    ("layers/functions/x.py", "from .. import base", "layers"),
    ("layers/__init__.py", "from .base import Layer", "layers.base"),
    ("tools/training/run.py", "from ..cli.main import parse", "tools.cli.main"),
    ("tools/training/run.py", "from common import files", "common")])
def test_relative_imports_are_understood(path, statement, expected):
    assert imported_from(path, ast.parse(statement).body[0]) == expected


def test_imports_of_a_layer_are_found():
    """Its imports are relative."""
    assert set(imports("layers/window_data.py")) == {
        "data_prep.crops", "data_prep.lmdb_io", "data_prep.manifest", "data_prep.records", "layers.base",
        "layers.parameters", "layers.functions.tuplets"}


@pytest.mark.parametrize("path", modules())
def test_imports_run_downwards(path):
    level = LEVEL[path.split(os.sep)[0]]
    upwards = [name for name in imports(path) if LEVEL[name.split(".")[0]] > level
               and (path, name) not in EXCEPTIONS]
    assert not upwards


def test_modules_do_not_import_each_other_in_a_circle():
    """Also not within a package. Imports for type hints, and those inside functions, are not made when a module is
    loaded."""
    known = {path[:-3].replace(os.sep, ".").replace(".__init__", "") for path in modules()}
    graph = {}
    for path in modules():
        name = path[:-3].replace(os.sep, ".").replace(".__init__", "")
        with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
            tree = ast.parse(stream.read())
        graph[name] = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                module = imported_from(path, node)
                graph[name] |= {inner for alias in node.names for inner in (f"{module}.{alias.name}", module)
                                if inner in known}
        graph[name].discard(name)
    done = set()

    def visit(name, above):
        assert name not in above, " -> ".join([*above[above.index(name):], name])
        if name not in done:
            for inner in sorted(graph[name]):
                # A package's own modules: it is loaded before they are.
                if not name.startswith(inner + "."):
                    visit(inner, [*above, name])
            done.add(name)
    for name in sorted(graph):
        visit(name, [])


# Where a paper's name is a choice, not a dependency: the registration, examples in help texts, and the demo.
MAY_NAME_PAPERS = ("common/papers.py", "tools/cli/")


@pytest.mark.parametrize("path", [
    path for path in modules() if path.startswith(("common", "prototxt", "tools"))
    and not path.startswith(MAY_NAME_PAPERS) and not os.path.basename(path).startswith(PAPERS)])
def test_generic_code_names_no_paper(path):
    """A docstring or a comment may cite a source."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
                  and isinstance(node.body[0], ast.Expr)}
    names = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
             and id(node) not in docstrings and any(paper in node.value for paper in PAPERS)]
    assert names + [name for name in imports(path) if name.split(".")[-1] in PAPERS] == []
