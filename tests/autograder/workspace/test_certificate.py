"""The certificate: what is on record and what was measured, and no more than that."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autograder import notebook
from autograder.cli import app
from autograder.commands import progress as command
from autograder.errors import CourseError
from autograder.workspace import measurements as measuring
from autograder.workspace import records
from autograder.workspace.certificate import certificate
from autograder.workspace.measurements import Measurement, measurements
from autograder.workspace.progress import progress_of
from course_lib import parts

MEASURED = [Measurement("Speed", {"together": "9 tokens/s"}, "by hand", ("BlockPool",))]
SIZING = (
    "def kv_bytes_per_token(model):\n"
    "    heads = 2 * model.num_layers * model.num_kv_heads\n"
    "    return heads * model.head_dim * model.dtype_bytes\n"
)
QUEUE = (
    "from course_lib.scheduling.policies import *\n\n"
    "class FCFSRequestQueue(FCFSRequestQueue):\n    pass\n"
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure little, and without traces."""
    for name, value in (("NUM_PROMPTS", 2), ("NUM_TOKENS", 2), ("ROUNDS", 1)):
        monkeypatch.setattr(measuring, name, value)
    setup = measuring.Setup(requests=20, rate=20.0, blocks=300, parts="own")
    monkeypatch.setattr(measuring, "SETUP", setup)


def own(workspace: Path, name: str, source: str) -> None:
    path = workspace / "my_engine" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


def page_of(workspace: Path, **options: object) -> str:
    asked: dict[str, object] = {"today": date(2026, 1, 2), **options}
    text = certificate(progress_of(workspace), parts.table(), MEASURED, **asked)  # type: ignore[arg-type]
    return unescape(re.sub(r"<script.*?</script>|<img[^>]*>", "", text, flags=re.DOTALL))


# What is measured


def test_on_the_reference_alone_nothing_is_called_ones_own(workspace: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = measurements(lambda done, total: seen.append((done, total)))
    assert [each.problem for each in found] == ["", "", ""]
    assert [each.own for each in found] == [(), (), ()]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    shown = page_of(workspace) + certificate(progress_of(workspace), parts.table(), found)
    assert "All parts in it: the reference." in shown
    assert "<th scope='row'>yours</th>" not in shown


def test_together_takes_fewer_steps_than_one_by_one(workspace: Path) -> None:
    speed = measurements()[0].values
    assert "in 4 steps" in speed["one by one"]
    assert "in 2 steps" in speed["together"]
    assert speed["together, to one by one"].endswith(" times")


def test_the_parts_that_were_in_it_are_named(workspace: Path) -> None:
    own(workspace, "FCFSRequestQueue", QUEUE)
    found = measurements()
    assert [each.own for each in found] == [("FCFSRequestQueue",)] * 3
    for each in found[1:]:
        assert each.values["yours"] == each.values["reference"]


def test_a_hit_rate_is_what_the_prompts_share(workspace: Path) -> None:
    rate = measurements()[1].values["reference"]
    assert 30 < float(rate.partition("%")[0]) < 75


def test_a_part_that_fails_keeps_its_measurement_from_being_made(workspace: Path) -> None:
    source = "def get_new_blocks(self, num_blocks):\n    raise KeyError('mine')\n"
    own(workspace, "BlockPool/get_new_blocks", source)
    found = measurements()
    assert [each.values for each in found] == [{}, {}, {}]
    assert all("BlockPool.get_new_blocks raised KeyError" in each.problem for each in found)
    text = unescape(certificate(progress_of(workspace), parts.table(), found))
    assert text.count("<strong>Not measured.</strong>") == 3


def test_of_a_part_that_does_not_load_nobody_is_warned_but_the_page_says_so(
    workspace: Path, recwarn: pytest.WarningsRecorder
) -> None:
    own(workspace, "BlockPool/touch", "")
    found = measurements()
    assert [each.own for each in found] == [(), (), ()]
    assert [w for w in recwarn if issubclass(w.category, parts.PartWarning)] == []
    assert "Broken: BlockPool." in page_of(workspace)


# What the page says


def test_it_says_what_is_the_learners_and_what_is_not(workspace: Path) -> None:
    own(workspace, "kv_bytes_per_token", SIZING)
    text = page_of(workspace)
    assert f"2026-01-02. The learner's own: 1 of {len(parts.table())} parts of the engine." in text
    assert "<td style='text-align:left'>kv_bytes_per_token</td>" in text
    assert "9 tokens/s" in text
    assert "Parts of the learner's in it: BlockPool. by hand." in text
    assert "Nobody has examined it" in text


def test_points_and_checks_are_those_on_record(workspace: Path) -> None:
    notebook.check("1.W1", 4096 * 2)
    found = progress_of(workspace)
    text = page_of(workspace)
    passed, there_are = found.passed
    assert passed == 1
    assert f"<th scope='row'>all</th><td>1 of {there_are}</td>" in text
    assert found.summary in text


def test_the_journal_stands_on_it_only_if_it_is_wanted(workspace: Path) -> None:
    records.note_journal(workspace, 7, {"confidence": 4, "hours": 3.5, "hard": "<b>dragons</b>"})
    assert "dragons" not in page_of(workspace)
    text = page_of(workspace, with_journal=True)
    assert "Confidence 4 of 5. Hours: 3.5. Hard: <b>dragons</b>." in text


def test_names_are_text_and_nothing_is_fetched(workspace: Path) -> None:
    page = certificate(progress_of(workspace), parts.table(), MEASURED, "<script>Ada</script>")
    assert "<script>Ada" not in page
    assert "&lt;script&gt;Ada&lt;/script&gt;" in page
    assert "<script src" not in page
    assert "<link" not in page


# The command


@pytest.fixture
def course(workspace: Path) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, ["progress", *map(str, arguments)])


def test_the_command_writes_the_page(course: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "new" / "certificate.html"
    done = course("--certificate", path, "--name", "Ada", "--with-journal")
    assert done.exit_code == 0
    assert "wrote" in done.output
    text = path.read_text(encoding="utf-8")
    assert "<strong>Ada</strong>" in text
    assert "<h2>Journal</h2>" in text
    assert [each.name for each in path.parent.iterdir()] == ["certificate.html"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--name", "Ada"), "--name and --with-journal are for a --certificate; add one"),
        (("--with-journal",), "are for a --certificate"),
        (("--certificate", "mine.pdf"), "give it a name that ends in .html"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    course: Callable[..., Result],
    arguments: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_page", lambda *_: pytest.fail("it was measured"))
    done = course(*arguments)
    assert isinstance(done.exception, CourseError)
    assert says in str(done.exception)


def test_a_folder_of_that_name_is_refused(course: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "x.html").mkdir()
    assert "is a folder" in str(course("--certificate", tmp_path / "x.html").exception)


def test_what_is_there_stays_whole_when_measuring_is_interrupted(
    course: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "certificate.html"
    path.write_text("before", encoding="utf-8")

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_page", interrupted)
    assert course("--certificate", path).exit_code != 0
    assert path.read_text(encoding="utf-8") == "before"
