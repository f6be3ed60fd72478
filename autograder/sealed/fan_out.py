"""Judging on several processors, or machines, by dask.distributed.

Each worker has a judge in a process of its own: a check needs the main thread of a process to hold
the course's own code to a time, and a worker computes in another one. A worker that is lost loses
nothing: dask hands its orders to others, and a result counts when this process has stored it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autograder.errors import CourseError
from autograder.sealed.box.box import BoxError
from autograder.sealed.judges import JudgeProcess, Order
from autograder.sealed.verdict import Verdict

_TRIES = 3
_LOOK = 20.0
"""Seconds without a result after which is looked whether anybody is left who works."""
_RUN_AGAIN = "what was judged is kept: run the command again"

_judge: list[JudgeProcess] = []
"""The judge of this worker, if it has one by now."""


def judge_in_worker(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge what an order asks for; it runs in a worker.

    Args:
        data: An ``Order`` as plain data; so are the verdicts that are returned.

    Raises:
        BoxError: The machine failed. The next call has a new judge.
    """
    if not _judge:
        _judge.append(JudgeProcess())
        atexit.register(_dismiss)
    try:
        return [each.as_data() for each in _judge[0].judge(Order.from_data(data))]
    except BoxError:
        _dismiss()
        raise


def _dismiss() -> None:
    """End the judge of this worker."""
    while _judge:
        _judge.pop().close()


@contextlib.contextmanager
def cluster(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Give a client of a cluster on this machine, or of the one at an address.

    Args:
        workers: Processes on this machine.
        scheduler: An address such as ``"tcp://10.0.0.5:8786"``; its workers have this checkout.

    Raises:
        CourseError: Nobody answers at the address, or a worker ends while it starts.
    """
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        try:
            if scheduler is None:
                local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.ERROR,
                )
                address = stack.enter_context(local)
            else:
                # Who loses it is told so below, in a line.
                logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
                address = scheduler
            client = stack.enter_context(Client(address, timeout=30))
        except (OSError, ValueError) as error:
            raise CourseError(
                f"no dask scheduler answers at {scheduler} ({error}); start one with "
                "`dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"
            ) from error
        except RuntimeError as error:
            raise CourseError(f"a worker ended while it started ({error}); {_RUN_AGAIN}") from error
        yield client


def judge_all(
    client: Any, orders: Mapping[str, Order]
) -> Iterator[tuple[str, tuple[Verdict, ...] | None]]:
    """Yield the verdicts on submissions as they come; None where the machine failed each time.

    Args:
        client: Of a cluster.
        orders: What is to be judged, by key.

    Raises:
        CourseError: No worker is left, and none comes back; or the scheduler is lost.
    """
    futures = {
        client.submit(judge_in_worker, order.as_data(), key=key, retries=_TRIES): key
        for key, order in orders.items()
    }
    for future in _as_completed(client, futures):
        if future.status == "finished":
            yield futures[future], tuple(map(Verdict.from_data, future.result()))
        elif future.status == "cancelled":
            raise CourseError(f"the dask scheduler was lost; {_RUN_AGAIN}")
        else:
            yield futures[future], None
        future.release()


def _as_completed(client: Any, futures: Iterable[Any]) -> Iterator[Any]:
    """Yield futures as they come to their end.

    Raises:
        CourseError: No worker is left. Dask starts one again that ends, but not one that ends
            while it starts; whoever waits for those that are left waits for ever if there are none.
    """
    from distributed import as_completed

    waiting, were_workers = set(futures), True
    while waiting:
        try:
            for future in as_completed(list(waiting), timeout=_LOOK):
                waiting.discard(future)
                yield future
        except TimeoutError as error:
            are_workers = bool(client.scheduler_info()["workers"])
            if not (are_workers or were_workers):
                lost = f"no worker is left for the {len(waiting)} submissions that wait"
                raise CourseError(f"{lost}; {_RUN_AGAIN}") from error
            were_workers = are_workers
