"""The learner's own copy of the lessons, and how a newer release of a lesson reaches it.

A workspace is a folder with a folder ``.course/`` in it::

    01_traditional_attention_problems/01_traditional_attention_problems.ipynb   the learner's
    README.md                                                  the guide to the course
    .course/releases/01_traditional_attention_problems.ipynb   the release that it was copied from
    .course/backups/                                           what an update replaced

Releases are kept because a three-way merge needs the text that both sides started from.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nbformat import NotebookNode
from rich.markup import escape
from rich.table import Column, Table

from autograder.errors import CourseError
from autograder.files import read_bytes, write_atomically
from autograder.notebook_files import notebook_bytes, parse_notebook, read_notebook
from autograder.paths import (
    PROJECT_FOLDER,
    PROJECT_NOTEBOOKS,
    course_root,
    released_at,
    workspace_root,
)
from autograder.workspace.merge import Change, MergeResult, merge_notebooks

GUIDE = "README.md"
"""The guide to the course, in ``lessons/`` and in a workspace."""

_BROKEN_RELEASE = "restore it with `git restore lessons` or `course build`"


@dataclass(frozen=True)
class Lesson:
    """One released notebook.

    Attributes:
        released: Its file, ``lessons/FOLDER/NAME.ipynb``.
    """

    released: Path

    @property
    def name(self) -> str:
        """What the lesson is called: ``01_traditional_attention_problems``."""
        return self.released.stem

    @property
    def number(self) -> int | None:
        """Its number, also where a notebook of the final project is released without it.

        >>> Lesson(Path("lessons/07_a_lesson/07_a_lesson.ipynb")).number
        7
        >>> Lesson(Path("lessons/final_project/request_trace.ipynb")).number
        14
        """
        own = self.name.partition("_")[0]
        if own.isdecimal():
            return int(own)
        of_project = (number for number, name in PROJECT_NOTEBOOKS.items() if name == self.name)
        return next(of_project, None)

    @property
    def handed_in_as(self) -> str | None:
        """What a hand-in of it is called, as its source is; None if it asks nothing.

        >>> Lesson(Path("lessons/07_a_lesson/07_a_lesson.ipynb")).handed_in_as
        '07_a_lesson'
        >>> Lesson(Path("lessons/final_project/request_trace.ipynb")).handed_in_as
        '14_request_trace'
        >>> Lesson(Path("lessons/final_project/playground.ipynb")).handed_in_as
        """
        return None if self.number is None else f"{self.number:02}_{_slug(self)}"

    @property
    def relative_path(self) -> Path:
        """Where its notebook is, below ``lessons/`` and below a workspace alike."""
        return Path(self.released.parent.name) / self.released.name


def released_lessons() -> list[Lesson]:
    """Return the released lessons, in the order of the course.

    What nbgrader's own ``generate_assignment`` leaves of a notebook of the final project, in a
    folder of its own beside them, is none.
    """
    found = (Lesson(path) for path in sorted((course_root() / "lessons").glob("*/*.ipynb")))
    return [each for each in found if released_at(each.name).parent.name != PROJECT_FOLDER]


def find_lesson(name: str) -> Lesson:
    """Return the lesson with this number, name, or beginning of a name.

    Args:
        name: Such as ``1``, ``01``, ``01_traditional_attention_problems``, ``traditional``;
            ``14`` or ``request_trace`` for a notebook of the final project.

    Raises:
        CourseError: No lesson, or more than one, is called that.
    """
    lessons = released_lessons()
    exact = [
        lesson
        for lesson in lessons
        if name in (lesson.name, _slug(lesson)) or lesson.relative_path == released_at(name)
    ]
    found = exact or [lesson for lesson in lessons if _is_called(lesson, name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(lesson.name for lesson in found or lessons) or "none is released yet"
    problem = "fits more than one lesson" if found else "is no lesson"
    raise CourseError(f"{name!r} {problem}; name one by its number or name: {known}")


def lesson_to_grade(name: str) -> str:
    """Return what hand-ins of a lesson are called.

    Args:
        name: What ``find_lesson`` takes.

    Raises:
        CourseError: No lesson, or more than one, is called that, or nobody hands it in.
    """
    found = find_lesson(name)
    if found.handed_in_as is None:
        graded = ", ".join(each.name for each in released_lessons() if each.handed_in_as)
        raise CourseError(f"{found.name} asks nothing, so nobody hands it in; name one of {graded}")
    return found.handed_in_as


def open_lesson(name: str) -> Path:
    """Return the learner's notebook of a lesson, copied into the workspace if it is not there.

    Raises:
        CourseError: There is no such lesson, or the workspace cannot hold it.
    """
    return Workspace.current().open(find_lesson(name))


def notebook_called(name: str) -> Path:
    """Return a notebook: the file of that name, or the learner's copy of the lesson called so.

    Args:
        name: A path, or what ``find_lesson`` takes.

    Raises:
        CourseError: It is neither a file nor a lesson, or the lesson was never opened.
    """
    path = Path(name)
    if path.suffix == ".ipynb" or len(path.parts) > 1 or path.is_file():
        return path
    lesson = find_lesson(name)
    notebook = Workspace.current().notebook(lesson)
    if not notebook.exists():
        raise CourseError(
            f"{lesson.name} is not in {Workspace.current().root}; open it with "
            f"`course lab {lesson.name}`, or give the path of a notebook"
        )
    return notebook


@dataclass(frozen=True)
class LessonUpdate:
    """What a new release would do to a learner's notebook. Nothing is written yet.

    Attributes:
        lesson: The lesson.
        before: The learner's file.
        mine: The same, parsed.
        release: The file of the new release.
        merged: The merged notebook and what changed.
    """

    lesson: Lesson
    before: bytes
    mine: NotebookNode
    release: bytes
    merged: MergeResult

    @property
    def changes_notebook(self) -> bool:
        """Whether the learner's file would change."""
        return bool(self.merged.notebook != self.mine)


@dataclass(frozen=True)
class Workspace:
    """A folder of a learner's work. What the learner wrote is never overwritten without a backup.

    Attributes:
        root: The folder; it need not exist yet.
    """

    root: Path

    @classmethod
    def current(cls) -> Workspace:
        """Return the workspace that the environment names; see ``workspace_root``."""
        return cls(workspace_root())

    def notebook(self, lesson: Lesson) -> Path:
        """Return where the learner's copy of the lesson is, or will be.

        Raises:
            CourseError: A link leads out of the workspace.
        """
        return self._inside(self.root / lesson.relative_path)

    def open(self, lesson: Lesson) -> Path:
        """Return the learner's notebook. The first time, it is copied from the release.

        Raises:
            CourseError: The release is damaged, or the workspace cannot be written.
        """
        notebook = self.notebook(lesson)
        if notebook.exists():
            return notebook
        release = read_bytes(lesson.released, _BROKEN_RELEASE)
        parse_notebook(release, lesson.released, _BROKEN_RELEASE)
        # The base first: without it, a later update could not tell the learner's text from ours.
        write_atomically(self._merge_base(lesson), release)
        write_atomically(notebook, release)
        return notebook

    def open_guide(self) -> Path | None:
        """Return the guide to the course in the workspace; None if this course has none.

        It is copied the first time, and anew when there is a newer one and nobody wrote into it.

        Raises:
            CourseError: The workspace cannot be written.
        """
        released = course_root() / "lessons" / GUIDE
        if not released.is_file():
            return None
        text = read_bytes(released, _BROKEN_RELEASE)
        guide = self._inside(self.root / GUIDE)
        copied = self._inside(self.root / ".course" / "releases" / GUIDE)
        is_untouched = copied.exists() and guide.exists() and _same(copied, guide)
        if is_untouched or not guide.exists():
            write_atomically(copied, text)
            write_atomically(guide, text)
        return guide

    def opened_lessons(self) -> list[Lesson]:
        """Return the lessons that the learner has a copy of."""
        return [lesson for lesson in released_lessons() if self.notebook(lesson).exists()]

    def plan_update(self, lesson: Lesson) -> LessonUpdate:
        """Merge the released lesson into the learner's notebook, without writing anything.

        Raises:
            CourseError: The lesson was never opened, or one of the three notebooks is damaged.
        """
        notebook = self.notebook(lesson)
        if not notebook.exists():
            raise CourseError(
                f"{lesson.name} is not in {self.root}, so there is nothing to update; "
                f"open it with `course lab {lesson.name}`"
            )
        remedy = f"copy a whole one from {self.root / '.course' / 'backups'}, or move it away"
        before = read_bytes(notebook, remedy)
        mine = parse_notebook(before, notebook, remedy)
        release = read_bytes(lesson.released, _BROKEN_RELEASE)
        new = parse_notebook(release, lesson.released, _BROKEN_RELEASE)
        merged = merge_notebooks(self._read_merge_base(lesson), new, mine)
        return LessonUpdate(lesson, before, mine, release, merged)

    def apply_update(self, update: LessonUpdate) -> Path | None:
        """Write what was planned, the learner's old file to ``.course/backups/`` first.

        Returns:
            The backup, or None when the notebook did not change.

        Raises:
            CourseError: The notebook was saved since the plan was made, or cannot be written.
        """
        notebook = self.notebook(update.lesson)
        backup = None
        if update.changes_notebook:
            content = notebook_bytes(update.merged.notebook)
            if read_bytes(notebook, "run the update again") != update.before:
                raise CourseError(
                    f"{notebook} was saved while it was being updated; run the update again"
                )
            backup = self._backup_path(update.lesson)
            write_atomically(backup, update.before)
            write_atomically(notebook, content)
        # Last: an update that is cut short before this line is simply done again.
        write_atomically(self._merge_base(update.lesson), update.release)
        return backup

    def _merge_base(self, lesson: Lesson) -> Path:
        """Return where the release is kept that the learner's copy started from."""
        return self._inside(self.root / ".course" / "releases" / lesson.released.name)

    def _read_merge_base(self, lesson: Lesson) -> NotebookNode | None:
        """Return the recorded release, or None when the copy was not made by ``open``."""
        path = self._merge_base(lesson)
        if not path.exists():
            return None
        return read_notebook(
            path, "delete it and update again: every difference then counts as your own edit"
        )

    def _backup_path(self, lesson: Lesson) -> Path:
        """Return a name that no backup has yet."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        return self._inside(self.root / ".course" / "backups" / f"{lesson.name}.{moment}.ipynb")

    def _inside(self, path: Path) -> Path:
        """Return the path with links followed, if that is still in the workspace."""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError) as error:
            raise CourseError(f"{path} is a link that leads nowhere; delete it") from error
        if not resolved.is_relative_to(self.root.resolve()):
            raise CourseError(
                f"{path} is a link to {resolved}, outside of the workspace; "
                "replace the link by the file itself"
            )
        return resolved


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def update_table(updates: list[LessonUpdate]) -> Table:
    """Return a table of what the updates do: one row per lesson and kind of change."""
    table = Table(Column("lesson", overflow="fold"), "cells", "what", "where")
    for update in updates:
        places: defaultdict[Change, list[str]] = defaultdict(list)
        for change in update.merged.changes:
            places[change.change].append(change.heading or "top of the lesson")
        for kind in Change:
            if kind in places:
                style = "yellow" if kind.is_conflict else None
                where = escape(", ".join(dict.fromkeys(places[kind])))
                count = str(len(places[kind]))
                table.add_row(update.lesson.name, count, kind.value, where, style=style)
        if not places:
            table.add_row(update.lesson.name, "0", "nothing to do", "")
    return table


def _slug(lesson: Lesson) -> str:
    """Return the lesson's name without its number.

    >>> _slug(Lesson(Path("lessons/01_first_steps/01_first_steps.ipynb")))
    'first_steps'
    """
    number, _, rest = lesson.name.partition("_")
    return rest if number.isdigit() else lesson.name


def _is_called(lesson: Lesson, name: str) -> bool:
    """Return whether ``name`` is the lesson's number, or a beginning of its name or slug."""
    if name.isdecimal():
        return lesson.number == int(name)
    return bool(name) and (lesson.name.startswith(name) or _slug(lesson).startswith(name))
