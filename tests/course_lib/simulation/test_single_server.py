"""One server with a real queue, against what theory says of it."""

from __future__ import annotations

import numpy as np
import pytest

from course_lib.queueing import MM1
from course_lib.queueing.orders import MM1SJF, MM1SRPT
from course_lib.scheduling import FCFSRequestQueue, SJFRequestQueue, SRPTRequestQueue
from course_lib.simulation.single_server import (
    response_times,
    response_times_with_interruptions,
)


def test_mean_responses_are_those_of_theory() -> None:
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1000 / 0.8, 60_000)).tolist()
    sizes = np.maximum(2, rng.exponential(1000, 60_000).round()).astype(int).tolist()
    for measured, theory in (
        (response_times(FCFSRequestQueue(), arrivals, sizes), MM1(0.8, 1.0)),
        (response_times(SJFRequestQueue(), arrivals, sizes), MM1SJF(0.8, 1.0)),
        (
            response_times_with_interruptions(SRPTRequestQueue(), arrivals, sizes),
            MM1SRPT(0.8, 1.0),
        ),
    ):
        assert np.mean(measured) / 1000 == pytest.approx(theory.mean_response, rel=0.05)


def test_the_server_idles_until_somebody_comes() -> None:
    assert response_times(FCFSRequestQueue(), [5.0, 20.0, 21.0], [4, 3, 2]) == [4.0, 3.0, 4.0]


def test_nobody_comes() -> None:
    assert response_times(FCFSRequestQueue(), [], []) == []
