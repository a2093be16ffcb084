"""Which convolutions PyTorch hands to oneDNN by itself, and which of them oneDNN's fast kernels take."""

from __future__ import annotations

from math import prod

from .geometry import Geometry, WindowDimension
from .processor import processor

#: Floats of an image that is worth the search for a way, and taps of the last two axes beyond which any image is.
SMALL, FEW = 20480, 3


def is_onednn(geometry: Geometry) -> bool:
    """A small image alone goes to a simpler way (``use_mkldnn`` in torch's aten/src/ATen/native/Convolution.cpp, which
    leaves out the last axis of a volume).
    """
    is_wide = min((1, *geometry.window)[-2:]) > FEW
    return geometry.groups > 1 or geometry.batch > 1 or is_wide or prod(geometry.x_shape[:4]) > SMALL


#: Zeros beside the last axis that all of oneDNN's fast kernels take: no more than the outputs that they compute at once
#: (``l_pad <= ur_w`` in its src/cpu/x64), which are 6 in depthwise layers and up to 29 in others; with narrow vectors
#: 4 and 3. Beyond it a depthwise layer of 15 x 15 taps (64 channels, 64 x 64) took 51 ms, and 0.8 ms where x brought
#: its zeros.
MOST_PADDING = {"avx512": 6, "avx2": 3}


def is_padding_refused(last: WindowDimension) -> bool:
    """Whether an axis, the last one, has more zeros than fast kernels add."""
    return last.low > min(MOST_PADDING[processor()], last.output)


#: Input channels of a group from which the slow kernels skip zeros: more zeros than elements are better left to them.
SKIPPING = 4


def is_skipping(geometry: Geometry) -> bool:
    """Whether a convolution is left to the slow kernels, for which zeros cost nothing."""
    last = geometry.axes[-1]
    is_sparse = geometry.inputs >= SKIPPING and last.low + last.high > last.size
    return is_sparse and is_padding_refused(last)
