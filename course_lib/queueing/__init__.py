"""Queueing theory: what a queue does on average, and how fast a simulation confirms it.

``models`` has the closed forms for first come, first served, ``orders`` those for other orders of
service. ``MM1(lam, mu)`` is the simplest one. All of them answer the same questions, see
``QueueModel``. Times are in seconds and rates per second throughout; any other unit does as well,
if it is used everywhere.

A distribution is described by its mean and its *squared coefficient of variation* (SCV), variance /
mean²: 0 if it is constant, 1 if it is exponential, more if it comes in bursts.

The other modules work on numbers from a log or a simulation: ``simulation`` has the waiting times
of a first-come-first-served queue, ``logs`` Little's law, and averages over requests beside
averages over time, ``capacity`` the fewest servers that meet a target.
"""

from course_lib.queueing.base import QueueModel
from course_lib.queueing.capacity import (
    CapacityPlan,
    fewest_servers,
    servers_by_simulation,
    servers_for_response,
    servers_for_wait,
)
from course_lib.queueing.logs import (
    LittlesLaw,
    inspected_gap,
    littles_law,
    number_in_system,
    seen_on_arrival,
    time_average,
)
from course_lib.queueing.models import (
    GG1,
    MD1,
    MG1,
    MM1,
    MM1K,
    MXG1,
    MMc,
    erlang_b,
    erlang_c,
)
from course_lib.queueing.orders import (
    MG1PS,
    MM1SJF,
    MM1SRPT,
    MG1PreemptivePriority,
    MG1Priority,
)
from course_lib.queueing.requirements import FloatArray
from course_lib.queueing.simulation import send_times, simulate_queue, waits_at_many_servers

__all__ = [
    "GG1",
    "MD1",
    "MG1",
    "MG1PS",
    "MM1",
    "MM1K",
    "MM1SJF",
    "MM1SRPT",
    "MXG1",
    "CapacityPlan",
    "FloatArray",
    "LittlesLaw",
    "MG1PreemptivePriority",
    "MG1Priority",
    "MMc",
    "QueueModel",
    "erlang_b",
    "erlang_c",
    "fewest_servers",
    "inspected_gap",
    "littles_law",
    "number_in_system",
    "seen_on_arrival",
    "send_times",
    "servers_by_simulation",
    "servers_for_response",
    "servers_for_wait",
    "simulate_queue",
    "time_average",
    "waits_at_many_servers",
]
