"""The parts that an engine runs on, and whose they are.

``EngineParts`` takes each from ``course_lib.parts``: the learner's own if there is one, else the
reference. When something goes wrong in a run, it says whose part it was.
"""

from __future__ import annotations

import importlib.util

from course_lib.attention.backends.backend import AttentionBackend
from course_lib.attention.backends.failure import KernelError
from course_lib.attention.backends.own_operations import PYTORCH_PARTS, TRITON_PARTS, with_own
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
