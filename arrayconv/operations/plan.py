"""Asking the planner: what a call would run, at what cost, and why not otherwise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, prod
from operator import is_
from typing import Any

from ..algorithms import ALGORITHMS
from ..arguments import is_sequence, read_ints
from ..backend import Backend, Steps, dtype_name, get_backend, installed_libraries, library_backend, sign_arrays
from ..gather import gather_arrays
from ..planner import current_settings, options
from ..program import ITEM_SIZES, Program
from .call import LinearCall
from .linear import known_call, plan_call, read_dtype
from .table import bind, find_operation, linear_options

Array = Any


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned call: printed, it is the planner's table; called with arrays of its shapes, it runs.

    Attributes:
        operation: the name of the operation.
        shapes: those of x, kernel and, where there is one, bias.
        dtypes: those of the same arrays.
        output_shape: of the result.
        program: geometry, algorithm, tiles and settings, all static.
    """

    operation: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    output_shape: tuple[int, ...]
    program: Program
    call: LinearCall
    backend: Backend
    _bound: dict[Hashable, Steps] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what runs arrays like those that were checked once, by their signatures."""
        fields = self.operation, self.shapes, self.dtypes, self.output_shape, self.program, self.call, self.backend
        return Plan, fields

    @property
    def dtype(self) -> str:
        """Of the result."""
        return dtype_name(self.call.dtype)

    @property
    def algorithm(self) -> str:
        """The name of the algorithm that runs."""
        return self.program.algorithm

    def __call__(self, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        """The operation on arrays of the planned library, shapes and dtypes; NumPy constants are adopted."""
        signed = sign_arrays(x, kernel, bias)
        steps = None if signed is None else self._bound.get(signed)
        if steps is None:
            arrays = self._gather(x, kernel, bias)
            steps = partial(self.call.run, self.backend)
            if signed is not None and all(map(is_, arrays, (x, kernel, bias))):
                steps = self._bound[signed] = self.call.bind(self.backend, *arrays)
            x, kernel, bias = arrays
        return steps(x, kernel) if bias is None else steps(x, kernel, bias)

    def _gather(self, x: Array, kernel: Array, bias: Array | None) -> list[Array]:
        """The arrays of the plan's library, if they are like those that it was made for."""
        given = [(name, array) for name, array in zip(_NAMES, (x, kernel, bias), strict=True) if array is not None]
        for (name, array), dtype in zip(given, self.dtypes, strict=False):
            owner = get_backend(array).name if hasattr(array, "dtype") else None
            if owner not in (self.backend.name, "numpy") or (owner == self.backend.name) > (
                dtype_name(array.dtype) == dtype
            ):
                raise TypeError(f"plan: {name} must be a {dtype} array of {self.backend.name}; plan again for it")
        found = tuple(tuple(array.shape) for _, array in given)
        if found != self.shapes:
            raise ValueError(f"plan: planned for shapes {self.shapes}, got {found}; plan again for other shapes")
        backend, arrays = gather_arrays("plan", _NAMES, (x, kernel, bias))
        if backend is not self.backend:
            raise TypeError(
                f"plan: one array at least must be of {self.backend.name}, got {backend.name} only; plan again"
            )
        return arrays

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
        for row in sorted(options(problem, self.backend, laid=self.call.laid), key=lambda row: row.rank):
            if row.name == "empty" and not row.serves:
                continue
            mark = "*" if row.name == self.algorithm else " "
            time = f"{format_seconds(row.seconds)}{' measured' if row.measured else ''}"
            lines.append(f"{mark} {row.name:<11} {row.reason if row.seconds == inf else time}")
        return "\n".join(lines)


def describe(program: Program) -> str:
    """The algorithm, and those of a rewrite's parts, and the one in its place where values rule it out."""
    names = sorted({part.algorithm for part in program.parts})
    own = f"{program.algorithm} of {len(program.parts)} ({', '.join(names)})" if names else program.algorithm
    if program.otherwise is None:
        return own
    condition = ALGORITHMS[program.algorithm].condition.format(program=program)
    return f"{own} {condition}, else {describe(program.otherwise)}"


def format_seconds(seconds: float) -> str:
    """Three digits in the unit that suits."""
    for unit, scale in (("s ", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:10.3g} {unit}"
    return f"{seconds * 1e6:10.3g} us"


def plan(
    op: Callable[..., Any],
    *shapes_or_arrays: Any,
    dtype: Any = "float32",
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
    return make_plan("plan", op, shapes_or_arrays, dtype, library, device, op_options)[0]


def make_plan(
    caller: str,
    op: Callable[..., Any],
    shapes_or_arrays: Sequence[Any],
    dtype: Any,
    library: str,
    device: str,
    op_options: Mapping[str, Any],
) -> tuple[Plan, list[Array]]:
    """`plan` for other callers, whose name errors bear; also the arrays as the call takes them, none of shapes."""
    row = find_operation(caller, op)
    if row.read is None:
        raise TypeError(f"{caller}: {row.name} is not planned, it runs one way; {caller} one of the linear operations")
    arguments = bind(caller, row, shapes_or_arrays, op_options)
    options = linear_options(row, arguments)
    given = {name: arguments[name] for name in _NAMES if arguments.get(name) is not None}
    if all(hasattr(part, "dtype") for part in given.values()):
        x, kernel, bias = map(given.get, _NAMES)
        (call, backend, _), gathered = known_call(row.read, row.name, x, kernel, bias, None, options)
        arrays = [array for array in gathered if array is not None]
        shapes = tuple(tuple(array.shape) for array in arrays)
        dtypes = tuple(dtype_name(array.dtype) for array in arrays)
    else:
        arrays, backend = [], _library(caller, library)
        shapes = tuple(_shape(caller, name, part) for name, part in given.items())
        own = read_dtype(caller, dtype, backend, [])
        dtypes = (dtype_name(own),) * len(shapes)
        third = (shapes[2], own) if len(shapes) > 2 else (None, None)
        key = (row.read, row.name, library, device, shapes[0], own, shapes[1], own, *third, own, False, False)
        call = plan_call(current_settings(), *key, *options)
    return Plan(row.name, shapes, dtypes, call.y_layout.shape, call.program, call, backend), arrays


_NAMES = ("x", "kernel", "bias")


def _library(caller: str, name: str) -> Backend:
    try:
        return library_backend(name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        known = ", ".join(installed_libraries())
        raise ValueError(f"{caller}: library={name!r} is not one of those installed here: {known}") from error


def _shape(caller: str, name: str, part: Any) -> tuple[int, ...]:
    shape = part.shape if hasattr(part, "dtype") else part
    if not is_sequence(shape):
        raise TypeError(f"{caller}: expected a shape or an array, got {part!r} for {name}")
    return read_ints(caller, name, shape, 0)
