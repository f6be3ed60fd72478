"""What a learner has done, as plain JSON in the workspace; nothing of it leaves the machine.

Each lesson has a file of its own, and the journal has another. Notebooks that are open at once wait
for one another::

    .course/progress/07.json        by exercise: points, tries, when it passed, open questions
    .course/progress/journal.json   by lesson: confidence, hours, what was hard, goals

A file that is damaged counts as none; the next result replaces it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograder.errors import CourseError
from course_lib.part_files import draft, locked

JOURNAL_FIELDS = ("confidence", "hours", "hard", "goal", "written")
"""What a lesson's entry in the journal may have, in the order in which it is read."""

HIGHEST_CONFIDENCE = 5

_JOURNAL = "journal"


def note_result(
    workspace: Path,
    exercise_id: str,
    points: float,
    passed: bool,
    open_questions: Sequence[str] = (),
) -> None:
    """Add a result of a check. What was earned once stays earned.

    Points and open questions are those of one run, the best so far; of equal ones the latest.

    Args:
        workspace: The learner's workspace.
        exercise_id: Which exercise, such as ``"7.2"``.
        points: What it earned this time.
        passed: Whether all is right.
        open_questions: Of a quiz, the questions that are not answered right.

    Raises:
        CourseError: It cannot be written.
    """
    lesson = int(exercise_id.partition(".")[0])
    with _alone(workspace):
        known = results(workspace, lesson)
        before = known.get(exercise_id, {})
        best = {"points": points, "open": list(open_questions)}
        if points < _number(before.get("points")):
            best = {key: before.get(key, best[key]) for key in best}
        known[exercise_id] = {
            **best,
            "tries": int(_number(before.get("tries"))) + 1,
            "passed": before.get("passed") or (_now() if passed else None),
        }
        _write(workspace, f"{lesson:02d}", known)


def results(workspace: Path, lesson: int) -> dict[str, dict[str, Any]]:
    """Return what is known of a lesson's exercises, by id."""
    return _read(workspace, f"{lesson:02d}")


def note_journal(workspace: Path, lesson: int, entry: Mapping[str, Any]) -> None:
    """Write into the journal; what the entry does not have stays as it was.

    Args:
        workspace: The learner's workspace.
        lesson: The lesson that it is about.
        entry: Some of ``confidence`` (1 to 5), ``hours``, ``hard`` and ``goal``.

    Raises:
        CourseError: A value is out of its range, or it cannot be written.
    """
    confidence, hours = entry.get("confidence", 1), entry.get("hours", 0)
    if type(confidence) is not int or not 1 <= confidence <= HIGHEST_CONFIDENCE:
        raise CourseError(
            f"confidence is {confidence!r}; give a whole number from 1 to {HIGHEST_CONFIDENCE}"
        )
    if not isinstance(hours, int | float) or not 0 <= hours < float("inf"):
        raise CourseError(f"hours is {hours!r}; give the hours that you spent, such as 3.5")
    with _alone(workspace):
        known = journal(workspace)
        known[str(lesson)] = {**known.get(str(lesson), {}), **entry, "written": _now()}
        _write(workspace, _JOURNAL, known)


def journal(workspace: Path) -> dict[str, dict[str, Any]]:
    """Return the journal, by the number of the lesson as a text."""
    return _read(workspace, _JOURNAL)


def _read(workspace: Path, name: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(_file(workspace, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {key: entry for key, entry in entries if isinstance(entry, dict)}


def _write(workspace: Path, name: str, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path = _file(workspace, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft(path, text.encode()) as whole:
        whole.replace(path)


@contextlib.contextmanager
def _alone(workspace: Path) -> Iterator[None]:
    """Hold off other notebooks on the same workspace.

    Raises:
        CourseError: Something cannot be written meanwhile.
    """
    try:
        with locked(workspace):
            yield
    except OSError as error:
        raise CourseError(
            f"cannot write {workspace / '.course'}: {error.strerror}; free some space or allow "
            "writing there"
        ) from error


def _file(workspace: Path, name: str) -> Path:
    return workspace / ".course" / "progress" / f"{name}.json"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
