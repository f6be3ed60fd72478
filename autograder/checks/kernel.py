"""Checks of Triton kernels: run under the bounds guard, held against PyTorch, compiled.

The library launches the learner's kernel where the learner's code runs; what comes back is tensors
and the bytes that it moved. Under Triton's interpreter a kernel is slow, so cases are small, and a
check of kernels has a patience of its own.
"""

from __future__ import annotations

import importlib
import inspect
import linecache
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from autograder.checks.compare import within
from autograder.checks.finding import FAILING, Counterexample, Finding, Misconception
from autograder.proxy.subject import ITSELF, LocalSubject, Outcome, Raised, Returned, Subject

if TYPE_CHECKING:
    from torch import Tensor

GPUS = "sm_80, sm_90 and sm_100"
"""The GPUs that a kernel is compiled for, by compute capability: A100, H100, B200."""

_UNAVAILABLE = "TritonUnavailableError"
_UNKNOWN = ("CompilerUnfinishedError", "NoAnswerError")
_NOT_SEEN = "whether a GPU could is not known"
_MARGIN = 30.0
"""Seconds between the end of a compiler that is too late and that of who waits for it."""

_OUTSIDE = re.compile(r"program (\(.*?\)).* outside (\w+)")
_PLACE = re.compile(r" outside (\w+),.*? at element (-?\d+)")
_KIB = 1024
_FEW = 8
"""How many numbers of a tensor are shown one by one."""

_REMEMBERED_SEEDS, _REMEMBERED_STARTS = 8, 1024
"""Of how many seeds the cases are kept, and of how many starts of known wrong kernels the outcome:
a start takes a hundred times as long as to compare what came of it."""


@dataclass(frozen=True, eq=False)
class KernelCase:
    """One start of a kernel, and what must come of it.

    Attributes:
        title: What is special about it, in words: it stands in the report.
        arguments: What the operation's launch takes, by name.
        expected: What must be in the tensors that the kernel writes, by name.
        needed_bytes: The bytes that it has to read, by the kernel's parameter, where they are worth
            counting.
        most_accesses: The most loads and stores of a tensor that a kernel needs which moves many
            numbers at a time, by the kernel's parameter, where that is asked for.
        far: The elements to one of which a right kernel goes first behind the end of a tensor, by
            the kernel's parameter. No notebook has room for a cache whose places need 64 bits, so a
            case may end it before them. Where nobody watches the kernel, on a GPU, it is left out.
    """

    title: str
    arguments: Mapping[str, Any]
    expected: Mapping[str, Tensor]
    needed_bytes: Mapping[str, int] = field(default_factory=dict)
    most_accesses: Mapping[str, int] = field(default_factory=dict)
    far: Mapping[str, range] = field(default_factory=dict)


@dataclass(frozen=True)
class Edited:
    """Stands for a kernel that differs from the reference in a few places: a known wrong one.

    Attributes:
        edits: Pairs of the reference's text, which is there once, and what stands there instead.
    """

    edits: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KernelCheck:
    """The property that a kernel writes what PyTorch computes, stays in bounds, and compiles.

    Attributes:
        kernel: The library's kernel as ``"module:name"``. It is imported when it is needed: Triton
            does not exist everywhere.
        operation: The ``..._launch`` that starts it, see ``course_lib.attention.backends.trial``.
        cases: Makes the cases of a seed, the smallest first.
        mistakes: Known wrong kernels; ``wrong`` is an ``Edited``.
        rel: The largest difference, as a share of a tensor's largest element; 0 for a copy.
        traffic_weight: The share of the points for reading no more than the needed bytes, in no
            more accesses than a case has.
        patience: Seconds that one start may take.
    """

    kernel: str
    operation: str
    cases: Callable[[int], Iterable[KernelCase]]
    mistakes: tuple[Misconception, ...] = ()
    rel: float = 1e-4
    traffic_weight: float = 0.0
    patience: float = 30.0

    @property
    def reference(self) -> Any:
        """The library's kernel.

        Raises:
            ImportError: Triton does not exist here.
        """
        module, _, name = self.kernel.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def _name(self) -> str:
        return self.kernel.partition(":")[2]

    @property
    def misconceptions(self) -> tuple[Misconception, ...]:
        """The known wrong kernels, each one whole; none where Triton does not exist."""
        if find_spec("triton") is None:
            return ()
        return tuple(
            replace(mistake, wrong=edited(self.kernel, mistake.wrong)) for mistake in self.mistakes
        )

    def examine(self, subject: Subject, seed: int, max_examples: int) -> Finding:
        """Start the kernel on every case of the seed, count its bytes, and compile it."""
        cases = _cases(self, seed, _is_watched())
        came: dict[KernelCase, Outcome] = {}
        for case in cases:
            came[case] = outcome = self._start(subject, case)
            problem = self._problem_with(subject, case, outcome)
            if problem is not None:
                return self._failed(subject, problem, cases, came)
        started = [(case, each) for case, each in came.items() if isinstance(each, Returned)]
        compiled = self._compile(subject)
        if isinstance(compiled, Raised):
            asked = f"compiled for {GPUS}, which needs no GPU"
            is_known = compiled.kinds[0] not in _UNKNOWN
            why = f"the interpreter runs it, and {'no GPU could' if is_known else _NOT_SEEN}"
            wanted = "a kernel for each of them"
            shown = Counterexample(asked, wanted, compiled.message, why, label=FAILING)
            return Finding(0.0, shown)
        return self._judged(started, compiled)

    def _start(self, subject: Subject, case: KernelCase) -> Outcome:
        from course_lib.attention.backends.trial import try_launch

        return subject.apply(try_launch, (self.operation, ITSELF, dict(case.arguments)))

    def _compile(self, subject: Subject) -> Outcome:
        from course_lib.attention.backends.compilation import TIMEOUT_SECONDS
        from course_lib.attention.backends.trial import compile_for_all

        # It ends by itself: by the CPU's clock, which does not count what else a machine does.
        with subject.patient(TIMEOUT_SECONDS + _MARGIN):
            return subject.apply(compile_for_all, (self.operation, ITSELF))

    def _problem_with(
        self, subject: Subject, case: KernelCase, outcome: Outcome
    ) -> Counterexample | None:
        """Return what is wrong with what a start of the kernel did, if anything is."""
        shown = f"{self._name}: {case.title}\n{_shapes(case.arguments)}"
        if case.far:
            return _astray_elsewhere(shown, case.far, outcome)
        if isinstance(outcome, Raised):
            return self._raised(shown, outcome)
        for name, tensor in case.expected.items():
            came = _outputs(outcome).get(name)
            complaint = within(self.rel)(tensor, came)
            if complaint is not None:
                near = f"to {self.rel:g} of its largest element" if self.rel else "to the last bit"
                expected = f"{name} as PyTorch computes it, {near}"
                got = f"{name}: {complaint or 'differs'}"
                why = self._why_nan(subject, case, outcome, name)
                return Counterexample(shown, expected, got, why, label=FAILING)
        return None

    def _why_nan(self, subject: Subject, case: KernelCase, outcome: Outcome, name: str) -> str:
        """Say where NaN in what a kernel wrote comes from; "" where there is none."""
        came = _outputs(outcome).get(name)
        if came is None or not _has_nan(came):
            return ""
        stored = _moved(outcome, "stored")
        is_counted = bool(stored or _moved(outcome, "loaded"))
        is_given = name in case.arguments and not _has_nan(case.arguments[name])
        if is_counted and stored.get(name, 0) < came.numel() * came.element_size():
            if is_given:
                return "a lane that is loaded under a mask without `other` is NaN, and is stored"
            return f"NaN is what {name} holds before it is written, and not all of it is"
        clean = {key: _without_nan(value) for key, value in case.arguments.items()}
        again = self._start(subject, replace(case, arguments=clean))
        if _outputs(again) and not _has_nan(_outputs(again)[name]):
            return "NaN is in slots that no sequence owns: some of them are read"
        if is_given:
            return "inf - inf, inf times 0 and 0 / 0 are NaN"
        return (
            "inf - inf, inf times 0 and 0 / 0 are NaN; so is an output before it is written, and a "
            "lane that is loaded under a mask without `other`"
        )

    def _raised(self, shown: str, outcome: Raised) -> Counterexample:
        if outcome.kinds[0] == _UNAVAILABLE:
            return Counterexample("Triton", "kernels run here", outcome.message, label=FAILING)
        expected = "a kernel that stays inside its tensors and comes to its end"
        why = outcome.line or ""
        told = outcome.message, why, outcome.output, outcome
        return Counterexample(shown, expected, *told, label=FAILING)

    def _failed(
        self,
        subject: Subject,
        problem: Counterexample,
        cases: Sequence[KernelCase],
        came: Mapping[KernelCase, Outcome],
    ) -> Finding:
        *_, outcome = came.values()
        stores = isinstance(outcome, Raised) or bool(_moved(outcome, "stored"))
        finding = Finding(0.0, problem, unwritten=not stores)
        if not stores or _is_unavailable(outcome) or subject.is_silent:
            return finding
        return finding.named(self._fitting(subject, cases, came), subject)

    def _fitting(
        self,
        subject: Subject,
        cases: Sequence[KernelCase],
        came: Mapping[KernelCase, Outcome],
    ) -> list[Misconception]:
        """Return the known wrong kernels that do the same in every case.

        A case that has been tried is not tried again, nor any once no known kernel is left.
        """
        fitting = list(enumerate(self.misconceptions))
        for case in cases:
            if not fitting:
                break
            outcome = came[case] if case in came else self._start(subject, case)
            fitting = [
                (place, each)
                for place, each in fitting
                if self._alike(_known(self, place, case), outcome)
            ]
        return [each for _, each in fitting]

    def _alike(self, one: Outcome, other: Outcome) -> bool:
        """Say whether two kernels did the same: the same numbers, or went astray in one place."""
        if isinstance(one, Raised) and isinstance(other, Raised):
            return _astray(one) == _astray(other)
        wrong, came = _outputs(one), _outputs(other)
        return wrong.keys() == came.keys() and all(
            within(self.rel)(wrong[name], came[name]) is None for name in wrong
        )

    def _judged(self, started: list[tuple[KernelCase, Returned]], compiled: Outcome) -> Finding:
        """Return the finding for a kernel that is right: what it moved decides the rest."""
        remarks = [_traffic(*pair) for pair in started]
        kernels = compiled.value.values() if isinstance(compiled, Returned) else ()
        largest = max((kernel.shared_bytes for kernel in kernels), default=0)
        remarks.append(f"Compiled for {GPUS}: {largest / _KIB:.3g} KiB of shared memory a program.")
        said = tuple(remark for remark in remarks if remark)
        for case, outcome in started:
            told = _told_of_bytes(case, outcome) or _told_of_accesses(case, outcome)
            if told and self.traffic_weight:
                shown = f"{self._name}: {case.title}\n{_shapes(case.arguments)}"
                counterexample = Counterexample(shown, *told, label=FAILING)
                return Finding(1 - self.traffic_weight, counterexample, remarks=said)
        return Finding(1.0, remarks=said)


@lru_cache(_REMEMBERED_SEEDS)
def _cases(check: KernelCheck, seed: int, is_watched: bool) -> tuple[KernelCase, ...]:
    """Return the cases of a seed that can be tried."""
    return tuple(case for case in check.cases(seed) if is_watched or not case.far)


@lru_cache(_REMEMBERED_STARTS)
def _known(check: KernelCheck, place: int, case: KernelCase) -> Outcome:
    """Return what the known wrong kernel at this place does in a case."""
    wrong = check.misconceptions[place].wrong
    return check._start(LocalSubject(wrong, check.patience), case)


@cache
def edited(kernel: str, edit: Edited) -> Any:
    """Return the library's kernel with other text in some places.

    Args:
        kernel: The kernel as ``"module:name"``.
        edit: What stands where.

    Raises:
        ValueError: A text to be replaced is not there exactly once.
    """
    module_name, _, name = kernel.partition(":")
    module = importlib.import_module(module_name)
    source = textwrap.dedent(inspect.getsource(getattr(module, name).fn))
    for old, new in edit.edits:
        if source.count(old) != 1:
            raise ValueError(
                f"{name} has {old!r} {source.count(old)} times; an edit names what is there once"
            )
        source = source.replace(old, new)
    # Triton reads a kernel's source from its file; a file without a time is never looked for.
    filename = f"<{name}, edited {abs(hash(edit)):x}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    scope = dict(vars(module))
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


def _outputs(outcome: Outcome) -> dict[str, Tensor]:
    """Return the tensors that a start of a kernel wrote; none if what came is no trial."""
    outputs = getattr(getattr(outcome, "value", None), "outputs", None)
    return outputs if isinstance(outputs, dict) else {}


def _moved(outcome: Outcome, way: str) -> dict[str, int]:
    """Return the bytes that a start read (``loaded``) or wrote (``stored``), by argument.

    Or, likewise, how many loads and stores that took (``accesses``).

    There are none where nobody counted: on a GPU.
    """
    moved = getattr(getattr(outcome, "value", None), way, None)
    if not isinstance(moved, dict):
        return {}
    return {str(name): count for name, count in moved.items() if type(count) is int}


def _told_of_bytes(case: KernelCase, outcome: Outcome) -> tuple[str, str, str] | None:
    """Return what is expected, what came and why it is too much, if more is read than needed."""
    wasted = _beyond(case.needed_bytes, _moved(outcome, "loaded"))
    if not wasted:
        return None
    expected, got = (
        ", ".join(f"{pair[side]:,} bytes of {name}" for name, pair in wasted.items())
        for side in (0, 1)
    )
    why = "the numbers are right, and it reads what it does not need"
    return f"it reads {expected}", got, why


def _told_of_accesses(case: KernelCase, outcome: Outcome) -> tuple[str, str, str] | None:
    """Return what is expected, what came and why it is too much, if few lanes move at a time."""
    slow = _beyond(case.most_accesses, _moved(outcome, "accesses"))
    if not slow:
        return None
    most = ", ".join(f"{few} of {name}" for name, (few, _) in slow.items())
    got = ", ".join(f"{many} of {name}" for name, (_, many) in slow.items())
    why = "the numbers are right, and too few of them are moved at a time: give each lane its own"
    return f"no more loads and stores than {most}", got, why


def _beyond(allowed: Mapping[str, int], came: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return what is allowed and what came, of the arguments of which more came."""
    pairs = {name: (most, came.get(name, 0)) for name, most in allowed.items()}
    return {name: pair for name, pair in pairs.items() if pair[1] > pair[0]}


def _traffic(case: KernelCase, outcome: Outcome) -> str:
    """Say what a start moved; "" where nobody counted."""
    loaded, stored = _moved(outcome, "loaded"), _moved(outcome, "stored")
    if not loaded and not stored:
        return ""
    said = f"{sum(loaded.values()):,} bytes read, {sum(stored.values()):,} written"
    for name, needed in case.needed_bytes.items():
        said += f"; {loaded.get(name, 0):,} of {name}, {needed:,} needed"
    return f"{case.title}: {said}."


def _is_watched() -> bool:
    """Say whether kernels run where every address is looked at before it is used."""
    from course_lib.attention.backends.availability import triton_state

    return triton_state().mode == "interpreted"


def _astray_elsewhere(
    shown: str, far: Mapping[str, range], outcome: Outcome
) -> Counterexample | None:
    """Return what is wrong if a kernel did not leave the tensors at the place that is meant."""
    message = outcome.message if isinstance(outcome, Raised) else ""
    found = _PLACE.search(message)
    if found and int(found[2]) in far.get(found[1], ()):
        return None
    wanted = " or ".join(f"element {places.start:,} of {name}" for name, places in far.items())
    got = message or "it went to places inside its tensors"
    raised = outcome if isinstance(outcome, Raised) else None
    return Counterexample(shown, f"it goes to {wanted}", got, raised=raised, label=FAILING)


def _is_unavailable(outcome: Outcome) -> bool:
    return isinstance(outcome, Raised) and outcome.kinds[0] == _UNAVAILABLE


def _astray(outcome: Raised) -> tuple[str, ...]:
    """Return what an exception of a kernel is known by: its class, and where it went."""
    found = _OUTSIDE.search(outcome.message)
    return (outcome.kinds[0], *(found.groups() if found else ()))


def _has_nan(value: Any) -> bool:
    return hasattr(value, "isnan") and bool(value.isnan().any())


def _without_nan(value: Any) -> Any:
    """Return an argument with zeros in the place of NaN."""
    return value.nan_to_num(nan=0.0) if _has_nan(value) else value


def _shapes(arguments: Mapping[str, Any]) -> str:
    """Show arguments by what matters: a few numbers as they are, tensors by type and shape.

    >>> import torch
    >>> _shapes({"num_splits": 3, "value": torch.zeros(2, 3, 8).transpose(0, 1)})
    'num_splits=3, value=float32[3, 2, 8] with strides [8, 24, 1]'
    """
    return ", ".join(f"{name}={_shape(value)}" for name, value in arguments.items())


def _shape(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        dtype = str(value.dtype).removeprefix("torch.")
        if value.numel() <= _FEW:
            return _written_out(value.tolist())
        # Of two tensors of one shape only the strides say that they lie in different ways.
        apart = "" if value.is_contiguous() else f" with strides {list(value.stride())}"
        return f"{dtype}{list(value.shape)}{apart}"
    if hasattr(value, "context_lens") and hasattr(value, "block_tables"):
        return f"contexts {value.context_lens.tolist()} in blocks {value.block_tables.tolist()}"
    return repr(value)


def _written_out(numbers: Any) -> str:
    """Show nested lists of numbers, floats with as many digits as a person reads.

    >>> _written_out([[0.30000001192092896, 2.0], [7, float("-inf")]])
    '[[0.3, 2], [7, -inf]]'
    """
    if isinstance(numbers, list):
        return f"[{', '.join(map(_written_out, numbers))}]"
    return f"{numbers:g}" if isinstance(numbers, float) else str(numbers)
