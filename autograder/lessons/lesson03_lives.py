"""Lesson 3: what its checks do to block tables that learners wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from autograder.checks.stateful import Life, Twin
from autograder.proxy.recipes import Make
from course_lib.kv_cache.block_table import BlockTable
from course_lib.kv_cache.watch.call_costs import slot_copies_blocks

# 3.2, one table


class SlotLife(Twin):
    """What may be asked of a block table."""

    is_free = True

    @initialize(
        block_size=st.sampled_from((4, 1, 2, 3)),
        ids=st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True),
    )
    def start(self, block_size: int, ids: list[int]) -> None:
        """Make a table of one to three blocks."""
        self.create(block_size)
        self.do("append", ids)

    @rule(position=st.integers(0, 16) | st.integers(-3, -1))
    def slot(self, position: int) -> None:
        """Ask for a slot, of a position that has one or has none; the table stays as it is."""
        self.do("slot", position)
        self.see("block_ids")

    @rule(block_id=st.integers(0, 99))
    def append(self, block_id: int) -> None:
        """Add a block."""
        self.do("append", [block_id])


def two_blocks(life: Life) -> None:
    """Ask for all slots of two blocks."""
    life.create(4)
    life.do("append", [9, 2])
    for position in range(8):
        life.do("slot", position)


def outside(life: Life) -> None:
    """Ask for what a table has no slot for."""
    life.create(4)
    life.do("append", [9, 2])
    for position in (-1, 8, -5, 9):
        life.do("slot", position)


def before_the_first(life: Life) -> None:
    """Ask a table of one slot for what is in front of it."""
    life.create(1)
    life.do("append", [0])
    life.do("slot", -1)


def far_before_the_first(life: Life) -> None:
    """Ask for more than a whole block in front of a table."""
    life.create(1)
    life.do("append", [0])
    life.do("slot", -2)


def nothing_yet(life: Life) -> None:
    """Ask an empty table."""
    life.create(4)
    life.do("slot", 0)


def two_small_blocks(life: Life) -> None:
    """Ask for one slot of blocks of two."""
    life.create(2)
    life.do("append", [9, 2])
    life.do("slot", 1)


def asked_again(life: Life) -> None:
    """Ask for a slot, then look at the table."""
    life.create(1)
    life.do("append", [1])
    life.do("slot", 0)
    life.see("block_ids")


def beyond_32_bits(life: Life) -> None:
    """Ask for a slot of a block that begins behind 2³¹."""
    life.create(16)
    life.do("append", [2**28])
    life.do("slot", 1)


def beyond_53_bits(life: Life) -> None:
    """Ask for a slot that no float holds."""
    life.create(1)
    life.do("append", [2**53 + 1])
    life.do("slot", 0)


def copied(life: Life) -> None:
    """Ask a table of 10,000 blocks for a slot; that a call copies them is seen by its memory."""
    life.create(16)
    life.apply(slot_copies_blocks)


def long_table(life: Life) -> None:
    """Ask for slots all over a table of 50,000 blocks: to walk through it takes as long as that.

    So often that this shows beside the one call that fills the table.
    """
    life.create(16)
    life.do("append", list(range(50_000)))
    for position in range(799_999, 0, -5_000):
        life.do("slot", position)


class AppendLife(Twin):
    """What may be added to a block table."""

    is_free = True

    @initialize(block_size=st.integers(1, 5))
    def start(self, block_size: int) -> None:
        """Make an empty table."""
        self.create(block_size)

    @rule(ids=st.lists(st.integers(0, 99), max_size=3))
    def append(self, ids: list[int]) -> None:
        """Add some blocks, which may be none."""
        self.do("append", ids)
        self.see("block_ids")

    @rule(ids=st.lists(st.integers(0, 99), max_size=3))
    def append_once(self, ids: list[int]) -> None:
        """Add blocks that can be asked for once only."""
        self.do("append", Make(iter, ids))
        self.see("block_ids")

    @rule(
        before=st.lists(st.integers(0, 99), max_size=2),
        wrong=st.sampled_from((-1, -7, 2.5, 2.0, "3", 2**63)),
        behind=st.lists(st.integers(0, 99), max_size=2),
    )
    def append_wrong(self, before: list[int], wrong: Any, behind: list[int]) -> None:
        """Add what is refused, among blocks that are not."""
        self.do("append", [*before, wrong, *behind])
        self.see("block_ids")


def twice(life: Life) -> None:
    """Add blocks, then more, the null block among them."""
    life.create(4)
    for ids in ([9], [2, 5], [], [0]):
        life.do("append", ids)
        life.see("block_ids")


def once(life: Life) -> None:
    """Add blocks that can be asked for once only."""
    life.create(4)
    life.do("append", Make(iter, [9]))
    life.see("block_ids")


def the_same_twice(life: Life) -> None:
    """Add a block, and the same once more: whether that may be is not the table's question."""
    life.create(1)
    life.do("append", [0, 0])
    life.see("block_ids")


def far_block(life: Life) -> None:
    """Add the first block whose id takes more than 32 bits."""
    life.create(1)
    life.do("append", [2**31])
    life.see("block_ids")


def farthest_block(life: Life) -> None:
    """Add the largest id that fits into 64 bits."""
    life.create(1)
    life.do("append", [2**63 - 1])
    life.see("block_ids")


def half_in_64_bits(life: Life) -> None:
    """Add ids of which the last takes more than 64 bits."""
    life.create(1)
    life.do("append", [0, 2**63])
    life.see("block_ids")


def whole_numbers_of_numpy(life: Life) -> None:
    """Add an id that is NumPy's, which is of a type of whole numbers as well."""
    life.create(1)
    life.do("append", Make(list, np.array([1])))
    life.see("block_ids")


def an_array(life: Life) -> None:
    """Add the ids of another table's array, one more, and those of that array again."""
    life.create(1)
    first = life.make(Make(getattr, Make(BlockTable, 1).do("append", [1]), "ids"))
    life.do("append", first)
    life.do("append", [2])
    life.do("append", first)
    life.see("block_ids")


def half_negative(life: Life) -> None:
    """Add ids of which the last is negative."""
    life.create(4)
    life.do("append", [0, -1])
    life.see("block_ids")


def half_whole(life: Life) -> None:
    """Add ids of which the last is not whole."""
    life.create(4)
    life.do("append", [0, 2.5])
    life.see("block_ids")


def as_float(life: Life) -> None:
    """Add an id that is a float, if one without a fraction."""
    life.create(4)
    life.do("append", [2.0])


def refused(life: Life) -> None:
    """Add ids of which one is negative, wherever it is, then ids of which one is not whole."""
    life.create(4)
    life.do("append", [9])
    for ids in ([-1], [3, -1], [-1, 3], [1, -2, 3], [4, 2.5], [6]):
        life.do("append", ids)
        life.see("block_ids")


def many_blocks(life: Life) -> None:
    """Add 100,000 blocks at once."""
    life.create(16)
    life.do("append", list(range(100_000)))
    life.see("num_slots")
