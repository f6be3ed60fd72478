"""The check of a quiz: each question earns its share."""

import pytest

from autograder.checks.finding import PASSED
from autograder.checks.quiz import QuizCheck
from autograder.lessons.questions import LETTERS, bank
from autograder.proxy.subject import LocalSubject

CHECK = QuizCheck(lesson=1)
QUESTIONS = bank(1).quiz
RIGHT = CHECK.reference


def examine(answers):
    return CHECK.examine(LocalSubject(answers), seed=1, max_examples=1)


def wrong_letter(question):
    return next(letter for letter in LETTERS if letter != question.answer)


def test_all_right_is_all_points():
    assert examine(RIGHT) == PASSED
    assert examine({key: f" {letter.swapcase()} " for key, letter in RIGHT.items()}) == PASSED


@pytest.mark.parametrize("wrong", range(len(QUESTIONS) + 1))
def test_each_question_earns_its_share(wrong):
    answers = {**RIGHT, **{q.id: wrong_letter(q) for q in QUESTIONS[:wrong]}}
    assert examine(answers).fraction == pytest.approx(1 - wrong / len(QUESTIONS))


@pytest.mark.parametrize(
    ("num_wrong", "is_a_pass"), [(1, True), (2, True), (3, False), (10, False)]
)
def test_four_fifths_are_said_to_be_a_pass(num_wrong, is_a_pass):
    answers = {**RIGHT, **{q.id: wrong_letter(q) for q in QUESTIONS[:num_wrong]}}
    said = (f"{10 - num_wrong} of 10 are right: that is a pass (80% are enough).",)
    assert examine(answers).remarks == (said if is_a_pass else ())


def test_the_first_wrong_choice_is_explained_and_the_right_letter_is_not_given():
    question = QUESTIONS[1]
    finding = examine({**RIGHT, question.id: wrong_letter(question)})
    choice = question.choices[LETTERS.index(wrong_letter(question))]
    assert finding.misconception.name == choice.misconception
    assert finding.misconception.explanation == choice.feedback
    assert finding.counterexample.case == f"{question.id}: {question.prompt}"
    assert finding.counterexample.expected == "another letter"


@pytest.mark.parametrize("answer", [None, "", "z", "ab", 1, ["a"], {"a": "b"}, b"a"])
def test_what_is_no_letter_is_an_open_question(answer):
    finding = examine({**RIGHT, QUESTIONS[0].id: answer})
    assert finding.fraction == pytest.approx(1 - 1 / len(QUESTIONS))
    assert finding.counterexample.expected.startswith("one of ")
    assert finding.misconception is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("B.", 'an answer is the letter alone, such as "A"'),
        ("160 KiB", "an answer is the letter alone"),
        (["B"], "an answer is one letter in quotes; this is of class list"),
        (2, "an answer is one letter in quotes; this is of class int"),
    ],
)
def test_what_is_no_letter_is_told_how_to_be_one(answer, says):
    complaint = examine({**RIGHT, QUESTIONS[0].id: answer}).counterexample.complaint
    assert complaint.startswith(says)
    assert complaint.endswith("; open or wrong: q1")


def test_keys_in_another_form_are_told_which_ones_are_asked():
    case = examine({key.upper(): letter for key, letter in RIGHT.items()}).counterexample
    assert f"the keys are q1 ... {QUESTIONS[-1].id}; 'Q1' is none of them" in case.complaint
    assert "the keys are" not in examine({**RIGHT, "q1": "z", "Q1": "A"}).counterexample.complaint


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({}, "No question is answered yet: write a line"),
        (["B", "C"], "answers is of class list, not a dict: write"),
        ("BCDD", "answers is of class str, not a dict: write"),
    ],
)
def test_answers_in_another_form_are_told_which_one_is_asked(answers, says):
    advice = examine(answers).advice
    assert advice.startswith(says)
    assert 'answers["q1"] = "A"' in advice


@pytest.mark.parametrize("answers", [None, [], "aaaa", 5, {}, len])
def test_without_any_answer_it_is_unwritten(answers):
    finding = examine(answers)
    assert (finding.fraction, finding.unwritten) == (0, True)


def test_answers_to_other_questions_earn_nothing():
    assert examine({"q99": "a"}).fraction == 0


def test_every_wrong_choice_is_a_misconception():
    choices = sum(len(question.choices) for question in QUESTIONS)
    assert len(CHECK.misconceptions) == choices - len(QUESTIONS)
