"""What a learner sees of a check: HTML in JupyterLab, plain text elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from autograder.checks.exercise import Exercise
from autograder.checks.finding import Finding

_STYLE = (
    "border-left:6px solid {colour};padding:.6em 1em;margin:.4em 0;"
    "background:var(--jp-layout-color1,#fff);color:var(--jp-ui-font-color1,#111);"
    "font-family:var(--jp-content-font-family,sans-serif);"
    "font-size:var(--jp-content-font-size1,15px)"
)
# Mixed with the page's ink, so that it stands out on a light ground as on a dark one.
_HEADLINE = "font-size:1.15em;color:color-mix(in srgb,{colour} 60%,var(--jp-ui-font-color0,#000))"
_CODE = (
    "margin:.1em 0;padding:.3em .6em;white-space:pre-wrap;overflow-wrap:anywhere;"
    "background:var(--jp-layout-color2,#eee);color:inherit;font-size:.92em"
)
_UNWRITTEN = "Write below YOUR CODE HERE."
# Okabe-Ito: told apart without colour vision, and readable on light and dark grounds.
_PASS, _PARTLY, _FAIL = "#009E73", "#E69F00", "#D55E00"

PASS, NOT_STARTED, PARTLY_RIGHT, NOT_YET = "passed", "not started", "partly right", "not yet"
VERDICTS = (PASS, NOT_STARTED, PARTLY_RIGHT, NOT_YET)
"""What a check may say of an answer, in a word or two."""


@dataclass(frozen=True)
class Report:
    """The result of a check, for a person.

    Attributes:
        exercise: What was checked.
        finding: What came of it.
        note: A last line, such as where the part was saved.
        failures: How often this exercise has failed so far; the more often, the more a hint says.
        trimmings: HTML below everything else, where there is HTML: a picture, an explanation.
    """

    exercise: Exercise
    finding: Finding
    note: str = ""
    failures: int = 1
    trimmings: str = ""

    @property
    def points(self) -> float:
        """Points earned."""
        return round(self.finding.fraction * self.exercise.points, 2)

    @property
    def verdict(self) -> str:
        """What the check says, one of ``VERDICTS``."""
        if self.finding.fraction == 1:
            return PASS
        if self.finding.unwritten:
            return NOT_STARTED
        return PARTLY_RIGHT if self.finding.fraction > 0 else NOT_YET

    def sections(self) -> list[tuple[str, str, bool]]:
        """Return (label, text, is it code) for everything that there is to say, in order."""
        if self.finding.fraction == 1:
            remarks = [("", remark, False) for remark in self.finding.remarks]
            return remarks + ([("", self.note, False)] if self.note else [])
        rows = [("Asked", self.exercise.asks, False)]
        case = self.finding.counterexample
        if self.finding.unwritten:
            rows.append(("Next", self.finding.advice or _UNWRITTEN, False))
            if case is not None and case.output:
                rows.append(("It printed", case.output, True))
            return rows + self._hint()
        if case is not None:
            rows.append((case.label, case.case, True))
            if case.expected:
                rows.append(("Expected", case.expected, True))
            rows.append(("Got", case.got, True))
            if case.complaint:
                rows.append(("That is", case.complaint, False))
            if case.output:
                rows.append(("It printed", case.output, True))
        rows += self._likeness()
        rows += [("", remark, False) for remark in self.finding.remarks]
        return rows + self._hint() + ([("", self.note, False)] if self.note else [])

    def _likeness(self) -> list[tuple[str, str, bool]]:
        """Say which known wrong answer it is, or which ones it cannot be told from."""
        finding = self.finding
        if finding.misconception is not None:
            says = "This is" if finding.confirmed else "Gives the same values as"
            label = f"{says}: {finding.misconception.name}"
            return [(label, finding.misconception.explanation, False)]
        if not finding.alike:
            return []
        names = ", or as ".join(f"“{each.name}”" for each in finding.alike)
        explained = " Or: ".join(each.explanation for each in finding.alike)
        return [(f"Gives the same values as {names}", explained, False)]

    def _hint(self) -> list[tuple[str, str, bool]]:
        """Return the hints that are due: at first a question, then the idea, then a line of it."""
        misconception = self.finding.misconception
        hints = [misconception.hint] if misconception is not None and misconception.hint else []
        if self.exercise.hints and (not hints or self.failures > 1):
            due = 0 if self.finding.unwritten else max(0, self.failures - 1)
            hints.append(self.exercise.hints[min(due, len(self.exercise.hints) - 1)])
        return [("Hint", hint, False) for hint in hints]

    def _headline(self) -> str:
        earned = f", {self.points:g} of {self.exercise.points:g} points"
        return (
            f"{self.exercise.id} {self.exercise.title}: {self.verdict}"
            f"{earned if self.exercise.points else ''}"
        )

    def __repr__(self) -> str:
        lines = [self._headline()]
        for label, text, is_code in self.sections():
            indented = text.replace("\n", "\n    ")
            lines.append(f"  {label}:" if label else f"  {indented}")
            if label:
                lines[-1] += f"\n    {indented}" if is_code or "\n" in text else f" {indented}"
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = _PASS if self.finding.fraction == 1 else _FAIL
        colour = _PARTLY if 0 < self.finding.fraction < 1 else colour
        body = "".join(_html_row(*section) for section in self.sections())
        return (
            f'<div class="course-check" data-exercise="{escape(self.exercise.id)}" '
            f'data-verdict="{self.verdict}" style="{_STYLE.format(colour=colour)}">'
            f'<strong style="{_HEADLINE.format(colour=colour)}">'
            f"{escape(self._headline())}</strong>{body}{self.trimmings}</div>"
        )


def _html_row(label: str, text: str, is_code: bool) -> str:
    shown = f'<pre style="{_CODE}">{escape(text)}</pre>' if is_code else _with_code(text)
    head = f"<strong>{escape(label)}</strong>{'' if is_code else ': '}" if label else ""
    return f'<div style="margin-top:.4em">{head}{shown}</div>'


def _with_code(text: str) -> str:
    """Return text as HTML; what stands between backticks is code.

    >>> _with_code("`a < b`, or not")
    '<code>a &lt; b</code>, or not'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
