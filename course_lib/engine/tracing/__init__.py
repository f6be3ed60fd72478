"""What the tracer writes down, and the forms in which a trace can be read.

``log`` and ``events`` hold what was seen, ``blocks`` and ``vllm`` are probes, ``trace`` is what the
user gets, as a ``story`` or as a time line (``chrome``).
"""
