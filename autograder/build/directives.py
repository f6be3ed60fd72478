"""The directives of a lesson's source, and the cells that each stands for.

A source is in jupytext's percent format. These cell options are directives; all else is plain text
and code:

    # %% exercise="1.2"                    a stub cut out of the library by the exercise's check: a
                                           function, a Triton kernel, or a method as a function;
                                           the imports that it needs stand above it. If the cell
                                           has a body, that body instead
    # %% exercise="7.1" holes="touch"      ... of a class: the methods whose bodies become holes;
                                           holes="*" for all that is below the class's docstring
    # %% exercise="1.3" steps="Slots|All"  ... faded: only the code below these comments is a hole
    # %% check="1.2"                       its check; the body, if not the symbol is checked
    # %% [markdown] solution="1.2"         explanation, in the solution notebook only
    # %% [markdown] answer="1.7" points=5  free text, graded by hand; the body is the model answer
    # %% [markdown] criteria="1.7"         below it, folded: what a strong answer holds
    # %% claims="The waste falls by half"  code that asserts a sentence of the lesson's text which
                                           depends on the data; in the solution notebook only,
                                           which is run on real and on synthetic traces
    # %% shows="module:function"           the source of a function, to be read and run
    # %% folds="Compacting"                code that is run and need not be read: JupyterLab shows
                                           three dots until they are clicked; the name is in it
    # %% quiz="1"                          practice widget, answer cell and check of the quiz
    # %% [markdown] interview="1"          interview questions with their rubrics

Of an exercise whose check has lines to be put in order, the lines are shown, and the answer cell is
made; of one that has tasks by hand, the task of a seed is shown, and the body is the answer cell,
which for a quiz with drawn questions is made as well.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder import lessons
from autograder.build.cells import Lesson, folded, hidden, markdown, role, slug_of
from autograder.build.exercises import check_cells, exercise_cells
from autograder.build.questions import interview_cells, quiz_cells
from autograder.errors import CourseError
from autograder.scopes import dedented

_Expand = Callable[[Lesson, str, str, dict[str, Any]], Iterator[NotebookNode]]


class _Directive(NamedTuple):
    cell_type: str
    expand: _Expand
    options: tuple[str, ...] = ()


def is_directive(cell: NotebookNode) -> bool:
    """Say whether a cell of the source stands for others."""
    return any(key in _DIRECTIVES for key in cell.metadata)


def expand(lesson: Lesson, cell: NotebookNode) -> Iterator[NotebookNode]:
    """Yield the cells that one cell of the source stands for.

    Raises:
        CourseError: Its directive is not well formed.
    """
    # jupytext notes the blank lines of the source; everything else was written by an author.
    options = {key: value for key, value in cell.metadata.items() if key != "lines_to_next_cell"}
    named = [key for key in _DIRECTIVES if key in options]
    if len(named) > 1:
        raise CourseError(f"directives {' and '.join(named)} in one cell; use one")
    argument = options.pop(named[0]) if named else ""
    allowed = _DIRECTIVES[named[0]].options if named else ()
    for option in options:
        if option not in allowed:
            raise CourseError(f"unknown option {option!r}; see autograder/build/directives.py")
    if not named:
        is_markdown = cell.cell_type == "markdown"
        yield new_markdown_cell(cell.source) if is_markdown else new_code_cell(cell.source)
        return
    directive = _DIRECTIVES[named[0]]
    if not isinstance(argument, str):
        raise CourseError(f'{named[0]}={argument} needs quotes, as in {named[0]}="{argument}"')
    if cell.cell_type != directive.cell_type:
        raise CourseError(f"{named[0]} belongs in a {directive.cell_type} cell")
    yield from directive.expand(lesson, argument, cell.source, options)


def _solution(
    lesson: Lesson, exercise_id: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    slug = slug_of(lessons.find(exercise_id))
    yield hidden(markdown(f"{slug}-explained", body))


def _answer(
    lesson: Lesson, answer_id: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    points = options.get("points")
    if type(points) is not int or points < 1:
        raise CourseError(f"answer {answer_id} needs points=, a whole number of at least 1")
    cell = markdown(f"answer-{_number_of_text('answer', answer_id)}", body)
    cell.metadata["nbgrader"] = role(cell["id_hint"], grade=True, solution=True) | {
        "points": points
    }
    yield cell


def _criteria(
    lesson: Lesson, answer_id: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    if not body.strip():
        raise CourseError(f"criteria {answer_id} needs a body: what a strong answer holds")
    number = _number_of_text("criteria", answer_id)
    yield markdown(f"criteria-{number}", folded("What a strong answer holds", body))


def _claims(
    lesson: Lesson, sentence: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    if not sentence.strip() or "assert " not in body:
        raise CourseError("claims needs the sentence that it is about, and an assert in its body")
    yield hidden(new_code_cell(f"# {sentence}\n{body}"))


def _shows(
    lesson: Lesson, symbol: str, body: str, options: dict[str, Any]
) -> Iterator[NotebookNode]:
    module, _, name = symbol.partition(":")
    try:
        shown = getattr(importlib.import_module(module), name)
        source = dedented(inspect.getsource(shown))
    except (ImportError, AttributeError, ValueError, TypeError, OSError) as error:
        raise CourseError(
            f'shows={symbol!r}: {error}; name a function or class as "module:name"'
        ) from error
    yield new_code_cell("\n\n\n".join(part for part in (source, body) if part))


def _folds(lesson: Lesson, name: str, body: str, options: dict[str, Any]) -> Iterator[NotebookNode]:
    if not name.strip() or name not in body:
        raise CourseError(f"folds={name!r}: name what the cell below it defines")
    cell = new_code_cell(body)
    cell.metadata["jupyter"] = {"source_hidden": True}
    yield cell


def _number_of_text(directive: str, answer_id: str) -> str:
    if not re.fullmatch(r"\d+\.\w+", answer_id):
        raise CourseError(f'{directive} {answer_id!r} needs an id such as "1.7"')
    return answer_id.replace(".", "-")


_DIRECTIVES = {
    "exercise": _Directive("code", exercise_cells, ("holes", "steps")),
    "check": _Directive("code", check_cells),
    "solution": _Directive("markdown", _solution),
    "answer": _Directive("markdown", _answer, ("points",)),
    "criteria": _Directive("markdown", _criteria),
    "claims": _Directive("code", _claims),
    "shows": _Directive("code", _shows),
    "folds": _Directive("code", _folds),
    "quiz": _Directive("code", quiz_cells),
    "interview": _Directive("markdown", interview_cells),
}
