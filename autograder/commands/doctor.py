"""``course doctor``: saying what this machine has of what the course needs."""

from __future__ import annotations

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course doctor"


def doctor() -> None:
    """Say what this machine has of what the course needs, and what to do about the rest."""
    from autograder.terminal.machine import Status, examine, findings_table

    with console.status("Looking at this machine (importing torch takes a few seconds)"):
        findings = list(examine())
    console.print(findings_table(findings))
    missing = [finding.subject for finding in findings if finding.status is Status.MISSING]
    if missing:
        raise CourseError(f"missing: {', '.join(missing)}; the last column says what to do")
    console.print("Everything that the course needs is here.")
