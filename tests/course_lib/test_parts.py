"""Parts: the learner's own version once it has passed, else the reference; nothing is lost."""

import inspect
import json
import os
import re
import warnings
from importlib.util import find_spec

import pytest

from course_lib import parts
from course_lib.kv_cache import kv_bytes_per_block, kv_bytes_per_token
from course_lib.specs import MODELS
from course_lib.viz.engine.map import NODES

NAME = "kv_bytes_per_token"
MODEL = MODELS["llama-2-7b"]
HERE = [
    name
    for name in parts.part_names()
    if find_spec("triton") or not parts.PARTS[name.partition(".")[0]].module.endswith("_kernels")
]
"""The parts whose reference can be imported on this machine."""
MINE = f"def {NAME}(model):\n    return 42\n"


@pytest.fixture
def engine(workspace):
    return workspace / "my_engine"


def write(engine, text, name=NAME):
    engine.mkdir(exist_ok=True)
    path = engine / f"{name}.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def status(name=NAME):
    return next(row for row in parts.table() if row.name == name)


# Whose version is used


def test_without_a_workspace_every_part_is_the_reference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parts.workspace() is None
    assert parts.get(NAME) is kv_bytes_per_token
    assert {row.state for row in parts.table()} == {"reference"}
    assert parts.save(NAME, MINE) is None


def test_in_an_empty_workspace_every_part_is_the_reference(workspace):
    assert all(parts.get(name) is parts.reference(name) for name in HERE)
    assert status().note == "yours to build in lesson 1"


def test_a_part_that_was_saved_is_used(engine):
    assert parts.save(NAME, MINE) == engine / f"{NAME}.py"
    assert parts.get(NAME)(MODEL) == 42
    assert (status().state, status().note) == ("yours", f"my_engine/{NAME}.py")
    assert parts.get("num_kv_blocks") is parts.reference("num_kv_blocks")


def test_a_file_may_be_edited_and_is_read_anew_each_time(engine):
    parts.save(NAME, MINE)
    path = write(engine, MINE.replace("42", "43"))
    # The same size and time as before: only the text tells.
    os.utime(path, (0, 0))
    assert parts.get(NAME)(MODEL) == 43
    assert (status().state, status().note) == (
        "yours",
        "edited since it passed; run its check again",
    )


def test_saving_what_was_edited_makes_it_pass_again(engine):
    parts.save(NAME, MINE)
    write(engine, MINE.replace("42", "43"))
    parts.save(NAME, MINE.replace("42", "43"))
    assert status().note == f"my_engine/{NAME}.py"


def test_the_source_of_a_part_of_ones_own_can_be_looked_at(engine):
    parts.save(NAME, MINE)
    assert inspect.getsource(parts.get(NAME)) == MINE
    assert parts.get(NAME).__module__ == f"my_engine.{NAME}"


@pytest.mark.parametrize("name", ["no_such_part", "", "../kv_bytes_per_token"])
def test_an_unknown_part_is_refused_with_the_list_of_parts(workspace, name):
    for ask in (parts.get, parts.reference, lambda n: parts.save(n, MINE)):
        with pytest.raises(KeyError, match=r"no part .*; parts: kv_bytes_per_token, "):
            ask(name)
    assert list(workspace.glob("**/*.py")) == []


def test_every_part_has_a_reference_that_bears_its_name():
    for name in HERE:
        assert parts.reference(name).__name__ == name.rpartition(".")[2]


def test_every_lesson_that_builds_parts_has_some_and_each_has_a_box_on_the_map():
    assert {part.lesson for part in parts.PARTS.values()} == set(range(1, 14))
    for part in parts.PARTS.values():
        assert part.node in NODES
        assert part.lesson in NODES[part.node].lessons, part.name
        assert all(1 <= lesson <= parts.FINAL_PROJECT for lesson in part.methods.values())


def test_a_part_is_a_class_if_and_only_if_it_may_have_methods():
    for part in parts.PARTS.values():
        if part.methods:
            assert isinstance(parts.reference(part.name), type), part.name
            assert min(part.methods.values()) >= part.lesson


# A version that does not load

BROKEN = {
    "syntax error": (f"def {NAME}(model)\n    return 1\n", "syntax error in line 1: expected ':'"),
    "not defined": ("def another(model): pass\n", f"it does not define {NAME}"),
    "empty": ("", f"it does not define {NAME}"),
    "exception": ("1 / 0\n", "ZeroDivisionError: division by zero"),
    "missing module": ("import no_such_module\n", "ModuleNotFoundError: No module named"),
    "missing attribute": (
        "import math\nmath.no_such\n",
        "module 'math' has no attribute 'no_such'",
    ),
    "not UTF-8": (b"\xff\xfe", "save it as UTF-8"),
    "null bytes": ("x = 1\0", "source code string cannot contain null bytes"),
    "leaves Python": ("import sys\nsys.exit(1)\n", "SystemExit"),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_part_falls_back_with_a_clear_message_and_is_kept(engine, text, reason):
    path = write(engine, text)
    before = path.read_bytes()
    with pytest.warns(parts.PartWarning) as caught:
        assert parts.get(NAME) is kv_bytes_per_token
    message = str(caught[0].message)
    assert message.startswith(f"my_engine/{NAME}.py: ")
    assert reason in message
    assert "the reference is used instead" in message
    assert "check of lesson 1" in message
    assert "\n" not in message
    assert path.read_bytes() == before
    assert status().state == "broken"
    assert reason in status().note
    assert "your file is kept" in status().note


def test_a_broken_part_does_not_hide_the_others(engine):
    write(engine, "(")
    parts.save("num_kv_blocks", "def num_kv_blocks(*args): return 7\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parts.get("num_kv_blocks")() == 7
    assert [row.state for row in parts.table()][:2] == ["broken", "yours"]


def test_a_part_that_is_mended_is_used_again(engine):
    write(engine, "(")
    write(engine, MINE)
    assert parts.get(NAME)(MODEL) == 42


# Saving


@pytest.mark.parametrize(
    "text", [*BROKEN.values(), ("x = '\ud800'", "")], ids=[*BROKEN, "lone surrogate"]
)
def test_what_does_not_load_is_not_saved_and_leaves_the_old_part(engine, text):
    source = text[0] if isinstance(text[0], str) else text[0].decode("latin-1")
    parts.save(NAME, MINE)
    with pytest.raises(ValueError, match=re.escape(text[1][:20]) if source.isascii() else "."):
        parts.save(NAME, source)
    assert (engine / f"{NAME}.py").read_text() == MINE
    assert sorted(path.name for path in engine.iterdir()) == [f"{NAME}.py", "passed.json"]
    assert status().state == "yours"


def test_each_older_version_goes_to_the_history(engine):
    versions = [MINE.replace("42", str(number)) for number in range(4)]
    for version in versions:
        parts.save(NAME, version)
    kept = [(engine / "history" / f"{NAME}.{n}.py").read_text() for n in (1, 2, 3)]
    assert kept == versions[:3]
    assert (engine / f"{NAME}.py").read_text() == versions[3]


def test_the_same_version_again_makes_no_history(engine):
    for _ in range(3):
        parts.save(NAME, MINE)
    assert not (engine / "history").exists()


def test_what_the_learner_edited_or_broke_goes_to_the_history_too(engine):
    parts.save(NAME, MINE)
    write(engine, "my own notes, not Python")
    parts.save(NAME, MINE)
    assert (engine / "history" / f"{NAME}.1.py").read_text() == "my own notes, not Python"


def test_a_gap_in_the_history_is_never_filled_by_overwriting(engine):
    for number in range(4):
        parts.save(NAME, MINE.replace("42", str(number)))
    (engine / "history" / f"{NAME}.1.py").unlink()
    third = (engine / "history" / f"{NAME}.3.py").read_bytes()
    parts.save(NAME, MINE)
    assert (engine / "history" / f"{NAME}.3.py").read_bytes() == third


def test_a_part_whose_name_begins_like_another_has_a_history_of_its_own(engine):
    parts.save(NAME, MINE)
    parts.save(NAME, MINE + "\n")
    parts.save("num_kv_blocks", "def num_kv_blocks(): return 1\n")
    parts.save("num_kv_blocks", "def num_kv_blocks(): return 2\n")
    assert sorted(path.name for path in (engine / "history").iterdir()) == [
        f"{NAME}.1.py",
        "num_kv_blocks.1.py",
    ]


@pytest.mark.parametrize("record", ["", "{", "[]", '{"kv_bytes_per_token": 5}', "\xff"])
def test_a_damaged_record_of_passes_is_none(engine, record):
    parts.save(NAME, MINE)
    (engine / "passed.json").write_bytes(record.encode("latin-1"))
    assert status().state == "yours"
    assert parts.get(NAME)(MODEL) == 42
    parts.save("num_kv_blocks", "def num_kv_blocks(): return 1\n")
    assert "num_kv_blocks" in json.loads((engine / "passed.json").read_text())


# The workspace


def test_the_workspace_is_the_nearest_folder_with_the_mark(tmp_path, monkeypatch):
    outer, inner = tmp_path / "a", tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (outer / ".course").mkdir()
    monkeypatch.chdir(inner)
    assert parts.workspace() == outer
    (outer / "b" / ".course").mkdir()
    assert parts.workspace() == outer / "b"


def test_a_file_called_like_the_mark_makes_no_workspace(tmp_path, monkeypatch):
    (tmp_path / ".course").write_text("")
    monkeypatch.chdir(tmp_path)
    assert parts.workspace() is None


def test_the_environment_comes_before_the_folder(workspace, tmp_path, monkeypatch):
    (tmp_path / "other" / ".course").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    assert parts.workspace() == workspace


def test_a_workspace_in_the_home_folder_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COURSE_WORKSPACE", "~/course")
    assert parts.workspace() == tmp_path / "course"


@pytest.mark.parametrize("execution", ["autograde", "validate"])
def test_while_a_notebook_is_graded_or_validated_the_learners_parts_are_not_used(
    engine, monkeypatch, execution
):
    parts.save(NAME, MINE)
    monkeypatch.setenv("NBGRADER_EXECUTION", execution)
    assert parts.get(NAME) is kv_bytes_per_token
    assert status().state == "reference"
    assert parts.save(NAME, MINE.replace("42", "43")) is None


# The table


def test_the_table_has_a_row_for_each_part_in_text_and_in_html(engine):
    parts.save(NAME, MINE)
    table = parts.table()
    assert len(table) == len(parts.PARTS) == len(table[:])
    lines = repr(table).splitlines()
    assert lines[0] == "lesson 1: 1 of 5 yours"
    assert lines[1].split() == [NAME, "yours", "my_engine/kv_bytes_per_token.py"]
    words = re.findall(r"\w+", repr(table))
    html = table._repr_html_()
    num_lessons = len({row.lesson for row in table})
    assert html.count("<tr>") == len(table) + num_lessons
    assert all(row.name in words and f">{row.name}</td>" in html for row in table)


def test_a_lesson_of_which_nothing_is_ones_own_is_folded(engine):
    parts.save("BlockPool.touch", touch("mine"))
    table = parts.table()
    shown = repr(table)
    assert "lesson 7: 1 of 5 yours\n" in shown
    assert re.search(r"^  BlockPool +yours +1 of 3 methods yours$", shown, re.MULTILINE)
    assert "\nlesson 12: 0 of 5 yours: plan_violations, " in shown
    assert "\nthe final project: 0 of 5 yours: " in shown
    assert max(map(len, shown.splitlines())) <= 100
    html = table._repr_html_()
    assert html.count("<details open>") == 1
    assert "<details open><summary>lesson 7: 1 of 5 yours</summary>" in html
    assert "reference" not in repr(table.of(["BlockPool"]))


def test_the_table_of_one_lesson_is_written_out(engine):
    names = [row.name for row in parts.table(lesson=8)]
    assert {"KVCacheManager", "hash_blocks", "copy_blocks_kernel"} <= set(names)
    assert "BlockPool" not in names
    whole = [name for name in names if not parts.PARTS[name].methods]
    assert repr(parts.table(lesson=8)).count("yours to build in lesson 8") == len(whole)
    final = [row.name for row in parts.table(lesson=parts.FINAL_PROJECT)]
    assert {"Scheduler", "Executor", "Answer", "StopStrings"} <= set(final)
    with pytest.raises(ValueError, match="lesson 14 builds no part; lessons are 1 to 12"):
        parts.table(lesson=14)


def test_a_broken_part_is_counted(engine):
    write(engine, "(")
    assert repr(parts.table()).startswith("lesson 1: 0 of 5 yours, 1 broken\n")


# Library code that calls the learner's own


def test_library_code_is_rewired_to_what_is_there_at_that_moment(engine):
    assert parts.rewired(kv_bytes_per_block) is kv_bytes_per_block
    parts.save(NAME, MINE)
    assert parts.rewired(kv_bytes_per_block)(MODEL, 16) == 16 * 42
    assert kv_bytes_per_block(MODEL, 16) == 16 * kv_bytes_per_token(MODEL)
    parts.save(NAME, MINE.replace("42", "43"))
    assert parts.rewired(kv_bytes_per_block)(MODEL, 16) == 16 * 43


def test_the_html_of_the_table_escapes_what_a_broken_part_says(engine):
    write(engine, "raise ValueError('<script>alert(1)</script>')")
    html = parts.table()._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


# Methods of a class

POOL = parts.reference("BlockPool")


def touch(mark):
    """Return a file that notes each call, and then does as the reference does."""
    return (
        "from course_lib.kv_cache import BlockPool\n\n"
        "def touch(self: BlockPool, blocks):\n"
        f"    self.mark = {mark!r}\n"
        "    BlockPool.touch(self, blocks)\n"
    )


TAKE = "def get_new_blocks(self, num_blocks):\n    return [self.blocks[-1]] * num_blocks\n"
WHOLE = """
from course_lib.kv_cache.block_pool import BlockPool as Reference

class BlockPool(Reference):
    def touch(self, blocks):
        self.mark = "whole"

    def get_usage(self):
        return 0.25
"""


def mark_of(pool_class):
    pool = pool_class(4)
    pool.touch([])
    return getattr(pool, "mark", "reference")


def test_a_method_is_kept_in_the_folder_of_its_class_and_used(engine):
    assert parts.save("BlockPool.touch", touch("mine")) == engine / "BlockPool" / "touch.py"
    mine = parts.get("BlockPool")
    assert issubclass(mine, POOL)
    assert mark_of(mine) == "mine"
    assert mark_of(POOL) == "reference"
    assert parts.get("BlockPool.touch").__module__ == "my_engine.BlockPool.touch"
    assert parts.get("BlockPool.free_blocks") is POOL.free_blocks
    assert (status("BlockPool").state, status("BlockPool").note) == (
        "yours",
        f"1 of {len(parts.PARTS['BlockPool'].methods)} methods yours",
    )


def test_without_a_method_the_class_is_the_reference_itself(engine):
    parts.save(NAME, MINE)
    assert parts.get("BlockPool") is POOL
    assert status("BlockPool").state == "reference"


def test_methods_are_composed_and_a_broken_one_leaves_the_others(engine):
    parts.save("BlockPool.touch", touch("mine"))
    parts.save("BlockPool.get_new_blocks", TAKE)
    (engine / "BlockPool" / "get_new_blocks.py").write_text("def get_new_blocks(self:\n")
    with pytest.warns(parts.PartWarning, match=r"^my_engine/BlockPool/get_new_blocks\.py: syntax"):
        mine = parts.get("BlockPool")
    assert mark_of(mine) == "mine"
    assert [block.block_id for block in mine(4).get_new_blocks(2)] == [1, 2]
    assert status("BlockPool").state == "broken"
    assert "get_new_blocks: syntax error in line 1" in status("BlockPool").note


def test_an_edited_method_is_said_to_be_edited(engine):
    path = parts.save("BlockPool.touch", touch("mine"))
    path.write_text(touch("edited"))
    assert mark_of(parts.get("BlockPool")) == "edited"
    assert "touch: edited since it passed" in status("BlockPool").note


@pytest.mark.parametrize("name", ["BlockPool.no_such", "BlockPool.", ".touch", "x.touch"])
def test_an_unknown_method_is_refused(workspace, name):
    with pytest.raises(KeyError, match="no part"):
        parts.get(name)


def test_a_method_may_ask_for_the_class_that_it_is_put_on(engine):
    parts.save(
        "BlockPool.touch",
        "from course_lib import parts\nBlockPool = parts.get('BlockPool')\n"
        "def touch(self, blocks):\n    self.mark = BlockPool\n",
    )
    assert mark_of(parts.get("BlockPool")) is POOL


def test_versions_of_a_method_go_to_the_history_under_its_full_name(engine):
    for mark in "abc":
        parts.save("BlockPool.touch", touch(mark))
    kept = sorted(path.name for path in (engine / "history").iterdir())
    assert kept == ["BlockPool.touch.1.py", "BlockPool.touch.2.py"]


# What was won earlier stays


def test_a_whole_class_won_later_does_not_displace_methods_won_before(engine):
    parts.save("BlockPool.touch", touch("method"), "7.3b")
    parts.save("BlockPool", WHOLE, "12.9")
    mine = parts.get("BlockPool")
    assert (mark_of(mine), mine(4).get_usage()) == ("method", 0.25)
    assert parts.standing("BlockPool") == (
        "Kept as my_engine/BlockPool.py: your engine uses it from now on, under the methods that "
        "you won before: touch."
    )


def test_a_method_won_later_does_not_displace_that_of_a_whole_class_won_before(engine):
    parts.save("BlockPool", WHOLE, "3.1")
    parts.save("BlockPool.touch", touch("method"), "7.3b")
    parts.save("BlockPool.get_new_blocks", TAKE, "7.3a")
    assert mark_of(parts.get("BlockPool")) == "whole"
    assert parts.get("BlockPool")(4).get_new_blocks(1)[0].block_id == 3, "the class has none"
    assert "that stays in use" in parts.standing("BlockPool.touch")
    assert parts.standing("BlockPool.get_new_blocks") == (
        "Kept as my_engine/BlockPool/get_new_blocks.py: your engine uses it from now on."
    )


def test_a_class_written_by_hand_stands_under_the_methods(engine):
    parts.save("BlockPool.touch", touch("method"), "7.3b")
    write(engine, WHOLE, "BlockPool")
    assert mark_of(parts.get("BlockPool")) == "method"


def test_the_same_part_of_a_later_lesson_does_not_replace_that_of_an_earlier(engine):
    parts.save(NAME, MINE, "1.1")
    with pytest.raises(ValueError, match=r"you won kv_bytes_per_token in lesson 1, and my_engine"):
        parts.save(NAME, MINE.replace("42", "43"), "4.2")
    assert parts.get(NAME)(MODEL) == 42
    parts.save(NAME, MINE.replace("42", "44"), "1.1")
    assert parts.get(NAME)(MODEL) == 44, "the exercise that it was won by may be solved again"


def test_a_broken_part_of_an_earlier_lesson_is_replaced(engine):
    parts.save(NAME, MINE, "1.1")
    write(engine, "(")
    parts.save(NAME, MINE.replace("42", "43"), "4.2")
    assert parts.get(NAME)(MODEL) == 43


def test_a_part_of_an_earlier_lesson_that_is_won_afterwards_is_used(engine):
    parts.save(NAME, MINE, "4.2")
    parts.save(NAME, MINE.replace("42", "43"), "1.1")
    assert parts.get(NAME)(MODEL) == 43


def test_a_class_inherits_what_the_learner_built_of_its_base(engine):
    parts.save("FitAllocator.free", "def free(self, offset):\n    self.freed = offset\n")
    mine = parts.get("BestFitAllocator")
    assert issubclass(mine, parts.reference("BestFitAllocator"))
    allocator = mine(8)
    allocator.free(5)
    assert allocator.freed == 5


def test_a_method_edited_to_call_super_without_arguments_is_broken(engine):
    path = parts.save("BlockPool.touch", touch("mine"))
    path.write_text("def touch(self, blocks):\n    super().touch(blocks)\n")
    with pytest.warns(parts.PartWarning, match=r"it calls super\(\) without arguments"):
        assert parts.get("BlockPool") is POOL


@pytest.mark.parametrize("name", [name for name in parts.part_names() if "." in name])
def test_every_method_of_the_catalogue_is_put_on_its_class(engine, name):
    owner, _, method = name.partition(".")
    parts.save(name, f"def {method}(self, *rest, **named):\n    return 'mine'\n")
    mine, theirs = parts.get(owner), parts.reference(owner)
    assert issubclass(mine, theirs)
    assert mine.__name__ == owner
    assert type(vars(mine)[method]) is type(inspect.getattr_static(theirs, method))
    assert parts.get(name).__module__ == f"my_engine.{name}"
    assert status(owner).state == "yours"
    assert status(owner).note.startswith(f"1 of {len(parts.PARTS[owner].methods)} methods yours")


def test_a_variant_of_the_scheduler_runs_on_the_learners_scheduler(engine):
    parts.save("Scheduler.limit_chunk", "def limit_chunk(self, *rest):\n    return 7\n", "11.3")
    parts.save("Scheduler.preempt", "def preempt(self, *rest):\n    return 'mine'\n", "6.5")
    static = parts.get("StaticBatchingScheduler")
    assert issubclass(static, parts.reference("StaticBatchingScheduler"))
    assert static.limit_chunk(None, 1, 2) == 7
    assert static.preempt(None) == "mine"
    assert "admit_waiting" in vars(parts.reference("StaticBatchingScheduler"))
    assert static.admit_waiting is parts.reference("StaticBatchingScheduler").admit_waiting
    assert status("Scheduler").note == "2 of 8 methods yours"


def test_a_file_in_which_the_part_is_a_number_is_broken(engine):
    write(engine, f"{NAME} = 5\n")
    with pytest.warns(parts.PartWarning, match="is of type int; it must be a function or class"):
        assert parts.get(NAME) is kv_bytes_per_token
    assert status().state == "broken"
