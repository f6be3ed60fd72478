"""Lesson 7: managers that leak or do not, and what may be counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.function import Call
from autograder.checks.stateful import Life, Twin
from autograder.proxy.recipes import At, Make
from course_lib.kv_cache.manager import KVCacheManager, PlainRequest, RequestBlocks

# 7.6, who leaks

_NAMES = ("r1", "r10", "r")


def request(name: str, num_tokens: int) -> Make:
    """Return a request; blocks have 2 tokens."""
    return Make(PlainRequest, name, list(range(num_tokens)))


def manager_of(
    lengths: dict[str, int],
    forked: Sequence[tuple[str, str]] = (),
    extra: Sequence[int] = (),
    ended: Sequence[str] = (),
) -> Make:
    """Return a manager whose requests hold blocks.

    Args:
        lengths: Tokens of each request, by name.
        forked: Pairs (parent, child) of requests that share all blocks.
        extra: Blocks that have a holder more than tables say.
        ended: Requests that have given their blocks back.
    """
    requests = {name: request(name, length) for name, length in lengths.items()}
    made = Make(KVCacheManager, 14, 2)
    for name, length in lengths.items():
        if name not in [child for _, child in forked]:
            made = made.do("allocate_slots", requests[name], length)
    for parent, child in forked:
        made = made.do("fork", requests[parent], requests[child])
    for block_id in extra:
        made = made.do("block_pool.touch", [At(f"block_pool.blocks.{block_id}")])
    for name in ended:
        made = made.do("free", requests[name])
    return made


@st.composite
def leaking(draw: Any) -> Call:
    """Return a manager, and which of its requests are alive."""
    names = draw(st.permutations(_NAMES))[: draw(st.integers(0, 3))]
    lengths = {name: draw(st.integers(1, 5)) for name in names}
    ended = [name for name in names if draw(st.sampled_from((False, False, True)))]
    extra = draw(st.lists(st.integers(1, 9), max_size=2))
    live = draw(st.lists(st.sampled_from((*_NAMES, "z", "1")), unique=True, max_size=3))
    form = draw(st.sampled_from((list, list, tuple, iter)))
    given = live if form is list else tuple(live) if form is tuple else Make(iter, live)
    return Call(manager_of(lengths, extra=extra, ended=ended), given)


_REUSED = (
    Make(KVCacheManager, 4, 2)
    .do("allocate_slots", request("x", 3), 3)
    .do("free", request("x", 3))
    .do("allocate_slots", request("a", 5), 5)
)
"""A manager whose request has the table ``2 3 1``: its blocks were somebody else's before."""

_LOST_IN_ANOTHER_ORDER = _REUSED.do(
    "block_pool.touch", [At(f"block_pool.blocks.{block_id}") for block_id in (2, 1)]
)
"""The same, and blocks 1 and 2 have a holder more: by their ids, and not as in the table."""

_NAMED_TWICE = Make(KVCacheManager, 14, 2).do(
    "admit",
    Make(RequestBlocks, request("a", 5)),
    [At("block_pool.blocks.1"), At("block_pool.blocks.1")],
)
"""A manager whose request has the table ``1 1``, and a count of 2 that says so."""

LEAKS = (
    Call(manager_of({"a": 1}), ["a"]),
    Call(manager_of({"a": 1}), Make(iter, ["a"])),
    Call(manager_of({"a": 3, "b": 2}), ["b"]),
    Call(manager_of({"a": 4, "b": 4}, forked=[("a", "b")]), ["b"]),
    Call(manager_of({"a": 1, "b": 1}, forked=[("a", "b")]), []),
    Call(manager_of({"b": 3}, extra=[3, 3]), ["b"]),
    Call(manager_of({"c": 2, "a": 3, "b": 1}, extra=[5]), ["b"]),
    Call(manager_of({}, extra=[1, 2, 1]), []),
    Call(manager_of({"nobody": 1}, extra=[2]), []),
    Call(manager_of({"a": 4}, ended=["a"]), []),
    Call(manager_of({"a": 4}), Make(iter, ["a", "z"])),
    Call(manager_of({"a": 2, "b": 2}), Make(iter, ["b", "a"])),
    Call(manager_of({"a": 4, "b": 4}, forked=[("a", "b")], extra=[1]), ["a"]),
    Call(manager_of({"r1": 2}), ["r10"]),
    Call(manager_of({"r10": 2}), ["r1"]),
    Call(manager_of({"r1": 2}), ["r", "1"]),
    Call(manager_of({"b": 1}, extra=[13]), ["b"]),
    Call(_REUSED, []),
    Call(_REUSED, ["a"]),
    Call(_LOST_IN_ANOTHER_ORDER, ["a"]),
    Call(_NAMED_TWICE, []),
    Call(_NAMED_TWICE, ["a"]),
    Call(manager_of({"a": 2}).set("block_pool.blocks.1.ref_cnt", 0), ["a"]),
    Call(manager_of({"a": 2}, extra=[2]).set("block_pool.blocks.1.ref_cnt", 0), ["a"]),
)


def typed(call: Call) -> str:
    """Return the lines that make a manager, and the call, as one would type them.

    >>> print(typed(LEAKS[2]))
    manager = KVCacheManager(14, 2)
    manager.allocate_slots(PlainRequest('a', [0, 1, 2]), 3)
    manager.allocate_slots(PlainRequest('b', [0, 1]), 2)
    find_leaks(manager, ['b'])
    """
    made, live = call.args
    lines = [f"manager = {made.target.short}({', '.join(map(repr, made.args))})"]
    for step in made.steps:
        place = repr(At(step.path))
        if step.args is None:
            lines.append(f"{place} = {step.value!r}")
        else:
            lines.append(f"{place}({', '.join(map(repr, step.args))})")
    lines.append(f"find_leaks(manager, {live!r})")
    return "\n".join(re.sub(r"\bobj\.", "manager.", line) for line in lines)


# 7.7, the counters


class MetricsLife(Twin):
    """What may be counted."""

    is_free = True

    @initialize(num_blocks=st.sampled_from((11, 8, 3, 2, 1)))
    def start(self, num_blocks: int) -> None:
        """Make the counters."""
        self.create(num_blocks)
        self.look()

    def look(self) -> None:
        """Read what a dashboard shows."""
        for attribute in ("hit_rate", "usage", "high_water", "evictions"):
            self.see(attribute)

    @rule(
        num_tokens=st.integers(0, 9),
        num_hits=st.integers(-1, 9),
        is_preempted=st.sampled_from((False, False, True)),
    )
    def record_lookup(self, num_tokens: int, num_hits: int, is_preempted: bool) -> None:
        """Count a lookup, or find that it cannot be."""
        if is_preempted and num_tokens % 2:
            self.do("record_lookup", num_tokens, num_hits, True)
        elif is_preempted:
            self.do("record_lookup", num_tokens, num_hits, is_preempted=True)
        else:
            self.do("record_lookup", num_tokens, num_hits)
        self.look()
        self.see("preempted_hit_tokens")
        self.see("preempted_queried_tokens")

    @rule(num_used=st.integers(-1, 11), num_evicted=st.integers(-1, 3))
    def record_usage(self, num_used: int, num_evicted: int) -> None:
        """Take note of usage, or find that it cannot be."""
        self.do("record_usage", num_used, num_evicted)
        self.look()


def _counted(life: Life) -> None:
    for attribute in ("hit_rate", "usage", "high_water", "evictions"):
        life.see(attribute)


def lookups(life: Life) -> None:
    """Look up two new requests and one that comes back."""
    life.create(11)
    _counted(life)
    life.do("record_lookup", 4, 2)
    life.do("record_lookup", 8, 1)
    _counted(life)
    life.do("record_lookup", 4, 3, is_preempted=True)
    _counted(life)
    life.see("preempted_hit_tokens")
    life.see("preempted_queried_tokens")
    life.do("record_lookup", 5, 5)
    _counted(life)


def usages(life: Life) -> None:
    """Let usage rise and fall."""
    life.create(11)
    life.do("record_usage", 7, 2)
    _counted(life)
    life.do("record_usage", 4)
    _counted(life)
    life.do("record_usage", 10, 3)
    _counted(life)
    life.do("record_usage", 0, 1)
    _counted(life)


def the_smallest(life: Life) -> None:
    """A cache of nothing but the null block."""
    life.create(1)
    life.do("record_usage", 0)
    _counted(life)


def of_one_block(life: Life) -> None:
    """A cache of one block, which is used."""
    life.create(2)
    life.do("record_usage", 1)
    _counted(life)


def of_seven_blocks(life: Life) -> None:
    """A cache whose shares are not of two digits; a request that came back is told by place."""
    life.create(8)
    life.do("record_usage", 1)
    _counted(life)
    life.do("record_lookup", 7, 3, True)
    _counted(life)
    life.see("preempted_hit_tokens")
    life.do("record_lookup", 7, 3)
    _counted(life)


def miscounted(life: Life) -> None:
    """Refuse what cannot be, and count nothing of it."""
    life.create(11)
    for tokens, hits in ((0, 0), (3, 4), (3, -1)):
        life.do("record_lookup", tokens, hits)
        _counted(life)
    life.do("record_lookup", 3, 4, is_preempted=True)
    life.see("preempted_hit_tokens")
    life.see("preempted_queried_tokens")
    for used, evicted in ((11, 0), (-1, 0), (2, -1)):
        life.do("record_usage", used, evicted)
        _counted(life)


def returns_miscounted(life: Life) -> None:
    """Refuse the same of requests that come back."""
    life.create(1)
    for tokens, hits in ((0, 0), (1, 2), (1, -1)):
        life.do("record_lookup", tokens, hits, True)
        life.see("preempted_hit_tokens")
        life.see("preempted_queried_tokens")


METRICS_PROBES = (
    lookups,
    usages,
    the_smallest,
    of_one_block,
    of_seven_blocks,
    miscounted,
    returns_miscounted,
)
