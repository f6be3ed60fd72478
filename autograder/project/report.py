"""The report on a final project: every item of the rubric, as a table and as data.

What a check of the notebook says of performance, code quality or documentation, and what
``course check`` prints, comes of the same verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from autograder.checks.search import PUBLIC_SEED
from autograder.project.checks import EXERCISES, RubricCheck
from autograder.project.documentation import by_hand
from autograder.project.equality import difference
from autograder.project.rubric import rubric
from autograder.project.verdicts import ItemVerdict
from autograder.proxy.subject import LocalSubject, Subject


@dataclass(frozen=True)
class ProjectReport:
    """All verdicts on a project.

    Attributes:
        verdicts: What each item of the rubric says, in its order.
    """

    verdicts: tuple[ItemVerdict, ...]

    @property
    def earned(self) -> float:
        """Points earned so far."""
        return sum(each.earned or 0.0 for each in self.verdicts)

    @property
    def points(self) -> float:
        """Points that these items earn at the most."""
        return sum(each.points for each in self.verdicts)

    def table(self) -> Table:
        """Return a table with a row for each item: points, evidence, and how to get the rest."""
        table = Table(title="The final project")
        table.add_column("Item")
        table.add_column("Points", justify="right")
        table.add_column("Evidence")
        table.add_column("For the rest")
        for each in self.verdicts:
            earned = "by hand" if each.earned is None else f"{each.earned:.3g}"
            points = f"{earned} / {each.points:g}"
            style = "green" if each.is_whole else ""
            cells = (each.title, points, " ".join(each.evidence), each.advice)
            table.add_row(*map(escape, cells), style=style)
        table.add_section()
        table.add_row("sum", f"{self.earned:.4g} / {self.points:g}", "", "")
        return table

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        items = [each.as_data() for each in self.verdicts]
        return {"earned": self.earned, "points": self.points, "items": items}

    def as_json(self) -> str:
        """Return the report as JSON.

        >>> report = ProjectReport((ItemVerdict("quality", "Code quality", 20, 18.5, ("...",)),))
        >>> json.loads(report.as_json())["items"][0]["earned"]
        18.5
        """
        return json.dumps(self.as_data(), indent=2)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.table()._repr_mimebundle_(**options)


def report_on(
    engine: Mapping[str, Any], correctness: Mapping[str, float] | None = None
) -> ProjectReport:
    """Return the report on an engine in this process, as a notebook has it.

    Args:
        engine: Its parts by name.
        correctness: The points of the notebook's checks, by exercise; None leaves them out.
    """
    return report_of(LocalSubject(dict(engine), RubricCheck.patience), PUBLIC_SEED, correctness)


def report_of(
    subject: Subject, seed: int, correctness: Mapping[str, float] | None = None
) -> ProjectReport:
    """Return the report on an engine.

    Args:
        subject: A dict of its parts by name, here or in another process.
        seed: Draws the requests that it serves.
        correctness: The points of the notebook's checks, by exercise; None leaves them out.
    """
    verdicts: list[ItemVerdict] = []
    if correctness is not None:
        verdicts += [
            ItemVerdict(each.exercise, each.title, each.points, correctness.get(each.exercise, 0.0))
            for each in rubric().correctness
        ]
    wrong = difference(subject, seed)
    for exercise in EXERCISES:
        check = exercise.check
        assert isinstance(check, RubricCheck)
        verdicts += check.verdicts(subject, seed, wrong)
    return ProjectReport((*verdicts, *by_hand()))
