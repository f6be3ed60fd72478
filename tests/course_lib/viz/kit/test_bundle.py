"""The kit's modules joined into one."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.viz.kit import bundle

IMPORT_BASE = 'import { one } from "./base.js";\n'


def written(folder: Path, **modules: str) -> Path:
    for name, source in modules.items():
        (folder / f"{name}.js").write_text(source, encoding="utf-8")
    return folder


def test_what_a_module_imports_comes_before_it_and_once(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        base="export const one = 1;\n",
        left=f"{IMPORT_BASE}export function left() {{}}\n",
        top=f'{IMPORT_BASE}import {{ left }} from "./left.js";\nexport default {{}};\n',
    )
    assert bundle.script("top.js", folder).split("\n") == [
        "const one = 1;",
        "",
        "function left() {}",
        "",
        "export default {};",
        "",
    ]


def test_the_style_sheets_are_those_of_the_modules(tmp_path: Path) -> None:
    folder = written(tmp_path, base="", top=IMPORT_BASE)
    for name in ("base", "top", "other"):
        (folder / f"{name}.css").write_text(f".{name} {{}}\n", encoding="utf-8")
    assert bundle.styles("top.js", folder) == ".base {}\n\n.top {}\n"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            {"a": "const size = 1;\n", "top": 'import { b } from "./a.js";\nlet size = 2;\n'},
            "a.js and top.js both define 'size'",
        ),
        (
            {"a": 'import { b } from "./top.js";\n', "top": 'import { b } from "./a.js";\n'},
            "top.js imports a.js imports top.js",
        ),
        ({"a": "", "top": 'import { b as c } from "./a.js";\n'}, "without new names"),
        ({"top": 'import d from "https://cdn.example/d.js";\n'}, "top.js has the line 'import d"),
        ({"top": 'import {\n  a,\n} from "./../a.js";\n'}, "top.js has the line 'import {'"),
        (
            {"a": "export default 1;\n", "top": 'import { b } from "./a.js";\n'},
            "a.js has an `export default`",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(
    tmp_path: Path, sources: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bundle.script("top.js", written(tmp_path, **sources))


def test_no_module_of_the_kit_writes_markup() -> None:
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write")
    for path in bundle.JS_FOLDER.glob("*.js"):
        source = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in source], path.name
