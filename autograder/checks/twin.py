"""The machine that draws lives, and lives them on both sides: the reference's and the learner's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from hypothesis import stateful

from autograder.checks.acts import Act
from autograder.checks.finding import Counterexample
from autograder.checks.lives import Life, Pair, Step
from autograder.checks.search import PUBLIC_EXAMPLES, Search
from autograder.proxy.recipes import Make
from autograder.proxy.subject import Subject


class Judging(Protocol):
    """What a machine asks of the check that it belongs to."""

    def trusted(self) -> Subject:
        """Return the reference."""
        ...

    def life(self, subject: Subject) -> Life:
        """Return a life that has not begun."""
        ...

    def difference(self, expected: Step, got: Step) -> Counterexample | None:
        """Return how two steps differ, if they do."""
        ...


class Twin(stateful.RuleBasedStateMachine):
    """Base of the state machines: does everything to the reference and to the learner's object.

    A rule calls ``create``, ``make``, ``do``, ``see`` and ``apply``. Values that they return are
    pairs (reference's, learner's) and are passed to later calls as they are, or as ``pair.at(0)``.

    Attributes:
        is_free: Whether any step may be left out of a life, or have smaller numbers: no step needs
            what an earlier one has returned, and each is specified whatever came before. A failing
            life is then made as short as it can be. (What ``make`` makes stays where it is needed.)
        least: The smallest number that a method, or a function of ``apply``, is specified for, by
            its name, where that is not 0: a life is made shorter without going below.
        most_lives: How many lives are drawn at most, where fewer show as much.
    """

    is_free: ClassVar[bool] = False
    least: ClassVar[Mapping[str, int]] = {}
    most_lives: ClassVar[int] = PUBLIC_EXAMPLES

    @staticmethod
    def is_sound(acts: Sequence[Act]) -> bool:
        """Say whether a life that was made shorter does only what may be done.

        Args:
            acts: The life.
        """
        return True

    # Bound by the check before a run: Hypothesis makes the machines itself, without arguments.
    check: ClassVar[Judging]
    subject: ClassVar[Subject]
    search: ClassVar[Search]

    def __init__(self) -> None:
        super().__init__()
        check = type(self).check
        self._acts: list[Act] = []
        self._lives = (check.life(check.trusted()), check.life(type(self).subject))

    def create(self, *args: Any, **kwargs: Any) -> None:
        """Make both objects."""
        self._both(Act("create", args, kwargs))

    def make(self, recipe: Make) -> Pair:
        """Make an object on each side that takes part in later calls."""
        return self._both(Act("make", (recipe,), {}))

    def do(self, method: str, *args: Any, reads: Sequence[str] = (), **kwargs: Any) -> Pair:
        """Call a method of both objects and compare what comes of it.

        Args:
            method: Its name, or a path such as ``"waiting.add"``.
            args: Its arguments; pairs among them stand for each side's own.
            reads: Attributes that stand for an object which the method returns.
            kwargs: Its keyword arguments.
        """
        return self._both(Act("do", (method, *args), {"reads": reads, **kwargs}))

    def see(self, attribute: str, of: Pair | None = None, reads: Sequence[str] = ()) -> None:
        """Read an attribute of both objects, or of another pair, and compare."""
        self._both(Act("see", (attribute, of, reads), {}))

    def apply(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function of the library on both objects, and compare what it says."""
        self._both(Act("apply", (function, *args), {}))

    def _both(self, act: Act) -> Pair:
        with type(self).search.step():
            for life in self._lives:
                act(life)
        self._acts.append(act)
        expected, got = (life.steps[-1] for life in self._lives)
        check = type(self).check
        failure = check.difference(expected, got)
        if failure is not None:
            case = "\n".join(step.text for step in self._lives[1].steps)
            type(self).search.fail(replace(failure, case=case), list(self._acts))
        return Pair(expected.value, got.value, step=len(self._acts) - 1)
