"""The roster: names, addresses, due dates and extensions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from autograder.collect.roster import Person, Roster, read_roster
from autograder.errors import CourseError

TEXT = """Student,Name,E-mail,Email,ids,due 1,Due 03_block_tables,due
*,,,,,2026-11-20 18:00,2026-12-04 18:00 +0100,
ada,"Lovelace, Ada",,ada@example.org,"77 al17",2026-11-22 18:00,,

,Zoë Ünal,,zoe@example.org,,,,2027-01-01
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "roster.csv"
    path.write_text(TEXT, "utf-8")
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_roster_is_read(path: Path, encoding: str, mark: str, end: str) -> None:
    text = TEXT.replace('"Lovelace, Ada"', "Ada Lovelace").replace(",", mark).replace("\n", end)
    path.write_bytes(text.encode(encoding))
    roster = read_roster(path)
    assert list(roster.people) == ["ada", "Zoë_Ünal"]
    ada = roster.of("ada")
    assert (ada.first_and_last, ada.email, ada.ids) == (
        ("Ada", "Lovelace"),
        "ada@example.org",
        ("77", "al17"),
    )
    assert roster.due("ada", "01_small") == datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert roster.due("ada", "03_x") == datetime(2026, 12, 4, 17, tzinfo=UTC)
    assert roster.due("ada", "02_x") is None
    assert roster.due("Zoë_Ünal", "01_small") == datetime(2027, 1, 1, tzinfo=UTC)
    assert roster.due("nobody", "01_small") == datetime(2026, 11, 20, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "has no column `student` or `name`"),
        ("", "has no column"),
        ("student,due x\nada,\n", "the column 'due x' names no lesson"),
        ("student,due\nada,soon\n", "line 2: 'soon' is no time such as 2026-11-20 18:00"),
        ("student\nada\nada\n", "has 'ada' twice"),
        ("student\n../x\n", "line 2: '../x' is no name of a folder"),
        ("student\nbob [2]\n", "is no name of a folder"),
    ],
)
def test_what_is_no_roster(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(CourseError) as refused:
        read_roster(path)
    assert said in str(refused.value)


def test_a_name_is_one_line_whatever_is_in_it(path: Path) -> None:
    path.write_text('student,name\nada,"Ada,\n\x1b[2J =HYPERLINK(""http://x"")\r\n King "\n')
    assert read_roster(path).of("ada").name == 'Ada, [2J =HYPERLINK("http://x") King'


def test_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"student\n\xff\n")
    with pytest.raises(CourseError, match="is not text in UTF-8"):
        read_roster(path)


def test_how_late(path: Path) -> None:
    roster = read_roster(path)
    at = datetime(2026, 11, 22, 18)
    assert roster.late("ada", "01_small", at) == ""
    assert roster.late("nobody", "01_small", at) == "late by 2 d"
    assert roster.late("nobody", "02_x", at) == ""
    assert roster.late("nobody", "01_small", None) == ""


def test_who_may_be_called_so() -> None:
    ada = Person("ada", "Ada Augusta King", "ak@example.org", ("9",))
    roster = Roster([ada, Person("bob", "Bob King")])
    for who in ("Ada Augusta King", "kingadaaugusta", "ADA", "ak", "ak@example.org", "9"):
        assert roster.fitting(who) == [ada], who
    assert roster.fitting("King") == []
    assert roster.fitting("Bob King", "9") == [ada]
