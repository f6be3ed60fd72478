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


def test_of_two_that_begin_at_the_same_place_the_first_of_the_list_is_named() -> None:
    stop = StopStrings(["ab", "a"])
    assert (stop.push("xab"), stop.found) == ("x", "ab")
