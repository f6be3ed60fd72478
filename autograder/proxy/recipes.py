"""What takes part in a call without being plain data: objects made from recipes, and callbacks.

A check writes a ``Make`` where an argument is to be a request or a pool, and a ``Callback`` where
it is to be a function. The first is built by a ``Kitchen`` where the learner's code runs; the
second stays with the check, and only its arguments and its result travel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autograder.proxy.names import Symbol, name_of, symbol


@dataclass(frozen=True)
class At:
    """Among the arguments of a method: what stands at this path in the object itself.

    It may be a step of a recipe, or a call of an object that lives; shown, it is what one would
    type.

    Attributes:
        path: Attributes, indices and keys from the object on, such as ``"blocks.3"``.

    >>> At("blocks.3")
    obj.blocks[3]
    """

    path: str

    def __repr__(self) -> str:
        names = (f"[{name}]" if name.isdecimal() else f".{name}" for name in self.path.split("."))
        return f"obj{''.join(names)}"


@dataclass(frozen=True)
class Step:
    """One thing done to an object while it is made: a call, or an attribute that is set.

    Attributes:
        path: The method, or the attribute, as in ``At``.
        args: The arguments of the call; None sets the attribute to ``value``.
        value: What the attribute becomes.
    """

    path: str
    args: tuple[Any, ...] | None
    value: Any = None


class Make:
    """A recipe: how the learner's side builds an object that takes part in a call.

    The same recipe named twice in one request stands for one object.

    Args:
        target: A class or function of the library, or a builtin such as ``iter``.
        args: Its arguments; plain data and further recipes.
        kwargs: Its keyword arguments.

    >>> from course_lib.kv_cache import BlockPool
    >>> Make(BlockPool, 9).do("get_new_blocks", 3).do("free_blocks", [At("blocks.2")])
    BlockPool(9).get_new_blocks(3).free_blocks([obj.blocks[2]])
    """

    def __init__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.target: Symbol = name_of(target)
        self.args, self.kwargs = args, kwargs
        self.steps: tuple[Step, ...] = ()

    def do(self, method: str, *args: Any) -> Make:
        """Return the recipe with one more call at its end: a method, or a path such as ``a.f``."""
        return self._with(Step(method, args))

    def set(self, path: str, value: Any) -> Make:
        """Return the recipe with one more attribute, item or key set at its end."""
        return self._with(Step(path, None, value))

    def _with(self, step: Step) -> Make:
        longer = Make.__new__(Make)
        longer.target, longer.args, longer.kwargs = self.target, self.args, self.kwargs
        longer.steps = (*self.steps, step)
        return longer

    def __repr__(self) -> str:
        keywords = [f"{key}={value!r}" for key, value in self.kwargs.items()]
        text = f"{self.target.short}({', '.join([*map(repr, self.args), *keywords])})"
        for step in self.steps:
            if step.args is None:
                text += f" with .{step.path} = {step.value!r}"
            else:
                text += f".{step.path}({', '.join(map(repr, step.args))})"
        return text


class Callback:
    """A function of the check that the learner's code may call; it runs where the check runs.

    Args:
        function: Takes and returns plain data.

    Attributes:
        calls: The arguments of each call so far: what the learner's code has asked for.

    >>> double = Callback(lambda x: 2 * x)
    >>> double(4), double.calls
    (8, [(4,)])
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> Any:
        """Answer one call of the learner's code."""
        self.calls.append(args)
        return self._function(*args)

    def __repr__(self) -> str:
        return getattr(self._function, "__name__", "a function").replace("<lambda>", "a function")


class Kitchen:
    """Builds what recipes describe; a recipe that a request names twice is built once.

    Args:
        values: Turns data of the wire into values, recipes in it included.
        around: The object whose method is called with what is made; what stands at a path of it may
            be an argument of a recipe.
    """

    def __init__(self, values: Callable[[Any], Any], around: Any = None) -> None:
        self._values = values
        self._around = around
        self._made: dict[int, Any] = {}

    def make(self, recipe: dict[str, Any]) -> Any:
        """Return the object of a recipe in the form that ``to_wire`` gives it.

        Raises:
            Exception: Whatever building the object raises.
        """
        label = recipe["label"]
        if label not in self._made:
            kwargs = self._values(recipe["kwargs"])
            args = place(self._values(recipe["args"]), self._around)
            made = symbol(recipe["make"])(*args, **kwargs)
            self._made[label] = made
            for step in recipe["steps"]:
                self._take(step, made)
        return self._made[label]

    def _take(self, step: dict[str, Any], made: Any) -> None:
        """Do one step to an object that is being made."""
        if "do" in step:
            reach(made, step["do"])(*place(self._values(step["args"]), made))
            return
        holder, _, last = step["set"].rpartition(".")
        owner = reach(made, holder) if holder else made
        value = place(self._values(step["value"]), made)
        if isinstance(owner, (list, dict)):
            owner[int(last) if isinstance(owner, list) else last] = value
        else:
            setattr(owner, last, value)


def place(value: Any, made: Any) -> Any:
    """Put what stands at a path of the object in the place of each ``At``.

    >>> place([At("a.1"), 5], {"a": [1, 2]})
    [2, 5]
    """
    if isinstance(value, At):
        return reach(made, value.path)
    if isinstance(value, (list, tuple)):
        return type(value)(place(item, made) for item in value)
    return value


def reach(target: Any, path: str) -> Any:
    """Return what stands at a path: attributes, indices and keys, with dots between them.

    >>> reach({"a": [1, 2]}, "a.1")
    2
    """
    for name in path.split("."):
        if isinstance(target, dict):
            target = target[name]
        elif name.isdecimal():
            target = target[int(name)]
        else:
            target = getattr(target, name)
    return target
