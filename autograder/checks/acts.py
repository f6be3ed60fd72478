"""What was done in a life, as data: so that it can be done in another one, or only a part of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

from autograder.checks import search
from autograder.checks.lives import Life, Pair
from autograder.proxy.recipes import Make

SECONDS = 1.0
"""CPU time that making a life shorter may take."""


@dataclass(frozen=True)
class Act:
    """One thing done in a life.

    Attributes:
        verb: The method of ``Life``.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """

    verb: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The method that it calls of the object, or the function; else the verb."""
        called = self.args[0] if self.verb in ("do", "apply") else self.verb
        return str(getattr(called, "__name__", called))

    def __call__(self, life: Life) -> Any:
        """Do it."""
        return getattr(life, self.verb)(*self.args, **self.kwargs)

    def with_number(self, place: int, number: int) -> Act:
        """Return the same act with another number at a place of its arguments."""
        return replace(self, args=(*self.args[:place], number, *self.args[place + 1 :]))


class Acts(Sequence[Act]):
    """Acts in order; called with a life, it lives them."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self._acts = tuple(acts)

    def __len__(self) -> int:
        return len(self._acts)

    def __getitem__(self, place: Any) -> Any:
        return self._acts[place]

    def __call__(self, life: Life) -> None:
        """Do one act after the other."""
        for act in self._acts:
            act(life)


class Noted(Life):
    """A life that keeps what is done in it.

    Attributes:
        acts: What was done so far.
    """

    def create(self, *args: Any, **kwargs: Any) -> None:
        """Make the object, and note that."""
        self._note("create", args, kwargs)
        super().create(*args, **kwargs)

    def make(self, recipe: Make) -> Pair:
        """Make an object, and note that; return it as what this step makes, in whichever life."""
        self._note("make", (recipe,), {})
        made = super().make(recipe)
        return Pair(made, made, step=len(self.acts) - 1)

    def do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object, and note that."""
        self._note("do", (method, *args), kwargs)
        return super().do(method, *args, **kwargs)

    def apply(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function of the library on the object, and note that."""
        self._note("apply", (function, *args), {})
        super().apply(function, *args)

    def see(self, attribute: str, of: Any = None, reads: Sequence[str] = ()) -> None:
        """Read an attribute, and note that."""
        self._note("see", (attribute, of, reads), {})
        super().see(attribute, of, reads)

    def _note(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.acts: list[Act] = [*getattr(self, "acts", []), Act(verb, args, kwargs)]


def shorter(
    acts: Sequence[Act], fails: Callable[[Acts], int | None], least: Mapping[str, int]
) -> tuple[Acts, bool]:
    """Leave out what a failing life can do without, and make its numbers smaller.

    Args:
        acts: The life. Its first act makes the object; its last one fails.
        fails: Says in which act a life fails in the same way; None if in none.
        least: The smallest number that a method or a function is asked about, by its name, where
            that is not 0.

    Returns:
        A life that fails in its last act, and whether it is as short as can be: no act, nor any
        two, can be left out, and no number made smaller. It is not if the time is up before.
    """
    stop_at = search.seconds_spent() + SECONDS
    found, place, has_changed = Acts(acts), 0, False
    lower = partial(_with_smaller_numbers, least=least)
    ways: Sequence[Callable[[Acts], Iterator[Acts]]] = _with_one_less, lower, _with_two_less
    while place < len(ways):
        for candidate in ways[place](found):
            last = fails(candidate)
            if last is not None:
                found, has_changed = Acts(candidate[: last + 1]), True
                break
            if search.seconds_spent() > stop_at:
                return found, False
        else:
            # With smaller numbers, or two acts less, another act may have nothing left to do.
            place = 0 if has_changed and place else place + 1
            has_changed = False
    return found, True


def _with_one_less(acts: Acts) -> Iterator[Acts]:
    for place in reversed(range(1, len(acts) - 1)):
        yield from _without(acts, {place})


def _with_two_less(acts: Acts) -> Iterator[Acts]:
    for places in combinations(range(1, len(acts) - 1), 2):
        yield from _without(acts, set(places))


def _without(acts: Acts, places: set[int]) -> Iterator[Acts]:
    """Yield the life without some acts; nothing if one that stays needs what one of them made."""
    kept = [place for place in range(len(acts)) if place not in places]
    place_of = {old: new for new, old in enumerate(kept)}
    with contextlib.suppress(KeyError):
        yield Acts([_moved(acts[place], place_of) for place in kept])


def _moved(value: Any, place_of: Mapping[int, int]) -> Any:
    """Return an act, or an argument, that looks for what earlier acts made where those are now.

    Raises:
        KeyError: One of those acts is in the life no more.
    """
    if isinstance(value, Act):
        moved = _moved(value.args, place_of), _moved(value.kwargs, place_of)
        return Act(value.verb, *moved)
    if isinstance(value, Pair):
        return replace(value, step=place_of[value.step])
    if type(value) is dict:
        return {name: _moved(each, place_of) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_moved(each, place_of) for each in value)
    return value


def _with_smaller_numbers(acts: Acts, least: Mapping[str, int]) -> Iterator[Acts]:
    """Yield lives with one number smaller: alone, and with those behind it that are as large."""
    for place, act in enumerate(acts):
        for index, number in enumerate(act.args):
            lowest = least.get(act.name, 0)
            if type(number) is not int or number <= lowest:
                continue
            some = {*range(lowest, min(number, 20)), number // 2, number - 1}
            for less in sorted(each for each in some if each >= lowest):
                lower = act.with_number(index, less)
                yield Acts([*acts[:place], lower, *acts[place + 1 :]])
                behind = [
                    _lowered(each, number, number - less, least.get(each.name, 0))
                    for each in acts[place + 1 :]
                ]
                yield Acts([*acts[:place], lower, *behind])


def _lowered(act: Act, limit: int, by: int, lowest: int) -> Act:
    """Return an act in which the numbers from a limit on are smaller by so much, if they can."""
    for index, number in enumerate(act.args):
        if type(number) is int and number >= max(limit, lowest + by):
            act = act.with_number(index, number - by)
    return act
