"""What a check sees of a learner's object: calls go in, plain data comes out."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.proxy.host import Host
from autograder.proxy.wire import Ref, WireError, from_wire, read_frame, to_wire, write_frame


@dataclass(frozen=True)
class Returned:
    """A call that came back.

    Attributes:
        value: Plain data, with a ``Ref`` where an object stayed behind.
        output: What the call printed.
    """

    value: Any
    output: str = ""


@dataclass(frozen=True)
class Raised:
    """A call that ended in an exception.

    Attributes:
        kinds: Names of the exception's class and of its bases, nearest first.
        message: Its text.
        line: The line of the learner's code that it left through.
        output: What the call printed.
    """

    kinds: tuple[str, ...]
    message: str
    line: str | None = None
    output: str = ""


Outcome = Returned | Raised


class SubjectGoneError(Exception):
    """The process that holds the learner's object ended, hung, or sent nonsense."""


class Subject(ABC):
    """A learner's object (number 0) and the objects that its calls returned.

    Speaks the host's protocol; how a request travels is left to the subclass.
    """

    @abstractmethod
    def _ask(self, request: dict[str, Any]) -> Any:
        """Carry one request to the host and its answer back."""

    @property
    def is_silent(self) -> bool:
        """Whether an earlier call took too long, so that no further one is made."""
        return False

    def value(self) -> Outcome:
        """Return the object itself, as plain data."""
        return self._outcome({"op": "value", "target": 0})

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Outcome:
        """Call the object; for a class, make an instance."""
        return self._outcome({"op": "call", "target": 0, **_arguments(args, kwargs)})

    def invoke(
        self, target: Ref, method: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Call a method of an object that an earlier call returned."""
        where = {"op": "invoke", "target": target.number, "method": method}
        return self._outcome({**where, **_arguments(args, kwargs)})

    def read(self, target: Ref, attribute: str) -> Outcome:
        """Read an attribute of an object that an earlier call returned."""
        return self._outcome({"op": "read", "target": target.number, "attribute": attribute})

    def _outcome(self, request: dict[str, Any]) -> Outcome:
        match self._ask(request):
            case {"value": data, "output": str(output)}:
                return Returned(from_wire(data), output)
            case {
                "raised": [str(), *_] as kinds,
                "message": str(message),
                "line": str() | None as line,
                "output": str(output),
            }:
                return Raised(tuple(map(str, kinds)), message, line, output)
        raise WireError("an answer that is neither a value nor an exception")


def _arguments(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"args": to_wire(list(args)), "kwargs": to_wire(dict(kwargs or {}))}


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

    def __init__(self, obj: object, timeout: float = 2.0) -> None:
        self._host = Host(obj)
        self._timeout = timeout
        self._hung: dict[str, Any] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether an earlier call took too long, so that no further one is made."""
        return self._hung is not None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._hung is not None:
            return self._hung
        with _time_limit(self._timeout):
            answer = self._host.handle(request)
        if answer.get("raised", [None])[0] == NoAnswerError.__name__:
            self._hung = answer
        return answer


_AGAIN = 0.5
"""Seconds after which a call that is still running is told a second time that its time is up."""


class NoAnswerError(BaseException):
    """A call took too long. Not an Exception, so that the learner's code does not swallow it."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise in the code below when its time is up, where the system can (Unix, main thread)."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise NoAnswerError(f"no answer within {seconds:g} s; is there an endless loop?")

    previous = signal.signal(signal.SIGALRM, stop)
    # Whoever else had set the timer, such as a test runner, gets what is left of it.
    # Again and again, because whatever runs at that moment may swallow the exception.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    started = time.monotonic()
    try:
        yield
    finally:
        left = remaining and max(0.001, remaining - (time.monotonic() - started))
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, previous)


class RemoteSubject(Subject):
    """A learner's object in a process of its own.

    Args:
        path: The module that defines the object.
        name: The object.
        timeout: Seconds that one call may take before the process is ended.
    """

    def __init__(self, path: Path, name: str, timeout: float = 10.0) -> None:
        self._timeout = timeout
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

    def _outcome(self, request: dict[str, Any]) -> Outcome:
        watchdog = threading.Timer(self._timeout, self._process.kill)
        watchdog.start()
        try:
            return super()._outcome(request)
        except (EOFError, OSError, ValueError, WireError) as error:
            self._process.kill()
            raise SubjectGoneError(
                f"the process with the learner's code gave no answer within {self._timeout:g} s "
                f"or broke the protocol ({error})"
            ) from error
        finally:
            watchdog.cancel()

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        write_frame(self._process.stdin, request)
        return read_frame(self._process.stdout)
