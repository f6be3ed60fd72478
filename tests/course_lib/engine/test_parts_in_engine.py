"""The engine runs on the learner's own parts, and says whose it was when one of them fails.

That each part is really called is seen in ``test_parts_in_use.py``.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from course_lib import parts
from course_lib.attention.backends.own_operations import TRITON_PARTS
from course_lib.engine import LLM, EngineParts, PartError, SamplingParams
from course_lib.engine.engine_parts import ENGINE_PARTS
from course_lib.engine.executor import FEW_TOKENS
from course_lib.kv_cache import BlockPool, BlockTable, InvariantError
from course_lib.scheduling import Scheduler
from course_lib.viz.engine.map import NODES

Save = Callable[..., Path]

PROMPTS = [[*range(3, 20), *range(40 + index, 50 + index)] for index in range(5)]
PARAMS = SamplingParams(n=2, seed=1, max_tokens=10)
# Small enough for preemptions.
OPTIONS: dict[str, Any] = {"num_blocks": 30, "block_size": 4, "max_num_batched_tokens": 25}


@pytest.fixture
def checkpoint(hf_checkpoint: Save) -> Path:
    return hf_checkpoint("llama", eos_token_id=None)


@pytest.fixture
def expected(checkpoint: Path) -> list[list[int]]:
    return answers(LLM(checkpoint, parts=EngineParts.reference(), **OPTIONS))


def answers(llm: LLM) -> list[list[int]]:
    return [
        answer.token_ids for result in llm.generate(PROMPTS, PARAMS) for answer in result.outputs
    ]


def spy_on(name: str, calls: list[str]) -> Any:
    """Return a part like the reference, which writes down that it is used."""
    reference = parts.reference(name)
    if not isinstance(reference, type):

        @functools.wraps(reference)
        def function(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return reference(*arguments, **keywords)

        return function

    class Own(reference):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            calls.append(name)
            super().__init__(*arguments, **keywords)

    return Own


# Kernels run where Triton does: see test_operations_in_engine.py.
HERE = [name for name in ENGINE_PARTS if name not in TRITON_PARTS]


def test_a_table_translates_few_tokens_and_the_mapping_many(
    checkpoint: Path, expected: list[list[int]]
) -> None:
    single: list[int] = []
    at_once: list[int] = []

    class Own(BlockTable):
        def slot(self, position: int) -> int:
            single.append(position)
            return super().slot(position)

    def mapping(tables: Any, starts: Any, positions: Any, block_size: int) -> Any:
        at_once.append(len(positions))
        return parts.reference("slot_mapping")(tables, starts, positions, block_size)

    own = EngineParts.of({"BlockTable": Own, "slot_mapping": mapping})
    assert answers(LLM(checkpoint, parts=own, debug=True, **OPTIONS)) == expected
    assert single
    assert at_once
    assert min(at_once) > FEW_TOKENS


def test_all_parts_at_once_may_be_the_learners(checkpoint: Path, expected: list[list[int]]) -> None:
    calls: list[str] = []
    own = EngineParts.of({name: spy_on(name, calls) for name in HERE})
    assert answers(LLM(checkpoint, parts=own, debug=True, **OPTIONS)) == expected
    assert len(own.own_names) == len(HERE)


def test_every_part_of_the_engine_is_built_in_a_lesson_of_its_node() -> None:
    for name in ENGINE_PARTS:
        part = parts.PARTS[name]
        assert part.lesson in NODES[part.node].lessons
    for name in EngineParts.reference().table:
        assert name.state == "reference"


# From the workspace

MINE = """
from course_lib.kv_cache.block_pool import BlockPool as Reference

class BlockPool(Reference):
    def get_new_blocks(self, num_blocks):
        {body}
        return super().get_new_blocks(num_blocks)
"""


def save(name: str, source: str) -> None:
    assert parts.save(name, source) is not None


def state_of(llm: LLM, name: str) -> str:
    return next(row.state for row in llm.parts.table if row.name == name)


def test_a_part_in_the_workspace_is_used_and_shown(
    workspace: Path, checkpoint: Path, expected: list[list[int]]
) -> None:
    save("BlockPool", MINE.format(body="self.was_used = True"))
    llm = LLM(checkpoint, **OPTIONS)
    assert answers(llm) == expected
    assert llm.kv_cache_manager.block_pool.was_used  # type: ignore[attr-defined]
    assert state_of(llm, "BlockPool") == "yours"
    assert state_of(llm, "Scheduler") == "reference"
    assert {row.name for row in llm.parts.table} == set(ENGINE_PARTS)
    assert "my_engine/BlockPool.py" in repr(llm.parts.table)


def test_a_part_that_does_not_load_is_the_references(workspace: Path, checkpoint: Path) -> None:
    (workspace / "my_engine").mkdir()
    (workspace / "my_engine" / "Scheduler.py").write_text("class Scheduler:\n  def\n")
    with pytest.warns(parts.PartWarning, match="syntax error"):
        llm = LLM(checkpoint, **OPTIONS)
    assert type(llm.scheduler) is Scheduler
    assert state_of(llm, "Scheduler") == "broken"


def test_a_part_that_raises_is_named_with_its_file_and_a_way_out(
    workspace: Path, checkpoint: Path
) -> None:
    save("BlockPool", MINE.format(body="raise IndexError('no more')"))
    llm = LLM(checkpoint, **OPTIONS)
    with pytest.raises(PartError) as caught:
        answers(llm)
    message = str(caught.value)
    assert message.startswith("in step 0 your BlockPool raised IndexError: no more.")
    assert "It is my_engine/BlockPool.py (lesson 7)." in message
    assert "parts=EngineParts.reference()" in message
    assert isinstance(caught.value.__cause__, IndexError)


METHOD = "def get_new_blocks(self, num_blocks):\n    raise IndexError('no more')\n"


def test_a_method_that_raises_is_named_with_its_own_file(workspace: Path, checkpoint: Path) -> None:
    save("BlockPool.get_new_blocks", METHOD)
    save("BlockPool", MINE.format(body="pass"))
    llm = LLM(checkpoint, **OPTIONS)
    assert llm.parts.own_names == ("BlockPool",)
    with pytest.raises(PartError) as caught:
        answers(llm)
    message = str(caught.value)
    assert message.startswith("in step 0 your BlockPool.get_new_blocks raised IndexError: no more.")
    assert "It is my_engine/BlockPool/get_new_blocks.py (lesson 7)." in message


COUNTING = """
from course_lib.kv_cache import BlockPool

CALLS = []

def get_new_blocks(self: BlockPool, num_blocks: int):
    CALLS.append(num_blocks)
    return BlockPool.get_new_blocks(self, num_blocks)
"""


def test_an_engine_runs_on_the_learners_methods(
    workspace: Path, checkpoint: Path, expected: list[list[int]]
) -> None:
    save("BlockPool.get_new_blocks", COUNTING)
    llm = LLM(checkpoint, **OPTIONS)
    assert answers(llm) == expected
    own: Any = type(llm.kv_cache_manager.block_pool).get_new_blocks
    assert own.__module__ == "my_engine.BlockPool.get_new_blocks"
    assert own.__globals__["CALLS"]


# Whose fault it is


class ClosedScheduler(Scheduler):
    """Takes no request."""

    def add_request(self, request: Any) -> None:
        raise LookupError("closed")


class StubbornScheduler(Scheduler):
    """Lets nobody go."""

    def finish_requests(self, request_ids: Any, status: Any) -> None:
        raise LookupError("stay")


def test_adding_and_aborting_name_the_part_too(checkpoint: Path) -> None:
    llm = LLM(checkpoint, parts=EngineParts.of({"Scheduler": ClosedScheduler}), **OPTIONS)
    with pytest.raises(PartError, match="when request 'r' was added your Scheduler raised Lookup"):
        llm.add_request("r", PROMPTS[0])
    llm = LLM(checkpoint, parts=EngineParts.of({"Scheduler": StubbornScheduler}), **OPTIONS)
    llm.add_request("r", PROMPTS[0])
    with pytest.raises(PartError, match="when request 'r' was aborted your Scheduler raised"):
        llm.abort_request("r")


class ForgetfulPool(BlockPool):
    """Hands out no list."""

    def get_new_blocks(self, num_blocks: int) -> Any:
        super().get_new_blocks(num_blocks)


class GenerousPool(BlockPool):
    """Hands out a block that it does not count as held."""

    def get_new_blocks(self, num_blocks: int) -> Any:
        blocks = super().get_new_blocks(num_blocks)
        blocks[0].ref_cnt = 2
        return blocks


class ShortTable(BlockTable):
    """Fails deep down, in a generator."""

    def append(self, block_ids: Any) -> None:
        super().append(self.checked(block_id) for block_id in block_ids)

    def checked(self, block_id: int) -> int:
        return [0, 1, 2][block_id]


class ForgetfulTable(BlockTable):
    """Loses all but the first block that it is given."""

    def append(self, block_ids: Any) -> None:
        super().append(list(block_ids)[:1])


class RestlessScheduler(Scheduler):
    """Plans more than is allowed."""

    def schedule(self) -> Any:
        output = super().schedule()
        output.total_num_scheduled_tokens += 1
        return output


def wrong_slots(tables: Any, starts: Any, positions: Any, block_size: int) -> Any:
    return parts.reference("slot_mapping")(tables, starts, positions, block_size)[::-1].copy()


@pytest.mark.parametrize(
    ("own", "options", "message"),
    [
        (
            {"BlockPool": ForgetfulPool, "Scheduler": Scheduler},
            {},
            r"in step 0 the engine stopped: TypeError.*yours: Scheduler, BlockPool\. One of them",
        ),
        ({"BlockTable": ShortTable}, {}, r"in step 0 your BlockTable raised IndexError: list"),
        (
            {"BlockTable": ForgetfulTable},
            {},
            r"in step 0 the engine stopped: ValueError: request '0' is computed up to token \d+, "
            r"but its block table has room for \d.*yours: BlockTable",
        ),
        (
            {"BlockPool": GenerousPool},
            {"debug": True},
            r"in step 0 the engine stopped: InvariantError: .*after allocate_slots: block 1 has a "
            r"ref_cnt of 2.*yours: BlockPool",
        ),
        (
            {"Scheduler": RestlessScheduler},
            {"debug": True},
            r"InvariantError: .*25 tokens are planned, the total says 26",
        ),
        ({"slot_mapping": wrong_slots}, {"debug": True}, r"InvariantError: .*the slots are \["),
    ],
)
def test_the_error_says_whose_part_it_was_or_may_have_been(
    checkpoint: Path, own: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    llm = LLM(checkpoint, parts=EngineParts.of(own), **OPTIONS | options)
    with pytest.raises(PartError, match=message):
        answers(llm)


def test_a_failure_of_the_reference_is_not_blamed_on_anybody(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLM(checkpoint, parts=EngineParts.reference(), debug=True, **OPTIONS)
    monkeypatch.setattr(llm.executor, "block_tables", dict)
    with pytest.raises(KeyError):
        answers(llm)
    llm = LLM(checkpoint, parts=EngineParts.reference(), debug=True, **OPTIONS)
    tables = llm.executor.block_tables
    monkeypatch.setattr(
        llm.executor, "block_tables", lambda: {name: ids[::-1] for name, ids in tables().items()}
    )
    with pytest.raises(InvariantError, match=r"in step 0: the block table of '0' is \["):
        answers(llm)


def test_the_innermost_own_part_is_to_blame() -> None:
    def failing() -> Iterator[int]:
        yield 1 // 0

    def calling() -> int:
        return sum(value for value in failing())

    own = EngineParts.of({"slot_mapping": calling, "copy_blocks": failing})
    with pytest.raises(ZeroDivisionError) as caught:
        calling()
    assert own.blame(caught.value) == "copy_blocks"
    assert EngineParts.reference().blame(caught.value) is None


def test_a_part_that_no_engine_has_is_refused() -> None:
    with pytest.raises(KeyError, match="no engine has a part 'Sampler'; parts: BlockTable, "):
        EngineParts.of({"Sampler": object})
