"""The doctor finds what is there, says what is missing, and what to do about it."""

import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from autograder.sealed.box import protections
from autograder.sealed.box.box import BoxError
from autograder.terminal import machine
from autograder.terminal.machine import Status


def fake_torch(available, cuda):
    return SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: available),
        version=SimpleNamespace(cuda=cuda),
    )


@pytest.fixture
def probed(monkeypatch):
    """Set what the probe sees: the driver's GPU, and torch or the error of its import."""

    def set_up(gpu, torch):
        def import_module(_):
            if isinstance(torch, Exception):
                raise torch
            return torch

        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        monkeypatch.setattr(machine, "gpu_name", lambda: gpu)
        monkeypatch.setattr(machine.importlib, "import_module", import_module)
        return {finding.subject: finding for finding in machine.accelerator()}

    return set_up


@pytest.fixture
def installed(monkeypatch):
    """Pretend that only these versions are installed."""

    def set_up(**versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(machine.metadata, "version", version)

    return set_up


def test_this_environment_has_every_package_in_the_version_of_ci():
    findings = list(machine.packages())
    assert {"torch", "jupyterlab", "nbgrader"} <= {finding.subject for finding in findings}
    assert [finding for finding in findings if finding.status is Status.MISSING] == []


def test_tools_for_development_are_not_asked_of_a_learner():
    assert "mypy" not in {finding.subject for finding in machine.packages()}


def test_another_version_than_that_of_ci_is_a_warning(installed):
    installed(numpy="1.0")
    finding = machine.package("numpy", "2.0")
    assert finding.status is Status.WARNING
    assert finding.found == "1.0; the course is tested with 2.0"
    assert 'pip install "numpy==2.0"' in finding.remedy


def test_a_missing_package_is_an_error_that_names_the_version(installed):
    installed()
    finding = machine.package("numpy", "2.0")
    assert finding.status is Status.MISSING
    assert 'pip install "numpy==2.0"' in finding.remedy


def test_a_build_tag_is_no_other_version(installed):
    installed(torch="2.13.0+cpu")
    assert machine.package("torch", "2.13.0").status is Status.OK


def test_an_installation_without_its_checkout_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_ROOT", str(tmp_path))
    (finding,) = machine.packages()
    assert finding.status is Status.MISSING
    assert "pip install -c constraints.txt -e ." in finding.remedy


def test_constraints_are_read_by_normalized_name(tmp_path):
    (tmp_path / "constraints.txt").write_text("# note\nJupyter_Client==8.10.0\n\ntorch==2.13.0\n")
    assert machine.read_constraints(tmp_path / "constraints.txt") == {
        "jupyter-client": "8.10.0",
        "torch": "2.13.0",
    }


def test_a_gpu_that_torch_can_use_runs_triton(probed):
    found = probed("RTX 4090", fake_torch(True, "13.0"))
    assert found["GPU"].found == "RTX 4090, CUDA 13.0"
    assert found["Triton mode"].found == "GPU"


def test_without_a_gpu_triton_interprets_and_says_why(probed):
    found = probed(None, fake_torch(False, None))
    assert {finding.status for finding in found.values()} == {Status.OK}
    assert found["Triton mode"].found == "interpreter, because torch is built for the CPU"


def test_a_gpu_beside_a_cpu_torch_is_a_warning_with_the_line_that_installs_cuda(probed):
    found = probed("RTX 4090", fake_torch(False, None))
    assert found["GPU"].status is Status.WARNING
    assert found["GPU"].remedy == machine.torch_remedy("RTX 4090")
    assert machine.TORCH_GUIDE not in found["GPU"].remedy


def test_a_gpu_that_torch_cannot_use_is_a_warning_about_the_driver(probed):
    found = probed("RTX 4090", fake_torch(False, "13.0"))
    assert found["GPU"].status is Status.WARNING
    assert "driver" in found["GPU"].remedy
    assert found["Triton mode"].found == "interpreter, because no GPU is usable"


def test_a_cuda_torch_without_a_gpu_works_and_a_smaller_one_is_named(probed):
    found = probed(None, fake_torch(False, "13.0"))
    assert found["GPU"].status is Status.OK
    assert machine.TORCH_GUIDE in found["GPU"].remedy


@pytest.mark.parametrize("error", [ImportError("no torch"), OSError("libcudart.so not found")])
def test_a_torch_that_does_not_load_is_an_error_and_the_report_goes_on(probed, error):
    found = probed(None, error)
    assert found["torch"].status is Status.MISSING
    assert str(error) in found["torch"].found


def test_the_interpreter_can_be_asked_for(probed, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    finding = machine.triton_mode(gpu_usable=True, built_for="13.0")
    assert finding.found == "interpreter, because TRITON_INTERPRET=1 is set"


@pytest.mark.parametrize(
    ("platform", "status", "way_out"),
    [("linux", Status.MISSING, "pip install"), ("darwin", Status.WARNING, "Colab")],
)
def test_a_machine_without_triton_is_told_the_way_out(
    installed, monkeypatch, platform, status, way_out
):
    installed()
    monkeypatch.setattr(sys, "platform", platform)
    finding = machine.triton_mode(gpu_usable=False, built_for=None)
    assert finding.status is status
    assert way_out in finding.remedy


def test_nothing_but_the_accelerator_needs_torch():
    script = (
        "import sys; from autograder.terminal import machine\n"
        "for probe in (machine.python, machine.sandbox, machine.browser, machine.traces,"
        " machine.workspace): probe()\n"
        "list(machine.packages()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_missing_sandbox_is_a_warning_for_those_who_grade(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    finding = machine.sandbox()
    assert finding.status is Status.WARNING
    assert "apt-get install bubblewrap" in finding.remedy


@pytest.mark.parametrize(("exit_code", "status"), [(0, Status.OK), (1, Status.WARNING)])
def test_a_sandbox_counts_only_if_it_runs(monkeypatch, tmp_path, exit_code, status):
    bwrap = tmp_path / "bwrap"
    bwrap.write_text(f"#!/bin/sh\necho 'no permission' >&2\nexit {exit_code}\n")
    bwrap.chmod(0o755)
    monkeypatch.setattr(machine.shutil, "which", lambda _: str(bwrap))
    finding = machine.sandbox()
    assert finding.status is status
    assert ("no permission" in finding.found) is (exit_code != 0)


def test_what_keeps_a_submission_in_its_box_is_said_one_by_one(monkeypatch):
    found = [
        protections.Protection("walls", True, True, "nobody gets out"),
        protections.Protection("roof", False, True, "there is none"),
        protections.Protection("door", False, False, "it is open"),
    ]
    monkeypatch.setattr(protections, "protections", lambda: found)
    walls, roof, door = machine.confinement()
    assert (walls.subject, walls.status) == ("sandbox: walls", Status.OK)
    assert (roof.status, roof.found) == (Status.WARNING, "there is none")
    assert "not graded without it" in roof.remedy
    assert (door.status, door.remedy) == (Status.WARNING, "")


def test_what_is_said_of_boxes_here_is_tried():
    names = [each.name for each in protections.protections()]
    assert names[0] == "namespaces (bubblewrap)"
    assert len(names) == len(set(names)) == 5


def test_a_machine_without_boxes_says_what_to_do(monkeypatch):
    def none(*args):
        raise BoxError("bubblewrap made no box: no permission")

    monkeypatch.setattr(protections, "namespaces", none)
    first = protections.protections()[0]
    assert (first.is_active, first.is_needed) == (False, True)
    assert "no permission; to grade others' work, allow user namespaces" in first.says


def test_a_missing_browser_is_a_warning(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    finding = machine.browser()
    assert finding.status is Status.WARNING
    assert "apt-get install chromium" in finding.remedy


def test_traces_are_found_where_the_environment_says(monkeypatch, tmp_path):
    for name in machine.TRACES:
        (tmp_path / name).mkdir()
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    assert machine.traces().status is Status.OK


@pytest.mark.parametrize("value", [None, ""])
def test_traces_are_looked_for_nowhere_else(value, monkeypatch):
    if value is None:
        monkeypatch.delenv("COURSE_TRACES", raising=False)
    else:
        monkeypatch.setenv("COURSE_TRACES", value)
    finding = machine.traces()
    assert finding.status is Status.WARNING
    assert finding.found.startswith("COURSE_TRACES is not set; synthetic")


def test_traces_that_are_missing_are_named_and_generated(monkeypatch, tmp_path):
    (tmp_path / "mooncake").mkdir()
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path))
    finding = machine.traces()
    assert finding.status is Status.WARNING
    assert "synthetic" in finding.found
    assert "put azure2023, vllm_run_rtx4090 in a folder" in finding.remedy


def test_a_traces_folder_that_does_not_exist_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_TRACES", str(tmp_path / "nowhere"))
    assert machine.traces().status is Status.MISSING


def test_a_workspace_that_does_not_exist_yet_is_fine(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "new"))
    assert machine.workspace().status is Status.OK


def test_a_workspace_that_cannot_be_written_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    finding = machine.workspace()
    assert finding.status is Status.MISSING
    assert "COURSE_WORKSPACE" in finding.remedy


def test_a_home_that_cannot_be_written_is_told_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.home().status is Status.OK
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    finding = machine.home()
    assert finding.status is Status.WARNING
    assert f"{tmp_path / 'file' / 'home'} cannot be written (" in finding.found
    assert finding.remedy == "set HOME to a folder of your own"
