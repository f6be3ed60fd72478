"""Code quality: rules of ruff that the rubric names, and how complex functions are."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from radon.complexity import cc_visit_ast

from autograder.checks.finding import CheckError
from autograder.project.rubric import Quality, rubric
from autograder.project.verdicts import ItemVerdict

COMPLEX = "too complex"
"""What stands for a rule of ruff where radon finds fault."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef

UNREADABLE = "no Python"
"""Likewise where a text cannot be read."""

_SECONDS = 60


@dataclass(frozen=True, order=True)
class Fault:
    """One place where a rule is broken.

    Attributes:
        rule: The code of ruff's rule, ``COMPLEX``, or ``UNREADABLE``.
        part: The part of the engine.
        line: The line of the part's text, from 1.
        says: What is the matter.
    """

    rule: str
    part: str
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.part}, line {self.line}: {self.says}"


def judged(sources: Mapping[str, str]) -> list[ItemVerdict]:
    r"""Return the verdict on how code is written.

    Args:
        sources: The text of each part of the engine that is the learner's own, by name.

    >>> [verdict] = judged({"f": "def f(x):\n    return x == None  # noqa\n"})
    >>> verdict.earned, verdict.evidence  # doctest: +ELLIPSIS
    (18.5, ('E711 costs 1.5 of 20 points: f, line 2: Comparison to `None` ...',))
    """
    of = rubric().quality
    faults = [fault for part, source in sources.items() for fault in faults_in(part, source)]
    evidence, taken = [], 0.0
    for rule, group in groupby(sorted(faults), key=lambda fault: fault.rule):
        found = list(group)
        price = cost(_most(of, rule), len(found))
        taken += price
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        evidence.append(f"{rule} costs {price:.3g} of {of.points:g} points: {found[0]}{more}.")
    earned = max(0.0, of.points - taken)
    if not faults:
        rules = len(of.most)
        evidence = [
            f"None of the {rules} rules is broken, and no function is more complex than "
            f"{of.complexity.limit}."
        ]
    return [
        ItemVerdict("quality", "Code quality", of.points, earned, tuple(evidence), _advice(faults))
    ]


def unjudged() -> list[ItemVerdict]:
    """Return the item, without points."""
    return [ItemVerdict("quality", "Code quality", rubric().quality.points, 0.0)]


def cost(most: float, times: int) -> float:
    """Return what it costs to break a rule so many times: the first half of it, and never all.

    >>> [cost(4, times) for times in (0, 1, 2, 3)]
    [0.0, 2.0, 3.0, 3.5]
    """
    return most * (1 - 0.5**times)


def faults_in(part: str, source: str) -> list[Fault]:
    """Return all faults of one part of the engine.

    Args:
        part: What it is called.
        source: Its text. Comments that silence a rule do not.

    Raises:
        CheckError: Ruff cannot be run.
    """
    found = [
        Fault(
            each["code"] if each["code"] in rubric().quality.most else UNREADABLE,
            part,
            each["location"]["row"],
            each["message"],
        )
        for each in _ruff(source)
    ]
    if any(fault.rule == UNREADABLE for fault in found):
        return found[:1]
    return found + _complex_in(part, source)


def _complex_in(part: str, source: str) -> list[Fault]:
    """Return the functions that are too complex, those within functions and classes included."""
    limit = rubric().quality.complexity.limit
    with warnings.catch_warnings():
        # Python's parser warns of what ruff has a rule for.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree) if isinstance(node, _Function)]
    # Each for itself: radon passes over what stands in a function or in a class within a class.
    functions = [cc_visit_ast(ast.Module([node], []))[0] for node in nodes]
    return [
        Fault(COMPLEX, part, each.lineno, f"{each.name} has {each.complexity}, {limit} are well")
        for each in functions
        if each.complexity > limit
    ]


def _ruff(source: str) -> list[dict[str, Any]]:
    """Return what ruff finds in a text, by the rubric's rules alone."""
    of = rubric().quality
    # Neither a file of settings nor a comment decides: the same rules for everybody.
    options = ["--isolated", "--no-cache", "--ignore-noqa", "--output-format", "json"]
    options += ["--select", ",".join(of.most), "--config", f"line-length={of.line_length}"]
    options += ["--target-version", of.target_version, "--stdin-filename", "part.py", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options],
        input=source.encode("utf-8", "replace"),
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise CheckError(f"ruff cannot be run: {said}") from error
    return found


def _most(of: Quality, rule: str) -> float:
    """Return what a rule costs at the most."""
    if rule == UNREADABLE:
        return 2 * of.points
    return of.complexity.most if rule == COMPLEX else of.most[rule]


def _advice(faults: list[Fault]) -> str:
    if not faults:
        return ""
    rules = sorted({fault.rule for fault in faults})
    if rules == [COMPLEX]:
        return rubric().quality.complexity.advice
    codes = ", ".join(rule for rule in rules if rule not in (COMPLEX, UNREADABLE))
    if not codes:
        return "Make it Python that can be read."
    return f"`ruff rule CODE` explains each rule ({codes}); mend what it names."
