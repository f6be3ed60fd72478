"""A piece of source: where it stands, what it takes from around itself, what it leaves behind."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Sequence


def dedented(source: str) -> str:
    r"""Return the source of a def or class as it would stand at the top of a file.

    A line that begins further left, as in a text that goes on behind a backslash, stays where it
    is. (``textwrap.dedent`` would move nothing then.)

    >>> print(dedented('    def f():\n        return "a\\\nb"'))
    def f():
        return "a\
    b"
    """
    indent = source[: len(source) - len(source.lstrip())]
    return "\n".join(line.removeprefix(indent) for line in source.split("\n")).rstrip()


def names_used(source: str) -> Iterator[str]:
    r"""Yield every name that the code takes from outside itself, some more than once.

    >>> sorted(set(names_used("def area(r: float):\n    square = r * r\n    return pi * square")))
    ['float', 'pi']
    """
    waiting = [symtable.symtable(source, "<source>", "exec")]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()


def names_bound(source: str) -> set[str]:
    r"""Return the names that the code defines at its top level: imports, defs, assignments.

    >>> sorted(names_bound("import numpy as np\nfrom math import pi\nx, y = 1, 2"))
    ['np', 'pi', 'x', 'y']
    """
    table = symtable.symtable(source, "<source>", "exec")
    return {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }


def imports_of(source: str) -> dict[str, tuple[str, str | None]]:
    r"""Return what a module imports at its top level: name → (module, name there or None).

    >>> imports_of("import numpy as np\nfrom math import pi\nimport os.path")
    {'np': ('numpy', None), 'pi': ('math', 'pi'), 'os': ('os', None)}
    """
    found: dict[str, tuple[str, str | None]] = {}
    waiting: list[ast.stmt] = list(ast.parse(source).body)
    for node in waiting:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = (alias.name if alias.asname else top, None)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                found[alias.asname or alias.name] = (node.module, alias.name)
        elif isinstance(node, ast.If | ast.Try):
            # Imports for type checkers only, or of what is not installed everywhere.
            waiting += [*node.body, *node.orelse]
    return found


def name_in(text: str) -> str | None:
    r"""Return the name of the function or class that a text is the definition of.

    >>> name_in("@cached\ndef f(x):\n    return x"), name_in("f = 3")
    ('f', None)
    """
    match _statements(dedented(text)):
        case [ast.ClassDef(name=name) | ast.FunctionDef(name=name)]:
            return name
    return None


def is_what_stands(text: str, cells: Sequence[str]) -> bool:
    r"""Say whether a definition is what its name stands for once cells have run, by their text.

    Another spelling of the same is another text: how it is written may be what is judged.

    Args:
        text: The definition.
        cells: What has run, in order.

    >>> decoy, real = "def f(x):\n    return x", "def f(x):\n    return(g(x))"
    >>> is_what_stands(decoy, [real, decoy]), is_what_stands(decoy, [decoy, real])
    (True, False)
    >>> is_what_stands(decoy, [decoy, "f = g"]), is_what_stands(decoy, [f"{decoy}\nf = g"])
    (False, False)
    >>> is_what_stands(decoy, [decoy, "def f(x): return(x)"])
    False
    """
    text, name = dedented(text), name_in(text)
    spelled = [_spelling(each, text) for each in _statements(text)]
    for cell in reversed(cells):
        for statement in reversed(_statements(cell)):
            if name in names_bound(ast.unparse(statement)):
                return [_spelling(statement, cell)] == spelled
    return False


def definitions_used(text: str, cells: Sequence[str]) -> dict[str, str]:
    r"""Return the functions and classes of cells that a definition uses, by name, by their text.

    Those that they use are among them; the definition itself is not.

    Args:
        text: The definition: Python as it stands in a cell.
        cells: What has run, in order; of a name the last definition counts.

    >>> cells = ["def g(x):\n    return h(x)", "def h(x):\n    return x", "def k(): return g(1)"]
    >>> list(definitions_used("def f(x):\n    return g(x)", cells))
    ['g', 'h']
    """
    standing = {
        statement.name: _spelling(statement, cell)
        for cell in cells
        for statement in _statements(cell)
        if isinstance(statement, ast.ClassDef | ast.FunctionDef)
    }
    found: dict[str, str] = {}
    waiting, own_name = [dedented(text)], name_in(text)
    while waiting:
        for name in names_used(waiting.pop()):
            if name in standing and name not in found and name != own_name:
                found[name] = standing[name]
                waiting.append(standing[name])
    return found


def _spelling(statement: ast.stmt, cell: str) -> str:
    """Return the lines of a statement, decorators included."""
    above = [each.lineno for each in getattr(statement, "decorator_list", ())]
    first = min([statement.lineno, *above])
    return "\n".join(cell.split("\n")[first - 1 : statement.end_lineno]).rstrip()


def _statements(cell: str) -> list[ast.stmt]:
    """Return the statements of a cell, magics aside; none of one that is no Python."""
    lines = ("" if line.startswith(("%", "!")) else line for line in cell.split("\n"))
    try:
        return ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
