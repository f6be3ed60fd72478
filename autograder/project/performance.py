"""Performance: what an engine asks of model and memory, and its CPU time, beside the reference."""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autograder.checks.race import Race, run_race
from autograder.project.driver import Run, drive
from autograder.project.equality import said
from autograder.project.mixes import bustle, many, queue
from autograder.project.rubric import Costs, rubric
from autograder.project.verdicts import ItemVerdict, nothing
from autograder.proxy.subject import ITSELF, LocalSubject, Outcome, Raised, Subject
from course_lib.engine.driven import answers_of, engine_of, serve_queue
from course_lib.engine.lively import come_and_go, lively_engine

PATIENCE = 60.0
"""Seconds that one run of an engine may take."""

_FIRST = "Make the engine's answers right first."
_ASIDE = "Let the engine work in the step itself, and wait for nobody."
_Import = ast.Import | ast.ImportFrom
_ALIKE = 0.95
"""Answers of the timed run that must be the reference's. Not all: where two tokens are as likely to
the last digit, the order of a sum decides, and that of the requests in a batch decides it."""

_QUEUE = "many requests wait"
_SERVE = "requests are served"
_BUSTLE = "clients come and go"


def judged(
    subject: Subject, seed: int, sources: Mapping[str, str] | None = None
) -> list[ItemVerdict]:
    """Return the verdicts on what an engine costs.

    Args:
        subject: The pieces of the engine, whose answers are right, as ``EngineParts.of_pieces``
            takes them.
        seed: Draws the requests.
        sources: The text of the learner's own parts and of what they use, by name.
    """
    trusted = LocalSubject({}, PATIENCE)
    mix = many(seed)
    own, reference = drive(subject, mix), drive(trusted, mix)
    if own.problem is not None:
        return nothing(unjudged(), said(own.problem), _FIRST)
    counted = [_counted(costs, own, reference) for costs in rubric().performance.count]
    aside = untimed(sources or {})
    if aside:
        costs = rubric().performance.time
        nobody = ItemVerdict(costs.id, costs.title, costs.points, 0.0, (aside,), _ASIDE)
        return [*counted, nobody]
    return [*counted, timed(subject, trusted, seed)]


def untimed(sources: Mapping[str, str]) -> str:
    r"""Say where a part waits, or has somebody else work, which no CPU time shows; "" if nowhere.

    >>> untimed({"Answer.append": "def append(self, token):\n    time.sleep(1)"})
    'Answer.append, line 2: sleep takes time that is not CPU time of the engine.'
    >>> untimed({"Answer.append": "def append(self, token):\n    return ', '.join(token)"})
    ''
    >>> untimed({"what is no Python": "def append(self, token:"})
    ''
    """
    aside = set(rubric().performance.time.aside)
    for part, source in sources.items():
        for node in _nodes_of(source):
            imported = [each.name for each in node.names] if isinstance(node, _Import) else []
            names = {*imported, getattr(node, "id", ""), getattr(node, "attr", "")}
            if found := sorted(names & aside):
                line = getattr(node, "lineno", 1)
                where = f"{part}, line {line}"
                return f"{where}: {found[0]} takes time that is not CPU time of the engine."
    return ""


def _nodes_of(source: str) -> Iterator[ast.AST]:
    """Yield what a text consists of; nothing if it is no Python, which is quality's to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            yield from ast.walk(ast.parse(source))


def unjudged() -> list[ItemVerdict]:
    """Return the items, without points."""
    of = rubric().performance
    return [ItemVerdict(each.id, each.title, each.points, 0.0) for each in (*of.count, of.time)]


def _counted(costs: Costs, own: Run, reference: Run) -> ItemVerdict:
    """Return the verdict on what the driver counted."""
    counts = own.counts.of(costs.id), reference.counts.of(costs.id)
    ratio = counts[0] / counts[1]
    share = costs.shares.share(ratio)
    shown = [f"{count:,.0f}" if count >= 10 else f"{count:.3g}" for count in counts]
    evidence = (
        f"{shown[0]}, {ratio:.2f} times the reference's {shown[1]} for the same requests: "
        f"{costs.what}. The bands: {costs.shares!r}."
    )
    advice = "" if share == 1 else costs.advice
    return ItemVerdict(
        costs.id, costs.title, costs.points, share * costs.points, (evidence,), advice
    )


def timed(subject: Subject, trusted: Subject, seed: int) -> ItemVerdict:
    """Return the verdict on CPU time: the worst of three kinds of runs decides.

    Args:
        subject: The pieces of the engine.
        trusted: Those of the reference.
        seed: Draws the requests.
    """
    costs = rubric().performance.time
    races: dict[str, Race] = {}
    evidence = []
    for name, play in ((_SERVE, _serve), (_QUEUE, _wait), (_BUSTLE, _come_and_go)):
        race = run_race(play, costs.shares, alike, subject, trusted, seed)
        if race.problem is None:
            races[name] = race
            evidence.append(f"Where {name}: {race.says}")
        elif name == _BUSTLE:
            # How answers end, refusals and aborts have points of their own, which are lost there.
            evidence.append(f"Where {name} it is not timed: {said(race.problem)}")
        else:
            nothing_timed = (said(race.problem),)
            return ItemVerdict(costs.id, costs.title, costs.points, 0.0, nothing_timed, _FIRST)
    share = costs.shares.share(max(race.ratio for race in races.values()))
    return _verdict(costs, share, evidence)


def _verdict(costs: Costs, share: float, evidence: Sequence[str]) -> ItemVerdict:
    """Return the verdict on a cost; where it earns less than all, it says what earns how much."""
    earned = share * costs.points
    if share == 1:
        return ItemVerdict(costs.id, costs.title, costs.points, earned, tuple(evidence))
    said = (*evidence, f"The bands: {costs.shares!r}.")
    return ItemVerdict(costs.id, costs.title, costs.points, earned, said, costs.advice)


def alike(expected: Any, got: Any) -> str | None:
    """Compare what came of a timed run: a number, or the tokens of all answers to each request.

    >>> answers = [[[number, 7]] for number in range(20)]
    >>> alike(answers, [*answers[:19], [[19, 8]]]), alike(3, 3)
    (None, None)
    >>> alike(answers, [*answers[:18], [[0, 8]], [[0, 9]]])
    '18 of 20 requests are answered as the reference answers them'
    >>> alike(answers, answers[:-1])
    'every request is to be answered'
    """
    if not isinstance(expected, list):
        return None if type(got) is type(expected) and got == expected else "all are to be served"
    if not isinstance(got, list) or _lengths(got) != _lengths(expected):
        return "every request is to be answered"
    same = sum(one == other for one, other in zip(expected, got, strict=True))
    if same >= _ALIKE * len(expected):
        return None
    return f"{same} of {len(expected)} requests are answered as the reference answers them"


def _lengths(answers: list[Any]) -> list[list[int]] | None:
    try:
        return [[len(answer) for answer in each] for each in answers]
    except TypeError:
        return None


def _serve(subject: Subject, number: int) -> Sequence[Outcome]:
    """Have an engine serve requests, with a model of its own; making the engine is not timed."""
    mix = many(number)
    made = subject.apply(engine_of, [ITSELF, dict(mix.options)])
    if isinstance(made, Raised):
        return [made]
    return [subject.apply(answers_of, [made.value, mix.as_data()])]


def _wait(subject: Subject, number: int) -> Sequence[Outcome]:
    """Have a scheduler serve a long queue."""
    return [subject.apply(serve_queue, [ITSELF, queue(number), 1 + number % 1_000])]


def _come_and_go(subject: Subject, number: int) -> Sequence[Outcome]:
    """Have an engine serve clients who come and go, with a model that costs next to nothing."""
    game = bustle(number)
    made = subject.apply(lively_engine, [ITSELF, dict(game.options), list(game.successors)])
    if isinstance(made, Raised):
        return [made]
    return [subject.apply(come_and_go, [made.value, game.as_data()])]
