"""What a library's machine code reaches: the constants of the cost model, one row a library."""

from __future__ import annotations

from typing import NamedTuple

from ..program import Problem


class Rates(NamedTuple):
    """Per second: multiply-adds of a large product, bytes streamed, points times log2 of a transform, products of
    spectra; and seconds of one library call.

    ``half_rows``: rows of a product at which it runs at half its rate. ``slice_passes``: passes over memory that one
    shifted product costs (XLA fuses them).
    """

    call: float = 2e-6
    stream: float = 8e9
    gather: float = 3e9
    gemm: float = 1.2e11
    half_rows: float = 16.0
    integer_gemm: float = 6e8
    slice_passes: float = 4.0
    fft: float = 4e8
    spectrum: float = 4e8
    native_call: float = 1e-5
    native: float = 1e11
    native_thin: float = 2e9


RATES: dict[str, Rates] = {
    "numpy": Rates(call=1e-6),
    "torch": Rates(call=4e-6, native=1.5e11, native_thin=1.5e9),
    "jax": Rates(call=1e-7, stream=2e10, slice_passes=0.25, gather=2e9, integer_gemm=1e9, native=4e10, native_thin=1e9),
}


def rates(problem: Problem) -> Rates:
    """The row of a problem's library; a library without one is taken to run as NumPy does."""
    return RATES.get(problem.library, RATES["numpy"])
