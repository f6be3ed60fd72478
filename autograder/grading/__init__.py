"""What vanilla nbgrader lacks: hand-ins that are odd but honest, only valid scores, feedback."""
