"""Which cells of a submission an answer needs, so that the others need not run before it is judged.

A lesson's own cells draw figures and replay traces: they take most of the time that a notebook
takes, and hardly an answer uses what they leave behind. So of what was given, a cell runs if it
binds or changes a name that is wanted. Of what a student wrote, a cell runs as well if it reaches
out: if it calls a function for what that does, or sets a part of what is not the notebook's own.
What this does to the library, or to Python, no name tells. Where a cell looks up names by their
text, nothing is known of what it wants, and all cells run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from autograder.scopes import names_bound, names_used
from autograder.sealed.intake import Cell, Role

_BY_TEXT = frozenset(
    ("eval", "exec", "globals", "locals", "vars", "get_ipython", "__main__", "In", "Out", "*")
)
"""What reaches any name of the notebook; the star is that of an import."""

_SHOWING = frozenset(("print", "display", "len", "repr", "round", "sorted", "type", "isinstance"))

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Import = ast.Import | ast.ImportFrom
_CELLS = 4_096


@dataclass(frozen=True)
class About:
    """What the text of a cell says of it.

    Attributes:
        bound: The names that it defines at its top level.
        used: The names that it takes from around itself, or defines and uses.
        changed: The names whose objects it changes where they are: a part of them is set, or a
            method is called for what it does.
        imported: The names that stand for what it imports.
        is_active: Whether it calls a function for what that does, or may do anything.
    """

    bound: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    imported: frozenset[str] = frozenset()
    is_active: bool = True


def needed(cells: Sequence[Cell], check: int, name: str) -> list[int]:
    """Return the places of the cells that run before a check, in order.

    Args:
        cells: The cells of a submission.
        check: The place of the check.
        name: The name of the answer.

    >>> texts = ["import math", "x = 1", "y = 2", "def f(): return y", "f.z = math.pi", "x + y"]
    >>> cells = [Cell(Role.GIVEN, text) for text in texts]
    >>> needed(cells, 6, "f")
    [0, 2, 3, 4]
    """
    before = [at for at in range(check) if cells[at].role not in (Role.TEXT, Role.CHECK)]
    told = {at: about(cells[at].source) for at in before}
    imported = frozenset[str]().union(*(each.imported for each in told.values()))
    kept = set(written_for(cells, check))
    data = frozenset[str]().union(*(each.bound - each.imported for each in told.values()))
    kept |= {
        at
        for at in before
        if cells[at].role is not Role.GIVEN and (told[at].is_active or not told[at].changed <= data)
    }
    wanted = {name}.union(*(told[at].used for at in kept))
    is_growing = True
    while is_growing:
        new = {
            at
            for at in before
            if at not in kept
            and not wanted.isdisjoint(told[at].bound | (told[at].changed - imported))
        }
        kept |= new
        wanted = wanted.union(*(told[at].used for at in new))
        is_growing = bool(new)
    return before if not wanted.isdisjoint(_BY_TEXT) else sorted(kept)


def written_for(cells: Sequence[Cell], check: int) -> list[int]:
    """Return the places of the student's cells between a check and the one before it."""
    first = max((at for at in range(check) if cells[at].role is Role.CHECK), default=-1)
    return [at for at in range(first + 1, check) if cells[at].role in (Role.ANSWER, Role.OWN)]


@lru_cache(_CELLS)
def about(source: str) -> About:
    r"""Return what the text of a cell says of it; of what is no Python, whatever it may be.

    >>> told = about("x = [1]\nx.append(y)\nx[0] = 2")
    >>> sorted(told.bound), sorted(told.used), sorted(told.changed), told.is_active
    (['x'], ['x', 'y'], ['x'], False)
    >>> [about(text).is_active for text in ("x = f()", "print(x)", "f()", "%timeit f()")]
    [False, False, True, True]
    """
    lines = source.split("\n")
    python = "\n".join("" if line.startswith(("%", "!")) else line for line in lines)
    words = frozenset(re.findall(r"[^\W\d]\w*", source))
    try:
        statements = ast.parse(python).body
        used, bound = frozenset(names_used(python)), frozenset(names_bound(python))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return About(used=words)
    if python != source:
        used |= words
    stars = frozenset("*") if any(map(_is_star, statements)) else frozenset[str]()
    imports = [each for each in statements if isinstance(each, _Import)]
    return About(
        bound,
        used | stars,
        frozenset(name for each in statements for name in _changed(each)),
        frozenset(_name_of(alias) for each in imports for alias in each.names),
        python != source or any(map(_is_active, statements)),
    )


def _is_star(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"


def _name_of(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _is_active(statement: ast.stmt) -> bool:
    """Say whether a statement, or one in it, calls a function for what it does."""
    if isinstance(statement, _Definition):
        return False
    return _is_star(statement) or any(
        isinstance(node, ast.Delete)
        or (isinstance(node, ast.Expr) and any(map(_is_call_of_function, ast.walk(node))))
        for node in ast.walk(statement)
    )


def _is_call_of_function(node: ast.AST) -> bool:
    """Say whether something is a call, and neither of a method nor of what only shows."""
    if not isinstance(node, ast.Call) or isinstance(node.func, ast.Attribute):
        return False
    return not (isinstance(node.func, ast.Name) and node.func.id in _SHOWING)


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Yield the names of objects that a statement changes, those in it included."""
    if isinstance(statement, _Definition):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield from _root(node)
        elif isinstance(node, ast.Expr):
            for call in ast.walk(node):
                if isinstance(call, ast.Call):
                    yield from _root(call.func)


def _root(node: ast.expr) -> Iterator[str]:
    """Yield the name at which a path of attributes, items and calls begins, if it has any steps."""
    steps = 0
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
        steps += 1
    if steps and isinstance(node, ast.Name):
        yield node.id
