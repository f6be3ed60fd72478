"""The text that ``course-tiny`` learns from, and how a few pages of it become many.

The files in ``corpus/`` are templates. ``[one|another]`` stands for one of the two, ``{animal}``
for an entry of a table in ``words.txt``; the same slot gets the same entry all through a document,
and ``{Animal}`` gives it a capital. So one story is told of many children and many kites, and what
is the same in all tellings, the language itself, is what there is to learn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
"""The folder with the templates."""

Message = dict[str, str]
"""One turn of a chat: its ``role`` and its ``content``."""

Document = str | list[Message]
"""What the model sees in one piece: a text, or a chat."""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_WHAT_IS = re.compile(r"What is ([^?]+)\?")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")


class CorpusError(ValueError):
    """A template cannot be used: says which, and what is wrong with it."""


@dataclass(frozen=True)
class Table:
    """Entries that belong together, such as countries and their capitals.

    Attributes:
        fields: What an entry consists of.
        rows: The entries.
    """

    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, line: str) -> Table:
        """Read a line of ``words.txt``.

        Raises:
            CorpusError: A row does not have one word per field.

        >>> Table.parse("country/capital: Peru/Lima, Cuba/Havana").rows
        (('Peru', 'Lima'), ('Cuba', 'Havana'))
        """
        head, _, body = line.partition(": ")
        fields = tuple(head.split("/"))
        rows = tuple(tuple(row.split("/")) for row in body.split(", "))
        for row in rows:
            if len(row) != len(fields):
                raise CorpusError(
                    f"{'/'.join(row)!r} does not have one word for each of {head!r}; "
                    "separate words by / and rows by a comma and a space"
                )
        return cls(fields, rows)


@dataclass(frozen=True)
class Exchange:
    """A question with its paraphrases, and answers of which each answers every one of them."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Templates of all kinds.

    Attributes:
        words: What slots are filled from, by the name of the field.
        passages: Chapters; paragraphs in an order in which they can be read.
        stories: One paragraph each.
        questions: Single questions and answers.
        dialogues: Chats, as lines that begin with ``U:`` or ``A:``.
        systems: What may stand in front of a chat.
    """

    words: Mapping[str, Table]
    passages: tuple[tuple[str, ...], ...]
    stories: tuple[str, ...]
    questions: tuple[Exchange, ...]
    dialogues: tuple[str, ...]
    systems: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path = CORPUS) -> Corpus:
        """Read the templates in ``folder``.

        Raises:
            FileNotFoundError: A file is missing.
            CorpusError: A file cannot be understood, or a template has a slot that no table fills.
        """
        lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()
        tables = [Table.parse(line) for line in lines if line and not line.startswith("#")]
        corpus = cls(
            words={field: table for table in tables for field in table.fields},
            passages=tuple(_blocks(path) for path in sorted((folder / "passages").glob("*.txt"))),
            stories=_all_blocks(folder / "stories"),
            questions=tuple(_exchange(block) for block in _all_blocks(folder / "questions")),
            dialogues=_all_blocks(folder / "dialogues"),
            systems=_blocks(folder / "system.txt"),
        )
        corpus._require_known_slots()
        return corpus

    def split(self, every: int = 20) -> tuple[Corpus, Corpus]:
        """Hold paragraphs and stories back, to measure on what the model has not been trained on.

        Args:
            every: One in so many is held back. Questions and dialogues are not: what they ask for
                would never be learned.

        Returns:
            What to train on, and what was held back.
        """
        chapters = [list(chapter) for chapter in self.passages]
        held_chapters = tuple(tuple(chapter[every // 2 :: every]) for chapter in chapters)
        for chapter in chapters:
            del chapter[every // 2 :: every]
        stories = list(self.stories)
        held_stories = tuple(stories[every // 2 :: every])
        del stories[every // 2 :: every]
        rest = (self.questions, self.dialogues, self.systems)
        return (
            Corpus(self.words, tuple(map(tuple, chapters)), tuple(stories), *rest),
            Corpus(self.words, held_chapters, held_stories, (), (), ()),
        )

    def texts(self) -> list[str]:
        """Return every template once, as it stands in the files."""
        exchanges = [text for e in self.questions for text in (*e.questions, *e.answers)]
        paragraphs = [paragraph for chapter in self.passages for paragraph in chapter]
        return [*paragraphs, *self.stories, *exchanges, *self.dialogues, *self.systems]

    def draw(self, random: Random) -> Document:
        """Return one document, of a kind that is drawn first."""
        (draw,) = random.choices(
            [self.draw_passage, self.draw_story, self.draw_question, self.draw_dialogue],
            weights=[6, 4, 9, 5],
        )
        return draw(random)

    def draw_passage(self, random: Random) -> str:
        """Return one to three neighbouring paragraphs of a chapter, some from mid-paragraph on."""
        (chapter,) = random.choices(self.passages, weights=list(map(len, self.passages)))
        start = random.randrange(len(chapter))
        length = random.choice([1, 1, 2, 3])
        text = "\n\n".join(self.expand(t, random) for t in chapter[start : start + length])
        return _from_somewhere(text, random)

    def draw_story(self, random: Random) -> str:
        """Return a story, or the end of one."""
        return _from_somewhere(self.expand(random.choice(self.stories), random), random)

    def draw_question(self, random: Random) -> Document:
        """Return a question with its answer, as a chat or as a text."""
        question, answer = self._question_and_answer(random)
        return self._in_some_form([_sloppily(question, random), answer], random)

    def draw_dialogue(self, random: Random) -> Document:
        """Return a chat; one of a single turn may come as a text."""
        (q1, a1), (q2, a2) = (self._question_and_answer(random) for _ in range(2))
        bound = {"topic_q": q1, "topic_a": a1, "topic_q2": q2, "topic_a2": a2}
        bound["story"] = self.expand(random.choice(self.stories), random)
        weights = [8 if _repeats_a_slot(dialogue) else 1 for dialogue in self.dialogues]
        (dialogue,) = random.choices(self.dialogues, weights)
        lines = self.expand(dialogue, random, bound)
        turns = [turn.strip() for turn in re.split(r"^[UA]: ", lines, flags=re.MULTILINE)[1:]]
        turns[0] = _sloppily(turns[0], random)
        return self._in_some_form(turns, random)

    def expand(self, template: str, random: Random, bound: Mapping[str, str] | None = None) -> str:
        """Return a template with its choices made and its slots filled.

        Args:
            template: The template.
            random: Where choices come from.
            bound: Slots that are filled already.

        >>> corpus = Corpus({"pet": Table(("pet",), (("cat",),))}, (), (), (), (), ())
        >>> corpus.expand("[A|A] {pet}. {Pet}s sleep.", Random(0))
        'A cat. Cats sleep.'
        """
        values = dict(bound or {})
        while choice := _CHOICE.search(template):
            picked = random.choice(choice[1].split("|"))
            template = template[: choice.start()] + picked + template[choice.end() :]

        def fill(slot: re.Match[str]) -> str:
            name = slot[1].lower()
            if name not in values:
                table = self.words[name]
                values.update(zip(table.fields, random.choice(table.rows), strict=True))
            value = values[name]
            return value if slot[1] == name else value[0].upper() + value[1:]

        return _SLOT.sub(fill, template)

    def _question_and_answer(self, random: Random) -> tuple[str, str]:
        """Return one question and one answer that fits."""
        weights = [_weight(exchange) for exchange in self.questions]
        (exchange,) = random.choices(self.questions, weights)
        both = f"{random.choice(exchange.questions)}\n{random.choice(exchange.answers)}"
        question, answer = self.expand(both, random).split("\n", 1)
        return _in_other_words(question, random), answer

    def _in_some_form(self, turns: Sequence[str], random: Random) -> Document:
        """Return turns as a chat, or, if there are two, perhaps as a text."""
        form = random.choice(["chat", "chat", "labels", "plain"]) if len(turns) == 2 else "chat"
        if form == "labels":
            return f"Question: {turns[0]}\nAnswer: {turns[1]}"
        if form == "plain":
            return f"{turns[0]} {turns[1]}"
        roles = ["user", "assistant"] * (len(turns) // 2)
        chat = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=True)]
        return [*self._system(random), *chat]

    def _system(self, random: Random) -> list[Message]:
        """Return what stands before a chat: mostly nothing, else a line, now and then pages."""
        kind = random.choices(["none", "line", "pages"], weights=[16, 3, 1])[0]
        if kind == "none":
            return []
        content = self.expand(random.choice(self.systems), random)
        if kind == "pages":
            notes = [self.draw_passage(random) for _ in range(random.randint(1, 6))]
            content = "\n\n".join([content, *notes])
        return [{"role": "system", "content": content}]

    def _require_known_slots(self) -> None:
        """Raise CorpusError for a slot that nothing fills."""
        known = {*self.words, "topic_q", "topic_a", "topic_q2", "topic_a2", "story"}
        for text in self.texts():
            for slot in _SLOT.findall(text):
                if slot.lower() not in known:
                    raise CorpusError(
                        f"no table of words.txt fills {{{slot}}} in {text[:60]!r}; add one, or "
                        f"use one of: {', '.join(sorted(known))}"
                    )


def _blocks(path: Path) -> tuple[str, ...]:
    """Return what stands between empty lines in a file."""
    return tuple(path.read_text(encoding="utf-8").strip().split("\n\n"))


def _all_blocks(folder: Path) -> tuple[str, ...]:
    """Return the blocks of all files in a folder."""
    return tuple(block for path in sorted(folder.glob("*.txt")) for block in _blocks(path))


def _exchange(block: str) -> Exchange:
    """Read lines that begin with ``Q:`` or ``A:``."""
    lines = block.splitlines()
    questions = tuple(line[3:] for line in lines if line.startswith("Q: "))
    answers = tuple(line[3:] for line in lines if line.startswith("A: "))
    if not questions or not answers or len(questions) + len(answers) < len(lines):
        raise CorpusError(f"{block!r} is not lines of Q: and A:, at least one of each")
    return Exchange(questions, answers)


def _from_somewhere(text: str, random: Random) -> str:
    """Return the text, or what follows one of its first sentences or words.

    A prompt may begin anywhere, so the model must know how to go on from anywhere.
    """
    start = random.choices(["text", "sentence", "word"], weights=[5, 3, 2])[0]
    if start == "text":
        return text
    if start == "sentence":
        return _SENTENCE_END.split(text, maxsplit=random.randint(1, 4))[-1]
    return text.split(" ", maxsplit=random.randint(1, 20))[-1]


def _weight(exchange: Exchange) -> int:
    """Return how often to draw an exchange, compared to others.

    One with slots is many: each country has its capital.
    """
    return 10 if any("{" in text for text in (*exchange.questions, *exchange.answers)) else 1


def _repeats_a_slot(dialogue: str) -> bool:
    """Whether a name, say, comes back in a later turn. To look it up takes long to learn."""
    slots = _SLOT.findall(dialogue)
    return len(set(slots)) < len(slots)


def _in_other_words(question: str, random: Random) -> str:
    """Return a question as it is, or one that asks what something is in another way."""
    asked = _WHAT_IS.fullmatch(question)
    if asked is None or random.random() < 0.6:
        return question
    form = random.choice(
        [
            "What's {}?",
            "Explain {}.",
            "Describe {}.",
            "Tell me about {}.",
            "Can you explain {}?",
            "Please tell me about {}.",
            "Tell me what {} is.",
            "Do you know what {} is?",
            "What do you know about {}?",
            "I want to know what {} is.",
        ]
    )
    return form.format(asked[1])


def _sloppily(question: str, random: Random) -> str:
    """Return a question as people type it: one in six in small letters and without a mark."""
    return question.lower().rstrip("?.!") if random.random() < 1 / 6 else question
