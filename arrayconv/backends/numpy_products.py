"""Matrix products by NumPy, in pieces where OpenBLAS multiplies those the faster way, and sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..primitives import split_ranges
from .blas import find_core, threads

Array = np.ndarray[Any, Any]

#: Multiply-adds up to which OpenBLAS multiplies without packing a copy of what it reads, and the kinds of processors
#: for which it does (SGEMM_SMALL_MATRIX_PERMIT in its kernel/x86_64/*_small_kernel_permit_skylakex.c).
UNPACKED, UNPACKING = 10**6, ("SkylakeX", "Cooperlake", "SapphireRapids")

#: Rows or columns up to which pieces are the faster way, in one thread: by 1.1 to 1.3, of 8 and fewer by 1.6 and more.
THIN = 32

#: Multiply-adds, times rows or columns squared, up to which pieces in one thread are faster than all threads of BLAS,
#: since what one core has just written has to come to the others: of 8, 16 and 32 rows up to 30, 8 and 2 million.
ALONE = 2**31

#: What the rows or columns of a piece are a multiple of: a vector of AVX-512; and the fewest columns that are read from
#: rows, each of which lies on a page of its own (2059 terms: of 28 rows, 16 columns at a time take 1.8 times as long).
STEP, STRIP = 16, 48

CORE = find_core()


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b``, in pieces that are not packed, where few rows or columns would never make up for it.

    Of one term it is their outer product, for which BLAS takes ten times as long.
    """
    (rows, terms), columns = a.shape[-2:], b.shape[-1]
    if terms == 1:
        return np.asarray(np.multiply(a, b, out=out))
    step = piece(a, b, rows, terms, columns)
    if not step:
        return np.asarray(np.matmul(a, b, out=out))
    if out is None:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = np.empty((*lead, rows, columns), np.result_type(a, b))
    for part in split_ranges(max(rows, columns), step):
        own = slice(part.start, part.stop)
        if rows < columns:
            np.matmul(a, b[..., own], out=out[..., own])
        else:
            np.matmul(a[..., own, :], b, out=out[..., own, :])
    return out


def piece(a: Array, b: Array, rows: int, terms: int, columns: int) -> int:
    """The columns of a piece, or rows if those are more; 0: the product is better whole."""
    thin = min(rows, columns)
    if not 1 < thin <= THIN or CORE not in UNPACKING or a.dtype.char not in "fd" or b.dtype.char not in "fd":
        return 0
    work = rows * terms * columns
    if work <= UNPACKED or (work * thin**2 > ALONE and threads() > 1):
        return 0
    if is_whole_by_rows(a) and not is_whole_by_rows(b):  # OpenBLAS packs small products of these too
        return 0
    step = UNPACKED // (thin * terms) // STEP * STEP
    return 0 if step < STRIP and rows < columns and is_whole_by_rows(b) else step


def is_whole_by_rows(matrix: Array) -> bool:
    return matrix.strides[-1] == matrix.itemsize


def sum_view(array: Array, sizes: Sequence[int], steps: Sequence[int], count: int, out: Array) -> None:
    """One call of the loop that adds a row to another."""
    strides = [array.itemsize * step for step in steps]
    np.add.reduce(np.ndarray(sizes, array.dtype, array, strides=strides), axis=tuple(range(count)), out=out)
