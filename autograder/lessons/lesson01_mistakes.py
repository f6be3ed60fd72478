"""Lesson 1: the wrong answers that people are known to give, as code, with name and sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from autograder.checks.finding import Misconception
from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token, num_kv_blocks
from course_lib.kv_cache.reservation import (
    Reservation,
    SlotUse,
    classify_slots,
)
from course_lib.specs import GPUSpec, ModelSpec

# 1.1


def no_values(model: ModelSpec) -> int:
    """Count the keys and not the values."""
    return kv_bytes_per_token(model) // 2


def query_heads(model: ModelSpec) -> int:
    """Count query heads, of which there may be more than KV heads."""
    heads = model.num_attention_heads
    return 2 * model.num_layers * heads * model.head_dim * model.dtype_bytes


def derived_head_dim(model: ModelSpec) -> int:
    """Derive the width of a head, where it is a setting of its own."""
    head_dim = model.hidden_size // model.num_attention_heads
    return 2 * model.num_layers * model.num_kv_heads * head_dim * model.dtype_bytes


def bits(model: ModelSpec) -> int:
    """Count bits."""
    return 8 * kv_bytes_per_token(model)


def queries_too(model: ModelSpec) -> int:
    """Keep the queries beside the keys and values."""
    heads = model.num_attention_heads + 2 * model.num_kv_heads
    return model.num_layers * heads * model.head_dim * model.dtype_bytes


def vectors_twice(model: ModelSpec) -> int:
    """Count keys and values twice."""
    return 2 * kv_bytes_per_token(model)


def one_layer(model: ModelSpec) -> int:
    """Count one layer."""
    return kv_bytes_per_token(model) // model.num_layers


def numbers_not_bytes(model: ModelSpec) -> int:
    """Count numbers and not the bytes of each."""
    return kv_bytes_per_token(model) // model.dtype_bytes


def as_wide_as_the_model(model: ModelSpec) -> int:
    """Take keys, and values, of all heads together to be as wide as the hidden state."""
    return 2 * model.num_layers * model.hidden_size * model.dtype_bytes


def always_two_bytes(model: ModelSpec) -> int:
    """Take two bytes for a number, whatever its type."""
    return kv_bytes_per_token(model) // model.dtype_bytes * 2


BYTES_PER_TOKEN = (
    Misconception(
        "K but not V",
        "Attention needs the value of every earlier token as well as its key, so both are cached.",
        no_values,
    ),
    Misconception(
        "query heads for KV heads",
        "Queries are used once and thrown away. Only keys and values stay, and under "
        "grouped-query attention there are fewer heads of those.",
        query_heads,
        evidence=r"num_attention_heads",
    ),
    Misconception(
        "the queries kept, too",
        "A token's queries are used once, in its own step: later tokens look at its keys and "
        "values only.",
        queries_too,
    ),
    Misconception(
        "a factor of two too much",
        "There is one key and one value for each KV head and layer; dtype_bytes is the size of a "
        "number already.",
        vectors_twice,
    ),
    Misconception(
        "2 x layers x hidden_size",
        "That is how the PagedAttention paper counts for OPT-13B, and what comes of heads x "
        "(hidden_size / heads). In practice it holds where every query head has a KV head, and "
        "heads x head_dim is the hidden size.",
        as_wide_as_the_model,
        evidence=r"(?s)\A(?!.*num_attention_heads).*hidden_size",
    ),
    Misconception(
        "numbers, not bytes",
        "The count of numbers is right; each of them takes model.dtype_bytes.",
        numbers_not_bytes,
    ),
    Misconception(
        "hidden_size / heads for head_dim",
        "The width of a head is a setting of its own: Qwen3-32B has 64 heads of 128 "
        "numbers on a hidden size of 5,120.",
        derived_head_dim,
        evidence=r"hidden_size",
    ),
    Misconception(
        "bits for bytes",
        "dtype_bytes counts bytes already; do not multiply by 8.",
        bits,
        evidence=r"\*\s*8\b|\b8\s*\*",
    ),
    Misconception(
        "one layer only",
        "Every layer computes keys and values of its own and keeps them.",
        one_layer,
    ),
    Misconception(
        "always two bytes",
        "A number takes model.dtype_bytes: 4 in float32, 1 in an 8-bit type.",
        always_two_bytes,
    ),
)

# 1.2


@dataclass(frozen=True)
class _Memory:
    """The numbers of exercise 1.2, for wrong answers to put together wrongly."""

    total: int
    utilization: float
    params: int
    weights: int
    activations: int
    bytes_per_block: int
    bytes_per_token: int


def _wrong_blocks(count: Callable[[_Memory], int]) -> Callable[..., int]:
    """Give a wrong count the right manners, so that only its arithmetic is wrong."""

    def num_kv_blocks(
        model: ModelSpec,
        gpu: GPUSpec,
        block_size: int = 16,
        gpu_memory_utilization: float = 0.92,
        peak_activation_bytes: int = 0,
    ) -> int:
        memory = _Memory(
            gpu.memory_bytes,
            gpu_memory_utilization,
            model.num_params,
            model.weight_bytes,
            peak_activation_bytes,
            kv_bytes_per_block(model, block_size),
            kv_bytes_per_token(model),
        )
        blocks = count(memory)
        if not 0 < gpu_memory_utilization <= 1 or blocks < 1:
            raise ValueError("nothing fits")
        return blocks

    return num_kv_blocks


forgets_weights = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.activations) // m.bytes_per_block
)
share_of_the_rest = _wrong_blocks(
    lambda m: int((m.total - m.weights - m.activations) * m.utilization) // m.bytes_per_block
)
share_after_the_activations = _wrong_blocks(
    lambda m: (int((m.total - m.activations) * m.utilization) - m.weights) // m.bytes_per_block
)
share_after_the_weights = _wrong_blocks(
    lambda m: (int((m.total - m.weights) * m.utilization) - m.activations) // m.bytes_per_block
)
rounds_up = _wrong_blocks(
    lambda m: -((m.weights + m.activations - int(m.total * m.utilization)) // m.bytes_per_block)
)
rounds_up_from_fractions = _wrong_blocks(
    lambda m: ceil((m.total * m.utilization - m.weights - m.activations) / m.bytes_per_block)
)
forgets_activations = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.weights) // m.bytes_per_block
)
all_of_the_memory = _wrong_blocks(
    lambda m: (m.total - m.weights - m.activations) // m.bytes_per_block
)
always_sixteen = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.weights - m.activations) // (16 * m.bytes_per_token)
)
parameters_for_bytes = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.params - m.activations) // m.bytes_per_block
)
always_the_default_share = _wrong_blocks(
    lambda m: (int(m.total * 0.92) - m.weights - m.activations) // m.bytes_per_block
)
rounds_to_the_nearest = _wrong_blocks(
    lambda m: round((m.total * m.utilization - m.weights - m.activations) / m.bytes_per_block)
)


def another_default(
    model: ModelSpec,
    gpu: GPUSpec,
    block_size: int = 16,
    gpu_memory_utilization: float = 0.9,
    peak_activation_bytes: int = 0,
) -> int:
    """Take another share where none is given."""
    return num_kv_blocks(model, gpu, block_size, gpu_memory_utilization, peak_activation_bytes)


counts_tokens = _wrong_blocks(
    lambda m: (int(m.total * m.utilization) - m.weights - m.activations) // m.bytes_per_token
)


KV_BLOCKS = (
    Misconception(
        "no room for the weights",
        "The weights stay on the GPU all the time; the cache gets what they leave.",
        forgets_weights,
    ),
    Misconception(
        "a share of the rest",
        "gpu_memory_utilization is a share of all the memory, weights included, not of "
        "what the weights leave.",
        share_of_the_rest,
    ),
    Misconception(
        "a share of what the weights leave",
        "gpu_memory_utilization is a share of all the memory: take it first, then subtract "
        "weights and activations.",
        share_after_the_weights,
    ),
    Misconception(
        "a share of what the activations leave",
        "gpu_memory_utilization is a share of all the memory: take it first, then subtract "
        "weights and activations.",
        share_after_the_activations,
    ),
    Misconception("rounds up", "A block that fits in part does not fit.", rounds_up),
    Misconception(
        "rounds a fraction up",
        "A block that fits in part does not fit.",
        rounds_up_from_fractions,
    ),
    Misconception(
        "rounds to the nearest",
        "A block that fits in part does not fit, not even where most of it does.",
        rounds_to_the_nearest,
    ),
    Misconception(
        "a default of 0.9",
        "Where no share is given it is 0.92: the function's parameters say so.",
        another_default,
    ),
    Misconception(
        "always a share of 0.92",
        "0.92 is only the default: the share is what gpu_memory_utilization says.",
        always_the_default_share,
    ),
    Misconception(
        "parameters for bytes",
        "A parameter takes dtype_bytes bytes; model.weight_bytes has them all.",
        parameters_for_bytes,
    ),
    Misconception(
        "tokens, not blocks",
        "That is how many tokens fit; a block has room for block_size of them.",
        counts_tokens,
    ),
    Misconception(
        "no room for the activations",
        "peak_activation_bytes are taken while a step runs, and the cache cannot have them.",
        forgets_activations,
    ),
    Misconception(
        "all of the memory",
        "The engine may use only the share gpu_memory_utilization of the memory.",
        all_of_the_memory,
    ),
    Misconception(
        "always 16 tokens a block",
        "16 is only the default: a block has room for block_size tokens.",
        always_sixteen,
    ),
)

# 1.3


def _counted(
    reservations: Sequence[Reservation], num_slots: int, used: int, later: int, internal: int
) -> SlotUse:
    """Finish a wrong answer as the lines that the exercise gives do."""
    right = classify_slots(reservations, num_slots)
    return SlotUse(used, later, internal, right.external)


def all_unwritten_is_waste(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Keep nothing for later."""
    used = sum(r.written for r in reservations)
    unwritten = sum(r.reserved for r in reservations) - used
    return _counted(reservations, num_slots, used, 0, unwritten)


def all_unwritten_is_for_later(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Lose nothing inside a reservation."""
    used = sum(r.written for r in reservations)
    unwritten = sum(r.reserved for r in reservations) - used
    return _counted(reservations, num_slots, used, unwritten, 0)


def final_counts_as_used(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Count what will be written as used."""
    used = sum(min(r.final, r.reserved) for r in reservations)
    never = sum(r.reserved for r in reservations) - used
    return _counted(reservations, num_slots, used, 0, never)


def later_without_reservation(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Keep for later what is not reserved."""
    right = classify_slots(reservations, num_slots)
    later = sum(r.final - r.written for r in reservations)
    return _counted(reservations, num_slots, right.used, later, right.internal)


def negative_internal(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Let a reservation that is too short give slots back."""
    right = classify_slots(reservations, num_slots)
    internal = sum(r.reserved - r.final for r in reservations)
    return _counted(reservations, num_slots, right.used, right.later, internal)


def missing_slots_lost(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Count what a reservation is too short by as lost."""
    right = classify_slots(reservations, num_slots)
    internal = sum(abs(r.reserved - r.final) for r in reservations)
    return _counted(reservations, num_slots, right.used, right.later, internal)


def never_too_short(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Take every reservation to be long enough."""
    right = classify_slots(reservations, num_slots)
    later = sum(r.final - r.written for r in reservations)
    internal = sum(r.reserved - r.final for r in reservations)
    return _counted(reservations, num_slots, right.used, later, internal)


def up_to_the_end_is_later(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Count the tokens written already among those for later."""
    right = classify_slots(reservations, num_slots)
    later = right.used + right.later
    return _counted(reservations, num_slots, right.used, later, right.internal)


def counted_twice(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Count what is kept for later as lost, too."""
    right = classify_slots(reservations, num_slots)
    both = right.later + right.internal
    return _counted(reservations, num_slots, right.used, right.later, both)


def later_too(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Keep what is lost for later, too."""
    right = classify_slots(reservations, num_slots)
    both = right.later + right.internal
    return _counted(reservations, num_slots, right.used, both, right.internal)


def later_too_and_negative(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Keep all that is unwritten for later, and take it for lost as well."""
    later = later_too(reservations, num_slots).later
    internal = negative_internal(reservations, num_slots).internal
    return _counted(reservations, num_slots, sum(r.written for r in reservations), later, internal)


def short_ones_left_out(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Keep nothing for later in a reservation that is too short."""
    long_enough = classify_slots([r for r in reservations if r.reserved >= r.final], num_slots)
    used = sum(r.written for r in reservations)
    return _counted(reservations, num_slots, used, long_enough.later, long_enough.internal)


def exchanged(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Take what is kept for later for lost, and the other way round."""
    right = classify_slots(reservations, num_slots)
    return _counted(reservations, num_slots, right.used, right.internal, right.later)


def only_the_last_request(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Set the counts where they should be added to."""
    last = classify_slots(reservations[-1:], num_slots)
    return _counted(reservations, num_slots, last.used, last.later, last.internal)


def only_used_is_added_to(reservations: Sequence[Reservation], num_slots: int) -> SlotUse:
    """Add to one count and set the others."""
    right = classify_slots(reservations, num_slots)
    last = classify_slots(reservations[-1:], num_slots)
    return _counted(reservations, num_slots, right.used, last.later, last.internal)


CLASSIFY_SLOTS = (
    Misconception(
        "every empty slot is wasted",
        "Some of a request's empty slots it will still fill: those are kept for later, and "
        "are not internal fragmentation.",
        all_unwritten_is_waste,
    ),
    Misconception(
        "no slot is wasted",
        "A request never fills the slots beyond its final length: those are internal "
        "fragmentation, not kept for later.",
        all_unwritten_is_for_later,
    ),
    Misconception(
        "the future counts as used",
        "A slot is used once a token's KV is in it; what will be written counts as later.",
        final_counts_as_used,
    ),
    Misconception(
        "later without a reservation",
        "Only slots that are reserved now can be kept for later; a request may have "
        "reserved less than it will need.",
        later_without_reservation,
    ),
    Misconception(
        "less than nothing lost",
        "A request that has reserved less than it will need loses no slot; it does not "
        "give any back either.",
        negative_internal,
    ),
    Misconception(
        "what is missing is lost",
        "A request that has reserved less than it will need loses no slot: abs() makes a loss of "
        "what it has yet to get.",
        missing_slots_lost,
    ),
    Misconception(
        "later counted as internal too",
        "Each slot is counted once: what is kept for later is not internal fragmentation.",
        counted_twice,
    ),
    Misconception(
        "internal counted as later too",
        "Each slot is counted once: into the slots beyond its final length a request writes "
        "nothing later.",
        later_too,
    ),
    Misconception(
        "all unwritten is later",
        "A request writes up to its final length at most, and only into what it has reserved: "
        "later ends at the nearer of the two. What is beyond final is internal, if anything is.",
        later_too_and_negative,
    ),
    Misconception(
        "short reservations left out",
        "A request that has reserved less than it will need keeps its unwritten slots for later.",
        short_ones_left_out,
    ),
    Misconception(
        "later and internal exchanged",
        "Up to its final length a request will still write: those slots are kept for later, and "
        "the ones beyond are internal.",
        exchanged,
    ),
    Misconception(
        "every reservation is long enough",
        "A request may have reserved less than it will need: then only its reserved slots are for "
        "later, and none of them is lost.",
        never_too_short,
    ),
    Misconception(
        "written counted as later too",
        "Each slot is counted once: one that holds a token is not kept for later any more.",
        up_to_the_end_is_later,
    ),
    Misconception(
        "only the last request counts",
        "The loop goes over all requests: add to the counts, do not set them.",
        only_the_last_request,
    ),
    Misconception(
        "later and internal of the last request only",
        "The loop goes over all requests: add to all three counts, do not set any.",
        only_used_is_added_to,
    ),
)
