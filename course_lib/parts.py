"""An engine of one's own: which parts of it the learner built, and which are the reference.

A part is a function or class of this library that some exercise asks the learner to write. When its
check passes, the learner's source is kept as ``my_engine/NAME.py`` in their workspace. From then on
``get("NAME")`` returns theirs. Where there is none, or it no longer loads, ``get`` returns the
library's own and says so.

A large class is built method by method. Each is a plain function, a part called ``CLASS.METHOD``
and kept as ``my_engine/CLASS/METHOD.py``. ``get("CLASS")`` puts those that the learner has on a
subclass of the reference, or of their own whole class if there is one. Where two parts define the
same method, the one that was won in the earlier lesson is used. So nothing that is won later
replaces what was won before.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from course_lib.catalogue import FINAL_PROJECT, PARTS, Part, lesson_name
from course_lib.mounting import calls_bare_super, function_of, mount
from course_lib.part_files import digest, keep, passed, workspace
from course_lib.part_modules import PartLoader, spec_of, stand_for_parents
from course_lib.part_table import PartStatus, PartTable, State
from course_lib.rewiring import rewire

__all__ = [
    "FINAL_PROJECT",
    "OTHER_TEXT",
    "PARTS",
    "Part",
    "PartStatus",
    "PartTable",
    "PartWarning",
    "State",
    "get",
    "part_names",
    "place",
    "reference",
    "rewired",
    "save",
    "standing",
    "table",
    "workspace",
]


OTHER_TEXT = (
    "the text found for it does not do what your cell does; run the cell that defines it once "
    "more, then its check"
)
"""What is said where a part passes and its saved source does not."""


class PartWarning(UserWarning):
    """A part of the learner's own could not be used."""


def reference(name: str) -> Any:
    """Return the library's own version of a part.

    Raises:
        KeyError: There is no such part.

    >>> reference("kv_bytes_per_token").__module__
    'course_lib.kv_cache.sizing'
    >>> reference("BlockPool.touch").__qualname__
    'BlockPool.touch'
    """
    part = _part(name)
    owner, _, method = name.partition(".")
    found = getattr(importlib.import_module(part.module), owner)
    return function_of(found, method) if method else found


def get(name: str) -> Any:
    """Return the learner's own version of a part if it has passed its check, else the reference.

    For a class, the methods that the learner has won are on it. A version that does not load is
    left where it is, a ``PartWarning`` says what is wrong with it, and the reference stands in.

    Raises:
        KeyError: There is no such part.

    >>> get("no_such_part")
    Traceback (most recent call last):
    KeyError: "no part 'no_such_part'; parts: kv_bytes_per_token, num_kv_blocks, ...
    """
    part = _part(name)
    # A part may ask for the class that it is being put on: what it gets is the reference.
    if name in _in_the_making.get():
        return reference(name)
    with _making(name):
        own = _own(part)
        found = reference(name) if own is None else own
        is_class = isinstance(found, type) and part.name in PARTS
        return _compose(part, found) if is_class else found


def rewired(function: Any) -> Any:
    """Return library code that calls the learner's own parts where it would call the library's.

    Args:
        function: A function or class of the library, such as ``replay_contiguous``.

    Returns:
        A copy; or ``function`` itself, where it calls nothing that the learner has.

    >>> from course_lib.kv_cache import kv_bytes_per_block
    >>> rewired(kv_bytes_per_block).__name__
    'kv_bytes_per_block'
    """
    return rewire(function, _OwnParts())


class _OwnParts(Mapping[str, Any]):
    """The parts that the learner has, by name; each is loaded when it is asked for."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in PARTS:
            raise KeyError(name)
        if name not in self._found:
            self._found[name] = get(name)
        if self._found[name] is reference(name):
            raise KeyError(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in PARTS if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def table(lesson: int | None = None) -> PartTable:
    """Return the state of every part.

    Args:
        lesson: Only what this lesson builds, also if it builds some methods of a class and others
            are built elsewhere; ``FINAL_PROJECT`` (13) for the final project. None for everything.

    Raises:
        ValueError: No part is built in this lesson.

    >>> {row.state for row in table()} <= {"yours", "reference", "broken"}
    True
    >>> [row.name for row in table(lesson=11) if row.lesson < 11]
    ['Scheduler']
    """
    chosen = [
        part
        for part in PARTS.values()
        if lesson is None or lesson in (part.lesson, *part.methods.values())
    ]
    if not chosen:
        raise ValueError(
            f"lesson {lesson} builds no part; lessons are 1 to 12, and {FINAL_PROJECT} is the "
            "final project"
        )
    return PartTable([_status(part) for part in chosen])


def save(
    name: str,
    source: str,
    exercise_id: str = "",
    passes: Callable[[Any], bool] = lambda loaded: True,
) -> Path | None:
    """Keep a learner's source for a part, once it is known to load and to be right.

    It becomes ``my_engine/NAME.py``, and that of a method ``my_engine/CLASS/METHOD.py``. What stood
    there before, if it differs, is kept in ``my_engine/history/``; nothing is overwritten.

    Args:
        name: The part.
        source: The text of a module that defines it and imports all that it needs.
        exercise_id: The exercise that it passed, such as ``"7.3a"``.
        passes: Says of what the source defines whether it passes that exercise.

    Returns:
        The file, or None when there is no workspace.

    Raises:
        KeyError: There is no such part.
        ValueError: The source does not define the part, or does not load on its own, or does not
            pass; or the part was won in an earlier lesson: what is won later does not replace it.
        OSError: It cannot be written, as on a full disk. Everything is as it was.
    """
    part = _part(name)
    path = _path(part)
    if path is None:
        return None
    _require_not_won_before(part, path, exercise_id)
    content = source.encode()
    listed = linecache.cache.get(str(path))
    try:
        loaded = _load(part, path, content)
        if not passes(loaded):
            raise ValueError(OTHER_TEXT)
        keep(name, path, content, exercise_id)
    except _BrokenPartError as error:
        _list_again(path, listed)
        raise ValueError(str(error)) from error
    except (ValueError, OSError):
        _list_again(path, listed)
        raise
    return path


def _list_again(path: Path, listed: Any) -> None:
    """Put back the text that tracebacks show for a file which stays as it was."""
    linecache.cache.pop(str(path), None)
    if listed is not None:
        linecache.cache[str(path)] = listed


def place(path: Path) -> str:
    """Return where a part is kept, as a learner reads it.

    >>> place(Path("/home/ada/workspace/my_engine/BlockPool/touch.py"))
    'my_engine/BlockPool/touch.py'
    """
    return path.as_posix()[path.as_posix().rindex("my_engine/") :]


def standing(name: str) -> str:
    """Say in one line what is used of a part that was just saved, and what stands before it.

    Raises:
        KeyError: There is no such part, or no workspace to keep it in.
    """
    path = _path(_part(name))
    if path is None:
        raise KeyError(f"there is no workspace that keeps {name}; open a lesson with `course lab`")
    owner, _, method = name.partition(".")
    whole = PARTS[owner]
    with warnings.catch_warnings(), _making(owner):
        warnings.simplefilter("ignore", PartWarning)
        behind = _behind_the_class(whole, _own(whole))
    if method in behind:
        return (
            f"Kept as {place(path)}. Your {owner} of an earlier lesson has a {method} of its own, "
            "and that stays in use."
        )
    in_front = [
        each
        for each, part in _methods(whole).items()
        if not method and each not in behind and _state(part)[0] == "yours"
    ]
    under = f", under the methods that you won before: {', '.join(in_front)}" if in_front else ""
    return f"Kept as {place(path)}: your engine uses it from now on{under}."


class _BrokenPartError(Exception):
    """Why a learner's part cannot be used, in one line."""


_in_the_making: ContextVar[frozenset[str]] = ContextVar("_in_the_making", default=frozenset())
"""The parts whose files are being loaded."""


@contextmanager
def _making(name: str) -> Iterator[None]:
    token = _in_the_making.set(_in_the_making.get() | {name})
    try:
        yield
    finally:
        _in_the_making.reset(token)


def _part(name: str) -> Part:
    """Return a part, or a part of its own for a method of one."""
    owner, _, method = name.partition(".")
    part = PARTS.get(owner)
    if part is not None and not method and owner == name:
        return part
    if part is None or method not in part.methods:
        raise KeyError(f"no part {name!r}; parts: {', '.join(part_names())}")
    return Part(name, part.module, part.methods[method], part.node)


def part_names() -> list[str]:
    """Return the names of all parts, each class before its methods.

    >>> names = part_names()
    >>> names.index("BlockPool") < names.index("BlockPool.touch")
    True
    """
    return [
        name
        for part in PARTS.values()
        for name in (part.name, *(f"{part.name}.{method}" for method in part.methods))
    ]


def _methods(part: Part) -> dict[str, Part]:
    """Return the methods of a class as parts."""
    return {method: _part(f"{part.name}.{method}") for method in part.methods}


def _path(part: Part) -> Path | None:
    home = workspace()
    return None if home is None else home / "my_engine" / f"{part.name.replace('.', '/')}.py"


def _own(part: Part) -> Any:
    """Return the learner's version, or None; warns of one that does not load."""
    path = _path(part)
    if path is None or not path.is_file():
        return None
    try:
        return _load(part, path)
    except _BrokenPartError as error:
        warnings.warn(
            f"{place(path)}: {error}; the reference is used instead. Mend the file, or run the "
            f"check of {lesson_name(part.lesson)} again. Your file is kept.",
            PartWarning,
            stacklevel=_frames_of_the_library(),
        )
        return None


def _frames_of_the_library() -> int:
    """Return how far up the stack the learner's line is, counted from the caller."""
    frame, level = sys._getframe(1), 1
    library = str(Path(__file__).parent)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(library):
        frame, level = frame.f_back, level + 1
    return level


def _compose(part: Part, whole: type) -> type:
    """Return the learner's methods on their own class or the reference, whichever ``whole`` is."""
    owns = {method: _own(each) for method, each in _methods(part).items()}
    behind = _behind_the_class(part, whole)
    methods = {m: function for m, function in owns.items() if function and m not in behind}
    # A class that inherits from another part inherits what the learner has built of that.
    bases = [
        base
        for ancestor in whole.__mro__[1:]
        if _is_reference(ancestor) and (base := get(ancestor.__name__)) is not ancestor
        if issubclass(base, ancestor)
    ]
    if not methods and not bases:
        return whole
    composed = mount(whole, methods, bases)
    composed.__module__ = f"my_engine.{part.name}"
    return composed


def _is_reference(found: type) -> bool:
    return found.__name__ in PARTS and reference(found.__name__) is found


def _behind_the_class(part: Part, whole: type | None) -> set[str]:
    """Return the methods that a whole class of the learner's own, won earlier, has too."""
    path = _path(part)
    if path is None or not path.is_file() or whole is None:
        return set()
    record = passed(path)
    class_won = _lesson_won(record, part.name, otherwise=math.inf)
    return {
        method
        for method, each in _methods(part).items()
        if method in vars(whole)
        and class_won < _lesson_won(record, each.name, otherwise=each.lesson)
    }


def won_by(name: str) -> str:
    """Return the exercise whose answer is kept as a part; "" if none is.

    Raises:
        KeyError: There is no such part.
    """
    part = _part(name)
    path = _path(part)
    if path is None or not path.is_file():
        return ""
    return str(passed(path).get(part.name, {}).get("exercise", ""))


def _lesson_won(record: Mapping[str, Mapping[str, str]], name: str, otherwise: float) -> float:
    lesson = str(record.get(name, {}).get("exercise", "")).partition(".")[0]
    return int(lesson) if lesson.isdecimal() else otherwise


def _require_not_won_before(part: Part, path: Path, exercise_id: str) -> None:
    """Raise ValueError if an earlier lesson's version of the part is there and loads."""
    if not path.is_file():
        return
    before = _lesson_won(passed(path), part.name, otherwise=math.inf)
    now = _lesson_won({part.name: {"exercise": exercise_id}}, part.name, otherwise=0)
    if before < now and _state(part)[0] == "yours":
        raise ValueError(
            f"you won {part.name} in {lesson_name(int(before))}, and {place(path)} stays in use; "
            "move that file away to keep this one"
        )


def _load(part: Part, path: Path, content: bytes | None = None) -> Any:
    """Execute the module at ``path`` and return the part that it defines.

    Args:
        part: The part.
        path: Its file.
        content: What is about to be written there; None for what is there.
    """
    module_name = f"my_engine.{part.name}"
    spec = spec_of(module_name, path)
    assert isinstance(spec.loader, PartLoader)
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(module_name)
    sys.modules[module_name] = module
    stand_for_parents(module_name, path)
    name = part.name.rpartition(".")[2]
    try:
        # As where the reference lives: course_lib.attention tells Triton to interpret where there
        # is no GPU, which is too late once a part has imported Triton.
        importlib.import_module(part.module.rpartition(".")[0])
        code = spec.loader.compiled(path.read_bytes() if content is None else content)
        exec(code, module.__dict__)
        if name not in vars(module):
            reason = f"it does not define {name}"
        elif not callable(vars(module)[name]):
            kind = type(vars(module)[name]).__name__
            reason = f"{name} is of type {kind}; it must be a function or class"
        elif "." in part.name and calls_bare_super(vars(module)[name]):
            reason = "it calls super() without arguments, which only a method inside a class can"
        else:
            return vars(module)[name]
    except SyntaxError as error:
        reason = f"syntax error in line {error.lineno}: {error.msg}"
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
    if previous is None:
        del sys.modules[module_name]
    else:
        sys.modules[module_name] = previous
    raise _BrokenPartError(reason)


def _status(part: Part) -> PartStatus:
    state, note = _state(part)
    if part.methods:
        state, note = _state_of_class(part, state, note)
    return PartStatus(part.name, part.lesson, part.node, state, note)


def _state(part: Part) -> tuple[State, str]:
    """Return whose version of a function, method or whole class it is, and a note."""
    path = _path(part)
    if path is None or not path.is_file():
        return "reference", f"yours to build in {lesson_name(part.lesson)}"
    try:
        with _making(part.name):
            _load(part, path)
    except _BrokenPartError as error:
        return "broken", f"{error}; the reference is used, your file is kept"
    if digest(path.read_bytes()) != passed(path).get(part.name, {}).get("sha256"):
        return "yours", "edited since it passed; run its check again"
    return "yours", place(path)


def _state_of_class(part: Part, whole: State, note: str) -> tuple[State, str]:
    """Return the state of a class with methods: how many of them are the learner's."""
    found = {method: _state(each) for method, each in _methods(part).items()}
    own = [method for method, (state, _) in found.items() if state == "yours"]
    said = [f"{len(own)} of {len(found)} methods yours"]
    said += [note] if whole != "reference" else []
    for method, (state, why) in found.items():
        if state == "broken" or (state == "yours" and why.startswith("edited")):
            said.append(f"{method}: {why}")
    states = {whole, *(state for state, _ in found.values())}
    worst: tuple[State, ...] = ("broken", "yours", "reference")
    return next(state for state in worst if state in states), "; ".join(said)
