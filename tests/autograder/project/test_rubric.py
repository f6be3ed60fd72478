"""The rubric: its points, the edges of its bands, and what a file of another form is told."""

import tomllib
from pathlib import Path

import pytest

from autograder.errors import CourseError
from autograder.files import read_form
from autograder.project.checks import EXERCISES
from autograder.project.performance import unjudged
from autograder.project.rubric import Rubric, rubric
from course_lib.catalogue import FINAL_PROJECT, PARTS

TEXT = (Path(__file__).parents[3] / "grading" / "rubric.toml").read_text(encoding="utf-8")


def test_forty_thirty_twenty_ten():
    of = rubric()
    by_hand = sum(each.points for each in of.documentation.by_hand)
    assert sum(each.points for each in of.correctness) == 40
    assert of.performance.points == 30
    assert of.quality.points == 20
    assert of.documentation.points + by_hand == 10
    assert of.points == 100
    assert [each.points for each in EXERCISES] == [30, 20, 5]


def test_its_parts_are_those_that_the_final_project_builds():
    built = {
        part.name for part in PARTS.values() if part.lesson == FINAL_PROJECT and not part.methods
    }
    for part in PARTS.values():
        built |= {f"{part.name}.{m}" for m, lesson in part.methods.items() if lesson == 13}
    assert set(rubric().parts) == built


@pytest.mark.parametrize("costs", rubric().performance.count, ids=lambda costs: costs.id)
def test_the_edges_of_what_is_counted(costs):
    shares = [costs.shares.share(ratio) for ratio in (0.5, 1.1, 1.101, 1.5, 1.501, 90)]
    assert shares == [1, 1, 0.5, 0.5, 0, 0]


def test_the_edges_of_cpu_time():
    time = rubric().performance.time
    ratios = (0.5, 1.5, 1.51, 2.5, 2.51, 4.0, 4.01)
    earned = [time.points * time.shares.share(ratio) for ratio in ratios]
    assert earned == pytest.approx([10, 10, 6, 6, 3, 3, 0])


def test_what_is_not_judged_earns_nothing():
    items = unjudged()
    assert sum(each.points for each in items) == 30
    assert not any(each.earned for each in items)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[quality]", "[quality", "is not TOML"),
        ("points = 20\n", "points = -20\n", "quality.points: Input should be greater than 0"),
        ("line_length", "linelength", "quality.line_length: Field required"),
        ('"B006",', '"B006", "B007",', "quality: Value error, rules in two groups: B007"),
        ("[[1.5, 1.0]", "[[9.5, 1.0]", "performance.time.bands: Value error, bands"),
        ('"MemoryTracker" = ["byte"]\n', "", "names each part of the project"),
        ("points = 1.5", "points = 2.5", "rules examples, inputs, says give 7 points"),
    ],
)
def test_a_rubric_of_another_form_is_told_where(tmp_path, old, new, says):
    path = tmp_path / "rubric.toml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(CourseError) as error:
        read_form(path, Rubric)
    assert says in str(error.value)


def test_a_rubric_that_is_missing_is_told_with_the_remedy(tmp_path):
    with pytest.raises(CourseError, match="git restore"):
        read_form(tmp_path / "rubric.toml", Rubric)


def test_the_file_says_in_words_what_each_rule_of_ruff_is_about():
    for rule in rubric().quality.most:
        [line] = [line for line in TEXT.splitlines() if f'"{rule}",' in line]
        assert "#" in line
    assert tomllib.loads(TEXT)["quality"]["target_version"] == "py311"
