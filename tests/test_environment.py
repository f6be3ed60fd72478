"""pyproject.toml, constraints.txt and environment.yml describe one environment."""

import re
import tomllib
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


def test_constraints_pin_every_package_that_gets_installed():
    assert required_distributions() - set(pins()) == set()


def test_the_requirements_of_every_constrained_package_allow_the_constraints():
    for name in sorted(required_distributions() & set(pins())):
        for requirement in map(Requirement, metadata.requires(name) or []):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies:
                pinned = pins()[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(pinned, prereleases=True), (name, requirement)
