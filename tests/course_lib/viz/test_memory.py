from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import pytest

from course_lib.kv_cache.sizing import kv_bytes_per_token
from course_lib.specs import GPUS, MODELS, GiB
from course_lib.viz import gpu_memory, gpu_memory_scene
from course_lib.viz.kit.layout import NARROW, SLIM, WIDE
from course_lib.viz.kit.scene import Scene
from course_lib.viz.memory_layout import (
    Layout,
    estimated_activation_bytes,
    paged_layout,
    reserved_layout,
)

CASES = [
    # model, gpu, max_model_len, num_sequences, mean_tokens
    ("llama-3.1-8b", "rtx-4090", 4096, 16, 500),
    ("llama-3.1-8b", "rtx-4090", 131_072, 100, 2000),
    ("llama-2-13b", "a100-40gb", 2048, 7, 161),
    ("llama-3.1-8b", "h100", 512, 256, 100),
    ("qwen3-32b", "h200", 32_768, 1, 32_768),
    ("mixtral-8x7b", "h200", 131_072, 256, 4000),
    ("qwen2.5-7b", "l4", 256, 1, 1),
    ("opt-13b", "a100-80gb", 2048, 40, 499),
]
UTILIZATION = 0.92


def layouts(case: tuple[str, str, int, int, int]) -> tuple[Layout, Layout]:
    model, gpu, max_model_len, num_sequences, mean_tokens = case
    specs = MODELS[model], GPUS[gpu]
    return (
        reserved_layout(*specs, max_model_len, num_sequences, mean_tokens, UTILIZATION),
        paged_layout(*specs, num_sequences, mean_tokens, UTILIZATION),
    )


@pytest.mark.parametrize("case", CASES)
def test_the_segments_of_each_bar_add_to_the_memory_of_the_gpu(
    case: tuple[str, str, int, int, int],
) -> None:
    for layout in layouts(case):
        segments = layout.segments()
        assert all(segment.num_bytes >= 0 for segment in segments)
        assert sum(segment.num_bytes for segment in segments) == GPUS[case[1]].memory_bytes


def test_what_is_reserved_and_empty_is_not_said_to_be_for_later_nor_lost() -> None:
    drawn = {each.state for case in CASES for layout in layouts(case) for each in layout.segments()}
    listed = {rect.state for rect in gpu_memory_scene(*CASES[0]).rects() if rect.state is not None}
    assert drawn <= listed
    assert "empty" in drawn
    assert not {"reserved", "internal"} & listed


@pytest.mark.parametrize("case", CASES)
def test_as_many_sequences_fit_as_there_is_room_for_and_not_one_more(
    case: tuple[str, str, int, int, int],
) -> None:
    for layout in layouts(case):
        assert 0 <= layout.num_shown <= layout.num_sequences
        assert layout.num_shown + layout.num_refused == layout.num_sequences
        if layout.num_refused:
            assert layout.left < layout.sequence_bytes
            assert layout.leftover[0].state == "external"
        else:
            assert layout.leftover[0].state == "free"


@pytest.mark.parametrize("width", [WIDE, NARROW, SLIM])
@pytest.mark.parametrize("case", CASES)
def test_boxes_on_the_gpu_are_drawn_to_scale_without_gaps(
    case: tuple[str, str, int, int, int], width: float
) -> None:
    scene = gpu_memory_scene(*case, width=width)
    for prefix in ("reserved-", "paged-"):
        boxes = [rect for rect in scene.rects() if rect.key.startswith(prefix)]
        on_gpu = [box for box in boxes if box.state != "overflow"]
        # What a sequence holds stands in its frame, one above the other.
        columns = [
            box for box in on_gpu if box.height == pytest.approx(max(b.height for b in boxes))
        ]
        edges = sorted({(round(box.x, 6), round(box.x + box.width, 6)) for box in columns})
        for (_, end), (start, _) in pairwise(edges):
            assert end == pytest.approx(start)
        pixels_per_byte = (edges[-1][1] - edges[0][0]) / GPUS[case[1]].memory_bytes
        weights = next(box for box in on_gpu if box.state == "weights")
        assert weights.width == pytest.approx(MODELS[case[0]].weight_bytes * pixels_per_byte)
        area = sum(box.width * box.height for box in on_gpu if box.state == "used")
        used = area / weights.height / pixels_per_byte
        shown = layouts(case)[prefix == "paged-"].num_shown
        assert used / kv_bytes_per_token(MODELS[case[0]]) == pytest.approx(shown * case[4])


@pytest.mark.parametrize("width", [WIDE, NARROW, SLIM])
@pytest.mark.parametrize("case", CASES)
def test_nothing_in_the_picture_is_cut_off_or_covered(
    case: tuple[str, str, int, int, int], width: float, collisions: Callable[[Scene], list[str]]
) -> None:
    assert collisions(gpu_memory_scene(*case, width=width)) == []


@pytest.mark.parametrize("width", [WIDE, NARROW, SLIM])
@pytest.mark.parametrize("gpu", GPUS)
def test_nothing_is_crowded_at_any_setting_of_the_controls(
    gpu: str, width: float, crowding: Callable[[Scene], list[str]]
) -> None:
    drawn = 0
    for model, length, count, used in product(
        MODELS, (256, 4096, 131_072), (1, 16, 256), (10, 500, 4000)
    ):
        try:
            scene = gpu_memory_scene(model, gpu, length, count, used, width=width)
        except ValueError:
            continue
        drawn += 1
        assert crowding(scene) == [], (model, length, count, used)
    assert drawn


def test_what_a_sequence_holds_is_no_sliver_at_its_edge() -> None:
    """500 of 4,096 tokens are two pixels of a box's width, but can be seen as its filling."""
    boxes = {box.key: box for box in gpu_memory_scene(*CASES[0]).rects()}
    frame, used = boxes["reserved-3"], boxes["reserved-3-used"]
    assert (used.x, used.width) == (frame.x, frame.width)
    assert used.height / frame.height == pytest.approx(500 / 4096)
    assert used.of == frame.of == ("sequence", "sequence 3")
    assert used.outline == "none" != frame.outline


def test_the_numbers_that_a_reader_checks_by_hand() -> None:
    texts = list(gpu_memory_scene("llama-3.1-8b", "rtx-4090", 4096, 16, 500).texts())
    # 2 x 32 layers x 8 KV heads x 128 x 2 bytes = 128 KiB; x 4,096 = 512 MiB; x 16 = 2 MiB.
    assert any(
        "per token 128 KiB" in text and "512 MiB" in text and "tokens 2 MiB" in text
        for text in texts
    )
    # 0.92 x 24 - 14.96 (weights) - 0.16 (activations) = 6.97 GiB holds 13 halves.
    assert "13 of 16 sequences fit; the other 3 need 1.5 GiB" in texts
    # 500 tokens take 32 blocks of 16: 500 / 512.
    assert "1.0 GiB taken, 97.7% of it holds tokens" in texts


@pytest.mark.parametrize(
    ("sequences", "says"),
    [
        (13, "All 13 sequences fit, and not one more would"),
        (12, "All 12 sequences fit, and 1 more would"),
        (14, "13 of 14 sequences fit; the other one needs 0.5 GiB"),
    ],
)
def test_one_sequence_and_none_are_spoken_of_as_people_do(sequences: int, says: str) -> None:
    assert says in gpu_memory_scene("llama-3.1-8b", "rtx-4090", 4096, sequences, 500).texts()


def test_sequences_too_thin_to_tell_apart_are_drawn_as_one() -> None:
    few = gpu_memory_scene("llama-3.1-8b", "h100", 2048, 200, 500)
    keys = {rect.key for rect in few.rects()}
    assert "reserved-all-used" in keys
    assert "reserved-1-used" not in keys


def test_what_does_not_fit_begins_where_the_gpu_ends() -> None:
    scene = gpu_memory_scene("llama-3.1-8b", "rtx-4090", 4096, 16, 500)
    boxes = {rect.key: rect for rect in scene.rects()}
    overflow, headroom = boxes["reserved-overflow"], boxes["reserved-headroom"]
    assert overflow.x == pytest.approx(headroom.x + headroom.width)
    assert "paged-overflow" not in boxes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "llama-3.1-70b"}, "weights take 131.4 GiB.*may use 22.1 GiB.*larger GPU"),
        ({"mean_tokens": 5000}, "cannot hold 5,000 tokens when it may have 4,096"),
        ({"num_sequences": 0}, "must be at least 1"),
        ({"gpu_memory_utilization": 1.5}, "at most 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_reason(
    changes: dict[str, object], message: str
) -> None:
    arguments = {
        "model": "llama-3.1-8b",
        "gpu": "rtx-4090",
        "max_model_len": 4096,
        "num_sequences": 16,
        "mean_tokens": 500,
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        gpu_memory_scene(**arguments)


def test_activations_grow_with_the_step_and_stay_small_beside_the_weights() -> None:
    model = MODELS["llama-3.1-8b"]
    assert estimated_activation_bytes(model, 4096) == 2 * estimated_activation_bytes(model, 2048)
    assert estimated_activation_bytes(model) < GiB < model.weight_bytes


def test_the_figure_offers_every_model_and_gpu_of_the_catalogue() -> None:
    figure = gpu_memory()
    offered = {control["name"]: control.get("values") for control in figure.controls}
    assert offered["model"] == list(MODELS)
    assert offered["gpu"] == list(GPUS)


def test_a_model_that_does_not_fit_shows_a_sentence_in_place_of_the_bars() -> None:
    figure = gpu_memory()
    figure.set(model="llama-3.1-70b")
    assert figure.message.startswith("Llama-3.1-70B does not leave room")
    figure.set(model="mistral-7b")
    assert figure.message == ""


@pytest.mark.parametrize("width", [SLIM, NARROW, WIDE])
def test_every_page_says_that_sequences_are_filled_from_below(width: float) -> None:
    remarks = [t for t in gpu_memory_scene(*CASES[0], width=width).texts() if "from below" in t]
    assert len(remarks) == (2 if width == WIDE else 1)
