"""The guide to the course names what there is, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autograder import lessons
from autograder.paths import PROJECT_FOLDER
from autograder.workspace.copies import released_lessons
from course_lib.catalogue import FINAL_PROJECT

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "lessons" / "README.md").read_text(encoding="utf-8")


def test_it_names_every_lesson_with_its_number_and_every_notebook_of_the_project() -> None:
    for lesson in released_lessons():
        number, _, name = lesson.name.partition("_")
        if lesson.released.parent.name == PROJECT_FOLDER:
            assert f"`{lesson.name}`" in GUIDE
        else:
            assert f"| {int(number)} `{name}` |" in GUIDE


def test_its_links_lead_to_files_and_its_files_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", GUIDE) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / "lessons" / link).is_file()] == []
    assert [
        page for page in re.findall(r"`(docs/[^`]+)`", GUIDE) if not (ROOT / page).is_file()
    ] == []


def test_without_stretches_a_lesson_gives_the_points_that_it_says() -> None:
    (least,) = re.findall(r"\*stretch\* at least (\d+) points of 100", GUIDE)
    stretches = [
        sum(each.points for each in lessons.exercises(lesson) if each.title.endswith("(stretch)"))
        for lesson in lessons.numbers()
        if lesson < FINAL_PROJECT
    ]
    assert max(stretches) > 0
    assert int(least) <= 100 - max(stretches) < int(least) + 10


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("4: seven halves, rounded up", -(-7 // 2)),
        ("14.9 GiB", round(8e9 * 2 / 2**30, 1)),
        ("1.99 s", (99 * 1 + 100) / 100),
    ],
)
def test_the_answers_of_the_self_test_are_right(said: str, value: float) -> None:
    assert said in GUIDE
    assert float(re.findall(r"[\d.]+", said)[0]) == value


def test_it_has_as_many_questions_as_it_says() -> None:
    asked = re.findall(r"<summary>(\d+)\.", GUIDE)
    assert asked == [str(number) for number in range(1, 10)]
    assert "## Are you ready? Nine questions" in GUIDE
    assert GUIDE.count("<details>") == GUIDE.count("</details>") == 9
