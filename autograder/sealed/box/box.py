"""The trusted side of a box: sends cells and calls into it, and knows how each of them ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from autograder.proxy.recipes import Callback
from autograder.proxy.subject import (
    ITSELF,
    PATIENCE,
    UNREADABLE,
    Outcome,
    Subject,
    SubjectGoneError,
    answer_question,
)
from autograder.proxy.wire import Ref, WireError, read_frame, write_frame
from autograder.scopes import definitions_used, is_what_stands
from autograder.sealed.box import clock as clocks
from autograder.sealed.box.clock import Reading
from autograder.sealed.box.groups import Group
from autograder.sealed.box.spent import Spent, spent_by

GRACE = 3.0
"""Seconds that the box has beyond a limit of its own, before it is ended from outside."""

FORK, FORCED = b"f", b"k"
"""What is sent beside the channel of a new fork, and to end a fork that does not answer."""

_LONGEST_STATUS = 1_000
_LONGEST_WAIT = 20
"""How many times as long as it was given a box is waited for that gets no processor."""
_MOMENT = 0.001
_MOST_LATE = 1_000
"""Pieces of a message that are taken after the time is up, if they are there: some 64 MB."""

T = TypeVar("T")


class BoxError(Exception):
    """The machine failed, not the submission: it is tried again and never scores."""


class End(StrEnum):
    """How something in a box ended that did not come to its end."""

    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    CRASH = "CRASH"
    PROTOCOL = "PROTOCOL"


class GoneError(SubjectGoneError):
    """What runs in the box gave no answer.

    Args:
        end: How it ended.
        message: What is known of it.
    """

    def __init__(self, end: End, message: str) -> None:
        super().__init__(message)
        self.end = end


@dataclass(frozen=True)
class Fault:
    """What a cell raised.

    Attributes:
        kinds: Names of the exception's class and of its bases, nearest first.
        message: Its text.
    """

    kinds: tuple[str, ...]
    message: str


class Box:
    """One submission in its box.

    Args:
        channel: Carries requests to what runs the cells, and answers.
        control: Hands it the channels of its forks, and tells it to end one.
        status: Where it is said how it ended.
        pid: A process in the box, as it is known outside; 0 if there is none.
        group: The control group of all processes in it.
    """

    def __init__(
        self,
        channel: socket.socket,
        control: socket.socket,
        status: int,
        pid: int,
        group: Group | None = None,
    ) -> None:
        self._pid = pid
        self._group = group or Group()
        self._line = Line(channel, self._spent)
        self._control = control
        self._status = status
        self._is_alive = True

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked for anything still."""
        return self._is_alive

    @property
    def cpu_seconds(self) -> float | None:
        """The CPU time that its processes have taken; None where nobody can tell."""
        spent = self._spent()
        return None if spent is None else spent.seconds

    def _spent(self) -> Spent | None:
        return spent_by(self._pid) if self._pid else None

    def run(self, source: str, seconds: float) -> Fault | None:
        """Run a cell; return what it raised, if anything.

        Args:
            source: The cell.
            seconds: How long it may take.

        Raises:
            GoneError: It ended the process, or could not be ended otherwise.
            BoxError: The process did not begin.
        """
        return self._fault({"run": source, "seconds": seconds}, seconds + GRACE)

    def make_whole(self, module: str, names: Sequence[str], text: str) -> Fault | None:
        """Put bodies back into the course; return what that raised, if anything.

        Args:
            module: A module of the course.
            names: What of it changes.
            text: The module, or the part of it that they need; it is all that the box learns.

        Raises:
            GoneError: The process gave no answer.
            BoxError: It did not begin.
        """
        return self._fault({"whole": module, "names": list(names), "text": text}, 2 * GRACE)

    def _fault(self, request: Any, seconds: float) -> Fault | None:
        """Send a request that is answered by what was raised."""
        match self._asked(request, seconds):
            case {"raised": None}:
                return None
            case {"raised": [str(), *_] as kinds, "message": str(message)}:
                return Fault(tuple(map(str, kinds)), message)
        raise self._given_up(End.PROTOCOL, "an answer that does not say what was raised")

    @contextlib.contextmanager
    def taken(
        self, name: str, timeout: float = PATIENCE, place: str = ""
    ) -> Iterator[BoxSubject | None]:
        """Let a fork lend out what has this name; None if there is no such name.

        What calls do to the fork, nobody sees but later calls of it. When the block ends, it is
        gone, with all processes that it has started.

        Args:
            name: A global name of the cells.
            timeout: Seconds that one call may take.
            place: Where it belongs in the library, if it is a method: ``"module:class.method"``.

        Raises:
            GoneError: The process that runs the cells gave no answer.
            BoxError: It did not begin.
        """
        mine, theirs = socket.socketpair()
        with mine:
            with theirs, contextlib.suppress(OSError):
                socket.send_fds(self._control, [FORK], [theirs.fileno()])
            answer = self._asked({"take": name, "place": place}, GRACE)
            if answer == {"taken": False}:
                yield None
                return
            if answer != {"taken": True}:
                raise self._given_up(End.PROTOCOL, "an answer that does not say what was taken")
            clock = partial(clocks.read, self._pid) if self._pid else None
            subject = BoxSubject(Line(mine, self._spent), self._end_of_fork, timeout, clock)
            try:
                yield subject
            finally:
                mine.close()
                if not subject.has_ended:
                    with contextlib.suppress(GoneError):
                        self._end_of_fork()

    def _end_of_fork(self) -> GoneError:
        """Wait for the end of a fork, or bring it about; return what is to be said of it."""
        try:
            return self._gone_by(self._status_of_fork(GRACE))
        except TimeoutError:
            with contextlib.suppress(OSError):
                self._control.send(FORCED)
        try:
            return self._gone_by(self._status_of_fork(GRACE))
        except TimeoutError as error:
            raise self._given_up(End.TIMEOUT, "a process cannot be ended") from error

    def _status_of_fork(self, seconds: float) -> int:
        try:
            self._line.wait(seconds)
            answer = self._line.receive()
        except TimeoutError:
            raise
        except (WireError, OSError, EOFError) as error:
            raise self._ended() from error
        match answer:
            case {"ended": int(status)}:
                return status
        raise self._given_up(End.PROTOCOL, "an answer that does not say how a process ended")

    def _asked(self, request: Any, seconds: float) -> Any:
        """Send a request and return what comes back."""
        self._line.wait(seconds)
        try:
            self._line.send(request)
            return self._line.receive()
        except TimeoutError as error:
            raise self._given_up(End.TIMEOUT, f"no answer within {seconds:g} s") from error
        except WireError as error:
            raise self._given_up(End.PROTOCOL, str(error)) from error
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def _given_up(self, end: End, message: str) -> GoneError:
        """Give the box up; return what is to be raised."""
        self._is_alive = False
        return GoneError(end, message)

    def _ended(self) -> GoneError | BoxError:
        """Give the box up because its process is gone; return what is to be raised."""
        self._is_alive = False
        ready, _, _ = select.select([self._status], [], [], GRACE)
        said = os.read(self._status, _LONGEST_STATUS).decode() if ready else "0"
        try:
            return self._gone_by(int(said))
        except ValueError:
            return BoxError(f"no process could begin in the box ({said or 'nobody says why'})")

    def _gone_by(self, status: int) -> GoneError:
        """Return what is to be raised for an exit status, which memory may have brought about."""
        if self._group.has_run_out() and status == -signal.SIGKILL:
            return GoneError(End.OOM, "its processes took more memory together than a box has")
        return gone_by(status)


def gone_by(status: int) -> GoneError:
    """Return what is to be raised for an exit status, negative for a signal.

    >>> gone_by(-24).end, gone_by(3).args
    (<End.TIMEOUT: 'TIMEOUT'>, ('the process ended itself with exit status 3',))
    """
    if status == -signal.SIGXCPU:
        return GoneError(End.TIMEOUT, "the process has used up its CPU time")
    if status < 0:
        name = signal.Signals(-status).name
        return GoneError(End.CRASH, f"the process was ended by {name}")
    return GoneError(End.CRASH, f"the process ended itself with exit status {status}")


class BoxSubject(Subject):
    """A learner's object in a fork of what runs the cells.

    Args:
        line: Leads to the fork.
        end: Waits for the end of the fork, and returns what is to be said of it.
        timeout: Seconds that one call may take.
        clock: Reads what it has taken, from outside; None where that cannot be, without a box.

    Attributes:
        has_ended: Whether the fork is gone.
        cells: The text of the cells that ran; of objects that a call has returned no other text is
            believed.
    """

    def __init__(
        self,
        line: Line,
        end: Callable[[], GoneError],
        timeout: float,
        clock: Callable[[], Reading] | None = None,
    ) -> None:
        super().__init__(timeout)
        self._clock = clock
        self._is_timed = False
        self.cells: tuple[str, ...] = ()
        self._line = line
        self._end = end
        self._hung: dict[str, Any] | None = None
        self.has_ended = False

    @property
    def is_silent(self) -> bool:
        """Whether an earlier call took too long, so that no further one is made."""
        return self._hung is not None

    def source(self, target: Ref = ITSELF) -> str | None:
        """Return an object's source; None where it is not at hand, or not what the cells say.

        The box might tell any text: that of a decoy, say, which nobody runs.
        """
        found = super().source(target)
        if found is None or target == ITSELF:
            return found
        text = textwrap.dedent(found).strip()
        is_in_a_cell = any(text in cell for cell in self.cells)
        return found if is_in_a_cell and is_what_stands(text, self.cells) else None

    def helpers(self, target: Ref = ITSELF) -> dict[str, str]:
        """Return what an object uses, by name: as the cells say, and not as the box tells it."""
        source = self.source(target)
        return {} if source is None else definitions_used(source, self.cells)

    def met(self) -> frozenset[str]:
        """Return the exercises whose stubs the calls have met, as the fork tells it."""
        try:
            self._line.wait(GRACE)
            self._line.send({"met": True})
            answer = self._line.receive()
        except (WireError, OSError, EOFError):
            return frozenset()
        told = answer.get("met") if isinstance(answer, dict) else None
        return frozenset(map(str, told)) if isinstance(told, list) else frozenset()

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Let the CPU time of each call in this block count, as the kernel tells it.

        What the call says of itself counts where it is more.
        """
        self._is_timed = self._clock is not None
        try:
            yield
        finally:
            self._is_timed = False

    def _outcome(self, request: dict[str, Any], lent: Sequence[Callback] = ()) -> Outcome:
        began = self._reading()
        moved = self._line.moved
        try:
            outcome = super()._outcome(request, lent)
        except WireError:
            return UNREADABLE
        ended = self._reading()
        if began is None or ended is None:
            return outcome
        try:
            seconds = clocks.seconds_between(began, ended, self._line.moved - moved)
        except clocks.UncountedError as error:
            raise self._gone(End.CRASH, str(error)) from error
        # In this order: what is not a number, as it may say of itself, counts for nothing.
        fate = replace(outcome.fate, seconds=max(seconds, outcome.fate.seconds))
        return replace(outcome, fate=fate)

    def _reading(self) -> Reading | None:
        """Return what the clock shows, where time counts now."""
        if not self._is_timed or self._clock is None or self.has_ended:
            return None
        try:
            return self._clock()
        except OSError as error:
            raise BoxError(f"nobody can take the time of a box: {error}") from error

    def _ask(self, request: dict[str, Any], lent: Sequence[Callback]) -> Any:
        if self._hung is not None:
            return self._hung
        if self.has_ended:
            raise GoneError(End.CRASH, "the process is gone")
        self._line.wait(self._timeout + GRACE)
        try:
            self._line.send({"request": request, "seconds": self._timeout})
            answer = self._line.receive()
            while isinstance(answer, dict) and "ask" in answer:
                self._line.send(answer_question(answer, lent))
                answer = self._line.receive()
        except TimeoutError as error:
            raise self._gone(End.TIMEOUT, f"no answer within {self._timeout:g} s") from error
        except WireError as error:
            raise self._gone(End.PROTOCOL, str(error)) from error
        except (EOFError, OSError) as error:
            self.has_ended = True
            raise self._end() from error
        match answer:
            case {"raised": ["NoAnswerError", *_]}:
                self._hung = answer
        return answer

    def _gone(self, end: End, message: str) -> GoneError:
        """End the fork; return what is to be raised."""
        self.has_ended = True
        self._line.close()
        self._end()
        return GoneError(end, message)


class Line:
    """Messages over a socket, up to a moment.

    Where the machine is so busy that the box does not get the processors it asks for, it is waited
    for beyond that moment: nobody's answer is late because of others.

    Args:
        channel: The socket.
        spent: Says what the box has taken of the processors, where that is known.

    Attributes:
        moved: Bytes that were sent and received so far.
    """

    def __init__(self, channel: socket.socket, spent: Callable[[], Spent | None]) -> None:
        self._channel = channel
        self._spent = spent
        self._deadline = self._latest = 0.0
        self._most: float | None = None
        self._num_late = 0
        self.moved = 0

    def wait(self, seconds: float) -> None:
        """Give what is sent or received from now on so much time."""
        now = time.monotonic()
        self._deadline, self._latest = now + seconds, now + _LONGEST_WAIT * seconds
        self._most, self._num_late = None, 0

    def send(self, message: Any) -> None:
        """Send a message.

        Raises:
            TimeoutError: The other side does not read it.
            OSError: The other side is gone.
            WireError: It is too long.
        """
        write_frame(self, message)  # type: ignore[arg-type]

    def receive(self) -> Any:
        """Return the next message.

        Raises:
            TimeoutError: None comes in time.
            EOFError: The other side is gone.
            OSError: Likewise.
            WireError: What comes is no message.
        """
        return read_frame(self)  # type: ignore[arg-type]

    def close(self) -> None:
        """Let the other side see the end."""
        self._channel.close()

    def write(self, data: bytes) -> int:
        """Send bytes."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tried(partial(self._channel.send, rest)) :]
        self.moved += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is written is sent."""

    def read(self, length: int) -> bytes:
        """Return so many bytes; fewer where the other side has closed."""
        received = bytearray()
        while len(received) < length:
            missing = min(length - len(received), 2**20)
            chunk = self._tried(partial(self._channel.recv, missing))
            if not chunk:
                break
            received += chunk
        self.moved += len(received)
        return bytes(received)

    def _tried(self, operation: Callable[[], T]) -> T:
        """Return what comes of an operation on the socket, in the time that there is.

        Raises:
            TimeoutError: Nothing does.
        """
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._num_late += 1
                if self._num_late > _MOST_LATE:
                    raise TimeoutError
            # What has come while this process did not run is there, however late it is.
            self._channel.settimeout(max(left, _MOMENT))
            try:
                return operation()
            except TimeoutError:
                if not self._is_kept_waiting():
                    raise
                self._deadline = time.monotonic() + 1.0

    def _is_kept_waiting(self) -> bool:
        """Say whether the box wants processors that it does not get, and not for too long."""
        spent = self._spent()
        if spent is None or not spent.is_at_work or time.monotonic() > self._latest:
            return False
        if self._most is None:
            self._most = spent.seconds + GRACE
        return spent.seconds < self._most
