"""Controls as data: which values they can take, and what the browser is told of them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.viz import Choice, LogSlider, PowerOfTwo, Slider, Stops, Toggle
from course_lib.viz.kit.controls import AnyControl

CONTROLS: list[AnyControl] = [
    Slider("Sequences", 1, 256, 16, unit="sequences"),
    Slider("Really used", 10, 4000, 500, step=10, unit="tokens"),
    PowerOfTwo("Length", 256, 131_072, 4096, unit="tokens"),
    LogSlider("Rate", 0.1, 1000, 2.5, unit="requests/s"),
    Stops("Chunk", (32, 100, 512, 8000), 512, unit="tokens"),
    Choice("Model", {"Llama": "llama", "Any": None, "Two": 2}, None),
    Toggle("Caching", value=True),
]


def ids(control: AnyControl) -> str:
    return control.label


@pytest.mark.parametrize("control", CONTROLS, ids=ids)
def test_a_control_takes_its_own_values_and_gives_them_back_as_they_are(
    control: AnyControl,
) -> None:
    for choice in control.choices:
        accepted = control.accept(json.loads(json.dumps(choice)))
        assert accepted == choice
        assert type(accepted) is type(choice)


@pytest.mark.parametrize("control", CONTROLS, ids=ids)
@pytest.mark.parametrize("value", ["nothing of the kind", -1, 3.7, [], {}])
def test_a_control_refuses_other_values_and_names_them(control: AnyControl, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{control.label}: .*none of its values"):
        control.accept(value)


def test_on_is_not_one() -> None:
    with pytest.raises(ValueError, match="True is none"):
        Slider("Sequences", 1, 9, 1).accept(True)
    with pytest.raises(ValueError, match="1 is none"):
        Toggle("Caching", value=True).accept(1)


@pytest.mark.parametrize("control", CONTROLS, ids=ids)
def test_the_browser_gets_json_that_names_every_value(control: AnyControl) -> None:
    told = json.loads(json.dumps(control.to_dict("argument")))
    assert (told["name"], told["label"]) == ("argument", control.label)
    if told["kind"] == "range":
        offered = list(range(told["minimum"], told["maximum"] + 1, told["step"]))
    else:
        offered = told.get("values", [False, True])
        assert len(told.get("texts", offered)) == len(offered)
    assert offered == list(control.choices)


def test_large_numbers_are_written_with_commas() -> None:
    told = PowerOfTwo("Length", 2048, 8192, 4096).to_dict("length")
    assert told["texts"] == ["2,048", "4,096", "8,192"]
    assert LogSlider("Rate", 0.8, 1.6, 1).to_dict("rate")["texts"] == ["0.8", "1", "1.25", "1.6"]


@pytest.mark.parametrize(("low", "high", "value"), [(3, 8, 4), (4, 8, 16), (0, 8, 4)])
def test_powers_of_two_are_powers_of_two_within_bounds(low: int, high: int, value: int) -> None:
    with pytest.raises(ValueError, match=r"power of two|minimum <= value"):
        PowerOfTwo("Length", low, high, value)


@given(exponent=st.integers(-6, 6), decades=st.integers(1, 5))
def test_a_logarithmic_slider_has_ten_values_to_a_decade_of_nearly_equal_ratio(
    exponent: int, decades: int
) -> None:
    low, high = float(f"1e{exponent}"), float(f"1e{exponent + decades}")
    choices = LogSlider("Rate", low, high, low).choices
    assert len(choices) == 10 * decades + 1
    ratios = [after / before for before, after in pairwise(choices)]
    assert all(1.24 < ratio < 1.29 for ratio in ratios)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Slider("Side", 1, 9, 2, step=2), "2 is none of its values: 1 to 9 in steps of 2"),
        (lambda: Slider("Side", 1, 9, 1, step=0), "a step of 0 leads nowhere"),
        (lambda: LogSlider("Rate", 0, 9, 1), "a logarithmic scale has no 0"),
        (lambda: LogSlider("Rate", 1, 9, 3), "3 is none of its values"),
        (lambda: Stops("Chunk", (32, 100), 64), "64 is none of its values"),
        (lambda: Stops("Chunk", (100, 32), 32), "100, 32 do not rise"),
        (lambda: Choice("Model", {"a": "A"}, "a"), "'a' is none of its values: 'A'"),
        (lambda: Choice("Model", {"a": object()}, "a"), "option 'a' is a object, which does not"),
    ],
)
def test_controls_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
