"""What an exercise is cut from: a function, a class, one method of a class, a Triton kernel."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from course_lib.mounting import function_of, mount


class Method:
    """One method of a class, as the right answer of an exercise.

    It is released, written and checked as a plain function whose first argument is the object.
    Class methods, static methods and properties work too.

    Args:
        owner: The class that defines the method itself.
        name: The method.
        on: The subclass of the owner whose objects a check makes, where the owner is abstract.

    Attributes:
        owner: The class.
        lives_on: The class whose objects a check makes: the owner, if no other is named.
        function: The method as a plain function.

    Raises:
        ValueError: The class does not define such a method.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> touch = Method(BlockPool, "touch")
    >>> touch, touch.__name__, touch.__module__
    (Method(BlockPool, 'touch'), 'touch', 'course_lib.kv_cache.block_pool')
    """

    def __init__(self, owner: type, name: str, on: type | None = None) -> None:
        self.owner = owner
        self.lives_on = on or owner
        self.function = function_of(owner, name)
        self.__name__ = name
        self.__module__ = owner.__module__
        self.__qualname__ = f"{owner.__name__}.{name}"
        self.__doc__ = self.function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method as the plain function that it is."""
        return self.function(*args, **kwargs)

    def mounted(self, answer: Callable[..., Any]) -> type:
        """Return a subclass on which the answer is the method.

        >>> class Pool:
        ...     def size(self): return 1
        >>> Method(Pool, "size").mounted(lambda self: 2)().size()
        2
        """
        return mount(self.lives_on, {self.__name__: answer})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and (
            (self.owner, self.__name__) == (other.owner, other.__name__)
        )

    def __hash__(self) -> int:
        return hash((self.owner, self.__name__))

    def __repr__(self) -> str:
        return f"Method({self.owner.__name__}, {self.__name__!r})"


def plain(reference: Any) -> Any:
    """Return the def or class that is written down: of a method or a kernel, its function.

    Anything else is returned as it is.

    >>> from course_lib.kv_cache.block_pool import BlockPool
    >>> plain(Method(BlockPool, "touch")) is BlockPool.touch
    True
    """
    if isinstance(reference, Method):
        return reference.function
    return reference.fn if is_kernel(reference) else reference


def is_kernel(value: Any) -> bool:
    """Say whether a value is what ``@triton.jit`` makes of a function, interpreted or not.

    >>> is_kernel(print)
    False
    """
    # Asked by name: Triton is not installed everywhere, and importing it takes seconds.
    made_by = type(value).__module__.partition(".")[0]
    return made_by == "triton" and isinstance(getattr(value, "fn", None), FunctionType)
