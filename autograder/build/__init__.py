"""From sources to notebooks: what is released, what is the solution, what are samples."""
