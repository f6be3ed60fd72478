"""Reading what may be missing or damaged, and writing files that are never half written."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from autograder.errors import CourseError


def read_bytes(path: Path, remedy: str) -> bytes:
    """Return what is in the file.

    Args:
        path: The file.
        remedy: What the user can do when it cannot be read.

    Raises:
        CourseError: The file is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"cannot read {path}: {error.strerror}; {remedy}") from error


def read_stranger(path: Path, most: int) -> bytes:
    """Return the beginning of a file that a stranger may have put there.

    No link is followed and no pipe waited for.

    Args:
        path: The file.
        most: How many bytes are read.

    Raises:
        OSError: It is missing, unreadable, a link, or no file.
    """
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        return file.read(most)


Form = TypeVar("Form", bound=BaseModel)


def read_form(path: Path, form: type[Form]) -> Form:
    """Return what a TOML file says.

    Args:
        path: The file.
        form: What such a file holds.

    Raises:
        CourseError: It is missing, or not TOML, or not of this form.
    """
    text = read_bytes(path, "restore it with `git restore`").decode("utf-8", "replace")
    try:
        return form.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{path.name} is not TOML: {error}; mend that line") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CourseError(f"{path.name}: {where}: {first['msg']}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` into the file, making its folders.

    Whoever opens the path sees the whole old file or the whole new one, also after a crash. When
    this returns, a power cut does not bring the old one back.

    Raises:
        CourseError: The disk is full or the folder is read-only. The old file is untouched.
    """
    try:
        _make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes the file private; a notebook is as readable as its neighbours.
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise CourseError(
            f"cannot write {path}: {error.strerror}; free some space or allow writing there, "
            "then run the command again"
        ) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let no other process into the block that asks for the same lock, and wait for one in it.

    A process that ends, however it does, gives its lock back.

    Args:
        path: A file for the lock, which stays; its folder exists.

    Raises:
        OSError: The file cannot be opened.
    """
    import fcntl

    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; a power cut does not take them away again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(made):
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """Return the process's umask. It can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
