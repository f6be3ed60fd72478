"""Lesson 1: what its checks say of answers that people give, wrong ones and unusual right ones."""

from __future__ import annotations

import ast
import functools
import heapq
import math
import operator
from collections import namedtuple
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

from autograder import lessons
from autograder.checks import compare
from autograder.lessons import lesson01_given as given
from autograder.lessons.questions import bank
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache import (
    kv_bytes_per_block,
    kv_bytes_per_token,
    max_concurrent_sequences,
    num_kv_blocks,
)
from course_lib.kv_cache.allocators import BuddyAllocator, FirstFitAllocator
from course_lib.kv_cache.reservation import (
    RESERVATIONS,
    SlotUse,
    average_shares,
    classify_slots,
    expected_static_utilization,
    replay_contiguous,
    replay_paged,
)
from course_lib.roofline import forward_flops, kv_bytes_moved
from course_lib.simulation.workload import load_azure, synthetic_azure
from course_lib.specs import GPUS, MODELS, GiB, GPUSpec, ModelSpec
from lesson_answers import (
    SAME,
    examine,
    named,
    right_answers_earn_everything,
    wrong_answers_earn_nothing,
)
from yardstick import quiet_seconds

# 1.1


def numpy_bytes(model):
    return np.prod([2, model.num_layers, model.num_kv_heads, model.head_dim, model.dtype_bytes])


def layer_by_layer(model):
    def below(layers):
        if layers == 0:
            return 0
        keys = values = model.num_kv_heads * model.head_dim * model.dtype_bytes
        return keys + values + below(layers - 1)

    return below(model.num_layers)


def from_a_dict(model):
    sizes = {"K": model.num_kv_heads * model.head_dim, "V": model.num_kv_heads * model.head_dim}
    return model.num_layers * sum(sizes.values()) * model.dtype_bytes


def off_by_a_layer(model):
    return kv_bytes_per_token(replace(model, num_layers=model.num_layers + 1))


def as_a_float(model):
    return kv_bytes_per_token(model) / 1


def without_a_sign(model):
    return np.uint64(kv_bytes_per_token(model))


def as_a_fraction(model):
    return Fraction(kv_bytes_per_token(model))


BYTES_RIGHT = (numpy_bytes, layer_by_layer, from_a_dict, without_a_sign, as_a_fraction)
BYTES_WRONG = (
    (lambda m: m.num_layers * m.num_kv_heads * m.head_dim * m.dtype_bytes, "K but not V"),
    (lambda m: 2 * m.num_layers * m.num_kv_heads * m.head_dim, "numbers, not bytes"),
    (lambda m: 2 * m.hidden_size * m.num_layers * m.dtype_bytes, "2 x layers x hidden_size"),
    (
        lambda m: 2 * m.num_layers * m.num_attention_heads * m.head_dim * m.dtype_bytes,
        "query heads for KV heads",
    ),
    (
        lambda m: (
            2
            * m.num_layers
            * m.num_kv_heads
            * (m.hidden_size // m.num_attention_heads)
            * m.dtype_bytes
        ),
        "hidden_size / heads for head_dim",
    ),
    (
        lambda m: int(
            2
            * m.num_layers
            * m.num_kv_heads
            * m.hidden_size
            / m.num_attention_heads
            * m.dtype_bytes
        ),
        "hidden_size / heads for head_dim",
    ),
    (
        lambda m: (
            2
            * m.num_layers
            * m.num_attention_heads
            * (m.hidden_size // m.num_attention_heads)
            * m.dtype_bytes
        ),
        "2 x layers x hidden_size",
    ),
    (
        lambda m: (
            2
            * m.num_layers
            * m.num_attention_heads
            * (m.hidden_size / m.num_attention_heads)
            * m.dtype_bytes
        ),
        "2 x layers x hidden_size",
    ),
    (
        lambda m: (
            m.num_layers * (m.num_attention_heads + 2 * m.num_kv_heads) * m.head_dim * m.dtype_bytes
        ),
        "the queries kept, too",
    ),
    (
        lambda m: 2 * 2 * m.num_layers * m.num_kv_heads * m.head_dim * m.dtype_bytes,
        "a factor of two too much",
    ),
    (off_by_a_layer, SAME),
    (as_a_float, SAME),
    (lambda m: 819_200, SAME),
    (object(), SAME),
)

# 1.2


def blocks_of(usable):
    """Make an answer from how the usable bytes are counted."""

    def num_kv_blocks(
        model, gpu, block_size=16, gpu_memory_utilization=0.92, peak_activation_bytes=0
    ):
        if not 0 < gpu_memory_utilization <= 1 or block_size < 1:
            raise ValueError("out of range")
        usable_bytes = usable(gpu.memory_bytes, gpu_memory_utilization)
        free = usable_bytes - model.weight_bytes - peak_activation_bytes
        blocks = int(free // kv_bytes_per_block(model, block_size))
        if blocks <= 0:
            raise ValueError("nothing fits")
        return blocks

    return num_kv_blocks


def one_by_one(model, gpu, block_size=16, gpu_memory_utilization=0.92, peak_activation_bytes=0):
    """Halve the interval in which the answer lies."""
    if gpu_memory_utilization <= 0 or gpu_memory_utilization > 1:
        raise ValueError
    room = gpu.memory_bytes * gpu_memory_utilization - model.weight_bytes - peak_activation_bytes
    fits, too_many = 0, 2**40
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if middle * kv_bytes_per_block(model, block_size) <= room:
            fits = middle
        else:
            too_many = middle
    if not fits:
        raise ValueError
    return fits


def without_refusals(
    model, gpu, block_size=16, gpu_memory_utilization=0.92, peak_activation_bytes=0
):
    usable = int(gpu.memory_bytes * gpu_memory_utilization)
    free = usable - model.weight_bytes - peak_activation_bytes
    return free // kv_bytes_per_block(model, block_size)


def that_refuses(what):
    """Make an answer that takes the size of whatever it does not refuse."""

    def num_kv_blocks(
        model, gpu, block_size=16, gpu_memory_utilization=0.92, peak_activation_bytes=0
    ):
        if what(gpu_memory_utilization, block_size):
            raise ValueError
        usable = abs(int(gpu.memory_bytes * gpu_memory_utilization))
        free = usable - model.weight_bytes - peak_activation_bytes
        blocks = free // (abs(block_size) * kv_bytes_per_token(model))
        if blocks < 1:
            raise ValueError
        return blocks

    return num_kv_blocks


def wrong_blocks(count):
    def num_kv_blocks(
        model, gpu, block_size=16, gpu_memory_utilization=0.92, peak_activation_bytes=0
    ):
        if not 0 < gpu_memory_utilization <= 1 or block_size < 1:
            raise ValueError
        blocks = count(model, gpu, block_size, gpu_memory_utilization, peak_activation_bytes)
        if blocks < 1:
            raise ValueError
        return blocks

    return num_kv_blocks


BLOCKS_RIGHT = (
    blocks_of(lambda memory, share: memory * share),
    blocks_of(lambda memory, share: math.ceil(memory * share)),
    one_by_one,
)
BLOCKS_WRONG = (
    (
        wrong_blocks(
            lambda m, g, b, u, a: (
                (int(g.memory_bytes * u) - m.weight_bytes) // kv_bytes_per_block(m, b)
            )
        ),
        "no room for the activations",
    ),
    (
        wrong_blocks(
            lambda m, g, b, u, a: (g.memory_bytes - m.weight_bytes - a) // kv_bytes_per_block(m, b)
        ),
        "all of the memory",
    ),
    (
        wrong_blocks(
            lambda m, g, b, u, a: (
                (int(g.memory_bytes * u) - m.weight_bytes - a) // kv_bytes_per_block(m, 16)
            )
        ),
        "always 16 tokens a block",
    ),
    (
        wrong_blocks(
            lambda m, g, b, u, a: (
                (int(g.memory_bytes * u) - m.weight_bytes - a) // kv_bytes_per_token(m)
            )
        ),
        "tokens, not blocks",
    ),
    (
        wrong_blocks(
            lambda m, g, b, u, a: round(
                (g.memory_bytes * u - m.weight_bytes - a) / kv_bytes_per_block(m, b)
            )
        ),
        "rounds to the nearest",
    ),
    (
        wrong_blocks(
            lambda m, g, b, u, a: math.ceil(
                (g.memory_bytes * u - m.weight_bytes - a) / kv_bytes_per_block(m, b)
            )
        ),
        "rounds a fraction up",
    ),
    (without_refusals, SAME),
    (that_refuses(lambda share, size: share == 0 or share >= 1.5 or size == 0), SAME),
    (that_refuses(lambda share, size: share <= 0 or share > 1 or size == 0), SAME),
    (that_refuses(lambda share, size: share == 0 or share > 1 or size < 1), SAME),
    (
        lambda m, g, block_size=16, gpu_memory_utilization=0.9, peak_activation_bytes=0: (
            num_kv_blocks(m, g, block_size, gpu_memory_utilization, peak_activation_bytes)
        ),
        "a default of 0.9",
    ),
    (lambda *args, **kwargs: 3400, SAME),
    (object(), SAME),
)

# 1.3


def slots_by_set(reservations, num_slots):
    """Colour each slot by itself."""
    counts = {"used": 0, "later": 0, "internal": 0, "external": num_slots}
    for request in reservations:
        if request.written > min(request.reserved, request.final):
            raise ValueError(request)
        for slot in range(request.reserved):
            kind = "used" if slot < request.written else "internal"
            counts["later" if request.written <= slot < request.final else kind] += 1
            counts["external"] -= 1
    if counts["external"] < 0:
        raise ValueError(num_slots)
    return SlotUse(**counts)


def slots_by_numpy(reservations, num_slots):
    table = np.array([(r.reserved, r.written, r.final) for r in reservations]).reshape(-1, 3)
    reserved, written, final = table.T
    if (written > np.minimum(reserved, final)).any() or reserved.sum() > num_slots:
        raise ValueError("impossible")
    used = int(written.sum())
    later = int(np.minimum(reserved, final).sum()) - used
    internal = int(np.maximum(reserved - final, 0).sum())
    return SlotUse(used, later, internal, num_slots - used - later - internal)


def slots_one_after_the_other(reservations, num_slots):
    if not reservations:
        if num_slots < 0:
            raise ValueError
        return SlotUse(0, 0, 0, num_slots)
    first, *others = reservations
    if first.written > first.reserved or first.written > first.final:
        raise ValueError
    rest = slots_one_after_the_other(others, num_slots - first.reserved)
    return SlotUse(
        rest.used + first.written,
        rest.later + min(first.final, first.reserved) - first.written,
        rest.internal + max(first.reserved - first.final, 0),
        rest.external,
    )


def faded(count):
    """Fill the exercise's three gaps with what counts one request."""

    def classify_slots(reservations, num_slots):
        reserved = sum(request.reserved for request in reservations)
        if reserved > num_slots:
            raise ValueError(f"{reserved} slots are reserved")
        used = later = internal = 0
        for request in reservations:
            if request.written > request.reserved or request.written > request.final:
                raise ValueError("written must not exceed either")
            more = count(request)
            used, later, internal = used + more[0], later + more[1], internal + more[2]
        return SlotUse(used, later, internal, external=num_slots - reserved)

    return classify_slots


def that_empties_its_list(reservations, num_slots):
    answer = slots_by_set(reservations, num_slots)
    if isinstance(reservations, list):
        reservations.clear()
    return answer


def all_once_more_for_each(reservations, num_slots):
    right = slots_by_numpy(reservations, num_slots)
    used = 0
    for place, _ in enumerate(reservations, 1):
        used = sum(request.written for request in reservations[:place])
    return replace(right, used=used)


def looked_up_for_each(reservations, num_slots):
    right = slots_by_numpy(reservations, num_slots)
    places = [reservations.index(request) for request in reservations]
    return replace(right, used=sum(reservations[place].written for place in places))


SLOTS_RIGHT = (slots_by_set, slots_by_numpy)
SLOTS_SLOW = (slots_one_after_the_other, all_once_more_for_each, looked_up_for_each)
SLOTS_WRONG = (
    (
        faded(lambda r: (r.written, r.final - r.written, r.reserved - r.final)),
        "every reservation is long enough",
    ),
    (
        faded(lambda r: (r.written, r.final - r.written, max(0, r.reserved - r.final))),
        "later without a reservation",
    ),
    (faded(lambda r: (r.written, r.reserved - r.written, 0)), "no slot is wasted"),
    (faded(lambda r: (r.written, 0, r.reserved - r.written)), "every empty slot is wasted"),
    (
        faded(lambda r: (r.written, min(r.final, r.reserved), max(0, r.reserved - r.final))),
        "written counted as later too",
    ),
    (
        faded(lambda r: (r.written, r.reserved - r.written, max(0, r.reserved - r.final))),
        "internal counted as later too",
    ),
    (
        faded(
            lambda r: (
                r.written,
                max(0, r.reserved - r.final),
                min(r.final, r.reserved) - r.written,
            )
        ),
        "later and internal exchanged",
    ),
    (
        faded(lambda r: (r.written, r.reserved - r.written, r.reserved - r.final)),
        "all unwritten is later",
    ),
    (
        faded(
            lambda r: (
                r.written,
                r.final - r.written if r.reserved >= r.final else 0,
                r.reserved - r.final if r.reserved > r.final else 0,
            )
        ),
        "short reservations left out",
    ),
    (faded(lambda r: (r.final, r.reserved - r.final, 0)), SAME),
    (that_empties_its_list, SAME),
    (lambda reservations, num_slots: SlotUse(3, 2, 3, 2), SAME),
    (object(), SAME),
)

# 1.4


def refuse_lengths(output_lengths, batch_size):
    if batch_size < 1 or not len(output_lengths) or any(n < 1 for n in output_lengths):
        raise ValueError


def padded_table(output_lengths, batch_size):
    refuse_lengths(output_lengths, batch_size)
    table = np.zeros(-(-len(output_lengths) // batch_size) * batch_size)
    table[: len(output_lengths)] = output_lengths
    table = table.reshape(-1, batch_size)
    return table.sum() / (batch_size * table.max(axis=1).sum())


def with_an_iterator(output_lengths, batch_size):
    refuse_lengths(output_lengths, batch_size)
    lengths, seats = iter(output_lengths), 0
    while batch := [length for _, length in zip(range(batch_size), lengths, strict=False)]:
        seats += batch_size * max(batch)
    return float(sum(output_lengths) / seats)


def running_maximum(output_lengths, batch_size):
    refuse_lengths(output_lengths, batch_size)
    iterations = longest = 0
    for place, length in enumerate(output_lengths):
        if place % batch_size == 0:
            iterations, longest = iterations + longest, 0
        longest = max(longest, length)
    return sum(output_lengths) / (batch_size * (iterations + longest))


def looks_at_the_last(output_lengths, batch_size):
    if batch_size < 1 or not output_lengths or output_lengths[-1] < 1:
        raise ValueError
    starts = range(0, len(output_lengths), batch_size)
    time = sum(max(output_lengths[start : start + batch_size]) for start in starts)
    return sum(output_lengths) / (batch_size * time)


def batch_by_recursion(output_lengths, batch_size):
    refuse_lengths(output_lengths, batch_size)

    def time(lengths):
        return max(lengths[:batch_size]) + time(lengths[batch_size:]) if lengths else 0

    return sum(output_lengths) / (batch_size * time(output_lengths))


def that_copies_the_rest(output_lengths, batch_size):
    refuse_lengths(output_lengths, batch_size)
    rest, time = output_lengths, 0
    while rest:
        time += max(rest[:batch_size])
        rest = rest[batch_size:]
    return sum(output_lengths) / (batch_size * time)


def static(seats):
    def static_batch_utilization(output_lengths, batch_size):
        refuse_lengths(output_lengths, batch_size)
        starts = range(0, len(output_lengths), batch_size)
        batches = [output_lengths[start : start + batch_size] for start in starts]
        return sum(output_lengths) / seats(batches, batch_size)

    return static_batch_utilization


def of_sorted(reverse):
    def static_batch_utilization(output_lengths, batch_size):
        refuse_lengths(output_lengths, batch_size)
        return padded_table(sorted(output_lengths, reverse=reverse), batch_size)

    return static_batch_utilization


def every_nth(output_lengths, batch_size):
    refuse_lengths(output_lengths, batch_size)
    number = -(-len(output_lengths) // batch_size)
    batches = [output_lengths[start::number] for start in range(number)]
    return sum(output_lengths) / (batch_size * sum(map(max, batches)))


def unchecked(is_refused):
    """Form batches, and look at batch_size so."""

    def static_batch_utilization(output_lengths, batch_size):
        if is_refused(batch_size) or not output_lengths or min(output_lengths) < 1:
            raise ValueError
        starts = range(0, len(output_lengths), batch_size)
        time = sum(max(output_lengths[start : start + batch_size]) for start in starts)
        return sum(output_lengths) / (batch_size * time)

    return static_batch_utilization


STATIC_RIGHT = (padded_table, with_an_iterator, running_maximum)


def in_full_batches(output_lengths, batch_size, tokens_of_all=True):
    """Count as many batches as the length divided by the size, rounded down."""
    if batch_size < 1 or not output_lengths or min(output_lengths) < 1:
        raise ValueError
    seats = tokens = 0
    for index in range(len(output_lengths) // batch_size):
        batch = output_lengths[index * batch_size : (index + 1) * batch_size]
        seats += batch_size * max(batch)
        tokens += sum(batch)
    return (sum(output_lengths) if tokens_of_all else tokens) / seats


STATIC_WRONG = (
    (in_full_batches, "the seats of the last batch left out"),
    (functools.partial(in_full_batches, tokens_of_all=False), "full batches only"),
    (looks_at_the_last, SAME),
    (unchecked(lambda batch_size: False), SAME),  # range() refuses a step of 0 by itself
    (unchecked(lambda batch_size: batch_size == 0), SAME),
    (static(lambda batches, size: size * sum(map(max, batches)) + 1), SAME),
    (batch_by_recursion, SAME),
    (that_copies_the_rest, SAME),
    (static(lambda batches, size: sum(len(b) * max(b) for b in batches)), "the last batch shrinks"),
    (
        static(lambda batches, size: size * len(batches) * max(map(max, batches))),
        "one maximum for all",
    ),
    (of_sorted(reverse=False), "sorted first"),
    (of_sorted(reverse=True), "sorted first, the longest in front"),
    (every_nth, SAME),
    (static(lambda batches, size: size * sum(min(b) for b in batches)), SAME),
    (static(lambda batches, size: sum(max(b) for b in batches)), "iterations, not seats"),
    (static(lambda batches, size: size * max(map(max, batches))), "the longest of all, once"),
    (lambda output_lengths, batch_size: 7 / 12, SAME),
    (object(), SAME),
)

# 1.5


def intensity(flops, moved):
    def arithmetic_intensity(model, new_tokens, cached_tokens=0, batch_size=1):
        if new_tokens < 1 or batch_size < 1:
            raise ValueError
        args = model, new_tokens, cached_tokens
        return flops(batch_size, forward_flops(*args)) / moved(
            batch_size, model.weight_bytes, kv_bytes_moved(*args)
        )

    return arithmetic_intensity


def summed_by_a_loop(model, new_tokens, cached_tokens=0, batch_size=1):
    if min(new_tokens, batch_size) < 1:
        raise ValueError
    flops, moved = 0, model.weight_bytes
    for _ in range(batch_size):
        flops += forward_flops(model, new_tokens, cached_tokens)
        moved += kv_bytes_moved(model, new_tokens, cached_tokens)
    return np.float64(flops / moved)


def computed(flops, moved):
    """Divide what is computed for each sequence by what is moved for the batch."""

    def arithmetic_intensity(model, new_tokens, cached_tokens=0, batch_size=1):
        if new_tokens < 1 or batch_size < 1:
            raise ValueError
        sequence = new_tokens, cached_tokens
        return batch_size * flops(model, *sequence) / moved(model, batch_size, *sequence)

    return arithmetic_intensity


def refused_by(is_refused):
    def arithmetic_intensity(model, new_tokens, cached_tokens=0, batch_size=1):
        if is_refused(new_tokens, batch_size):
            raise ValueError
        args = model, new_tokens, cached_tokens
        moved = model.weight_bytes + batch_size * kv_bytes_moved(*args)
        return batch_size * forward_flops(*args) / moved

    return arithmetic_intensity


INTENSITY_RIGHT = (
    intensity(lambda b, f: b * f, lambda b, w, k: w + b * k),
    intensity(lambda b, f: f, lambda b, w, k: w / b + k),
    summed_by_a_loop,
)
INTENSITY_WRONG = (
    (intensity(lambda b, f: f, lambda b, w, k: w + k), "each sequence for itself"),
    (intensity(lambda b, f: b * f, lambda b, w, k: b * (w + k)), "each sequence for itself"),
    (intensity(lambda b, f: b * f, lambda b, w, k: w), "no KV traffic"),
    (intensity(lambda b, f: b * f, lambda b, w, k: w + k), "one sequence's KV"),
    (intensity(lambda b, f: f, lambda b, w, k: w + b * k), "one sequence's FLOP"),
    *(
        (computed(flops, moved), name)
        for flops, moved, name in (
            (
                lambda m, new, cached: forward_flops(m, new, cached),
                lambda m, batch, new, cached: (
                    2 * m.num_params + batch * kv_bytes_moved(m, new, cached)
                ),
                "two bytes a parameter",
            ),
            (
                lambda m, new, cached: forward_flops(m, new, new + cached),
                lambda m, batch, new, cached: (
                    m.weight_bytes + batch * kv_bytes_moved(m, new, new + cached)
                ),
                "the new tokens among the cached ones",
            ),
            (
                lambda m, new, cached: forward_flops(m, new, cached),
                lambda m, batch, new, cached: (
                    m.weight_bytes + batch * kv_bytes_moved(m, new, new + cached)
                ),
                "the new tokens' KV counted twice",
            ),
            (
                lambda m, new, cached: new * forward_flops(m, new, cached),
                lambda m, batch, new, cached: (
                    m.weight_bytes + batch * kv_bytes_moved(m, new, cached)
                ),
                "the new tokens multiplied with once more",
            ),
        )
    ),
    (refused_by(lambda new, batch: new == 0 or batch == 0), SAME),
    (refused_by(lambda new, batch: new * batch < 1), SAME),
    (refused_by(lambda new, batch: new < 1), SAME),
    (
        lambda model, new_tokens, cached_tokens=0, batch_size=1: (
            batch_size
            * forward_flops(model, batch_size * new_tokens, cached_tokens)
            / (model.weight_bytes + batch_size * kv_bytes_moved(model, new_tokens, cached_tokens))
        ),
        "the batch counted twice",
    ),
    (
        # What is cached, in the place of what is new.
        lambda model, new_tokens, cached_tokens=0, batch_size=1: (
            refuse_lengths([new_tokens], batch_size)
            or batch_size
            * forward_flops(model, new_tokens, cached_tokens)
            / (model.weight_bytes + batch_size * kv_bytes_moved(model, cached_tokens))
        ),
        "the new tokens' KV left out",
    ),
    (
        lambda model, new_tokens, cached_tokens=0, batch_size=1: (
            refuse_lengths([new_tokens], batch_size)
            or batch_size
            * forward_flops(model, new_tokens)
            / (model.weight_bytes + batch_size * kv_bytes_moved(model, new_tokens))
        ),
        "the cached tokens left out",
    ),
    (
        lambda model, new_tokens, cached_tokens=0, batch_size=1: (
            refuse_lengths([new_tokens], batch_size)
            or batch_size
            * forward_flops(model, cached_tokens + new_tokens)
            / (model.weight_bytes + batch_size * kv_bytes_moved(model, new_tokens, cached_tokens))
        ),
        "the cached tokens computed again",
    ),
    (
        lambda model, new_tokens, cached_tokens=0, batch_size=1: (
            batch_size
            * forward_flops(model, new_tokens, cached_tokens)
            / (model.weight_bytes + batch_size * kv_bytes_moved(model, new_tokens, cached_tokens))
            if batch_size
            else 0.0
        ),
        SAME,
    ),
    (lambda *args, **kwargs: 1.02, SAME),
    (object(), SAME),
)

# 1.6b


def mended(shape):
    def tokens_that_fit(config, free_bytes):
        kv_heads, head_dim = shape(config, config["num_attention_heads"], config["hidden_size"])
        width = 4 if config.get("torch_dtype") == "float32" else 2
        return free_bytes // (2 * config["num_hidden_layers"] * kv_heads * head_dim * width)

    return tokens_that_fit


def given_or(config, key, otherwise):
    return config.get(key, otherwise)


def with_a_copy(config, free_bytes):
    config = {
        "num_key_value_heads": config["num_attention_heads"],
        "head_dim": config["hidden_size"] // config["num_attention_heads"],
        **config,
    }
    numbers = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    width = {"float32": 4}.get(config["torch_dtype"], 2)
    return int(np.floor_divide(free_bytes, numbers * width))


def that_fills_in(config, free_bytes):
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    return given.tokens_that_fit(config, free_bytes)


MENDED_RIGHT = (
    mended(
        lambda c, heads, hidden: (
            given_or(c, "num_key_value_heads", heads),
            given_or(c, "head_dim", hidden // heads),
        )
    ),
    with_a_copy,
    lambda config, free_bytes: free_bytes // kv_bytes_per_token(ModelSpec.from_hf_config(config)),
)
MENDED_WRONG = (
    (
        # The likeliest half-repair: the KV heads for the division, too.
        mended(
            lambda c, heads, hidden: (
                (kv := c.get("num_key_value_heads", heads)),
                hidden // kv,
            )
        ),
        "2 x layers x hidden_size",
    ),
    (given.suspect_tokens_that_fit, "2 x layers x hidden_size"),
    (
        mended(lambda c, heads, hidden: (c.get("num_key_value_heads", heads), hidden // heads)),
        "one bug is left: head_dim",
    ),
    (
        mended(lambda c, heads, hidden: (heads, c.get("head_dim", hidden // heads))),
        "one bug is left: heads",
    ),
    (
        mended(
            lambda c, heads, hidden: (
                c.get("num_key_value_heads", 1),
                c.get("head_dim", hidden // heads),
            )
        ),
        "one KV head where none is given",
    ),
    (
        mended(
            lambda c, heads, hidden: (c.get("num_key_value_heads", heads), c.get("head_dim", 128))
        ),
        "heads of 128 where no size is given",
    ),
    (lambda config, free_bytes: given.tokens_that_fit(config, free_bytes * 2), "K but not V"),
    (lambda config, free_bytes: given.tokens_that_fit(config, free_bytes - 1), SAME),
    (
        # As many KV heads as the hidden size has room for.
        mended(
            lambda c, heads, hidden: (
                c.get("num_key_value_heads", hidden // c.get("head_dim", hidden // heads)),
                c.get("head_dim", hidden // heads),
            )
        ),
        SAME,
    ),
    (
        lambda config, free_bytes: (
            given.tokens_that_fit
            if "num_key_value_heads" in config
            else given.suspect_tokens_that_fit
        )(config, free_bytes),
        SAME,
    ),
    (mended(lambda c, heads, hidden: (c["num_key_value_heads"], c["head_dim"])), SAME),
    (
        mended(
            lambda c, heads, hidden: (
                c.get("num_key_value_heads", heads),
                min(c.get("head_dim", hidden), hidden // heads),
            )
        ),
        SAME,
    ),
    (that_fills_in, SAME),
    (lambda config, free_bytes: 2048, SAME),
    (object(), SAME),
)

# 1.7a


def up(number):
    power = 1
    while power < number:
        power *= 2
    return power


def on_a_sorted_list(requests, free_blocks, max_model_len):
    free, out = sorted(free_blocks), []
    for prompt, output in requests:
        asked = min(prompt + up(output), max_model_len)
        place = next((i for i, block in enumerate(free) if block >= asked), None)
        if place is None:
            return out
        block = free.pop(place)
        while block // 2 >= asked:
            block //= 2
            free = sorted([*free, block])
        out += [(asked, block)]
    return out


def by_counts_of_powers(requests, free_blocks, max_model_len):
    counts = np.bincount([int(block).bit_length() - 1 for block in free_blocks], minlength=60)
    admitted = []
    for prompt, output in requests:
        asked = min(prompt + 2 ** math.ceil(math.log2(output)), max_model_len)
        power = math.ceil(math.log2(asked))
        enough = np.flatnonzero(counts[power:])
        if not len(enough):
            break
        found = power + enough[0]
        counts[found] -= 1
        counts[power:found] += 1
        admitted.append([asked, 1 << power])
    return tuple(admitted)


def one_request_at_a_time(requests, free_blocks, max_model_len):
    if not requests:
        return []
    (prompt, output), *others = requests
    asked = min(prompt + up(output), max_model_len)
    block = min((block for block in free_blocks if block >= asked), default=None)
    if block is None:
        return []
    free = list(free_blocks)
    free.remove(block)
    while block > up(asked):
        block //= 2
        free.append(block)
    return [(asked, block), *one_request_at_a_time(others, free, max_model_len)]


def admission(
    asked_of=None,
    takes=min,
    is_enough=lambda half, asked: half >= asked,
    ends=True,
    behind=lambda block, asked: [],
    exact=False,
):
    def admit_under_pow2(requests, free_blocks, max_model_len):
        free, out = list(free_blocks), []
        for prompt, output in requests:
            asked = (asked_of or RESERVATIONS["Pow2"])(prompt, output, max_model_len)
            fitting = [block for block in free if block >= asked]
            if not fitting:
                if ends:
                    break
                continue
            block = up(asked) if exact and up(asked) in fitting else takes(fitting)
            free.remove(block)
            while block > 1 and is_enough(block // 2, asked):
                block //= 2
                free.append(block)
            free += behind(block, asked)
            out.append((asked, block))
        return out

    return admit_under_pow2


def keeping(what, first_sort=None):
    """Admit with only some of the halves that are left; with ``first_sort``, first fit after it."""

    def admit_under_pow2(requests, free_blocks, max_model_len):
        free, out = (first_sort or list)(free_blocks), []
        for prompt, output in requests:
            asked = RESERVATIONS["Pow2"](prompt, output, max_model_len)
            fitting = [block for block in free if block >= asked]
            if not fitting:
                break
            block = fitting[0] if first_sort else min(fitting)
            free.remove(block)
            halves = []
            while block // 2 >= asked:
                block //= 2
                halves.append(block)
            free += what(halves) if halves else []
            out.append((asked, block))
        return out

    return admit_under_pow2


def that_takes_from_its_list(requests, free_blocks, max_model_len):
    answer = admission()(requests, free_blocks, max_model_len)
    if free_blocks:
        free_blocks.pop()
    return answer


def admission_of_a_shrinking_list(requests, free_blocks, max_model_len):
    free, left, admitted = list(free_blocks), list(requests), []
    while left:
        (prompt_tokens, output_tokens), *left = left
        size = min(prompt_tokens + up(output_tokens), max_model_len)
        block = min((each for each in free if each >= size), default=None)
        if block is None:
            break
        free.remove(block)
        while block // 2 >= size:
            block //= 2
            free.append(block)
        admitted.append((size, block))
    return admitted


def admission_from_the_start_for_each(requests, free_blocks, max_model_len):
    admitted = []
    for place, _ in enumerate(requests, 1):
        again = given.admit_under_pow2(requests[:place], free_blocks, max_model_len)
        if len(again) < place:
            break
        admitted = again
    return admitted


class Pair(NamedTuple):
    asked: int
    piece: int


def in_named_tuples(requests, free_blocks, max_model_len):
    return [Pair(*pair) for pair in on_a_sorted_list(requests, free_blocks, max_model_len)]


def in_another_kind_of_named_tuples(requests, free_blocks, max_model_len):
    kind = namedtuple("Admitted", "asked piece")
    return tuple(map(kind._make, on_a_sorted_list(requests, free_blocks, max_model_len)))


def from_a_set(requests, free_blocks, max_model_len):
    free, out = set(free_blocks), []
    for prompt, output in requests:
        asked = min(prompt + up(output), max_model_len)
        fitting = sorted(block for block in free if block >= asked)
        if not fitting:
            break
        block = fitting[0]
        free.discard(block)
        while block // 2 >= asked:
            block //= 2
            free.add(block)
        out.append((asked, block))
    return out


def from_a_heap(requests, free_blocks, max_model_len):
    heap, out = list(free_blocks), []
    heapq.heapify(heap)
    for prompt, output in requests:
        asked = min(prompt + up(output), max_model_len)
        while heap and heap[0] < asked:
            heapq.heappop(heap)
        if not heap:
            break
        block = heapq.heappop(heap)
        while block // 2 >= asked:
            block //= 2
            heapq.heappush(heap, block)
        out.append((asked, block))
    return out


def from_the_end_of_a_list(requests, free_blocks, max_model_len):
    free, out = sorted(free_blocks, reverse=True), []
    for prompt, output in requests:
        asked = min(prompt + up(output), max_model_len)
        fitting = [block for block in free if block >= asked]
        if not fitting:
            break
        block = fitting[-1]
        free.remove(block)
        while block // 2 >= asked:
            block //= 2
            free.append(block)
        out.append((asked, block))
    return out


def from_a_table(powers):
    def size_of(prompt, output, max_model_len):
        rounded = next(power for power in powers if power >= output)
        return min(prompt + rounded, max_model_len)

    return size_of


def with_one_helper(rounded, is_enough=operator.ge, is_halved=operator.gt):
    """Round the output and the piece by the same helper."""

    def admit_under_pow2(requests, free_blocks, max_model_len):
        free, out = list(free_blocks), []
        for prompt, output in requests:
            asked = min(prompt + rounded(output), max_model_len)
            piece = rounded(asked)
            block = min((each for each in free if is_enough(each, piece)), default=None)
            if block is None:
                return out
            free.remove(block)
            while is_halved(block, piece):
                block //= 2
                free.append(block)
            out.append((asked, piece))
        return out

    return admit_under_pow2


ADMIT_RIGHT = (
    with_one_helper(lambda size: 2 ** math.ceil(math.log2(size))),
    on_a_sorted_list,
    by_counts_of_powers,
    in_named_tuples,
    in_another_kind_of_named_tuples,
)
ADMIT_SLOW = (
    one_request_at_a_time,
    admission_of_a_shrinking_list,
    admission_from_the_start_for_each,
)
ADMIT_WRONG = (
    (admission(lambda p, o, most: p + up(o)), "no limit"),
    (admission(lambda p, o, most: min(up(p + o), most)), "prompt and output rounded together"),
    (
        admission(lambda p, o, most: min(p + 2 ** o.bit_length(), most)),
        "the next power, even of a power",
    ),
    (
        with_one_helper(lambda size: 2 ** size.bit_length()),
        "the next power, even of a power, for output and piece",
    ),
    (admission(takes=max), "the largest block first"),
    (admission(is_enough=lambda half, asked: half > asked), "half must be more than enough"),
    (admission(is_enough=lambda half, asked: 2 * half >= asked), "halved once too often"),
    (
        with_one_helper(up, is_halved=lambda block, piece: block > 2 * piece),
        "halved too little, the piece as it should be",
    ),
    (
        with_one_helper(up, is_enough=lambda block, piece: block > piece),
        "a block must be larger than the piece",
    ),
    (from_a_set, "equal blocks count once"),
    (from_a_heap, "what is too small is gone"),
    (from_the_end_of_a_list, "sorted only once, the largest in front"),
    (admission(from_a_table([2**k for k in range(11)])), SAME),
    (admission(takes=lambda fitting: fitting[0]), "first fit"),
    (admission(lambda p, o, most: p + min(up(o), most)), "the limit for the output alone"),
    (
        admission(lambda p, o, most: p + up(o) if p + up(o) <= most else p + o),
        "not rounded where the limit is near",
    ),
    (keeping(lambda halves: halves[-1:]), "only the last half is kept"),
    (keeping(lambda halves: halves[:1]), "only the largest half is kept"),
    (keeping(lambda halves: halves[-1:] * (sum(halves) // halves[-1])), "the rest in equal pieces"),
    (keeping(lambda halves: halves, first_sort=sorted), "sorted only once"),
    (
        admission(is_enough=lambda half, asked: half >= 1 << asked.bit_length()),
        "half must be more than enough",
    ),
    (admission(ends=False), "overtaking"),
    (admission(is_enough=lambda half, asked: False), "the whole block is the piece"),
    (admission(lambda p, o, most: min(up(p) + up(o), most)), "the prompt rounded, too"),
    (
        admission(lambda p, o, most: min(up(p) + o, most)),
        "the prompt rounded in place of the output",
    ),
    (
        admission(behind=lambda block, asked: [block - asked] * (block > asked)),
        "the slots behind are given back",
    ),
    (admission(takes=lambda fitting: fitting[0], exact=True), "exactly as large, or the first"),
    (keeping(lambda halves: halves[:2]), SAME),
    (keeping(lambda halves: halves[-2:]), SAME),
    (keeping(lambda halves: [*halves, halves[-1]]), SAME),
    (that_takes_from_its_list, SAME),
    (lambda requests, free_blocks, max_model_len: [(11, 16), (2, 2)], SAME),
    (object(), SAME),
)

RIGHT = {
    "1.1": BYTES_RIGHT,
    "1.2": BLOCKS_RIGHT,
    "1.3": SLOTS_RIGHT,
    "1.4": STATIC_RIGHT,
    "1.5a": INTENSITY_RIGHT,
    "1.6b": MENDED_RIGHT,
    "1.7a": ADMIT_RIGHT,
}
WRONG = {
    "1.1": BYTES_WRONG,
    "1.2": BLOCKS_WRONG,
    "1.3": SLOTS_WRONG,
    "1.4": STATIC_WRONG,
    "1.5a": INTENSITY_WRONG,
    "1.6b": MENDED_WRONG,
    "1.7a": ADMIT_WRONG,
}


test_an_unusual_right_answer_earns_everything = right_answers_earn_everything(RIGHT)
test_a_wrong_answer_earns_nothing_and_is_named_only_if_it_is_that = wrong_answers_earn_nothing(
    WRONG
)


@pytest.mark.parametrize(
    ("exercise", "slow", "size"),
    [
        *(("1.3", slow, "20,000 requests") for slow in SLOTS_SLOW),
        ("1.4", that_copies_the_rest, "400,000 requests"),
        *(("1.7a", slow, "50,000 requests") for slow in ADMIT_SLOW),
    ],
)
def test_work_that_grows_with_the_square_of_the_requests_is_too_slow(exercise, slow, size):
    large = lessons.find(exercise).check.large[0]
    case = examine(exercise, slow, timeout=1.1 * large.seconds, max_examples=2).counterexample
    assert case.case.endswith(f"(...) on {size}")
    said = case.complaint.removeprefix("on small inputs it is right")
    is_late = "answer" in case.got
    assert said == (f". {large.slow}" if large.slow and is_late else "")


@pytest.mark.parametrize("exercise", ["1.3", "1.4", "1.7a"])
def test_on_a_large_input_a_right_answer_takes_a_fifth_of_its_time_at_most(exercise):
    check = lessons.find(exercise).check
    right = LocalSubject(check.reference, 60.0)
    for large in check.large:
        call = large.make()
        took = functools.partial(right.call, call.args, call.kwargs)
        assert quiet_seconds(lambda took=took: took().fate.seconds) <= large.seconds / 5


def test_a_natural_attempt_at_the_counts_gets_values_to_compare_and_no_exception():
    for answer, _ in SLOTS_WRONG[:6]:
        assert examine("1.3", answer).counterexample.raised is None


def test_a_case_that_was_chosen_for_what_it_tells_is_not_called_the_smallest():
    labels = {e: examine(e, lambda *args, **kwargs: 0).counterexample.label for e in WRONG}
    telling = {exercise for exercise, label in labels.items() if label == "A failing case"}
    assert telling == {"1.1", "1.2", "1.3", "1.5a"}
    assert {labels[e] for e in WRONG if e not in telling} == {"Smallest failing case found"}


def test_another_way_to_form_batches_fails_on_three_requests():
    case = examine("1.4", every_nth, max_examples=100).counterexample.case
    assert case == "static_batch_utilization([2, 1, 2], 2)"


def test_a_right_answer_may_keep_requests_by_their_id():
    def by_id(reservations, num_slots):
        requests = {each.request_id: each for each in reservations}
        if len(requests) < len(reservations):
            raise KeyError("a request stands there twice")
        return classify_slots(list(requests.values()), num_slots)

    assert examine("1.3", by_id).fraction == 1


@pytest.mark.parametrize("exercise", ["1.1", "1.2", "1.5a"])
def test_a_failing_case_can_be_run_and_a_model_has_a_line_of_its_own(exercise):
    case = examine(exercise, lambda *args, **kwargs: 0).counterexample
    *above, call = case.case.split("\n")
    assert [line.split(" = ")[0] for line in above] == ["model", "gpu"][: len(above)]
    assert len(call) < 120
    reference = lessons.find(exercise).check.reference
    names = {reference.__name__: reference, "MODELS": MODELS, "GPUS": GPUS}
    names |= {"ModelSpec": ModelSpec, "GPUSpec": GPUSpec}
    exec("\n".join(above), names)
    assert repr(eval(call, names)) == case.expected


def test_counts_that_do_not_add_up_are_told_so():
    wrong = faded(lambda r: (r.written, r.reserved - r.written, max(0, r.reserved - r.final)))
    complaint = examine("1.3", wrong).counterexample.complaint
    assert complaint == "later differs; the four counts add to 15, not to 10 slots"


@pytest.mark.parametrize(
    ("answer", "confirmed"),
    [(BYTES_WRONG[2][0], True), (BYTES_WRONG[6][0], False), (BYTES_WRONG[7][0], False)],
)
def test_who_writes_heads_times_their_share_is_not_told_to_have_written_hidden_size(
    answer, confirmed
):
    finding = examine("1.1", answer)
    assert named(finding) == "2 x layers x hidden_size"
    assert finding.confirmed == confirmed


@pytest.mark.parametrize(
    ("answer", "case", "complaint"),
    [
        (
            admission(behind=lambda block, asked: [block - asked] * (block > asked)),
            "admit_under_pow2([(1, 4), (1, 1)], [8], 5)",
            "2 requests are admitted, not 1",
        ),
        (
            keeping(lambda halves: [*halves, halves[-1]]),
            "admit_under_pow2([(1, 1), (1, 1), (1, 1)], [4], 2)",
            "3 requests are admitted, not 2",
        ),
        (
            keeping(lambda halves: halves[-2:]),
            "admit_under_pow2([(1, 1), (1, 3)], [16], 5)",
            "1 request is admitted, not 2",
        ),
        (
            admission(lambda p, o, most: min(up(p) + up(o), most)),
            "admit_under_pow2([(3, 1)], [4], 5)",
            "0 requests are admitted, not 1",
        ),
        (
            admission(is_enough=lambda half, asked: False),
            "admit_under_pow2([(1, 1)], [4], 2)",
            "request 0: its piece differs",
        ),
        (
            from_a_set,
            "admit_under_pow2([(1, 1), (1, 1)], [2, 2], 2)",
            "1 request is admitted, not 2",
        ),
        (
            from_a_heap,
            "admit_under_pow2([(1, 2), (1, 1)], [2, 4], 3)",
            "1 request is admitted, not 2",
        ),
        (
            from_the_end_of_a_list,
            "admit_under_pow2([(1, 2), (1, 1), (1, 2)], [2, 8], 3)",
            "2 requests are admitted, not 3",
        ),
    ],
)
def test_a_wrong_admission_is_shown_on_the_smallest_queue_there_is(answer, case, complaint):
    shown = examine("1.7a", answer).counterexample
    assert (shown.case, shown.complaint) == (case, complaint)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "It is still empty: give a configuration for which the calculator's answer is wrong."),
        (None, "Your configuration is still None: write its value below YOUR CODE HERE."),
    ],
)
def test_who_has_not_begun_the_hunt_is_not_told_where_to_look(answer, says):
    finding = examine("1.6a", answer)
    assert (finding.unwritten, finding.advice) == (True, says)


def test_the_smallest_case_tells_a_forgotten_width_from_a_forgotten_vector():
    case = [examine("1.1", answer).counterexample for answer, _ in BYTES_WRONG[:2]]
    assert case[0].expected == case[1].expected
    assert case[0].got != case[1].got
    assert "dtype_bytes=4" in case[0].case


def test_counts_that_are_no_numbers_are_a_wrong_answer_and_no_error_of_the_check():
    def no_numbers(reservations, num_slots):
        right = classify_slots(reservations, num_slots)
        return replace(right, used=object())

    finding = examine("1.3", no_numbers)
    assert finding.fraction == 0
    assert finding.counterexample.complaint.startswith("used: an object of class object came")


def test_a_scaffold_that_looks_at_the_last_request_only_is_found_out():
    def last_only(reservations, num_slots):
        if any(each.written > min(each.reserved, each.final) for each in reservations[-1:]):
            raise ValueError("written")
        used = sum(each.written for each in reservations)
        later = sum(min(each.reserved, each.final) - each.written for each in reservations)
        internal = sum(max(each.reserved - each.final, 0) for each in reservations)
        if used + later + internal > num_slots:
            raise ValueError("reserved")
        return SlotUse(used, later, internal, num_slots - used - later - internal)

    assert examine("1.3", last_only).fraction == 0


def test_who_puts_equal_blocks_together_at_any_time_hears_of_it():
    def merging(requests, free_blocks, max_model_len):
        free, admitted = list(free_blocks), []
        for prompt_tokens, output_tokens in requests:
            while twice := [block for block in free if free.count(block) > 1]:
                free = [*free, 2 * twice[0]]
                free.remove(twice[0])
                free.remove(twice[0])
            asked = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, max_model_len)
            fitting = [block for block in free if block >= asked]
            if not fitting:
                break
            block = min(fitting)
            free.remove(block)
            while block // 2 >= asked:
                block //= 2
                free.append(block)
            admitted.append((asked, block))
        return admitted

    finding = examine("1.7a", merging)
    assert named(finding) == "free blocks put together"
    assert "two blocks of the same size are not one of twice the size" in str(
        finding.misconception.explanation
    )


# 1.6a


@pytest.mark.parametrize("value", [object(), 5, "config.json", [], dict])
def test_what_is_no_configuration_is_called_by_its_class(value):
    finding = examine("1.6a", value)
    assert finding.fraction == 0
    assert finding.counterexample.complaint == (
        f"a config.json holds an object: give a dict, not {compare.named(type(value))}"
    )


REAL = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "num_attention_heads": 64,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
"""Qwen3-32B's config.json, nearly whole."""


@pytest.mark.parametrize(
    "config",
    [
        REAL,
        {**REAL, "torch_dtype": "float32"},
        {**{key: value for key, value in REAL.items() if key != "torch_dtype"}, "dtype": "float16"},
        {**given.LLAMA_2_7B, "num_key_value_heads": 1},
        {**given.LLAMA_2_7B, "head_dim": 64},
        {**given.LLAMA_2_7B, "head_dim": np.int64(256)},
    ],
)
def test_a_whole_configuration_exposes_the_bug_whatever_else_stands_in_it(config):
    assert examine("1.6a", config).fraction == 1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (given.LLAMA_2_7B, "it says 2,048 tokens per GiB, and that is right"),
        (
            {**given.LLAMA_2_7B, "torch_dtype": "float32"},
            "it says 1,024 tokens per GiB, and that is right",
        ),
        (
            {**given.LLAMA_2_7B, "torch_dtype": "float8_e4m3fn"},
            "the configuration's numbers are float8_e4m3fn; "
            "the calculator is meant for float32, float16, bfloat16",
        ),
        (
            {**given.LLAMA_2_7B, "dtype": "int8"},
            "the configuration's numbers are int8; "
            "the calculator is meant for float32, float16, bfloat16",
        ),
        (
            {**given.LLAMA_2_7B, "kv_heads": 8},
            "'kv_heads' is passed over: in most config.json files the KV heads are "
            "'num_key_value_heads'",
        ),
        *(
            (
                {**given.LLAMA_2_7B, word: 1},
                f"by {word!r} this file says in a way of its own how many KV heads there are",
            )
            for word in ("multi_query", "num_kv_heads", "n_head_kv")
        ),
        (
            {**given.LLAMA_2_7B, "head_size": 64},
            "'head_size' is passed over: in most config.json files the width of a head is "
            "'head_dim'",
        ),
        (
            {**given.LLAMA_2_7B, "torch_dtype": "torch.float32"},
            "it says 2,048 tokens per GiB where 1,024 fit, but only because 'torch_dtype' is "
            "torch.float32 there: a config.json writes float32",
        ),
        (
            {**given.LLAMA_2_7B, "num_key_value_heads": 8, "head_dim": 512},
            "it says 2,048 tokens per GiB: right, because its two mistakes cancel there",
        ),
        ({"hidden_size": 4096}, "this one will not do: the configuration has no"),
        ({**REAL, "kv_lora_rank": 512}, "this one will not do: multi-head latent"),
        (
            {**given.LLAMA_2_7B, "num_key_value_heads": 5},
            "this one will not do: 32 query heads cannot share 5 KV heads evenly",
        ),
        (
            {**given.LLAMA_2_7B, "torch_dtype": None, "dtype": "float32"},
            "it says 2,048 tokens per GiB where 1,024 fit, but only because 'torch_dtype' is not "
            "float32 there",
        ),
        (
            {**given.LLAMA_2_7B, "dtype": "float32"},
            "it says 2,048 tokens per GiB where 1,024 fit, but only because",
        ),
        (
            {"model_type": "llava", "text_config": REAL},
            "the calculator stops with a KeyError: 'num_hidden_layers' is not at the top",
        ),
    ],
)
def test_what_exposes_no_bug_is_told_why_in_true_words(config, says):
    finding = examine("1.6a", config)
    assert finding.fraction == 0
    assert finding.counterexample.complaint.startswith(says)
    assert named(finding) == ("a model that it is right for" if "is right" in says else SAME)


def test_mistakes_do_not_cancel_where_too_many_layers_leave_no_token():
    shape = {"num_hidden_layers": 2**21, "num_key_value_heads": 8, "head_dim": 64}
    finding = examine("1.6a", {**given.LLAMA_2_7B, **shape})
    assert finding.counterexample.complaint == "it says 0 tokens per GiB, and that is right"
    assert named(finding) == SAME


def test_no_reason_is_given_where_it_would_not_be_so():
    finding = examine("1.6a", {**given.LLAMA_2_7B, "hidden_size": 4100})
    assert finding.counterexample.complaint == "it says 2,048 tokens per GiB, and that is right"
    assert named(finding) == SAME


# 1.7a


@pytest.mark.parametrize("mistake", lessons.find("1.7a").check.misconceptions, ids=lambda m: m.name)
def test_a_failing_queue_is_a_small_one(mistake):
    """By brute force the smallest has one to three requests, or four, and blocks of up to 16."""
    case = examine("1.7a", mistake.wrong).counterexample.case
    call = ast.parse(case, mode="eval").body
    requests, free_blocks, max_model_len = map(ast.literal_eval, call.args)
    assert len(requests) <= 4
    assert len(free_blocks) <= 3
    assert max(*free_blocks, max_model_len, *map(max, requests)) <= 16


def test_the_example_of_the_specification_and_of_the_text_is_right():
    example = [(3, 5), (1, 1), (2, 3)]
    assert given.admit_under_pow2(example, [2, 16, 4], 64) == [(11, 16), (2, 2)]
    assert given.admit_under_pow2([(100, 300)], [4096], 2048) == [(612, 1024)]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_are_those_of_the_librarys_allocator(seed):
    rng = np.random.default_rng(seed)
    num_slots = int(rng.integers(1, 5000))
    requests = [(int(p), int(o)) for p, o in rng.integers(1, 300, size=(20, 2))]
    powers = [1 << bit for bit in range(13) if num_slots >> bit & 1]
    allocator, pieces = BuddyAllocator(num_slots), []
    for prompt_tokens, output_tokens in requests:
        asked = RESERVATIONS["Pow2"](prompt_tokens, output_tokens, 600)
        offset = allocator.allocate(asked)
        if offset is None:
            break
        pieces.append((asked, allocator.block_size(offset)))
    assert given.admit_under_pow2(requests, powers, 600) == pieces


# 1.7b


def mean_rounding(name):
    """Return what is rounded up as a mean over all requests of all snapshots."""
    running = [r for each in given.snapshots_under(name) for r in each.reservations]
    return np.mean([up(r.reserved) - r.reserved for r in running]) / given.OPT_13B_SLOTS


def mean_share_of(name, whole):
    """Return what is rounded up as a share of another whole in each snapshot, averaged."""
    shares = []
    for snapshot in given.snapshots_under(name):
        rounding = sum(up(r.reserved) - r.reserved for r in snapshot.reservations)
        shares.append(rounding / max(1, sum(map(whole, snapshot.reservations))))
    return np.mean(shares)


def own_shares(name):
    """Return for each snapshot what every piece has beyond its reservation, as a share of it."""
    return [
        [1 - r.reserved / up(r.reserved) for r in each.reservations]
        for each in given.snapshots_under(name)
        if each.reservations
    ]


def external(name):
    return 1 - given.mean_over_snapshots(name, lambda each: each.reserved)


def test_a_measured_share_may_be_rounded_and_be_a_numpy_number():
    right = given.rounded_shares()
    assert examine("1.7b", {name: round(share, 4) for name, share in right.items()}).fraction == 1
    assert examine("1.7b", {name: np.float64(share) for name, share in right.items()}).fraction == 1
    assert examine("1.7b", dict(reversed(right.items()))).fraction == 1


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (
            lambda right: {"Pow2": right["Oracle"], "Oracle": right["Pow2"]},
            "Pow2 and Oracle exchanged",
        ),
        (lambda right: {name: 100 * share for name, share in right.items()}, "per cent"),
        (
            lambda right: {name: round(100 * share, 1) for name, share in right.items()},
            "per cent, rounded",
        ),
        (lambda right: {name: external(name) for name in right}, "all that is external"),
        (
            lambda right: {name: right[name] / external(name) for name in right},
            "a share of what is external",
        ),
        (lambda right: {name: external(name) - right[name] for name in right}, "the free blocks"),
        (
            lambda right: {
                name: given.mean_over_snapshots(
                    name, lambda each: 2 ** each.reserved.bit_length() - each.reserved
                )
                for name in right
            },
            "the next power, even of a power",
        ),
        (
            lambda right: {name: right[name] / (1 - external(name)) for name in right},
            "a share of the reservations",
        ),
        (
            lambda right: {name: mean_share_of(name, lambda r: r.reserved) for name in right},
            "a share of the reservations, in each snapshot",
        ),
        (
            lambda right: {name: mean_share_of(name, lambda r: up(r.reserved)) for name in right},
            "a share of the pieces",
        ),
        (
            lambda right: {
                name: given.mean_over_snapshots(name, lambda each: up(each.reserved) - each.written)
                for name in right
            },
            "all that is empty in the pieces",
        ),
        (
            lambda right: {name: mean_rounding(name) for name in right},
            "an average over the requests",
        ),
        (
            lambda right: {
                name: sum(
                    up(r.reserved) - r.reserved for r in given.snapshots_under(name)[0].reservations
                )
                / given.OPT_13B_SLOTS
                for name in right
            },
            "the first snapshot only",
        ),
        (
            lambda right: {
                name: given.mean_over_snapshots(name, lambda each: up(each.written) - each.written)
                for name in right
            },
            "what is written, rounded up",
        ),
        (
            lambda right: {
                name: given.mean_over_snapshots(name, lambda each: up(each.reserved) - each.final)
                for name in right
            },
            "all that is never written in the pieces",
        ),
        (
            lambda right: {
                name: given.mean_over_snapshots(name, lambda each: up(each.reserved))
                for name in right
            },
            "all that is handed out",
        ),
        (
            lambda right: {
                name: np.mean([np.mean(each) for each in own_shares(name)]) for name in right
            },
            "a mean over the pieces, in each snapshot",
        ),
        (
            lambda right: {name: np.mean(np.concatenate(own_shares(name))) for name in right},
            "a mean over the pieces",
        ),
        (lambda right: dict.fromkeys(right, right["Pow2"]), SAME),
        (lambda right: {"Pow2": right["Pow2"]}, SAME),
        (lambda right: {name: str(share) for name, share in right.items()}, SAME),
        (lambda right: object(), SAME),
    ],
)
def test_a_wrong_measurement_earns_nothing_and_is_named_only_if_it_is_that(wrong, name):
    finding = examine("1.7b", wrong(given.rounded_shares()))
    assert finding.fraction == 0
    assert named(finding) == name


# What the model answers say


@pytest.mark.parametrize(
    ("shape", "promised", "right"),
    [
        ((3072, 16, 16, 256, 28), 3120, 2340),  # Gemma-7B
        ((5120, 64, 8, 128, 64), 819, 4096),  # Qwen3-32B
    ],
)
def test_the_figures_of_the_answer_to_the_bug_hunt_are_what_the_suspect_says(
    shape, promised, right
):
    hidden, heads, kv_heads, head_dim, layers = shape
    config = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "num_hidden_layers": layers,
    }
    assert given.suspect_tokens_that_fit(config, GiB) == promised
    assert given.tokens_that_fit(config, GiB) == right


def test_a_head_may_be_narrower_or_wider_than_its_share_of_the_hidden_size():
    nemo, qwen = MODELS["mistral-nemo"], MODELS["qwen3-32b"]
    assert (nemo.hidden_size // nemo.num_attention_heads, nemo.head_dim) == (160, 128)
    assert (qwen.hidden_size // qwen.num_attention_heads, qwen.head_dim) == (80, 128)


@pytest.mark.parametrize("load", [load_azure, synthetic_azure])
def test_the_figures_of_the_model_answer_hold_on_real_and_on_synthetic_traces(load):
    requests = [r for r in load("conversation")[:500] if r.prompt_tokens + r.output_tokens <= 2048]
    moments = list(replay_contiguous(requests, 15_728, RESERVATIONS["Oracle"], 2048))
    oracle = average_shares(moments)
    behind = sum(up(r.reserved) - r.reserved for m in moments for r in m.reservations)
    rounded = behind / len(moments) / 15_728
    assert 0.08 <= oracle["later"] <= 0.10
    assert 0.23 <= rounded <= 0.27, "about a quarter of all slots"
    first_fit = replay_contiguous(requests, 15_728, RESERVATIONS["Oracle"], 2048, FirstFitAllocator)
    assert round(average_shares(first_fit)["external"], 2) == 0.17
    assert 0.075 <= oracle["external"] - rounded <= 0.085, "about 8%"
    paged = average_shares(replay_paged(requests, 15_728))
    assert round(paged["later"], 3) == 0.006
    assert 0.0001 <= paged["internal"] <= 0.0002
    assert 0.03 <= paged["external"] <= 0.04


# The figures of the quiz and of the interview


def right_choice(question_id):
    (question,) = (each for each in bank(1).quiz if each.id == question_id)
    return next(choice for choice in question.choices if choice.correct)


def test_the_figures_of_the_quiz_are_what_the_library_works_out():
    forty = ModelSpec("q1", 40, 5120, 40, 8, 128, num_params=1)
    assert right_choice("q1").text == f"{kv_bytes_per_token(forty) // 1024} KiB"
    llama = MODELS["llama-2-7b"]
    keys_and_values = 2 * llama.num_layers * llama.hidden_size * llama.num_kv_heads * llama.head_dim
    assert keys_and_values / llama.num_params == pytest.approx(1 / 6, rel=0.05)
    assert 0.75 * keys_and_values / llama.num_params == pytest.approx(1 / 8, rel=0.05)
    assert "eighth" in right_choice("q2").text
    busy = [round(100 * expected_static_utilization(size)) for size in (8, 32)]
    assert right_choice("q8").text == f"It falls, from about {busy[0]}% to about {busy[1]}%."
    ((_, piece),) = given.admit_under_pow2([(60, 150)], [4096], 2048)
    assert right_choice("q9").text == f"{piece:,}"
    assert right_choice("q10").text == f"{0.9 * 24 - 15 - 1:.1f} GiB"


def test_the_figure_of_the_interview_is_what_the_library_works_out():
    blocks = num_kv_blocks(MODELS["llama-3.1-8b"], GPUS["a100-80gb"], 16, 0.92)
    fitting = max_concurrent_sequences(blocks, 16, 4096)
    answers = bank(1).interview[0].strong_answer
    assert any(f"room for about {fitting} at 0.92 of 80 GiB" in answer for answer in answers)


def test_the_core_takes_two_hours_and_the_open_exercise_earns_the_most():
    graded = [exercise for exercise in lessons.exercises(1) if exercise.points]
    core = [exercise for exercise in graded if "(stretch)" not in exercise.title]
    texts = 15  # minutes for the two written answers
    assert 120 <= sum(exercise.minutes for exercise in core) + texts <= 140
    assert sum(exercise.points for exercise in core) >= 70
    assert max(graded, key=lambda exercise: exercise.points).id == "1.7a"
