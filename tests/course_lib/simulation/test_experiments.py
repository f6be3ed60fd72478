"""The experiments come out as they should, on parts of the trace: order first, sizes roughly."""

import pytest

from course_lib.simulation import Workload, load_azure, synthetic_azure
from course_lib.simulation.experiments import (
    EXPERIMENTS,
    Comparison,
    generation_stall,
    head_of_line,
    preemption_thrash,
    sjf_starvation,
    static_against_continuous,
    watermark_sweep,
)


@pytest.fixture(scope="module", params=[load_azure, synthetic_azure], ids=["real", "synthetic"])
def azure(request: pytest.FixtureRequest) -> Workload:
    """The conversation trace, and what stands in for it where it is not at hand."""
    workload: Workload = request.param("conversation")
    return workload


def _column(comparison: Comparison, figure: str) -> list[float]:
    return [row[figure] for row in comparison.rows().values()]


def test_continuous_batching_fills_the_slots(azure: Workload) -> None:
    comparison = static_against_continuous(azure[:600])
    static, similar, continuous = _column(comparison, "slot_use")
    assert static < 0.6 < continuous
    assert static < similar < continuous
    static_ttft, _, continuous_ttft = _column(comparison, "ttft_mean")
    assert static_ttft > 10 * continuous_ttft
    # Sorting by length helps on average, and on the real trace hurts those with a long output.
    static_mean, similar_mean, _ = _column(comparison, "e2e_mean")
    assert similar_mean < static_mean
    static_p99, similar_p99, _ = _column(comparison, "e2e_p99")
    assert azure.is_synthetic or similar_p99 > static_p99


def test_the_generation_stall_shrinks_with_the_token_budget(azure: Workload) -> None:
    comparison = generation_stall(azure[:800])
    gaps = _column(comparison, "longest_gap_p99")
    assert gaps == sorted(gaps, reverse=True)
    not_chunked, *budgets = gaps
    assert not_chunked > budgets[0] > 3 * budgets[1]
    assert budgets[1:] == pytest.approx([0.164, 0.042, 0.021], rel=0.15)
    ttft = _column(comparison, "ttft_mean")
    assert ttft[-1] > ttft[1]


def test_reserving_the_whole_prompt_stops_the_thrash(azure: Workload) -> None:
    comparison = preemption_thrash(azure[:800])
    first_chunk, whole_prompt = _column(comparison, "num_preemptions")
    assert first_chunk > 3 * whole_prompt > 0
    first_chunk, whole_prompt = _column(comparison, "num_recomputed_tokens")
    assert first_chunk > 3 * whole_prompt > 0


def test_a_small_watermark_helps_and_a_large_one_hurts(azure: Workload) -> None:
    comparison = watermark_sweep(azure[:300], watermarks=(0.0, 0.05, 0.4))
    none, small, large = _column(comparison, "makespan")
    assert small < none < large
    preemptions = _column(comparison, "num_preemptions")
    assert preemptions == sorted(preemptions, reverse=True)


def test_shortest_first_is_better_on_average_and_starves_the_longest(azure: Workload) -> None:
    comparison = sjf_starvation(azure[:1000], policies=("fcfs", "sjf"))
    fcfs, sjf = _column(comparison, "ttft_p50")
    assert sjf < fcfs / 5
    fcfs, sjf = _column(comparison, "ttft_p99")
    assert sjf > 3 * fcfs


def test_passing_over_the_head_costs_all_but_the_mean(azure: Workload) -> None:
    comparison = head_of_line(azure[:700])
    stop, pass_over = comparison.rows().values()
    assert azure.is_synthetic or pass_over["ttft_mean"] < stop["ttft_mean"]
    for figure in ("ttft_p99", "num_preemptions", "makespan"):
        assert pass_over[figure] > stop[figure], figure


def test_a_comparison_says_what_was_compared(azure: Workload) -> None:
    done: list[tuple[int, int]] = []
    comparison = preemption_thrash(
        azure[:20], on_run=lambda number, total: done.append((number, total))
    )
    assert done == [(1, 2), (2, 2)]
    text = str(comparison)
    assert "first chunk fits" in text
    assert f"{azure.name}, 20 requests, A100 80 GB, 1500 blocks" in text


def test_every_experiment_has_a_name() -> None:
    assert set(EXPERIMENTS) == {
        "static",
        "stall",
        "thrash",
        "watermark",
        "sjf",
        "head-of-line",
        "capacity",
    }
