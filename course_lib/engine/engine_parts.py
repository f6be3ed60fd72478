"""The parts that an engine runs on, and whose they are.

Everything that decides what the engine does with memory and time is a part that some lesson builds.
``EngineParts`` takes each from ``course_lib.parts``: the learner's own if there is one, else the
reference. When something goes wrong in a run, it says whose part it was.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

from course_lib import parts
from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.backends.failure import KernelError
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS, with_own
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.watch.invariants import InvariantError
from course_lib.parts import PARTS, PartStatus, PartTable
from course_lib.scheduling.assembly import ASSEMBLED_PARTS, make_manager, make_scheduler
from course_lib.scheduling.scheduler import Scheduler, SchedulerConfig

ENGINE_PARTS = (
    "BlockTable",
    "slot_mapping",
    *ASSEMBLED_PARTS,
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
    >>> from course_lib.kv_cache import BlockPool
    >>> EngineParts.reference().get("BlockPool") is BlockPool
    True
    """

    def __init__(self, own: Mapping[str, Any], table: PartTable) -> None:
        self._own = dict(own)
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

        >>> from course_lib.kv_cache import BlockPool
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
        """Return the part of this name."""
        return self._own[name] if name in self._own else parts.reference(name)

    def make_manager(
        self, num_blocks: int, block_size: int, enable_caching: bool
    ) -> KVCacheManager:
        """Make a cache manager, on this block pool and free queue."""
        return make_manager(self._own, num_blocks, block_size, enable_caching)

    def make_scheduler(self, config: SchedulerConfig, manager: KVCacheManager) -> Scheduler:
        """Make a scheduler, with this queue if ``config.policy`` is a name."""
        return make_scheduler(self._own, config, manager)

    def with_own_operations(self, backend: AttentionBackend) -> AttentionBackend:
        """Return a backend that runs on the learner's own operations and kernels."""
        names = (*PYTORCH_PARTS, *TRITON_PARTS)
        own = {name: self._own[name] for name in names if name in self._own}
        return with_own(backend, own) if own else backend

    def blame(self, error: BaseException) -> str | None:
        """Return the name of the learner's part in which an exception was raised, or None.

        A part is also to blame for what the packages that it calls have raised, but not for what
        the library's own code has: that may have been given something wrong by another part.
        """
        owners = {code: name for name, part in self._own.items() for code in _code_objects(part)}
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

    def _note(self, name: str) -> str:
        """Say where a part comes from."""
        note = next(row.note for row in self.table if row.name == name)
        return f"It is {note} (lesson {PARTS[name].lesson})."


def _is_own(name: str, part: Any) -> bool:
    """Say whether a part is not the library's own."""
    return part is not parts.reference(name)


def _code_objects(part: Any) -> Iterator[CodeType]:
    """Yield the code of a function, or of all methods that a class itself defines."""
    members: Sequence[Any] = [part]
    if isinstance(part, type):
        members = list(vars(part).values())
    for member in members:
        for function in (member, *(getattr(member, name, None) for name in ("fget", "__func__"))):
            if isinstance(function, FunctionType):
                yield from _nested(function.__code__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those of the functions and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    """Yield the frames of a traceback, the innermost last."""
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
