"""What goes where of a download: every platform's names, doubles, damage and attacks."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from autograder import cli
from autograder.collect import collecting, downloads, recognition
from autograder.collect.collecting import EARLIER, RECORD, Collecting, Outcome, Piece
from autograder.collect.recognition import Lessons
from autograder.collect.report import left_aside, pieces_table
from autograder.collect.roster import Person, Roster
from autograder.errors import CourseError
from autograder.files import write_atomically
from autograder.sealed.document import read_cells

FIRST, SECOND = "01_small", "02_other"
LONG = "# A text that is long enough for a cell to be known by it"


def notebook(lesson: str = FIRST, answer: str = "x = 1") -> bytes:
    roles = {"nbgrader": {"grade_id": f"ex-{lesson}", "solution": True}}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": f"{LONG}: {lesson}"},
        {"cell_type": "code", "id": "b", "metadata": roles, "source": answer},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    return Lessons({name: read_cells(notebook(name)) for name in (FIRST, SECOND)})


@pytest.fixture
def submitted(tmp_path: Path) -> Path:
    return tmp_path / "submitted"


@pytest.fixture
def collect(tmp_path: Path, submitted: Path, lessons: Lessons) -> Callable[..., dict[str, Piece]]:
    """Collect what is in a zip file, or a folder; return the pieces by name."""

    def run(
        source: Path | Mapping[str, bytes], *people: Person, writes: bool = True, **options: Any
    ) -> dict[str, Piece]:
        path = source if isinstance(source, Path) else packed(tmp_path / "download.zip", source)
        found = Collecting(path, submitted, lessons, Roster(people), **options)
        if writes:
            list(found.write())
        return {each.download: each for each in found.pieces}

    return run


def packed(
    path: Path | io.BytesIO,
    files: Mapping[str, bytes],
    when: tuple[int, int, int, int, int, int] = (2026, 11, 20, 18, 0, 0),
) -> Any:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, when), content, zipfile.ZIP_DEFLATED)
    return path


def there(submitted: Path) -> dict[str, bytes]:
    """Return the notebooks that are where grading looks for them."""
    return {
        path.relative_to(submitted).as_posix(): path.read_bytes()
        for path in submitted.glob("*/*/*.ipynb")
    }


ADA = f"ada/{FIRST}/{FIRST}.ipynb"


@pytest.mark.parametrize(
    "name",
    [
        "Ada Lovelace_8123_assignsubmission_file_/work.ipynb",
        "Ada Lovelace_8123_assignsubmission_file_work (1).ipynb",
        "Lesson 1-20261120/Ada Lovelace_8123_assignsubmission_file/sub/work.ipynb",
        "lovelaceada_77_9001_work-1.ipynb",
        "lovelaceada_LATE_77_9001_work.ipynb",
        "Lesson 1_al17_attempt_2026-11-20-18-00-05_work.ipynb",
        "Lesson_1_al17_attempt_2026-11-20-18-00-05_my_own_work.ipynb",
        f"ada/{FIRST}/{FIRST}.ipynb",
        f"submitted/ada/{FIRST}/Untitled.ipynb",
        "Lovelace, Ada/work.ipynb",
        "ada.ipynb",
        "AL17.ipynb",
        "ada@example.org/work.ipynb",
    ],
)
def test_every_platform_s_names(
    collect: Callable[..., dict[str, Piece]], submitted: Path, name: str
) -> None:
    ada = Person("ada", "Ada Lovelace", "ada@example.org", ("al17", "77"))
    eve = Person("eve", "Eve Lovelace", "eve@example.org", ("el18", "78"))
    (piece,) = collect({name: notebook()}, ada, eve).values()
    assert (piece.outcome, piece.student, piece.lesson) == (Outcome.NEW, "ada", FIRST)
    assert there(submitted) == {ADA: notebook()}


def test_without_a_roster_people_are_called_as_the_platform_calls_them(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    collect(
        {
            "Zoë O'Brien_1_assignsubmission_file_/a.ipynb": notebook(),
            "../x_2_assignsubmission_file_/a.ipynb": notebook(),
            "bob [2]/a.ipynb": notebook(SECOND),
        }
    )
    assert sorted(there(submitted)) == [
        f"Zoë_O_Brien/{FIRST}/{FIRST}.ipynb",
        f"bob_2/{SECOND}/{SECOND}.ipynb",
    ]


def test_two_people_of_one_name_are_not_made_one(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    files = {f"Ada King_{n}_assignsubmission_file_/a.ipynb": notebook() for n in (1, 2)}
    pieces = collect(files)
    assert {each.outcome for each in pieces.values()} == {Outcome.NOBODY}
    assert "several people are called so (1, 2)" in next(iter(pieces.values())).notes[-1]
    people = Person("ak1", "Ada King"), Person("ak2", "Ada King")
    assert {each.outcome for each in collect(files, *people).values()} == {Outcome.NOBODY}
    people = Person("ak1", "Ada King", ids=("1",)), Person("ak2", "Ada King", ids=("2",))
    collect(files, *people)
    assert sorted(there(submitted)) == [f"ak{n}/{FIRST}/{FIRST}.ipynb" for n in (1, 2)]


def test_who_is_not_in_the_roster_is_named(collect: Callable[..., dict[str, Piece]]) -> None:
    (piece,) = collect({"max_1_2_a.ipynb": notebook()}, Person("ada")).values()
    assert piece.outcome is Outcome.NOBODY
    assert piece.notes == ("max is nobody in the roster; add a line, or an id",)
    (piece,) = collect({"work.ipynb": notebook()}).values()
    assert piece.notes == ("no name of a person is in its path; put it into a folder NAME",)


def test_the_latest_counts_and_it_is_said(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    pieces = collect(
        {
            "T_ada_attempt_2026-11-20-18-00-00_a.ipynb": notebook(answer="old"),
            "T_ada_attempt_2026-11-21-18-00-00_a.ipynb": notebook(answer="new"),
            "T_ada_attempt_2026-11-19-18-00-00_a.ipynb": notebook(answer="new"),
        }
    )
    assert [each.outcome for each in pieces.values()] == [
        Outcome.OLDER,
        Outcome.NEW,
        Outcome.OLDER,
    ]
    assert there(submitted)[ADA] == notebook(answer="new")
    notes = [each.notes[-1] for each in pieces.values()]
    assert notes[0] == "T_ada_attempt_2026-11-21-18-00-00_a.ipynb is later"
    assert notes[2].endswith("is later and the same")
    stamp = submitted / "ada" / FIRST / "timestamp.txt"
    assert stamp.read_text() == "2026-11-21 18:00:00 UTC\n"


def test_of_two_in_canvas_the_higher_number_is_later(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    collect({"ada_7_20_a-1.ipynb": notebook(answer="2"), "ada_7_3_a.ipynb": notebook(answer="1")})
    assert there(submitted)[ADA] == notebook(answer="2")
    assert not (submitted / "ada" / FIRST / "timestamp.txt").exists()


def test_the_lesson_is_known_by_the_cells(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    pieces = collect(
        {
            f"ada/{FIRST}.ipynb": notebook(SECOND),
            "bob/x.ipynb": b"\xef\xbb\xbf" + notebook(),
            "eve/x.ipynb": notebook().decode().encode("utf-16"),
            "max/x.ipynb": notebook("another"),
            f"zoe/{FIRST} (1).ipynb": b"not JSON",
        }
    )
    assert sorted(there(submitted)) == [
        f"ada/{SECOND}/{SECOND}.ipynb",
        f"bob/{FIRST}/{FIRST}.ipynb",
        f"eve/{FIRST}/{FIRST}.ipynb",
        f"zoe/{FIRST}/{FIRST}.ipynb",
    ]
    assert f"it is {SECOND} and not {FIRST}" in pieces[f"ada/{FIRST}.ipynb"].notes
    assert pieces["max/x.ipynb"].outcome is Outcome.NO_LESSON
    assert pieces[f"zoe/{FIRST} (1).ipynb"].notes[0].startswith("it is not JSON")
    assert collect({"max/x.ipynb": b"{"}, lesson=SECOND)["max/x.ipynb"].lesson == SECOND


def test_a_second_run_changes_nothing(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    files = {"ada/x.ipynb": notebook(), "bob/x.ipynb": notebook(SECOND)}
    collect(files)
    times = {path: path.stat().st_mtime_ns for path in submitted.rglob("*")}
    assert {each.outcome for each in collect(files).values()} == {Outcome.SAME}
    assert {path: path.stat().st_mtime_ns for path in submitted.rglob("*")} == times


def test_a_later_download_replaces_and_keeps(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    old, new = (f"T_ada_attempt_2026-11-{day}-18-00-00_a.ipynb" for day in (20, 21))
    collect({old: notebook(answer="old")})
    (piece,) = collect({new: notebook(answer="new")}).values()
    assert piece.outcome is Outcome.REPLACES
    assert there(submitted) == {ADA: notebook(answer="new")}
    (kept,) = (submitted / "ada" / FIRST / EARLIER).iterdir()
    assert kept.read_bytes() == notebook(answer="old")
    (piece,) = collect({old: notebook(answer="old")}).values()
    assert (piece.outcome, piece.notes[-1]) == (Outcome.OLDER, "what is there is later")
    assert there(submitted) == {ADA: notebook(answer="new")}


def test_what_was_put_there_by_hand_stays(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    write_atomically(submitted / ADA, notebook(answer="by hand"))
    (piece,) = collect({"ada/x.ipynb": notebook()}).values()
    assert piece.outcome is Outcome.KEPT
    assert there(submitted)[ADA] == notebook(answer="by hand")
    (piece,) = collect({"ada/x.ipynb": notebook()}, replaces=True).values()
    assert piece.outcome is Outcome.REPLACES
    assert there(submitted)[ADA] == notebook()
    (kept,) = (submitted / "ada" / FIRST / EARLIER).iterdir()
    assert kept.read_bytes() == notebook(answer="by hand")


@pytest.mark.parametrize("fails_at", range(6))
def test_a_run_that_is_cut_off_is_taken_up(
    collect: Callable[..., dict[str, Piece]],
    submitted: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails_at: int,
) -> None:
    files = {f"T_{who}_attempt_2026-11-20-18-00-00_a.ipynb": notebook() for who in ("ada", "bob")}
    written = []

    def cut_off(path: Path, content: bytes) -> None:
        if len(written) == fails_at:
            raise KeyboardInterrupt
        written.append(path)
        write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "write_atomically", cut_off)
        with pytest.raises(KeyboardInterrupt):
            collect(files)
    collect(files)
    assert len(there(submitted)) == 2
    assert len(list(submitted.rglob("timestamp.txt"))) == len(list(submitted.rglob(RECORD))) == 2
    assert {each.outcome for each in collect(files).values()} == {Outcome.SAME}


def test_a_dry_run_writes_nothing(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    collect({"ada/x.ipynb": notebook()}, writes=False)
    assert not submitted.exists()


def test_late_ones_are_marked_and_not_dropped(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    due = {1: datetime(2026, 11, 20, 18, tzinfo=UTC)}
    people = [
        Person("*", due=due),
        Person("ada"),
        Person("bob", due={0: datetime(2026, 11, 22, tzinfo=UTC)}),
        Person("eve"),
    ]
    pieces = collect(
        {
            "T_ada_attempt_2026-11-21-20-30-00_a.ipynb": notebook(),
            "T_bob_attempt_2026-11-21-20-30-00_a.ipynb": notebook(),
            "eve_LATE_7_8_a.ipynb": notebook(),
        },
        *people,
    )
    assert [each.notes[1:] for each in pieces.values()] == [
        ("late by 1 d 2 h",),
        (),
        ("late, says Canvas",),
    ]
    assert len(there(submitted)) == 3
    record = json.loads((submitted / "eve" / FIRST / RECORD).read_text())
    assert record["is_late"] is True


def test_a_time_beside_a_notebook_is_its_time(
    collect: Callable[..., dict[str, Piece]], submitted: Path
) -> None:
    stamp = {f"ada/{FIRST}/timestamp.txt": b"2026-11-20 19:00:00 +0100"}
    collect({f"ada/{FIRST}/{FIRST}.ipynb": notebook(), **stamp})
    path = submitted / "ada" / FIRST / "timestamp.txt"
    assert path.read_text() == "2026-11-20 18:00:00 UTC\n"


def test_a_folder_with_a_student_s_zip_file_and_a_download(
    collect: Callable[..., dict[str, Piece]], submitted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    inner = io.BytesIO()
    packed(inner, {"sub/work.ipynb": notebook(), "sub/data.csv": b"1"})
    write_atomically(folder / "ada" / "work.zip", inner.getvalue())
    inner = packed(io.BytesIO(), {"w.ipynb": notebook()})
    packed(
        folder / "all.zip",
        {"Bob_1_assignsubmission_file_/w.zip": inner.getvalue(), "eve/w.ipynb": notebook()},
    )
    (folder / ".hidden.ipynb").write_bytes(notebook())
    (folder / "__MACOSX").mkdir()
    (folder / "link").symlink_to(tmp_path)
    pieces = collect(folder)
    assert sorted(there(submitted)) == [
        f"Bob/{FIRST}/{FIRST}.ipynb",
        ADA,
        f"eve/{FIRST}/{FIRST}.ipynb",
    ]
    assert pieces["link"].outcome is Outcome.REFUSED
    assert left_aside(tuple(pieces.values())) == "Left aside, for they are no notebooks: 1 .csv."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("../../ada/x.ipynb", notebook(), "leads out of it"),
        ("/ada/x.ipynb", notebook(), "leads out of it"),
        ("ada\\..\\..\\x.ipynb", notebook(), "leads out of it"),
        ("ada/x.ipynb", b" " * 10**6 + notebook(), "as a zip bomb does"),
        ("ada/x.zip", b"no zip", "it is no zip file"),
    ],
)
def test_what_attacks_is_refused_and_all_others_collected(
    collect: Callable[..., dict[str, Piece]],
    submitted: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    said: str,
) -> None:
    before = set(tmp_path.rglob("*"))
    pieces = list(collect({name: content, "bob/x.ipynb": notebook()}).values())
    assert pieces[0].outcome is Outcome.REFUSED
    assert said in pieces[0].notes[-1]
    assert list(there(submitted)) == [f"bob/{FIRST}/{FIRST}.ipynb"]
    made = set(tmp_path.rglob("*")) - before - {tmp_path / "download.zip"}
    assert all(submitted in path.parents or path == submitted for path in made)


def test_zip_files_in_zip_files_end_somewhere(collect: Callable[..., dict[str, Piece]]) -> None:
    inner = packed(io.BytesIO(), {"x.ipynb": notebook()}).getvalue()
    for _ in range(2):
        inner = packed(io.BytesIO(), {"x.zip": inner}).getvalue()
    (piece,) = collect({"ada/x.zip": inner}).values()
    assert piece.outcome is Outcome.REFUSED


def test_files_that_share_their_bytes_are_refused(
    collect: Callable[..., dict[str, Piece]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "bomb.zip", {f"a{n}/x.ipynb": notebook() for n in range(9)})
    listed = zipfile.ZipFile.infolist

    def overlapping(self: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        return [*listed(self), *listed(self)]

    monkeypatch.setattr(zipfile.ZipFile, "infolist", overlapping)
    with pytest.raises(CourseError, match="its files overlap"):
        collect(path)


def test_no_more_is_unpacked_than_the_caps_allow(
    collect: Callable[..., dict[str, Piece]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_NOTEBOOK_BYTES", 100)
    (piece,) = collect({"ada/x.ipynb": notebook()}).values()
    assert piece.outcome is Outcome.REFUSED


def test_a_pipe_in_a_folder_does_not_block(
    collect: Callable[..., dict[str, Piece]], tmp_path: Path
) -> None:
    (tmp_path / "folder" / "ada").mkdir(parents=True)
    os.mkfifo(tmp_path / "folder" / "ada" / "x.ipynb")
    (piece,) = collect(tmp_path / "folder").values()
    assert piece.outcome is Outcome.REFUSED


def test_what_is_no_download(tmp_path: Path, submitted: Path, lessons: Lessons) -> None:
    (tmp_path / "x.txt").write_text("no")
    for name, said in (("x.txt", "it is no zip file"), ("none", "No such file")):
        with pytest.raises(CourseError, match=said):
            Collecting(tmp_path / name, submitted, lessons, Roster())


@pytest.fixture
def command(
    tmp_path: Path, submitted: Path, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    (tmp_path / "lessons").mkdir()
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(recognition, "lessons", lambda: lessons)

    def run(*options: str) -> tuple[int, str]:
        path = str(tmp_path / "download.zip")
        arguments = ["collect", path, "--submitted", str(submitted), *options]
        done = CliRunner().invoke(cli.app, arguments)
        error = done.exception if isinstance(done.exception, CourseError) else ""
        return done.exit_code, f"{done.output}{error}"

    return run


def test_the_command(
    command: Callable[..., tuple[int, str]], tmp_path: Path, submitted: Path
) -> None:
    packed(tmp_path / "download.zip", {"ada/x.ipynb": notebook(), "ada/[red]x.txt": b""})
    code, said = command("--dry-run")
    assert code == 0
    assert "1 would be written; nothing was." in said
    assert not submitted.exists()
    code, said = command()
    assert code == 0
    assert "it was called x.ipynb" in said
    assert "1 .txt" in said
    assert list(there(submitted)) == [ADA]
    (tmp_path / "grading").mkdir()
    (tmp_path / "grading" / "roster.csv").write_text("student\nbob\n")
    code, said = command()
    assert code == 1
    assert "ada is nobody in the roster" in said
    assert "1 of the files need a look" in said
    packed(tmp_path / "download.zip", {"x.txt": b""})
    code, said = command()
    assert (code, "there is no notebook of a lesson in" in said) == (1, True)


def test_names_do_not_format_the_table(collect: Callable[..., dict[str, Piece]]) -> None:
    pieces = collect({"[red]ada/x.ipynb": notebook()}, writes=False)
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(pieces_table(tuple(pieces.values())))
    assert "[red]ada/x.ipynb" in console.export_text()
