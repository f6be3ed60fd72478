"""Lesson 1: the facts that its text states.

Numbers are worked out anew, from what models' and GPUs' makers publish, and held against those that
the text gives. Of vLLM 0.33.0, which is not at hand here, the essential words are asked for, and
words that were true of an older one, or never, are refused.
"""

from __future__ import annotations

import re
from functools import cache
from math import ceil, floor

import nbformat
import pytest

from autograder.build.notebooks import release_path
from autograder.checks.quiz import PASS
from autograder.lessons import lesson01_given as given
from autograder.lessons.questions import bank
from autograder.paths import course_root
from course_lib.kv_cache import kv_bytes_per_token
from course_lib.roofline import arithmetic_intensity, forward_flops
from course_lib.specs import GPUS, MODELS, GiB
from lesson_answers import examine

SLUG = "01_traditional_attention_problems"
COUNTS = {"seven": 7, "eight": 8, "nine": 9, "ten": 10}
FRACTIONS = {"quarter": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9}


def running(source: str) -> str:
    """Return text in one line, without the marks that begin the lines of a comment."""
    return " ".join(re.sub(r"^# ?", "", line).strip() for line in source.splitlines())


def text_of(released: str, source: str, questions: str) -> str:
    """Return what can be read of a lesson.

    Args:
        released: Its released notebook, as JSON: what a learner sees.
        source: Its source, for what explains a solution.
        questions: Its question bank, for what is said of a choice.
    """
    cells = nbformat.reads(released, 4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return "\n".join(map(running, [*prose, source, questions]))


@cache
def _text() -> str:
    root = course_root()
    paths = (
        release_path(SLUG),
        root / "solutions" / f"{SLUG}.py",
        root / "grading" / "question_banks" / f"{SLUG}.toml",
    )
    return text_of(*(path.read_text(encoding="utf-8") for path in paths))


@pytest.fixture
def text() -> str:
    return _text()


def found(pattern: str, text: str) -> tuple[str, ...]:
    """Return the groups of a sentence that the text must have."""
    match = re.search(pattern, text)
    assert match is not None, f"the text does not say: {pattern}"
    return match.groups()


# Shapes, as the config.json of each model gives them


class Llama:
    """A decoder of Llama's kind: the weights of attention and MLP, two norms a layer, one more."""

    def __init__(self, layers, hidden, heads, kv_heads, intermediate, vocab):
        self.layers, self.width, self.head_dim = layers, hidden, hidden // heads
        self.kv_width = kv_heads * self.head_dim
        self.embedding = vocab * hidden
        self.key_and_value_weights = layers * 2 * hidden * self.kv_width
        attention = 2 * hidden * hidden + 2 * hidden * self.kv_width
        layer = attention + 3 * hidden * intermediate + 2 * hidden
        self.params = layers * layer + hidden + 2 * self.embedding

    def flop(self, new, context):
        """Return what the last ``new`` tokens of ``context`` cost: weights, scores and values."""
        pairs = sum(range(context - new + 1, context + 1))
        return 2 * self.params * new + 2 * 2 * pairs * self.layers * self.width

    def kv_bytes(self, context):
        return context * self.layers * 2 * self.kv_width * 2

    def intensity(self, new, context, batch=1):
        moved = 2 * self.params + batch * self.kv_bytes(context)
        return batch * self.flop(new, context) / moved


LLAMA_2_7B = Llama(32, 4096, 32, 32, 11008, 32_000)
LLAMA_3_1_8B = Llama(32, 4096, 32, 8, 14336, 128_256)
H100_FLOPS, H100_BANDWIDTH = 989e12, 3.35e12
RIDGE_POINT = H100_FLOPS / H100_BANDWIDTH


def batch_at_ridge_point(model, context):
    """Return from how many sequences on FLOP / (weights + KV bytes) is the ridge point."""
    spare = model.flop(1, context) - RIDGE_POINT * model.kv_bytes(context)
    return ceil(RIDGE_POINT * 2 * model.params / spare)


@pytest.mark.parametrize(
    ("shape", "key"), [(LLAMA_2_7B, "llama-2-7b"), (LLAMA_3_1_8B, "llama-3.1-8b")]
)
def test_the_library_has_the_published_shapes(shape, key):
    model = MODELS[key]
    assert model.num_params == shape.params
    assert kv_bytes_per_token(model) == shape.kv_bytes(1)
    assert forward_flops(model, 3, 4) == shape.flop(3, 7)
    assert arithmetic_intensity(model, 1, 99, 7) == pytest.approx(shape.intensity(1, 100, 7))
    assert GPUS["h100"].ridge_point == pytest.approx(RIDGE_POINT)


# Numbers


def test_a_decode_of_256_tokens_is_compute_bound_from_754_sequences_on(text):
    batch = batch_at_ridge_point(LLAMA_3_1_8B, 256)
    assert batch == 754
    assert batch_at_ridge_point(LLAMA_3_1_8B, 257) == 759, "with 256 tokens cached, and one more"
    (where,) = found(r"of 256 tokens crosses the line,? ([^.]*)\.", text)
    assert "some hundreds of sequences" in where
    assert 200 <= batch < 1000
    (of_the_figure,) = found(r"assert at_ridge == (\d+)", text)
    assert int(of_the_figure) == batch
    assert batch_at_ridge_point(LLAMA_3_1_8B, 1024) < 0, "at 1,024 it never is"


def test_keys_and_values_take_a_sixth_of_the_weights_and_gqa_saves_an_eighth(text):
    share = LLAMA_2_7B.key_and_value_weights / LLAMA_2_7B.params
    said = re.findall(r"K and V projections[^.]*?\ban? (\w+) of th", text)
    assert said
    assert {FRACTIONS[each] for each in said} == {round(1 / share)} == {6}
    (saved,) = found(r"shrinks to a quarter, and the weights by about an? (\w+)\.", text)
    assert FRACTIONS[saved] == round(1 / (share * 3 / 4)) == 8


def test_input_embeddings_are_only_looked_up(text):
    model, tokens = LLAMA_3_1_8B, 1000
    assert "Every parameter is read" not in text
    (share,) = found(r"only looks up one row of the input embedding, (\d+)% of Llama-3\.1-8B", text)
    assert int(share) == round(100 * model.embedding / model.params)
    (too_high,) = found(r"at 1,000 tokens the FLOP are counted too high by about (\d+)%", text)
    counted = model.flop(tokens, tokens)
    # No embedding is multiplied with; the output layer, as large, for the last token alone.
    least = counted - 2 * model.embedding * (tokens + tokens - 1)
    assert int(too_high) == round(100 * (counted / least - 1))
    decode = 2 * (model.params - model.embedding) / H100_BANDWIDTH
    naive = (counted / H100_FLOPS) / (2 * model.params / H100_BANDWIDTH)
    times = [1000 * decode, 1000 * least / H100_FLOPS, least / H100_FLOPS / decode, naive]
    said = found(
        r"takes ([\d.]+) ms, and the prefill ([\d.]+) ms: ([\d.]+) .*?, not (\d\.\d)", text
    )
    assert [float(each) for each in said] == [round(each, 1) for each in times]


def test_a_short_prefill_has_100_flop_per_byte_where_a_decode_has_1(text):
    assert "as memory-bound as decodes" not in text
    prefill, decode = LLAMA_3_1_8B.intensity(100, 100), LLAMA_3_1_8B.intensity(1, 1000)
    assert (round(prefill, -1), round(decode)) == (100, 1)
    by, nearly = found(
        r"prefill is memory-bound, too, but by a factor of (\d+), where one decode is by a factor "
        r"of nearly (\d+)",
        text,
    )
    assert int(by) == round(RIDGE_POINT / prefill)
    assert 0.95 * int(nearly) < RIDGE_POINT / decode < int(nearly)


def of_its_own_heads(key):
    """Return a model's configuration with a KV head for each query head: the other bug is out."""
    model = MODELS[key]
    return {
        "hidden_size": model.hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "num_hidden_layers": model.num_layers,
        "head_dim": model.head_dim,
        "torch_dtype": "bfloat16",
    }


def test_qwen3_32b_shows_the_mistake_in_head_dim_and_qwen3_14b_does_not(text):
    heads, head_dim, hidden, quotient = found(
        r"Qwen3-32B has (\d+) heads of (\d+) numbers on a hidden size of ([\d,]+), where division "
        r"gives (\d+)",
        text,
    )
    assert (int(heads), int(head_dim), int(hidden.replace(",", ""))) == (64, 128, 5120)
    assert int(quotient) == 5120 // 64
    (of_14b,) = found(r"Qwen3-14B, with (\d+) heads, does not show the mistake", text)
    assert 5120 / int(of_14b) == 128
    assert not re.search(r"Qwen3-14B[^.]*exposes", text)
    for key, is_shown in (("qwen3-32b", True), ("qwen3-14b", False)):
        config = of_its_own_heads(key)
        promised = given.suspect_tokens_that_fit(config, GiB)
        assert (promised != given.tokens_that_fit(config, GiB)) == is_shown


def test_as_many_right_answers_as_the_text_asks_for_are_a_pass(text):
    right, of_all = (
        COUNTS[each.lower()] for each in found(r"(\w+) of the (\w+) right[^.]*? is a pass", text)
    )
    questions = bank(1).quiz
    assert of_all == len(questions)
    assert right == ceil(PASS * of_all)
    (percentage,) = found(r"right, (\d+)%, is a pass", text)
    assert int(percentage) == 100 * PASS
    for correct in (right, right - 1):
        letters = {each.id: each.answer for each in questions[:correct]}
        remarks = examine("1.Q", letters).remarks
        assert any("that is a pass" in each for each in remarks) == (correct == right)


def test_the_log_line_is_blocks_times_block_size_only_where_a_request_fills_its_blocks(text):
    def logged(num_blocks, block_size, max_model_len):
        """Return vLLM 0.33.0's int(max_concurrency * max_model_len), for one group of layers."""
        max_concurrency = num_blocks / -(-max_model_len // block_size)
        return int(max_concurrency * max_model_len)

    assert logged(2588, 16, 4096) == 2588 * 16
    assert logged(2588, 16, 1000) == floor(2588 / 63 * 1000) != 2588 * 16
    assert not re.search(r"vLLM logs the product of blocks and block size", text)
    assert found(
        r"blocks × block size \| (nearly) what the log line .*?`int\(max_concurrency \* "
        r"max_model_len\)`, in `vllm/v1/core/kv_cache_utils\.py`.{,80}`max_model_len` fills whole",
        text,
    )


# vLLM 0.33.0

STATED = {
    "the context and the buffers are there before the first snapshot": (
        r"The CUDA context, the communication buffers \(NCCL\).{,200}None of the three is counted",
        r"outside PyTorch \(the CUDA context, communication buffers\)",
    ),
    "what is there before the first snapshot is not subtracted": (
        r"such as the CUDA context, is not subtracted",
        r"stay below 90% of the GPU",
    ),
    "an estimate for CUDA graphs is subtracted unless it is switched off": (
        r"unless it is switched off, an estimate for CUDA graphs",
        r"whatever else vLLM measures",
    ),
    "what another process holds throughout cancels": (
        r"another process holds throughout cancels",
        r"then at other processes on the same GPU",
    ),
    "too little free memory is an error at the start": (
        r"refuses to start if less memory is free than it may use, and if not even one request",
        r"refuses to start if not even one request",
    ),
    "page sizes are in kv_cache_interface.py": (
        r"`page_size_bytes` of a layer's spec, in `vllm/v1/kv_cache_interface\.py`",
        r"page size of a layer's KV cache spec, in `vllm/v1/core/kv_cache_utils\.py`",
    ),
    "groups of layers share one pool": (
        r"all groups take their blocks from one pool",
        r"gives each group blocks of its own",
    ),
    "the requested memory is rounded up": (
        r"`request_memory` in `vllm/v1/worker/utils\.py`: the same product, rounded up",
        r"\| `gpu_memory_utilization` \| the same name",
    ),
}
"""What the text says of vLLM 0.33.0, and the words of older texts that are not true of it."""


@pytest.mark.parametrize("fact", STATED)
def test_of_vllm_the_text_says_what_is_so_in_0_33(text, fact):
    so, dated = STATED[fact]
    assert re.search(so, text)
    assert not re.search(dated, text)
