"""Text as it comes: of every kind of tokenizer exactly what it decodes, and nothing taken back."""

import itertools
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from course_lib.engine.detokenizer import IncrementalDetokenizer
from course_lib.engine.tokenizer import Tokenizer, checkpoint_folder
from tokenizer_kinds import KINDS, TEXTS, save

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TEXTS)
ANY_TOKENS = st.lists(st.integers(0, 420), max_size=25)


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer with a token ``<0x0A>`` for a newline, and so on."""
    return Tokenizer(save(KINDS["byte fallback"](), tmp_path_factory.mktemp("fallback")))


@pytest.fixture
def tiny() -> Tokenizer:
    return Tokenizer(checkpoint_folder("course-tiny"))


def byte_tokens(tokenizer: Tokenizer, text: str | bytes) -> list[int]:
    """Return the tokens of the bytes of a text, one each, with byte fallback."""
    ids = {tokenizer.token(i): i for i in range(tokenizer.vocab_size)}
    return [ids[f"<0x{byte:02X}>"] for byte in (text.encode() if isinstance(text, str) else text)]


class Shown:
    """What is to be shown of tokens: what ``decode`` makes of them, except in spoilt rows.

    With byte fallback, ``decode`` takes back what is a character by itself if a bad byte comes
    behind it in the same row. It was shown, so it stays: here a token that is ``U+FFFD`` by itself
    takes the place of each byte behind, and ends the row.
    """

    def __init__(self, folder: Path) -> None:
        tokenizer = Tokenizer(folder)
        self.spellings = {i: tokenizer.token(i) for i in range(421)}
        self.has_rows = "ByteFallback" in tokenizer.decoder_kinds
        self.library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.library.add_tokens([tokenizers.AddedToken("\ufffd", normalized=False)])
        self.sign = self.library.token_to_id("\ufffd")

    def __call__(self, ids: list[int]) -> str:
        settled: list[int] = []
        spelled = [i for i in ids if self.spellings[i] is not None]
        for is_row, group in itertools.groupby(spelled, key=self.is_byte):
            tokens = list(group)
            if is_row:
                row = bytes(int(self.spellings[i][3:5], base=16) for i in tokens)
                try:
                    row.decode()
                except UnicodeDecodeError as error:
                    tokens[error.start :] = [self.sign] * (len(row) - error.start)
            settled += tokens
        return self.library.decode(settled)

    def is_byte(self, token_id: int) -> bool:
        return self.has_rows and self.spellings[token_id].startswith("<0x")


@pytest.fixture(scope="module")
def shown(tokenizer_folder: Path) -> Shown:
    return Shown(tokenizer_folder)


def stream(tokenizer: Tokenizer, prompt: list[int], answer: list[int]) -> list[str]:
    """Return the pieces of an answer, with what is left at its end."""
    detokenizer = IncrementalDetokenizer(tokenizer, prompt)
    return [*map(detokenizer.append, answer), detokenizer.flush()]


def next_word(tokenizer: Tokenizer, word: str) -> list[int]:
    """Return the tokens of a word with the space before it."""
    # The other kinds put a space before every text.
    text = f" {word}" if "ByteLevel" in tokenizer.decoder_kinds else word
    return tokenizer.encode(text, add_special_tokens=False)


@given(ids=ANY_TOKENS)
def test_the_pieces_of_any_tokens_are_their_text(
    tokenizer: Tokenizer, shown: Shown, ids: list[int]
) -> None:
    assert "".join(stream(tokenizer, [], ids)) == shown(ids)


@given(prompt=ANY_TEXT.filter(str.strip), answer=ANY_TOKENS)
def test_prompt_and_pieces_are_the_text_of_both(
    tokenizer: Tokenizer, shown: Shown, prompt: str, answer: list[int]
) -> None:
    # A word that all know ends the prompt: the text of its last token is the prompt's alone.
    before = tokenizer.encode(f"{prompt} the")
    pieces = stream(tokenizer, before, answer)
    assert tokenizer.decode(before) + "".join(pieces) == shown(before + answer)


@given(text=ANY_TEXT, cut=st.integers(0, 40))
def test_no_piece_is_part_of_a_character(tokenizer: Tokenizer, text: str, cut: int) -> None:
    ids = tokenizer.encode(text.replace("\ufffd", "?"))
    pieces = stream(tokenizer, ids[:cut], ids[cut:])
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_piece_comes_as_soon_as_its_character_is_whole(tiny: Tokenizer) -> None:
    ids = tiny.encode("A 🙂 b", add_special_tokens=False)
    pieces = stream(tiny, [], ids)
    assert pieces == ["A", " ", "", "", "", "🙂", " ", "b", ""] or pieces == [
        "A", " ", "", "", "", "🙂", " b", "",
    ]  # fmt: skip


def test_what_is_left_of_a_character_is_flushed_once(tiny: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tiny, [])
    first_byte = tiny.encode("🙂", add_special_tokens=False)[0]
    assert detokenizer.append(first_byte) == ""
    assert (detokenizer.flush(), detokenizer.flush()) == ("\ufffd", "")


def test_an_answer_completes_the_character_that_its_prompt_has_begun(tokenizer: Tokenizer) -> None:
    if tokenizer.decode(tokenizer.encode("文")) != "文":
        pytest.skip("this kind has no tokens for parts of a character")
    ids = tokenizer.encode("a文 b")
    begun = next(n for n in range(len(ids)) if "\ufffd" in tokenizer.decode(ids[:n]))
    assert "".join(stream(tokenizer, ids[:begun], ids[begun:])) == "文 b"


def test_a_space_before_an_answer_is_kept_after_a_prompt(tokenizer: Tokenizer) -> None:
    prompt, answer = tokenizer.encode("The request"), next_word(tokenizer, "waits")
    assert "".join(stream(tokenizer, prompt, answer)) == " waits"
    assert tokenizer.is_byte_level or "".join(stream(tokenizer, [], answer)) == "waits"


@pytest.mark.parametrize("character", ["文", "\ufffd"])
def test_bytes_that_end_a_prompt_are_not_said_again(tokenizer: Tokenizer, character: str) -> None:
    prompt, answer = tokenizer.encode(f"a {character}"), next_word(tokenizer, "waits")
    assert "".join(stream(tokenizer, prompt, answer)) == " waits"


def test_a_token_takes_as_long_at_the_end_as_at_the_beginning(tokenizer: Tokenizer) -> None:
    # What is decoded is counted, so that no clock is needed.
    ids = tokenizer.encode(" ".join(TEXTS), add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tokenizer, ids)
    decode, decoded = tokenizer.decode, []
    try:
        tokenizer.decode = lambda ids: decoded.append(len(ids)) or decode(ids)
        for token_id in ids:
            detokenizer.append(token_id)
    finally:
        del tokenizer.decode
    assert sum(decoded) <= 8 * len(ids)


# Vocabularies with a token for each byte


@pytest.mark.parametrize("text", ["\n", "é", "文", "🙂", "\n\n文🙂 "])
def test_a_character_of_bytes_comes_with_its_last_byte(fallback: Tokenizer, text: str) -> None:
    prompt = fallback.encode("The")
    expected = [[*[""] * (len(c.encode()) - 1), c] for c in text]
    pieces = stream(fallback, prompt, byte_tokens(fallback, text))
    assert pieces == [*itertools.chain(*expected), ""]


@pytest.mark.parametrize("prompt", ["\n", "文", "a\n", "文文"])
def test_behind_a_prompt_of_bytes_alone_the_first_space_is_kept(
    fallback: Tokenizer, prompt: str
) -> None:
    before = byte_tokens(fallback, prompt)
    after = fallback.encode("waits", add_special_tokens=False)
    assert "".join(stream(fallback, before, after)) == " waits"
    assert fallback.decode(before + after) == f"{prompt} waits"


def test_an_answer_completes_a_character_and_says_nothing_of_the_row_before_it(
    fallback: Tokenizer,
) -> None:
    ids = byte_tokens(fallback, "\n\n文\n")
    assert stream(fallback, ids[:3], ids[3:]) == ["", "文", "\n", ""]


@pytest.mark.parametrize(
    ("row", "pieces"),
    [
        (b"\xe6a", ["", "\ufffd\ufffd"]),
        (b"\xe6\x96a", ["", "", "\ufffd" * 3]),
        (b"a\x96a", ["a", "\ufffd", "\ufffd"]),
        (b"\xff\n\n", ["\ufffd", "\ufffd", "\ufffd"]),
        (b"\xe6\xe6", ["", "\ufffd\ufffd"]),
    ],
)
def test_from_a_bad_byte_on_a_row_is_signs_at_once(
    fallback: Tokenizer, row: bytes, pieces: list[str]
) -> None:
    ids = byte_tokens(fallback, row)
    after = fallback.encode("waits", add_special_tokens=False)
    got = stream(fallback, [], ids + after)
    assert got[: len(row)] == pieces
    assert "".join(got[len(row) :]) == " waits"


def test_a_part_of_a_character_that_a_word_ends_is_a_sign_for_each_byte(
    fallback: Tokenizer,
) -> None:
    ids = byte_tokens(fallback, b"\n\xe6\x96")
    after = fallback.encode("waits", add_special_tokens=False)
    assert "".join(stream(fallback, [], ids + after)) == "\n\ufffd\ufffd waits"
    assert stream(fallback, [], ids) == ["\n", "", "", "\ufffd\ufffd"]


def test_a_space_in_front_of_a_part_of_a_character_is_not_shown_again(fallback: Tokenizer) -> None:
    the = next_word(fallback, "the")
    ids = byte_tokens(fallback, b" \xc2")
    after = fallback.encode("waits", add_special_tokens=False)
    assert stream(fallback, the, ids) == [" ", "", "\ufffd"]
    assert "".join(stream(fallback, the, ids + after)) == " \ufffd waits"


def test_bytes_are_spelled_out_where_nothing_makes_characters_of_them(tmp_path: Path) -> None:
    library = KINDS["byte fallback"]()
    library.decoder = tokenizers.decoders.Metaspace()
    tokenizer = Tokenizer(save(library, tmp_path))
    [newline] = byte_tokens(tokenizer, "\n")
    assert stream(tokenizer, [], [newline]) == ["<0x0A>", ""] == [tokenizer.decode([newline]), ""]


# Tokens by themselves


@given(text=ANY_TEXT)
def test_the_bytes_of_tokens_are_the_bytes_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    data = b"".join(map(tokenizer.token_bytes, ids)).decode()
    # Some drop the space in front of a text when they make one.
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    assert decoded in (data, data.removeprefix(" "))


def test_a_token_has_the_space_of_its_word(tokenizer: Tokenizer) -> None:
    ids = next_word(tokenizer, "waits")
    assert "".join(map(tokenizer.token_text, ids)) == " waits"


def test_a_part_of_a_character_has_its_bytes_and_a_sign_for_a_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("文", add_special_tokens=False)
    if tokenizer.decode(ids) != "文":
        pytest.skip("this kind has no tokens for parts of a character")
    parts = [i for i in ids if "\ufffd" in tokenizer.token_text(i)]
    assert len(parts) > 1
    assert b"".join(map(tokenizer.token_bytes, parts)).decode().strip() == "文"


@pytest.mark.parametrize("unknown", [10**6, 2**32, 10**30, -1])
def test_an_id_of_no_token_has_no_text(tokenizer: Tokenizer, unknown: int) -> None:
    assert (tokenizer.token(unknown), tokenizer.token_text(unknown)) == (None, "")
    assert tokenizer.token_bytes(unknown) == b""
    known = tokenizer.encode("the")
    assert tokenizer.decode([unknown, *known]) == tokenizer.decode(known)
    assert stream(tokenizer, [unknown], [unknown]) == ["", ""]


def test_special_tokens_have_the_text_that_names_them(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_text(tokenizer.eos_token_id) == "</s>"
    assert tokenizer.token_bytes(tokenizer.eos_token_id) == b"</s>"
