"""Parts as files: how their text is read, and how a part and the record of its pass are written."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none: there, two notebooks are not kept apart.
    fcntl = None  # type: ignore[assignment]

Record = dict[str, dict[str, str]]
"""By the name of a part: the digest of its text, when it passed, and which exercise."""

RECORD = "passed.json"


WORKSPACE_MARK = ".course"
"""The folder by which a workspace is known."""


def workspace() -> Path | None:
    """Return the learner's workspace, or None when there is none or it must not be used.

    It is ``COURSE_WORKSPACE`` if that is set, else the nearest folder at or above the working
    directory that holds a ``.course`` folder. While a submission is graded, or validated as it will
    be graded, there is none: an early mistake is not punished twice.
    """
    if os.environ.get("NBGRADER_EXECUTION") in ("autograde", "validate"):
        return None
    named = os.environ.get("COURSE_WORKSPACE")
    if named:
        return Path(named).expanduser().absolute()
    here = Path.cwd()
    return next((d for d in (here, *here.parents) if (d / WORKSPACE_MARK).is_dir()), None)


def text_of(content: bytes) -> str:
    r"""Return the text of a module as Python reads it: after a byte-order mark or a coding line.

    Raises:
        UnicodeError: The file is not in the coding that it says, or not in UTF-8.

    >>> text_of(b"\xef\xbb\xbfx = 1\r\n")
    'x = 1\n'
    """
    try:
        return importlib.util.decode_source(content)
    except (SyntaxError, UnicodeError) as error:
        raise UnicodeError(
            f"the file is not text in UTF-8, nor in a coding that its first line names ({error}); "
            "save it as UTF-8"
        ) from error


def digest(content: bytes) -> str:
    r"""Return what a text is known by; an editor that saves it another way changes nothing.

    >>> digest(b"\xef\xbb\xbfx = 1\r\n") == digest(b"x = 1\n")
    True
    """
    with contextlib.suppress(UnicodeError):
        content = text_of(content).encode()
    return sha256(content).hexdigest()


def engine_folder(path: Path) -> Path:
    """Return the folder ``my_engine`` that a part is kept in."""
    return next(folder for folder in path.parents if folder.name == "my_engine")


def passed(path: Path) -> Record:
    """Return what is on record about the versions that passed; a damaged record counts as none.

    Args:
        path: The file of any part.
    """
    try:
        record = json.loads((engine_folder(path) / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    entries = record.items() if isinstance(record, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def keep(name: str, path: Path, content: bytes, exercise_id: str) -> None:
    """Write a part and the record of its pass, in one step as far as a reader can see.

    Both are whole on the disk before either takes its place, so a disk that is full changes
    nothing. What stood there before, if it differs, is copied to ``history/`` first. Other
    notebooks on the same workspace wait meanwhile.

    Args:
        name: The part.
        path: Its file.
        content: Its text.
        exercise_id: The exercise that it passed.

    Raises:
        OSError: It cannot be written. Everything is as it was.
    """
    engine = engine_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(engine.parent):
        when = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"sha256": digest(content), "passed": when, "exercise": exercise_id}
        record = json.dumps({**passed(path), name: entry}, indent=1, sort_keys=True) + "\n"
        with (
            draft(path, content) as new_part,
            draft(engine / RECORD, record.encode()) as new_record,
        ):
            if path.exists() and path.read_bytes() != content:
                _archive(name, path)
            new_part.replace(path)
            new_record.replace(engine / RECORD)


@contextlib.contextmanager
def locked(workspace: Path) -> Iterator[None]:
    """Wait until no other process writes parts or progress of this workspace, and hold others off.

    Args:
        workspace: The learner's workspace.
    """
    folder = workspace / ".course"
    folder.mkdir(exist_ok=True)
    with (folder / "parts.lock").open("ab") as lock:
        if fcntl is not None:
            # A network drive may have no locks; the part is kept all the same.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def draft(path: Path, content: bytes) -> Iterator[Path]:
    """Write a file beside ``path`` that nobody else writes; it is gone afterwards unless moved.

    Args:
        path: The file whose place it is to take.
        content: What it holds.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _archive(name: str, path: Path) -> None:
    """Copy ``path`` into ``history/`` under the first number that is free."""
    history = engine_folder(path) / "history"
    history.mkdir(exist_ok=True)
    names = (history / f"{name}.{number}.py" for number in itertools.count(1))
    free = next(each for each in names if not each.exists())
    with draft(free, path.read_bytes()) as copy:
        copy.replace(free)
