"""Kernels that run on the course's own Python."""

from __future__ import annotations

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from traitlets import default


class OwnKernelManager(AsyncKernelManager):
    """Starts ``python3`` with the Python that this runs on.

    Users register kernels of that name for Pythons that do not have the course; here nobody looks
    for those.

    >>> import sys
    >>> OwnKernelManager(kernel_name="python3").kernel_spec.argv[0] == sys.executable
    True
    """

    @default("kernel_spec_manager")
    def _without_registered_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])
