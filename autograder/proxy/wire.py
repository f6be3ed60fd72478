"""Plain data and its form on the wire: length-prefixed JSON with a few tagged types, never pickle.

Only exact types pass: those of JSON, sets, arrays, the library's records, the mappings of the
standard library, which arrive as a dict, and two kinds of subclasses, of which nothing arrives but
what is in them: named tuples, as tuples, and subclasses of ``str``, as text. A subclass of
``int`` with an ``__eq__`` of its own, or an object that claims to equal everything, is not plain
data: it becomes a reference that the other side cannot look into, and which says only what could be
made of it.

Three kinds of things go to the learner's side and never come back from it as they are:

- a ``Make`` is a recipe: the learner's side builds the object, a request or a pool;
- a ``Callback`` is a function of the check: it runs where the check runs, and only its arguments
  and its result travel;
- a ``Ref`` stands for an object that the learner's side has already.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import sys
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import IO, Any, TypeGuard

import numpy as np

from autograder.proxy.names import name_of, symbol
from autograder.proxy.recipes import At, Callback, Make

MAX_FRAME_BYTES = 64 * 2**20
MAX_DEPTH = 64
MAX_INT_BITS = 8192
"""Far beyond any quantity, and still short enough to be printed."""

_SMALL = 2**64
"""Whole numbers below it, which nearly all are, travel as they are."""

_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_ARRAY_DTYPES = _INTEGERS | {"bool", "float16", "float32", "float64"}
_TENSOR_DTYPES = _ARRAY_DTYPES | {"bfloat16"}


class WireError(Exception):
    """A value, or a message, that the wire does not carry."""


@dataclass(frozen=True)
class Ref:
    """Stands for an object that stays in the learner's process.

    Attributes:
        number: Which one.
        kind: The name of its class, for a person to read.
        like: What plain data could be made of it: "mapping", "iterable", "number" or "".
    """

    number: int
    kind: str = field(default="object", compare=False)
    like: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


def kind_of(value: object) -> str:
    """Return the name of a value's class, also of one that stayed in the learner's process.

    >>> kind_of([]), kind_of(Ref(1, "BlockPool"))
    ('list', 'BlockPool')
    """
    return value.kind if isinstance(value, Ref) else type(value).__name__


Refer = Callable[[object], int]
"""Gives a number to an object that is not plain data and stays where it is."""

Inner = Callable[[Any], Any]
"""Writes, or reads, what is inside of a value."""


def to_wire(
    value: object,
    refer: Refer | None = None,
    depth: int = 0,
    *,
    lend: Callable[[Callback], int] | None = None,
) -> Any:
    """Turn plain data, recipes and callbacks into what JSON can say.

    Args:
        value: The value.
        refer: Called for an object that is not plain data; returns a number for it. Without it such
            an object is an error.
        depth: How deep ``value`` already sits in another one.
        lend: Called for a callback; returns a number for it. Without it a callback is an error.

    Raises:
        WireError: The value is not plain data, nests deeper than ``MAX_DEPTH``, or holds a whole
            number longer than ``MAX_INT_BITS``.

    >>> to_wire([1, 2.5, (None, "x")])
    [1, 2.5, {'tuple': [None, 'x']}]
    """
    if depth > MAX_DEPTH:
        raise WireError(f"the value nests deeper than {MAX_DEPTH} levels")
    kind = type(value)

    def inner(item: object) -> Any:
        return to_wire(item, refer, depth + 1, lend=lend)

    if kind is list:
        return _each(value, inner, depth)  # type: ignore[arg-type]
    if _is_itself(kind) and kind in _SCALARS:
        return _SCALARS[kind](value)
    if _is_itself(kind) and kind in _CONTAINERS:
        return _CONTAINERS[kind](value, inner)
    if kind is ChainMap or kind is UserDict:
        return _dict_to_wire(value, inner)  # type: ignore[arg-type]
    if (plain := _without_its_class(value)) is not value:
        return to_wire(plain, refer, depth, lend=lend)
    if is_record(kind):
        body = {field.name: inner(getattr(value, field.name)) for field in fields(kind)}  # type: ignore[arg-type]
        return {"record": str(name_of(kind)), "fields": body}
    # Only a check writes recipes; whoever keeps objects of their own refers to them.
    if refer is None and (written := _written_by_a_check(value, inner, lend)) is not None:
        return written
    torch = sys.modules.get("torch")
    if torch is not None and kind is torch.Tensor:
        return {"tensor": _tensor_to_wire(value)}
    if refer is None:
        raise WireError(f"a {kind.__name__} is not plain data")
    return {"ref": refer(value), "kind": kind.__name__, "like": _like(kind)}


def _each(items: list[Any], inner: Inner, depth: int) -> list[Any]:
    """Write, or read, each item of a list that sits so deep; whole numbers, often many, stay."""
    if depth == MAX_DEPTH:
        return [inner(item) for item in items]
    return [
        item if type(item) is int and -_SMALL < item < _SMALL else inner(item) for item in items
    ]


def _without_its_class(value: object) -> object:
    """Return what is in a value of whose class nothing else is of interest; of others, the value.

    It is got by the ways that tuple and str have: the class may have written others.

    >>> _without_its_class(np.str_("a")), _without_its_class(np.int64(3))
    ('a', 3)
    """
    if _is_named_tuple(type(value)):
        return tuple(tuple.__iter__(value))  # type: ignore[arg-type]
    if issubclass(type(value), str):
        return str.__str__(value)
    if _is_numpys_own(value) and not isinstance(item := _item(value), np.generic):
        return item
    return value


def _is_itself(kind: type[Any]) -> bool:
    """Say whether a class equals itself alone: with a metaclass of its own it may claim more.

    That of a fraction is the standard library's.
    """
    return type(kind) is type or kind is Fraction


def _fraction_to_wire(value: Fraction) -> Any:
    """Write a number worked out exactly as the whole number that it is, or the nearest float.

    >>> _fraction_to_wire(Fraction(8)), _fraction_to_wire(Fraction(1, 4))
    (8, 0.25)
    """
    if value.denominator == 1:
        return _int_to_wire(value.numerator)
    try:
        return _float_to_wire(float(value))
    except OverflowError:
        return _float_to_wire(math.inf if value > 0 else -math.inf)


def _is_numpys_own(value: object) -> TypeGuard[np.generic]:
    """Say whether a value is of a class that NumPy itself defines for a single item."""
    return isinstance(value, np.generic) and type(value).__module__ == "numpy"


def _item(value: np.generic) -> Any:
    """Return what Python has for a single item of NumPy's: of a wider float, the nearest.

    >>> _item(np.int64(3)), _item(np.longdouble(0.5))
    (3, 0.5)
    """
    return float(value) if isinstance(value, np.longdouble) else value.item()


def _is_named_tuple(kind: type[Any]) -> bool:
    """Say whether a class is a subclass of tuple that names the items, and not the library's.

    The library's own stay objects: whoever is handed one reads its fields.
    """
    if type(kind) is not type or tuple not in kind.__mro__:
        return False
    is_librarys = str(kind.__module__).startswith("course_lib.")
    return any("_fields" in vars(base) for base in kind.__mro__) and not is_librarys


def _like(kind: type[Any]) -> str:
    """Say what plain data could be made of an object of a class, by what the class has."""
    if any(base is dict or base is Mapping for base in kind.__mro__):
        return "mapping"
    if hasattr(kind, "__float__"):
        return "number"
    return "iterable" if hasattr(kind, "__iter__") else ""


def _int_to_wire(value: int) -> int:
    if value.bit_length() > MAX_INT_BITS:
        raise WireError(f"a whole number longer than {MAX_INT_BITS} bits is not plain data")
    return value


def _float_to_wire(value: float) -> Any:
    return value if math.isfinite(value) else {"float": repr(value)}


def _set_to_wire(items: Iterable[object], inner: Inner) -> dict[str, Any]:
    # In an order of its own, so that equal sets are written alike.
    return {"set": sorted((inner(item) for item in items), key=json.dumps)}


def _dict_to_wire(items: Mapping[Any, Any], inner: Inner) -> dict[str, Any]:
    return {"dict": [[inner(key), inner(value)] for key, value in items.items()]}


_SCALARS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    int: _int_to_wire,
    str: lambda value: value,
    float: _float_to_wire,
    Fraction: _fraction_to_wire,
    bytes: lambda value: {"bytes": base64.b64encode(value).decode()},
    Ref: lambda value: {"ref": value.number},
    np.ndarray: lambda value: {"array": _array_to_wire(value)},
}
"""How a value with nothing else in it is written, by its exact type."""

_CONTAINERS: dict[type, Callable[[Any, Inner], Any]] = {
    tuple: lambda items, inner: {"tuple": [inner(item) for item in items]},
    dict: _dict_to_wire,
    OrderedDict: _dict_to_wire,
    defaultdict: _dict_to_wire,
    Counter: _dict_to_wire,
    MappingProxyType: _dict_to_wire,
    set: _set_to_wire,
    frozenset: _set_to_wire,
}
"""How a value with others in it is written, by its exact type; a mapping arrives as a dict."""


def _written_by_a_check(
    value: object, inner: Inner, lend: Callable[[Callback], int] | None
) -> dict[str, Any] | None:
    """Write what only a check writes; None for anything else."""
    if type(value) is Make:
        return _recipe_to_wire(value, inner)
    if type(value) is At:
        return {"at": value.path}
    if type(value) is Callback and lend is not None:
        return {"callback": lend(value)}
    return None


def is_record(kind: type[Any]) -> bool:
    """Say whether a class counts as plain data: a frozen dataclass of the library.

    >>> from course_lib.specs import ModelSpec
    >>> is_record(ModelSpec), is_record(int)
    (True, False)
    """
    if not is_dataclass(kind) or not kind.__module__.startswith("course_lib."):
        return False
    return bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]


def _recipe_to_wire(recipe: Make, inner: Inner) -> dict[str, Any]:
    steps = [
        {"set": step.path, "value": inner(step.value)}
        if step.args is None
        else {"do": step.path, "args": inner(list(step.args))}
        for step in recipe.steps
    ]
    return {
        "make": str(recipe.target),
        # Alive as long as the request is written, so the number is this recipe's alone.
        "label": id(recipe),
        "args": inner(list(recipe.args)),
        "kwargs": inner(recipe.kwargs),
        "steps": steps,
    }


@dataclass(frozen=True)
class Standing:
    """What to put in the place of that which stands for something else.

    Attributes:
        ref: For a reference to an object.
        callback: For the number of a callback: a function. None where no callback is expected.
        recipe: For a recipe as ``to_wire`` made it: the object. None where none is expected.
    """

    ref: Callable[[Ref], object] = lambda ref: ref
    callback: Callable[[int], object] | None = None
    recipe: Callable[[dict[str, Any]], object] | None = None


_AS_IT_IS = Standing()


def from_wire(data: Any, standing: Standing = _AS_IT_IS, depth: int = 0) -> Any:
    """Turn what came over the wire back into values.

    Args:
        data: What ``to_wire`` made, after a trip through JSON.
        standing: What to put in the place of references, callbacks and recipes. By default a
            reference stays one, and the others are errors: nothing that comes from the learner's
            side is ever built or called here.
        depth: How deep ``data`` already sits in other data.

    Raises:
        WireError: The data is not what ``to_wire`` makes.

    >>> from_wire({"tuple": [1, {"float": "nan"}]})
    (1, nan)
    """
    if depth > MAX_DEPTH:
        raise WireError(f"the data nests deeper than {MAX_DEPTH} levels")
    if data is None or isinstance(data, (bool, int, float, str)):
        return data

    def inner(item: Any) -> Any:
        return from_wire(item, standing, depth + 1)

    if isinstance(data, list):
        return _each(data, inner, depth)
    if not isinstance(data, dict):
        raise WireError(f"malformed data on the wire: {str(data)[:80]}")
    # Outside of the try: what building an object raises is not malformed data.
    if isinstance(number := data.get("ref"), int):
        return standing.ref(Ref(number, str(data.get("kind", "object")), str(data.get("like", ""))))
    if standing.callback is not None and isinstance(number := data.get("callback"), int):
        return standing.callback(number)
    if standing.recipe is not None and isinstance(data.get("make"), str):
        return standing.recipe(data)
    try:
        for tag in _TAGGED.keys() & data.keys() if len(data) == 1 else _TAGGED:
            kind, read = _TAGGED[tag]
            if tag in data and isinstance(data[tag], kind):
                return read(data, inner)
    except (KeyError, TypeError, ValueError, OverflowError, ImportError, AttributeError) as error:
        raise WireError(f"malformed data on the wire: {type(error).__name__}: {error}") from error
    raise WireError(f"malformed data on the wire: {str(data)[:80]}")


def _record_from_wire(data: Mapping[str, Any], inner: Inner) -> Any:
    body: dict[str, Any] = data["fields"]
    return _record(data["record"])(**{name: inner(value) for name, value in body.items()})


_TAGGED: dict[str, tuple[type, Callable[[Mapping[str, Any], Inner], Any]]] = {
    "float": (str, lambda data, inner: float(data["float"])),
    "bytes": (str, lambda data, inner: base64.b64decode(data["bytes"], validate=True)),
    "tuple": (list, lambda data, inner: tuple(inner(item) for item in data["tuple"])),
    "set": (list, lambda data, inner: {inner(item) for item in data["set"]}),
    "dict": (list, lambda data, inner: {inner(key): inner(value) for key, value in data["dict"]}),
    "array": (dict, lambda data, inner: _array_from_wire(data["array"])),
    "tensor": (dict, lambda data, inner: _tensor_from_wire(data["tensor"])),
    "record": (str, _record_from_wire),
    "at": (str, lambda data, inner: At(data["at"])),
}
"""What is under a tag, and how it is read; the first tag that data has decides."""


def _record(name: str) -> type[Any]:
    """Return the class of a record; ValueError if the name is not that of one."""
    kind = symbol(name)
    if not isinstance(kind, type) or not is_record(kind):
        raise ValueError(f"{name} is no record")
    return kind


def write_frame(stream: IO[bytes], message: Any) -> None:
    """Write one message: four bytes of length, then JSON.

    Raises:
        WireError: The message is longer than ``MAX_FRAME_BYTES``.
    """
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"a message of {len(body)} bytes; the limit is {MAX_FRAME_BYTES}")
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Any:
    """Read one message.

    Raises:
        EOFError: The other side is gone.
        WireError: The message is too long, nests too deep, or is not JSON.
    """
    (length,) = struct.unpack(">I", _read_exactly(stream, 4))
    if length > MAX_FRAME_BYTES:
        raise WireError(f"a message of {length} bytes; the limit is {MAX_FRAME_BYTES}")
    try:
        return json.loads(_read_exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise WireError(f"a message that is not JSON: {type(error).__name__}") from error


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    chunk = stream.read(length)
    if len(chunk) < length:
        raise EOFError("the other side closed the pipe")
    return chunk


def _array_to_wire(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    if array.dtype.name not in _ARRAY_DTYPES:
        kind = "text" if array.dtype.kind == "U" else array.dtype
        raise WireError(
            f"an array of {kind} is not plain data: make a list of it, with `.tolist()`"
        )
    native = array.astype(array.dtype.newbyteorder("="))
    data = base64.b64encode(native.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def _array_from_wire(body: dict[str, Any]) -> np.ndarray[Any, Any]:
    if body["dtype"] not in _ARRAY_DTYPES:
        raise ValueError(f"dtype {body['dtype']!r}")
    raw = base64.b64decode(body["data"], validate=True)
    return np.frombuffer(raw, dtype=body["dtype"]).reshape(body["shape"]).copy()


def _tensor_to_wire(tensor: Any) -> dict[str, Any]:
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _TENSOR_DTYPES:
        raise WireError(f"a tensor of {dtype} is not plain data")
    tensor = tensor.detach().cpu()
    order = _order_in_memory(tensor)
    tensor = tensor.permute(order).contiguous()
    # numpy has no bfloat16, so its bits travel as int16.
    array = (tensor.view(torch.int16) if dtype == "bfloat16" else tensor).numpy()
    body = {"dtype": dtype, "array": _array_to_wire(array)}
    return body if order == sorted(order) else {**body, "order": order}


def _order_in_memory(tensor: Any) -> list[int]:
    """Return a tensor's axes from the outermost in memory to the innermost.

    A cache whose heads come before its slots in memory is a view of a contiguous tensor with two
    axes exchanged, and a kernel has to cope with it: so it must arrive as such.
    """
    axes = range(tensor.dim())
    return (
        sorted(axes, key=lambda axis: (-tensor.stride(axis), axis)) if tensor.numel() else [*axes]
    )


def _tensor_from_wire(body: dict[str, Any]) -> Any:
    import torch

    if body["dtype"] not in _TENSOR_DTYPES:
        raise ValueError(f"dtype {body['dtype']!r}")
    array = _array_from_wire(body["array"])
    is_bfloat16 = body["dtype"] == "bfloat16"
    if array.dtype.name != ("int16" if is_bfloat16 else body["dtype"]):
        raise ValueError(f"a tensor of {body['dtype']} with an array of {array.dtype}")
    tensor = torch.from_numpy(array)
    if is_bfloat16:
        tensor = tensor.view(torch.bfloat16)
    order: Sequence[int] = body.get("order", range(tensor.dim()))
    if sorted(order) != list(range(tensor.dim())):
        raise ValueError(f"order {order} of a tensor with {tensor.dim()} axes")
    return tensor.permute([order.index(axis) for axis in range(tensor.dim())])
