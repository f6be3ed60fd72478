"""Boxes that are forked from a warm process, so that a submission costs its own code alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from autograder.sealed.box.box import Box, BoxError
from autograder.sealed.box.bubblewrap import namespaces
from autograder.sealed.box.groups import group, parents
from autograder.sealed.box.limits import Limits

_READY = b"ready"
_START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
# What finds an editable install would find modules that the tree leaves out.
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
from autograder.sealed.box.zygote import main
main()
"""
_THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "PATH": "/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    **_THREADS,
}
_SECONDS_TO_START = 120.0

Walls = Callable[[Sequence[Path], Limits], AbstractContextManager[int]]
"""Gives a process in a box, or 0 where there is no box."""


class Zygote:
    """The warm process that boxes are forked from.

    Args:
        tree: The course as the box has it.
        modules: What is imported once, for all boxes.
        readable: What can be read in a box beside the tree, the system and Python.
        environment: Variables that a box has beside those that every box has.
        walls: Makes what is around a box: ``namespaces``, or ``no_namespaces``.

    Raises:
        BoxError: It does not start.
    """

    def __init__(
        self,
        tree: Path,
        modules: Sequence[str] = (),
        readable: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        walls: Walls = namespaces,
    ) -> None:
        self._walls = walls
        self._readable = [tree, *readable]
        self._groups = parents()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this is
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, str(tree), json.dumps(list(modules))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._log.fileno(),
                env={**_ENVIRONMENT, **(environment or {})},
            )
        self._orders.settimeout(_SECONDS_TO_START)
        try:
            answer = self._orders.recv(len(_READY))
        except TimeoutError:
            answer = b""
        if answer != _READY:
            said = self.close()
            raise BoxError(f"the warm process did not start: {said or 'it said nothing'}")

    @property
    def is_alive(self) -> bool:
        """Whether boxes can be forked from it still: it may have been killed."""
        return self._process.poll() is None

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> str:
        """End the process; boxes that are open go on. Return the last line that it has said."""
        self._orders.close()
        self._process.kill()
        self._process.wait()
        with self._log:
            self._log.seek(0)
            return self._log.read().decode(errors="replace").strip().rpartition("\n")[2]

    @contextlib.contextmanager
    def box(self, limits: Limits | None = None) -> Iterator[Box]:
        """Open a box; when the block ends, nothing of it is left.

        Args:
            limits: What it may use.

        Raises:
            CourseError: Bubblewrap is not installed.
            BoxError: The machine cannot make a box.
        """
        limits = limits or Limits()
        with contextlib.ExitStack() as stack:
            # All that is in the box ends first: then the last word on it is there to be read.
            channel, theirs = map(stack.enter_context, socket.socketpair())
            control, their_control = map(stack.enter_context, socket.socketpair())
            reader, writer = os.pipe()
            status = stack.enter_context(os.fdopen(reader))
            try:
                together = stack.enter_context(group(limits, self._groups))
                pid = stack.enter_context(self._walls(self._readable, limits))
                order = json.dumps(
                    {"pid": pid, "limits": asdict(limits), "doors": together.doors}
                ).encode()
                descriptors = [theirs.fileno(), their_control.fileno(), writer]
                socket.send_fds(self._orders, [order], descriptors)
            except OSError as error:
                raise BoxError(
                    f"the warm process or the group is gone: {error.strerror}"
                ) from error
            finally:
                # Held here as well, they would hide that the other side has closed them.
                os.close(writer)
                theirs.close()
                their_control.close()
            yield Box(channel, control, status.fileno(), pid, together)
