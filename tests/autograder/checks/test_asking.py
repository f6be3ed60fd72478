"""An answer that has the work done by what it was to be earns nothing, however it asks for it."""

from dataclasses import replace

import pytest

from autograder import lessons
from autograder.checks.asking import asked_when_called
from autograder.notebook import check

HEAD = """
from course_lib import parts
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.variants.static_batching import StaticBatchingScheduler
whole = parts.get("Scheduler")
"""
ADMISSION = "def admit_waiting(self, output, budget):\n    "
ASKING = {
    "the part": 'return parts.get("Scheduler").admit_waiting(self, output, budget)',
    "the part of before": "return whole.admit_waiting(self, output, budget)",
    "behind oneself": "return super(type(self), self).admit_waiting(output, budget)",
    "by a text": 'return getattr(Scheduler, "admit_" + "waiting")(self, output, budget)',
    "above a subclass": (
        "return StaticBatchingScheduler.__base__.admit_waiting(self, output, budget)"
    ),
    "up the order of inheritance": (
        "for owner in type(self).__mro__[1:]:\n"
        '        if "admit_waiting" in vars(owner):\n'
        '            return vars(owner)["admit_waiting"](self, output, budget)'
    ),
    "now and then": (
        "if not self.waiting:\n        return budget\n"
        "    return super(type(self), self).admit_waiting(output, budget)"
    ),
}
OTHERS = {
    "5.3": (
        ADMISSION
        + 'return parts.get("StaticBatchingScheduler").admit_waiting(self, output, budget)'
    ),
    "6.7": "def preempt(self, *args):\n    return super(type(self), self).preempt(*args)",
    "7.3b": 'def touch(self, blocks):\n    return parts.get("BlockPool").touch(self, blocks)',
    "8.4a": 'def fork(self, *ids):\n    return parts.get("KVCacheManager").fork(self, *ids)',
    "8.5": (
        "def allocate_slots(self, *args, **more):\n"
        '    return parts.get("KVCacheManager").allocate_slots(self, *args, **more)'
    ),
    "7.2": (
        "class FreeKVCacheBlockQueue:\n    def __new__(cls, *args):\n"
        '        return parts.get("".join(["FreeKV", cls.__name__[6:]]))(*args)'
    ),
}  # fmt: skip
pytestmark = pytest.mark.usefixtures("few_examples")

REFUSED = "This is the course's own answer, or calls it, so it earns nothing"


@pytest.mark.parametrize("body", ASKING.values(), ids=ASKING)
def test_a_method_that_asks_the_librarys_own_earns_nothing(load, capsys, body):
    assert check("5.4", load(HEAD + ADMISSION + body).admit_waiting) == 0
    assert REFUSED in capsys.readouterr().out


@pytest.mark.parametrize(("exercise", "source"), OTHERS.items(), ids=OTHERS)
def test_so_does_every_method_and_class(load, capsys, exercise, source):
    name = lessons.find(exercise).check.reference.__name__
    assert check(exercise, getattr(load(HEAD + source), name)) == 0
    assert REFUSED in capsys.readouterr().out


TOUCH = """
def touch(self, blocks):
    blocks = list(blocks)
    for block in blocks:
        if block.pool is not self:
            raise self.foreign_block(block)
    for block in blocks:
        if block.ref_cnt == 0:
            self.free_block_queue.remove(block)
        block.ref_cnt += 1
"""
USING_OTHERS = (
    "from course_lib import parts\n"
    + TOUCH.replace(
        "    blocks = list(blocks)",
        '    before = parts.get("BlockPool").get_num_free_blocks(self)\n    blocks = list(blocks)',
    )
    + "    assert before >= super(type(self), self).get_num_free_blocks()\n"
)


def test_a_right_answer_may_use_what_else_the_library_has(load):
    assert check("7.3b", load(USING_OTHERS).touch) == 5


def test_what_runs_for_the_check_is_not_asked_for_by_the_answer():
    right = lessons.find("8.5").check
    assert asked_when_called(lambda *args, **more: None, right) == ""


KEPT = {
    "1.1": (
        "def kv_bytes_per_token(model):\n    return 2 * model.num_layers"
        " * model.num_kv_heads * model.head_dim * model.dtype_bytes",
        "from course_lib import parts\n"
        "def kv_bytes_per_token(model):\n    return parts.get('kv_bytes_per_token')(model)",
        "my_engine.kv_bytes_per_token",
    ),
    "7.3b": (
        TOUCH,
        "from course_lib import parts\nwhole = parts.get('BlockPool')\n"
        "def touch(self, blocks):\n    return whole.touch(self, blocks)",
        "my_engine.BlockPool.touch",
    ),
}


@pytest.mark.parametrize("exercise", KEPT)
def test_ones_own_answer_of_before_is_not_replaced_by_a_call_of_itself(
    load, workspace, capsys, exercise
):
    right, asking, module = KEPT[exercise]
    name = lessons.find(exercise).check.reference.__name__
    assert check(exercise, getattr(load(right), name)) > 0
    kept = workspace.joinpath(*module.split(".")).with_suffix(".py").read_text()
    capsys.readouterr()
    assert check(exercise, getattr(load(asking), name)) == 0
    said = capsys.readouterr().out
    assert f"It asks {module} for what is to be written" in said
    assert workspace.joinpath(*module.split(".")).with_suffix(".py").read_text() == kept


def test_what_is_kept_may_be_checked_again(load, workspace):
    assert check("7.3b", load(TOUCH).touch) == 5
    again = "from course_lib import parts\ntouch = vars(parts.get('BlockPool'))['touch']"
    assert check("7.3b", load(again).touch) == 5


def test_ones_own_class_may_be_asked_for_another_method(load, workspace):
    assert check("7.3b", load(USING_OTHERS).touch) == 5
    taking = (
        "from course_lib import parts\n"
        "def free_blocks(self, blocks):\n    parts.get('BlockPool').touch(self, list(blocks))"
    )
    free = lessons.find("7.4")
    assert asked_when_called(load(taking).free_blocks, free.check, free.part) == ""


GAME = """
from course_lib.kv_cache import FirstFitAllocator

class MyAllocator:
    def __init__(self, num_slots):
        self.courses = FirstFitAllocator(num_slots) if {asks} else None
        self.end = 0

    def allocate(self, size):
        offset, self.end = self.end, self.end + size
        {then}

    def free(self, offset):
        pass
"""


@pytest.mark.parametrize(
    ("asks", "then", "found"),
    [
        (False, "return offset", ""),
        (True, "return self.courses.allocate(size)", "course_lib.kv_cache.allocators"),
        (True, "self.courses.holes(); raise KeyError", "course_lib.kv_cache.allocators"),
    ],
    ids=["of its own", "the course's", "the course's, and the game ends"],
)
def test_of_those_who_play_a_game_the_answer_alone_is_watched(load, asks, then, found):
    game = lessons.find("4.10").check
    played = []

    def play(subject, seed):
        played.append(subject)
        return game.play(subject, seed)

    answer = load(GAME.format(asks=asks, then=then)).MyAllocator
    assert asked_when_called(answer, replace(game, play=play)) == found
    assert len(played) == 1
