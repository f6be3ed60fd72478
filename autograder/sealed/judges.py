"""Who judges: this process, or a process of its own that can be lost without a loss.

A judge holds the checks, the secret and a warm process for one lesson at a time. ``python -m
autograder.sealed.judges`` answers orders on standard input, one after the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from autograder.build.notebooks import release_path
from autograder.paths import course_root
from autograder.proxy.wire import WireError, read_frame, write_frame
from autograder.sealed.box.box import BoxError
from autograder.sealed.box.bubblewrap import namespaces, no_namespaces
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.warm import Zygote
from autograder.sealed.intake import Cell, Role, Submission
from autograder.sealed.oracle import Oracle
from autograder.sealed.release import load_release
from autograder.sealed.stubs import imported_by, make_tree
from autograder.sealed.verdict import Status, Verdict

_WARM = (
    "autograder.notebook",
    "course_lib.attention.paged",
    "course_lib.engine",
    "course_lib.viz",
    "matplotlib.pyplot",
)
"""What takes seconds to import and answers may need; Triton is set up by the library."""

_TRIES = 3
_UNCOUNTED = 2**31 - 1
_TRACES = "COURSE_TRACES"
_EXCHANGE = Path("/usr/local/share/nbgrader")
"""Where nbgrader's exchange is on a machine that has it for all its users."""


@dataclass(frozen=True)
class Order:
    """A submission to be judged.

    Attributes:
        lesson: The name of the lesson.
        secret: What decides the seeds.
        submission: What was handed in.
        is_boxed: Whether it runs in a box.
    """

    lesson: str
    secret: bytes
    submission: Submission
    is_boxed: bool = True

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        cells = [
            [cell.role, cell.source, cell.grade_id, dict(cell.attachments)]
            for cell in self.submission.cells
        ]
        return {
            "lesson": self.lesson,
            "secret": self.secret.hex(),
            "student": self.submission.student,
            "cells": cells,
            "is_boxed": self.is_boxed,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Order:
        """Return what ``as_data`` was made of, but for the notes, which decide nothing."""
        cells = tuple(Cell(Role(role), *others) for role, *others in data["cells"])
        submission = Submission(data["student"], data["lesson"], cells)
        secret = bytes.fromhex(data["secret"])
        return cls(data["lesson"], secret, submission, bool(data["is_boxed"]))


class Judge:
    """Judges in this process."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._oracle: Oracle | None = None
        self._about: tuple[str, bytes, bool] | None = None

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the warm process."""
        self._open.close()
        self._about = None

    def judge(self, order: Order) -> tuple[Verdict, ...]:
        """Return the verdicts on a submission; one whose warm process is lost is judged again.

        Raises:
            BoxError: The machine failed.
            CourseError: Bubblewrap is not installed, or the lesson cannot be read.
        """
        verdicts: tuple[Verdict, ...] = ()
        for _ in range(_TRIES):
            oracle = self._ready(order)
            verdicts = oracle.judge(order.submission)
            is_judged = all(each.status is not Status.INFRA for each in verdicts)
            if is_judged or oracle.zygote.is_alive:
                break
        return verdicts

    def _ready(self, order: Order) -> Oracle:
        """Return the oracle of a lesson, with its warm process, which is made anew if need be."""
        about = order.lesson, order.secret, order.is_boxed
        if self._oracle is None or self._about != about or not self._oracle.zygote.is_alive:
            self.close()
            release = load_release(release_path(order.lesson))
            folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="course-box-"))
            Path(folder).chmod(0o755)
            make_tree(release, Path(folder))
            # Checks and answers look at the same recorded workloads.
            traces = os.environ.get(_TRACES)
            readable, told = ([Path(traces)], {_TRACES: traces}) if traces else ([], {})
            walls = partial(namespaces, hidden=hidden()) if order.is_boxed else no_namespaces
            warm = *_WARM, *imported_by(release)
            zygote = self._open.enter_context(Zygote(Path(folder), warm, readable, told, walls))
            # Without a box all processes of the user are counted, whoever started them.
            limits = Limits() if order.is_boxed else Limits(processes=_UNCOUNTED)
            self._oracle = Oracle(release, zygote, order.secret, limits)
            self._about = about
        return self._oracle


def hidden() -> list[Path]:
    """Return the folders that no box shows, should they lie among what belongs to the system.

    There are checks, answers, results and what others have handed in.
    """
    return [course_root(), Path(__file__).parents[2], _EXCHANGE]


def one_by_one(
    orders: Mapping[str, Order],
) -> Iterator[tuple[str, tuple[Verdict, ...] | None]]:
    """Judge in this process; yield verdicts by key, None where the machine failed.

    Args:
        orders: What is to be judged, by key.
    """
    with Judge() as judge:
        for key, order in orders.items():
            try:
                yield key, judge.judge(order)
            except BoxError:
                yield key, None


class JudgeProcess:
    """A judge in a process of its own, in which nothing else runs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        """End it, with its warm process and its box."""
        self._process.kill()
        # What it did not live to read is still in the buffer, and nobody will.
        with contextlib.suppress(BrokenPipeError), self._process:
            pass

    def judge(self, order: Order) -> tuple[Verdict, ...]:
        """Return the verdicts on a submission.

        Raises:
            BoxError: The process was ended, or the machine failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_frame(self._process.stdin, order.as_data())
            answer = read_frame(self._process.stdout)
        except (EOFError, OSError, ValueError, WireError) as error:
            raise BoxError(f"a judge was lost ({error or 'it has ended'})") from error
        if "verdicts" not in answer:
            raise BoxError(answer["failed"])
        return tuple(map(Verdict.from_data, answer["verdicts"]))


def _end_with_who_asks() -> None:
    """End this process, with its warm process and its box, once nobody can give it an order."""
    asked = select.poll()
    # Nothing but its end is waited for.
    asked.register(sys.stdin.fileno(), 0)
    asked.poll()
    os._exit(0)


def main() -> None:
    """Answer orders until nobody gives any; who is killed meanwhile leaves no judge at work."""
    threading.Thread(target=_end_with_who_asks, daemon=True).start()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a check may print is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with Judge() as judge:
        while True:
            try:
                order = Order.from_data(read_frame(sys.stdin.buffer))
            except EOFError:
                return
            try:
                verdicts: Sequence[Verdict] = judge.judge(order)
            except Exception as error:
                write_frame(answers, {"failed": f"{type(error).__name__}: {error}"})
            else:
                write_frame(answers, {"verdicts": [each.as_data() for each in verdicts]})


if __name__ == "__main__":
    main()
