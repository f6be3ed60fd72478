"""The README promises commands, files and an example: each must be real."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from typer.main import get_command

from autograder import lessons
from autograder.build import notebooks as building
from autograder.checks.exercise import Exercise
from autograder.cli import app
from autograder.proxy.subject import LocalSubject

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))


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
    monkeypatch.setattr(lessons, "find", lambda exercise_id: example)
    source = tmp_path / "01_example.py"
    source.write_text(example_blocks()[1], encoding="utf-8")
    ids = [cell.id for cell in building.solution_notebook(source).cells]
    assert ids == ["ex-1-8-intro", "ex-1-8", "ex-1-8-hints", "check-ex-1-8", "ex-1-8-explained"]


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_command_and_its_options_exist(path: Path) -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(
        r"(?:^|`|\$ |\| |\.venv/bin/)course ([a-z]+)([^`\n]*)", path.read_text("utf-8"), flags=re.M
    )
    assert lines
    for name, rest in lines:
        assert name in known, name
        options = {option for parameter in known[name].params for option in parameter.opts}
        used = re.findall(r"(?<= )--[a-z-]+", rest.partition("#")[0])
        assert set(used) <= options | {"--help"}, (name, used)


# The examples of figures.md need those before them; test_figures_page.py runs them in one go.
ALONE = [path for path in PAGES if path.name not in ("engine.md", "figures.md")]


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.name)
def test_python_of_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {"__name__": "page"})


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


def test_the_engine_of_the_readme_writes(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (block,) = [block for block in blocks if "LLM()" in block]
    exec(block, {"__name__": "readme"})
    assert "Scheduler" in capsys.readouterr().out
