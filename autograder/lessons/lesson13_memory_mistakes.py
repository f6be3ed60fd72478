"""The final project: what is got wrong about memory."""

from __future__ import annotations

from collections.abc import Iterable

from autograder.checks.finding import Misconception
from course_lib.engine.memory_tracker import NOBODY, MemoryReport, MemoryTracker
from course_lib.kv_cache.manager import KVCacheManager


class SumsTables(MemoryTracker):
    """Add up what each holds."""

    @property
    def in_use(self) -> int:
        """Bytes of all tables together."""
        return sum(self.by_owner().values())


class SharesByOwner(MemoryTracker):
    """Give a shared block to the one that had it first."""

    def by_owner(self) -> dict[str, int]:
        """Return the bytes of each, a block counted for its first holder."""
        seen: set[int] = set()
        held = {}
        for owner, table in self.manager.block_tables().items():
            new = {block.block_id for block in table} - seen
            seen |= new
            held[owner] = len(new) * self.bytes_per_block
        return held


class MarkFalls(MemoryTracker):
    """Keep what was in use last."""

    def observe(self) -> None:
        """Take what is in use for the mark."""
        self.high_water = self.in_use


class NotFreeIsLeaked(MemoryTracker):
    """Call a leak whatever is held."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report all that is held as leaked."""
        said = super().report(live)
        return said._replace(leaked=super().report([]).leaked)


class OwnersAlone(MemoryTracker):
    """Pass over blocks that are in no table."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report without what nobody holds."""
        said = super().report(live)
        return said._replace(leaked={k: v for k, v in said.leaked.items() if k != NOBODY})


class NobodyAlone(MemoryTracker):
    """Pass over requests that are gone and still hold blocks."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report only what nobody holds."""
        said = super().report(live)
        return said._replace(leaked={k: v for k, v in said.leaked.items() if k == NOBODY})


class ClaimsAreInUse(MemoryTracker):
    """Count what has a holder, in a table or not."""

    @property
    def in_use(self) -> int:
        """Bytes of all blocks that are not free."""
        held = [block for block in self.manager.block_pool.blocks if block.ref_cnt > 0]
        return len(held) * self.bytes_per_block


class CachedIsInUse(MemoryTracker):
    """Count what is cached and free."""

    @property
    def in_use(self) -> int:
        """Bytes of blocks that are held or can be found."""
        blocks = self.manager.block_pool.blocks
        count = sum(block.ref_cnt > 0 or block.block_hash is not None for block in blocks)
        return count * self.bytes_per_block


class SharedForEach(MemoryTracker):
    """Count a shared block for each further holder."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report what sharing saves."""
        said = super().report(live)
        return said._replace(shared=sum(self.by_owner().values()) - self.in_use)


class SharedByCount(MemoryTracker):
    """Take the count of references for the number of holders."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report as shared whatever is counted twice."""
        shared = sum(block.ref_cnt > 1 for block in self.manager.block_pool.blocks)
        return super().report(live)._replace(shared=shared * self.bytes_per_block)


class LooksOnce(MemoryTracker):
    """Go through the live ones anew for each owner."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Ask an iterator again and again whether a name is in it."""
        said = super().report(())
        theirs = self.by_owner()
        leaked = {name: size for name, size in theirs.items() if name not in live}
        nobodys = {name: size for name, size in said.leaked.items() if name not in theirs}
        return said._replace(leaked=leaked | nobodys)


class ReportObserves(MemoryTracker):
    """Move the mark whenever a report is made."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Observe, then report."""
        self.observe()
        return super().report(live)


class InBlocks(MemoryTracker):
    """Count blocks where bytes are asked for."""

    def by_owner(self) -> dict[str, int]:
        """Return the blocks of each."""
        return {owner: len(table) for owner, table in self.manager.block_tables().items()}


class AsInTheExample(MemoryTracker):
    """Take the bytes of the example for those of every block."""

    def __init__(self, manager: KVCacheManager, bytes_per_block: int) -> None:
        super().__init__(manager, 100)


class FreeHasLeaked(MemoryTracker):
    """Call a leak whatever is in no table."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report all blocks that are in no table as leaked."""
        said = super().report(live)
        tables = self.manager.block_tables().values()
        held = {block.block_id for table in tables for block in table}
        others = (len(self.manager.block_pool.blocks) - len(held)) * self.bytes_per_block
        return said._replace(leaked={**said.leaked, NOBODY: others})


class NobodyAlways(MemoryTracker):
    """Name nobody even if nobody holds anything."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report how much nobody holds, also where it is nothing."""
        said = super().report(live)
        return said._replace(leaked={NOBODY: 0, **said.leaked})


class LiveInOneText(MemoryTracker):
    """Look for a name in the names of the live ones, written in one line."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report without those whose name is found in that line."""
        line = " ".join(live)
        return super().report([name for name in self.by_owner() if name in line])


class LiveAlike(MemoryTracker):
    """Take names for the same that begin alike."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report without those whose name begins like one that is live."""
        begin = tuple(live)
        return super().report([name for name in self.by_owner() if name.startswith(begin)])


class NobodyByClaims(MemoryTracker):
    """Count a block that nobody holds as often as it was claimed."""

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report the claims of all blocks that are in no table."""
        said = super().report(live)
        held = {each.block_id for table in self.manager.block_tables().values() for each in table}
        others = (each for each in self.manager.block_pool.blocks if each.block_id not in held)
        if claims := sum(each.ref_cnt for each in others):
            said.leaked[NOBODY] = claims * self.bytes_per_block
        return said


class MarkBeginsInUse(MemoryTracker):
    """Begin the mark with what is in use."""

    def __init__(self, manager: KVCacheManager, bytes_per_block: int) -> None:
        super().__init__(manager, bytes_per_block)
        self.high_water = self.in_use


class OneDictForAll(MemoryTracker):
    """Hand the same dict out each time, with other bytes in it."""

    def __init__(self, manager: KVCacheManager, bytes_per_block: int) -> None:
        super().__init__(manager, bytes_per_block)
        self._owners: dict[str, int] = {}

    def by_owner(self) -> dict[str, int]:
        """Return the dict of all times, filled anew."""
        self._owners.clear()
        self._owners.update(super().by_owner())
        return self._owners


class OneReportForAll(MemoryTracker):
    """Hand the same dict of leaks out with each report."""

    def __init__(self, manager: KVCacheManager, bytes_per_block: int) -> None:
        super().__init__(manager, bytes_per_block)
        self._leaked: dict[str, int] = {}

    def report(self, live: Iterable[str]) -> MemoryReport:
        """Report in the dict of all times."""
        said = super().report(live)
        self._leaked.clear()
        self._leaked.update(said.leaked)
        return said._replace(leaked=self._leaked)


TRACKER = (
    Misconception(
        "adds up the tables",
        "A block that two requests share is in both tables and in memory once: `in_use` counts "
        "blocks, not entries.",
        SumsTables,
    ),
    Misconception(
        "a shared block has one owner",
        "Whoever has a block in its table holds it. If the first one goes, the block stays, for "
        "the second.",
        SharesByOwner,
    ),
    Misconception(
        "a mark that falls",
        "The high-water mark is the most that ever was in use: it stays when the water goes.",
        MarkFalls,
    ),
    Misconception(
        "a mark that nobody observed",
        "The mark is the most that was in use whenever `observe` was called: until then it is 0, "
        "whatever is in use.",
        MarkBeginsInUse,
    ),
    Misconception(
        "one dict of owners for all times",
        "Whoever keeps what `by_owner` returned keeps a record of that moment: each call returns a "
        "dict of its own.",
        OneDictForAll,
    ),
    Misconception(
        "one dict of leaks for all times",
        "A report says how the memory stood when it was made: `leaked` of an earlier one must not "
        "change with the next.",
        OneReportForAll,
    ),
    Misconception(
        "what is held has leaked",
        "Requests that are live may hold blocks. A leak is what somebody holds who is not, or "
        "nobody.",
        NotFreeIsLeaked,
    ),
    Misconception(
        "leaks have owners",
        "A block can be held and be in no table: its request was forgotten before its blocks were "
        "given back.",
        OwnersAlone,
    ),
    Misconception(
        "leaks have no owners",
        "A request that is gone can still be in a table: then it is its blocks that have leaked.",
        NobodyAlone,
    ),
    Misconception(
        "what is free has leaked",
        "Most blocks that are in no table are free, and the null block is nobody's. Leaked is one "
        "that is held (`ref_cnt` above 0) and in no table.",
        FreeHasLeaked,
    ),
    Misconception(
        "a leak of nothing",
        "`leaked` names who holds what should not be held: where that is nothing, it names nobody.",
        NobodyAlways,
    ),
    Misconception(
        "what nobody holds is in use",
        "`in_use` counts what stands in the tables. A block that is held and stands in none has "
        "leaked: `leaked` names it.",
        ClaimsAreInUse,
    ),
    Misconception(
        "cached is in use",
        "A block that is free and can still be found is nobody's: whoever needs a block gets it.",
        CachedIsInUse,
    ),
    Misconception(
        "shared counted for each",
        "`shared` are the bytes of the shared blocks themselves, each once, and not what sharing "
        "saves.",
        SharedForEach,
    ),
    Misconception(
        "shared by the count",
        "`ref_cnt` says how often a block was claimed, and a claim that was never given back is "
        "no holder. `shared` are the blocks that stand in more than one table.",
        SharedByCount,
    ),
    Misconception(
        "the live ones are gone through once",
        "`live` is an iterable, and an iterator is empty after one pass: make a set of it first.",
        LooksOnce,
    ),
    Misconception(
        "names in one text",
        "`name in` a text finds a name inside a longer one. `live` is names: make a set of it.",
        LiveInOneText,
    ),
    Misconception(
        "names that begin alike",
        "A request is live if its whole name is among the live ones: another's may begin with it.",
        LiveAlike,
    ),
    Misconception(
        "a leak for each claim",
        "`ref_cnt` above 0 says that a block is held. However often it was claimed, it is in "
        "memory once.",
        NobodyByClaims,
    ),
    Misconception(
        "a report that observes",
        "`observe` moves the mark and is called after each step. A report looks and changes "
        "nothing.",
        ReportObserves,
    ),
    Misconception(
        "blocks for bytes",
        "Each block has `bytes_per_block` bytes, and bytes are asked for.",
        InBlocks,
    ),
    Misconception(
        "the bytes of the example",
        "Each model and block size has its own `bytes_per_block`: it is given when the tracker is "
        "made.",
        AsInTheExample,
    ),
)
