"""What was handed in and is not where nbgrader looks is named, whatever it is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from autograder.errors import CourseError
from autograder.grading.batch import lessons_to_grade
from autograder.grading.hand_ins import handed_in, oddities
from autograder.grading.timestamps import read_timestamp

LESSON = "01_first_steps"
LESSONS = [LESSON, "02_second_steps"]
FILE = f"{LESSON}.ipynb"


def put(submitted: Path, *paths: str) -> None:
    for path in paths:
        (submitted / path).parent.mkdir(parents=True, exist_ok=True)
        (submitted / path).write_text("{}")


def named(submitted: Path) -> dict[str, str]:
    found = oddities(submitted, LESSONS)
    assert all(each.what and each.remedy for each in found)
    return {each.path: str(each) for each in found}


FINE = {
    "as it should be": (f"kim/{LESSON}/{FILE}",),
    "with spaces, umlauts and dots": (f"Kim Müller jr. 2/{LESSON}/{FILE}",),
    "with other files": (f"kim/{LESSON}/{FILE}", f"kim/{LESSON}/plot.png"),
    "with what systems leave": (
        f"kim/{LESSON}/{FILE}",
        ".DS_Store",
        f"kim/{LESSON}/._{FILE}",
        f"kim/{LESSON}/.ipynb_checkpoints/{LESSON}-checkpoint.ipynb",
    ),
    "two lessons": (f"kim/{LESSON}/{FILE}", f"kim/{LESSONS[1]}/{LESSONS[1]}.ipynb"),
    "nothing": (),
}
ODD = {
    "one level too high": (f"kim/{FILE}", "one level too high; move it to kim/LESSON/LESSON.ipynb"),
    "two levels too high": (FILE, "two levels too high; move it to NAME/LESSON/LESSON.ipynb"),
    "with .txt behind it": (f"kim/{LESSON}/{FILE}.txt", "rename or move it, so that there is 01"),
    "a copy's name": (f"kim/{LESSON}/{LESSON} (1).ipynb", "it is not graded; rename or move it"),
    "capitals": (f"kim/{LESSON}/{LESSON.upper()}.IPYNB", "it is not graded; rename"),
    "packed": (f"kim/{LESSON}/{LESSON}.zip", "it is not graded; unpack it"),
    "a student that is packed": ("kim.zip", "two levels too high"),
    "no lesson": (f"kim/{LESSON} /{FILE}", "no lesson is called that; rename it to one of 01"),
    "a name like a pattern": (f"bob [2]/{LESSON}/{FILE}", "for a pattern; rename the folder"),
    "a question": (f"who?/{LESSON}/{FILE}", "for a pattern; rename the folder"),
    "what macOS adds": (f"__MACOSX/{LESSON}/._{FILE}", "macOS put it into a zip file"),
    "what macOS adds below": (f"kim/__MACOSX/._{FILE}", "macOS put it into a zip file"),
}  # fmt: skip


@pytest.mark.parametrize("paths", FINE.values(), ids=FINE)
def test_what_is_fine_is_not_named(tmp_path: Path, paths: tuple[str, ...]) -> None:
    put(tmp_path, *paths)
    assert named(tmp_path) == {}


def test_the_lessons_of_which_there_is_something_are_known(tmp_path: Path) -> None:
    assert handed_in(tmp_path, LESSONS) == []
    put(tmp_path, f"kim/{LESSONS[1]}/{LESSONS[1]}.ipynb", f"bo/{LESSON}/{FILE}", f"bo/x/{FILE}")
    assert handed_in(tmp_path, LESSONS) == LESSONS


@pytest.mark.parametrize(("path", "says"), ODD.values(), ids=ODD)
def test_what_is_not_is_named_with_its_remedy(tmp_path: Path, path: str, says: str) -> None:
    put(tmp_path, path, f"zoe/{LESSON}/{FILE}")
    (line,) = (line for name, line in named(tmp_path).items() if path.startswith(name))
    assert says in line
    assert not any(name.startswith("zoe") for name in named(tmp_path))
    assert handed_in(tmp_path, LESSONS) == [LESSON]


def test_a_folder_too_many_and_a_file_too_many_are_named(tmp_path: Path) -> None:
    put(tmp_path, f"kim/{LESSON}/{LESSON}/{FILE}", f"bo/{LESSON}/{FILE}", f"bo/{LESSON}/b.ipynb")
    found = named(tmp_path)
    assert f"so that there is {LESSON}/{FILE}" in found[f"kim/{LESSON}/{LESSON}"]
    assert f"only {FILE} is graded, which is there too" in found[f"bo/{LESSON}/b.ipynb"]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "kim" / LESSON).mkdir(parents=True)
    assert f"there is no {FILE} in it; ask for it" in named(tmp_path)[f"kim/{LESSON}"]


# Times

SIX = datetime(2026, 11, 20, 18, 0, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"2026-11-20 18:00:00 UTC",
        b"2026-11-20 18:00:00\r\n",
        b"\xef\xbb\xbf2026-11-20 18:00:00 UTC\n",
        "2026-11-20 18:00:00 UTC".encode("utf-16"),
        b"2026-11-20T19:00:00+01:00",
    ],
)
def test_a_time_is_read_whatever_wrote_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "timestamp.txt").write_bytes(content)
    assert read_timestamp(tmp_path) == SIX


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (b"", "nothing"),
        (b" \n", "nothing"),
        (b"yesterday evening", "'yesterday evening'"),
        (b"\xff\xff\x00", "no time"),
        (b"9999999999999999999999", "no time"),
        (b"2026-13-45 99:99:99 UTC", "no time"),
    ],
)
def test_what_is_no_time_is_named(tmp_path: Path, content: bytes, holds: str) -> None:
    put(tmp_path, f"kim/{LESSON}/{FILE}")
    (tmp_path / "kim" / LESSON / "timestamp.txt").write_bytes(content)
    line = named(tmp_path)[f"kim/{LESSON}/timestamp.txt"]
    assert "no time such as 2026-11-20 18:00:00 UTC; graded as if it were not there" in line
    assert holds in line


def test_no_file_is_no_time(tmp_path: Path) -> None:
    assert read_timestamp(tmp_path) is None


# The checkout


def test_a_checkout_into_which_nbgrader_cannot_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "course [2]"
    (root / "lessons").mkdir(parents=True)
    monkeypatch.setenv("COURSE_ROOT", str(root))
    with pytest.raises(CourseError, match=r"in this path for a pattern .*; rename the folders"):
        lessons_to_grade()
