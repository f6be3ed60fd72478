"""What lessons cut out of this package can be cut: it stands on its own, on one screen."""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable
from typing import Any

import pytest

from course_lib.kv_cache import block_table, fragmentation, prefix
from course_lib.kv_cache.allocators import BestFitAllocator, BuddyAllocator, FitAllocator
from course_lib.kv_cache.block_pool import BlockPool, FreeKVCacheBlockQueue
from course_lib.kv_cache.block_table import BlockTable, CacheLayout
from course_lib.kv_cache.manager import KVCacheManager
from course_lib.kv_cache.metrics import CacheMetrics
from course_lib.kv_cache.watch import invariants

FUNCTIONS: list[Callable[..., Any]] = [
    # Lesson 3
    BlockTable.slot,
    BlockTable.append,
    block_table.slot_mapping,
    block_table.blocks_to_add,
    block_table.row_major_strides,
    CacheLayout.address,
    # Lesson 4
    BestFitAllocator.choose_hole,
    FitAllocator.free,
    BuddyAllocator.allocate,
    BuddyAllocator.free,
    fragmentation.external_fragmentation,
    fragmentation.expected_internal_waste,
    fragmentation.best_block_size,
    # Lesson 7
    BlockPool.get_new_blocks,
    BlockPool.touch,
    BlockPool.free_blocks,
    invariants.pool_violations,
    invariants.find_leaks,
    # Lesson 8
    prefix.hash_blocks,
    prefix.longest_cached_prefix,
    KVCacheManager.fork,
    KVCacheManager.replace_shared,
    KVCacheManager.allocate_slots,
    KVCacheManager.free,
]
CLASSES = [BuddyAllocator, FreeKVCacheBlockQueue, CacheMetrics]
MOST_LINES = 32


def tree_of(hole: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(hole)))


def without_docstring(tree: ast.AST) -> int:
    """Return the lines of code of a function's body."""
    (function,) = tree.body  # type: ignore[attr-defined]
    first, *rest = function.body
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    source = ast.unparse(ast.Module(rest if is_docstring else [first, *rest], []))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.NAME})


@pytest.mark.parametrize("hole", [*FUNCTIONS, *CLASSES], ids=lambda hole: hole.__qualname__)
def test_no_name_in_a_hole_is_private(hole: Any) -> None:
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree_of(hole))
        if isinstance(node, (ast.Attribute, ast.Name))
    }
    assert [name for name in used if name.startswith("_") and name.strip("_")] == []


@pytest.mark.parametrize("hole", FUNCTIONS, ids=lambda hole: hole.__qualname__)
def test_a_hole_fits_a_screen(hole: Any) -> None:
    assert 1 <= without_docstring(tree_of(hole)) <= MOST_LINES


@pytest.mark.parametrize("hole", [*FUNCTIONS, *CLASSES], ids=lambda hole: hole.__qualname__)
def test_a_hole_is_specified_with_an_example(hole: Any) -> None:
    specification = inspect.getdoc(hole) or ""
    assert ">>> " in specification
    needs = ["Args:"] if inspect.signature(hole).parameters.keys() - {"self"} else []
    for section in needs:
        assert section in specification
