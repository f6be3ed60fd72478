"""The README promises commands, files and an example: each must be real."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from typer.main import get_command

from autograder import lessons
from autograder.build import holes
from autograder.build import notebooks as building
from autograder.checks.exercise import Exercise
from autograder.cli import app
from autograder.proxy.subject import LocalSubject
from course_lib.catalogue import FINAL_PROJECT

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


def test_it_says_which_lessons_are_here() -> None:
    (last,) = re.findall(r"\*\*Lessons 1 to (\d+) are here\*\*", README)
    here = [number for number in lessons.numbers() if number < FINAL_PROJECT]
    assert here == list(range(1, int(last) + 1))


def test_example_accepts_the_reference(example: Exercise) -> None:
    assert example.examine(LocalSubject(example.check.reference)).fraction == 1


def test_example_rejects_and_names_its_wrong_answer(example: Exercise) -> None:
    (misconception,) = example.check.misconceptions
    finding = example.examine(LocalSubject(misconception.wrong))
    assert finding.fraction == 0
    assert finding.misconception == misconception


@pytest.fixture(scope="module")
def followed(example: Exercise, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookNode]:
    """The solution notebook of lesson 1 with the example in it, as the README says."""
    folder = tmp_path_factory.mktemp("readme")
    (lesson,) = (source for source in building.sources() if source.stem.startswith("01_"))
    source = folder / lesson.name
    # Whoever follows the README in earnest has it there already.
    text = lesson.read_text(encoding="utf-8").partition(example_blocks()[1])[0]
    source.write_text(f"{text.rstrip()}\n\n{example_blocks()[1]}", encoding="utf-8")
    found = lessons.find
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "find", lambda id_: example if id_ == example.id else found(id_))
        yield building.solution_notebook(source)


def test_example_builds_and_leaves_the_lesson_as_it_was(followed: NotebookNode) -> None:
    slug = "ex-1-w4"
    ids = [f"{slug}-intro", slug, f"{slug}-hints", f"check-{slug}", f"{slug}-explained"]
    assert [cell.id for cell in followed.cells][-5:] == ids
    points = [cell.metadata.get("nbgrader", {}).get("points", 0) for cell in followed.cells]
    assert sum(points) == 100, "the gates want 100"
    learner = [cell for cell in followed.cells[:-5] if cell.cell_type == "code"]
    assert any("max_concurrent_sequences(" in cell.source for cell in learner)


def test_example_keeps_what_the_gates_ask_of_every_exercise(example: Exercise) -> None:
    assert (example.points == 0) == (".W" in example.id)
    assert example.hints
    assert example.asks.endswith(".")


def test_example_passes_in_the_lesson_and_its_stub_does_not(followed: NotebookNode) -> None:
    setup = next(cell.source for cell in followed.cells if cell.cell_type == "code")
    answer = followed.cells[-4].source
    released = nbformat.reads(building.released_bytes(followed).decode(), 4)
    (stub,) = (cell.source for cell in released.cells if cell.id == "ex-1-w4")
    assert holes.STUB in stub
    for source, fraction in ((answer, 1), (stub, 0)):
        scope: dict[str, object] = {"__name__": "__main__"}
        exec(f"{setup}\n\n\n{source}", scope)
        finding = lessons.find("1.W4").examine(LocalSubject(scope["max_concurrent_sequences"]))
        assert finding.fraction == fraction


def test_a_fresh_clone_is_set_up_before_anything_of_it_is_called() -> None:
    for path in (ROOT / "README.md", ROOT / "grading" / "README.md"):
        blocks = re.findall(r"```console\n(.*?)```", path.read_text("utf-8"), flags=re.DOTALL)
        (block,) = (block for block in blocks if "course samples" in block)
        assert re.match(r"make (build|lab|test)\b", block), path


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
