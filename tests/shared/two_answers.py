"""Answers to the two exercises of a small lesson, and the submissions that hold them."""

from __future__ import annotations

from autograder.sealed.box.limits import Limits
from autograder.sealed.intake import Cell, Role, Submission
from autograder.sealed.release import Release

SECRET = b"a secret of the tests"
LIMITS = Limits(
    memory=300 * 2**20, processes=10, file_bytes=10**6, disk_bytes=3 * 10**6, cpu_seconds=20
)
CASES = 5
"""Few are enough to tell right from wrong here."""

RIGHT = """def kv_bytes_per_token(model):
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * model.dtype_bytes"""
WRONG = RIGHT.replace("2 * ", "")
BLOCKS = """def num_kv_blocks(
    model, gpu, block_size=16, gpu_memory_utilization=0.92, peak_activation_bytes=0
):
    if block_size < 1 or not 0 < gpu_memory_utilization <= 1:
        raise ValueError("no")
    room = int(gpu.memory_bytes * gpu_memory_utilization)
    room -= model.weight_bytes + peak_activation_bytes
    blocks = room // BYTES
    if blocks < 1:
        raise ValueError("none fits")
    return blocks"""
WITH_LIBRARY = BLOCKS.replace("BYTES", "kv_bytes_per_block(model, block_size)")
WITH_OWN = BLOCKS.replace("BYTES", "(block_size * kv_bytes_per_token(model))")


def submission(release: Release, answers: dict[str, str], before: str = "") -> Submission:
    cells = []
    for cell in release.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        source = answers.get(name, cell.source)
        if cell.cell_type != "code":
            role = Role.TEXT
        elif cell.metadata.get("nbgrader", {}).get("locked"):
            role = Role.CHECK
        else:
            role = Role.ANSWER if name in ("ex-1-1", "ex-1-2", "ex-1-q") else Role.GIVEN
        cells.append(Cell(role, source, name if role is not Role.GIVEN else None))
    if before:
        cells.insert(1, Cell(Role.OWN, before))
    return Submission("ada", release.lesson, tuple(cells))


def in_call(line: str) -> str:
    return f"def kv_bytes_per_token(model):\n    {line}"
