"""Serving on a virtual clock: what arrives, what it costs, and what its users notice."""

from course_lib.simulation.workload import (
    MOONCAKE_BLOCK_SIZE,
    TraceRequest,
    Workload,
    gamma_arrivals,
    load_azure,
    load_mooncake,
    synthetic_azure,
    synthetic_mooncake,
    traces_dir,
)

__all__ = [
    "MOONCAKE_BLOCK_SIZE",
    "TraceRequest",
    "Workload",
    "gamma_arrivals",
    "load_azure",
    "load_mooncake",
    "synthetic_azure",
    "synthetic_mooncake",
    "traces_dir",
]
