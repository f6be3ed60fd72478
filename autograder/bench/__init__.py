"""What `course bench` measures: each suite against baselines in the same run."""
