"""Losses with their gradients: ``f(y_hat, y) -> (value, gradient)``.

The gradient has y_hat's shape and points along the steepest ascent, so ``y_hat - rate * gradient`` descends; for
complex arrays it is what PyTorch calls ``grad``, the conjugate of what `jax.grad` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from ..arguments import read_word
from ..backend import dtype_name, get_backend

Array = Any
Loss = Callable[[Array, Array], tuple[Array, Array]]

#: Squared losses ``weight(n) * sum |y_hat - y|^2`` by their word; n counts the elements of y, or is 1 for none.
WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda n: 1.0,
    "mean": lambda n: 1 / n,
}


def squared_loss(word: str) -> Loss:
    """The loss of a row of `WEIGHTS`; half precision is squared and summed in float32."""

    def loss(y_hat: Array, y: Array) -> tuple[Array, Array]:
        backend = get_backend(y_hat)
        error = y_hat - y
        weight = WEIGHTS[word](max(1, prod(error.shape)))
        wide = backend.cast(error, backend.dtype("float32")) if "16" in dtype_name(error.dtype) else error
        return weight * backend.xp.sum(abs(wide) ** 2), 2 * weight * error

    return loss


def read_loss(op: str, loss: Any) -> Loss:
    """A word's loss, or the caller's own function with its answer checked."""
    if callable(loss):
        return _checked(op, loss)
    if not isinstance(loss, str):
        raise TypeError(
            f"{op}: loss must be {' or '.join(map(repr, WEIGHTS))} or a function f(y_hat, y) -> (value, gradient), "
            f"got {loss!r}"
        )
    return squared_loss(read_word(op, "loss", loss, WEIGHTS))


def _checked(op: str, loss: Callable[..., Any]) -> Loss:
    def checked(y_hat: Array, y: Array) -> tuple[Array, Array]:
        answer = loss(y_hat, y)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise TypeError(f"{op}: loss must return the pair (value, gradient), got {type(answer).__name__}")
        value, gradient = answer
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"{op}: loss must return one number as value, got shape {tuple(value.shape)}; sum it")
        if tuple(getattr(gradient, "shape", ())) != tuple(y_hat.shape):
            raise ValueError(
                f"{op}: loss returned a gradient of shape {tuple(getattr(gradient, 'shape', ()))}, y_hat has "
                f"{tuple(y_hat.shape)}; return the derivative by y_hat, element by element"
            )
        return value, gradient

    return checked
