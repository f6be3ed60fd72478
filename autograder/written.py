"""The text of a function or class as it was written, also where ``inspect`` does not find it.

A class of a notebook has no file, and under ``%%time`` neither has a function: their text is among
the cells that were run.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

TIMED = ("<timed exec>", "<timed eval>")
"""What IPython calls the code of a cell under ``%%time``: all such cells alike."""


def text_of(obj: Any) -> str | None:
    """Return the definition of a function, class or kernel, decorators included.

    Args:
        obj: The object; one that Triton made of a function stands for that function.

    Returns:
        Its text as it stands there, indented as it is; None where it is not at hand.

    >>> str(text_of(text_of)).partition("(")[0]
    'def text_of'
    >>> text_of(3) is None
    True
    """
    written = getattr(obj, "fn", obj) if type(obj).__module__.startswith("triton.") else obj
    return _text_from_cells(written) or _text_from_file(written)


def helpers_of(obj: Any) -> dict[str, str]:
    """Return the definitions that a function or class uses and that stand beside it, by name.

    Those that they use are among them. What a library defines is none.

    Args:
        obj: The function or class.

    >>> sorted(helpers_of(functions_of))
    []
    >>> sorted(helpers_of(_cells_run)), "_definition" in helpers_of(text_of)
    (['_shell'], True)
    """
    found: dict[str, str] = {}
    waiting, seen = [obj], {id(obj)}
    while waiting:
        for each in _used_by(waiting.pop()):
            beside = getattr(each, "__module__", None) == getattr(obj, "__module__", "")
            if id(each) in seen or not beside or not isinstance(each, FunctionType | type):
                continue
            seen.add(id(each))
            text = text_of(each)
            # Of a lambda in the middle of something only its lines are at hand.
            if text is not None and _is_whole(text):
                found[each.__name__] = text
                waiting.append(each)
    return found


def _is_whole(text: str) -> bool:
    """Say whether a text is Python as it stands there.

    >>> _is_whole("def f(x): return x"), _is_whole("f: lambda x: x,")
    (True, False)
    """
    try:
        ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return False
    return True


def _used_by(obj: Any) -> Iterator[Any]:
    """Yield what the code of a function or class has names for, its classes' bases included."""
    if isinstance(obj, type):
        yield from obj.__mro__[1:]
    for function in functions_of(obj):
        codes = [function.__code__]
        names: set[str] = set()
        while codes:
            code = codes.pop()
            names.update(code.co_names)
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        yield from (function.__globals__[name] for name in names if name in function.__globals__)
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # nothing is in it yet
                yield cell.cell_contents


def _text_from_file(obj: Any) -> str | None:
    """Return the definition as ``inspect`` finds it; None if it finds none."""
    try:
        return inspect.getsource(obj)
    except (OSError, TypeError):
        return None


def functions_of(obj: Any) -> list[FunctionType]:
    """Return the function itself, or the methods that a class was written with.

    Args:
        obj: The function or class; anything else was written with none.
    """
    members = vars(obj).values() if isinstance(obj, type) else [obj]
    unwrapped = (inspect.unwrap(getattr(member, "__func__", member)) for member in members)
    # What @dataclass makes has no file, and what typing.Protocol gives to every class on it is
    # typing's own, as what a NamedTuple has is collections' own: made anew where the class is.
    return [
        function
        for function in unwrapped
        if isinstance(function, FunctionType)
        and function.__code__.co_filename != "<string>"
        and function.__module__ not in ("typing", "collections")
    ]


def _text_from_cells(obj: Any) -> str | None:
    """Return the definition that was run, where ``inspect`` does not know which one that was.

    A class of a notebook does not know which cell it comes from, but its methods do. One without
    methods, and whatever a cell under ``%%time`` defines, is what the last cell says that defines
    something of that name.
    """
    in_a_file = isinstance(obj, type) and hasattr(sys.modules.get(obj.__module__), "__file__")
    # Triton's interpreter puts its own globals into those of a kernel: its __file__ too.
    in_a_file = in_a_file and not (obj.__module__ == "__main__" and _shell() is not None)
    files = {function.__code__.co_filename for function in functions_of(obj)}
    if in_a_file or (not isinstance(obj, type) and files.isdisjoint(TIMED)):
        return None
    listed = [text for file in files if (text := "".join(linecache.getlines(file)))]
    texts = listed or [*_cells_run(), *_cells_listed()]
    return next((found for text in texts if (found := _definition(obj.__name__, text))), None)


def _shell() -> Any:
    """Return what runs the cells of this notebook; None outside of one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _cells_run() -> Iterator[str]:
    """Yield the cells that were run in this notebook, the last one first, without ``%%time``."""
    shell = _shell()
    if shell is None:
        return
    for text in reversed(shell.history_manager.input_hist_raw):
        first, _, rest = text.lstrip().partition("\n")
        yield shell.transform_cell(rest if first.startswith("%%") else text)


def _cells_listed() -> Iterator[str]:
    """Yield the cells that tracebacks could show, the one that was new last first."""
    # Cells are in the cache without a time stamp, because they have no file. A part of the
    # learner's own has one, and is in the cache as it was when it was loaded.
    for file, entry in reversed(list(linecache.cache.items())):
        if len(entry) > 1 and entry[1] is None and not Path(file).is_file():
            yield "".join(entry[2])


def _definition(name: str, text: str) -> str | None:
    """Return the last definition of a name at the top level of a text."""
    try:
        statements = ast.parse(text).body if name in text else []
    except SyntaxError:
        # A cell that was run and refused.
        return None
    for node in reversed(statements):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            return "\n".join(text.split("\n")[first - 1 : node.end_lineno])
    return None
