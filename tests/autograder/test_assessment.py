"""What somebody thinks that they know, beside what they know."""

from __future__ import annotations

from typing import Any

import pytest

from autograder import lessons, notebook
from autograder.assessment import Standing
from autograder.checks.answers import right_answer
from autograder.errors import CourseError
from autograder.lessons.lesson15_drawn import drawn_bank

TITLES = [concept.title for concept in drawn_bank().concept]
NOTHING: dict[str, Any] = {}


def all_right() -> list[dict[str, Any]]:
    return [right_answer(exercise.check) for exercise in lessons.exercises(15)]


def standing(assessment: Any, title: str) -> Standing:
    (found,) = (each for each in assessment.standings if each.title == title)
    assert isinstance(found, Standing)
    return found


def test_with_all_right_there_is_nothing_to_revisit() -> None:
    assessment = notebook.assess(NOTHING, *all_right())
    assert [each.title for each in assessment.standings] == TITLES
    assert sum(each.asked for each in assessment.standings) == 60
    assert all(each.is_firm and each.right == each.asked for each in assessment.standings)
    assert "revisit" not in repr(assessment)


def test_without_answers_everything_is_to_be_revisited_with_links() -> None:
    assessment = notebook.assess(NOTHING, {"seed": 1}, {})
    assert all(not each.is_firm and each.right == 0 for each in assessment.standings)
    shown = assessment._repr_html_()
    slug = "04_memory_fragmentation_solutions"
    assert f'<a href="../{slug}/{slug}.ipynb">lesson 4</a> (F4, F7, I23)' in shown
    assert "the final project (D14)" in shown


def test_a_wrong_letter_counts_against_its_concept_alone() -> None:
    fundamentals, *others = all_right()
    fundamentals["F4"] = "X"
    assessment = notebook.assess(NOTHING, *others, fundamentals)
    assert [each.title for each in assessment.standings if each.right < each.asked] == [
        "Fragmentation"
    ]
    found = standing(assessment, "Fragmentation")
    assert (found.right, found.asked, dict(found.revisit)) == (2, 3, {4: ("F4",)})
    assert "Fragmentation: - - -; 2 of 3 right; revisit lesson 4 (F4)" in repr(assessment)


@pytest.mark.parametrize(
    ("ratings", "right", "remark"),
    [
        ((5, 3, 2), 0, "surer than your answers"),
        ((4, 5, 5), 1, "surer than your answers"),
        ((2, 1, 1), 3, "better than you think"),
        ((4, 3, 2), 3, ""),
        ((4, 2, 2), 3, "aim higher: explain"),
        ((3, 2, 1), 1, "aim higher: understand, explain, implement"),
        ((), 1, ""),
    ],
)
def test_ratings_and_answers_are_held_against_one_another(
    ratings: tuple[int, ...], right: int, remark: str
) -> None:
    assert Standing("Fragmentation", ratings, right, 3, {}).remark == remark


@pytest.mark.parametrize(
    ("ratings", "says"),
    [
        ({"Fragments": (4, 3, 2)}, "no concept 'Fragments'; the concepts are Sizes"),
        ({"Fragmentation": (4, 3)}, "rated (4, 3); write three whole numbers from 1 to 5"),
        ({"Fragmentation": (0, 3, 2)}, "write three whole numbers"),
        ({"Fragmentation": (4, 3, 6)}, "write three whole numbers"),
        ({"Fragmentation": (4, 3, 2.5)}, "write three whole numbers"),
        ({"Fragmentation": 4}, "write three whole numbers"),
    ],
)
def test_a_rating_that_is_none_is_one_line(ratings: dict[str, Any], says: str) -> None:
    with pytest.raises(CourseError) as caught:
        notebook.assess(ratings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_lesson_lists_the_concepts_of_the_bank() -> None:
    from autograder.build.notebooks import sources

    (source,) = (each for each in sources() if each.stem.startswith("15_"))
    text = source.read_text(encoding="utf-8")
    assert [title for title in TITLES if f'"{title}": (),' not in text] == []
