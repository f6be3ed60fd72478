"""Whether an engine's tokens are those of the plain model; without that nothing else counts."""

from __future__ import annotations

from autograder.checks.finding import Counterexample
from autograder.project.driver import drive
from autograder.project.mixes import tight
from autograder.proxy.subject import Subject


def difference(subject: Subject, seed: int) -> Counterexample | None:
    """Return where an engine's answers differ from those of a model without a cache.

    It serves a few requests with hardly any room: in chunks, with prefixes in common, with victims
    that are computed again or swapped out, and two answers to some prompts.

    Args:
        subject: The pieces of the engine, as ``EngineParts.of_pieces`` takes them.
        seed: Draws the requests.
    """
    for mix in tight(seed):
        problem = drive(subject, mix).problem
        if problem is not None:
            return problem
    return None


def said(problem: Counterexample) -> str:
    """Return a difference in a sentence."""
    line = f" ({problem.complaint})" if problem.complaint else ""
    return f"{problem.case}. Expected {problem.expected}; got {problem.got}{line}."
