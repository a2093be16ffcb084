"""The kernel of least squares in closed form."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any
from warnings import warn

import numpy as np

from ..arguments import read_flag, read_ints
from ..backend import get_backend
from ..operations.correlate import correlate
from .descent import QUIETLY, Fit, lifted
from .gram import Gram, check_gram, read_design
from .optimizers import read_scalar
from .quadratic import Quadratic, minimum, normal_equations, quadratic
from .regression import MAGNITUDES, Params, by_numpy, learnable, regression

Array = Any


def solve_kernel(
    x: Array,
    y: Array,
    kernel_shape: tuple[int, ...],
    *,
    op: Callable[..., Array] = correlate,
    ridge: float = 0.0,
    bias: bool = False,
    **op_options: Any,
) -> Fit:
    """The kernel of least squares: ``sum |op(x, kernel) + bias - y|^2 + ridge * sum |kernel|^2`` is least.

    From the normal equations (`gram`) by the eigenvectors of their matrix, and one step of iterative refinement. Where
    the data don't determine a kernel this is the best one of least norm: a direction whose eigenvalue may be all
    rounding, below ``D^2 eps`` of the matrix's largest element for a kernel of D numbers, counts as free.

    Args:
        x, y, kernel_shape, op, bias, op_options: as in `learn_kernel`.
        ridge: weight of the squared norm of the kernel, not of the bias.

    Returns:
        `Fit`: ``loss`` is the sum of squared errors of the kernel returned, ``losses`` has shape ``(0,)``, ``steps``
        is 0.

    Warns:
        UserWarning: without a ridge, where data don't determine the kernel; under a transformation nothing warns.

    Raises:
        TypeError, ValueError: as `learn_kernel`, for a ``ridge`` below 0, and where the loss is not finite.

    >>> import numpy as np, arrayconv as ac
    >>> x = np.random.default_rng(0).normal(size=(20, 30))
    >>> kernel = np.array([[1.0, 2.0], [-1.0, 0.5]])
    >>> ac.solve_kernel(x, ac.correlate(x, kernel), (2, 2)).kernel.round(9)
    array([[ 1. ,  2. ],
           [-1. ,  0.5]])
    """
    caller = "solve_kernel"
    shape = read_ints(caller, "kernel_shape", kernel_shape, 1)
    ridge = read_scalar(caller, "ridge", ridge, minimum=0)
    problem, _ = regression(caller, op, x, y, Params(None), "sum", op_options)
    problem, dtype = learnable(problem)
    like = problem.x
    if not problem.backend.is_traced(ridge):
        ridge = float(ridge)
        problem, _, dtype = by_numpy(problem, Params(None), dtype)
    design, reading = read_design(problem, shape, read_flag(caller, "bias", bias), dtype)
    return _solve(caller, normal_equations(problem, design, reading, "sum"), ridge, dtype, like)


def solve_from(gram: Gram, *, ridge: float = 0.0) -> Fit:
    """`solve_kernel` from the normal equations of its data; the loss is known to some ``eps |y|^2``.

    >>> import numpy as np, arrayconv as ac
    >>> x = np.arange(6.0) ** 2
    >>> gram = ac.gram(ac.correlate, x, 3 * x[1:] - x[:-1] + 5, (2,), bias=True)
    >>> fit = ac.solve_from(gram)
    >>> fit.kernel.round(6), round(float(fit.bias), 6)
    (array([-1.,  3.]), 5.0)
    """
    check_gram("solve_from", gram)
    backend = get_backend(gram.matrix)
    ridge = read_scalar("solve_from", "ridge", ridge, minimum=0)
    return _solve("solve_from", quadratic(gram, "sum"), ridge, backend.dtype(gram.design.dtype), gram.matrix)


@QUIETLY
def _solve(caller: str, own: Quadratic, ridge: Any, dtype: Any, like: Array) -> Fit:
    """The minimum, as arrays of ``like``'s library."""
    backend, design = own.backend, own.design
    rows, rank = minimum(own, ridge)
    params = design.params(backend, rows, dtype)
    loss_dtype = backend.dtype(MAGNITUDES.get(design.learned_in, design.learned_in))
    loss = backend.cast(own.value(params), loss_dtype)
    if not backend.is_traced(loss):
        _check(caller, float(loss), ridge, int(rank), own.matrix.shape[-1] - design.bias)
    losses = backend.from_numpy(np.zeros(0), own.square)
    fit: Fit = lifted(Fit(params.kernel, params.bias, backend.cast(losses, loss_dtype), loss, 0), backend, like)
    return fit


def _check(caller: str, loss: float, ridge: Any, rank: int, size: int) -> None:
    """What an eager call says of its data."""
    if not isfinite(loss):
        raise ValueError(
            f"{caller}: loss is {loss}; x or y holds values that are not finite, or too large for their dtype: replace "
            f"or scale them"
        )
    if rank < size and float(ridge) == 0:
        warn(
            f"{caller}: the data determine {rank} of the {size} numbers of an output channel's kernel; this is the "
            f"best kernel of least norm: give more data, or data that vary more, or a ridge",
            UserWarning,
            stacklevel=5,
        )
