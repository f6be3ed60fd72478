"""Checks of functions, on numbers, records, arrays or tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import hypothesis
from hypothesis.strategies import SearchStrategy

from autograder.checks.compare import (
    AS_FLOAT,
    Comparison,
    FormComplaint,
    Seen,
    compare_outcomes,
    exactly,
    require_plain,
    same_values,
    with_reason,
)
from autograder.checks.extent import extent
from autograder.checks.finding import (
    FAILING,
    PASSED,
    CheckError,
    Counterexample,
    Finding,
    Misconception,
)
from autograder.checks.lateness import SLOWER, unless_by_chance
from autograder.checks.memory import Memory
from autograder.checks.observe import (
    Arguments,
    as_tuples,
    look,
    misuse,
    parameter_names,
    without_defaults,
)
from autograder.checks.reference import plain
from autograder.checks.search import Search, length
from autograder.checks.show import Matters, show, show_call, show_outcome
from autograder.proxy.subject import (
    TRUSTED_PATIENCE,
    LocalSubject,
    Outcome,
    Raised,
    Returned,
    Subject,
)
from autograder.proxy.wire import Ref, kind_of

NOTHING_COMES_BACK = (
    "Nothing comes back: write below YOUR CODE HERE. If you have, is a return missing?"
)
_NOTHING_WRITTEN = (
    "Nothing is written to {names} yet: write below YOUR CODE HERE. If you have, did it go into a "
    "copy of what you were given?"
)

_MORE_CALLS = 40
"""Generated calls on which a known wrong answer has to agree as well before it is named."""

_MORE_SECONDS = 0.3
"""CPU time that they may take altogether."""

_NONE_BY_THEN = "no answer by then"


class Call:
    """The arguments of one call.

    >>> Call(1, key="a")
    Call(1, key='a')
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return show_call("Call", self.args, self.kwargs)


@dataclass(frozen=True)
class Large:
    """A call whose size is the point: recursion, or work that grows too fast, does not survive it.

    Attributes:
        make: Makes the call, when it is needed.
        size: What is large about it, such as ``"100,000 requests"``.
        seconds: CPU time that it may take.
        slow: What it is that makes natural answers slow, told to who is late.
    """

    make: Callable[[], Call]
    size: str
    seconds: float = 1.0
    slow: str = ""


@dataclass(frozen=True)
class FunctionCheck:
    """The property that a function agrees with the reference on every generated call.

    It agrees if it returns, or refuses, the same; changes no argument, and gives none back as its
    own; and leaves alone what it has returned before. What is asked as a ``Sequence`` comes as a
    list and as a tuple, and a default that a probe names is left out once.

    Attributes:
        reference: The library's function, or one method of a class: the specification.
        cases: Generates calls.
        probes: Calls worth knowing by name. They are tried after the generated ones, and they tell
            which known wrong answer a function behaves like.
        refusals: Calls that the specification says to refuse, and others at its edge, such as empty
            input. They are tried late, so that who gets the idea wrong is told of the idea first.
        misconceptions: Known wrong answers. Each differs from the reference, and from the others,
            on some probe.
        compare: When two returned values agree.
        large: Calls on large inputs, tried last.
        reads: Attributes that stand for an object which is returned.
        writes: Arguments that are to be written; they are compared with the reference's afterwards.
        may_return: Arguments that may be part of what is returned.
        matters: For classes of records, the fields that a failing case shows.
        typed: Writes a failing call as one would type it, where its one line says too little.
        leaves: A function of the library that tells in plain data what has become of the first
            argument, an object, after a call; that is compared beside the returned value.
        is_telling: Whether the cases are drawn so that one tells what was taken for what, and not
            to be as small as can be; a report calls them so.

    Raises:
        CheckError: The reference returns an object that cannot be compared, writes to an argument
            that is not among ``writes``, or refuses its own first probe.
    """

    reference: Callable[..., Any]
    cases: SearchStrategy[Call]
    probes: tuple[Call, ...]
    refusals: tuple[Call, ...] = ()
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly
    large: tuple[Large, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    may_return: tuple[str, ...] = ()
    matters: Matters = field(default_factory=dict)
    typed: Callable[[Call], str] | None = None
    leaves: Callable[[Any], Any] | None = None
    is_telling: bool = False

    def __post_init__(self) -> None:
        for probe in self.probes[:1]:
            outcome = self._right(probe)
            if isinstance(outcome, Raised):
                raise CheckError(
                    f"{self._name} answers its first probe, {probe!r}, with {outcome.kinds[0]}: "
                    f"{outcome.message}. Begin probes= with a call that it can answer; what is to "
                    "be refused stands in refusals="
                )
            given = self._arguments(probe)
            unnamed = sorted({given.name(place) for place in outcome.fate.changed})
            if not set(unnamed) <= set(self.writes):
                raise CheckError(
                    f"{self._name} writes to {', '.join(unnamed)}; name in writes= all that it may"
                )
            require_plain(outcome.value)

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Search for the smallest call on which ``subject`` and the reference disagree."""
        failure = self._falsify(subject, seed, max_examples)
        if failure is None:
            return PASSED
        answers = [self._ask(subject, probe) for probe in self.probes]
        unwritten = all(
            isinstance(answer, Returned) and answer.value is None and not answer.fate.changed
            for answer in answers
        )
        advice = "" if self._returns() else _NOTHING_WRITTEN.format(names=", ".join(self.writes))
        case = failure.counterexample
        if AS_FLOAT in case.complaint:
            case = replace(case, complaint=with_reason(case.complaint, subject.source()))
        finding = Finding(0.0, case, unwritten=unwritten, advice=advice or NOTHING_COMES_BACK)
        fitting = self._fitting(subject, answers, failure.call)
        if fitting:
            more, memory = self._more(subject, seed)
            fitting = [each for each in fitting if self._agrees(each, more, memory)]
        return finding.named(fitting, subject)

    @property
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = plain(self.reference)
        return function

    @property
    def _name(self) -> str:
        return self.reference.__name__

    def _returns(self) -> bool:
        """Say whether the reference returns anything, and does not only write."""
        outcome = self._right(self.probes[0])
        return not self.writes or (isinstance(outcome, Returned) and outcome.value is not None)

    def _trusted(self) -> LocalSubject:
        """Return the reference."""
        return LocalSubject(self._function, TRUSTED_PATIENCE)

    @cached_property
    def _memory(self) -> Memory[Call, Outcome]:
        """What the reference and the known wrong answers do on what every submission is asked."""
        return Memory((*self.probes, *self.refusals), self._ask)

    @cached_property
    def _drawn(self) -> dict[int, Memory[Call, Outcome]]:
        """The same for generated calls, by the seed that was asked for last."""
        return {}

    def _right(self, call: Call) -> Outcome:
        """Return what the reference does on a call."""
        return self._memory.of(self.reference, call, self._trusted())

    def _falsify(self, subject: Subject, seed: int, max_examples: int) -> _Failure | None:
        """Return the first failure: of value, of form, on tuples, of refusal, on large inputs."""
        trial = _Trial(self, subject)
        failure = self._search(trial.value_fails, trial, seed, max_examples)
        if failure is None and trial.form_was_wrong:
            failure = self._search(trial.form_fails, trial, seed, max_examples)
        if failure is not None:
            return failure
        failure = (
            _first(trial.form_fails(call, as_tuple=True) for call in self._tuple_probes())
            or _first(map(trial.form_fails, self._short_probes()))
            or _first(map(trial.form_fails, self.refusals))
            or trial.overwritten
            or _first(map(trial.size_fails, self.large))
        )
        return None if failure is None else failure.one_of_many()

    def _search(
        self,
        fails: Callable[[Call], _Failure | None],
        trial: _Trial,
        seed: int,
        max_examples: int,
    ) -> _Failure | None:
        """Return the smallest call found that fails, or a telling one, or else the first probe."""
        search = Search(trial.subject, max_examples)

        @hypothesis.seed(seed)
        @search.settings
        @hypothesis.given(self.cases)
        def agrees(case: Call) -> None:
            with search.step():
                failure = fails(case)
            if failure is not None:
                search.fail(failure.counterexample, failure.call)

        search.run(agrees)
        failing = filter(None, map(fails, self.probes))
        if search.smallest is None:
            failure = next(failing, None)
            return None if failure is None else failure.one_of_many()
        found = _Failure(search.smallest, search.witness)
        if self.is_telling or trial.subject.is_silent:
            return found.one_of_many()
        # Shrinking ends where no one step makes a case smaller; a probe may be smaller still.
        smallest = min([found, *failing], key=self._extent)
        return smallest.one_of_many() if search.is_cut_short else smallest

    def _extent(self, failure: _Failure) -> tuple[int, float]:
        """Return how large a failing call is to who reads it."""
        if self.typed is not None:
            return length(failure.counterexample)
        call = failure.call or Call()
        return extent([*call.args, *call.kwargs.values()])

    def _tuple_probes(self) -> Iterable[Call]:
        for probe in self.probes:
            converted = as_tuples(self._function, probe.args, probe.kwargs)
            if converted is not None:
                yield Call(*converted[0], **converted[1])

    def _short_probes(self) -> Iterable[Call]:
        """Yield the probes that name a default, without it: whoever leaves it out gets it too."""
        for probe in self.probes:
            shorter = without_defaults(self._function, probe.kwargs)
            if len(shorter) < len(probe.kwargs):
                yield Call(*probe.args, **shorter)

    def _ask(self, subject: Subject, call: Call) -> Outcome:
        if self.leaves is not None:
            return self._ask_and_look(subject, call, self.leaves)
        return look(subject, subject.call(call.args, call.kwargs, watch=True), self.reads)

    def _ask_and_look(self, subject: Subject, call: Call, leaves: Callable[[Any], Any]) -> Outcome:
        """Return what comes of a call, together with what has become of its first argument."""
        made = subject.make(call.args[0])
        if not (isinstance(made, Returned) and isinstance(made.value, Ref)):
            return made
        args = [made.value, *call.args[1:]]
        outcome = look(subject, subject.call(args, call.kwargs, watch=True), self.reads)
        if isinstance(outcome, Raised) or outcome.value is None:
            return outcome
        after = subject.apply(leaves, [made.value])
        said = after.value if isinstance(after, Returned) else show_outcome(after)
        both = Seen({"returned": outcome.value, "afterwards": said})
        return Returned(both, outcome.output, outcome.fate)

    def _arguments(self, call: Call) -> Arguments:
        return Arguments(parameter_names(self._function), call.args, call.kwargs)

    def _fitting(
        self, subject: Subject, answers: list[Outcome], failing: Call | None
    ) -> list[Misconception]:
        """Return the known wrong answers that agree on every probe and on the failing call.

        They are wrong on that call as well. Where it is one to be refused, they treat all of those
        alike.
        """
        # Whoever fails on a large input alone refuses what is to be refused.
        is_refusal = failing is None or failing in self.refusals
        more = [*([] if failing is None else [failing]), *(self.refusals if is_refusal else ())]
        calls = [*self.probes, *more]
        answers = [*answers, *(self._ask(subject, call) for call in more)]
        came = list(zip(calls, answers, strict=True))
        return [
            each
            for each in self.misconceptions
            if self._agrees(each, came, self._memory)
            and (failing is None or self._fails(each, failing))
        ]

    def _fails(self, misconception: Misconception, call: Call) -> bool:
        """Say whether a known wrong answer is wrong on a call, or misuses its arguments."""
        trial = _Trial(self, LocalSubject(misconception.wrong))
        return trial.form_fails(call) is not None

    def _agrees(
        self,
        misconception: Misconception,
        came: Iterable[tuple[Call, Outcome]],
        memory: Memory[Call, Outcome],
    ) -> bool:
        """Say whether a known wrong answer gives what came of each call."""
        answer = misconception.wrong
        wrong = LocalSubject(answer)
        return all(
            self._alike(call, memory.of(answer, call, wrong), outcome) for call, outcome in came
        )

    def _more(
        self, subject: Subject, seed: int
    ) -> tuple[list[tuple[Call, Outcome]], Memory[Call, Outcome]]:
        """Return what comes of a few dozen generated calls: on probes alone, much looks alike.

        With them comes the memory of what known wrong answers do on them. The calls of a seed are
        the same for everybody, and are drawn once unless time is up before all are asked.
        """
        search = Search(subject, _MORE_CALLS, _MORE_SECONDS)
        came: list[tuple[Call, Outcome]] = []

        def ask(call: Call) -> None:
            with search.step():
                came.append((call, self._ask(subject, call)))

        if seed in self._drawn:
            memory = self._drawn[seed]

            def ask_again() -> None:
                for call in memory.fixed:
                    ask(call)

            search.run(ask_again)
            return came, memory
        search.run(hypothesis.seed(seed)(search.settings(hypothesis.given(self.cases)(ask))))
        memory = Memory([call for call, _ in came], self._ask)
        if not search.is_cut_short:
            self._drawn.clear()
            self._drawn[seed] = memory
        return came, memory

    def _alike(self, call: Call, one: Outcome, other: Outcome) -> bool:
        if not same_values(self.compare, one, other):
            return False
        given = self._arguments(call)
        after, before = given.after(one.fate), given.after(other.fate)
        return all(
            same_values(self.compare, Returned(after[name]), Returned(before[name]))
            for name in self.writes
            if name in after
        )


@dataclass(frozen=True)
class _Failure:
    counterexample: Counterexample
    call: Call | None

    def one_of_many(self) -> _Failure:
        """Return the failure without the claim that its case is the smallest."""
        return replace(self, counterexample=replace(self.counterexample, label=FAILING))


class _Trial:
    """One function held against the reference, call by call.

    Attributes:
        subject: The learner's function.
        form_was_wrong: Whether a right value came of the wrong type, or an argument was misused.
        overwritten: The shortest failure seen in which a call changed what the one before it had
            returned.
    """

    def __init__(self, check: FunctionCheck, subject: Subject) -> None:
        self._check = check
        self.subject = subject
        self.form_was_wrong = False
        self.overwritten: _Failure | None = None
        self._before: tuple[Call, Outcome] | None = None

    def value_fails(self, call: Call) -> _Failure | None:
        """Return a failure if the value is wrong, whatever its type; remember a wrong form."""
        failure, is_form = self._compare(call)
        self.form_was_wrong = self.form_was_wrong or is_form
        return None if is_form else failure

    def form_fails(self, call: Call, *, as_tuple: bool = False) -> _Failure | None:
        """Return a failure if value, type or use of the arguments is wrong."""
        failure, _ = self._compare(call)
        if failure is None or not as_tuple:
            return failure
        case = failure.counterexample
        said = "with a list it is right; a sequence may also be a tuple"
        complaint = f"{case.complaint}; {said}" if case.complaint else said
        return _Failure(replace(case, complaint=complaint), None)

    def size_fails(self, large: Large) -> _Failure | None:
        """Return a failure if the answer on a large input is late each time, wrong, or none."""
        return unless_by_chance(lambda: self._at_size(large))

    def _at_size(self, large: Large) -> tuple[_Failure | None, bool]:
        """Return the failure on a large input, and whether it is only that the answer came late."""
        check, call = self._check, large.make()
        trusted = check._trusted()
        expected = look(trusted, trusted.call(call.args, call.kwargs), check.reads)
        with self.subject.timed():
            answer = self.subject.call(call.args, call.kwargs)
        got = look(self.subject, answer, check.reads)
        allowed = max(large.seconds, SLOWER * expected.fate.seconds)
        is_late, complaint = False, "on small inputs it is right"
        if isinstance(got, Raised):
            said = _NONE_BY_THEN if got.kinds[0] == "NoAnswerError" else got.kinds[0]
        elif compare_outcomes(check.compare, expected, got) is not None:
            said = "another value"
        elif got.fate.seconds > allowed:
            said, is_late = f"an answer after {got.fate.seconds:.1f} s", True
        else:
            return None, False
        if large.slow and (is_late or said == _NONE_BY_THEN):
            complaint += f". {large.slow}"
        case = Counterexample(
            case=f"{check.reference.__name__}(...) on {large.size}",
            expected=f"the right answer within {allowed:.2g} s of computing",
            got=said,
            complaint=complaint,
        )
        return _Failure(case, None), is_late

    def _compare(self, call: Call) -> tuple[_Failure | None, bool]:
        """Return the failure on a call, and whether it is one of form only."""
        check = self._check
        given = check._arguments(call)
        expected, got = check._right(call), check._ask(self.subject, call)
        self._remember(call, got)
        complaint = compare_outcomes(check.compare, expected, got)
        shown: list[str] = []
        if complaint is None:
            shown, complaint = self._written(given, expected, got)
        is_form = isinstance(complaint, FormComplaint)
        if complaint is None and isinstance(got, Returned):
            wrong = misuse(
                given, expected.fate, got.fate, check.writes, check.may_return, check.matters
            )
            if wrong is not None:
                shown, complaint, is_form = [wrong.expected, wrong.got], wrong.complaint, True
        if complaint is None:
            return None, False
        shown = shown or [show_outcome(each, check.matters) for each in (expected, got)]
        case = Counterexample(
            self._typed(call),
            shown[0],
            shown[1],
            str(complaint),
            got.output,
            got if isinstance(got, Raised) and isinstance(expected, Returned) else None,
        )
        return _Failure(case, call), is_form

    def _typed(self, call: Call) -> str:
        check = self._check
        if check.typed is not None:
            return check.typed(call)
        return show_call(check._name, call.args, call.kwargs, check.matters)

    def _remember(self, call: Call, got: Outcome) -> None:
        """Note which call was the last, and whether it changed the result of the one before."""
        before, self._before = self._before, (call, got)
        if before is None:
            return
        earlier = got.fate.earlier or self._refilled(before[1])
        if earlier is None:
            return
        was, now = earlier
        kind, matters = kind_of(getattr(was, "ref", was)), self._check.matters
        case = Counterexample(
            f"{self._typed(before[0])}\n{self._typed(call)}",
            f"what the first call returned is still {show(was, matters)}",
            f"after the second it is {show(now, matters)}",
            f"a call changes the {kind} that an earlier one returned; make a new {kind} in each",
        )
        if self.overwritten is None or length(case) < length(self.overwritten.counterexample):
            self.overwritten = _Failure(case, call)

    def _refilled(self, before: Outcome) -> tuple[Any, Any] | None:
        """Return what an object was that a call returned, and is by now, if that is another."""
        was = before.value if isinstance(before, Returned) else None
        if not isinstance(was, Seen) or was.ref is None:
            return None
        now = look(self.subject, Returned(was.ref), self._check.reads)
        is_same = same_values(exactly, Returned(was), now)
        return None if is_same or not isinstance(now, Returned) else (was, now.value)

    def _written(
        self, given: Arguments, expected: Outcome, got: Outcome
    ) -> tuple[list[str], str | None]:
        """Compare the arguments that are to be written as they are afterwards."""
        wanted, have = given.after(expected.fate), given.after(got.fate)
        for name in self._check.writes:
            if name in wanted:
                complaint = self._check.compare(wanted[name], have[name])
                if complaint is not None:
                    shown = [f"{name} is {show(side[name])} afterwards" for side in (wanted, have)]
                    kind = FormComplaint if isinstance(complaint, FormComplaint) else str
                    return shown, kind(f"{name}: {complaint}" if complaint else "")
        return [], None


def _first(results: Iterable[_Failure | None]) -> _Failure | None:
    return next((result for result in results if result is not None), None)
