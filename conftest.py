"""What pytest leaves out where an optional package is missing."""

from importlib.util import find_spec

# Triton has wheels for Linux only, and these two modules need it to be imported.
collect_ignore = (
    []
    if find_spec("triton")
    else ["course_lib/attention/triton_kernels.py", "course_lib/attention/triton_ops.py"]
)
