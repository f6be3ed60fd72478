"""Looking at a scheduler from outside: its state, its plans as text, what no plan may do."""
