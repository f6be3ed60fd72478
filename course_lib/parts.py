"""An engine of one's own: which parts of it the learner built, and which are the reference.

A part is a function or class of this library that some exercise asks the learner to write. When its
check passes, the learner's source is kept as ``my_engine/NAME.py`` in their workspace. From then on
``get("NAME")`` returns theirs. Where there is none, or it no longer loads, ``get`` returns the
library's own and says so.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import itertools
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, overload

State = Literal["yours", "reference", "broken"]

WORKSPACE_MARK = ".course"
"""The folder by which a workspace is known."""


@dataclass(frozen=True)
class Part:
    """A part of the engine that a learner can replace.

    Attributes:
        name: The function or class.
        module: Where the reference lives.
        lesson: The lesson that builds it.
        node: The box of the engine map that it belongs to.
    """

    name: str
    module: str
    lesson: int
    node: str


_BLOCK_POOL = "course_lib.kv_cache.block_pool"
_POLICIES = "course_lib.scheduling.policies"
_PAGED = "course_lib.attention.paged"
_KERNELS = "course_lib.attention.triton_kernels"

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("kv_bytes_per_token", "course_lib.kv_cache.sizing", lesson=1, node="sizing"),
        Part("num_kv_blocks", "course_lib.kv_cache.sizing", lesson=1, node="sizing"),
        Part("classify_slots", "course_lib.kv_cache.reservation", lesson=1, node="reservations"),
        Part(
            "static_batch_utilization",
            "course_lib.kv_cache.reservation",
            lesson=1,
            node="reservations",
        ),
        Part("arithmetic_intensity", "course_lib.roofline", lesson=1, node="cost_model"),
        Part("softmax", "course_lib.attention.dense", lesson=2, node="paged_attention"),
        Part("partial_attention", "course_lib.attention.dense", lesson=2, node="paged_attention"),
        Part("merge_states", "course_lib.attention.dense", lesson=2, node="paged_attention"),
        Part("attend_blocks", _PAGED, lesson=2, node="paged_attention"),
        Part("paged_decode", _PAGED, lesson=2, node="paged_attention"),
        Part("softmax_step", _KERNELS, lesson=2, node="triton_kernels"),
        Part("paged_decode_kernel", _KERNELS, lesson=2, node="triton_kernels"),
        Part("split_decode_kernel", _KERNELS, lesson=2, node="triton_kernels"),
        Part("combine_splits_kernel", _KERNELS, lesson=2, node="triton_kernels"),
        Part("BlockTable", "course_lib.kv_cache.block_table", lesson=3, node="block_table"),
        Part("slot_mapping", "course_lib.kv_cache.block_table", lesson=3, node="block_table"),
        Part("blocks_to_add", "course_lib.kv_cache.block_table", lesson=3, node="block_table"),
        Part("reshape_and_cache", _PAGED, lesson=3, node="triton_kernels"),
        Part("gather", _PAGED, lesson=3, node="block_table"),
        Part("reshape_and_cache_kernel", _KERNELS, lesson=3, node="triton_kernels"),
        Part(
            "FreeKVCacheBlockQueue", "course_lib.kv_cache.block_pool", lesson=7, node="block_pool"
        ),
        Part("BlockPool", _BLOCK_POOL, lesson=7, node="block_pool"),
        Part("CacheMetrics", "course_lib.kv_cache.metrics", lesson=7, node="block_pool"),
        Part("hash_blocks", "course_lib.kv_cache.prefix", lesson=8, node="cache_manager"),
        Part("longest_cached_prefix", "course_lib.kv_cache.prefix", lesson=8, node="cache_manager"),
        Part("KVCacheManager", "course_lib.kv_cache.manager", lesson=8, node="cache_manager"),
        Part("copy_blocks", _PAGED, lesson=8, node="triton_kernels"),
        Part("side_by_side", _PAGED, lesson=8, node="triton_kernels"),
        Part("copy_blocks_kernel", _KERNELS, lesson=8, node="triton_kernels"),
        Part("FCFSRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("PriorityRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("AgeingRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("SJFRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("SRPTRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("VTCRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("WFQRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("EDFRequestQueue", _POLICIES, lesson=9, node="request_queue"),
        Part("chunked_prefill", _PAGED, lesson=11, node="triton_kernels"),
        Part("chunked_prefill_kernel", _KERNELS, lesson=11, node="triton_kernels"),
        Part("Scheduler", "course_lib.scheduling.scheduler", lesson=12, node="scheduler"),
    )
}


@dataclass(frozen=True)
class PartStatus:
    """Whose version of a part is in use, and why.

    Attributes:
        name: The part.
        lesson: The lesson that builds it.
        node: Its box in the engine map.
        state: ``yours``, ``reference``, or ``broken`` (yours exists but does not load, so the
            reference is used).
        note: What there is to say about it, in one line.
    """

    name: str
    lesson: int
    node: str
    state: State
    note: str


class PartTable(Sequence[PartStatus]):
    """The state of every part; prints as a table, in a notebook as an HTML one."""

    def __init__(self, rows: Sequence[PartStatus]) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, index: int) -> PartStatus: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PartStatus, ...]: ...
    def __getitem__(self, index: int | slice) -> PartStatus | tuple[PartStatus, ...]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        width = max(len(row.name) for row in self._rows)
        lines = [f"{'part':<{width}}  lesson  in use     note"]
        lines += [
            f"{row.name:<{width}}  {row.lesson:>6}  {row.state:<9}  {row.note}".rstrip()
            for row in self._rows
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{h}</th>" for h in _COLUMNS)
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in self._rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @staticmethod
    def _cells(row: PartStatus) -> str:
        values = (row.name, str(row.lesson), row.state, row.note)
        return "".join(f"<td style='text-align:left'>{html.escape(v)}</td>" for v in values)


_COLUMNS = ("part", "lesson", "in use", "note")


class PartWarning(UserWarning):
    """A part of the learner's own could not be used."""


def workspace() -> Path | None:
    """Return the learner's workspace, or None when there is none or it must not be used.

    It is ``COURSE_WORKSPACE`` if that is set, else the nearest folder at or above the working
    directory that holds a ``.course`` folder. While a submission is graded there is none: an early
    mistake is not punished twice.
    """
    if os.environ.get("NBGRADER_EXECUTION") == "autograde":
        return None
    named = os.environ.get("COURSE_WORKSPACE")
    if named:
        return Path(named).expanduser().absolute()
    here = Path.cwd()
    return next((d for d in (here, *here.parents) if (d / WORKSPACE_MARK).is_dir()), None)


def reference(name: str) -> Any:
    """Return the library's own version of a part.

    Raises:
        KeyError: There is no such part.

    >>> reference("kv_bytes_per_token").__module__
    'course_lib.kv_cache.sizing'
    """
    return getattr(importlib.import_module(_part(name).module), name)


def get(name: str) -> Any:
    """Return the learner's own version of a part if it has passed its check, else the reference.

    A version that does not load is left where it is, a ``PartWarning`` says what is wrong with it,
    and the reference is returned.

    Raises:
        KeyError: There is no such part.

    >>> get("no_such_part")
    Traceback (most recent call last):
    KeyError: "no part 'no_such_part'; parts: kv_bytes_per_token, num_kv_blocks, ...
    """
    part = _part(name)
    path = _path(part)
    if path is None or not path.is_file():
        return reference(name)
    try:
        return _load(part, path)
    except _BrokenPartError as error:
        warnings.warn(
            f"{path.name}: {error}; the reference is used instead. Mend the file, or run the "
            f"check of lesson {part.lesson} again. Your file is kept.",
            PartWarning,
            stacklevel=2,
        )
        return reference(name)


def table() -> PartTable:
    """Return the state of every part.

    >>> {row.state for row in table()} <= {"yours", "reference", "broken"}
    True
    """
    return PartTable([_status(part) for part in PARTS.values()])


def save(name: str, source: str) -> Path | None:
    """Keep a learner's source for a part as ``my_engine/NAME.py``, once it is known to load.

    What stood there before, if it differs, moves to ``my_engine/history/``; nothing is overwritten.

    Args:
        name: The part.
        source: The text of a module that defines it and imports all that it needs.

    Returns:
        The file, or None when there is no workspace.

    Raises:
        KeyError: There is no such part.
        ValueError: The source does not define the part, or does not load on its own.
    """
    part = _part(name)
    path = _path(part)
    if path is None:
        return None
    content = source.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".py.new")
    draft.write_bytes(content)
    try:
        _load(part, draft)
    except _BrokenPartError as error:
        draft.unlink()
        raise ValueError(str(error)) from error
    if path.exists() and path.read_bytes() != content:
        _archive(path)
    draft.replace(path)
    _record_pass(path)
    return path


class _BrokenPartError(Exception):
    """Why a learner's part cannot be used, in one line."""


def _part(name: str) -> Part:
    if name not in PARTS:
        raise KeyError(f"no part {name!r}; parts: {', '.join(PARTS)}")
    return PARTS[name]


def _path(part: Part) -> Path | None:
    home = workspace()
    return None if home is None else home / "my_engine" / f"{part.name}.py"


def _load(part: Part, path: Path) -> Any:
    """Execute the module at ``path`` and return the part that it defines."""
    module_name = f"my_engine.{part.name}"
    # A source loader by hand, because the draft of a part does not end in .py.
    loader = importlib.machinery.SourceFileLoader(module_name, str(path))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(module_name)
    sys.modules[module_name] = module
    try:
        # As where the reference lives: course_lib.attention tells Triton to interpret where there
        # is no GPU, which is too late once a part has imported Triton.
        importlib.import_module(part.module.rpartition(".")[0])
        # Compiled from the text each time: a stale byte-code file would hide an edit of the file.
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
        if part.name in vars(module):
            return vars(module)[part.name]
        reason = f"it does not define {part.name}"
    except SyntaxError as error:
        reason = f"syntax error in line {error.lineno}: {error.msg}"
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
    if previous is None:
        del sys.modules[module_name]
    else:
        sys.modules[module_name] = previous
    raise _BrokenPartError(reason)


def _status(part: Part) -> PartStatus:
    def status(state: State, note: str) -> PartStatus:
        return PartStatus(part.name, part.lesson, part.node, state, note)

    path = _path(part)
    if path is None or not path.is_file():
        return status("reference", f"yours to build in lesson {part.lesson}")
    try:
        _load(part, path)
    except _BrokenPartError as error:
        return status("broken", f"{error}; the reference is used, your file is kept")
    if _digest(path) != _passed_digests(path.parent).get(part.name, {}).get("sha256"):
        return status("yours", "edited since it passed; run its check again")
    return status("yours", f"my_engine/{path.name}")


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _archive(path: Path) -> None:
    """Move ``path`` into ``history/`` under the first number that is free."""
    history = path.parent / "history"
    history.mkdir(exist_ok=True)
    names = (history / f"{path.stem}.{number}.py" for number in itertools.count(1))
    path.replace(next(name for name in names if not name.exists()))


def _passed_digests(folder: Path) -> dict[str, dict[str, str]]:
    """Return what is on record about the versions that passed; a damaged record counts as none."""
    try:
        record = json.loads((folder / "passed.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    entries = record.items() if isinstance(record, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _record_pass(path: Path) -> None:
    record = _passed_digests(path.parent)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    record[path.stem] = {"sha256": _digest(path), "passed": when}
    draft = path.parent / "passed.json.new"
    draft.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path.parent / "passed.json")
