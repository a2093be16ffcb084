"""Which convolutions XLA hands to YNNPACK on CPUs, and what its threads share."""

from __future__ import annotations

from math import inf

from .geometry import Geometry
from .transposes import VECTOR

#: Channels in or out, of all groups, beyond which an image is worth the call.
FEW = 16


def is_ynnpack(geometry: Geometry) -> bool:
    """Images that get no larger; all else is left to Eigen's spatial convolution, as everything was in older releases
    of JAX (``IsConvolutionOpSupportedByYnn`` in xla/backends/cpu/ynn_support.cc).
    """
    channels = geometry.groups * max(geometry.inputs, geometry.outputs)
    is_kept = all(max(axis.output, axis.kernel) <= axis.size for axis in geometry.axes)
    return geometry.ndim == 2 and channels > FEW and is_kept and not geometry.is_base_dilated


#: Threads that the prices of `rates.py` were measured with.
THREADS = 2

#: Sides that a task starts from, and from which its products are worth one; how long it may get, and how large; terms
#: beyond which its loads are computed in parts.
COLUMNS, CHANNELS, SIDE, LONGEST, LARGEST, TERMS = 16, 64, 64, 4, 2**16, 1024


def row(geometry: Geometry) -> tuple[int, int]:
    """Columns and channels of a row of outputs, with those that fill a block."""
    return max(1, geometry.out[-1]), max(1, filled(geometry))


def task(geometry: Geometry) -> tuple[int, int]:
    """Columns and channels of a row of outputs that a thread takes at once.

    They double until a task has a worthy area and enough to load: columns, while they are fewer than four times the
    channels, and then channels; at exactly four times it stays as it is. 28 columns of 128 channels of 576 terms are
    one task, and 40 are two (``choose_split_factors`` in YNNPACK's subgraph/dot.cc). It was seen to hold but for
    some rows of more than 128 columns and fewer than 180 terms, which are shared more evenly or less.
    """
    (width, outputs), terms = row(geometry), min(geometry.terms, TERMS)
    least = min(width, SIDE) * min(outputs, SIDE)
    columns, channels = min(width, COLUMNS), min(outputs, CHANNELS)
    while columns * channels < least or max((columns + channels) * terms, columns * channels) < LARGEST:
        if (LONGEST * channels < columns or columns >= width) and channels < outputs:
            channels *= 2
        elif (columns < LONGEST * channels or channels >= outputs) and columns < width:
            columns *= 2
        else:
            break
    return min(columns, width), min(channels, outputs)


def busiest(geometry: Geometry) -> float:
    """The share of a row of outputs that one of the threads computes; rows come one after the other."""
    columns, channels = task(geometry)
    width, outputs = row(geometry)
    if columns == width and channels == outputs:
        return 1.0
    whole = (width // columns) * (outputs // channels)  # others are shorter, and fill what is left
    return max(1 / THREADS, -(-whole // THREADS) * columns * channels / (width * outputs))


#: Channels in the blocks of a product, and the most that one of them holds before it takes 1.3 to 1.7 times as long as
#: a full one. What fewer take is a matter of eights.
BLOCKS, EIGHT = ((16, 8), (32, 24), (64, 48)), 8


def filled(geometry: Geometry) -> int:
    """Outputs with as many more as fill the last block, where that is faster; those of groups lie between others.

    Of rows of 16, 30 and 464 columns with 1 to 256 channels: 64 channels of 576 terms take 1.37 ms, 49 to 63 take 2.3,
    and 48 take 1.2; so do 25 to 31 beside 32 and 24, and 9 to 15 beside 16.
    """
    outputs, (largest, _) = geometry.outputs, BLOCKS[-1]
    rest = outputs % largest
    if geometry.groups > 1:
        return outputs
    return next((outputs - rest + block for block, most in BLOCKS if most < rest < block), outputs)


#: Inputs that are read together, and vectors of outputs of a block.
FOUR = 4

#: From how many inputs those that are one, two or three beyond a multiple of four are worth zeros up to the next: of a
#: product of up to 4, of up to 8 and of more vectors of outputs, by how many of them are beyond blocks of 4. Of whole
#: blocks none are.
WORTH = (
    {1: (5, 6, 3), 2: (5, inf, 3), 3: (13, 10, 7)},
    {1: (5, 14, 3), 2: (5, inf, 7), 3: (inf, 18, 11)},
    {1: (9, inf, 7), 2: (9, inf, 7), 3: (inf, inf, 15)},
)


def fed(geometry: Geometry) -> int:
    """Inputs with as many zeros as make them a multiple of four, where that is faster.

    Of 2 images of 28 x 28 and 5 x 5 taps, 3 inputs take 6.8 times as long as 4 for 24 outputs, 4.5 for 72, and 0.6 for
    64; 7 take 2.3 times as long as 8 for 24 outputs and 2.4 for 40; 10 take 2.1 times as long as 12 for 40 outputs, and
    0.9 for 52; in 16 groups 7 take 2.8 times as long as 8 for 4. One tap makes no difference.
    """
    inputs, vectors = geometry.inputs, -(-filled(geometry) // VECTOR)
    beyond = inputs % FOUR
    if geometry.taps == 1 or beyond == 0 or vectors % FOUR == 0:
        return inputs
    least = WORTH[min(vectors // FOUR, len(WORTH) - 1)][vectors % FOUR][beyond - 1]
    return inputs - beyond + FOUR if inputs >= least else inputs


def lanes(geometry: Geometry) -> int:
    """Outputs that are computed."""
    return -(-filled(geometry) // EIGHT) * EIGHT
