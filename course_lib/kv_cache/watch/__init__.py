"""Looking after a pool or a manager: invariants, leaks, recordings."""
