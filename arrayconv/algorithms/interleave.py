"""Outputs that were computed apart, as residues or as channels, brought to their places."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
from ..program import Program
from .algorithm import ALGORITHMS, run

Array = Any


def run_settled(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """A part whose result is to be woven: each element of a sum is computed once, by the loop that suits the sum."""
    y = run(program, backend, x, kernel)
    return backend.settle(y) if ALGORITHMS[program.algorithm].is_sum else y


def interleave(backend: Backend, parts: Sequence[Array], counts: Sequence[int]) -> Array:
    """``(N, C, *m)`` of each residue, the last axis's fastest, as ``y[..., m * count + residue]`` along all axes.

    A buffer is written in steps of the counts; without one, axis after axis is stacked. A permutation of all axes at
    once would be one copy, in runs of one element (NumPy, 4 residues of 8 images of 128 channels of 28 x 28: 8.4 ms,
    1.7 in stacks, 0.9 in steps).
    """
    if backend.empty is not None:
        batch, channels, *sizes = parts[0].shape
        whole = [n * count for n, count in zip(sizes, counts, strict=True)]
        y = backend.empty((batch, channels, *whole), dtype=parts[0].dtype)
        for part, residues in zip(parts, product(*map(range, counts)), strict=True):
            y[(..., *map(slice, residues, whole, counts))] = part
        return y
    for axis in reversed(range(len(counts))):
        count = counts[axis]
        parts = [weave(backend.xp, parts[i : i + count], 2 + axis) for i in range(0, len(parts), count)]
    return parts[0]


def weave(xp: Any, parts: Sequence[Array], axis: int) -> Array:
    """Arrays of one shape, element by element along an axis."""
    if len(parts) == 1:
        return parts[0]
    before, (size, *after) = parts[0].shape[:axis], parts[0].shape[axis:]
    return xp.reshape(xp.stack(parts, axis=axis + 1), (*before, size * len(parts), *after))


def unfold(xp: Any, geometry: Geometry, y: Array, fold: Sequence[int]) -> Array:
    """``(N, G * O * prod(fold), *o)`` as ``(N, G * O, *o)`` with the folded axes at their own lengths.

    One copy, of runs as long as the last axis's fold: `interleave` is better for short ones.
    """
    ndim = geometry.ndim
    batch, channels, *out = y.shape
    channels //= prod(fold)
    y = xp.reshape(y, (batch, channels, *fold, *out))
    pairs = [axis for i in range(2, 2 + ndim) for axis in (i + ndim, i)]
    y = xp.reshape(
        xp.permute_dims(y, (0, 1, *pairs)), (batch, channels, *[n * b for n, b in zip(out, fold, strict=True)])
    )
    return y if y.shape[2:] == geometry.out else y[(slice(None), slice(None), *[slice(0, n) for n in geometry.out])]
