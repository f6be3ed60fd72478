"""Lesson 10: the exercises on single formulas, and the lives in which they are asked."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck, Twin
from autograder.lessons import lesson10_mistakes as mistakes
from course_lib.queueing.models import MG1, MM1

CLOSE = within(rel=1e-9)


class QuantileLife(Twin):
    """What may be asked of an M/M/1 queue."""

    @initialize(lam=st.sampled_from([1.0, 2.0, 3.0]), more=st.sampled_from([0.5, 1.0, 4.0]))
    def make_one(self, lam: float, more: float) -> None:
        """Make a queue that is not overloaded."""
        self.create(lam, lam + more)

    @rule(q=st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99, 1.0]))
    def ask(self, q: float) -> None:
        """Ask for a quantile."""
        self.do("response_quantile", q)


def _quantiles(life: Any) -> None:
    life.create(3.0, 5.0)
    for q in (0.9, 0.5, 0.99, 0.0):
        life.do("response_quantile", q)


def _refused_quantiles(life: Any) -> None:
    life.create(0.5, 1.0)
    for q in (0.75, 1.0, -0.25, 1.5):
        life.do("response_quantile", q)


class SizesLife(Twin):
    """What may be read of an M/G/1 queue."""

    @initialize(
        rho=st.sampled_from([0.2, 0.6, 0.8]),
        mean=st.sampled_from([1.0, 3.0, 5.0]),
        scv=st.sampled_from([0.0, 1.0, 2.0, 7.0]),
    )
    def make_one(self, rho: float, mean: float, scv: float) -> None:
        """Make a queue that is not overloaded."""
        self.create(rho / mean, mean, scv)


class ResidualLife(SizesLife):
    """Asks for what is left of a service."""

    @rule()
    def read(self) -> None:
        """Read it."""
        self.see("mean_residual_service")


class WaitLife(SizesLife):
    """Asks for the wait."""

    @rule()
    def read(self) -> None:
        """Read it."""
        self.see("mean_wait")


def _reading(name: str, *queue: float) -> Any:
    def script(life: Any) -> None:
        life.create(*queue)
        life.see(name)

    return script


_QUEUES = ((0.2, 3.0, 2.0), (0.8, 1.0, 0.0), (0.3, 2.0, 1.0), (0.1, 3.0, 7.0))


def _property_check(
    name: str, machine: type[Twin], misconceptions: tuple[Misconception, ...]
) -> StatefulCheck:
    return StatefulCheck(
        reference=Method(MG1, name),
        machine=machine,
        probes=tuple(_reading(name, *queue) for queue in _QUEUES),
        misconceptions=misconceptions,
        compare=CLOSE,
        max_steps=2,
    )


P99 = Exercise(
    id="10.2a",
    title="M/M/1: a quantile of the response",
    asks="Return the seconds within which a share q of the requests has left the system.",
    points=4,
    minutes=7,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(MM1, "response_quantile"),
        machine=QuantileLife,
        probes=(_quantiles, _refused_quantiles),
        misconceptions=mistakes.P99,
        compare=CLOSE,
        max_steps=4,
    ),
    hints=(
        "Which share of the requests takes longer than t?",
        "An exponential of rate r exceeds t with the probability exp(−r·t). Set that to what is "
        "left beside q, and solve for t.",
        "`-log(1 - q) / (mu - lam)`",
    ),
)

RESIDUAL = Exercise(
    id="10.2b",
    title="M/G/1: what is left of a service",
    asks="Return the mean seconds that are left of the service an arrival finds in progress.",
    points=3,
    minutes=5,
    difficulty=1,
    check=_property_check("mean_residual_service", ResidualLife, mistakes.RESIDUAL),
    hints=(
        "Into which service is an arrival more likely to fall: a long or a short one?",
        "Write E[S²] with the mean and the scv, and divide by twice the mean.",
        "`self.mean * (1 + self.scv) / 2`",
    ),
)

WAIT = Exercise(
    id="10.2c",
    title="M/G/1: the wait",
    asks="Return the mean seconds in the queue, by Pollaczek and Khinchine.",
    points=4,
    minutes=6,
    difficulty=2,
    check=_property_check("mean_wait", WaitLife, mistakes.WAIT),
    hints=(
        "For what does an arrival wait, beside the service in progress?",
        "Solve W = ρ·R + ρ·W for W.",
        "`rho / (1 - rho) * residual`",
    ),
)
