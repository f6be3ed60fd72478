"""Lesson 11: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import numpy as np
import pytest
import torch

from autograder.lessons import lesson11_attention as attention
from autograder.lessons import lesson11_budget as budget
from autograder.lessons import lesson11_given as given
from autograder.lessons import lesson11_hunt as hunt
from autograder.lessons import lesson11_measure as measure
from course_lib.attention.backends.arguments import check_query
from course_lib.attention.dense import dense_attention
from course_lib.attention.paged import chunked_prefill, gather, paged_decode
from course_lib.scheduling import Scheduler
from course_lib.simulation.cost_model import (
    ConstantCostModel,
    FunctionCostModel,
    IterationTime,
    token_budget,
)
from course_lib.simulation.workload import load_azure
from course_lib.steps import IterationWork
from lesson_answers import SAME, examine, examine_wrong, named

# 11.1


def work_in_arrays(cls, rows, swapped_tokens=0):
    pairs = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
    new, cached = pairs.T
    totals = new.sum(), (new * cached + new * (new + 1) // 2).sum(), pairs.sum()
    return cls(*map(int, totals), swapped_tokens)


def work_by_differences(cls, rows, swapped_tokens=0):
    def triangle(n):
        return n * (n + 1) // 2

    listed = list(rows)
    pairs = sum(triangle(new + cached) - triangle(cached) for new, cached in listed)
    context = sum(map(sum, listed))
    return IterationWork(sum(new for new, _ in listed), pairs, context, swapped_tokens)


def work_with_numpy_scalars(cls, rows, swapped_tokens=0):
    right = IterationWork.of_batch(rows, swapped_tokens)
    return cls(*map(np.int64, right))


def work_one_token_at_a_time(cls, rows, swapped_tokens=0):
    tokens = pairs = context = 0
    for new, cached in rows:
        for place in range(new):
            pairs += cached + place + 1
        tokens, context = tokens + new, context + new + cached
    return cls(tokens, pairs, context, swapped_tokens)


def work_by_sums_of_ranges(cls, rows, swapped_tokens=0):
    listed = list(rows)
    pairs = sum(sum(range(cached + 1, cached + new + 1)) for new, cached in listed)
    return cls(sum(new for new, _ in listed), pairs, sum(map(sum, listed)), swapped_tokens)


def work_in_floats(cls, rows, swapped_tokens=0):
    listed = list(rows)
    pairs = sum(new * cached + new * (new + 1) / 2 for new, cached in listed)
    return cls(*IterationWork.of_batch(listed)[:1], pairs, *IterationWork.of_batch(listed)[2:])


def work_that_sorts_its_rows(cls, rows, swapped_tokens=0):
    if isinstance(rows, list):
        rows.sort()
    return IterationWork.of_batch(rows, swapped_tokens)


def total_by_sorting(self):
    return sorted(self[:2])[-1] + sorted(self[2:4])[-1] + self.swap


def total_by_cases(self):
    linear = self.read_weights if self.compute_linear < self.read_weights else self.compute_linear
    return np.float64(linear + np.maximum(self.move_kv, self.compute_attention) + self[-1])


# 11.3


def limit_by_queues(self, request, num_new_tokens, budget):
    unfinished = len(self.running) + len(self.waiting) + len(self.swapped)
    limit = self.config.long_prefill_token_threshold or num_new_tokens
    return min(num_new_tokens, budget, limit if unfinished > 1 else num_new_tokens)


def limit_by_the_others(self, request, num_new_tokens, budget):
    if self.requests[request.request_id] is not request or budget < 1:
        raise ValueError("it is not unfinished, or nothing is left of the budget")
    limit = self.config.long_prefill_token_threshold
    if limit and any(other is not request for other in self.requests.values()):
        num_new_tokens = min(num_new_tokens, limit)
    return max(1, min(num_new_tokens, budget))


def limit_unless_one_is_there(self, request, num_new_tokens, budget):
    limit = self.config.long_prefill_token_threshold
    cap = limit if limit and len(self.requests) != 1 else math.inf
    return int(min(num_new_tokens, budget, cap))


def limit_by_two_queues(self, request, num_new_tokens, budget):
    limit = self.config.long_prefill_token_threshold
    if limit and len(self.running) + len(self.waiting) > 1:
        num_new_tokens = min(num_new_tokens, limit)
    return min(num_new_tokens, budget)


def limit_that_counts(self, request, num_new_tokens, budget):
    self.max_num_seqs += 1
    return Scheduler.limit_chunk(self, request, num_new_tokens, budget)


def limit_as_text(self, request, num_new_tokens, budget):
    return str(Scheduler.limit_chunk(self, request, num_new_tokens, budget))


def limit_of_those_without_an_answer(self, request, num_new_tokens, budget):
    if request.num_output_tokens:
        return min(num_new_tokens, budget)
    return Scheduler.limit_chunk(self, request, num_new_tokens, budget)


# 11.4


def row_by_row(query, key_cache, value_cache, batch, scale=None):
    chunked_prefill(query, key_cache, value_cache, batch, scale)  # refuses what does not fit
    rows, starts = [], batch.query_starts.tolist()
    for seq, context in enumerate(batch.context_lens.tolist()):
        for row in range(starts[seq], starts[seq + 1]):
            sees = context - (starts[seq + 1] - row) + 1
            keys = gather(key_cache, batch.block_tables[seq], sees)
            values = gather(value_cache, batch.block_tables[seq], sees)
            rows.append(dense_attention(query[row : row + 1], keys, values, scale))
    return torch.cat(rows)


def through_decodes(query, key_cache, value_cache, batch, scale=None):
    from course_lib.attention.batch import PagedBatch

    chunked_prefill(query, key_cache, value_cache, batch, scale)
    tables, contexts, starts = [], [], batch.query_starts.tolist()
    for seq, context in enumerate(batch.context_lens.tolist()):
        new = starts[seq + 1] - starts[seq]
        tables += [batch.block_tables[seq].tolist()] * new
        contexts += range(context - new + 1, context + 1)
    sizes = {"num_blocks": batch.num_blocks, "block_size": batch.block_size}
    return paged_decode(
        query, key_cache, value_cache, PagedBatch.of(tables, contexts, **sizes), scale
    )


def padded_with_nan(query, key_cache, value_cache, batch, scale=None):
    out = chunked_prefill(query, key_cache, value_cache, batch, scale)
    if batch.num_seqs > 1:
        out[int(batch.query_starts[1])] = torch.nan
    return out


def with_the_chunk_on_top(query, key_cache, value_cache, batch, scale=None):
    check_query(query, key_cache, value_cache, batch)
    rows = []
    for chunk, table, context_len in zip(
        query.split(torch.diff(batch.query_starts).tolist()),
        batch.block_tables,
        batch.context_lens.tolist(),
        strict=True,
    ):
        keys = gather(key_cache, table, context_len + len(chunk))
        values = gather(value_cache, table, context_len + len(chunk))
        rows.append(dense_attention(chunk, keys, values, scale))
    return torch.cat(rows)


def into_the_query(query, key_cache, value_cache, batch, scale=None):
    query[:] = chunked_prefill(query, key_cache, value_cache, batch, scale)
    return query


def by_large_exponentials(query, key_cache, value_cache, batch, scale=None):
    check_query(query, key_cache, value_cache, batch)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    group = query.shape[1] // key_cache.shape[2]
    rows, starts = [], batch.query_starts.tolist()
    for seq, context in enumerate(batch.context_lens.tolist()):
        keys, values = (
            gather(cache, batch.block_tables[seq], context).float().repeat_interleave(group, 1)
            for cache in (key_cache, value_cache)
        )
        queries = query[starts[seq] : starts[seq + 1]].float()
        weights = torch.exp(torch.einsum("qhd,khd->hqk", queries, keys) * scale)
        weights *= torch.ones(len(queries), context).tril(context - len(queries))
        weights /= weights.sum(-1, keepdim=True)
        rows.append(torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype))
    return torch.cat(rows)


def of_any_type(query, key_cache, value_cache, batch, scale=None):
    check_query(query.to(key_cache.dtype), key_cache, value_cache, batch)
    out = chunked_prefill(query.to(key_cache.dtype), key_cache, value_cache, batch, scale)
    return out.to(query.dtype)


# 11.6


def in_growing_steps(cost_model, target_seconds, num_decodes, context, cached, at_most=16384):
    if min(num_decodes, context, cached) < 0 or at_most < 1:
        raise ValueError("out of range")

    def is_in_time(chunk):
        rows = [(1, context)] * num_decodes + ([(chunk, cached)] if chunk else [])
        return cost_model.seconds(IterationWork.of_batch(rows)) <= target_seconds

    if not is_in_time(0):
        raise ValueError("too long")
    chunk = 0
    for bit in reversed(range(at_most.bit_length())):
        longer = chunk + (1 << bit)
        if longer <= at_most and is_in_time(longer):
            chunk = longer
    return num_decodes + chunk


def with_numpy(cost_model, target_seconds, num_decodes, context, cached, at_most=16384):
    return np.int64(token_budget(cost_model, target_seconds, num_decodes, context, cached, at_most))


def asked_four_times(cost_model, target_seconds, num_decodes, context, cached, at_most=16384):
    class Asking:
        def seconds(self, work):
            return max(cost_model.seconds(work) for _ in range(4))

    return token_budget(Asking(), target_seconds, num_decodes, context, cached, at_most)


def bisected_below(too_long, empty):
    """Bisect below a chunk; `empty` says whether a chunk of no tokens has a row."""

    def budget(cost_model, target_seconds, num_decodes, context, cached, at_most=16384):
        if min(num_decodes, context, cached) < 0 or at_most < 1:
            raise ValueError("out of range")

        def is_in_time(chunk):
            rows = [(1, context)] * num_decodes + [(chunk, cached)] * (chunk > 0 or empty)
            return cost_model.seconds(IterationWork.of_batch(rows)) <= target_seconds

        if not is_in_time(0):
            raise ValueError("too long")
        low, high = 0, too_long(at_most)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_in_time(middle) else (low, middle)
        return num_decodes + low

    return budget


def a_float(cost_model, target_seconds, num_decodes, context, cached, at_most=16384):
    return float(token_budget(cost_model, target_seconds, num_decodes, context, cached, at_most))


def that_looks_at_a_context_only_if_somebody_decodes(
    cost_model, target_seconds, num_decodes, context, cached, at_most=16384
):
    context = context if num_decodes else 0
    return token_budget(cost_model, target_seconds, num_decodes, context, cached, at_most)


def that_refuses_a_target_of_nothing(cost_model, target_seconds, *batch, **more):
    if target_seconds <= 0:
        raise ValueError("an iteration takes longer than that")
    return token_budget(cost_model, target_seconds, *batch, **more)


# 11.7


def written_first(query, key, value, chunk, key_cache, value_cache):
    key_cache[:], value_cache[:] = key, value
    rows = []
    for end in [*range(chunk, len(query), chunk), len(query)]:
        start = (end - 1) // chunk * chunk
        rows.append(dense_attention(query[start:end], key[:end], value[:end]))
    return torch.cat(rows)


def token_by_token(query, key, value, chunk, key_cache, value_cache):
    rows = []
    for token in range(len(query)):
        key_cache[token], value_cache[token] = key[token], value[token]
        seen = slice(token + 1)
        rows.append(dense_attention(query[token : token + 1], key_cache[seen], value_cache[seen]))
    return torch.cat(rows)


def without_writing(query, key, value, chunk, key_cache, value_cache):
    return dense_attention(query, key, value)


def swept_of_nan(query, key, value, chunk, key_cache, value_cache):
    return hunt.suspect_prefill(query, key, value, chunk, key_cache, value_cache).nan_to_num()


RIGHT = [
    ("11.1a", work_in_arrays),
    ("11.1a", work_by_differences),
    ("11.1a", work_with_numpy_scalars),
    ("11.1a", work_one_token_at_a_time),
    ("11.1a", work_by_sums_of_ranges),
    ("11.1b", total_by_sorting),
    ("11.1b", total_by_cases),
    ("11.3", limit_by_queues),
    ("11.3", limit_by_the_others),
    ("11.3", limit_unless_one_is_there),
    ("11.4", row_by_row),
    ("11.4", through_decodes),
    ("11.6", in_growing_steps),
    ("11.6", with_numpy),
    ("11.6", bisected_below(lambda most: most + 1, empty=False)),
    ("11.6", that_refuses_a_target_of_nothing),
    ("11.7a", {"num_tokens": 3, "chunk": 1, "token": 1}),
    ("11.7a", {"num_tokens": 2049, "chunk": 2048, "token": 2047}),
    ("11.7b", written_first),
    ("11.7b", token_by_token),
]
WRONG = [
    ("11.1a", work_in_floats, "what is swapped is forgotten"),
    ("11.1a", work_that_sorts_its_rows, SAME),
    ("11.1a", lambda cls, rows, swapped_tokens=0: tuple(IterationWork.of_batch(rows)), SAME),
    ("11.1a", object(), SAME),
    ("11.1b", lambda self: 23.0, SAME),
    ("11.1b", lambda self: 1000 * IterationTime.total.fget(self), SAME),
    ("11.1b", lambda self: round(IterationTime.total.fget(self), 3), SAME),
    ("11.3", limit_that_counts, SAME),
    ("11.3", limit_as_text, SAME),
    ("11.3", limit_by_two_queues, "who is swapped out does not count"),
    ("11.3", lambda self, request, num_new_tokens, budget: 4, SAME),
    ("11.3", limit_of_those_without_an_answer, "the prompt for what it lacks"),
    ("11.4", padded_with_nan, SAME),
    ("11.4", by_large_exponentials, SAME),
    ("11.4", of_any_type, SAME),
    ("11.4", into_the_query, SAME),
    ("11.4", with_the_chunk_on_top, "the new tokens counted twice"),
    ("11.4", lambda query, *rest, **more: torch.zeros_like(query), SAME),
    ("11.6", asked_four_times, SAME),
    ("11.6", a_float, SAME),
    ("11.6", bisected_below(lambda most: most, empty=False), "at_most is never tried"),
    ("11.6", bisected_below(lambda most: most + 1, empty=True), "an empty chunk is read"),
    ("11.6", lambda *batch, **more: 616, SAME),
    ("11.6", that_looks_at_a_context_only_if_somebody_decodes, SAME),
    ("11.7a", {"num_tokens": 300, "chunk": 256, "token": 256}, "a token of the last chunk"),
    ("11.7a", {"num_tokens": 256, "chunk": 256, "token": 0}, "a prompt of one chunk"),
    ("11.7a", {"num_tokens": 5, "chunk": 2}, SAME),
    ("11.7a", {"num_tokens": 5, "chunk": 0, "token": 0}, SAME),
    ("11.7a", {"num_tokens": 5.0, "chunk": 2, "token": 0}, SAME),
    ("11.7a", {"num_tokens": 5, "chunk": 2, "token": -1}, SAME),
    ("11.7b", without_writing, SAME),
    ("11.7b", swept_of_nan, SAME),
    ("11.8", dict.fromkeys(("gap whole", "gap 512"), 0.0), SAME),
    ("11.W3", 0.1 / 0.6, "the seconds"),
]


def label(case):
    return "-".join(str(getattr(each, "__name__", type(each).__name__)) for each in case[:2])


@pytest.mark.parametrize("case", RIGHT, ids=label)
def test_an_unusual_right_answer_earns_everything(case):
    exercise_id, answer = case
    finding = examine(exercise_id, answer)
    assert finding.fraction == 1.0, finding.counterexample


@pytest.mark.usefixtures("wrong_answers")
@pytest.mark.parametrize("case", WRONG, ids=label)
def test_a_wrong_answer_loses_points(case):
    exercise_id, answer, name = case
    finding = examine_wrong(exercise_id, answer)
    assert finding.fraction < 1.0
    assert named(finding) == name


# The task by hand


@pytest.mark.parametrize("seed", range(8))
def test_chunks_by_hand_add_up_and_the_threshold_moves_a_wait(seed):
    prompts = given.prompts_of(seed)
    answer = given.chunks_to_write(seed).answer
    ends = {}
    for name, tokens in answer.items():
        done = [total >= prompts[name[0]] for total in accumulate(tokens)]
        ends[name] = done.index(True)
        assert set(tokens[ends[name] + 1 :]) <= {1}
    assert ends["B, threshold"] < ends["B"]
    assert ends["A, threshold"] >= ends["A"]
    assert all(a + b <= 6 for a, b in zip(answer["A"], answer["B"], strict=True))
    assert examine("11.2", {"seed": seed, **answer}).fraction == 1.0
    assert examine("11.2", {"seed": seed, **{k: tuple(v) for k, v in answer.items()}}).fraction == 1


@pytest.mark.parametrize(
    ("of_b", "name"),
    [
        ([2, 2, 1, 0, 0], "nothing for an answer"),
        ([2, 2, 1], "a list that ends with its own prompt"),
    ],
)
def test_who_forgets_that_b_goes_on_is_told_so(of_b, name):
    right = given.chunks_to_write(1).answer
    finding = examine("11.2", {"seed": 1, **right, "B, threshold": of_b})
    assert finding.fraction == 0.75
    assert named(finding) == name


def test_a_state_that_is_no_list_of_numbers_is_told_so():
    finding = examine("11.2", {"seed": 1, "A": "6 6 6 1", "B": [0, 0, 0, 5]})
    assert finding.fraction == 0.25
    assert "list of whole numbers" in str(finding.counterexample)


# The budget


@pytest.mark.parametrize("at_most", [4, 5, 63, 64, 1000, 16384])
def test_the_reference_asks_no_more_often_than_it_says(at_most):
    draw = random.Random(at_most)
    for _ in range(20):
        asked = []
        target = draw.uniform(0, 2 * at_most)

        def seconds(tokens, *others, asked=asked):
            asked.append(tokens)
            return float(tokens)

        found = token_budget(FunctionCostModel(seconds), target, 0, 0, 0, at_most)
        assert found == min(at_most, math.floor(target))
        assert len(asked) <= 2 * math.log2(at_most)


def test_a_cost_model_that_does_not_grow_allows_all():
    assert token_budget(ConstantCostModel(0.02), 0.02, 3, 9, 9, at_most=50) == 53
    with pytest.raises(ValueError, match="alone, longer than"):
        token_budget(ConstantCostModel(0.02), 0.01, 3, 9, 9)


def test_formulas_of_failing_cases_can_be_typed():
    for formula in budget.FORMULAS:
        model = budget.model_of(formula)
        typed = eval(repr(model), {"FunctionCostModel": FunctionCostModel})
        work = IterationWork.of_batch([(17, 40), (1, 3)])
        assert typed.seconds(work) == model.seconds(work)


# The kernel


def test_the_kernel_that_reads_all_keys_for_every_tile_loses_a_fifth():
    from autograder.checks.kernel import Edited, edited

    pytest.importorskip("triton")
    wasteful = attention._END.replace(
        "tl.minimum(context_len, first_position + QUERIES)", "context_len"
    )
    kernel = edited(attention.KERNEL, Edited(((attention._END, wasteful),)))
    finding = examine("11.5", kernel, timeout=60.0)
    assert finding.fraction == pytest.approx(0.8)
    assert "5,248 bytes of key_cache" in finding.counterexample.got


@pytest.mark.parametrize(
    ("right", "wrong", "name"),
    [
        (
            attention._VALID,
            "row_valid = token_in_chunk < chunk_len",
            "the rows are not cut at the tile",
        ),
        (attention._HEAD, "head = row % GROUP", "heads of the first KV head"),
        (attention._TOKEN, "token_in_chunk = row // GROUP", "the tokens of the first tile"),
    ],
)
def test_a_kernel_whose_rows_are_not_its_own_is_told_so(right, wrong, name):
    from autograder.checks.kernel import Edited, edited

    pytest.importorskip("triton")
    kernel = edited(attention.KERNEL, Edited(((right, wrong),)))
    finding = examine("11.5", kernel, timeout=60.0)
    assert finding.fraction < 1.0
    assert named(finding) == name


# The hunt


@pytest.mark.parametrize(("num_tokens", "chunk"), [(5, 2), (7, 3), (4, 4), (9, 4)])
def test_the_suspect_is_wrong_in_every_token_before_the_last_chunk(num_tokens, chunk):
    drawn = torch.randn(3, num_tokens, 1, 4, generator=torch.Generator().manual_seed(1))
    right = dense_attention(*drawn)
    for fill in (0.0, torch.nan):
        caches = torch.full((2, num_tokens, 1, 4), fill)
        rows = hunt.suspect_prefill(*drawn, chunk, *caches)
        is_right = [torch.allclose(a, b) for a, b in zip(rows, right, strict=True)]
        prompt = {"num_tokens": num_tokens, "chunk": chunk}
        said = [hunt.exposes(None, {**prompt, "token": row}) for row in range(num_tokens)]
        assert is_right == [complaint is not None for complaint in said]


def test_what_the_two_fixes_say():
    answers = [
        function(*hunt.of_the_text(torch.nan).args).flatten().tolist()
        for function in (hunt.mend_a, hunt.mend_b, hunt.prefill_in_chunks)
    ]
    rounded = [[round(row, 2) for row in rows] for rows in answers]
    assert rounded == [
        [0.75, 0.6, 2.5, 2.0, 3.0],
        [1.0, 1.5, 3.0, 3.5, 5.0],
        [1.0, 1.5, 2.0, 2.5, 3.0],
    ]


# The measurement


def test_chunks_cut_the_gaps_and_cost_little_until_seats_are_empty():
    measured = measure.measured()
    assert 15 < measured["gap whole"] / measured["gap 512"] < 18
    assert 1 < measured["ttft 512"] / measured["ttft whole"] < 1.025
    assert measured["ttft 128"] > 1.25 * measured["ttft whole"]
    assert measured["gap promised"] < measure.PROMISED["target_seconds"]
    assert len(load_azure()) > measure.COUNT
