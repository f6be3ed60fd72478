"""What a check sees of a learner's object: calls go in, plain data comes out."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autograder.proxy.asleep import awake_now, had_done_between
from autograder.proxy.host import UNUSABLE, Host, described
from autograder.proxy.names import name_of
from autograder.proxy.recipes import Callback, Make
from autograder.proxy.time_limit import NoAnswerError, TimeLimit
from autograder.proxy.wire import (
    Ref,
    WireError,
    from_wire,
    kind_of,
    read_frame,
    to_wire,
    write_frame,
)

Place = int | str
"""Which argument of a call: its place, or its name if it was passed by name."""


@dataclass(frozen=True)
class Fate:
    """What became of the arguments of a call.

    Attributes:
        changed: Those that the call changed, as they are now.
        touched: Those that hold an object of the library which the call changed.
        kept: Those that are part of what was returned: the same list, or the same memory.
        seconds: CPU time of the call.
        earlier: What the call before had returned, as it was and as it is now, if this call changed
            it.
    """

    changed: Mapping[Place, Any] = field(default_factory=dict)
    kept: tuple[Place, ...] = ()
    seconds: float = 0.0
    touched: tuple[Place, ...] = ()
    earlier: tuple[Any, Any] | None = None


@dataclass(frozen=True)
class Returned:
    """A call that came back.

    Attributes:
        value: Plain data, with a ``Ref`` where an object stayed behind.
        output: What the call printed.
        fate: What became of its arguments, if they were watched.
    """

    value: Any
    output: str = ""
    fate: Fate = field(default=Fate(), compare=False)


@dataclass(frozen=True)
class Raised:
    """A call that ended in an exception.

    Attributes:
        kinds: Names of the exception's class and of its bases, nearest first.
        message: Its text.
        line: The line of the learner's code that it left through.
        output: What the call printed.
        fate: What became of its arguments, if they were watched.
        values: The numbers and texts among the variables of that line, as text.
    """

    kinds: tuple[str, ...]
    message: str
    line: str | None = None
    output: str = ""
    fate: Fate = field(default=Fate(), compare=False)
    values: Mapping[str, str] = field(default_factory=dict, compare=False)


Outcome = Returned | Raised


UNREADABLE = Raised(
    (UNUSABLE,), "it holds a value that is not plain data, such as a set inside a set"
)
"""What stands for an answer that cannot be read."""

PATIENCE = 2.0
"""Seconds that one call of a learner's object may take, where the check asks for no more."""

TRUSTED_PATIENCE = 120.0
"""Seconds that the course's own answer may take: it comes, however busy the machine is."""

ITSELF = Ref(0)
"""The learner's object, where a reference to it is wanted."""


class SubjectGoneError(Exception):
    """The process that holds the learner's object ended, hung, or sent nonsense."""


class Subject(ABC):
    """A learner's object (number 0) and the objects that its calls returned.

    Speaks the host's protocol; how a request travels is left to the subclass.

    Args:
        timeout: Seconds that one call may take.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Let each call in this block take longer: one that does not run the learner's code.

        Args:
            seconds: How long at least.

        >>> subject = LocalSubject(len, timeout=1.0)
        >>> with subject.patient(60.0):
        ...     subject.call([[1, 2]]).value
        2
        """
        before = self._timeout
        self._timeout = max(before, seconds)
        try:
            yield
        finally:
            self._timeout = before

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Let the CPU time of each call in this block count.

        The side where the object is says what a call took. A subject that can be judged by what the
        kernel says of it believes that alone.
        """
        yield

    @abstractmethod
    def _ask(self, request: dict[str, Any], lent: Sequence[Callback]) -> Any:
        """Carry one request to the host and its answer back, answering what it asks meanwhile."""

    @property
    def is_silent(self) -> bool:
        """Whether an earlier call took too long, so that no further one is made."""
        return False

    def value(self) -> Outcome:
        """Return the object itself, as plain data."""
        return self._outcome({"op": "value", "target": 0})

    def source(self, target: Ref = ITSELF) -> str | None:
        """Return an object's source; None where it is not at hand.

        Args:
            target: The object, or another that an earlier call returned.
        """
        outcome = self._outcome({"op": "source", "target": target.number})
        found = isinstance(outcome, Returned) and isinstance(outcome.value, str)
        return str(outcome.value) if found else None  # type: ignore[union-attr]

    def helpers(self, target: Ref = ITSELF) -> dict[str, str]:
        """Return the source of what an object uses and what stands beside it, by name.

        Args:
            target: The object, or another that an earlier call returned.
        """
        outcome = self._outcome({"op": "helpers", "target": target.number})
        # Whoever has taken over the process of an answer may answer anything.
        if not (isinstance(outcome, Returned) and isinstance(outcome.value, dict)):
            return {}
        return {str(name): text for name, text in outcome.value.items() if isinstance(text, str)}

    def examples(self, target: Ref = ITSELF) -> Outcome:
        """Run the examples of an object's docstrings; return what each prints, by its line."""
        return self._outcome({"op": "examples", "target": target.number})

    def call(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        target: Ref = ITSELF,
        watch: bool = False,
    ) -> Outcome:
        """Call the object, or another that can be called; for a class, make an instance.

        Args:
            args: Plain data, recipes, callbacks, and references to objects of this subject.
            kwargs: Likewise.
            target: What to call.
            watch: Whether to say what became of the arguments.
        """
        return self._send({"op": "call", "target": target.number, "watch": watch}, args, kwargs)

    def invoke(
        self,
        target: Ref,
        method: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        watch: bool = False,
        spoil: bool = False,
    ) -> Outcome:
        """Call a method of an object that an earlier call returned.

        Args:
            target: The object.
            method: The method, or a path to one, such as ``"waiting.add"``.
            args: As for ``call``.
            kwargs: Likewise.
            watch: Whether to say what became of the arguments.
            spoil: Whether to empty lists, dicts and sets among them afterwards, so that whoever
                kept one instead of copying it is found out.
        """
        request = {"op": "invoke", "target": target.number, "method": method}
        return self._send({**request, "watch": watch, "spoil": spoil}, args, kwargs)

    def apply(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Call a function of the library, on the side where the object is.

        Args:
            function: A public function or class of ``course_lib``.
            args: As for ``call``; ``ITSELF`` is the object.
            kwargs: Likewise.
        """
        return self._send({"op": "apply", "function": str(name_of(function))}, args, kwargs)

    def make(self, recipe: Make) -> Outcome:
        """Build an object on the side where the object is; it returns as a reference."""
        return self._outcome({"op": "make", "recipe": to_wire(recipe)}, ())

    def mount(self, owner: type[Any], method: str) -> Ref:
        """Return a subclass of a library's class in which the object is the method of this name."""
        request = {"op": "mount", "owner": str(name_of(owner)), "method": method, "target": 0}
        outcome = self._outcome(request)
        if isinstance(outcome, Returned) and isinstance(outcome.value, Ref):
            return outcome.value
        raise WireError(f"no class came of mounting {method} on {owner.__name__}: {outcome}")

    def read(self, target: Ref, attribute: str) -> Outcome:
        """Read an attribute of an object that an earlier call returned, or one at a path."""
        return self._outcome({"op": "read", "target": target.number, "attribute": attribute})

    def _send(
        self, request: dict[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any] | None
    ) -> Outcome:
        """Send a request with arguments."""
        lent: list[Callback] = []

        def lend(callback: Callback) -> int:
            lent.append(callback)
            return len(lent) - 1

        arguments = {
            "args": to_wire(list(args), lend=lend),
            "kwargs": to_wire(dict(kwargs or {}), lend=lend),
        }
        return self._outcome({**request, **arguments}, lent)

    def _outcome(self, request: dict[str, Any], lent: Sequence[Callback] = ()) -> Outcome:
        answer = self._ask(request, lent)
        match answer:
            case {"value": data, "output": str(output), "seconds": float() as seconds}:
                return Returned(from_wire(data), output, _fate(answer, seconds))
            case {
                "raised": [str(), *_] as kinds,
                "message": str(message),
                "line": str() | None as line,
                "output": str(output),
                "seconds": float() as seconds,
            }:
                fate, values = _fate(answer, seconds), _values(answer)
                return Raised(tuple(map(str, kinds)), message, line, output, fate, values)
        raise WireError("an answer that is neither a value nor an exception")


def _fate(answer: dict[str, Any], seconds: float) -> Fate:
    """Return what an answer says of the arguments."""
    try:
        changed = {_place(place): from_wire(now) for place, now in answer.get("changed", ())}
        kept, touched = (tuple(map(_place, answer.get(way, ()))) for way in ("kept", "touched"))
        earlier = None
        if "earlier" in answer:
            was, now = map(from_wire, answer["earlier"])
            earlier = (was, now)
        return Fate(changed, kept, seconds, touched, earlier)
    except (TypeError, ValueError) as error:
        raise WireError(f"malformed news of the arguments: {error}") from error


def _values(answer: dict[str, Any]) -> dict[str, str]:
    """Return the variables that an answer tells of."""
    try:
        return {str(name): str(value) for name, value in answer.get("values", ())}
    except (TypeError, ValueError) as error:
        raise WireError(f"malformed variables: {error}") from error


def _place(place: Any) -> Place:
    if not isinstance(place, (int, str)):
        raise WireError(f"{place!r} is no place of an argument")
    return place


def answer_question(question: dict[str, Any], lent: Sequence[Callback]) -> dict[str, Any]:
    """Let a callback of the check answer what the learner's code asks.

    Raises:
        WireError: The question is not one, or nobody lent such a callback.
    """
    match question:
        case {"ask": int(number), "args": list(args)} if 0 <= number < len(lent):
            try:
                return {"value": to_wire(lent[number](*from_wire(args)))}
            except Exception as error:
                kinds = [kind.__name__ for kind in type(error).__mro__ if kind is not object]
                message = str(error)
                for given in args:
                    # Whoever asked knows the object that the check has only a reference to.
                    message = message.replace("'Ref'", f"'{kind_of(from_wire(given))}'")
                return {"raised": kinds, "message": message}
    raise WireError("a question to nobody")


class LocalSubject(Subject):
    """A learner's object in this process, reached through the wire format all the same.

    So a check behaves alike in a notebook and in the sealed grader, and the learner's code gets
    copies of the inputs that it may change as it likes.

    A call that takes too long, as an endless loop does, ends in an exception like any other. After
    the first one no further call is made: each would take as long.

    Args:
        obj: The object.
        timeout: Seconds that one call may take.
    """

    def __init__(self, obj: object, timeout: float = PATIENCE) -> None:
        super().__init__(timeout)
        self._host = Host(obj, lambda question: answer_question(question, self._lent))
        self._lent: Sequence[Callback] = ()
        self._hung: dict[str, Any] | None = None
        self._is_timed = False

    @property
    def is_silent(self) -> bool:
        """Whether an earlier call took too long, so that no further one is made."""
        return self._hung is not None

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Let the CPU time of each call in this block count, and what it has others do.

        Other threads that Python knows of and the processes that it starts count, and so does
        sleep: who sleeps waits for somebody. Outside of Linux nobody tells of these: there only
        processes that it waited for count as well.
        """
        self._is_timed = True
        try:
            yield
        finally:
            self._is_timed = False

    def _outcome(self, request: dict[str, Any], lent: Sequence[Callback] = ()) -> Outcome:
        began = awake_now() if self._is_timed else None
        try:
            outcome = super()._outcome(request, lent)
        except WireError:
            return UNREADABLE
        if began is None:
            return outcome
        seconds = outcome.fate.seconds + had_done_between(began, awake_now())
        return replace(outcome, fate=replace(outcome.fate, seconds=seconds))

    def _ask(self, request: dict[str, Any], lent: Sequence[Callback]) -> dict[str, Any]:
        if self._hung is not None:
            return self._hung
        self._lent = lent
        answer: dict[str, Any] = {}
        # The time may be up while the host puts together what came of the call.
        with contextlib.suppress(NoAnswerError), TimeLimit(self._timeout) as limit:
            answer = self._host.handle(request)
        if limit.is_up:
            is_told = answer.get("raised", [None])[0] == NoAnswerError.__name__
            self._hung = answer = answer if is_told else described(NoAnswerError(limit.says))
        return answer


class TrustedSubject(LocalSubject):
    """The course's own answer, in this process: nobody stops it, for it comes to its end.

    Limits on time and memory are about a third of what a short call costs. Where the CPU time of a
    call counts, a ``LocalSubject`` with ``TRUSTED_PATIENCE`` says it without the rounds of the
    garbage collector.

    >>> TrustedSubject(len).call([[1, 2]]).value
    2
    """

    def __init__(self, obj: object) -> None:
        super().__init__(obj, TRUSTED_PATIENCE)
        self._host = Host(
            obj, lambda question: answer_question(question, self._lent), is_trusted=True
        )

    def _ask(self, request: dict[str, Any], lent: Sequence[Callback]) -> dict[str, Any]:
        self._lent = lent
        return self._host.handle(request)


class RemoteSubject(Subject):
    """A learner's object in a process of its own.

    Args:
        path: The module that defines the object.
        name: The object.
        timeout: Seconds that one call may take before the process is ended.
    """

    def __init__(self, path: Path, name: str, timeout: float = 10.0) -> None:
        super().__init__(timeout)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "autograder.proxy.host", str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> RemoteSubject:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            # What it did not live to read is still in the buffer, and nobody will.
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _outcome(self, request: dict[str, Any], lent: Sequence[Callback] = ()) -> Outcome:
        watchdog = threading.Timer(self._timeout, self._process.kill)
        watchdog.start()
        try:
            return super()._outcome(request, lent)
        except (EOFError, OSError, ValueError, WireError) as error:
            self._process.kill()
            raise SubjectGoneError(
                f"the process with the learner's code gave no answer within {self._timeout:g} s "
                f"or broke the protocol ({error})"
            ) from error
        finally:
            watchdog.cancel()

    def _ask(self, request: dict[str, Any], lent: Sequence[Callback]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        write_frame(self._process.stdin, request)
        while True:
            answer = read_frame(self._process.stdout)
            if not (isinstance(answer, dict) and "ask" in answer):
                return answer
            write_frame(self._process.stdin, answer_question(answer, lent))
