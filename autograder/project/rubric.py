"""The rubric of the final project, as ``grading/rubric.toml`` states it."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from autograder.checks.race import Bands
from autograder.files import read_form
from autograder.lessons.questions import Entry
from autograder.paths import course_root

Points = Annotated[float, Field(gt=0)]
Limits = tuple[tuple[float, float], ...]


class Right(Entry):
    """What a check of the notebook gives.

    Attributes:
        exercise: The exercise.
        title: A few words.
        points: What it earns.
        parts: The parts that it asks for; none if it asks for the engine as a whole.
    """

    exercise: str
    title: str
    points: Points
    parts: tuple[str, ...] = ()


class Costs(Entry):
    """Something that an engine costs.

    Attributes:
        id: What it is called in data.
        title: What a person reads.
        points: What it earns at the most.
        bands: The largest ratio to the reference's, and the share of the points that it earns.
        what: What is counted.
        advice: How to bring it down.
    """

    id: str
    title: str
    points: Points
    bands: Limits
    what: str = ""
    advice: str

    @field_validator("bands")
    @classmethod
    def _are_in_order(cls, bands: Limits) -> tuple[tuple[float, float], ...]:
        Bands(bands)
        return bands

    @property
    def shares(self) -> Bands:
        """What share of the points a ratio earns."""
        return Bands(self.bands)


class TimeCosts(Costs):
    """CPU time that an engine costs.

    Attributes:
        aside: Names by which a part waits, or has somebody else work: what is not timed.
    """

    aside: tuple[str, ...] = ()


class Performance(Entry):
    """What the engine costs.

    Attributes:
        count: What the driver counts.
        time: CPU time.
    """

    count: Annotated[tuple[Costs, ...], Field(min_length=1)]
    time: TimeCosts

    @property
    def points(self) -> float:
        """What it earns at the most."""
        return self.time.points + sum(each.points for each in self.count)


class Complexity(Entry):
    """How complex a function may be.

    Attributes:
        limit: McCabe's number, as radon counts it, that is still well.
        most: What functions above it cost together at the most.
        advice: What to do about one.
    """

    limit: Annotated[int, Field(ge=1)]
    most: Points
    advice: str


class RuleGroup(Entry):
    """Rules of ruff that weigh alike.

    Attributes:
        most: What breaking one of them costs at the most, however often.
        rules: Their codes.
    """

    most: Points
    rules: Annotated[tuple[str, ...], Field(min_length=1)]


class Quality(Entry):
    """How the code is written.

    Attributes:
        points: What is earned where no rule is broken.
        line_length: Characters of a line at the most.
        target_version: The Python that ruff is to think of.
        complexity: How complex a function may be.
        group: The rules.
    """

    points: Points
    line_length: Annotated[int, Field(ge=60)]
    target_version: str
    complexity: Complexity
    group: Annotated[tuple[RuleGroup, ...], Field(min_length=1)]

    @property
    def most(self) -> dict[str, float]:
        """What each rule of ruff costs at the most, by its code."""
        return {rule: group.most for group in self.group for rule in group.rules}

    @model_validator(mode="after")
    def _names_each_rule_once(self) -> Quality:
        named = [rule for group in self.group for rule in group.rules]
        twice = sorted({rule for rule in named if named.count(rule) > 1})
        if twice:
            raise ValueError(f"rules in two groups: {', '.join(twice)}; name each once")
        return self


class DocumentationRule(Entry):
    """One thing that docstrings are to do.

    Attributes:
        id: What it is called in data.
        title: What a person reads.
        points: What it earns.
        advice: What to write.
        fewest: In how many parts, where not in all.
    """

    id: str
    title: str
    points: Points
    advice: str
    fewest: Annotated[int, Field(ge=1)] | None = None


class ByHand(Entry):
    """What a person gives points for.

    Attributes:
        points: How many.
        asks: What for.
    """

    points: Points
    asks: str


class Documentation(Entry):
    """How the code is described.

    Attributes:
        points: What the rules give together.
        fewest_words: Different words of a docstring that says something.
        placeholders: What makes a docstring a placeholder, in lower case.
        hollow: Words that do not count, in lower case.
        rule: The rules.
        units: Words of which a part's docstring holds one, by the part.
        by_hand: What a person gives points for.
    """

    points: Points
    fewest_words: Annotated[int, Field(ge=1)]
    placeholders: tuple[str, ...]
    hollow: tuple[str, ...]
    rule: tuple[DocumentationRule, ...]
    units: dict[str, tuple[str, ...]]
    by_hand: tuple[ByHand, ...]

    def rule_called(self, name: str) -> DocumentationRule:
        """Return a rule by its id."""
        return next(each for each in self.rule if each.id == name)

    @model_validator(mode="after")
    def _adds_up(self) -> Documentation:
        ids, given = {each.id for each in self.rule}, sum(each.points for each in self.rule)
        if ids != {"says", "inputs", "examples"} or given != self.points:
            raise ValueError(
                f"rules {', '.join(sorted(ids))} give {given:g} points; says, inputs and examples "
                f"are to give {self.points:g} together"
            )
        return self


class Rubric(Entry):
    """All that the final project is graded by.

    Attributes:
        correctness: The checks of the notebook.
        performance: What the engine costs.
        quality: How the code is written.
        documentation: How it is described.
    """

    correctness: tuple[Right, ...]
    performance: Performance
    quality: Quality
    documentation: Documentation

    @property
    def parts(self) -> dict[str, float]:
        """The points of each part that is to be one's own, by its name."""
        return {
            part: each.points / len(each.parts) for each in self.correctness for part in each.parts
        }

    @property
    def points(self) -> float:
        """What the whole project earns."""
        by_hand = sum(each.points for each in self.documentation.by_hand)
        right = sum(each.points for each in self.correctness)
        automatic = self.performance.points + self.quality.points + self.documentation.points
        return right + automatic + by_hand

    def share_of(self, own: set[str]) -> float:
        """Return the share of all parts' points that some parts have.

        Args:
            own: The parts that are one's own; others than the project's do not count.

        >>> rubric().share_of({"EngineCore.step", "Scheduler.finish_requests", "BlockPool"})
        0.2916666666666667
        """
        parts = self.parts
        return sum(parts[name] for name in parts if name in own) / sum(parts.values())

    @model_validator(mode="after")
    def _speaks_of_the_same_parts(self) -> Rubric:
        if set(self.documentation.units) != set(self.parts):
            raise ValueError("documentation.units names each part of the project, and no other")
        return self


@cache
def rubric() -> Rubric:
    """Return the rubric of this course.

    Raises:
        CourseError: ``grading/rubric.toml`` is missing, or not of this form.

    >>> rubric().points, rubric().performance.points
    (100.0, 30.0)
    """
    return read_form(course_root() / "grading" / "rubric.toml", Rubric)
