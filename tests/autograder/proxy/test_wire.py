"""The wire: plain data survives the trip unchanged, and nothing else gets through."""

import io
import json
import math
import re
import struct
from collections import (
    ChainMap,
    Counter,
    OrderedDict,
    UserDict,
    defaultdict,
    deque,
    namedtuple,
)
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autograder.proxy import wire
from autograder.proxy.wire import (
    Ref,
    Standing,
    WireError,
    from_wire,
    read_frame,
    to_wire,
    write_frame,
)
from course_lib.kv_cache.allocators import Span
from course_lib.kv_cache.reservation import Reservation, SlotUse
from course_lib.specs import GPUS, MODELS

NUMPY_DTYPES = ["bool", "float16", "float32", "float64"] + [
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
]

records = st.one_of(
    st.sampled_from([*MODELS.values(), *GPUS.values()]),
    st.builds(SlotUse, *[st.integers(-5, 5)] * 4),
    st.builds(
        Reservation,
        st.text(max_size=3),
        *[st.integers()] * 3,
        offset=st.none() | st.integers(),
    ),
)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    records,
)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
arrays = st.sampled_from(NUMPY_DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
tensors = st.one_of(
    arrays.map(lambda array: torch.from_numpy(np.array(array))),
    hnp.arrays("float32", shapes).map(lambda a: torch.from_numpy(a).to(torch.bfloat16)),
)
plain = st.recursive(
    hashable | arrays | tensors,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
    ),
    max_leaves=12,
)


def identical(a, b):
    """Say whether two values are the same to the bit, in type as well as in value."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, torch.Tensor)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bits(a) == bits(b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    if isinstance(a, set):
        return {repr(item) for item in a} == {repr(item) for item in b}
    return repr(a) == repr(b)


def bits(array):
    if isinstance(array, torch.Tensor):
        array = array.view(torch.int16) if array.dtype == torch.bfloat16 else array
        array = array.numpy()
    # A NaN has many bit patterns, and all of them must survive.
    return array.tobytes()


def trip(value):
    stream = io.BytesIO()
    write_frame(stream, to_wire(value))
    stream.seek(0)
    return from_wire(read_frame(stream))


@given(plain)
def test_plain_data_comes_back_the_same_to_the_bit(value):
    assert identical(trip(value), value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 2**70, "\ud800"])
def test_values_that_json_is_known_to_spoil(value):
    assert identical(trip(value), value)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_every_dtype_of_arrays_and_tensors(dtype):
    array = np.array([[0, 1], [1, 0]], dtype=dtype)
    assert identical(trip(array), array)
    assert identical(trip(torch.from_numpy(array)), torch.from_numpy(array))


def test_views_and_foreign_byte_orders_carry_the_values_that_one_sees():
    grid = np.arange(12.0).reshape(3, 4)
    assert trip(grid[::-1, ::2]).tolist() == grid[::-1, ::2].tolist()
    assert trip(np.array([1.0, 2.0], dtype=">f4")).tolist() == [1.0, 2.0]
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T
    assert trip(tensor).tolist() == tensor.tolist()


def test_what_arrives_is_a_copy_that_can_be_written_to():
    array = np.zeros(2)
    copy = trip(array)
    copy[0] = 1
    assert array[0] == 0


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Fraction(8), 8),
        (Fraction(1, 4), 0.25),
        (Fraction(-(10**400), 3), -math.inf),
        (np.uint8(3), 3),
        (np.uint64(2**64 - 1), 2**64 - 1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_fractions_and_numbers_without_a_sign_arrive_as_pythons_numbers(value, number):
    """Also from an answer, whose other objects stay where they are."""
    for refer in (None, lambda obj: 3):
        arrived = from_wire(to_wire([value], refer=refer))
        assert arrived == [number]
        assert type(arrived[0]) is type(number)


def test_numpy_scalars_arrive_as_python_numbers():
    assert identical(trip([np.int64(3), np.float32(0.5), np.True_]), [3, 0.5, True])
    assert identical(trip([np.longdouble(0.5), np.longdouble("inf")]), [0.5, math.inf])


def test_a_frozenset_arrives_as_a_set():
    assert identical(trip(frozenset({1, 2})), {1, 2})


class OddInt(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class OddDict(dict):
    pass


class OddFloat(float):
    pass


class OddList(list):
    pass


class OddTuple(tuple):
    __slots__ = ()


class OddArray(np.ndarray):
    pass


class OddTensor(torch.Tensor):
    pass


class EqualToAll:
    def __eq__(self, other):
        return True

    __hash__ = None


class Posing(type):
    """Makes classes that claim to be int."""

    def __eq__(cls, other):
        return other is int

    def __hash__(cls):
        return hash(int)


class PosesAsInt(metaclass=Posing):
    pass


NOT_PLAIN = {
    "int subclass": OddInt(3),
    "float subclass": OddFloat(1.0),
    "list subclass": OddList(),
    "dict subclass": OddDict(),
    "array subclass": np.zeros(2).view(OddArray),
    "tensor subclass": torch.zeros(2).as_subclass(OddTensor),
    "equal to everything": EqualToAll(),
    "of a class that equals int": PosesAsInt(),
    "type": int,
    "function": len,
    "generator": (x for x in "ab"),
    "bytearray": bytearray(b"ab"),
    "complex": 1j,
    "inside a list": [1, [OddInt(3)]],
    "as a key": {OddInt(3): 1},
}


@pytest.mark.parametrize("value", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_anything_but_the_exact_types_is_not_plain_data(value):
    with pytest.raises(WireError, match="is not plain data"):
        to_wire(value)


@pytest.mark.parametrize(
    ("array", "kind"), [(np.array(["a", "b"]), "text"), (np.array([1j]), "complex128")]
)
def test_an_array_that_is_no_plain_data_is_told_what_makes_it_so(array, kind):
    said = f"an array of {kind} is not plain data: make a list of it, with `.tolist()`"
    with pytest.raises(WireError, match=re.escape(said)):
        to_wire(array)


@pytest.mark.parametrize("value", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_what_is_not_plain_becomes_a_reference_and_never_crosses(value):
    kept = []
    data = to_wire(value, refer=lambda obj: kept.append(obj) or 7)
    assert len(kept) == 1
    assert '"ref": 7' in json.dumps(data)


@pytest.mark.parametrize(
    "value",
    [
        np.array(["text"]),
        np.array([object()]),
        np.array([1j]),
        np.array([(1, 2)], dtype=[("a", int), ("b", int)]),
        torch.tensor([1j]),
        2**20_000,
    ],
    ids=["text", "objects", "complex", "structured", "complex tensor", "endless integer"],
)
def test_data_that_has_no_form_on_the_wire_is_an_error_even_where_references_are_allowed(value):
    with pytest.raises(WireError, match="not plain data"):
        to_wire(value, refer=lambda obj: 0)


def test_a_reference_is_a_number_and_the_name_of_a_class():
    data = to_wire([EqualToAll()], refer=lambda obj: 3)
    assert from_wire(data) == [Ref(3)]
    assert repr(from_wire(data)) == "[<EqualToAll object>]"
    assert from_wire(data, Standing(ref=lambda ref: ref.number * 10)) == [30]


class OddStr(str):
    """A text that lies about its letters and about what it equals."""

    __slots__ = ()

    def __str__(self):
        return "lie"

    def __iter__(self):
        return iter("lie")

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "text", [OddStr("a"), np.str_("a"), StrEnum("Letter", {"A": "a"}).A], ids=["odd", "np", "enum"]
)
def test_a_subclass_of_str_arrives_as_the_text_that_it_is(text):
    for refer in (None, lambda obj: 3):
        [arrived, keys] = from_wire(to_wire([text, {text: 1}], refer=refer))
        assert identical(arrived, "a")
        assert identical(keys, {"a": 1})


class Renamed(namedtuple("Pair", "a b")):
    """A named tuple that lies about what is in it."""

    def __iter__(self):
        return iter((8, 9))

    def __len__(self):
        return 5


class Typed(NamedTuple):
    a: int
    b: object


@pytest.mark.parametrize("kind", [namedtuple("Pair", "a b"), Typed, Renamed])
def test_a_named_tuple_arrives_as_the_tuple_that_it_is(kind):
    for refer in (None, lambda obj: 3):
        arrived = from_wire(to_wire([kind(1, kind(2, 3))], refer=refer))
        assert arrived == [(1, (2, 3))]
        assert type(arrived[0]) is tuple is type(arrived[0][1])


@pytest.mark.parametrize("value", [Span(0, 4), OddTuple((1, 2))], ids=lambda v: type(v).__name__)
def test_a_tuple_of_the_library_or_without_names_stays_where_it_is(value):
    assert from_wire(to_wire(value, refer=lambda obj: 3)) == Ref(3)


@pytest.mark.parametrize(
    ("value", "like"),
    [
        (OddDict(), "mapping"),
        (OddInt(3), "number"),
        (Decimal("0.5"), "number"),
        (OddList(), "iterable"),
        (deque([1]), "iterable"),
        ({1: 2}.keys(), "iterable"),
        ((x for x in "ab"), "iterable"),
        (EqualToAll(), ""),
        (len, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_reference_says_what_could_be_made_of_it(value, like):
    assert from_wire(to_wire(value, refer=lambda obj: 3)).like == like


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        defaultdict(int, a=1),
        Counter(a=1),
        ChainMap({"a": 1}, {"a": 2}),
        UserDict(a=1),
        MappingProxyType({"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_mappings_of_the_standard_library_arrive_as_a_dict(value):
    arrived = from_wire(to_wire(value))
    assert (type(arrived), arrived) == (dict, {"a": 1})


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_capped_in_both_directions():
    assert trip(nested(wire.MAX_DEPTH)) == nested(wire.MAX_DEPTH)
    with pytest.raises(WireError, match="nests deeper than 64"):
        to_wire(nested(wire.MAX_DEPTH + 1))
    with pytest.raises(WireError, match="nests deeper than 64"):
        from_wire(nested(wire.MAX_DEPTH + 1))


def test_a_value_that_contains_itself_is_an_error():
    value = []
    value.append(value)
    with pytest.raises(WireError, match="nests deeper"):
        to_wire(value)


def test_a_message_nested_beyond_what_json_can_read_is_an_error():
    body = b"[" * 100_000
    with pytest.raises(WireError, match="RecursionError"):
        read_frame(io.BytesIO(struct.pack(">I", len(body)) + body))


def test_a_frame_is_capped_on_writing_and_on_reading(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 10)
    write_frame(io.BytesIO(), "12345678")
    stream = io.BytesIO()
    with pytest.raises(WireError, match="a message of 11 bytes; the limit is 10"):
        write_frame(stream, "123456789")
    assert stream.getvalue() == b"", "nothing of a message that is too long is sent"
    with pytest.raises(WireError, match="a message of 11 bytes; the limit is 10"):
        read_frame(io.BytesIO(struct.pack(">I", 11) + b'"123456789"'))


@given(plain.map(to_wire), st.data())
@settings(max_examples=50)
def test_a_truncated_frame_is_the_end_of_the_conversation(message, data):
    stream = io.BytesIO()
    write_frame(stream, message)
    whole = stream.getvalue()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(whole[:cut]))


def test_frames_follow_each_other():
    stream = io.BytesIO()
    for number in range(3):
        write_frame(stream, number)
    stream.seek(0)
    assert [read_frame(stream) for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"{", b"\xff\xfe", b'{"a": 1} {"b": 2}'])
def test_a_message_that_is_not_json_is_an_error(body):
    with pytest.raises(WireError, match="not JSON"):
        read_frame(io.BytesIO(struct.pack(">I", len(body)) + body))


MALFORMED = {
    "unknown tag": {"pickle": "x"},
    "no tag": {},
    "a float that is none": {"float": "one"},
    "a float that is a number": {"float": 1},
    "a tuple that is no list": {"tuple": "ab"},
    "pairs that are none": {"dict": [[1]]},
    "an unhashable key": {"dict": [[[1], 2]]},
    "an unhashable item": {"set": [[1]]},
    "a reference that is text": {"ref": "1"},
    "an unknown record": {"record": "Path", "fields": {}},
    "a record without fields": {"record": "SlotUse", "fields": {"used": 1}},
    "a record with other fields": {"record": "SlotUse", "fields": {"x": 1}},
    "a record that its class refuses": {
        "record": "GPUSpec",
        "fields": {"name": "x", "memory_bytes": -1, "memory_bandwidth": 1.0, "peak_flops": 1.0},
    },
    "an array without a shape": {"array": {"dtype": "int8", "data": ""}},
    "a dtype off the list": {"array": {"dtype": "object", "shape": [1], "data": ""}},
    "a dtype that is a list": {"array": {"dtype": ["int8"], "shape": [1], "data": ""}},
    "too few bytes": {"array": {"dtype": "int32", "shape": [2], "data": "AAAAAA=="}},
    "half an element": {"array": {"dtype": "int32", "shape": [1], "data": "AAA="}},
    "not base64": {"array": {"dtype": "int8", "shape": [1], "data": "*"}},
    "data that is a number": {"array": {"dtype": "int8", "shape": [1], "data": 5}},
    "an absurd shape": {"array": {"dtype": "int8", "shape": [2**62, 2**62], "data": ""}},
    "a shape that is text": {"array": {"dtype": "int8", "shape": "1", "data": "AA=="}},
    "a tensor without an array": {"tensor": {"dtype": "int8"}},
    "a tensor of another dtype": {
        "tensor": {"dtype": "bfloat16", "array": {"dtype": "int8", "shape": [], "data": "AA=="}}
    },
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_data_is_a_wire_error(data):
    with pytest.raises(WireError, match="malformed data on the wire"):
        from_wire(data)


tags = st.sampled_from(
    [
        *("float", "tuple", "dict", "set", "ref", "kind", "array", "tensor", "record", "fields"),
        *("dtype", "shape", "data", "SlotUse", "GPUSpec", "int8", "bfloat16", "AAAA"),
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | tags,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tags, inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=400)
def test_whatever_json_arrives_it_is_data_or_a_wire_error(data):
    try:
        value = from_wire(data)
    except WireError:
        return
    # What was accepted is plain data or a reference, so it can be sent on.
    to_wire(value)
