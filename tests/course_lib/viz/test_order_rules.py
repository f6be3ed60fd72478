"""Lesson 7's figure of order rules: what is found under each, and that it can be read."""

import pytest

from course_lib.kv_cache import BlockPool, find_violations
from course_lib.kv_cache.order_rules import ORDER_RULES
from course_lib.viz.kit.layout import SLIM, WIDE
from course_lib.viz.pool.order_rules import order_rules, order_rules_scene, outcome


@pytest.mark.parametrize(
    ("rule", "hits"),
    [
        ("the rule", [4, 4, 4, 4, 3, 2, 1, 0, 0]),
        ("all to the back", [4, 4, 4, 3, 2, 1, 0, 0, 0]),
        ("first block first", [4, 4, 4, 4, 0, 0, 0, 0, 0]),
        ("all to the front", [4, 4, 4, 3, 2, 1, 0, 0, 0]),
    ],
)
def test_what_is_found_of_a_prompt_depends_on_the_rule(rule, hits):
    assert [outcome(rule, ORDER_RULES[rule], taken).hits for taken in range(9)] == hits


@pytest.mark.parametrize("rule", ORDER_RULES)
def test_every_order_keeps_the_laws(rule):
    pool = ORDER_RULES[rule](7)
    blocks = pool.get_new_blocks(4)
    pool.cache_full_blocks(blocks[:2], [b"a", b"b"])
    pool.touch(blocks[1:3])
    for _ in range(2):
        pool.free_blocks(iter(blocks[1:3]))
        assert find_violations(pool) == []
    assert blocks[0].ref_cnt == 1
    assert pool.get_num_free_blocks() == 4


@pytest.mark.parametrize("width", [WIDE, SLIM])
@pytest.mark.parametrize("taken", range(9))
def test_every_setting_can_be_read(taken, width, collisions, crowding):
    scene = order_rules_scene(taken, width=width)
    assert collisions(scene) == []
    assert crowding(scene) == []


def test_a_pool_of_ones_own_has_a_row():
    class Mine(BlockPool):
        pass

    figure = order_rules({"yours": Mine})
    assert figure.scene.alt.endswith("yours: 4 of 4 blocks of A are found.")
    figure.set(taken=4)
    assert figure.scene.alt.endswith("yours: 3 of 4 blocks of A are found.")
    figure.set(taken=8)
    assert figure.scene.alt.endswith("yours: 0 of 4 blocks of A are found.")
    with pytest.raises(ValueError, match="no rule to show"):
        order_rules({})
