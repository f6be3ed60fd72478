"""Question banks: well formed, or one line that says where they are not."""

import math
import shutil
from pathlib import Path

import pytest

from autograder import lessons
from autograder.checks.values import value_exercise
from autograder.errors import CourseError
from autograder.lessons import questions
from autograder.lessons.questions import LETTERS, bank, evaluate
from autograder.proxy.subject import LocalSubject
from course_lib.catalogue import FINAL_PROJECT
from course_lib.roofline import arithmetic_intensity, is_memory_bound
from course_lib.specs import GPUS, MODELS

LESSONS = [number for number in lessons.numbers() if number < FINAL_PROJECT]
BANKS = Path(__file__).parents[3] / "grading" / "question_banks"


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_lesson_has_a_bank_in_which_every_choice_explains_itself(lesson):
    found = bank(lesson)
    assert found.lesson == lesson
    for question in found.quiz:
        assert question.choices[LETTERS.index(question.answer)].correct
        assert all(choice.feedback.strip() for choice in question.choices)
        texts = [choice.text for choice in question.choices]
        assert len(set(texts)) == len(texts)


def longest(choices):
    return [len(choice.text) == max(len(each.text) for each in choices) for choice in choices]


def shortest(choices):
    return [len(choice.text) == min(len(each.text) for each in choices) for choice in choices]


def rank(place):
    """Choose by rank of length, 0 for the longest, and the shortest where there are not so many."""

    def chosen(choices):
        lengths = [len(choice.text) for choice in choices]
        wanted = sorted(lengths, reverse=True)[min(place, len(choices) - 1)]
        return [length == wanted for length in lengths]

    return chosen


def letter(wanted):
    """Choose one letter always, and the last choice where there are not so many."""
    return lambda choices: [place == min(wanted, len(choices) - 1) for place in range(len(choices))]


GUESSES = {
    "the longest": longest,
    "the shortest": shortest,
    **{f"always {LETTERS[place]}": letter(place) for place in range(4)},
}


RANKS = {"the second longest": rank(1), "the third longest": rank(2)}
"""Over ten questions they come out by chance too often; over all banks they may not."""


def expected_hits(quiz, guess):
    """Return how many questions a guesser gets right on average; ties are drawn by lot."""
    hits = 0.0
    for question in quiz:
        chosen = guess(question.choices)
        right = [choice.correct for choice in question.choices]
        hits += sum(c and r for c, r in zip(chosen, right, strict=True)) / sum(chosen)
    return hits


def by_chance(quiz):
    return sum(1 / len(question.choices) for question in quiz)


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_length_and_letter_say_nothing_of_the_right_choice(lesson, guess):
    quiz = bank(lesson).quiz
    # One question more than chance is no method yet: letters cannot be shared out more evenly.
    assert expected_hits(quiz, GUESSES[guess]) < by_chance(quiz) + 1


def test_over_all_banks_no_guess_beats_chance():
    quiz = [question for lesson in LESSONS for question in bank(lesson).quiz]
    deviation = sum((1 / len(q.choices)) * (1 - 1 / len(q.choices)) for q in quiz) ** 0.5
    for name, guess in {**GUESSES, **RANKS}.items():
        assert expected_hits(quiz, guess) < by_chance(quiz) + deviation, name


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_is_called_a_pass_is_four_in_five(lesson):
    quiz = bank(lesson).quiz
    assert 8 <= len(quiz) <= 10
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    passes = math.ceil(0.8 * len(quiz))
    said = lessons.find(f"{lesson}.Q").asks.lower()
    assert f"{words[passes]} of the {words[len(quiz)]} right, 80%, is a pass" in said


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
        ('id = "1.W2"', 'id = "1.W1"', "value ids repeat: 1.W1, 1.W1"),
        ('"4096 * 2"', '"4096 * two"', "value.0.answer: Value error, malformed node"),
        ('"4096 * 2"', '"4096 *"', "value.0.answer: Value error, '4096 *' is no expression"),
        ('"4096 * 2"', '"4096 / 0"', "is no expression of literals: division by zero"),
        ('"4096 * 2"', '"4096 * 16"', "the value of 'bits, not bytes' is the right answer"),
        ('unit = "bytes"', 'unti = "bytes"', "value.0.unti: Extra inputs are not permitted"),
        ("minutes = 5", "minutes = 0", "minutes: Input should be greater than or equal to 1"),
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


# Values


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2 * 4096 * 4096", 33_554_432),
        ("-3 + 2**10 // 7 - 8 % 3", 141),
        ("1 / 4", 0.25),
        ("['a', (1, True), {'b': None}]", ["a", (1, True), {"b": None}]),
        (8192, 8192),
        (0.5, 0.5),
    ],
)
def test_a_value_is_written_as_python_writes_it(written, value):
    assert evaluate(written) == value
    assert type(evaluate(written)) is type(value)


@pytest.mark.parametrize(
    "written", ["len('a')", "x", "__import__('os')", "[i for i in 'ab']", "1 << 2"]
)
def test_a_value_has_no_names_and_no_calls(written):
    with pytest.raises(ValueError, match=r"malformed|no expression"):
        evaluate(written)


def test_a_value_is_an_exercise_with_what_the_bank_says_of_it():
    exercise = value_exercise(1, "1.W1")
    assert (exercise.title, exercise.points, len(exercise.hints)) == ("Bytes of a vector", 0, 1)
    finding = exercise.examine(LocalSubject(4096 * 16))
    assert finding.misconception.name == "bits, not bytes"
    assert finding.counterexample.expected == ""
    assert finding.counterexample.complaint == "it is too large; the answer is in bytes"
    assert exercise.examine(LocalSubject(8192.0)).fraction == 1


def test_a_value_with_a_tolerance_may_be_off_by_so_much(spoil):
    spoil('unit = "bytes"', 'unit = "bytes"\ntolerance = 0.01')
    exercise = value_exercise(1, "1.W1")
    assert exercise.examine(LocalSubject(8200.0)).fraction == 0, "a whole number is exact"
    spoil('"4096 * 2"', '"4096 * 2.0"')
    questions.bank.cache_clear()
    exercise = value_exercise(1, "1.W1")
    assert exercise.examine(LocalSubject(8200.0)).fraction == 1
    assert "0.01 of the value" in exercise.examine(LocalSubject(9000)).counterexample.complaint


def test_a_number_that_names_something_is_neither_too_large_nor_too_small():
    exercise = value_exercise(9, "9.W2")
    assert exercise.examine(LocalSubject(1)).counterexample.complaint == "it is another one"
    assert "not a number" in exercise.examine(LocalSubject("2")).counterexample.complaint
    assert exercise.examine(LocalSubject(2.0)).fraction == 1


def test_a_value_that_the_bank_does_not_have_is_one_line():
    with pytest.raises(CourseError, match=r"lesson 1 has no value '1\.W9'; it has 1\.W1, "):
        value_exercise(1, "1.W9")


def test_the_sides_of_the_roofline_are_those_that_the_library_works_out():
    model, h100 = MODELS["llama-3.1-8b"], GPUS["h100"]
    passes = {
        "decode, 1 sequence, context 1,000": (1, 999, 1),
        "decode, 512 sequences, context 4,096": (1, 4095, 512),
        "prefill of 100 tokens": (100,),
        "prefill of 2,000 tokens": (2000,),
    }
    assert bank(1).value_question("1.5b").answer == {
        name: is_memory_bound(arithmetic_intensity(model, *case), h100)
        for name, case in passes.items()
    }
