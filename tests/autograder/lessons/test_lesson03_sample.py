"""Lesson 3: the sample submission is worth what its file says."""

from __future__ import annotations

import pytest

from lesson_samples import marked_by_machine, points_of, sample_of


@pytest.mark.usefixtures("first_failing_case", "few_examples")
def test_the_partly_right_sample_earns_what_it_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = sample_of("03_block_tables_address_translation", "partly_right")
    assert points_of(sample, tmp_path) == marked_by_machine(sample)
    assert "always NHD" in capsys.readouterr().out
