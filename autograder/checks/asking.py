"""Whether an answer, while it is called, asks for the very thing that it was to be."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from types import CodeType, FrameType, FunctionType
from typing import Any

from autograder.checks.borrowed import scope_of
from autograder.checks.budget import Budget
from autograder.checks.exercise import Check
from autograder.checks.reference import is_kernel, plain
from autograder.checks.scale import ScaleCheck
from autograder.checks.search import PUBLIC_SEED
from autograder.proxy.host import Host
from autograder.proxy.recipes import Callback, Kitchen
from autograder.proxy.subject import PATIENCE, LocalSubject
from course_lib.mounting import plain_function
from course_lib.part_modules import PACKAGE

_EXAMPLES = 10
"""Generated cases: what counts is who is asked on the way, and the probes tell most of that."""


_FOR_THE_CHECK = (Kitchen.make.__code__, Callback.__call__.__code__, Host.handle.__code__)
"""Below these runs what the check has asked for itself."""


def asked_when_called(obj: Any, check: Check, part: str | None = None) -> str:
    """Return where the answer that is to be written was found, if it runs while another one does.

    However it was got hold of: the code that runs is compared, and not what an answer names. What
    runs for an object that the check makes, or in one of its callbacks, is not the answer's asking.
    The check is run once more, so it is worth asking only of an answer that earns something.

    Args:
        obj: The answer.
        check: Its check.
        part: The part of the engine that it yields; what the learner has kept of it may not be
            asked either, since it would be replaced by a call of itself.

    Returns:
        The module of what was asked: the library's, or one of ``my_engine``; "" if none was.

    >>> from autograder import lessons
    >>> def hidden(model): return vars(sys.modules["course_lib.kv_cache"])["kv_" + suffix](model)
    >>> suffix = "bytes_per_token"
    >>> asked_when_called(hidden, lessons.find("1.1").check)
    'course_lib.kv_cache.sizing'
    >>> asked_when_called(lambda model: 2 * model.num_layers, lessons.find("1.1").check)
    ''
    """
    if not callable(obj) or is_kernel(check.reference):
        return ""
    rights = [plain(each) for each in (check.reference, *getattr(check, "others", ()))]
    codes = {each.__code__ for right in rights for each in _functions_in(right)}
    if not codes:
        return ""
    subject = _Watched(obj, codes, part, getattr(check, "patience", PATIENCE))
    small = in_small(check)
    if isinstance(small, ScaleCheck):
        small.play_alone(subject, PUBLIC_SEED)
    else:
        small.examine(subject, PUBLIC_SEED, _EXAMPLES)
    return subject.asked


class _Watched(LocalSubject):
    """A learner's object, whose calls are watched for those that ask what they should not.

    Args:
        obj: The object.
        codes: The code that it should not ask.
        part: The name of the part, whose kept answer it should not ask.
        timeout: Seconds that one call may take.

    Attributes:
        asked: The module of what was asked first; "" if nothing was.
    """

    def __init__(
        self, obj: object, codes: Collection[CodeType], part: str | None, timeout: float
    ) -> None:
        super().__init__(obj, timeout)
        self._codes = codes
        self._lines = {code.co_firstlineno for code in codes}
        self._kept = _places_of(part) if part else frozenset()
        self._kept_modules = {module for module, _ in self._kept}
        self._scopes = [scope_of(obj), *(each.__globals__ for each in _functions_in(obj))]
        self.asked = ""

    def _ask(self, request: dict[str, Any], lent: Sequence[Callback]) -> dict[str, Any]:
        if self.asked:
            return super()._ask(request, lent)
        before = sys.getprofile()
        sys.setprofile(self._watch)
        try:
            return super()._ask(request, lent)
        finally:
            sys.setprofile(before)

    def _watch(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or self.asked:
            return
        # Every call comes by here, and to look for a code takes longer than many a call: so its
        # line is asked first, which two that are equal share.
        code, module = frame.f_code, str(frame.f_globals.get("__name__"))
        is_right = code.co_firstlineno in self._lines and code in self._codes
        if (is_right or self._is_kept(module, code.co_name)) and self._is_asked_by_it(frame):
            self.asked = module

    def _is_kept(self, module: str, name: str) -> bool:
        """Say whether a function is of the part that is kept."""
        # A module runs when it is loaded, whatever is asked of it then.
        return (
            module in self._kept_modules
            and name != "<module>"
            and not self._kept.isdisjoint([(module, ""), (module, name)])
        )

    def _is_asked_by_it(self, frame: FrameType) -> bool:
        """Say whether the learner's code, and not the check, has led to a frame."""
        around: FrameType | None = frame
        while around is not None and around.f_code not in _FOR_THE_CHECK:
            if any(around.f_globals is scope for scope in self._scopes):
                return around is not frame
            around = around.f_back
        return False


def _places_of(part: str) -> frozenset[tuple[str, str]]:
    """Return the modules in which a part is kept, each with the function of it that counts.

    >>> sorted(_places_of("BlockPool.touch"))
    [('my_engine.BlockPool', 'touch'), ('my_engine.BlockPool.touch', '')]
    """
    owner, _, method = part.partition(".")
    own = (f"{PACKAGE}.{part}", "")
    return frozenset([own, (f"{PACKAGE}.{owner}", method)] if method else [own])


def _functions_in(value: Any) -> list[FunctionType]:
    """Return a function, or those that a class defines; of an object, those of its class."""
    if not isinstance(value, FunctionType | type):
        value = type(value)
    members = vars(value).values() if isinstance(value, type) else [value]
    return [each for each in map(plain_function, members) if each is not None]


def in_small(check: Any) -> Any:
    """Return a check that asks the same, and neither for speed nor with large inputs.

    >>> from autograder import lessons
    >>> len(lessons.find("7.3b").check.large), len(in_small(lessons.find("7.3b").check).large)
    (2, 0)
    """
    inner: Any = check.inner if isinstance(check, Budget) else check
    return replace(inner, large=()) if getattr(inner, "large", ()) else inner
