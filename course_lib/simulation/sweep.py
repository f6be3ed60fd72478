"""A parameter sweep: one simulation for each value, at the same time.

A sweep sends one ``Setup`` to each worker of a dask cluster; without an address, the cluster is
started here and ends with the sweep.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from course_lib.simulation.setup import OnFinished, Setup, SetupError, figures, run
from course_lib.simulation.workload import Workload

if TYPE_CHECKING:
    from distributed import Client

CONNECT_TIMEOUT = "10s"
"""How long a scheduler given by its address may take to answer."""


@dataclass(frozen=True)
class SweepPoint:
    """What one set-up of a sweep gave: its figures, or why there are none."""

    setup: Setup
    figures: dict[str, float]
    error: str = ""


def run_point(setup: Setup, trace: Workload | None) -> SweepPoint:
    """Simulate one set-up of a sweep; this is what a worker does."""
    try:
        return SweepPoint(setup, figures(setup, run(setup, trace)))
    except SetupError as error:
        return SweepPoint(setup, {}, str(error))


def run_sweep(
    setups: Sequence[Setup],
    trace: Workload | None,
    scheduler: str | None = None,
    workers: int | None = None,
    on_done: OnFinished = lambda done, total: None,
) -> list[SweepPoint]:
    """Simulate several set-ups at the same time, on a dask cluster.

    Args:
        setups: The set-ups.
        trace: The trace that they share, if any; it is sent to the workers, who need not have it.
        scheduler: Address of a cluster, like ``tcp://10.0.0.1:8786``; its workers need this course
            installed. None to start one here, which ends with the sweep, also after Ctrl-C.
        workers: Worker processes to start here; None for one per core, at most one per set-up.
        on_done: Called with the set-ups done and the set-ups in all.

    Returns:
        A point for each set-up, in the same order.

    Raises:
        SetupError: ``scheduler`` is no address, the cluster cannot be reached, a worker broke down,
            or the workers of another cluster are to use one's own parts, which they do not have.
    """
    from distributed import as_completed

    if scheduler is not None and any(setup.parts == "own" for setup in setups):
        raise SetupError(
            "parts is 'own', and the workers of another cluster do not have your parts; leave "
            "--scheduler out, or set parts=reference"
        )

    with _client(scheduler, min(workers or os.cpu_count() or 1, len(setups))) as client:
        try:
            shared = client.scatter(trace, broadcast=True) if trace is not None else None
            # Simulations are not pure for dask: a sweep that is run again must be run again.
            futures = [client.submit(run_point, setup, shared, pure=False) for setup in setups]
            for done, _ in enumerate(as_completed(futures, loop=client.loop), start=1):
                on_done(done, len(futures))
            points: list[SweepPoint] = client.gather(futures)
        except (OSError, ImportError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SetupError(
                f"a worker could not run the sweep ({reason}); install this version of the course "
                "on the workers, or leave --scheduler out"
            ) from error
    return points


@contextlib.contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Client]:
    """Connect to a cluster, or start one of worker processes on this machine, until the end."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        _require_address(scheduler)
        try:
            client = Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SetupError(
                f"no dask scheduler answers at {scheduler}; start one with `dask scheduler`, or "
                "leave --scheduler out"
            ) from error
        with client:
            yield client
        return
    with contextlib.ExitStack() as stack:
        with _interrupt_held_back(), warnings.catch_warnings():
            # It looks at this port even without a dashboard, and takes another one by itself.
            warnings.filterwarnings("ignore", r"\s*Port \d+ is already in use")
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            stack.enter_context(cluster)
        yield stack.enter_context(Client(cluster, set_as_default=False))


def _require_address(scheduler: str) -> None:
    """Refuse what cannot be an address; dask takes 20 seconds and a traceback to do so."""
    try:
        parts = urlsplit(scheduler)
        is_address = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:  # of a port that is no number
        is_address = False
    if not is_address:
        raise SetupError(
            f"{scheduler!r} is no address of a dask scheduler; write one like tcp://10.0.0.1:8786"
        )


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the body is done, and never reach the processes that it starts.

    A terminal sends Ctrl-C to all processes at once. A cluster that is interrupted half started
    cannot be closed in order, and each of its workers would print a traceback. Threads and
    processes inherit what is blocked here, so the workers end when they are told to.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # It starts with the first process otherwise, and unblocks the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
