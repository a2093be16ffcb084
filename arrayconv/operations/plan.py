"""Asking the planner: what a call would run, at what cost, and why not otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod
from typing import Any

from ..backend import Backend, dtype_name, get_backend, installed_libraries, library_backend
from ..planner import current_settings, options
from ..program import ITEM_SIZES, Program
from .linear import LinearCall, plan_call, read_dtype
from .table import bind, find_operation, linear_options

Array = Any


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned call: printed, it is the planner's table; called with arrays of its shapes, it runs.

    Attributes:
        operation: the name of the operation.
        shapes: those of x, kernel and, where there is one, bias.
        dtype: of the arrays.
        output_shape: of the result.
        program: geometry, algorithm, tiles and settings, all static.
    """

    operation: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    output_shape: tuple[int, ...]
    program: Program
    call: LinearCall
    backend: Backend

    @property
    def algorithm(self) -> str:
        """The name of the algorithm that runs."""
        return self.program.algorithm

    def __call__(self, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        """The operation on arrays of the planned library, shapes and dtype."""
        arrays = [array for array in (x, kernel, bias) if array is not None]
        for name, array in zip(("x", "kernel", "bias"), arrays, strict=False):
            if get_backend(array) is not self.backend or dtype_name(array.dtype) != self.dtype:
                raise TypeError(f"plan: {name} must be a {self.dtype} array of {self.backend.name}; plan again for it")
        found = tuple(tuple(array.shape) for array in arrays)
        if found != self.shapes:
            raise ValueError(f"plan: planned for shapes {self.shapes}, got {found}; plan again for other shapes")
        return self.call.run(self.backend, x, kernel, bias)

    def __str__(self) -> str:
        problem, geometry = self.program.problem, self.program.geometry
        shapes = " x ".join(str(shape) for shape in self.shapes)
        arrays = (geometry.x_shape, geometry.kernel_shape, geometry.y_shape)
        size = sum(prod(shape) for shape in arrays) * ITEM_SIZES[problem.dtype]
        lines = [
            f"{self.operation} {shapes} -> {self.output_shape}, {self.dtype} on {self.backend.name} ({problem.device})",
            f"  multiply-adds  {geometry.multiply_adds:,}",
            f"  bytes          {size:,} of arguments and result",
            f"  workspace      {self.program.workspace:,} of {problem.settings.workspace:,}",
            f"  accuracy       {problem.settings.accuracy}",
            f"  algorithm      {describe(self.program)}",
            "",
            "  algorithm   estimate",
        ]
        rows = options(problem, self.backend)
        for row in sorted(rows, key=lambda row: row.seconds):
            if row.name == "empty" and row.program is None:
                continue
            mark = "*" if row.name == self.algorithm else " "
            lines.append(f"{mark} {row.name:<11} {row.reason if row.seconds == inf else format_seconds(row.seconds)}")
        return "\n".join(lines)


def describe(program: Program) -> str:
    """The algorithm, and those of a rewrite's parts."""
    names = sorted({part.algorithm for part in program.parts})
    return f"{program.algorithm} of {len(program.parts)} ({', '.join(names)})" if names else program.algorithm


def format_seconds(seconds: float) -> str:
    """Three digits in the unit that suits."""
    for unit, scale in (("s ", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:10.3g} {unit}"
    return f"{seconds * 1e6:10.3g} us"


def plan(
    op: Callable[..., Any],
    *shapes_or_arrays: Any,
    dtype: str = "float32",
    library: str = "numpy",
    device: str = "cpu",
    **op_options: Any,
) -> Plan:
    """How ``op`` would run on arrays of these shapes: nothing is computed.

    Args:
        op: a linear operation of arrayconv, such as `conv`.
        shapes_or_arrays: for x, kernel and possibly bias, a shape, or an array of which only shape, dtype and library
            are read.
        dtype: of the arrays, where shapes are given.
        library: the arrays' library, where shapes are given.
        device: ``"cpu"``, or the kind of accelerator as the library calls it.
        op_options: the operation's keyword options.

    Raises:
        TypeError: an ``op`` that is no linear operation, or an unknown dtype.
        ValueError: an unknown library, and what ``op`` itself would raise.

    >>> import arrayconv as ac
    >>> p = ac.plan(ac.conv, (8, 64, 56, 56), (64, 64, 3, 3), stride=2)
    >>> p.output_shape, p.program.geometry.multiply_adds
    ((8, 64, 27, 27), 214990848)
    """
    row = find_operation("plan", op)
    if row.read is None:
        raise TypeError(f"plan: {row.name} is not planned, it runs one way; plan one of the linear operations")
    arguments = bind("plan", row, shapes_or_arrays, op_options)
    given = [arguments.pop(name) for name in ("x", "kernel", "bias") if name in arguments]
    arrays = [part for part in given if hasattr(part, "dtype")]
    if arrays:
        backend = get_backend(arrays[0])
        library, dtype, device = backend.name, dtype_name(arrays[0].dtype), backend.device_kind(arrays[0])
    backend = _library(library)
    shapes = tuple(_shape(part) for part in given)
    own = read_dtype("plan", dtype, backend, [])
    bias = (shapes[2], own) if len(shapes) > 2 else (None, None)
    key = (row.read, row.name, library, device, shapes[0], own, shapes[1], own, *bias, own, False, False)
    call: LinearCall = plan_call(current_settings(), *key, *linear_options(row, arguments))
    return Plan(row.name, shapes, dtype, call.y_layout.shape, call.program, call, backend)


def _library(name: str) -> Backend:
    try:
        return library_backend(name)
    except (ImportError, AttributeError) as error:
        known = ", ".join(installed_libraries())
        raise ValueError(f"plan: library={name!r} is not one of those installed here: {known}") from error


def _shape(part: Any) -> tuple[int, ...]:
    shape = part.shape if hasattr(part, "dtype") else part
    try:
        return tuple(int(n) for n in shape)
    except TypeError as error:
        raise TypeError(f"plan: expected a shape or an array, got {part!r}") from error
