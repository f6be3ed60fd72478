"""A checkout of its own with the lesson that is thrown away: built, released, at hand."""

import shutil
from pathlib import Path

import pytest

from autograder.lessons.questions import bank
from lesson_checkout import build_lesson, enter

HERE = Path(__file__).parent
# They belong to a lesson, and run in it.
collect_ignore = ["checks", "solutions"]


@pytest.fixture(scope="session")
def thrown_away(tmp_path_factory):
    """The lesson, built in a checkout of its own."""
    root = tmp_path_factory.mktemp("course")
    for folder in ("checks", "solutions"):
        shutil.copytree(HERE / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "question_banks", root / "grading" / "question_banks")
    return build_lesson(root)


@pytest.fixture(autouse=True)
def in_its_checkout(thrown_away, monkeypatch):
    """Every test of this folder is in the checkout of the lesson."""
    enter(monkeypatch, thrown_away.root)
    yield
    # Question banks are remembered by their lesson, and elsewhere there is no lesson 99.
    bank.cache_clear()


@pytest.fixture(scope="session")
def written(thrown_away, tmp_path_factory):
    """The answers of the solution and of the released notebook, as files and as modules."""
    return thrown_away.answers(tmp_path_factory.mktemp("answers"))
