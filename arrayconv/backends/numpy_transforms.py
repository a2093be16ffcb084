"""Fourier transforms of several axes, one axis after the other in one buffer, which stays in the cache.

`numpy.fft.rfftn` makes a new array for each axis, and `irfftn` transforms lines of which no result is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..primitives import along

Array = np.ndarray[Any, Any]


def forward(x: Array, lengths: Sequence[int]) -> Array:
    """`primitives.forward`, last axis first: until its turn an axis is as long as x's, so no line is all zeros."""
    *others, last = lengths
    is_complex, first = x.dtype.kind == "c", x.ndim - len(lengths)
    shape = (*x.shape[:first], *others, last if is_complex else last // 2 + 1)
    spectrum: Array = np.empty(shape, np.result_type(x.dtype, np.complex64))
    transform = np.fft.fft if is_complex else np.fft.rfft
    transform(x, n=last, out=spectrum[_corner(x.shape[:-1])])
    for axis in range(x.ndim - 2, first - 1, -1):
        lines = spectrum[_corner(x.shape[:axis])]
        lines[along(axis, slice(x.shape[axis], None))] = 0
        np.fft.fft(lines, axis=axis, out=lines)
    return spectrum


def _corner(sizes: Sequence[int]) -> tuple[Any, ...]:
    return tuple([slice(0, n) for n in sizes])


def inverse(spectrum: Array, lengths: Sequence[int], results: Sequence[slice], is_complex: bool) -> Array:
    """`primitives.inverse`, first axis first: lines without results are left out. It overwrites the spectrum."""
    for axis, own in enumerate(results[:-1], spectrum.ndim - len(lengths)):
        np.fft.ifft(spectrum, axis=axis, out=spectrum)
        spectrum = spectrum[along(axis, own)]
    y: Array = np.fft.ifft(spectrum) if is_complex else np.fft.irfft(spectrum, n=lengths[-1])
    return y[..., results[-1]]
