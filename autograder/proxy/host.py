"""The learner's side of the pipe: holds one object, receives calls, returns data.

It knows nothing of checks. ``python -m autograder.proxy.host FILE NAME`` serves the object
``NAME`` of the module in ``FILE`` over standard input and output; in a notebook the same ``Host``
is called directly.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import os
import sys
import sysconfig
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from autograder.proxy.examples import printed_by_examples
from autograder.proxy.memory_limit import MEMORY, MemoryLimit
from autograder.proxy.names import symbol
from autograder.proxy.recipes import Kitchen, place, reach
from autograder.proxy.state import State, state_of
from autograder.proxy.time_limit import seconds_collecting
from autograder.proxy.wire import (
    Standing,
    WireError,
    from_wire,
    read_frame,
    to_wire,
    write_frame,
)
from autograder.written import TIMED, helpers_of, text_of
from course_lib.mounting import mount

UNUSABLE = "NotPlainDataError"
"""Stands for the class of an exception where a call came back with what no check can read."""

_MAX_OUTPUT = 2_000
_MAX_VALUE, _MAX_VALUES = 40, 12
_MAX_SOURCE = 200_000
_CHECKOUT = Path(__file__).parents[2]
_NOT_THE_LEARNERS = (
    *(_CHECKOUT / package for package in ("autograder", "course_lib")),
    *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")),
)
"""Folders of code that a learner did not write: the course, Python and what is installed."""

Ask = Callable[[dict[str, Any]], dict[str, Any]]
"""Carries a question of the learner's code to a callback of the check, and the answer back."""


def _nobody(question: dict[str, Any]) -> dict[str, Any]:
    raise WireError("there is nobody to ask")


class Host:
    """Answers requests about one object and the objects that its calls return.

    Number 0 is the object itself. Whatever a call returns that is not plain data is kept here under
    the next number and goes out as a reference.

    Args:
        subject: The object.
        ask: Reaches the callbacks of the check.
        is_trusted: Whether the object is the course's own, which takes no more memory than it may.
    """

    def __init__(self, subject: object, ask: Ask = _nobody, *, is_trusted: bool = False) -> None:
        self._memory_limit = contextlib.nullcontext if is_trusted else MemoryLimit
        self._objects: list[object] = [subject]
        self._numbers = {id(subject): 0}
        self._ask = ask
        self._earlier = _Earlier()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request.

        Args:
            request: What to do, with values as ``to_wire`` makes them. ``op`` is one of
                ``value``: hand out ``target``;
                ``source``: its source, or None where that is not at hand;
                ``helpers``: the source of what it uses and what stands beside it, by name;
                ``examples``: run those of its docstrings, and say what each printed;
                ``read``: its ``attribute``;
                ``make``: build ``recipe``;
                ``mount``: a subclass of the library's class ``owner`` whose ``method`` is
                ``target``;
                ``call``: call ``target`` with ``args`` and ``kwargs``;
                ``invoke``: call its ``method`` with them;
                ``apply``: call the library's function ``function`` with them.
                With ``watch`` the answer also says what became of the arguments; with ``spoil``
                they are emptied afterwards.

        Returns:
            ``{"value": ...}``, or ``{"raised": [names of the exception's classes], "message",
            "line", "values"}`` with the numbers and texts among the variables of that line, as
            text. Either with ``"output"``, what was printed on the way, and ``"seconds"``, the CPU
            time of the call alone. If the arguments were watched, ``"changed"`` has those that the
            call changed, by place or name, as they are now, ``"kept"`` the places of those that are
            part of what was returned, and ``"touched"`` of those that hold a changed object; and if
            the call changed what the watched call before it returned, ``"earlier"`` has that as it
            was and as it is now.
        """
        printed = _Printed()
        inputs = _Inputs(request)
        answer: dict[str, Any]
        value: object = None
        try:
            with self._memory_limit(), _captured(printed):
                value = self._perform(request, inputs)
            answer = self._handed_out(value)
        except WireError as error:
            answer = _unusable(str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            answer = _described_with_line(error)
        answer |= inputs.fate(value, self._refer)
        if request.get("watch"):
            answer |= self._earlier.fate(value, answer.get("value"), self._refer)
        answer["output"] = printed.getvalue()
        answer["seconds"] = inputs.seconds
        return answer

    def _handed_out(self, value: object) -> dict[str, Any]:
        """Return what a call returned, for the wire."""
        try:
            return {"value": to_wire(value, self._refer)}
        except WireError as error:
            return _unusable(str(error))
        except Exception as error:
            # An object that breaks where it is looked at: not what the call itself has raised.
            return _unusable(f"a {type(value).__name__} that cannot be looked at: {error!r}")

    def _perform(self, request: dict[str, Any], inputs: _Inputs) -> object:
        operation = request["op"]
        if operation == "make":
            return self._values(request["recipe"])
        target = self._objects[request.get("target", 0)]
        if operation == "value":
            return target
        if operation == "source":
            return _source(target)
        if operation == "helpers":
            return {name: text for name, text in helpers_of(target).items() if _is_short(text)}
        if operation == "examples":
            return printed_by_examples(target)
        if operation == "read":
            return reach(target, request["attribute"])
        if operation == "mount":
            return mount(symbol(request["owner"]), {request["method"]: target})
        # One kitchen for both, so that a recipe named in each is one object.
        around = target if operation == "invoke" else None
        args, kwargs = self._values([request["args"], request["kwargs"]], around)
        called: Any = target
        if operation == "invoke":
            called = reach(target, request["method"])
            args = place(args, target)
        elif operation == "apply":
            called = symbol(request["function"])
        inputs.take(args, kwargs)
        # The call alone: unpacking a million numbers takes longer than many a function of them.
        with one_thread():
            started = time.thread_time() - seconds_collecting()
            try:
                return called(*inputs.args, **inputs.kwargs)
            finally:
                inputs.seconds = time.thread_time() - seconds_collecting() - started

    def _values(self, data: Any, around: Any = None) -> Any:
        """Turn data from the wire into values, building what it has recipes for.

        Args:
            data: The data.
            around: The object whose method is called with the values.
        """
        standing = Standing(
            ref=lambda ref: self._objects[ref.number],
            callback=self._callback,
            recipe=lambda recipe: kitchen.make(recipe),
        )
        kitchen = Kitchen(lambda item: from_wire(item, standing), around)
        return from_wire(data, standing)

    def _callback(self, number: int) -> Callable[..., Any]:
        """Return a function that asks the check."""

        def callback(*args: Any) -> Any:
            question = {"ask": number, "args": to_wire(list(args), self._refer)}
            answer = self._ask(question)
            if "raised" in answer:
                raise _as_exception(answer["raised"], answer["message"])
            return self._values(answer["value"])

        callback.__qualname__ = "function"
        return callback

    def _refer(self, value: object) -> int:
        # Every object stays alive in the list, so its id stays its own.
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        return number


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch, if it is loaded, compute in one thread.

    A thread that waits for its helpers does so at work: on a busy machine that is CPU time many
    times what the work itself takes.
    """
    torch = sys.modules.get("torch")
    before = 0 if torch is None else int(torch.get_num_threads())
    if torch is not None:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)


class _Inputs:
    """The arguments of one call, and what became of them."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._items: list[list[Any]] = []
        self._states: list[State] = []
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.seconds = 0.0

    def take(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Remember the arguments."""
        self.args, self.kwargs = args, kwargs
        self._items = [list(value) if type(value) is list else [] for _, value in self._all()]
        if self._request.get("watch"):
            self._states = [state_of(value) for _, value in self._all()]

    def fate(self, returned: object, refer: Callable[[object], int]) -> dict[str, Any]:
        """Say which arguments were changed and which are part of what was returned."""
        fate: dict[str, Any] = {}
        if self._request.get("watch"):
            before = [*self._request["args"]]
            before += [value for _, value in self._request["kwargs"]["dict"]]
            fate["changed"] = [
                [place, now]
                for (place, value), was, items in zip(
                    self._all(), before, self._items, strict=False
                )
                if (now := _as_data(value, refer)) is not None
                and (_without_objects(now) != _without_objects(was) or _moved(items, value))
            ]
            fate["kept"] = [place for place, value in self._all() if _is_part(value, returned)]
            fate["touched"] = [
                place
                for (place, _), state in zip(self._all(), self._states, strict=False)
                if state.has_changed()
            ]
        if self._request.get("spoil"):
            for _, value in self._all():
                if type(value) in (list, dict, set):
                    value.clear()
        return fate

    def _all(self) -> list[tuple[int | str, Any]]:
        return [*enumerate(self.args), *self.kwargs.items()]


class _Earlier:
    """What the last call returned, which the next is to leave alone: it belongs to the caller."""

    def __init__(self) -> None:
        self._value: object = None
        self._was: Any = None

    def fate(
        self, returned: object, data: Any, refer: Callable[[object], int]
    ) -> dict[str, list[Any]]:
        """Say what has become of it, and remember what is returned now.

        Args:
            returned: What the call returned that is just over.
            data: The same for the wire; None if nothing came.
            refer: Gives an object its number.
        """
        was, now = self._was, None
        # What is neither a list nor a dict on the wire cannot change.
        if isinstance(was, (list, dict)):
            now = _as_data(self._value, refer)
        self._value, self._was = returned, data
        return {} if now is None or now == was else {"earlier": [was, now]}


def _moved(items: list[Any], now: Any) -> bool:
    """Say whether a list of objects holds other objects, or the same in another order."""
    is_list = type(now) is list and len(now) == len(items)
    return is_list and any(
        before is not after
        for before, after in zip(items, now, strict=True)
        if type(before) not in (bool, int, float, str)
    )


def _without_objects(data: Any) -> Any:
    """Return data in which all that stands for an object looks alike: objects may change."""
    if isinstance(data, list):
        return [_without_objects(item) for item in data]
    if isinstance(data, dict):
        if not data.keys().isdisjoint(("make", "ref", "callback", "at")):
            return "an object"
        return {key: _without_objects(value) for key, value in data.items()}
    return data


def _as_data(value: object, refer: Callable[[object], int]) -> Any:
    """Return a value for the wire; as an object if it holds by now what does not fit there."""
    try:
        return to_wire(value, refer)
    except Exception:
        return {"ref": refer(value), "kind": type(value).__name__}


def _is_part(value: Any, returned: object) -> bool:
    """Say whether a changeable argument is what was returned, an item of it, or shares memory."""
    items = [returned]
    whole: Any = returned
    # By the type itself: what an object says of its class may be anything, even an exception.
    if issubclass(type(whole), (list, tuple)):
        items += whole
    elif issubclass(type(whole), dict):
        items += whole.values()
    if type(value) in (list, dict, set):
        return bool(value) and any(item is value for item in items)
    storage = _storage(value)
    return storage is not None and any(_storage(item) == storage for item in items)


def _storage(value: Any) -> int | None:
    """Return where the numbers of an array or tensor are; None for anything else."""
    torch = sys.modules.get("torch")
    kinds = (np.ndarray,) if torch is None else (np.ndarray, torch.Tensor)
    if type(value) is np.ndarray:
        # What an array shows may belong to another one, or to a tensor.
        if type(value.base) in kinds:
            return _storage(value.base)
        return int(value.__array_interface__["data"][0]) if value.size else None
    if torch is not None and type(value) is torch.Tensor and value.layout is torch.strided:
        return int(value.untyped_storage().data_ptr()) if value.numel() else None
    return None


def _as_exception(kinds: list[str], message: str) -> Exception:
    """Return an exception of the first of these classes that Python itself has."""
    found = (getattr(builtins, kind, None) for kind in kinds)
    classes = (kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))
    return next(classes, RuntimeError)(message)


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


class _Printed(io.StringIO):
    """What was printed, the beginning of it; whoever closes it goes on printing."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, _MAX_OUTPUT - self.tell())])
        return len(text)

    def close(self) -> None:
        """Stay open."""


def _unusable(message: str) -> dict[str, Any]:
    return {"raised": [UNUSABLE], "message": message, "line": None, "values": []}


def described(error: BaseException) -> dict[str, Any]:
    """Return what a call answers that raised an exception outside of the learner's code."""
    return {**_described_with_line(error), "output": "", "seconds": 0.0}


def _described_with_line(error: BaseException) -> dict[str, Any]:
    """Say what was raised and in which line of the learner's code, as plain data."""
    # The innermost first: where an exception comes out of recursion, there are a thousand.
    frames = reversed(list(traceback.walk_tb(error.__traceback__)))
    own = next((each for each in frames if _is_the_learners(each[0].f_code.co_filename)), None)
    where, values = None, []
    if own is not None:
        frame, number = own
        # The time limit may strike between lines, at an instruction that belongs to none.
        number = number or frame.f_code.co_firstlineno
        linecache.checkcache(frame.f_code.co_filename)
        line = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()
        where = f"in line {number}: {line}".rstrip(": ")
        values = _short_values(frame.f_locals)
    names = [cls.__name__ for cls in type(error).__mro__ if cls is not object]
    try:
        message = str(error)[:_MAX_OUTPUT]
    except (Exception, SystemExit, GeneratorExit):
        message = "(its message could not be read)"
    if isinstance(error, MemoryError) and not message:
        message = f"no memory is left; a call may take {MEMORY / 2**30:g} GiB"
    return {"raised": names, "message": message, "line": where, "values": values}


def _short_values(variables: Mapping[str, object]) -> list[list[str]]:
    """Return the numbers and texts among some variables, as text."""
    plain = [(name, v) for name, v in variables.items() if type(v) in (int, float, bool, str)]
    shown = [[name, repr(value)[:_MAX_VALUE]] for name, value in plain]
    return shown[:_MAX_VALUES]


def _source(target: object) -> str | None:
    """Return the source of a function or class; None where it is not at hand, or endless."""
    source = text_of(target)
    return source if source is not None and _is_short(source) else None


def _is_short(source: str) -> bool:
    # A part of it would be no Python, in which a comment counts for code.
    return len(source) <= _MAX_SOURCE


def _is_the_learners(file: str) -> bool:
    """Say whether a learner wrote the code of this file, and not the course, Python or a library.

    What is made as a program runs has a name in angle brackets: ``<string>`` for the methods of a
    dataclass, ``<frozen importlib>``. Of that only what a cell held is the learner's.
    """
    if file.startswith("<"):
        return file in linecache.cache or file in TIMED
    return _is_outside(file)


@lru_cache(maxsize=1024)  # asked with each exception that comes out of a call
def _is_outside(file: str) -> bool:
    """Say whether a file is in none of the folders with code that a learner did not write."""
    return not any(Path(file).is_relative_to(folder) for folder in _NOT_THE_LEARNERS)


def serve(load: Callable[[], object]) -> None:
    """Answer requests from standard input until it closes."""
    # Prints of the learner's code, from C too, must not land among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    requests = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    with Path(os.devnull).open("r+b") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdin.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        write_frame(answers, question)
        answer: dict[str, Any] = read_frame(requests)
        return answer

    host = Host(load(), ask)
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
