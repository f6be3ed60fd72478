"""What lies in a download, folder or zip file, file by file. Nothing is unpacked to a disk.

A zip file is read where it lies, and one inside it as well, which is how some students hand in.
Names in it never become paths: what is written where is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from autograder.errors import CourseError
from autograder.grading.timestamps import NAME as TIMESTAMP
from autograder.sealed.hand_in_files import (
    MAX_ENTRIES,
    MAX_NOTEBOOK_BYTES,
    MAX_RATIO,
    require_inside,
    shown,
)
from autograder.sealed.quarantine import RefusedError

MOST_FILES = 200_000
"""Files of one download: some thousand students, with some files each."""

_TOO_LARGE = (
    f"it is larger than {MAX_NOTEBOOK_BYTES // 2**20} MiB; ask for it with its outputs cleared"
)
_ASIDE = "__MACOSX"
_NOTEBOOK, _PACKED = ".ipynb", ".zip"
_UNPACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


@dataclass(frozen=True)
class Download:
    """One file of a download.

    Attributes:
        parts: Its path below the download; of a file in a zip file of a student, the path of the
            zip file goes first.
        when: When it was written last, by the file system or the zip file; None if unknown. A zip
            file holds the time of day where it was made, which is taken for that of this machine.
        content: What is in it; None for what is no notebook.
        refused: Why it was not read; "" if it was.
    """

    parts: tuple[str, ...]
    when: datetime | None = None
    content: bytes | None = None
    refused: str = ""

    @property
    def label(self) -> str:
        """Its path, as text on one line."""
        return shown("/".join(self.parts))


def downloads(source: Path) -> Iterator[Download]:
    """Yield what lies in a folder or zip file, in order, hidden files aside.

    Each notebook is in memory only until the next one is asked for.

    Args:
        source: The folder or zip file.

    Raises:
        CourseError: It cannot be read, is neither, or is made to unpack to more than it holds.
    """
    try:
        if source.is_dir():
            yield from _in_folder(source, source)
        else:
            with source.open("rb") as stream:
                yield from _in_zip(stream, (), MOST_FILES)
    except RefusedError as error:
        raise CourseError(f"{source}: {error}") from error
    except OSError as error:
        raise CourseError(
            f"cannot read {source}: {error.strerror or error}; name a folder or a zip file"
        ) from error


def _in_folder(folder: Path, root: Path) -> Iterator[Download]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == _ASIDE:
            continue
        parts = path.relative_to(root).parts
        if path.is_symlink():
            yield Download(parts, refused="it is a symbolic link; ask for the file")
        elif path.is_dir():
            yield from _in_folder(path, root)
        elif path.suffix.lower() == _PACKED and path.is_file():
            yield from _packed(path, parts)
        else:
            yield _file(path, parts)


def _file(path: Path, parts: tuple[str, ...]) -> Download:
    """Return a file of a folder."""
    if path.suffix.lower() != _NOTEBOOK and path.name != TIMESTAMP:
        return Download(parts)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                return Download(parts, refused="it is no file; ask for it again")
            content = stream.read(MAX_NOTEBOOK_BYTES + 1)
    except OSError as error:
        return Download(parts, refused=f"it cannot be read ({error.strerror}); ask for it again")
    if len(content) > MAX_NOTEBOOK_BYTES:
        return Download(parts, refused=_TOO_LARGE)
    return Download(parts, datetime.fromtimestamp(about.st_mtime).astimezone(), content)


def _packed(file: Path | bytes, parts: tuple[str, ...]) -> Iterator[Download]:
    """Yield what a zip file in the download holds: of a student, or one of several downloads."""
    try:
        if isinstance(file, bytes):
            yield from _in_zip(io.BytesIO(file), parts, MAX_ENTRIES)
            return
        with file.open("rb") as stream:
            yield from _in_zip(stream, parts, MOST_FILES)
    except RefusedError as error:
        yield Download(parts, refused=str(error))


def _in_zip(stream: io.BufferedIOBase, above: tuple[str, ...], most: int) -> Iterator[Download]:
    """Yield what a zip file holds; of zip files inside it, what they hold."""
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise RefusedError(f"it is no zip file ({error}); download it again") from error
    with archive:
        members = archive.infolist()
        _require_honest(members, stream, most)
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if member.is_dir() or any(p.startswith(".") and p != ".." for p in path.parts):
                continue
            if _ASIDE in path.parts:
                continue
            is_nested = isinstance(stream, io.BytesIO)
            yield from _member(archive, member, (*above, *path.parts), is_nested)


def _require_honest(members: list[zipfile.ZipInfo], stream: io.BufferedIOBase, most: int) -> None:
    """Raise RefusedError for too many files, and for files that share their packed bytes."""
    if len(members) > most:
        raise RefusedError(f"it holds more than {most} files; download it in parts")
    size = stream.seek(0, os.SEEK_END)
    if sum(member.compress_size for member in members) > size:
        raise RefusedError("its files overlap, as those of a zip bomb do; download it again")


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, parts: tuple[str, ...], is_nested: bool
) -> Iterator[Download]:
    name = PurePosixPath(parts[-1])
    is_packed = name.suffix.lower() == _PACKED
    try:
        require_inside(member)
        if not is_packed and name.suffix.lower() != _NOTEBOOK and name.name != TIMESTAMP:
            yield Download(parts)
            return
        if is_packed and is_nested:
            raise RefusedError("it is a zip file in a zip file in a zip file; ask for the notebook")
        content = _unpacked(archive, member)
    except RefusedError as error:
        yield Download(parts, refused=str(error))
        return
    if is_packed:
        yield from _packed(content, parts)
        return
    when = None
    with contextlib.suppress(ValueError, OSError, OverflowError):
        when = datetime(*member.date_time).astimezone()
    yield Download(parts, when, content)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return a file of a zip file.

    Raises:
        RefusedError: It is larger than the caps, whatever the zip file says, or damaged.
    """
    if member.file_size > MAX_RATIO * max(1, member.compress_size):
        raise RefusedError(
            f"it unpacks to more than {MAX_RATIO} times its size, as a zip bomb does; ask for it "
            "again"
        )
    if member.file_size > MAX_NOTEBOOK_BYTES:
        raise RefusedError(_TOO_LARGE)
    if member.compress_type not in _UNPACKED:
        raise RefusedError("it is packed in an unknown way; ask for it again")
    try:
        with archive.open(member) as stream:
            content = stream.read(MAX_NOTEBOOK_BYTES + 1)
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise RefusedError(f"it cannot be unpacked ({error}); ask for it again") from error
    except Exception as error:  # zlib and lzma have errors of their own
        raise RefusedError(f"it is damaged ({error}); ask for it again") from error
    if len(content) > MAX_NOTEBOOK_BYTES:
        raise RefusedError(_TOO_LARGE)
    return content
