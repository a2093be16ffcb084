"""One matrix product of x as it lies with the kernels of all taps, whose rows are then added up where they fall.

The order of `gemm` the other way round: that copies every element of x once a tap, this adds up every element of y once
a tap, which is less where a layer has fewer channels out than in (Vasudevan, Anderson and Gregg 2017, "Parallel Multi
Channel Convolution using General Matrix Multiplication": kn2row). A transposed convolution by matrices, whose products
are added up some places apart, is the same (col2im).
"""

from __future__ import annotations

from ..backend import Backend
from .algorithm import Algorithm, by_backend
from .kn2row_residues import RESIDUES
from .kn2row_routine import ROUTINE
from .kn2row_tiles import TILED


def way(backend: Backend) -> Algorithm:
    """The record that suits a backend."""
    if backend.stacks_columns:
        return RESIDUES
    return TILED if backend.col2im is None else ROUTINE


KN2ROW = by_backend("kn2row", way)
