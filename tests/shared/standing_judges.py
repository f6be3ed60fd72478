"""Who stands for the judges of the small lesson, and the submissions whose points are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autograder.sealed.canaries import RIGHT, UNTOUCHED
from autograder.sealed.intake import Submission, graded_cells
from autograder.sealed.judges import Order
from autograder.sealed.release import Release
from autograder.sealed.verdict import Status, Verdict


class Judges:
    """Stand for who judges: an answer that returns something is right."""

    def __init__(self) -> None:
        self.judged: list[str] = []
        self.fails_for = ""
        self.ends_after = 100
        self.accepts = "return"
        self.boxed: set[bool] = set()

    def __call__(
        self, orders: Mapping[str, Order]
    ) -> Iterator[tuple[str, tuple[Verdict, ...] | None]]:
        for number, (key, order) in enumerate(orders.items()):
            if number == self.ends_after:
                raise KeyboardInterrupt
            student = order.submission.student
            self.judged.append(student)
            self.boxed.add(order.is_boxed)
            yield (
                key,
                None
                if student == self.fails_for
                else tuple(verdicts(order.submission, self.accepts)),
            )


def verdicts(submission: Submission, accepts: str) -> Iterator[Verdict]:
    sources = {cell.grade_id: cell.source for cell in submission.cells}
    for name in ("double", "half"):
        is_right = "return" in sources[f"ex-{name}"] or accepts in sources[f"ex-{name}"]
        status = Status.PASS if is_right else Status.FAIL
        mistake = "" if is_right else "forgets to return"
        yield Verdict(
            f"1.{name}", f"check-{name}", status, float(is_right), mistake, misconception=mistake
        )
    yield Verdict("text", "text", Status.MANUAL)


def known_submissions(release: Release) -> dict[str, Submission]:
    right = [cell.copy() for cell in release.cells]
    for cell in right:
        if str(cell.id).startswith("ex-"):
            cell.source = f"{cell.source}\n    return 2 * x"
    return {
        RIGHT: Submission(RIGHT, release.lesson, graded_cells(right, release)[0]),
        UNTOUCHED: Submission(UNTOUCHED, release.lesson, graded_cells(release.cells, release)[0]),
    }
