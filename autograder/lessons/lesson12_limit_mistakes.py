"""Lesson 12: what is got wrong about adapters in a batch, and about a limit that moves."""

from __future__ import annotations

from typing import Any

from autograder.checks.finding import Misconception
from course_lib.scheduling.request import Request
from course_lib.scheduling.variants.batch_size import StepTimeController
from course_lib.scheduling.variants.lora import LoRAScheduler

# 12.6a, adapters


def _loaded(self: LoRAScheduler) -> set[str | None]:
    return {request.lora_id for request in self.running if request.lora_id is not None}


def _full(self: LoRAScheduler) -> str:
    return f"all {self.max_loras} LoRA slots are taken"


def counts_requests(self: LoRAScheduler, request: Request) -> str:
    """Count requests with an adapter, not adapters."""
    loaded = [each.lora_id for each in self.running if each.lora_id is not None]
    if request.lora_id is None or request.lora_id in loaded or len(loaded) < self.max_loras:
        return ""
    return _full(self)


def everybody_needs_one(self: LoRAScheduler, request: Request) -> str:
    """Let who needs no adapter wait as well."""
    loaded = _loaded(self)
    if request.lora_id in loaded or len(loaded) < self.max_loras:
        return ""
    return _full(self)


def base_takes_a_slot(self: LoRAScheduler, request: Request) -> str:
    """Count the base model among the adapters."""
    loaded = {each.lora_id for each in self.running}
    if request.lora_id is None or request.lora_id in loaded or len(loaded) < self.max_loras:
        return ""
    return _full(self)


def not_shared(self: LoRAScheduler, request: Request) -> str:
    """Ask for a free slot though the adapter has one."""
    if request.lora_id is None or len(_loaded(self)) < self.max_loras:
        return ""
    return _full(self)


def one_slot_more(self: LoRAScheduler, request: Request) -> str:
    """Load one adapter too many."""
    loaded = _loaded(self)
    if request.lora_id is None or request.lora_id in loaded or len(loaded) <= self.max_loras:
        return ""
    return _full(self)


def once_loaded(self: LoRAScheduler, request: Request) -> str:
    """Count the adapters of all requests, also of those that wait."""
    loaded = {each.lora_id for each in self.requests.values() if each.lora_id is not None}
    others = loaded - {request.lora_id}
    if request.lora_id is None or len(others) < self.max_loras:
        return ""
    return _full(self)


def truth_value(self: LoRAScheduler, request: Request) -> Any:
    """Say whether, not why."""
    return LoRAScheduler.why_not_now(self, request) == ""


LORA = (
    Misconception(
        "requests for adapters",
        "Two requests with one adapter share its slot: count different adapters.",
        counts_requests,
    ),
    Misconception(
        "everybody needs an adapter",
        "A request without a `lora_id` runs on the base model, and needs no slot.",
        everybody_needs_one,
    ),
    Misconception(
        "the base model takes a slot",
        "The slots are for adapters. Requests without one do not count.",
        base_takes_a_slot,
    ),
    Misconception(
        "a slot of its own",
        "If its adapter is in a slot already, a request may start however full the slots are.",
        not_shared,
    ),
    Misconception(
        "one slot too many",
        "With `max_loras` adapters loaded, there is no slot for another one.",
        one_slot_more,
    ),
    Misconception(
        "those that wait hold slots",
        "Only running requests use their adapters; who waits holds no slot.",
        once_loaded,
    ),
    Misconception(
        "whether, not why",
        "It says why the request may not start; an empty text says that nothing is against it.",
        truth_value,
    ),
)

# 12.6b, the controller


def _set(self: StepTimeController, value: Any) -> None:
    setattr(self.scheduler, self.limit, value)


def _value(self: StepTimeController) -> int:
    return int(getattr(self.scheduler, self.limit))


def down_at_the_target(self: StepTimeController, step_seconds: float) -> None:
    """Take a step that meets the target for too long."""
    above = step_seconds >= self.target_seconds
    StepTimeController.observe(self, 2 * self.target_seconds if above else 0.0)


def always_halves(self: StepTimeController, step_seconds: float) -> None:
    """Halve."""
    if step_seconds > self.target_seconds:
        _set(self, max(_value(self) // 2, self.minimum))
    else:
        StepTimeController.observe(self, step_seconds)


def grows_by_a_share(self: StepTimeController, step_seconds: float) -> None:
    """Grow by the share by which it falls."""
    if step_seconds > self.target_seconds:
        StepTimeController.observe(self, step_seconds)
    else:
        _set(self, min(int(_value(self) / self.decrease), self.maximum))


def falls_by_steps(self: StepTimeController, step_seconds: float) -> None:
    """Fall by as much as it grows."""
    if step_seconds > self.target_seconds:
        _set(self, max(_value(self) - self.increase, self.minimum))
    else:
        StepTimeController.observe(self, step_seconds)


def no_minimum(self: StepTimeController, step_seconds: float) -> None:
    """Fall below the minimum."""
    if step_seconds > self.target_seconds:
        _set(self, int(_value(self) * self.decrease))
    else:
        StepTimeController.observe(self, step_seconds)


def no_maximum(self: StepTimeController, step_seconds: float) -> None:
    """Grow beyond the configuration."""
    if step_seconds > self.target_seconds:
        StepTimeController.observe(self, step_seconds)
    else:
        _set(self, _value(self) + self.increase)


def rounds(self: StepTimeController, step_seconds: float) -> None:
    """Round to the nearest."""
    if step_seconds > self.target_seconds:
        _set(self, max(round(_value(self) * self.decrease), self.minimum))
    else:
        StepTimeController.observe(self, step_seconds)


def fractions(self: StepTimeController, step_seconds: float) -> None:
    """Leave a limit that is no whole number."""
    if step_seconds > self.target_seconds:
        _set(self, max(_value(self) * self.decrease, self.minimum))
    else:
        StepTimeController.observe(self, step_seconds)


def by_the_excess(self: StepTimeController, step_seconds: float) -> None:
    """Fall in proportion to how much too long the step was."""
    if step_seconds > self.target_seconds:
        share = self.target_seconds / step_seconds
        _set(self, max(int(_value(self) * share), self.minimum))
    else:
        StepTimeController.observe(self, step_seconds)


def tokens_always(self: StepTimeController, step_seconds: float) -> None:
    """Move the token budget, whichever limit is to be moved."""
    value = self.scheduler.max_num_batched_tokens
    if step_seconds > self.target_seconds:
        value = max(int(value * self.decrease), self.minimum)
    else:
        value = min(value + self.increase, self.maximum)
    self.scheduler.max_num_batched_tokens = value


OBSERVE = (
    Misconception(
        "the target is too long",
        "A step that takes just the target is short enough.",
        down_at_the_target,
    ),
    Misconception(
        "halves always",
        "By how much it falls is what `decrease` says.",
        always_halves,
    ),
    Misconception(
        "grows by a share",
        "Upwards it goes by `increase` at a time. Where growth multiplies, it overshoots far.",
        grows_by_a_share,
    ),
    Misconception(
        "falls by steps",
        "Downwards it is multiplied: at 16 at a time a budget of 2,048 is still at 448 after a "
        "hundred steps that are too long.",
        falls_by_steps,
    ),
    Misconception(
        "no minimum",
        "It never falls below `minimum`: with a token budget smaller than the batch, running "
        "requests would wait for their next token.",
        no_minimum,
    ),
    Misconception(
        "no maximum",
        "It never grows beyond what the configuration says.",
        no_maximum,
    ),
    Misconception(
        "rounds to the nearest",
        "Downwards is downwards: it is cut to a whole number, or a small limit never falls.",
        rounds,
    ),
    Misconception(
        "no whole number",
        "A limit counts tokens or requests, so it is a whole number.",
        fractions,
    ),
    Misconception(
        "by the excess",
        "It is multiplied by `decrease`, however much too long the step was.",
        by_the_excess,
    ),
    Misconception(
        "always the token budget",
        "`limit` says which of the scheduler's two limits is moved.",
        tokens_always,
    ),
)
