"""Checks of classes: the learner's object and the reference live through the same random life.

A check is a Hypothesis state machine written against ``Twin``: every rule says what is done to
*both* objects, and the first disagreement fails. Objects that methods return, such as the blocks
of a pool, are compared by the attributes that the rule names, so the check never looks into the
learner's own. Lists that a method was given are emptied after the call: who kept one instead of
copying it is found out. So is who fills the list anew that an earlier call returned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import hypothesis
from hypothesis import stateful

from autograder.checks.acts import Act, Acts, Noted, shorter
from autograder.checks.compare import (
    NOTHING_RETURNED,
    Comparison,
    compare_outcomes,
    exactly,
    require_plain,
    same_values,
)
from autograder.checks.finding import (
    FAILING,
    PASSED,
    CheckError,
    Counterexample,
    Finding,
    Misconception,
)
from autograder.checks.lateness import SLOWER, unless_by_chance
from autograder.checks.lives import LargeLife, Life, Pair, Script, Step, does_nothing
from autograder.checks.memory import Memory
from autograder.checks.observe import Misuse, misuse
from autograder.checks.reference import Method
from autograder.checks.search import Search
from autograder.checks.show import length_of, show, show_outcome, show_refusal, with_state
from autograder.checks.twin import Twin
from autograder.proxy.subject import (
    TRUSTED_PATIENCE,
    LocalSubject,
    Outcome,
    Raised,
    Returned,
    Subject,
    TrustedSubject,
)
from autograder.proxy.wire import kind_of, to_wire
from course_lib.viz.replays.failing_case import CaseStep, FailingCase, snapshot_for

__all__ = ["LargeLife", "Life", "Pair", "StatefulCheck", "Twin"]

_SHORTENED = 2
"""How many failing lives are made as short as they can be, from the shortest on."""

_NO_OBJECT = "NotPlainDataError"
"""What is raised where an object of a record's subclass should travel."""

_NO_FILE = "<drawn lives>"
"""The module of the machines that are made for one search each. None has this name: Hypothesis
looks for the source of a machine, which took it a twentieth of a check, and gives up at once."""

_UNWRITTEN = "{} yet: write below YOUR CODE HERE. If you have, is a return missing?"


@dataclass(frozen=True)
class StatefulCheck:
    """The property that an object and the reference cannot be told apart by using them.

    Attributes:
        reference: The library's class, or one method of a class.
        machine: What may be done to an object.
        probes: Scripted lives, which tell which known wrong answer a class behaves like.
        misconceptions: Known wrong classes. Each differs from the reference in some probe.
        compare: When two returned values agree.
        large: Lives whose size is the point, lived last.
        max_steps: Length of the longest life.
        state_line: A function of the library that tells an object's state in one line; a failing
            case then shows it.
        large: Lives on large inputs, tried last.
        first: The probe, if any, whose last step uses a second object. It is lived before all
            others: of what a class keeps for all of its objects, any later life shows only what is
            left of earlier ones.

    Raises:
        CheckError: In the first probe an object would be compared that cannot be, or the reference
            keeps a list that it was given.
    """

    reference: Any
    machine: type[Twin]
    probes: tuple[Callable[[Life], None], ...]
    misconceptions: tuple[Misconception, ...] = ()
    compare: Comparison = exactly
    max_steps: int = 20
    state_line: Callable[[Any], str] | None = None
    large: tuple[LargeLife, ...] = ()
    first: Script | None = None

    def __post_init__(self) -> None:
        for probe in self.probes[:1]:
            steps = self._right(probe)
            for step in steps:
                if isinstance(step.outcome, Raised) and step.outcome.kinds[0] == _NO_OBJECT:
                    raise CheckError(
                        f"{step.text}: what it makes travels as a record, so nothing would be "
                        "compared; check a method of it with FunctionCheck(reference=Method(...))"
                    )
                if isinstance(step.outcome, Returned):
                    try:
                        require_plain(step.outcome.value)
                    except CheckError as error:
                        raise CheckError(f"{step.text}: {error}") from error
            unspoiled = self._record(probe, self.trusted(), spoil=())
            if self._first_difference(steps, unspoiled) is not None:
                raise CheckError(
                    f"{self._name} keeps a list that it was given; a check cannot ask for a copy "
                    "that the reference does not make"
                )

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Search for the shortest life in which ``subject`` and the reference differ."""
        mine = self._new_memory()
        failure = self._falsify(subject, seed, max_examples, mine)
        if failure is None:
            late = (self._failing_in_time(each, subject) for each in self.large)
            return next((Finding(0.0, case) for case in late if case is not None), PASSED)
        lives = [mine.of(subject, probe, subject) for probe in self.probes]
        # A life in which nobody calls a method says nothing of them.
        called = [steps for steps in lives if any(step.given is not None for step in steps)]
        unwritten = all(map(does_nothing, called or lives))
        finding = Finding(
            0.0,
            failure.counterexample,
            unwritten=unwritten,
            advice=_UNWRITTEN.format(
                "It does nothing" if self._is_method else "Its methods do nothing"
            ),
            retell=None
            if unwritten or failure.script is self.first
            else self._retelling(failure, subject),
        )
        lives.append(self._record(failure.script, subject))
        fitting = [
            misconception
            for misconception in self.misconceptions
            if self._fits(misconception, [*self.probes, failure.script], lives)
        ]
        return finding.named(fitting, subject)

    def trusted(self) -> Subject:
        """Return the reference."""
        return TrustedSubject(self._answer)

    @property
    def _answer(self) -> Any:
        """The class, or the function that is a method of one."""
        return self.reference.function if self._is_method else self.reference

    @cached_property
    def _memory(self) -> Memory[Script, list[Step]]:
        """How the reference and the known wrong classes live the probes."""
        return self._new_memory()

    def _new_memory(self) -> Memory[Script, list[Step]]:
        """Return what lets each probe be lived once by each."""
        return Memory(self.probes, lambda subject, script: self._record(script, subject))

    @cached_property
    def _memory_of_noted(self) -> Memory[Script, list[Step]]:
        """How the reference lives what each probe does, as data."""
        return Memory(self._noted.values(), lambda subject, acts: self._record(acts, subject))

    def _right(self, script: Script) -> list[Step]:
        """Return how the reference lives a life."""
        memory = self._memory_of_noted if isinstance(script, Acts) else self._memory
        return memory.of(self.reference, script, self.trusted())

    @cached_property
    def _noted(self) -> Mapping[Script, Acts]:
        """What each probe does, as data."""
        return {probe: self._acts(probe) for probe in self.probes}

    @property
    def _mounted_as(self) -> str | None:
        """The method as which an answer that is a function is mounted."""
        return self._name if isinstance(self.reference, Method) else None

    def life(
        self,
        subject: Subject,
        spoil: Collection[int] | None = None,
        state_of: Callable[[Any], Any] | None = None,
    ) -> Life:
        """Return a new life of a subject: a class, or a function that is mounted as a method."""
        return Life(subject, self._owner, self._mounted_as, spoil, state_of)

    def difference(self, expected: Step, got: Step) -> Counterexample | None:
        """Say how one step differs on the two sides; the case is the step alone."""
        complaint = compare_outcomes(self.compare, expected.outcome, got.outcome)
        if complaint == NOTHING_RETURNED and got.given is None:
            # What was looked at is an attribute, which returns nothing to anybody.
            complaint = "it is None"
        shown: list[str] = []
        if complaint is None and _changes_before_it_refuses(expected.outcome, got.outcome):
            shown = ["nothing has changed, since it refuses", "something has changed"]
            complaint = "it refuses when it has changed something already; look at everything first"
        elif complaint is None and got.given is not None:
            fates = expected.outcome.fate, got.outcome.fate
            wrong = misuse(got.given, *fates) or _refills(expected, got)
            if wrong is not None:
                shown, complaint = [wrong.expected, wrong.got], wrong.complaint
        if complaint is None:
            return None
        shown = shown or [show_outcome(step.outcome) for step in (expected, got)]
        return Counterexample(got.text, shown[0], shown[1], str(complaint), got.outcome.output)

    @property
    def _is_method(self) -> bool:
        """Whether one method of a class is asked for, and not all of it."""
        return isinstance(self.reference, Method)

    @property
    def _name(self) -> str:
        return str(self.reference.__name__)

    @property
    def _owner(self) -> type[Any]:
        """The library's class whose objects live."""
        owner: type[Any] = self.reference.lives_on if self._is_method else self.reference
        return owner

    def _falsify(
        self, subject: Subject, seed: int, max_examples: int, mine: Memory[Script, list[Step]]
    ) -> _Failure | None:
        shared = self._failing_for_sharing(subject)
        if shared is not None:
            return shared
        search = Search(subject, min(max_examples, self.machine.most_lives))
        bound: dict[str, Any] = {"check": self, "subject": subject, "search": search}
        bound["__module__"] = _NO_FILE
        machine = hypothesis.seed(seed)(type(self.machine.__name__, (self.machine,), bound))
        settings = hypothesis.settings(search.settings, stateful_step_count=self.max_steps)
        search.run(lambda: stateful.run_state_machine_as_test(machine, settings=settings))
        found, probed = list[_Failure](), list[_Failure]()
        if search.smallest is not None:
            found.append(_Failure(search.smallest, Acts(search.witness)))
        # Of lives whose steps depend on each other, nobody has tried all that are shorter.
        is_smallest = bool(found) and not search.is_cut_short and self.machine.is_free
        if not found or not subject.is_silent:
            # Shrinking ends with the time, or where no one step makes a life smaller.
            failures = (self._failing(probe, subject, mine) for probe in self.probes)
            probed = [failure for failure in failures if failure is not None]
            found += probed
        if not found:
            return None
        failure = found[0] if self.machine.is_free else min(found, key=_extent)
        if not is_smallest:
            failure = failure.one_of_many()
        if self.machine.is_free and not subject.is_silent:
            failing = [each.script for each in probed]
            failure = self._shortest(failure, search.witness or (), failing, subject)
        return self._explained(failure, subject)

    def _failing_for_sharing(self, subject: Subject) -> _Failure | None:
        """Return what a second object changes; what one alone does wrong is shown by others."""
        if self.first is None:
            return None
        failure, last = self._failing(self.first, subject), len(self._right(self.first)) - 1
        if failure is None or (failure.number, *failure.symptom[1:]) != (last, "", ""):
            return None
        return failure.one_of_many()

    def _failing_in_time(self, large: LargeLife, subject: Subject) -> Counterexample | None:
        """Return what is wrong if a large life is late each time, or goes another way."""
        return unless_by_chance(lambda: self._at_size(large, subject))

    def _at_size(self, large: LargeLife, subject: Subject) -> tuple[Counterexample | None, bool]:
        """Return what is wrong with a large life, and whether it is only that it took too long."""
        sides = LocalSubject(self._answer, TRUSTED_PATIENCE), subject
        expected, got = (self._record(large.live, side) for side in sides)
        allowed, taken = (sum(_seconds(step) for step in side) for side in (expected, got))
        allowed = max(large.seconds, SLOWER * allowed)
        number = self._first_difference(expected, got)
        if number is None and taken <= allowed:
            return None, False
        outcome = got[number].outcome if number is not None else None
        said = f"an answer after {taken:.1f} s" if outcome is None else "another value"
        is_late = number is None
        if isinstance(outcome, Raised):
            is_late = outcome.kinds[0] == "NoAnswerError"
            said = "no answer by then" if is_late else outcome.kinds[0]
        slow = f". {large.slow}" if large.slow and is_late else ""
        case = Counterexample(
            case=f"{self._name}(...) on {large.size}",
            expected=f"the right answer within {allowed:.2g} s of computing",
            got=said,
            complaint=f"on small inputs it is right{slow}",
            label=FAILING,
        )
        return case, number is None

    def _failing(
        self, script: Script, subject: Subject, mine: Memory[Script, list[Step]] | None = None
    ) -> _Failure | None:
        """Live a life on both sides; return where they differ first, if they do."""
        expected = self._right(script)
        got = mine.of(subject, script, subject) if mine else self._record(script, subject)
        number = self._first_difference(expected, got)
        if number is None:
            return None
        failure = self.difference(expected[number], got[number])
        assert failure is not None
        case = "\n".join(step.text for step in got[: number + 1])
        symptom = got[number].text.partition("(")[0], *map(_kind, (expected[number], got[number]))
        return _Failure(replace(failure, case=case), script, number, symptom)

    def _shortest(
        self, found: _Failure, acts: Sequence[Act], probes: Sequence[Script], subject: Subject
    ) -> _Failure:
        """Return the shortest life that can be made of one that fails, or of a probe that does."""
        failing = []
        for life in (Acts(acts), *(self._noted[probe] for probe in probes)):
            failure = self._failing(life, subject)
            if failure is not None:
                failing.append((failure, life[: failure.number + 1]))
        # Whoever gets an idea wrong is to hear of that, not of a refusal that is shorter to show.
        same = [each for each in failing if each[0].symptom == failing[0][0].symptom]
        same.sort(key=lambda each: _extent(each[0]))
        shortened = [self._shortened(*each, subject) for each in same[:_SHORTENED]]
        return min([found, *shortened], key=_extent)

    def _acts(self, probe: Script) -> Acts:
        """Return what a probe does, as data."""
        life = Noted(self.trusted(), self._owner, self._mounted_as)
        probe(life)
        return Acts(life.acts)

    def _shortened(self, failure: _Failure, acts: Sequence[Act], subject: Subject) -> _Failure:
        def fails(acts: Acts) -> int | None:
            if not self.machine.is_sound(acts):
                return None
            lived = None if subject.is_silent else self._failing(acts, subject)
            return lived.number if lived and lived.symptom == failure.symptom else None

        found, is_shortest = shorter(acts, fails, self.machine.least)
        shortened = None if subject.is_silent else self._failing(found, subject)
        if shortened is None:
            return failure.one_of_many()
        return shortened if is_shortest else shortened.one_of_many()

    def _explained(self, failure: _Failure, subject: Subject) -> _Failure:
        """Add to a failing case what living it once more on both sides shows."""
        if subject.is_silent:
            return failure
        case = failure.counterexample, failure.script, subject
        return replace(
            failure, counterexample=self._with_kept_list(*case) or self._with_states(*case)
        )

    def _with_kept_list(
        self, case: Counterexample, script: Script, subject: Subject
    ) -> Counterexample | None:
        """Say which list was kept, if the life is right as long as nobody empties that list."""
        expected = self._record(script, self.trusted(), spoil=())
        if self._first_difference(expected, self._record(script, subject, spoil=())) is not None:
            return None
        lines = case.case.split("\n")
        for number in range(len(lines)):
            got = self._record(script, subject, spoil=(number,))
            if self._first_difference(expected, got) is not None:
                method = lines[number].removeprefix("obj.").partition("(")[0]
                lines[number] += "  # and then the caller empties its list"
                return replace(
                    case,
                    case="\n".join(lines),
                    complaint=f"it keeps the list that {method} was given: whoever changes that "
                    "list changes the object too; keep a copy",
                )
        return None

    def _with_states(
        self, case: Counterexample, script: Script, subject: Subject
    ) -> Counterexample:
        """Show the object's state beside each step, and on both sides after the last."""
        if self.state_line is None:
            return self._with_refusals(case, script, subject)
        sides = self.trusted(), subject
        expected, got = (self._record(script, s, state_of=self.state_line) for s in sides)
        lines = case.case.split("\n")
        last, before = len(lines) - 1, None
        for number, step in enumerate(got[:last]):
            # Both sides refuse here, and only a later line shows what was left behind.
            notes = [show_refusal(step.outcome)] if isinstance(step.outcome, Raised) else []
            # An object that is not there, or holds no slot, has nothing to be shown.
            if step.state != before and step.state not in (None, ""):
                notes.append(str(step.state))
            if notes:
                lines[number] += f"  # {'; '.join(notes)}"
            before = step.state
        shown = [case.expected, case.got]
        # What says the state itself needs it no second time.
        states = [side[last].state for side in (expected, got)]
        if states[0] != states[1]:
            pairs = zip(shown, states, strict=True)
            shown = [with_state(text, state) for text, state in pairs]
        return replace(case, case="\n".join(lines), expected=shown[0], got=shown[1])

    def _with_refusals(
        self, case: Counterexample, script: Script, subject: Subject
    ) -> Counterexample:
        """Show beside each step before the last whether it was refused."""
        lines = case.case.split("\n")
        for number, step in enumerate(self._record(script, subject)[: len(lines) - 1]):
            if isinstance(step.outcome, Raised):
                lines[number] += f"  # {show_refusal(step.outcome)}"
        return replace(case, case="\n".join(lines))

    def _retelling(self, failure: _Failure, subject: Subject) -> Callable[[], FailingCase] | None:
        """Return what lives a failing case once more and tells the state after each step.

        Nothing is lived before it is asked for: a state is a picture of the whole object.
        """
        state_of = snapshot_for(self._owner)
        if state_of is None or subject.is_silent:
            return None

        def retell() -> FailingCase:
            sides = self.trusted(), subject
            expected, got = (self._record(failure.script, s, state_of=state_of) for s in sides)
            last = self._first_difference(expected, got)
            pairs = list(zip(expected, got, strict=False))[: None if last is None else last + 1]
            steps = (
                CaseStep(
                    theirs.text,
                    show_outcome(right.outcome),
                    show_outcome(theirs.outcome),
                    right.state,
                    theirs.state,
                )
                for right, theirs in pairs
            )
            return FailingCase(tuple(steps), failure.counterexample.complaint)

        return retell

    def _record(
        self,
        script: Script,
        subject: Subject,
        spoil: Collection[int] | None = None,
        state_of: Callable[[Any], Any] | None = None,
    ) -> list[Step]:
        life = self.life(subject, spoil, state_of)
        script(life)
        return life.steps

    def _first_difference(self, expected: Sequence[Step], got: Sequence[Step]) -> int | None:
        """Return the number of the first step in which two lives differ."""
        pairs = enumerate(zip(expected, got, strict=False))
        return next((n for n, pair in pairs if self.difference(*pair) is not None), None)

    def _fits(
        self, misconception: Misconception, scripts: Sequence[Script], lives: Sequence[list[Step]]
    ) -> bool:
        """Say whether a known wrong class lives as the subject did, script by script."""
        answer = misconception.wrong
        wrong = LocalSubject(answer)
        return all(
            self._alike(self._memory.of(answer, script, wrong), mine)
            for script, mine in zip(scripts, lives, strict=True)
        )

    def _alike(self, theirs: Sequence[Step], mine: Sequence[Step]) -> bool:
        """Say whether two lives are the same step by step."""
        return len(theirs) == len(mine) and all(
            same_values(self.compare, one.outcome, other.outcome)
            for one, other in zip(theirs, mine, strict=True)
        )


@dataclass(frozen=True)
class _Failure:
    """A life in which the two sides differ.

    Attributes:
        counterexample: The case.
        script: The life.
        number: The step in which they differ first.
        symptom: In what: the method, and whether each side returned or raised.
    """

    counterexample: Counterexample
    script: Script
    number: int = 0
    symptom: tuple[str, ...] = ()

    def one_of_many(self) -> _Failure:
        """Return the failure without the claim that its case is the smallest."""
        return replace(self, counterexample=replace(self.counterexample, label=FAILING))


def _changes_before_it_refuses(expected: Outcome, got: Outcome) -> bool:
    """Say whether an exception came too late for an object among the arguments."""
    is_refusal = isinstance(expected, Raised) and isinstance(got, Raised)
    return is_refusal and bool(got.fate.touched) and not expected.fate.touched


def _refills(expected: Step, got: Step) -> Misuse | None:
    """Say which list, or the like, came back twice, with other things in it the second time.

    What comes back belongs to the caller, unless the reference keeps it, too. A list that changes
    without coming back again is no case of this: an object may give away what it has done with.
    """
    earlier = got.outcome.fate.earlier
    if earlier is None or expected.outcome.fate.earlier is not None:
        return None
    was, now = earlier
    if to_wire(now) != to_wire(got.value):
        return None
    kind, before, after = kind_of(was), show(was), show(now)
    # Objects of one class look alike.
    told = before != after
    return Misuse(
        f"what the call before it returned is {f'still {before}' if told else 'left as it was'}",
        f"it is {after} now" if told else "it has other items, or in another order",
        f"a call changes the {kind} that an earlier one returned; make a new {kind} in each",
    )


def _kind(step: Step) -> str:
    """Say whether a step returned, or what it raised."""
    return "" if isinstance(step.outcome, Returned) else step.outcome.kinds[0]


def _seconds(step: Step) -> float:
    """Return the CPU time of one step; 0 if nothing was asked."""
    return step.outcome.fate.seconds


def _extent(failure: _Failure) -> tuple[int, int, int, str]:
    """Return how long the case of a failure is."""
    return length_of(failure.counterexample.case)
