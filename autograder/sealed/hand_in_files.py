"""Reading one notebook out of a folder that a stranger has filled.

Nothing is followed: a symbolic link, wherever on the way, is refused and so is what is no file. No
more is read than the caps allow, whatever a file says of its size.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from autograder.sealed.quarantine import RefusedError

MAX_NOTEBOOK_BYTES = 100 * 2**20
"""Room for some 50 MB of pictures and widgets, which are dropped, beside what was written."""

MAX_ENTRIES = 1_000
"""Files of one folder or zip file that are looked at."""

MAX_RATIO = 200
"""How many times as large as its packed form a notebook may be; text packs to a tenth or so."""

_CHUNK = 2**20
_NOTEBOOK = ".ipynb"
_ASK = "ask for it again"


@dataclass(frozen=True)
class HandIn:
    """The notebook of one folder.

    Attributes:
        raw: What is in it.
        notes: What was not as it should be, a line each.
    """

    raw: bytes
    notes: tuple[str, ...] = ()


def read_hand_in(root: Path, student: str, lesson: str) -> HandIn:
    """Return the notebook that lies at ``root/student/lesson/``.

    That is the file ``LESSON.ipynb``; where there is none, the only notebook that is there under
    another name, or the only one in the only zip file.

    Args:
        root: The folder of all submissions, which the instructor owns.
        student: The name of the student's folder.
        lesson: The name of the lesson.

    Raises:
        RefusedError: There is no such notebook or more than one, it is too large, or it lies behind
            a symbolic link.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_opened(root, None, os.O_DIRECTORY))
        for name in (student, lesson):
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise RefusedError(f"{name!r} is no name of a folder; rename it")
            folder = stack.enter_context(_opened(name, folder, os.O_DIRECTORY | os.O_NOFOLLOW))
        name, notes = _chosen(_names(folder), lesson)
        file = stack.enter_context(_opened(name, folder, os.O_NOFOLLOW | os.O_NONBLOCK))
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise RefusedError(f"{shown(name)} is no file; {_ASK}")
        with os.fdopen(os.dup(file), "rb") as stream:
            if name.lower().endswith(".zip"):
                packed = read_zip(stream, lesson)
                return HandIn(packed.raw, (*notes, *packed.notes))
            return HandIn(_read(stream, name), notes)


def read_zip(stream: IO[bytes], lesson: str) -> HandIn:
    """Return the notebook in a zip file, of which nothing is written anywhere.

    Args:
        stream: The zip file.
        lesson: The name of the lesson.

    Raises:
        RefusedError: It is no zip file, a name in it leads out of it, there is no notebook or more
            than one, or the notebook is too large or unpacks to suspiciously much.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if len(members) > MAX_ENTRIES:
                raise RefusedError(f"the zip file holds more than {MAX_ENTRIES} files; {_ASK}")
            for member in members:
                require_inside(member)
            found = {each.filename: each for each in members if _is_visible_file(each)}
            name, notes = _chosen(list(found), lesson)
            member = found[name]
            if member.file_size > MAX_RATIO * max(1, member.compress_size):
                raise RefusedError(
                    f"{shown(name)} unpacks to more than {MAX_RATIO} times its size, as a zip "
                    f"bomb does; {_ASK}"
                )
            with archive.open(member) as unpacked:
                return HandIn(_read(unpacked, name), ("it came in a zip file", *notes))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        # RuntimeError is what a file with a password raises.
        raise RefusedError(f"the zip file cannot be unpacked ({error}); {_ASK}") from error
    except (OSError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise RefusedError(f"the zip file is damaged ({error}); {_ASK}") from error


def shown(name: str) -> str:
    r"""Return a name that a stranger chose on one line, as text that can be written.

    >>> shown("übung.ipynb"), shown("a\nb")
    ('übung.ipynb', "'a\\nb'")
    """
    return name if name.isprintable() else ascii(name)


def require_inside(member: zipfile.ZipInfo) -> None:
    """Raise RefusedError if a name leads out of the zip file, or stands for a symbolic link."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member.filename:
        raise RefusedError(f"the zip file holds {member.filename!r}, which leads out of it; {_ASK}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise RefusedError(f"{shown(member.filename)} is a symbolic link; {_ASK}")


def _is_visible_file(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not member.is_dir() and not hidden


def _chosen(names: list[str], lesson: str) -> tuple[str, tuple[str, ...]]:
    """Return which of some files is the notebook, and what is to be said of the choice."""
    wanted = f"{lesson}{_NOTEBOOK}"
    notebooks = sorted(each for each in names if each.lower().endswith(_NOTEBOOK))
    exact = [each for each in notebooks if PurePosixPath(each).name == wanted]
    if len(exact) == 1:
        others = ", ".join(shown(each) for each in notebooks if each != exact[0])
        return exact[0], (f"{others} was not graded",) if others else ()
    if len(notebooks) == 1:
        return notebooks[0], (f"it was called {shown(PurePosixPath(notebooks[0]).name)}",)
    if notebooks:
        raise RefusedError(
            f"there are several notebooks ({', '.join(map(shown, notebooks[:5]))}) and no single "
            f"{wanted}; keep one of them under that name"
        )
    packed = [each for each in names if each.lower().endswith(".zip")]
    if len(packed) == 1 and "/" not in packed[0]:
        return packed[0], ()
    raise RefusedError(f"there is no {wanted}; ask for it")


def _names(folder: int) -> list[str]:
    """Return the names of what is in a folder and not hidden."""
    names = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= MAX_ENTRIES:
                raise RefusedError(f"the folder holds more than {MAX_ENTRIES} files; {_ASK}")
            if not entry.name.startswith("."):
                names.append(entry.name)
    return names


@contextlib.contextmanager
def _opened(name: str | Path, folder: int | None, flags: int) -> Iterator[int]:
    """Open a file or folder below another; RefusedError if it is a symbolic link."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) or (
            error.errno == errno.ENOTDIR and folder is not None and _is_link(str(name), folder)
        ):
            raise RefusedError(f"{shown(str(name))} is a symbolic link; {_ASK}") from error
        raise RefusedError(f"cannot read {shown(str(name))}: {error.strerror}; {_ASK}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _read(stream: IO[bytes], name: str) -> bytes:
    """Return what is in a file; RefusedError if that is more than the cap."""
    chunks: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > MAX_NOTEBOOK_BYTES:
            raise RefusedError(
                f"{shown(name)} is larger than {MAX_NOTEBOOK_BYTES // 2**20} MiB; "
                "ask for it with its outputs cleared"
            )
        chunks.append(chunk)
    return b"".join(chunks)
