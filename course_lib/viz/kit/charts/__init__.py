"""Charts as shapes: scales, axes, and what is drawn between them."""
