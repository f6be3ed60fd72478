"""What decides on a lesson's verdicts is in the key of its results."""

from __future__ import annotations

import pytest

from autograder.build.notebooks import graded_sources
from autograder.sealed.depends import decisive_files


@pytest.mark.parametrize(
    ("lesson", "names"),
    [
        ("01_traditional_attention_problems", "lesson01.py lesson01_given.py questions.py race.py"),
        ("12_iteration_level_scheduling", "lesson12_lives.py lesson06_lives.py scheduler.py"),
        ("13_engine", "performance.py quality.py documentation.py driver.py rubric.toml"),
        ("13_engine", "lesson13_ends.py lesson12_lives.py clock.py scopes.py scheduler.py"),
    ],
)
def test_what_a_lesson_is_judged_with_is_in_its_key(lesson: str, names: str) -> None:
    assert set(names.split()) <= {path.name for path in decisive_files(lesson)}


def test_what_judges_another_lesson_alone_is_not() -> None:
    names = {path.name for path in decisive_files("01_traditional_attention_problems")}
    assert names.isdisjoint({"lesson02.py", "lesson13.py", "grade.py", "lab.py"})


def test_every_lesson_has_its_bank() -> None:
    for source in graded_sources():
        names = {path.name for path in decisive_files(source.stem)}
        assert f"{source.stem}.toml" in names
        assert f"lesson{source.stem[:2]}.py" in names
