"""The life of one object: how it is made, what is done to it, and what comes of each step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autograder.checks.compare import Made, Seen
from autograder.checks.observe import Arguments, look, parameter_names
from autograder.checks.show import show, show_call
from autograder.proxy.recipes import Make
from autograder.proxy.subject import ITSELF, Outcome, Returned, Subject
from autograder.proxy.wire import Ref

_TOO_MANY_NUMBERS = 3
"""From so many plain numbers on, a call is shown with the names of its parameters."""


@dataclass(frozen=True)
class Pair:
    """What a step returned on both sides.

    Attributes:
        reference: What the reference returned.
        learners: What the learner's object returned.
        step: Which step of the life it was.
        path: Where in what the step returned, from the outermost list on.
    """

    reference: Any
    learners: Any
    step: int
    path: tuple[Any, ...] = ()

    def __getitem__(self, side: int) -> Any:
        """Return the reference's value (0) or the learner's (1)."""
        return (self.reference, self.learners)[side]

    def at(self, index: Any) -> Pair:
        """Return the pair of what stands at an index, or under a key, of the two values."""
        return Pair(self[0][index], self[1][index], self.step, (*self.path, index))


@dataclass(frozen=True)
class Step:
    """One step of a life.

    Attributes:
        text: What was done, as one would type it.
        outcome: What came of it, in which objects are what was read of them.
        value: What came back, to be passed on; an object is a ``Ref``.
        given: The arguments, where a method was called.
        state: The object's state afterwards, where it was asked for; None if it cannot be told.
    """

    text: str
    outcome: Outcome
    value: Any = None
    given: Arguments | None = None
    state: Any = None


class Life:
    """One object made, and everything that is then done to it.

    Args:
        subject: The class that instances are made of, or the function that is to be a method.
        owner: The library's class.
        method: The method that the subject is mounted as; None if it is the class itself.
        spoil: The steps after which the lists that a method was given are emptied; None for all.
        state_of: Tells the object's state, as plain data, after each step.

    Attributes:
        steps: What was done so far.
    """

    def __init__(
        self,
        subject: Subject,
        owner: type[Any],
        method: str | None = None,
        spoil: Collection[int] | None = None,
        state_of: Callable[[Any], Any] | None = None,
    ) -> None:
        self._subject = subject
        self._owner = owner
        # One that is silent gives the same answer to everything.
        is_class = method is None or subject.is_silent
        self._class = ITSELF if is_class else subject.mount(owner, str(method))
        self._spoil = spoil
        self._state_of = state_of
        self._object: Ref | None = None
        self._names: dict[int, str] = {}
        self._looks: dict[int, str] = {}
        self.steps: list[Step] = []

    def create(self, *args: Any, **kwargs: Any) -> None:
        """Make the object; what an earlier ``make`` returned may be among the arguments."""
        args = tuple(map(self._own, args))
        kwargs = {name: self._own(value) for name, value in kwargs.items()}
        made = self._subject.call(args, kwargs, target=self._class)
        if isinstance(made, Returned) and isinstance(made.value, Ref):
            self._object = made.value
            made = Returned(Made(made.value.kind), made.output, made.fate)
        name = self._owner.__name__
        self._log(Step(self._text(f"obj = {name}", args, kwargs), made))

    def make(self, recipe: Make) -> Any:
        """Make an object that takes part in later calls; return its ``Ref``."""
        made = self._subject.make(recipe)
        if not isinstance(made, Returned) or not isinstance(made.value, Ref):
            return self._log(Step(repr(recipe), made))
        kind = made.value.kind
        name = f"{kind.lower()}{1 + len(self._names)}"
        self._names[made.value.number] = name
        return self._log(Step(f"{name} = {recipe!r}", Returned(Made(kind)), made.value))

    def do(self, method: str, *args: Any, reads: Sequence[str] = (), **kwargs: Any) -> Any:
        """Call a method of the object.

        Args:
            method: Its name, or a path such as ``"waiting.add"``.
            args: Its arguments; what an earlier ``do`` returned may be among them.
            reads: Attributes that stand for an object which the method returns; by the first of
                them it is known in the text of later calls.
            kwargs: Its keyword arguments.

        Returns:
            The value, to be passed on; an object that was returned is a ``Ref``.
        """
        args = tuple(map(self._own, args))
        kwargs = {name: self._own(value) for name, value in kwargs.items()}
        text = self._text(f"obj.{method}", args, kwargs)
        if self._object is None:
            return self._log(Step(text, Returned(None)))
        spoil = self._spoil is None or len(self.steps) in self._spoil
        outcome = self._subject.invoke(self._object, method, args, kwargs, watch=True, spoil=spoil)
        if all(step.given is None for step in self.steps):
            # The call before it is one of another life, which nobody is shown.
            outcome = replace(outcome, fate=replace(outcome.fate, earlier=None))
        seen = look(self._subject, outcome, reads)
        if isinstance(outcome, Returned) and isinstance(seen, Returned):
            self._remember(outcome.value, seen.value)
        given = Arguments(self._parameters(method), args, kwargs)
        return self._log(Step(text, seen, getattr(outcome, "value", None), given))

    def see(self, attribute: str, of: Any = None, reads: Sequence[str] = ()) -> None:
        """Read an attribute of the object, or of another one, at a path such as ``"a.0.b"``."""
        target = self._object if of is None else self._own(of)
        name = "obj" if of is None else self._shown(target)
        if not isinstance(target, Ref):
            self._log(Step(f"{name}.{attribute}", Returned(None)))
            return
        outcome = self._subject.read(target, attribute)
        self._log(Step(f"{name}.{attribute}", look(self._subject, outcome, reads)))

    def apply(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function of the library on the object, and on what else it needs."""
        args = tuple(map(self._own, args))
        unnamed, named = _told_apart(function, args)
        text = self._text(function.__name__, (_Named("obj"), *unnamed), named)
        if self._object is None:
            self._log(Step(text, Returned(None)))
            return
        self._log(Step(text, self._subject.apply(function, (self._object, *args))))

    def _log(self, step: Step) -> Any:
        """Note a step; return what is to be passed on."""
        if self._state_of is not None and self._object is not None:
            said = self._subject.apply(self._state_of, (self._object,))
            state = said.value if isinstance(said, Returned) else None
            step = replace(step, state=state)
        self.steps.append(step)
        return step.value

    def _remember(self, value: Any, seen: Any) -> None:
        """Note how objects that came back look: by what was read of them first."""
        if isinstance(value, Ref) and isinstance(seen, Seen):
            name, said = next(iter(seen.items()))
            self._looks[value.number] = f"<{value.kind} {name}={show(said)}>"
        elif isinstance(value, (list, tuple)):
            for item, its_look in zip(value, seen, strict=True):
                self._remember(item, its_look)

    def _own(self, argument: Any) -> Any:
        """Return an argument with this life's own value in the place of each pair."""
        if isinstance(argument, Pair):
            value = self.steps[argument.step].value
            for index in argument.path:
                value = (
                    None if value is None else value[index]
                )  # an answer that hangs gives nothing
            return value
        if type(argument) in (list, tuple):
            return type(argument)(map(self._own, argument))
        return argument

    def _text(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        named = {key: self._by_name(value) for key, value in kwargs.items()}
        return show_call(name, [self._by_name(arg) for arg in args], named)

    def _by_name(self, value: Any) -> Any:
        """Return a value to show, in which objects have the names that ``make`` gave them."""
        if isinstance(value, Ref) and value.number in self._names:
            return _Named(self._names[value.number])
        if isinstance(value, Ref) and value.number in self._looks:
            return _Named(self._looks[value.number])
        return [self._by_name(item) for item in value] if type(value) is list else value

    def _shown(self, target: Any) -> str:
        return repr(self._by_name(target))

    def _parameters(self, method: str) -> Sequence[str]:
        """Return the names of a method's parameters, without the object itself."""
        function = getattr(self._owner, method, None)
        return parameter_names(function)[1:] if callable(function) else ()


Script = Callable[[Life], Any]
"""Lives a life: a probe, or all that was done in a failing one."""


@dataclass(frozen=True)
class LargeLife:
    """A life whose size is the point: recursion, or work that grows too fast, does not survive it.

    Attributes:
        live: Lives it.
        size: What is large about it, such as ``"a table of 100,000 blocks"``.
        seconds: CPU time that it may take.
        slow: What it is that makes natural answers slow, told to who is late.
    """

    live: Script
    size: str
    seconds: float = 1.0
    slow: str = ""


def does_nothing(steps: Sequence[Step]) -> bool:
    """Say whether an object lives as a stub's does.

    Its methods return nothing after the making, and what is seen of it between them stays the same,
    or is not there at all.

    >>> does_nothing([])
    True
    """
    seen: dict[str, str] = {}
    is_called = any(step.given is not None for step in steps)
    for number, step in enumerate(steps):
        is_look = step.given is None and is_called
        if not isinstance(step.outcome, Returned):
            if number and is_look and step.outcome.kinds[:1] == ("AttributeError",):
                continue
            return False
        value = step.outcome.value
        if value is None or isinstance(value, Made):
            continue
        if not is_look or seen.setdefault(step.text, repr(value)) != repr(value):
            return False
    return True


def _told_apart(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as they are shown: by name if nobody could tell the numbers apart.

    >>> def place(obj, known, ahead, computed): ...
    >>> _told_apart(place, (3, 0, 2)), _told_apart(place, ("a", 0, 2))
    (((), {'known': 3, 'ahead': 0, 'computed': 2}), (('a', 0, 2), {}))
    """
    names = parameter_names(function)[1 : 1 + len(args)]
    if sum(type(arg) is int for arg in args) < _TOO_MANY_NUMBERS or len(names) < len(args):
        return args, {}
    return (), dict(zip(names, args, strict=True))


class _Named:
    """Shows itself as a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name
