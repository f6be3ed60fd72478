"""``course autograde``: grading what was handed in with nbgrader."""

from __future__ import annotations

from autograder.commands.console import console
from autograder.errors import CourseError

EXAMPLE = "course autograde"


def autograde() -> None:
    """Autograde all that is in grading/submitted/ with nbgrader, and list the scores."""
    from autograder.grading import batch

    failed = []
    for lesson in batch.lessons_to_grade():
        console.print(f"Grading {lesson}", highlight=False)
        if not batch.autograde(lesson):
            failed.append(lesson)
        console.print(batch.marks_table(batch.marks(lesson)))
    odd = batch.what_is_odd()
    for each in odd:
        console.print(f"grading/submitted/{each}", markup=False, highlight=False, soft_wrap=True)
    problems = [
        f"nbgrader could not grade all of {lesson}; its log above says why" for lesson in failed
    ]
    if odd:
        problems.append(f"{len(odd)} of what was handed in is not as it should be; see above")
    if problems:
        raise CourseError("; ".join(problems))
