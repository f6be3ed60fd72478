"""The cost of an iteration: held against course_lib.roofline, request by request."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.kv_cache import kv_bytes_per_token
from course_lib.roofline import forward_flops, kv_bytes_moved
from course_lib.simulation import (
    ConstantCostModel,
    CostModel,
    IterationTime,
    IterationWork,
    RooflineCostModel,
    token_budget,
)
from course_lib.specs import GPUS, MODELS

MODEL, GPU = MODELS["llama-3.1-8b"], GPUS["a100-80gb"]
EMBEDDING = 128_256 * 4096
MIXED = [(1, 999), (1, 40), (512, 1024), (300, 0)]


class TestWork:
    def test_adds_up_a_batch(self) -> None:
        work = IterationWork.of_batch(MIXED)
        assert work.num_tokens == 814
        assert work.context_tokens == 1000 + 41 + 1536 + 300
        pairs = sum(cached + i for new, cached in MIXED for i in range(1, new + 1))
        assert work.attended_tokens == pairs

    def test_a_prompt_in_chunks_attends_to_the_same_pairs_as_at_once(self) -> None:
        whole = IterationWork.of_batch([(1000, 0)])
        chunks = [IterationWork.of_batch([(250, 250 * i)]) for i in range(4)]
        assert sum(chunk.attended_tokens for chunk in chunks) == whole.attended_tokens
        # What chunking costs: the keys and values in front of a chunk are read again.
        assert sum(chunk.context_tokens for chunk in chunks) > whole.context_tokens


class TestRoofline:
    def test_counts_what_the_roofline_of_each_request_counts(self) -> None:
        cost_model = RooflineCostModel(MODEL, GPU)
        time = cost_model.breakdown(IterationWork.of_batch(MIXED))
        flops = sum(forward_flops(MODEL, *row) for row in MIXED)
        flops -= 2 * EMBEDDING * 814
        kv_bytes = sum(kv_bytes_moved(MODEL, *row) for row in MIXED)
        computing = time.compute_linear + time.compute_attention
        assert computing * GPU.peak_flops * 0.75 == pytest.approx(flops)
        assert time.move_kv * GPU.memory_bandwidth * 0.93 == pytest.approx(kv_bytes)
        assert time.read_weights * GPU.memory_bandwidth * 0.93 == pytest.approx(MODEL.weight_bytes)

    def test_in_each_kind_of_layer_the_slower_of_memory_and_arithmetic_counts(self) -> None:
        cost_model = RooflineCostModel(MODEL, GPU)
        decode = cost_model.breakdown(IterationWork.of_batch([(1, 999)] * 8))
        assert decode.is_memory_bound
        assert decode.total == decode.read_weights + decode.move_kv
        prefill = cost_model.breakdown(IterationWork.of_batch([(2048, 0)]))
        assert not prefill.is_memory_bound
        assert prefill.total == prefill.compute_linear + prefill.compute_attention

    def test_small_batches_cost_the_same_as_one_token(self) -> None:
        # The weights are read once, whatever the batch: the reason to batch at all.
        cost_model = RooflineCostModel(MODEL, GPU)
        one, eight = (cost_model.breakdown(IterationWork(n, n, n)) for n in (1, 8))
        assert one.read_weights == eight.read_weights > eight.compute_linear

    def test_swapping_comes_on_top_over_pcie(self) -> None:
        cost_model = RooflineCostModel(MODEL, GPU, pcie_bandwidth=1e9)
        rows = [(1, 99)]
        without = cost_model.seconds(IterationWork.of_batch(rows))
        with_swap = cost_model.seconds(IterationWork.of_batch(rows, swapped_tokens=160))
        assert with_swap - without == pytest.approx(160 * kv_bytes_per_token(MODEL) / 1e9)

    def test_an_iteration_that_computes_nothing_reads_no_weights(self) -> None:
        assert RooflineCostModel(MODEL, GPU).seconds(IterationWork(0, 0, 0)) == 0.0

    def test_the_input_embedding_is_read_and_not_multiplied(self) -> None:
        work = IterationWork.of_batch([(2048, 0)])
        less = RooflineCostModel(MODEL, GPU).breakdown(work)
        full = RooflineCostModel(replace(MODEL, embedding_params=None), GPU).breakdown(work)
        assert less.read_weights == full.read_weights
        assert less.compute_linear / full.compute_linear == pytest.approx(
            1 - EMBEDDING / MODEL.num_params
        )

    def test_a_mixture_of_experts_computes_like_a_small_model(self) -> None:
        # "A3B": of 30.5 billion parameters a token is multiplied with 3.35, embedding included.
        model = MODELS["qwen3-30b-a3b"]
        time = RooflineCostModel(model, GPU).breakdown(IterationWork.of_batch([(2048, 0)]))
        flops = time.compute_linear * GPU.peak_flops * 0.75 / 2048
        assert flops / 2 + 151_936 * 2048 == pytest.approx(3.353e9, rel=1e-3)

    def test_and_reads_the_experts_that_its_tokens_choose(self) -> None:
        model = replace(MODEL, num_params=1000, expert_params=800, expert_share=0.25)
        cost_model = RooflineCostModel(model, GPU)

        def params_read(num_tokens: int) -> float:
            time = cost_model.breakdown(IterationWork(num_tokens, 0, 0)).read_weights
            return time * GPU.memory_bandwidth * 0.93 / 2

        assert params_read(0) == 0
        assert params_read(1) == pytest.approx(200 + 800 * 0.25)
        assert params_read(2) == pytest.approx(200 + 800 * (1 - 0.75**2))
        assert params_read(1000) == pytest.approx(1000)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("memory_efficiency", 0.0),
            ("memory_efficiency", 1.1),
            ("compute_efficiency", -0.5),
            ("compute_efficiency", float("nan")),
            ("pcie_bandwidth", 0.0),
        ],
    )
    def test_impossible_parameters_are_named(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=name):
            RooflineCostModel(MODEL, GPU, **{name: value})  # type: ignore[arg-type]


def test_a_constant_cost_must_be_positive() -> None:
    assert ConstantCostModel(0.5).seconds(IterationWork(0, 0, 0)) == 0.5
    with pytest.raises(ValueError, match="seconds_per_iteration is 0"):
        ConstantCostModel(0)


class CountingCostModel:
    """Asks another model, and counts how often it was asked."""

    def __init__(self, cost_model: CostModel) -> None:
        self.cost_model = cost_model
        self.num_calls = 0

    def seconds(self, work: IterationWork) -> float:
        self.num_calls += 1
        return self.cost_model.seconds(work)


class TestTokenBudget:
    ROOFLINE = RooflineCostModel(MODEL, GPU)

    @pytest.mark.parametrize(
        ("target", "cached", "expected"),
        [(0.05, 8000, 616), (0.05, 0, 675), (0.025, 8000, 277), (0.1, 8000, 1211)],
    )
    def test_worked_examples(self, target: float, cached: int, expected: int) -> None:
        assert token_budget(self.ROOFLINE, target, 64, 1500, cached) == expected

    @given(
        target=st.floats(0.02, 0.4),
        num_decodes=st.integers(0, 100),
        context=st.integers(0, 1000),
        cached=st.integers(0, 20_000),
        at_most=st.integers(4, 20_000),
    )
    def test_is_the_largest_and_found_in_few_calls(
        self, target: float, num_decodes: int, context: int, cached: int, at_most: int
    ) -> None:
        counting = CountingCostModel(self.ROOFLINE)
        budget = token_budget(counting, target, num_decodes, context, cached, at_most)
        assert counting.num_calls <= 2 * math.log2(at_most)

        def seconds(chunk: int) -> float:
            rows = [(1, context)] * num_decodes + [(chunk, cached)] * (chunk > 0)
            return self.ROOFLINE.seconds(IterationWork.of_batch(rows))

        chunk = budget - num_decodes
        assert 0 <= chunk <= at_most
        assert seconds(chunk) <= target
        assert chunk == at_most or seconds(chunk + 1) > target

    def test_where_nothing_costs_more_all_is_taken(self) -> None:
        assert token_budget(ConstantCostModel(0.01), 0.01, 5, 100, 0, at_most=1000) == 1005

    def test_decodes_that_take_too_long_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"64 decodes behind 1500 tokens take"):
            token_budget(self.ROOFLINE, 0.005, 64, 1500, 8000)

    @pytest.mark.parametrize(
        ("num_decodes", "context", "cached", "at_most"),
        [(-1, 0, 0, 9), (0, -1, 0, 9), (0, 0, -1, 9), (0, 0, 0, 0)],
    )
    def test_misuse_is_named(
        self, num_decodes: int, context: int, cached: int, at_most: int
    ) -> None:
        with pytest.raises(ValueError, match=f"num_decodes is {num_decodes}, context {context}"):
            token_budget(self.ROOFLINE, 1.0, num_decodes, context, cached, at_most)


@pytest.mark.parametrize(
    ("parts", "expected"), [((7, 3, 2, 5, 11), 23), ((3, 7, 5, 2, 0), 12), ((7, 3, 2, 5, 13), 25)]
)
def test_layers_take_turns_and_within_a_layer_the_slower_counts(
    parts: tuple[float, float, float, float, float], expected: float
) -> None:
    assert IterationTime(*parts).total == expected
