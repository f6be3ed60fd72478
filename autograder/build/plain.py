"""A method of a class, written as a plain function: what a learner sees of a large class."""

from __future__ import annotations

import ast
import inspect

from autograder.checks.reference import Method
from autograder.scopes import dedented

_GIVEN_BACK = ("property", "cached_property", "classmethod", "staticmethod", "override")
"""Decorators that belong to the class. Mounting the function puts them back."""


def as_function(method: Method) -> str:
    """Return the source of a method as that of a plain function.

    Its first argument says what it is, and ``super()`` names the class that it starts from, because
    outside a class it could not know.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> as_function(Method(BlockPool, "touch")).partition(",")[0]
    'def touch(self: BlockPool'
    """
    source = dedented(inspect.getsource(method.function))
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    # ast counts bytes.
    lines = [line.encode() for line in source.split("\n")]
    owner = method.owner.__name__
    for call in _bare_supers(node):
        first = _first_argument(node)
        assert first is not None, "a method that calls super() has an object to call it on"
        assert call.end_col_offset is not None
        row = call.lineno - 1
        written = f"super({owner}, {first.arg})".encode()
        lines[row] = lines[row][: call.col_offset] + written + lines[row][call.end_col_offset :]
    _annotate(node, lines, owner)
    for decorator in reversed(node.decorator_list):
        if ast.unparse(decorator).rpartition(".")[2] in _GIVEN_BACK:
            assert decorator.end_lineno is not None
            del lines[decorator.lineno - 1 : decorator.end_lineno]
    return b"\n".join(lines).decode()


def _annotate(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[bytes], owner: str) -> None:
    """Say of the first argument which class it is, unless it is said, or there is none."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    first = _first_argument(node)
    if first is None or first.annotation is not None or "staticmethod" in decorators:
        return
    kind = f"type[{owner}]" if "classmethod" in decorators else owner
    row, column = first.lineno - 1, first.end_col_offset
    lines[row] = lines[row][:column] + f": {kind}".encode() + lines[row][column:]


def _first_argument(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.arg | None:
    return next(iter([*node.args.posonlyargs, *node.args.args]), None)


def _bare_supers(node: ast.AST) -> list[ast.Call]:
    """Return the calls of ``super()`` without arguments, the last first."""
    calls = [
        each
        for each in ast.walk(node)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Name)
        and each.func.id == "super"
        and not (each.args or each.keywords)
    ]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset), reverse=True)
