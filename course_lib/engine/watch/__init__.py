"""An engine whose work can be followed by hand, and what it must agree with."""
