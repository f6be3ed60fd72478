"""The explained solution of an exercise, where the solutions are at hand.

It is read from the lesson's source as it stands there. Building the solution notebook would give
the same, but takes a second or more, and whoever has just passed a check should not wait for it.
"""

from __future__ import annotations

import ast
import html
import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import lessons
from autograder.build.holes import BEGIN, END
from autograder.build.plain import as_function
from autograder.checks.reference import Method, plain
from autograder.errors import CourseError
from autograder.paths import course_root


@dataclass(frozen=True)
class Explanation:
    """A solution and what there is to say about it.

    Attributes:
        title: Which exercise it solves.
        code: The solution; empty where there is none to show.
        text: The explanation, as Markdown; empty where there is none.
    """

    title: str
    code: str
    text: str

    def __repr__(self) -> str:
        return "\n\n".join(part for part in (self.title, self.code, self.text) if part)

    def _repr_markdown_(self) -> str:
        code = f"```python\n{self.code}\n```" if self.code else ""
        return "\n\n".join(part for part in (f"**{self.title}**", code, self.text) if part)

    def folded(self) -> str:
        """Return it as HTML that unfolds."""
        # Takes half a second to import, so only where it is needed.
        from nbconvert.filters import markdown2html

        code = f"<pre>{html.escape(self.code)}</pre>" if self.code else ""
        text = markdown2html(self.text) if self.text else ""
        return f"<details><summary>{html.escape(self.title)}</summary>{code}{text}</details>"


def at_hand(exercise_id: str) -> bool:
    """Say whether this copy of the course has the solutions of the exercise's lesson."""
    return _source(exercise_id) is not None


def explanation(exercise_id: str) -> Explanation | None:
    """Return the explained solution of an exercise; None where there is none.

    Raises:
        CourseError: There is no such exercise.
    """
    exercise = lessons.find(exercise_id)
    source = _source(exercise_id)
    if source is None:
        return None
    cells = _cells(source.read_text(encoding="utf-8"))
    code = _without_docstring(_without_markers(cells.get(f'exercise="{exercise_id}"', "")))
    code = code or _code_of(exercise.check.reference)
    text = textwrap.dedent(
        re.sub(r"^# ?", "", cells.get(f'solution="{exercise_id}"', ""), flags=re.M)
    )
    if not code and not text:
        return None
    return Explanation(f"Solution of {exercise.id} {exercise.title}", code, text.strip())


def _source(exercise_id: str) -> Path | None:
    number = exercise_id.partition(".")[0].zfill(2)
    try:
        found = sorted((course_root() / "solutions").glob(f"{number}_*.py"))
    except CourseError:
        return None
    return found[0] if found else None


def _cells(source: str) -> dict[str, str]:
    """Return the bodies of a source's cells by the directive in their first line."""
    cells = {}
    for cell in re.split(r"^# %% ?", source, flags=re.MULTILINE):
        head, _, body = cell.partition("\n")
        directive = re.match(r'(?:\[markdown\] )?(\w+="[^"]*")', head)
        if directive:
            cells[directive[1]] = body
    return cells


def _without_markers(body: str) -> str:
    lines = [line for line in body.split("\n") if line.strip() not in (BEGIN, END)]
    return "\n".join(lines).strip("\n")


def _code_of(reference: Any) -> str:
    """Return the source of a function or class without its docstring; empty for anything else.

    A method is written as the function that its cell asks for.
    """
    if isinstance(reference, Method):
        return _without_docstring(as_function(reference).rstrip())
    reference = plain(reference)
    if not inspect.isfunction(reference) and not inspect.isclass(reference):
        return ""
    code = textwrap.dedent(inspect.getsource(reference)).rstrip()
    is_definition = isinstance(ast.parse(code).body[0], (ast.FunctionDef, ast.ClassDef))
    return _without_docstring(code) if is_definition else ""


def _without_docstring(code: str) -> str:
    r"""Return code that defines one function or class without the docstring that stands above.

    >>> print(_without_docstring("def two():\n    'Say two.'\n    return 2"))
    def two():
        return 2
    """
    body = ast.parse(code).body
    if len(body) != 1 or not isinstance(body[0], (ast.FunctionDef, ast.ClassDef)):
        return code
    lines = code.split("\n")
    if ast.get_docstring(body[0]) is not None:
        docstring = body[0].body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return "\n".join(lines)
