"""The normal equations of a kernel: all that a squared loss needs to know of the data, in one pass over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arguments import read_flag, read_ints, read_word
from ..backend import Backend, dtype_name
from ..geometry import Geometry
from ..layout import Layout
from ..operations.linear import WORDS, Options, Reading
from ..operations.table import OPERATIONS, bind, linear_options
from ..planner import current_settings
from .descent import QUIETLY
from .moments import Moments
from .regression import LEARNED_IN, MAGNITUDES, Params, Regression, bias_shape, learnable
from .regression import regression as read_regression
from .sums import gather

Array = Any

#: The type in which products of a type are summed, where the library has it.
WIDER = {"float32": "float64", "complex64": "complex128"}

#: Bytes of windows that are copied at once: about what the second cache of a CPU's core holds.
TILE = 2**22


class Design(NamedTuple):
    """Which windows make the columns of W: everything about a `Gram` but its numbers. It hashes.

    ``layout`` takes the kernel to ``(G * O, I, *window)``; ``dtype`` is that of the kernels to be returned.
    """

    op: str
    kernel_shape: tuple[int, ...]
    bias: bool
    options: Options
    dtype: str
    layout: Layout

    @property
    def learned_in(self) -> str:
        """The name of the type that parameters have while they are learned."""
        return LEARNED_IN.get(self.dtype, self.dtype)

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return self.layout.result[0] // int(self.options.groups)

    def rows(self, backend: Backend, params: Params, dtype: Any) -> Array:
        """Parameters as ``(G, O, D)``: a row for each output channel, its bias at the end."""
        xp, (kernel, bias) = backend.xp, params
        kernel = backend.cast(self.layout.apply(xp, kernel), dtype)
        rows = xp.reshape(kernel, (-1, self.outputs, prod(self.layout.result[1:])))
        if bias is None:
            return rows
        return xp.concat([rows, xp.reshape(backend.cast(bias, dtype), (-1, self.outputs, 1))], axis=2)

    def params(self, backend: Backend, rows: Array, dtype: Any) -> Params:
        """`rows` undone."""
        xp, bias = backend.xp, None
        if self.bias:
            shape = bias_shape(OPERATIONS[self.op].function, self.kernel_shape, self.options._asdict())
            bias, rows = backend.cast(xp.reshape(rows[:, :, -1], shape), dtype), rows[:, :, :-1]
        kernel = self.layout.undo(xp, xp.reshape(rows, self.layout.result))
        return Params(backend.cast(kernel, dtype), bias)


@dataclass(frozen=True, eq=False)
class Gram:
    """The normal equations of a kernel for some data, made by `gram`; those of several batches add up.

    Let W be the matrix whose row for an output is the window of x under it, for a bias with a 1 at its end. The sum of
    squared errors of a kernel k is ``|y|^2 - 2 Re <k, W^H y> + <k, W^H W k>``: three sums over the data, which then are
    not needed any more. In JAX a `Gram` is a pytree whose leaves add up, so that `jax.lax.psum` adds Grams too.

    Attributes:
        matrix: ``W^H W``, ``(G, D, D)`` for D numbers of a kernel and bias in each of G groups; all output channels of
            a group share it.
        vector: ``W^H y`` as ``(G, O, D)``, a row for each of the O output channels of a group.
        square: ``|y|^2``, ``()``.
        count: the elements of y, ``()``.
        design: operation, options, shape and type of the kernel; static.

    Sums and transforms are of double precision where the library has it, and lazy where the library is. What is not
    finite in one window may reach all sums. A loss is their difference, so it is known to some ``eps |y|^2`` and no
    better: eps is 2e-16, or 1e-7 in JAX without 64-bit types. `learn_kernel` and `solve_kernel`,
    who have the data, do better where these are of as high a precision as the sums.

    ``+`` raises `ValueError` where designs differ.
    """

    matrix: Array
    vector: Array
    square: Array
    count: Array
    design: Design

    def __add__(self, other: Gram) -> Gram:
        if not isinstance(other, Gram):
            return NotImplemented
        for field, own, its in zip(Design._fields, self.design, other.design, strict=True):
            if own != its:
                raise ValueError(
                    f"Gram: {field} is {own} on the left and {its} on the right of +; "
                    f"add Grams of one operation with one set of options, one kernel shape and one dtype"
                )
        leaves = {name: getattr(self, name) + getattr(other, name) for name in LEAVES}
        return Gram(**leaves, design=self.design)

    def __radd__(self, other: Any) -> Gram:
        """`sum` starts at 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented


#: The arrays of a `Gram`.
LEAVES = ("matrix", "vector", "square", "count")


def check_gram(caller: str, gram: Any) -> None:
    """None but a `Gram` will do."""
    if not isinstance(gram, Gram):
        raise TypeError(f"{caller}: gram must be a Gram, got {type(gram).__name__}; make one by ac.gram(op, x, y, ...)")


def gram(
    op: Callable[..., Array],
    x: Array,
    y: Array,
    kernel_shape: tuple[int, ...],
    *,
    bias: bool = False,
    **op_options: Any,
) -> Gram:
    """The normal equations of the kernel with which ``op(x, kernel) + bias`` comes close to ``y``: one pass over data.

    `learn_from` and `solve_from` take them from there, so data that don't fit into memory may come batch by batch. The
    pass takes about as long as one or two steps of gradient descent: products of tiles of windows or, for long windows
    and a stride of 1, Fourier transforms with exact terms for the edges, whichever is less work for these shapes.
    Dask's arrays stay lazy: each chunk gives its own sums, a tree adds them up.

    Args:
        op: `correlate`, `convolve`, `conv` or `conv_transpose`.
        x, y, kernel_shape, bias, op_options: as in `learn_kernel`. ``dtype`` is refused, ``algorithm`` without effect.

    Returns:
        `Gram`. PyTorch records no graph for it; JAX batches and differentiates it.

    Raises:
        TypeError, ValueError: as `learn_kernel`.

    >>> import numpy as np, arrayconv as ac
    >>> x, kernel = np.random.default_rng(0).normal(size=(2, 1000)), np.array([1.0, -2.0])
    >>> first, second = (ac.gram(ac.correlate, row, ac.correlate(row, kernel), (2,)) for row in x)
    >>> ac.solve_from(first + second).kernel.round(6)
    array([ 1., -2.])
    """
    shape = read_ints("gram", "kernel_shape", kernel_shape, 1)
    problem, _ = read_regression("gram", op, x, y, Params(None), "sum", op_options)
    problem, dtype = learnable(problem)
    return make_gram(problem, *read_design(problem, shape, read_flag("gram", "bias", bias), dtype))


def read_design(problem: Regression, shape: tuple[int, ...], bias: bool, dtype: Any) -> tuple[Design, Reading]:
    """What the options mean for these shapes; ``dtype`` is the kernel's."""
    row, caller = OPERATIONS[problem.op.__name__], problem.caller
    assert row.read is not None
    arguments = bind(caller, row, (problem.x, None), problem.options)
    if arguments.get("dtype") is not None:
        raise ValueError(
            f"{caller}: dtype={arguments['dtype']!r} has no place in normal equations, which are summed in double "
            f"precision; cast x and y instead"
        )
    options = linear_options(row, arguments)
    for name, words in WORDS.items():
        read_word(caller, name, getattr(options, name), words)
    reading = row.read(caller, tuple(problem.x.shape), shape, options)
    _, layout, y_layout, _, _ = reading
    problem.check_y(shape, y_layout.shape)
    return Design(row.name, shape, bias, options._replace(algorithm="auto"), dtype_name(dtype), layout), reading


def accumulator_of(backend: Backend, dtype: Any) -> str:
    """The name of the type that products of ``dtype`` are summed in."""
    name = dtype_name(dtype)
    return WIDER[name] if name in WIDER and backend.dtype(WIDER[name]) is not None else name


def moments_of(problem: Regression, geometry: Geometry, bias: bool) -> Moments:
    """What to sum over the windows of these arrays, within the memory that the settings give."""
    backend, room = problem.backend, current_settings().workspace
    is_unrolled = backend.scan is not None or backend.device_kind(problem.x) != "cpu"
    tile = room // 4 if is_unrolled else min(TILE, room // 4)
    accumulator = accumulator_of(backend, problem.x.dtype)
    return Moments(geometry.groups, geometry.inputs, geometry.outputs, bias, accumulator, tile, room, is_unrolled)


@QUIETLY
def make_gram(problem: Regression, design: Design, reading: Reading) -> Gram:
    """`gram` of arrays that were gathered and cast."""
    backend = problem.backend
    xp = backend.xp
    x_layout, _, y_layout, pieces, geometry = reading
    what = moments_of(problem, geometry, design.bias)

    def total(x: Array, y: Array) -> Array:
        x = x_layout.apply(xp, x)
        if pieces is not None:
            x = backend.pad_runs(x, pieces)
        return backend.sum_windows(gather, what, backend, geometry.axes, x, y_layout.apply(xp, y))

    sums = backend.replicated(total, problem.x, problem.y)
    matrix, vector, square = what.split(xp, geometry.axes, sums)
    square = xp.real(square) if "complex" in what.accumulator else square
    real = MAGNITUDES.get(what.accumulator, what.accumulator)
    count = backend.from_numpy(np.asarray(prod(y_layout.shape), real), square)
    backend.register(Gram, LEAVES, ("design",))
    return Gram(matrix, vector, square, count, design)
