"""Lesson 2: what the checks of its Triton code say, of right code and of wrong."""

from __future__ import annotations

import inspect

import pytest

from autograder import lessons
from autograder.checks.kernel import Edited, edited
from autograder.lessons import lesson02_kernels as kernels
from course_lib.attention.backends.availability import triton_state

pytest.importorskip("triton")
from course_lib.attention import triton_kernels
from lesson_answers import SAME, examine, named

if triton_state().mode != "interpreted":
    pytest.skip("the guard watches the interpreter", allow_module_level=True)


def changed(name, *edits):
    """Return the library's kernel with other text in some places."""
    return edited(f"{kernels.KERNELS}:{name}", Edited(edits))


STEP = {
    "rescale": "rescale = tl.exp2(max_score - new_max)",
    "dot": "numerator = tl.dot(weights.to(values.dtype), values, numerator, input_precision=",
    "numerator": "numerator = numerator * rescale[:, None]",
    "denominator": "denominator = denominator * rescale + tl.sum(weights, axis=1)",
    "max": "new_max = tl.maximum(max_score, tl.max(scores, axis=1))",
}
FACTOR = "factor = tl.exp2(max_score - tl.max(max_score, axis=0))"
TOTAL = "total = tl.sum(numerator * factor[:, None], axis=0)"
ATTENTION = "attention = total / tl.sum(denominator * factor, axis=0)"
END = "end = tl.minimum(first + tokens_per_split, tl.load(context_lens + seq))"
STORE_MAX = "tl.store(split_max + row, max_score, mask=member < GROUP)"
RIGHT = {
    "the tile's product by itself": (
        "2.6",
        "softmax_step",
        (
            STEP["dot"],
            "numerator += tl.dot(weights.to(values.dtype), values, input_precision=",
        ),
    ),
    "the larger one chosen": (
        "2.6",
        "softmax_step",
        (
            STEP["max"],
            "tile_max = tl.max(scores, axis=1)\n"
            "    new_max = tl.where(tile_max > max_score, tile_max, max_score)",
        ),
    ),
    "the factor as a quotient": (
        "2.6",
        "softmax_step",
        (STEP["rescale"], "rescale = 1.0 / tl.exp2(new_max - max_score)"),
    ),
    "weights normalised first": (
        "2.7b",
        "combine_splits_kernel",
        (FACTOR, f"{FACTOR}\n    factor = factor / tl.sum(denominator * factor, axis=0)"),
        (ATTENTION, "attention = total"),
    ),
    "the context before the stretch": (
        "2.7a",
        "split_decode_kernel",
        (
            END,
            "context_len = tl.load(context_lens + seq)\n"
            "    end = context_len - first\n"
            "    end = first + tl.where(end < tokens_per_split, end, tokens_per_split)",
        ),
    ),
}
WRONG = {
    "one more rescaling": (
        "2.6",
        SAME,
        "softmax_step",
        (STEP["numerator"], "numerator = numerator * rescale[:, None] * rescale[:, None]"),
    ),
    "rescaled after the sum": (
        "2.6",
        SAME,
        "softmax_step",
        (STEP["denominator"], "denominator = (denominator + tl.sum(weights, axis=1)) * rescale"),
    ),
    "weights of one key too few": (
        "2.6",
        SAME,
        "softmax_step",
        (STEP["denominator"], "denominator = denominator * rescale + tl.max(weights, axis=1)"),
    ),
    "the sum forgotten": (
        "2.6",
        SAME,
        "softmax_step",
        (STEP["denominator"], "denominator = tl.sum(weights, axis=1)"),
    ),
    "a maximum of the tile alone, by Python": (
        "2.6",
        "Python's max",
        "softmax_step",
        (STEP["max"], "new_max = max(max_score, tl.max(scores, axis=1))"),
    ),
    "the tile's maximum alone": (
        "2.6",
        "the tile's own maximum",
        "softmax_step",
        (STEP["max"], "new_max = tl.max(scores, axis=1)"),
    ),
    "never below 0": (
        "2.6",
        "no maximum below 0",
        "softmax_step",
        (STEP["max"], f"{STEP['max']}\n    new_max = tl.where(new_max > 0, new_max, 0.0)"),
    ),
    "one maximum for all rows": (
        "2.6",
        SAME,
        "softmax_step",
        (STEP["max"], f"{STEP['max']}\n    new_max = new_max * 0 + tl.max(new_max)"),
    ),
    "exp in the factor alone": (
        "2.6",
        "exp in the factor",
        "softmax_step",
        (STEP["rescale"], STEP["rescale"].replace("exp2", "exp")),
    ),
    "the sum of weights as it is": (
        "2.7b",
        "l is not rescaled",
        "combine_splits_kernel",
        (ATTENTION, "attention = total / tl.sum(denominator)"),
    ),
    "the weights by column": (
        "2.6",
        SAME,
        "softmax_step",
        ("weights = tl.exp2(scores - new_max[:, None])", "weights = tl.exp2(scores - new_max)"),
    ),
    "a mask and no value": (
        "2.7b",
        "nothing in the empty lanes",
        "combine_splits_kernel",
        ('mask=valid, other=float("-inf")', "mask=valid"),
    ),
    "sums of lanes without a value": (
        "2.7b",
        "nothing in the empty lanes",
        "combine_splits_kernel",
        (
            "tl.load(split_denominator + row, mask=valid, other=0.0)",
            "tl.load(split_denominator + row, mask=valid)",
        ),
    ),
    "outputs weighted by their maxima alone": (
        "2.7b",
        "outputs by their maxima",
        "combine_splits_kernel",
        (TOTAL, "total = tl.sum(numerator / denominator[:, None] * factor[:, None], axis=0)"),
        (ATTENTION, "attention = total / tl.sum(factor, axis=0)"),
    ),
    "outputs as if side by side": (
        "2.7b",
        "outputs side by side",
        "combine_splits_kernel",
        (
            "seq * out_seq_stride + head * out_head_stride",
            "(seq * tl.num_programs(1) + head) * HEAD_DIM",
        ),
    ),
    "a stretch is a tile": (
        "2.7a",
        "a stretch of one tile",
        "split_decode_kernel",
        ("first = split * tokens_per_split", "first = TILE * split"),
    ),
    "the maximum not below a floor": (
        "2.7b",
        SAME,
        "combine_splits_kernel",
        (FACTOR, "factor = tl.exp2(max_score - tl.maximum(tl.max(max_score, axis=0), -1e9))"),
    ),
    "the maximum not below 0": (
        "2.7b",
        "no maximum below 0",
        "combine_splits_kernel",
        (FACTOR, "factor = tl.exp2(max_score - tl.maximum(tl.max(max_score, axis=0), 0.0))"),
    ),
    "the factor along the wrong side": (
        "2.7b",
        SAME,
        "combine_splits_kernel",
        ("numerator * factor[:, None]", "numerator * factor"),
    ),
    "the rescaling along the wrong side": (
        "2.6",
        SAME,
        "softmax_step",
        (STEP["numerator"], "numerator = numerator * rescale"),
    ),
    "a weight for what is hidden": (
        "2.6",
        SAME,
        "softmax_step",
        (
            "weights = tl.exp2(scores - new_max[:, None])",
            "weights = tl.exp2(tl.maximum(scores - new_max[:, None], -20.0))",
        ),
    ),
    "states as far apart as queries": (
        "2.7a",
        "the strides of the query",
        "split_decode_kernel",
        (
            "store_rows(split_numerator, row * HEAD_DIM,",
            "store_rows(split_numerator, split * HEAD_DIM + num_splits * query_row,",
        ),
    ),
    "not divided": ("2.7b", SAME, "combine_splits_kernel", (ATTENTION, "attention = total")),
    "the first split's maximum": (
        "2.7b",
        SAME,
        "combine_splits_kernel",
        (FACTOR, "factor = tl.exp2(max_score - tl.sum(tl.where(split == 0, max_score, 0.0)))"),
    ),
    "padding stored": (
        "2.7a",
        SAME,
        "split_decode_kernel",
        (STORE_MAX, "tl.store(split_max + row, max_score)"),
    ),
    "a tile of the next stretch": (
        "2.7a",
        SAME,
        "split_decode_kernel",
        (END, END.replace("tokens_per_split,", "tokens_per_split + TILE,")),
    ),
    "a stretch too long": (
        "2.7a",
        SAME,
        "split_decode_kernel",
        (END, END.replace("tokens_per_split,", "tokens_per_split + 1,")),
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_unusual_right_code_earns_everything(case):
    exercise, name, *edits = RIGHT[case]
    finding = examine(exercise, changed(name, *edits))
    assert finding.fraction == 1, finding.counterexample


@pytest.mark.parametrize("case", WRONG)
def test_wrong_code_earns_nothing_and_is_named_only_if_it_is_that(case):
    exercise, name, kernel, *edits = WRONG[case]
    finding = examine(exercise, changed(kernel, *edits))
    assert finding.fraction == 0
    assert named(finding) == name


@pytest.mark.parametrize("exercise", ["2.6", "2.7a", "2.7b"])
@pytest.mark.parametrize(
    "answer",
    [object(), 3.0, lambda *arguments: None],
    ids=["an object", "a number", "a plain function"],
)
def test_what_is_no_kernel_earns_nothing(exercise, answer):
    finding = examine(exercise, answer)
    assert finding.fraction == 0
    assert "write @triton.jit above its def" in finding.counterexample.got


@pytest.mark.parametrize("rest", ["pass", "# YOUR CODE HERE\n    ...", ""])
def test_who_wrote_at_the_first_of_two_places_has_begun(rest):
    source = inspect.getsource(triton_kernels.split_decode_kernel.fn)
    stored = source[source.index("row = (seq") :]
    finding = examine("2.7a", changed("split_decode_kernel", (stored.strip(), rest)))
    assert finding.fraction == 0
    assert not finding.unwritten
    complaint = finding.counterexample.complaint
    assert complaint.endswith("nothing is written below the second YOUR CODE HERE")


def test_who_wrote_at_neither_of_two_places_has_not_begun():
    source = inspect.getsource(triton_kernels.split_decode_kernel.fn)
    stored = source[source.index("row = (seq") :]
    bounds = source[source.index("first = split") : source.index("member = tl.arange")]
    edits = (stored.strip(), "pass"), (bounds.strip(), "pass")
    finding = examine("2.7a", changed("split_decode_kernel", *edits))
    assert finding.unwritten
    assert "the first and the second YOUR CODE HERE" in finding.advice


# 2.5

ORDER = lessons.find("2.5").check.solution
LINES = lessons.find("2.5").check.lines


def at(start):
    """Return the label of the line that begins so."""
    return next(label for label in ORDER if LINES[label].lstrip().startswith(start))


def exchanged(first, second):
    order = list(ORDER)
    places = order.index(at(first)), order.index(at(second))
    order[places[0]], order[places[1]] = order[places[1]], order[places[0]]
    return order


@pytest.mark.parametrize(
    ("first", "second"), [("key_row", "value_row"), ("member", "max_score = tl.full")]
)
def test_every_order_of_the_lines_that_works_is_right(first, second):
    assert examine("2.5", exchanged(first, second)).fraction == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("scores = tl.dot", "scores = tl.where"),
        ("attention", "out_row"),
        ("position", "entry"),
        ("max_score, denominator", "scores = tl.where"),
    ],
)
def test_an_order_that_does_not_work_earns_nothing(first, second):
    assert examine("2.5", exchanged(first, second)).fraction == 0


def test_who_gives_some_of_the_lines_is_told_how_many_are_missing():
    complaint = examine("2.5", list(ORDER[:3])).counterexample.complaint
    assert complaint == f"{len(ORDER) - 3} of the {len(ORDER)} lines that belong are missing"
    strange = min(LINES.keys() - set(ORDER))
    complaint = examine("2.5", [*ORDER[:-1], strange]).counterexample.complaint
    assert f"line {strange} does not belong; 1 of the {len(ORDER)} lines that" in complaint


@pytest.mark.parametrize("answer", [[], None, list(ORDER)[:-1], "".join(ORDER[1:]), object(), 7])
def test_what_is_no_order_of_the_lines_earns_nothing(answer):
    finding = examine("2.5", answer)
    assert finding.fraction == 0
    assert finding.unwritten == (answer in ([], None))


def without(start):
    return [label for label in ORDER if label != at(start)]


def test_the_mask_left_out_or_behind_the_step_is_named():
    late = without("scores = tl.where")
    late.insert(late.index(at("max_score, denominator")) + 1, at("scores = tl.where"))
    for order in (without("scores = tl.where"), late):
        assert named(examine("2.5", order)) == "no mask before the step"


def test_a_line_that_does_not_belong_is_named_only_if_it_is_the_reason():
    strange = sorted(LINES.keys() - set(ORDER))
    taken = [*ORDER[:-1], strange[0]]
    finding = examine("2.5", taken)
    assert named(finding) == SAME
    assert f"line {strange[0]} does not belong" in finding.counterexample.complaint
    both = examine("2.5", [*ORDER, *strange]).counterexample
    assert f"lines {strange[0]} and {strange[1]} do not belong" in both.complaint


def test_nan_is_said_to_be_in_foreign_slots_only_where_it_is_read():
    upside_down = (STEP["rescale"], "rescale = tl.exp2(new_max - max_score)")
    complaint = examine("2.6", changed("softmax_step", upside_down)).counterexample.complaint
    assert complaint == "inf - inf, inf times 0 and 0 / 0 are NaN"
    foreign = lessons.find("2.5").check.misconceptions[0].wrong
    complaint = examine("2.5", foreign).counterexample.complaint
    assert complaint == "NaN is in slots that no sequence owns: some of them are read"


def test_a_kernel_that_reads_a_variable_of_the_notebook_is_told():
    kernel = changed("split_decode_kernel", ("tl.load(context_lens + seq)", "tokens"))
    kernel.fn.__globals__["tokens"] = 3
    message = examine("2.7a", kernel).counterexample.got
    assert "reads tokens, a variable outside it" in message


def test_the_state_made_anew_in_each_tile_is_found_out():
    order = list(ORDER)
    state = order.pop(order.index(at("max_score = tl.full")))
    order.insert(order.index(at("position")), state)
    assert examine("2.5", order).fraction == 0
