"""The README promises commands, files and an example: each must be real."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from typer.main import get_command

from autograder import build, checks
from autograder.checks.exercise import Exercise
from autograder.cli import app
from autograder.proxy.subject import LocalSubject

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example_blocks() -> list[str]:
    """Return the Python blocks below "How to add an exercise"."""
    section = README.partition("### How to add an exercise")[2].partition("\n## ")[0]
    return [
        textwrap.dedent(b) for b in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    ]


@pytest.fixture(scope="module")
def example() -> Exercise:
    namespace: dict[str, object] = {"__name__": "readme_example"}
    exec(example_blocks()[0], namespace)
    exercise = namespace["HOW_MANY_FIT"]
    assert isinstance(exercise, Exercise)
    return exercise


def test_example_accepts_the_reference(example: Exercise) -> None:
    assert example.examine(LocalSubject(example.check.reference)).fraction == 1


def test_example_rejects_and_names_its_wrong_answer(example: Exercise) -> None:
    (misconception,) = example.check.misconceptions
    finding = example.examine(LocalSubject(misconception.wrong))
    assert finding.fraction == 0
    assert finding.misconception == misconception


def test_example_builds(example: Exercise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find", lambda exercise_id: example)
    source = tmp_path / "01_example.py"
    source.write_text(example_blocks()[1], encoding="utf-8")
    ids = [cell.id for cell in build.solution_notebook(source).cells]
    assert ids == ["ex-1-8-intro", "ex-1-8", "ex-1-8-hints", "check-ex-1-8", "ex-1-8-explained"]


def test_every_command_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"(?:`|\.venv/bin/)course ([a-z]+)", README))
    assert named
    assert named <= known


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    called = re.findall(r"`make ((?:[a-z]+ ?)+)", README)
    consoles = "".join(re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL))
    called += re.findall(r"^make ([a-z]+)", consoles, flags=re.MULTILINE)
    assert {target for call in called for target in call.split()} <= targets


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
