"""The final project's figure: one request through all components of an engine, step by step."""
