"""What the interpreter of Triton 3.6 lacks beside NumPy 2.4 and later.

The course installs Triton 3.9. PyTorch for a GPU may bring 3.6, whose compiler does all that the
kernels need; its interpreter makes a bound of a loop, as in ``range(0, context_len, TILE)``, from
an array of one number, which NumPy has refused since 2.4.
"""

from __future__ import annotations

from typing import Any

import triton
from triton.runtime import interpreter

FIRST_WITHOUT_NEED = (3, 9)


def let_tensors_bound_loops() -> None:
    """Have the interpreter turn a number of a kernel into one of Python; done once is enough."""
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    patch_tensors = interpreter._patch_lang_tensor
    if version >= FIRST_WITHOUT_NEED or hasattr(patch_tensors, "patched_here"):
        return

    def patch(tensor: Any, scope: Any) -> None:
        patch_tensors(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    patch.patched_here = True  # type: ignore[attr-defined]
    interpreter._patch_lang_tensor = patch
