"""What happened in a failing case: what should have, beside what the learner's object did."""
