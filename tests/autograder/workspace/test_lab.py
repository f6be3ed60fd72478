"""JupyterLab as a learner and as an instructor start it, asked over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbconvert.nbconvertapp import NbConvertApp
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbgrader.utils import compute_checksum

from autograder.errors import CourseError
from autograder.workspace.copies import open_lesson
from autograder.workspace.lab import LabServer, instructor_server, learner_server, require_free_port

NAME = "01_first_steps"
TOKEN = "a-token-for-the-test"
START_SECONDS = 60
EXPORT = "course_lib.viz.kit.exported_notebook.SelfContainedWidgets"


def cell_metadata(grade_id, **roles):
    return {
        "nbgrader": {
            "grade_id": grade_id,
            "grade": False,
            "solution": False,
            "locked": False,
            "schema_version": 3,
            "cell_type": "code",
        }
        | roles
    }


def lesson(answer):
    check = cell_metadata("check", grade=True, locked=True, points=2)
    return new_notebook(
        cells=[
            new_code_cell(answer, id="f", metadata=cell_metadata("f", solution=True)),
            new_code_cell("2.0 if f() == 42 else 0.0", id="check", metadata=check),
        ]
    )


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with one lesson, and a home whose Jupyter settings would stop any server."""
    root = tmp_path / "checkout"
    path = root / "lessons" / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(lesson("def f(): ..."), path)
    settings = tmp_path / "home" / ".jupyter" / "jupyter_server_config.py"
    settings.parent.mkdir(parents=True)
    settings.write_text("raise SystemExit('the settings of this user were read')\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_ROOT", str(root))
    monkeypatch.setenv("JUPYTER_TOKEN", TOKEN)
    for name in ("COURSE_WORKSPACE", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def course_lab(root, port, tmp_path):
    """Start ``course lab`` and return the process, once its server answers."""
    started = []

    def start(*arguments):
        log = (tmp_path / "lab.log").open("w")
        command = [sys.executable, "-c", "from autograder.cli import main; main()", "lab"]
        process = subprocess.Popen(
            [*command, *arguments, "--port", str(port), "--no-browser"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
        started.append(process)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                ask(port, "/api/status")
                return process
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        pytest.fail(f"no server within {START_SECONDS} s:\n{(tmp_path / 'lab.log').read_text()}")

    yield start
    for process in started:
        process.kill()
        process.wait()


def ask(port, path, data=None, token=TOKEN):
    """Return the final address and the body of the answer."""
    headers = {"Authorization": f"token {token}"} if token else {}
    body = urllib.parse.urlencode(data).encode() if data else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.url, answer.read().decode()


def ask_json(port, path, data):
    """Return the final address and what was answered."""
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(data).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.url, json.loads(answer.read())


def validate(port, path):
    """Press nbgrader's Validate button."""
    _, body = ask(port, "/assignments/validate", data={"path": path})
    return json.loads(body)


def test_a_learner_works_in_the_workspace_and_can_validate(root, course_lab, port):
    process = course_lab("1")
    path = f"{NAME}/{NAME}.ipynb"

    landing, _ = ask(port, "/")
    assert urllib.parse.urlsplit(landing).path == f"/lab/tree/{path}"
    _, listing = ask(port, "/api/contents/")
    assert [entry["name"] for entry in json.loads(listing)["content"]] == [NAME]

    untouched = validate(port, path)
    assert untouched["success"]
    assert untouched["value"]["failed"][0]["source"] == "2.0 if f() == 42 else 0.0"
    notebook = root / "workspace" / path
    nbformat.write(lesson("def f(): return 42"), notebook)
    assert validate(port, path) == {"success": True, "value": {}}
    locked_edited = lesson("def f(): ...")
    locked_edited.cells[1].metadata.nbgrader.checksum = compute_checksum(locked_edited.cells[1])
    locked_edited.cells[1].source = "2.0"
    nbformat.write(locked_edited, notebook)
    assert "changed" in validate(port, path)["value"]

    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(port, "/api/contents/", token=None)

    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    require_free_port(port)


def test_kernels_know_the_workspace_and_find_the_programs_of_this_python(root, course_lab, port):
    notebook = open_lesson("1")
    answer = (
        "import os, shutil, sys\n"
        "def f():\n"
        "    beside = os.path.dirname(sys.executable) == os.path.dirname(shutil.which('alembic'))\n"
        f"    return 42 if beside and os.environ['COURSE_WORKSPACE'] == {str(root / 'workspace')!r}"
        " else 0"
    )
    nbformat.write(lesson(answer), notebook)
    course_lab("1")
    assert validate(port, f"{NAME}/{NAME}.ipynb") == {"success": True, "value": {}}


def with_figure(notebook):
    """Let the first cell of a notebook show a widget whose state is saved."""
    state = {"_esm": "export default { render() {} }", "_css": "", "count": 7}
    models = {"m1": {"model_name": "AnyModel", "model_module": "anywidget", "state": state}}
    saved = {"state": models, "version_major": 2, "version_minor": 0}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": saved}
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "m1"}}
    notebook.cells[0].outputs = [new_output("display_data", data=view)]
    return notebook


def test_a_notebook_that_is_saved_as_html_keeps_its_figures_alive(root, course_lab, port):
    nbformat.write(with_figure(lesson("figure()")), open_lesson("1"))
    course_lab("1")
    _, page = ask(port, f"/nbconvert/html/{NAME}/{NAME}.ipynb")
    assert '"state":{"count":7}' in page
    assert "html-manager" not in page


def test_nbconvert_in_a_terminal_of_the_lab_has_the_same_settings(root, monkeypatch):
    for name, value in learner_server("1", port=8888, browser=False).variables.items():
        monkeypatch.setenv(name, value)
    converter = NbConvertApp()
    converter.load_config_file()
    assert HTMLExporter(config=converter.config).preprocessors == [EXPORT]


@pytest.fixture
def odd_machine(tmp_path, monkeypatch):
    """A home that cannot be written, and a python3 kernel of the user's own in front of all."""
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "a file" / "home"))
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/no/such/python"], "display_name": "mine", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


def test_on_an_odd_machine_the_courses_own_python_runs_and_validates_as_it_grades(
    root, odd_machine, course_lab, port
):
    notebook = open_lesson("1")
    course_lab("1")
    path = f"{NAME}/{NAME}.ipynb"
    _, specs = ask(port, "/api/kernelspecs")
    assert list(json.loads(specs)["kernelspecs"]) == ["python3"]
    _, started = ask_json(port, "/api/kernels", {"name": "python3"})
    assert started["execution_state"] in ("starting", "idle")
    assert list((root / "workspace" / ".course" / "jupyter" / "runtime").glob("kernel-*.json"))

    noisy = "import sys\ndef f():\n    print('old', file=sys.stderr)\n    return 42"
    nbformat.write(lesson(noisy), notebook)
    assert validate(port, path) == {"success": True, "value": {}}
    windows = lesson("def f(): return 42")
    windows.cells[1].source = "2.0 if (\n    f() == 42\n) else 0.0"
    windows.cells[1].metadata.nbgrader.checksum = compute_checksum(windows.cells[1])
    windows.cells[1].source = windows.cells[1].source.replace("\n", "\r\n")
    nbformat.write(windows, notebook)
    assert validate(port, path) == {"success": True, "value": {}}
    nbformat.write(lesson("def f(): return float('nan')"), notebook)
    assert validate(port, path)["value"]["failed"]


def test_the_course_of_another_checkout_opens_nothing_here(root, tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_ROOT")
    (tmp_path / "copy" / "autograder").mkdir(parents=True)
    (tmp_path / "copy" / "autograder" / "paths.py").write_text("")
    (tmp_path / "copy" / "lessons").mkdir()
    monkeypatch.chdir(tmp_path / "copy" / "lessons")
    with pytest.raises(CourseError, match=r"belongs to .*; run `make lab` here"):
        learner_server("1", port=8888, browser=False)


def test_an_instructor_works_in_the_checkout_with_formgrader(root, course_lab, port, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(root / "settings"))
    (root / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        f"c.CourseDirectory.root = {str(root)!r}\n"
        "c.CourseDirectory.source_directory = 'lessons'\n"
    )
    course_lab("--instructor")
    _, listing = ask(port, "/api/contents/")
    assert {"lessons", "nbgrader_config.py"} <= {
        entry["name"] for entry in json.loads(listing)["content"]
    }
    _, assignments = ask(port, "/formgrader/api/assignments")
    assert [assignment["name"] for assignment in json.loads(assignments)] == [NAME]


def test_a_port_in_use_is_refused_with_another_one_to_try(port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        other = port + 11 if port <= 65_000 else 8899
        with pytest.raises(CourseError) as caught:
            require_free_port(port)
    assert str(caught.value) == (
        f"port {port} is in use; choose another: "
        f"`course lab --port {other}` or `make lab PORT={other}`"
    )


def test_a_port_whose_connections_are_still_closing_is_free(port):
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)):
            connection, _ = server.accept()
            connection.close()
    require_free_port(port)


def test_a_lesson_is_opened_before_the_server_starts(root):
    server = learner_server("first", port=8888, browser=False)
    assert (root / "workspace" / NAME / f"{NAME}.ipynb").is_file()
    assert server.landing_page == f"/lab/tree/{NAME}/{NAME}.ipynb"
    assert server.root_dir == root / "workspace"


def test_a_newcomer_sees_the_guide_and_later_the_first_lesson(root):
    (root / "lessons" / "README.md").write_text("# A guide\n", encoding="utf-8")
    page = learner_server(None, port=8888, browser=False).landing_page
    assert page == "/lab/tree/README.md"
    assert (root / "workspace" / "README.md").read_text(encoding="utf-8") == "# A guide\n"
    for lesson in (None, "1"):
        again = learner_server(lesson, port=8888, browser=False)
        assert again.landing_page == f"/lab/tree/{NAME}/{NAME}.ipynb"


def test_who_names_a_lesson_sees_it_the_first_time_too(root):
    (root / "lessons" / "README.md").write_text("# A guide\n", encoding="utf-8")
    server = learner_server("1", port=8888, browser=False)
    assert server.landing_page == f"/lab/tree/{NAME}/{NAME}.ipynb"


def test_without_a_guide_the_first_lesson_opens(root):
    server = learner_server(None, port=8888, browser=False)
    assert server.landing_page == f"/lab/tree/{NAME}/{NAME}.ipynb"


@pytest.mark.parametrize(("mine", "kept"), [(None, False), ("# A guide, and my notes\n", True)])
def test_a_newer_guide_replaces_one_that_nobody_wrote_into(root, mine, kept):
    released, own = root / "lessons" / "README.md", root / "workspace" / "README.md"
    released.write_text("# A guide\n", encoding="utf-8")
    learner_server(None, port=8888, browser=False)
    if mine is not None:
        own.write_text(mine, encoding="utf-8")
    released.write_text("# A better guide\n", encoding="utf-8")
    learner_server(None, port=8888, browser=False)
    assert own.read_text(encoding="utf-8") == (mine if kept else "# A better guide\n")


def test_an_unknown_lesson_opens_nothing(root):
    with pytest.raises(CourseError, match="is no lesson"):
        learner_server("99", port=8888, browser=False)
    assert not (root / "workspace").exists()


def test_the_learners_own_jupyter_settings_are_left_alone(root):
    own = learner_server("1", port=8888, browser=False).environment
    assert own["JUPYTER_CONFIG_DIR"] == str(root / "workspace" / ".course" / "jupyter")
    assert "JUPYTER_CONFIG_DIR" not in instructor_server(port=8888, browser=False).environment


def test_an_instructor_is_not_asked_for_news_and_keeps_their_own_settings(root, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/somewhere/else")
    server = instructor_server(port=8888, browser=False)
    first, *others = server.environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert others == ["/somewhere/else"]
    page = json.loads((Path(first) / "labconfig" / "page_config.json").read_text())
    assert page == {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    assert (root / "grading" / "exchange").is_dir()


def test_a_learner_does_not_see_what_is_for_instructors(root):
    settings = root / "workspace" / ".course" / "jupyter"
    learner_server("1", port=8888, browser=False)
    page = settings / "labconfig" / "page_config.json"
    assert json.loads(page.read_text()) == {
        "disabledExtensions": {
            "@jupyter/nbgrader:create-assignment": True,
            "@jupyter/nbgrader:formgrader": True,
            "@jupyter/nbgrader:course-list": True,
        }
    }
    page.write_text("{}")
    learner_server("1", port=8888, browser=False)
    assert page.read_text() == "{}", "what the learner has enabled stays"


def test_the_server_is_for_this_machine_keeps_its_token_and_does_not_change_port(tmp_path):
    command = LabServer(tmp_path, "/lab", {}, port=9000, browser=True).command
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--ServerApp.port=9000" in command
    assert "--ServerApp.port_retries=0" in command
    assert not any("token" in option for option in command)


@pytest.mark.parametrize("browser", [True, False])
def test_a_browser_opens_unless_it_is_unwanted(tmp_path, browser):
    command = LabServer(tmp_path, "/lab", {}, port=9000, browser=browser).command
    assert ("--no-browser" in command) is not browser


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_may_start_it_because_containers_run_as_root(tmp_path, monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    command = LabServer(tmp_path, "/lab", {}, port=9000, browser=True).command
    assert ("--allow-root" in command) is allowed
