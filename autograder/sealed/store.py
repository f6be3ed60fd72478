"""Results on disk: found by what they depend on, never half written, and told in a chained log.

A result counts once the log has a line for it. It is written first, to a file of its own, so that
whatever ends the grader in between, or cuts the power, leaves a file that nobody counts. Each line
of the log holds the hash of the line before it and of its result, so an edited or missing one is
noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

from autograder.errors import CourseError
from autograder.files import locked, write_atomically
from autograder.sealed.verdict import Verdict

_SECRET_BYTES = 32
_BEGINNING = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes:
        key: What the result depends on.
        result: The hash of the result's file.
        about: What else is told, such as whose it is and when it was graded.
    """

    key: str
    result: str
    about: Mapping[str, Any]


def key_of(*parts: str) -> str:
    """Return the key of a result, of all that it depends on.

    >>> key_of("a", "bc") == key_of("ab", "c")
    False
    """
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash_of(line: Mapping[str, Any]) -> str:
    """Return the hash of a line of the log."""
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()


class Store:
    """Results in a folder.

    Args:
        folder: Where they are, with their log and the secret of this run of the course. It is
            made if need be, for its owner alone.

    Raises:
        CourseError: It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise CourseError(
                f"cannot write {folder}: {error.strerror}; allow it, then grade again"
            ) from error
        self._log = folder / "log.jsonl"
        self._entries: dict[str, Entry] = {}
        self._read_to, self._last = 0, _BEGINNING

    def secret(self) -> bytes:
        """Return the secret that decides the seeds; it is drawn once for all gradings."""
        path = self.folder / "secret"
        with self._locked():
            if not path.exists():
                write_atomically(path, secrets.token_hex(_SECRET_BYTES).encode())
                path.chmod(0o600)
        return bytes.fromhex(path.read_text("ascii"))

    def get(self, key: str) -> tuple[Verdict, ...] | None:
        """Return the verdicts that were stored under a key; None if there are none that count."""
        entry = self._known().get(key)
        if entry is None:
            return None
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() != entry.result:
            return None
        return tuple(map(Verdict.from_data, json.loads(content)))

    def put(self, key: str, verdicts: Sequence[Verdict], about: Mapping[str, Any]) -> None:
        """Store the verdicts under a key, unless that was done before.

        Args:
            key: What they depend on.
            verdicts: The verdicts.
            about: Plain data for the log.

        Raises:
            CourseError: The disk is full, say. Nothing has changed then.
        """
        with self._locked():
            if self.get(key) is not None:
                return
            content = json.dumps([each.as_data() for each in verdicts], indent=1).encode()
            write_atomically(self._path(key), content)
            try:
                self._append(Entry(key, hashlib.sha256(content).hexdigest(), about))
            except CourseError:
                with contextlib.suppress(OSError):
                    self._path(key).unlink()
                raise

    def entries(self) -> list[Entry]:
        """Return the lines of the log that count, in order; of a key, the last."""
        return list(self._known().values())

    def audit(self) -> list[str]:
        """Return what is wrong with the log and the results, a line each."""
        found, last = [], _BEGINNING
        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        results: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            try:
                data = json.loads(line)
                told = data.pop("hash")
                if told != _hash_of(data):
                    found.append(f"line {number} of the log was edited")
                elif data["before"] != last:
                    found.append(f"line {number} of the log does not follow the one before it")
                results[data["key"]] = data["result"]
                last = told
            except (ValueError, KeyError, TypeError, AttributeError):
                found.append(f"line {number} of the log is damaged")
        for key, result in results.items():
            path = self._path(key)
            if not path.exists():
                found.append(f"the result {key[:12]} is missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != result:
                found.append(f"the result {key[:12]} was changed after it was graded")
        stray = {path.stem for path in (self.folder / "results").rglob("*.json")} - results.keys()
        found += [f"the result {key[:12]} is not in the log, so it does not count" for key in stray]
        return found

    def _path(self, key: str) -> Path:
        return self.folder / "results" / key[:2] / f"{key}.json"

    def _locked(self) -> AbstractContextManager[None]:
        """Let no other grader write meanwhile."""
        return locked(self.folder / "lock")

    def _known(self) -> dict[str, Entry]:
        """Return what the log says by now, by key."""
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(self._read_to)
                for line in log:
                    self._take(line)
        return self._entries

    def _take(self, line: bytes) -> None:
        """Read a line of the log; one that is not whole yet is left."""
        if not line.endswith(b"\n"):
            return
        self._read_to += len(line)
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            data = json.loads(line)
            self._last = data.pop("hash")
            entry = Entry(data.pop("key"), data.pop("result"), data)
            self._entries[entry.key] = entry

    def _append(self, entry: Entry) -> None:
        """Write a line; what a power cut has left of another one goes first."""
        self._known()
        line = {**entry.about, "key": entry.key, "result": entry.result, "before": self._last}
        whole = {**line, "hash": _hash_of(line)}
        try:
            # Without a buffer: what could not be written is not written later either.
            with self._log.open("ab", buffering=0) as log:
                log.truncate(self._read_to)
                try:
                    self._write(log, json.dumps(whole, sort_keys=True).encode() + b"\n")
                except OSError:
                    log.truncate(self._read_to)
                    raise
        except OSError as error:
            raise CourseError(
                f"cannot write {self._log}: {error.strerror}; free some space, then grade again"
            ) from error
        self._known()

    def _write(self, log: RawIOBase, line: bytes) -> None:
        """Write a line and have the disk keep it; a disk with room for a part takes that part."""
        while line:
            line = line[log.write(line) :]
        os.fsync(log.fileno())
