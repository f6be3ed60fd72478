"""How values, calls and outcomes are shown to a person."""

import numpy as np
import torch

from autograder.checks.show import show, show_call, show_outcome
from autograder.proxy.recipes import Make
from autograder.proxy.subject import Raised, Returned
from course_lib.kv_cache import BlockPool
from course_lib.kv_cache.reservation import Reservation
from course_lib.specs import GPUS, MODELS, ModelSpec

ERROR = Raised(("ValueError", "Exception", "BaseException"), "too large", "in line 3: raise")
TINY = ModelSpec("tiny", 2, 3, 35, 5, 11, 13)


def test_specs_of_the_catalogue_are_shown_by_name():
    assert show([MODELS["qwen3-32b"], GPUS["l4"]]) == '[MODELS["qwen3-32b"], GPUS["l4"]]'
    assert show_call("f", (MODELS["qwen3-32b"],), {"gpu": GPUS["l4"]}) == (
        'f(MODELS["qwen3-32b"], gpu=GPUS["l4"])'
    )


def test_what_is_long_is_cut():
    assert len(show("x" * 10_000)) == 600
    assert show("x" * 10_000).endswith(" ...")
    assert show(np.zeros((100, 100))) == "<ndarray of shape (100, 100), float64>"
    assert show(torch.zeros(8, 8)) == "<Tensor of shape (8, 8), torch.float32>"
    assert show(np.zeros(2)) == "array([0., 0.])"
    assert show(torch.zeros(2, 1, 2)) == "tensor([[[0., 0.]], [[0., 0.]]])"


def test_outcomes_are_shown_as_values_or_as_exceptions():
    assert show_outcome(Returned([1])) == "[1]"
    assert show_outcome(ERROR) == "ValueError: too large"


def test_of_a_record_the_fields_at_their_default_are_left_out():
    shown = "ModelSpec(name='tiny', num_layers=2, hidden_size=3, num_attention_heads=35, "
    assert show(TINY) == shown + "num_kv_heads=5, head_dim=11, num_params=13)"
    placed = Reservation("r", reserved=4, written=1, final=2, offset=0)
    assert show(placed).endswith("final=2, offset=0)")
    assert "offset" not in show(Reservation("r", reserved=4, written=1, final=2))


def test_fields_that_do_not_matter_are_left_out_and_those_that_do_are_there_at_their_default():
    matters = {ModelSpec: ("num_layers", "dtype_bytes")}
    assert show(TINY, matters) == "ModelSpec(num_layers=2, dtype_bytes=2, ...)"
    assert show_call("f", ([TINY],), {"m": TINY}, matters) == (
        "f([ModelSpec(num_layers=2, dtype_bytes=2, ...)], "
        "m=ModelSpec(num_layers=2, dtype_bytes=2, ...))"
    )
    assert show_outcome(Returned((TINY,)), matters) == (
        "(ModelSpec(num_layers=2, dtype_bytes=2, ...),)"
    )


def test_a_recipe_is_shown_as_what_it_does():
    assert show_call("free", (Make(BlockPool, 9),), {}) == "free(BlockPool(9))"
