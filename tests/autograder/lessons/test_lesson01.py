"""Lesson 1: what its own comparisons say."""

import pytest

from autograder import lessons
from autograder.proxy.subject import LocalSubject


@pytest.mark.parametrize("value", [object(), 5, "config.json", [], lambda: {}])
def test_what_is_no_configuration_is_called_by_its_class(value):
    finding = lessons.find("1.6a").examine(LocalSubject(value))
    kind = type(value).__name__
    assert finding.fraction == 0
    assert finding.counterexample.complaint == (
        f"a config.json holds an object: give a dict, not a {kind}"
    )
