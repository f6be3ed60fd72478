"""Lesson 1: a figure that answers a prediction is not shown to who has not predicted."""

from __future__ import annotations

import ast
import re

import pytest

from autograder.build.notebooks import solution_notebook
from autograder.paths import course_root
from course_lib import viz

SOURCE = course_root() / "solutions" / "01_traditional_attention_problems.py"
SECTION = "6-why-the-batch-matters-so-much-the-roofline"


def cells_of_section_6():
    """Return the sources of the cells that import, and of section 6 up to its last figure."""
    cells = [each for each in solution_notebook(SOURCE).cells if each.cell_type == "code"]
    sources = [each.source for each in cells if each.id.startswith(SECTION)]
    figures = [place for place, source in enumerate(sources) if "viz.Picture" in source]
    return [cells[0].source, *sources[: figures[-1] + 1]]


def run(source, names):
    """Run a cell and return the value of its last line, as a notebook shows it."""
    *before, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        before, last = [*before, last], None
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


def figures_of(predicted):
    """Return the figures that are shown to who has predicted everything, or nothing."""
    names: dict[str, object] = {}
    shown = []
    for source in cells_of_section_6():
        if "assert " in source:
            continue  # whether the lesson's sentences hold is for the gates
        guess = r"^(predicted_\w+) = None"
        shown.append(run(re.sub(guess, r"\1 = 7", source) if predicted else source, names))
    return [each for each in shown if isinstance(each, viz.Picture)]


@pytest.mark.parametrize("predicted", [True, False])
def test_figures_with_an_answer_wait_for_the_prediction(predicted, capsys):
    shown = figures_of(predicted)
    printed = capsys.readouterr().out
    assert len(shown) == (2 if predicted else 0)
    assert ("it waits for your prediction" in printed) != predicted
    for answer in ("334 tokens", "421 tokens"):
        assert (answer in printed) == predicted
