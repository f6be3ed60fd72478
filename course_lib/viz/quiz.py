"""Questions to practise on: choose, read why, try again."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent
_LETTERS = "ABCDEFGHIJ"


class Quiz(anywidget.AnyWidget):
    """Multiple-choice questions; each choice answers back at once. Nothing here is graded.

    Prompts, choices and feedback may contain ``code`` between backticks, *emphasis* and **strong**.

    Args:
        questions: For each, ``{"id", "prompt", "choices": [{"text", "correct", "feedback"}]}``.

    Raises:
        ValueError: There are no questions, two have the same id, or one does not have exactly one
            correct choice among two to ten.

    >>> quiz = Quiz([{"id": "q1", "prompt": "2 + 2?", "choices": [
    ...     {"text": "4", "correct": True, "feedback": "Yes."},
    ...     {"text": "5", "correct": False, "feedback": "One too many."}]}])
    >>> print(quiz.listing())
    1. 2 + 2?
       A. 4
       B. 5
    """

    _esm = _HERE / "quiz.js"
    _css = _HERE / "quiz.css"

    questions = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, questions: Sequence[Mapping[str, Any]]) -> None:
        if not questions:
            raise ValueError("a quiz needs at least one question")
        seen = set()
        for question in questions:
            _check_question(question)
            if question["id"] in seen:
                raise ValueError(f"two questions have the id {question['id']!r}")
            seen.add(question["id"])
        super().__init__(questions=[dict(question) for question in questions])

    def listing(self) -> str:
        """Return the questions and choices as plain text, without the answers."""
        lines = []
        for number, question in enumerate(self.questions, start=1):
            lines.append(f"{number}. {question['prompt']}")
            for letter, choice in zip(_LETTERS, question["choices"], strict=False):
                lines.append(f"   {letter}. {choice['text']}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": self.listing(), "text/html": self._listing_html()}, metadata

    def _listing_html(self) -> str:
        items = "".join(
            f"<li><p>{html.escape(question['prompt'])}</p><ol type='A'>"
            + "".join(f"<li>{html.escape(choice['text'])}</li>" for choice in question["choices"])
            + "</ol></li>"
            for question in self.questions
        )
        return f"<ol>{items}</ol>"


def _check_question(question: Mapping[str, Any]) -> None:
    """Raise ValueError unless the question can be asked."""
    for key in ("id", "prompt", "choices"):
        if key not in question:
            raise ValueError(f"question {question.get('id', '?')!r} has no {key!r}")
    choices = question["choices"]
    for choice in choices:
        missing = {"text", "correct", "feedback"} - set(choice)
        if missing:
            raise ValueError(
                f"a choice of question {question['id']!r} has no {sorted(missing)[0]!r}"
            )
    if not 2 <= len(choices) <= len(_LETTERS):
        raise ValueError(
            f"question {question['id']!r} has {len(choices)} choices; give it 2 to {len(_LETTERS)}"
        )
    num_correct = sum(bool(choice["correct"]) for choice in choices)
    if num_correct != 1:
        raise ValueError(
            f"question {question['id']!r} has {num_correct} correct choices; give it exactly one"
        )
