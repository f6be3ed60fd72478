"""The course's own answers to the final project, as a learner would have written them."""

from __future__ import annotations

import linecache
import sys
import textwrap
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from autograder.project.rubric import rubric
from autograder.written import text_of
from course_lib import parts

HOME = "engine_of_the_course"
"""The module that the answers say they are of: none of the library's, whose parts earn nothing."""


def reference_pieces() -> dict[str, Any]:
    """Return the parts of the project, made anew from the library's text.

    >>> sorted(reference_pieces())[0], reference_pieces()["Answer.append"].__qualname__
    ('Answer.append', 'append')
    """
    return {name: written_anew(name) for name in rubric().parts}


def written_anew(name: str, changes: Mapping[str, str] | None = None) -> Any:
    """Return a part, made anew from its text in the library, as if a notebook defined it.

    Args:
        name: The part.
        changes: What to put in the place of some of its text; for what is wrong with it.

    Raises:
        ValueError: A text that is to be changed is not there exactly once.
    """
    source = textwrap.dedent(str(text_of(parts.reference(name))))
    for old, new in (changes or {}).items():
        if source.count(old) != 1:
            raise ValueError(f"{old!r} is {source.count(old)} times in {name}, not once")
        source = source.replace(old, new)
    return defined(name, source)


def defined(name: str, source: str) -> Any:
    """Return what a text defines, among what stands around a part in the library.

    Args:
        name: The part.
        source: The text of a function or class, as a cell would hold it.
    """
    reference = parts.reference(name)
    home = sys.modules[reference.__module__]
    module = ModuleType(HOME)
    module.__dict__.update({**vars(home), "__name__": HOME})
    module.__dict__.pop("__file__", None)
    file = f"<{HOME} {name} {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), vars(module))
    return vars(module)[name.rpartition(".")[2]]
