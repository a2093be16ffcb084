"""A kernel as a sum of few products of vectors, one vector an axis.

They are found by cross approximation with complete pivoting (Goreinov, Tyrtyshnikov & Zamarashkin 1997): each product
is a fiber and a slab through the largest tap of what is left. Of a kernel of low rank that leaves nothing, as the
singular value decomposition would, at a cost of microseconds; and while the latter bounds the error by the largest tap,
this keeps the digits of small ones, which an elementwise bound asks for.

Whether the sum may stand for the kernel is decided tap by tap. Let ``D`` be what it leaves out of the kernel ``k``, and
``G`` the sum of the products of magnitudes, which terms that cancel make larger than ``|k|``. Passes over axes of
``m_i`` taps, and the sum of r terms, err by at most ``(sum m_i + r) * u * (|x| * G)`` with u half an eps (Higham 2002,
section 3.1). So an output errs by at most ``|x| * E`` with ``E = D + (sum m_i + r) * u * G``. What E exceeds
``C * K * eps * |k|`` by in some taps, the second term of the bound has to pay: x may be largest just there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import inf
from typing import Any

import numpy as np

from ..program import C2, C

NumPyArray = np.ndarray[Any, Any]

#: One vector an axis.
Product = tuple[NumPyArray, ...]

EPS64 = float(np.finfo("float64").eps)


def products(kernel: NumPyArray, most: int, first: int, dtype: str, accuracy: str) -> list[Product] | None:
    """At most ``most`` products, their vectors of ``dtype``, whose sum may stand for the kernel; None: there are none.

    The vectors of axis ``first`` are fibers of the kernel, and of what is left of it, and all others are 1 at most: the
    pass of that axis, the first, leaves of one product no more than sums of products with the kernel itself.
    """
    wide = np.moveaxis(kernel.astype(np.result_type(kernel.dtype, np.float64)), first, 0)
    eps = float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        floor = 2 * sum(wide.shape) * eps * float(np.max(np.abs(wide)))
        for found, left in crosses(wide, most, floor):
            if left <= floor:
                vectors = [tuple([vector.astype(dtype) for vector in product]) for product in found]
                if stands_for(vectors, wide, eps, accuracy):
                    return [(*rest[:first], fiber, *rest[first:]) for fiber, *rest in vectors]
    return None


def crosses(rest: NumPyArray, most: int, floor: float) -> Iterator[tuple[list[Product], float]]:
    """Products, more each time, and the largest tap that they leave; slabs are sums themselves, but for ``floor``."""
    found: list[Product] = []
    pivot, top = largest(rest)
    while len(found) < most and 0 < top < inf:
        fiber, slab = rest[(slice(None), *pivot[1:])], rest[pivot[0]] / rest[pivot]
        if slab.ndim == 1:
            found = [*found, (fiber, slab)]
        else:
            own = crosses(slab, most - len(found), floor / top)
            parts = next((parts for parts, left in own if left <= floor / top), None)
            if parts is None:
                return
            found = found + [(fiber, *part) for part in parts]
        rest = rest - np.multiply.outer(fiber, slab)
        pivot, top = largest(rest)
        yield found, top


def largest(values: NumPyArray) -> tuple[tuple[Any, ...], float]:
    """Where the largest magnitude lies, and that; a NaN's where there is one."""
    magnitude = np.abs(values)
    pivot = np.unravel_index(np.argmax(magnitude), values.shape)
    return pivot, float(magnitude[pivot])


def stands_for(found: list[Product], kernel: NumPyArray, eps: float, accuracy: str) -> bool:
    """Whether what is left out is no more than twice what sums round, and both together are within the error bound.

    Under "normwise" both are asked of the sums over all taps.
    """
    exact = [[vector.astype(kernel.dtype) for vector in product] for product in found]
    total = sum(reduce(np.multiply.outer, product) for product in exact)
    growth = sum(reduce(np.multiply.outer, map(np.abs, product)) for product in exact)
    left, magnitude = np.abs(kernel - total), np.abs(kernel)
    # the sums of the passes and of the terms; and those of ``total``, which may be in the same precision
    roundings = sum(kernel.shape) + kernel.ndim + 2 * len(found)
    unit = eps if kernel.dtype.kind == "c" else eps / 2
    allowed = C * kernel.size * eps * magnitude
    excess = np.sum(np.maximum(left + roundings * unit * growth - allowed, 0))
    if accuracy == "normwise":
        norm = np.sum(magnitude)
        return bool(np.sum(left) <= roundings * eps * norm and excess <= kernel.size * eps * norm)
    return bool(np.all(left <= roundings * eps * growth) and excess <= C2 * EPS64 * np.sum(magnitude))
