"""Headings: every figure and every parameter has one that people can read."""

from __future__ import annotations

from dataclasses import fields

import pytest

from course_lib.simulation.headings import heading, parameter_heading
from course_lib.simulation.setup import Setup, figures, run


@pytest.fixture(scope="module")
def numbers() -> dict[str, float]:
    setup = Setup(requests=20)
    return figures(setup, run(setup, None))


def test_every_figure_of_a_run_has_a_heading_of_its_own(numbers: dict[str, float]) -> None:
    headings = [heading(name) for name in numbers]
    assert len({each.title for each in headings}) == len(headings)
    assert len({each.labelled for each in headings}) == len(headings)
    assert not any("_" in each.title or "_" in each.label for each in headings)


def test_shares_are_shown_in_percent_and_other_units_are_those_of_the_figure(
    numbers: dict[str, float],
) -> None:
    shares = {name for name in numbers if heading(name).unit == "%"}
    assert shares == {"prefix_hit_rate", "slot_use", "kv_usage_mean", "kv_usage_max"}
    assert all(heading(name).factor == 100 for name in shares)
    seconds = {"s": 1, "ms": 1e3}
    for name in numbers:
        if heading(name).unit in seconds:
            assert heading(name).factor == seconds[heading(name).unit]
    counts = {name for name in numbers if name.startswith("num_")}
    assert all(heading(name).factor == 1 for name in counts)


def test_every_parameter_is_named_in_words() -> None:
    titles = [parameter_heading(field.name).title for field in fields(Setup)]
    assert len(set(titles)) == len(titles)
    assert not any("_" in title for title in titles)


def test_a_name_that_is_no_figure_is_refused() -> None:
    with pytest.raises(KeyError):
        heading("ttft")
