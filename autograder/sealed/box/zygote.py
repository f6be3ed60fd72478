"""The warm process that every box is forked from: it has imported what lessons import.

It runs outside of the boxes, before any submission, and holds no check, no secret and nothing of
any submission. ``main`` is told of namespaces to enter; a child of its own goes there, gives up all
that it may do, and runs one submission.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Set
from typing import Any, NoReturn

from autograder.sealed.box.kernel import (
    become_nobody,
    drop_privileges,
    enter_namespaces,
    filter_calls,
    open_namespaces,
)
from autograder.sealed.box.limits import Limits
from autograder.sealed.box.runner import Runner, all_processes, make_shell, of_this_session

HOME = "/tmp"
"""The folder of a box that can be written."""

_MOST = 65_536


def main() -> None:
    """Fork a process into each box that is named on standard input, a socket.

    The first argument lists the modules to import. A message is the JSON of ``{"pid": a process in
    the box, or 0 where there is none, "limits": fields of Limits, "doors": the files by which a
    process joins the box's control group}``, with three descriptors: the runner's channel, its
    control, and where to say how it ended.
    """
    orders = socket.socket(fileno=os.dup(0))
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
    shell = make_shell()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What all boxes have is nobody's garbage: to look through it would be time of an answer's.
    gc.freeze()
    orders.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, _MOST, 3)
        if not message:
            return
        if os.fork() == 0:
            _begin(json.loads(message), descriptors, shell)
        for descriptor in descriptors:
            os.close(descriptor)


def _begin(order: dict[str, Any], descriptors: list[int], shell: Any) -> NoReturn:
    """Go into the box, fork what runs there, and wait outside of it for the end."""
    channel, control, status = descriptors
    said = "infra"
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Behind the walls they cannot be seen.
        doors = [os.open(door, os.O_WRONLY) for door in order["doors"]]
        neighbours = of_this_session
        if order["pid"]:
            entered = open_namespaces(order["pid"])
            become_nobody()
            enter_namespaces(entered)
            neighbours = all_processes
        child = os.fork()
        if child == 0:
            _join(doors, status)
            _live(Limits(**order["limits"]), channel, control, shell, neighbours)
        for descriptor in (channel, control, *doors):
            os.close(descriptor)
        said = str(_exit_status(child, status))
    except OSError as error:
        said = f"infra: {error}"
    finally:
        # Where nobody listens any more, there is nobody to tell. To leave in another way would
        # take down all that is imported here, in copies: more work than most boxes are.
        with contextlib.suppress(BrokenPipeError):
            os.write(status, said.encode())
        os._exit(0)


def _exit_status(child: int, status: int) -> int:
    """Wait for a process; end it and its group once nobody reads any more how it ended."""
    waiting = select.poll()
    waiting.register(os.pidfd_open(child), select.POLLIN)
    waiting.register(status, 0)
    waiting.poll()
    with contextlib.suppress(ProcessLookupError):
        # Not the leader of a group yet, it is alone.
        end = os.killpg if os.getpgid(child) == child else os.kill
        end(child, signal.SIGKILL)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


def _join(doors: list[int], status: int) -> None:
    """Let this process, and all that it will start, count together."""
    try:
        for door in doors:
            os.write(door, b"0")
    except OSError as error:
        # In front of the exit status: the machine has failed, and nobody's answer.
        os.write(status, f"infra: {error} ".encode())
        os._exit(1)


def _live(
    limits: Limits, channel: int, control: int, shell: Any, neighbours: Callable[[], Set[int]]
) -> NoReturn:
    """Confine this process for good, then run the submission."""
    try:
        os.setsid()
        _keep_only(channel, control)
        os.chdir(HOME)
        limits.impose()
        drop_privileges()
        filter_calls()
        asked, told = socket.socket(fileno=channel), socket.socket(fileno=control)
        Runner(shell, asked, told, neighbours).serve()
        os._exit(0)
    finally:
        os._exit(1)


def _keep_only(*kept: int) -> None:
    """Close all other descriptors; what is printed goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    last = 2
    for descriptor in sorted(kept):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
