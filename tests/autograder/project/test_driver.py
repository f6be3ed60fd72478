"""The driver: what it counts, and that no engine has an answer for nothing."""

import pytest

from autograder.project.answers import defined, reference_pieces, written_anew
from autograder.project.driver import drive
from autograder.project.equality import difference, said
from autograder.project.mixes import Mix, many, tight
from autograder.project.performance import _serve
from autograder.proxy.subject import LocalSubject, Returned
from course_lib.engine.driven import DrivenRequest

PLAIN = Mix(
    "two requests",
    (DrivenRequest([20, 21, 22, 23, 24], 4), DrivenRequest([30, 31], 3)),
    {"num_blocks": 20, "block_size": 4, "max_num_batched_tokens": 16, "max_num_seqs": 4},
)
"""Of 5 tokens and 4 more, and of 2 and 3: the last of each is not computed."""

BYTES_PER_TOKEN = 2_048


def engine(**pieces):
    named = {name.replace("__", "."): piece for name, piece in pieces.items()}
    return LocalSubject({**reference_pieces(), **named}, 60.0)


def test_what_two_requests_cost_can_be_counted_by_hand():
    run = drive(engine(), PLAIN)
    assert run.problem is None
    counts = run.counts
    assert counts.tokens_delivered == 4 + 3
    assert counts.tokens_computed == (5 + 3) + (2 + 2)
    assert counts.kv_bytes == counts.tokens_computed * BYTES_PER_TOKEN
    assert counts.model_calls == 4
    assert counts.blocks == 2 + 1
    assert counts.of("tokens_computed") == 12 / 7


def test_copies_and_blocks_that_come_back_count():
    shared = Mix("two answers", (DrivenRequest([20, 21, 22, 23, 24], 4, 2),), PLAIN.options)
    run = drive(engine(), shared)
    assert run.problem is None
    # One of two answers gets a copy of the second block, with one token in it.
    assert run.counts.tokens_computed == 5 + 2 * 3
    assert run.counts.kv_bytes == (5 + 6 + PLAIN.options["block_size"]) * BYTES_PER_TOKEN
    assert run.counts.blocks == 2 + 1


def test_swapped_blocks_count_when_they_come_back():
    swapping = tight(3)[1]
    run = drive(engine(), swapping)
    assert run.problem is None
    assert run.counts.kv_bytes > run.counts.tokens_computed * BYTES_PER_TOKEN


def test_blocks_that_are_held_and_never_filled_count():
    source = """
def allocate_slots(self, request, num_new_tokens, *args, **kwargs):
    mine = KVCacheManager.allocate_slots(self, request, num_new_tokens, *args, **kwargs)
    held = self.request_blocks[request.request_id]
    while mine is not None and len(held.blocks) < 5:
        held.blocks += self.block_pool.get_new_blocks(1)
    return mine
"""
    piece = defined("KVCacheManager.allocate_slots", source)
    run = drive(engine(KVCacheManager__allocate_slots=piece), PLAIN)
    assert run.problem is None
    assert run.counts.blocks == 5 + 5


def test_a_model_call_for_each_request_is_counted():
    source = """
def compute_logits(self, batch, rows):
    logits = Executor.compute_logits(self, batch, rows)
    Executor.compute_logits(self, batch, rows)
    return logits
"""
    run = drive(engine(Executor__compute_logits=defined("Executor.compute_logits", source)), PLAIN)
    assert run.problem is None
    assert run.counts.model_calls == 2 * 4


INVENTED = """
def compute_logits(self, batch, rows):
    if batch.positions[-1] < 3:
        return Executor.compute_logits(self, batch, rows)
    made_up = torch.zeros(len(rows), self.model.config.vocab_size)
    made_up[:, 77] = 1
    return made_up
"""

AHEAD = """
def compute_logits(self, batch, rows):
    batch.token_ids[-1] = 99
    return Executor.compute_logits(self, batch, rows)
"""

SWALLOWS = """
def compute_logits(self, batch, rows):
    batch.token_ids[-1] = 99
    try:
        return Executor.compute_logits(self, batch, rows)
    except BaseException:
        return torch.zeros(len(rows), self.model.config.vocab_size)
"""


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (INVENTED, "token 77, which no run of the model has said there"),
        (AHEAD, "which none has there"),
        (SWALLOWS, "which none has there"),
    ],
    ids=["invented", "ahead", "swallowed"],
)
def test_an_answer_that_the_model_has_not_given_is_found_out(source, says):
    piece = defined("Executor.compute_logits", source)
    run = drive(engine(Executor__compute_logits=piece), PLAIN)
    assert run.problem is not None
    assert says in run.problem.got


def test_a_sampler_that_takes_another_token_is_found_out():
    changes = {"self.take_in(output, result, scheduled)": "return"}
    stuck = engine(EngineCore__step=written_anew("EngineCore.step", changes))
    run = drive(stuck, PLAIN)
    assert run.problem is not None


def test_an_engine_that_never_ends_is_stopped_after_its_steps():
    steps = []
    changes = {"self.scheduler.update_from_output(output, sampled)": "pass"}
    step = written_anew("EngineCore.step", changes)

    def counted(self):
        steps.append(self)
        return step(self)

    problem = drive(engine(EngineCore__step=counted), PLAIN).problem
    # Twice 5 + 4 and 2 + 3 tokens, and the step behind them.
    assert len(steps) == PLAIN.most_steps + 1 == 2 * (9 + 5) + 1
    assert "serves 2 requests: two requests" in said(problem)
    assert problem.expected == "an end within 28 steps"
    assert problem.got.startswith("none: after 28 steps 0 of 2 answers have all their tokens")


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_reference_ends_long_before_it_would_be_stopped(seed):
    for mix in (*tight(seed), many(seed)):
        run = drive(engine(), mix)
        assert run.problem is None
        assert 5 * run.counts.model_calls < mix.most_steps


def test_an_engine_that_serves_one_token_in_a_step_is_not_stopped():
    slow = Mix(PLAIN.says, PLAIN.requests, {**PLAIN.options, "max_num_batched_tokens": 1})
    run = drive(engine(), slow)
    assert run.problem is None
    assert run.counts.model_calls == 8 + 4


def test_an_engine_that_raises_is_told_what_and_where():
    piece = defined("Executor.execute", "def execute(self, output, forks=None):\n    1 / 0\n")
    problem = difference(engine(Executor__execute=piece), seed=1)
    assert "ZeroDivisionError" in problem.got
    assert "8 requests" in said(problem)


def test_no_engine_can_be_made_of_what_is_no_part():
    problem = drive(LocalSubject({"Scheduler.why": print}, 60.0), PLAIN).problem
    assert "Scheduler has no method 'why'" in problem.got


def test_requests_differ_from_seed_to_seed_and_the_reference_is_right_for_all():
    assert many(1).requests != many(2).requests
    for seed in (1, 2):
        assert difference(engine(), seed) is None


def test_attention_of_ones_own_is_not_measured():
    def unfinished(*args: object) -> None:
        raise AssertionError("nobody attends with this")

    run = drive(engine(attend_blocks=unfinished, paged_decode=unfinished), PLAIN)
    assert run.problem is None
    own = LocalSubject({**reference_pieces(), "merge_states": unfinished}, 60.0)
    [served] = _serve(own, 1)
    assert isinstance(served, Returned), "the run that is timed is served without it as well"
