"""Lesson 9, scheduling algorithms: its exercises."""

from __future__ import annotations

from autograder.checks.answer import AnswerCheck
from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.quiz import QuizCheck
from autograder.checks.reference import Method
from autograder.checks.scale import ScaleCheck, at_most, between
from autograder.checks.stateful import StatefulCheck
from autograder.checks.trace import TraceCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson09_choice_mistakes as choices
from autograder.lessons import lesson09_contest as contest
from autograder.lessons import lesson09_fair_lives as fair_lives
from autograder.lessons import lesson09_fair_mistakes as unfair
from autograder.lessons import lesson09_given as given
from autograder.lessons import lesson09_hunt as hunt
from autograder.lessons import lesson09_keys as keys
from autograder.lessons import lesson09_lives as lives
from autograder.lessons import lesson09_mistakes as mistakes
from autograder.lessons import lesson09_readings as readings
from course_lib.scheduling.policies import (
    FCFSRequestQueue,
    SJFRequestQueue,
    SortedRequestQueue,
    VTCRequestQueue,
)
from course_lib.scheduling.variants.cache_aware import CacheAwareRequestQueue
from course_lib.scheduling.variants.even_split import EvenSplitScheduler
from course_lib.scheduling.watch.iterations import queues_of
from course_lib.scheduling.watch.queue_lines import passes_line, service_line

# 9.1

FIRST_COME = Exercise(
    id="9.1",
    title="First come",
    asks="Write a queue that serves in the order of arrival, whoever comes back in front.",
    points=6,
    minutes=12,
    difficulty=1,
    check=StatefulCheck(
        reference=FCFSRequestQueue,
        machine=lives.QueueLife,
        probes=lives.FIRST_COME,
        misconceptions=mistakes.FIRST_COME,
        max_steps=10,
        state_line=service_line,
        large=(lives.LEAVING, lives.SERVED),
        first=lives.two_lines,
    ),
    hints=(
        "How many steps does a list or a deque take to let go of somebody in the middle?",
        "A dictionary keeps the order in which its keys were put in, and lets go of any of them "
        "at once. `OrderedDict` can also move a key to either end.",
        "`self.requests.move_to_end(request.request_id, last=False)`",
    ),
)

# 9.2

PUSH = Exercise(
    id="9.2a",
    title="The heap: come in",
    asks="Enter a request into the heap under its key, with a number of its own.",
    points=4,
    minutes=7,
    difficulty=2,
    check=keys.method_check(
        SortedRequestQueue,
        "push",
        lives.HeapLife,
        lives.ENTERED,
        mistakes.PUSH,
        on=SJFRequestQueue,
        large=(lives.SERVED,),
    ),
    hints=(
        "What does Python compare when two tuples have the same first item?",
        "Count up, note the number of the request, and push key, number and request.",
        "`heapq.heappush(self.heap, (key, self.num_entries, request))`",
    ),
)

PEEK = Exercise(
    id="9.2b",
    title="The heap: who is next",
    asks="Return the request that is served next, past the ghosts of those who have left.",
    points=4,
    minutes=6,
    difficulty=2,
    check=keys.method_check(
        SortedRequestQueue,
        "peek",
        lives.HeapLife,
        lives.LOOKED_AT,
        mistakes.PEEK,
        on=SJFRequestQueue,
        large=(lives.SERVED,),
    ),
    hints=(
        "What may stand on top of the heap, other than a request that waits?",
        "As long as the top is not alive, take it off. Then it is there, or nobody waits.",
        "`while self.heap and not self.is_alive(self.heap[0])`",
    ),
)

REMOVE = Exercise(
    id="9.2c",
    title="The heap: leave",
    asks="Take a request out of the queue, and throw the ghosts out when they are too many.",
    points=6,
    minutes=11,
    difficulty=2,
    check=keys.method_check(
        SortedRequestQueue,
        "remove",
        lives.HeapLife,
        lives.LEFT,
        mistakes.REMOVE,
        on=SJFRequestQueue,
        large=(lives.GHOSTS_LEAVING,),
    ),
    hints=(
        "Where in the heap is the entry, and how long does it take to find it?",
        "Refuse first. Then it is enough that its number is no longer alive. When the heap has "
        "become too long, keep the living entries, and make a heap of them.",
        "`heapq.heapify(self.heap)`",
    ),
)

# 9.4

FAIR = Exercise(
    id="9.4",
    title="Fair in tokens",
    asks="Write the five methods that keep each client's account and serve the one served least.",
    points=16,
    minutes=32,
    difficulty=3,
    check=StatefulCheck(
        reference=VTCRequestQueue,
        machine=fair_lives.ClientLife,
        probes=fair_lives.FAIR,
        misconceptions=unfair.FAIR,
        max_steps=10,
        state_line=service_line,
        large=fair_lives.FAIR_AT_SIZE,
    ),
    hints=(
        "When may a client have saved something up that it should not have?",
        "The next is the waiting client with the smallest counter, of equals the first by name. "
        "`add` lifts before the client has anything waiting; `pop` charges who was not preempted.",
        "`self.counters[client_id] = max(self.counters[client_id], level)`",
    ),
)

# 9.5

COUNTERS = Exercise(
    id="9.5",
    title="Counters by hand",
    asks="Follow the accounts of two or three clients through twelve steps.",
    points=5,
    minutes=9,
    difficulty=2,
    check=TraceCheck(
        given.counters_to_write,
        misconceptions=given.COUNTERS,
        compare=given.same_state,
        form=given.form_of_a_state,
    ),
    hints=(
        "Has the client anything waiting when its request is added?",
        "Keep one number for each client. At `pop` add the prompt of the one that is taken; for "
        "each generated token add 2; at `add`, lift who has nothing waiting.",
        "`counter = max(counter, level)`; the level is the least counter of those that wait, or, "
        "when nobody waits, the counter of the client taken last.",
    ),
)

# 9.6

CACHED = Exercise(
    id="9.6",
    title="Cached prefixes first",
    asks="Choose who has most in the cache, unless somebody has been passed over often enough.",
    points=8,
    minutes=12,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(CacheAwareRequestQueue, "choose"),
        machine=fair_lives.CacheLife,
        probes=fair_lives.CACHED,
        misconceptions=choices.CHOOSE,
        max_steps=8,
        state_line=passes_line,
        large=(fair_lives.LONG_LINE,),
    ),
    hints=(
        "What is asked first: who has most in the cache, or who has waited long enough?",
        "Go through the line once for somebody who is due. If there is none, look for the most "
        "cached tokens, and of equals take the first.",
        "`max(range(len(in_line)), key=...)`",
    ),
)

# 9.7

SPLIT = Exercise(
    id="9.7",
    title="A split budget",
    asks="Return how many tokens a request computes when all have equal shares of the budget.",
    points=3,
    minutes=6,
    difficulty=1,
    check=StatefulCheck(
        reference=Method(EvenSplitScheduler, "limit_chunk"),
        machine=fair_lives.SplitLife,
        probes=fair_lives.SPLITS,
        misconceptions=choices.SPLIT,
        max_steps=6,
        state_line=queues_of,
        large=(fair_lives.MANY_SHARE,),
    ),
    hints=(
        "How many requests can be in one iteration?",
        "Divide the budget of a whole iteration by them and round down, but not to 0. Then take "
        "the smallest of three numbers.",
        "`min(num_new_tokens, share, budget)`",
    ),
)

# 9.8

READINGS = Exercise(
    id="9.8",
    title="What really happens",
    asks="Say what two policies do, not what they say that they do.",
    points=4,
    minutes=7,
    difficulty=2,
    check=TraceCheck(
        readings.readings,
        misconceptions=readings.READINGS,
        compare=readings.same_reading,
        form=readings.form_of_a_reading,
    ),
    hints=(
        "What is `place` when nobody in the line is longer than the new one?",
        "Insert the five one by one. Then look for every line that reads a value of `shares`.",
        "`for client in shares` goes through the names alone",
    ),
)

# 9.9, the hunt

EXPOSED = Exercise(
    id="9.9a",
    title="Bug hunt: show that it is wrong",
    asks="Give a life of the queue in which somebody is served out of turn.",
    points=3,
    minutes=5,
    difficulty=1,
    check=AnswerCheck(
        reference=lambda: hunt.EXPOSING,
        question="your life",
        wanted="a life in which the queue serves somebody out of turn",
        compare=hunt.tells,
        alike=hunt.tells_as_little,
        misconceptions=hunt.EXPOSED,
    ),
    hints=(
        "What does `heapq` know of a change to an item that is in the heap?",
        "Let two sessions wait, and let the one in front write again.",
        '`[("add", "A", 0), ("add", "B", 1), ("message", ...), ("pop",), ...]`',
    ),
)

MENDED = Exercise(
    id="9.9b",
    title="Bug hunt: mend it",
    asks="Serve sessions in the order of their latest messages.",
    points=4,
    minutes=8,
    difficulty=2,
    check=FunctionCheck(
        reference=hunt.serve,
        cases=hunt.lives(),
        probes=hunt.LIVES,
        misconceptions=hunt.MENDED,
    ),
    hints=(
        "In which two ways can a key change without a heap that is out of order?",
        "Take the session out before its key changes and put it in again, or leave its old entry "
        "as a ghost and push a new one.",
        "An entry is alive if `latest.get(name) == time`. Who is served is forgotten: "
        "`del latest[name]`.",
    ),
)

# 9.10

POLICY = Exercise(
    id="9.10",
    title="An order of your own",
    asks="Return a key that serves many in time, and lets nobody pay too much for it.",
    points=5,
    minutes=16,
    difficulty=3,
    check=ScaleCheck(
        reference=contest.large_ones_wait,
        floor=contest.first_come,
        play=contest.contest,
        conditions=(
            between(
                "worth",
                "place from first come, first served to the ratio of section 2, less what a tail "
                f"above {contest.TAIL_FROM} costs, which is all of it from {contest.TAIL_TO} on",
                0.8,
                reach=0.6,
            ),
            at_most(
                "tail",
                lambda scores: contest.TAIL_FROM,
                "p99 of TTFT, as a multiple of that of first come, first served",
                0.2,
            ),
        ),
        misconceptions=contest.MISTAKES,
        others=(contest.waiting_counts,),
    ),
    hints=(
        "Who is never served under the shortest first, and from when on should they be?",
        "Let size and arrival both count, so that everybody's key is small at last compared with "
        "those who come later. Size may count in steps.",
        "`arrival_time + something that depends on the tokens`",
    ),
)

QUIZ = Exercise(
    id="9.Q",
    title="Quiz",
    asks="Answer each question with a letter. Eight of the ten right, 80%, is a pass.",
    points=10,
    minutes=10,
    difficulty=1,
    check=QuizCheck(lesson=9),
)

EXERCISES = (
    *(value_exercise(9, f"9.W{number}") for number in (1, 2, 3)),
    FIRST_COME,
    PUSH,
    PEEK,
    REMOVE,
    keys.PRIORITY,
    keys.SHORTEST,
    keys.REMAINING,
    keys.AGEING,
    keys.DEADLINE,
    FAIR,
    COUNTERS,
    CACHED,
    SPLIT,
    READINGS,
    EXPOSED,
    MENDED,
    POLICY,
    keys.WEIGHTED,
    QUIZ,
)
