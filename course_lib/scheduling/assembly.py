"""One run on the library's parts and some of one's own, and whose they are.

Everything that decides what a run does with memory and time is a part that some lesson builds. An
``Assembly`` puts memory manager and scheduler together for an engine or a simulation: from the
learner's own parts where there are any, and from the library's for the rest. When something goes
wrong in the run, it says whose part it was.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, ClassVar, Self

from course_lib import parts
from course_lib.catalogue import lesson_name
from course_lib.kv_cache.block_pool import BlockPool
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.invariants import InvariantError
from course_lib.mounting import nested_code
from course_lib.parts import PARTS, PartStatus, PartTable
from course_lib.rewiring import rewire
from course_lib.scheduling.policies import POLICIES
from course_lib.scheduling.preemption import VICTIM_POLICIES
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

ASSEMBLED_PARTS = (
    "kv_bytes_per_token",
    "FreeKVCacheBlockQueue",
    "BlockPool",
    "blocks_to_add",
    "hash_blocks",
    "longest_cached_prefix",
    "CacheMetrics",
    "KVCacheManager",
    "SwapSpace",
    "num_blocks_freed",
    "least_important",
    *(queue.__name__ for queue in POLICIES.values() if isinstance(queue, type)),
    "Scheduler",
)
"""Every part that the memory and the scheduler of any run may use."""


class PartError(RuntimeError):
    """A part of the learner's own failed in a run; says which one."""


class Assembly:
    """The parts of one run. What kind of run it is, a subclass says.

    Args:
        own: The parts that replace the library's, by name.
        table: The state of every part of such a run.

    Attributes:
        NAMES: Every part that such a run may use.
        KIND: What such a run is called.
        WATCHED: How to have every call of such a run checked.
        WITHOUT: How to have such a run on the library's parts alone.
        table: Whose each part is; prints as a table.

    >>> Assembly.reference().own_names
    ()
    >>> class Mine(BlockPool): pass
    >>> own = Assembly.of({"BlockPool": Mine})
    >>> own.own_names, type(own.make_manager(10, 16, enable_caching=True).block_pool).__name__
    (('BlockPool',), 'Mine')
    """

    NAMES: ClassVar[tuple[str, ...]] = ASSEMBLED_PARTS
    KIND: ClassVar[str] = "run"
    WATCHED: ClassVar[str] = "under_check(manager)"
    WITHOUT: ClassVar[str] = "Assembly.reference()"

    def __init__(self, own: Mapping[str, Any], table: PartTable) -> None:
        self._own = dict(own)
        self._used: dict[str, Any] = {}
        self.table = table

    @classmethod
    def load(cls) -> Self:
        """Return the learner's own parts from their workspace, and the library's for the others.

        A part that does not load is the library's, after a ``PartWarning``.
        """
        table = parts.table().of(cls.NAMES)
        asked = (row.name for row in table if cls.may_be_own(row))
        loaded = {name: parts.get(name) for name in asked}
        own = {n: part for n, part in loaded.items() if part is not parts.reference(n)}
        return cls(own, table)

    @classmethod
    def reference(cls) -> Self:
        """Return the library's own parts, whatever is in the workspace."""
        return cls.of({})

    @classmethod
    def of(cls, own: Mapping[str, Any]) -> Self:
        """Return the library's parts, some of them replaced by objects at hand.

        Args:
            own: Functions or classes by the name of the part that they replace.

        Raises:
            KeyError: Such a run has no part of this name.
        """
        for name in own:
            if name not in cls.NAMES:
                raise KeyError(f"no {cls.KIND} has a part {name!r}; parts: {', '.join(cls.NAMES)}")
        rows = []
        for name in cls.NAMES:
            part = PARTS[name]
            is_own = name in own
            note = f"given as {own[name].__module__}" if is_own else "the library's own"
            state: parts.State = "yours" if is_own else "reference"
            rows.append(PartStatus(name, part.lesson, part.node, state, note))
        return cls(own, PartTable(rows))

    @classmethod
    def may_be_own(cls, row: PartStatus) -> bool:
        """Say whether it is worth loading a part of this state."""
        return True

    @property
    def own(self) -> dict[str, Any]:
        """The parts that replace the library's, by name, as ``of`` takes them.

        >>> class Mine(BlockPool): pass
        >>> list(Assembly.of({"BlockPool": Mine}).own)
        ['BlockPool']
        """
        return dict(self._own)

    @property
    def own_names(self) -> tuple[str, ...]:
        """The parts that are not the library's, in the order of the lessons."""
        return tuple(
            row.name for row in self.table if row.name in self._own and row.state != "reference"
        )

    def get(self, name: str) -> Any:
        """Return the part of this name; the library's code in it calls the other parts.

        Args:
            name: A part in ``NAMES``.
        """
        if name not in self._used:
            part = self._own[name] if name in self._own else parts.reference(name)
            self._used[name] = rewire(part, self._own) if self._own else part
        return self._used[name]

    def stand_in(self, part: Any) -> Any:
        """Return what stands for a class or function here: one's own, or one that calls one's own.

        Args:
            part: A class or function of the library or of one's own, or a ``functools.partial`` of
                one. Anything else stands for itself.

        >>> class Mine(Scheduler): pass
        >>> Assembly.of({"Scheduler": Mine}).stand_in(Scheduler) is Mine
        True
        """
        if isinstance(part, functools.partial):
            return functools.partial(self.stand_in(part.func), *part.args, **part.keywords)
        name = getattr(part, "__name__", "")
        if name in self._own and part is parts.reference(name):
            return self.get(name)
        return rewire(part, self._own) if self._own else part

    def make_manager(
        self, num_blocks: int, block_size: int, enable_caching: bool
    ) -> KVCacheManager:
        """Make a cache manager, on this block pool.

        Args:
            num_blocks: Blocks of the KV cache, the null block included.
            block_size: Tokens per block.
            enable_caching: Whether prefixes are kept for later requests.
        """
        manager: KVCacheManager = self.get("KVCacheManager")(
            num_blocks, block_size, enable_caching, block_pool=self.make_pool
        )
        return manager

    def make_pool(self, num_blocks: int, enable_caching: bool) -> BlockPool:
        """Make a block pool, with the free queue that is one's own, if there is one.

        Args:
            num_blocks: Blocks in it, the null block included.
            enable_caching: Whether prefixes are kept for later requests.
        """
        # Without one, the pool has its faster queue, which hands out the same blocks.
        queue = "FreeKVCacheBlockQueue"
        options = {"free_queue": self.get(queue)} if queue in self._own else {}
        pool: BlockPool = self.get("BlockPool")(num_blocks, enable_caching, **options)
        return pool

    def make_scheduler(
        self,
        config: SchedulerConfig,
        manager: KVCacheManager,
        scheduler_class: Any = Scheduler,
    ) -> Scheduler:
        """Make a scheduler, with these policies where the configuration names or gives some.

        Args:
            config: Limits and choices.
            manager: Hands out the blocks.
            scheduler_class: Makes the scheduler: one of the library's classes, for which one's own
                stands in, or anything else that is called with a configuration and a manager.

        >>> class Mine(Scheduler): pass
        >>> manager = Assembly.reference().make_manager(10, 16, enable_caching=True)
        >>> own = Assembly.of({"Scheduler": Mine})
        >>> type(own.make_scheduler(SchedulerConfig(), manager)).__name__
        'Mine'
        """
        if self._own:
            policy, victim_policy = config.policy, config.victim_policy
            if isinstance(policy, str):
                policy = POLICIES.get(policy, policy)
            if isinstance(victim_policy, str):
                victim_policy = self.stand_in(VICTIM_POLICIES[victim_policy])(manager)
            config = dataclasses.replace(
                config,
                policy=self.stand_in(policy),
                victim_policy=self.stand_in(victim_policy),
            )
        scheduler: Scheduler = self.stand_in(scheduler_class)(config, manager)
        return scheduler

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
        for frame in reversed(list(_frames(error.__traceback__))):
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
                f"the library's own parts: {self.WITHOUT}"
            )
        if self.own_names:
            return PartError(
                f"{where} the {self.KIND} stopped: {problem}. These parts are yours: "
                f"{', '.join(self.own_names)}. One of them has probably returned something wrong: "
                f"{self.WATCHED} checks every call, {self.WITHOUT} runs without them"
            )
        error.add_note(where)
        return error

    def _note(self, name: str) -> str:
        """Say where a part comes from."""
        owner, _, method = name.partition(".")
        part = PARTS[owner]
        members = dict(_members(owner, self._own[owner]))
        place = next(row.note for row in self.table if row.name == owner)
        module = str(members[name].__module__) if name in members else ""
        if module.startswith("my_engine."):
            place = f"{module.replace('.', '/')}.py"
        lesson = part.methods[method] if method else part.lesson
        return f"It is {place} ({lesson_name(lesson)})."


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
