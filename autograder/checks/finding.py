"""What a check finds out about one object."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from autograder.proxy.subject import Raised, Subject

if TYPE_CHECKING:
    from course_lib.viz.replays.failing_case import FailingCase


class CheckError(Exception):
    """A check that is not sound: the fault is the check's, whatever the learner wrote."""


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that people are known to give.

    Attributes:
        name: What it is called, in a few words.
        explanation: One sentence that says what is wrong with it and why.
        wrong: The answer itself: a function, a class, or a value that behaves like it.
        evidence: A regular expression that is found in the code of who made this very mistake,
            written as ``ast.unparse`` writes it and without docstrings. Without it the report only
            says that the values are the same.
        hint: What helps whoever made it; it comes before the exercise's own hints.
    """

    name: str
    explanation: str
    wrong: Any
    evidence: str = ""
    hint: str = ""


SMALLEST = "Smallest failing case found"
FAILING = "A failing case"
CHECKED = "Checked"


@dataclass(frozen=True)
class Counterexample:
    """A case on which an object does not do what was asked: the smallest found, or a telling one.

    Attributes:
        case: The call, or the calls one per line, as one would type them.
        expected: What should come of it; empty where what came is of the kind that was asked for,
            and more would be the answer.
        got: What came of it.
        complaint: What is the matter, where that is more than "it differs".
        output: What the object printed on the way.
        raised: The exception, where one came instead of a value.
        label: What the case is called: ``SMALLEST`` if it was made as small as the search can,
            ``FAILING`` if it was chosen for what it tells, ``CHECKED`` if it is no case but a
            value.
    """

    case: str
    expected: str
    got: str
    complaint: str = ""
    output: str = ""
    raised: Raised | None = None
    label: str = SMALLEST


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        fraction: Share of the points that is earned, 0 to 1.
        counterexample: Where it fails, if it does.
        misconception: The known wrong answer that it behaves like, if it is exactly one.
        unwritten: The object does nothing yet: it is still the stub.
        alike: The known wrong answers that it behaves like, if they are several.
        confirmed: The source shows that it is the misconception, and nothing that behaves alike.
        advice: Where it is unwritten: what to do first, in words that fit what is asked.
        remarks: What was measured on the way, one sentence each; it is said on a pass too.
        retell: Lives the failing case once more and returns its states, for a figure to play; None
            where no figure shows such a case.
    """

    fraction: float
    counterexample: Counterexample | None = None
    misconception: Misconception | None = None
    unwritten: bool = False
    alike: tuple[Misconception, ...] = ()
    confirmed: bool = False
    advice: str = ""
    remarks: tuple[str, ...] = ()
    retell: Callable[[], FailingCase] | None = field(default=None, compare=False, repr=False)

    def named(self, fitting: Sequence[Misconception], subject: Subject) -> Finding:
        """Return the finding with the known wrong answers that fit it.

        Args:
            fitting: Those that behave like the object, on the failing case too.
            subject: The object, whose source may show that it is the one.
        """
        source = subject.source() if any(each.evidence for each in fitting) else None
        code = code_alone(source) if source else ""
        seen = [each for each in fitting if each.evidence and re.search(each.evidence, code)]
        if len(seen) == 1:
            return replace(self, misconception=seen[0], confirmed=True)
        # Of those that behave alike, one that the code would show is not it where it does not.
        silent = [each for each in fitting if not each.evidence]
        left = silent if len(silent) == 1 and code and not seen else fitting
        if len(left) != 1:
            return replace(self, alike=tuple(fitting))
        return replace(self, misconception=left[0], confirmed=False)


PASSED = Finding(1.0)


def code_alone(source: str) -> str:
    r"""Return source without comments and docstrings, in one layout; as it is if it cannot be read.

    >>> code_alone("def f(x):\n    'Not a mistake.'\n    return x/2  # or is it?")
    'def f(x):\n    return x / 2'
    """
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
