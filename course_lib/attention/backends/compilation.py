"""Compiling a kernel for GPUs that are not there, which the interpreter cannot vouch for.

The interpreter accepts what no GPU can run: ``break``, a ``tl.dot`` in 16 bits that sums over eight
products, a tile too large for shared memory. The compiler needs no GPU, but it cannot run in a
process in which Triton was imported to interpret: there, Triton's own functions are interpreted
ones. So this file is also a program: a child process reads kernels as JSON, compiles them and
writes JSON back.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_lib.attention.backends.launch import Launch

CAPABILITIES = (80, 90, 100)
"""Compute capabilities, times ten: A100, H100 and H200, B200."""

_HEADER = "import triton\n\n\n"
_ALIGNMENT = 16
_LARGEST_INT32 = 2**31 - 1
CPU_SECONDS = 60
"""CPU time that compiling may take; a kernel of the course takes 1 to 4 s of it for three GPUs."""

TIMEOUT_SECONDS = 300.0
"""The same by the clock, for a machine that is busy with others."""


class KernelCompileError(Exception):
    """The compiler refuses a kernel; says for which GPU and why."""


class CompilerUnfinishedError(Exception):
    """The compiler came to no end in its time, so that nothing is known of the kernel."""


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel in the form that a GPU's driver loads.

    Attributes:
        name: The kernel's name.
        capability: The GPU's compute capability, times ten.
        ptx: NVIDIA's assembly language.
        shared_bytes: Shared memory that a program takes.
    """

    name: str
    capability: int
    ptx: str
    shared_bytes: int


def compile_launches(
    launches: Sequence[Launch], capabilities: Sequence[int] = CAPABILITIES
) -> list[CompiledKernel]:
    """Compile kernels for GPUs, to machine code, as these launches would need them.

    As when a kernel is started, an argument that is divisible by 16 is compiled as such: that is
    what lets the compiler read 16 bytes per thread.

    Args:
        launches: What to compile. A kernel may use modules, constants (``tl.constexpr``) and other
            functions under ``@triton.jit`` from where it was written.
        capabilities: For which GPUs.

    Returns:
        One result per launch and capability, the capabilities of the first launch first.

    Raises:
        KernelCompileError: The compiler refuses one of them, or its source is not at hand.
        CompilerUnfinishedError: It came to no end; says within which time.
    """
    request = {
        "kernels": [_describe(launch) for launch in launches],
        "capabilities": list(capabilities),
        "cpu_seconds": CPU_SECONDS,
    }
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_DEFAULT_FP_FUSION": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=json.dumps(request),
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CompilerUnfinishedError(
            f"compiling took longer than {TIMEOUT_SECONDS:g} s; run it again when the machine is "
            "less busy"
        ) from None
    if done.returncode == -signal.SIGXCPU:
        raise CompilerUnfinishedError(
            f"compiling took longer than {CPU_SECONDS} s of computing; is a loop unrolled many "
            "times, or a tile very large?"
        )
    if done.returncode:
        raise KernelCompileError(
            done.stderr.strip() or f"the compiler ended with {done.returncode}"
        )
    answers = json.loads(done.stdout)
    for answer in answers:
        if "error" in answer:
            raise KernelCompileError(
                f"{answer['name']} for compute capability {answer['capability'] / 10}: "
                f"{answer['error']}"
            )
    return [CompiledKernel(**answer) for answer in answers]


def _describe(launch: Launch) -> dict[str, Any]:
    """Return what the compiler has to know of a launch, in words that JSON can say."""
    constants = {name: _constant(value) for name, value in launch.constants.items()}
    types = {}
    aligned = []
    for index, name in enumerate(inspect.signature(launch.kernel.fn).parameters):
        value = launch.arguments[name]
        # Triton takes the number 1 for a constant: a stride of 1 is common and worth knowing.
        if name not in constants and isinstance(value, int) and value == 1:
            constants[name] = 1
        types[name] = "constexpr" if name in constants else _type(value)
        address = value.data_ptr() if hasattr(value, "data_ptr") else value
        if types[name] != "constexpr" and isinstance(address, int) and address % _ALIGNMENT == 0:
            aligned.append(index)
    return {
        "name": launch.name,
        "functions": _functions_of(launch.kernel.fn),
        "signature": types,
        "constants": constants,
        "aligned": aligned,
        "options": {"num_warps": launch.num_warps, "num_stages": launch.num_stages},
    }


def _functions_of(function: Any) -> list[dict[str, Any]]:
    """Describe a kernel and all functions that it calls, those that are called first.

    Each has the names that it uses in the module where it was written: modules by their names,
    constants by their values, functions by their place in the list.
    """
    described: list[dict[str, Any]] = []
    places: dict[Any, int] = {}

    def describe(function: Any) -> int:
        if function not in places:
            names: dict[str, Any] = {"modules": {}, "constants": {}, "called": {}}
            # An annotation, such as tl.constexpr, is no part of the code.
            language = {name for name, value in function.__globals__.items() if _is_language(value)}
            for name in sorted(language.union(function.__code__.co_names)):
                value = function.__globals__.get(name)
                if isinstance(value, ModuleType):
                    names["modules"][name] = value.__name__
                elif type(value).__name__ == "constexpr":
                    names["constants"][name] = _constant(value.value)
                elif hasattr(value, "fn"):
                    names["called"][name] = describe(value.fn)
            described.append({"name": function.__name__, "source": _source(function), **names})
            places[function] = len(described) - 1
        return places[function]

    describe(function)
    return described


def _is_language(value: Any) -> bool:
    return isinstance(value, ModuleType) and value.__name__ == "triton.language"


def _source(function: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except OSError as error:
        raise KernelCompileError(
            f"{function.__name__}: its source is not at hand; define it in a cell or a file"
        ) from error


def _constant(value: Any) -> Any:
    """Return a constant as JSON; a type of Triton's becomes its name in a list."""
    return value if isinstance(value, (int, float, str, type(None))) else [value.name]


def _type(value: Any) -> str:
    """Return Triton's name for the type of an argument."""
    if hasattr(value, "data_ptr"):
        names = {"float": "fp", "bfloat": "bf", "int": "i"}
        dtype = str(value.dtype).removeprefix("torch.")
        kind = dtype.rstrip("0123456789")
        return f"*{names[kind]}{dtype.removeprefix(kind)}"
    if isinstance(value, float):
        return "fp32"
    return "i32" if abs(value) <= _LARGEST_INT32 else "i64"


def _compile_all(request: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Compile every kernel for every capability; what goes wrong becomes part of the answer."""
    return [
        {"name": kernel["name"], "capability": capability}
        | _compile(kernel, capability, folder / f"kernel_{index}")
        for index, kernel in enumerate(request["kernels"])
        for capability in request["capabilities"]
    ]


def _compile(kernel: dict[str, Any], capability: int, path: Path) -> dict[str, Any]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    try:
        source = ASTSource(
            fn=_define(kernel["functions"], path),
            signature=kernel["signature"],
            constexprs={name: _value(value) for name, value in kernel["constants"].items()},
            attrs={(index,): [["tt.divisibility", _ALIGNMENT]] for index in kernel["aligned"]},
        )
        target = GPUTarget("cuda", capability, 32)
        compiled = triton.compile(source, target=target, options=kernel["options"])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"ptx": compiled.asm["ptx"], "shared_bytes": compiled.metadata.shared}


def _define(functions: list[dict[str, Any]], folder: Path) -> Any:
    """Define the functions, each in a module of its own, and return the last one."""
    from triton import language as tl

    folder.mkdir(exist_ok=True)
    defined: list[Any] = []
    for index, function in enumerate(functions):
        # A file, because Triton reads a kernel's source from where it was defined.
        path = folder / f"{function['name']}_{index}.py"
        path.write_text(_HEADER + function["source"], encoding="utf-8")
        module: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
        for name, imported in function["modules"].items():
            module[name] = importlib.import_module(imported)
        for name, value in function["constants"].items():
            module[name] = tl.constexpr(_value(value))
        for name, place in function["called"].items():
            module[name] = defined[place]
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module)
        defined.append(module[function["name"]])
    return defined[-1]


def _value(constant: Any) -> Any:
    """Return what ``_constant`` wrote down."""
    from triton import language as tl

    return tl.dtype(constant[0]) if isinstance(constant, list) else constant


def _limit_cpu(seconds: int) -> None:
    """Let the system end this process after so much computing."""
    # Imported here, because Windows, where this file is imported as well, has no such module.
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    _limit_cpu(asked["cpu_seconds"])
    with tempfile.TemporaryDirectory() as name:
        json.dump(_compile_all(asked, Path(name)), sys.stdout)
