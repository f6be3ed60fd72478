"""Intake: the texts of a submission in the released lesson, or the reason why not."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autograder.build.notebooks import graded_sources, release_path
from autograder.errors import CourseError
from autograder.notebook_files import notebook_bytes
from autograder.sealed import document, hand_in_files
from autograder.sealed.gradebook import autograded_notebook
from autograder.sealed.intake import Role, Submission, take_in
from autograder.sealed.quarantine import Quarantined
from autograder.sealed.release import Release, load_release
from autograder.sealed.score import Score

LESSON = "01_small"
Cells = list[dict[str, Any]]
HandIn = Callable[..., Path]


@pytest.fixture
def taken(submitted: Path, release: Release, hand_in: HandIn) -> Callable[..., Submission]:
    """Hand something in and return the submission that it is."""

    def taken(content: Any, **fields: Any) -> Submission:
        hand_in(content, **fields)
        found = take_in(submitted, "ada", release)
        assert isinstance(found, Submission), found
        return found

    return taken


@pytest.fixture
def refused(submitted: Path, release: Release, hand_in: HandIn) -> Callable[..., str]:
    """Hand something in and return why it is not graded."""

    def refused(content: Any = None, student: str = "ada", **fields: Any) -> str:
        if content is not None:
            hand_in(content, student, **fields)
        found = take_in(submitted, student, release)
        assert isinstance(found, Quarantined), found
        assert (found.student, found.lesson) == (student, LESSON)
        return found.reason

    return refused


def run(found: Submission) -> list[tuple[str, str]]:
    """Return what runs, with the places where answers are taken."""
    return [(c.role, c.grade_id or c.source) for c in found.cells if c.role is not Role.TEXT]


def source(found: Submission, name: str) -> str:
    return next(cell.source for cell in found.cells if cell.grade_id == name)


def test_what_a_release_asks_for(release: Release) -> None:
    assert [(a.exercise, a.answer_id, a.name, a.points) for a in release.asked] == [
        ("1.double", "ex-double", "double", 10),
        ("1.half", "ex-half", "half", 5),
    ]
    assert release.texts == (("text", 5.0),)
    assert release.maximum == 20
    assert release.of_check("check-half").exercise == "1.half"
    with pytest.raises(KeyError, match="no check 'check-third' in 01_small"):
        release.of_check("check-third")


def test_a_class_has_one_copy_of_what_all_were_given(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    first = taken(answered)
    answered[2]["source"] += "  # mine"
    second = taken(answered)
    pairs = list(zip(first.cells, second.cells, strict=True))
    differ = [a for a, b in pairs if a.source is not b.source or a.grade_id is not b.grade_id]
    assert [cell.grade_id for cell in differ] == ["ex-double"]
    assert not hasattr(first.cells[0], "__dict__")


@pytest.mark.parametrize("line", ['check("1.1", f(2))', "check(", 'check("1.1", f); x = 1'])
def test_a_release_whose_check_says_nothing_is_refused(
    tmp_path: Path, answered: Cells, line: str
) -> None:
    answered[3]["source"] = line
    path = tmp_path / "broken.ipynb"
    path.write_text(json.dumps({"cells": answered, "metadata": {}, "nbformat": 4}))
    with pytest.raises(CourseError, match="cell check-double is no check such as"):
        load_release(path)


@pytest.mark.parametrize("slug", [source.stem for source in graded_sources()])
def test_every_lesson_says_what_it_asks_for(slug: str) -> None:
    release = load_release(release_path(slug))
    assert release.maximum == 100
    assert len({each.check_id for each in release.asked}) == len(release.asked)


def test_an_honest_submission(taken: Callable[..., Submission], answered: Cells) -> None:
    found = taken(answered)
    assert run(found) == [
        ("given", "import math\nfrom autograder.notebook import check"),
        ("answer", "ex-double"),
        ("check", "check-double"),
        ("answer", "ex-half"),
        ("check", "check-half"),
    ]
    assert source(found, "ex-half") == "def half(x):\n    return x / 2"
    assert source(found, "text") == "Because."
    assert found.notes == ()


def test_the_digest_is_of_what_counts(taken: Callable[..., Submission], answered: Cells) -> None:
    first = taken(answered).digest
    answered[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    answered[2]["metadata"]["tags"] = ["skip-execution", "raises-exception"]
    assert taken(answered).digest == first
    answered[2]["source"] += " "
    assert taken(answered).digest != first


def roles_changed(cells: Cells) -> None:
    for each in cells:
        each["metadata"].get("nbgrader", {}).update(points=999, locked=False, schema_version=99)
        each["metadata"]["tags"] = ["skip-execution"]


def ids_stripped(cells: Cells) -> None:
    for each in cells:
        del each["id"]


def ids_doubled(cells: Cells) -> None:
    for each in cells:
        each["id"] = "same"


def metadata_stripped(cells: Cells) -> None:
    for each in cells:
        each["metadata"] = {}


def grade_ids_swapped(cells: Cells) -> None:
    first, second = (cells[i]["metadata"]["nbgrader"] for i in (2, 5))
    first["grade_id"], second["grade_id"] = second["grade_id"], first["grade_id"]


def windows_lines(cells: Cells) -> None:
    for each in cells:
        each["source"] = each["source"].replace("\n", "\r\n")


def sources_as_lists(cells: Cells) -> None:
    for each in cells:
        each["source"] = each["source"].splitlines(keepends=True)


def fifty_mb_of_output(cells: Cells) -> None:
    cells[2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 50_000_000}]


def first_schema(cells: Cells) -> None:
    for each in cells:
        each["metadata"].get("nbgrader", {}).update(schema_version=1)


@pytest.mark.parametrize(
    "change",
    [
        roles_changed,
        first_schema,
        ids_stripped,
        ids_doubled,
        metadata_stripped,
        grade_ids_swapped,
        windows_lines,
        sources_as_lists,
        fifty_mb_of_output,
    ],
)
def test_what_a_notebook_says_of_itself_changes_nothing(
    taken: Callable[..., Submission], answered: Cells, change: Callable[[Cells], None]
) -> None:
    honest = taken(answered)
    change(answered)
    found = taken(answered)
    assert (found.digest, found.notes) == (honest.digest, ())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_an_encoding_costs_nothing(
    taken: Callable[..., Submission], answered: Cells, encoding: str
) -> None:
    text = json.dumps({"cells": answered, "nbformat": 4})
    assert taken(text.encode(encoding)).digest == taken(answered).digest


@pytest.mark.parametrize("minor", [0, 99, "x"])
def test_a_minor_version_costs_nothing(
    taken: Callable[..., Submission], answered: Cells, minor: Any
) -> None:
    assert taken(answered, nbformat_minor=minor).digest == taken(answered).digest


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernelspec": {"name": "no-such-kernel", "language": "R", "display_name": 3}},
        {"kernelspec": None, "language_info": "R"},
        {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": "x" * 50_000_000}}},
        {"course": {"slug": "02_other"}, "celltoolbar": "Create Assignment"},
    ],
    ids=["another kernel", "no kernel", "50 MB of widget state", "another lesson"],
)
def test_the_metadata_of_a_notebook_cost_nothing(
    taken: Callable[..., Submission], answered: Cells, metadata: dict[str, Any]
) -> None:
    honest = taken(answered)
    found = taken(answered, metadata=metadata)
    assert (found.digest, found.notes) == (honest.digest, ())


@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_an_answer_that_is_no_code_any_more_is_taken_as_code(
    taken: Callable[..., Submission], answered: Cells, kind: str
) -> None:
    honest = taken(answered)
    # An editor did it, for a picture.
    answered[2]["cell_type"] = kind
    answered[2]["attachments"] = {"plot.png": {"image/png": "aGVsbG8="}}
    found = taken(answered)
    assert run(found) == run(honest)
    assert source(found, "ex-double") == source(honest, "ex-double")
    assert found.notes == (f"cell ex-double was turned into {kind}",)


def test_graded_cells_of_ones_own_are_worth_nothing(
    taken: Callable[..., Submission], release: Release, answered: Cells
) -> None:
    honest = taken(answered)
    roles = {**answered[3]["metadata"]["nbgrader"], "grade_id": "check-mine", "points": 1000}
    mine = {**answered[3], "id": "mine", "source": "1000", "metadata": {"nbgrader": roles}}
    found = taken([*answered, mine])
    assert [each for each in run(found) if each[0] == "check"] == [
        each for each in run(honest) if each[0] == "check"
    ]
    assert run(found)[-1] == ("own", "1000")


@pytest.mark.parametrize("student", ["bob [2]", "a b", "a.b", "Jürgen", "x" * 200, "=cmd", "-rf"])
def test_a_folder_may_be_called_what_it_likes(
    submitted: Path, release: Release, hand_in: HandIn, answered: Cells, student: str
) -> None:
    hand_in(answered, "ada")
    hand_in(answered, student)
    digests = {name: take_in(submitted, name, release) for name in ("ada", student)}
    assert isinstance(digests[student], Submission)
    assert digests[student].student == student
    assert digests[student].digest == digests["ada"].digest  # type: ignore[union-attr]


def test_a_data_file_that_is_a_link_is_not_followed(
    submitted: Path, taken: Callable[..., Submission], hand_in: HandIn, answered: Cells
) -> None:
    honest = taken(answered)
    (submitted / "ada" / LESSON / "data.csv").symlink_to("/etc/passwd")
    found = taken(answered)
    assert (found.digest, found.notes) == (honest.digest, ())


@pytest.mark.parametrize(
    ("place", "text"), [(3, "print('10 points')"), (3, ""), (6, 'check("1.double", half)')]
)
def test_an_edited_check_is_the_released_one(
    taken: Callable[..., Submission], answered: Cells, place: int, text: str
) -> None:
    honest = taken(answered)
    answered[place]["source"] = text
    found = taken(answered)
    assert found.digest == honest.digest
    name = answered[place]["id"]
    assert found.notes == (f"cell {name} was edited; the released one counts",)


def test_an_answer_in_its_check_counts(
    taken: Callable[..., Submission], release: Release, answered: Cells
) -> None:
    answered[3]["source"] = written = f"{answered[2]['source']}\ncheck('1.double', double)"
    answered[2]["source"] = str(release.cells[2].source)
    found = taken(answered)
    assert run(found)[1:4] == [("answer", "ex-double"), ("own", written), ("check", "check-double")]
    assert source(found, "ex-double") == ""
    assert "an answer was written into cell check-double" in found.notes


def test_a_check_as_text_is_the_released_one(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    honest = taken(answered)
    answered[3]["cell_type"] = "markdown"
    found = taken(answered)
    assert found.digest == honest.digest
    assert found.notes == ("cell check-double was turned into markdown",)


def test_missing_cells_are_put_back(taken: Callable[..., Submission], answered: Cells) -> None:
    honest = taken(answered)
    del answered[6], answered[3], answered[0]
    found = taken(answered)
    assert run(found) == run(honest)
    assert found.notes == (
        "cell setup was deleted and is put back",
        "cell check-double was deleted and is put back",
        "cell check-half was deleted and is put back",
    )


def test_a_deleted_answer_is_named(taken: Callable[..., Submission], answered: Cells) -> None:
    del answered[2]
    found = taken(answered)
    assert ("answer", "ex-double") not in run(found)
    assert found.notes == ("cell ex-double was deleted; it earns nothing",)


def test_a_check_in_front_of_its_answer_is_moved_behind_it(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    honest = taken(answered)
    answered.insert(0, answered.pop(3))
    found = taken(answered)
    assert run(found) == run(honest)
    assert found.notes == ("cell check-double was moved in front of ex-double",)


def test_the_last_copy_of_a_check_is_where_the_answer_is_taken(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    answered.append({**answered[3], "id": "copied", "source": 'check("1.half", 3)'})
    found = taken(answered)
    assert run(found)[2] == ("own", 'check("1.double", double)')
    assert run(found)[-2:] == [("check", "check-half"), ("check", "check-double")]
    assert source(found, "check-double") == 'check("1.double", double)'


def test_the_last_copy_of_an_answer_counts(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    answered.append({**answered[2], "id": "copied", "source": "def double(x):\n    return x + x"})
    found = taken(answered)
    assert source(found, "ex-double") == "def double(x):\n    return x + x"
    assert run(found)[-2:] == [("answer", "ex-double"), ("check", "check-double")]


@pytest.mark.parametrize(
    "at", [1, 3, 4, 8], ids=["above", "below", "behind the check", "at the end"]
)
def test_an_answer_beside_its_cell_is_taken(
    taken: Callable[..., Submission], release: Release, answered: Cells, at: int
) -> None:
    code = answered[2]["source"]
    answered[2]["source"] = str(release.cells[2].source)
    answered.insert(
        at, {"cell_type": "code", "id": "mine", "metadata": {}, "source": f"%%time\n{code}"}
    )
    found = taken(answered)
    order = run(found)
    assert source(found, "ex-double") == ""
    assert order.index(("own", f"%%time\n{code}")) < order.index(("check", "check-double"))
    assert found.notes == ("cell ex-double is empty: double was written in another cell",)


def test_a_helper_stays_where_it_is(taken: Callable[..., Submission], answered: Cells) -> None:
    helper = {
        "cell_type": "code",
        "id": "mine",
        "metadata": {},
        "source": "def double(x): return 0",
    }
    answered.insert(1, helper)
    found = taken(answered)
    assert run(found)[1] == ("own", "def double(x): return 0")
    assert source(found, "ex-double").endswith("return 2 * x")
    assert found.notes == ()


def test_an_edited_setup_cell_runs_behind_the_released_one(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    answered[0]["source"] = "import math, os"
    found = taken(answered)
    assert run(found)[:2] == [
        ("given", "import math\nfrom autograder.notebook import check"),
        ("own", "import math, os"),
    ]
    assert found.notes == ("cell setup was edited; the released one runs before it",)


def test_a_picture_stays_with_its_text(taken: Callable[..., Submission], answered: Cells) -> None:
    answered[7]["attachments"] = {"a.png": {"image/png": "aGVsbG8="}}
    answered[1]["attachments"] = {"b.png": "no picture"}
    found = taken(answered)
    assert [dict(cell.attachments) for cell in found.cells if cell.attachments] == [
        {"a.png": {"image/png": "aGVsbG8="}}
    ]


def test_what_is_recognised_no_more_is_refused(
    refused: Callable[..., str], answered: Cells
) -> None:
    for each in answered:
        each["metadata"] = {}
        each["id"] += "-new"
        each["source"] = each["source"].replace("double", "twice").replace("x", "y")
    assert "no answer was found for" in refused(answered)


NESTED = b"[" * 100_000 + b"]" * 100_000
CODE = '{"cell_type": "code", "metadata": {}, "source": "1"}'


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the file is empty"),
        (b"  \n", "the file is empty"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe\x00", "it is not text in UTF-8 or UTF-16"),
        ("ü".encode("latin-1") * 9, "it is not text in UTF-8 or UTF-16"),
        (NESTED, "its JSON nests too deep"),
        (b'{"nbformat": 4, "cells": ' + NESTED + b"}", "its JSON nests too deep"),
        (b"[" + b"[]," * 2_500_000 + b"[]]", "more than 4000000 values"),
        (b"3", "no notebook of format 4 (it is none)"),
        (b'{"nbformat": 4}', "no notebook of format 4"),
        (b'{"nbformat": 3, "worksheets": []}', "no notebook of format 4 (it is format 3)"),
        (b'{"nbformat": 5, "cells": []}', "no notebook of format 4 (it is format 5)"),
        (b'{"nbformat": true, "cells": []}', "no notebook of format 4 (it is none)"),
        (b'{"nbformat": 4, "cells": {}}', "no notebook of format 4"),
        (b'{"nbformat": 4, "cells": [3]}', "cell 0 is neither code nor text"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "heading"}]}', "cell 0 is neither"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 3}]}', "cell 0 has no text"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": [3]}]}', "cell 0 has no text"),
    ],
)
def test_what_is_no_notebook_is_refused(
    refused: Callable[..., str], raw: bytes, reason: str
) -> None:
    said = refused(raw)
    assert reason in said
    assert "; ask for it" in said
    assert "\n" not in said


def test_caps(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"cell_type": "code", "metadata": {}, "source": "x" * (document.MAX_SOURCE + 1)}
    assert "cell 0 has 1048577 characters" in refused([long])
    many = [{"cell_type": "code", "metadata": {}, "source": ""}] * (document.MAX_CELLS + 1)
    assert "it has 2001 cells" in refused(many)
    monkeypatch.setattr(document, "MAX_ATTACHMENTS", 100)
    picture = {"a.png": {"image/png": "A" * 101}}
    text = {"cell_type": "markdown", "metadata": {}, "source": "", "attachments": picture}
    assert "its texts hold pictures" in refused([text])


def test_a_notebook_of_200_mb_is_not_read(
    refused: Callable[..., str], hand_in: HandIn, answered: Cells
) -> None:
    os.truncate(hand_in(answered), 200 * 2**20)
    assert "is larger than 100 MiB" in refused()


def test_code_that_cannot_be_parsed_is_still_taken(
    taken: Callable[..., Submission], answered: Cells
) -> None:
    for text in ("(" * 100_000, "-" * 200_000 + "1", "\0", "def double("):
        answered[2]["source"] = text
        answered[7]["source"] = "*Here.*"
        beside = {"cell_type": "code", "id": "mine", "metadata": {}, "source": text}
        found = taken([*answered, beside])
        assert source(found, "ex-double") == text
        assert len(found.digest) == 64


def test_half_a_character_costs_nothing_and_no_notebook_of_others(
    taken: Callable[..., Submission], release: Release, answered: Cells
) -> None:
    """JSON can say it, and no file can hold it: none of Python, and none that a person reads."""
    answered[2]["source"] = "# \ud83d\ndef double(x):\n    return 2 * x"
    answered[7]["source"] = "Because \udfff."
    answered[7]["attachments"] = {"\ud83d.png": {"image/png": "aGVsbG8="}}
    found = taken(answered)
    assert source(found, "ex-double").startswith("# \ufffd\ndef")
    assert source(found, "text") == "Because \ufffd."
    assert not any(cell.attachments for cell in found.cells)
    assert notebook_bytes(autograded_notebook(release, found, Score(())))


def test_a_missing_folder_or_notebook(
    submitted: Path, refused: Callable[..., str], answered: Cells
) -> None:
    assert refused() == "cannot read ada: No such file or directory; ask for it again"
    (submitted / "ada" / LESSON).mkdir(parents=True)
    assert refused() == "there is no 01_small.ipynb; ask for it"
    (submitted / "ada" / LESSON / f"{LESSON}.ipynb").mkdir()
    assert refused() == "01_small.ipynb is no file; ask for it again"


@pytest.mark.parametrize("name", ["..", "", "a/b"])
def test_no_name_leads_out_of_the_folder(refused: Callable[..., str], name: str) -> None:
    assert "is no name of a folder" in refused(student=name)


def test_a_name_that_is_no_text(submitted: Path, release: Release) -> None:
    found = take_in(submitted, "a\udcff", release)
    assert found == Quarantined(
        r"'a\udcff'",
        LESSON,
        "the name of the folder holds characters that cannot be shown; rename it",
    )


def test_a_renamed_notebook_is_taken_and_a_second_one_is_named(
    submitted: Path, taken: Callable[..., Submission], refused: Callable[..., str], answered: Cells
) -> None:
    taken(answered)
    folder = submitted / "ada" / LESSON
    wanted = folder / f"{LESSON}.ipynb"
    copied = folder / "01_small (1).ipynb"
    copied.write_bytes(wanted.read_bytes())
    assert taken(answered).notes == ("01_small (1).ipynb was not graded",)
    (folder / "new\nline.ipynb").write_bytes(wanted.read_bytes())
    wanted.unlink()
    said = refused()
    assert "several notebooks (01_small (1).ipynb, 'new\\nline.ipynb')" in said
    copied.unlink()


def test_the_only_notebook_is_taken_whatever_it_is_called(
    submitted: Path, release: Release, hand_in: HandIn, answered: Cells
) -> None:
    path = hand_in(answered)
    path.rename(path.with_name("Lösung.IPYNB"))
    found = take_in(submitted, "ada", release)
    assert isinstance(found, Submission)
    assert found.notes == ("it was called Lösung.IPYNB",)


def link_the_notebook(submitted: Path, elsewhere: Path) -> None:
    path = submitted / "ada" / LESSON / f"{LESSON}.ipynb"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def link_the_folder(submitted: Path, elsewhere: Path) -> None:
    folder = submitted / "ada" / LESSON
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def link_the_student(submitted: Path, elsewhere: Path) -> None:
    (submitted / "ada").rename(elsewhere)
    (submitted / "ada").symlink_to(elsewhere)


@pytest.mark.parametrize("link", [link_the_notebook, link_the_folder, link_the_student])
def test_no_link_is_followed(
    submitted: Path,
    tmp_path: Path,
    hand_in: HandIn,
    answered: Cells,
    refused: Callable[..., str],
    link: Callable[[Path, Path], None],
) -> None:
    hand_in(answered)
    link(submitted, tmp_path / "elsewhere")
    assert refused().endswith("is a symbolic link; ask for it again")


def test_a_pipe_is_not_waited_for(
    submitted: Path, hand_in: HandIn, answered: Cells, refused: Callable[..., str]
) -> None:
    path = hand_in(answered)
    path.unlink()
    os.mkfifo(path)
    assert refused() == "01_small.ipynb is no file; ask for it again"


def zipped(members: dict[str, bytes], mode: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return packed.getvalue()


@pytest.fixture
def hand_in_zip(submitted: Path) -> Callable[[bytes], None]:
    folder = submitted / "ada" / LESSON
    folder.mkdir(parents=True)
    return lambda raw: (folder / "01.zip").write_bytes(raw) and None


def test_a_zip_file_is_looked_into(
    submitted: Path,
    release: Release,
    hand_in_zip: Callable[[bytes], None],
    answered: Cells,
) -> None:
    raw = json.dumps({"cells": answered, "nbformat": 4}).encode()
    hand_in_zip(zipped({"__MACOSX/._x.ipynb": b"", "my work/Small.ipynb": raw, "data.csv": b"1"}))
    found = take_in(submitted, "ada", release)
    assert isinstance(found, Submission)
    assert found.notes == ("it came in a zip file", "it was called Small.ipynb")
    assert [path.name for path in (submitted / "ada" / LESSON).iterdir()] == ["01.zip"]


NOTEBOOK = json.dumps({"cells": [], "nbformat": 4}).encode()


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"PK no zip", "the zip file cannot be unpacked"),
        (zipped({"a.ipynb": NOTEBOOK})[:-30], "the zip file cannot be unpacked"),
        (zipped({"../../a.ipynb": NOTEBOOK}), "which leads out of it"),
        (zipped({"/etc/a.ipynb": NOTEBOOK}), "which leads out of it"),
        (zipped({"..\\a.ipynb": NOTEBOOK}), "which leads out of it"),
        (zipped({"C:a.ipynb": NOTEBOOK}), "which leads out of it"),
        (zipped({"a.ipynb": b"/etc/passwd"}, 0o120777), "is a symbolic link"),
        (zipped({"a.ipynb": b"0" * 50_000_000}), "as a zip bomb does"),
        (zipped({"a.ipynb": NOTEBOOK, "b.ipynb": NOTEBOOK}), "several notebooks"),
        (zipped({"a.zip": zipped({"a.ipynb": NOTEBOOK})}), "as JupyterLab saves it"),
        (zipped({f"{n}.txt": b"" for n in range(1001)}), "more than 1000 files"),
        (zipped({}), "there is no 01_small.ipynb"),
    ],
)
def test_a_hostile_zip_file_is_refused(
    hand_in_zip: Callable[[bytes], None], refused: Callable[..., str], packed: bytes, reason: str
) -> None:
    hand_in_zip(packed)
    assert reason in refused()


def test_a_zip_file_that_lies_about_its_size_is_not_read_beyond_the_cap(
    hand_in_zip: Callable[[bytes], None],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hand_in_files, "MAX_NOTEBOOK_BYTES", 2**20)
    hand_in_zip(zipped({"a.ipynb": os.urandom(2 * 2**20)}))
    assert "a.ipynb is larger than 1 MiB" in refused()


def test_a_folder_with_too_many_files(
    submitted: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_in_files, "MAX_ENTRIES", 3)
    folder = submitted / "ada" / LESSON
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.txt").touch()
    assert "more than 3 files" in refused()
