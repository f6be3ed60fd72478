"""What the checks of lesson 7 find, for its tests."""

from __future__ import annotations

from autograder import lessons
from autograder.proxy.subject import LocalSubject
from course_lib.kv_cache.block_pool import FreeKVCacheBlockQueue, out_of_blocks

SAME = ""
"""Stands for a wrong answer that has no name."""


def examine(exercise_id, answer, max_examples=2):
    """Return what the check of an exercise finds out about an answer."""
    subject = LocalSubject(answer, 3.0)
    return lessons.find(exercise_id).examine(subject, max_examples=max_examples)


def named(finding):
    """Return the name of the mistake that a finding is about; none gives ``SAME``."""
    return finding.misconception.name if finding.misconception else SAME


def places(answers):
    """Return exercise and place for each of the answers, which stand in lists by exercise."""
    return [(exercise, place) for exercise in answers for place in range(len(answers[exercise]))]


def assert_right(exercise_id, answer):
    """Ask that an answer earns everything."""
    finding = examine(exercise_id, answer, max_examples=8)
    assert finding.fraction == 1, finding.counterexample


def assert_wrong(exercise_id, answer, name):
    """Ask that an answer earns nothing, and is given this name."""
    finding = examine(exercise_id, answer)
    assert finding.fraction == 0
    assert named(finding) == name


class AllAtOnce(FreeKVCacheBlockQueue):
    """Cuts several out, and links several in, as one piece."""

    def popleft_n(self, n):
        """Take the first few."""
        if n > self.num_free_blocks:
            raise out_of_blocks(n, self.num_free_blocks)
        taken, block = [], self.sentinel.next_free_block
        for _ in range(n):
            taken.append(block)
            block = block.next_free_block
        self.sentinel.next_free_block, block.prev_free_block = block, self.sentinel
        for each in taken:
            each.prev_free_block = each.next_free_block = None
        self.num_free_blocks -= n
        return taken

    def append_n(self, blocks):
        """Put blocks at the back."""
        back = self.sentinel.prev_free_block
        for block in blocks:
            back.next_free_block, block.prev_free_block, back = block, back, block
        back.next_free_block, self.sentinel.prev_free_block = self.sentinel, back
        self.num_free_blocks += len(blocks)
