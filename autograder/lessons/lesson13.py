"""The final project, an engine of one's own parts: its exercises."""

from __future__ import annotations

from autograder.checks.exercise import Exercise
from autograder.checks.function import FunctionCheck
from autograder.checks.reference import Method
from autograder.checks.stateful import StatefulCheck
from autograder.checks.values import value_exercise
from autograder.lessons import lesson13_ends as ends
from autograder.lessons import lesson13_equality as equality
from autograder.lessons import lesson13_execute_mistakes as execute_mistakes
from autograder.lessons import lesson13_given as given
from autograder.lessons import lesson13_lives as lives
from autograder.lessons import lesson13_memory_mistakes as memory_mistakes
from autograder.lessons import lesson13_mistakes as mistakes
from autograder.lessons import lesson13_scheduler_mistakes as scheduler_mistakes
from autograder.lessons import lesson13_step_mistakes as steps
from autograder.lessons import lesson13_stop_mistakes as stop_mistakes
from autograder.lessons import lesson13_table_mistakes as table_mistakes
from autograder.project.checks import DOCUMENTATION, PERFORMANCE, QUALITY
from course_lib.engine.answer import Answer, StopStrings
from course_lib.engine.core import EngineCore
from course_lib.engine.executor import Executor
from course_lib.engine.memory_tracker import MemoryTracker
from course_lib.engine.watch.by_hand import HandCore, HandExecutor
from course_lib.engine.watch.talking import TalkingAnswer
from course_lib.scheduling.scheduler import Scheduler
from course_lib.scheduling.watch.iterations import queues_of

# 13.1, the step

STEP = Exercise(
    id="13.1a",
    title="The step",
    asks="Write the step of the engine: plan, fork, compute, tell the scheduler, tell the answers.",
    points=2,
    minutes=20,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(EngineCore, "step", on=HandCore),
        machine=lives.CoreLife,
        max_steps=8,
        probes=lives.STEPPING,
        misconceptions=steps.STEP,
    ),
    hints=(
        "Which two of the five calls must hear of a token, and which of them asks the other?",
        "Take the time between the calls. Look the answers up, by the names of what was sampled, "
        "before `take_in` forgets those that are over.",
        "`self.scheduler.update_from_output(output, sampled)`, then `self.take_in(...)`",
    ),
)

EXECUTE = Exercise(
    id="13.1b",
    title="Carry a plan out",
    asks="Move the blocks of a plan, run the model once, and sample for who is caught up.",
    points=3,
    minutes=40,
    difficulty=3,
    check=StatefulCheck(
        reference=Method(Executor, "execute", on=HandExecutor),
        machine=lives.ExecutorLife,
        max_steps=8,
        probes=lives.EXECUTING,
        misconceptions=(*execute_mistakes.EXECUTE, *table_mistakes.TABLES),
    ),
    hints=(
        "Which block may be overwritten in this step before somebody has read it?",
        "Forget, swap out, swap in, copy, take in. Then renew the tables, make the batch, ask the "
        "model once for the rows of those who are caught up and of their forks, and sample.",
        "`sequence.is_caught_up` goes with `batch.sample_rows`, in the order of the plan",
    ),
)

# 13.2, the memory tracker

TRACKER = Exercise(
    id="13.2",
    title="The memory tracker",
    asks="Write what says who holds memory, how much it is and was, and what has leaked.",
    points=6,
    minutes=40,
    difficulty=2,
    check=StatefulCheck(
        reference=MemoryTracker,
        machine=lives.MemoryLife,
        max_steps=10,
        probes=lives.TRACKING,
        misconceptions=memory_mistakes.TRACKER,
        large=(lives.MANY_STEPS, lives.MANY_HOLD),
    ),
    hints=(
        "Who holds block 1 when two requests begin alike, and how often is it in memory?",
        "An owner's bytes are those of its table; what is in use is a set of block ids. Leaked is "
        "what an owner holds that is not live, and what is held and stands in no table.",
        "`{block.block_id for table in tables for block in table}`",
    ),
)

# 13.3, stop conditions

PUSH = Exercise(
    id="13.3a",
    title="Stop strings",
    asks="Pass text on up to a stop string, and keep back what may still become one.",
    points=3,
    minutes=25,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(StopStrings, "push"),
        machine=ends.StopLife,
        max_steps=6,
        probes=ends.STOPPING,
        misconceptions=stop_mistakes.PUSH,
        large=(ends.LONG_TEXT,),
    ),
    hints=(
        'The text is "an E" and the stop string "END". Which letter may not be shown yet?',
        "Put what was kept back in front of the text. If a string is complete, the text ends in "
        "front of the one that is complete first. If none is, keep the longest `overlap` back.",
        "`min(complete, key=lambda place: place[0] + len(place[1]))`",
    ),
)

APPEND = Exercise(
    id="13.3b",
    title="An answer and its end",
    asks="Take in a token: stop tokens, then text and stop strings, the length last.",
    points=3,
    minutes=15,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(Answer, "append", on=TalkingAnswer),
        machine=ends.AnswerLife,
        max_steps=6,
        probes=ends.ANSWERING,
        misconceptions=mistakes.APPEND,
        large=(ends.TOKENS_ALONE, ends.LONG_ANSWER),
    ),
    hints=(
        "A token is the last one that is allowed, and completes a stop string. Why did it end?",
        "Log-probabilities first. A stop token ends it by `finish`, which shows what was kept "
        "back. Then the text; a stop string has been cut already, so nothing is flushed. Only "
        "then ask whether the request is over.",
        "`elif self.request.is_finished: self.finish(...)`",
    ),
)

# 13.4, admission

NEVER = Exercise(
    id="13.4",
    title="A prompt that can never fit",
    asks="Say why a prompt can never be computed here, with its tokens and the limit in numbers, "
    "or return an empty text.",
    points=2,
    minutes=10,
    difficulty=1,
    check=FunctionCheck(
        reference=Method(Scheduler, "why_never"),
        cases=given.admissions(),
        probes=given.ADMISSIONS,
        misconceptions=scheduler_mistakes.NEVER,
        compare=given.same_answer,
        large=(given.LONG_PROMPT,),
    ),
    hints=(
        "What is the largest state that this scheduler can ever be in?",
        "`max_model_len` of the scheduler knows the pool already. Ask for it first, then for the "
        "budget of a step if prompts may not be cut. The answer does not count.",
        "`num_tokens > budget and not self.config.enable_chunked_prefill`",
    ),
)

# 13.5, abort

FINISH = Exercise(
    id="13.5",
    title="Abort",
    asks="End requests from outside, wherever they are: all that can end so, or none.",
    points=5,
    minutes=20,
    difficulty=2,
    check=StatefulCheck(
        reference=Method(Scheduler, "finish_requests"),
        machine=ends.EndingLife,
        max_steps=6,
        probes=ends.ENDING,
        misconceptions=scheduler_mistakes.FINISH,
        state_line=queues_of,
        large=(ends.MANY_LEAVE,),
    ),
    hints=(
        "Where can a request be when its client goes away, and what does it hold there?",
        "Refuse a status that is no end. Collect who is there, each once. Ask each whether it may "
        "end so before you change any. Then take each out of its queue, set the status, let go.",
        "`request.require_transition(status)` for all, then `self.leave_queue(request)` for each",
    ),
)

# 13.6, equality

EQUALITY = Exercise(
    id="13.6",
    title="Your engine",
    asks="Fill `my_engine` with your pieces; its tokens must be those of a plain model.",
    points=16,
    minutes=30,
    difficulty=3,
    check=equality.EqualityCheck(equality.REFERENCE, equality.MISTAKES),
    hints=(
        "In which setting does it fail first, and what is different from the one before?",
        "The report names pieces without which the tokens are right. Run that setting with "
        "`LLM(..., debug=True)`: it checks each call of the manager, and each step.",
        '`my_engine["Executor.execute"] = execute`',
    ),
)

EXERCISES = (
    *(value_exercise(13, f"13.W{number}") for number in (1, 2, 3)),
    STEP,
    EXECUTE,
    TRACKER,
    PUSH,
    APPEND,
    NEVER,
    FINISH,
    EQUALITY,
    PERFORMANCE,
    QUALITY,
    DOCUMENTATION,
)
