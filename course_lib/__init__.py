"""The parts of a serving engine that the lessons build up, one module per idea.

Layers look downward only: ``specs`` and ``roofline`` at the bottom, then ``kv_cache``,
``scheduling``, ``simulation`` and ``engine``, with ``viz`` on top. Importing the package loads none
of them.
"""

__version__ = "0.1.0"
