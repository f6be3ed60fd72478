"""The small copy of the engine map."""

import re
from xml.etree import ElementTree

import pytest

from course_lib import parts
from course_lib.parts import PARTS, PartStatus
from course_lib.viz.engine.map import NODES
from course_lib.viz.engine.thumbnail import engine_thumbnail


def status(name, state):
    return PartStatus(name, PARTS[name].lesson, PARTS[name].node, state, "")


def filled(svg):
    boxes = re.findall(r'fill="(#\w+)"( fill-opacity)?.*?<title>(.*?)</title>', svg)
    return {title: "faded" if faded else "lit" for _, faded, title in boxes}


def test_the_part_just_won_is_lit_and_the_learners_others_are_filled():
    rows = [status("BlockPool", "yours"), status("num_kv_blocks", "yours")]
    rows += [status("Scheduler", "reference")]
    assert filled(engine_thumbnail("BlockPool", rows)) == {"Block pool": "lit", "Sizing": "faded"}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_has_its_box_and_the_picture_is_sound_xml(name):
    root = ElementTree.fromstring(engine_thumbnail(name, parts.table()))
    *boxes, caption = root
    assert len(boxes) == len(NODES)
    in_box = [each for each in PARTS.values() if each.node == PARTS[name].node]
    assert caption.text == f"{NODES[PARTS[name].node].title}: 1 of {len(in_box)} yours"
    assert caption.text in root.attrib["aria-label"]


def test_the_caption_counts_the_parts_of_the_box_and_claims_no_more():
    names = [name for name in PARTS if PARTS[name].node == PARTS["softmax"].node]
    assert len(names) > 1
    captions = []
    for own in range(1, len(names) + 1):
        rows = [status(name, "yours") for name in names[:own]]
        rows += [status(name, "reference") for name in names[own:]]
        captions.append(ElementTree.fromstring(engine_thumbnail(names[own - 1], rows))[-1].text)
    title, total = NODES[PARTS["softmax"].node].title, len(names)
    assert captions == [f"{title}: {own} of {total} yours" for own in range(1, total + 1)]


def test_a_part_that_there_is_not_is_an_error():
    with pytest.raises(KeyError):
        engine_thumbnail("Tokenizer", parts.table())
