"""The matrices of Winograd's minimal filtering: exact fractions, and the bands that apply them to a whole axis.

``F(m, 3)`` gives m outputs of a correlation with 3 taps from ``n = m + 2`` products, ``y = A^T [(G k) * (B^T x)]``, one
for each point at which the polynomials ``k`` and the transpose of ``x`` are evaluated: the Toom-Cook algorithm,
transposed (Winograd 1980, "Arithmetic complexity of computations"; Lavin & Gray 2016, arXiv:1509.09308).
"""

from __future__ import annotations

from functools import cache, reduce
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from fractions import Fraction

Array = np.ndarray[Any, np.dtype[Any]]
Matrix = tuple[tuple["Fraction", ...], ...]

TAPS = 3

#: Finite points for each m, in eighths; infinity is one more. A product with a matrix costs the same whatever its
#: numbers are, so the points of F(4, 3) are the eighths that let rounding errors grow least (12.7 an axis by `growth`;
#: the usual 0, +-1, +-2: 29.3), which still have exact A and B. On the choice of points: Barabasz et al. 2020, "Error
#: analysis and improving the accuracy of Winograd convolution for deep neural networks".
POINTS = {2: (0, 8, -8), 4: (0, 5, -5, 13, -13)}


class Transforms(NamedTuple):
    """``B^T (n, n)``, ``G (n, 3)`` and ``A^T (m, n)``."""

    inputs: Matrix
    kernel: Matrix
    outputs: Matrix


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of the product of ``(z - root)``, the lowest first."""
    zero, one = roots[0] * 0, roots[0] * 0 + 1
    return reduce(
        lambda c, root: [high - root * low for high, low in zip([zero, *c], [*c, zero], strict=True)], roots, [one]
    )


@cache
def transforms(m: int) -> Transforms:
    """F(m, 3): evaluation at the points for kernel and outputs, Lagrange's transposed interpolation for the inputs."""
    from fractions import Fraction  # imported with the first plan that asks, since it is slow

    points, zero, one = tuple(Fraction(p, 8) for p in POINTS[m]), Fraction(0), Fraction(1)
    others = [[q for q in points if q != p] for p in points]
    scales = [prod(p - q for q in rest) for p, rest in zip(points, others, strict=True)]
    inputs = [(*_polynomial(rest), zero) for rest in others]
    kernel = [tuple(p**k / scale for k in range(TAPS)) for p, scale in zip(points, scales, strict=True)]
    outputs = [(*(p**j for p in points), one if j == m - 1 else zero) for j in range(m)]
    at_infinity = tuple(one if k == TAPS - 1 else zero for k in range(TAPS))
    return Transforms((*inputs, tuple(_polynomial(list(points)))), (*kernel, at_infinity), tuple(outputs))


@cache
def growth(m: int) -> float:
    """The most that a product can weigh: ``max_jt sum_i |A_ji| |G_it| sum_l |B_il|``, 1 for a plain sum of products.

    An error of relative size e in every step changes an output by at most ``e * growth * max|x| * sum|k|``, and by a
    factor ``growth`` more for each further axis.
    """
    inputs, kernel, outputs = transforms(m)
    spread = [sum(map(abs, row)) for row in inputs]
    return float(
        max(
            sum(abs(a) * abs(g[t]) * b for a, g, b in zip(row, kernel, spread, strict=True))
            for row in outputs
            for t in range(TAPS)
        )
    )


def _array(matrix: Matrix) -> Array:
    return np.array([[float(entry) for entry in row] for row in matrix])


def _frozen(array: Array, dtype: str) -> Array:
    """Shared by all calls, so it must not be written to."""
    array = np.ascontiguousarray(array, dtype)
    array.flags.writeable = False
    return array


class Bands(NamedTuple):
    """The transforms of a block of neighbouring tiles at once, and how many such blocks an axis is cut into.

    ``inputs (n * tiles, tiles * m + 2)`` and ``outputs (tiles * m, n * tiles)``; transformed values are ordered by
    point, then tile. Where one block is enough, what its last tile has too much is cut off.
    """

    blocks: int
    inputs: Array
    outputs: Array

    @property
    def step(self) -> int:
        """Outputs of a block."""
        return len(self.outputs)


def even(count: int, most: int) -> int:
    """The size of the pieces when ``count`` is cut into as few as can be, of ``most`` at most."""
    pieces = -(-count // max(1, most))
    return -(-count // pieces)


def cut(tiles: int, some: int) -> int:
    """Tiles of a block: about ``some``, for a longer band holds more zeros; all, if they are two blocks at most."""
    return tiles if tiles <= 2 * some else even(tiles, some)


@cache
def bands(m: int, outputs: int, length: int, dtype: str) -> Bands:
    """B^T and A^T once for each tile, m elements further each time, in blocks of about ``length`` outputs."""
    n, count = m + TAPS - 1, -(-outputs // m)
    tiles = cut(count, length // m)
    blocks = -(-count // tiles)
    matrix = transforms(m)
    forward, backward = np.zeros((n, tiles, tiles * m + TAPS - 1)), np.zeros((tiles * m, n, tiles))
    for tile in range(tiles):
        forward[:, tile, tile * m : tile * m + n] = _array(matrix.inputs)
        backward[tile * m : (tile + 1) * m, :, tile] = _array(matrix.outputs)
    whole = tiles * m if blocks > 1 else outputs
    forward = forward.reshape(n * tiles, -1)[:, : whole + TAPS - 1]
    backward = backward.reshape(-1, n * tiles)[:whole]
    return Bands(blocks, _frozen(forward, dtype), _frozen(backward, dtype))


@cache
def kernel_band(m: int, ndim: int, dtype: str) -> Array:
    """G for all axes at once, ``(n ** ndim, 3 ** ndim)``: rows by the last axis' point first, columns as taps lie."""
    kernel = _array(transforms(m).kernel)
    whole = reduce(np.kron, [kernel] * ndim)
    points = whole.reshape(*[len(kernel)] * ndim, -1)
    return _frozen(points.transpose(*reversed(range(ndim)), ndim).reshape(whole.shape), dtype)
