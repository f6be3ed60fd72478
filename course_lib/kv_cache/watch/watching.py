"""Watching a pool or a manager at work, without changing its code.

The invariant checker, the leak finder and the recorder all need to know what is done to an object.
``watch`` tells them, call by call, for the library's classes and for a learner's own alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

POOL_OPERATIONS = (
    "get_new_blocks",
    "free_blocks",
    "touch",
    "cache_full_blocks",
    "evict_blocks",
    "reset_prefix_cache",
)
"""Methods that change a ``BlockPool``."""

MANAGER_OPERATIONS = (
    "get_computed_blocks",
    "allocate_slots",
    "free",
    "fork",
    "take_block_copies",
    "reset_prefix_cache",
)
"""Methods that change a ``KVCacheManager``, and the lookup."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a watched method.

    Attributes:
        operation: Name of the method.
        arguments: What it was called with, by position; iterators as lists.
        keywords: What it was called with, by name.
        result: What it returned; None if it raised.
        error: The exception that it raised, or None.
    """

    operation: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    result: Any = None
    error: Exception | None = None


class Observer(Protocol):
    """What wants to know of calls."""

    def before(self) -> None:
        """Prepare; the call has not begun."""

    def after(self, call: Call) -> None:
        """See what was called and what came of it."""


def pool_of(subject: Any) -> Any:
    """Return a manager's pool, or the object itself if it has none.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> pool = BlockPool(num_blocks=2)
    >>> pool_of(pool) is pool
    True
    """
    return getattr(subject, "block_pool", subject)


def table_ids(subject: Any) -> dict[str, list[int]]:
    """Return the block table of each request of a manager, as ids; a pool has none."""
    if pool_of(subject) is subject:
        return {}
    return {
        name: [block.block_id for block in table] for name, table in subject.block_tables().items()
    }


def operations_of(subject: object) -> tuple[str, ...]:
    """Return the methods to watch: a manager's if the object has a block pool, else a pool's.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> operations_of(BlockPool(num_blocks=2))[0]
    'get_new_blocks'
    """
    wanted = POOL_OPERATIONS if pool_of(subject) is subject else MANAGER_OPERATIONS
    return tuple(name for name in wanted if hasattr(subject, name))


@contextmanager
def watch(subject: object, observer: Observer) -> Iterator[None]:
    """Report every call of the object's operations to an observer, inside the ``with`` block.

    Calls that one watched method makes of another are part of it, and are not reported. Several
    observers can watch one object; the one that came last sees a call first.

    Raises:
        TypeError: The object's class has ``__slots__``, so no method of it can be watched.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> class Printer:
    ...     def before(self): pass
    ...     def after(self, call): print(call.operation, call.arguments, "->", call.result)
    >>> pool = BlockPool(num_blocks=4)
    >>> with watch(pool, Printer()):
    ...     _ = pool.get_new_blocks(1)
    get_new_blocks (1,) -> [KVCacheBlock(block_id=1, ref_cnt=1, block_hash=None)]
    """
    if not hasattr(subject, "__dict__"):
        raise TypeError(
            f"{type(subject).__name__} has __slots__, so its methods cannot be watched; "
            "remove __slots__ from the class"
        )
    depth = [0]
    names = operations_of(subject)
    shadowed = {name: vars(subject)[name] for name in names if name in vars(subject)}
    for name in names:
        setattr(subject, name, _reporting(getattr(subject, name), name, observer, depth))
    try:
        yield
    finally:
        for name in names:
            delattr(subject, name)
        for name, method in shadowed.items():
            setattr(subject, name, method)


def _reporting(
    method: Callable[..., Any], name: str, observer: Observer, depth: list[int]
) -> Callable[..., Any]:
    """Wrap a method so that outermost calls are reported."""

    @functools.wraps(method)
    def reporting(*arguments: Any, **keywords: Any) -> Any:
        if depth[0]:
            return method(*arguments, **keywords)
        # An iterator can be read once: the observer gets to see what the method saw.
        arguments = tuple(_readable_again(argument) for argument in arguments)
        keywords = {key: _readable_again(argument) for key, argument in keywords.items()}
        observer.before()
        depth[0] += 1
        try:
            result = method(*arguments, **keywords)
        except Exception as error:
            observer.after(Call(name, arguments, keywords, error=error))
            raise
        finally:
            depth[0] -= 1
        observer.after(Call(name, arguments, keywords, result))
        return result

    return reporting


def _readable_again(argument: Any) -> Any:
    """Return an iterator as a list, and anything else as it is."""
    is_iterator = isinstance(argument, Iterable) and iter(argument) is argument
    return list(argument) if is_iterator else argument
