"""A quiz whose seed the learner writes beside the letters."""

from __future__ import annotations

import pytest

from autograder import lessons, notebook
from autograder.checks.drawn_quiz import DrawnQuizCheck
from autograder.checks.finding import Finding
from autograder.errors import CourseError
from autograder.lessons.questions import LETTERS
from autograder.proxy.subject import LocalSubject

EXERCISE = lessons.find("15.D")
CHECK = DrawnQuizCheck("D", "design")


def examined(value: object) -> Finding:
    return EXERCISE.examine(LocalSubject(value))


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31 - 1])
def test_any_seed_counts_and_the_letters_are_those_of_that_seed(seed: int) -> None:
    letters = CHECK.instance(seed).answer
    assert examined({"seed": seed, **letters}).fraction == 1
    other = CHECK.instance(seed + 1 if seed == 0 else seed - 1).answer
    agree = sum(letters[name] == other[name] for name in letters)
    assert examined({"seed": seed, **other}).fraction == pytest.approx(agree / len(letters))


def test_each_letter_earns_its_share_and_the_first_wrong_one_is_named() -> None:
    letters = CHECK.instance(3).answer
    question = CHECK.questions(3)[1]
    wrong = next(letter for letter in LETTERS if letter != letters["D2"])
    finding = examined({"seed": 3, **letters, "D2": wrong.lower(), "D15": None})
    assert finding.fraction == pytest.approx(13 / 15)
    assert finding.misconception is not None
    choice = question.choices[LETTERS.index(wrong)]
    assert finding.misconception.name == choice.misconception
    assert finding.misconception.explanation == choice.feedback
    assert finding.counterexample is not None
    assert "open or wrong: D2, D15" in finding.counterexample.complaint


def test_the_numbers_of_the_feedback_are_those_of_the_seed() -> None:
    exercise = lessons.find("15.I")
    seed = next(
        each
        for each in range(100)
        if exercise.check.questions(each)[0].prompt != exercise.check.questions(1)[0].prompt
    )
    question = exercise.check.questions(seed)[0]
    letter = next(
        letter
        for letter, choice in zip(LETTERS, question.choices, strict=False)
        if choice.misconception == "all of them"
    )
    finding = exercise.examine(LocalSubject({"seed": seed, "I1": letter}))
    assert finding.misconception is not None
    assert finding.misconception.explanation == question.choices[LETTERS.index(letter)].feedback


@pytest.mark.parametrize("value", [{"seed": 1}, {}, None])
def test_without_letters_it_is_not_started(value: object) -> None:
    finding = examined(value)
    assert (finding.fraction, finding.unwritten) == (0.0, True)


@pytest.mark.parametrize(
    "value",
    [{"D1": "A"}, {"seed": "1", "D1": "A"}, {"seed": -1, "D1": "A"}, {"seed": True, "D1": "A"}],
)
def test_letters_without_a_seed_earn_nothing_and_it_is_said(value: object) -> None:
    finding = examined(value)
    assert (finding.fraction, finding.unwritten) == (0.0, False)
    assert finding.counterexample is not None
    assert '"seed"' in finding.counterexample.expected


@pytest.mark.parametrize("value", ["ABC", 7, object(), ["A"]])
def test_what_is_no_dict_earns_nothing(value: object) -> None:
    finding = examined(value)
    assert finding.fraction == 0
    assert finding.counterexample is not None


def test_whoever_has_written_nothing_is_told_the_name_of_the_answer() -> None:
    assert 'such as design["D1"] = "A"' in examined({"seed": 1}).advice


def test_a_task_shows_the_questions_and_not_the_letters() -> None:
    posed = notebook.task("15.D", 4)
    assert "**Seed 4**" in repr(posed)
    assert "**D15**" in repr(posed)
    assert not hasattr(posed, "answer")


def test_practice_is_with_the_questions_of_the_seed() -> None:
    widget = notebook.practise("15.D", 4)
    assert [each["prompt"] for each in widget.questions] == [q.prompt for q in CHECK.questions(4)]
    with pytest.raises(CourseError, match=r"1\.Q has no questions that a seed draws"):
        notebook.practise("1.Q", 4)
