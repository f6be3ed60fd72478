"""Lesson 4: known wrong answers about holes: which is chosen, how they merge, how scattered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from autograder.checks.finding import Misconception
from autograder.lessons import lesson04_given as given
from course_lib.kv_cache.allocators import (
    Allocator,
    BestFitAllocator,
    FitAllocator,
    Span,
    WorstFitAllocator,
)

# 4.1

TRACE = (
    Misconception(
        "holes that touch stay apart",
        "A block that is freed becomes one hole with the holes beside it, and the next request may "
        "have all of it.",
        given.strips_under(given.NeverCoalesces),
    ),
    Misconception(
        "best fit",
        "First fit takes the lowest hole that is large enough, even if a smaller one would do.",
        given.strips_under(BestFitAllocator),
    ),
    Misconception(
        "worst fit",
        "First fit takes the lowest hole that is large enough, not the largest.",
        given.strips_under(WorstFitAllocator),
    ),
    Misconception(
        "cut from the end",
        "A block is cut from the front of its hole, so that what is left of the hole lies behind "
        "it.",
        given.strips_under(given.FromTheEnd),
    ),
    Misconception(
        "scattered over holes",
        "The slots of a block are neighbours: a request that fits in no one hole fails, even if "
        "all dots together would be enough.",
        given.strips_scattered,
    ),
)

# 4.2


def largest_hole(self: FitAllocator, size: int) -> Span | None:
    """Choose as worst fit does."""
    fitting = [hole for hole in self.sorted_holes if hole.size >= size]
    return max(fitting, key=lambda hole: (hole.size, -hole.offset), default=None)


def lowest_hole(self: FitAllocator, size: int) -> Span | None:
    """Choose as first fit does."""
    return next((hole for hole in self.sorted_holes if hole.size >= size), None)


def never_the_exact_one(self: FitAllocator, size: int) -> Span | None:
    """Want something to be left over."""
    fitting = [hole for hole in self.sorted_holes if hole.size > size]
    return min(fitting, key=lambda hole: (hole.size, hole.offset), default=None)


def last_of_equals(self: FitAllocator, size: int) -> Span | None:
    """Choose the highest offset of equal holes."""
    fitting = [hole for hole in self.sorted_holes if hole.size >= size]
    return min(fitting, key=lambda hole: (hole.size, -hole.offset), default=None)


def smallest_of_all(self: FitAllocator, size: int) -> Span | None:
    """Choose the smallest hole, and see afterwards whether it is large enough."""
    smallest = min(self.sorted_holes, key=lambda hole: hole.size, default=None)
    return smallest if smallest is not None and smallest.size >= size else None


def smallest_of_any(self: FitAllocator, size: int) -> Span | None:
    """Choose the smallest hole likewise, and let `min` raise where memory is full."""
    smallest = min(self.sorted_holes, key=lambda hole: hole.size)
    return smallest if smallest.size >= size else None


def nearest_in_size(self: FitAllocator, size: int) -> Span | None:
    """Choose the hole whose size is nearest, and see afterwards whether it is large enough."""
    nearest = min(self.sorted_holes, key=lambda hole: abs(hole.size - size), default=None)
    return nearest if nearest is not None and nearest.size >= size else None


def as_texts(self: FitAllocator, size: int) -> Span | None:
    """Compare sizes as texts, by which 10 comes before 9."""
    fitting = [hole for hole in self.sorted_holes if hole.size >= size]
    return min(fitting, key=lambda hole: (str(hole.size), hole.offset), default=None)


def smallest_large_enough_or_not(self: FitAllocator, size: int) -> Span | None:
    """Choose the smallest hole there is, whatever is asked for."""
    return min(self.sorted_holes, key=lambda hole: (hole.size, hole.offset))


def min_of_nothing(self: FitAllocator, size: int) -> Span | None:
    """Choose well where a hole fits, and let `min` raise where none does."""
    fitting = [hole for hole in self.sorted_holes if hole.size >= size]
    return min(fitting, key=lambda hole: (hole.size, hole.offset))


def exact_else_first(self: FitAllocator, size: int) -> Span | None:
    """Look for a hole of just the size, and take the lowest that is large enough otherwise."""
    fitting = [hole for hole in self.sorted_holes if hole.size >= size]
    exact = [hole for hole in fitting if hole.size == size]
    return next(iter(exact + fitting), None)


def sorted_in_place(self: FitAllocator, size: int) -> Span | None:
    """Choose well, and leave the holes in order of size."""
    self.sorted_holes.sort(key=lambda hole: hole.size)
    return next((hole for hole in self.sorted_holes if hole.size >= size), None)


def one_hole_less(self: FitAllocator, size: int) -> Span | None:
    """Choose well, and take the hole out already."""
    hole = BestFitAllocator.choose_hole(self, size)  # type: ignore[arg-type]
    if hole is not None:
        self.sorted_holes.remove(hole)
    return hole


def its_offset(self: FitAllocator, size: int) -> int | None:
    """Choose well, and return where the hole begins."""
    hole = BestFitAllocator.choose_hole(self, size)  # type: ignore[arg-type]
    return None if hole is None else hole.offset


BEST_FIT = (
    Misconception(
        "the offset, not the hole",
        "The method returns the hole itself, a Span: `allocate` asks it for its offset and its "
        "size, and a number has neither.",
        its_offset,
    ),
    Misconception(
        "worst fit",
        "Best fit takes the smallest hole that is large enough; the largest is worst fit's.",
        largest_hole,
    ),
    Misconception(
        "first fit",
        "That is the lowest hole that is large enough. Compare their sizes first, and their "
        "offsets only where sizes are equal; two spans as they are compare by offset.",
        lowest_hole,
    ),
    Misconception(
        "an exact fit is refused",
        "A hole of just the size asked for is the best there is: nothing of it is left over.",
        never_the_exact_one,
    ),
    Misconception(
        "the last of equals",
        "Of holes that are equally small, the one with the lowest offset is taken.",
        last_of_equals,
    ),
    Misconception(
        "the smallest of all",
        "Holes that are too small are left out first; of the others, the smallest is taken.",
        smallest_of_all,
    ),
    Misconception(
        "the smallest of all, or of none",
        "Holes that are too small are left out first; of the others, the smallest is taken. If "
        "none is left, return None; `min` of nothing raises ValueError.",
        smallest_of_any,
    ),
    Misconception(
        "the nearest in size",
        "A hole that is a little too small is nearer than one that is larger by more, and of no "
        "use: leave out the holes that are too small first.",
        nearest_in_size,
    ),
    Misconception(
        "sizes as texts",
        "As texts, 10 comes before 9: compare the sizes as numbers.",
        as_texts,
    ),
    Misconception(
        "the smallest, large enough or not",
        "`size` must have a say: leave out the holes that are too small. If none is left, return "
        "None; `min` of nothing raises ValueError.",
        smallest_large_enough_or_not,
    ),
    Misconception(
        "where nothing fits",
        "Where no hole is large enough the answer is None, and no error; `min` of nothing raises "
        "one, and `min(..., default=None)` does not.",
        min_of_nothing,
    ),
    Misconception(
        "an exact fit, or else the first",
        "A hole of just the size asked for is best; where there is none, the best is the smallest "
        "of those that are larger.",
        exact_else_first,
    ),
    Misconception(
        "`sorted_holes` is put in another order",
        "The method only looks: `sorted_holes` stays in order of offset, and `list.sort` changes "
        "the list itself. Sort a copy, with `sorted`, or take `min`.",
        sorted_in_place,
        evidence=r"sorted_holes\.sort\(",
    ),
    Misconception(
        "the hole is taken out",
        "The method only says which hole it would be; to cut the block from it is `allocate`'s "
        "work.",
        one_hole_less,
    ),
)

# 4.3


def freeing(merges_left: bool, merges_right: bool) -> Callable[[FitAllocator, int], None]:
    """Make a way to free that looks at some of the neighbours."""

    def free(self: FitAllocator, offset: int) -> None:
        start, end = offset, offset + self.block_size(offset)
        del self.size_at[offset]
        holes = self.sorted_holes
        first = last = bisect_left(holes, (offset,))
        if merges_left and first > 0 and holes[first - 1].end == start:
            first -= 1
            start = holes[first].offset
        if merges_right and last < len(holes) and holes[last].offset == end:
            end = holes[last].end
            last += 1
        holes[first:last] = [Span(start, end - start)]

    return free


def one_neighbour_at_most(self: FitAllocator, offset: int) -> None:
    """Merge with the hole on the left, and only if there is none with that on the right."""
    start = self.block_size(offset) and offset
    before = any(hole.end == start for hole in self.sorted_holes)
    freeing(merges_left=before, merges_right=not before)(self, offset)


def the_hole_behind_is_lost(self: FitAllocator, offset: int) -> None:
    """Take the hole behind out of the list, and forget to widen the new one by it."""
    start, end = offset, offset + self.block_size(offset)
    del self.size_at[offset]
    for hole in list(self.sorted_holes):
        if hole.end == start:
            self.sorted_holes.remove(hole)
            start = hole.offset
        elif hole.offset == end:
            self.sorted_holes.remove(hole)
    self.sorted_holes = sorted([*self.sorted_holes, Span(start, end - start)])


def whatever_lies_between(self: FitAllocator, offset: int) -> None:
    """Merge with the nearest holes, whether or not they touch."""
    end = offset + self.block_size(offset)
    del self.size_at[offset]
    place = bisect_left(self.sorted_holes, (offset,))
    before, behind = self.sorted_holes[:place], self.sorted_holes[place:]
    start = before.pop().offset if before else offset
    end = behind.pop(0).end if behind else end
    self.sorted_holes = [*before, Span(start, end - start), *behind]


def holes_out_of_order(self: FitAllocator, offset: int) -> None:
    """Put the new hole behind all others."""
    start, end = offset, offset + self.block_size(offset)
    del self.size_at[offset]
    kept = []
    for hole in self.sorted_holes:
        if hole.end == start or hole.offset == end:
            start, end = min(start, hole.offset), max(end, hole.end)
        else:
            kept.append(hole)
    self.sorted_holes = [*kept, Span(start, end - start)]


def still_allocated(self: FitAllocator, offset: int) -> None:
    """Forget to take the block out of the book."""
    size = self.block_size(offset)
    FitAllocator.free(self, offset)
    self.size_at[offset] = size


def double_free_is_silent(self: FitAllocator, offset: int) -> None:
    """Do nothing where no block starts."""
    if offset in self.size_at:
        FitAllocator.free(self, offset)


COALESCE = (
    Misconception(
        "only the hole behind it",
        "A block has two neighbours. The hole that ends where the block starts must become one "
        "with it as well.",
        freeing(merges_left=False, merges_right=True),
    ),
    Misconception(
        "only the hole before it",
        "A block has two neighbours. The hole that starts where the block ends must become one "
        "with it as well.",
        freeing(merges_left=True, merges_right=False),
    ),
    Misconception(
        "no coalescing",
        "Holes that touch must become one: a request gets one hole, and never two that lie side by "
        "side.",
        freeing(merges_left=False, merges_right=False),
    ),
    Misconception(
        "one neighbour at most",
        "Both neighbours may be holes; then all three pieces become one. A loop that takes an item "
        "out of the list it goes through skips the next one: go through a copy.",
        one_neighbour_at_most,
    ),
    Misconception(
        "the hole behind is lost",
        "A hole that leaves the list must be part of the new one, up to its end; otherwise its "
        "slots are nobody's.",
        the_hole_behind_is_lost,
    ),
    Misconception(
        "holes that do not touch",
        "A hole is merged only if it ends where the block starts, or starts where it ends; between "
        "others a block is still in use.",
        whatever_lies_between,
    ),
    Misconception(
        "holes out of order",
        "`sorted_holes` stays in order of offset: first fit, and `bisect`, rely on it.",
        holes_out_of_order,
    ),
    Misconception(
        "the block is still in the book",
        "A block that is freed leaves `size_at`; otherwise it can be freed once more, and its "
        "slots are given to two requests.",
        still_allocated,
    ),
    Misconception(
        "silence about a double free",
        "Freeing what is not allocated is an error of the caller, and silence hides it: raise "
        "ValueError.",
        double_free_is_silent,
    ),
)

# 4.5


def _sizes(allocator: Allocator) -> list[int]:
    return [hole.size for hole in allocator.holes()]


def free_share(allocator: Allocator) -> float:
    """Return the share of the memory that is free."""
    return sum(_sizes(allocator)) / allocator.num_slots


def share_of_the_largest(allocator: Allocator) -> float:
    """Return how much of what is free is in the largest hole."""
    sizes = _sizes(allocator)
    return max(sizes) / sum(sizes) if sizes else 0.0


def by_number_of_holes(allocator: Allocator) -> float:
    """Take all holes to be equal."""
    sizes = _sizes(allocator)
    return 1 - 1 / len(sizes) if sizes else 0.0


def of_the_whole_memory(allocator: Allocator) -> float:
    """Divide by all slots."""
    sizes = _sizes(allocator)
    return (sum(sizes) - max(sizes)) / allocator.num_slots if sizes else 0.0


def touching_as_one(allocator: Allocator) -> float:
    """Count holes that touch as one."""
    runs: list[int] = []
    end = -1
    for hole in allocator.holes():
        if runs and hole.offset == end:
            runs[-1] += hole.size
        else:
            runs.append(hole.size)
        end = hole.end
    return 1 - max(runs) / sum(runs) if runs else 0.0


def last_for_largest(allocator: Allocator) -> float:
    """Take the largest span, which is the one at the highest offset, for the largest hole."""
    holes = allocator.holes()
    return 1 - max(holes).size / sum(_sizes(allocator)) if holes else 0.0


def full_is_fragmented(allocator: Allocator) -> float:
    """Take a full memory for one that is in pieces."""
    sizes = _sizes(allocator)
    return 1 - max(sizes) / sum(sizes) if sizes else 1.0


def in_slots(allocator: Allocator) -> float:
    """Return slots, and not a share."""
    sizes = _sizes(allocator)
    return float(sum(sizes) - max(sizes)) if sizes else 0.0


SCATTERED = (
    Misconception(
        "the free share of the memory",
        "That says how much is free, and nothing about the pieces in which it lies.",
        free_share,
    ),
    Misconception(
        "the share of the largest hole",
        "That is the part that one request can have; asked for is the rest.",
        share_of_the_largest,
    ),
    Misconception(
        "by the number of holes",
        "Holes differ in size: one large hole and some crumbs are not fragmented much.",
        by_number_of_holes,
    ),
    Misconception(
        "a share of the whole memory",
        "It is a share of the free slots: what is in use is no loss.",
        of_the_whole_memory,
    ),
    Misconception(
        "buddies as one hole",
        "Free blocks of a buddy allocator may touch and still not be one: nobody can have both.",
        touching_as_one,
    ),
    Misconception(
        "a full memory is fragmented",
        "Where nothing is free, nothing is lost to pieces.",
        full_is_fragmented,
    ),
    Misconception(
        "the last hole for the largest",
        "Two spans as they are compare by offset: compare their sizes.",
        last_for_largest,
    ),
    Misconception("slots, not a share", "Divide by the free slots.", in_slots),
)
