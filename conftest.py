"""What holds for all tests: what is left out, and that Ctrl-C works."""

import signal
from importlib.util import find_spec

# Triton has wheels for Linux only, and these two modules need it to be imported.
collect_ignore = (
    []
    if find_spec("triton")
    else ["course_lib/attention/triton_kernels.py", "course_lib/attention/triton_ops.py"]
)


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start.

    A script's background jobs are started with Ctrl-C ignored, and whatever they start inherits it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
