"""Source without what must not be in the box: bodies that are asked for, and all that is not used.

It works on text alone: nothing is imported, and what is left stays as it was written.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping

from autograder.errors import CourseError
from autograder.scopes import dedented, names_bound, names_used

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def hollowed(source: str, asked: Mapping[str, str]) -> str:
    r"""Return a module in which the bodies of some functions raise NotImplementedError.

    Signatures, decorators, docstrings and the fields of classes stay. That one of them was called
    is remembered in ``autograder.sealed.box.stub``.

    Args:
        source: The module.
        asked: What is asked for, such as ``"BlockPool.touch"``, and by which exercise. All methods
            of a class are asked for with it.

    Raises:
        CourseError: The module does not define one of them.

    >>> print(hollowed("def f(x):\n    'Double.'\n    # Twice.\n    return 2 * x", {"f": "1.1"}))
    def f(x):
        'Double.'
        from autograder.sealed.box.stub import asked_for
        raise asked_for("1.1", "f")
    """
    lines = source.split("\n")
    # A method may be asked for by itself and with its class.
    functions = {
        node.lineno: (node, name, exercise)
        for name, exercise in asked.items()
        for node in _functions(definition(source, name))
    }
    for _, (node, name, exercise) in sorted(functions.items(), reverse=True):
        has_docstring = ast.get_docstring(node) is not None
        if has_docstring and len(node.body) == 1:
            continue
        before = node.body[0].end_lineno if has_docstring else _header_end(node, lines)
        assert before is not None
        indent = " " * node.body[0].col_offset
        body = [
            f"{indent}from autograder.sealed.box.stub import asked_for",
            f'{indent}raise asked_for("{exercise}", "{name}")',
        ]
        if _names_its_class(node):
            # A function keeps as many variables from around it as the one that takes its place.
            body.append(f"{indent}return __class__")
        lines[before : node.end_lineno] = body
    return "\n".join(lines)


def definition(source: str, name: str) -> _Function | ast.ClassDef:
    r"""Return the def or class of a name such as ``"BlockPool.touch"``.

    Raises:
        CourseError: There is none.

    >>> definition("class A:\n    def f(self): ...", "A.f").lineno
    2
    """
    body: list[ast.stmt] = ast.parse(source).body
    found: _Function | ast.ClassDef | None = None
    for part in name.split("."):
        named = [
            each
            for each in body
            if isinstance(each, _Function | ast.ClassDef) and each.name == part
        ]
        if not named:
            raise CourseError(f"there is no {name} in the source; name what it defines")
        found = named[-1]
        body = found.body
    assert found is not None
    return found


def text_of_definition(source: str, name: str) -> str:
    r"""Return the text of a def or class, decorators included, as it would stand alone.

    >>> text_of_definition("x = 1\nclass A:\n    @property\n    def f(self): return 2", "A.f")
    '@property\ndef f(self): return 2'
    """
    node = definition(source, name)
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return dedented("\n".join(source.split("\n")[first - 1 : node.end_lineno]))


def sliced(source: str, wanted: Collection[str]) -> str:
    r"""Return the part of a module that some of its names need, imports included.

    Args:
        source: The module.
        wanted: The names that it is to define.

    Raises:
        CourseError: It does not define one of them.

    >>> print(sliced("import os\nimport sys\na = 1\ndef f(): return a\nb = sys.path", ["f"]))
    a = 1
    def f(): return a
    """
    lines = source.split("\n")
    texts = [
        "\n".join(lines[_first_line(node) - 1 : node.end_lineno]) for node in ast.parse(source).body
    ]
    bound = [names_bound(text) for text in texts]
    missing = set(wanted).difference(*bound)
    if missing:
        raise CourseError(f"the source does not define {', '.join(sorted(missing))}")
    needed, waiting, kept = set(wanted), list(wanted), set[int]()
    while waiting:
        name = waiting.pop()
        for index, text in enumerate(texts):
            if name in bound[index] and index not in kept:
                kept.add(index)
                new = set(names_used(text)) - needed
                needed |= new
                waiting += new
    future = [i for i, text in enumerate(texts) if text.startswith("from __future__ import")]
    # Of an import that brings several names, those that nobody needs go.
    return "\n".join(_without(texts[i], needed) for i in sorted({*kept, *future}))


def _without(text: str, needed: Collection[str]) -> str:
    """Return a statement; an import without the names that nobody needs."""
    statement = ast.parse(text).body[0]
    if not isinstance(statement, ast.ImportFrom) or statement.module == "__future__":
        return text
    statement.names = [each for each in statement.names if (each.asname or each.name) in needed]
    return ast.unparse(statement)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def _functions(node: _Function | ast.ClassDef) -> list[_Function]:
    """Return the function itself, or the methods of a class and of the classes in it."""
    if isinstance(node, _Function):
        return [node]
    return [
        function
        for each in node.body
        if isinstance(each, _Function | ast.ClassDef)
        for function in _functions(each)
    ]


def _header_end(node: _Function, lines: list[str]) -> int:
    """Return the number of the last line (from 1) of ``def ...:``; comments are of the body."""
    before = node.body[0].lineno - 1
    while not lines[before - 1].strip() or lines[before - 1].strip().startswith("#"):
        before -= 1
    if before < node.lineno:
        raise CourseError(f"{node.name} has its body beside its def; give it a line of its own")
    return before


def _names_its_class(node: _Function) -> bool:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return not names.isdisjoint(("super", "__class__"))
