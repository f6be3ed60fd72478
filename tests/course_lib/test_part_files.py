"""Parts on the disk: odd codings, two notebooks at once, a disk that is full."""

import errno
import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from course_lib import part_files, parts

NAME = "kv_bytes_per_token"
MINE = f"def {NAME}(model):\n    return 42  # é\n"


@pytest.fixture
def path(workspace):
    parts.save(NAME, MINE, "1.1")
    return workspace / "my_engine" / f"{NAME}.py"


def note():
    return next(row.note for row in parts.table() if row.name == NAME)


@pytest.mark.parametrize(
    ("content", "is_same"),
    [
        (MINE.encode("utf-8-sig"), True),
        (MINE.replace("\n", "\r\n").encode(), True),
        (b"# -*- coding: latin-1 -*-\n" + MINE.encode("latin-1"), False),
        (b"\xef\xbb\xbf# -*- coding: utf-8 -*-\r\n" + MINE.encode(), False),
    ],
    ids=["byte-order mark", "CRLF", "coding line", "both"],
)
def test_a_part_that_an_editor_saved_another_way_is_used(path, content, is_same):
    path.write_bytes(content)
    assert parts.get(NAME)(None) == 42
    assert note().startswith("edited") is not is_same


def test_two_notebooks_that_save_at_once_lose_nothing(workspace):
    engine = workspace / "my_engine"
    names = [f"part_{number}" for number in range(8)]

    def save(name):
        for number in range(3):
            part_files.keep(name, engine / f"{name}.py", f"{name} = {number}\n".encode(), "1.1")

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(save, names))
    assert sorted(part_files.passed(engine / "any.py")) == names
    assert all((engine / f"{name}.py").read_text() == f"{name} = 2\n" for name in names)
    assert len(list((engine / "history").iterdir())) == 16
    assert not [each for each in engine.rglob("*") if each.name.startswith(".")]


@pytest.mark.parametrize("which", [1, 2, 3], ids=["part", "record", "history"])
def test_a_disk_that_is_full_leaves_everything_as_it_was(path, monkeypatch, which):
    written = iter(range(1, 99))

    def fsync(descriptor):
        if next(written) == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def files():
        return {each: each.read_bytes() for each in path.parent.rglob("*") if each.is_file()}

    before = files()
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        parts.save(NAME, MINE.replace("42", "43"), "1.1")
    assert files() == before
    assert parts.get(NAME)(None) == 42


def test_what_does_not_pass_is_not_kept(path):
    with pytest.raises(ValueError, match="run the cell that defines it once more"):
        parts.save(NAME, MINE.replace("42", "43"), "1.1", passes=lambda loaded: loaded(None) == 42)
    assert path.read_text(encoding="utf-8") == MINE
    assert parts.get(NAME)(None) == 42


@pytest.mark.parametrize("name", [NAME, "BlockPool"])
def test_the_warning_about_a_broken_part_shows_the_learners_line(workspace, name):
    method = workspace / "my_engine" / "BlockPool" / "touch.py"
    method.parent.mkdir(parents=True)
    for path in (method, workspace / "my_engine" / f"{NAME}.py"):
        path.write_text("1 / 0\n")
    with pytest.warns(parts.PartWarning) as caught:
        parts.get(name)
    assert caught[0].filename == __file__


def test_a_part_is_imported_and_reloaded_like_any_other_module(path):
    module = importlib.import_module(f"my_engine.{NAME}")
    assert module.kv_bytes_per_token(None) == 42
    path.write_text(MINE.replace("42", "43"), encoding="utf-8-sig")
    assert importlib.reload(module).kv_bytes_per_token(None) == 43
    assert parts.get(NAME).__module__ == module.__name__
    assert importlib.reload(sys.modules[module.__name__]).kv_bytes_per_token(None) == 43
    assert not list(path.parent.rglob("*.pyc"))


def test_a_method_too_and_the_parts_module_itself_may_be_reloaded(workspace):
    text = "def touch(self, blocks):\n    return 1\n"
    file = parts.save("BlockPool.touch", text, "7.3b")
    assert parts.get("BlockPool").touch(None, []) == 1
    file.write_text(text.replace("1", "2"))
    assert importlib.reload(sys.modules["my_engine.BlockPool.touch"]).touch(None, []) == 2
    before = dict(vars(parts))
    try:
        assert importlib.reload(parts).get("BlockPool").touch(None, []) == 2
    finally:
        vars(parts).update(before)
