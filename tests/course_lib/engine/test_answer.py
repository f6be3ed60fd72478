"""Stop strings: nothing is shown that has to be taken back, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from course_lib.engine.answer import StopStrings

TEXTS = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(pieces=st.lists(TEXTS, max_size=8), strings=STOPS)
def test_the_text_ends_in_front_of_the_first_stop_string(
    pieces: list[str], strings: list[str]
) -> None:
    stop = StopStrings(strings)
    shown = ""
    for index, piece in enumerate(pieces):
        shown += stop.push(piece)
        so_far = "".join(pieces[: index + 1])
        ends = [at for string in strings if (at := so_far.find(string)) >= 0]
        if not ends:
            assert stop.found is None
            # What is kept back is no more than what may become a stop string.
            kept_back = so_far[len(shown) :]
            assert so_far == shown + kept_back
            assert not kept_back or any(s != kept_back and s.startswith(kept_back) for s in strings)
        else:
            # A string that ended earlier has ended the text, even if a longer one began before.
            assert stop.found in strings
            assert so_far.startswith(shown + (stop.found or ""))
            assert not any(string in shown for string in strings)
    if stop.found is None:
        assert shown + stop.flush() == "".join(pieces)
    assert stop.push("") == stop.flush() == ""


def test_without_stop_strings_everything_passes_at_once() -> None:
    assert StopStrings([]).push("any") == "any"


@given(pieces=st.lists(st.text("abc", max_size=12), max_size=8), strings=STOPS)
def test_how_the_text_is_cut_makes_no_difference(pieces: list[str], strings: list[str]) -> None:
    outcomes = []
    text = "".join(pieces)
    for way in (pieces, list(text), [text]):
        stop = StopStrings(strings)
        outcomes.append(("".join(map(stop.push, way)) + stop.flush(), stop.found))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@given(text=st.text("ab", max_size=16), strings=STOPS)
def test_the_string_that_is_complete_first_counts(text: str, strings: list[str]) -> None:
    stop = StopStrings(strings)
    shown = stop.push(text)
    prefixes = [text[:end] for end in range(1, len(text) + 1)]
    first = next((p for p in prefixes if any(map(p.endswith, strings))), None)
    if first is None:
        assert stop.found is None
    else:
        assert stop.found == next(string for string in strings if first.endswith(string))
        assert shown == first.removesuffix(stop.found)


def test_of_two_that_begin_at_the_same_place_the_shorter_is_complete_first() -> None:
    stop = StopStrings(["ab", "a"])
    assert (stop.push("xab"), stop.found) == ("x", "a")


def test_of_two_that_are_complete_at_the_same_place_the_first_of_the_list_counts() -> None:
    stop = StopStrings(["b", "ab"])
    assert (stop.push("xab"), stop.found) == ("xa", "b")
