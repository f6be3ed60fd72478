"""The quiz: what is asked, and its static listing; and no markup from Python anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import course_lib.viz
from course_lib.viz import Quiz


def question(**changes: Any) -> dict[str, Any]:
    return {
        "id": "kv",
        "prompt": "Is `2 < 3`?",
        "choices": [
            {"text": "yes", "correct": True, "feedback": "Two is less."},
            {"text": "<b>no</b>", "correct": False, "feedback": "It is."},
        ],
        **changes,
    }


class TestQuiz:
    def test_the_static_listing_does_not_give_the_answer_away(self) -> None:
        data, _ = Quiz([question()])._repr_mimebundle_()
        mirrored = question(
            choices=[{**c, "correct": not c["correct"]} for c in question()["choices"]]
        )
        other, _ = Quiz([mirrored])._repr_mimebundle_()
        for kind in ("text/plain", "text/html"):
            assert data[kind] == other[kind]
            assert "Two is less" not in data[kind]

    def test_the_static_listing_is_escaped(self) -> None:
        data, _ = Quiz([question()])._repr_mimebundle_()
        assert "&lt;b&gt;no&lt;/b&gt;" in data["text/html"]

    @pytest.mark.parametrize(
        ("questions", "message"),
        [
            ([], "at least one question"),
            ([question(), question()], "two questions have the id 'kv'"),
            ([{"id": "kv", "prompt": "?"}], "question 'kv' has no 'choices'"),
            ([question(choices=question()["choices"][:1])], "1 choices"),
            ([question(choices=question()["choices"][1:] * 2)], "0 correct choices"),
            ([question(choices=[{"text": "a", "correct": True}] * 2)], "has no 'feedback'"),
        ],
    )
    def test_questions_that_cannot_be_asked_are_refused(
        self, questions: list[dict[str, Any]], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Quiz(questions)


def test_text_from_python_never_becomes_markup_in_the_browser() -> None:
    folder = Path(course_lib.viz.__file__).parent
    for module in [folder / "quiz.js", *folder.glob("kit/js/*.js")]:
        source = module.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML"):
            assert word not in source, module.name
