"""A tournament of orders of service, on the real trace and on what stands in for it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from course_lib.scheduling import Request, SortedRequestQueue
from course_lib.simulation import (
    ServiceLevel,
    Tournament,
    Workload,
    labelled,
    load_azure,
    play_tournament,
    synthetic_azure,
)
from course_lib.simulation.tournament import Policy


class LIFORequestQueue(SortedRequestQueue):
    """Last come, first served."""

    def key(self, request: Request) -> tuple[float]:
        """Return the key: the latest arrival first."""
        return (-request.arrival_time,)


class WaitingCountsRequestQueue(SortedRequestQueue):
    """The fewest tokens first; a second of waiting counts as 100 of them."""

    def key(self, request: Request) -> tuple[float]:
        """Return the key, from which the time that goes by cancels."""
        tokens = request.num_prompt_tokens + request.max_tokens
        return (tokens + 100 * request.arrival_time,)


@pytest.fixture(scope="module", params=[load_azure, synthetic_azure], ids=["real", "synthetic"])
def played(request: pytest.FixtureRequest) -> Tournament:
    """The tournament of the lesson."""
    load: Callable[[], Workload] = request.param
    queues = {
        "lifo": LIFORequestQueue,
        "sjf": "sjf",
        "waiting counts": WaitingCountsRequestQueue,
    }
    return play_tournament(queues, load()[:1500], ServiceLevel(ttft=2.0))


def test_first_come_first_served_is_the_foot_of_the_scale(played: Tournament) -> None:
    fcfs = played.rows()["fcfs"]
    assert (fcfs["place"], fcfs["tail"]) == (0.0, 1.0)
    assert fcfs["in_time"] < 0.3


def test_no_order_makes_capacity(played: Tournament) -> None:
    assert 0.8 < played.mark < 0.9
    for name, row in played.rows().items():
        assert row["in_time"] < played.mark + 0.02, name
        assert 0.0 <= row["place"] <= 1.0, name


def test_the_place_alone_is_a_poor_grade(played: Tournament) -> None:
    lifo = played.rows()["lifo"]
    assert lifo["place"] > 0.95
    assert lifo["tail"] > 3
    middle = played.rows()["waiting counts"]
    assert 0.1 < middle["place"] < lifo["place"]
    assert middle["tail"] < 1.4


def test_the_table_names_everybody(played: Tournament) -> None:
    text = str(played)
    assert "1500 requests, A100 80 GB, 1500 blocks; in time: TTFT <= 2 s" in text
    assert all(name in text for name in ("fcfs", "lifo", "sjf", "waiting counts", "in_time"))


def test_where_nobody_has_to_wait_nothing_can_be_won() -> None:
    figures = play_tournament({"lifo": LIFORequestQueue}, synthetic_azure()[:50], num_blocks=30_000)
    assert {row["place"] for row in figures.rows().values()} == {1.0}


def test_labels_follow_a_rule_and_change_nothing_else() -> None:
    plain = synthetic_azure()[:60]
    workload = labelled(plain)
    assert [r.client_id for r in workload].count("b") == 10
    assert [r.priority for r in workload].count(1) == 18
    slack = [r.deadline - r.arrival_time - 0.03 * r.output_tokens for r in workload]
    assert slack == pytest.approx([5.0, 90.0] * 30)
    for before, after in zip(plain, workload, strict=True):
        assert (before.arrival_time, before.prompt_tokens, before.output_tokens) == (
            after.arrival_time,
            after.prompt_tokens,
            after.output_tokens,
        )
    assert workload.is_synthetic == plain.is_synthetic
    assert "made up" in workload.source


def test_deadlines_reach_the_scheduler() -> None:
    workload = labelled(synthetic_azure()[:300])

    def met(policy: str) -> int:
        result = play_tournament({policy: policy}, workload, num_blocks=600).results[policy]
        return sum(
            done <= request.deadline
            for done, request in zip(result.arrival_times + result.e2e, workload, strict=True)
        )

    assert met("edf") > met("fcfs")


def weighing(of_prompt: float, of_answer: float, of_arrival: float) -> type[SortedRequestQueue]:
    """Return a queue that weighs what a request tells."""

    class Weighing(SortedRequestQueue):
        def key(self, request: Request) -> float:
            return (
                of_prompt * request.num_prompt_tokens
                + of_answer * request.max_tokens
                + of_arrival * request.arrival_time
            )

    return Weighing


def test_a_hundred_policies_are_ranked_the_same_way_twice() -> None:
    draw = random.Random(9)
    drawn = {
        f"drawn {n}": weighing(draw.gauss(0, 1), draw.gauss(0, 1), draw.gauss(50, 100))
        for n in range(90)
    }
    named = ("sjf", "srpt", "priority", "ageing", "edf", "vtc", "wfq")
    policies: dict[str, Policy] = {**drawn, **{name: name for name in named}}
    policies |= {"lifo": LIFORequestQueue, "waiting counts": WaitingCountsRequestQueue}
    workload = labelled(synthetic_azure("code")[:120])  # short answers: few iterations
    first, second = (play_tournament(policies, workload, num_blocks=750).rows() for _ in range(2))
    assert len(first) == 100
    assert first == second
    assert len({row["in_time"] for row in first.values()}) > 10
