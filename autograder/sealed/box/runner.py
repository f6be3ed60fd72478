"""The process in the box: runs a submission's cells, and lends out what they define.

It holds no check. Whatever a submission does to it can only change the data that it returns.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import IO, Any, NoReturn

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from autograder.proxy.host import Host, described
from autograder.proxy.time_limit import NoAnswerError, TimeLimit
from autograder.proxy.wire import WireError, read_frame, write_frame
from autograder.sealed.box.stub import met
from autograder.sealed.box.whole import make_whole, put_in_place

MAX_PRINTED = 1_000_000
"""Characters that one cell may print; nobody reads them, and a runaway loop ends."""


_SECONDS_TO_END, _PAUSE = 2.0, 0.005
"""How long processes are ended again and again, and the time in which the ended disappear."""


class OutputError(BaseException):
    """A cell printed too much. Not an Exception, so that the cell does not swallow it."""


class Shell(InteractiveShell):
    """Runs cells as a notebook does, without a kernel, a window or a person who looks on."""

    # The other way asks for a terminal, and in a box there is none.
    system = InteractiveShell.system_raw

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Keep nothing of what is printed, an object for each piece of it: nobody looks at it."""
        yield

    def enable_gui(self, gui: str | None = None) -> None:
        """Open no windows, so that there is no loop to run for them."""

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        """Draw into memory, whatever a cell asks for: what needs a window is missing in a box."""
        return super().enable_matplotlib("agg")  # type: ignore[no-untyped-call]

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show nothing: what was raised is reported, and to draw it takes longer than a cell."""

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        """Show nothing, likewise."""


def make_shell() -> Shell:
    """Return what runs the cells of a box, with no history on disk."""
    config = Config({"HistoryManager": {"enabled": False}})
    shell: Shell = Shell.instance(config=config)
    assert shell.display_formatter is not None
    shell.display_formatter.active_types = ["text/plain"]
    return shell


class Runner:
    """Answers requests about the submission in this process.

    Args:
        shell: What runs the cells.
        channel: Where requests come from and answers go to.
        control: Where the channels of forks come from, and where it is told to end one.
        neighbours: Tells which processes are in the box.
    """

    def __init__(
        self,
        shell: Shell,
        channel: socket.socket,
        control: socket.socket,
        neighbours: Callable[[], Set[int]],
    ) -> None:
        self._neighbours = neighbours
        self._shell = shell
        self._channel = channel
        self._requests, self._answers = _ends(channel)
        self._control = control

    def serve(self) -> None:
        """Answer until nobody asks any more.

        A request is ``{"run": source, "seconds": ...}`` for a cell, answered by ``{"raised":
        None}`` or what was raised; ``{"whole": module, "names": ..., "text": ...}`` for bodies
        that are put back into the course, answered likewise; or ``{"take": name, "place": ...}``,
        answered by ``{"taken": ...}``, which says whether there is such a name. What is taken is
        put in its place in the library, and answers calls in a fork of its own, over the channel
        that came with the request, until that is closed; how the fork ended is said by ``{"ended":
        its exit status, negative for a signal}``.
        """
        while True:
            try:
                request = read_frame(self._requests)
            except EOFError:
                return
            match request:
                case {"run": str(source), "seconds": seconds}:
                    write_frame(self._answers, self._run(source, float(seconds)))
                case {"whole": str(module), "names": names, "text": str(text)}:
                    write_frame(self._answers, _made_whole(module, names, text))
                case {"take": str(name), "place": str(place)}:
                    self._lend(name, place)

    def _run(self, source: str, seconds: float) -> dict[str, Any]:
        """Run a cell; say what it raised."""
        printed = _Printed()
        shell: Any = self._shell
        result: Any = None
        with (
            contextlib.suppress(NoAnswerError, OutputError),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            TimeLimit(seconds) as limit,
        ):
            result = shell.run_cell(source, store_history=True)
        if limit.is_up:
            return described(NoAnswerError(limit.says))
        if printed.is_full:
            return described(OutputError(f"more than {MAX_PRINTED} characters were printed"))
        error = result.error_before_exec or result.error_in_exec
        return {"raised": None} if error is None else described(error)

    def _end_all_but(self, kept: Set[int]) -> None:
        """End the other processes in the box, those included that they start meanwhile."""
        ends = time.monotonic() + _SECONDS_TO_END
        while (others := self._neighbours() - kept) and time.monotonic() < ends:
            for other in others:
                with contextlib.suppress(OSError):
                    os.kill(other, signal.SIGKILL)
            time.sleep(_PAUSE)

    def _lend(self, name: str, place: str) -> None:
        """Let a fork answer calls of what has this name, and say how it ended."""
        _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        channel = socket.socket(fileno=descriptors[0])
        is_there = name in self._shell.user_ns
        write_frame(self._answers, {"taken": is_there})
        if not is_there:
            channel.close()
            return
        before = self._neighbours()
        child = os.fork()
        if child == 0:
            try:
                # All three: a socket is open as long as somebody reads or writes through it.
                for mine in (self._requests, self._answers, self._channel, self._control):
                    mine.close()
                _answer_calls(self._shell.user_ns[name], place, channel)
            finally:
                os._exit(1)
        channel.close()
        ended = os.pidfd_open(child)
        ready, _, _ = select.select([ended, self._control.fileno()], [], [])
        if self._control.fileno() in ready:
            self._control.recv(1)
            os.kill(child, signal.SIGKILL)
        os.close(ended)
        _, status = os.waitpid(child, 0)
        self._end_all_but(before)
        write_frame(self._answers, {"ended": os.waitstatus_to_exitcode(status)})


def _made_whole(module: str, names: list[str], text: str) -> dict[str, Any]:
    """Put bodies back; say what that raised, in a course with which a submission has meddled."""
    try:
        make_whole(module, names, text)
    except Exception as error:
        return described(error)
    return {"raised": None}


def _answer_calls(obj: object, place: str, channel: socket.socket) -> NoReturn:
    """Answer calls of an object until nobody asks any more."""
    requests, answers = _ends(channel)

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        write_frame(answers, question)
        answer: dict[str, Any] = read_frame(requests)
        return answer

    met.clear()
    with contextlib.suppress(Exception):
        # With what a submission has made of the library, it may be that there is no such place.
        put_in_place(place, obj)
    host = Host(obj, ask)
    while True:
        try:
            asked = read_frame(requests)
        except EOFError:
            os._exit(0)
        if "met" in asked:
            write_frame(answers, {"met": sorted(met)})
            continue
        answer: dict[str, Any] = {}
        with contextlib.suppress(NoAnswerError), TimeLimit(asked["seconds"]) as limit:
            answer = host.handle(asked["request"])
        is_told = answer.get("raised", [None])[0] == NoAnswerError.__name__
        if limit.is_up and not is_told:
            answer = described(NoAnswerError(limit.says))
        try:
            write_frame(answers, answer)
        except (WireError, RecursionError) as error:
            write_frame(answers, described(error))


def _ends(channel: socket.socket) -> tuple[IO[bytes], IO[bytes]]:
    """Return where to read from a socket, and where to write."""
    return channel.makefile("rb"), channel.makefile("wb")


class _Printed(io.TextIOBase):
    """Counts what is printed, and keeps none of it."""

    def __init__(self) -> None:
        self._left = MAX_PRINTED

    @property
    def is_full(self) -> bool:
        """Whether more was printed than may be."""
        return self._left < 0

    def write(self, text: str) -> int:
        """Count; raise where it is too much."""
        self._left -= len(text)
        if self.is_full:
            raise OutputError
        return len(text)

    def writable(self) -> bool:
        """Say yes."""
        return True


def all_processes() -> Set[int]:
    """Return the processes in a box, where there are no others to be seen."""
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}


def of_this_session() -> Set[int]:
    """Return the processes of this one's session: without a box there are others beside them."""
    found = set()
    for process in all_processes():
        with contextlib.suppress(OSError):
            if os.getsid(process) == os.getsid(0):
                found.add(process)
    return found
