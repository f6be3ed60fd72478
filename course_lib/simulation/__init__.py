"""Serving on a virtual clock: what arrives, what it costs, and what its users notice."""

from course_lib.simulation.workload import (
    TraceRequest,
    Workload,
    gamma_arrivals,
    load_azure,
    synthetic_azure,
    traces_dir,
)

__all__ = [
    "TraceRequest",
    "Workload",
    "gamma_arrivals",
    "load_azure",
    "synthetic_azure",
    "traces_dir",
]
