"""pyproject.toml, constraints.txt and environment.yml describe one environment; make sets it up."""

import os
import re
import shutil
import subprocess
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wanted():
    """Every requirement of pyproject.toml, with those of its dev extra."""
    return project()["dependencies"] + project()["optional-dependencies"]["dev"]


def constraint_lines():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pins():
    return {
        canonicalize_name(name): Version(version)
        for name, version in (line.split("==") for line in constraint_lines())
    }


@cache
def required_distributions():
    """Names of all packages that the wanted ones need, on this machine, found by walking on."""
    todo = [(Requirement(line), "") for line in wanted()]
    done = set()
    while todo:
        requirement, asked_with = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": asked_with}):
            continue
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key in done:
                continue
            done.add(key)
            for line in metadata.requires(requirement.name) or []:
                todo.append((Requirement(line), extra))
    return {name for name, _ in done}


@pytest.fixture(scope="module")
def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def pip_section(conda):
    (section,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    return section


def test_conda_installs_exactly_what_pyproject_asks_for(conda):
    lines = [line for line in pip_section(conda) if not line.startswith("-")]
    assert sorted(lines) == sorted(wanted())


def test_conda_installs_the_course_itself_and_the_versions_of_ci(conda):
    options = [line for line in pip_section(conda) if line.startswith("-")]
    assert options == ["-c constraints.txt", "-e ."]


def test_condas_python_is_one_that_pyproject_allows(conda):
    (python,) = [d for d in conda["dependencies"] if isinstance(d, str) and d.startswith("python=")]
    assert Version(python.split("=")[1]) in SpecifierSet(project()["requires-python"])


def test_constraints_are_exact_versions_and_nothing_else():
    for line in constraint_lines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


def test_constraints_are_sorted_and_name_each_package_once():
    names = [line.split("==")[0] for line in constraint_lines()]
    assert names == sorted(set(names))


@pytest.mark.parametrize("line", wanted())
def test_each_constraint_is_in_the_range_that_pyproject_allows(line):
    requirement = Requirement(line)
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_constraints_install_on_the_oldest_python_that_pyproject_allows():
    oldest = project()["requires-python"].removeprefix(">=") + ".0"
    for name, pinned in pins().items():
        installed = metadata.distribution(name) if name in required_distributions() else None
        if installed is not None and Version(installed.version).public == str(pinned):
            pythons = SpecifierSet(installed.metadata.get("Requires-Python") or "")
            assert oldest in pythons, (name, pythons)


def test_constraints_pin_every_package_that_gets_installed():
    assert required_distributions() - set(pins()) == set()


def test_the_requirements_of_every_constrained_package_allow_the_constraints():
    for name in sorted(required_distributions() & set(pins())):
        for requirement in map(Requirement, metadata.requires(name) or []):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies:
                pinned = pins()[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(pinned, prereleases=True), (name, requirement)


# A stand-in for Python that records what make asks of it, and installs nothing.
PYTHON_STUB = """#!/bin/sh
echo "$*" >> "$STUB_LOG"
case "$*" in
    *version_info*) exit "$STUB_TOO_OLD" ;;
    *ensurepip*) exit "$STUB_NO_VENV" ;;
    "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin
        echo "command = $0 $* $PWD/.venv" | sed 's| .venv /| /|' > .venv/pyvenv.cfg
        cp "$0" .venv/bin/python; cp "$0" .venv/bin/course ;;
    "-m pip install"*) exit "$STUB_PIP_FAILS" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Run make in a copy of the set-up files with a stand-in for Python; return what happened."""
    checkout = tmp_path / "check out"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    python = tmp_path / "python"
    python.write_text(PYTHON_STUB)
    python.chmod(0o755)
    log = tmp_path / "log"

    def run(*arguments, too_old=0, no_venv=0, pip_fails=0):
        log.write_text("")
        variables = {
            "STUB_LOG": log,
            "STUB_TOO_OLD": too_old,
            "STUB_NO_VENV": no_venv,
            "STUB_PIP_FAILS": pip_fails,
        }
        ended = subprocess.run(
            ["make", *arguments, f"PYTHON={python}"],
            cwd=run.checkout,
            env={**os.environ, **{name: str(value) for name, value in variables.items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        ended.asked = log.read_text().splitlines()
        return ended

    run.checkout = checkout
    return run


def installs(ended):
    return [line for line in ended.asked if line.startswith("-m pip install")]


def fresh_starts(ended):
    return [line for line in ended.asked if line.startswith("-m venv")]


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_make_alone_lists_its_targets(make):
    listed = make().stdout
    for target in ("lab", "test", "build", "grade", "clean"):
        assert f"make {target} " in listed


@needs_make
def test_the_first_make_installs_with_constraints_and_the_second_does_not(make):
    first = make("lab")
    assert first.returncode == 0
    assert "about two minutes" in first.stdout
    (install,) = installs(first)
    assert install.endswith("-c constraints.txt -e .[dev]")
    second = make("lab", "LESSON=2", "PORT=9000")
    assert installs(second) == []
    assert second.asked == ["lab 2 --port 9000"]


@needs_make
def test_new_requirements_are_installed_into_the_environment_that_is_there(make):
    make("lab")
    constraints = make.checkout / "constraints.txt"
    later = (make.checkout / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(constraints, (later, later))
    again = make("lab")
    assert len(installs(again)) == 1
    assert fresh_starts(again) == []


@needs_make
def test_an_installation_that_failed_is_done_again_from_nothing(make):
    failed = make("lab", pip_fails=1)
    assert failed.returncode != 0
    assert "the installation failed" in failed.stderr
    assert "lab 1 --port 8888" not in failed.asked
    again = make("lab")
    assert again.returncode == 0
    assert len(fresh_starts(again)) == len(installs(again)) == 1


@needs_make
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_checkout_that_was_moved_or_copied_is_installed_again_from_nothing(make, tmp_path, how):
    make("lab")
    there = tmp_path / "another place"
    if how == "moved":
        make.checkout.rename(there)
    else:
        shutil.copytree(make.checkout, there)
    make.checkout, before = there, make.checkout
    again = make("lab")
    assert len(fresh_starts(again)) == len(installs(again)) == 1
    assert f".venv was made in another folder ({before})" in again.stdout
    assert installs(make("lab")) == []


@needs_make
def test_a_python_that_is_too_old_is_named_with_the_remedy(make):
    ended = make("lab", too_old=1)
    assert ended.returncode != 0
    assert "no Python 3.11 or later among" in ended.stderr
    assert "make lab PYTHON=" in ended.stderr
    assert installs(ended) == []


@needs_make
def test_a_python_without_venv_is_named_with_the_package_to_install(make):
    ended = make("lab", no_venv=1)
    assert ended.returncode != 0
    assert "apt-get install python3-venv" in ended.stderr
    assert fresh_starts(ended) == []


@needs_make
def test_clean_deletes_what_can_be_made_again_and_nothing_else(make):
    kept = ["workspace/01_x/01_x.ipynb", "gradebook.db", "solutions/01_x.py", "lessons/a/a.ipynb"]
    made = [".venv/bin/python", "artifacts/pytest.xml", "solutions/01_x.ipynb", "x.egg-info/a"]
    made += [f"{name}/__pycache__/a.pyc" for name in ("course_lib", "autograder", "tests")]
    for name in kept + made:
        path = make.checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert make("clean").returncode == 0
    assert all((make.checkout / name).exists() for name in kept)
    assert not any((make.checkout / name).exists() for name in made)


@needs_make
def test_ci_calls_the_test_commands_of_the_readme_and_fails_with_either(tmp_path):
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in script.read_text()
    asked = [line.split() for line in script.read_text().splitlines() if line.startswith("make ")]
    assert [words[:2] for words in asked] == [["make", "test"], ["make", "journeys"]]

    # A machine whose `make` only notes what it is asked for, and fails at one of the two.
    (tmp_path / ".ci").mkdir()
    shutil.copy(script, tmp_path / ".ci")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("chromium", "bwrap", "make"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} $1\n[ "$1" != "$FAILS" ]\n')
        (programs / name).chmod(0o755)
    for fails in ("nothing", "test", "journeys"):
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", ".ci/run"],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "FAILS": fails},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split("\n")[:2] == ["make test", "make journeys"]
        assert (done.returncode == 0) == (fails == "nothing")
