"""How sure a learner is of each concept, beside how many of its questions they answered right."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.quiz import PASS
from autograder.errors import CourseError
from autograder.lessons.lesson15_drawn import Concept, drawn_bank
from autograder.paths import course_root
from course_lib.catalogue import lesson_name

RATED = ("understand", "explain", "implement")
"""What is rated of each concept, from 1 to 5."""

AIM = (4, 3, 2)
"""The ratings to aim for at the end of the course."""

_STYLE = "style='text-align:left'"
_HIGHEST = 5
_SURE, _UNSURE = 4, 2
_WEAK = 0.6
"""Share of right answers below which somebody who is sure has overrated themselves."""


@dataclass(frozen=True)
class Standing:
    """One concept.

    Attributes:
        title: The concept.
        ratings: How well it is understood, could be explained and implemented; empty if not rated.
        right: How many questions were answered right.
        asked: How many there are.
        revisit: The lessons of the questions that were not, each with their ids.
    """

    title: str
    ratings: tuple[int, ...]
    right: int
    asked: int
    revisit: Mapping[int, tuple[str, ...]]

    @property
    def is_firm(self) -> bool:
        """Whether so many are right that there is nothing to revisit."""
        return self.right >= PASS * self.asked

    @property
    def remark(self) -> str:
        """What the ratings and the answers say of one another; "" if nothing."""
        if not self.ratings:
            return ""
        share = self.right / self.asked
        if self.ratings[0] >= _SURE and share < _WEAK:
            return "surer than your answers"
        if self.ratings[0] <= _UNSURE and self.is_firm:
            return "better than you think"
        low = [
            name for name, rating, aim in zip(RATED, self.ratings, AIM, strict=True) if rating < aim
        ]
        return f"aim higher: {', '.join(low)}" if low else ""


@dataclass(frozen=True, repr=False)
class Assessment:
    """All concepts, in the order of the course."""

    standings: tuple[Standing, ...]

    def __repr__(self) -> str:
        return "\n".join(map(_line, self.standings))

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th {_STYLE}>{name}</th>" for name in ("concept", *RATED, "right", "", "revisit")
        )
        rows = "".join(map(_row, self.standings))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def assessed(
    ratings: Mapping[str, Any],
    answers: Sequence[Mapping[str, Any]],
    checks: Sequence[DrawnQuizCheck],
) -> Assessment:
    """Return what came of the quiz by concept, beside what was rated.

    Args:
        ratings: Three whole numbers from 1 to 5 by the title of a concept; () where not rated.
        answers: The letters of the parts, each with its seed; a part may be missing.
        checks: The parts.

    Raises:
        CourseError: A rating is of no concept, or is not three whole numbers from 1 to 5.
    """
    bank = drawn_bank()
    _require_ratings(ratings, bank.concept)
    open_questions = set[str]()
    for check in checks:
        ids = {question.id for question in bank.of_part(check.part)}
        given = next((each for each in answers if not ids.isdisjoint(each)), {})
        open_questions.update(check.not_right(given))
    return Assessment(
        tuple(_standing(concept, ratings, open_questions) for concept in bank.concept)
    )


def _standing(concept: Concept, ratings: Mapping[str, Any], not_right: set[str]) -> Standing:
    asked = [each for each in drawn_bank().question if each.concept == concept.id]
    revisit: dict[int, tuple[str, ...]] = {}
    for each in asked:
        if each.id in not_right:
            revisit[each.lesson] = (*revisit.get(each.lesson, ()), each.id)
    return Standing(
        title=concept.title,
        ratings=tuple(ratings.get(concept.title, ())),
        right=sum(each.id not in not_right for each in asked),
        asked=len(asked),
        revisit=dict(sorted(revisit.items())),
    )


def _require_ratings(ratings: Mapping[str, Any], concepts: Sequence[Concept]) -> None:
    titles = [concept.title for concept in concepts]
    for title, given in ratings.items():
        if title not in titles:
            raise CourseError(f"no concept {title!r}; the concepts are {', '.join(titles)}")
        is_three = isinstance(given, tuple | list) and len(given) in (0, len(RATED))
        if not is_three or not all(type(n) is int and 1 <= n <= _HIGHEST for n in given):
            raise CourseError(
                f"{title!r} is rated {given!r}; write three whole numbers from 1 to {_HIGHEST}, "
                f"for {', '.join(RATED)}, or () to leave it out"
            )


def _line(standing: Standing) -> str:
    """Return a concept as a line of text."""
    rated = " ".join(map(str, standing.ratings)) or "- - -"
    said = [f"{standing.title}: {rated}; {standing.right} of {standing.asked} right"]
    if standing.remark:
        said.append(standing.remark)
    if not standing.is_firm:
        lessons = (f"{lesson_name(n)} ({', '.join(ids)})" for n, ids in standing.revisit.items())
        said.append("revisit " + ", ".join(lessons))
    return "; ".join(said)


def _row(standing: Standing) -> str:
    """Return a concept as a row of a table, with links to what to revisit."""
    rated = standing.ratings or ("–",) * len(RATED)
    links = ""
    if not standing.is_firm:
        links = ", ".join(
            f"{_link(number)} ({', '.join(ids)})" for number, ids in standing.revisit.items()
        )
    cells = (
        html.escape(standing.title),
        *map(str, rated),
        f"{standing.right} of {standing.asked}".replace(" ", "&nbsp;"),
        standing.remark,
        links,
    )
    return "<tr>" + "".join(f"<td {_STYLE}>{cell}</td>" for cell in cells) + "</tr>"


def _link(lesson: int) -> str:
    """Return a link to a lesson from the folder of the final project; without it, its name."""
    folders = sorted((course_root() / "lessons").glob(f"{lesson:02d}_*"))
    if not folders:
        return lesson_name(lesson)
    slug = folders[0].name
    return f'<a href="../{slug}/{slug}.ipynb">{lesson_name(lesson)}</a>'
