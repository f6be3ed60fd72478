"""Question banks: well formed, or one line that says where they are not."""

import shutil
from pathlib import Path

import pytest

from autograder import lessons
from autograder.lessons import questions
from autograder.errors import CourseError
from autograder.lessons.questions import LETTERS, bank

BANKS = Path(__file__).parents[3] / "grading" / "question_banks"


@pytest.mark.parametrize("lesson", lessons.numbers())
def test_every_lesson_has_a_bank_in_which_every_choice_explains_itself(lesson):
    found = bank(lesson)
    assert found.lesson == lesson
    for question in found.quiz:
        assert question.choices[LETTERS.index(question.answer)].correct
        assert all(choice.feedback.strip() for choice in question.choices)
        texts = [choice.text for choice in question.choices]
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("lesson", lessons.numbers())
def test_the_right_letter_cannot_be_guessed_from_its_place_or_its_length(lesson):
    quiz = bank(lesson).quiz
    letters = [question.answer for question in quiz]
    assert max(map(letters.count, letters)) <= len(quiz) / 2
    longest = [
        question.answer
        == LETTERS[max(range(len(question.choices)), key=lambda i: len(question.choices[i].text))]
        for question in quiz
    ]
    assert sum(longest) <= len(quiz) / 2


@pytest.fixture
def spoil(tmp_path, monkeypatch):
    """Write a bank for lesson 1 with one text replaced, in a checkout of its own."""
    folder = tmp_path / "grading" / "question_banks"
    folder.mkdir(parents=True)
    (tmp_path / "lessons").mkdir()
    name = next(BANKS.glob("01_*.toml")).name
    shutil.copy(BANKS / name, folder)
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    questions.bank.cache_clear()

    def spoil(old, new, count=1):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, count), encoding="utf-8")
        return name

    yield spoil
    questions.bank.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("correct = true", "correct = false", "a wrong choice names its misconception"),
        ("correct = true", "correct = tru", "is not TOML"),
        ('id = "q2"', 'id = "q1"', "quiz ids repeat: q1, q1"),
        ("lesson = 1", "lesson = 'one'", "lesson: Input should be a valid integer"),
        ("concept =", "konzept =", "quiz.0.concept: Field required"),
        ("lesson = 1", "lesson = 1\nauthor = 'me'", "author: Extra inputs are not permitted"),
        ("feedback =", "feedbag =", "quiz.0.choices.0.feedback: Field required"),
    ],
)
def test_a_bank_that_is_not_well_formed_is_one_line_with_the_place(spoil, old, new, says):
    name = spoil(old, new)
    with pytest.raises(CourseError) as caught:
        bank(1)
    message = str(caught.value)
    assert message.startswith(f"{name}")
    assert says in message
    assert "\n" not in message


def test_a_question_has_exactly_one_right_choice(spoil):
    spoil("misconception = ", "correct = true # ")
    with pytest.raises(CourseError, match="exactly one choice is correct"):
        bank(1)


def test_a_lesson_without_a_bank_is_named():
    with pytest.raises(CourseError, match="no question bank for lesson 99"):
        bank(99)
