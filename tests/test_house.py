"""The rules of the house: how large files and functions may be, and what may import what.

What breaks a rule for a good reason stands in ``REASONS``, with the reason; what breaks one and is
still to be mended in ``TO_MEND``. Both are exact: whoever mends something takes it out.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("course_lib", "autograder")

MOST_LINES_OF_A_FILE = 400
"""Lines of code: blank lines, comments and docstrings are not counted."""

MOST_LINES_OF_A_FUNCTION = 40
"""Lines of code below the signature. What a command can be asked for, one option per line, is in
its signature."""

MOST_COMPLEX = 12
"""McCabe's number, as ruff counts it (C901)."""

REASONS: dict[str, str] = {}
"""``path`` or ``path:function``, and why it may be larger."""

TO_MEND: set[str] = set()

OWN_PARTS = ("catalogue", "parts", "mounting", "rewiring")
"""What puts a learner's own parts in the place of the library's."""

ALLOWED: dict[str, set[str]] = {
    "specs": set(),
    # To put a learner's code in the place of its own, it copies functions as everybody does.
    # ``rewiring`` and ``mounting`` import nothing else of the course, and nothing heavy.
    "attention": {"rewiring"},
    "queueing": set(),
    "catalogue": set(),
    "mounting": set(),
    "rewiring": {"mounting"},
    "part_table": {"catalogue"},
    "part_files": set(),
    "part_modules": {"part_files"},
    "parts": {"catalogue", "mounting", "part_files", "part_modules", "part_table", "rewiring"},
    "kv_cache": {"specs"},
    "roofline": {"specs", "kv_cache"},
    "scheduling": {"specs", "kv_cache", *OWN_PARTS},
    "steps": {"specs", "roofline", "kv_cache", "scheduling"},
    "simulation": {"specs", "roofline", "kv_cache", "scheduling", "queueing", "steps", *OWN_PARTS},
    "engine": {"specs", "kv_cache", "scheduling", "attention", "steps", *OWN_PARTS},
}
"""What each part of the library may import of the others; ``viz``, on top, may import them all."""

HEAVY = {
    "torch": {"attention", "engine"},
    "triton": {"attention"},
    "matplotlib": {"viz"},
    "autograder": set[str](),
}
"""Packages that cost time or turn the layers around, and the parts that may import them at all."""


@cache
def modules() -> dict[str, Path]:
    """Return every module of the two packages by its name."""
    found = {}
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def code_lines(path: Path) -> frozenset[int]:
    """Return the numbers of the lines that have code."""
    nothing = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines |= set(range(token.start[0], token.end[0] + 1))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree_of(path)):
        # A string that nobody uses: a docstring, or what is said of a constant above it.
        for statement in getattr(node, "body", []) if isinstance(node, documented) else []:
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text and isinstance(statement.value.value, str):
                lines -= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return frozenset(lines)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def large_files() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in modules().values()
        if len(code_lines(path)) > MOST_LINES_OF_A_FILE
    }


def long_functions() -> set[str]:
    found = set()
    for path in modules().values():
        for function in functions(path):
            body = set(range(function.body[0].lineno, (function.end_lineno or 0) + 1))
            if len(code_lines(path) & body) > MOST_LINES_OF_A_FUNCTION:
                found.add(f"{path.relative_to(ROOT)}:{function.name}")
    return found


def complex_functions() -> set[str]:
    """Return what ruff finds too complex, whatever is said beside it."""
    rule = ["--select", "C901", "--config", f"lint.mccabe.max-complexity={MOST_COMPLEX}"]
    rule += ["--output-format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--ignore-noqa", "--isolated", *rule, *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # The message begins with the name: `name` is too complex (13 > 12).
    return {
        f"{Path(each['filename']).relative_to(ROOT)}:{each['message'].split('`')[1]}"
        for each in json.loads(done.stdout)
    }


def test_files_and_functions_are_small_and_simple() -> None:
    found = large_files() | long_functions() | complex_functions()
    assert found == set(REASONS) | TO_MEND


def test_every_exception_has_a_reason() -> None:
    assert all(reason.strip().endswith(".") for reason in REASONS.values())
    assert not set(REASONS) & TO_MEND


# Imports


def imports(node: ast.AST) -> Iterator[str]:
    """Yield what a module imports, also in functions and for types alone."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            # Ruff sees to it that imports are absolute (TID252).
            package = each.module or ""
            names = (f"{package}.{alias.name}" for alias in each.names)
            yield from (name if name in modules() else package for name in names)


def test_layers_look_downward_only() -> None:
    found = set()
    for name, path in modules().items():
        package, _, rest = name.partition(".")
        if package != "course_lib" or not rest:
            continue
        part = rest.partition(".")[0]
        for imported in imports(tree_of(path)):
            top, _, below = imported.partition(".")
            other = below.partition(".")[0] if top == "course_lib" else ""
            if other and other != part and part != "viz" and other not in ALLOWED[part]:
                found.add(f"{part} imports {other}")
            if top in HEAVY and part not in HEAVY[top]:
                found.add(f"{part} imports {top}")
    assert found == set()


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        name: {imported for imported in imports(tree_of(path)) if imported in modules()}
        for name, path in modules().items()
    }
    assert circles(graph) == []


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of names that can all be reached from each other.

    >>> circles({"a": {"b"}, "b": {"a", "c"}, "c": set(), "d": {"d"}})
    [['a', 'b'], ['d']]
    """
    reached = {name: reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return what can be reached from a name in one step or more."""
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


def test_what_needs_a_gpu_is_run_where_there_is_one() -> None:
    """Each file with a test that is marked ``gpu`` is named in ``.ci/gpu``, or its bench is run."""
    script = (ROOT / ".ci" / "gpu").read_text(encoding="utf-8")
    named = [ROOT / path for path in re.findall(r"tests/course_lib/[\w/.]+", script)]
    marked = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"pytest\.mark\.gpu\b", path.read_text(encoding="utf-8"))
    ]
    assert len(marked) > 3
    left_out = {
        path for path in marked if not any(path == each or each in path.parents for each in named)
    }
    # What times the kernels there is run as itself.
    assert left_out == {ROOT / "tests/autograder/bench/test_kernels.py"}
    assert "autograder.bench kernels" in script
