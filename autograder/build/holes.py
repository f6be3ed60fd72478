"""Cutting exercises out of library code, and marking where the answers go.

The library's own function or class is the reference solution. An exercise is that source with some
bodies wrapped in nbgrader's solution markers: the solution notebook keeps what is between them, the
released one has ``# YOUR CODE HERE`` instead.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from autograder.build.plain import as_function
from autograder.checks.reference import Method, plain
from autograder.errors import CourseError
from autograder.scopes import dedented

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "# YOUR CODE HERE"

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def cut(reference: Any, methods: Sequence[str] = (), steps: Sequence[str] = ()) -> str:
    r"""Return the source of ``reference`` with its holes marked.

    Args:
        reference: A function, class or Triton kernel of the library, or a ``Method`` of a class.
            The latter is released as a plain function, so that nothing else of its class is shown.
        methods: For a class: the methods whose bodies become holes; ``["*"]`` for all that is below
            the class's docstring.
        steps: For a faded exercise: the first words of comments. The comment stays as the
            instruction; the lines below it, up to a blank line or the end of its block, become the
            hole. Without ``steps`` the whole body below the docstring is the hole.

    Raises:
        CourseError: The reference is neither function nor class, there is no such method or
            comment, or a stub would not be valid Python.

    >>> from course_lib.kv_cache import kv_bytes_per_token
    >>> print("\n".join(cut(kv_bytes_per_token).splitlines()[-4:]))
        ### BEGIN SOLUTION
        numbers_per_layer = 2 * model.num_kv_heads * model.head_dim
        return model.num_layers * numbers_per_layer * model.dtype_bytes
        ### END SOLUTION
    """
    source = source_of(reference)
    lines = source.split("\n")
    if steps:
        spans = [_step(lines, step, reference.__name__) for step in steps]
    else:
        spans = [_body(node, lines) for node in _targets(source, methods, reference.__name__)]
    for first, last in sorted(spans, reverse=True):
        indent = " " * (len(lines[first]) - len(lines[first].lstrip()))
        lines[first : last + 1] = [indent + BEGIN, *lines[first : last + 1], indent + END]
    marked = "\n".join(lines)
    validate(marked, reference.__name__)
    return marked


def source_of(reference: Any) -> str:
    """Return the text of a reference, as a learner would write it.

    Raises:
        CourseError: It is neither function nor class.

    >>> from course_lib.kv_cache import kv_bytes_per_token
    >>> source_of(kv_bytes_per_token).partition("(")[0]
    'def kv_bytes_per_token'
    """
    if isinstance(reference, Method):
        return as_function(reference)
    written = plain(reference)
    if not isinstance(written, (FunctionType, type)) or written.__name__ == "<lambda>":
        raise CourseError("its reference is no def or class to cut out; give the cell a body")
    return dedented(inspect.getsource(written))


def validate(marked: str, name: str) -> None:
    """Make sure that the markers come in pairs and that what is released is valid Python.

    Raises:
        CourseError: They do not, or it is not; the message begins with ``name``.
    """
    markers = [line.strip() for line in marked.split("\n") if line.strip() in (BEGIN, END)]
    if not markers or markers != [BEGIN, END] * (len(markers) // 2):
        raise CourseError(f"{name}: {BEGIN!r} and {END!r} must come in pairs, and one at least")
    try:
        ast.parse(stub(marked))
    except SyntaxError as error:
        raise CourseError(
            f"{name}: without its holes it is not valid Python (line {error.lineno}: {error.msg}); "
            "leave a statement in every block"
        ) from error


def stub(marked: str) -> str:
    r"""Return what is released of a marked source.

    >>> print(stub("a = 1\n### BEGIN SOLUTION\nb = 2\n### END SOLUTION"))
    a = 1
    # YOUR CODE HERE
    """
    kept: list[str] = []
    inside = False
    for line in marked.split("\n"):
        if line.strip() == BEGIN:
            inside = True
            kept.append(line.replace(BEGIN, STUB))
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def hidden_lines(marked: str) -> list[str]:
    r"""Return the lines between the markers: what no released file may contain.

    >>> hidden_lines("a = 1\n### BEGIN SOLUTION\nb = 2\n### END SOLUTION")
    ['b = 2']
    """
    hidden: list[str] = []
    inside = False
    for line in marked.split("\n"):
        if line.strip() in (BEGIN, END):
            inside = line.strip() == BEGIN
        elif inside:
            hidden.append(line)
    return hidden


def private_names(marked: str) -> list[str]:
    r"""Return the names with a leading underscore that the holes use: no learner can know them.

    ``_`` alone and names such as ``__len__`` are none.

    >>> private_names("### BEGIN SOLUTION\nx = self._n + _f(__name__)\n### END SOLUTION")
    ['_f', '_n']
    """
    whole, hidden = _numbered(marked)
    found = set()
    for node in ast.walk(ast.parse(whole)):
        name = _name_of(node)
        if getattr(node, "end_lineno", None) in hidden and name.strip("_"):
            found.add(name)
    return sorted(name for name in found if name[0] == "_" and not name.endswith("__"))


def sizes(marked: str) -> list[int]:
    r"""Return how many lines of code each hole has, without blanks, comments and docstrings.

    >>> sizes("### BEGIN SOLUTION\nx = 1\n# why\n\ny = 2\n### END SOLUTION\nz = 3")
    [2]
    """
    whole, hidden = _numbered(marked)
    lines = whole.split("\n")
    quiet = {n for n, line in enumerate(lines, 1) if not line.split("#")[0].strip()}
    for node in ast.walk(ast.parse(whole)):
        if isinstance(node, _Function | ast.ClassDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            assert first.end_lineno is not None
            quiet |= set(range(first.lineno, first.end_lineno + 1))
    return [
        len([n for n in hidden if hidden[n] == hole and n not in quiet]) for hole in _ids(hidden)
    ]


def _ids(hidden: dict[int, int]) -> list[int]:
    return sorted(set(hidden.values()))


def _numbered(marked: str) -> tuple[str, dict[int, int]]:
    """Return the source without markers, and which of its lines (from 1) are in which hole."""
    kept: list[str] = []
    hidden: dict[int, int] = {}
    holes = 0
    inside = False
    for line in marked.split("\n"):
        if line.strip() in (BEGIN, END):
            inside = line.strip() == BEGIN
            holes += inside
            continue
        kept.append(line)
        if inside:
            hidden[len(kept)] = holes
    return "\n".join(kept), hidden


def _name_of(node: ast.AST) -> str:
    """Return the name that a node of the syntax tree spells, if it spells one."""
    for attribute in ("id", "attr", "arg", "name"):
        name = getattr(node, attribute, None)
        if isinstance(name, str):
            return name
    return ""


def _targets(source: str, methods: Sequence[str], name: str) -> list[_Function | ast.ClassDef]:
    """Return the functions whose bodies become holes, or the class itself."""
    top = ast.parse(source).body[0]
    if isinstance(top, _Function):
        if methods:
            raise CourseError(f"{name} is a function; holes={','.join(methods)} needs a class")
        return [top]
    assert isinstance(top, ast.ClassDef)
    if list(methods) == ["*"]:
        return [top]
    found = {node.name: node for node in top.body if isinstance(node, _Function)}
    missing = [method for method in methods if method not in found]
    if missing or not methods:
        asked = ", ".join(missing) or "no holes"
        raise CourseError(f"{name}: {asked} named; its methods are {', '.join(found)}")
    return [found[method] for method in methods]


def _body(node: _Function | ast.ClassDef, lines: Sequence[str]) -> tuple[int, int]:
    """Return the first and last line (from 0) of a body, without its docstring."""
    has_docstring = ast.get_docstring(node) is not None
    if has_docstring and len(node.body) == 1:
        raise CourseError(f"{node.name} has a docstring and nothing else; there is nothing to cut")
    before = node.body[0].end_lineno if has_docstring else node.body[0].lineno - 1
    assert before is not None
    assert node.end_lineno is not None
    first = before
    # Comments above the first statement belong to the answer.
    while not lines[first].strip():
        first += 1
    return first, node.end_lineno - 1


def _step(lines: Sequence[str], step: str, name: str) -> tuple[int, int]:
    """Return the first and last line of the code below the comment that begins with ``step``."""
    comment = f"# {step}"
    found = [index for index, line in enumerate(lines) if line.strip().startswith(comment)]
    if len(found) != 1:
        raise CourseError(f"{name}: {len(found)} comments begin with {comment!r}; exactly one must")
    indent = len(lines[found[0]]) - len(lines[found[0]].lstrip())
    last = first = found[0] + 1
    while last < len(lines) and lines[last].strip():
        if len(lines[last]) - len(lines[last].lstrip()) < indent:
            break
        last += 1
    if first == last:
        raise CourseError(f"{name}: there is no code below {comment!r}")
    return first, last - 1
