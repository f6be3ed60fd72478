"""The parts that an engine runs on, and whose they are.

Everything that decides what the engine does with memory and time is a part that some lesson builds.
``EngineParts`` takes each from ``course_lib.parts``: the learner's own if there is one, else the
reference. When something goes wrong in a run, it says whose part it was.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

from course_lib import parts
from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.backends.failure import KernelError
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS, with_own
from course_lib.kv_cache.block_pool import BlockPool
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.invariants import InvariantError
from course_lib.mounting import nested_code
from course_lib.parts import PARTS, PartStatus, PartTable
from course_lib.rewiring import rewire
from course_lib.scheduling.policies import POLICIES
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

ENGINE_PARTS = (
    "BlockTable",
    "slot_mapping",
    "FreeKVCacheBlockQueue",
    "BlockPool",
    "blocks_to_add",
    "hash_block",
    "hash_blocks",
    "longest_cached_prefix",
    "CacheMetrics",
    "KVCacheManager",
    "SwapSpace",
    "least_important",
    *(queue.__name__ for queue in POLICIES.values() if isinstance(queue, type)),
    "Scheduler",
    *PYTORCH_PARTS,
    *TRITON_PARTS,
)
"""Every part that an engine may use."""


class PartError(RuntimeError):
    """A part of the learner's own failed while the engine ran; says which one."""


class EngineParts:
    """The parts of one engine.

    Args:
        own: The parts that replace the reference, by name.
        table: The state of every part of an engine.

    Attributes:
        table: Whose each part is; prints as a table.

    >>> EngineParts.reference().own_names
    ()
    >>> EngineParts.reference().get("BlockPool") is BlockPool
    True
    """

    def __init__(self, own: Mapping[str, Any], table: PartTable) -> None:
        self._own = dict(own)
        self._used: dict[str, Any] = {}
        self.table = table

    @classmethod
    def load(cls) -> EngineParts:
        """Return the learner's own parts from their workspace, and the reference for the others.

        A part that does not load is the reference's, after a ``PartWarning``.
        """
        table = PartTable([row for row in parts.table() if row.name in ENGINE_PARTS])
        # The references of kernels are not asked for in vain: Triton takes a second to import, and
        # it is not there on every machine.
        has_triton = importlib.util.find_spec("triton") is not None
        names = [
            row.name
            for row in table
            if row.state != "reference" and (has_triton or row.name not in TRITON_PARTS)
        ]
        own = {name: part for name in names if _is_own(name, part := parts.get(name))}
        return cls(own, table)

    @classmethod
    def reference(cls) -> EngineParts:
        """Return the library's own parts, whatever is in the workspace."""
        return cls.of({})

    @classmethod
    def of(cls, own: Mapping[str, Any]) -> EngineParts:
        """Return the reference's parts, some of them replaced by objects at hand.

        Args:
            own: Functions or classes by the name of the part that they replace.

        Raises:
            KeyError: An engine has no part of this name.

        >>> class Mine(BlockPool): pass
        >>> EngineParts.of({"BlockPool": Mine}).own_names
        ('BlockPool',)
        """
        for name in own:
            if name not in ENGINE_PARTS:
                raise KeyError(f"an engine has no part {name!r}; parts: {', '.join(ENGINE_PARTS)}")
        rows = []
        for name in ENGINE_PARTS:
            part = PARTS[name]
            is_own = name in own
            note = f"given as {own[name].__module__}" if is_own else "the library's own"
            state: parts.State = "yours" if is_own else "reference"
            rows.append(PartStatus(name, part.lesson, part.node, state, note))
        return cls(own, PartTable(rows))

    @property
    def own_names(self) -> tuple[str, ...]:
        """The parts that are not the reference's."""
        return tuple(name for name in ENGINE_PARTS if name in self._own)

    def get(self, name: str) -> Any:
        """Return the part of this name; the library's code in it calls the other parts."""
        if name not in self._used:
            part = self._own[name] if name in self._own else parts.reference(name)
            self._used[name] = rewire(part, self._own) if self._own else part
        return self._used[name]

    def make_manager(
        self, num_blocks: int, block_size: int, enable_caching: bool
    ) -> KVCacheManager:
        """Make a cache manager, on this block pool and free queue."""
        manager: KVCacheManager = self.get("KVCacheManager")(
            num_blocks, block_size, enable_caching, block_pool=self._make_pool
        )
        return manager

    def make_scheduler(self, config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
        """Make a scheduler, with this queue if ``config.policy`` is a name."""
        if isinstance(config.policy, str) and config.policy in POLICIES:
            reference = POLICIES[config.policy]
            name = getattr(reference, "__name__", "")
            if name in ENGINE_PARTS and (queue := self.get(name)) is not reference:
                config = dataclasses.replace(config, policy=queue)
        scheduler: Scheduler = self.get("Scheduler")(config, manager)
        return scheduler

    def with_own_operations(self, backend: AttentionBackend) -> AttentionBackend:
        """Return a backend that runs on the learner's own operations and kernels."""
        names = (*PYTORCH_PARTS, *TRITON_PARTS)
        own = {name: self._own[name] for name in names if name in self._own}
        return with_own(backend, own) if own else backend

    def blame(self, error: BaseException) -> str | None:
        """Return the name of the learner's part in which an exception was raised, or None.

        A method that is a part of its own is named, as in ``BlockPool.touch``.

        A part is also to blame for what the packages that it calls have raised, but not for what
        the library's own code has: that may have been given something wrong by another part.
        """
        owners = {
            code: owner
            for name, part in self._own.items()
            for owner, member in _members(name, part)
            for code in _code_objects(member)
        }
        # The interpreter runs a rewritten copy of a kernel: another code, of the same place.
        kernels = {
            (part.fn.__code__.co_filename, part.fn.__name__): name
            for name, part in self._own.items()
            if hasattr(part, "fn")
        }
        # What a kernel raised is the cause of the error that says which kernel it was.
        raised = error.__cause__ if isinstance(error, KernelError) else error
        for frame in reversed(list(_frames(raised.__traceback__ if raised else None))):
            code = frame.f_code
            owner = owners.get(code, kernels.get((code.co_filename, code.co_name)))
            if owner is not None:
                return owner
            if str(frame.f_globals.get("__name__")).startswith("course_lib."):
                return None
        return None

    def explain(self, error: Exception, where: str) -> Exception:
        """Return what to raise for an exception in a run: it says whose part broke, if one did.

        Args:
            error: The exception.
            where: When it happened, as "in step 12".
        """
        problem = f"{type(error).__name__}: {error}"
        # What breaks an invariant was done by somebody whom the checker does not see.
        blamed = None if isinstance(error, InvariantError) else self.blame(error)
        if blamed is not None:
            return PartError(
                f"{where} your {blamed} raised {problem}. {self._note(blamed)} Mend it, or run on "
                "the library's own parts: LLM(..., parts=EngineParts.reference())"
            )
        if self.own_names:
            return PartError(
                f"{where} the engine stopped: {problem}. These parts are yours: "
                f"{', '.join(self.own_names)}. One of them has probably returned something wrong: "
                "LLM(..., debug=True) checks every call, LLM(..., parts=EngineParts.reference()) "
                "runs without them"
            )
        error.add_note(where)
        return error

    def _make_pool(self, num_blocks: int, enable_caching: bool) -> BlockPool:
        """Make a block pool, with the free queue of these parts if it is the learner's own."""
        pool: BlockPool = self.get("BlockPool")(
            num_blocks, enable_caching, free_queue=self.get("FreeKVCacheBlockQueue")
        )
        return pool

    def _note(self, name: str) -> str:
        """Say where a part comes from."""
        owner, _, method = name.partition(".")
        part = PARTS[owner]
        members = dict(_members(owner, self._own[owner]))
        place = next(row.note for row in self.table if row.name == owner)
        module = str(members[name].__module__) if name in members else ""
        if module.startswith("my_engine."):
            place = f"{module.replace('.', '/')}.py"
        return f"It is {place} (lesson {part.methods[method] if method else part.lesson})."


def _is_own(name: str, part: Any) -> bool:
    """Say whether a part is not the library's own."""
    return part is not parts.reference(name)


def _members(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield a part's functions with the part that each is: a method's own, or the whole.

    A class of the learner's own may stand between the composed one and the library's.
    """
    if not isinstance(part, type):
        yield name, part
        return
    for own in part.__mro__:
        if own.__module__.startswith("course_lib.") or own is object:
            return
        for member, value in vars(own).items():
            for function in (value, *(getattr(value, n, None) for n in ("fget", "__func__"))):
                if isinstance(function, FunctionType):
                    whose = f"{name}.{member}"
                    yield whose if function.__module__ == f"my_engine.{whose}" else name, function


def _code_objects(function: Any) -> Iterator[CodeType]:
    """Yield the code of a function and of what is defined in it."""
    if isinstance(function, FunctionType):
        yield from nested_code(function.__code__)


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    """Yield the frames of a traceback, the innermost last."""
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
