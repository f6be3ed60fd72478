"""The parts of an engine that a learner wrote, as the checks of the project see them."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from autograder.checks.scaffold import is_untouched
from autograder.project.rubric import rubric
from autograder.project.verdicts import ABSENT
from autograder.proxy.subject import Returned, Subject
from autograder.proxy.wire import Ref
from autograder.scopes import name_in

_LIBRARY = "course_lib"


@dataclass(frozen=True)
class Piece:
    """A part of the engine that is the learner's own.

    Attributes:
        name: The part.
        ref: The function or class.
        source: Its text, as it was written.
    """

    name: str
    ref: Ref
    source: str


@dataclass(frozen=True)
class Pieces:
    """What a learner gave for an engine.

    Attributes:
        own: The parts of the project that they wrote, by name.
        stand_ins: Those for which the reference stands in, each with the reason.
    """

    own: Mapping[str, Piece]
    stand_ins: Mapping[str, str]

    @property
    def share(self) -> float:
        """The share of all parts' points that one's own have."""
        return rubric().share_of(set(self.own))


def pieces_of(subject: Subject) -> Pieces:
    """Return the parts of the project in an engine that a learner gave.

    Args:
        subject: A dict with functions and classes by the name of the part that each replaces.
    """
    given = subject.value()
    named = given.value if isinstance(given, Returned) and isinstance(given.value, dict) else {}
    exercises = {part: each.exercise for each in rubric().correctness for part in each.parts}
    own: dict[str, Piece] = {}
    stand_ins: dict[str, str] = {}
    for name, exercise in exercises.items():
        ref = named.get(name)
        source = subject.source(ref) if isinstance(ref, Ref) else None
        reason = _why_not_own(subject, ref, source, exercise)
        wanted = name.rpartition(".")[2]
        if not reason and (found := name_in(str(source))) not in (None, wanted):
            # What its own check has judged has that name: another text would be a decoy.
            reason = f"it is {found}, and not what you wrote as {wanted}"
        if reason:
            stand_ins[name] = reason
        else:
            assert isinstance(ref, Ref)
            own[name] = Piece(name, ref, textwrap.dedent(str(source)))
    return Pieces(own, stand_ins)


def _why_not_own(subject: Subject, ref: object, source: str | None, exercise: str) -> str:
    """Return why a part does not count as the learner's own; "" if it does."""
    if not isinstance(ref, Ref):
        return ABSENT
    module = subject.read(ref, "__module__")
    if isinstance(module, Returned) and str(module.value).partition(".")[0] == _LIBRARY:
        return "it is the course's own"
    if source is None:
        return "its text is not at hand"
    if is_untouched(source, exercise) or is_empty(source):
        return "nothing is written in it yet"
    return ""


def is_empty(source: str) -> bool:
    r"""Say whether no function in a text does anything.

    >>> is_empty("def f(x):\n    'Return it.'\n    raise NotImplementedError")
    True
    >>> is_empty("def f(x):\n    return x")
    False
    """
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return False
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return not any(_does_something(function) for function in functions)


def _does_something(function: ast.FunctionDef) -> bool:
    for statement in function.body:
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.Raise) and "NotImplementedError" in ast.unparse(statement):
            continue
        return True
    return False
