"""The library's lower layers import quickly and without the heavy packages."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "triton", "matplotlib")


def _import_in_a_fresh_process(module: str) -> tuple[float, set[str]]:
    """Return the CPU time that ``import module`` takes and the top-level packages that it loads."""
    script = (
        "import json, sys, time\n"
        "start = time.process_time()\n"
        f"import {module}\n"
        "seconds = time.process_time() - start\n"
        "print(json.dumps([seconds, sorted({name.split('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, packages = json.loads(done.stdout)
    return seconds, set(packages)


def test_importing_the_package_takes_under_300_ms() -> None:
    # The fastest of three: a busy machine may delay any one of them.
    assert min(_import_in_a_fresh_process("course_lib")[0] for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    "module",
    [
        "course_lib",
        "course_lib.specs",
        "course_lib.roofline",
        "course_lib.kv_cache",
        "course_lib.scheduling",
        "course_lib.simulation",
        "course_lib.simulation.experiments",
        "course_lib.simulation.report",
        "course_lib.simulation.sweep",
        "course_lib.queueing",
    ],
)
def test_lower_layers_load_no_heavy_package(module: str) -> None:
    _, packages = _import_in_a_fresh_process(module)
    assert packages.isdisjoint((*HEAVY, "autograder"))


@pytest.mark.parametrize("module", ["course_lib", "course_lib.kv_cache", "course_lib.scheduling"])
def test_the_bottom_layers_do_without_numpy(module: str) -> None:
    _, packages = _import_in_a_fresh_process(module)
    assert "numpy" not in packages


def test_kv_cache_does_not_load_the_layers_above_it() -> None:
    script = "import sys, course_lib.kv_cache; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert not [name for name in done.stdout.split() if name.startswith("course_lib.simulation")]
