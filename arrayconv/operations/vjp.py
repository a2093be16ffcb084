"""Reverse-mode derivatives of every operation on every library, by the same planned geometries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Backend, dtype_name, get_backend
from .call import Pullback
from .linear import RANK, known_call
from .table import Operation, bind, find_operation, linear_options

Array = Any


def vjp(op: Callable[..., Array], *arrays: Array, **options: Any) -> tuple[Array, Pullback]:
    """The result of ``op(*arrays, **options)``, and the function that takes its cotangent back to the arrays.

    For ``y = op(x, kernel)`` and a cotangent ``dy`` of y, ``pullback(dy)`` gives the dx and dk for which
    ``<dy, y'> == <dx, x'>`` and ``== <dk, kernel'>`` hold for every change x' or kernel' alone. One rule serves every
    library, NumPy too; it is exact in integers, and follows JAX's convention for complex numbers (nothing is
    conjugated). In JAX and PyTorch the libraries' own differentiation works as well.

    Args:
        op: a function of arrayconv.
        arrays: its array arguments, in order.
        options: its keyword options.

    Returns:
        ``(y, pullback)``; ``pullback(dy)``, with dy in y's shape, is a tuple of one cotangent an array, bias, offset
        and mask too, in its shape and dtype.

    Raises:
        TypeError: ``op`` is not a function of arrayconv, or a cotangent of another library.
        ValueError: a cotangent of another shape than y; what ``op`` itself raises.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> y, pullback = ac.vjp(ac.correlate, np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0]))
    >>> pullback(np.array([1.0, 0.0]))
    (array([ 1., 10.,  0.]), array([1., 2.]))
    """
    row = find_operation("vjp", op)
    return _checked(row, *_pull(row, bind("vjp", row, arrays, options)))


def vjp_parameters(op: Callable[..., Array], *arrays: Array, **options: Any) -> tuple[Array, Pullback]:
    """`vjp` of a linear operation for its kernel and bias alone: x's cotangent would take as long as the result."""
    row = find_operation("vjp", op)
    return _checked(row, *_pull(row, bind("vjp", row, arrays, options), data=False))


def _checked(row: Operation, y: Array, pullback: Pullback) -> tuple[Array, Pullback]:
    backend = get_backend(y)

    def checked(dy: Array) -> tuple[Array, ...]:
        check_cotangent(row.name, backend, y, dy)
        return pullback(dy)

    return y, checked


def _pull(row: Operation, arguments: dict[str, Any], *, data: bool = True) -> tuple[Array, Pullback]:
    if row.pull is not None:
        pulled: tuple[Array, Pullback] = row.pull(**arguments)
        return pulled
    assert row.read is not None
    x, kernel, bias = arguments["x"], arguments["kernel"], arguments.get("bias")
    options = linear_options(row, arguments)
    known, arrays = known_call(row.read, row.name, x, kernel, bias, arguments.get("dtype"), options, transposed=True)
    return known.call.pull(known.backend, *arrays, data=data)


def check_cotangent(op: str, backend: Backend, y: Array, dy: Array) -> None:
    """A cotangent must look like the result."""
    if not hasattr(dy, "dtype") or get_backend(dy) is not backend:
        raise TypeError(f"vjp: the cotangent of {op} must be an array of {backend.name}, got {type(dy).__name__}")
    if tuple(dy.shape) != tuple(y.shape):
        raise ValueError(f"vjp: the cotangent of {op} must have y's shape {tuple(y.shape)}, got {tuple(dy.shape)}")
    kinds = [dtype_name(array.dtype).rstrip("0123456789") for array in (dy, y)]
    if RANK[kinds[0]] > RANK[kinds[1]]:
        raise TypeError(
            f"vjp: the cotangent of {op} is {dtype_name(dy.dtype)}, y is {dtype_name(y.dtype)}, which can't hold it; "
            f"cast the cotangent, or take its real part"
        )
