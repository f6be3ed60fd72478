"""Exercises are found by their id, and know the part that they yield."""

import pytest

from autograder import lessons
from autograder.checks.answer import AnswerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.finding import PASSED
from autograder.checks.reference import Method
from autograder.errors import CourseError
from course_lib.kv_cache import BlockPool, kv_bytes_per_token


@pytest.mark.parametrize("exercise", lessons.exercises(1), ids=lambda e: e.id)
def test_every_exercise_is_found_by_its_id(exercise):
    assert lessons.find(exercise.id) is exercise


@pytest.mark.parametrize(
    ("exercise_id", "says"),
    [
        ("1.99", r"no exercise '1\.99'; lesson 1 has 1\.W1, "),
        ("99.1", r"no lesson 99; lessons with checks: 1"),
        ("", 'an id is a lesson and a number, such as "1.2"'),
        ("one", "an id is a lesson and a number"),
        ("1", r"no exercise '1'; lesson 1 has"),
        (1.1, r"no exercise 1\.1; lesson 1 has"),
        (None, "no exercise None; an id is"),
        ("²", "an id is a lesson and a number"),
        ("01.1", r"no exercise '01\.1'"),
    ],
)
def test_an_unknown_id_is_one_line_that_says_what_there_is(exercise_id, says):
    with pytest.raises(CourseError, match=says) as caught:
        lessons.find(exercise_id)
    assert "\n" not in str(caught.value)


def test_an_exercise_yields_the_part_that_its_reference_is():
    assert lessons.find("1.1").part == "kv_bytes_per_token"
    assert lessons.find("1.W1").part is None


@pytest.mark.parametrize(
    ("method", "part"),
    [("touch", "BlockPool.touch"), ("reset_prefix_cache", None)],
)
def test_a_method_yields_a_part_if_its_class_is_built_by_it(method, part):
    assert Exercise("7.3", "", "", AnswerCheck(Method(BlockPool, method))).part == part


def test_a_kernel_yields_the_part_of_its_function():
    kernels = pytest.importorskip("course_lib.attention.triton_kernels")
    exercise = Exercise("8.6b", "", "", AnswerCheck(kernels.copy_blocks_kernel))
    assert exercise.part == "copy_blocks_kernel"


def test_a_namesake_of_a_part_is_not_the_part():
    def namesake():
        return 0

    namesake.__name__ = kv_bytes_per_token.__name__
    assert Exercise("9.1", "", "", AnswerCheck(namesake)).part is None


def test_the_sealed_grader_has_a_seed_and_a_bound_of_its_own():
    class Spy:
        reference = None
        misconceptions = ()

        def examine(self, subject, seed, max_examples):
            asked.append((seed, max_examples))
            return PASSED

    asked = []
    exercise = Exercise("9.1", "", "", Spy())
    assert exercise.examine(None, seed=7, max_examples=9) == PASSED
    assert asked == [(7, 9)]
