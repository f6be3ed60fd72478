"""What holds for all tests: what is left out, and that Ctrl-C works."""

import signal
from importlib.util import find_spec

# Triton has wheels for Linux only, vLLM is never installed by the course; these need them.
NEEDS = {
    "course_lib/attention/triton_kernels.py": "triton",
    "course_lib/attention/backends/launches.py": "triton",
    "course_lib/attention/backends/step_launch.py": "triton",
    "course_lib/attention/backends/trial.py": "triton",
    "course_lib/attention/backends/triton_ops.py": "triton",
    "autograder/bench/vllm.py": "vllm",
}
collect_ignore = [path for path, package in NEEDS.items() if find_spec(package) is None]


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start.

    A script's background jobs are started with Ctrl-C ignored, and whatever they start inherits it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
