"""Which bodies of the course are put back into a box, and when.

In a box one exercise of one submission is judged. Before its first cell, bodies are sent into it
that its lesson asks for:

- those of the exercises of this submission that have their verdict: what it can learn then is the
  answer to a question that is closed, and no verdict is changed; or
- all but the body of the exercise that is judged (and what else counts as the course's answer to
  it). The box ends with the verdict, has no network and leaves no file, and of the words of what is
  raised there none is shown, so nothing of what it has learned gets out.

A text that is sent holds no body that the box may not have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from autograder import lessons
from autograder.checks.reference import Method, plain
from autograder.errors import CourseError
from autograder.sealed.hollow import definition, hollowed, sliced
from autograder.sealed.stubs import Hole, holes_of, others_of, source_of

_LIBRARY = "course_lib."


@dataclass(frozen=True)
class Bodies:
    """Some bodies of one module, as they are sent into a box.

    Attributes:
        module: The module.
        names: What of it changes.
        text: The module, or the part that they need, without all that the box may not have.
    """

    module: str
    names: tuple[str, ...]
    text: str


class Course:
    """The bodies that a lesson asks for.

    Args:
        lesson: The number of the lesson.
    """

    def __init__(self, lesson: int) -> None:
        self._holes = holes_of(lesson)
        self._others = others_of(lesson)
        self._texts: dict[tuple[str, frozenset[str]], str] = {}

    @property
    def exercises(self) -> frozenset[str]:
        """The exercises that ask for a body."""
        return frozenset(hole.exercise for hole in self._holes)

    def is_judged_alone(self, exercise: str) -> bool:
        """Say whether an exercise has further answers of the course, which others need whole."""
        return any(hole.exercise == exercise for hole in self._others)

    def by_now(self, judged: Collection[str]) -> list[Bodies]:
        """Return what a box has from the start: what only stands beside an answer, and more.

        Args:
            judged: The exercises that have a verdict; their bodies are there.
        """
        changed = [hole for hole in self._holes if hole.exercise in judged]
        return list(self._bodies([*self._others, *changed], self.exercises.difference(judged)))

    def but_for(self, exercise: str) -> list[Bodies]:
        """Return what a box of its own has from the start: all but what an exercise asks for."""
        changed = [hole for hole in (*self._holes, *self._others) if hole.exercise != exercise]
        kept = [hole for hole in self._others if hole.exercise == exercise]
        return list(self._bodies(changed, {exercise}, kept))

    def place_of(self, exercise: str) -> str:
        """Return where the library has the method that an exercise asks for; "" if for none.

        >>> Course(3).place_of("3.2b"), Course(1).place_of("1.1")
        ('course_lib.kv_cache.block_table:BlockTable.append', '')
        """
        for hole in self._holes:
            if hole.exercise == exercise and "." in hole.qualname:
                return f"{hole.module}:{hole.qualname}"
        return ""

    def in_place_of(self, exercise: str, name: str) -> str | None:
        """Return a cell that gives a name of the notebook the course's answer to an exercise.

        As in a notebook, only functions and classes stand in, and no methods.

        Args:
            exercise: The exercise, whose body the box has.
            name: The name.
        """
        reference = lessons.find(exercise).check.reference
        for hole in self._holes:
            if hole.exercise == exercise and not isinstance(reference, Method):
                if getattr(plain(reference), "__name__", None) != name:
                    return None
                return f"from {hole.module} import {hole.qualname}"
        return None

    def _bodies(
        self, changed: Collection[Hole], closed: Collection[str], kept: Collection[Hole] = ()
    ) -> Iterator[Bodies]:
        """Yield bodies, module by module; those of some exercises are in no text."""
        asked = {
            (hole.module, hole.qualname): hole.exercise
            for hole in (*kept, *self._holes)
            if hole.exercise in closed
        }
        for module in dict.fromkeys(hole.module for hole in changed):
            names = tuple(hole.qualname for hole in changed if hole.module == module)
            shut = {name: ex for (home, name), ex in asked.items() if home == module}
            yield Bodies(module, names, self._text(module, names, shut))

    def _text(self, module: str, names: tuple[str, ...], shut: dict[str, str]) -> str:
        key = module, frozenset([*names, *(f"no {name}" for name in shut)])
        if key not in self._texts:
            text = source_of(module)
            if not module.startswith(_LIBRARY):
                # What is not the library's is full of answers that nobody asks the box for.
                text = sliced(text, {name.partition(".")[0] for name in names})
                shut = {name: ex for name, ex in shut.items() if _is_in(text, name)}
            self._texts[key] = hollowed(text, shut)
        return self._texts[key]


def _is_in(text: str, name: str) -> bool:
    try:
        definition(text, name)
    except CourseError:
        return False
    return True
