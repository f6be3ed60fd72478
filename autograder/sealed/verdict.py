"""What the oracle says of one exercise of one submission."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How the judging of an exercise ended."""

    PASS = "PASS"
    FAIL = "FAIL"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    PIDS = "PIDS"
    OUTPUT = "OUTPUT"
    DISK = "DISK"
    CRASH = "CRASH"
    PROTOCOL = "PROTOCOL"
    QUARANTINED = "QUARANTINED"
    INFRA = "INFRA"
    """The machine failed: it says nothing of the submission, and is tried again."""
    MANUAL = "MANUAL"
    """A text that waits for a person."""


class Remark(StrEnum):
    """What a person should know where points alone would mislead."""

    NOT_STARTED = "not started"
    NOT_GRADABLE = "not gradable"
    CELL_MISSING = "cells missing"
    OUTSIDE_ITS_CELL = "answer outside its cell"
    IMPORTS_REFERENCE = "imports the reference"
    CELL_FAILED = "its cell fails"
    INCONSTANT = "not the same twice"


@dataclass(frozen=True)
class Evidence:
    """What was measured from outside the box.

    Attributes:
        wall_seconds: By the clock, from the taking of the answer to the verdict.
        cpu_seconds: CPU time of the box's processes meanwhile; None where nobody can tell.
        boxes: In how many boxes the answer was examined.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float | None = None
    boxes: int = 0


@dataclass(frozen=True)
class Verdict:
    """What came of one exercise, or of one text.

    Attributes:
        exercise: The exercise's id; for a text, the grade id of its cell.
        grade_id: The cell that carries the points.
        status: How it ended.
        fraction: The share of the points that it earns, 0 to 1.
        message: What there is to say, in one line. It holds nothing that the secret seed has drawn.
        remarks: What a person should know.
        misconception: The known mistake that the answer shows, if it is exactly one.
        evidence: What was measured.
    """

    exercise: str
    grade_id: str
    status: Status
    fraction: float = 0.0
    message: str = ""
    remarks: tuple[Remark, ...] = ()
    misconception: str = ""
    evidence: Evidence = field(default=Evidence(), compare=False)

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Verdict:
        """Return what ``as_data`` was made of.

        >>> verdict = Verdict("1.1", "check-1", Status.FAIL, remarks=(Remark.CELL_MISSING,))
        >>> Verdict.from_data(verdict.as_data()) == verdict
        True
        """
        return cls(
            **{
                **data,
                "status": Status(data["status"]),
                "remarks": tuple(map(Remark, data["remarks"])),
                "evidence": Evidence(**data["evidence"]),
            }
        )
