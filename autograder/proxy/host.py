"""The learner's side of the pipe: holds one object, receives calls, returns data.

It knows nothing of checks. ``python -m autograder.proxy.host FILE NAME`` serves the object
``NAME`` of the module in ``FILE`` over standard input and output; in a notebook the same ``Host``
is called directly.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autograder.proxy.wire import Ref, WireError, from_wire, read_frame, to_wire, write_frame

_MAX_OUTPUT = 2_000
_AUTOGRADER = Path(__file__).parents[1]


class Host:
    """Answers requests about one object and the objects that its calls return.

    Number 0 is the object itself. Whatever a call returns that is not plain data is kept here under
    the next number and goes out as a reference.
    """

    def __init__(self, subject: object) -> None:
        self._objects: list[object] = [subject]
        self._numbers = {id(subject): 0}

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request.

        Args:
            request: ``{"op": "value", "target"}``, ``{"op": "call", "target", "args", "kwargs"}``,
                ``{"op": "invoke", "target", "method", "args", "kwargs"}`` or ``{"op": "read",
                "target", "attribute"}``, with values as ``to_wire`` makes them.

        Returns:
            ``{"value": ...}`` or ``{"raised": [names of the exception's classes], "message",
            "line"}``; either with ``"output"``, what was printed on the way.
        """
        printed = io.StringIO()
        try:
            with _captured(printed):
                value = self._perform(request)
            answer = {"value": to_wire(value, self._refer)}
        except WireError as error:
            answer = {"raised": ["WireError"], "message": str(error), "line": None}
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            answer = _describe(error)
        answer["output"] = printed.getvalue()[:_MAX_OUTPUT]
        return answer

    def _perform(self, request: dict[str, Any]) -> object:
        target = self._objects[request["target"]]
        if request["op"] == "value":
            return target
        if request["op"] == "read":
            return getattr(target, request["attribute"])
        args = from_wire(request["args"], self._resolve)
        kwargs = from_wire(request["kwargs"], self._resolve)
        called: Any = target if request["op"] == "call" else getattr(target, request["method"])
        return called(*args, **kwargs)

    def _refer(self, value: object) -> int:
        # Every object stays alive in the list, so its id stays its own.
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        return number

    def _resolve(self, ref: Ref) -> object:
        return self._objects[ref.number]


@contextlib.contextmanager
def _captured(stream: io.StringIO) -> Any:
    """Send prints and warnings to ``stream``: neither may cost a right answer points."""
    with (
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("default")
        try:
            yield
        finally:
            for warning in caught:
                stream.write(f"{warning.category.__name__}: {warning.message}\n")


def _describe(error: BaseException) -> dict[str, Any]:
    """Say what was raised and in which line of the learner's code, as plain data."""
    own_frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).is_relative_to(_AUTOGRADER)
    ]
    where = None
    if own_frames:
        where = f"in line {own_frames[-1].lineno}: {own_frames[-1].line or ''}".rstrip(": ")
    names = [cls.__name__ for cls in type(error).__mro__ if cls is not object]
    try:
        message = str(error)[:_MAX_OUTPUT]
    except Exception:
        message = "(its message could not be read)"
    return {"raised": names, "message": message, "line": where}


def serve(load: Callable[[], object]) -> None:
    """Answer requests from standard input until it closes."""
    # Prints of the learner's code, from C too, must not land among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    requests = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    with Path(os.devnull).open("r+b") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdin.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    host = Host(load())
    while True:
        try:
            request = read_frame(requests)
        except EOFError:
            return
        write_frame(answers, host.handle(request))


def _load(path: str, name: str) -> object:
    import importlib.util

    spec = importlib.util.spec_from_file_location("submission", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


if __name__ == "__main__":
    serve(lambda: _load(sys.argv[1], sys.argv[2]))
