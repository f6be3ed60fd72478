"""Lesson 2: the sample submission is worth what its file says."""

from __future__ import annotations

import pytest

from course_lib.attention.backends.availability import triton_state
from lesson_samples import marked_by_machine, points_of, sample_of

if triton_state().mode == "unavailable":
    pytest.skip("some of its exercises are kernels", allow_module_level=True)


@pytest.mark.usefixtures("first_failing_case", "few_examples")
def test_the_partly_right_sample_earns_what_it_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = sample_of("02_paged_attention_algorithm", "partly_right")
    earned = points_of(sample, tmp_path, needed=("opt_13b, a100 = ",))
    assert earned == marked_by_machine(sample)
    assert "Gives the same values as: heads dealt in turn" in capsys.readouterr().out
