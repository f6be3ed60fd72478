"""The command line: help with examples, one-line errors, exit codes."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook
from rich.console import Console
from typer.testing import CliRunner

from autograder import cli
from autograder.commands import update
from autograder.errors import CourseError
from autograder.terminal import machine
from autograder.terminal.machine import Finding, Status

NAME = "01_first_steps"
COURSE = [sys.executable, "-c", "from autograder.cli import main; main()"]


def release(root, text):
    path = root / "lessons" / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell(text, id="title")]), path)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with one lesson, opened in the workspace."""
    root = tmp_path / "checkout"
    release(root, "# First steps")
    monkeypatch.setenv("COURSE_ROOT", str(root))
    monkeypatch.setenv("COURSE_WORKSPACE", str(root / "workspace"))
    from autograder.workspace.copies import open_lesson

    open_lesson("1")
    return root


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command as the console script does; return exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["course", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return run


def commands():
    return [command.name or command.callback.__name__ for command in cli.app.registered_commands]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: course {command}" in result.output


def test_help_does_not_wait_for_heavy_imports():
    script = (
        "import sys; from autograder.cli import app\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'nbformat', 'matplotlib', 'hypothesis')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_nobody_who_reads_notebooks_waits_for_a_grammar_that_notebooks_do_not_need():
    script = (
        "import sys; from autograder import explanation, notebook_files\n"
        "explanation.Explanation('', '', '*a*').folded()\n"
        "assert 'nbformat' in sys.modules\n"
        "sys.exit('lark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_update_shows_a_table_and_names_the_backup(root, run, monkeypatch):
    monkeypatch.setattr(update, "console", Console(width=200))
    release(root, "# First steps, corrected")
    code, out, _ = run("update", "1")
    assert code == 0
    assert "new text, you had not changed it │ First steps, corrected" in out
    assert str(root / "workspace" / ".course" / "backups" / NAME) in out


def test_a_dry_run_writes_nothing(root, run):
    release(root, "# First steps, corrected")
    notebook = root / "workspace" / NAME / f"{NAME}.ipynb"
    before = notebook.read_bytes()
    code, out, _ = run("update", "--dry-run")
    assert code == 0
    assert "Nothing was written" in out
    assert notebook.read_bytes() == before
    assert not (root / "workspace" / ".course" / "backups").exists()


def test_one_damaged_notebook_stops_an_update_of_all_before_anything_is_written(root, run):
    second = root / "lessons" / "02_second" / "02_second.ipynb"
    second.parent.mkdir()
    nbformat.write(new_notebook(), second)
    broken = root / "workspace" / "02_second" / "02_second.ipynb"
    broken.parent.mkdir()
    broken.write_text("{")
    release(root, "# First steps, corrected")
    before = (root / "workspace" / NAME / f"{NAME}.ipynb").read_bytes()
    code, _, err = run("update")
    assert code == 1
    assert err.startswith(f"course: {broken} is not JSON")
    assert err.count("\n") == 1
    assert (root / "workspace" / NAME / f"{NAME}.ipynb").read_bytes() == before


def test_an_empty_workspace_says_how_to_open_a_lesson(root, run, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "new"))
    code, _, err = run("update")
    assert code == 1
    assert err.endswith("open one with `course lab 1`\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CourseError("two\nlines; remedy"), 1, "course: two lines; remedy\n"),
        (KeyboardInterrupt(), 130, "course: interrupted;"),
        (PermissionError(13, "Permission denied", "/x"), 1, "course: /x: Permission denied;"),
    ],
)
def test_what_the_user_can_put_right_is_one_line_without_a_traceback(
    run, monkeypatch, error, code, message
):
    def fail():
        raise error

    monkeypatch.setattr(machine, "examine", fail)
    exit_code, _, err = run("doctor")
    assert exit_code == code
    assert message in err
    assert err.count("\n") == 1


def test_a_defect_of_our_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["course", "doctor"])
    monkeypatch.setattr(machine, "examine", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("status", "code"), [(Status.OK, 0), (Status.WARNING, 0), (Status.MISSING, 1)]
)
def test_the_doctor_fails_only_for_what_the_course_cannot_do_without(
    run, monkeypatch, status, code
):
    finding = Finding("thing", status, "found [so]", "do this")
    monkeypatch.setattr(machine, "examine", lambda: [finding])
    exit_code, out, err = run("doctor")
    assert exit_code == code
    assert "found [so]" in out
    assert "do this" in out
    assert ("missing: thing" in err) is (code == 1)


def test_a_wrong_option_is_a_usage_error(run):
    code, _, err = run("lab", "--port", "99999")
    assert code == 2
    assert "Traceback" not in err


def test_ctrl_c_ends_a_running_command_with_130_and_one_line():
    script = (
        "import time; from autograder import cli; from autograder.terminal import machine\n"
        "def examine():\n    print('running', flush=True)\n    time.sleep(60)\n"
        "machine.examine = examine\nimport sys; sys.argv = ['course', 'doctor']\ncli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TERM": "dumb"},
    )
    assert process.stdout is not None
    while "running" not in process.stdout.readline():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "course: interrupted; nothing is half written, run the command again\n"


def test_where_nothing_was_handed_in_it_says_where_to_put_it(root, run):
    code, _, err = run("autograde")
    assert code == 1
    assert err == (
        "course: grading/submitted is empty; put notebooks at "
        "grading/submitted/NAME/LESSON/LESSON.ipynb\n"
    )
