"""What a check finds out about one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that people are known to give.

    Attributes:
        name: What it is called, in a few words.
        explanation: One sentence that says what is wrong with it and why.
        wrong: The answer itself: a function, a class, or a value that behaves like it.
    """

    name: str
    explanation: str
    wrong: Any


@dataclass(frozen=True)
class Counterexample:
    """The smallest case found on which an object does not do what was asked.

    Attributes:
        case: The call, or the calls one per line, as one would type them.
        expected: What should come of it.
        got: What came of it.
        complaint: What is the matter, where that is more than "it differs".
        output: What the object printed on the way.
    """

    case: str
    expected: str
    got: str
    complaint: str = ""
    output: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        fraction: Share of the points that is earned, 0 to 1.
        counterexample: Where it fails, if it does.
        misconception: The known wrong answer that it behaves like, if any.
        unwritten: The object does nothing yet: it is still the stub.
    """

    fraction: float
    counterexample: Counterexample | None = None
    misconception: Misconception | None = None
    unwritten: bool = False


PASSED = Finding(1.0)
