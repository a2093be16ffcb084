"""A squared loss as a function of the kernel alone: its value, gradient, curvature and minimum, from a `Gram`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend, dtype_name, get_backend, library_backend
from ..operations.linear import Reading
from .descent import QUIETLY
from .gram import LEAVES, Design, Gram, accumulator_of, make_gram
from .losses import WEIGHTS, squared_loss
from .optimizers import tree_map
from .regression import Params, Regression

Array = Any


class Quadratic(NamedTuple):
    """``weight * (|r|^2 - 2 Re <d, W^H r> + <d, W^H W d>)`` with ``d = k - center`` and ``r = y - W center``.

    With a center of 0 (None) the terms cancel near the minimum, down to the error of the sums, some ``eps |y|^2``. With
    one near the minimum the first term alone is left there. ``dtype`` is that of the parameters.
    """

    backend: Backend
    design: Design
    dtype: Any
    weight: Any
    matrix: Array
    vector: Array
    square: Array
    center: Array | None = None

    def loss_and_grad(self, params: Params) -> tuple[Array, Params]:
        """The loss of ``params`` and the direction in which it grows fastest, in the shapes of ``params``."""
        loss, slope = self._expand(params)
        return loss, self.design.params(self.backend, 2 * self.weight * slope, self.dtype)

    def value(self, params: Params) -> Array:
        """The loss of ``params``."""
        return self.backend.xp.asarray(self._expand(params)[0])

    def split(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Its fields: first those that hash, then arrays."""
        return self[:3], self[3:]

    def _expand(self, params: Params) -> tuple[Array, Array]:
        """The loss, and ``W^H W d - W^H r`` as rows; what rounding leaves below zero is zero."""
        xp = self.backend.xp
        rows = self.design.rows(self.backend, params, self.matrix.dtype)
        if self.center is not None:
            rows = rows - self.center
        slope = _times(self.backend, rows, self.matrix) - self.vector
        change = _conj(self.backend, rows) * (slope - self.vector)
        if "complex" in dtype_name(change.dtype):
            change = xp.real(change)
        square = self.square + xp.sum(change)
        return self.weight * xp.maximum(square, xp.zeros_like(square)), slope

    def curvature(self) -> Array:
        """The greatest eigenvalue of the loss's Hessian."""
        return 2 * self.weight * _by_numpy(self.backend, _greatest, self.matrix)


def quadratic(gram: Gram, loss: str) -> Quadratic:
    """The loss of this word; of lazy arrays in memory."""
    matrix, vector, square, count = get_backend(gram.matrix).local([getattr(gram, name) for name in LEAVES])
    backend = get_backend(matrix)
    some = backend.xp.where(count > 0, count, backend.xp.ones_like(count))
    dtype = backend.dtype(gram.design.learned_in)
    return Quadratic(backend, gram.design, dtype, WEIGHTS[loss](some), matrix, vector, square)


@QUIETLY
def normal_equations(problem: Regression, design: Design, reading: Reading, loss: str) -> Quadratic:
    """The loss of this word on these data."""
    return _centered(quadratic(make_gram(problem, design, reading), loss), problem)


def _centered(own: Quadratic, problem: Regression) -> Quadratic:
    """``own`` about its minimum, where its numbers are of no higher precision than the data; costs one more pass."""
    if accumulator_of(problem.backend, problem.x.dtype) != dtype_name(problem.x.dtype):
        return own
    backend, design = own.backend, own.design
    rows, _ = minimum(own, 0.0)
    # The loss is the same about any center, so it has no derivative by it.
    start = design.params(backend, backend.constant(rows), own.dtype)

    def expand(x: Array, y: Array, params: Params) -> tuple[Array, Params]:
        return problem._replace(x=x, y=y, loss=squared_loss("sum")).loss_and_grad(params)

    value, grads = problem.backend.replicated(expand, problem.x, problem.y, start)
    square, *parts = problem.backend.local([value, *(part for part in grads if part is not None)])
    center, slope = (design.rows(backend, params, own.matrix.dtype) for params in (start, Params(*parts)))
    return own._replace(vector=-slope / 2, square=square, center=center)


def minimum(own: Quadratic, ridge: Any) -> tuple[Array, Array]:
    """The rows with the least of ``square + ridge * |kernel|^2``, and the least rank of ``W^H W`` in a group.

    A bias is not held down by the ridge: it is what its kernel asks for, so it is eliminated first. Where the data
    leave directions of the kernel free, those are 0: eigenvalues that the rounding of ``W^H W`` may have made.
    """
    solve = partial(_minimum, own.design.bias)
    found: tuple[Array, Array] = _by_numpy(own.backend, solve, own.matrix, own.vector, own.center, ridge)
    return found


def _minimum(
    bias: bool, backend: Backend, matrix: Array, vector: Array, center: Array | None, ridge: Any
) -> tuple[Array, Array]:
    xp, size = backend.xp, matrix.shape[-1] - bias
    limit = size**2 * xp.finfo(matrix.dtype).eps * xp.max(abs(matrix[:, :size, :size]), axis=(1, 2))[:, None]
    if bias:
        sums, total = matrix[:, -1:, :-1], vector[:, :, -1:]
        count = matrix[:, -1:, -1:]
        count = xp.where(abs(count) > 0, count, xp.ones_like(count))
        matrix = matrix[:, :-1, :-1] - _conj(backend, xp.permute_dims(sums, (0, 2, 1))) * (sums / count)
        vector = vector[:, :, :-1] - total * _conj(backend, sums / count)
    if center is not None:
        vector = vector - ridge * center[:, :, :size]
    values, vectors = (backend.constant(part) for part in xp.linalg.eigh(_finite(backend, matrix)))
    is_seen = values + ridge > limit
    inverse = xp.where(is_seen, 1 / xp.where(is_seen, values + ridge, xp.ones_like(values)), xp.zeros_like(values))

    def solve(rows: Array) -> Array:
        rows = backend.matmul(rows, _conj(backend, vectors)) * backend.cast(inverse, rows.dtype)[:, None, :]
        return _times(backend, rows, vectors)

    # One step of iterative refinement; it also makes the derivative right, with that of the spectrum left out.
    rows = solve(vector)
    rows = rows + solve(vector - _times(backend, rows, matrix) - ridge * rows)
    if bias:
        rows = xp.concat([rows, (total - _times(backend, rows, sums)) / count], axis=2)
    rows = rows if center is None else center + rows
    return rows, xp.min(xp.sum(xp.astype(values > limit, xp.int32), axis=-1))


def _greatest(backend: Backend, matrix: Array) -> Array:
    """The greatest eigenvalue."""
    return backend.xp.max(backend.xp.linalg.eigvalsh(_finite(backend, matrix)))


def _finite(backend: Backend, matrix: Array) -> Array:
    """LAPACK fails on what is not finite, of which the loss tells."""
    return backend.xp.where(backend.xp.isfinite(matrix), matrix, backend.xp.zeros_like(matrix))


def _by_numpy(backend: Backend, function: Callable[..., Any], matrix: Array, *others: Any) -> Any:
    """``function(backend, matrix, ...)``, by NumPy unless something is traced: all is as small as a kernel."""
    if any(map(backend.is_traced, (matrix, *others))):
        return function(backend, matrix, *others)
    own = (backend.to_numpy(part) if hasattr(part, "dtype") else part for part in (matrix, *others))
    found = function(library_backend("numpy"), *own)
    return tree_map(lambda part: backend.from_numpy(np.asarray(part), matrix), found)


def _times(backend: Backend, rows: Array, matrix: Array) -> Array:
    """The matrix times each row, ``(G, O, D)``."""
    return backend.matmul(rows, backend.xp.permute_dims(matrix, (0, 2, 1)))


def _conj(backend: Backend, array: Array) -> Array:
    return backend.xp.conj(array) if "complex" in dtype_name(array.dtype) else array
