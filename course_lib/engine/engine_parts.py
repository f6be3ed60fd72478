"""The parts that an engine runs on, and whose they are.

``EngineParts`` takes each from ``course_lib.parts``: the learner's own if there is one, else the
reference. When something goes wrong in a run, it says whose part it was.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Self

from course_lib import parts
from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.backends.failure import KernelError
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS, with_own
from course_lib.mounting import mount
from course_lib.parts import PartStatus
from course_lib.scheduling.assembly import ASSEMBLED_PARTS, Assembly

ENGINE_PARTS = (
    "BlockTable",
    "slot_mapping",
    "flatten_step",
    *ASSEMBLED_PARTS,
    "StopStrings",
    "Answer",
    "Executor",
    "EngineCore",
    "find_leaks",
    *PYTORCH_PARTS,
    *TRITON_PARTS,
)
"""Every part that an engine may use."""


class EngineParts(Assembly):
    """The parts of one engine, as ``LLM(..., parts=...)`` takes them.

    >>> from course_lib.kv_cache import BlockPool
    >>> EngineParts.reference().get("BlockPool") is BlockPool
    True
    >>> class Mine(BlockPool): pass
    >>> EngineParts.of({"BlockPool": Mine}).own_names
    ('BlockPool',)
    """

    NAMES = ENGINE_PARTS
    KIND = "engine"
    WATCHED = "LLM(..., debug=True)"
    WITHOUT = "LLM(..., parts=EngineParts.reference())"

    @classmethod
    def of_pieces(cls, pieces: Mapping[str, Any]) -> Self:
        """Return the library's parts, some of them, or some of their methods, replaced.

        Args:
            pieces: Functions or classes by the name of what they replace: a part, or one method of
                it as ``CLASS.METHOD``. A part of the course that no engine runs on, such as
                ``MemoryTracker``, is passed over.

        Raises:
            KeyError: An engine has no part of this name.
            ValueError: The class has no such method.

        >>> def why_never(self, request): return "not today"
        >>> EngineParts.of_pieces({"Scheduler.why_never": why_never}).own_names
        ('Scheduler',)
        >>> EngineParts.of_pieces({"Scheduler.why": why_never})
        Traceback (most recent call last):
        ValueError: Scheduler has no method 'why'; name one that the library's has
        """
        unused = parts.PARTS.keys() - set(cls.NAMES)
        pieces = {name: each for name, each in pieces.items() if name not in unused}
        whole = {name: piece for name, piece in pieces.items() if "." not in name}
        methods: dict[str, dict[str, Any]] = {}
        for name, piece in pieces.items():
            owner, _, method = name.partition(".")
            if method:
                methods.setdefault(owner, {})[method] = piece
        cls.of(dict.fromkeys(methods, cls))  # Says which names there are, before any is looked up.
        for owner, own in methods.items():
            base = whole.get(owner, parts.reference(owner))
            for method in own:
                if not hasattr(base, method):
                    raise ValueError(
                        f"{owner} has no method {method!r}; name one that the library's has"
                    )
            whole[owner] = mount(base, own)
        return cls.of(whole)

    @classmethod
    def may_be_own(cls, row: PartStatus) -> bool:
        """Say whether it is worth loading a part of this state.

        The references of kernels are not asked for in vain: Triton takes a second to import, and it
        is not there on every machine.
        """
        if row.name not in TRITON_PARTS:
            return True
        return row.state != "reference" and importlib.util.find_spec("triton") is not None

    def with_own_operations(self, backend: AttentionBackend) -> AttentionBackend:
        """Return a backend that runs on the learner's own operations and kernels."""
        names = (*PYTORCH_PARTS, *TRITON_PARTS)
        own = {name: self.get(name) for name in self.own_names if name in names}
        return with_own(backend, own) if own else backend

    def blame(self, error: BaseException) -> str | None:
        """Return the name of the learner's part in which an exception was raised, or None.

        What a kernel raised is the cause of the error that says which kernel it was.
        """
        raised = error.__cause__ if isinstance(error, KernelError) else error
        return None if raised is None else super().blame(raised)
