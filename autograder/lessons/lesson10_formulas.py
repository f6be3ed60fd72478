"""Lesson 10: the exercises on single formulas."""

from __future__ import annotations

from hypothesis import strategies as st

from autograder.checks.compare import within
from autograder.checks.exercise import Exercise
from autograder.checks.finding import Misconception
from autograder.checks.function import Call, FunctionCheck
from autograder.checks.reference import Method
from autograder.lessons import lesson10_mistakes as mistakes
from course_lib.queueing.models import MG1, MM1

CLOSE = within(rel=1e-9)


def _quantile(lam: float, mu: float, q: float) -> Call:
    return Call(MM1(lam, mu), q)


def _queue(lam: float, mean: float, scv: float) -> Call:
    return Call(MG1(lam, mean, scv))


_QUANTILES = st.builds(
    lambda lam, more, q: _quantile(lam, lam + more, q),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99]),
)
_SOME_QUANTILES = tuple(_quantile(3.0, 5.0, q) for q in (0.9, 0.5, 0.99, 0.0, 0.25))
_REFUSED_QUANTILES = tuple(_quantile(0.5, 1.0, q) for q in (1.0, -0.25, 1.5))

_QUEUES = st.builds(
    lambda rho, mean, scv: _queue(rho / mean, mean, scv),
    st.sampled_from([0.25, 0.5, 0.75]),
    st.sampled_from([1.0, 2.0, 4.0]),
    st.sampled_from([0.0, 1.0, 2.0, 7.0]),
)
_SOME_QUEUES = (
    _queue(0.2, 3.0, 2.0),
    _queue(0.8, 1.0, 0.0),
    _queue(0.3, 2.0, 1.0),
    _queue(0.1, 3.0, 7.0),
)


def _property_check(name: str, misconceptions: tuple[Misconception, ...]) -> FunctionCheck:
    return FunctionCheck(
        reference=Method(MG1, name),
        cases=_QUEUES,
        probes=_SOME_QUEUES,
        misconceptions=misconceptions,
        compare=CLOSE,
    )


P99 = Exercise(
    id="10.2a",
    title="M/M/1: a quantile of the response",
    asks="Return the seconds within which a share q of the requests has left the system.",
    points=4,
    minutes=7,
    difficulty=1,
    check=FunctionCheck(
        reference=Method(MM1, "response_quantile"),
        cases=_QUANTILES,
        probes=_SOME_QUANTILES,
        refusals=_REFUSED_QUANTILES,
        misconceptions=mistakes.P99,
        compare=CLOSE,
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
    check=_property_check("mean_residual_service", mistakes.RESIDUAL),
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
    check=_property_check("mean_wait", mistakes.WAIT),
    hints=(
        "For what does an arrival wait, beside the service in progress?",
        "Solve W = ρ·R + ρ·W for W.",
        "`rho / (1 - rho) * residual`",
    ),
)
