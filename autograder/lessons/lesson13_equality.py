"""The final project: whether an engine of one's own pieces says what a model without a cache says.

The oracle computes what is right and compares; where the pieces are, the library only serves the
prompts with them. In a sealed box none of the library's pieces is there. Those that somebody does
not claim to have are lent, as text, and cost their share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import FunctionType
from typing import Any

from autograder.checks.finding import FAILING, Counterexample, Finding, Misconception
from autograder.checks.reference import Method
from autograder.checks.show import show, show_outcome
from autograder.proxy.subject import ITSELF, Outcome, Raised, Returned, Subject
from autograder.proxy.wire import Ref, kind_of
from course_lib import parts
from course_lib.engine.answer import Answer, StopStrings
from course_lib.engine.core import EngineCore
from course_lib.engine.executor import Executor, Forks, StepResult
from course_lib.engine.watch.agreement import (
    PIECES,
    SETTINGS,
    Run,
    Setting,
    missing_pieces,
    plain_tokens,
    run_setting,
    suspects,
    text_of_piece,
)
from course_lib.parts import PARTS
from course_lib.scheduling.scheduler import Scheduler, SchedulerOutput

WEIGHTS = dict(zip(PIECES, (2, 3, 3, 3, 2, 5), strict=True))
"""What each piece weighs: the points of its exercise."""

_OWNERS = (EngineCore, Executor, StopStrings, Answer, Scheduler)
_METHODS = tuple(
    Method(owner, name.partition(".")[2])
    for name in PIECES
    for owner in _OWNERS
    if owner.__name__ == name.partition(".")[0]
)
_EMPTY = (
    "Fill `my_engine`: the name of each piece that you have, and your function or class for it."
)


@dataclass(frozen=True)
class EqualityCheck:
    """The property that an engine of these pieces agrees, in each setting, with a plain model.

    Each setting is one share. What is not one's own costs its weight of all.

    Attributes:
        reference: The pieces that earn everything.
        misconceptions: Pieces that are wrong in some settings.
        others: What else is the course's answer: no sealed box has it.
        settings: What the engine does with memory and time.
        patience: Seconds that one setting may take.
    """

    reference: Mapping[str, Any]
    misconceptions: tuple[Misconception, ...] = ()
    others: tuple[Any, ...] = _METHODS
    settings: tuple[Setting, ...] = SETTINGS
    patience: float = 30.0

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Serve the prompts of a seed in every setting, and count those that agree."""
        unfit = self._unfit(subject)
        if unfit is not None:
            return unfit
        told = subject.apply(missing_pieces, (ITSELF,))
        missing = _names_in(told)
        if missing is None:
            return Finding(0.0, self._failing("your pieces", "pieces by name", told, ""))
        own = 1 - sum(WEIGHTS[name] for name in missing) / sum(WEIGHTS.values())
        if own <= 0:
            return Finding(0.0, self._nothing_own(subject))
        lent = {name: text_of_piece(name) for name in missing}
        outcomes = {each: self._run(subject, each, seed, lent) for each in self.settings}
        wrong = [each for each, came in outcomes.items() if not _agrees(each, seed, came)]
        remarks = [
            f"{len(outcomes) - len(wrong)} of {len(outcomes)} settings agree with the plain model."
        ]
        if missing:
            remarks.append(
                f"The library stands in for {', '.join(missing)}: that costs {1 - own:.0%} of the "
                "points here, beside the exercises' own."
            )
        fraction = own * (1 - len(wrong) / len(outcomes))
        if not wrong:
            return Finding(fraction, self._stood_in(missing), remarks=tuple(remarks))
        case = self._case(wrong[0], outcomes[wrong[0]], subject, seed)
        finding = Finding(fraction, case, remarks=tuple(remarks))
        return finding.named(self._fitting(wrong[0], outcomes[wrong[0]], seed), subject)

    def _unfit(self, subject: Subject) -> Finding | None:
        """Return what is to be said of an answer that is no engine."""
        value = subject.value()
        if isinstance(value, Returned) and value.value in ({}, None):
            return Finding(0.0, unwritten=True, advice=_EMPTY)
        if isinstance(value, Returned) and isinstance(value.value, dict):
            return self._unusable(value.value)
        got = self._failing("my_engine", "a dict: the pieces of your engine by name", value, "")
        return Finding(0.0, got)

    def _unusable(self, pieces: Mapping[Any, Any]) -> Finding | None:
        """Return what is to be said of a piece that is none, or that no engine has."""
        for name, piece in pieces.items():
            where = f"my_engine[{show(name)}]"
            if not isinstance(piece, Ref | None):
                said = f"it is of type {kind_of(piece)}; give the function itself, without quotes"
                wanted = "your function or class", show(piece), said
                return Finding(0.0, Counterexample(where, *wanted, label=FAILING))
            if not _may_be_a_piece(str(name)) and set(pieces) & set(PIECES):
                known = {each.lower(): each for each in PIECES}
                like = get_close_matches(str(name).lower(), known, n=1, cutoff=0.8)
                names = ", ".join(PIECES)
                said = f"it is called {known[like[0]]}" if like else f"they are called {names}"
                wanted = "the name of a piece", show(name), said
                return Finding(0.0, Counterexample(where, *wanted, label=FAILING))
        return None

    def _nothing_own(self, subject: Subject) -> Counterexample:
        """Say why a dict that is not empty has no piece of one's own."""
        value = subject.value()
        names = list(value.value) if isinstance(value, Returned) else []
        pieces = [name for name in PIECES if name in names]
        return Counterexample(
            "my_engine",
            "a piece of your own",
            f"the library's {', '.join(pieces)}" if pieces else f"the names {show(names)}",
            _EMPTY if pieces else f"An engine runs on the pieces called {', '.join(PIECES)}.",
            label=FAILING,
        )

    def _run(
        self, subject: Subject, setting: Setting, seed: int, lent: Mapping[str, str]
    ) -> Outcome:
        with subject.patient(self.patience):
            return subject.apply(run_setting, (ITSELF, setting, seed, dict(lent)))

    def _stood_in(self, missing: list[str]) -> Counterexample | None:
        """Say what is not one's own, where all else is right."""
        if not missing:
            return None
        return Counterexample(
            "your pieces",
            f"all of {', '.join(PIECES)}",
            f"the library stands in for {', '.join(missing)}",
            "the engine is right; what is not yours costs its share",
            label=FAILING,
        )

    def _case(self, setting: Setting, came: Outcome, subject: Subject, seed: int) -> Counterexample:
        """Return the first setting that fails, as a case, with whoever may be to blame."""
        right = plain_tokens(setting, seed)
        tokens = _tokens_of(came)
        blame = self._blame(subject, setting, seed)
        if tokens is None:
            return self._failing(
                f"setting: {setting}", "the tokens of the plain model", came, blame
            )
        if len(tokens) != len(right):
            expected, got = f"{len(right)} answers", f"{len(tokens)} answers"
        else:
            place = next(
                i for i, pair in enumerate(zip(right, tokens, strict=True)) if pair[0] != pair[1]
            )
            expected, got = show(right[place]), show(tokens[place])
            blame = "; ".join(filter(None, (f"that is answer {place} of {len(right)}", blame)))
        return Counterexample(f"setting: {setting}", expected, got, blame, label=FAILING)

    def _blame(self, subject: Subject, setting: Setting, seed: int) -> str:
        """Say which piece, replaced by the library's, makes a setting right; "" if time is up."""
        missing = _names_in(subject.apply(missing_pieces, (ITSELF,))) or []
        lent = {name: text_of_piece(name) for name in PIECES if name not in missing}
        with subject.patient(self.patience):
            named = _names_in(subject.apply(suspects, (ITSELF, setting, seed, lent)))
        if named is None:
            return ""
        if not named:
            return "no single piece, replaced by the library's, makes it right"
        return f"with the library's {' or '.join(named)} in its place the tokens are right"

    def _failing(self, case: str, expected: str, came: Outcome, complaint: str) -> Counterexample:
        raised = came if isinstance(came, Raised) else None
        said = complaint or (raised.message if raised else "")
        return Counterexample(
            case, expected, show_outcome(came), said, label=FAILING, raised=raised
        )

    def _fitting(self, setting: Setting, came: Outcome, seed: int) -> list[Misconception]:
        """Return the known wrong engines that do the same in a setting."""
        return [each for each in self.misconceptions if _does_the_same(each, setting, came, seed)]


def _may_be_a_piece(name: str) -> bool:
    """Say whether an engine knows a name: a part of the course, or a method that a part has.

    >>> _may_be_a_piece("hash_blocks"), _may_be_a_piece("Executor.make_batch")
    (True, True)
    >>> _may_be_a_piece("hash_block"), _may_be_a_piece("Executor.excute")
    (False, False)
    """
    part, _, method = name.partition(".")
    return part in PARTS and (not method or hasattr(parts.reference(part), method))


def _does_the_same(wrong: Misconception, setting: Setting, came: Outcome, seed: int) -> bool:
    try:
        tokens = run_setting(wrong.wrong, setting, seed).tokens
    except Exception as error:
        return isinstance(came, Raised) and _root(str(error)) == _root(came.message)
    return tokens == _tokens_of(came)


def _root(message: str) -> str:
    """Return what a message says of the problem, without whose parts they are."""
    return message.partition(". ")[0]


def _agrees(setting: Setting, seed: int, came: Outcome) -> bool:
    return _tokens_of(came) == plain_tokens(setting, seed)


def _tokens_of(came: Outcome) -> list[list[int]] | None:
    """Return the tokens of a run; None where it is none."""
    value = came.value if isinstance(came, Returned) else None
    return value.tokens if isinstance(value, Run) else None


def _names_in(told: Outcome) -> list[str] | None:
    """Return names of pieces; None where something else came."""
    value = told.value if isinstance(told, Returned) else None
    if isinstance(value, Ref) or not isinstance(value, list):
        return None
    return [str(each) for each in value if isinstance(each, str)]


# What earns everything, and what is wrong


def _own(method: Method) -> Callable[..., Any]:
    """Return a copy of the library's method that counts as somebody's own."""
    function = method.function
    code = function.__code__.replace(co_name=function.__name__)
    own = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    own.__kwdefaults__ = function.__kwdefaults__
    own.__module__ = "__main__"
    return own


REFERENCE = {name: _own(method) for name, method in zip(PIECES, _METHODS, strict=True)}


def moves_nothing(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Leave swapped blocks where they are."""
    moved, output.blocks_to_swap_in = output.blocks_to_swap_in, []
    result = Executor.execute(self, output, forks)
    output.blocks_to_swap_in = moved
    return result


def copies_nothing(
    self: Executor, output: SchedulerOutput, forks: Forks | None = None
) -> StepResult:
    """Copy no block before it is written."""
    copied, output.blocks_to_copy = output.blocks_to_copy, []
    result = Executor.execute(self, output, forks)
    output.blocks_to_copy = copied
    return result


def last_token_swallowed(self: Answer, token: Any) -> None:
    """Drop the last token."""
    Answer.append(self, token)
    if self.finish_reason is not None:
        self.request.output_token_ids.pop()


def not_told(self: EngineCore) -> Any:
    """Tell the scheduler another token than the answers."""
    update = self.scheduler.update_from_output
    self.scheduler.update_from_output = lambda output, sampled: update(  # type: ignore[method-assign]
        output, dict.fromkeys(sampled, 5)
    )
    try:
        return EngineCore.step(self)
    finally:
        self.scheduler.update_from_output = update  # type: ignore[method-assign]


MISTAKES = (
    Misconception(
        "what was swapped out does not come back",
        "The blocks of a request that resumes hold what others left there: its tokens follow from "
        "somebody else's words.",
        {**REFERENCE, "Executor.execute": moves_nothing},
    ),
    Misconception(
        "no copy before a write",
        "Two answers that share a block both write into it, and each reads the other's token.",
        {**REFERENCE, "Executor.execute": copies_nothing},
    ),
    Misconception(
        "the last token is swallowed",
        "Each answer lacks its last token: it was computed, counted and paid for.",
        {**REFERENCE, "Answer.append": last_token_swallowed},
    ),
    Misconception(
        "another token is told",
        "What the scheduler is told is what the next step computes from: it must be what was "
        "sampled.",
        {**REFERENCE, "EngineCore.step": not_told},
    ),
)
