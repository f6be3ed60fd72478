"""What a reader can move beside a picture: plain data, which the browser shows as native inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

Value: TypeAlias = str | int | float | bool | None
"""What a control can say. It travels to the browser and back, so it is a JSON value."""

_PREFERRED = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
"""Ten steps of nearly equal ratio to a decade: the series R10 of ISO 3."""


@dataclass(frozen=True)
class Control:
    """One setting of an explorer: a label and the values that it can take.

    A subclass says which values there are (``choices``) and what the browser needs to know of them.
    """

    kind: ClassVar[str]
    """What the browser makes of it: ``"range"``, ``"steps"``, ``"choice"`` or ``"toggle"``."""

    label: str

    @property
    def choices(self) -> Sequence[Value]:
        """Every value that the control can take, in order."""
        raise NotImplementedError

    def accept(self, value: Any) -> Value:
        """Return the control's own value that equals ``value``, which may come from a browser.

        Raises:
            ValueError: The control cannot take the value.

        >>> Slider("Sequences", 1, 256, 16).accept(16.0)
        16
        """
        for choice in self.choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        raise ValueError(f"{self.label}: {value!r} is none of its values: {self._range_text()}")

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return what the browser needs, as JSON values.

        Args:
            name: The argument that the control sets.
        """
        return {"kind": self.kind, "name": name, "label": self.label}

    def _range_text(self) -> str:
        return ", ".join(map(repr, self.choices))


@dataclass(frozen=True)
class Slider(Control):
    """A whole number between two bounds.

    Attributes:
        label: What it sets.
        minimum: Smallest value.
        maximum: Largest value, if a whole number of steps leads to it.
        value: Where it stands at first.
        step: From one value to the next.
        unit: What is counted, such as ``"tokens"``; shown and read out with the value.

    Raises:
        ValueError: The step is not positive, or no step leads to the value.

    >>> list(Slider("Really used", minimum=10, maximum=40, value=20, step=10).choices)
    [10, 20, 30, 40]
    """

    kind: ClassVar[str] = "range"

    minimum: int
    maximum: int
    value: int
    step: int = 1
    unit: str = ""

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"{self.label}: a step of {self.step} leads nowhere; need at least 1")
        self.accept(self.value)

    @property
    def choices(self) -> Sequence[int]:
        """Every value from minimum to maximum."""
        return range(self.minimum, self.maximum + 1, self.step)

    def accept(self, value: Any) -> int:
        """Return the value as a whole number.

        Raises:
            ValueError: No step leads to it.

        >>> Slider("Sequences", 1, 256, 16).accept(300)
        Traceback (most recent call last):
        ValueError: Sequences: 300 is none of its values: 1 to 256 in steps of 1
        """
        if isinstance(value, bool) or value not in self.choices:
            raise ValueError(f"{self.label}: {value!r} is none of its values: {self._range_text()}")
        return int(value)

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return bounds, step and unit beside what every control has."""
        return {
            **super().to_dict(name),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "step": self.step,
            "unit": self.unit,
        }

    def _range_text(self) -> str:
        return f"{self.minimum:,} to {self.maximum:,} in steps of {self.step:,}"


@dataclass(frozen=True)
class PowerOfTwo(Control):
    """A power of two between two bounds, both powers of two themselves.

    ``label``, ``minimum``, ``maximum``, ``value`` and ``unit`` are those of a ``Slider``.

    Raises:
        ValueError: A number is not a power of two, or they are out of order.

    >>> PowerOfTwo("Length", minimum=4, maximum=32, value=8).choices
    (4, 8, 16, 32)
    """

    kind: ClassVar[str] = "steps"

    minimum: int
    maximum: int
    value: int
    unit: str = ""

    def __post_init__(self) -> None:
        for number in (self.minimum, self.maximum, self.value):
            if number < 1 or number & (number - 1):
                raise ValueError(f"{self.label}: {number} is not a power of two")
        if not self.minimum <= self.value <= self.maximum:
            raise ValueError(
                f"{self.label}: need minimum <= value <= maximum, "
                f"got {self.minimum}, {self.value}, {self.maximum}"
            )

    @property
    def choices(self) -> tuple[int, ...]:
        """Every power of two from minimum to maximum."""
        exponents = range(self.minimum.bit_length() - 1, self.maximum.bit_length())
        return tuple(2**exponent for exponent in exponents)

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return values, texts and unit beside what every control has."""
        return {**super().to_dict(name), **_steps(self.choices), "unit": self.unit}


@dataclass(frozen=True)
class LogSlider(Control):
    """A positive number on a logarithmic scale: ten values to a decade, those of ISO 3's R10.

    ``label``, ``minimum``, ``maximum``, ``value`` and ``unit`` are those of a ``Slider``.

    Raises:
        ValueError: The minimum is not positive, or the value is not one of the series.

    >>> LogSlider("Arrival rate", 0.5, 2, 1, unit="requests/s").choices
    (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)
    """

    kind: ClassVar[str] = "steps"

    minimum: float
    maximum: float
    value: float
    unit: str = ""

    def __post_init__(self) -> None:
        if self.minimum <= 0:
            raise ValueError(f"{self.label}: a logarithmic scale has no {self.minimum:g}")
        self.accept(self.value)

    @property
    def choices(self) -> tuple[float, ...]:
        """Every number of the series from minimum to maximum."""
        decades = range(
            math.floor(math.log10(self.minimum)), math.ceil(math.log10(self.maximum)) + 1
        )
        series = (float(f"{step}e{decade}") for decade in decades for step in _PREFERRED)
        return tuple(number for number in series if self.minimum <= number <= self.maximum)

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return values, texts and unit beside what every control has."""
        return {**super().to_dict(name), **_steps(self.choices), "unit": self.unit}


@dataclass(frozen=True)
class Stops(Control):
    """One of some numbers, on a slider that stops nowhere else.

    Attributes:
        label: What it sets.
        numbers: The numbers, smallest first.
        value: Where it stands at first.
        unit: As of a ``Slider``.

    Raises:
        ValueError: The numbers do not rise, or the value is none of them.

    >>> Stops("Chunk", (100, 512, 8000), 8000, unit="tokens").accept(100.0)
    100
    """

    kind: ClassVar[str] = "steps"

    numbers: tuple[float, ...]
    value: float
    unit: str = ""

    def __post_init__(self) -> None:
        if any(before >= after for before, after in pairwise(self.numbers)):
            raise ValueError(
                f"{self.label}: {self._range_text()} do not rise; sort the numbers, each once"
            )
        self.accept(self.value)

    @property
    def choices(self) -> tuple[float, ...]:
        """The numbers."""
        return self.numbers

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return values, texts and unit beside what every control has."""
        return {**super().to_dict(name), **_steps(self.choices), "unit": self.unit}


@dataclass(frozen=True)
class Choice(Control):
    """One of several named values.

    Attributes:
        label: What it sets.
        options: From what the reader sees to what ``build`` gets.
        value: Where it stands at first.

    Raises:
        ValueError: The value is not among the options, or an option is no JSON value.

    >>> Choice("Policy", {"first come": "fcfs", "by priority": "priority"}, "fcfs").choices
    ('fcfs', 'priority')
    """

    kind: ClassVar[str] = "choice"

    options: Mapping[str, Value]
    value: Value

    def __post_init__(self) -> None:
        for name, option in self.options.items():
            if not isinstance(option, str | int | float | bool | None):
                raise ValueError(
                    f"{self.label}: option {name!r} is a {type(option).__name__}, which does not "
                    "travel to the browser; give it a key, and look the key up in build"
                )
        self.accept(self.value)

    @property
    def choices(self) -> tuple[Value, ...]:
        """Every option's value."""
        return tuple(self.options.values())

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return values and names of the options beside what every control has."""
        names = list(self.options)
        return {**super().to_dict(name), "values": list(self.choices), "texts": names}


@dataclass(frozen=True)
class Toggle(Control):
    """Something that is on or off.

    >>> Toggle("Prefix caching", value=True).choices
    (False, True)
    """

    kind: ClassVar[str] = "toggle"

    value: bool

    @property
    def choices(self) -> tuple[bool, ...]:
        """Off and on."""
        return (False, True)


AnyControl: TypeAlias = Slider | PowerOfTwo | LogSlider | Stops | Choice | Toggle


def accepted(controls: Mapping[str, AnyControl], values: Mapping[str, Value]) -> dict[str, Value]:
    """Return values as the controls of these names have them.

    Args:
        controls: Controls by name.
        values: A value for each of some controls.

    Raises:
        ValueError: There is no such control, or it cannot take the value.

    >>> accepted({"side": Slider("Side", 1, 100, 50)}, {"side": 70.0})
    {'side': 70}
    """
    for name in values:
        if name not in controls:
            raise ValueError(f"no control {name!r}; known: {', '.join(controls)}")
    return {name: controls[name].accept(value) for name, value in values.items()}


def _steps(numbers: Sequence[float]) -> dict[str, Any]:
    """Return numbers and how they are written, with a comma between thousands."""
    return {
        "values": list(numbers),
        "texts": [f"{number:,}".removesuffix(".0") for number in numbers],
    }
