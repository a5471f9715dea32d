"""Files that are whole or not there, and nothing of the user's that is replaced or removed."""
import errno
import os

import pytest

from common import files
from common.errors import UserError


def test_a_full_disk_names_the_file(tmp_path):
    path = str(tmp_path / "table.md")
    with pytest.raises(OSError) as error:
        with files.replacing(path) as partial:
            open(partial, "w").close()
            with open("/dev/full", "w") as stream:
                stream.write("more than there is room for")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, path)
    assert os.listdir(str(tmp_path)) == []


def test_a_file_that_is_signed_at_its_end_is_ours(tmp_path):
    """A partial file has the ending that its writer goes by."""
    path, signature = str(tmp_path / "a.mp4"), files.SIGNATURE.encode()
    for content, ours in ((bytes(9000), False), (bytes(9000) + signature, True), (signature + bytes(9000), True),
                          (bytes(5000) + signature + bytes(5000), False)):
        with open(path, "wb") as stream:
            stream.write(content)
        if ours:
            with files.replacing(path, alone=True, ending=".mp4") as partial:
                assert partial.endswith(".mp4") and os.path.dirname(partial) == str(tmp_path)
                open(partial, "w").close()
            assert os.path.getsize(path) == 0
        else:
            with pytest.raises(UserError, match="was not made by caffe-fer"), files.replacing(path, alone=True):
                pass
    assert os.listdir(str(tmp_path)) == ["a.mp4"]


def test_other_errors_are_as_they_were(tmp_path):
    with pytest.raises(BrokenPipeError) as error:
        with files.replacing(str(tmp_path / "table.md")):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert error.value.filename is None


def tree(folder):
    """Path -> text, None for a folder, the target of a link."""
    found = {}
    for inner, folders, names in os.walk(str(folder)):
        for path in (os.path.join(inner, name) for name in folders + names):
            if os.path.islink(path):
                found[path] = "-> " + os.readlink(path)
            elif os.path.isdir(path):
                found[path] = None
            else:
                with open(path) as stream:
                    found[path] = stream.read()
    return found


@pytest.fixture
def users(tmp_path):
    """A folder of the user's, with all that may be in the way."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "notes.html").write_text("<html>notes</html>")
    (tmp_path / "notes.html.partial").write_text("what else there is to note")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "link.html").symlink_to("notes.html")
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize("alone", (False, True))
@pytest.mark.parametrize("name, said", (
    ("folder", "is a folder"), ("folder/inner", "is a folder"), ("notes.html", "was not made by caffe-fer"),
    ("link", "is a symbolic link"), ("link.html", "is a symbolic link"), ("dangling", "is a symbolic link"),
    ("link/thesis.txt", "was not made by caffe-fer")))
def test_what_is_the_users_is_not_replaced(users, name, alone, said):
    before = tree(users)
    with pytest.raises(UserError, match=f"^{users / name}: .*{said}"):
        files.write_text(str(users / name), "ours", alone)
    assert tree(users) == before


@pytest.mark.parametrize("name", ("notes.html/.", "notes.html/", "new.html/.", "new.html/", "folder/..", "."))
def test_a_folders_name_for_a_file_is_refused(users, name):
    before = tree(users)
    with pytest.raises(UserError, match="is the name of a folder, expected a file's"):
        files.write_text(os.path.join(str(users), name), "ours", alone=True)
    assert tree(users) == before


@pytest.mark.parametrize("write, other", ((lambda path: files.write_text(path, "ours", alone=True), "name"),
                                          (lambda path: files.claim(path, "run"), "--out")))
@pytest.mark.parametrize("name, above", (("notes.html/new", "notes.html"), ("notes.html/a/b", "notes.html"),
                                         ("dangling/new", "dangling")))
def test_a_file_in_the_way_of_a_folder_is_named(users, write, other, name, above):
    before = tree(users)
    with pytest.raises(UserError) as error:
        write(str(users / name))
    assert str(error.value) == f"{users / name}: {users / above} is not a folder; give another {other}"
    assert tree(users) == before


@pytest.mark.parametrize("name", ("folder", "folder/inner", "folder/thesis.txt", "notes.html", "link", "dangling",
                                  "notes.html.partial"))
def test_what_is_the_users_is_not_removed(users, name):
    before = tree(users)
    with pytest.raises(UserError, match=f"^{users / name}: .*was not made by caffe-fer"):
        files.remove(str(users / name))
    assert tree(users) == before


@pytest.mark.parametrize("name", ("folder", "link", "notes.html", "dangling"))
def test_what_is_the_users_is_not_claimed(users, name):
    before = tree(users)
    with pytest.raises(UserError, match=f"^{users / name}: exists and is not a "):
        files.claim(str(users / name), "run")
    assert tree(users) == before


def test_a_partial_of_the_users_stays(users):
    files.write_text(str(users / "folder" / "new.html"), "ours")
    with pytest.raises(RuntimeError):
        with files.replacing(str(users / "notes.md")) as partial:
            open(partial, "w").close()
            raise RuntimeError
    assert (users / "notes.html.partial").read_text() == "what else there is to note"
    assert not (users / "notes.md").exists() and not os.path.exists(files.hidden(str(users / "notes.md"), "partial"))


def test_what_is_ours_is_replaced_and_removed(tmp_path):
    folder = str(tmp_path / "a" / "run")
    files.claim(folder, "run")
    files.claim(folder, "run")  # again
    assert files.kind(folder) == "run"
    for text in ("one", "two"):
        files.write_text(os.path.join(folder, "rounds", "01", "metrics.json"), text)
    assert tree(tmp_path)[os.path.join(folder, "rounds", "01", "metrics.json")] == "two"
    (tmp_path / "elsewhere").symlink_to("a")
    files.write_text(str(tmp_path / "elsewhere" / "run" / "rounds" / "01" / "metrics.json"), "by a link")
    files.remove(os.path.join(folder, "rounds"))
    assert os.listdir(folder) == [files.MARK]
    files.remove(folder)
    assert os.listdir(str(tmp_path / "a")) == []
    files.remove(folder)  # nothing there


def test_links_in_our_folders_are_taken_away_and_not_followed(users):
    ours = users / "run"
    files.claim(str(ours), "run")
    before = tree(users)
    (ours / "snapshots").symlink_to("../folder")
    with pytest.raises(UserError, match="thesis.txt: exists and was not made by caffe-fer"):
        files.remove(str(ours / "snapshots" / "thesis.txt"))
    with pytest.raises(UserError, match="thesis.txt: exists and was not made by caffe-fer"):
        files.write_text(str(ours / "snapshots" / "thesis.txt"), "ours")
    files.remove(str(ours / "snapshots"))
    assert tree(users) == before


def test_a_folder_of_ours_is_of_one_kind(tmp_path):
    files.claim(str(tmp_path / "run"), "run")
    with pytest.raises(UserError, match="run: exists and is not a demo; give another --out"):
        files.claim(str(tmp_path / "run"), "demo")
    # A call that was killed between the making of the mark and its text.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / files.MARK).write_text("")
    files.claim(str(tmp_path / "new"), "demo")


def test_empty_folders_can_be_claimed(tmp_path):
    """Snakemake makes them for what a job will write."""
    (tmp_path / "run" / "snapshots").mkdir(parents=True)
    files.claim(str(tmp_path / "run"), "run")
    assert files.kind(str(tmp_path / "run")) == "run"


@pytest.mark.parametrize("name, note, kind", (
    ("run.json", {"experiment": {}, "manifest": "", "threads": 1}, "run"), ("run.json", {"speed": 12}, None),
    ("prepare.json", {"asked": {}, "manifest": ""}, "prepared data"), ("prepare.json", [], None),
    ("group.json", {"kind": "folds", "members": []}, "group of runs"),
    ("plan.json", [{"command": [], "makes": [], "log": ""}], "folder of `reproduce`"),
    ("plan.json", ["buy milk"], None)))
def test_folders_from_before_there_was_a_mark(tmp_path, name, note, kind):
    files.write_json(str(tmp_path / name), note)
    assert files.kind(str(tmp_path)) == kind


def test_a_file_that_stands_alone_is_ours_by_its_signature(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(f"<html><meta content='{files.SIGNATURE}'>")
    files.write_text(str(page), "new", alone=True)
    assert page.read_text() == "new"
    # Also in a folder of ours the user may have put a file of the same name.
    files.claim(str(tmp_path / "run"), "run")
    (tmp_path / "run" / "notes.html").write_text("notes")
    with pytest.raises(UserError, match="notes.html: exists and was not made by caffe-fer"):
        files.write_text(str(tmp_path / "run" / "notes.html"), "new", alone=True)


@pytest.mark.parametrize("count, text", ((0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (40500, "40.5 kB"),
                                         (2.5e6, "2.5 MB"), (999e6, "999.0 MB"), (71e9, "71.0 GB")))
def test_amounts(count, text):
    assert files.amount(count) == text


def test_bytes_of_a_file_and_what_cannot_be_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\xff\n")
    assert files.read_bytes(str(tmp_path / "a")) == b"\x00\xff\n"
    with pytest.raises(UserError, match="^.*/b: No such file or directory$"):
        files.read_bytes(str(tmp_path / "b"))
    with pytest.raises(UserError, match=": Is a directory$"):
        files.read_bytes(str(tmp_path))


def test_the_working_folder_is_above_a_relative_path(tmp_path, monkeypatch):
    folder = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9"))
    os.mkdir(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="^run: its name, or that of a folder above it, is no text in UTF-8, which"):
        files.require_text("run")
    files.require_text(str(tmp_path))


def test_no_folder_is_made_whose_name_is_no_text(tmp_path):
    folder = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9"), "run")
    with pytest.raises(UserError, match="run: its name, or that of a folder above it, is no text in UTF-8, which"):
        files.claim(folder, "run")
    assert os.listdir(str(tmp_path)) == []
