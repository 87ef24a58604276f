"""How the kernels of the per-event path are compiled: `kernel` what Python calls, `part` the rest.

Numba compiles every function as if Python might call it: with two wrappers that take it apart,
optimised, and made machine code of; and then all of it once more in each function that calls it.
The 190 functions here took 48 s so. A `part` is translated only; it is optimised and made machine
code of in the kernels that it is a part of. (Numba's own inlining, `inline="always"`, took longer
than all that it saved: 120 instead of 75 s on the same busy machine.)
"""

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

Function = TypeVar("Function", bound=Callable[..., Any])

_REFUSE: Any = ctypes.pythonapi.PyErr_BadArgument  # sets a TypeError and returns null


class _Engine:
    """Stands for the code generator of what isn't made machine code of: it has no environment."""

    def set_env(self, name: str, environment: object) -> None:
        """Do nothing."""


class _PartLibrary(JITCodeLibrary):
    """A part's code, that is only there to be linked into kernels."""

    @property
    def codegen(self) -> _Engine:
        return _Engine()

    def get_pointer_to_function(self, name: str) -> int:
        """Return what Python calls if it calls a part: TypeError."""
        finish: Any = self._ensure_finalized
        finish()
        return int(ctypes.cast(_REFUSE, ctypes.c_void_p).value or 0)

    def _optimize_final_module(self) -> None:
        """Leave that to the kernels."""

    def _finalize_final_module(self) -> None:
        note: Any = self._finalize_dynamic_globals
        note()
        self._finalized = True


class _PartCompiler(Compiler):
    """Numba's own passes, with a `_PartLibrary` for the result."""

    def compile_extra(self, function: Callable[..., Any]) -> Any:
        """Compile a function."""
        library: Any = _PartLibrary
        compiler: Any = super()
        self.state.library = library(self.state.targetctx.codegen(), function.__qualname__)
        return compiler.compile_extra(function)


_KERNEL: dict[str, Any] = {"_nrt": False, "no_cfunc_wrapper": True}
_PART: dict[str, Any] = {
    **_KERNEL, "no_cpython_wrapper": True, "pipeline_class": _PartCompiler
}  # fmt: skip


def kernel(function: Function) -> Function:
    """Compile a function that makes no arrays of its own, without reference counting.

    Numba counts a reference, atomically, for each array at each call of one kernel by another.
    Nobody can free the arrays while a kernel runs: its caller holds them all. Without the counts
    (`_nrt=False`, an option that Numba keeps for itself) batches of 512 took 5.9 to 7.1 instead
    of 10.6 us an event. A kernel that makes an array can't be compiled so; it says
    `njit(cache=True)` itself.
    """
    return cast(Function, njit(cache=True, **_KERNEL)(function))


def part(function: Function) -> Function:
    """Compile a function that kernels call, and Python never does."""
    return cast(Function, njit(cache=False, **_PART)(function))


def inlined(function: Function) -> Function:
    """Compile a part that LLVM puts into each place where it is called.

    A call hands over seven numbers for each array: without such calls for every field, scanning a
    transaction of 340 bytes took 0.33 instead of 0.55 us.
    """
    return cast(Function, njit(cache=False, forceinline=True, **_PART)(function))
